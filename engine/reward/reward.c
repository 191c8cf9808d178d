#include "reward.h"

#include "command.h"
#include "os.h"
#include "rule.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char ROW_RULE[] = "rule"; /* the item, and the column */

struct source {
    enum at_reward_kind kind;
    char *name;
    const char *what;                 /* of models and commands */
    struct at_rule *rule;             /* borrows from `json` */
    cJSON *json;                      /* the rule, or the texts of the others */
    struct at_reward_command command; /* borrows name and what */
    at_reward_scorer *score;
    void *context;
    uint64_t n_faults; /* of rules */
};
struct at_rewards {
    struct at_arena arena;
    struct source items[AT_MAX_REWARDS];
    uint32_t n;
    double *column; /* (most rows so far) of one source */
    size_t most;
};

/* ---- items ---- */

/* The key of a rule in front of the first ':', into `kind`; the value behind it, or NULL. */
static const char *value_behind(char kind[32], const char *text)
{
    const size_t n = strcspn(text, ":");

    if (text[n] != ':' || n >= 32)
        return NULL;
    snprintf(kind, 32, "%.*s", (int)n, text);
    return at_rule_is_kind(kind) ? text + n + 1 : NULL;
}

bool at_reward_is_rule(const char *text)
{
    char kind[32];

    return strcmp(text, ROW_RULE) == 0 || value_behind(kind, text) != NULL;
}

/* "KIND:VALUE" as {KIND: VALUE}; what is no JSON is a text, of lists of texts the only one. */
static cJSON *rule_of_text(const char *kind, const char *value)
{
    cJSON *rule = cJSON_CreateObject(), *item = NULL;

    if (strcmp(kind, "regex") != 0 && strcmp(kind, "language") != 0)
        item = cJSON_ParseWithOpts(value, NULL, true);
    if (!item)
        item = cJSON_CreateString(value);
    if (cJSON_IsString(item) && strstr(kind, "_any")) {
        cJSON *list = cJSON_CreateArray();
        cJSON_AddItemToArray(list, item);
        item = list;
    }
    cJSON_AddItemToObject(rule, kind, item);
    return rule;
}

static AT_CHECKED add_source(struct at_rewards *r, enum at_reward_kind kind, const char *name,
                             struct source **out)
{
    enum at_status st = AT_OK;
    struct source *s = &r->items[r->n];

    if (r->n == AT_MAX_REWARDS)
        FAIL(AT_USAGE, "reward_funcs: at most %d sources of rewards", AT_MAX_REWARDS);
    if (!name[0] || strchr(name, '/'))
        FAIL(AT_USAGE, "reward_funcs: \"%.60s\" is no name: one without / is expected", name);
    for (uint32_t k = 0; k < r->n; k++)
        if (strcmp(r->items[k].name, name) == 0)
            FAIL(
                AT_USAGE,
                "reward_funcs: two sources have the name \"%.60s\": give one a \"name\" of its own",
                name);
    *s = (struct source){ .kind = kind };
    TRY(at_arena_strdup(&r->arena, &s->name, name));
    r->n++;
    *out = s;
done:
    return st;
}

/* Takes `rule`. */
static AT_CHECKED add_rule(struct at_rewards *r, cJSON *rule, const char *name)
{
    enum at_status st = AT_OK;
    struct source *s = NULL;
    char *where = NULL;

    TRY(at_arena_printf(&r->arena, &where, "reward \"%.60s\"", name));
    TRY(add_source(r, AT_REWARD_RULE, name, &s));
    s->json = rule;
    rule = NULL;
    TRY(at_rule_open(&s->rule, s->json, where));
done:
    cJSON_Delete(rule);
    if (st == AT_DATA) /* it stands in the configuration */
        st = at_fail(AT_USAGE, "reward_funcs: %s", at_message());
    return st;
}

/* The last folder of a path. */
static AT_CHECKED name_of_path(struct at_rewards *r, char **out, const char *path)
{
    size_t n = strlen(path), begin = 0;

    while (n > 1 && path[n - 1] == '/')
        n--;
    for (size_t i = 0; i < n; i++)
        if (path[i] == '/')
            begin = i + 1;
    return at_arena_strndup(&r->arena, out, path + begin, n - begin);
}

static AT_CHECKED add_named(struct at_rewards *r, enum at_reward_kind kind, const char *what,
                            const char *name, double timeout_s)
{
    enum at_status st = AT_OK;
    struct source *s = NULL;
    char *text = NULL, *short_name = NULL;

    TRY(at_arena_strdup(&r->arena, &text, what));
    if (!name && kind == AT_REWARD_MODEL)
        TRY(name_of_path(r, &short_name, text));
    TRY(add_source(r, kind, name ? name : short_name ? short_name : "command", &s));
    s->what = text;
    if (kind == AT_REWARD_COMMAND)
        s->command =
            (struct at_reward_command){ .name = s->name, .text = text, .timeout_s = timeout_s };
done:
    return st;
}

