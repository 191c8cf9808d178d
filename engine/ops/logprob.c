#include "logprob.h"

#include <string.h>

#include "activation.h"
#include "kernels.h"

/* Fixed, so that the order of a row's sums depends on nothing but the vocabulary. */
enum { HEAD_CHUNK = 4096, STATE_FLOATS = 8 };

static struct at_work rows_work(uint32_t n)
{
    return (struct at_work){ n, 1, 1, 0, { 0 } };
}

static struct at_work logits_work(uint32_t n, const struct at_head_scratch *scratch)
{
    return (struct at_work){ n, 1, 1, 1, { scratch->cap > 0 } };
}

void at_head_reserve(struct at_pool *pool, struct at_head_scratch *scratch, uint32_t R,
                     struct at_weight head, bool trainable)
{
    const uint32_t rows = (uint32_t)at_round_up(R, 64);
    const uint64_t state = (uint64_t)rows * STATE_FLOATS * sizeof(float);
    struct at_halves_need need = { 0 };

    *scratch = (struct at_head_scratch){ .capacity_rows = rows, .chunk = HEAD_CHUNK };
    if (head.rows < HEAD_CHUNK)
        scratch->chunk = (uint32_t)at_round_up(head.rows, 64);
    at_pool_reserve(pool, &scratch->logits, at_tensor_apart_bytes(rows, scratch->chunk),
                    "logits chunk");
    at_pool_reserve(pool, &scratch->state, state + at_tensor_bytes(rows, head.cols), "head state");
    if (head.type != AT_F32)
        at_pool_reserve(pool, &scratch->panel, at_tensor_apart_bytes(scratch->chunk, head.cols),
                        "dequantised head chunk");
    at_halves_add(&need, rows, scratch->chunk, head.cols);
    if (trainable)
        at_halves_add_tn(&need, rows, scratch->chunk, head.cols);
    at_halves_reserve(pool, &scratch->halves, &need);
}

static struct at_view state_view(const struct at_head_scratch *scratch, uint32_t R)
{
    return at_view_part(scratch->state, 0, (uint64_t)R * STATE_FLOATS * sizeof(float));
}

/* Rows of W at the targets, behind the running values. */
static struct at_tensor target_rows(const struct at_head_scratch *scratch, uint32_t R, uint32_t C)
{
    const uint64_t begin = (uint64_t)scratch->capacity_rows * STATE_FLOATS * sizeof(float);

    return at_tensor_make(at_view_part(scratch->state, begin, at_tensor_bytes(R, C)), R, C);
}

/* Vocabulary chunk [v0, v0 + n) of W as f32. */
static struct at_tensor chunk_values(struct at_stream *s, struct at_weight w, uint32_t v0,
                                     uint32_t n, const struct at_head_scratch *scratch)
{
    const struct at_weight part = at_weight_rows(w, v0, n);
    struct at_tensor values;

    if (w.type == AT_F32)
        return at_weight_values(part);
    values = at_tensor_make_apart(scratch->panel, n, w.cols);
    at_dequantise(s, values, part);
    return values;
}

/* z = h W^T of one chunk. */
static struct at_tensor chunk_logits(struct at_stream *s, struct at_tensor h, struct at_tensor W,
                                     const struct at_head_scratch *scratch)
{
    struct at_tensor z = at_tensor_make_apart(scratch->logits, h.dim[0], scratch->chunk);

    z.dim[1] = W.dim[0];
    at_weight_nt(s, z, 0, h, W, false, &scratch->halves);
    return z;
}

/* wy[i] = W[targets[i] - v0] for the targets in this chunk; W in parts that a binding holds. */
static void copy_target_rows(struct at_stream *s, struct at_tensor wy, struct at_tensor W,
                             struct at_view targets, uint32_t v0)
{
    const uint64_t limit = at_gpu_get_info(at_stream_gpu(s))->max_range_bytes;
    const uint64_t fit = limit / (W.ld * sizeof(float)) / 16 * 16; /* aligned parts */
    const uint32_t step = fit < W.dim[0] ? (uint32_t)fit : W.dim[0];

