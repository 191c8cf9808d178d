/* links: base gpu ops */
/* Choosing tokens on the device against the rules of engine/ops/sampling.h in double: which ids can
 * come, how often, and the log-prob that comes with them. */
#include "gpu_test.h"

#include "sampling.h"
#include "tolerances.h"

#include "kernels.h"

enum { R = 64, MOST_V = 5003, N_STOP = 3, HELD_ROW = 1 };

struct bench {
    struct gt t;
    uint32_t V;
    size_t logits, tokens, rows, seen, stop;
    float *z; /* (R, V) */
    uint32_t *bits;
    struct sample_row row[R];
    int32_t token[R][4];
};

static const int32_t stop_ids[N_STOP] = { 0, 7, 30 };

/* Multiples of 1/8 in [-4, 4): many are equal. */
static void open_bench(struct bench *b, size_t setting, uint32_t V)
{
    const uint32_t words = at_sample_seen_words(V);

    *b = (struct bench){ .V = V };
    b->z = gt_floats((size_t)R * V, 32);
    for (size_t i = 0; i < (size_t)R * V; i++)
        b->z[i] = floorf(b->z[i]) / 8;
    b->bits = calloc((size_t)R * words, sizeof *b->bits);
    assert_non_null(b->bits);
    for (uint32_t r = 0; r < R; r++)
        b->row[r] = (struct sample_row){
            .prompt = r / 4, .sample_index = r % 4, .slot = R - 1 - r, .holds = r == HELD_ROW
        };
    gt_open(&b->t, setting);
    gt_begin(&b->t);
    b->logits = gt_plan_tensor(&b->t, R, V, 0);
    b->tokens = gt_plan(&b->t, sizeof b->token);
    b->rows = gt_plan(&b->t, sizeof b->row);
    b->seen = gt_plan(&b->t, (size_t)R * words * sizeof *b->bits);
    b->stop = gt_plan(&b->t, sizeof stop_ids);
    gt_commit(&b->t);
    OK(at_gpu_write(b->t.gpu, gt_view(&b->t, b->stop), stop_ids, sizeof stop_ids));
}

static void close_bench(struct bench *b)
{
    gt_end(&b->t);
    gt_close(&b->t);
    free(b->z);
    free(b->bits);
}

static void sample(struct bench *b, const struct at_sampling *p, uint32_t position)
{
    const struct at_tensor logits = gt_tensor(&b->t, b->logits, R, b->V, 0);
    const struct at_sample_buffers buffers = { .tokens = gt_view(&b->t, b->tokens),
                                               .rows = gt_view(&b->t, b->rows),
                                               .seen = gt_view(&b->t, b->seen),
                                               .stop = gt_view(&b->t, b->stop) };
    const size_t words = (size_t)R * at_sample_seen_words(b->V);

    for (uint32_t r = 0; r < R; r++)
        b->row[r].position = position;
    OK(at_tensor_write(b->t.gpu, logits, b->z));
    OK(at_gpu_write(b->t.gpu, buffers.rows, b->row, sizeof b->row));
    OK(at_gpu_write(b->t.gpu, buffers.seen, b->bits, words * sizeof *b->bits));
    at_sample_rows(b->t.stream, logits, N_STOP, &buffers, p);
    OK(at_stream_wait(b->t.stream));
    OK(at_gpu_read(b->t.gpu, b->token, buffers.tokens, sizeof b->token));
}

/* ---- the rules in double ---- */

static const double *sorted_by; /* for qsort */

static int heaviest_first(const void *x, const void *y)
{
    const uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;

    if (sorted_by[a] != sorted_by[b])
        return sorted_by[a] > sorted_by[b] ? -1 : 1;
    return a < b ? -1 : 1;
}

static bool is_seen(const struct bench *b, uint32_t r, uint32_t id)
{
    const uint32_t *row = b->bits + (size_t)b->row[r].slot * at_sample_seen_words(b->V);

    return row[id / 32] >> id % 32 & 1;
}

/* prob[id]: the probability of each id of row r; 1e-12 where rounding decides whether top_p keeps
 * it. */
static void expect(double *prob, const struct bench *b, uint32_t r, const struct at_sampling *p)
{
    static double w[MOST_V];
    static uint32_t order[MOST_V];
    uint32_t n = p->top_k > 0 && p->top_k < b->V ? p->top_k : b->V, k = 0;
    double top = -INFINITY, total = 0, kept = 0;

    for (uint32_t i = 0; i < b->V; i++) {
        double z = (double)b->z[(size_t)r * b->V + i];
        if (at_sampling_penalises(p) && is_seen(b, r, i))
            z = z > 0 ? z / p->repetition_penalty : z * p->repetition_penalty;
        for (uint32_t s = 0; s < N_STOP; s++)
            if (b->row[r].holds && (int32_t)i == stop_ids[s])
                z = -INFINITY;
        w[i] = z;
        top = z > top ? z : top;
        order[i] = i;
    }
    for (uint32_t i = 0; i < b->V; i++) {
        w[i] = p->temperature > 0 ? exp((w[i] - top) / p->temperature) : (double)(w[i] == top);
        prob[i] = 0;
    }
    sorted_by = w;
    qsort(order, b->V, sizeof *order, heaviest_first);
    if (p->temperature <= 0)
        n = 1;
    for (uint32_t i = 0; i < n; i++)
        total += w[order[i]];
    while (k < n && kept < p->top_p * total)
        kept += w[order[k++]];
    if (p->top_p < 1 && k < n && kept - p->top_p * total < 1e-5 * total)
        prob[order[k]] = 1e-12;
    for (kept = 0, n = k, k = 0; k < n && w[order[k]] >= p->min_p * w[order[0]]; k++)
        kept += w[order[k]];
    for (uint32_t i = 0; i < k; i++)
        prob[order[i]] = w[order[i]] / kept;
}

