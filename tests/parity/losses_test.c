/* links: base gpu ops losses */
/* Every loss of losses.def on the device = its own text in double: values and coefficients of rows;
 * sums of segments; rows of no segment; statistics that are not finite. */
#include "gpu_test.h"

#include "divergence.h"
#include "logprob.h"
#include "losses.h"
#include "ref_loss.h"
#include "tolerances.h"

enum { PAIRS = 70, ROWS = 1024 };

/* Segments of 1 to 12 rows, in shuffled rows; the rest of the rows belongs to none. */
struct batch {
    int32_t order[ROWS], begin[2 * PAIRS + 1], segment[ROWS];
    float *stats; /* (ROWS, 4) */
    float weight[ROWS], log_p2[ROWS], match[PAIRS][4];
};

static void make_batch(struct batch *b)
{
    int32_t at = 0;

    for (int32_t i = 0; i < ROWS; i++) {
        const int32_t j = (int32_t)(gt_random() % (uint32_t)(i + 1));

        b->order[i] = b->order[j];
        b->order[j] = i;
        b->segment[i] = -1;
    }
    for (int32_t s = 0; s < 2 * PAIRS; s++) {
        b->begin[s] = at;
        for (uint32_t n = s == 3 ? 100 : gt_random() % 6 + 1; n > 0; n--)
            b->segment[b->order[at++]] = s;
    }
    b->begin[2 * PAIRS] = at;
    assert_true(at < ROWS);
    b->stats = gt_floats(4 * ROWS, 3);
    for (size_t i = 0; i < ROWS; i++) {
        b->stats[4 * i] -= 3;
        b->log_p2[i] = -(float)(i % 16) / 4;
        b->weight[i] = i % 2 ? 1 : (float)(i % 8) / 8;
    }
    for (size_t i = 0; i < 4 * PAIRS; i++)
        b->match[i / 4][i % 4] = (float)(i * 7 % 16) / 4 - 2;
}

enum {
    ORDER,
    BEGIN,
    SEGMENT,
    STATS,
    WEIGHT,
    LOG_P2,
    MATCH,
    SUMS,
    REF_SUMS,
    FACTS,
    COEF,
    OUT,
    BUFFERS
};

static void plan_batch(struct gt *t, struct at_view v[BUFFERS], const struct batch *b)
{
    static const size_t bytes[BUFFERS] = {
        [ORDER] = ROWS * 4,          [BEGIN] = (2 * PAIRS + 1) * 4,
        [SEGMENT] = ROWS * 4,        [STATS] = ROWS * 16,
        [WEIGHT] = ROWS * 4,         [LOG_P2] = ROWS * 4,
        [MATCH] = PAIRS * 16,        [SUMS] = PAIRS * 2 * 32,
        [REF_SUMS] = PAIRS * 2 * 32, [FACTS] = PAIRS * 2 * 8,
        [COEF] = ROWS * 4,           [OUT] = ROWS * 16,
    };
    size_t ids[BUFFERS];

    gt_begin(t);
    for (int i = 0; i < BUFFERS; i++)
        ids[i] = gt_plan(t, bytes[i]);
    gt_commit(t);
    for (int i = 0; i < BUFFERS; i++)
        v[i] = gt_view(t, ids[i]);
    OK(at_gpu_write(t->gpu, v[ORDER], b->order, sizeof b->order));
    OK(at_gpu_write(t->gpu, v[BEGIN], b->begin, sizeof b->begin));
    OK(at_gpu_write(t->gpu, v[SEGMENT], b->segment, sizeof b->segment));
    OK(at_gpu_write(t->gpu, v[STATS], b->stats, ROWS * 16));
    OK(at_gpu_write(t->gpu, v[MATCH], b->match, sizeof b->match));
    OK(at_gpu_write(t->gpu, v[LOG_P2], b->log_p2, sizeof b->log_p2));
    OK(at_gpu_write(t->gpu, v[WEIGHT], b->weight, sizeof b->weight));
}

static struct at_pair_batch pairs_of(const struct at_view v[BUFFERS])
{
    return (struct at_pair_batch){ .n_pairs = PAIRS,
                                   .segments = 2,
                                   .R = ROWS,
                                   .sums = v[SUMS],
                                   .ref_sums = v[REF_SUMS],
                                   .row_weight = v[WEIGHT],
                                   .match = v[MATCH],
                                   .order = v[ORDER],
                                   .begin = v[BEGIN] };
}

