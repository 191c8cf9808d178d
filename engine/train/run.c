#include "epoch.h"
#include "evaluate.h"
#include "kl.h"
#include "objective.h"
#include "own_loss.h"
#include "rollout.h"
#include "run_parts.h"

#include <math.h>
#include <string.h>

/* ---- rows ---- */

void at_run_warn_ignored(const struct at_config *c, enum at_key key, const char *why)
{
    if (c->origin[key] >= AT_FROM_FILE)
        at_warn("ignored", "%s has no effect because %s", at_key_name(key), why);
}

bool at_run_trains(const struct at_run *run)
{
    return run->purpose == AT_TO_TRAIN || run->purpose == AT_TO_PLAN;
}

static bool is_scored(enum at_purpose purpose)
{
    return purpose == AT_TO_SCORE || purpose == AT_TO_JUDGE;
}

/* Of SFT; rows that are only scored stay as they are. */
static enum at_packing packing_of(const struct at_run *run, bool on)
{
    const char *strategy = run->config->packing_strategy;

    if (!on || is_scored(run->purpose) || !at_key_read_by(AT_KEY_packing, run->method))
        return AT_PACKING_NONE;
    return strcmp(strategy, "wrapped") == 0     ? AT_PACKING_WRAPPED
           : strcmp(strategy, "bfd_split") == 0 ? AT_PACKING_BFD_SPLIT
                                                : AT_PACKING_BFD;
}

static enum at_packing train_packing(const struct at_run *run)
{
    return packing_of(run, run->config->packing);
}

static enum at_packing eval_packing(const struct at_run *run)
{
    const struct at_config *c = run->config;

    return packing_of(run, c->is_set[AT_KEY_eval_packing] ? c->eval_packing : c->packing);
}

/* Cuts them into pieces, so that nothing is lost. */
static bool takes_long_rows(enum at_packing packing)
{
    return packing == AT_PACKING_BFD_SPLIT || packing == AT_PACKING_WRAPPED;
}

uint32_t at_run_row_limit(const struct at_config *config)
{
    const struct at_run run = { .config = config, .method = config->run_method };

    return takes_long_rows(train_packing(&run)) ? 0 : config->max_length;
}

struct at_dataset_params at_run_dataset_params(const struct at_run *run, enum at_packing packing)
{
    const struct at_config *c = run->config;
    struct at_dataset_params p = {
        .kind = at_method_get(run->method)->rows,
        .tokenizer = run->bundle.tokenizer,
        .chat = run->bundle.chat,
        .chat_problem = run->bundle.chat_problem,
        .eos = c->eos_token,
        .system_prompt = c->system_prompt,
        .examples = run->examples,
        .max_length = takes_long_rows(packing) ? 0 : c->max_length,
        .long_from = at_model_long_from(&run->bundle.config, UINT32_MAX),
        .long_each = at_model_long_each(&run->bundle.config),
        .assistant_only = c->assistant_only_loss,
        .prompt_targets = at_method_get(run->method)->prompt,
        .triples = at_objective_reads_triples(c),
        .reads_last = at_method_get(run->method)->value_head,
        .singles = at_method_get(run->method)->value_head && !at_run_trains(run),
        .unrewarded = !at_run_trains(run),
        .skips_pad = strcmp(c->reward_token, "last_not_pad") == 0,
        .completion_only = !c->is_set[AT_KEY_completion_only_loss] || c->completion_only_loss,
    };

    p.on_long = strcmp(c->on_long_row, "cut") == 0    ? AT_LONG_CUT
                : strcmp(c->on_long_row, "drop") == 0 ? AT_LONG_DROP
                                                      : AT_LONG_ERROR;
    p.keeps_cut = packing != AT_PACKING_NONE; /* TRL packs them too */
    p.on_bad = strcmp(c->on_bad_row, "skip") == 0   ? AT_BAD_SKIP
               : strcmp(c->on_bad_row, "keep") == 0 ? AT_BAD_KEEP
                                                    : AT_BAD_ERROR;
    return p;
}

uint64_t at_run_data_seed(const struct at_config *c)
{
    return c->is_set[AT_KEY_data_seed] ? c->data_seed : c->seed;
}

