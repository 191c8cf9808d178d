#include "report_parts.h"

#include <math.h>
#include <string.h>

/* ---- files ---- */

AT_CHECKED report_lines(const char *path,
                        enum at_status (*take)(void *context, const cJSON *line, const char *name),
                        void *context)
{
    enum at_status st = AT_OK;
    struct at_map map = { .n = 0 };
    struct at_buf name = { 0 };
    cJSON *line = NULL;
    size_t number = 0;

    TRY(at_map_open(&map, path));
    for (size_t at = 0, end = 0; at < map.n; at = end + 1) {
        const char *text = (const char *)map.data + at, *stop = memchr(text, '\n', map.n - at);
        end = stop ? (size_t)(stop - (const char *)map.data) : map.n;
        number++;
        if (end == at)
            continue;
        TRY(at_json_parse(&line, text, end - at, path, number));
        at_buf_clear(&name);
        at_buf_printf(&name, "%s:%zu", path, number);
        TRY(at_buf_status(&name));
        TRY(take(context, line, name.data));
        at_json_free(&line);
    }
done:
    at_json_free(&line);
    at_buf_release(&name);
    at_map_close(&map);
    return st;
}

/* The named file, which must be there, else one in the folder, else NULL. */
static AT_CHECKED find_file(const char **out, struct at_report *r, const char *given,
                            const char *name)
{
    enum at_status st = AT_OK;
    char *path = NULL;

    *out = given;
    if (given && !at_path_exists(given))
        FAIL(AT_NOT_FOUND, "%s does not exist", given);
    if (given)
        goto done;
    TRY(at_path_join(&r->arena, &path, r->dir, name));
    if (at_path_exists(path))
        *out = path;
done:
    return st;
}

static AT_CHECKED load(cJSON **out, struct at_report *r, const char *given, const char *name)
{
    enum at_status st = AT_OK;
    const char *path = NULL;

    TRY(find_file(&path, r, given, name));
    if (path)
        TRY(at_json_load(out, path));
    if (*out && !cJSON_IsObject(*out))
        FAIL(AT_DATA, "%s: an object is expected", path);
done:
    return st;
}

/* The page is made without what lies beside the run and cannot be read, such as the empty file that
 * a command which failed has left; a file that was named must be good. `st` is what reading said.
 */
static enum at_status leave_out(cJSON **out, const char *given, enum at_status st)
{
    if (given || st != AT_DATA)
        return st;
    at_json_free(out);
    at_warn("report_file", "%s; the page is made without it, make it again or remove it",
            at_message());
    return AT_OK;
}

static AT_CHECKED load_beside(cJSON **out, struct at_report *r, const char *given, const char *name)
{
    return leave_out(out, given, load(out, r, given, name));
}

static enum at_status take_reply(void *context, const cJSON *line, const char *name)
{
    enum at_status st = AT_OK;
    struct at_report *r = context;
    static const char *const keys[3] = { "prompt", "before", "after" };
    char *text[3] = { NULL };

    for (int k = 0; k < 3; k++) {
        const char *value = NULL;
        TRY(at_json_need_string(&value, line, keys[k], name));
        TRY(at_arena_strdup(&r->arena, &text[k], value));
    }
    if (r->n_replies == r->replies_capacity) {
        const size_t capacity = r->replies_capacity ? 2 * r->replies_capacity : 32;
        TRY(at_realloc(&r->replies, r->replies_capacity, capacity, sizeof *r->replies));
        r->replies_capacity = capacity;
    }
    r->replies[r->n_replies++] =
        (struct reply){ .prompt = text[0], .before = text[1], .after = text[2] };
done:
    return st;
}

/* Of eval.json, whose "texts" are {"prompt", "replies": [one a state]}: the first and the last
 * state's. */
static AT_CHECKED take_judged(struct at_report *r, const cJSON *judged, const char *name)
{
    enum at_status st = AT_OK;
    const cJSON *states = at_json_find(judged, "states"), *entry = NULL;
    const int n = cJSON_GetArraySize(states);
    cJSON *line = NULL;

    cJSON_ArrayForEach(entry, at_json_find(judged, "texts"))
    {
        const cJSON *texts = at_json_find(entry, "replies");
        const char *prompt = cJSON_GetStringValue(at_json_find(entry, "prompt"));
        const char *before = cJSON_GetStringValue(cJSON_GetArrayItem(texts, 0));
        const char *after = cJSON_GetStringValue(cJSON_GetArrayItem(texts, n - 1));
        if (!prompt || !before || !after)
            FAIL(AT_DATA, "%s: \"texts\": a prompt and a reply of each state are expected", name);
        line = cJSON_CreateObject();
        cJSON_AddStringToObject(line, "prompt", prompt);
        cJSON_AddStringToObject(line, "before", before);
        cJSON_AddStringToObject(line, "after", after);
        TRY(take_reply(r, line, name));
        cJSON_Delete(line);
        line = NULL;
    }
    if (r->n_replies == 0)
        goto done;
    r->before_name = cJSON_GetStringValue(at_json_find(cJSON_GetArrayItem(states, 0), "name"));
    r->after_name = cJSON_GetStringValue(at_json_find(cJSON_GetArrayItem(states, n - 1), "name"));
done:
    if (st != AT_OK)
        r->n_replies = 0;
    cJSON_Delete(line);
    return st;
}