/* A reward model's folder may have a ':' in its name, but is then there. */
static AT_CHECKED add_model(struct at_rewards *r, const char *text)
{
    char kind[32];
    const size_t n = strcspn(text, ":");
    const char *near = NULL;

    if (n < sizeof kind && text[n] == ':' && !at_path_exists(text)) {
        snprintf(kind, sizeof kind, "%.*s", (int)n, text);
        near = at_rule_suggest(kind);
    }
    if (near)
        return at_fail(AT_USAGE,
                       "reward_funcs: \"%.60s\": no rule is called %s, and no folder so; did you "
                       "mean %s:%.30s?",
                       text, kind, near, text + n + 1);
    return add_named(r, AT_REWARD_MODEL, text, NULL, 0);
}

static AT_CHECKED add_text(struct at_rewards *r, const char *text)
{
    char kind[32];
    const char *value = value_behind(kind, text);
    struct source *s = NULL;

    if (strcmp(text, ROW_RULE) == 0)
        return add_source(r, AT_REWARD_ROW_RULE, ROW_RULE, &s);
    return value ? add_rule(r, rule_of_text(kind, value), kind) : add_model(r, text);
}

static AT_CHECKED add_object(struct at_rewards *r, const cJSON *item, double timeout_s)
{
    const cJSON *name = at_json_find(item, "name"), *only = NULL;
    const char *text = cJSON_GetStringValue(name);
    size_t n = 0;

    for (const cJSON *x = item->child; x; x = x->next)
        if (x != name) {
            only = x;
            n++;
        }
    if (n == 1 && (!name || text)) {
        const bool model = strcmp(only->string, "model") == 0;
        if (at_rule_is_kind(only->string)) {
            cJSON *rule = cJSON_CreateObject();
            cJSON_AddItemToObject(rule, only->string, cJSON_Duplicate(only, true));
            return add_rule(r, rule, text ? text : only->string);
        }
        if ((model || strcmp(only->string, "command") == 0) && cJSON_IsString(only))
            return add_named(r, model ? AT_REWARD_MODEL : AT_REWARD_COMMAND, only->valuestring,
                             text, timeout_s);
    }
    return at_fail(AT_USAGE,
                   "reward_funcs: \"%.60s\": an object has one of contains_any, excludes_any, "
                   "json_schema, language, max_words, min_words, regex, model, command, and may "
                   "have a name",
                   only ? only->string : "{}");
}

static AT_CHECKED add_item(struct at_rewards *r, const cJSON *item, double timeout_s)
{
    if (cJSON_IsString(item))
        return add_text(r, item->valuestring);
    if (cJSON_IsObject(item))
        return add_object(r, item, timeout_s);
    return at_fail(AT_USAGE, "reward_funcs: an item is neither a text nor an object");
}

/* ---- opening ---- */

AT_CHECKED at_rewards_open(struct at_rewards **out, const struct at_rewards_params *p)
{
    enum at_status st = AT_OK;
    struct at_rewards *r = NULL;
    cJSON *funcs = NULL;

    *out = NULL;
    TRY(at_alloc(&r, 1, sizeof *r));
    if (p->funcs)
        TRY(at_json_parse(&funcs, p->funcs, strlen(p->funcs), "reward_funcs", 1));
    if (funcs && !cJSON_IsArray(funcs))
        TRY(add_item(r, funcs, p->command_timeout_s));
    for (const cJSON *x = funcs && cJSON_IsArray(funcs) ? funcs->child : NULL; x; x = x->next)
        TRY(add_item(r, x, p->command_timeout_s));
    if (p->command)
        TRY(add_named(r, AT_REWARD_COMMAND, p->command, NULL, p->command_timeout_s));
    if (r->n == 0)
        FAIL(AT_USAGE, "reward_funcs: no source of rewards: name a rule, such as "
                       "\"contains_any:Ahoy\", or a reward model's folder");
    *out = r;
    r = NULL;
done:
    at_json_free(&funcs);
    at_rewards_close(&r);
    if (st == AT_DATA) /* no JSON */
        st = at_fail(AT_USAGE, "%s", at_message());
    return st;
}

void at_rewards_close(struct at_rewards **rewards)
{
    struct at_rewards *r = *rewards;

    if (!r)
        return;
    for (uint32_t k = 0; k < r->n; k++) {
        at_rule_close(&r->items[k].rule);
        cJSON_Delete(r->items[k].json);
    }
    at_free(&r->column);
    at_arena_release(&r->arena);
    at_free(rewards);
}

uint32_t at_rewards_count(const struct at_rewards *r)
{
    return r ? r->n : 0;
}

const char *at_rewards_name(const struct at_rewards *r, uint32_t k)
{
    return r->items[k].name;
}

enum at_reward_kind at_rewards_kind(const struct at_rewards *r, uint32_t k)
{
    return r->items[k].kind;
}

const char *at_rewards_what(const struct at_rewards *r, uint32_t k)
{
    return r->items[k].what;
}

uint64_t at_rewards_faults(const struct at_rewards *r, uint32_t k)
{
    const struct source *s = &r->items[k];

    return s->kind == AT_REWARD_COMMAND ? s->command.n_faults : s->n_faults;
}