static AT_CHECKED open_kl(struct at_run *run)
{
    enum at_status st = AT_OK;
    const struct at_config *c = run->config;
    const uint32_t batch = c->per_device_train_batch_size;
    struct at_run_data *d = &run->data;

    if (!at_objective_reads_kl(c))
        goto done;
    TRY(at_kl_rows(&run->arena, &d->train_kl, &d->train, batch, c->max_length, NULL));
    if (d->has_eval)
        TRY(at_kl_rows(&run->arena, &d->eval_kl, &d->eval, batch, c->max_length, &d->train));
done:
    return st;
}

/* The two labels pull equally hard where (their weight * their number) agree; KTO's authors advise
 * 1 to 4/3 times as much for the desirable ones. */
static void warn_balance(const struct at_run *run)
{
    const struct at_config *c = run->config;
    const struct at_dataset *d = &run->data.train;
    const double LEAST = 0.99, ADVISED = 1.15, MOST = 1.34;
    const double *weights = c->train_dataset.weights;
    double desirable = 0, others = 0, ratio = 0;

    if (at_method_get(run->method)->rows != AT_ROWS_LABELLED)
        return;
    for (uint32_t i = 0; i < d->n_rows; i++) {
        *(d->rows[i].desirable ? &desirable : &others) += weights ? weights[d->rows[i].file] : 1;
        at_dataset_passed(d, i);
    }
    if (desirable == 0 || others == 0) {
        at_warn("balance", "all %u training rows are %s: nothing shows what the other kind is like",
                d->n_rows, others == 0 ? "desirable" : "undesirable");
        return;
    }
    if (c->desirable_weight == 0 || c->undesirable_weight == 0) {
        at_warn("balance", "%s is 0: the %.0f %s rows count for nothing",
                c->desirable_weight == 0 ? "desirable_weight" : "undesirable_weight",
                c->desirable_weight == 0 ? desirable : others,
                c->desirable_weight == 0 ? "desirable" : "undesirable");
        return;
    }
    ratio = c->desirable_weight * desirable / (c->undesirable_weight * others);
    if (!(ratio >= LEAST && ratio <= MOST))
        at_warn("balance",
                "%.0f rows are desirable and %.0f are not: with desirable_weight %g and "
                "undesirable_weight %g the desirable ones pull %.3g times as hard, 1 to 1.33 is "
                "advised; desirable_weight %.2g does that",
                desirable, others, c->desirable_weight, c->undesirable_weight, ratio,
                ADVISED * c->undesirable_weight * others / desirable);
}

/* Masks that are asked for need rows that have them, as TRL says too. */
static AT_CHECKED check_masks(const struct at_config *c, const struct at_dataset *d)
{
    if (!at_key_read_by(AT_KEY_completion_only_loss, c->run_method))
        return AT_OK;
    if (c->origin[AT_KEY_completion_only_loss] >= AT_FROM_FILE && c->completion_only_loss &&
        d->n_prompted == 0)
        return at_fail(AT_USAGE, "completion_only_loss is for rows {prompt, completion}, and "
                                 "train_dataset has none; of conversations assistant_only_loss "
                                 "takes the replies: use that, or remove it");
    if (c->origin[AT_KEY_assistant_only_loss] >= AT_FROM_FILE && c->assistant_only_loss &&
        d->n_chats == 0)
        return at_fail(AT_USAGE, "assistant_only_loss is for conversations, and train_dataset has "
                                 "none; of rows {prompt, completion} only the completion counts "
                                 "anyway: remove it");
    return AT_OK;
}

/* Prompts to draw samples for, or pairs of samples among which rewards choose. */
static AT_CHECKED open_drawn(struct at_run *run, const struct at_dataset_params *p)
{
    enum at_status st = AT_OK;

    if (is_scored(run->purpose))
        FAIL(AT_USAGE, "%s",
             run->config->rollouts
                 ? "pairs of rollouts are decided while they train: score their samples with "
                   "--method rloo --num_generations 2"
             : p->kind == AT_ROWS_SAMPLE
                 ? "there are no samples before they are drawn: name recorded ones as rollouts"
                 : "there are no samples before they are drawn");
    TRY(at_online_open(run, p));
done:
    return st;
}