static AT_CHECKED read_replies(struct at_report *r, const struct at_report_params *p)
{
    enum at_status st = AT_OK;
    const char *path = NULL;

    TRY(find_file(&path, r, p->replies, "replies.jsonl"));
    if (path)
        TRY(report_lines(path, take_reply, r));
    TRY(find_file(&path, r, p->eval, "eval.json"));
    if (r->n_replies == 0 && r->eval)
        TRY(leave_out(&r->eval, p->eval, take_judged(r, r->eval, path)));
    if (!r->before_name || !r->after_name) {
        r->before_name = "before";
        r->after_name = "after";
    }
done:
    return st;
}

/* The last line of what score prints. */
static enum at_status take_learnt(void *context, const cJSON *line, const char *name)
{
    struct at_report *r = context;
    const cJSON *learnt = at_json_find(line, "learnt");

    (void)name;
    if (!learnt)
        return AT_OK;
    cJSON_Delete(r->learnt);
    r->learnt = cJSON_Duplicate(learnt, true);
    return AT_OK;
}

static AT_CHECKED read_run(struct at_report *r)
{
    enum at_status st = AT_OK;
    static const char *const objects[] = { "config", "data", "device", "digests" };
    const char *path = NULL;
    double best = INFINITY;

    TRY(load(&r->run, r, NULL, "run.json"));
    TRY(load(&r->result, r, NULL, "result.json"));
    TRY(find_file(&path, r, NULL, "metrics.jsonl"));
    if (!r->run || !r->result || !path)
        FAIL(AT_NOT_FOUND,
             "%s holds no finished run: metrics.jsonl, result.json and run.json are expected; name "
             "the output_dir of a training, of a pipeline that of one of its stages",
             r->dir);
    for (size_t i = 0; i < AT_COUNT(objects); i++)
        if (at_json_find(r->run, objects[i]) && !cJSON_IsObject(at_json_find(r->run, objects[i])))
            FAIL(AT_DATA, "%s/run.json: \"%s\" must be an object", r->dir, objects[i]);
    TRY(curves_read(&r->curves, path));
    TRY(find_file(&path, r, NULL, "completions.jsonl"));
    if (path)
        TRY(samples_read(r->samples, path));
    TRY(at_json_get_double(&best, r->result, "best_step", "result.json"));
    if (best ==
        0) /* nothing was better than the start; what the training made of pairs still tells */
        best = INFINITY;
    TRY(find_file(&path, r, NULL, "pairs.jsonl"));
    if (path)
        TRY(pairs_read(&r->pairs, path, best, report_method(r)->absolute));
done:
    return st;
}

AT_CHECKED at_report_open(struct at_report **out, const struct at_report_params *p)
{
    enum at_status st = AT_OK;
    struct at_report *r = NULL;
    const char *path = NULL;
    char *dir = NULL;

    *out = NULL;
    TRY(at_alloc(&r, 1, sizeof *r));
    TRY(at_arena_strdup(&r->arena, &dir, p->dir));
    r->dir = dir;
    TRY(read_run(r));
    TRY(load_beside(&r->eval, r, p->eval, "eval.json"));
    TRY(load_beside(&r->compare, r, NULL, "compare.json"));
    TRY(load_beside(&r->dial, r, NULL, "dial.json"));
    TRY(read_replies(r, p));
    TRY(find_file(&path, r, p->tokens, "tokens.jsonl"));
    if (path)
        TRY(report_lines(path, take_learnt, r));
    if (path && !r->learnt)
        FAIL(AT_DATA,
             "%s: no line has \"learnt\"; it is made by `attune score CONFIG "
             "--adapter_name_or_path DIR --tokens --json` of a method with a reference",
             path);
    *out = r;
    r = NULL;
done:
    at_report_close(&r);
    return st;
}

bool at_report_is_judged(const struct at_report *r)
{
    return cJSON_GetArraySize(at_json_find(r->eval, "states")) > 0;
}

bool at_report_has_held_pairs(const struct at_report *r)
{
    const bool several = cJSON_GetArraySize(report_config(r, "eval_dataset")) > 1;

    return r->pairs.n > 0 && !at_report_gives_rewards(r) && !several &&
           cJSON_IsTrue(report_config(r, "use_peft"));
}

