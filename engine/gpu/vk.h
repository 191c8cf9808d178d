/* What the .c files of this folder share: the Vulkan objects behind struct at_gpu. */
#ifndef AT_VK_H
#define AT_VK_H

#include "gpu.h"
#include <vulkan/vulkan.h>

/* VK_KHR_cooperative_matrix for headers before 1.3.255. */
#ifndef VK_KHR_cooperative_matrix
#define VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME "VK_KHR_cooperative_matrix"
#define VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR \
    ((VkStructureType)1000506000)
#define VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR ((VkStructureType)1000506001)
enum { VK_COMPONENT_TYPE_FLOAT16_KHR, VK_COMPONENT_TYPE_FLOAT32_KHR, VK_SCOPE_SUBGROUP_KHR = 3 };
typedef struct VkPhysicalDeviceCooperativeMatrixFeaturesKHR {
    VkStructureType sType;
    void *pNext;
    VkBool32 cooperativeMatrix, cooperativeMatrixRobustBufferAccess;
} VkPhysicalDeviceCooperativeMatrixFeaturesKHR;
typedef struct VkCooperativeMatrixPropertiesKHR {
    VkStructureType sType;
    void *pNext;
    uint32_t MSize, NSize, KSize;
    int AType, BType, CType, ResultType;
    VkBool32 saturatingAccumulation;
    int scope;
} VkCooperativeMatrixPropertiesKHR;
typedef VkResult(VKAPI_PTR *PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)(
    VkPhysicalDevice, uint32_t *, VkCooperativeMatrixPropertiesKHR *);
#endif

/* VK_KHR_shader_bfloat16 for headers before 1.4.311. */
#ifndef VK_KHR_shader_bfloat16
#define VK_KHR_SHADER_BFLOAT16_EXTENSION_NAME "VK_KHR_shader_bfloat16"
#define VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_BFLOAT16_FEATURES_KHR ((VkStructureType)1000141000)
typedef struct VkPhysicalDeviceShaderBfloat16FeaturesKHR {
    VkStructureType sType;
    void *pNext;
    VkBool32 shaderBFloat16Type, shaderBFloat16DotProduct, shaderBFloat16CooperativeMatrix;
} VkPhysicalDeviceShaderBfloat16FeaturesKHR;
#endif
enum { AT_COMPONENT_TYPE_BFLOAT16 = 1000141000 }; /* VK_COMPONENT_TYPE_BFLOAT16_KHR */

enum { AT_VIEW_ALIGNMENT = 16 };

enum at_binding_kind { AT_BIND_STORAGE, AT_BIND_UNIFORM_TEXEL, AT_BIND_STORAGE_TEXEL };

struct at_binding {
    enum at_binding_kind kind;
    VkFormat format; /* of texel buffers */
    uint32_t buffer; /* index into the kernel's buffers */
};

/* A row of kernels.def (kernel.c makes the tables). */
struct at_kernel_buffer {
    const char *name;
    bool read, write, keep;
};
/* A dimension of the problem among the push constants: its name and which word it is. */
struct at_kernel_dim {
    const char *name;
    uint32_t word;
};
enum { AT_MAX_DIMS = 6 };
struct at_kernel_def {
    const char *name;
    size_t args_bytes;
    const struct at_kernel_dim *dims; /* ends with a NULL name */
    const uint8_t *places; /* words of the arguments that say where rows, columns and blocks lie;
                            * ends with UINT8_MAX */
    const struct at_kernel_buffer *buffers;
    uint32_t n_buffers;
    uint32_t *(*cut)(void *args); /* member that holds the size along x; NULL: not cut */
    double (*flop)(const void *args, struct at_work work);
    bool loops; /* not cut, and right with any number of workgroups along x */
};

/* A module: a KERNEL line, one of its VARIANT lines or an added kernel, with what was made of it so
 * far. */
struct at_module {
    const struct at_kernel_def *kernel;
    const char *variant;
    void (*units)(const uint32_t *s, uint32_t units[3]);
    const uint32_t *spirv;
    size_t spirv_bytes;
    bool matrix; /* wants subgroups of the lanes of info.matrix */
    bool pairs;  /* stores by pairs of lanes where it may (shaders/lib/store.glsl) */
    struct at_binding bindings[AT_MAX_BINDINGS];
    uint32_t n_bindings;
    VkShaderModule shader;
    VkDescriptorSetLayout set_layout;
    VkPipelineLayout layout;
    struct at_pipeline *pipelines;
};

/* What the validation layer said. */
struct at_messages {
    size_t n;
    char first[2048];
};

