#include "cli.h"
#include "plan_time.h"

#include <string.h>

static cJSON *rows_json(const struct at_run *run)
{
    const struct at_run_data *d = &run->data;
    const struct at_dataset *all = d->was_split ? &d->all : &d->train;
    cJSON *rows = cJSON_CreateObject();

    cJSON_AddNumberToObject(rows, "read", all->n_read);
    cJSON_AddNumberToObject(rows, "train", d->train.n_rows);
    if (run->config->train_dataset.weights)
        cJSON_AddNumberToObject(rows, "epoch", run->epoch_packs);
    cJSON_AddNumberToObject(rows, "eval", d->eval.n_rows);
    cJSON_AddNumberToObject(rows, "cut", all->n_cut);
    cJSON_AddNumberToObject(rows, "dropped", all->n_dropped);
    cJSON_AddNumberToObject(rows, "boundary_moved", all->n_boundary_moved);
    return rows;
}

/* {"train": {"rows": packed ones, "tokens", "fill": of 1}, "eval": ...}; NULL without packing. */
static cJSON *packed_json(const struct at_run *run)
{
    const struct at_run_data *d = &run->data;
    const struct at_packs *packs[] = { &d->train_packs, &d->eval_packs };
    static const char *const names[] = { "train", "eval" };
    cJSON *packed = NULL;

    for (size_t i = 0; i < AT_COUNT(packs); i++) {
        cJSON *part = NULL;
        if (packs[i]->how == AT_PACKING_NONE || packs[i]->n == 0)
            continue;
        packed = packed ? packed : cJSON_CreateObject();
        part = cJSON_AddObjectToObject(packed, names[i]);
        cJSON_AddNumberToObject(part, "rows", packs[i]->n);
        cJSON_AddNumberToObject(part, "tokens", (double)packs[i]->tokens);
        cJSON_AddNumberToObject(part, "fill", at_packs_fill(packs[i]));
    }
    return packed;
}

/* Paths of models that are a header without weights, and what each is: the policy, the reference,
 * the bases of reward models. The first one from *i on, which moves behind it; NULL: no further
 * one. */
static const char *without_weights(const struct at_run *run, size_t *i, const char **what)
{
    const size_t n = 2 + run->reward_models.n;

    for (; *i < n;) {
        const size_t k = (*i)++;
        const struct at_bundle *b = k == 0   ? &run->bundle
                                    : k == 1 ? &run->reference.bundle
                                             : &run->reward_models.items[k - 2].bundle;
        *what = k == 0 ? "model" : k == 1 ? "reference" : "reward model";
        if (b->weights && at_weights_lack_data(b->weights))
            return b->path;
    }
    return NULL;
}

static bool has_weights(const struct at_run *run)
{
    const char *what;

    return without_weights(run, &(size_t){ 0 }, &what) == NULL;
}

static AT_CHECKED say_what_lacks(const struct at_run *run)
{
    enum at_status st = AT_OK;
    struct at_buf line = { 0 };
    const char *path, *what;
    size_t i = 0, n = 0;

    at_buf_puts(&line, "next     the whole of ");
    while ((path = without_weights(run, &i, &what)) != NULL) {
        at_buf_puts(&line, n++ > 0 ? " and of " : "");
        cli_path_put(&line, path);
    }
    at_buf_printf(&line, ", which %s needed to train", n > 1 ? "are" : "is");
    TRY(at_buf_status(&line));
    cli_next_line(line.data);
done:
    at_buf_release(&line);
    return st;
}

/* {"frozen": {"weights": bytes, ...}, "state": ..., "slab": ...}, the largest first. */
static cJSON *parts_json(const struct at_engine *e)
{
    const struct {
        const char *name;
        const struct at_pool *pool;
    } pools[] = { { "frozen", e->frozen }, { "state", e->state }, { "slab", e->slab_pool } };
    struct at_pool_part parts[AT_POOL_PARTS];
    cJSON *out = cJSON_CreateObject();

    for (size_t i = 0; i < AT_COUNT(pools); i++) {
        cJSON *pool = cJSON_AddObjectToObject(out, pools[i].name);
        const size_t n = at_pool_parts(parts, pools[i].pool);
        for (size_t k = 0; k < n; k++)
            cJSON_AddNumberToObject(pool, parts[k].what, (double)parts[k].bytes);
    }
    return out;
}

