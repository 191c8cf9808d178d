/* `bench --compare`: what changed between two results of `bench --json`. */
#include "cli.h"

#include "json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FORMAT_VERSION = 1, MAX_CHANGES = 512 };

/* A kernel's time a step in both results, s; 0: it did not run. */
struct change {
    const char *kernel;
    double before_s, after_s;
};

/* Keys that must be alike for times to be those of the same work. */
static const char *const alike[] = { "method", "model", "rows_per_step", "tokens_per_step" };
static const char *const figures[] = { "step_time_s", "tokens_per_s", "rows_per_s",
                                       "useful_gflop_per_s" };
static const char *const spread[] = { "least_step_time_s", "most_step_time_s" };
static const char *const peak = "host_peak_bytes"; /* which results of older builds lack */

static AT_CHECKED load(cJSON **out, const char *path)
{
    enum at_status st;
    uint32_t version = 0, steps = 0;
    const cJSON *kernel = NULL;

    TRY(at_json_load(out, path));
    if (!at_json_find(*out, "format_version") || !at_json_find(*out, "steps"))
        FAIL(AT_DATA, "%s: this is no result of `attune bench CONFIG --json`", path);
    TRY(at_json_need_u32(&version, *out, "format_version", path));
    if (version != FORMAT_VERSION)
        FAIL(AT_DATA, "%s: format_version %u; this version reads %d", path, version,
             FORMAT_VERSION);
    TRY(at_json_need_u32(&steps, *out, "steps", path));
    for (size_t i = 0; i < AT_COUNT(figures); i++)
        if (!cJSON_IsNumber(at_json_find(*out, figures[i])))
            FAIL(AT_DATA, "%s: %s is missing: this is no result of `attune bench CONFIG --json`",
                 path, figures[i]);
    if (steps == 0 || !cJSON_IsArray(at_json_find(*out, "kernels")))
        FAIL(AT_DATA, "%s: this is no result of `attune bench CONFIG --json`", path);
    cJSON_ArrayForEach(
        kernel,
        at_json_find(*out, "kernels")) if (!cJSON_IsString(at_json_find(kernel, "kernel")) ||
                                           !cJSON_IsNumber(at_json_find(kernel, "time_s")))
        FAIL(AT_DATA, "%s: a row of `kernels` has no kernel or no time_s", path);
done:
    return st;
}

/* Adds the times of one result; variants of a kernel together. */
static AT_CHECKED collect(struct change *changes, size_t *n, const cJSON *result, bool after)
{
    const double steps = at_json_find(result, "steps")->valuedouble;
    const cJSON *row = NULL;

    cJSON_ArrayForEach(row, at_json_find(result, "kernels"))
    {
        const char *kernel = at_json_find(row, "kernel")->valuestring;
        const double time_s = at_json_find(row, "time_s")->valuedouble / steps;
        size_t k = 0;

        while (k < *n && strcmp(changes[k].kernel, kernel) != 0)
            k++;
        if (k == MAX_CHANGES)
            return at_fail(AT_DATA, "more than %d kernels: these are no results of `attune bench`",
                           MAX_CHANGES);
        if (k == *n)
            changes[(*n)++] = (struct change){ .kernel = kernel };
        *(after ? &changes[k].after_s : &changes[k].before_s) += time_s;
    }
    return AT_OK;
}

static int biggest_first(const void *a, const void *b)
{
    const struct change *x = a, *y = b;
    const double p = fabs(x->after_s - x->before_s), q = fabs(y->after_s - y->before_s);

    return p != q ? (p < q) - (p > q) : strcmp(x->kernel, y->kernel);
}

/* NULL: alike, or one does not say. */
static const char *unlike(const cJSON *before, const cJSON *after)
{
    for (size_t i = 0; i < AT_COUNT(alike); i++) {
        const cJSON *a = at_json_find(before, alike[i]), *b = at_json_find(after, alike[i]);
        if (a && b && !cJSON_Compare(a, b, true))
            return alike[i];
    }
    return NULL;
}

static bool both_have(const cJSON *before, const cJSON *after, const char *key)
{
    return cJSON_IsNumber(at_json_find(before, key)) && cJSON_IsNumber(at_json_find(after, key));
}

/* A device's name; NULL: the result does not say. */
static const char *device_of(const cJSON *result)
{
    return cJSON_GetStringValue(at_json_find(result, "device"));
}

static bool devices_differ(const cJSON *before, const cJSON *after)
{
    const char *a = device_of(before), *b = device_of(after);

    return a && b && strcmp(a, b) != 0;
}

static double number(const cJSON *result, const char *key)
{
    return at_json_find(result, key)->valuedouble;
}

