/* links: base gpu ops losses */
/* From the log-prob of a row to the loss of the batch: coef of the device = central differences of
 * the double-precision losses over segment sums, for every pair loss. */
#include "gpu_test.h"

#include "logprob.h"
#include "losses.h"
#include "ref_loss.h"
#include "tolerances.h"

enum { PAIRS = 3, ROWS = 16 };

static const int32_t order[ROWS] = { 5, 2, 9, 0, 7, 1, 12, 3, 4, 15, 6, 8, 10, 11, 13, 14 };
static const int32_t begin[2 * PAIRS + 1] = { 0, 2, 5, 6, 9, 11, 14 };

/* Mean loss at policy log-probs `logp`, reference log-probs `ref`, by row. */
static double batch_loss(const char *name, const float *logp, const float *ref, size_t row,
                         double shift, loss_params p)
{
    double score[2 * PAIRS] = { 0 }, sum = 0;

    for (size_t s = 0; s < 2 * PAIRS; s++)
        for (int32_t k = begin[s]; k < begin[s + 1]; k++) {
            const size_t r = (size_t)order[k];

            score[s] += (double)logp[4 * r] - (double)ref[4 * r] + (r == row ? shift : 0);
        }
    for (size_t i = 0; i < PAIRS; i++) {
        const pair_stats s = { score[2 * i], score[2 * i + 1], begin[2 * i + 1] - begin[2 * i],
                               begin[2 * i + 2] - begin[2 * i + 1] };
        pair_out o;

        assert_true(ref_pair_loss(&o, name, s, p));
        sum += o.loss / PAIRS;
    }
    return sum;
}

enum { ORDER, BEGIN, LOGP, REF, SUMS, REF_SUMS, COEF, OUT, BUFFERS };

static void check(struct gt *t, const char *name)
{
    static const size_t bytes[BUFFERS] = { sizeof order, sizeof begin, ROWS * 16, ROWS * 16,
                                           PAIRS * 64,   PAIRS * 64,   ROWS * 4,  PAIRS * 16 };
    const struct at_loss_params params = { .beta = 0.3f, .label_smoothing = 0.125f };
    const loss_params p = { (double)params.beta, (double)params.label_smoothing };
    float *logp = gt_floats(4 * ROWS, 2), *ref = gt_floats(4 * ROWS, 2), coef[ROWS];
    double want[ROWS];
    struct at_view v[BUFFERS];
    size_t ids[BUFFERS];

    gt_begin(t);
    for (int i = 0; i < BUFFERS; i++)
        ids[i] = gt_plan(t, bytes[i]);
    gt_commit(t);
    for (int i = 0; i < BUFFERS; i++)
        v[i] = gt_view(t, ids[i]);
    OK(at_gpu_write(t->gpu, v[ORDER], order, sizeof order));
    OK(at_gpu_write(t->gpu, v[BEGIN], begin, sizeof begin));
    OK(at_gpu_write(t->gpu, v[LOGP], logp, ROWS * 16));
    OK(at_gpu_write(t->gpu, v[REF], ref, ROWS * 16));
    at_segment_sums(t->stream, v[SUMS], v[LOGP], v[ORDER], v[BEGIN], 2 * PAIRS);
    at_segment_sums(t->stream, v[REF_SUMS], v[REF], v[ORDER], v[BEGIN], 2 * PAIRS);
    at_pair_loss(t->stream, name, v[COEF], v[OUT], v[SUMS], v[REF_SUMS], v[ORDER], v[BEGIN], PAIRS,
                 ROWS, &params, 1.0f / PAIRS);
    OK(at_stream_wait(t->stream));
    OK(at_gpu_read(t->gpu, coef, v[COEF], sizeof coef));
    for (size_t r = 0; r < ROWS; r++)
        want[r] =
            (batch_loss(name, logp, ref, r, 1e-5, p) - batch_loss(name, logp, ref, r, -1e-5, p)) /
            2e-5;
    gt_require_close(t, name, coef, want, NULL, ROWS, TOL_LOSS + TOL_DIFFERENCE);
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
        if (list[i].kind == AT_LOSS_PAIR)
            check(&t, list[i].name);
    gt_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(pair_losses_coef_equals_differences) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
