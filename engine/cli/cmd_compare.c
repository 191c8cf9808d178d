#include "compare.h"

#include "eval.h"
#include "reader.h"
#include "sources.h"

#include <math.h>
#include <string.h>

struct comparing {
    struct compare c;
    struct at_config config;
    const char *judge, *rows;
    struct eval_params params;
    struct eval_state states[2]; /* before, after */
    struct at_estimate win_rate, controlled;
    bool has_controlled;
    uint32_t wins, losses, ties, n;
    double p;
    enum eval_verdict verdict;
};

/* ---- what is compared ---- */

static const struct {
    const char *name;
    AT_CHECKED (*judge)(struct compare *c); /* of replies */
    const char *flags[6];                   /* of compare that it reads, beside all judges' */
    const char *needs, *what;               /* one of them that must be given; or NULL */
} judges[] = {
    { .name = "logp" },
    { "model",
      compare_by_model,
      { "better", "judge_model", "max_new_tokens", "n_replies", "replies" },
      "judge_model",
      "MODEL: a folder or a GGUF file" },
    { .name = "people",
      .judge = compare_by_people,
      .flags = { "log", "max_new_tokens", "n_replies", "replies" } },
    { "reward",
      compare_by_reward,
      { "max_new_tokens", "n_replies", "replies", "reward_model" },
      "reward_model",
      "DIR: the output_dir of `attune reward`, or a whole reward model" },
    { "rules",
      NULL,
      { "max_new_tokens", "rules" },
      "rules",
      "FILE.jsonl: prompts with a \"rule\"" },
};

static size_t judge_index(const char *name)
{
    size_t i = 0;

    while (i < AT_COUNT(judges) && strcmp(judges[i].name, name) != 0)
        i++;
    return i;
}

static bool reads(size_t judge, const char *flag)
{
    const char *const *flags = judges[judge].flags;

    for (size_t i = 0; i < AT_COUNT(judges[judge].flags) && flags[i]; i++)
        if (strcmp(flags[i], flag) == 0)
            return true;
    return false;
}

/* A flag that other judges read is refused. */
static AT_CHECKED check_flags(const struct cli_args *a, size_t judge)
{
    const char *needs = judges[judge].needs;

    for (size_t i = 0; i < a->n_own; i++)
        for (size_t k = 0; k < AT_COUNT(judges); k++)
            if (reads(k, a->own[i].key) && !reads(judge, a->own[i].key))
                return at_fail(AT_USAGE, "--%s: judge %s does not read it, %s does; remove it",
                               a->own[i].key, judges[judge].name, judges[k].name);
    if (needs && !cli_flag_text(a, needs))
        return at_fail(AT_USAGE, "--judge %s needs --%s %s", judges[judge].name, needs,
                       judges[judge].what);
    return AT_OK;
}

static AT_CHECKED read_flags(struct comparing *x)
{
    enum at_status st = AT_OK;
    const struct cli_args *a = x->c.args;
    const char *after = cli_flag_text(a, "adapter"), *before = cli_flag_text(a, "against");
    struct eval_params *p = &x->params;

    x->judge = cli_flag_text(a, "judge");
    if (!x->judge)
        x->judge = "logp";
    if (judge_index(x->judge) == AT_COUNT(judges))
        FAIL(AT_USAGE, "--judge %s: logp, model, people, reward or rules is expected", x->judge);
    TRY(check_flags(a, judge_index(x->judge)));
    if (!after)
        FAIL(AT_USAGE, "nothing to compare: name an adapter with --adapter DIR, and what it is "
                       "compared with by --against DIR (default: the base)");
    x->c.names[0] = before ? before : "base";
    x->c.names[1] = after;
    x->states[0] = (struct eval_state){ .name = x->c.names[0], .adapter = before, .scale = 1 };
    x->states[1] = (struct eval_state){ .name = after, .adapter = after, .scale = 1 };
    TRY(cli_flag_f64(&x->states[1].scale, a, "adapter_scale", -100, 100));
    *p = (struct eval_params){
        .n_replies = 64, .max_new_tokens = 96, .max_drift = NAN, .max_lost = 1
    };
    TRY(cli_flag_u32(&p->n_replies, a, "n_replies", 1, 1000000));
    TRY(cli_flag_u32(&p->max_new_tokens, a, "max_new_tokens", 1, 1000000));
    if (!judges[judge_index(x->judge)].judge)
        p->n_replies = 0;
    p->rules = cli_flag_text(a, "rules");
done:
    return st;
}