static AT_CHECKED open_data(struct at_run *run)
{
    enum at_status st = AT_OK;
    const struct at_config *c = run->config;
    const struct at_dataset_params p = at_run_dataset_params(run, train_packing(run)),
                                   held = at_run_dataset_params(run, eval_packing(run));
    struct at_run_data *d = &run->data;

    TRY(at_rollout_check(c));
    if (at_method_get(run->method)->draws && (!c->rollouts || p.kind == AT_ROWS_PAIR)) {
        TRY(open_drawn(run, &p));
        goto done;
    }
    if (p.kind == AT_ROWS_SAMPLE) {
        TRY(at_rollouts_load(&d->train, &d->samples, c->rollouts, c->num_generations, &p));
        goto done;
    }
    if (c->train_dataset.n == 0)
        FAIL(AT_USAGE, "train_dataset is missing: a JSONL file or a list of them");
    if (c->eval_dataset.n > 0) {
        TRY(at_dataset_load(&d->train, c->train_dataset.items, c->train_dataset.n, &p));
        TRY(at_dataset_load(&d->eval, c->eval_dataset.items, c->eval_dataset.n, &held));
        d->has_eval = true;
    } else if (c->cross_validation > 0) {
        TRY(at_dataset_load(&d->all, c->train_dataset.items, c->train_dataset.n, &p));
        d->was_split = d->has_eval = true;
        TRY(at_dataset_fold(&d->train, &d->eval, &d->all, 0, c->cross_validation,
                            at_run_data_seed(c)));
    } else if (c->eval_split > 0) {
        TRY(at_dataset_load(&d->all, c->train_dataset.items, c->train_dataset.n, &p));
        d->was_split = true;
        TRY(at_dataset_split(&d->train, &d->eval, &d->all, c->eval_split, at_run_data_seed(c)));
        d->has_eval = true;
    } else {
        TRY(at_dataset_load(&d->train, c->train_dataset.items, c->train_dataset.n, &p));
        if (strcmp(c->eval_strategy, "no") != 0 && !is_scored(run->purpose))
            at_warn("no_eval",
                    "nothing is held out (eval_split is 0 and eval_dataset is %s): the result "
                    "cannot be judged",
                    c->is_set[AT_KEY_eval_dataset] ? "an empty list" : "not given");
    }
    TRY(check_masks(c, d->was_split ? &d->all : &d->train));
done:
    return st;
}

/* Keys of texts that no row has. */
static void warn_texts(const struct at_run *run)
{
    const struct at_config *c = run->config;
    const struct at_run_data *data = &run->data;
    const struct at_dataset *d = data->was_split ? &data->all : &data->train;

    if (!at_run_trains(run))
        return;
    if (d->n_chats == 0)
        at_run_warn_ignored(c, AT_KEY_system_prompt, "no row is a conversation");
    if (d->n_chats == d->n_rows && !c->rollouts && strcmp(c->reward_token, "last_not_pad") != 0)
        at_run_warn_ignored(c, AT_KEY_eos_token,
                            "all rows are conversations, whose turns the chat template ends");
}

static AT_CHECKED pack_rows(struct at_run *run, struct at_packs *out, const struct at_dataset *d,
                            enum at_packing packing)
{
    enum at_status st = AT_OK;
    uint64_t targets = 0;

    TRY(at_packs_make(out, &run->arena, d, packing, run->config->max_length));
    for (uint32_t i = 0; i < out->n_rows; i++) {
        targets += at_row_targets(&out->rows[i]);
        at_run_passed(run, i);
    }
    if (packing != AT_PACKING_NONE && targets == 0 && d->n_rows > 0)
        FAIL(AT_DATA, "no token of the packed rows is trained on: raise max_length (%u)",
             run->config->max_length);
done:
    return st;
}

/* A group of samples is what a packed row is; of samples that are drawn there are those of a
 * rollout, and a group for each prompt. */