    AT_REQUIRE(step > 0);
    for (uint32_t v = 0; v < W.dim[0]; v += step) {
        const uint32_t n = W.dim[0] - v < step ? W.dim[0] - v : step;
        const struct head_target_bufs bufs = { .wy = at_tensor_view(wy),
                                               .w = at_tensor_view(at_tensor_rows(W, v, n)),
                                               .targets = targets };
        const struct head_target_args args = {
            .R = wy.dim[0], .C = W.dim[1], .n = n, .v0 = v0 + v, .ldy = wy.ld, .ldw = W.ld
        };

        at_launch_head_target(s, &bufs, &args, rows_work(args.R));
    }
}

static struct at_view row_view(struct at_view view, uint32_t R, uint32_t floats)
{
    return at_view_part(view, 0, at_round_up((uint64_t)R * floats * sizeof(float), 16));
}

void at_head_fwd(struct at_stream *s, struct at_view stats, struct at_view lse,
                 struct at_view log_p2, struct at_tensor u, struct at_tensor h,
                 struct at_view targets, struct at_weight w, const struct at_head_scratch *scratch)
{
    const uint32_t R = h.dim[0], C = h.dim[1], V = w.rows;
    const bool with_u = u.view.buffer != NULL;
    const struct at_tensor wy = target_rows(scratch, R, C);
    const struct at_view state = state_view(scratch, R), ids = row_view(targets, R, 1);
    const struct at_view u_view = with_u ? at_tensor_view(u) : state;

    AT_REQUIRE(R > 0 && R <= scratch->capacity_rows && w.cols == C);
    if (with_u)
        at_require_shape(u, R, C);
    for (uint32_t v0 = 0; v0 < V; v0 += scratch->chunk) {
        const uint32_t n = V - v0 < scratch->chunk ? V - v0 : scratch->chunk;
        const struct at_tensor W = chunk_values(s, w, v0, n, scratch);
        const struct at_tensor z = chunk_logits(s, h, W, scratch);
        const struct head_chunk_bufs bufs = {
            .z = at_tensor_view(z), .u = u_view, .state = state, .targets = ids
        };
        const struct head_chunk_args args = {
            .R = R,
            .C = C,
            .n = n,
            .v0 = v0,
            .ldz = z.ld,
            .ldu = u.ld,
            .first = v0 == 0,
            .cap = scratch->cap,
        };

        at_launch_head_chunk(s, &bufs, &args,
                             (struct at_work){ R, 1, 1, 2, { scratch->cap > 0, with_u } });
        if (with_u) {
            copy_target_rows(s, wy, W, ids, v0);
            at_weight_nn(s, u, z, 0, W, v0 > 0, &scratch->halves);
        }
    }
    const struct head_finish_bufs bufs = { .stats = row_view(stats, R, 4),
                                           .lse = row_view(lse, R, 1),
                                           .log_p2 = row_view(log_p2, R, 1),
                                           .u = u_view,
                                           .state = state,
                                           .wy = with_u ? at_tensor_view(wy) : state,
                                           .targets = ids };
    const struct head_finish_args args = {
        .R = R,
        .C = C,
        .V = V,
        .ldu = u.ld,
        .ldy = wy.ld,
        .with_u = with_u,
        .cap = scratch->cap,
    };
    at_launch_head_finish(s, &bufs, &args, logits_work(R, scratch));
}

void at_head_kl(struct at_stream *s, struct at_view kl, struct at_view stats,
                struct at_view ref_stats, struct at_tensor u, struct at_tensor h,
                struct at_tensor ref_h)
{
    const uint32_t R = h.dim[0], C = h.dim[1];
    const struct head_kl_bufs bufs = { .kl = row_view(kl, R, 4),
                                       .stats = row_view(stats, R, 4),
                                       .ref_stats = row_view(ref_stats, R, 4),
                                       .u = at_tensor_view(u),
                                       .h = at_tensor_view(h),
                                       .ref_h = at_tensor_view(ref_h) };
    const struct head_kl_args args = { .R = R, .C = C, .ldu = u.ld, .ldh = h.ld, .ldr = ref_h.ld };

    at_require_shape(u, R, C);
    at_require_shape(ref_h, R, C);
    at_launch_head_kl(s, &bufs, &args, rows_work(R));
}

void at_head_bwd_weight(struct at_stream *s, struct at_tensor dW, struct at_tensor h,
                        struct at_view targets, struct at_view lse, struct at_view coef,
                        struct at_weight w, const struct at_head_scratch *scratch)
{
    const uint32_t R = h.dim[0], V = w.rows;

