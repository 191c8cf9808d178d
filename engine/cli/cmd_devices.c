#include "cli.h"

static const char *type_name(enum at_gpu_type type)
{
    static const char *const names[] = { [AT_GPU_DISCRETE] = "discrete",
                                         [AT_GPU_INTEGRATED] = "integrated",
                                         [AT_GPU_VIRTUAL] = "virtual",
                                         [AT_GPU_CPU] = "cpu",
                                         [AT_GPU_OTHER] = "other" };

    return names[type];
}

/* null: the device or its driver has no matrix units. */
static cJSON *matrix_json(const struct at_matrix_shape *m)
{
    cJSON *out = m->lanes > 0 ? cJSON_CreateObject() : cJSON_CreateNull();

    if (m->lanes > 0) {
        cJSON_AddNumberToObject(out, "m", m->m);
        cJSON_AddNumberToObject(out, "n", m->n);
        cJSON_AddNumberToObject(out, "k", m->k);
        cJSON_AddNumberToObject(out, "lanes", m->lanes);
    }
    return out;
}

static void print_device(const struct at_gpu_info *d)
{
    printf("%u  %s\n   %s, %s, Vulkan %u.%u, %.0f MiB, subgroup %u", d->index, d->name,
           type_name(d->type), d->driver, d->vulkan_major, d->vulkan_minor,
           (double)d->memory_bytes / (1 << 20), d->subgroup);
    if (d->matrix.lanes > 0)
        printf(", matrices %ux%ux%u", d->matrix.m, d->matrix.n, d->matrix.k);
    if (d->matrix_bf16.lanes > 0)
        printf(", of bf16 %ux%ux%u", d->matrix_bf16.m, d->matrix_bf16.n, d->matrix_bf16.k);
    printf("\n");
}

static cJSON *device_json(const struct at_gpu_info *d)
{
    cJSON *out = cJSON_CreateObject();
    char version[32];

    snprintf(version, sizeof version, "%u.%u", d->vulkan_major, d->vulkan_minor);
    cJSON_AddNumberToObject(out, "index", d->index);
    cJSON_AddStringToObject(out, "name", d->name);
    cJSON_AddStringToObject(out, "driver", d->driver);
    cJSON_AddStringToObject(out, "type", type_name(d->type));
    cJSON_AddStringToObject(out, "vulkan", version);
    cJSON_AddNumberToObject(out, "memory_bytes", (double)d->memory_bytes);
    cJSON_AddNumberToObject(out, "max_alloc_bytes", (double)d->max_alloc_bytes);
    cJSON_AddNumberToObject(out, "max_range_bytes", (double)d->max_range_bytes);
    cJSON_AddNumberToObject(out, "max_shared_bytes", d->max_shared_bytes);
    cJSON_AddNumberToObject(out, "subgroup", d->subgroup);
    cJSON_AddItemToObject(out, "matrix", matrix_json(&d->matrix));
    cJSON_AddItemToObject(out, "matrix_bf16", matrix_json(&d->matrix_bf16));
    cJSON_AddBoolToObject(out, "push_descriptors", d->push_descriptors);
    cJSON_AddBoolToObject(out, "timestamps", d->timestamps);
    return out;
}

static AT_CHECKED print_json(const struct at_gpu_info *devices, size_t n)
{
    enum at_status st = AT_OK;
    cJSON *out = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(out, "devices");

    for (size_t i = 0; i < n; i++)
        cJSON_AddItemToArray(list, device_json(&devices[i]));
    TRY(cli_print_pretty(out));
done:
    cJSON_Delete(out);
    return st;
}

enum at_status cli_devices(struct cli_args *args)
{
    enum at_status st = AT_OK;
    struct at_arena arena = { 0 };
    struct at_gpu_info *devices = NULL;
    size_t n = 0;

    TRY(at_gpu_list(&arena, &devices, &n));
    if (cli_flag_on(args, "json")) {
        TRY(print_json(devices, n));
        goto done;
    }
    for (size_t i = 0; i < n; i++)
        print_device(&devices[i]);
    cli_note("the first is taken unless --device names another (number or part of its name)");
done:
    at_arena_release(&arena);
    return st;
}