struct at_gpu {
    struct at_gpu_info info;
    bool baseline_only, profile, has_budget;
    bool looks_for_hazards;        /* ATTUNE_VALIDATE=sync: views end where what they read does */
    bool has_matrix, hides_matrix; /* the extensions; a validation layer that is older than them */
    bool has_bf16, hides_bf16;     /* the same of matrices of bf16 */
    bool compile_only;             /* no memory, no streams: at_kernel_statistics() only */
    uint64_t memory_limit_bytes, pool_bytes; /* of pools: the limit, and what they have */
    double submission_flop;
    uint64_t texels_behind_bytes;
    VkInstance instance;
    VkDebugUtilsMessengerEXT messenger;
    struct at_messages *messages;
    VkPhysicalDevice physical;
    VkPhysicalDeviceLimits limits;
    VkDevice device;
    VkQueue queue;
    uint32_t family, timestamp_bits;
    PFN_vkCmdPushDescriptorSetKHR push_descriptors; /* NULL: the descriptor ring is used */
    uint32_t memory_type, staging_type;
    struct at_buffer *nothing; /* bound where a view has no buffer */
    struct at_module *modules; /* the kernels, the variants, then the added ones */
    struct at_arena added;     /* what those are made of */
    uint32_t n_added;
    struct at_stream *transfer; /* of at_gpu_write(), at_gpu_read() and zero fills */
};

/* ---- device.c ---- */

/* AT_OK, or a status with a sentence that names `what`. */
AT_CHECKED at_vk_check(VkResult result, const char *what);

/* ---- matrix.c ---- */

/* Fills info.matrix and info.matrix_bf16. */
AT_CHECKED at_matrix_find_shapes(struct at_gpu *gpu);
/* Takes matrices of halves of this shape for those that the device has, if it has any. */
void at_matrix_take_shape(struct at_gpu *gpu, struct at_matrix_shape shape);

/* ---- memory.c ---- */

struct at_texel_view {
    VkBufferView handle;
    uint64_t offset, bytes;
    VkFormat format;
};
struct at_buffer {
    struct at_gpu *gpu;
    VkBuffer handle;
    VkDeviceMemory memory;
    uint64_t bytes;
    void *mapped; /* of staging buffers; of CPU devices all are */
    struct at_texel_view *views;
    size_t n_views, view_capacity;
};
/* Staging buffers lie in host memory and come mapped. */
AT_CHECKED at_buffer_create(struct at_buffer **out, struct at_gpu *gpu, uint64_t bytes,
                            bool staging);
void at_buffer_destroy(struct at_buffer **buffer);
/* The texel view of a range, made once and kept with the buffer. */
AT_CHECKED at_buffer_texels(VkBufferView *out, struct at_view view, VkFormat format);
/* Bytes that may still be allocated now. */
uint64_t at_gpu_memory_left(const struct at_gpu *gpu);
AT_CHECKED at_gpu_choose_memory(struct at_gpu *gpu);

/* ---- llvmpipe.c ---- */

/* Before an instance is made. llvmpipe takes vectors of at most 256 bits by itself; with those of
 * AVX-512 a matrix product is about 1.3 times as fast. The user's own choice stands. Mesa's shader
 * cache does not know the width that it compiled for, so each width gets a folder of its own. */
void at_llvmpipe_choose_width(void);
/* AT_DEVICE for vectors of 512 bits where they crash: Mesa 26.1.6 (LLVM 21) writes past its stack
 * when it compiles for them, 22.3.6 (LLVM 15) does not. */
AT_CHECKED at_llvmpipe_check_width(const struct at_gpu_info *info);
/* at_gpu_info.few_rows: where kernels.def has the variants for its lanes and 64-bit integers. Not
 * of SwiftShader, which rounds sums in two kernels unlike. */
bool at_llvmpipe_has_few_rows(const struct at_gpu_info *info);
/* at_gpu_info.lower_lanes: with 16 lanes, where `stores` or the processor says so. */
bool at_llvmpipe_has_lower_lanes(const struct at_gpu_info *info, enum at_stores stores);

/* llvmpipe makes code of a kernel for each state of its texel views that it holds to be static. Of
 * uniform ones it takes bits 8 to 15 of the bytes for a level of an image, and asks whether they
 * are 0; of all, whether the buffer's bytes are a power of two. So that there each kernel is
 * compiled once, those bits are not 0: at_llvmpipe_range(), at most 256 more than `bytes`;
 * elsewhere `bytes`. */
uint64_t at_llvmpipe_range(const struct at_gpu_info *info, uint64_t bytes);
/* What a buffer of `bytes` has behind them for such views, elsewhere nothing; the most for 0. */
uint64_t at_llvmpipe_room(const struct at_gpu_info *info, uint64_t bytes);