/* ---- tests ---- */

static const struct at_sampling rules[] = {
    { .top_p = 1 },
    { .top_p = 1, .repetition_penalty = 1.3 },
    { .temperature = 1, .top_p = 1, .seed = 3 },
    { .temperature = 0.7, .top_p = 1, .top_k = 1 },
    { .temperature = 0.7, .top_p = 1, .top_k = 20, .seed = 5 },
    { .temperature = 1.5, .top_p = 0.61, .seed = 1ull << 40 },
    { .temperature = 1, .top_p = 0.37, .top_k = 11, .repetition_penalty = 1.25, .seed = 9 },
    { .temperature = 1, .top_p = 1, .min_p = 0.3, .seed = 2 },
    { .temperature = 2, .top_p = 0.903, .min_p = 0.05, .top_k = 300, .seed = 2 },
};

static void check_row(struct bench *b, uint32_t r, const struct at_sampling *p)
{
    static double prob[MOST_V];
    const float *z = b->z + (size_t)r * b->V;
    const int32_t id = b->token[r][0];
    double top = -INFINITY, sum = 0;
    float logp;

    expect(prob, b, r, p);
    assert_in_range(id, 0, b->V - 1);
    if (prob[id] <= 0)
        fail_msg("%s: row %u: id %d cannot come", b->t.setting, r, id);
    for (uint32_t i = 0; i < b->V; i++)
        top = fmax(top, (double)z[i]);
    for (uint32_t i = 0; i < b->V; i++)
        sum += exp((double)z[i] - top);
    memcpy(&logp, &b->token[r][1], sizeof logp);
    gt_require_close(&b->t, "log-prob", &logp, &(double){ (double)z[id] - top - log(sum) }, NULL, 1,
                     TOL_HEAD);
    assert_int_equal(b->token[r][2], -1);
}

static void tokens_are_those_that_the_rules_keep(void **state)
{
    struct bench b;

    (void)state;
    for (size_t s = 0; s < GT_SETTINGS; s++) {
        open_bench(&b, s, s % 2 ? 331 : MOST_V);
        for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
            const uint32_t words = at_sample_seen_words(b.V);
            uint32_t *after = calloc((size_t)R * words, sizeof *after);

            assert_non_null(after);
            for (size_t w = 0; w < (size_t)R * words; w++)
                b.bits[w] = gt_random() & (uint32_t)0x5a5a9669;
            sample(&b, &rules[i], (uint32_t)i);
            for (uint32_t r = 0; r < R; r++)
                check_row(&b, r, &rules[i]);
            OK(at_gpu_read(b.t.gpu, after, gt_view(&b.t, b.seen), 4ul * R * words));
            for (uint32_t r = 0; at_sampling_penalises(&rules[i]) && r < R; r++)
                b.bits[b.row[r].slot * words + (uint32_t)b.token[r][0] / 32] |=
                    1u << b.token[r][0] % 32;
            assert_memory_equal(after, b.bits, 4ul * R * words);
            free(after);
        }
        close_bench(&b);
    }
}

/* Pearson's chi-square of all rows with the same logits, over many positions. */
static void tokens_come_as_often_as_they_should(void **state)
{
    enum { V = 41, POSITIONS = 50 };
    double prob[V], want[V], chi2 = 0, freedom = -1;
    uint32_t got[V];
    struct bench b;

    (void)state;
    open_bench(&b, 0, V);
    b.row[HELD_ROW].holds = 0;
    for (uint32_t r = 1; r < R; r++)
        memcpy(b.z + (size_t)r * V, b.z, V * sizeof *b.z);
    for (size_t i = 2; i < sizeof rules / sizeof rules[0]; i++) {
        if (at_sampling_penalises(&rules[i]) || rules[i].top_k == 1)
            continue;
        memset(got, 0, sizeof got);
        for (uint32_t k = 0; k < POSITIONS; k++) {
            sample(&b, &rules[i], k);
            for (uint32_t r = 0; r < R; r++)
                got[b.token[r][0]]++;
        }
        expect(prob, &b, 0, &rules[i]);
        chi2 = 0;
        freedom = -1;
        for (uint32_t id = 0; id < V; id++) {
            want[id] = prob[id] * R * POSITIONS;
            if (want[id] < 5)
                continue;
            chi2 += (got[id] - want[id]) * (got[id] - want[id]) / want[id];
            freedom++;
        }
        /* Wilson and Hilferty: 4 standard deviations above the mean, one run in 30,000. */
        if (freedom > 0 &&
            cbrt(chi2 / freedom) > 1 - 2 / (9 * freedom) + 4 * sqrt(2 / (9 * freedom)))
            fail_msg("rule %zu: chi-square %g of %g degrees of freedom", i, chi2, freedom);
    }
    close_bench(&b);
}

