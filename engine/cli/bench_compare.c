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

/* Keys that must be alike for times to be comparable. */
static const char *const alike[] = { "device", "method", "model", "rows_per_step",
                                     "tokens_per_step" };
static const char *const figures[] = { "step_time_s", "tokens_per_s", "rows_per_s",
                                       "useful_gflop_per_s" };

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

static cJSON *compared(const cJSON *before, const cJSON *after, const struct change *changes,
                       size_t n)
{
    cJSON *out = cJSON_CreateObject(), *list = NULL;

    cJSON_AddNumberToObject(out, "format_version", FORMAT_VERSION);
    for (size_t i = 0; i < AT_COUNT(figures); i++) {
        const double a = at_json_find(before, figures[i])->valuedouble;
        const double b = at_json_find(after, figures[i])->valuedouble;
        cJSON *pair = cJSON_AddObjectToObject(out, figures[i]);
        cJSON_AddNumberToObject(pair, "before", a);
        cJSON_AddNumberToObject(pair, "after", b);
        if (a != 0)
            cJSON_AddNumberToObject(pair, "ratio", b / a);
    }
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

static void print(const cJSON *before, const cJSON *after, const struct change *changes, size_t n)
{
    printf("%-24s %12s %12s %9s\n", "", "before", "after", "ratio");
    for (size_t i = 0; i < AT_COUNT(figures); i++) {
        const double a = at_json_find(before, figures[i])->valuedouble;
        const double b = at_json_find(after, figures[i])->valuedouble;
        printf("%-24s %12.4g %12.4g %9.3f\n", figures[i], a, b, b / a);
    }
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
