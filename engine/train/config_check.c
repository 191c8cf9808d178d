#include "config.h"
#include "drift.h"
#include "schedule.h"

#include <stdio.h>
#include <string.h>

/* ---- older generations ---- */

/* Keys whose counterpart can be pasted: what stands before and behind their value, in a document
 * and as flags; without a second part their value has no counterpart. */
static const struct {
    const char *name, *document[2], *flags[2];
} pastes[] = {
    { "max_prompt_length", { "\"max_length\": 1024", NULL }, { "--max_length 1024", NULL } },
    { "reference_free",
      { "\"method\": \"cpo\", \"cpo_alpha\": 0", NULL },
      { "attune cpo, with --cpo_alpha 0", NULL } },
    { "rpo_alpha",
      { "\"loss_type\": [\"sigmoid\", \"sft\"], \"loss_weights\": [1, ", "]" },
      { "--loss_type '[\"sigmoid\", \"sft\"]' --loss_weights '[1, ", "]'" } },
};

enum at_status at_config_fail_renamed(const char *name, const cJSON *value, const char *where,
                                      const char *now)
{
    const bool flag = strcmp(where, "--") == 0;
    enum at_status st = AT_USAGE;
    char *text = NULL;

    if (cJSON_IsFalse(value) || cJSON_IsNull(value))
        return at_fail(AT_USAGE, "%s%s is off, and nothing takes its place: remove it", where,
                       name);
    for (size_t i = 0; i < AT_COUNT(pastes); i++) {
        const char *const *part = flag ? pastes[i].flags : pastes[i].document;
        if (strcmp(pastes[i].name, name) != 0)
            continue;
        text = part[1] ? cJSON_PrintUnformatted(value) : NULL;
        st = at_fail(AT_USAGE, "%s%s: write %s, here %s%s%s", where, name, now, part[0],
                     part[1] && cJSON_IsString(value) ? value->valuestring : (text ? text : ""),
                     part[1] ? part[1] : "");
        cJSON_free(text);
        return st;
    }
    return at_fail(AT_USAGE, "%s%s: write %s%s", where, name, flag ? "--" : "", now);
}

/* ---- evaluations ---- */

static bool given(const struct at_config *c, enum at_key key)
{
    return c->is_set[key] && c->origin[key] >= AT_FROM_FILE;
}

bool at_config_holds_out(const struct at_config *c)
{
    return c->eval_split > 0 || c->eval_dataset.n > 0 || c->cross_validation > 0;
}

/* What the evaluations before and after training decide, too. */
static AT_CHECKED need_held_out(const struct at_config *c, const char *what)
{
    if (!at_config_holds_out(c))
        return at_fail(AT_USAGE, "%s needs held-out rows: give eval_dataset or eval_split", what);
    return AT_OK;
}

/* Something that only evaluations can decide needs them. */
static AT_CHECKED need_evaluations(const struct at_config *c, const char *what)
{
    if (strcmp(c->eval_strategy, "no") == 0)
        return at_fail(AT_USAGE, "%s needs evaluations: set eval_strategy to steps or epoch", what);
    return need_held_out(c, what);
}

static AT_CHECKED check_best(const struct at_config *c)
{
    enum at_status st = AT_OK;

    if (given(c, AT_KEY_load_best_model_at_end) && c->load_best_model_at_end)
        TRY(need_held_out(c, "load_best_model_at_end"));
    if (given(c, AT_KEY_metric_for_best_model))
        TRY(need_held_out(c, "metric_for_best_model"));
done:
    return st;
}

/* What other values leave without an effect. */
static void warn_unread(const struct at_config *c)
{
    const bool by_steps =
        c->max_steps > 0 && c->origin[AT_KEY_num_train_epochs] >= c->origin[AT_KEY_max_steps];
    const bool drops = c->use_peft && c->lora_dropout > 0;
    const struct {
        enum at_key key;
        bool unread;
        const char *why;
    } rows[] = {
        { AT_KEY_disable_dropout, !c->disable_dropout && !drops, "there is no lora_dropout" },
        { AT_KEY_eval_split, c->eval_split > 0 && c->eval_dataset.n > 0, "eval_dataset is given" },
        { AT_KEY_num_train_epochs, by_steps, "max_steps is given" },
        { AT_KEY_on_long_row, c->max_length == 0, "max_length is 0: no row is too long" },
    };

    for (size_t i = 0; i < AT_COUNT(rows); i++)
        if (rows[i].unread && given(c, rows[i].key))
            at_warn("ignored", "%s has no effect because %s", at_key_name(rows[i].key),
                    rows[i].why);
}