/* ---- kernel.c ---- */

AT_CHECKED at_modules_create(struct at_gpu *gpu);
void at_modules_destroy(struct at_gpu *gpu);
uint64_t at_texel_bytes(VkFormat format);
/* Bytes that a binding can cover. */
uint64_t at_binding_reach(const struct at_gpu *gpu, const struct at_binding *binding);
/* The module that a launch uses; depends on device and specialisation constants only. */
struct at_module *at_module_select(const struct at_gpu *gpu, uint32_t kernel,
                                   const struct at_work *work);
/* The pipeline for these specialisation constants, made at first use. pairs: all places that the
 * arguments name are multiples of 8, and module->pairs. */
AT_CHECKED at_module_pipeline(VkPipeline *out, struct at_gpu *gpu, struct at_module *module,
                              const struct at_work *work, bool pairs);

/* ---- stream.c, used by launch.c and timer.c ---- */

enum {
    AT_SLOTS = 4,            /* command buffers of a stream */
    AT_SLOT_LAUNCHES = 1024, /* then the stream submits */
    AT_SLOT_DOWNLOADS = 256,
    AT_SLOT_STAGING = AT_STAGE_BYTES,
    AT_PENDING = 256, /* ranges remembered since the last barrier */
    AT_SLOT_QUERIES = 2 + 2 * AT_SLOT_LAUNCHES
};
#define AT_NO_TIMER UINT32_MAX

struct at_download {
    void *data;
    size_t offset, n;
};

/* A command buffer with everything whose lifetime is one submission. */
struct at_slot {
    VkCommandPool pool;
    VkCommandBuffer commands;
    VkDescriptorPool sets;
    VkQueryPool queries; /* begin, end of the slot; with `profile` begin, end of each launch */
    struct at_buffer *staging;
    size_t staged;
    struct at_download downloads[AT_SLOT_DOWNLOADS];
    uint32_t n_downloads, n_launches;
    uint32_t timer[AT_SLOT_LAUNCHES];
    double flop;
    uint64_t value;        /* of the timeline when it is done */
    bool submitted, timed; /* timed: each launch has its timestamps */
};

struct at_range {
    const struct at_buffer *buffer;
    uint64_t begin, end;
    bool write;
};

/* Times by module and dimensions. index: open addressing, 2 * capacity numbers of items, from 1; 0
 * is free.
 */
struct at_timer {
    const struct at_module *module;
    uint32_t dims[AT_MAX_DIMS];
    uint64_t calls;
    double time_s, flop, bytes;
};
struct at_timers {
    struct at_timer *items;
    uint32_t *index, n;
    size_t capacity;
};

struct at_stream {
    struct at_gpu *gpu;
    enum at_status status; /* the first error */
    char text[2048];
    VkSemaphore timeline;
    uint64_t value;
    struct at_slot slots[AT_SLOTS];
    uint32_t current;
    bool open;   /* slots[current] is being recorded */
    bool timed;  /* slots have timestamps around launches */
    bool hollow; /* launches have no workgroups */
    struct at_range pending[AT_PENDING];
    uint32_t n_pending;
    double flop_per_s; /* of completed submissions */
    uint64_t n_launches, n_submissions, n_barriers;
    struct at_timers timers;
    uint64_t stamps[AT_SLOT_QUERIES];
};

/* Makes slots[current] ready for a command of `staging` bytes (or ends it and opens the next);
 * NULL after an error. */
struct at_slot *at_stream_open(struct at_stream *stream, size_t staging);
/* at_stream_wait() without the report. */
void at_stream_finish(struct at_stream *stream);
/* Keeps the first error and its message. */
void at_stream_keep(struct at_stream *stream, enum at_status status);
/* A barrier if one of the ranges conflicts with what is pending; then they are pending. */
void at_stream_order(struct at_stream *stream, const struct at_range *ranges, uint32_t n);
/* Submits when the recorded cost has passed the time budget. */
void at_stream_spend(struct at_stream *stream, double flop);
/* Floating-point operations of one submission. */
double at_stream_budget(const struct at_stream *stream);

/* ---- timer.c ---- */

/* Counts a launch with these push constants and returns its timer for at_timers_collect(). */
AT_CHECKED at_timers_count(uint32_t *out, struct at_timers *timers, const struct at_module *module,
                           const void *args, double flop, double bytes);
/* Reads a completed slot's timestamps: launch times, and the stream's rate. */
void at_timers_collect(struct at_stream *stream, struct at_slot *slot);

#endif
