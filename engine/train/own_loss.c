#include "own_loss.h"

#include "glsl.h"
#include "objective.h"
#include "rng.h"

#include <math.h>
#include <string.h>

/* A point is computed at its place and, a step of each size up and down, beside it on both sides.
 * Scores are multiples of the smallest step and below 2^10, so that a step is exact in float. */
enum { POINTS = 256, SIDES = 2, STEPS = 4, PAIRS = 1 + SIDES * STEPS * 2, N = POINTS * PAIRS };
static const double steps[STEPS] = { 0.5, 0.125, 0.03125, 0.0078125 };
static const double ROUNDING = 1.0 / (1 << 21); /* of a loss: four times float's */

struct point {
    double score[SIDES], n[SIDES];
};

/* What the check computes with: host arrays, and views of the same sizes. */
struct probe {
    struct at_arena arena;
    struct at_gpu *gpu;
    struct at_stream *stream;
    struct at_pool *pool;
    struct at_view sums, ref_sums, row_weight, match, order, begin, coef, out;
    struct point points[POINTS];
    float (*host_sums)[8]; /* (N * SIDES, 8) */
    float (*loss)[4];      /* (N, 4) */
    float *slope;          /* (N * SIDES) */
};

/* ---- points ---- */

/* Log-ratios of three sizes, or log-probs of a token or of many. */
static double draw_score(struct at_rng *rng, uint32_t i, bool logps, double n)
{
    static const double sizes[] = { 2, 16, 64 };
    const double x = at_rng_uniform(rng);
    const double score =
        logps ? -fmin(1000, n * (0.02 + 3 * x * x)) : sizes[i % AT_COUNT(sizes)] * (2 * x - 1);

    return floor(score / steps[STEPS - 1]) * steps[STEPS - 1];
}

static void draw(struct probe *p, bool logps)
{
    struct at_rng rng = at_rng_make(1, AT_RNG_LOSS_CHECK, 0, 0);

    for (uint32_t i = 0; i < POINTS; i++)
        for (int side = 0; side < SIDES; side++) {
            p->points[i].n[side] = 1 + at_rng_below(&rng, 200);
            p->points[i].score[side] = draw_score(&rng, i, logps, p->points[i].n[side]);
        }
}

/* The pair of a point that is `step` of that size (sign -1 or 1) beside it on one side. */
static uint32_t beside(uint32_t point, int side, int step, int sign)
{
    return point * PAIRS + 1 + (uint32_t)((side * STEPS + step) * 2 + (sign > 0));
}

static void put_pair(struct probe *p, uint32_t pair, const struct point *at)
{
    for (int side = 0; side < SIDES; side++) {
        float *sums = p->host_sums[pair * SIDES + (uint32_t)side];
        sums[0] = sums[5] = (float)at->score[side];
        sums[4] = (float)at->n[side];
    }
}

static void put_points(struct probe *p)
{
    for (uint32_t i = 0; i < POINTS; i++) {
        put_pair(p, i * PAIRS, &p->points[i]);
        for (int side = 0; side < SIDES; side++)
            for (int k = 0; k < STEPS; k++)
                for (int sign = -1; sign <= 1; sign += 2) {
                    struct point at = p->points[i];
                    at.score[side] += sign * steps[k];
                    put_pair(p, beside(i, side, k, sign), &at);
                }
    }
}

/* ---- computing ---- */

static AT_CHECKED upload_rows(struct probe *p)
{
    enum at_status st = AT_OK;
    int32_t *order = NULL;
    float *ones = NULL;

    TRY(at_arena_alloc(&p->arena, &order, N * SIDES + 1, sizeof *order));
    TRY(at_arena_alloc(&p->arena, &ones, N * SIDES, sizeof *ones));
    for (int i = 0; i <= N * SIDES; i++)
        order[i] = i;
    for (int i = 0; i < N * SIDES; i++)
        ones[i] = 1;
    TRY(at_gpu_write(p->gpu, p->order, order, N * SIDES * sizeof *order));
    TRY(at_gpu_write(p->gpu, p->begin, order, (N * SIDES + 1) * sizeof *order));
    TRY(at_gpu_write(p->gpu, p->row_weight, ones, N * SIDES * sizeof *ones));
done:
    return st;
}