/* A key that another one leaves without meaning. A flag may do so to the file's keys. */
static AT_CHECKED check_unread(const struct at_config *c)
{
    const bool evaluates_by_step = strcmp(c->eval_strategy, "steps") == 0;
    const bool saves_by_step = strcmp(c->save_strategy, "steps") == 0;
    const bool saves = strcmp(c->save_strategy, "no") != 0;
    const struct {
        enum at_key key, by;
        bool unread;
        const char *value, *instead;
    } rows[] = {
        { AT_KEY_eval_steps, AT_KEY_eval_strategy, !evaluates_by_step, c->eval_strategy,
          "set that to steps" },
        { AT_KEY_save_steps, AT_KEY_save_strategy, !saves_by_step, c->save_strategy,
          "set that to steps" },
        { AT_KEY_save_total_limit, AT_KEY_save_strategy, !saves && c->save_total_limit > 0,
          c->save_strategy, "set that to steps or epoch" },
    };

    warn_unread(c);
    for (size_t i = 0; i < AT_COUNT(rows); i++)
        if (rows[i].unread && given(c, rows[i].key) &&
            c->origin[rows[i].key] >= c->origin[rows[i].by])
            return at_fail(AT_USAGE, "%s is not read with %s %s: %s, or remove %s",
                           at_key_name(rows[i].key), at_key_name(rows[i].by), rows[i].value,
                           rows[i].instead, at_key_name(rows[i].key));
    return AT_OK;
}

/* Evaluations that are asked for need rows. A flag that turns them off wins over the file. */
static AT_CHECKED check_held_out(const struct at_config *c)
{
    const bool asked = given(c, AT_KEY_eval_strategy) && strcmp(c->eval_strategy, "no") != 0;
    const enum at_origin by = c->origin[AT_KEY_eval_strategy];
    char what[32];

    if (!asked || c->origin[AT_KEY_eval_split] > by ||
        (c->eval_dataset.n == 0 && c->origin[AT_KEY_eval_dataset] > by))
        return AT_OK;
    snprintf(what, sizeof what, "eval_strategy %s", c->eval_strategy);
    return need_held_out(c, what);
}

/* Folds are what is held out. */
static AT_CHECKED check_folds(const struct at_config *c)
{
    const bool file = c->eval_dataset.n > 0;

    if (c->cross_validation == 1)
        return at_fail(AT_USAGE, "cross_validation is 1; it trains so many adapters, each without "
                                 "the rows that it is judged on: give it 2 or more (5 is usual)");
    if (c->cross_validation > 0 && (file || (given(c, AT_KEY_eval_split) && c->eval_split > 0)))
        return at_fail(AT_USAGE,
                       "cross_validation holds out every row of train_dataset in turn; "
                       "remove %s or cross_validation",
                       file ? "eval_dataset" : "eval_split");
    return AT_OK;
}

static AT_CHECKED check_early_stopping(const struct at_config *c)
{
    if (c->early_stopping_patience > 0)
        return need_evaluations(c, "early_stopping_patience");
    if (c->early_stopping_threshold > 0)
        return at_fail(AT_USAGE, "early_stopping_threshold is not read without "
                                 "early_stopping_patience; set it or remove the threshold");
    return AT_OK;
}

static void check_reports(const struct at_config *c)
{
    for (size_t i = 0; i < c->report_to.n; i++)
        if (strcmp(c->report_to.items[i], "none") != 0 &&
            strcmp(c->report_to.items[i], "tensorboard") != 0)
            at_warn("no_effect",
                    "report_to %s has no effect because metrics go to metrics.jsonl, and with "
                    "tensorboard to an event file",
                    c->report_to.items[i]);
}

static AT_CHECKED check_schedule(const struct at_config *c)
{
    enum at_status st = AT_OK;
    struct at_schedule s;

    TRY(at_schedule_make(&s, c->lr_scheduler_type, c->learning_rate, c->warmup_steps, 1,
                         c->lr_scheduler_kwargs));
    if (at_schedule_has_plateau(&s))
        TRY(need_evaluations(c, "lr_scheduler_type reduce_lr_on_plateau"));
    if (!at_schedule_warms_up(&s) && c->warmup_steps > 0 && given(c, AT_KEY_warmup_steps))
        at_warn("ignored", "warmup_steps has no effect because lr_scheduler_type %s has no warm-up",
                c->lr_scheduler_type);
done:
    return st;
}

