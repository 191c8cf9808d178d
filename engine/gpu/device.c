#include "os.h"
#include "vk.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NO_DRIVER "install a Vulkan driver (on Debian the package mesa-vulkan-drivers)"

static const char validation_layer[] = "VK_LAYER_KHRONOS_validation";
/* An older validation layer objects to what it does not know of cooperative matrices. */
#define MATRIX_VERSION VK_MAKE_API_VERSION(0, 1, 3, 255)
#define BF16_VERSION VK_MAKE_API_VERSION(0, 1, 4, 311)

AT_CHECKED at_vk_check(VkResult result, const char *what)
{
    switch (result) {
    case VK_SUCCESS:
        return AT_OK;
    case VK_ERROR_DEVICE_LOST:
        return at_fail(AT_DEVICE,
                       "%s: the device was lost (the driver reset it, or a command ran too long)",
                       what);
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
        return at_fail(AT_DEVICE_MEMORY, "%s: the driver has no device memory left", what);
    case VK_ERROR_OUT_OF_HOST_MEMORY:
        return at_fail(AT_MEMORY, "%s: the driver has no host memory left", what);
    default:
        return at_fail(AT_DEVICE, "%s failed with VkResult %d", what, (int)result);
    }
}

/* ---- instance ---- */

static VKAPI_ATTR VkBool32 VKAPI_CALL note_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                                   VkDebugUtilsMessageTypeFlagsEXT type,
                                                   const VkDebugUtilsMessengerCallbackDataEXT *data,
                                                   void *user)
{
    struct at_messages *messages = user;

    (void)severity;
    (void)type;
    if (messages->n++ == 0)
        snprintf(messages->first, sizeof messages->first, "%s", data->pMessage);
    return VK_FALSE;
}

/* The version of Vulkan that an installed layer knows; 0 without it. */
static uint32_t layer_version(const char *name)
{
    static VkLayerProperties layers[64];
    uint32_t n = AT_COUNT(layers);

    if (vkEnumerateInstanceLayerProperties(&n, layers) < 0)
        return 0;
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(layers[i].layerName, name) == 0)
            return layers[i].specVersion;
    return 0;
}

static bool wants_validation(bool asked)
{
    const char *env = at_env("ATTUNE_VALIDATE");

    if (env)
        return strcmp(env, "0") != 0;
#ifdef ATTUNE_DEV
    return asked || layer_version(validation_layer) > 0;
#else
    return asked;
#endif
}

/* Hazards between launches are looked for too: slow, but it finds a wrong R or W in kernels.def. */
static bool wants_sync_checks(void)
{
    const char *env = at_env("ATTUNE_VALIDATE");

    return env && strcmp(env, "sync") == 0;
}

/* Tests take the other numbers by ATTUNE_HALVES. */
static bool wants_halves(bool asked, const char *value)
{
    const char *env = at_env("ATTUNE_HALVES");

    return asked || (env && strcmp(env, value) == 0);
}