static AT_CHECKED pack_groups(struct at_run *run)
{
    enum at_status st = AT_OK;
    struct at_run_data *d = &run->data;
    const uint32_t group = d->samples.group > 0 ? d->samples.group : 1;
    const uint32_t n = d->train.n_rows / group;
    uint32_t *begin = NULL;

    TRY(pack_rows(run, &d->train_packs, &d->train, AT_PACKING_NONE));
    TRY(at_arena_alloc(&run->arena, &begin, n + 1, sizeof *begin));
    for (uint32_t i = 0; i <= n; i++)
        begin[i] = i * group;
    d->train_packs.begin = begin;
    d->train_packs.n = run->online.is_on ? run->online.prompts.n : n;
    d->train_packs.most = group;
done:
    return st;
}

static AT_CHECKED open_packs(struct at_run *run)
{
    enum at_status st = AT_OK;
    struct at_run_data *d = &run->data;

    if (d->samples.group > 0 || run->online.is_on)
        TRY(pack_groups(run));
    else
        TRY(pack_rows(run, &d->train_packs, &d->train, train_packing(run)));
    if (d->samples.group > 0)
        goto done;
    TRY(pack_rows(run, &d->eval_packs, &d->eval, eval_packing(run)));
    if (takes_long_rows(train_packing(run)) && (!d->has_eval || takes_long_rows(eval_packing(run))))
        at_run_warn_ignored(run->config, AT_KEY_on_long_row,
                            "this packing_strategy leaves nothing of long rows out");
    if (!is_scored(run->purpose) && !d->has_eval)
        at_run_warn_ignored(run->config, AT_KEY_eval_packing, "no rows are held out");
done:
    return st;
}

static AT_CHECKED open_regression(struct at_run *run)
{
    enum at_status st = AT_OK;
    const struct at_strings *files = &run->config->regression_dataset;
    struct at_dataset_params p = at_run_dataset_params(run, AT_PACKING_NONE);

    p.kind = AT_ROWS_SFT;
    p.prompt_targets = false;
    if (files->n > 0)
        TRY(at_dataset_load(&run->data.regression, files->items, files->n, &p));
done:
    return st;
}

/* Of a rollout that serves several steps each has as many rows: prompts that do not fill one are
 * left out of the epoch. */
static AT_CHECKED count_rollouts(struct at_run *run)
{
    const struct at_config *c = run->config;
    const uint32_t parts = at_rollout_parts(c);
    const uint64_t rows = at_rollout_rows(c), packs = rows / c->num_generations;

    run->packs_per_epoch = run->epoch_packs;
    if (parts == 1)
        return AT_OK;
    if (run->packs_per_epoch < packs)
        return at_fail(AT_USAGE,
                       "a rollout has %llu prompts (steps_per_generation or "
                       "generation_batch_size), and the data %u: lower it",
                       (unsigned long long)packs, run->packs_per_epoch);
    AT_REQUIRE(packs > 0);
    run->packs_per_epoch -= run->packs_per_epoch % (uint32_t)packs;
    run->window = (uint32_t)rows; /* of as many as the data have at most */
    run->steps_per_epoch = run->packs_per_epoch / packs * at_rollout_steps(c);
    return AT_OK;
}

static AT_CHECKED count_steps(struct at_run *run)
{
    enum at_status st = AT_OK;
    const struct at_config *c = run->config;
    const uint32_t batch = c->per_device_train_batch_size, window = c->gradient_accumulation_steps;
    const uint32_t group = run->data.samples.group;
    const struct at_packs *d = &run->data.train_packs;
    const uint64_t rows = (uint64_t)batch * window;
    uint64_t most = 0, micro = 0;
    uint32_t n = 0;

    TRY(at_epoch_count(&run->epoch_packs, run));
    n = run->epoch_packs * (group > 0 ? group : 1);
    micro = at_div_up(n, batch);
    run->rows_per_step = (uint32_t)(rows < n ? rows : n);
    most = (uint64_t)run->rows_per_step * (group > 0 ? 1 : d->most);
    if (!at_epoch_is_weighted(run) && most > d->n_rows)
        most = d->n_rows;
    run->window = (uint32_t)most;
    run->steps_per_epoch =
        group > 0 ? at_div_up(n, rows) * at_rollout_steps(c) : at_div_up(micro, window);
    TRY(count_rollouts(run));
    run->total_steps = c->max_steps > 0
                           ? c->max_steps
                           : (uint64_t)ceil(c->num_train_epochs * (double)run->steps_per_epoch);
done:
    return st;
}