void at_rewards_bind(struct at_rewards *r, uint32_t k, at_reward_scorer *score, void *context)
{
    AT_REQUIRE(k < r->n && r->items[k].kind == AT_REWARD_MODEL);
    r->items[k].score = score;
    r->items[k].context = context;
}

/* ---- scoring ---- */

/* A reply that the rule cannot be tried on is excluded: it is the policy's, not the user's. */
static void check_rule(struct source *s, const struct at_rule *rule, double *out,
                       const char *completion)
{
    bool passed = false;

    if (at_rule_check(&passed, rule, completion) == AT_OK) {
        *out = passed;
        return;
    }
    *out = NAN;
    s->n_faults++;
    at_warn("reward_rule", "reward \"%s\": a reply has none: %s", s->name, at_message());
}

/* *out is NULL of a row without a rule. */
static AT_CHECKED open_rule_of_row(struct at_rule **out, const cJSON *row)
{
    const cJSON *json = row ? at_json_find(row, ROW_RULE) : NULL;

    *out = NULL;
    return json && !cJSON_IsNull(json) ? at_rule_open(out, json, "\"rule\" of a prompt's row")
                                       : AT_OK;
}

AT_CHECKED at_reward_check_row(const cJSON *row)
{
    struct at_rule *rule = NULL;
    const enum at_status st = open_rule_of_row(&rule, row);

    at_rule_close(&rule);
    return st;
}

static AT_CHECKED check_rule_of_row(struct source *s, double *out,
                                    const struct at_reward_sample *sample)
{
    enum at_status st = AT_OK;
    struct at_rule *rule = NULL;

    *out = NAN;
    TRY(open_rule_of_row(&rule, sample->row));
    if (rule)
        check_rule(s, rule, out, sample->completion);
done:
    at_rule_close(&rule);
    return st;
}

static AT_CHECKED score_source(struct source *s, double *out,
                               const struct at_reward_sample *samples, uint32_t n)
{
    enum at_status st = AT_OK;

    switch (s->kind) {
    case AT_REWARD_RULE:
        for (uint32_t i = 0; i < n; i++)
            check_rule(s, s->rule, &out[i], samples[i].completion);
        break;
    case AT_REWARD_ROW_RULE:
        for (uint32_t i = 0; i < n; i++)
            TRY(check_rule_of_row(s, &out[i], &samples[i]));
        break;
    case AT_REWARD_MODEL:
        AT_REQUIRE(s->score);
        TRY(s->score(s->context, out, samples, n));
        break;
    case AT_REWARD_COMMAND:
        TRY(at_reward_command_score(&s->command, out, samples, n));
        break;
    }
done:
    return st;
}

AT_CHECKED at_rewards_score(struct at_rewards *r, double *out,
                            const struct at_reward_sample *samples, uint32_t n)
{
    enum at_status st = AT_OK;

    if (n > r->most) {
        TRY(at_realloc(&r->column, r->most, n, sizeof *r->column));
        r->most = n;
    }
    for (uint32_t k = 0; k < r->n; k++) {
        TRY(score_source(&r->items[k], r->column, samples, n));
        for (uint32_t i = 0; i < n; i++)
            out[(size_t)i * r->n + k] = isfinite(r->column[i]) ? r->column[i] : NAN;
    }
done:
    return st;
}

AT_CHECKED at_rewards_score_json(cJSON **out, struct at_rewards *r,
                                 const struct at_reward_sample *samples, uint32_t n)
{
    enum at_status st = AT_OK;
    cJSON *object = cJSON_CreateObject();
    double *rewards = NULL;

    TRY(at_alloc(&rewards, (size_t)n * r->n, sizeof *rewards));
    TRY(at_rewards_score(r, rewards, samples, n));
    for (uint32_t k = 0; k < r->n; k++) {
        cJSON *list = cJSON_AddArrayToObject(object, r->items[k].name);
        for (uint32_t i = 0; i < n; i++) {
            const double x = rewards[(size_t)i * r->n + k];
            cJSON_AddItemToArray(list, isnan(x) ? cJSON_CreateNull() : cJSON_CreateNumber(x));
        }
    }
    *out = object;
    object = NULL;
done:
    cJSON_Delete(object);
    at_free(&rewards);
    return st;
}

/* ---- sums ---- */

double at_reward_sum(const double *rewards, const double *weights, uint32_t n)
{
    double sum = 0;
    bool any = false;

    for (uint32_t k = 0; k < n; k++) {
        sum += isnan(rewards[k]) ? 0 : (weights ? weights[k] : 1) * rewards[k];
        any = any || !isnan(rewards[k]);
    }
    return any ? sum : NAN;
}

void at_reward_shape(double *sums, const uint32_t *n_tokens, uint32_t n,
                     const struct at_reward_shape *shape)
{
    double tokens = 0, count = 0;

    for (uint32_t i = 0; i < n; i++) {
        tokens += isnan(sums[i]) ? 0 : n_tokens[i];
        count += !isnan(sums[i]);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (isnan(sums[i]))
            continue;
        sums[i] -= shape->length_penalty * (n_tokens[i] / (tokens / count) - 1);
        if (shape->clip)
            sums[i] = fmin(fmax(sums[i], shape->clip[0]), shape->clip[1]);
    }
}