static AT_CHECKED probe_open(struct probe *p, struct at_gpu *gpu)
{
    enum at_status st = AT_OK;
    const uint64_t segments = N * SIDES;

    p->gpu = gpu;
    TRY(at_stream_create(&p->stream, gpu));
    TRY(at_pool_create(&p->pool, gpu, "loss check"));
    at_pool_reserve(p->pool, &p->sums, segments * 32, "sums");
    at_pool_reserve(p->pool, &p->ref_sums, segments * 32, "reference sums");
    at_pool_reserve(p->pool, &p->row_weight, segments * 4, "row weights");
    at_pool_reserve(p->pool, &p->match, N * 16, "matches");
    at_pool_reserve(p->pool, &p->order, segments * 4, "order");
    at_pool_reserve(p->pool, &p->begin, segments * 4 + 4, "begin");
    at_pool_reserve(p->pool, &p->coef, segments * 4, "coefficients");
    at_pool_reserve(p->pool, &p->out, N * 16, "losses");
    TRY(at_pool_commit(p->pool));
    TRY(at_arena_alloc(&p->arena, &p->host_sums, segments, sizeof *p->host_sums));
    TRY(at_arena_alloc(&p->arena, &p->loss, N, sizeof *p->loss));
    TRY(at_arena_alloc(&p->arena, &p->slope, segments, sizeof *p->slope));
    TRY(upload_rows(p));
done:
    return st;
}

static void probe_close(struct probe *p)
{
    at_stream_destroy(&p->stream);
    at_pool_destroy(&p->pool);
    at_arena_release(&p->arena);
}

static AT_CHECKED compute(struct probe *p, const struct at_loss_term *term,
                          const struct at_loss_params *params)
{
    enum at_status st = AT_OK;
    const struct at_pair_batch batch = { .n_pairs = N,
                                         .segments = SIDES,
                                         .R = N * SIDES,
                                         .sums = p->sums,
                                         .ref_sums = p->ref_sums,
                                         .row_weight = p->row_weight,
                                         .match = p->match,
                                         .order = p->order,
                                         .begin = p->begin };

    at_stream_upload(p->stream, p->sums, p->host_sums, N * SIDES * sizeof *p->host_sums);
    at_pair_losses(p->stream, term, 1, p->coef, p->out, &batch, params, 1);
    at_stream_download(p->stream, p->loss, p->out, N * sizeof *p->loss);
    at_stream_download(p->stream, p->slope, p->coef, N * SIDES * sizeof *p->slope);
    TRY(at_stream_wait(p->stream));
done:
    return st;
}

/* ---- comparing ---- */

struct difference {
    double value, error; /* of the estimate; NaN where the loss is not finite */
};

/* The most trusted of the step sizes: a long step follows a curve badly, a short one drowns in
 * rounding, either sees a kink. An estimate's error is how far the longer step's is from it, and
 * rounding. */
static struct difference difference(const struct probe *p, uint32_t point, int side)
{
    struct difference best = { NAN, INFINITY };
    double before = NAN;

    for (int k = 0; k < STEPS; k++) {
        const double low = (double)p->loss[beside(point, side, k, -1)][0];
        const double high = (double)p->loss[beside(point, side, k, 1)][0];
        const double value = (high - low) / (2 * steps[k]);
        const double error =
            fabs(value - before) + ROUNDING * (fabs(low) + fabs(high)) / (2 * steps[k]);
        if (error < best.error)
            best = (struct difference){ value, error };
        before = value;
    }
    return best;
}

struct findings {
    uint32_t decided, wrong, not_finite;
    uint32_t point, bad_point; /* of the first wrong one, of the first that is not finite */
    int side;
    struct difference should;
};

static void compare(struct findings *out, const struct probe *p, uint32_t point, int side)
{
    const double given = (double)p->slope[point * PAIRS * SIDES + (uint32_t)side];
    const struct difference d = difference(p, point, side);
    const double scale = fmax(fabs(given), fabs(d.value));

    if (!isfinite(given) || !isfinite((double)p->loss[point * PAIRS][0])) {
        if (out->not_finite++ == 0)
            out->bad_point = point;
        return;
    }
    if (!isfinite(d.error) || d.error > scale / 16) /* a kink, or lost in rounding */
        return;
    out->decided++;
    if (fabs(given - d.value) <= 2 * d.error + scale / 256)
        return;
    if (out->wrong++ == 0) {
        out->point = point;
        out->side = side;
        out->should = d;
    }
}