/* What the run is too short for. */
static void warn_steps(const struct at_run *run)
{
    const struct at_config *c = run->config;
    const double steps = (double)run->total_steps;

    if (!at_run_trains(run))
        return;
    if (run->total_steps == 0)
        at_warn("steps", "nothing is trained: max_steps and num_train_epochs are 0");
    else if (c->sync_ref_model && c->ref_model_sync_steps > steps)
        at_warn("steps", "the reference never moves: ref_model_sync_steps is %u, the run has %.0f",
                c->ref_model_sync_steps, steps);
    if (run->packs_per_epoch < run->epoch_packs)
        at_warn("steps", "%u of %u prompts do not fill a rollout: left out of %s",
                run->epoch_packs - run->packs_per_epoch, run->epoch_packs,
                strcmp(c->train_sampling_strategy, "random") == 0
                    ? "each epoch, others each time"
                    : "every epoch (train_sampling_strategy sequential)");
    if (run->total_steps > 0 && c->warmup_steps > steps)
        at_warn("steps", "learning_rate is never reached: warmup_steps is %g, the run has %.0f",
                c->warmup_steps, steps);
}

struct at_quantise_params at_run_quantise_params(const struct at_config *c)
{
    const enum at_quant_type four = strcmp(c->bnb_4bit_quant_type, "fp4") == 0 ? AT_FP4 : AT_NF4;

    return (struct at_quantise_params){
        .type = c->load_in_4bit ? four : (c->load_in_8bit ? AT_INT8 : AT_F32),
        .nested = c->load_in_4bit && (c->bnb_4bit_use_double_quant || c->use_bnb_nested_quant),
    };
}

static AT_CHECKED open_rows(struct at_run *out, const struct at_config *config,
                            const struct at_events *events, enum at_purpose purpose,
                            const struct at_examples *examples)
{
    enum at_status st = AT_OK;
    struct at_bundle_params b = { .path = config->model_name_or_path,
                                  .chat_template_path = config->chat_template_path,
                                  .tokenizer_dir = config->tokenizer,
                                  .quantise = at_run_quantise_params(config),
                                  .no_weights = config->init_from_scratch,
                                  .header_only = purpose == AT_TO_PLAN };

    *out = (struct at_run){
        .config = config, .method = config->run_method, .purpose = purpose, .arena.spills = true
    };
    if (events)
        out->events = *events;
    if (examples)
        out->examples = *examples;
    TRY(at_bundle_open(&out->bundle, &b));
    TRY(open_data(out));
    warn_texts(out);
    TRY(open_packs(out));
    TRY(count_steps(out));
    warn_steps(out);
done:
    if (st != AT_OK)
        at_run_close(out);
    return st;
}

void at_run_drop(const struct at_run *run)
{
    at_dataset_drop(&run->data.train);
    at_dataset_drop(&run->data.eval);
    at_arena_drop(&run->arena);
}

void at_run_passed(const struct at_run *run, uint32_t i)
{
    enum { PASSED = 1 << 16 };

    if (i % PASSED == 0)
        at_run_drop(run);
}

/* For people to look at. */
static void order_by_line(struct at_run *run)
{
    at_dataset_order_by_line(run->data.was_split ? &run->data.all : &run->data.train);
}

AT_CHECKED at_run_open_rows(struct at_run *out, const struct at_config *config,
                            const struct at_events *events)
{
    enum at_status st = AT_OK;

    TRY(open_rows(out, config, events, AT_TO_SHOW, NULL));
    order_by_line(out);
done:
    return st;
}

/* ---- engine ---- */

