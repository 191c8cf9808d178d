#include "cli.h"

#include "objective.h"

#include "record.h"

#include <math.h>
#include <string.h>

/* ---- before ---- */

static double mib(uint64_t bytes)
{
    return (double)bytes / (1 << 20);
}

static void describe_prompts(const struct at_online *o)
{
    cli_note("rows     %u prompts; %u of them a rollout, %u samples each of %u tokens at most",
             o->prompts.n, o->n_groups, o->group, o->n_new);
    for (uint32_t k = 0; k < at_rewards_count(o->rewards); k++)
        cli_note("%s%s", k == 0 ? "rewards  " : "         ", at_rewards_name(o->rewards, k));
}

static void describe_rows(const struct at_run *run)
{
    const struct at_run_data *d = &run->data;
    const struct at_dataset *all = d->was_split ? &d->all : &d->train;
    char packed[CLI_PACKED_BYTES];

    cli_note("rows     %u read, %u for training, %u held out%s; %u cut, %u dropped", all->n_read,
             d->train.n_rows, d->eval.n_rows, d->was_split ? " by prompt" : "", all->n_cut,
             all->n_dropped);
    if (run->config->train_dataset.weights)
        cli_note("         by the weights of their files an epoch sees %u", run->epoch_packs);
    if (all->form)
        cli_note("         in the form %s", all->form);
    if (all->n_of_pairs > 0)
        cli_note(
            "         %u of them are pairs, of which sft trains on chosen alone; dpo trains on "
            "both sides",
            all->n_of_pairs);
    if (cli_packed_text(packed, d))
        cli_note("packed   %s", packed);
    if (d->was_split && run->config->output_dir)
        cli_note("         which are which: %s/%s, %s", run->config->output_dir, AT_SPLIT_TRAIN,
                 AT_SPLIT_EVAL);
    if (all->n_boundary_moved > 0)
        cli_note("         in %u rows the prompt ends earlier: its last token merges with the "
                 "completion",
                 all->n_boundary_moved);
    if (all->n_unshared > 0)
        cli_note("         in %u pairs nothing is shared: they have no prompt in common",
                 all->n_unshared);
    if (all->n_apart > 0)
        cli_note("         in %u pairs nothing is shared: the lengths of their sides ask for other "
                 "rotary angles",
                 all->n_apart);
}

/* "sigmoid + 0.5 sft": all that is added up. */
static void losses_text(char *out, size_t size, const struct at_config *c)
{
    struct at_objective o;
    size_t n = 0;

    at_objective_make(&o, c, NULL);
    out[0] = 0;
    for (size_t i = 0; i < o.n && n < size; i++) {
        char factor[32] = "";
        if (o.terms[i].weight != 1)
            snprintf(factor, sizeof factor, "%g ", (double)o.terms[i].weight);
        snprintf(out + n, size - n, "%s%s%s", i ? " + " : "", factor, o.terms[i].name);
        n = strlen(out);
    }
}

static void describe_training(const struct at_run *run)
{
    const struct at_config *c = run->config;
    const struct at_engine *e = &run->engine;
    char what[128] = "all weights", losses[192];

    if (c->use_peft)
        snprintf(what, sizeof what, "%s r %u, alpha %g%s%s%s",
                 e->n_adapters && e->stack[0]->dora ? "DoRA" : "LoRA",
                 e->n_adapters ? e->stack[e->n_adapters - 1]->r : c->lora_r,
                 e->n_adapters ? e->stack[e->n_adapters - 1]->alpha : c->lora_alpha,
                 e->n_adapters > 1 ? " on a frozen adapter" : "",
                 e->model.saved[AT_SAVED_EMBED].param ? ", embed_tokens in full" : "",
                 e->model.saved[AT_SAVED_HEAD].param ? ", lm_head in full" : "");
    if (at_params_count(&e->params) < 1000000)
        cli_note("trains   %llu values (%s)", (unsigned long long)at_params_count(&e->params),
                 what);
    else
        cli_note("trains   %.2f million values (%s)", (double)at_params_count(&e->params) / 1e6,
                 what);
    losses_text(losses, sizeof losses, c);
    cli_note("steps    %llu of %u rows; %s, learning rate %g, preset %s",
             (unsigned long long)run->total_steps, run->rows_per_step, losses, c->learning_rate,
             c->preset);
}

