#include "vk.h"

#include <stdio.h>
#include <string.h>

#define BUDGET_S 0.1
#define ASSUMED_FLOP_PER_S 50e9

/* ---- errors ---- */

void at_stream_keep(struct at_stream *stream, enum at_status status)
{
    if (status == AT_OK || stream->status != AT_OK)
        return;
    stream->status = status;
    snprintf(stream->text, sizeof stream->text, "%s", at_message());
}

static bool vk_ok(struct at_stream *stream, VkResult result, const char *what)
{
    at_stream_keep(stream, at_vk_check(result, what));
    return stream->status == AT_OK;
}

/* The stream's error with its message, or what the validation layer has said. */
static AT_CHECKED report(struct at_stream *stream)
{
    const struct at_messages *messages = stream->gpu->messages;

    if (messages->n > 0)
        at_stream_keep(stream, at_fail(AT_INTERNAL, "validation: %s", messages->first));
    if (stream->status != AT_OK)
        return at_fail(stream->status, "%s", stream->text);
    return AT_OK;
}

/* ---- slots ---- */

static uint32_t queries_of(const struct at_gpu *gpu)
{
    return gpu->profile ? AT_SLOT_QUERIES : 2;
}

static AT_CHECKED create_sets(struct at_slot *slot, const struct at_gpu *gpu)
{
    const uint32_t n = AT_SLOT_LAUNCHES * AT_MAX_BINDINGS;
    const VkDescriptorPoolSize sizes[] = {
        { VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, n },
        { VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER, n },
        { VK_DESCRIPTOR_TYPE_STORAGE_TEXEL_BUFFER, n },
    };
    const VkDescriptorPoolCreateInfo info = { .sType =
                                                  VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                              .maxSets = AT_SLOT_LAUNCHES,
                                              .poolSizeCount = AT_COUNT(sizes),
                                              .pPoolSizes = sizes };

    return at_vk_check(vkCreateDescriptorPool(gpu->device, &info, NULL, &slot->sets),
                       "vkCreateDescriptorPool");
}

static AT_CHECKED create_slot(struct at_slot *slot, struct at_gpu *gpu)
{
    const VkCommandPoolCreateInfo pool = { .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                           .queueFamilyIndex = gpu->family };
    const VkQueryPoolCreateInfo queries = { .sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
                                            .queryType = VK_QUERY_TYPE_TIMESTAMP,
                                            .queryCount = queries_of(gpu) };
    VkCommandBufferAllocateInfo commands = { .sType =
                                                 VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                             .commandBufferCount = 1 };
    enum at_status st;

    TRY(at_vk_check(vkCreateCommandPool(gpu->device, &pool, NULL, &slot->pool),
                    "vkCreateCommandPool"));
    commands.commandPool = slot->pool;
    TRY(at_vk_check(vkAllocateCommandBuffers(gpu->device, &commands, &slot->commands),
                    "vkAllocateCommandBuffers"));
    if (gpu->info.timestamps)
        TRY(at_vk_check(vkCreateQueryPool(gpu->device, &queries, NULL, &slot->queries),
                        "vkCreateQueryPool"));
    if (!gpu->info.push_descriptors)
        TRY(create_sets(slot, gpu));
    TRY(at_buffer_create(&slot->staging, gpu, AT_SLOT_STAGING, true));
done:
    return st;
}

AT_CHECKED at_stream_create(struct at_stream **out, struct at_gpu *gpu)
{
    const VkSemaphoreTypeCreateInfo type = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
                                             .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE };
    const VkSemaphoreCreateInfo semaphore = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO,
                                              .pNext = &type };
    struct at_stream *stream = NULL;
    enum at_status st;

    *out = NULL;
    TRY(at_alloc(&stream, 1, sizeof *stream));
    stream->gpu = gpu;
    stream->timed = gpu->profile;
    stream->flop_per_s = ASSUMED_FLOP_PER_S;
    TRY(at_vk_check(vkCreateSemaphore(gpu->device, &semaphore, NULL, &stream->timeline),
                    "vkCreateSemaphore"));
    for (uint32_t i = 0; i < AT_SLOTS; i++)
        TRY(create_slot(&stream->slots[i], gpu));
    *out = stream;
    stream = NULL;