static AT_CHECKED create_instance(struct at_gpu *gpu, bool validate)
{
    const char *const layers[] = { validation_layer };
    const char *const extensions[] = { VK_EXT_DEBUG_UTILS_EXTENSION_NAME };
    const VkApplicationInfo app = { .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                                    .pApplicationName = "attune",
                                    .apiVersion = VK_API_VERSION_1_2 };
    const VkDebugUtilsMessengerCreateInfoEXT messenger = {
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
        .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT |
                           VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT,
        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT |
                       VK_DEBUG_UTILS_MESSAGE_TYPE_PERFORMANCE_BIT_EXT,
        .pfnUserCallback = note_message,
        .pUserData = gpu->messages
    };
    const VkValidationFeatureEnableEXT sync[] = {
        VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT
    };
    const VkValidationFeaturesEXT more = { .sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT,
                                           .pNext = &messenger,
                                           .enabledValidationFeatureCount = 1,
                                           .pEnabledValidationFeatures = sync };
    const VkInstanceCreateInfo info = { .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                        .pNext = !validate                ? NULL
                                                 : gpu->looks_for_hazards ? (const void *)&more
                                                                          : &messenger,
                                        .pApplicationInfo = &app,
                                        .enabledLayerCount = validate ? 1 : 0,
                                        .ppEnabledLayerNames = layers,
                                        .enabledExtensionCount = validate ? 1 : 0,
                                        .ppEnabledExtensionNames = extensions };
    PFN_vkCreateDebugUtilsMessengerEXT create;
    enum at_status st = AT_OK;
    VkResult result;

    if (validate && layer_version(validation_layer) == 0)
        FAIL(AT_DEVICE, "the Vulkan validation layer is not installed (on Debian the package "
                        "vulkan-validationlayers)");
    gpu->hides_matrix = validate && layer_version(validation_layer) < MATRIX_VERSION;
    gpu->hides_bf16 = validate && layer_version(validation_layer) < BF16_VERSION;
    at_llvmpipe_choose_width();
    result = vkCreateInstance(&info, NULL, &gpu->instance);
    if (result == VK_ERROR_INCOMPATIBLE_DRIVER)
        FAIL(AT_DEVICE, "no Vulkan driver was found: " NO_DRIVER);
    TRY(at_vk_check(result, "vkCreateInstance"));
    if (!validate)
        goto done;
    create = (PFN_vkCreateDebugUtilsMessengerEXT)vkGetInstanceProcAddr(
        gpu->instance, "vkCreateDebugUtilsMessengerEXT");
    TRY(at_vk_check(create(gpu->instance, &messenger, NULL, &gpu->messenger),
                    "vkCreateDebugUtilsMessengerEXT"));
done:
    return st;
}

static void destroy_instance(struct at_gpu *gpu)
{
    PFN_vkDestroyDebugUtilsMessengerEXT destroy;

    if (gpu->messenger) {
        destroy = (PFN_vkDestroyDebugUtilsMessengerEXT)vkGetInstanceProcAddr(
            gpu->instance, "vkDestroyDebugUtilsMessengerEXT");
        destroy(gpu->instance, gpu->messenger, NULL);
    }
    if (gpu->instance)
        vkDestroyInstance(gpu->instance, NULL);
    gpu->instance = VK_NULL_HANDLE;
}

/* ---- devices ---- */

static enum at_gpu_type type_of(VkPhysicalDeviceType type)
{
    switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:
        return AT_GPU_DISCRETE;
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU:
        return AT_GPU_INTEGRATED;
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:
        return AT_GPU_VIRTUAL;
    case VK_PHYSICAL_DEVICE_TYPE_CPU:
        return AT_GPU_CPU;
    default:
        return AT_GPU_OTHER;
    }
}

static bool has_extension(const VkExtensionProperties *extensions, uint32_t n, const char *name)
{
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(extensions[i].extensionName, name) == 0)
            return true;
    return false;
}