void cli_describe_run(const struct at_run *run)
{
    const struct at_gpu_info *info = at_gpu_get_info(run->engine.gpu);
    const struct at_engine_bytes b = at_engine_get_bytes(&run->engine);
    const struct at_model_config *m = &run->bundle.config;
    char sampling[64] = "";

    if (at_online_draws(&run->online))
        snprintf(sampling, sizeof sampling, ", sampling %u at once %.0f", run->engine.n_sequences,
                 mib(b.sampler));
    cli_note("device   %s, driver %s; another: --device, see `attune devices`", info->name,
             info->driver);
    cli_note("model    %s: %s, %u layers, width %u, vocabulary %u", run->bundle.path,
             m->family->name, m->L, m->C, m->V);
    if (at_run_has_other_reference(run))
        cli_note(
            "refers   to %s, which is computed first (%.0f MiB); step 0 is not checked: policy "
            "and reference differ from the start",
            run->reference.bundle.path, mib(run->reference.device_bytes));
    if (run->online.is_on)
        describe_prompts(&run->online);
    else
        describe_rows(run);
    cli_note("memory   %.0f MiB of %.0f MiB: weights %.0f, trainable state %.0f, slab of %u tokens "
             "%.0f%s",
             mib(b.total), mib(b.available), mib(b.frozen), mib(b.state),
             run->engine.decoder.capacity, mib(b.slab), sampling);
    if (run->reward_models.n > 0)
        cli_note("         of it reward models %.1f MiB", (double)b.beside / (1 << 20));
    describe_training(run);
}

static void describe_start(void *context, const char *checkpoint)
{
    (void)context;
    if (checkpoint)
        cli_note("goes on  from %s", checkpoint);
    else
        cli_note("goes on  from the beginning: there is no checkpoint yet");
}

/* ---- after ---- */

static void share_text(char out[64], const struct at_share *s)
{
    snprintf(out, 64, "%.1f %% [%.1f, %.1f]", 100 * s->value, 100 * s->low, 100 * s->high);
}

static void show_table(const struct at_outcome *o)
{
    char before[64], after[64];

    if (o->has_samples)
        cli_note("reward   %.3f in the first rollout, %.3f in the last (mean over its samples)",
                 o->reward_first, o->reward_last);
    else if (!o->has_eval)
        cli_note("loss     %.4f at the first step, %.4f at the last; nothing was held out",
                 o->loss_first, o->loss_last);
    if (!o->has_eval)
        return;
    cli_note("%-36s %-22s %s", "held-out rows", "before", "after");
    snprintf(before, sizeof before, "%.4f", o->eval_loss_before);
    snprintf(after, sizeof after, "%.4f", o->eval_loss_after);
    cli_note("  %-34s %-22s %s", "loss", before, after);
    if (o->has_drift) {
        snprintf(before, sizeof before, "%.4g", o->drift_before);
        snprintf(after, sizeof after, "%.4g", o->drift_after);
        cli_note("  %-34s %-22s %s", "drift, nats a token", before, after);
    }
    if (!o->has_pairs)
        return;
    share_text(before, &o->before);
    share_text(after, &o->after);
    cli_note("  %-34s %-22s %s",
             o->has_rewards ? "chosen rewarded higher [95 %]" : "chosen likelier a token [95 %]",
             before, after);
    snprintf(before, sizeof before, "%.2f",
             o->has_rewards ? o->margin_before : o->chosen_logp_before);
    snprintf(after, sizeof after, "%.2f", o->has_rewards ? o->margin_after : o->chosen_logp_after);
    cli_note("  %-34s %-22s %s", o->has_rewards ? "margin of rewards" : "chosen log-prob", before,
             after);
}

