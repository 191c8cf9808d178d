/* What Mesa's CPU device needs that others do not. */
#include "os.h"
#include "vk.h"

#include <stdlib.h>
#include <string.h>

void at_llvmpipe_choose_width(void)
{
    static const char variable[] = "LP_NATIVE_VECTOR_WIDTH";
    struct at_arena arena = { 0 };
    const char *width = at_env(variable);
    char *dir, *path;

    if (!width && at_cpu_vector_bits() == 512) {
        width = "512";
        at_env_set(variable, width);
    }
    if (at_env("MESA_SHADER_CACHE_DIR") || at_env("MESA_SHADER_CACHE_DISABLE"))
        return;
    if (at_cache_dir(&arena, &dir) == AT_OK &&
        at_arena_printf(&arena, &path, "%s/mesa-%s", dir, width ? width : "default") == AT_OK)
        at_env_set("MESA_SHADER_CACHE_DIR", path);
    else
        at_env_set("MESA_SHADER_CACHE_DISABLE", "true");
    at_arena_release(&arena);
}

static bool is_llvmpipe(const struct at_gpu_info *info)
{
    return info->type == AT_GPU_CPU && strncmp(info->driver, "llvmpipe", 8) == 0;
}

bool at_llvmpipe_has_few_rows(const struct at_gpu_info *info)
{
    return is_llvmpipe(info) && info->int64 &&
           (info->subgroup == 4 || info->subgroup == 8 || info->subgroup == 16);
}

bool at_llvmpipe_has_lower_lanes(const struct at_gpu_info *info, enum at_stores stores)
{
    if (!is_llvmpipe(info) || info->subgroup != 16)
        return false;
    return stores == AT_STORES_MEASURED ? at_cpu_waits_for_upper_half()
                                        : stores == AT_STORES_LOWER_LANES;
}

enum { UNIT = 256, PERIOD = 65536 }; /* of the bits 8 to 15 */

uint64_t at_llvmpipe_range(const struct at_gpu_info *info, uint64_t bytes)
{
    const uint64_t rest = bytes % PERIOD;

    return is_llvmpipe(info) && rest < UNIT ? bytes - rest + UNIT : bytes;
}

uint64_t at_llvmpipe_room(const struct at_gpu_info *info, uint64_t bytes)
{
    const uint64_t all = bytes + 3 * UNIT;

    if (!is_llvmpipe(info))
        return 0;
    return (all & (all - 1)) == 0 ? 2 * UNIT : 3 * UNIT;
}

AT_CHECKED at_llvmpipe_check_width(const struct at_gpu_info *info)
{
    const char *mesa = strstr(info->driver, "Mesa ");
    const unsigned long version = mesa ? strtoul(mesa + 5, NULL, 10) : 0;

    if (is_llvmpipe(info) && version >= 26 && info->subgroup > 8)
        return at_fail(AT_DEVICE,
                       "%s: %s crashes with vectors of 512 bits: set the environment variable "
                       "LP_NATIVE_VECTOR_WIDTH=256",
                       info->name, info->driver);
    return AT_OK;
}
