#include "score_rollouts.h"

#include "lines.h"
#include "reward.h"

#include <string.h>

struct scoring {
    struct at_run run;
    struct at_rewards *rewards;
    struct at_reward_models models;
    struct at_reward_sample *samples; /* (group) */
    struct at_buf *texts;             /* (group) */
    uint32_t n_groups;                /* so far */
};

bool score_rollouts_wanted(const struct at_config *c)
{
    const enum at_key keys[] = { AT_KEY_reward_command, AT_KEY_reward_funcs };
    bool wanted = false;

    for (size_t i = 0; i < AT_COUNT(keys); i++)
        wanted = wanted || (at_key_read_by(keys[i], c->run_method) && c->is_set[keys[i]]);
    return wanted;
}

/* Reward models over the base, on the device. */
static AT_CHECKED open_models(struct scoring *s)
{
    enum at_status st = AT_OK;
    const struct at_config *c = s->run.config;
    const struct at_bundle *bundle = &s->run.bundle;
    struct at_reward_models_params p = {
        .policy = &s->run.engine,
        .rows = { .tokenizer = bundle->tokenizer,
                  .chat = bundle->chat,
                  .chat_problem = bundle->chat_problem,
                  .eos = c->eos_token,
                  .system_prompt = c->system_prompt,
                  .long_from = at_model_long_from(&bundle->config, UINT32_MAX),
                  .long_each = at_model_long_each(&bundle->config) },
        .gpu = { .device = c->device,
                 .baseline_only = strcmp(c->kernels, "baseline") == 0,
                 .profile = c->profile,
                 .memory_limit_bytes = (uint64_t)c->device_memory_limit },
    };

    TRY(at_reward_models_plan(&s->models, s->rewards, &p));
    if (s->models.n == 0)
        goto done;
    TRY(at_engine_commit(&s->run.engine));
    TRY(at_reward_models_commit(&s->models));
done:
    return st;
}

/* A sample of a line: its text as it stands there, or that of its ids without the end. */
static AT_CHECKED take_sample(struct scoring *s, const cJSON *line, const cJSON *completion,
                              uint32_t k)
{
    enum at_status st = AT_OK;
    const uint32_t i = s->n_groups * s->run.data.samples.group + k;
    const struct at_segment *ids = &s->run.data.train.rows[i].segment[0];
    const bool ended = s->run.data.samples.items[i].ended;
    struct at_buf *text = &s->texts[k];

    at_buf_clear(text);
    at_buf_puts(text, "");
    if (cJSON_IsString(completion))
        at_buf_puts(text, completion->valuestring);
    else
        TRY(at_tokenizer_decode(s->run.bundle.tokenizer, text, ids->ids, ids->n - ended, true));
    TRY(at_buf_status(text));
    s->samples[k] = (struct at_reward_sample){ .prompt = at_json_find(line, "prompt"),
                                               .row = line,
                                               .completion = text->data,
                                               .n_tokens = ids->n,
                                               .ended = ended };
done:
    return st;
}

static AT_CHECKED score_line(struct scoring *s, cJSON *line)
{
    enum at_status st = AT_OK;
    cJSON *rewards = NULL;
    uint32_t k = 0;

    for (const cJSON *x = at_json_find(line, "completions")->child; x; x = x->next)
        TRY(take_sample(s, line, x, k++));
    TRY(at_rewards_score_json(&rewards, s->rewards, s->samples, k));
    cJSON_DeleteItemFromObjectCaseSensitive(line, "rewards");
    cJSON_AddItemToObject(line, "rewards", rewards);
    TRY(cli_print_line(line));
    s->n_groups++;
    if (at_signal_status() != AT_OK)
        FAIL(at_signal_status(), "stopped by a signal after %u lines", s->n_groups);
done:
    return st;
}

static AT_CHECKED score_lines(struct scoring *s)
{
    enum at_status st = AT_OK;
    struct at_lines lines;
    struct at_line line;
    cJSON *json = NULL;
    bool found = true;

    TRY(at_lines_open(&lines, s->run.config->rollouts));
    for (;;) {
        TRY(at_lines_next(&lines, &line, &found));
        if (!found)
            break;
        TRY(at_json_parse(&json, line.text, line.n, line.path, line.number));
        TRY(score_line(s, json));
        at_json_free(&json);
    }
done:
    at_json_free(&json);
    at_lines_close(&lines);
    return st;
}

/* What is scored is in the file, and how the sources say. */
static AT_CHECKED check(const struct at_config *c, const struct cli_args *args)
{
    static const char *const flags[] = { "adapter_scale", "tokens" };

    for (size_t i = 0; i < AT_COUNT(flags); i++)
        if (cli_flag_text(args, flags[i]))
            return at_fail(AT_USAGE,
                           "--%s is of log-probs: with reward_funcs or reward_command the "
                           "samples get rewards, leave it out",
                           flags[i]);
    return c->rollouts
               ? AT_OK
               : at_fail(AT_USAGE, "rollouts is missing: the file of samples that reward_funcs "
                                   "and reward_command score");
}

AT_CHECKED score_rollouts(const struct at_config *config, const struct cli_args *args)
{
    enum at_status st = AT_OK;
    struct at_config rows = *config; /* what reads the file knows of no sources */
    struct scoring s = { .n_groups = 0 };
    uint32_t group = 0;

    TRY(check(config, args));
    rows.is_set[AT_KEY_reward_command] = rows.is_set[AT_KEY_reward_command_timeout] = false;
    rows.is_set[AT_KEY_reward_funcs] = false;
    TRY(at_rewards_open(&s.rewards, &(struct at_rewards_params){
                                        .funcs = config->reward_funcs,
                                        .command = config->reward_command,
                                        .command_timeout_s = config->reward_command_timeout }));
    TRY(at_run_open_scores(&s.run, &rows));
    group = s.run.data.samples.group;
    TRY(at_alloc(&s.samples, group, sizeof *s.samples));
    TRY(at_alloc(&s.texts, group, sizeof *s.texts));
    TRY(open_models(&s));
    TRY(score_lines(&s));
done:
    for (uint32_t k = 0; s.texts && k < group; k++)
        at_buf_release(&s.texts[k]);
    at_free(&s.texts);
    at_free(&s.samples);
    at_reward_models_close(&s.models);
    at_run_close(&s.run);
    at_rewards_close(&s.rewards);
    return st;
}
