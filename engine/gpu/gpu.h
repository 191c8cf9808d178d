/* Vulkan compute behind values: device choice, memory pools planned before use, kernels from one
 * table (shaders/kernels.def), a command stream whose barriers follow from that table, timers.
 * No Vulkan type appears here; vulkan.h is included in this folder only.
 *
 * Errors: AT_DEVICE (no driver, lost device), AT_DEVICE_MEMORY (says what was asked and what there
 * is). Recording cannot fail: the stream keeps the first error, submit and wait return it. */
#ifndef AT_GPU_H
#define AT_GPU_H

#include "hash.h"
#include "mem.h"
#include "status.h"

/* ---- devices ---- */

enum at_gpu_type { AT_GPU_DISCRETE, AT_GPU_INTEGRATED, AT_GPU_VIRTUAL, AT_GPU_CPU, AT_GPU_OTHER };

/* Matrices that a subgroup of `lanes` multiplies at once, into f32: (m,k) times (k,n). */
struct at_matrix_shape {
    uint32_t lanes, m, n, k; /* lanes 0: the device has none, or they are not used */
};

struct at_gpu_info {
    uint32_t index;              /* as listed; what --device accepts beside a part of the name */
    char name[256], driver[256]; /* driver: name and version */
    enum at_gpu_type type;
    uint32_t vulkan_major, vulkan_minor;
    uint32_t subgroup;                          /* lanes */
    bool int64;                                 /* 64-bit integers in kernels */
    struct at_matrix_shape matrix, matrix_bf16; /* of halves, of bf16 */
    bool halves;               /* products with weights take halves: engine/ops/halves.h */
    bool bf16;                 /* those are bf16 */
    bool attention_halves;     /* so does attention, by matrix units: attention_matrix_fwd.comp */
    uint32_t vector_registers; /* of a processor that is the device: 16 or 32; else 0 */
    bool lower_lanes;          /* 8 of 16 lanes store for all: shaders/lib/store.glsl */
    bool few_rows; /* the kernels for few rows give the bits of those for many: gemv_cpu.comp */
    uint32_t view_alignment; /* views that are bound begin at its multiples: 16 bytes or more */
    uint32_t max_shared_bytes, max_invocations;
    uint64_t max_range_bytes; /* of one storage buffer binding, after `max_range_bytes` of params */
    uint64_t max_texels;      /* elements of one texel buffer view */
    uint64_t max_alloc_bytes; /* of one slot of a pool */
    uint64_t memory_bytes;    /* budget left to this process: DESIGN.md 3, "Memory budget" */
    uint64_t free_bytes;      /* the same, also where at_gpu_params.memory_bytes is given */
    bool is_limited;          /* memory_bytes is `device_memory_limit` */
    bool push_descriptors, timestamps, host_memory_is_device_memory;
};

/* Which of 16 lanes of a CPU device store; the bits are the same. */
enum at_stores { AT_STORES_MEASURED, AT_STORES_ALL_LANES, AT_STORES_LOWER_LANES };

struct at_gpu_params {
    const char *device; /* number or part of a name; NULL: discrete, integrated, CPU, in order */
    bool baseline_only; /* `--kernels baseline`: no VARIANT line is used */
    bool halves;        /* products with weights take halves, whether there are matrix units or not;
                         * attention does where there are some */
    bool bf16;          /* the same, but products take bf16 */
    bool validate;      /* validation layer; its messages become the stream's error */
    bool profile;       /* timestamps around every launch */
    bool compile_only;  /* tests: pipelines of a device that may have no memory */
    struct at_matrix_shape matrix; /* tests: m, n, k in place of those for halves that a CPU device
                                    * reports, whose compiler takes others, too; m 0: its own */
    bool no_push_descriptors;      /* tests: use the descriptor ring */
    enum at_stores stores;         /* tests: whatever the processor */
    uint32_t vector_registers;     /* tests: the same; 0: the processor's */
    uint64_t max_range_bytes;      /* tests: artificial limit of a binding; 0: the device's */
    uint32_t view_alignment;       /* tests: at least that of at_gpu_info; 0: the device's */
    uint64_t texels_behind_bytes;  /* tests: texel views reach so far behind what is bound */
    uint64_t memory_limit_bytes;   /* `device_memory_limit` of the pools; 0: the device's budget */
    uint64_t memory_bytes;  /* of at_gpu_info: a device that is only planned for; 0: what is left */
    double submission_flop; /* tests: cost of a submission; 0: 100 ms at the measured rate */
};