static AT_CHECKED find_files(struct comparing *x)
{
    enum at_status st = AT_OK;
    const struct cli_args *a = x->c.args;
    char *path = NULL;

    if (a->n_positional > 0)
        x->rows = a->positional[0];
    else
        TRY(eval_rows_of_run(&x->rows, &x->c.arena, &x->config, x->c.names[1]));
    if (!at_path_exists(x->rows))
        FAIL(AT_NOT_FOUND, "%s: no such file", x->rows);
    TRY(at_path_join(&x->c.arena, &path, x->c.names[1], "compare.json"));
    TRY(at_file_check_writable(path));
    if (x->params.n_replies == 0)
        goto done;
    x->c.replies_path = cli_flag_text(a, "replies");
    if (!x->c.replies_path) {
        TRY(at_path_join(&x->c.arena, &path, x->c.names[1], "compare.jsonl"));
        x->c.replies_path = path;
    }
    if (!at_path_exists(x->c.replies_path)) /* else it is read */
        TRY(at_file_check_writable(x->c.replies_path));
done:
    return st;
}

/* ---- replies ---- */

static AT_CHECKED digest_of(cJSON **out, struct comparing *x, const char *named)
{
    enum at_status st = AT_OK;
    struct at_hash hash;
    struct at_digest digest;

    *out = NULL;
    if (!named) {
        *out = cJSON_CreateNull();
        goto done;
    }
    at_hash_init(&hash);
    TRY(cli_put_source(&hash, &x->c.arena, named));
    digest = at_hash_end(&hash);
    *out = cJSON_CreateString(digest.hex);
done:
    return st;
}

/* What replies depend on. */
static AT_CHECKED describe(struct comparing *x)
{
    enum at_status st = AT_OK;
    const char *system = x->config.system_prompt;
    cJSON *out = cJSON_CreateObject(), *digest = NULL;

    x->c.made_with = out;
    cJSON_AddNumberToObject(out, "adapter_scale", x->states[1].scale);
    TRY(digest_of(&digest, x, x->states[1].adapter));
    cJSON_AddItemToObject(out, "adapter", digest);
    TRY(digest_of(&digest, x, x->states[0].adapter));
    cJSON_AddItemToObject(out, "against", digest);
    cJSON_AddNumberToObject(out, "max_new_tokens", x->params.max_new_tokens);
    TRY(digest_of(&digest, x, x->config.model_name_or_path));
    cJSON_AddItemToObject(out, "model", digest);
    cJSON_AddNumberToObject(out, "n_replies", x->params.n_replies);
    TRY(digest_of(&digest, x, x->rows));
    cJSON_AddItemToObject(out, "rows", digest);
    cJSON_AddItemToObject(out, "system_prompt",
                          system ? cJSON_CreateString(system) : cJSON_CreateNull());
done:
    return st;
}

/* A reply as the prompt's kind has it: a text or a list of messages. */
static cJSON *as_response(const cJSON *prompt, const char *text)
{
    cJSON *list = NULL, *message = NULL;

    if (cJSON_IsString(prompt))
        return cJSON_CreateString(text);
    list = cJSON_CreateArray();
    message = cJSON_CreateObject();
    cJSON_AddStringToObject(message, "role", "assistant");
    cJSON_AddStringToObject(message, "content", text);
    cJSON_AddItemToArray(list, message);
    return list;
}