/* What row i adds to the sums of its segment. */
static double row_value(const struct batch *b, size_t i, size_t j)
{
    const float *stats = b->stats + 4 * i;
    const double values[] = { (double)b->weight[i] * (double)stats[0],
                              (double)stats[1],
                              (double)stats[2],
                              (double)stats[3],
                              1,
                              (double)stats[0],
                              (double)b->log_p2[i] };

    return values[j];
}

static void segment_sums_equal_reference(void **state)
{
    (void)state;
    for (size_t setting = 0; setting < 2; setting++) {
        float sums[2 * PAIRS * 8], again[2 * PAIRS * 8];
        double want[2 * PAIRS * 8] = { 0 };
        struct at_view v[BUFFERS];
        struct batch b;
        struct gt t;

        make_batch(&b);
        gt_open(&t, setting);
        plan_batch(&t, v, &b);
        for (int i = 0; i < 2; i++) {
            at_segment_sums(t.stream, v[SUMS], v[STATS], v[WEIGHT], v[LOG_P2], v[ORDER], v[BEGIN],
                            2 * PAIRS);
            OK(at_stream_wait(t.stream));
            OK(at_gpu_read(t.gpu, i == 0 ? sums : again, v[SUMS], sizeof sums));
        }
        for (size_t i = 0; i < ROWS; i++)
            for (size_t j = 0; j < 7 && b.segment[i] >= 0; j++)
                want[8 * b.segment[i] + (int)j] += row_value(&b, i, j);
        gt_require_close(&t, "sums", sums, want, NULL, AT_COUNT(want), TOL_LOSS);
        assert_memory_equal(sums, again, sizeof sums);
        gt_end(&t);
        gt_close(&t);
        free(b.stats);
    }
}

static const struct at_loss *find(const char *name)
{
    const struct at_loss *loss = at_loss_find(name);

    assert_non_null(loss);
    return loss;
}

/* Loss and derivatives by the sides' log-probs of one term, in double. *scale grows by what a
 * relative error of the scores does to the loss, *slope_scale by what it may do to a derivative
 * (second derivatives by scores are at most 2): scores of a divergence are large and may cancel. */
static pair_out want_term(const struct at_loss_term *term, const struct at_loss_params *params,
                          const float *c, const float *r, const float *rc, const float *rr,
                          const float *match, double *scale, double *slope_scale)
{
    const struct at_loss *loss = find(term->name);
    const int divergence = strchr(loss->reads, 'f') ? params->divergence : DIVERGENCE_REVERSE_KL;
    const bool by_logp = strchr(loss->reads, 'p') != NULL;
    const double alpha = (double)params->alpha;
    const score_out chosen =
        divergence_score(divergence, by_logp ? (double)c[5] : (double)c[0] - (double)rc[0], alpha);
    const score_out rejected =
        divergence_score(divergence, by_logp ? (double)r[5] : (double)r[0] - (double)rr[0], alpha);
    const loss_params p = { (double)params->beta,
                            (double)params->label_smoothing,
                            (double)params->discopop_tau,
                            (double)params->mean_n_chosen,
                            (double)params->simpo_gamma,
                            (double)params->alphapo_alpha,
                            (double)params->center_rewards_coefficient,
                            (double)rc[7],
                            (double)params->tpo_l_gamma };
    const pair_stats s = { chosen.score, rejected.score, (double)c[4], (double)r[4] };
    const pair_match m = { (double)match[0], (double)match[1], (double)match[2] };
    pair_out o;

    assert_true(ref_matched_loss(&o, term->name, s, p, m));
    o.loss *= (double)term->weight;
    *scale += (fabs(o.d_chosen * s.score_chosen) + fabs(o.d_rejected * s.score_rejected)) *
              (double)term->weight;
    if (divergence != DIVERGENCE_REVERSE_KL)
        *slope_scale += 2 * fmax(chosen.slope, rejected.slope) *
                        (fabs(chosen.score) + fabs(rejected.score)) * (double)term->weight;
    o.d_chosen *= chosen.slope * (double)term->weight;
    o.d_rejected *= rejected.slope * (double)term->weight;
    return o;
}

