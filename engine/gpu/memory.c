#include "os.h"
#include "vk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB (1024.0 * 1024.0)

enum { POOL_ALIGNMENT = 256 };

/* ---- memory types and budget ---- */

static uint32_t find_type(const VkPhysicalDeviceMemoryProperties *memory,
                          VkMemoryPropertyFlags need, VkMemoryPropertyFlags wish)
{
    uint32_t found = UINT32_MAX;

    for (uint32_t i = 0; i < memory->memoryTypeCount; i++) {
        const VkMemoryPropertyFlags flags = memory->memoryTypes[i].propertyFlags;

        if ((flags & need) != need)
            continue;
        if ((flags & wish) == wish)
            return i;
        if (found == UINT32_MAX)
            found = i;
    }
    return found;
}

AT_CHECKED at_gpu_choose_memory(struct at_gpu *gpu)
{
    VkPhysicalDeviceMemoryProperties memory;

    vkGetPhysicalDeviceMemoryProperties(gpu->physical, &memory);
    gpu->memory_type = find_type(&memory, 0, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT);
    gpu->staging_type = find_type(
        &memory, VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
        VK_MEMORY_PROPERTY_HOST_CACHED_BIT);
    if (gpu->memory_type == UINT32_MAX || gpu->staging_type == UINT32_MAX)
        return at_fail(AT_DEVICE, "%s: no usable memory type", gpu->info.name);
    return AT_OK;
}

static uint64_t heap_left(const struct at_gpu *gpu)
{
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT
    };
    VkPhysicalDeviceMemoryProperties2 memory = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
        .pNext = gpu->has_budget ? &budget : NULL
    };
    uint64_t total, used;
    uint32_t heap;

    vkGetPhysicalDeviceMemoryProperties2(gpu->physical, &memory);
    heap = memory.memoryProperties.memoryTypes[gpu->memory_type].heapIndex;
    total =
        gpu->has_budget ? budget.heapBudget[heap] : memory.memoryProperties.memoryHeaps[heap].size;
    used = gpu->has_budget ? budget.heapUsage[heap] : gpu->pool_bytes;
    return total > used ? total - used : 0;
}

uint64_t at_gpu_memory_left(const struct at_gpu *gpu)
{
    uint64_t left = heap_left(gpu);

    if (gpu->info.host_memory_is_device_memory) {
        const uint64_t host = at_memory_available_bytes();

        /* Without a budget a CPU device's heap size is a number that its driver made up. */
        if (host < left || (gpu->info.type == AT_GPU_CPU && !gpu->has_budget))
            left = host;
    }
    left -= left / 10;
    if (gpu->memory_limit_bytes > 0) {
        const uint64_t limit = gpu->memory_limit_bytes > gpu->pool_bytes
                                   ? gpu->memory_limit_bytes - gpu->pool_bytes
                                   : 0;

        left = left < limit ? left : limit;
    }
    return left;
}

void at_gpu_room_text(char out[AT_GPU_ROOM_BYTES], const struct at_gpu_info *info)
{
    const double n = (double)info->memory_bytes / MIB;

    if (info->is_limited)
        snprintf(out, AT_GPU_ROOM_BYTES, "device_memory_limit is %.*f MiB", n < 100 ? 2 : 0, n);
    else
        snprintf(out, AT_GPU_ROOM_BYTES, "%.0f MiB are free on %s", n, info->name);
}

/* ---- buffers ---- */

/* Whether what the device computes on can be written in place. Integrated devices are left out:
 * memory of theirs that the host sees may be slow to one of both. */
static bool is_host_memory(const struct at_gpu *gpu)
{
    const VkMemoryPropertyFlags seen =
        VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    VkPhysicalDeviceMemoryProperties memory;

    vkGetPhysicalDeviceMemoryProperties(gpu->physical, &memory);
    return gpu->info.type == AT_GPU_CPU &&
           (memory.memoryTypes[gpu->memory_type].propertyFlags & seen) == seen;
}

