/* Kernel times: a line a kernel, under it the shapes that count, beside the device's peaks. */
#include "cli.h"
#include "peaks.h"

#include <string.h>

/* Shapes below this share of all time are left out of the text (the JSON has them all). */
static const double least_share = 0.005;

struct table {
    struct at_kernel_time *rows, *sums; /* by shape; by kernel and variant, both slowest first */
    size_t n, n_sums;
    double total_s;
    struct at_peaks peaks;
};

static bool same_kernel(const struct at_kernel_time *a, const struct at_kernel_time *b)
{
    return strcmp(a->kernel, b->kernel) == 0 && strcmp(a->variant, b->variant) == 0;
}

/* `sums` from `rows`. */
static void sum_up(struct table *t)
{
    for (size_t i = 0; i < t->n; i++) {
        size_t k = 0;

        while (k < t->n_sums && !same_kernel(&t->sums[k], &t->rows[i]))
            k++;
        if (k == t->n_sums)
            t->sums[t->n_sums++] = (struct at_kernel_time){ .kernel = t->rows[i].kernel,
                                                            .variant = t->rows[i].variant };
        t->sums[k].calls += t->rows[i].calls;
        t->sums[k].time_s += t->rows[i].time_s;
        t->sums[k].flop += t->rows[i].flop;
        t->sums[k].bytes += t->rows[i].bytes;
        t->total_s += t->rows[i].time_s;
    }
    for (size_t i = 1; i < t->n_sums; i++)
        for (size_t k = i; k > 0 && t->sums[k].time_s > t->sums[k - 1].time_s; k--) {
            const struct at_kernel_time swap = t->sums[k];
            t->sums[k] = t->sums[k - 1];
            t->sums[k - 1] = swap;
        }
}

/* Seconds from sums over segments to coefficients of rows: what depends on the loss. */
static double loss_time(const struct table *t)
{
    double sum = 0;

    for (size_t i = 0; i < t->n_sums; i++)
        if (strncmp(t->sums[i].kernel, "loss_", 5) == 0 ||
            strcmp(t->sums[i].kernel, "segment_sum") == 0)
            sum += t->sums[i].time_s;
    return sum;
}

static bool is_by_units(const struct at_kernel_time *row)
{
    return strcmp(row->variant, "matrix") == 0;
}

/* What a kernel's operations are compared with: matrix units, where it uses them. */
static double multiply_peak(const struct table *t, const struct at_kernel_time *row)
{
    return is_by_units(row) && t->peaks.matrix_flop_per_s > 0 ? t->peaks.matrix_flop_per_s
                                                              : t->peaks.flop_per_s;
}

/* ---- as text ---- */

static void print_row(FILE *file, const struct table *t, const struct at_kernel_time *row,
                      const char *name, const char *variant)
{
    const double flop = row->flop / row->time_s, bytes = row->bytes / row->time_s;

    fprintf(file, "%-40s %-12s %8llu %10.2f %6.1f%% %9.1f %6.1f%% %8.1f %6.1f%%\n", name, variant,
            (unsigned long long)row->calls, row->time_s * 1e3, 100 * row->time_s / t->total_s,
            flop / 1e9, 100 * flop / multiply_peak(t, row), bytes / 1e9,
            100 * bytes / t->peaks.byte_per_s);
}

static void print_table(FILE *file, const struct table *t)
{
    fprintf(file, "%-40s %-12s %8s %10s %7s %9s %7s %8s %7s\n", "kernel", "variant", "calls",
            "time ms", "share", "GFLOP/s", "of peak", "GB/s", "of peak");
    for (size_t i = 0; i < t->n_sums; i++) {
        const struct at_kernel_time *sum = &t->sums[i];

        print_row(file, t, sum, sum->kernel, sum->variant);
        for (size_t k = 0; k < t->n; k++) {
            const struct at_kernel_time *row = &t->rows[k];
            char name[2 + AT_SHAPE_BYTES];

            if (!same_kernel(row, sum) || row->calls == sum->calls ||
                row->time_s < least_share * t->total_s)
                continue;
            snprintf(name, sizeof name, "  %s", row->shape);
            print_row(file, t, row, name, "");
        }
    }
    fprintf(file, "peaks: %.1f GFLOP/s of f32 multiply-adds in registers, %.1f GB/s of a copy\n",
            t->peaks.flop_per_s / 1e9, t->peaks.byte_per_s / 1e9);
    if (t->peaks.matrix_flop_per_s > 0)
        fprintf(file,
                "       %.1f GFLOP/s of products of halves in matrix units, that of variants named "
                "matrix\n",
                t->peaks.matrix_flop_per_s / 1e9);
    fprintf(file, "biggest: %s, %.1f %% of %.2f s in kernels\n", t->sums[0].kernel,
            100 * t->sums[0].time_s / t->total_s, t->total_s);
    if (loss_time(t) > 0)
        fprintf(file, "losses: %.3f %%\n", 100 * loss_time(t) / t->total_s);
}