/* WPO: of the sums of a side. */
static double side_weight(const float *sums)
{
    return exp(((double)sums[5] - (double)sums[6]) / (double)sums[4]);
}

static void check_pair_losses(struct gt *t, const struct at_loss_term *terms, size_t n,
                              const struct at_view v[BUFFERS], const struct batch *b,
                              const struct at_loss_params *params)
{
    const float weight = 1.0f / 24;
    const struct at_pair_batch pairs = pairs_of(v);
    float sums[2 * PAIRS * 8], ref_sums[2 * PAIRS * 8], coef[ROWS], out[PAIRS * 4];
    double want_coef[ROWS] = { 0 }, want_out[PAIRS * 4] = { 0 }, scale[PAIRS * 4] = { 0 };
    double coef_scale[ROWS] = { 0 };

    for (size_t s = 0; s < 2 * PAIRS; s++)
        for (size_t j = 0; j < 8; j++) {
            sums[8 * s + j] = (float)(gt_random() % 4096) / 512 - 8;
            ref_sums[8 * s + j] = (float)(gt_random() % 4096) / 512 - 8;
            if (j == 4)
                sums[8 * s + j] = ref_sums[8 * s + j] = (float)(b->begin[s + 1] - b->begin[s]);
            if (j == 6) /* weights of 0.6 to 1.6 a side */
                sums[8 * s + j] = sums[8 * s + 5] + sums[8 * s + 4] * sums[8 * s + j] / 16;
        }
    OK(at_gpu_write(t->gpu, v[SUMS], sums, sizeof sums));
    OK(at_gpu_write(t->gpu, v[REF_SUMS], ref_sums, sizeof ref_sums));
    at_pair_losses(t->stream, terms, n, v[COEF], v[OUT], &pairs, params, weight);
    OK(at_stream_wait(t->stream));
    OK(at_gpu_read(t->gpu, coef, v[COEF], sizeof coef));
    OK(at_gpu_read(t->gpu, out, v[OUT], sizeof out));
    for (int i = 0; i < PAIRS; i++) {
        const float *c = sums + 16 * i, *r = c + 8, *rc = ref_sums + 16 * i, *rr = rc + 8;
        const double w = params->use_weighting ? side_weight(c) * side_weight(r) : 1;
        want_out[4 * i + 1] = (double)c[0] - (double)rc[0];
        double slope_scale = 0;

        want_out[4 * i + 2] = (double)r[0] - (double)rr[0];
        for (size_t j = 0; j < n; j++) {
            const pair_out o = want_term(&terms[j], params, c, r, rc, rr, b->match[i],
                                         &scale[4 * i], &slope_scale);
            const bool by_logp = strchr(find(terms[j].name)->reads, 'p') != NULL;

            want_out[4 * i] += w * o.loss;
            for (int32_t k = b->begin[2 * i]; k < b->begin[2 * i + 2]; k++)
                want_coef[b->order[k]] += (double)weight * w *
                                          (k < b->begin[2 * i + 1] ? o.d_chosen : o.d_rejected) *
                                          (by_logp ? 1 : (double)b->weight[b->order[k]]);
        }
        for (int32_t k = b->begin[2 * i]; k < b->begin[2 * i + 2]; k++)
            coef_scale[b->order[k]] = (double)weight * slope_scale;
    }
    for (size_t i = 0; i < AT_COUNT(scale); i++)
        scale[i] = (params->use_weighting ? 3 : 1) * scale[i] + 1 + fabs(want_out[i]);
    gt_require_close(t, terms[0].name, out, want_out, scale, AT_COUNT(want_out), TOL_LOSS);
    for (size_t i = 0; i < ROWS; i++)
        coef_scale[i] += 1 + fabs(want_coef[i]);
    gt_require_close(t, terms[0].name, coef, want_coef, coef_scale, ROWS, TOL_LOSS);
}