static AT_CHECKED allocate(struct at_buffer *buffer, bool staging)
{
    const uint64_t room = staging ? 0 : at_llvmpipe_room(&buffer->gpu->info, buffer->bytes);
    const VkBufferUsageFlags transfer =
        VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT;
    const VkBufferUsageFlags kernel = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT |
                                      VK_BUFFER_USAGE_UNIFORM_TEXEL_BUFFER_BIT |
                                      VK_BUFFER_USAGE_STORAGE_TEXEL_BUFFER_BIT;
    const VkBufferCreateInfo info = { .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                                      .size = buffer->bytes + room,
                                      .usage = staging ? transfer : transfer | kernel };
    VkDevice device = buffer->gpu->device;
    VkMemoryAllocateInfo allocation = { .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                        .memoryTypeIndex = staging ? buffer->gpu->staging_type
                                                                   : buffer->gpu->memory_type };
    VkMemoryRequirements need;
    enum at_status st;

    TRY(at_vk_check(vkCreateBuffer(device, &info, NULL, &buffer->handle), "vkCreateBuffer"));
    vkGetBufferMemoryRequirements(device, buffer->handle, &need);
    if (!(need.memoryTypeBits & 1u << allocation.memoryTypeIndex))
        FAIL(AT_DEVICE, "%s: buffers cannot lie in memory of type %u", buffer->gpu->info.name,
             allocation.memoryTypeIndex);
    allocation.allocationSize = need.size;
    TRY(at_vk_check(vkAllocateMemory(device, &allocation, NULL, &buffer->memory),
                    "vkAllocateMemory"));
    TRY(at_vk_check(vkBindBufferMemory(device, buffer->handle, buffer->memory, 0),
                    "vkBindBufferMemory"));
    if (staging || is_host_memory(buffer->gpu))
        TRY(at_vk_check(vkMapMemory(device, buffer->memory, 0, VK_WHOLE_SIZE, 0, &buffer->mapped),
                        "vkMapMemory"));
    /* Kernels read rows that lie apart: each would be in a small page of its own. */
    if (!staging && buffer->mapped)
        at_memory_large_pages(buffer->mapped, buffer->bytes);
done:
    return st;
}

AT_CHECKED at_buffer_create(struct at_buffer **out, struct at_gpu *gpu, uint64_t bytes,
                            bool staging)
{
    struct at_buffer *buffer = NULL;
    enum at_status st;

    *out = NULL;
    TRY(at_alloc(&buffer, 1, sizeof *buffer));
    buffer->gpu = gpu;
    buffer->bytes = bytes;
    TRY(allocate(buffer, staging));
    *out = buffer;
    buffer = NULL;
done:
    at_buffer_destroy(&buffer);
    return st;
}

void at_buffer_destroy(struct at_buffer **buffer)
{
    struct at_buffer *b = *buffer;

    if (!b)
        return;
    for (size_t i = 0; i < b->view_capacity; i++)
        if (b->views[i].handle)
            vkDestroyBufferView(b->gpu->device, b->views[i].handle, NULL);
    vkDestroyBuffer(b->gpu->device, b->handle, NULL);
    vkFreeMemory(b->gpu->device, b->memory, NULL);
    at_free(&b->views);
    at_free(buffer);
}

uint8_t *at_view_bytes(struct at_view view)
{
    uint8_t *bytes = view.buffer->mapped;

    return bytes ? bytes + view.offset : NULL;
}

/* ---- texel views: open addressing by offset, size and format ---- */

static struct at_texel_view *find_texels(struct at_texel_view *views, size_t capacity,
                                         const struct at_view *view, VkFormat format)
{
    uint64_t hash = (view->offset / AT_VIEW_ALIGNMENT) * 0x9e3779b97f4a7c15u;

    hash = (hash ^ view->bytes ^ (uint64_t)format << 56) * 0x9e3779b97f4a7c15u;
    for (size_t i = (size_t)(hash >> 32);; i++) {
        struct at_texel_view *v = &views[i & (capacity - 1)];

        if (!v->handle ||
            (v->offset == view->offset && v->bytes == view->bytes && v->format == format))
            return v;
    }
}

static AT_CHECKED grow_texels(struct at_buffer *buffer)
{
    const size_t capacity = buffer->view_capacity ? 2 * buffer->view_capacity : 16;
    struct at_texel_view *views = NULL;
    enum at_status st;

    TRY(at_alloc(&views, capacity, sizeof *views));
    for (size_t i = 0; i < buffer->view_capacity; i++) {
        const struct at_texel_view *v = &buffer->views[i];
        const struct at_view view = { buffer, v->offset, v->bytes };

        if (v->handle)
            *find_texels(views, capacity, &view, v->format) = *v;
    }
    at_free(&buffer->views);
    buffer->views = views;
    buffer->view_capacity = capacity;
done:
    return st;
}