/* The reference that follows the policy is an adapter's copy, computed in each step. */
static AT_CHECKED check_sync(const struct at_config *c)
{
    static const enum at_key knobs[] = { AT_KEY_ref_model_mixup_alpha,
                                         AT_KEY_ref_model_sync_steps };

    for (size_t i = 0; !c->sync_ref_model && i < AT_COUNT(knobs); i++)
        if (c->origin[knobs[i]] >= AT_FROM_FILE)
            return at_fail(AT_USAGE,
                           "%s is not read without sync_ref_model; set that to true or "
                           "remove it",
                           at_key_name(knobs[i]));
    if (c->sync_ref_model && !c->use_peft)
        return at_fail(AT_USAGE, "sync_ref_model needs use_peft: true (full fine-tuning keeps the "
                                 "log-probs of its reference, not the model)");
    if (c->sync_ref_model && c->ref_model_name_or_path)
        return at_fail(AT_USAGE,
                       "sync_ref_model moves the policy's own adapter at step 0 and cannot "
                       "move ref_model_name_or_path; remove one of the two");
    if (c->sync_ref_model && c->precompute_ref_log_probs)
        return at_fail(AT_USAGE,
                       "precompute_ref_log_probs is for a reference that stays; remove it "
                       "or sync_ref_model");
    if (c->sync_ref_model && c->ref_model_mixup_alpha == 0)
        return at_fail(AT_USAGE, "ref_model_mixup_alpha 0 leaves the reference where it is; give "
                                 "it a share above 0 (0.6 is usual), or remove sync_ref_model");
    return AT_OK;
}

/* Packed rows have max_length tokens, and rows that are held out by eval_split are read with those
 * that are trained on. */
static AT_CHECKED check_packing(const struct at_config *c)
{
    const bool held = c->is_set[AT_KEY_eval_packing] ? c->eval_packing : c->packing;
    const bool bfd = strcmp(c->packing_strategy, "bfd") == 0;

    if (!at_key_read_by(AT_KEY_packing, c->run_method))
        return AT_OK;
    if (!c->packing && !held && c->origin[AT_KEY_packing_strategy] >= AT_FROM_FILE)
        at_warn("ignored", "packing_strategy has no effect because packing is false");
    if (!c->packing && !held)
        return AT_OK;
    if (c->max_length == 0)
        return at_fail(AT_USAGE, "packing needs max_length, the tokens of a packed row; 0 is no "
                                 "limit, TRL's default is 1024");
    if (c->packing != held && !bfd && c->eval_dataset.n == 0 && c->eval_split > 0)
        return at_fail(
            AT_USAGE,
            "packing_strategy %s takes long rows as they are, and eval_split would hold "
            "some out that are not packed; give eval_dataset, or eval_packing as packing",
            c->packing_strategy);
    return AT_OK;
}

AT_CHECKED at_config_check_running(const struct at_config *c)
{
    enum at_status st = AT_OK;

    check_reports(c);
    TRY(check_schedule(c));
    TRY(check_early_stopping(c));
    TRY(check_folds(c));
    TRY(check_held_out(c));
    TRY(check_best(c));
    TRY(check_unread(c));
    TRY(check_sync(c));
    TRY(check_packing(c));
    TRY(at_drift_check(c));
done:
    return st;
}

/* ---- quantising at load ---- */

static AT_CHECKED check_quantising(const struct at_config *c)
{
    static const enum at_key knobs[] = { AT_KEY_bnb_4bit_quant_type,
                                         AT_KEY_bnb_4bit_use_double_quant,
                                         AT_KEY_use_bnb_nested_quant };

    if (c->load_in_4bit && c->load_in_8bit)
        return at_fail(AT_USAGE, "load_in_4bit and load_in_8bit exclude each other; remove one");
    if ((c->load_in_4bit || c->load_in_8bit) && !c->use_peft)
        return at_fail(AT_USAGE, "%s needs use_peft: true (quantised weights cannot be trained)",
                       c->load_in_4bit ? "load_in_4bit" : "load_in_8bit");
    for (size_t i = 0; !c->load_in_4bit && i < AT_COUNT(knobs); i++)
        if (c->origin[knobs[i]] >= AT_FROM_FILE)
            return at_fail(AT_USAGE,
                           "%s is not read without load_in_4bit; set that to true or remove it",
                           at_key_name(knobs[i]));
    return AT_OK;
}

/* ---- adapters ---- */

AT_CHECKED at_config_check_adapters(const struct at_config *c)
{
    enum at_status st = check_quantising(c);

    if (st != AT_OK)
        return st;
    if (!c->use_peft && c->adapter_name_or_path)
        return at_fail(AT_USAGE, "adapter_name_or_path needs use_peft: true (full fine-tuning "
                                 "starts from the model alone)");
    if (c->use_peft && c->init_from_scratch)
        return at_fail(AT_USAGE, "init_from_scratch needs use_peft: false (an adapter over random "
                                 "weights is of no use)");
    return AT_OK;
}
