/* links: base gpu ops losses */
/* From the log-prob of a row to the loss of the batch: coef of the device = central differences of
 * the double-precision losses over segment sums, for every pair loss. */
#include "gpu_test.h"

#include "divergence.h"
#include "logprob.h"
#include "losses.h"
#include "ref_loss.h"
#include "tolerances.h"

enum {
    SEGMENTS = 6,
    ROWS = 16
}; /* three pairs, or two with a segment for the prompt or the reference */

/* Floats that are exact; the loss is a list of one with weight 1/2. */
struct setting {
    loss_params p;
    int divergence;
    double alpha;
    bool use_weighting;
};

static const struct setting settings[] = {
    { { 0.25, 0.125, 0.5, 7, 0.5, 0.25, 0.125, 0, 0.375 }, DIVERGENCE_REVERSE_KL, 0, false },
    { { 0.25, 0.25, 0.25, 7, 0.5, -0.25, 0.125, 0, 0.375 }, DIVERGENCE_FORWARD_KL, 0, false },
    { { 0.25, 0.25, 0.25, 7, 0.5, -0.25, 0.125, 0, 0.375 }, DIVERGENCE_JS, 0, false },
    { { 0.25, 0.25, 0.25, 7, 0.5, -0.25, 0.125, 0, 0.375 }, DIVERGENCE_ALPHA, 0.5, false },
    { { 0.25, 0.25, 0.25, 7, 0.5, -0.25, 0.125, 0, 0.375 }, DIVERGENCE_ALPHA, 1.25, false },
    { { 0.25, 0.125, 0.5, 7, 0.5, 0.25, 0.125, 0, 0.375 }, DIVERGENCE_REVERSE_KL, 0, true },
};

static const int32_t order[ROWS] = { 5, 2, 9, 0, 7, 1, 12, 3, 4, 15, 6, 8, 10, 11, 13, 14 };
static const float weight[ROWS] = { 1, 0.5f, 1, 1, 0.25f, 1, 0, 1, 1, 1, 0.5f, 1, 0.75f, 1, 1, 1 };
static const float log_p2[ROWS] = { -1,     -2, -1.5f, -0.5f, -3, -2, -1, -1,
                                    -0.25f, -2, -1,    -3,    -1, -2, -1, -1 };
static const int32_t begin[SEGMENTS + 1] = { 0, 2, 5, 6, 9, 11, 14 };

/* WPO: of a side at policy log-probs `logp`; constant in the derivatives. */
static double side_weight(const float *logp, size_t segment)
{
    const int32_t first = begin[segment], end = begin[segment + 1];
    double sum = 0;

    for (int32_t k = first; k < end; k++)
        sum += (double)logp[4 * order[k]] - (double)log_p2[order[k]];
    return exp(sum / (end - first));
}

/* Losses that couple pairs: micro-batches of one, whose sides meet each other. */
static pair_match match_of(const pair_stats *s)
{
    return (pair_match){ 0, s->score_rejected, s->score_chosen };
}

/* The same for the device, from rows. */
static void write_match(struct gt *t, struct at_view match, const float *logp, const float *ref,
                        uint32_t segments)
{
    float values[SEGMENTS][4] = { { 0 } };

    for (uint32_t i = 0; i < SEGMENTS / segments; i++)
        for (uint32_t k = 0; k < 2; k++) {
            const uint32_t s = segments * i + 1 - k;
            for (int32_t at = begin[s]; at < begin[s + 1]; at++)
                values[i][1 + k] += weight[order[at]] * (logp[4 * order[at]] - ref[4 * order[at]]);
        }
    OK(at_gpu_write(t->gpu, match, values, sizeof values));
}

/* Mean loss at policy log-probs `logp`, reference log-probs `ref`, by row. */
static double batch_loss(const struct at_loss *loss, const float *logp, const float *ref,
                         size_t row, double shift, const struct setting *with, size_t segments,
                         bool triples)
{
    const size_t pairs = SEGMENTS / segments;
    const bool third = segments > 2 && strchr(loss->reads, 'w'), first = !third || !triples;
    const bool by_logp = strchr(loss->reads, 'p') != NULL;
    const int divergence = strchr(loss->reads, 'f') ? with->divergence : DIVERGENCE_REVERSE_KL;
    double score[SEGMENTS] = { 0 }, n[SEGMENTS] = { 0 }, sum = 0;

    for (size_t s = 0; s < SEGMENTS; s++)
        for (int32_t k = begin[s]; k < begin[s + 1]; k++) {
            n[s]++;
            const size_t r = (size_t)order[k];

            score[s] += ((double)logp[4 * r] - (by_logp ? 0 : (double)ref[4 * r]) +
                         (r == row ? shift : 0)) *
                        (by_logp ? 1 : (double)weight[r]);
        }
    for (size_t i = 0; i < pairs; i++) {
        const size_t c = segments * i;
        const double chosen = (first ? score[c] : 0) + (third ? score[c + 2] : 0);
        const pair_stats s = { divergence_score(divergence, chosen, with->alpha).score,
                               divergence_score(divergence, score[c + 1], with->alpha).score,
                               (first ? n[c] : 0) + (third ? n[c + 2] : 0), n[c + 1] };
        pair_out o;

        assert_true(ref_matched_loss(&o, loss->name, s, with->p, match_of(&s)));
        sum += o.loss / (double)pairs *
               (with->use_weighting ? side_weight(logp, c) * side_weight(logp, c + 1) : 1);
    }
    return sum;
}

