#include "vk.h"

#include <string.h>

/* A launch, or the piece of one that a dispatch does. */
struct launch {
    struct at_module *module;
    struct at_view views[AT_MAX_BINDINGS]; /* by the kernel's buffers */
    uint32_t args[32];
    struct at_work work;
    uint32_t timer;
};

/* ---- checks ---- */

static void check_views(const struct at_gpu *gpu, const struct launch *launch)
{
    const struct at_kernel_def *kernel = launch->module->kernel;

    for (uint32_t i = 0; i < launch->module->n_bindings; i++) {
        const struct at_binding *b = &launch->module->bindings[i];
        const struct at_view *v = &launch->views[b->buffer];
        const uint64_t need = b->kind == AT_BIND_STORAGE
                                  ? gpu->limits.minStorageBufferOffsetAlignment
                                  : gpu->limits.minTexelBufferOffsetAlignment;
        const uint64_t unit = b->kind == AT_BIND_STORAGE ? 4 : at_texel_bytes(b->format);

        if (!v->buffer)
            continue;
        if (v->bytes == 0 || v->offset > v->buffer->bytes ||
            v->bytes > v->buffer->bytes - v->offset)
            AT_BUG("kernel %s: buffer %s: bytes [%llu, +%llu) of %llu", kernel->name,
                   kernel->buffers[b->buffer].name, (unsigned long long)v->offset,
                   (unsigned long long)v->bytes, (unsigned long long)v->buffer->bytes);
        if (v->offset % need != 0 || v->bytes % unit != 0)
            AT_BUG("kernel %s: buffer %s: offset %llu or size %llu is no multiple of %llu, %llu",
                   kernel->name, kernel->buffers[b->buffer].name, (unsigned long long)v->offset,
                   (unsigned long long)v->bytes, (unsigned long long)need,
                   (unsigned long long)unit);
    }
}

/* ---- cutting ---- */