done:
    at_stream_destroy(&stream);
    return st;
}

void at_stream_destroy(struct at_stream **stream)
{
    struct at_stream *s = *stream;

    if (!s)
        return;
    vkDeviceWaitIdle(s->gpu->device);
    for (uint32_t i = 0; i < AT_SLOTS; i++) {
        struct at_slot *slot = &s->slots[i];

        vkDestroyCommandPool(s->gpu->device, slot->pool, NULL);
        vkDestroyDescriptorPool(s->gpu->device, slot->sets, NULL);
        vkDestroyQueryPool(s->gpu->device, slot->queries, NULL);
        at_buffer_destroy(&slot->staging);
    }
    vkDestroySemaphore(s->gpu->device, s->timeline, NULL);
    at_free(&s->timers.items);
    at_free(&s->timers.index);
    at_free(stream);
}

struct at_gpu *at_stream_gpu(struct at_stream *stream)
{
    return stream->gpu;
}

/* Waits for a slot's submission; its downloads and times are delivered. */
static void finish_slot(struct at_stream *stream, struct at_slot *slot)
{
    const VkSemaphoreWaitInfo wait = { .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
                                       .semaphoreCount = 1,
                                       .pSemaphores = &stream->timeline,
                                       .pValues = &slot->value };
    const char *staging = slot->staging->mapped;

    if (!slot->submitted)
        return;
    slot->submitted = false;
    if (!vk_ok(stream, vkWaitSemaphores(stream->gpu->device, &wait, UINT64_MAX),
               "waiting for the device"))
        return;
    for (uint32_t i = 0; i < slot->n_downloads; i++)
        memcpy(slot->downloads[i].data, staging + slot->downloads[i].offset, slot->downloads[i].n);
    at_timers_collect(stream, slot);
}

enum { STAGES = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT };

static void barrier(struct at_slot *slot, VkPipelineStageFlags to, VkAccessFlags to_access)
{
    const VkMemoryBarrier memory = { .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                                     .srcAccessMask =
                                         VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
                                     .dstAccessMask = to_access };

    vkCmdPipelineBarrier(slot->commands, STAGES, to, 0, 1, &memory, 0, NULL, 0, NULL);
}

/* Everything before, against everything after. */
static void full_barrier(struct at_slot *slot)
{
    barrier(slot, STAGES,
            VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_READ_BIT |
                VK_ACCESS_TRANSFER_WRITE_BIT);
}

/* A barrier at the beginning orders a submission after all earlier ones, of any stream. */
static bool begin_slot(struct at_stream *stream, struct at_slot *slot)
{
    const VkCommandBufferBeginInfo begin = { .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                             .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT };
    const struct at_gpu *gpu = stream->gpu;

    finish_slot(stream, slot);
    slot->staged = 0;
    slot->n_downloads = slot->n_launches = 0;
    slot->flop = 0;
    slot->timed = stream->timed;
    stream->n_pending = 0;
    if (stream->status != AT_OK ||
        !vk_ok(stream, vkResetCommandPool(gpu->device, slot->pool, 0), "vkResetCommandPool") ||
        !vk_ok(stream, vkBeginCommandBuffer(slot->commands, &begin), "vkBeginCommandBuffer"))
        return false;
    if (slot->sets &&
        !vk_ok(stream, vkResetDescriptorPool(gpu->device, slot->sets, 0), "vkResetDescriptorPool"))
        return false;
    full_barrier(slot);
    if (slot->queries) {
        vkCmdResetQueryPool(slot->commands, slot->queries, 0, queries_of(gpu));
        vkCmdWriteTimestamp(slot->commands, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, slot->queries, 0);
    }
    stream->open = true;
    return true;
}