struct at_gpu;
/* "N MiB are free on DEVICE", or that device_memory_limit is N MiB: for messages about memory. */
enum { AT_GPU_ROOM_BYTES = 320 };
void at_gpu_room_text(char out[AT_GPU_ROOM_BYTES], const struct at_gpu_info *info);
/* All devices in the order in which they are preferred; `arena` owns the array. */
AT_CHECKED at_gpu_list(struct at_arena *arena, struct at_gpu_info **out, size_t *out_n);
AT_CHECKED at_gpu_open(struct at_gpu **out, const struct at_gpu_params *params);
void at_gpu_close(struct at_gpu **gpu);
const struct at_gpu_info *at_gpu_get_info(const struct at_gpu *gpu);
bool at_matrix_has_units(const struct at_gpu_info *info); /* of either type */
/* Sets `halves` of the device's values, before any pool is planned. */
void at_gpu_use_halves(struct at_gpu *gpu, bool halves);
/* Sets `attention_halves`, which stays false without matrix units of a shape that it can use. */
void at_gpu_use_attention_halves(struct at_gpu *gpu, bool halves);
/* Validation errors so far (0 when the layer is off). */
size_t at_gpu_validation_errors(const struct at_gpu *gpu);

/* ---- memory ---- */

/* A range of device memory; a value, copied freely. `offset` and `bytes` are multiples of 16. */
struct at_view {
    struct at_buffer *buffer; /* NULL: nothing bound */
    uint64_t offset, bytes;
};
/* Bytes [begin, begin + bytes) of a view; out of range is AT_BUG. */
struct at_view at_view_part(struct at_view view, uint64_t begin, uint64_t bytes);
/* Where the host can write what the device reads in place (CPU devices), else NULL. For launches
 * recorded later, and when none that reads or writes these bytes is under way. */
uint8_t *at_view_bytes(struct at_view view);

/* A pool is planned first (reserve), then allocated at once (commit). Each slot lies within one
 * buffer; slots above the device's allocation limit are AT_DEVICE_MEMORY at commit. */
struct at_pool;
AT_CHECKED at_pool_create(struct at_pool **out, struct at_gpu *gpu, const char *name);
/* Plans `bytes` (rounded up to 256) and stores where the view will be written at commit: `slot`
 * must stay where it is until then. `what` is a literal, for messages and `attune plan`. */
void at_pool_reserve(struct at_pool *pool, struct at_view *slot, uint64_t bytes, const char *what);
/* The same for what is written, all of it, before it is read: it is not filled with zeros. */
void at_pool_reserve_unfilled(struct at_pool *pool, struct at_view *slot, uint64_t bytes,
                              const char *what);
uint64_t at_pool_bytes(const struct at_pool *pool); /* planned so far */
enum { AT_POOL_PARTS = 40 };
struct at_pool_part {
    const char *what;
    uint64_t bytes;
};
/* What is planned and not committed yet, summed by `what`, the largest first; returns how many
 * there are. */
size_t at_pool_parts(struct at_pool_part out[AT_POOL_PARTS], const struct at_pool *pool);
struct at_gpu *at_pool_gpu(const struct at_pool *pool);
/* Allocates and fills with zeros, but what was reserved unfilled. */
AT_CHECKED at_pool_commit(struct at_pool *pool);
void at_pool_destroy(struct at_pool **pool);

/* Immediate transfers for loading and tests: staged, complete on return. n <= view.bytes. */
AT_CHECKED at_gpu_write(struct at_gpu *gpu, struct at_view view, const void *data, size_t n);
AT_CHECKED at_gpu_read(struct at_gpu *gpu, void *data, struct at_view view, size_t n);
/* The stream of these, for what loads in many pieces and waits once. */
struct at_stream;
struct at_stream *at_gpu_transfer(struct at_gpu *gpu);

/* ---- streams ---- */

AT_CHECKED at_stream_create(struct at_stream **out, struct at_gpu *gpu);
void at_stream_destroy(struct at_stream **stream); /* waits */
struct at_gpu *at_stream_gpu(struct at_stream *stream);

/* Recorded in order with the launches; `data` is copied before the call returns. */
void at_stream_upload(struct at_stream *stream, struct at_view view, const void *data, size_t n);
/* Uploads of n views, together at most AT_STAGE_BYTES, whose bytes the caller writes to to[i]
 * before the next call for this stream (there are other ones before). False after an error. */
