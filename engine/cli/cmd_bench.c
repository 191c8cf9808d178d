#include "cli.h"
#include "couple.h"
#include "kl.h"
#include "objective.h"
#include "os.h"

#include <string.h>

/* ---- the kernel table ---- */

/* Shapes of one kernel together; the table is sorted by time again. */
static size_t merge(struct at_kernel_time *rows, size_t n)
{
    size_t kept = 0;

    for (size_t i = 0; i < n; i++) {
        size_t k = 0;
        while (k < kept && (strcmp(rows[k].kernel, rows[i].kernel) != 0 ||
                            strcmp(rows[k].variant, rows[i].variant) != 0))
            k++;
        if (k == kept) {
            rows[kept++] = rows[i];
            continue;
        }
        rows[k].calls += rows[i].calls;
        rows[k].time_s += rows[i].time_s;
        rows[k].flop += rows[i].flop;
        rows[k].bytes += rows[i].bytes;
    }
    for (size_t i = 1; i < kept; i++)
        for (size_t k = i; k > 0 && rows[k].time_s > rows[k - 1].time_s; k--) {
            const struct at_kernel_time swap = rows[k];
            rows[k] = rows[k - 1];
            rows[k - 1] = swap;
        }
    return kept;
}

static void kernel_json(cJSON *list, const struct at_kernel_time *t, double total_s)
{
    cJSON *row = cJSON_CreateObject();

    cJSON_AddStringToObject(row, "kernel", t->kernel);
    cJSON_AddStringToObject(row, "variant", t->variant);
    cJSON_AddNumberToObject(row, "calls", (double)t->calls);
    cJSON_AddNumberToObject(row, "time_s", t->time_s);
    cJSON_AddNumberToObject(row, "share", t->time_s / total_s);
    cJSON_AddNumberToObject(row, "gflop_per_s", t->flop / t->time_s / 1e9);
    cJSON_AddNumberToObject(row, "gbyte_per_s", t->bytes / t->time_s / 1e9);
    cJSON_AddItemToArray(list, row);
}

/* Seconds from sums over segments to coefficients of rows: what depends on the loss. */
static double loss_time(const struct at_kernel_time *rows, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        if (strncmp(rows[i].kernel, "loss_", 5) == 0 || strcmp(rows[i].kernel, "segment_sum") == 0)
            sum += rows[i].time_s;
    return sum;
}

AT_CHECKED cli_kernel_table(FILE *file, cJSON *json, struct at_stream *stream)
{
    enum at_status st = AT_OK;
    struct at_arena arena = { 0 };
    struct at_kernel_time *rows = NULL;
    size_t n = 0;
    double total_s = 0;
    cJSON *list = json ? cJSON_AddArrayToObject(json, "kernels") : NULL;

    TRY(at_stream_profile(stream, &arena, &rows, &n));
    n = merge(rows, n);
    for (size_t i = 0; i < n; i++)
        total_s += rows[i].time_s;
    if (n == 0 || total_s <= 0)
        FAIL(AT_DEVICE, "no kernel was timed: the device has no timestamps");
    if (json) {
        for (size_t i = 0; i < n; i++)
            kernel_json(list, &rows[i], total_s);
        cJSON_AddNumberToObject(json, "kernel_time_s", total_s);
        cJSON_AddStringToObject(json, "biggest", rows[0].kernel);
        cJSON_AddNumberToObject(json, "loss_share", loss_time(rows, n) / total_s);
        goto done;
    }
    fprintf(file, "%-20s %-10s %8s %10s %7s %9s %8s\n", "kernel", "variant", "calls", "time ms",
            "share", "GFLOP/s", "GB/s");
    for (size_t i = 0; i < n; i++)
        fprintf(file, "%-20s %-10s %8llu %10.2f %6.1f%% %9.1f %8.1f\n", rows[i].kernel,
                rows[i].variant, (unsigned long long)rows[i].calls, rows[i].time_s * 1e3,
                100 * rows[i].time_s / total_s, rows[i].flop / rows[i].time_s / 1e9,
                rows[i].bytes / rows[i].time_s / 1e9);
    fprintf(file, "biggest: %s, %.1f %% of %.2f s in kernels\n", rows[0].kernel,
            100 * rows[0].time_s / total_s, total_s);
    if (loss_time(rows, n) > 0)
        fprintf(file, "losses: %.3f %%\n", 100 * loss_time(rows, n) / total_s);
done:
    at_arena_release(&arena);
    return st;
}

/* ---- the command ---- */

struct bench {
    struct at_run *run;
    struct at_compute what;
    struct at_coupling coupling;
    struct at_row_result *results;
    const struct at_row **rows;
    struct at_kl kl;
    uint32_t *index; /* of the step's rows in the data set */
    uint32_t next;
};