/* Ends and submits the open slot. */
static void send(struct at_stream *stream)
{
    struct at_slot *slot = &stream->slots[stream->current];
    const VkTimelineSemaphoreSubmitInfo values = {
        .sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
        .signalSemaphoreValueCount = 1,
        .pSignalSemaphoreValues = &slot->value
    };
    const VkSubmitInfo submit = { .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
                                  .pNext = &values,
                                  .commandBufferCount = 1,
                                  .pCommandBuffers = &slot->commands,
                                  .signalSemaphoreCount = 1,
                                  .pSignalSemaphores = &stream->timeline };

    if (!stream->open)
        return;
    stream->open = false;
    if (slot->queries)
        vkCmdWriteTimestamp(slot->commands, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, slot->queries, 1);
    if (slot->n_downloads > 0)
        barrier(slot, VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_HOST_READ_BIT);
    if (!vk_ok(stream, vkEndCommandBuffer(slot->commands), "vkEndCommandBuffer") ||
        stream->status != AT_OK)
        return;
    slot->value = ++stream->value;
    if (!vk_ok(stream, vkQueueSubmit(stream->gpu->queue, 1, &submit, VK_NULL_HANDLE),
               "vkQueueSubmit"))
        return;
    slot->submitted = true;
    stream->n_submissions++;
    stream->current = (stream->current + 1) % AT_SLOTS;
}

struct at_slot *at_stream_open(struct at_stream *stream, size_t staging)
{
    struct at_slot *slot = &stream->slots[stream->current];

    if (stream->status != AT_OK)
        return NULL;
    if (stream->open &&
        (slot->staged + staging > AT_SLOT_STAGING || slot->n_downloads == AT_SLOT_DOWNLOADS ||
         slot->n_launches == AT_SLOT_LAUNCHES))
        send(stream);
    slot = &stream->slots[stream->current];
    if (!stream->open && !begin_slot(stream, slot))
        return NULL;
    return slot;
}

AT_CHECKED at_stream_submit(struct at_stream *stream)
{
    send(stream);
    return report(stream);
}

void at_stream_finish(struct at_stream *stream)
{
    send(stream);
    for (uint32_t i = 0; i < AT_SLOTS; i++) /* oldest first */
        finish_slot(stream, &stream->slots[(stream->current + i) % AT_SLOTS]);
}

AT_CHECKED at_stream_wait(struct at_stream *stream)
{
    at_stream_finish(stream);
    return report(stream);
}

double at_stream_budget(const struct at_stream *stream)
{
    const double asked = stream->gpu->submission_flop;

    return asked > 0 ? asked : BUDGET_S * stream->flop_per_s;
}

void at_stream_spend(struct at_stream *stream, double flop)
{
    struct at_slot *slot = &stream->slots[stream->current];

    slot->flop += flop;
    if (slot->flop >= at_stream_budget(stream))
        send(stream);
}

/* ---- order ---- */

static bool conflicts(const struct at_stream *stream, const struct at_range *range)
{
    for (uint32_t i = 0; i < stream->n_pending; i++) {
        const struct at_range *p = &stream->pending[i];

        if (p->buffer == range->buffer && (p->write || range->write) && p->begin < range->end &&
            range->begin < p->end)
            return true;
    }
    return false;
}

void at_stream_order(struct at_stream *stream, const struct at_range *ranges, uint32_t n)
{
    bool wait = stream->n_pending + n > AT_PENDING;

    for (uint32_t i = 0; i < n && !wait; i++)
        wait = conflicts(stream, &ranges[i]);
    if (wait) {
        full_barrier(&stream->slots[stream->current]);
        stream->n_barriers++;
        stream->n_pending = 0;
    }
    memcpy(stream->pending + stream->n_pending, ranges, n * sizeof *ranges);
    stream->n_pending += n;
}

/* ---- transfers ---- */

static struct at_range range_of(struct at_view view, uint64_t begin, uint64_t n, bool write)
{
    return (struct at_range){ view.buffer, view.offset + begin, view.offset + begin + n, write };
}

static void require_inside(struct at_view view, uint64_t n)
{
    if (n > view.bytes || (n > 0 && !view.buffer))
        AT_BUG("a transfer of %llu bytes in a view of %llu", (unsigned long long)n,
               (unsigned long long)view.bytes);
}

/* Bytes of the next piece of a transfer: what is left of the slot, or a whole slot. */
static size_t piece_of(const struct at_stream *stream, size_t n)
{
    const size_t room = AT_SLOT_STAGING - stream->slots[stream->current].staged;

    if (stream->open && room >= AT_VIEW_ALIGNMENT && room < n)
        return room;
    return n < AT_SLOT_STAGING ? n : AT_SLOT_STAGING;
}