static void show_alarms(const struct at_outcome *o)
{
    cJSON *alarms = at_records_alarms(o);

    for (const cJSON *alarm = alarms->child; alarm; alarm = alarm->next)
        cli_note("alarm    %s", alarm->valuestring);
    cJSON_Delete(alarms);
}

/* A training that has hardly moved the model: what to raise. */
static void show_hardly_moved(const struct at_config *c, const struct at_outcome *o)
{
    const double LITTLE = 0.05, FEW_STEPS = 30;
    const double grown = (o->has_rewards ? 1 : c->beta) * (o->margin_after - o->margin_before);
    const bool few = (double)o->steps < FEW_STEPS;

    if (!o->has_eval || !o->has_pairs || o->best_step == 0 || fabs(grown) >= LITTLE || grown == 0)
        return;
    cli_note(
        "note     hardly moved: the held-out margin changed by %+.3f (below %g is little); raise "
        "%s (now %g)",
        grown, LITTLE,
        !few               ? "learning_rate"
        : c->max_steps > 0 ? "max_steps"
                           : "num_train_epochs",
        !few               ? c->learning_rate
        : c->max_steps > 0 ? (double)c->max_steps
                           : c->num_train_epochs);
}

static void show_next(const struct at_config *c, const struct at_outcome *o)
{
    char took[32];

    cli_duration(took, o->time_s);
    cli_note("done     %llu step%s in %s%s; step %llu is what was written",
             (unsigned long long)o->steps, o->steps == 1 ? "" : "s", took,
             !o->stopped_early ? ""
             : o->no_spread    ? ", stopped early: all rewards are equal, nothing is left to learn"
                               : ", stopped early: held-out rows got no better",
             (unsigned long long)o->best_step);
    cli_note("files    %s/%s, metrics.jsonl, result.json, run.json", c->output_dir,
             c->use_peft ? "adapter_model.safetensors" : "model.safetensors");
    if (o->has_rewards && c->use_peft)
        cli_next("next     attune score CONFIG --method reward --model_name_or_path %s "
                 "--adapter_name_or_path %s --train_dataset ROWS",
                 c->model_name_or_path, c->output_dir);
    else if (o->has_rewards)
        cli_next("next     attune score CONFIG --method reward --use_peft false "
                 "--model_name_or_path %s --train_dataset ROWS",
                 c->output_dir);
    else if (c->use_peft && o->has_eval && o->has_pairs && c->eval_dataset.n <= 1)
        cli_next("next     attune eval --adapter %s --output %s/eval.json", c->output_dir,
                 c->output_dir);
    else if (c->use_peft)
        cli_next("next     attune generate --model_name_or_path %s --adapter %s --prompt TEXT",
                 c->model_name_or_path, c->output_dir);
    else
        cli_next("next     attune generate --model_name_or_path %s --prompt TEXT", c->output_dir);
}

static void show_quantised(const struct at_weights *weights)
{
    const struct at_quantise_report r = weights ? at_weights_quantise_report(weights)
                                                : (struct at_quantise_report){ .matrices = 0 };

    if (r.matrices > 0)
        cli_note("base     %llu matrices were %s%s: rounding is %.2f %% of their size",
                 (unsigned long long)r.matrices, r.type_name,
                 r.nested ? " with double quantisation" : "", 100 * r.error);
}

static void show_counts(const struct at_engine *e)
{
    uint64_t launches = 0, submissions = 0;

    at_stream_counts(e->stream, &launches, &submissions);
    cli_detail("tokens   %llu given, %llu computed, %llu of the reference; %llu head rows",
               (unsigned long long)e->tokens_given, (unsigned long long)e->tokens_computed,
               (unsigned long long)e->ref_forward_tokens, (unsigned long long)e->head_rows);
    cli_detail("device   %llu launches of %u pipelines in %llu submissions",
               (unsigned long long)launches, at_gpu_pipelines(e->gpu),
               (unsigned long long)submissions);
}