/* Rows, steps and what they train. */
static void add_steps(cJSON *out, const struct at_run *run)
{
    cJSON *packed = packed_json(run);

    cJSON_AddItemToObject(out, "rows", rows_json(run));
    if (packed)
        cJSON_AddItemToObject(out, "packed", packed);
    cJSON_AddNumberToObject(out, "steps", (double)run->total_steps);
    cJSON_AddNumberToObject(out, "rows_per_step", run->rows_per_step);
    cJSON_AddNumberToObject(out, "trainable_values", (double)at_params_count(&run->engine.params));
}

/* The rate stands under "measured_flop_per_s", the best of several measurements beside the slowest,
 * or "assumed_flop_per_s", and then "time_device" is null: none was measured. "split" is there for
 * runs that draw samples. "flop" and "estimated_time_s" are those of the steps, "total_flop" and
 * "total_time_s" are with evaluations. */
static void add_time(cJSON *out, const struct at_run *run, const struct plan_time *time)
{
    const struct plan_evaluations *e = &time->evaluations;
    cJSON *split = NULL, *part = NULL;

    if (run->online.is_on) {
        split = cJSON_AddObjectToObject(out, "split");
        cJSON_AddNumberToObject(split, "sampling_s", time->sampling_s);
        cJSON_AddNumberToObject(split, "scoring_s", time->scoring_s);
        cJSON_AddNumberToObject(split, "training_s", time->training_s);
    }
    cJSON_AddNumberToObject(out, "flop", time->flop);
    cJSON_AddNumberToObject(out, time->measured ? "measured_flop_per_s" : "assumed_flop_per_s",
                            time->flop_per_s);
    if (time->measured)
        cJSON_AddNumberToObject(out, "least_flop_per_s", time->least_flop_per_s);
    cJSON_AddItemToObject(out, "time_device",
                          time->measured
                              ? cJSON_CreateString(at_gpu_get_info(run->engine.gpu)->name)
                              : cJSON_CreateNull());
    cJSON_AddNumberToObject(out, "step_time_s", time->step_s);
    cJSON_AddNumberToObject(out, "estimated_time_s", time->total_s);
    part = cJSON_AddObjectToObject(out, "evaluations");
    cJSON_AddNumberToObject(part, "n", e->n);
    cJSON_AddNumberToObject(part, "rows", e->rows);
    cJSON_AddNumberToObject(part, "tokens", e->tokens);
    cJSON_AddNumberToObject(part, "ref_forward_tokens", e->ref_forward_tokens);
    cJSON_AddNumberToObject(part, "flop", e->flop);
    cJSON_AddNumberToObject(part, "time_s", e->time_s);
    cJSON_AddNumberToObject(out, "total_flop", time->flop + e->flop);
    cJSON_AddNumberToObject(out, "total_time_s", time->total_s + e->time_s);
}

