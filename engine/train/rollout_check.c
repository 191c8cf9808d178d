#include "rollout.h"

#include "loop.h"

#include <string.h>

static bool given(const struct at_config *c, enum at_key key)
{
    return c->is_set[key] && c->origin[key] >= AT_FROM_FILE;
}

bool at_rollout_has_samples(const struct at_config *c)
{
    return at_method_get(c->run_method)->rows == AT_ROWS_SAMPLE;
}

bool at_rollout_reads(const struct at_config *c, char letter)
{
    return strchr(c->losses[0]->reads, letter) != NULL;
}

static uint64_t step_rows(const struct at_config *c)
{
    return (uint64_t)c->per_device_train_batch_size * c->gradient_accumulation_steps;
}

uint64_t at_rollout_rows(const struct at_config *c)
{
    return step_rows(c) * at_rollout_parts(c);
}

uint32_t at_rollout_parts(const struct at_config *c)
{
    if (!at_rollout_has_samples(c))
        return 1;
    if (c->is_set[AT_KEY_generation_batch_size])
        return (uint32_t)(c->generation_batch_size / step_rows(c));
    return c->is_set[AT_KEY_steps_per_generation]
               ? c->steps_per_generation / c->gradient_accumulation_steps
               : 1;
}

uint32_t at_rollout_steps(const struct at_config *c)
{
    return at_rollout_has_samples(c) ? at_rollout_parts(c) * c->num_iterations : 1;
}

/* What a loss type or `rollouts` leaves without meaning. */
static AT_CHECKED check_unread(const struct at_config *c)
{
    static const char recorded[] = "samples of rollouts are drawn and scored already";
    static const char unjudged[] = "samples are not held out, and held-out pairs only looked at";
    const struct {
        enum at_key key;
        bool unread;
        const char *why;
    } rows[] = {
        { AT_KEY_delta, at_rollout_reads(c, 'c'),
          "loss_type cispo cuts its ratio at epsilon_high alone" },
        { AT_KEY_early_stopping_patience, true, unjudged },
        { AT_KEY_epsilon, at_rollout_reads(c, 'c') && c->is_set[AT_KEY_epsilon_high],
          "loss_type cispo cuts its ratio at epsilon_high alone" },
        { AT_KEY_eval_dataset, c->rollouts,
          "samples are not held out: judge the adapter with attune eval" },
        { AT_KEY_eval_split, c->eval_split > 0,
          "samples are not held out: judge the adapter with attune eval" },
        { AT_KEY_load_best_model_at_end, c->load_best_model_at_end, unjudged },
        { AT_KEY_log_completions, c->rollouts, recorded },
        { AT_KEY_lr_scheduler_type, strcmp(c->lr_scheduler_type, "reduce_lr_on_plateau") == 0,
          "no evaluation says when to lower the rate: samples are not held out" },
        { AT_KEY_max_completion_length,
          c->rollouts && !(at_rollout_has_samples(c) && at_rollout_reads(c, 'l')),
          "recorded samples are as long as they are; only loss_type dr_grpo divides by it" },
        { AT_KEY_metric_for_best_model, true, unjudged },
        { AT_KEY_min_p, c->rollouts, recorded },
        { AT_KEY_on_bad_row, true, "a wrong line is always an error" },
        { AT_KEY_on_long_row, true,
          "a sample that may be longer than max_length is always an error" },
        { AT_KEY_regression_dataset, true,
          "samples are not held out: judge the adapter with attune eval" },
        { AT_KEY_repetition_penalty, c->rollouts, recorded },
        { AT_KEY_reward_command, c->rollouts, recorded },
        { AT_KEY_reward_command_timeout, c->rollouts, recorded },
        { AT_KEY_reward_funcs, c->rollouts, recorded },
        { AT_KEY_temperature, c->rollouts && !at_rollout_has_samples(c), recorded },
        { AT_KEY_top_k, c->rollouts, recorded },
        { AT_KEY_top_p, c->rollouts, recorded },
        { AT_KEY_train_dataset, c->rollouts, "rollouts has the prompts, too: give one of the two" },
        { AT_KEY_use_bias_correction_kl, c->beta == 0, "beta is 0: there is no KL term" },
    };

    for (size_t i = 0; i < AT_COUNT(rows); i++)
        if (rows[i].unread && given(c, rows[i].key))
            return at_fail(AT_USAGE, "%s is not read by %s: %s", at_key_name(rows[i].key),
                           at_method_get(c->run_method)->name, rows[i].why);
    return AT_OK;
}