static AT_CHECKED step(struct bench *b, uint32_t number)
{
    enum at_status st = AT_OK;
    struct at_run *run = b->run;
    const struct at_packs *d = &run->data.train_packs;
    uint32_t n = 0;
    const struct at_adamw adamw = {
        .learning_rate = 0, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f, .step = number + 1
    };
    float norm[8];

    for (uint32_t k = 0; k < run->rows_per_step; k++) {
        const uint32_t pack = b->next++ % d->n;
        for (uint32_t i = d->begin[pack]; i < d->begin[pack + 1]; i++, n++) {
            b->index[n] = i;
            b->rows[n] = &d->rows[i];
            b->results[n] = (struct at_row_result){ .n_segments = at_row_sums(b->rows[n]) };
        }
    }
    b->what.weight = 1 / (float)run->rows_per_step;
    b->what.loss_params.mean_n_chosen = at_objective_mean_chosen(b->rows, n);
    TRY(at_kl_compute(&b->kl, &run->engine, b->index, b->results, n,
                      run->config->per_device_train_batch_size));
    TRY(at_coupling_rows(&b->coupling, &run->engine, b->rows, b->results, n,
                         run->config->per_device_train_batch_size, &b->what));
    at_params_step(run->engine.stream, &run->engine.params, &adamw, 1, norm);
    TRY(at_engine_finish(&run->engine));
    if (at_signal_status() != AT_OK)
        FAIL(at_signal_status(), "stopped by a signal after %u steps", number + 1);
done:
    return st;
}

static AT_CHECKED measure(struct bench *b, uint32_t steps, cJSON *out)
{
    enum at_status st = AT_OK;
    struct at_engine *e = &b->run->engine;
    struct at_arena arena = { 0 };
    struct at_kernel_time *warm = NULL;
    uint64_t tokens = 0;
    size_t n = 0;
    double begin_s = 0, wall_s = 0;

    TRY(step(b, 0));
    TRY(at_stream_profile(e->stream, &arena, &warm, &n));
    tokens = e->tokens_computed;
    begin_s = at_now_s();
    for (uint32_t i = 0; i < steps; i++)
        TRY(step(b, i + 1));
    wall_s = at_now_s() - begin_s;
    cJSON_AddStringToObject(out, "device", at_gpu_get_info(e->gpu)->name);
    cJSON_AddNumberToObject(out, "steps", steps);
    cJSON_AddNumberToObject(out, "rows_per_step", b->run->rows_per_step);
    cJSON_AddNumberToObject(out, "step_time_s", wall_s / steps);
    cJSON_AddNumberToObject(out, "tokens_per_s", (double)(e->tokens_computed - tokens) / wall_s);
    cJSON_AddNumberToObject(out, "rows_per_s", (double)steps * b->run->rows_per_step / wall_s);
done:
    at_arena_release(&arena);
    return st;
}

static AT_CHECKED bench_run(struct at_run *run, uint32_t steps, bool json)
{
    enum at_status st = AT_OK;
    struct bench b = { .run = run,
                       .what = { .train = true,
                                 .policy = true,
                                 .reference = at_method_get(run->method)->reference } };
    struct at_objective objective;
    cJSON *out = cJSON_CreateObject();

    at_objective_make(&objective, run->config, run->own);
    b.what.losses = objective.terms;
    b.what.n_losses = objective.n;
    b.what.loss_params = objective.params;
    b.what.kind = objective.kind;
    TRY(at_kl_init(&b.kl, run->data.train_kl, run->data.train_packs.n_rows, run->window));
    TRY(at_alloc(&b.index, run->window, sizeof *b.index));
    b.what.tail_discount = objective.tail_discount;
    if (objective.coupled)
        TRY(at_coupling_init(&b.coupling, run->config->per_device_train_batch_size));
    TRY(at_alloc(&b.rows, run->window, sizeof *b.rows));
    TRY(at_alloc(&b.results, run->window, sizeof *b.results));
    TRY(measure(&b, steps, out));
    if (json) {
        TRY(cli_kernel_table(NULL, out, run->engine.stream));
        TRY(cli_print_pretty(out));
        goto done;
    }
    printf("%u steps of %u rows: %.3f s a step, %.0f tokens/s, %.2f rows/s\n", steps,
           run->rows_per_step, at_json_find(out, "step_time_s")->valuedouble,
           at_json_find(out, "tokens_per_s")->valuedouble,
           at_json_find(out, "rows_per_s")->valuedouble);
    TRY(cli_kernel_table(stdout, NULL, run->engine.stream));
done:
    cJSON_Delete(out);
    at_kl_release(&b.kl);
    at_free(&b.index);
    at_coupling_release(&b.coupling);
    at_free(&b.rows);
    at_free(&b.results);
    return st;
}

enum at_status cli_bench(struct cli_args *args)
{
    enum at_status st = AT_OK;
    struct at_config config = { .file = NULL };
    struct at_run run = { .config = NULL };
    uint32_t steps = 3;

    TRY(cli_flag_u32(&steps, args, "steps", 1, 100000));
    TRY(cli_config_read(&config, args, NULL));
    config.profile = true;
    TRY(at_run_open(&run, &config, NULL));
    cli_describe_run(&run);
    TRY(at_engine_commit(&run.engine));
    TRY(bench_run(&run, steps, cli_flag_on(args, "json")));
done:
    at_run_close(&run);
    at_config_release(&config);
    return st;
}