/* ---- as JSON ---- */

static void add_figures(cJSON *out, const struct table *t, const struct at_kernel_time *row)
{
    const double flop = row->flop / row->time_s, bytes = row->bytes / row->time_s;

    cJSON_AddNumberToObject(out, "calls", (double)row->calls);
    cJSON_AddNumberToObject(out, "time_s", row->time_s);
    cJSON_AddNumberToObject(out, "share", row->time_s / t->total_s);
    cJSON_AddNumberToObject(out, "gflop_per_s", flop / 1e9);
    cJSON_AddNumberToObject(out, "of_multiply_peak", flop / multiply_peak(t, row));
    cJSON_AddNumberToObject(out, "gbyte_per_s", bytes / 1e9);
    cJSON_AddNumberToObject(out, "of_copy_peak", bytes / t->peaks.byte_per_s);
}

static void add_table(cJSON *json, const struct table *t)
{
    cJSON *list = cJSON_AddArrayToObject(json, "kernels"), *peaks = NULL;

    for (size_t i = 0; i < t->n_sums; i++) {
        cJSON *kernel = cJSON_CreateObject(), *shapes = NULL;

        cJSON_AddStringToObject(kernel, "kernel", t->sums[i].kernel);
        cJSON_AddStringToObject(kernel, "variant", t->sums[i].variant);
        add_figures(kernel, t, &t->sums[i]);
        shapes = cJSON_AddArrayToObject(kernel, "shapes");
        for (size_t k = 0; k < t->n; k++) {
            cJSON *shape = NULL;
            if (!same_kernel(&t->rows[k], &t->sums[i]))
                continue;
            shape = cJSON_CreateObject();
            cJSON_AddStringToObject(shape, "shape", t->rows[k].shape);
            add_figures(shape, t, &t->rows[k]);
            cJSON_AddItemToArray(shapes, shape);
        }
        cJSON_AddItemToArray(list, kernel);
    }
    peaks = cJSON_AddObjectToObject(json, "peaks");
    cJSON_AddNumberToObject(peaks, "gflop_per_s", t->peaks.flop_per_s / 1e9);
    if (t->peaks.matrix_flop_per_s > 0)
        cJSON_AddNumberToObject(peaks, "matrix_gflop_per_s", t->peaks.matrix_flop_per_s / 1e9);
    cJSON_AddNumberToObject(peaks, "gbyte_per_s", t->peaks.byte_per_s / 1e9);
    cJSON_AddNumberToObject(json, "kernel_time_s", t->total_s);
    cJSON_AddStringToObject(json, "biggest", t->sums[0].kernel);
    cJSON_AddNumberToObject(json, "loss_share", loss_time(t) / t->total_s);
}

AT_CHECKED cli_kernel_table(FILE *file, cJSON *json, struct at_stream *stream)
{
    enum at_status st = AT_OK;
    struct at_arena arena = { 0 };
    struct table t = { .n = 0 };

    TRY(at_stream_profile(stream, &arena, &t.rows, &t.n));
    TRY(at_arena_alloc(&arena, &t.sums, t.n, sizeof *t.sums));
    sum_up(&t);
    if (t.n == 0 || t.total_s <= 0)
        FAIL(AT_DEVICE, "no kernel was timed: the device has no timestamps");
    TRY(at_peaks_measure(&t.peaks, at_stream_gpu(stream)));
    if (json)
        add_table(json, &t);
    if (file)
        print_table(file, &t);
done:
    at_arena_release(&arena);
    return st;
}