/* Segments are rows of their own here. */
static void check_row_loss(struct gt *t, const char *name, const struct at_view v[BUFFERS],
                           const struct batch *b, const struct at_loss_params *params)
{
    enum { N = 2 * PAIRS };
    const float weight = 1.0f / 24;
    const row_params p = { (double)params->beta, (double)params->desirable_weight,
                           (double)params->undesirable_weight };
    float sums[N * 8], ref_sums[N * 8], facts[N * 2], coef[ROWS], out[N * 4];
    double want_coef[ROWS] = { 0 }, want_out[N * 4] = { 0 };

    for (size_t i = 0; i < AT_COUNT(sums); i++) {
        sums[i] = (float)(gt_random() % 4096) / 512 - 8;
        ref_sums[i] = (float)(gt_random() % 4096) / 512 - 8;
    }
    for (size_t i = 0; i < N; i++) {
        facts[2 * i] = i % 3 ? (float)(gt_random() % 512) / 256 : 0;
        facts[2 * i + 1] = (float)(gt_random() % 2);
    }
    OK(at_gpu_write(t->gpu, v[SUMS], sums, sizeof sums));
    OK(at_gpu_write(t->gpu, v[REF_SUMS], ref_sums, sizeof ref_sums));
    OK(at_gpu_write(t->gpu, v[FACTS], facts, sizeof facts));
    at_row_loss(t->stream, name, v[COEF], v[OUT], v[SUMS], v[REF_SUMS], v[FACTS], v[ORDER],
                v[BEGIN], N, ROWS, params, weight);
    OK(at_stream_wait(t->stream));
    OK(at_gpu_read(t->gpu, coef, v[COEF], sizeof coef));
    OK(at_gpu_read(t->gpu, out, v[OUT], sizeof out));
    for (size_t i = 0; i < N; i++) {
        const double score = (double)sums[8 * i] - (double)ref_sums[8 * i];
        row_out o;

        assert_true(ref_row_loss(
            &o, name, (row_stats){ score, (double)facts[2 * i], (double)facts[2 * i + 1] }, p));
        want_out[4 * i] = o.loss;
        want_out[4 * i + 1] = score;
        for (int32_t k = b->begin[i]; k < b->begin[i + 1]; k++)
            want_coef[b->order[k]] = (double)weight * o.d_score;
    }
    gt_require_close(t, name, out, want_out, NULL, AT_COUNT(want_out), TOL_LOSS);
    gt_require_close(t, name, coef, want_coef, NULL, ROWS, TOL_LOSS);
}

/* Samples are the first segments; OUT has the tokens' log-probs before and their losses behind. */
static void check_policy_loss(struct gt *t, const char *name, const struct at_view v[BUFFERS],
                              const struct batch *b, const struct at_policy_params *params)
{
    enum { N = 2 * PAIRS };
    const policy_params p = { (double)params->beta, (double)params->epsilon_low,
                              (double)params->epsilon_high, (double)params->delta,
                              (double)params->weighs_kl };
    const bool product = strchr(at_loss_find(name)->reads, 'q') != NULL;
    float facts[N * 4], tokens[4 * ROWS], coef[ROWS];
    double want_coef[ROWS] = { 0 }, want[4 * ROWS], scale[ROWS];

    for (size_t i = 0; i < N; i++) {
        facts[4 * i] = (float)(gt_random() % 1024) / 256 - 2;
        facts[4 * i + 1] = 1.0f / (float)(1 + i % 7);
        facts[4 * i + 2] = (float)(i % 5 != 0);
        facts[4 * i + 3] = (float)(i % 3 != 0);
    }
    for (size_t i = 0; i < ROWS; i++) {
        for (size_t k = 0; k < 2; k++)
            tokens[4 * i + k] = b->stats[4 * i] + (float)(gt_random() % 256) / 1024 - 0.125f;
        tokens[4 * i + 2] = tokens[4 * i + 3] = 7;
        scale[i] = 1;
        for (size_t k = 0; k < 4; k++)
            want[4 * i + k] = (double)tokens[4 * i + k]; /* rows of no segment stay */
    }
    OK(at_gpu_write(t->gpu, v[SUMS], facts, sizeof facts));
    OK(at_gpu_write(t->gpu, v[OUT], tokens, sizeof tokens));
    at_policy_loss(t->stream, name, v[COEF], v[OUT], v[STATS], v[SUMS], v[ORDER], v[BEGIN], N, ROWS,
                   params);
    for (size_t i = 0; i < N; i++) {
        const double n = b->begin[i + 1] - b->begin[i];
        const double share = (double)facts[4 * i + 1];
        double sum = 0, slope = 0, size = 0;
        for (int32_t k = b->begin[i]; k < b->begin[i + 1] && facts[4 * i + 2] > 0; k++)
            sum += (double)b->stats[4 * b->order[k]] - (double)tokens[4 * b->order[k]];
        for (int32_t k = b->begin[i]; k < b->begin[i + 1]; k++) {
            const int32_t r = b->order[k];
            const double logp = (double)b->stats[4 * r];
            const double own = facts[4 * i + 2] > 0 ? logp - (double)tokens[4 * r] : 0;
            const double ref = facts[4 * i + 3] > 0 ? (double)tokens[4 * r + 1] : logp;
            const double ratio = product ? sum : params->sequence ? sum / n : own;
            policy_out o;

            assert_true(ref_policy_loss(
                &o, name, (policy_stats){ logp, ref, ratio, (double)facts[4 * i] }, p));
            want[4 * r] = o.loss;
            want[4 * r + 1] = o.kl;
            want[4 * r + 2] = o.low;
            want[4 * r + 3] = o.high;
            want_coef[r] = share * (o.d_logp + (product || params->sequence ? 0 : o.d_log_ratio));
            slope += share * o.d_log_ratio;
            size += share * fabs(o.loss);
        }
        for (int32_t k = b->begin[i]; k < b->begin[i + 1]; k++) {
            want_coef[b->order[k]] += product ? slope : params->sequence ? slope / n : 0;
            scale[b->order[k]] = 1 + size;
        }
    }
    OK(at_stream_wait(t->stream));
    OK(at_gpu_read(t->gpu, coef, v[COEF], sizeof coef));
    OK(at_gpu_read(t->gpu, tokens, v[OUT], sizeof tokens));
    gt_require_close(t, name, tokens, want, NULL, AT_COUNT(want), TOL_LOSS);
    gt_require_close(t, name, coef, want_coef, scale, ROWS, TOL_LOSS);
}