/* The prompt of a row: a text, or messages with the system prompt in front. */
static AT_CHECKED as_prompt(cJSON **out, struct at_arena *arena, const struct at_record *r)
{
    enum at_status st = AT_OK;
    char *text = NULL;

    if (!r->chat) {
        TRY(at_arena_strndup(arena, &text, r->side[0].text.data, r->n_prompt));
        *out = cJSON_CreateString(text);
        goto done;
    }
    *out = cJSON_CreateArray();
    for (size_t i = 0; i < r->n_prompt; i++) {
        const struct at_message *m = &r->side[0].messages[i];
        cJSON *message = m->json ? cJSON_Duplicate(m->json, true) : cJSON_CreateObject();
        if (!m->json) {
            cJSON_AddStringToObject(message, "role", m->role);
            cJSON_AddStringToObject(message, "content", m->content);
        }
        cJSON_AddItemToArray(*out, message);
    }
done:
    return st;
}

/* What both states replied to in a line of the rows' file, which is read on up to there. */
static AT_CHECKED find_prompt(cJSON **out, struct comparing *x, struct at_lines *lines,
                              struct at_record *record, uint32_t number)
{
    enum at_status st = AT_OK;
    const struct at_dataset_params as_read = { .kind = AT_ROWS_PAIR,
                                               .system_prompt = x->config.system_prompt };
    struct at_line line = { .number = 0 };
    bool found = true;

    while (found && line.number < number)
        TRY(at_lines_next(lines, &line, &found));
    if (!found || line.number != number)
        FAIL(AT_DATA, "%s:%u: the row that was replied to is gone; compare again", x->rows, number);
    TRY(at_record_read(record, &line, &as_read, "", 0));
    if (record->n_prompt == 0)
        FAIL(AT_DATA, "%s:%u: no prompt is found that judges could read", x->rows, number);
    TRY(as_prompt(out, &x->c.arena, record));
done:
    return st;
}

/* Takes the prompt of reply i over. */
static void write_reply(struct at_buf *text, const struct comparing *x, uint32_t i, cJSON *prompt)
{
    cJSON *row = cJSON_CreateObject(), *list = NULL;

    cJSON_AddItemToObject(row, "prompt", prompt);
    list = cJSON_AddArrayToObject(row, "responses");
    for (int k = 0; k < 2; k++)
        cJSON_AddItemToArray(list, as_response(prompt, x->states[k].texts[i]));
    list = cJSON_AddArrayToObject(row, "models");
    for (int k = 0; k < 2; k++)
        cJSON_AddItemToArray(list, cJSON_CreateString(x->c.names[k]));
    cJSON_AddNumberToObject(row, "line", x->states[0].lines[i]);
    cJSON_AddItemToObject(row, "made_with", cJSON_Duplicate(x->c.made_with, true));
    at_json_write(text, row);
    at_buf_puts(text, "\n");
    cJSON_Delete(row);
}

static AT_CHECKED write_replies(struct comparing *x)
{
    enum at_status st = AT_OK;
    struct at_record record = { .json = NULL };
    struct at_lines lines = { .path = NULL };
    struct at_buf text = { 0 };

    TRY(at_lines_open(&lines, x->rows));
    for (uint32_t i = 0; i < x->states[0].n_replies; i++) {
        cJSON *prompt = NULL;
        TRY(find_prompt(&prompt, x, &lines, &record, x->states[0].lines[i]));
        write_reply(&text, x, i, prompt);
    }
    TRY(at_buf_status(&text));
    TRY(at_file_write_atomic(x->c.replies_path, text.data, text.n));
done:
    at_record_release(&record);
    at_lines_close(&lines);
    at_buf_release(&text);
    return st;
}

static const char *last_content(const cJSON *value)
{
    const int n = cJSON_GetArraySize(value);

    return cJSON_IsString(value)
               ? value->valuestring
               : cJSON_GetStringValue(at_json_find(cJSON_GetArrayItem(value, n - 1), "content"));
}

/* Whether they are of these states, made as they would be now. */
static AT_CHECKED check_made(const struct compare *c, const cJSON *line, const char *name)
{
    static const char what_to_do[] = "remove the file, or name another one with --replies";
    const cJSON *models = at_json_find(line, "models"), *made = at_json_find(line, "made_with");
    const cJSON *now = NULL;

    for (int k = 0; k < 2; k++) {
        const char *model = cJSON_GetStringValue(cJSON_GetArrayItem(models, k));
        if (!model || strcmp(model, c->names[k]) != 0)
            return at_fail(AT_DATA, "%s: replies of %s where those of %s are compared; %s", name,
                           model ? model : "an unknown model", c->names[k], what_to_do);
    }
    cJSON_ArrayForEach(now, c->made_with)
    {
        if (!cJSON_Compare(at_json_find(made, now->string), now, true))
            return at_fail(AT_DATA, "%s: replies made with %s %s; %s", name,
                           made ? "another" : "an unknown", now->string, what_to_do);
    }
    return AT_OK;
}