static void add_pair(cJSON *out, const cJSON *before, const cJSON *after, const char *key)
{
    cJSON *pair = cJSON_AddObjectToObject(out, key);
    const double a = number(before, key), b = number(after, key);

    cJSON_AddNumberToObject(pair, "before", a);
    cJSON_AddNumberToObject(pair, "after", b);
    if (a != 0)
        cJSON_AddNumberToObject(pair, "ratio", b / a);
}

static cJSON *compared(const cJSON *before, const cJSON *after, const struct change *changes,
                       size_t n)
{
    cJSON *out = cJSON_CreateObject(), *list = NULL;

    cJSON_AddNumberToObject(out, "format_version", FORMAT_VERSION);
    if (device_of(before) && device_of(after)) {
        cJSON *pair = cJSON_AddObjectToObject(out, "device");
        cJSON_AddStringToObject(pair, "before", device_of(before));
        cJSON_AddStringToObject(pair, "after", device_of(after));
    }
    for (size_t i = 0; i < AT_COUNT(figures); i++)
        add_pair(out, before, after, figures[i]);
    for (size_t i = 0; i < AT_COUNT(spread); i++)
        if (both_have(before, after, spread[i]))
            add_pair(out, before, after, spread[i]);
    if (both_have(before, after, peak))
        add_pair(out, before, after, peak);
    list = cJSON_AddArrayToObject(out, "kernels");
    for (size_t i = 0; i < n; i++) {
        cJSON *row = cJSON_CreateObject();
        cJSON_AddStringToObject(row, "kernel", changes[i].kernel);
        cJSON_AddNumberToObject(row, "before_s", changes[i].before_s);
        cJSON_AddNumberToObject(row, "after_s", changes[i].after_s);
        cJSON_AddItemToArray(list, row);
    }
    return out;
}

static void print_figure(const char *name, double before, double after)
{
    printf("%-24s %12.4g %12.4g %9.3f\n", name, before, after, after / before);
}

/* What a difference is worth: of the results themselves where they tell it. */
static void print_spread(const cJSON *before, const cJSON *after)
{
    if (both_have(before, after, spread[0]) && both_have(before, after, spread[1]))
        printf("single steps took %.4g to %.4g s before, %.4g to %.4g s after; ",
               number(before, spread[0]), number(before, spread[1]), number(after, spread[0]),
               number(after, spread[1]));
    printf("times vary between runs, most of all on a shared machine: believe a small difference "
           "when a repeat shows it again\n");
}

static void print(const cJSON *before, const cJSON *after, const struct change *changes, size_t n)
{
    if (devices_differ(before, after))
        printf("the devices differ: %s before, %s after\n", device_of(before), device_of(after));
    printf("%-24s %12s %12s %9s\n", "", "before", "after", "ratio");
    for (size_t i = 0; i < AT_COUNT(figures); i++)
        print_figure(figures[i], number(before, figures[i]), number(after, figures[i]));
    if (both_have(before, after, peak))
        print_figure("peak memory, MiB", number(before, peak) / (1 << 20),
                     number(after, peak) / (1 << 20));
    print_spread(before, after);
    printf("%-24s %12s %12s %9s\n", "kernel, ms a step", "before", "after", "change");
    for (size_t i = 0; i < n; i++)
        printf("%-24s %12.3f %12.3f %+9.3f\n", changes[i].kernel, 1e3 * changes[i].before_s,
               1e3 * changes[i].after_s, 1e3 * (changes[i].after_s - changes[i].before_s));
}

AT_CHECKED cli_bench_compare(const struct cli_args *args, const char *before_path)
{
    enum at_status st = AT_OK;
    struct change *changes = NULL;
    cJSON *before = NULL, *after = NULL, *out = NULL;
    const char *key = NULL;
    size_t n = 0;

    if (args->n_positional == 0 || args->n_keys > 0)
        FAIL(AT_USAGE,
             "two saved results are compared and nothing is measured; usage: attune bench "
             "--compare BEFORE.json AFTER.json");
    TRY(at_alloc(&changes, MAX_CHANGES, sizeof *changes));
    TRY(load(&before, before_path));
    TRY(load(&after, args->positional[0]));
    TRY(collect(changes, &n, before, false));
    TRY(collect(changes, &n, after, true));
    qsort(changes, n, sizeof *changes, biggest_first);
    key = unlike(before, after);
    if (key)
        at_warn("unlike", "%s differs between the two: their times are of different work", key);
    if (cli_flag_on(args, "json")) {
        out = compared(before, after, changes, n);
        TRY(cli_print_pretty(out));
    } else {
        print(before, after, changes, n);
    }
done:
    cJSON_Delete(before);
    cJSON_Delete(after);
    cJSON_Delete(out);
    at_free(&changes);
    return st;
}