static void check_token_loss(struct gt *t, const char *name, const struct at_view v[BUFFERS],
                             const struct batch *b)
{
    const float weight = 1.0f / 500;
    float coef[ROWS], out[4 * ROWS];
    double want_coef[ROWS] = { 0 }, want_out[4 * ROWS] = { 0 };

    at_token_loss(t->stream, name, v[COEF], v[OUT], v[STATS], v[SEGMENT], ROWS, weight);
    OK(at_stream_wait(t->stream));
    OK(at_gpu_read(t->gpu, coef, v[COEF], sizeof coef));
    OK(at_gpu_read(t->gpu, out, v[OUT], sizeof out));
    for (size_t i = 0; i < ROWS; i++) {
        token_out o;

        if (b->segment[i] < 0)
            continue;
        assert_true(ref_token_loss(
            &o, name, (token_stats){ (double)b->stats[4 * i], (double)b->stats[4 * i] }));
        want_out[4 * i] = o.loss;
        want_coef[i] = (double)weight * o.d_logp;
    }
    gt_require_close(t, name, out, want_out, NULL, AT_COUNT(want_out), TOL_LOSS);
    gt_require_close(t, name, coef, want_coef, NULL, ROWS, TOL_LOSS);
}

static const struct at_loss_params settings[] = {
    { 0.125f, 0.0625f, 0.0625f, 5, 0.5f, 0.25f, DIVERGENCE_REVERSE_KL, 0, 1.5f, 0.75f, 0.25f, false,
      0.375f },
    { 1.5f, 0.25f, 0.5f, 3, 1.5f, -0.5f, DIVERGENCE_REVERSE_KL, 0, 1.5f, 0.75f, 0.25f, false,
      0.375f },
    { 0.125f, 0.25f, 0.5f, 3, 1.5f, -0.5f, DIVERGENCE_FORWARD_KL, 0, 1.5f, 0.75f, 0.25f, false,
      0.375f },
    { 0.5f, 0.25f, 0.5f, 3, 1.5f, -0.5f, DIVERGENCE_JS, 0, 1.5f, 0.75f, 0.25f, false, 0.375f },
    { 0.5f, 0.25f, 0.5f, 3, 1.5f, -0.5f, DIVERGENCE_ALPHA, 0.5f, 1.5f, 0.75f, 0.25f, false,
      0.375f },
    { 0.5f, 0.25f, 0.5f, 3, 1.5f, -0.5f, DIVERGENCE_ALPHA, 1, 1.5f, 0.75f, 0.25f, false, 0.375f },
    { 0.5f, 0.25f, 0.5f, 3, 1.5f, -0.5f, DIVERGENCE_REVERSE_KL, 0, 1.5f, 0.75f, 0.25f, true,
      0.375f },
};