static AT_CHECKED open_run(struct at_run *out, const struct at_config *config,
                           const struct at_events *events, enum at_purpose purpose,
                           const struct at_examples *examples)
{
    enum at_status st = AT_OK;

    TRY(open_rows(out, config, events, purpose, examples));
    if (at_run_trains(out)) {
        TRY(at_evaluation_check(config));
        TRY(open_kl(out));
        TRY(open_regression(out));
        warn_balance(out);
    } else {
        order_by_line(out);
    }
    TRY(at_run_plan_engine(out));
    if (at_run_trains(out))
        TRY(at_own_losses_build(out));
    if (purpose != AT_TO_PLAN && config->adapter_name_or_path)
        TRY(at_adapter_check_base(config->adapter_name_or_path, out->bundle.weights));
done:
    if (st != AT_OK)
        at_run_close(out);
    return st;
}

/* Keys of at_run_again() that the engine's plan reads. */
static bool plans_alike(const struct at_config *a, const struct at_config *b)
{
    const double ratio = a->is_set[AT_KEY_loraplus_lr_ratio] ? a->loraplus_lr_ratio : 1;
    const double other = b->is_set[AT_KEY_loraplus_lr_ratio] ? b->loraplus_lr_ratio : 1;

    return a->lora_alpha == b->lora_alpha && a->lora_r == b->lora_r && ratio == other &&
           a->weight_decay == b->weight_decay;
}

AT_CHECKED at_run_again(struct at_run *run, const struct at_config *config)
{
    enum at_status st = AT_OK;
    const struct at_config *before = run->config;

    AT_REQUIRE(run->purpose == AT_TO_TRAIN && !at_run_has_other_reference(run));
    run->config = config;
    TRY(count_steps(run));
    warn_steps(run);
    if (plans_alike(before, config))
        goto done;
    at_engine_close(&run->engine);
    TRY(at_run_plan_engine(run));
    TRY(at_own_losses_build(run));
done:
    return st;
}

AT_CHECKED at_run_fold(struct at_run *run, uint32_t fold)
{
    enum at_status st = AT_OK;
    struct at_run_data *d = &run->data;
    const struct at_config *c = run->config;

    AT_REQUIRE(c->cross_validation > 0);
    at_dataset_release(&d->train);
    at_dataset_release(&d->eval);
    TRY(at_dataset_fold(&d->train, &d->eval, &d->all, fold, c->cross_validation,
                        at_run_data_seed(c)));
    TRY(open_packs(run));
    TRY(count_steps(run));
done:
    return st;
}

AT_CHECKED at_run_open(struct at_run *out, const struct at_config *config,
                       const struct at_events *events)
{
    return open_run(out, config, events, AT_TO_TRAIN, NULL);
}

AT_CHECKED at_run_open_plan(struct at_run *out, const struct at_config *config)
{
    return open_run(out, config, NULL, AT_TO_PLAN, NULL);
}

AT_CHECKED at_run_open_scores(struct at_run *out, const struct at_config *config)
{
    return open_run(out, config, NULL, AT_TO_SCORE, NULL);
}

void at_run_close(struct at_run *run)
{
    at_reward_models_close(&run->reward_models);
    at_engine_close(&run->engine);
    at_reference_close(&run->reference);
    at_dataset_release(&run->data.regression);
    at_dataset_release(&run->data.train);
    at_dataset_release(&run->data.eval);
    at_dataset_release(&run->data.all);
    at_online_close(&run->online);
    at_bundle_close(&run->bundle);
    at_arena_release(&run->arena);
    *run = (struct at_run){ .config = NULL };
}

AT_CHECKED at_run_open_judge(struct at_run *out, const struct at_config *config,
                             const struct at_examples *examples)
{
    return open_run(out, config, NULL, AT_TO_JUDGE, examples);
}

bool at_run_has_other_reference(const struct at_run *run)
{
    return run->reference.bundle.path != NULL;
}

AT_CHECKED at_score_rows(struct at_engine *engine, const struct at_row *const *rows, uint32_t n,
                         struct at_row_result *results, bool reference)
{
    enum at_status st = AT_OK;
    const struct at_compute what = { .policy = true, .reference = reference };

    TRY(at_engine_rows(engine, rows, results, n, &what));
    TRY(at_engine_finish(engine));
done:
    return st;
}