static uint64_t gcd(uint64_t a, uint64_t b)
{
    while (b > 0) {
        const uint64_t rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

/* Bytes of a view for one element of x. Its last bytes may be padding to a multiple of 16. */
static uint64_t bytes_per_x(const struct launch *launch, uint32_t buffer)
{
    const struct at_view *v = &launch->views[buffer];
    const uint64_t each = v->bytes / launch->work.x / 4 * 4;

    if (each == 0 || v->bytes - each * launch->work.x >= 16)
        AT_BUG("kernel %s: buffer %s: %llu bytes cannot be cut into %u rows",
               launch->module->kernel->name, launch->module->kernel->buffers[buffer].name,
               (unsigned long long)v->bytes, launch->work.x);
    return each;
}

/* Largest number of elements of x that every binding reaches; work.x when all fit. */
static uint32_t reachable_x(const struct at_gpu *gpu, const struct launch *launch)
{
    const struct at_kernel_def *kernel = launch->module->kernel;
    uint64_t x = launch->work.x;

    for (uint32_t i = 0; i < launch->module->n_bindings; i++) {
        const struct at_binding *b = &launch->module->bindings[i];
        const uint64_t bytes = launch->views[b->buffer].bytes, reach = at_binding_reach(gpu, b);

        if (!launch->views[b->buffer].buffer || bytes <= reach)
            continue;
        if (kernel->buffers[b->buffer].keep || !kernel->cut((void *)launch->args))
            AT_BUG("kernel %s: buffer %s: %llu bytes, a binding reaches %llu", kernel->name,
                   kernel->buffers[b->buffer].name, (unsigned long long)bytes,
                   (unsigned long long)reach);
        if (reach / bytes_per_x(launch, b->buffer) < x)
            x = reach / bytes_per_x(launch, b->buffer);
    }
    return (uint32_t)x;
}

/* Pieces begin at multiples of this: whole workgroups, and aligned offsets in every view. */
static uint64_t step_of_x(const struct at_gpu *gpu, const struct launch *launch,
                          const uint32_t units[3])
{
    const struct at_kernel_def *kernel = launch->module->kernel;
    const uint64_t alignment = gpu->info.view_alignment;
    uint64_t step = units[0];

    for (uint32_t i = 0; i < kernel->n_buffers; i++)
        if (launch->views[i].buffer && !kernel->buffers[i].keep) {
            const uint64_t need = alignment / gcd(alignment, bytes_per_x(launch, i));

            step = step / gcd(step, need) * need;
        }
    return step;
}

/* Elements of x that one dispatch takes. */
static uint32_t piece_of_x(const struct at_stream *stream, const struct launch *launch,
                           const uint32_t units[3], double flop)
{
    const uint32_t reachable = reachable_x(stream->gpu, launch);
    const double budget = at_stream_budget(stream);
    const double groups = (double)stream->gpu->limits.maxComputeWorkGroupCount[0] * units[0];
    double x = reachable;
    uint64_t step;

    if (flop > budget && launch->module->kernel->cut((void *)launch->args) &&
        x > launch->work.x * (budget / flop))
        x = launch->work.x * (budget / flop);
    if (launch->module->kernel->cut((void *)launch->args) && x > groups)
        x = groups;
    if (x >= launch->work.x)
        return launch->work.x;
    step = step_of_x(stream->gpu, launch, units);
    if (step > reachable && reachable < launch->work.x)
        AT_BUG("kernel %s: a binding reaches %u rows, a cut needs %llu",
               launch->module->kernel->name, reachable, (unsigned long long)step);
    x = x < (double)step ? (double)step : x;
    // NOLINTNEXTLINE(clang-analyzer-core.DivideZero): a unit is at least 1
    return x >= launch->work.x ? launch->work.x : (uint32_t)((uint64_t)x / step * step);
}

/* ---- recording ---- */

static void bind(struct at_stream *stream, struct at_slot *slot, const struct launch *launch)
{
    static const VkDescriptorType types[] = {
        [AT_BIND_STORAGE] = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
        [AT_BIND_UNIFORM_TEXEL] = VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER,
        [AT_BIND_STORAGE_TEXEL] = VK_DESCRIPTOR_TYPE_STORAGE_TEXEL_BUFFER,
    };
    const struct at_gpu *gpu = stream->gpu;
    const struct at_module *module = launch->module;
    const VkDescriptorSetAllocateInfo allocate = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
        .descriptorPool = slot->sets,
        .descriptorSetCount = 1,
        .pSetLayouts = &module->set_layout
    };
    VkDescriptorBufferInfo buffers[AT_MAX_BINDINGS];
    VkBufferView texels[AT_MAX_BINDINGS];
    VkWriteDescriptorSet writes[AT_MAX_BINDINGS];
    VkDescriptorSet set = VK_NULL_HANDLE;

    if (slot->sets)
        at_stream_keep(stream, at_vk_check(vkAllocateDescriptorSets(gpu->device, &allocate, &set),
                                           "vkAllocateDescriptorSets"));
    for (uint32_t i = 0; i < module->n_bindings; i++) {
        const struct at_binding *b = &module->bindings[i];
        struct at_view view = launch->views[b->buffer];

        if (!view.buffer)
            view = (struct at_view){ gpu->nothing, 0, gpu->nothing->bytes };
        buffers[i] = (VkDescriptorBufferInfo){ view.buffer->handle, view.offset, view.bytes };
        if (b->kind != AT_BIND_STORAGE)
            at_stream_keep(stream, at_buffer_texels(&texels[i], view, b->format));
        writes[i] = (VkWriteDescriptorSet){ .sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                            .dstSet = set,
                                            .dstBinding = i,
                                            .descriptorCount = 1,
                                            .descriptorType = types[b->kind],
                                            .pBufferInfo = &buffers[i],
                                            .pTexelBufferView = &texels[i] };
    }
    if (stream->status != AT_OK)
        return;
    if (!slot->sets) {
        gpu->push_descriptors(slot->commands, VK_PIPELINE_BIND_POINT_COMPUTE, module->layout, 0,
                              module->n_bindings, writes);
        return;
    }
    vkUpdateDescriptorSets(gpu->device, module->n_bindings, writes, 0, NULL);
    vkCmdBindDescriptorSets(slot->commands, VK_PIPELINE_BIND_POINT_COMPUTE, module->layout, 0, 1,
                            &set, 0, NULL);
}

static void order(struct at_stream *stream, const struct launch *launch)
{
    const struct at_kernel_def *kernel = launch->module->kernel;
    struct at_range ranges[AT_MAX_BINDINGS];
    uint32_t n = 0;

    for (uint32_t i = 0; i < kernel->n_buffers; i++) {
        const struct at_view *v = &launch->views[i];

        if (v->buffer)
            ranges[n++] = (struct at_range){ v->buffer, v->offset, v->offset + v->bytes,
                                             kernel->buffers[i].write };
    }
    at_stream_order(stream, ranges, n);
}

static void dispatch(struct at_stream *stream, VkPipeline pipeline, const struct launch *launch,
                     const uint32_t units[3])
{
    const uint32_t *limits = stream->gpu->limits.maxComputeWorkGroupCount;
    const struct at_kernel_def *kernel = launch->module->kernel;
    uint32_t x = (uint32_t)at_div_up(launch->work.x, units[0]);
    const uint32_t y = (uint32_t)at_div_up(launch->work.y, units[1]);
    const uint32_t z = (uint32_t)at_div_up(launch->work.z, units[2]);
    struct at_slot *slot = at_stream_open(stream, 0);
    const bool timed = launch->timer != AT_NO_TIMER;

    if (!slot)
        return;
    if (kernel->loops && x > limits[0])
        x = limits[0];
    if (x > limits[0] || y > limits[1] || z > limits[2])
        AT_BUG("kernel %s: %u x %u x %u workgroups, the device has %u x %u x %u", kernel->name, x,
               y, z, limits[0], limits[1], limits[2]);
    order(stream, launch);
    bind(stream, slot, launch);
    if (stream->status != AT_OK)
        return;
    vkCmdBindPipeline(slot->commands, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline);
    vkCmdPushConstants(slot->commands, launch->module->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0,
                       (uint32_t)kernel->args_bytes, launch->args);
    if (timed)
        vkCmdWriteTimestamp(slot->commands, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, slot->queries,
                            2 + 2 * slot->n_launches);
    vkCmdDispatch(slot->commands, stream->hollow ? 0 : x, y, z);
    if (timed)
        vkCmdWriteTimestamp(slot->commands, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, slot->queries,
                            3 + 2 * slot->n_launches);
    slot->timer[slot->n_launches++] = launch->timer;
    stream->n_launches++;
    at_stream_spend(stream, kernel->flop(launch->args, launch->work));
}

/* The launch restricted to [begin, begin + n) of x. */
static struct launch piece_at(const struct launch *launch, uint32_t begin, uint32_t n)
{
    const struct at_kernel_def *kernel = launch->module->kernel;
    struct launch piece = *launch;

    for (uint32_t i = 0; i < kernel->n_buffers; i++)
        if (launch->views[i].buffer && !kernel->buffers[i].keep) {
            const uint64_t each = bytes_per_x(launch, i), all = launch->views[i].bytes;
            const bool last = begin + n == launch->work.x;

            piece.views[i].offset += each * begin;
            piece.views[i].bytes = last ? all - each * begin : each * n;
        }
    *kernel->cut(piece.args) = n;
    piece.work.x = n;
    return piece;
}

static bool stores_pairs(const struct launch *launch)
{
    if (!launch->module->pairs)
        return false;
    for (const uint8_t *word = launch->module->kernel->places; *word != UINT8_MAX; word++)
        if (launch->args[*word] % 8 != 0)
            return false;
    return true;
}

static double bytes_of(const struct launch *launch)
{
    double bytes = 0;

    for (uint32_t i = 0; i < launch->module->kernel->n_buffers; i++)
        bytes += launch->views[i].buffer ? (double)launch->views[i].bytes : 0;
    return bytes;
}

void at_stream_launch(struct at_stream *stream, uint32_t kernel, const struct at_view *views,
                      const void *args, size_t args_bytes, struct at_work work)
{
    struct launch launch = { .work = work, .timer = AT_NO_TIMER };
    uint32_t units[3], n;
    VkPipeline pipeline;
    double flop;

    if (stream->status != AT_OK || work.x == 0 || work.y == 0 || work.z == 0)
        return;
    launch.module = at_module_select(stream->gpu, kernel, &work);
    AT_REQUIRE(args_bytes == launch.module->kernel->args_bytes && args_bytes <= sizeof launch.args);
    memcpy(launch.args, args, args_bytes);
    memcpy(launch.views, views, launch.module->kernel->n_buffers * sizeof *views);
    check_views(stream->gpu, &launch);
    launch.module->units(work.spec, units);
    flop = launch.module->kernel->flop(launch.args, work);
    at_stream_keep(stream, at_module_pipeline(&pipeline, stream->gpu, launch.module, &work,
                                              stores_pairs(&launch)));
    if (stream->timed)
        at_stream_keep(stream, at_timers_count(&launch.timer, &stream->timers, launch.module,
                                               launch.args, flop, bytes_of(&launch)));
    if (stream->status != AT_OK)
        return;
    n = piece_of_x(stream, &launch, units, flop);
    if (n == work.x) {
        dispatch(stream, pipeline, &launch, units);
        return;
    }
    for (uint32_t begin = 0; begin < work.x; begin += n) {
        const struct launch piece =
            piece_at(&launch, begin, work.x - begin < n ? work.x - begin : n);

        dispatch(stream, pipeline, &piece, units);
    }
}
