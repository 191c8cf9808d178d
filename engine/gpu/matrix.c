/* Matrix units: which shapes of matrices a device multiplies, and whether they are used. */
#include "vk.h"

/* The features that matrix units need, all of them or none; those of bf16 beside. */
static bool has_features(struct at_gpu *gpu)
{
    VkPhysicalDeviceShaderBfloat16FeaturesKHR bf16 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_BFLOAT16_FEATURES_KHR
    };
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR matrix = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR,
        .pNext = gpu->has_bf16 ? &bf16 : NULL
    };
    VkPhysicalDeviceSubgroupSizeControlFeaturesEXT sizes = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES_EXT,
        .pNext = &matrix
    };
    VkPhysicalDeviceVulkan12Features has12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES, .pNext = &sizes
    };
    VkPhysicalDeviceFeatures2 has = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                      .pNext = &has12 };

    if (!gpu->has_matrix)
        return false;
    vkGetPhysicalDeviceFeatures2(gpu->physical, &has);
    gpu->has_bf16 = bf16.shaderBFloat16Type && bf16.shaderBFloat16CooperativeMatrix;
    return matrix.cooperativeMatrix && sizes.subgroupSizeControl && sizes.computeFullSubgroups &&
           has12.shaderFloat16 && has12.vulkanMemoryModel;
}

/* Sizes of a subgroup that multiplies matrices, `most` 0: it cannot shuffle, which attention needs,
 * or its size cannot be asked for. */
struct lanes {
    uint32_t least, most;
};

static struct lanes matrix_lanes(const struct at_gpu *gpu)
{
    VkPhysicalDeviceSubgroupSizeControlPropertiesEXT sizes = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES_EXT
    };
    VkPhysicalDeviceSubgroupProperties subgroup = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES, .pNext = &sizes
    };
    VkPhysicalDeviceProperties2 all = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                        .pNext = &subgroup };

    vkGetPhysicalDeviceProperties2(gpu->physical, &all);
    if (!(sizes.requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT) ||
        !(subgroup.supportedOperations & VK_SUBGROUP_FEATURE_SHUFFLE_BIT))
        return (struct lanes){ 0, 0 };
    return (struct lanes){ sizes.minSubgroupSize, sizes.maxSubgroupSize };
}

/* The largest shape of `type` with sums in f32 that gemm_matrix.comp's tiles are made of. */
static struct at_matrix_shape largest(const VkCooperativeMatrixPropertiesKHR *shapes, uint32_t n,
                                      int type)
{
    struct at_matrix_shape best = { 0 };

    for (uint32_t i = 0; i < n; i++) {
        const VkCooperativeMatrixPropertiesKHR *s = &shapes[i];
        const bool fits = 64 % s->MSize == 0 && 32 % s->NSize == 0 && 32 % s->KSize == 0 &&
                          s->MSize % 8 == 0 && s->NSize % 8 == 0 && s->KSize % 8 == 0;

        if (fits && (int)s->AType == type && (int)s->BType == type &&
            s->CType == VK_COMPONENT_TYPE_FLOAT32_KHR &&
            s->ResultType == VK_COMPONENT_TYPE_FLOAT32_KHR && s->scope == VK_SCOPE_SUBGROUP_KHR &&
            s->MSize * s->NSize * s->KSize > best.m * best.n * best.k)
            best = (struct at_matrix_shape){ 0, s->MSize, s->NSize, s->KSize };
    }
    return best;
}

/* Gives the shapes found the subgroup's size, one for both types: a lane a column where the device
 * lets us choose. Intel's instruction has 8 lanes for n = 8 and 16 for n = 16, and its threads have
 * the same registers at any size; AMD's least is 32, and 64 gain nothing. */
static void choose_lanes(struct at_gpu_info *info, struct lanes has)
{
    struct at_matrix_shape *const shapes[] = { &info->matrix, &info->matrix_bf16 };
    uint32_t n = info->matrix.n > 0 ? info->matrix.n : info->matrix_bf16.n;

    n = n < has.least ? has.least : n > has.most ? has.most : n;
    for (size_t i = 0; i < AT_COUNT(shapes); i++)
        shapes[i]->lanes = shapes[i]->m > 0 ? n : 0;
}

AT_CHECKED at_matrix_find_shapes(struct at_gpu *gpu)
{
    PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR get =
        (PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)vkGetInstanceProcAddr(
            gpu->instance, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
    VkCooperativeMatrixPropertiesKHR *shapes = NULL;
    enum at_status st = AT_OK;
    struct lanes lanes;
    uint32_t n = 0;

    gpu->info.matrix = gpu->info.matrix_bf16 = (struct at_matrix_shape){ 0 };
    if (!get || !has_features(gpu) || (lanes = matrix_lanes(gpu)).most == 0)
        goto done;
    TRY(at_vk_check(get(gpu->physical, &n, NULL), "cooperative matrix properties"));
    TRY(at_alloc(&shapes, n, sizeof *shapes));
    for (uint32_t i = 0; i < n; i++)
        shapes[i].sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR;
    TRY(at_vk_check(get(gpu->physical, &n, shapes), "cooperative matrix properties"));
    gpu->info.matrix = largest(shapes, n, VK_COMPONENT_TYPE_FLOAT16_KHR);
    if (gpu->has_bf16)
        gpu->info.matrix_bf16 = largest(shapes, n, AT_COMPONENT_TYPE_BFLOAT16);
    choose_lanes(&gpu->info, lanes);
done:
    at_free(&shapes);
    return st;
}

void at_matrix_take_shape(struct at_gpu *gpu, struct at_matrix_shape shape)
{
    if (gpu->info.matrix.lanes == 0)
        return;
    shape.lanes = gpu->info.matrix.lanes;
    gpu->info.matrix = shape;
}

bool at_matrix_has_units(const struct at_gpu_info *info)
{
    return info->matrix.lanes > 0 || info->matrix_bf16.lanes > 0;
}

void at_gpu_use_halves(struct at_gpu *gpu, bool halves)
{
    gpu->info.halves = halves;
}

/* Whether the tiles of lib/attention_matrix.glsl are made of such matrices: 32 rows, 16 columns and
 * a lane for two scores at least. */
static bool fits_attention(struct at_matrix_shape m)
{
    return m.lanes > 0 && 32 % m.m == 0 && 16 % m.n == 0 && 16 % m.k == 0 &&
           2 * 32 / m.m * m.lanes <= 256;
}

void at_gpu_use_attention_halves(struct at_gpu *gpu, bool halves)
{
    gpu->info.attention_halves = halves && fits_attention(gpu->info.matrix);
}