static cJSON *plan_json(const struct at_run *run, const struct plan_time *time)
{
    const struct at_engine_bytes b = at_engine_get_bytes(&run->engine);
    const struct at_gpu_info *info = at_gpu_get_info(run->engine.gpu);
    const double state = (double)at_params_count(&run->engine.params) * sizeof(float);
    const bool draws = at_online_draws(&run->online);
    cJSON *out = cJSON_CreateObject(), *part = NULL;

    cJSON_AddStringToObject(out, "method", at_method_get(run->method)->name);
    cJSON_AddStringToObject(out, "device", info->name);
    cJSON_AddBoolToObject(out, "has_weights", has_weights(run));
    add_steps(out, run);
    cJSON_AddNumberToObject(out, "slab_tokens", run->engine.decoder.capacity);
    cJSON_AddStringToObject(out, "gradient_checkpointing",
                            at_recompute_name(run->engine.decoder.recompute));
    part = cJSON_AddObjectToObject(out, "device_bytes");
    cJSON_AddNumberToObject(part, "frozen", (double)b.frozen);
    cJSON_AddNumberToObject(part, "state", (double)b.state);
    cJSON_AddNumberToObject(part, "slab", (double)b.slab);
    if (draws)
        cJSON_AddNumberToObject(part, "sampler", (double)b.sampler);
    if (run->reward_models.n > 0)
        cJSON_AddNumberToObject(part, "reward_models", (double)b.beside);
    cJSON_AddNumberToObject(part, "total", (double)b.total);
    cJSON_AddNumberToObject(part, "available", (double)b.available);
    if (info->free_bytes < b.available)
        cJSON_AddNumberToObject(part, "free_here", (double)info->free_bytes);
    cJSON_AddItemToObject(out, "device_parts", parts_json(&run->engine));
    if (at_run_has_other_reference(run)) {
        part = cJSON_AddObjectToObject(out, "reference");
        cJSON_AddStringToObject(part, "model", run->reference.bundle.path);
        cJSON_AddNumberToObject(part, "device_bytes", (double)run->reference.device_bytes);
    }
    cJSON_AddBoolToObject(out, "fits",
                          b.total <= b.available && run->reference.device_bytes <= b.available);
    cJSON_AddNumberToObject(out, "disk_bytes", state + (double)run->total_steps * 1024);
    if (draws)
        cJSON_AddNumberToObject(out, "sequences_at_once", run->engine.n_sequences);
    add_time(out, run, time);
    return out;
}

static double number(const cJSON *object, const char *name)
{
    return at_json_find(object, name)->valuedouble;
}

/* In percent of the steps' time. */
static double share(const cJSON *split, const cJSON *plan, const char *name)
{
    return 100 * number(split, name) / number(plan, "estimated_time_s");
}

/* What the slab's memory is for: all that is a twentieth of it or more. */
static void print_parts(const cJSON *plan)
{
    const cJSON *slab = at_json_find(at_json_find(plan, "device_parts"), "slab");
    const double all = number(at_json_find(plan, "device_bytes"), "slab"), mib = 1.0 / (1 << 20);
    double rest = all;

    printf("         of the slab:");
    for (const cJSON *x = slab->child; x && x->valuedouble >= all / 20; x = x->next) {
        printf(" %s %.0f,", x->string, x->valuedouble * mib);
        rest -= x->valuedouble;
    }
    printf(" others %.0f\n", rest * mib);
}

/* "A", or "A to B" where the slowest measurement gives another time. */
static void range_text(char out[80], double s, double slower)
{
    char best[32], most[32];

    cli_duration(best, s);
    cli_duration(most, s * slower);
    snprintf(out, 80, strcmp(best, most) == 0 ? "%s" : "%s to %s", best, most);
}

static void print_rate(const cJSON *plan, const struct at_run *run)
{
    const double gflop = 1e-9, flop = number(plan, "total_flop");
    const char *device = at_json_find(plan, "device")->valuestring;

    printf("         %.3g operations, products at ", flop);
    if (at_json_find(plan, "measured_flop_per_s"))
        printf("%.0f to %.0f GFLOP/s (measured just now on %s)\n",
               number(plan, "least_flop_per_s") * gflop,
               number(plan, "measured_flop_per_s") * gflop, device);
    else if (at_engine_is_elsewhere(&run->engine))
        printf("an assumed %.0f GFLOP/s: no device was measured, so there is no range\n",
               number(plan, "assumed_flop_per_s") * gflop);
    else
        printf("an assumed %.0f GFLOP/s: %s has no room to measure them (`attune bench` does)\n",
               number(plan, "assumed_flop_per_s") * gflop, device);
}