/* Extensions that are used where the device has them. */
static AT_CHECKED find_extensions(struct at_gpu *gpu)
{
    VkExtensionProperties *extensions = NULL;
    enum at_status st;
    uint32_t n = 0;

    TRY(at_vk_check(vkEnumerateDeviceExtensionProperties(gpu->physical, NULL, &n, NULL),
                    "vkEnumerateDeviceExtensionProperties"));
    TRY(at_alloc(&extensions, n, sizeof *extensions));
    TRY(at_vk_check(vkEnumerateDeviceExtensionProperties(gpu->physical, NULL, &n, extensions),
                    "vkEnumerateDeviceExtensionProperties"));
    gpu->has_budget = has_extension(extensions, n, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    gpu->info.push_descriptors =
        has_extension(extensions, n, VK_KHR_PUSH_DESCRIPTOR_EXTENSION_NAME);
    gpu->has_matrix = !gpu->hides_matrix &&
                      has_extension(extensions, n, VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME) &&
                      has_extension(extensions, n, VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME);
    gpu->has_bf16 = gpu->has_matrix && !gpu->hides_bf16 &&
                    has_extension(extensions, n, VK_KHR_SHADER_BFLOAT16_EXTENSION_NAME);
done:
    at_free(&extensions);
    return st;
}

/* A family for compute, one without graphics where there is one: its time limit is longer. */
static bool find_family(struct at_gpu *gpu)
{
    VkQueueFamilyProperties families[16];
    uint32_t n = AT_COUNT(families), found = UINT32_MAX;

    vkGetPhysicalDeviceQueueFamilyProperties(gpu->physical, &n, families);
    for (uint32_t i = 0; i < n; i++)
        if (families[i].queueFlags & VK_QUEUE_COMPUTE_BIT &&
            (found == UINT32_MAX || !(families[i].queueFlags & VK_QUEUE_GRAPHICS_BIT))) {
            found = i;
            gpu->timestamp_bits = families[i].timestampValidBits;
            if (!(families[i].queueFlags & VK_QUEUE_GRAPHICS_BIT))
                break;
        }
    gpu->family = found;
    return found != UINT32_MAX;
}

/* Of bindings of any kind. */
static uint32_t alignment_of(const VkPhysicalDeviceLimits *limits)
{
    const uint64_t storage = limits->minStorageBufferOffsetAlignment;
    const uint64_t texel = limits->minTexelBufferOffsetAlignment;
    const uint64_t larger = storage > texel ? storage : texel;

    return larger > AT_VIEW_ALIGNMENT ? (uint32_t)larger : AT_VIEW_ALIGNMENT;
}

/* What every kernel's first variant needs, Vulkan's own minimum or a little more. */
static bool runs_baseline(const VkPhysicalDeviceLimits *limits)
{
    return limits->maxComputeSharedMemorySize >= 32768 &&
           limits->maxPerStageDescriptorStorageBuffers >= 10 &&
           limits->maxComputeWorkGroupInvocations >= 128;
}

/* Fills gpu->info for gpu->physical; AT_NOT_FOUND when the device cannot be used. */
static AT_CHECKED probe(struct at_gpu *gpu)
{
    VkPhysicalDeviceDriverProperties driver = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES
    };
    VkPhysicalDeviceSubgroupProperties subgroup = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES, .pNext = &driver
    };
    VkPhysicalDeviceMaintenance3Properties sizes = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES, .pNext = &subgroup
    };
    VkPhysicalDeviceProperties2 all = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                        .pNext = &sizes };
    const VkPhysicalDeviceProperties *p = &all.properties;
    struct at_gpu_info *info = &gpu->info;
    VkPhysicalDeviceFeatures features;
    enum at_status st;

    vkGetPhysicalDeviceProperties(gpu->physical, &all.properties);
    if (p->apiVersion < VK_API_VERSION_1_2 || !runs_baseline(&p->limits) || !find_family(gpu))
        return AT_NOT_FOUND;
    vkGetPhysicalDeviceProperties2(gpu->physical, &all);
    vkGetPhysicalDeviceFeatures(gpu->physical, &features);
    TRY(find_extensions(gpu));
    TRY(at_matrix_find_shapes(gpu));
    gpu->limits = p->limits;
    info->type = type_of(p->deviceType);
    snprintf(info->name, sizeof info->name, "%s", p->deviceName);
    snprintf(info->driver, sizeof info->driver, "%.100s %.150s", driver.driverName,
             driver.driverInfo);
    info->vulkan_major = VK_API_VERSION_MAJOR(p->apiVersion);
    info->vulkan_minor = VK_API_VERSION_MINOR(p->apiVersion);
    info->subgroup = subgroup.subgroupSize;
    info->int64 = features.shaderInt64;
    info->max_shared_bytes = p->limits.maxComputeSharedMemorySize;
    info->max_invocations = p->limits.maxComputeWorkGroupInvocations;
    info->max_range_bytes = p->limits.maxStorageBufferRange;
    info->view_alignment = alignment_of(&p->limits);
    if (info->type == AT_GPU_CPU)
        info->vector_registers = at_cpu_vector_bits() == 512 ? 32 : 16;
    info->max_texels = /* of 4 bytes at least */
        p->limits.maxTexelBufferElements - (uint32_t)(at_llvmpipe_room(info, 0) / 4);
    info->max_alloc_bytes = sizes.maxMemoryAllocationSize - at_llvmpipe_room(info, 0);
    info->timestamps = gpu->timestamp_bits > 0 && p->limits.timestampPeriod > 0;
    info->host_memory_is_device_memory =
        info->type == AT_GPU_CPU || info->type == AT_GPU_INTEGRATED;
    if (gpu->compile_only)
        return AT_OK;
    TRY(at_gpu_choose_memory(gpu));
    info->memory_bytes = info->free_bytes = at_gpu_memory_left(gpu);