static const struct at_policy_params policies[] = {
    { 0, 0.0625f, 0.09375f, 0, 0, false },
    { 0.25f, 0.0625f, 0.09375f, 1.0625f, 1, false },
    { 0.25f, 0.0078125f, 0.0078125f, 0, 0, true },
    { 0.25f, 0.0078125f, 0.0078125f, 0, 1, true },
};

static void losses_every_row_equals_its_double(void **state)
{
    size_t n;
    const struct at_loss *list = at_loss_list(&n);

    (void)state;
    for (size_t setting = 0; setting < 2; setting++) {
        struct at_view v[BUFFERS];
        struct batch b;
        struct gt t;

        make_batch(&b);
        gt_open(&t, setting);
        plan_batch(&t, v, &b);
        for (size_t i = 0; i < n; i++) {
            if (list[i].kind == AT_LOSS_TOKEN) {
                check_token_loss(&t, list[i].name, v, &b);
                continue;
            }
            for (size_t k = 0; k < AT_COUNT(policies) && list[i].kind == AT_LOSS_POLICY; k++)
                check_policy_loss(&t, list[i].name, v, &b, &policies[k]);
            for (size_t k = 0; k < AT_COUNT(settings) && list[i].kind == AT_LOSS_ROW; k++)
                check_row_loss(&t, list[i].name, v, &b, &settings[k]);
            for (size_t k = 0; k < AT_COUNT(settings) && list[i].kind == AT_LOSS_PAIR; k++)
                check_pair_losses(&t, &(struct at_loss_term){ .name = list[i].name, .weight = 1 },
                                  1, v, &b, &settings[k]);
        }
        check_pair_losses(&t,
                          (struct at_loss_term[]){ { "sigmoid", 0.75f, NULL },
                                                   { "sft", 2, NULL },
                                                   { "hinge", 0.5f, NULL } },
                          3, v, &b, &settings[4]);
        gt_end(&t);
        gt_close(&t);
        free(b.stats);
    }
}

/* A pair with a NaN or infinite sum gets NaN in its loss and coefficients; no other pair does. */
static void pair_loss_bad_score_gives_nan(void **state)
{
    static const float bad[] = { NAN, INFINITY, -INFINITY };
    const struct at_loss_params params = settings[0];
    size_t n;
    const struct at_loss *list = at_loss_list(&n);
    struct at_view v[BUFFERS];
    struct at_pair_batch pairs;
    struct batch b;
    struct gt t;

    (void)state;
    make_batch(&b);
    gt_open(&t, 0);
    plan_batch(&t, v, &b);
    pairs = pairs_of(v);
    for (size_t i = 0; i < n * AT_COUNT(bad); i++) {
        float sums[2 * PAIRS * 8], coef[ROWS], out[PAIRS * 4];

        if (list[i / 3].kind != AT_LOSS_PAIR)
            continue;
        for (size_t j = 0; j < AT_COUNT(sums); j++)
            sums[j] = 1;
        OK(at_gpu_write(t.gpu, v[REF_SUMS], sums, sizeof sums));
        sums[8 * 5] = bad[i % 3]; /* rejected of pair 2 */
        OK(at_gpu_write(t.gpu, v[SUMS], sums, sizeof sums));
        at_pair_losses(t.stream, &(struct at_loss_term){ .name = list[i / 3].name, .weight = 1 }, 1,
                       v[COEF], v[OUT], &pairs, &params, 1);
        OK(at_stream_wait(t.stream));
        OK(at_gpu_read(t.gpu, coef, v[COEF], sizeof coef));
        OK(at_gpu_read(t.gpu, out, v[OUT], sizeof out));
        for (int j = 0; j < PAIRS; j++)
            assert_true(!isnan(out[4 * j]) != (j == 2));
        for (int j = 0; j < ROWS; j++)
            assert_true(!isnan(coef[j]) != (b.segment[j] == 4 || b.segment[j] == 5));
    }
    gt_end(&t);
    gt_close(&t);
    free(b.stats);
}