enum { ORDER, BEGIN, WEIGHT, LOG_P2, MATCH, LOGP, REF, SUMS, REF_SUMS, COEF, OUT, BUFFERS };

static void check(struct gt *t, const struct at_loss *loss, const struct setting *with,
                  uint32_t segments, bool triples)
{
    static const size_t bytes[BUFFERS] = { sizeof order,  sizeof begin,  sizeof weight,
                                           sizeof log_p2, SEGMENTS * 16, ROWS * 16,
                                           ROWS * 16,     SEGMENTS * 32, SEGMENTS * 32,
                                           ROWS * 4,      SEGMENTS * 16 };
    const uint32_t pairs = SEGMENTS / segments;
    const struct at_loss_params params = { .beta = (float)with->p.beta,
                                           .label_smoothing = (float)with->p.label_smoothing,
                                           .discopop_tau = (float)with->p.discopop_tau,
                                           .mean_n_chosen = (float)with->p.mean_n_chosen,
                                           .simpo_gamma = (float)with->p.simpo_gamma,
                                           .tpo_l_gamma = (float)with->p.tpo_l_gamma,
                                           .alphapo_alpha = (float)with->p.alphapo_alpha,
                                           .center_rewards_coefficient =
                                               (float)with->p.center_rewards_coefficient,
                                           .divergence = with->divergence,
                                           .alpha = (float)with->alpha,
                                           .use_weighting = with->use_weighting };
    const struct at_loss_term term = { .name = loss->name, .weight = 0.5f };
    float *logp = gt_floats(4 * ROWS, 2), *ref = gt_floats(4 * ROWS, 2), coef[ROWS];
    double want[ROWS];
    struct at_view v[BUFFERS];
    size_t ids[BUFFERS];

    for (size_t r = 0; r < ROWS; r++)
        logp[4 * r] = -0.25f - fabsf(logp[4 * r]); /* below 0, as log-probs are */
    gt_begin(t);
    for (int i = 0; i < BUFFERS; i++)
        ids[i] = gt_plan(t, bytes[i]);
    gt_commit(t);
    for (int i = 0; i < BUFFERS; i++)
        v[i] = gt_view(t, ids[i]);
    OK(at_gpu_write(t->gpu, v[ORDER], order, sizeof order));
    OK(at_gpu_write(t->gpu, v[BEGIN], begin, sizeof begin));
    OK(at_gpu_write(t->gpu, v[WEIGHT], weight, sizeof weight));
    OK(at_gpu_write(t->gpu, v[LOG_P2], log_p2, sizeof log_p2));
    OK(at_gpu_write(t->gpu, v[LOGP], logp, ROWS * 16));
    OK(at_gpu_write(t->gpu, v[REF], ref, ROWS * 16));
    write_match(t, v[MATCH], logp, ref, segments);
    at_segment_sums(t->stream, v[SUMS], v[LOGP], v[WEIGHT], v[LOG_P2], v[ORDER], v[BEGIN],
                    SEGMENTS);
    at_segment_sums(t->stream, v[REF_SUMS], v[REF], v[WEIGHT], v[LOG_P2], v[ORDER], v[BEGIN],
                    SEGMENTS);
    at_pair_losses(t->stream, &term, 1, v[COEF], v[OUT],
                   &(struct at_pair_batch){ .n_pairs = pairs,
                                            .segments = segments,
                                            .triples = triples,
                                            .R = ROWS,
                                            .sums = v[SUMS],
                                            .ref_sums = v[REF_SUMS],
                                            .row_weight = v[WEIGHT],
                                            .match = v[MATCH],
                                            .order = v[ORDER],
                                            .begin = v[BEGIN] },
                   &params, 1 / (float)pairs);
    OK(at_stream_wait(t->stream));
    OK(at_gpu_read(t->gpu, coef, v[COEF], sizeof coef));
    for (size_t r = 0; r < ROWS; r++)
        want[r] = 0.5 *
                  (batch_loss(loss, logp, ref, r, 1e-5, with, segments, triples) -
                   batch_loss(loss, logp, ref, r, -1e-5, with, segments, triples)) /
                  2e-5;
    gt_require_close(t, loss->name, coef, want, NULL, ROWS, TOL_LOSS + TOL_DIFFERENCE);
    gt_end(t);
    free(logp);
    free(ref);
}

static void pair_losses_coef_equals_differences(void **state)
{
    size_t n;
    const struct at_loss *list = at_loss_list(&n);
    struct gt t;

    (void)state;
    gt_open(&t, 0);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < AT_COUNT(settings) && list[i].kind == AT_LOSS_PAIR; k++)
            for (uint32_t kind = 0; kind < 3; kind++)
                check(&t, &list[i], &settings[k], kind ? 3 : 2, kind == 2);
    gt_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(pair_losses_coef_equals_differences) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