enum { AT_STAGE_BYTES = 4 << 20 };
bool at_stream_stage(struct at_stream *stream, uint8_t **to, const struct at_view *views,
                     uint32_t n);
/* `data` is written when at_stream_wait() returns. */
void at_stream_download(struct at_stream *stream, void *data, struct at_view view, size_t n);
void at_stream_fill(struct at_stream *stream, struct at_view view, uint32_t word);
void at_stream_copy(struct at_stream *stream, struct at_view to, struct at_view from, uint64_t n);

/* Sends what was recorded (the stream also does so by itself when the cost of what it holds passes
 * its time budget) and returns the first error; does not wait for completion. */
AT_CHECKED at_stream_submit(struct at_stream *stream);
/* Submits, waits until all is done, completes downloads. */
AT_CHECKED at_stream_wait(struct at_stream *stream);

/* ---- launches (engine/gpu/kernels.h generates the typed functions) ---- */

enum { AT_MAX_BINDINGS = 16, AT_MAX_SPEC = 10 };

/* Size of a problem along three axes, in elements: the layer divides by the kernel's units. `spec`
 * values become specialisation constants 1, 2, ...; the layer sets 0, the workgroup size of shaders
 * that include lib/row_group.glsl. */
struct at_work {
    uint32_t x, y, z;
    uint32_t n_spec, spec[AT_MAX_SPEC];
};
void at_stream_launch(struct at_stream *stream, uint32_t kernel, const struct at_view *views,
                      const void *args, size_t args_bytes, struct at_work work);

/* ---- timers ---- */

enum { AT_SHAPE_BYTES = 112 };
struct at_kernel_time {
    const char *kernel, *variant;
    char shape[AT_SHAPE_BYTES]; /* "M=512 N=576 K=1536": the dimensions of args.h */
    uint64_t calls;
    double time_s, flop, bytes; /* sums; flop by the table's formula, bytes: of the views bound */
};
/* Waits; whether launches from here on are timed, as all are at first with `profile` (never without
 * it). A launch's two timestamps take time of their own. */
AT_CHECKED at_stream_time(struct at_stream *stream, bool on);
/* Waits; whether launches from here on are hollow: recorded, ordered and submitted as ever, of no
 * workgroup. Then a step takes what the host, the driver and the queue need for it, transfers
 * included; what kernels would write stays as it is. */
AT_CHECKED at_stream_hollow(struct at_stream *stream, bool on);
/* Per kernel and shape since the last call, slowest first; needs `profile`. */
AT_CHECKED at_stream_profile(struct at_stream *stream, struct at_arena *arena,
                             struct at_kernel_time **out, size_t *out_n);
/* Launches (each piece of a cut one counts) and submissions so far. */
void at_stream_counts(const struct at_stream *stream, uint64_t *launches, uint64_t *submissions);
uint64_t at_stream_barriers(const struct at_stream *stream); /* that hazards have asked for */
/* Name of the variant that a kernel uses for these specialisation constants ("baseline" or so). */
const char *at_kernel_variant(const struct at_gpu *gpu, uint32_t kernel, struct at_work work);
/* Of the code of all kernels and variants: another one is another build. */
struct at_digest at_kernels_digest(const struct at_gpu *gpu);
/* Pipelines that launches have asked for so far. */
uint32_t at_gpu_pipelines(const struct at_gpu *gpu);
/* Number of a kernel by its name ("loss_ipo" is a loss's), or UINT32_MAX. */
uint32_t at_kernel_find(const char *name);
enum { AT_MAX_ADDED = 8 };
/* A further kernel with the arguments, buffers and units of kernel `like`, made of SPIR-V that
 * comes at run time (glsl.h) and is copied; at most AT_MAX_ADDED. *out is its number for
 * at_stream_launch(). */
AT_CHECKED at_kernel_add(uint32_t *out, struct at_gpu *gpu, uint32_t like, const char *name,
                         const uint32_t *spirv, size_t spirv_bytes);

/* ---- compiled code ---- */

/* What a driver says of a pipeline, by its own name for it ("VGPRs"). */
struct at_kernel_statistic {
    const char *name;
    double value;
};
/* Compiles the variant that a launch of `work` would use and asks the driver about its code; the
 * array and its names lie in `arena`. Needs `compile_only`; AT_DEVICE when the driver tells
 * nothing.
 */
AT_CHECKED at_kernel_statistics(struct at_arena *arena, struct at_kernel_statistic **out,
                                size_t *out_n, struct at_gpu *gpu, uint32_t kernel,
                                struct at_work work);

#endif
