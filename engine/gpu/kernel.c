#include "dims.h"
#include "kernels.h"
#include "spirv_all.h"
#include "vk.h"

#include <string.h>

/* ---- the table, from shaders/kernels.def ---- */

/* clang-format off */
#define VARIANT(kernel, name, file, defines, needs, bindings, units)
#define R(buffer) { #buffer, true, false, false },
#define W(buffer) { #buffer, false, true, false },
#define RW(buffer) { #buffer, true, true, false },
#define KR(buffer) { #buffer, true, false, true },
#define KRW(buffer) { #buffer, true, true, true },
#define KERNEL(name, file, defines, args, bufs, units, cut, flop)                                  \
    static const struct at_kernel_buffer buffers_##name[] = { bufs };                              \
    static const struct at_kernel_dim dims_##name[] = { DIMS_##args { NULL, 0 } };                 \
    static const uint8_t places_##name[] = { PLACES_##args UINT8_MAX };                            \
    _Static_assert(AT_COUNT(dims_##name) <= AT_MAX_DIMS + 1, "dimensions of " #name);
#include "kernels.def"
#undef KERNEL
#undef R
#undef W
#undef RW
#undef KR
#undef KRW

#define CUT(member) &a->member
#define WHOLE NULL
#define LOOPS NULL
#define UNITS(x, y, z) { x, y, z }
#define KERNEL(name, file, defines, args, bufs, units, member, cost)                               \
    static void units_##name(const uint32_t *s, uint32_t u[3])                                     \
    {                                                                                              \
        const uint32_t values[3] = UNITS units;                                                    \
        (void)s;                                                                                   \
        memcpy(u, values, sizeof values);                                                          \
    }                                                                                              \
    static uint32_t *cut_##name(void *values)                                                      \
    {                                                                                              \
        struct args *a = values;                                                                   \
        (void)a;                                                                                   \
        return member;                                                                             \
    }                                                                                              \
    static double flop_##name(const void *values, struct at_work w)                                \
    {                                                                                              \
        const struct args *a = values;                                                             \
        (void)a;                                                                                   \
        (void)w;                                                                                   \
        return cost;                                                                               \
    }
#include "kernels.def"
#undef KERNEL
#undef CUT
#undef WHOLE
#undef LOOPS

#define CUT(member) false
#define WHOLE false
#define LOOPS true
#define KERNEL(name, file, defines, args, bufs, units, cut, flop)                                  \
    { { #name, sizeof(struct args), dims_##name, places_##name, buffers_##name,                    \
        AT_COUNT(buffers_##name), cut_##name, flop_##name, cut },                                  \
      units_##name, spv_##name, sizeof spv_##name },
static const struct kernel_row {
    struct at_kernel_def def;
    void (*units)(const uint32_t *s, uint32_t u[3]);
    const uint32_t *spirv;
    size_t spirv_bytes;
} kernels[] = {
#include "kernels.def"
};
#undef CUT
#undef WHOLE
#undef LOOPS
#undef KERNEL
#undef VARIANT

#define KERNEL(name, file, defines, args, bufs, units, cut, flop)
#define VARIANT(kernel, name, file, defines, needs, bindings, units)                               \
    static bool needs_##kernel##_##name(const struct at_gpu_info *d, const uint32_t *s)            \
    {                                                                                              \
        (void)d;                                                                                   \
        (void)s;                                                                                   \
        return needs;                                                                              \
    }                                                                                              \
    static void units_##kernel##_##name(const uint32_t *s, uint32_t u[3])                          \
    {                                                                                              \
        const uint32_t values[3] = UNITS units;                                                    \
        (void)s;                                                                                   \
        memcpy(u, values, sizeof values);                                                          \
    }
#include "kernels.def"
#undef VARIANT

#define VARIANT(kernel, name, file, defines, needs, bindings, units)                               \
    { AT_KERNEL_##kernel, #name, defines, bindings, needs_##kernel##_##name,                       \
      units_##kernel##_##name, spv_##kernel##_##name, sizeof spv_##kernel##_##name },
static const struct variant_row {
    uint32_t kernel;
    const char *name, *defines, *bindings;
    bool (*needs)(const struct at_gpu_info *d, const uint32_t *s);
    void (*units)(const uint32_t *s, uint32_t u[3]);
    const uint32_t *spirv;
    size_t spirv_bytes;
} variants[] = {
#include "kernels.def"
};
#undef KERNEL
#undef VARIANT
/* clang-format on */

struct at_pipeline {
    struct at_pipeline *next;
    uint32_t n_spec, spec[AT_MAX_SPEC];
    bool pairs;
    VkPipeline handle;
};

/* ---- bindings ---- */

static const struct {
    char letter;
    enum at_binding_kind kind;
    VkFormat format;
} letters[] = {
    { 'B', AT_BIND_STORAGE, VK_FORMAT_UNDEFINED },
    { 'I', AT_BIND_STORAGE_TEXEL, VK_FORMAT_R32G32B32A32_SFLOAT },
    { 'J', AT_BIND_UNIFORM_TEXEL, VK_FORMAT_R32_SINT },
    { 'K', AT_BIND_STORAGE_TEXEL, VK_FORMAT_R32_SINT },
    { 'Q', AT_BIND_UNIFORM_TEXEL, VK_FORMAT_R32G32B32A32_SINT },
    { 'S', AT_BIND_UNIFORM_TEXEL, VK_FORMAT_R32_SFLOAT },
    { 'T', AT_BIND_UNIFORM_TEXEL, VK_FORMAT_R32G32B32A32_SFLOAT },
};

static uint32_t find_buffer(const struct at_kernel_def *kernel, const char *name, size_t n)
{
    for (uint32_t i = 0; i < kernel->n_buffers; i++)
        if (strlen(kernel->buffers[i].name) == n && memcmp(kernel->buffers[i].name, name, n) == 0)
            return i;
    AT_BUG("kernel %s: a variant binds \"%.*s\", which is no buffer", kernel->name, (int)n, name);
}

/* "I a, B c": a letter and a buffer's name each. */
static void parse_bindings(struct at_module *module, const char *text)
{
    while (*text) {
        struct at_binding *b = &module->bindings[module->n_bindings++];
        const size_t n = strcspn(text + 2, ",");
        size_t i = 0;

        AT_REQUIRE(module->n_bindings <= AT_MAX_BINDINGS && text[1] == ' ');
        while (i < AT_COUNT(letters) && letters[i].letter != text[0])
            i++;
        if (i == AT_COUNT(letters))
            AT_BUG("kernel %s: unknown binding letter %c", module->kernel->name, text[0]);
        *b = (struct at_binding){ letters[i].kind, letters[i].format,
                                  find_buffer(module->kernel, text + 2, n) };
        text += 2 + n;
        text += strspn(text, ", ");
    }
}

uint64_t at_texel_bytes(VkFormat format)
{
    return format == VK_FORMAT_R32_SFLOAT || format == VK_FORMAT_R32_SINT ? 4 : 16;
}

uint64_t at_binding_reach(const struct at_gpu *gpu, const struct at_binding *binding)
{
    if (binding->kind == AT_BIND_STORAGE)
        return gpu->info.max_range_bytes;
    return gpu->info.max_texels * at_texel_bytes(binding->format);
}

/* ---- modules ---- */

static AT_CHECKED create_module(struct at_module *module, struct at_gpu *gpu)
{
    static const VkDescriptorType types[] = {
        [AT_BIND_STORAGE] = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
        [AT_BIND_UNIFORM_TEXEL] = VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER,
        [AT_BIND_STORAGE_TEXEL] = VK_DESCRIPTOR_TYPE_STORAGE_TEXEL_BUFFER,
    };
    VkDescriptorSetLayoutBinding bindings[AT_MAX_BINDINGS];
    const VkDescriptorSetLayoutCreateInfo set = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
        .flags = gpu->info.push_descriptors
                     ? VK_DESCRIPTOR_SET_LAYOUT_CREATE_PUSH_DESCRIPTOR_BIT_KHR
                     : 0,
        .bindingCount = module->n_bindings,
        .pBindings = bindings
    };
    const VkPushConstantRange range = { VK_SHADER_STAGE_COMPUTE_BIT, 0,
                                        (uint32_t)module->kernel->args_bytes };
    const VkPipelineLayoutCreateInfo layout = { .sType =
                                                    VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                                .setLayoutCount = 1,
                                                .pSetLayouts = &module->set_layout,
                                                .pushConstantRangeCount = 1,
                                                .pPushConstantRanges = &range };
    const VkShaderModuleCreateInfo shader = { .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
                                              .codeSize = module->spirv_bytes,
                                              .pCode = module->spirv };
    enum at_status st;

    for (uint32_t i = 0; i < module->n_bindings; i++)
        bindings[i] =
            (VkDescriptorSetLayoutBinding){ .binding = i,
                                            .descriptorType = types[module->bindings[i].kind],
                                            .descriptorCount = 1,
                                            .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT };
    TRY(at_vk_check(vkCreateDescriptorSetLayout(gpu->device, &set, NULL, &module->set_layout),
                    "vkCreateDescriptorSetLayout"));
    TRY(at_vk_check(vkCreatePipelineLayout(gpu->device, &layout, NULL, &module->layout),
                    "vkCreatePipelineLayout"));
    TRY(at_vk_check(vkCreateShaderModule(gpu->device, &shader, NULL, &module->shader),
                    "vkCreateShaderModule"));
done:
    return st;
}

/* Kernels, variants, and those that at_kernel_add() makes. */
enum { N_TABLE = AT_COUNT(kernels) + AT_COUNT(variants), N_MODULES = N_TABLE + AT_MAX_ADDED };

/* Every buffer as a storage buffer, in the kernel's order. */
static void bind_storage(struct at_module *m)
{
    m->n_bindings = m->kernel->n_buffers;
    AT_REQUIRE(m->n_bindings <= AT_MAX_BINDINGS);
    for (uint32_t b = 0; b < m->n_bindings; b++)
        m->bindings[b] = (struct at_binding){ .kind = AT_BIND_STORAGE, .buffer = b };
}

/* Whether the SPIR-V has the capability of matrix units: it is among the first instructions. */
static bool uses_matrices(const struct at_module *module)
{
    enum { HEADER = 5, CAPABILITY = 17, MATRIX = 6022 };
    const size_t n = module->spirv_bytes / sizeof *module->spirv;

    for (size_t i = HEADER; i + 1 < n && module->spirv[i] == (2u << 16 | CAPABILITY); i += 2)
        if (module->spirv[i + 1] == MATRIX)
            return true;
    return false;
}

AT_CHECKED at_modules_create(struct at_gpu *gpu)
{
    enum at_status st;

    TRY(at_alloc(&gpu->modules, N_MODULES, sizeof *gpu->modules));
    for (uint32_t i = 0; i < AT_COUNT(kernels); i++) {
        struct at_module *m = &gpu->modules[i];

        *m = (struct at_module){ .kernel = &kernels[i].def,
                                 .variant = "baseline",
                                 .units = kernels[i].units,
                                 .spirv = kernels[i].spirv,
                                 .spirv_bytes = kernels[i].spirv_bytes };
        bind_storage(m);
    }
    for (uint32_t i = 0; i < AT_COUNT(variants); i++) {
        struct at_module *m = &gpu->modules[AT_COUNT(kernels) + i];

        *m = (struct at_module){ .kernel = &kernels[variants[i].kernel].def,
                                 .variant = variants[i].name,
                                 .units = variants[i].units,
                                 .spirv = variants[i].spirv,
                                 .spirv_bytes = variants[i].spirv_bytes,
                                 .pairs = gpu->info.lower_lanes &&
                                          strstr(variants[i].defines, "-DPAIRS") };
        m->matrix = uses_matrices(m);
        parse_bindings(m, variants[i].bindings);
    }
done:
    return st;
}

void at_modules_destroy(struct at_gpu *gpu)
{
    if (!gpu->modules)
        return;
    for (size_t i = 0; i < N_MODULES; i++) {
        struct at_module *m = &gpu->modules[i];

        while (m->pipelines) {
            struct at_pipeline *p = m->pipelines;

            m->pipelines = p->next;
            vkDestroyPipeline(gpu->device, p->handle, NULL);
            at_free(&p);
        }
        vkDestroyShaderModule(gpu->device, m->shader, NULL);
        vkDestroyPipelineLayout(gpu->device, m->layout, NULL);
        vkDestroyDescriptorSetLayout(gpu->device, m->set_layout, NULL);
    }
    at_free(&gpu->modules);
    at_arena_release(&gpu->added);
}

AT_CHECKED at_kernel_add(uint32_t *out, struct at_gpu *gpu, uint32_t like, const char *name,
                         const uint32_t *spirv, size_t spirv_bytes)
{
    enum at_status st = AT_OK;
    struct at_kernel_def *def = NULL;
    uint32_t *copy = NULL;
    char *its_name = NULL;

    AT_REQUIRE(like < AT_COUNT(kernels) && gpu->n_added < AT_MAX_ADDED);
    TRY(at_arena_alloc(&gpu->added, &def, 1, sizeof *def));
    TRY(at_arena_alloc(&gpu->added, &copy, spirv_bytes, 1));
    TRY(at_arena_strdup(&gpu->added, &its_name, name));
    memcpy(copy, spirv, spirv_bytes);
    *def = kernels[like].def;
    def->name = its_name;
    *out = AT_COUNT(kernels) + gpu->n_added;
    gpu->modules[N_TABLE + gpu->n_added] = (struct at_module){ .kernel = def,
                                                               .variant = "baseline",
                                                               .units = kernels[like].units,
                                                               .spirv = copy,
                                                               .spirv_bytes = spirv_bytes };
    bind_storage(&gpu->modules[N_TABLE + gpu->n_added++]);
done:
    return st;
}

/* Whether texel bindings reach as far as storage bindings do (they may be as short as 1 MiB): the
 * choice of a variant must not depend on the size of a buffer. */
static bool reaches(const struct at_gpu *gpu, const struct at_module *module)
{
    for (uint32_t i = 0; i < module->n_bindings; i++)
        if (at_binding_reach(gpu, &module->bindings[i]) < gpu->info.max_range_bytes)
            return false;
    return true;
}

/* shaders.cmake leaves one word of a module that the build's glslang cannot compile. */
static bool is_compiled(const struct at_module *module)
{
    return module->spirv_bytes > sizeof *module->spirv;
}

struct at_module *at_module_select(const struct at_gpu *gpu, uint32_t kernel,
                                   const struct at_work *work)
{
    AT_REQUIRE(kernel < AT_COUNT(kernels) + gpu->n_added);
    if (kernel >= AT_COUNT(kernels))
        return &gpu->modules[N_TABLE + kernel - AT_COUNT(kernels)];
    for (size_t i = 0; i < AT_COUNT(variants) && !gpu->baseline_only; i++) {
        struct at_module *m = &gpu->modules[AT_COUNT(kernels) + i];

        if (variants[i].kernel == kernel && is_compiled(m) &&
            variants[i].needs(&gpu->info, work->spec) && reaches(gpu, m))
            return m;
    }
    return &gpu->modules[kernel];
}

const char *at_kernel_variant(const struct at_gpu *gpu, uint32_t kernel, struct at_work work)
{
    return at_module_select(gpu, kernel, &work)->variant;
}

struct at_digest at_kernels_digest(const struct at_gpu *gpu)
{
    struct at_hash hash;

    at_hash_init(&hash);
    for (size_t i = 0; i < N_TABLE; i++)
        at_hash_put(&hash, gpu->modules[i].spirv, gpu->modules[i].spirv_bytes);
    return at_hash_end(&hash);
}

uint32_t at_gpu_pipelines(const struct at_gpu *gpu)
{
    uint32_t n = 0;

    for (size_t i = 0; i < N_MODULES; i++)
        for (const struct at_pipeline *p = gpu->modules[i].pipelines; p; p = p->next)
            n++;
    return n;
}

uint32_t at_kernel_find(const char *name)
{
    for (uint32_t i = 0; i < AT_COUNT(kernels); i++)
        if (strcmp(kernels[i].def.name, name) == 0)
            return i;
    return UINT32_MAX;
}

/* ---- pipelines ---- */

/* Invocations of a workgroup of shaders that include lib/row_group.glsl. */
static uint32_t row_group(const struct at_gpu_info *info)
{
    return info->type == AT_GPU_CPU ? info->subgroup : 64;
}

static AT_CHECKED create_pipeline(VkPipeline *out, const struct at_gpu *gpu,
                                  const struct at_module *module, const struct at_work *work,
                                  bool pairs)
{
    enum { FIRST = 1, LOWER_LANES = 31 }; /* constants: of `work`, and LOWER of lib/store.glsl */
    _Static_assert(FIRST + AT_MAX_SPEC <= LOWER_LANES, "a constant of `work` has LOWER's number");
    VkSpecializationMapEntry entries[FIRST + AT_MAX_SPEC + 1];
    uint32_t values[FIRST + AT_MAX_SPEC + 1] = { row_group(&gpu->info) };
    const uint32_t last = FIRST + work->n_spec;
    const VkSpecializationInfo spec = { .mapEntryCount = last + 1,
                                        .pMapEntries = entries,
                                        .dataSize = (last + 1) * sizeof values[0],
                                        .pData = values };
    const VkPipelineShaderStageRequiredSubgroupSizeCreateInfoEXT lanes = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO_EXT,
        .requiredSubgroupSize =
            gpu->info.matrix.lanes > 0 ? gpu->info.matrix.lanes : gpu->info.matrix_bf16.lanes
    };
    const VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .flags = gpu->compile_only ? VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR : 0,
        .stage = { .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                   .pNext = module->matrix ? &lanes : NULL,
                   .flags = module->matrix
                                ? VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT_EXT
                                : 0,
                   .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                   .module = module->shader,
                   .pName = "main",
                   .pSpecializationInfo = &spec },
        .layout = module->layout
    };

    memcpy(values + FIRST, work->spec, work->n_spec * sizeof work->spec[0]);
    values[last] = pairs ? 2 : gpu->info.lower_lanes;
    for (uint32_t i = 0; i < spec.mapEntryCount; i++)
        entries[i] = (VkSpecializationMapEntry){ .constantID = i < last ? i : LOWER_LANES,
                                                 .offset = i * (uint32_t)sizeof values[0],
                                                 .size = sizeof values[0] };
    return at_vk_check(vkCreateComputePipelines(gpu->device, VK_NULL_HANDLE, 1, &info, NULL, out),
                       "vkCreateComputePipelines");
}

AT_CHECKED at_module_pipeline(VkPipeline *out, struct at_gpu *gpu, struct at_module *module,
                              const struct at_work *work, bool pairs)
{
    const size_t spec_bytes = work->n_spec * sizeof work->spec[0];
    struct at_pipeline *made = NULL;
    enum at_status st = AT_OK;

    for (struct at_pipeline *p = module->pipelines; p; p = p->next)
        if (p->n_spec == work->n_spec && memcmp(p->spec, work->spec, spec_bytes) == 0 &&
            p->pairs == pairs) {
            *out = p->handle;
            return AT_OK;
        }
    AT_REQUIRE(work->n_spec <= AT_MAX_SPEC);
    if (!module->shader)
        TRY(create_module(module, gpu));
    TRY(at_alloc(&made, 1, sizeof *made));
    made->n_spec = work->n_spec;
    made->pairs = pairs;
    memcpy(made->spec, work->spec, spec_bytes);
    TRY(create_pipeline(&made->handle, gpu, module, work, pairs));
    *out = made->handle;
    made->next = module->pipelines;
    module->pipelines = made;
    made = NULL;
done:
    if (st != AT_OK)
        at_context("kernel %s (%s)", module->kernel->name, module->variant);
    at_free(&made);
    return st;
}