    at_require_shape(dW, V, h.dim[1]);
    AT_REQUIRE(R > 0 && R <= scratch->capacity_rows && w.cols == h.dim[1]);
    for (uint32_t v0 = 0; v0 < V; v0 += scratch->chunk) {
        const uint32_t n = V - v0 < scratch->chunk ? V - v0 : scratch->chunk;
        const struct at_tensor W = chunk_values(s, w, v0, n, scratch);
        const struct at_tensor z = chunk_logits(s, h, W, scratch);
        const struct head_grad_bufs bufs = { .z = at_tensor_view(z),
                                             .targets = row_view(targets, R, 1),
                                             .lse = row_view(lse, R, 1),
                                             .coef = row_view(coef, R, 1) };
        const struct head_grad_args args = {
            .R = R, .n = n, .v0 = v0, .ldz = z.ld, .cap = scratch->cap
        };

        at_launch_head_grad(s, &bufs, &args, logits_work(R, scratch));
        at_weight_tn(s, at_tensor_rows(dW, v0, n), z, h, &scratch->halves);
    }
}

void at_head_logits(struct at_stream *s, struct at_tensor logits, struct at_tensor h,
                    struct at_weight w, const struct at_head_scratch *scratch)
{
    const struct at_linear_scratch panel = { scratch->panel, scratch->halves };

    AT_REQUIRE(h.dim[0] <= 64);
    if (h.dim[0] == 1)
        at_linear_row(s, logits, h, w, 1, false);
    else
        at_linear_fwd(s, logits, h, w, &panel, false);
    if (scratch->cap > 0)
        at_softcap(s, logits, scratch->cap);
}

void at_segment_sums(struct at_stream *s, struct at_view sums, struct at_view stats,
                     struct at_view weight, struct at_view log_p2, struct at_view order,
                     struct at_view begin, uint32_t n_segments)
{
    const struct segment_sum_bufs bufs = { .sums = sums,
                                           .stats = stats,
                                           .weight = weight,
                                           .log_p2 = log_p2,
                                           .order = order,
                                           .begin = begin };
    const struct segment_sum_args args = { .n_segments = n_segments };

    if (n_segments > 0)
        at_launch_segment_sum(s, &bufs, &args, rows_work(n_segments));
}

/* ---- loss drivers ---- */

enum loss_kind { LOSS_PAIR, LOSS_POLICY, LOSS_ROW, LOSS_TOKEN };

struct loss_row {
    const char *name, *reads;
    enum loss_kind kind;
    uint32_t kernel;
};