/* A step may lie across a kink evenly, where both slopes are right: a few points may disagree. */
static AT_CHECKED judge(const struct findings *f, const struct probe *p, const char *name)
{
    const struct point *at = &p->points[f->point], *bad = &p->points[f->bad_point];

    if (f->not_finite > POINTS * SIDES / 8)
        return at_fail(AT_DATA,
                       "%s: the loss is not finite at %u of %d random statistics, such as "
                       "score_chosen %.9g, score_rejected %.9g, n_chosen %g, n_rejected %g; "
                       "prelude.h has softplus and log_sigmoid, which do not overflow",
                       name, f->not_finite / SIDES, POINTS, bad->score[0], bad->score[1], bad->n[0],
                       bad->n[1]);
    if (f->wrong > f->decided / 50)
        return at_fail(
            AT_DATA,
            "%s: d_%s is not the derivative of the loss by score_%s: at score_chosen %.9g, "
            "score_rejected %.9g, n_chosen %g, n_rejected %g the file gives %.6g and differences "
            "of its loss %.6g (so at %u of %u random places)",
            name, f->side ? "rejected" : "chosen", f->side ? "rejected" : "chosen", at->score[0],
            at->score[1], at->n[0], at->n[1],
            (double)p->slope[f->point * PAIRS * SIDES + (uint32_t)f->side], f->should.value,
            f->wrong, f->decided);
    if (f->decided < POINTS / 4)
        return at_fail(
            AT_DATA,
            "%s: its derivative cannot be checked: the loss is flat, or jumps, at all but "
            "%u of %d random places",
            name, f->decided, POINTS * SIDES);
    if (f->not_finite > 0)
        at_warn("own_loss",
                "%s: the loss is not finite at some statistics, such as score_chosen %.9g, "
                "score_rejected %.9g, n_chosen %g, n_rejected %g",
                name, bad->score[0], bad->score[1], bad->n[0], bad->n[1]);
    return AT_OK;
}

static AT_CHECKED check(struct at_run *run, const struct at_loss *loss,
                        const struct at_own_loss *own)
{
    enum at_status st = AT_OK;
    const bool logps = strchr(loss->reads, 'p') || !at_method_get(run->method)->reference;
    const struct at_loss_term term = { loss->name, 1, own };
    struct at_objective objective;
    struct findings found = { 0 };
    struct probe *p = NULL;

    TRY(at_alloc(&p, 1, sizeof *p));
    TRY(probe_open(p, run->engine.gpu));
    at_objective_make(&objective, run->config, NULL);
    objective.params.mean_n_chosen = 100; /* tokens: of the step's rows in training */
    objective.params.divergence = 0;      /* whose chain rule is the driver's */
    objective.params.use_weighting = false;
    draw(p, logps);
    put_points(p);
    TRY(compute(p, &term, &objective.params));
    for (uint32_t i = 0; i < POINTS; i++)
        for (int side = 0; side < SIDES; side++)
            compare(&found, p, i, side);
    TRY(judge(&found, p, loss->file->name));
done:
    if (p)
        probe_close(p);
    at_free(&p);
    return st;
}

/* ---- building ---- */

static AT_CHECKED build(struct at_run *run, const struct at_loss *loss, struct at_own_loss *out)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };
    uint32_t *spirv = NULL;
    size_t spirv_bytes = 0;
    char *kernel = NULL;

    TRY(at_loss_file_shader(&text, loss->file));
    TRY(at_glsl_compile(&run->arena, &spirv, &spirv_bytes, text.data));
    TRY(at_arena_printf(&run->arena, &kernel, "loss_%s", loss->file->name));
    TRY(at_own_loss_make(out, run->engine.gpu, kernel, loss->reads, spirv, spirv_bytes));
    TRY(check(run, loss, out));
done:
    if (st != AT_OK)
        at_context("loss_type %s", loss->name);
    at_buf_release(&text);
    return st;
}

AT_CHECKED at_own_losses_build(struct at_run *run)
{
    enum at_status st = AT_OK;
    const struct at_config *c = run->config;
    struct at_own_loss *own = NULL;

    TRY(at_arena_alloc(&run->arena, &own, c->loss_type.n, sizeof *own));
    for (size_t i = 0; i < c->loss_type.n; i++)
        if (c->losses[i]->file)
            TRY(build(run, c->losses[i], &own[i]));
    run->own = own;
done:
    return st;
}
