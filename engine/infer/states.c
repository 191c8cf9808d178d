#include "sampler_parts.h"

/* Tokens [i, i + T) of one sequence, and `sum` += their states; NULL: these are not wanted. */
static AT_CHECKED read_states(struct run *r, double *sum, const int32_t *ids, uint32_t i,
                              uint32_t T)
{
    enum at_status st = AT_OK;
    struct at_sampler *s = r->s;
    struct at_tensor h;
    float *rows = NULL;

    s->T = s->n_rows = 0;
    for (uint32_t t = i; t < i + T; t++) {
        at_sampler_add(s, ids[t], t, t, (const uint32_t[4]){ 0, 0, 0, t + 1 });
        TRY(at_sampler_remember(s, ids[t]));
    }
    h = at_sampler_compute(r);
    TRY(at_alloc(&rows, (size_t)T * h.ld, sizeof *rows));
    if (sum)
        at_stream_download(r->stream, rows, at_tensor_view(h), (uint64_t)T * h.ld * sizeof *rows);
    TRY(at_stream_wait(r->stream));
    for (uint32_t t = 0; sum && t < T; t++)
        for (uint32_t k = 0; k < h.dim[1]; k++)
            sum[k] += (double)rows[(size_t)t * h.ld + k];
done:
    at_free(&rows);
    return st;
}

AT_CHECKED at_sampler_state(struct at_sampler *s, struct at_stream *stream, float *out,
                            const int32_t *ids, uint32_t n, uint32_t begin)
{
    enum at_status st = AT_OK;
    struct run r = { .s = s, .stream = stream };
    const uint32_t C = s->decoder.model->config.C;
    double *sum = NULL;

    AT_REQUIRE(s->params.n_sequences == 1 && begin < n);
    if (n > s->params.n_positions)
        FAIL(AT_DATA, "the prompt has %u tokens; %u are the most here", n, s->params.n_positions);
    TRY(at_sampler_check_signal());
    TRY(at_alloc(&sum, C, sizeof *sum));
    at_sampler_turn(&r, n);
    s->cached.n = at_sampler_common_prefix(s, ids, begin);
    for (uint32_t i = (uint32_t)s->cached.n, T; i < n; i += T) {
        const uint32_t end = i < begin ? begin : n;
        T = end - i < s->capacity ? end - i : s->capacity;
        TRY(read_states(&r, i < begin ? NULL : sum, ids, i, T));
    }
    for (uint32_t k = 0; k < C; k++)
        out[k] = (float)(sum[k] / (n - begin));
done:
    if (st != AT_OK)
        s->cached.n = 0;
    at_free(&sum);
    return st;
}