done:
    return st;
}

static int by_preference(const void *a, const void *b)
{
    const struct at_gpu *x = a, *y = b;

    if (x->info.type != y->info.type)
        return x->info.type < y->info.type ? -1 : 1;
    return (x->info.index > y->info.index) - (x->info.index < y->info.index);
}

/* All usable devices of an instance, probed, in order of preference; free with at_free(). */
static AT_CHECKED probe_all(struct at_gpu **out, size_t *out_n, const struct at_gpu *instance)
{
    VkPhysicalDevice *physical = NULL;
    struct at_gpu *found = NULL;
    enum at_status st;
    uint32_t n = 0;
    size_t n_found = 0;

    TRY(at_vk_check(vkEnumeratePhysicalDevices(instance->instance, &n, NULL),
                    "vkEnumeratePhysicalDevices"));
    TRY(at_alloc(&physical, n, sizeof(VkPhysicalDevice)));
    TRY(at_alloc(&found, n, sizeof *found));
    TRY(at_vk_check(vkEnumeratePhysicalDevices(instance->instance, &n, physical),
                    "vkEnumeratePhysicalDevices"));
    for (uint32_t i = 0; i < n; i++) {
        struct at_gpu *gpu = &found[n_found];

        *gpu = *instance;
        gpu->physical = physical[i];
        gpu->info.index = i;
        st = probe(gpu);
        if (st == AT_OK)
            n_found++;
        else if (st != AT_NOT_FOUND)
            goto done;
    }
    st = AT_OK;
    if (n_found == 0)
        FAIL(AT_DEVICE,
             "no device offers Vulkan 1.2 compute with 32 KiB of shared memory: " NO_DRIVER);
    qsort(found, n_found, sizeof *found, by_preference);
    for (size_t i = 0; i < n_found; i++)
        found[i].info.index = (uint32_t)i;
done:
    at_free(&physical);
    if (st != AT_OK)
        at_free(&found);
    *out = found;
    *out_n = n_found;
    return st;
}

AT_CHECKED at_gpu_list(struct at_arena *arena, struct at_gpu_info **out, size_t *out_n)
{
    struct at_gpu instance = { 0 }, *found = NULL;
    enum at_status st;

    *out_n = 0;
    TRY(create_instance(&instance, false));
    TRY(probe_all(&found, out_n, &instance));
    TRY(at_arena_alloc(arena, out, *out_n, sizeof **out));
    for (size_t i = 0; i < *out_n; i++)
        (*out)[i] = found[i].info;
done:
    at_free(&found);
    destroy_instance(&instance);
    return st;
}

static bool contains(const char *text, const char *part)
{
    const size_t n = strlen(part);

    for (; *text; text++) {
        size_t i = 0;
        while (i < n && tolower((unsigned char)text[i]) == tolower((unsigned char)part[i]))
            i++;
        if (i == n)
            return true;
    }
    return false;
}

/* The device that `name` (a number, a part of a name, or NULL) means. */
static AT_CHECKED choose(const struct at_gpu **out, const struct at_gpu *found, size_t n,
                         const char *name)
{
    struct at_buf list = { 0 };
    enum at_status st = AT_OK;

    *out = NULL;
    for (size_t i = 0; i < n && !*out; i++) {
        char index[24];

        snprintf(index, sizeof index, "%zu", i);
        if (!name || strcmp(name, index) == 0)
            *out = &found[i];
    }
    for (size_t i = 0; i < n && !*out; i++)
        // NOLINTNEXTLINE(clang-analyzer-core.NullDereference): without a name the first was taken
        if (*name && contains(found[i].info.name, name))
            *out = &found[i];
    if (!*out) {
        for (size_t i = 0; i < n; i++)
            at_buf_printf(&list, "%s%zu = %s", i > 0 ? ", " : "", i, found[i].info.name);
        TRY(at_buf_status(&list));
        FAIL(AT_DEVICE, "no device is called \"%s\"; the devices are: %s", name, list.data);
    }
done:
    at_buf_release(&list);
    return st;
}