AT_CHECKED at_buffer_texels(VkBufferView *out, struct at_view view, VkFormat format)
{
    const struct at_gpu *gpu = view.buffer->gpu;
    const uint64_t left = view.buffer->bytes - view.offset - view.bytes;
    const uint64_t behind = gpu->texels_behind_bytes;
    const uint64_t bytes = view.bytes + (behind < left ? behind : left);
    const VkBufferViewCreateInfo info = { .sType = VK_STRUCTURE_TYPE_BUFFER_VIEW_CREATE_INFO,
                                          .buffer = view.buffer->handle,
                                          .format = format,
                                          .offset = view.offset,
                                          .range = gpu->looks_for_hazards
                                                       ? view.bytes
                                                       : at_llvmpipe_range(&gpu->info, bytes) };
    struct at_buffer *buffer = view.buffer;
    struct at_texel_view *found;
    enum at_status st = AT_OK;

    if (4 * (buffer->n_views + 1) > 3 * buffer->view_capacity)
        TRY(grow_texels(buffer));
    found = find_texels(buffer->views, buffer->view_capacity, &view, format);
    if (!found->handle) {
        TRY(at_vk_check(vkCreateBufferView(buffer->gpu->device, &info, NULL, &found->handle),
                        "vkCreateBufferView"));
        found->offset = view.offset;
        found->bytes = view.bytes;
        found->format = format;
        buffer->n_views++;
    }
    *out = found->handle;
done:
    return st;
}

struct at_view at_view_part(struct at_view view, uint64_t begin, uint64_t bytes)
{
    if (begin > view.bytes || bytes > view.bytes - begin)
        AT_BUG("bytes [%llu, +%llu) of a view of %llu", (unsigned long long)begin,
               (unsigned long long)bytes, (unsigned long long)view.bytes);
    if (begin % AT_VIEW_ALIGNMENT != 0)
        AT_BUG("a part of a view begins at byte %llu, not a multiple of 16",
               (unsigned long long)begin);
    return (struct at_view){ view.buffer, view.offset + begin, bytes };
}

/* ---- pools ---- */

struct planned {
    struct at_view *slot;
    uint64_t bytes; /* a multiple of POOL_ALIGNMENT */
    const char *what;
    bool unfilled;
};

struct at_pool {
    struct at_gpu *gpu;
    char name[64];
    struct planned *planned;
    size_t n_planned, capacity;
    uint64_t bytes;
    enum at_status status; /* of reservations: AT_MEMORY when the plan itself could not grow */
    struct at_buffer **buffers;
    size_t n_buffers;
};

AT_CHECKED at_pool_create(struct at_pool **out, struct at_gpu *gpu, const char *name)
{
    enum at_status st;

    TRY(at_alloc(out, 1, sizeof **out));
    (*out)->gpu = gpu;
    snprintf((*out)->name, sizeof(*out)->name, "%s", name);
done:
    return st;
}

static void reserve(struct at_pool *pool, struct at_view *slot, uint64_t bytes, const char *what,
                    bool unfilled)
{
    const size_t more = pool->capacity ? 2 * pool->capacity : 64;

    AT_REQUIRE(pool->n_buffers == 0);
    *slot = (struct at_view){ 0 };
    if (pool->status == AT_OK && pool->n_planned == pool->capacity) {
        pool->status = at_realloc(&pool->planned, pool->capacity, more, sizeof *pool->planned);
        if (pool->status == AT_OK)
            pool->capacity = more;
    }
    if (pool->status != AT_OK)
        return;
    bytes = at_round_up(bytes, AT_VIEW_ALIGNMENT);
    slot->bytes = bytes;
    bytes = at_round_up(bytes > 0 ? bytes : 1, POOL_ALIGNMENT);
    pool->planned[pool->n_planned++] = (struct planned){ slot, bytes, what, unfilled };
    pool->bytes += bytes;
}

void at_pool_reserve(struct at_pool *pool, struct at_view *slot, uint64_t bytes, const char *what)
{
    reserve(pool, slot, bytes, what, false);
}

void at_pool_reserve_unfilled(struct at_pool *pool, struct at_view *slot, uint64_t bytes,
                              const char *what)
{
    reserve(pool, slot, bytes, what, true);
}

struct at_gpu *at_pool_gpu(const struct at_pool *pool)
{
    return pool->gpu;
}

uint64_t at_pool_bytes(const struct at_pool *pool)
{
    return pool->bytes;
}

static int by_size(const void *a, const void *b)
{
    const struct at_pool_part *x = a, *y = b;

    return x->bytes != y->bytes ? (x->bytes < y->bytes ? 1 : -1) : strcmp(x->what, y->what);
}

size_t at_pool_parts(struct at_pool_part out[AT_POOL_PARTS], const struct at_pool *pool)
{
    size_t n = 0;

    for (size_t i = 0; i < pool->n_planned; i++) {
        size_t k = 0;
        while (k < n && strcmp(out[k].what, pool->planned[i].what) != 0)
            k++;
        AT_REQUIRE(k < AT_POOL_PARTS);
        if (k == n)
            out[n++] = (struct at_pool_part){ .what = pool->planned[i].what };
        out[k].bytes += pool->planned[i].bytes;
    }
    qsort(out, n, sizeof *out, by_size);
    return n;
}