/* Takes the row over. */
static AT_CHECKED take_reply(struct compare *c, cJSON *line, const char *name)
{
    enum at_status st = AT_OK;
    const cJSON *responses = at_json_find(line, "responses");
    struct compare_reply *r = NULL;

    if (c->n_replies == c->capacity) {
        const size_t capacity = c->capacity ? 2 * c->capacity : 64;
        TRY(at_realloc(&c->replies, c->capacity, capacity, sizeof *c->replies));
        c->capacity = capacity;
    }
    TRY(check_made(c, line, name));
    r = &c->replies[c->n_replies++];
    *r = (struct compare_reply){ .row = line };
    line = NULL;
    r->prompt = last_content(at_json_find(r->row, "prompt"));
    for (int k = 0; k < 2; k++)
        r->text[k] = last_content(cJSON_GetArrayItem(responses, k));
    if (!r->prompt || !r->text[0] || !r->text[1])
        FAIL(AT_DATA, "%s: a prompt and two responses are expected", name);
done:
    cJSON_Delete(line);
    return st;
}

static AT_CHECKED read_replies(struct compare *c)
{
    enum at_status st = AT_OK;
    struct at_lines lines = { .path = NULL };
    struct at_line line;
    cJSON *row = NULL;
    char name[512];
    bool found = false;

    TRY(at_lines_open(&lines, c->replies_path));
    for (;;) {
        TRY(at_lines_next(&lines, &line, &found));
        if (!found)
            break;
        snprintf(name, sizeof name, "%s:%u", line.path, line.number);
        TRY(at_json_parse(&row, line.text, line.n, line.path, line.number));
        TRY(take_reply(c, row, name));
    }
    if (c->n_replies == 0)
        FAIL(AT_DATA, "%s holds no replies", c->replies_path);
done:
    at_lines_close(&lines);
    return st;
}

/* Both states, on the same rows; or the replies that an earlier call has written. */
static AT_CHECKED measure(struct comparing *x)
{
    enum at_status st = AT_OK;
    const char *system = x->config.system_prompt;

    if (x->c.replies_path)
        TRY(describe(x));
    if (x->c.replies_path && at_path_exists(x->c.replies_path)) {
        cli_note("replies    %s, as an earlier call has written them", x->c.replies_path);
    } else {
        for (int k = 0; k < 2; k++) {
            x->config.system_prompt = system;
            TRY(eval_measure(&x->states[k], 1, &x->config, &x->params));
        }
        if (x->c.replies_path)
            TRY(write_replies(x));
    }
    if (x->c.replies_path)
        TRY(read_replies(&x->c));
done:
    return st;
}

/* ---- judging ---- */

static double outcome_of(double before, double after)
{
    return after > before ? 1 : after < before ? 0 : 0.5;
}

/* Of pairs: which state sets the chosen reply further above the rejected one. */
static AT_CHECKED judge_logps(struct comparing *x)
{
    enum at_status st = AT_OK;
    const struct eval_state *b = &x->states[0], *a = &x->states[1];
    struct eval_comparison ignored;

    TRY(eval_compare(&ignored, b, a, &x->params)); /* the same rows */
    x->c.n = b->n_pairs;
    TRY(at_arena_alloc(&x->c.arena, &x->c.outcome, x->c.n, sizeof *x->c.outcome));
    for (uint32_t i = 0; i < x->c.n; i++)
        x->c.outcome[i] = outcome_of(b->side[0][i] - b->side[1][i], a->side[0][i] - a->side[1][i]);
done:
    return st;
}

