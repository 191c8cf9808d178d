#include "vk.h"

/* Numbers come as any of four types. */
static double value_of(const VkPipelineExecutableStatisticKHR *statistic)
{
    switch (statistic->format) {
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_BOOL32_KHR:
        return statistic->value.b32 ? 1 : 0;
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_INT64_KHR:
        return (double)statistic->value.i64;
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_UINT64_KHR:
        return (double)statistic->value.u64;
    default:
        return statistic->value.f64;
    }
}

/* A compute pipeline is one executable, number 0. */
static AT_CHECKED read_statistics(VkPipelineExecutableStatisticKHR **out, uint32_t *out_n,
                                  const struct at_gpu *gpu, VkPipeline pipeline)
{
    const PFN_vkGetPipelineExecutableStatisticsKHR get =
        (PFN_vkGetPipelineExecutableStatisticsKHR)vkGetDeviceProcAddr(
            gpu->device, "vkGetPipelineExecutableStatisticsKHR");
    const VkPipelineExecutableInfoKHR which = { .sType =
                                                    VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR,
                                                .pipeline = pipeline };
    enum at_status st;

    *out_n = 0;
    TRY(at_vk_check(get(gpu->device, &which, out_n, NULL), "vkGetPipelineExecutableStatisticsKHR"));
    if (*out_n == 0)
        FAIL(AT_DEVICE, "%s: the driver tells nothing about its code", gpu->info.name);
    TRY(at_alloc(out, *out_n, sizeof **out));
    for (uint32_t i = 0; i < *out_n; i++)
        (*out)[i].sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC_KHR;
    TRY(at_vk_check(get(gpu->device, &which, out_n, *out), "vkGetPipelineExecutableStatisticsKHR"));
done:
    return st;
}

AT_CHECKED at_kernel_statistics(struct at_arena *arena, struct at_kernel_statistic **out,
                                size_t *out_n, struct at_gpu *gpu, uint32_t kernel,
                                struct at_work work)
{
    VkPipelineExecutableStatisticKHR *read = NULL;
    VkPipeline pipeline;
    enum at_status st;
    uint32_t n = 0;

    *out_n = 0;
    AT_REQUIRE(gpu->compile_only);
    TRY(at_module_pipeline(&pipeline, gpu, at_module_select(gpu, kernel, &work), &work, false));
    TRY(read_statistics(&read, &n, gpu, pipeline));
    TRY(at_arena_alloc(arena, out, n, sizeof **out));
    for (uint32_t i = 0; i < n; i++) {
        char *name;

        TRY(at_arena_strdup(arena, &name, read[i].name));
        (*out)[i] = (struct at_kernel_statistic){ name, value_of(&read[i]) };
    }
    *out_n = n;
done:
    at_free(&read);
    return st;
}