/* Zeros in the slots [first, end) of a buffer that want them, runs of them at a time. */
static void fill(struct at_pool *pool, size_t first, size_t end)
{
    for (size_t i = first, next; i < end; i = next) {
        const struct planned *p = &pool->planned[i];
        struct at_view zeros = { p->slot->buffer, p->slot->offset, 0 };

        for (next = i; next < end && pool->planned[next].unfilled == p->unfilled; next++)
            zeros.bytes += pool->planned[next].bytes;
        if (!p->unfilled)
            at_stream_fill(pool->gpu->transfer, zeros, 0);
    }
}

/* Slots in order into as few buffers as the device's allocation limit permits. */
static AT_CHECKED place(struct at_pool *pool)
{
    const uint64_t limit = pool->gpu->info.max_alloc_bytes;
    enum at_status st = AT_OK;

    TRY(at_alloc(&pool->buffers, pool->n_planned, sizeof(struct at_buffer *)));
    for (size_t first = 0, end; first < pool->n_planned; first = end) {
        struct at_buffer *buffer;
        uint64_t bytes = 0;

        for (end = first; end < pool->n_planned && bytes + pool->planned[end].bytes <= limit; end++)
            bytes += pool->planned[end].bytes;
        TRY(at_buffer_create(&buffer, pool->gpu, bytes, false));
        pool->buffers[pool->n_buffers++] = buffer;
        pool->gpu->pool_bytes += bytes;
        bytes = 0;
        for (size_t i = first; i < end; i++) {
            pool->planned[i].slot->buffer = buffer;
            pool->planned[i].slot->offset = bytes;
            bytes += pool->planned[i].bytes;
        }
        fill(pool, first, end);
    }
    /* Later work of any stream is ordered after these; what loads meanwhile need not wait. */
    TRY(at_stream_submit(pool->gpu->transfer));
done:
    return st;
}

AT_CHECKED at_pool_commit(struct at_pool *pool)
{
    const struct at_gpu *gpu = pool->gpu;
    enum at_status st = pool->status;
    uint64_t left = 0;

    at_stream_finish(gpu->transfer); /* memory that is not filled yet looks free */
    left = at_gpu_memory_left(gpu);
    if (st != AT_OK)
        FAIL(st, "memory pool %s: no host memory for its plan", pool->name);
    for (size_t i = 0; i < pool->n_planned; i++)
        if (pool->planned[i].bytes > gpu->info.max_alloc_bytes)
            FAIL(AT_DEVICE_MEMORY,
                 "memory pool %s: %s needs %llu bytes (%.1f MiB) in one piece, %s allocates at "
                 "most %llu (%.1f MiB)",
                 pool->name, pool->planned[i].what, (unsigned long long)pool->planned[i].bytes,
                 (double)pool->planned[i].bytes / MIB, gpu->info.name,
                 (unsigned long long)gpu->info.max_alloc_bytes,
                 (double)gpu->info.max_alloc_bytes / MIB);
    if (pool->bytes > left)
        FAIL(AT_DEVICE_MEMORY,
             "memory pool %s needs %llu bytes (%.1f MiB), %s has %llu (%.1f MiB) left%s",
             pool->name, (unsigned long long)pool->bytes, (double)pool->bytes / MIB, gpu->info.name,
             (unsigned long long)left, (double)left / MIB,
             gpu->memory_limit_bytes > 0 ? " under device_memory_limit" : "");
    TRY(place(pool));
done:
    at_free(&pool->planned);
    pool->n_planned = pool->capacity = 0;
    return st;
}

void at_pool_destroy(struct at_pool **pool)
{
    struct at_pool *p = *pool;

    if (!p)
        return;
    at_stream_finish(p->gpu->transfer);
    for (size_t i = 0; i < p->n_buffers; i++) {
        p->gpu->pool_bytes -= p->buffers[i]->bytes;
        at_buffer_destroy(&p->buffers[i]);
    }
    at_free(&p->buffers);
    at_free(&p->planned);
    at_free(pool);
}

/* ---- immediate transfers ---- */

struct at_stream *at_gpu_transfer(struct at_gpu *gpu)
{
    return gpu->transfer;
}

AT_CHECKED at_gpu_write(struct at_gpu *gpu, struct at_view view, const void *data, size_t n)
{
    at_stream_upload(gpu->transfer, view, data, n);
    return at_stream_wait(gpu->transfer);
}

AT_CHECKED at_gpu_read(struct at_gpu *gpu, void *data, struct at_view view, size_t n)
{
    at_stream_download(gpu->transfer, data, view, n);
    return at_stream_wait(gpu->transfer);
}