static AT_CHECKED judge_rules(struct comparing *x)
{
    enum at_status st = AT_OK;

    x->c.n = x->states[0].n_rules;
    TRY(at_arena_alloc(&x->c.arena, &x->c.outcome, x->c.n, sizeof *x->c.outcome));
    for (uint32_t i = 0; i < x->c.n; i++)
        x->c.outcome[i] = outcome_of(x->states[0].passed[i], x->states[1].passed[i]);
done:
    return st;
}

static AT_CHECKED sum_up(struct comparing *x)
{
    enum at_status st = AT_OK;
    double *decided = NULL, *longer = NULL;
    bool clear = false;

    TRY(at_alloc(&decided, x->c.n, sizeof *decided));
    TRY(at_alloc(&longer, x->c.n, sizeof *longer));
    for (uint32_t i = 0; i < x->c.n; i++) {
        const double y = x->c.outcome[i];
        if (isnan(y))
            continue;
        if (x->c.replies)
            longer[x->n] = at_words(x->c.replies[i].text[1]) - at_words(x->c.replies[i].text[0]);
        decided[x->n++] = y;
        x->wins += y == 1;
        x->losses += y == 0;
        x->ties += y == 0.5;
    }
    if (x->n == 0)
        FAIL(AT_NO_EVIDENCE, "nothing was decided");
    TRY(at_bootstrap_bounded(&x->win_rate, decided, x->n, x->params.seed, 0, 1));
    x->has_controlled = x->c.replies != NULL;
    if (x->has_controlled)
        TRY(at_length_controlled(&x->controlled, decided, longer, x->n, x->params.seed));
    x->p = at_sign_test(x->wins, x->losses);
    clear = x->p < 0.05;
    x->verdict = EVAL_OPEN;
    if (clear && x->win_rate.high < 0.5)
        x->verdict = EVAL_WORSE;
    else if (clear && x->win_rate.low > 0.5 && (!x->has_controlled || x->controlled.value > 0.5))
        x->verdict = EVAL_BETTER;
done:
    at_free(&decided);
    at_free(&longer);
    return st;
}

/* ---- output ---- */

static cJSON *to_json(const struct comparing *x)
{
    cJSON *out = cJSON_CreateObject(), *list = NULL;

    cJSON_AddStringToObject(out, "judge", x->judge);
    cJSON_AddStringToObject(out, "before", x->c.names[0]);
    cJSON_AddStringToObject(out, "after", x->c.names[1]);
    cJSON_AddNumberToObject(out, "adapter_scale", x->states[1].scale);
    cJSON_AddStringToObject(out, "verdict", eval_verdict_word(x->verdict));
    cJSON_AddNumberToObject(out, "wins", x->wins);
    cJSON_AddNumberToObject(out, "losses", x->losses);
    cJSON_AddNumberToObject(out, "ties", x->ties);
    cJSON_AddNumberToObject(out, "p", x->p);
    eval_add_interval(out, "win_rate", x->win_rate);
    if (x->has_controlled)
        eval_add_interval(out, "length_controlled", x->controlled);
    list = cJSON_AddArrayToObject(out, "outcomes");
    for (uint32_t i = 0; i < x->c.n; i++)
        cJSON_AddItemToArray(list, isnan(x->c.outcome[i]) ? cJSON_CreateNull()
                                                          : cJSON_CreateNumber(x->c.outcome[i]));
    return out;
}

static void print_text(const struct comparing *x)
{
    printf("%s against %s, judged by %s\n", x->c.names[1], x->c.names[0], x->judge);
    printf("%-18s %5.1f %% [%.1f, %.1f] of %u: %u better, %u worse, %u equal\n", "wins",
           100 * x->win_rate.value, 100 * x->win_rate.low, 100 * x->win_rate.high, x->n, x->wins,
           x->losses, x->ties);
    if (x->has_controlled)
        printf("%-18s %5.1f %% [%.1f, %.1f]\n", "  at equal length", 100 * x->controlled.value,
               100 * x->controlled.low, 100 * x->controlled.high);
    printf("%-18s %s (p %.3g)\n", "verdict", eval_verdict_word(x->verdict), x->p);
}

