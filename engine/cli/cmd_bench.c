#include "cli.h"
#include "couple.h"
#include "kl.h"
#include "objective.h"
#include "os.h"

#include <math.h>
#include <string.h>

/* ---- the steps ---- */

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
    TRY(at_kl_begin(&b->kl, &run->engine, b->index, b->results, n,
                    run->config->per_device_train_batch_size, &b->what));
    TRY(at_coupling_rows(&b->coupling, &run->engine, b->rows, b->results, n,
                         run->config->per_device_train_batch_size, &b->what));
    at_params_step(run->engine.stream, &run->engine.params, &adamw, 1, norm);
    TRY(at_engine_finish(&run->engine));
    if (at_signal_status() != AT_OK)
        FAIL(at_signal_status(), "stopped by a signal after %u steps", number + 1);
done:
    return st;
}

/* How a step is done, each time over the same rows: as a run does it; with hollow launches, which
 * leaves what host, driver and queue need (that a driver's threads begin and end a kernel is in the
 * kernel's time); and with every launch timed, which is the kernels'. */
enum pass { AS_RUN, HOLLOW, TIMED, PASSES };

/* What `steps` steps took and computed, a step of them. */
struct measured {
    double wall_s[PASSES], processor_s[PASSES]; /* of all threads: a CPU device's kernels, too */
    double least_s, most_s;                     /* of single steps AS_RUN, each over its own rows */
    double peak_bytes; /* of this process, a CPU device's memory too; 0: not known */
    double tokens, launches;
    struct at_useful useful;
};

/* The step from row `first` on; its time is added to that of the pass. */
static AT_CHECKED time_step(struct measured *out, struct bench *b, uint32_t number, uint32_t first,
                            enum pass pass)
{
    struct at_stream *stream = b->run->engine.stream;
    enum at_status st = AT_OK;
    double begin_s = 0, begin_cpu_s = 0, wall_s = 0;

    TRY(at_stream_time(stream, pass == TIMED));
    TRY(at_stream_hollow(stream, pass == HOLLOW));
    b->next = first;
    begin_s = at_now_s();
    begin_cpu_s = at_cpu_s();
    TRY(step(b, number));
    wall_s = at_now_s() - begin_s;
    out->processor_s[pass] += at_cpu_s() - begin_cpu_s;
    out->wall_s[pass] += wall_s;
    if (pass == AS_RUN) {
        out->least_s = fmin(out->least_s, wall_s);
        out->most_s = fmax(out->most_s, wall_s);
    }
done:
    return st;
}

static AT_CHECKED measure(struct measured *out, struct bench *b, uint32_t steps)
{
    enum at_status st = AT_OK;
    struct at_engine *e = &b->run->engine;
    struct at_arena arena = { 0 };
    struct at_kernel_time *warm = NULL;
    struct at_useful before;
    uint64_t tokens = 0, launches = 0, later = 0, submissions = 0;
    size_t n = 0;

    TRY(step(b, 0));
    TRY(at_stream_profile(e->stream, &arena, &warm, &n));
    tokens = e->tokens_computed;
    before = e->useful;
    at_stream_counts(e->stream, &launches, &submissions);
    out->least_s = INFINITY;
    for (uint32_t i = 0; i < steps; i++) {
        const uint32_t first = b->next;
        for (enum pass pass = AS_RUN; pass < PASSES; pass++) /* TIMED last: peaks are, too */
            TRY(time_step(out, b, i + 1, first, pass));
    }
    for (enum pass pass = AS_RUN; pass < PASSES; pass++) {
        out->wall_s[pass] /= steps;
        out->processor_s[pass] /= steps;
    }
    out->peak_bytes = (double)at_memory_peak_bytes(); /* before the device's peaks are measured */
    at_stream_counts(e->stream, &later, &submissions);
    out->launches = (double)(later - launches) / (PASSES * steps);
    out->tokens = (double)(e->tokens_computed - tokens) / (PASSES * steps);
    out->useful = (struct at_useful){
        .base = (e->useful.base - before.base) / (PASSES * steps),
        .adapters = (e->useful.adapters - before.adapters) / (PASSES * steps),
        .attention = (e->useful.attention - before.attention) / (PASSES * steps),
        .head = (e->useful.head - before.head) / (PASSES * steps),
    };
done:
    at_arena_release(&arena);
    return st;
}

/* ---- what is told ---- */

enum { FORMAT_VERSION = 1 };

static cJSON *useful_json(const struct at_useful *u)
{
    cJSON *out = cJSON_CreateObject();

    cJSON_AddNumberToObject(out, "base", u->base / 1e9);
    cJSON_AddNumberToObject(out, "head", u->head / 1e9);
    cJSON_AddNumberToObject(out, "adapters", u->adapters / 1e9);
    cJSON_AddNumberToObject(out, "attention", u->attention / 1e9);
    cJSON_AddNumberToObject(out, "total", at_useful_total(u) / 1e9);
    return out;
}