/* ---- opening ---- */

enum { MOST_EXTENSIONS = 6 };

/* Extensions that are used where the device has them; how many. */
static uint32_t choose_extensions(const struct at_gpu *gpu, const char *out[MOST_EXTENSIONS])
{
    uint32_t n = 0;

    if (gpu->has_budget)
        out[n++] = VK_EXT_MEMORY_BUDGET_EXTENSION_NAME;
    if (gpu->info.push_descriptors)
        out[n++] = VK_KHR_PUSH_DESCRIPTOR_EXTENSION_NAME;
    if (gpu->info.matrix_bf16.lanes > 0)
        out[n++] = VK_KHR_SHADER_BFLOAT16_EXTENSION_NAME;
    if (at_matrix_has_units(&gpu->info)) {
        out[n++] = VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME;
        out[n++] = VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME;
    }
    if (gpu->compile_only)
        out[n++] = VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME;
    return n;
}

/* The features that variants may use, where the device has them. */
static AT_CHECKED create_device(struct at_gpu *gpu)
{
    VkPhysicalDeviceVulkan12Features has12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES
    };
    VkPhysicalDeviceVulkan11Features has11 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES, .pNext = &has12
    };
    VkPhysicalDeviceFeatures2 has = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                      .pNext = &has11 };
    VkPhysicalDeviceVulkan12Features use12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES, .timelineSemaphore = true
    };
    VkPhysicalDeviceVulkan11Features use11 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES, .pNext = &use12
    };
    VkPhysicalDeviceFeatures2 use = { .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                      .pNext = &use11 };
    const float priority = 1;
    const VkDeviceQueueCreateInfo queue = { .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                            .queueFamilyIndex = gpu->family,
                                            .queueCount = 1,
                                            .pQueuePriorities = &priority };
    VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR tell = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR,
        .pipelineExecutableInfo = true
    };
    VkPhysicalDeviceShaderBfloat16FeaturesKHR bf16 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_BFLOAT16_FEATURES_KHR,
        .shaderBFloat16Type = true,
        .shaderBFloat16CooperativeMatrix = true
    };
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR matrix = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR,
        .pNext = gpu->info.matrix_bf16.lanes > 0 ? &bf16 : NULL,
        .cooperativeMatrix = true
    };
    VkPhysicalDeviceSubgroupSizeControlFeaturesEXT sizes = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES_EXT,
        .pNext = &matrix,
        .subgroupSizeControl = true,
        .computeFullSubgroups = true
    };
    const char *extensions[MOST_EXTENSIONS];
    const VkDeviceCreateInfo info = { .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                                      .pNext = &use,
                                      .queueCreateInfoCount = 1,
                                      .pQueueCreateInfos = &queue,
                                      .enabledExtensionCount = choose_extensions(gpu, extensions),
                                      .ppEnabledExtensionNames = extensions };
    enum at_status st;

    vkGetPhysicalDeviceFeatures2(gpu->physical, &has);
    use.features.robustBufferAccess = has.features.robustBufferAccess;
    use.features.shaderInt16 = has.features.shaderInt16;
    use.features.shaderInt64 = has.features.shaderInt64;
    use11.storageBuffer16BitAccess = has11.storageBuffer16BitAccess;
    use12.shaderFloat16 = has12.shaderFloat16;
    use12.shaderInt8 = has12.shaderInt8;
    use12.storageBuffer8BitAccess = has12.storageBuffer8BitAccess;
    use12.vulkanMemoryModel = has12.vulkanMemoryModel;
    if (at_matrix_has_units(&gpu->info))
        use12.pNext = &sizes;
    if (gpu->compile_only) {
        tell.pNext = use12.pNext;
        use12.pNext = &tell;
    }
    TRY(at_vk_check(vkCreateDevice(gpu->physical, &info, NULL, &gpu->device), "vkCreateDevice"));
    vkGetDeviceQueue(gpu->device, gpu->family, 0, &gpu->queue);
    if (gpu->info.push_descriptors)
        gpu->push_descriptors = (PFN_vkCmdPushDescriptorSetKHR)vkGetDeviceProcAddr(
            gpu->device, "vkCmdPushDescriptorSetKHR");