/* Pairs are held out beside samples that are drawn, to look at between steps. */
static AT_CHECKED check_held_out(const struct at_config *c)
{
    if (c->eval_dataset.n > 0 && strcmp(c->eval_strategy, "steps") != 0)
        return at_fail(AT_USAGE,
                       "eval_dataset: with %s its pairs are looked at every eval_steps "
                       "steps: set eval_strategy to steps",
                       at_method_get(c->run_method)->name);
    if (c->eval_dataset.n > 0 && c->eval_steps % at_rollout_steps(c) != 0)
        return at_fail(AT_USAGE,
                       "eval_steps is %u: pairs are looked at when samples are new, every %u steps "
                       "(num_iterations, steps_per_generation); take a multiple",
                       c->eval_steps, at_rollout_steps(c));
    if (c->eval_dataset.n == 0 && strcmp(c->eval_strategy, "no") != 0)
        return at_fail(AT_USAGE, "eval_strategy must be no: samples are not held out; judge the "
                                 "adapter with attune eval");
    return AT_OK;
}

/* A rollout has the samples of whole steps. */
static AT_CHECKED check_parts(const struct at_config *c)
{
    const uint64_t step = step_rows(c);

    if (c->is_set[AT_KEY_generation_batch_size] && c->is_set[AT_KEY_steps_per_generation])
        return at_fail(AT_USAGE, "generation_batch_size and steps_per_generation say the same: "
                                 "remove one of them");
    if (c->is_set[AT_KEY_generation_batch_size] && c->generation_batch_size % step != 0)
        return at_fail(AT_USAGE,
                       "generation_batch_size is %u: it must be a multiple of a step's samples, "
                       "%llu (per_device_train_batch_size * gradient_accumulation_steps)",
                       c->generation_batch_size, (unsigned long long)step);
    if (c->is_set[AT_KEY_steps_per_generation] &&
        c->steps_per_generation % c->gradient_accumulation_steps != 0)
        return at_fail(AT_USAGE,
                       "steps_per_generation is %u: it must be a multiple of "
                       "gradient_accumulation_steps (%u), so that a rollout has whole steps",
                       c->steps_per_generation, c->gradient_accumulation_steps);
    return AT_OK;
}

/* Samples are compared within their groups. */
static AT_CHECKED check_groups(const struct at_config *c)
{
    const uint64_t rows = at_rollout_rows(c);

    if (c->num_generations < 2)
        return at_fail(AT_USAGE,
                       "num_generations must be 2 or more: samples of a prompt are compared");
    if (rows % c->num_generations != 0)
        return at_fail(AT_USAGE,
                       "a rollout has %llu samples (per_device_train_batch_size * "
                       "gradient_accumulation_steps, or those of steps_per_generation), which must "
                       "be a multiple of num_generations (%u)",
                       (unsigned long long)rows, c->num_generations);
    return AT_OK;
}

AT_CHECKED at_rollout_check(const struct at_config *c)
{
    enum at_status st = AT_OK;
    const bool refers = at_rollout_has_samples(c) ? c->beta > 0 : at_objective_reads_reference(c);

    if (!at_method_get(c->run_method)->draws)
        goto done;
    TRY(check_unread(c));
    if (c->train_dataset.weights)
        FAIL(AT_USAGE,
             "train_dataset: weights are for rows; %s draws samples for the prompts of "
             "an epoch, each once: name the files alone",
             at_method_get(c->run_method)->name);
    if (!c->rollouts && c->train_dataset.n == 0)
        FAIL(AT_USAGE,
             "train_dataset is missing: a JSONL file of {\"prompt\"}, to draw samples for; or "
             "rollouts: one of samples that are recorded, {\"prompt\", \"completions\", "
             "\"rewards\"}");
    if (at_rollout_has_samples(c)) {
        TRY(check_parts(c));
        TRY(check_groups(c));
    }
    TRY(check_held_out(c));
    if (c->reward_clip_range.n != 0 &&
        (c->reward_clip_range.n != 2 ||
         c->reward_clip_range.items[0] > c->reward_clip_range.items[1]))
        FAIL(AT_USAGE, "reward_clip_range: two numbers expected, the least first");
    if (!c->use_peft && refers)
        FAIL(AT_USAGE,
             "%s the state at step 0 as reference, which is built for adapters: set use_peft to "
             "true%s",
             at_rollout_has_samples(c) ? "beta above 0 needs" : "these losses need",
             at_rollout_has_samples(c) ? ", or beta to 0" : "");
done:
    return st;
}
