#include "optimizer.h"

#include <math.h>

#include "kernels.h"

enum { SLOT = 4096 }; /* elements of one partial sum, sqnorm_part.comp */

/* Elements [begin, begin + n) of a flat f32 view, up to the next 16 bytes. */
static struct at_view elements(struct at_view view, uint64_t begin, uint64_t n)
{
    return at_view_part(view, begin * sizeof(float), at_round_up(n * sizeof(float), 16));
}

/* Elements that one launch may take: whole slots within a binding. */
static uint64_t piece_elements(struct at_stream *s)
{
    const uint64_t limit = at_gpu_get_info(at_stream_gpu(s))->max_range_bytes / sizeof(float);
    const uint64_t most = limit < UINT32_MAX ? limit : UINT32_MAX;

    AT_REQUIRE(most >= SLOT);
    return most / SLOT * SLOT;
}

uint64_t at_grad_norm_scratch_bytes(const struct at_arena_part *parts, size_t n_parts)
{
    uint64_t slots = 0;

    for (size_t i = 0; i < n_parts; i++)
        slots += at_div_up(parts[i].n, SLOT);
    return at_round_up(slots * sizeof(float), 16);
}

void at_grad_norm(struct at_stream *s, struct at_view norm, struct at_view scratch,
                  const struct at_arena_part *parts, size_t n_parts, float max_norm)
{
    const struct at_view slots =
        at_view_part(scratch, 0, at_grad_norm_scratch_bytes(parts, n_parts));
    const struct sqnorm_total_bufs total = { .norm = norm, .slots = slots };
    const uint64_t most = piece_elements(s);
    uint32_t n_slots = 0;

    for (size_t i = 0; i < n_parts; i++)
        for (uint64_t at = 0; at < parts[i].n; at += most) {
            const uint64_t left = parts[i].n - at;
            const uint32_t n = (uint32_t)(left < most ? left : most);
            const struct sqnorm_part_bufs bufs = { .slots = slots,
                                                   .g = elements(parts[i].g, at, n) };
            const struct sqnorm_part_args args = { .n = n, .first_slot = n_slots };

            at_launch_sqnorm_part(s, &bufs, &args, (struct at_work){ n, 1, 1, 0, { 0 } });
            n_slots += (uint32_t)at_div_up(n, SLOT);
        }
    at_launch_sqnorm_total(s, &total,
                           &(struct sqnorm_total_args){ .n = n_slots, .max_norm = max_norm },
                           (struct at_work){ 1, 1, 1, 0, { 0 } });
}

void at_adamw_step(struct at_stream *s, const struct at_arena_part *part, struct at_view norm,
                   const struct at_adamw *params)
{
    const double lr = (double)params->learning_rate * (double)part->rate;
    const double b1 = params->beta1, b2 = params->beta2;
    const uint64_t most = piece_elements(s);
    struct adamw_args args = {
        .decay = (float)(1 - lr * (double)part->weight_decay),
        .beta1 = params->beta1,
        .one_minus_beta1 = (float)(1 - b1),
        .beta2 = params->beta2,
        .one_minus_beta2 = (float)(1 - b2),
        .sqrt_correction2 = (float)sqrt(1 - pow(b2, params->step)),
        .step_size = (float)(lr / (1 - pow(b1, params->step))),
        .epsilon = params->epsilon,
    };

    AT_REQUIRE(params->step > 0 && part->rate > 0);
    for (uint64_t at = 0; at < part->n; at += most) {
        const uint64_t n = part->n - at < most ? part->n - at : most;
        const struct adamw_bufs bufs = { .p = elements(part->p, at, n),
                                         .g = elements(part->g, at, n),
                                         .m = elements(part->m, at, n),
                                         .v = elements(part->v, at, n),
                                         .norm = elements(norm, 0, 8) };

        args.n = (uint32_t)n;
        at_launch_adamw(s, &bufs, &args, (struct at_work){ args.n, 1, 1, 0, { 0 } });
    }
}