static const struct loss_row *loss_find(const char *name, enum loss_kind kind)
{
    static const struct loss_row losses[] = {
#define PAIR_LOSS_ROW(name, methods, reads, source) \
    { #name, reads, LOSS_PAIR, AT_KERNEL_loss_##name },
#define POLICY_LOSS_ROW(name, methods, reads, source) \
    { #name, reads, LOSS_POLICY, AT_KERNEL_loss_##name },
#define ROW_LOSS_ROW(name, methods, reads, source) { #name, "", LOSS_ROW, AT_KERNEL_loss_##name },
#define TOKEN_LOSS_ROW(name, methods, source) { #name, "", LOSS_TOKEN, AT_KERNEL_loss_##name },
#include "losses.def"
#undef PAIR_LOSS_ROW
#undef POLICY_LOSS_ROW
#undef ROW_LOSS_ROW
#undef TOKEN_LOSS_ROW
    };

    for (size_t i = 0; i < AT_COUNT(losses); i++)
        if (losses[i].kind == kind && strcmp(losses[i].name, name) == 0)
            return &losses[i];
    AT_BUG("no loss \"%s\" of this kind", name);
}

AT_CHECKED at_own_loss_make(struct at_own_loss *out, struct at_gpu *gpu, const char *name,
                            const char *reads, const uint32_t *spirv, size_t spirv_bytes)
{
    *out = (struct at_own_loss){ .reads = reads };
    return at_kernel_add(&out->kernel, gpu, AT_KERNEL_loss_sigmoid, name, spirv, spirv_bytes);
}

static struct at_own_loss find_pair_loss(const struct at_loss_term *term)
{
    const struct loss_row *row = term->own ? NULL : loss_find(term->name, LOSS_PAIR);

    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): what fails never returns AT_OK */
    return row ? (struct at_own_loss){ row->reads, row->kernel } : *term->own;
}

void at_pair_losses(struct at_stream *s, const struct at_loss_term *terms, size_t n,
                    struct at_view coef, struct at_view out, const struct at_pair_batch *pairs,
                    const struct at_loss_params *params, float weight)
{
    const struct at_view views[] = {
        coef,         out,          pairs->sums, pairs->ref_sums, pairs->row_weight,
        pairs->match, pairs->order, pairs->begin
    };

    at_stream_fill(s, row_view(coef, pairs->R, 1), 0);
    if (pairs->n_pairs == 0)
        return;
    at_stream_fill(s, row_view(out, pairs->n_pairs, 4), 0);
    for (size_t i = 0; i < n; i++) {
        const struct at_own_loss loss = find_pair_loss(&terms[i]);
        const struct pair_loss_args args = {
            .n_pairs = pairs->n_pairs,
            .segments = pairs->segments,
            .chosen = pairs->segments < 3 || !strchr(loss.reads, 'w') ? PAIR_CHOSEN_FIRST
                      : pairs->triples                                ? PAIR_CHOSEN_THIRD
                                                                      : PAIR_CHOSEN_BOTH,
            .weight = weight * terms[i].weight,
            .loss_weight = terms[i].weight,
            .beta = params->beta,
            .label_smoothing = params->label_smoothing,
            .discopop_tau = params->discopop_tau,
            .mean_n_chosen = params->mean_n_chosen,
            .simpo_gamma = params->simpo_gamma,
            .tpo_l_gamma = params->tpo_l_gamma,
            .alphapo_alpha = params->alphapo_alpha,
            .center_rewards_coefficient = params->center_rewards_coefficient,
            .alpha = params->alpha,
            .divergence = strchr(loss.reads, 'f') ? params->divergence : 0,
            .log_ratios = strchr(loss.reads, 'p') == NULL,
            .use_weighting = params->use_weighting,
        };
        at_stream_launch(s, loss.kernel, views, &args, sizeof args, rows_work(pairs->n_pairs));
    }
}

void at_policy_loss(struct at_stream *s, const char *loss, struct at_view coef,
                    struct at_view tokens, struct at_view stats, struct at_view facts,
                    struct at_view order, struct at_view begin, uint32_t n_segments, uint32_t R,
                    const struct at_policy_params *params)
{
    const struct loss_row *row = loss_find(loss, LOSS_POLICY);
    const struct at_view views[] = { coef, tokens, stats, facts, order, begin };
    const bool product = strchr(row->reads, 'q') != NULL;
    const struct policy_loss_args args = { .n_segments = n_segments,
                                           .level = product ? 2 : params->sequence,
                                           .beta = params->beta,
                                           .epsilon_low = params->epsilon_low,
                                           .epsilon_high = params->epsilon_high,
                                           .delta = params->delta,
                                           .weighs_kl = params->weighs_kl };

    at_stream_fill(s, row_view(coef, R, 1), 0);
    if (n_segments > 0)
        at_stream_launch(s, row->kernel, views, &args, sizeof args, rows_work(n_segments));
}

void at_row_loss(struct at_stream *s, const char *loss, struct at_view coef, struct at_view out,
                 struct at_view sums, struct at_view ref_sums, struct at_view facts,
                 struct at_view order, struct at_view begin, uint32_t n_rows, uint32_t R,
                 const struct at_loss_params *params, float weight)
{
    const struct at_view views[] = { coef, out, sums, ref_sums, facts, order, begin };
    const struct row_loss_args args = { .n_rows = n_rows,
                                        .weight = weight,
                                        .beta = params->beta,
                                        .desirable_weight = params->desirable_weight,
                                        .undesirable_weight = params->undesirable_weight };

    at_stream_fill(s, row_view(coef, R, 1), 0);
    if (n_rows > 0)
        at_stream_launch(s, loss_find(loss, LOSS_ROW)->kernel, views, &args, sizeof args,
                         rows_work(n_rows));
}

void at_token_loss(struct at_stream *s, const char *loss, struct at_view coef,
                   struct at_view row_loss, struct at_view stats, struct at_view row_segment,
                   uint32_t R, float weight)
{
    const struct at_view views[] = { coef, row_loss, stats, row_segment };
    const struct token_loss_args args = { .R = R, .weight = weight };

    if (R > 0)
        at_stream_launch(s, loss_find(loss, LOSS_TOKEN)->kernel, views, &args, sizeof args,
                         rows_work(R));
}