bool at_report_is_whole_model(const struct at_report *r)
{
    return cJSON_IsFalse(report_config(r, "use_peft"));
}

bool at_report_gives_rewards(const struct at_report *r)
{
    const cJSON *method = at_json_find(r->run, "method");

    return cJSON_IsString(method) && strcmp(method->valuestring, "reward") == 0;
}

void at_report_close(struct at_report **report)
{
    struct at_report *r = *report;

    if (!r)
        return;
    at_json_free(&r->run);
    at_json_free(&r->result);
    at_json_free(&r->eval);
    at_json_free(&r->compare);
    at_json_free(&r->dial);
    at_json_free(&r->learnt);
    curves_release(&r->curves);
    for (size_t i = 0; i < SAMPLES_SHOWN; i++)
        cJSON_Delete(r->samples[i]);
    pairs_release(&r->pairs);
    at_free(&r->replies);
    at_arena_release(&r->arena);
    at_free(report);
}

/* ---- what is in them ---- */

const cJSON *report_config(const struct at_report *r, const char *key)
{
    return at_json_find(at_json_find(at_json_find(r->run, "config"), key), "value");
}

/* Pairs are those of eval_dataset, else held out from train_dataset. */
const char *report_pair_file(const struct at_report *r, uint32_t file)
{
    const cJSON *list = report_config(r, "eval_dataset");

    if (!list || cJSON_IsNull(list) || cJSON_GetArraySize(list) == 0)
        list = report_config(r, "train_dataset");
    list = cJSON_IsString(list) ? list : cJSON_GetArrayItem(list, (int)file);
    return cJSON_GetStringValue(cJSON_IsObject(list) ? at_json_find(list, "path") : list);
}

static const struct report_words *find_words(const struct report_words *list, size_t n,
                                             const char *name)
{
    for (size_t i = 0; name && i + 1 < n; i++)
        if (strcmp(list[i].name, name) == 0)
            return &list[i];
    return &list[n - 1];
}

const struct report_words *report_method(const struct at_report *r)
{
    static const struct report_words methods[] = {
        { "cpo", "CPO", "pairs of replies, one better than the other, without a memory of itself",
          true },
        { "dpo", "DPO",
          "pairs of replies, one better than the other: it was to find the better one likelier "
          "than before, and the other less likely",
          false },
        { "grpo", "GRPO",
          "its own attempts: it was to write more like those that had a higher reward than the "
          "others",
          false },
        { "kto", "KTO", "single replies, each marked as wanted or not wanted", false },
        { "online_dpo", "online DPO",
          "pairs of its own attempts: it was to find the one with the higher reward likelier",
          false },
        { "orpo", "ORPO", "pairs of replies: it was to write the better one and to avoid the other",
          true },
        { "reward", "reward model",
          "pairs of replies, one better than the other: it was to give the better one more "
          "points",
          false },
        { "rloo", "RLOO",
          "its own attempts: it was to write more like those that had a higher reward than the "
          "others",
          false },
        { "sft", "SFT", "replies to imitate", false },
        { "tpo", "TPO", "pairs of replies, one better than the other, and a third reply to imitate",
          true },
        { "", "training", "examples", false },
    };

    return find_words(methods, AT_COUNT(methods),
                      cJSON_GetStringValue(at_json_find(r->run, "method")));
}

const char *report_trains_on(const struct at_report *r)
{
    static const char *const drawing[] = { "grpo", "online_dpo", "rloo" };
    const char *method = cJSON_GetStringValue(at_json_find(r->run, "method"));
    bool draws = false;

    for (size_t i = 0; method && i < AT_COUNT(drawing); i++)
        draws = draws || strcmp(method, drawing[i]) == 0;
    return draws && !cJSON_IsString(report_config(r, "rollouts")) ? "prompts" : "rows";
}

const struct report_words *report_verdict(const struct at_report *r)
{
    static const struct report_words verdicts[] = {
        { "better", "\xE2\x9C\x94 Better",
          "The model is better on examples that it was not trained on.", false },
        { "compared", "\xE2\x80\x93 Compared",
          "It was not judged by itself; how it compares with another stands below.", false },
        { "worse", "\xE2\x9C\x98 Worse",
          "The model is worse on examples that it was not trained on. Do not use it.", false },
        { "not enough evidence", "? Not enough evidence",
          "The difference could be chance. Hold out more pairs before deciding.", false },
        { "over budget", "! Over budget",
          "The model moved further from where it began than was allowed.", false },
        { "", "\xE2\x80\x93 Not judged",
          "Nothing was held out to judge by, or the state that was written was not evaluated.",
          false },
    };

    const char *verdict = cJSON_GetStringValue(at_json_find(r->result, "verdict"));

    if (r->compare && verdict && strcmp(verdict, "not judged") == 0)
        verdict = "compared";
    return find_words(verdicts, AT_COUNT(verdicts), verdict);
}