done:
    return st;
}

AT_CHECKED at_gpu_open(struct at_gpu **out, const struct at_gpu_params *params)
{
    struct at_gpu *gpu = NULL, *found = NULL;
    const struct at_gpu *chosen;
    enum at_status st;
    size_t n;

    *out = NULL;
    TRY(at_alloc(&gpu, 1, sizeof *gpu));
    TRY(at_alloc(&gpu->messages, 1, sizeof *gpu->messages));
    gpu->looks_for_hazards = wants_sync_checks();
    /* the layer knows no shapes of matrices but those reported */
    TRY(create_instance(gpu, params->matrix.m == 0 && wants_validation(params->validate)));
    gpu->compile_only = params->compile_only;
    TRY(probe_all(&found, &n, gpu));
    TRY(choose(&chosen, found, n, params->device));
    TRY(at_llvmpipe_check_width(&chosen->info));
    *gpu = *chosen;
    gpu->baseline_only = params->baseline_only;
    gpu->info.bf16 = wants_halves(params->bf16, "bf16");
    gpu->info.halves = gpu->info.bf16 || wants_halves(params->halves, "1");
    gpu->info.few_rows = !params->baseline_only && at_llvmpipe_has_few_rows(&gpu->info);
    if (params->vector_registers > 0)
        gpu->info.vector_registers = params->vector_registers;
    gpu->info.lower_lanes =
        !params->baseline_only && at_llvmpipe_has_lower_lanes(&gpu->info, params->stores);
    gpu->profile = params->profile && gpu->info.timestamps;
    gpu->memory_limit_bytes = params->memory_limit_bytes;
    gpu->submission_flop = params->submission_flop;
    gpu->texels_behind_bytes = params->texels_behind_bytes;
    if (params->view_alignment > gpu->info.view_alignment) {
        gpu->info.view_alignment = params->view_alignment;
        gpu->limits.minStorageBufferOffsetAlignment = params->view_alignment;
        gpu->limits.minTexelBufferOffsetAlignment = params->view_alignment;
    }
    if (params->max_range_bytes > 0 && params->max_range_bytes < gpu->info.max_range_bytes)
        gpu->info.max_range_bytes = params->max_range_bytes;
    if (params->no_push_descriptors)
        gpu->info.push_descriptors = false;
    if (params->baseline_only)
        gpu->info.matrix = gpu->info.matrix_bf16 = (struct at_matrix_shape){ 0 };
    else if (params->matrix.m > 0 && gpu->info.type == AT_GPU_CPU)
        at_matrix_take_shape(gpu, params->matrix);
    at_gpu_use_attention_halves(gpu, gpu->info.halves);
    TRY(create_device(gpu));
    TRY(at_modules_create(gpu));
    if (!gpu->compile_only) {
        gpu->info.free_bytes = at_gpu_memory_left(gpu);
        gpu->info.memory_bytes =
            params->memory_bytes > 0 ? params->memory_bytes : gpu->info.free_bytes;
        gpu->info.is_limited =
            params->memory_limit_bytes > 0 && gpu->info.memory_bytes == params->memory_limit_bytes;
        TRY(at_buffer_create(&gpu->nothing, gpu, 256, false));
        TRY(at_stream_create(&gpu->transfer, gpu));
    }
    *out = gpu;
    gpu = NULL;
done:
    at_free(&found);
    at_gpu_close(&gpu);
    return st;
}

void at_gpu_close(struct at_gpu **gpu)
{
    struct at_gpu *g = *gpu;

    if (!g)
        return;
    if (g->device) {
        at_stream_destroy(&g->transfer);
        at_modules_destroy(g);
        at_buffer_destroy(&g->nothing);
        vkDestroyDevice(g->device, NULL);
    }
    destroy_instance(g);
    at_free(&g->messages);
    at_free(gpu);
}

const struct at_gpu_info *at_gpu_get_info(const struct at_gpu *gpu)
{
    return &gpu->info;
}

size_t at_gpu_validation_errors(const struct at_gpu *gpu)
{
    return gpu->messages->n;
}