static void describe(cJSON *out, const struct at_run *run, const struct measured *m, uint32_t steps)
{
    cJSON_AddNumberToObject(out, "format_version", FORMAT_VERSION);
    cJSON_AddStringToObject(out, "device", at_gpu_get_info(run->engine.gpu)->name);
    cJSON_AddStringToObject(out, "model", run->config->model_name_or_path);
    cJSON_AddStringToObject(out, "method", at_method_get(run->method)->name);
    cJSON_AddNumberToObject(out, "steps", steps);
    cJSON_AddNumberToObject(out, "rows_per_step", run->rows_per_step);
    cJSON_AddNumberToObject(out, "tokens_per_step", m->tokens);
    cJSON_AddNumberToObject(out, "launches_per_step", m->launches);
    cJSON_AddNumberToObject(out, "step_time_s", m->wall_s[AS_RUN]);
    cJSON_AddNumberToObject(out, "least_step_time_s", m->least_s);
    cJSON_AddNumberToObject(out, "most_step_time_s", m->most_s);
    cJSON_AddNumberToObject(out, "step_processor_time_s", m->processor_s[AS_RUN]);
    cJSON_AddNumberToObject(out, "timed_step_time_s", m->wall_s[TIMED]);
    cJSON_AddNumberToObject(out, "host_time_s", m->wall_s[HOLLOW]);
    cJSON_AddNumberToObject(out, "host_share", m->wall_s[HOLLOW] / m->wall_s[AS_RUN]);
    if (m->peak_bytes > 0)
        cJSON_AddNumberToObject(out, "host_peak_bytes", m->peak_bytes);
    cJSON_AddNumberToObject(out, "tokens_per_s", m->tokens / m->wall_s[AS_RUN]);
    cJSON_AddNumberToObject(out, "rows_per_s", run->rows_per_step / m->wall_s[AS_RUN]);
    cJSON_AddItemToObject(out, "useful_gflop_per_step", useful_json(&m->useful));
    cJSON_AddNumberToObject(out, "useful_gflop_per_s",
                            at_useful_total(&m->useful) / m->wall_s[AS_RUN] / 1e9);
}

static double number(const cJSON *object, const char *key)
{
    return at_json_find(object, key)->valuedouble;
}

/* The peak of a step whose products with weights take halves is that of matrix units. */
static void add_roofline(cJSON *out, const struct at_gpu_info *info)
{
    const cJSON *peaks = at_json_find(out, "peaks");
    const bool units = info->halves && at_json_find(peaks, "matrix_gflop_per_s");
    const double peak = number(peaks, units ? "matrix_gflop_per_s" : "gflop_per_s");

    cJSON_AddNumberToObject(out, "of_multiply_peak", number(out, "useful_gflop_per_s") / peak);
}

static void print_step(const cJSON *out)
{
    const cJSON *useful = at_json_find(out, "useful_gflop_per_step");
    const double steps = number(out, "steps"), rows = number(out, "rows_per_step");

    printf("%.0f step%s of %.0f row%s: %.3f s a step, %.0f tokens/s, %.2f rows/s\n", steps,
           steps == 1 ? "" : "s", rows, rows == 1 ? "" : "s", number(out, "step_time_s"),
           number(out, "tokens_per_s"), number(out, "rows_per_s"));
    printf(
        "useful: %.2f GFLOP a step (base %.2f, head %.2f, adapters %.2f, attention %.2f) at %.1f "
        "GFLOP/s, %.1f %% of the peak\n",
        number(useful, "total"), number(useful, "base"), number(useful, "head"),
        number(useful, "adapters"), number(useful, "attention"), number(out, "useful_gflop_per_s"),
        100 * number(out, "of_multiply_peak"));
    printf("host, driver and queue: %.3f s of a step, %.1f %%, for %.0f launches\n",
           number(out, "host_time_s"), 100 * number(out, "host_share"),
           number(out, "launches_per_step"));
    if (at_json_find(out, "host_peak_bytes"))
        printf("memory: %.0f MiB of this process at its peak\n",
               number(out, "host_peak_bytes") / (1 << 20));
}

/* ---- the command ---- */

static AT_CHECKED bench_run(struct at_run *run, uint32_t steps, bool json)
{
    enum at_status st = AT_OK;
    struct bench b = { .run = run, .what = { .train = true, .policy = true } };
    struct at_objective objective;
    struct measured m = { 0 };
    cJSON *out = cJSON_CreateObject();

    at_objective_make(&objective, run->config, run->own);
    b.what.reference = objective.reference;
    b.what.losses = objective.terms;
    b.what.n_losses = objective.n;
    b.what.loss_params = objective.params;
    b.what.kind = objective.kind;
    TRY(at_kl_init(&b.kl, run->data.train_kl, &run->arena, run->data.train_packs.rows,
                   run->data.train_packs.n_rows, run->window));
    TRY(at_alloc(&b.index, run->window, sizeof *b.index));
    b.what.tail_discount = objective.tail_discount;
    if (objective.coupled)
        TRY(at_coupling_init(&b.coupling, run->config->per_device_train_batch_size));
    TRY(at_alloc(&b.rows, run->window, sizeof *b.rows));
    TRY(at_alloc(&b.results, run->window, sizeof *b.results));
    TRY(measure(&m, &b, steps));
    describe(out, run, &m, steps);
    TRY(cli_kernel_table(json ? NULL : stdout, out, run->engine.stream));
    add_roofline(out, at_gpu_get_info(run->engine.gpu));
    if (json)
        TRY(cli_print_pretty(out));
    else
        print_step(out);
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
    const char *before = cli_flag_text(args, "compare");
    uint32_t steps = 3;

    if (before)
        return cli_bench_compare(args, before);
    TRY(cli_flag_u32(&steps, args, "steps", 1, 100000));
    TRY(cli_config_read(&config, args, NULL));
    config.profile = true;
    TRY(at_run_open(&run, &config, NULL));
    if (at_method_get(run.method)->draws)
        FAIL(AT_USAGE,
             "bench measures steps over rows that a file has, and %s trains on samples: name a "
             "method of pairs, replies or labels (--method)",
             at_method_get(run.method)->name);
    cli_describe_run(&run);
    cli_note("bench    %u step%s like the training's %llu, after one that is not timed", steps,
             steps == 1 ? "" : "s", (unsigned long long)run.total_steps);
    TRY(at_engine_commit(&run.engine));
    TRY(bench_run(&run, steps, cli_flag_on(args, "json")));
done:
    at_run_close(&run);
    at_config_release(&config);
    return st;
}