/* A token is a function of (seed, prompt, sample, position): rows elsewhere in a batch get the
 * same. */
static void tokens_depend_on_their_own_row_alone(void **state)
{
    enum { V = 331 };
    const struct at_sampling a = rules[2];
    struct at_sampling other_seed = a;
    int32_t first[R];
    int by_sample = 0, by_prompt = 0, by_seed = 0, by_position = 0;
    struct bench b;

    (void)state;
    open_bench(&b, 0, V);
    b.row[HELD_ROW].holds = 0;
    for (uint32_t r = 1; r < R; r++)
        memcpy(b.z + (size_t)r * V, b.z, V * sizeof *b.z);
    sample(&b, &a, 5);
    for (uint32_t r = 0; r < R; r++)
        first[r] = b.token[r][0];
    for (uint32_t r = 0; r < R; r++) { /* the other way round */
        b.row[r].prompt = (R - 1 - r) / 4;
        b.row[r].sample_index = (R - 1 - r) % 4;
    }
    sample(&b, &a, 5);
    for (uint32_t r = 0; r < R; r++) {
        assert_int_equal(b.token[r][0], first[R - 1 - r]);
        by_sample += first[r] != first[r ^ 1];
        by_prompt += first[r] != first[r ^ 4];
    }
    sample(&b, &a, 6);
    for (uint32_t r = 0; r < R; r++)
        by_position += b.token[r][0] != first[R - 1 - r];
    other_seed.seed++;
    sample(&b, &other_seed, 5);
    for (uint32_t r = 0; r < R; r++)
        by_seed += b.token[r][0] != first[R - 1 - r];
    assert_true(by_sample > R / 2 && by_prompt > R / 2 && by_position > R / 2 && by_seed > R / 2);
    close_bench(&b);
}

static void logits_that_are_not_finite_are_named(void **state)
{
    enum { V = 331 };
    struct bench b;

    (void)state;
    open_bench(&b, 0, V);
    b.z[300] = NAN;
    b.z[2 * V + 17] = INFINITY;
    b.z[2 * V + 200] = NAN;
    b.z[3 * V + 330] = -INFINITY;
    sample(&b, &rules[2], 0);
    assert_int_equal(b.token[0][2], 300);
    assert_int_equal(b.token[1][2], -1);
    assert_int_equal(b.token[2][2], 17);
    assert_int_equal(b.token[3][2], 330);
    close_bench(&b);
}

static void rows_are_stored_at_their_places(void **state)
{
    enum { T = 37, C = 10, ROWS = 130 };

    (void)state;
    for (size_t s = 0; s < GT_SETTINGS; s++) {
        float *x[2], *y[2], *got = gt_floats((size_t)ROWS * C, 1);
        struct at_tensor from[2], to[2];
        int32_t place[T];
        size_t bx[2], by[2], bp;
        struct gt t;

        gt_open(&t, s);
        gt_begin(&t);
        for (int i = 0; i < 2; i++) {
            bx[i] = gt_plan_tensor(&t, T, C, 4);
            by[i] = gt_plan_tensor(&t, ROWS, C, 0);
        }
        bp = gt_plan(&t, sizeof place);
        gt_commit(&t);
        for (int i = 0; i < T; i++)
            place[i] = (i * 41 + 5) % ROWS;
        for (int i = 0; i < 2; i++) {
            x[i] = gt_floats((size_t)T * C, 1);
            y[i] = gt_floats((size_t)ROWS * C, 1);
            from[i] = gt_tensor(&t, bx[i], T, C, 4);
            to[i] = gt_tensor(&t, by[i], ROWS, C, 0);
            OK(at_tensor_write(t.gpu, from[i], x[i]));
            OK(at_tensor_write(t.gpu, to[i], y[i]));
        }
        OK(at_gpu_write(t.gpu, gt_view(&t, bp), place, sizeof place));
        at_store_rows(t.stream, to[0], to[1], from[0], from[1], gt_view(&t, bp));
        OK(at_stream_wait(t.stream));
        for (int i = 0; i < 2; i++) {
            OK(at_tensor_read(t.gpu, got, to[i]));
            for (int k = 0; k < T; k++)
                memcpy(y[i] + (size_t)place[k] * C, x[i] + (size_t)k * C, C * sizeof *got);
            assert_memory_equal(got, y[i], (size_t)ROWS * C * sizeof *got);
            free(x[i]);
            free(y[i]);
        }
        gt_end(&t);
        gt_close(&t);
        free(got);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_those_that_the_rules_keep),
        cmocka_unit_test(tokens_come_as_often_as_they_should),
        cmocka_unit_test(tokens_depend_on_their_own_row_alone),
        cmocka_unit_test(logits_that_are_not_finite_are_named),
        cmocka_unit_test(rows_are_stored_at_their_places),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