/* Samples that had no reward by a fault, of each source that had one. */
static void show_faults(const struct at_rewards *rewards)
{
    for (uint32_t k = 0; rewards && k < at_rewards_count(rewards); k++)
        if (at_rewards_faults(rewards, k) > 0)
            cli_note("rewards  %s: %llu samples had none, by its faults (see the warnings)",
                     at_rewards_name(rewards, k),
                     (unsigned long long)at_rewards_faults(rewards, k));
}

/* ---- --profile ---- */

/* What the run's stream was given beside its steps, and what ran on others. */
static AT_CHECKED say_what_is_timed(const struct at_run *run)
{
    enum at_status st = AT_OK;
    const uint32_t pairs = run->online.reward_watch.held.n_rows;
    const bool other = at_run_has_other_reference(run);
    const bool refers = at_objective_reads_reference(run->config) && !other;
    bool shared = false, apart = false; /* reward models: over the policy's weights, or others */
    struct at_buf line = { 0 };

    for (uint32_t i = 0; i < run->reward_models.n; i++)
        *(run->reward_models.items[i].bundle.path ? &apart : &shared) = true;
    at_buf_puts(&line, "in it: training steps");
    if (at_online_draws(&run->online))
        at_buf_puts(&line, ", sampling");
    if (shared)
        at_buf_puts(&line, ", reward models over the policy's weights");
    if (run->data.has_eval || pairs > 0)
        at_buf_printf(&line, ", all evaluations (of %u held-out rows)",
                      run->data.has_eval ? run->data.eval.n_rows : pairs);
    if (refers || run->engine.decoder.drift)
        at_buf_puts(&line, ", passes of the reference over rows of these");
    if (other)
        at_buf_puts(&line, "; not in it: passes of ref_model_name_or_path before the first step");
    if (apart)
        at_buf_puts(&line, "; not in it: reward models over weights of their own");
    TRY(at_buf_status(&line));
    fprintf(stderr, "%s%s\n", line.data,
            at_method_get(run->method)->draws ? "" : "; `attune bench` times steps alone");
done:
    at_buf_release(&line);
    return st;
}

static AT_CHECKED show_profile(const struct at_run *run)
{
    enum at_status st = AT_OK;

    TRY(cli_kernel_table(stderr, NULL, run->engine.stream));
    TRY(say_what_is_timed(run));
done:
    return st;
}

/* ---- commands ---- */

AT_CHECKED cli_train(const struct at_config *config, struct at_outcome *outcome)
{
    enum at_status st = AT_OK, trained = AT_OK;
    const struct at_events events = { .progress = cli_progress,
                                      .evaluation = cli_evaluation,
                                      .resumed = describe_start };
    struct at_run run = { .config = NULL };
    char *why = NULL;

    if (!config->output_dir)
        FAIL(AT_USAGE, "output_dir is missing: --output_dir DIR, the folder for the adapter and "
                       "the metrics");
    TRY(at_records_check_folder(config));
    TRY(at_run_open(&run, config, &events));
    cli_describe_run(&run);
    trained = at_train(&run, outcome);
    if (trained != AT_OK)
        TRY(at_arena_strdup(&run.arena, &why, at_message()));
    if (config->profile && run.engine.stream && show_profile(&run) != AT_OK && trained == AT_OK)
        at_warn("profile", "%s", at_message());
    if (trained != AT_OK) {
        st = at_fail(trained, "%s", why);
        goto done;
    }
    show_table(outcome);
    show_alarms(outcome);
    show_hardly_moved(config, outcome);
    show_faults(run.online.rewards);
    show_counts(&run.engine);
    show_quantised(run.bundle.weights);
    show_next(config, outcome);
done:
    at_run_close(&run);
    return st;
}

enum at_status cli_method(struct cli_args *args)
{
    enum at_status st = AT_OK;
    enum at_method method = AT_SFT;
    struct at_config config;
    struct at_outcome outcome;

    AT_REQUIRE(at_method_find(&method, args->command->name));
    TRY(cli_config_read(&config, args, &method));
    st = config.cross_validation > 0 ? cli_cross_validate(&config) : cli_train(&config, &outcome);
    at_config_release(&config);
done:
    return st;
}