/* Room for n bytes of the view from `begin` on. */
static void *stage(struct at_stream *stream, struct at_view view, size_t begin, size_t n)
{
    struct at_slot *slot = at_stream_open(stream, n);
    const struct at_range range = range_of(view, begin, n, true);
    char *out;
    VkBufferCopy copy;

    if (!slot)
        return NULL;
    copy = (VkBufferCopy){ slot->staged, view.offset + begin, n };
    out = (char *)slot->staging->mapped + slot->staged;
    slot->staged += at_round_up(n, AT_VIEW_ALIGNMENT);
    at_stream_order(stream, &range, 1);
    vkCmdCopyBuffer(slot->commands, slot->staging->handle, view.buffer->handle, 1, &copy);
    return out;
}

bool at_stream_stage(struct at_stream *stream, uint8_t **to, const struct at_view *views,
                     uint32_t n)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < n; i++)
        bytes += at_round_up(views[i].bytes, AT_VIEW_ALIGNMENT);
    AT_REQUIRE(bytes > 0 && bytes <= AT_SLOT_STAGING);
    if (!at_stream_open(stream, bytes)) /* from here on the slot has room for them all */
        return false;
    for (uint32_t i = 0; i < n; i++)
        to[i] = stage(stream, views[i], 0, views[i].bytes);
    return true;
}

void at_stream_upload(struct at_stream *stream, struct at_view view, const void *data, size_t n)
{
    require_inside(view, n);
    for (size_t done = 0, piece; done < n; done += piece) {
        void *to;

        piece = piece_of(stream, n - done);
        to = stage(stream, view, done, piece);
        if (!to)
            return;
        memcpy(to, (const char *)data + done, piece);
    }
}

void at_stream_download(struct at_stream *stream, void *data, struct at_view view, size_t n)
{
    require_inside(view, n);
    for (size_t done = 0, piece; done < n; done += piece) {
        struct at_slot *slot;
        struct at_range range;
        VkBufferCopy copy;

        piece = piece_of(stream, n - done);
        slot = at_stream_open(stream, piece);
        if (!slot)
            return;
        copy = (VkBufferCopy){ view.offset + done, slot->staged, piece };
        range = range_of(view, done, piece, false);
        slot->downloads[slot->n_downloads++] =
            (struct at_download){ (char *)data + done, slot->staged, piece };
        slot->staged += at_round_up(piece, AT_VIEW_ALIGNMENT);
        at_stream_order(stream, &range, 1);
        vkCmdCopyBuffer(slot->commands, view.buffer->handle, slot->staging->handle, 1, &copy);
    }
}

void at_stream_fill(struct at_stream *stream, struct at_view view, uint32_t word)
{
    const struct at_range range = range_of(view, 0, view.bytes, true);
    struct at_slot *slot;

    require_inside(view, view.bytes);
    AT_REQUIRE(view.offset % 4 == 0 && view.bytes % 4 == 0);
    slot = view.bytes > 0 ? at_stream_open(stream, 0) : NULL;
    if (!slot)
        return;
    at_stream_order(stream, &range, 1);
    vkCmdFillBuffer(slot->commands, view.buffer->handle, view.offset, view.bytes, word);
}

void at_stream_copy(struct at_stream *stream, struct at_view to, struct at_view from, uint64_t n)
{
    const struct at_range ranges[] = { range_of(to, 0, n, true), range_of(from, 0, n, false) };
    const VkBufferCopy copy = { from.offset, to.offset, n };
    struct at_slot *slot;

    require_inside(to, n);
    require_inside(from, n);
    slot = n > 0 ? at_stream_open(stream, 0) : NULL;
    if (!slot)
        return;
    at_stream_order(stream, ranges, AT_COUNT(ranges));
    vkCmdCopyBuffer(slot->commands, from.buffer->handle, to.buffer->handle, 1, &copy);
}

void at_stream_counts(const struct at_stream *stream, uint64_t *launches, uint64_t *submissions)
{
    *launches = stream->n_launches;
    *submissions = stream->n_submissions;
}

uint64_t at_stream_barriers(const struct at_stream *stream)
{
    return stream->n_barriers;
}