static void print_time(const cJSON *plan, const struct at_run *run)
{
    const cJSON *split = at_json_find(plan, "split"), *evals = at_json_find(plan, "evaluations");
    const bool measured = at_json_find(plan, "measured_flop_per_s");
    const double n = number(evals, "n"), slower = measured ? number(plan, "measured_flop_per_s") /
                                                                 number(plan, "least_flop_per_s")
                                                           : 1;
    char all[80], steps[80], held[80];

    range_text(all, number(plan, "total_time_s"), slower);
    range_text(steps, number(plan, "estimated_time_s"), slower);
    range_text(held, number(evals, "time_s"), slower);
    printf("time     about %s, %.3g s a step at first%s\n", all, number(plan, "step_time_s"),
           at_engine_is_elsewhere(&run->engine) ? ", on an assumed GPU" : "");
    if (n > 0)
        printf("         steps %s, %.0f evaluation%s of %.0f held-out rows %s\n", steps, n,
               n == 1 ? "" : "s", number(evals, "rows"), held);
    if (run->config->cross_validation > 0)
        printf("         of one of %u folds\n", run->config->cross_validation);
    print_rate(plan, run);
    if (split)
        printf("         %ssampling %.0f %%, scoring %.0f %%, training %.0f %% of the steps\n",
               at_online_draws(&run->online) ? "at most, if no sample ends by itself: " : "",
               share(split, plan, "sampling_s"), share(split, plan, "scoring_s"),
               share(split, plan, "training_s"));
}

static void print_plan(const cJSON *plan, const struct at_run *run)
{
    const cJSON *rows = at_json_find(plan, "rows"), *b = at_json_find(plan, "device_bytes");
    const cJSON *reference = at_json_find(plan, "reference");
    const double mib = 1.0 / (1 << 20);
    char packed[CLI_PACKED_BYTES], sampling[64] = "";
    const char *path, *what;
    size_t i = 0;

    if (at_online_draws(&run->online))
        snprintf(sampling, sizeof sampling, ", sampling %.0f at once %.0f",
                 number(plan, "sequences_at_once"), number(b, "sampler") * mib);
    printf("device   %s%s\n", at_json_find(plan, "device")->valuestring,
           at_engine_is_elsewhere(&run->engine) ? "; slab and time are those of an assumed GPU"
                                                : "");
    while ((path = without_weights(run, &i, &what)) != NULL)
        printf(
            "model    the %s %s has no weights, it is cut behind its header: enough to plan with\n",
            what, path);
    if (run->online.is_on)
        printf("rows     %u prompts; %u of them a rollout, %u samples each of %u tokens at most\n",
               run->online.prompts.n, run->online.n_groups, run->online.group, run->online.n_new);
    else
        printf("rows     %.0f read, %.0f for training, %.0f held out; %.0f cut, %.0f dropped\n",
               number(rows, "read"), number(rows, "train"), number(rows, "eval"),
               number(rows, "cut"), number(rows, "dropped"));
    if (at_json_find(rows, "epoch"))
        printf("         by their weights an epoch sees %.0f\n", number(rows, "epoch"));
    if (cli_packed_text(packed, &run->data))
        printf("packed   %s\n", packed);
    printf("steps    %.0f of %.0f rows\n", number(plan, "steps"), number(plan, "rows_per_step"));
    printf("trains   %.0f values\n", number(plan, "trainable_values"));
    printf("memory   %.0f MiB of %.0f MiB: weights %.0f, trainable state %.0f, slab of %.0f tokens "
           "%.0f%s\n",
           number(b, "total") * mib, number(b, "available") * mib, number(b, "frozen") * mib,
           number(b, "state") * mib, number(plan, "slab_tokens"), number(b, "slab") * mib,
           sampling);
    print_parts(plan);
    if (at_json_find(b, "free_here"))
        printf("         planned for a device_memory_limit above the %.0f MiB that are free here\n",
               number(b, "free_here") * mib);
    if (at_engine_is_elsewhere(&run->engine))
        printf("         what one binding holds is this device's\n");
    if (run->engine.decoder.recompute != AT_RECOMPUTE_NONE)
        printf("         for which gradient_checkpointing %s computes activations again\n",
               at_json_find(plan, "gradient_checkpointing")->valuestring);
    if (run->reward_models.n > 0)
        printf("         of it reward models %.1f MiB\n", number(b, "reward_models") * mib);
    if (reference)
        printf("         reference %s: %.0f MiB, given back before the policy is loaded\n",
               at_json_find(reference, "model")->valuestring,
               number(reference, "device_bytes") * mib);
    printf("disk     %.1f MiB\n", number(plan, "disk_bytes") * mib);
    print_time(plan, run);
}