/* ---- as JSON ---- */

static void add_curves(cJSON *out, const struct at_report *r)
{
    for (size_t i = 0; i < N_CHARTS; i++)
        for (size_t k = 0; k < CHART_SERIES && charts[i].series[k].metric && !charts[i].x[0]; k++) {
            const struct curve *c = &r->curves.of[i][k];
            cJSON *part = NULL;
            double low = INFINITY, high = -INFINITY;
            if (c->n == 0)
                continue;
            for (size_t j = 0; j < c->n; j++) {
                low = fmin(low, c->points[j].y);
                high = fmax(high, c->points[j].y);
            }
            part = cJSON_AddObjectToObject(out, charts[i].series[k].metric);
            cJSON_AddNumberToObject(part, "first", c->points[0].y);
            cJSON_AddNumberToObject(part, "last", c->points[c->n - 1].y);
            cJSON_AddNumberToObject(part, "least", low);
            cJSON_AddNumberToObject(part, "greatest", high);
        }
}

AT_CHECKED at_report_bad_pairs(struct at_arena *arena, struct at_bad_pair **out, uint32_t *n,
                               uint32_t *n_judged, const struct at_report *r)
{
    enum at_status st = AT_OK;
    const struct pairs *p = &r->pairs;

    *n = 0;
    *n_judged = p->n_judged;
    TRY(at_arena_alloc(arena, out, p->n_judged, sizeof **out));
    for (uint32_t i = 0; i < p->n_judged; i++) {
        const struct pair *pair = &p->items[p->worst[i]];
        if (i >= (p->n_judged + 9) / 10 && pair->fate == PAIR_LEARNT)
            break;
        (*out)[(*n)++] = (struct at_bad_pair){ report_pair_file(r, pair->file), pair->line,
                                               pair->last, pair_fate_names[pair->fate] };
    }
done:
    return st;
}

static AT_CHECKED add_pairs(cJSON *out, const struct at_report *r)
{
    enum at_status st = AT_OK;
    const struct pairs *p = &r->pairs;
    struct at_arena arena = { .last = NULL };
    struct at_bad_pair *bad = NULL;
    uint32_t n = 0, n_judged = 0;
    cJSON *part = cJSON_AddObjectToObject(out, "pairs"), *list = NULL;

    TRY(at_report_bad_pairs(&arena, &bad, &n, &n_judged, r));
    cJSON_AddNumberToObject(part, "n", p->n_judged);
    for (int k = 0; k < PAIR_FATES; k++)
        cJSON_AddNumberToObject(part, pair_fate_names[k], p->count[k]);
    list = cJSON_AddArrayToObject(part, "worst");
    for (uint32_t i = 0; i < n; i++) {
        cJSON *entry = cJSON_CreateObject();
        cJSON_AddItemToArray(list, entry);
        if (bad[i].file)
            cJSON_AddStringToObject(entry, "file", bad[i].file);
        cJSON_AddNumberToObject(entry, "line", bad[i].line);
        cJSON_AddNumberToObject(entry, "margin", bad[i].margin);
        cJSON_AddStringToObject(entry, "fate", bad[i].fate);
    }
done:
    at_arena_release(&arena);
    return st;
}

static void add_copy(cJSON *out, const char *name, const cJSON *json)
{
    if (json)
        cJSON_AddItemToObject(out, name, cJSON_Duplicate(json, true));
}

AT_CHECKED at_report_json(cJSON **out, const struct at_report *r)
{
    enum at_status st = AT_OK;
    cJSON *all = cJSON_CreateObject();
    struct at_buf summary = { 0 };

    *out = all;
    cJSON_AddNumberToObject(all, "format_version", 1);
    cJSON_AddStringToObject(all, "dir", r->dir);
    add_copy(all, "method", at_json_find(r->run, "method"));
    TRY(report_summary(&summary, r));
    cJSON_AddStringToObject(all, "summary", summary.data);
    add_copy(all, "result", r->result);
    add_curves(cJSON_AddObjectToObject(all, "curves"), r);
    if (r->pairs.n_judged > 0)
        TRY(add_pairs(all, r));
    cJSON_AddNumberToObject(all, "replies", (double)r->n_replies);
    add_copy(all, "learnt", r->learnt);
    add_copy(all, "eval", r->eval);
    add_copy(all, "compare", r->compare);
    add_copy(all, "dial", r->dial);
    add_copy(all, "data", at_json_find(r->run, "data"));
    add_copy(all, "digests", at_json_find(r->run, "digests"));
done:
    at_buf_release(&summary);
    return st;
}