static AT_CHECKED conclude(const struct comparing *x)
{
    const double rate = 100 * x->win_rate.value;

    if (x->verdict == EVAL_WORSE)
        return at_fail(AT_OVER_BUDGET, "worse: %s wins %.1f %% [%.1f, %.1f] against %s",
                       x->c.names[1], rate, 100 * x->win_rate.low, 100 * x->win_rate.high,
                       x->c.names[0]);
    if (x->verdict == EVAL_OPEN)
        return at_fail(AT_NO_EVIDENCE, "not enough evidence: %s wins %.1f %% [%.1f, %.1f]%s",
                       x->c.names[1], rate, 100 * x->win_rate.low, 100 * x->win_rate.high,
                       x->has_controlled && x->win_rate.low > 0.5
                           ? ", but not at equal length: longer or shorter replies explain it"
                           : "; compare more prompts");
    if (x->states[1].scale != 1)
        cli_next("next       attune export %s --adapter_scale %g --output tone.gguf", x->c.names[1],
                 x->states[1].scale);
    else
        cli_next("next       attune export %s --output tone.gguf", x->c.names[1]);
    return AT_OK;
}

/* Whether both are by the same judge, against the same. */
static bool are_alike(const cJSON *a, const cJSON *b)
{
    static const char *const keys[] = { "judge", "before" };
    bool alike = true;

    for (size_t i = 0; i < AT_COUNT(keys); i++)
        alike = alike && cJSON_Compare(at_json_find(a, keys[i]), at_json_find(b, keys[i]), true);
    return alike;
}

/* Adds what the file has of other judges or against others, as a list "others". */
static AT_CHECKED keep_others(cJSON *json, const char *path)
{
    enum at_status st = AT_OK;
    cJSON *old = NULL, *list = NULL, *others = cJSON_CreateArray();

    if (at_path_exists(path))
        TRY(at_json_load(&old, path));
    list = cJSON_DetachItemFromObject(old, "others");
    if (!list)
        list = cJSON_CreateArray();
    if (old)
        cJSON_InsertItemInArray(list, 0, old);
    old = NULL;
    while (list->child) {
        cJSON *item = cJSON_DetachItemFromArray(list, 0);
        if (are_alike(item, json))
            cJSON_Delete(item);
        else
            cJSON_AddItemToArray(others, item);
    }
    if (others->child) {
        cJSON_AddItemToObject(json, "others", others);
        others = NULL;
    }
done:
    cJSON_Delete(old);
    cJSON_Delete(list);
    cJSON_Delete(others);
    return st;
}

static AT_CHECKED write_out(struct comparing *x)
{
    enum at_status st = AT_OK;
    cJSON *json = to_json(x);
    char *path = NULL;

    if (cli_flag_on(x->c.args, "json"))
        TRY(cli_print_pretty(json));
    else
        print_text(x);
    TRY(at_path_join(&x->c.arena, &path, x->c.names[1], "compare.json"));
    TRY(keep_others(json, path));
    TRY(at_json_save(path, json));
done:
    cJSON_Delete(json);
    return st;
}

enum at_status cli_compare(struct cli_args *args)
{
    enum at_status st = AT_OK;
    struct comparing x = { .c = { .args = args } };
    size_t judge = 0;

    TRY(read_flags(&x));
    TRY(eval_config_of_run(&x.config, x.c.names[1], args->keys, args->n_keys));
    x.params.seed = x.config.seed;
    x.c.device = x.config.device;
    TRY(find_files(&x));
    eval_take_rows(&x.config, &x.rows);
    TRY(measure(&x));
    judge = judge_index(x.judge);
    if (judges[judge].judge)
        TRY(judges[judge].judge(&x.c));
    else
        TRY(x.params.rules ? judge_rules(&x) : judge_logps(&x));
    TRY(sum_up(&x));
    TRY(write_out(&x));
    TRY(conclude(&x));
done:
    for (size_t i = 0; i < x.c.n_replies; i++)
        at_json_free(&x.c.replies[i].row);
    at_free(&x.c.replies);
    at_json_free(&x.c.made_with);
    for (int k = 0; k < 2; k++)
        eval_release(&x.states[k]);
    at_arena_release(&x.c.arena);
    at_config_release(&x.config);
    return st;
}