/* What to change where the run does not fit, or its reference, which is alone on the device. */
static AT_CHECKED check_fit(const struct at_run *run)
{
    const struct at_engine *e = &run->engine;
    struct at_engine_bytes b = at_engine_get_bytes(e);
    const uint64_t available = b.available;
    const bool policy = b.total > available;
    const char *what = policy ? "the run" : "the reference (ref_model_name_or_path)", *limit;
    bool no_limit;

    if (!policy && run->reference.device_bytes <= available)
        return AT_OK;
    if (!policy) {
        e = &run->reference.engine;
        b = at_engine_get_bytes(e);
    }
    if (b.frozen + b.state > available)
        return at_fail(AT_DEVICE_MEMORY,
                       "%s does not fit, whatever a step has: take a model of a smaller type "
                       "(Q4_0) or a smaller model%s",
                       what, policy ? ", or lower lora_r" : "");
    limit = at_engine_limit(e);
    no_limit = strcmp(limit, at_key_name(AT_KEY_max_length)) == 0 && run->config->max_length == 0;
    return at_fail(AT_DEVICE_MEMORY, "%s does not fit: %s %s, or take a smaller model%s", what,
                   no_limit ? "set" : "lower", limit,
                   e->decoder.trains && e->decoder.recompute != AT_RECOMPUTE_GROUP
                       ? "; gradient_checkpointing takes the least it can at auto"
                       : "");
}

AT_CHECKED cli_plan_print(const struct at_run *run, bool json)
{
    enum at_status st = AT_OK;
    struct plan_time time;
    cJSON *plan = NULL;

    TRY(cli_plan_time(&time, run));
    plan = plan_json(run, &time);
    if (json)
        TRY(cli_print_pretty(plan));
    else
        print_plan(plan, run);
    TRY(check_fit(run));
done:
    cJSON_Delete(plan);
    return st;
}

static AT_CHECKED put_new_folder(struct at_buf *line, const char *method)
{
    enum at_status st = AT_OK;
    struct at_arena arena = { 0 };
    char *path = NULL;

    TRY(at_arena_printf(&arena, &path, "out/%s", method));
    TRY(cli_new_path(&path, &arena, path));
    at_buf_printf(line, " --output_dir %s", path);
done:
    at_arena_release(&arena);
    return st;
}

static AT_CHECKED say_next(const struct cli_args *args, const struct at_run *run)
{
    static const char *const skip[] = { "method" };
    enum at_status st = AT_OK;
    struct at_buf line = { 0 };
    const char *method = at_method_get(run->method)->name;

    at_buf_printf(&line, "next     %sattune %s",
                  at_engine_is_elsewhere(&run->engine) ? "on a device with that memory " : "",
                  method);
    if (args->n_positional > 0) {
        at_buf_puts(&line, " ");
        cli_path_put(&line, args->positional[0]);
    }
    cli_keys_text(&line, args, skip, AT_COUNT(skip));
    if (!run->config->output_dir)
        TRY(put_new_folder(&line, method));
    TRY(at_buf_status(&line));
    cli_next_line(line.data);
done:
    at_buf_release(&line);
    return st;
}

enum at_status cli_plan(struct cli_args *args)
{
    enum at_status st = AT_OK;
    struct at_config config = { .file = NULL };
    struct at_run run = { .config = NULL };

    TRY(cli_config_read(&config, args, NULL));
    TRY(at_run_open_plan(&run, &config));
    TRY(cli_plan_print(&run, cli_flag_on(args, "json")));
    if (!has_weights(&run))
        TRY(say_what_lacks(&run));
    else
        TRY(say_next(args, &run));
done:
    at_run_close(&run);
    at_config_release(&config);
    return st;
}