/* The same of a row, and of its KL term. */
static void row_loss_bad_score_gives_nan(void **state)
{
    static const float bad[] = { NAN, INFINITY, -INFINITY };
    enum { N = 2 * PAIRS, BAD = 5 };
    const struct at_loss_params params = settings[0];
    struct at_view v[BUFFERS];
    struct batch b;
    struct gt t;

    (void)state;
    make_batch(&b);
    gt_open(&t, 0);
    plan_batch(&t, v, &b);
    for (size_t i = 0; i < 2 * AT_COUNT(bad); i++) {
        float sums[N * 8], facts[N * 2], coef[ROWS], out[N * 4];

        for (size_t j = 0; j < AT_COUNT(sums); j++)
            sums[j] = 1;
        for (size_t j = 0; j < AT_COUNT(facts); j++)
            facts[j] = 1;
        OK(at_gpu_write(t.gpu, v[REF_SUMS], sums, sizeof sums));
        if (i % 2)
            sums[8 * BAD] = bad[i / 2];
        else
            facts[2 * BAD] = bad[i / 2];
        OK(at_gpu_write(t.gpu, v[SUMS], sums, sizeof sums));
        OK(at_gpu_write(t.gpu, v[FACTS], facts, sizeof facts));
        at_row_loss(t.stream, "kto", v[COEF], v[OUT], v[SUMS], v[REF_SUMS], v[FACTS], v[ORDER],
                    v[BEGIN], N, ROWS, &params, 1);
        OK(at_stream_wait(t.stream));
        OK(at_gpu_read(t.gpu, coef, v[COEF], sizeof coef));
        OK(at_gpu_read(t.gpu, out, v[OUT], sizeof out));
        for (int j = 0; j < N; j++)
            assert_true(!isnan(out[4 * j]) != (j == BAD));
        for (int j = 0; j < ROWS; j++)
            assert_true(!isnan(coef[j]) != (b.segment[j] == BAD));
    }
    gt_end(&t);
    gt_close(&t);
    free(b.stats);
}

/* A token's log-prob that is not finite gives NaN in its coefficient, in those of its sample where
 * the ratio is of all tokens; an advantage does so in all of its sample. No others do. */
static void policy_loss_bad_value_gives_nan(void **state)
{
    static const float bad[] = { NAN, INFINITY, -INFINITY };
    enum { N = 2 * PAIRS, BAD = 3 };
    struct at_view v[BUFFERS];
    struct batch b;
    struct gt t;

    (void)state;
    make_batch(&b);
    gt_open(&t, 0);
    plan_batch(&t, v, &b);
    for (size_t i = 0; i < 3 * AT_COUNT(bad); i++) {
        const struct at_policy_params params = { 0.25f, 0.25f, 0.25f, 0, 0, i % 3 == 1 };
        const int32_t row = b.order[b.begin[BAD] + 1];
        float facts[N * 4], tokens[4 * ROWS], coef[ROWS];

        for (size_t j = 0; j < AT_COUNT(facts); j++)
            facts[j] = 1;
        for (size_t j = 0; j < AT_COUNT(tokens); j++)
            tokens[j] = -1;
        if (i % 3 == 2)
            facts[4 * BAD] = bad[i / 3];
        else
            tokens[4 * row] = bad[i / 3];
        OK(at_gpu_write(t.gpu, v[SUMS], facts, sizeof facts));
        OK(at_gpu_write(t.gpu, v[OUT], tokens, sizeof tokens));
        at_policy_loss(t.stream, "grpo", v[COEF], v[OUT], v[STATS], v[SUMS], v[ORDER], v[BEGIN], N,
                       ROWS, &params);
        OK(at_stream_wait(t.stream));
        OK(at_gpu_read(t.gpu, coef, v[COEF], sizeof coef));
        for (int j = 0; j < ROWS; j++) {
            const bool bad_row = i % 3 ? b.segment[j] == BAD : j == row;
            assert_int_equal(isnan(coef[j]) != 0, bad_row);
        }
    }
    gt_end(&t);
    gt_close(&t);
    free(b.stats);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segment_sums_equal_reference),
        cmocka_unit_test(losses_every_row_equals_its_double),
        cmocka_unit_test(pair_loss_bad_score_gives_nan),
        cmocka_unit_test(row_loss_bad_score_gives_nan),
        cmocka_unit_test(policy_loss_bad_value_gives_nan),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
