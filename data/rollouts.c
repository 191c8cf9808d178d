#include "rollouts.h"

#include "hash.h"
#include "prompt_rows.h"
#include "reader.h"

#include <math.h>
#include <string.h>

struct loader {
    struct at_dataset *out;
    struct at_samples *samples;
    struct at_sample *items; /* (capacity) as `rows` */
    struct at_row *rows;
    size_t capacity;
    const struct at_dataset_params *params;
    struct at_prompt_reader reader;
    struct at_ids ids;  /* of the completion read last */
    struct at_buf more; /* rewards and old log-probs, for the digest */
};

/* ---- completions ---- */

static AT_CHECKED read_ids(struct loader *l, const struct at_line *line, const cJSON *list)
{
    enum at_status st = AT_OK;
    const double size = at_tokenizer_size(l->params->tokenizer);

    l->ids.n = 0;
    for (const cJSON *id = list->child; id; id = id->next) {
        if (!cJSON_IsNumber(id) || id->valuedouble != floor(id->valuedouble) ||
            !(id->valuedouble >= 0 && id->valuedouble < size))
            return at_line_fail(line, "completions",
                                "\"completions\": a list of ids has something else than a number "
                                "from 0 to %.0f",
                                size - 1);
        TRY(at_ids_push(&l->ids, (int32_t)id->valuedouble));
    }
done:
    return st;
}

static AT_CHECKED read_completion(struct loader *l, const struct at_line *line, const cJSON *item,
                                  bool chat)
{
    enum at_status st = AT_OK;
    const int32_t end = chat && l->reader.turn >= 0 ? l->reader.turn : l->reader.eos;

    if (cJSON_IsArray(item)) {
        TRY(read_ids(l, line, item));
    } else if (cJSON_IsString(item)) {
        l->ids.n = 0;
        TRY(at_tokenizer_encode(l->params->tokenizer, &l->ids, item->valuestring,
                                strlen(item->valuestring), false));
        if (end >= 0)
            TRY(at_ids_push(&l->ids, end));
    } else {
        return at_line_fail(line, "completions",
                            "\"completions\" must be a list of texts or of lists of token ids");
    }
    if (l->ids.n == 0)
        return at_line_fail(line, "completions", "a completion is empty");
    if (l->params->max_length > 0 && l->reader.ids.n + l->ids.n > l->params->max_length)
        return at_line_fail(line, "completions",
                            "prompt and completion have %zu tokens, max_length is %u; raise it (0: "
                            "no limit)",
                            l->reader.ids.n + l->ids.n, l->params->max_length);
done:
    return st;
}

static AT_CHECKED read_old(struct loader *l, const struct at_line *line, const cJSON *list,
                           bool is_text, const float **out)
{
    enum at_status st = AT_OK;
    float *old = NULL;
    size_t n = 0;

    if (is_text || !list || !cJSON_IsArray(list) || (size_t)cJSON_GetArraySize(list) != l->ids.n)
        return at_line_fail(line, "old_logps",
                            "\"old_logps\" must have a list for each completion, which must be a "
                            "list of ids, with a log-prob for each id");
    TRY(at_arena_alloc(&l->out->arena, &old, l->ids.n, sizeof *old));
    for (const cJSON *x = list->child; x; x = x->next) {
        if (!cJSON_IsNumber(x) || !(x->valuedouble <= 0) || !isfinite((float)x->valuedouble))
            return at_line_fail(line, "old_logps",
                                "\"old_logps\": a log-prob is not a finite number up to 0");
        old[n++] = (float)x->valuedouble;
    }
    at_buf_put(&l->more, old, n * sizeof *old);
    *out = old;
done:
    return st;
}

static AT_CHECKED add_row(struct loader *l, const struct at_line *line, const int32_t *prefix)
{
    enum at_status st = AT_OK;
    struct at_row *row = NULL;
    int32_t *ids = NULL;
    uint8_t *targets = NULL;
    const uint32_t n = (uint32_t)l->ids.n;

    if (l->out->n_rows == l->capacity) {
        const size_t capacity = l->capacity ? 2 * l->capacity : 64;
        TRY(at_realloc(&l->rows, l->capacity, capacity, sizeof *l->rows));
        TRY(at_realloc(&l->items, l->capacity, capacity, sizeof *l->items));
        l->capacity = capacity;
    }
    TRY(at_arena_alloc(&l->out->arena, &ids, n, sizeof *ids));
    TRY(at_arena_alloc(&l->out->arena, &targets, n, sizeof *targets));
    memcpy(ids, l->ids.data, n * sizeof *ids);
    memset(targets, 1, n);
    row = &l->rows[l->out->n_rows];
    *row = (struct at_row){ .kind = AT_ROWS_SAMPLE,
                            .line = line->number,
                            .index = l->out->n_rows,
                            .prefix = prefix,
                            .n_prefix = (uint32_t)l->reader.ids.n,
                            .n_prompt = (uint32_t)l->reader.ids.n,
                            .n_segments = 1,
                            .segment = { { ids, targets, n, n, n } } };
    l->items[l->out->n_rows] = (struct at_sample){
        .ended = ids[n - 1] == l->reader.eos || ids[n - 1] == l->reader.turn ||
                 ids[n - 1] == at_tokenizer_pad(l->params->tokenizer),
    };
    l->out->n_rows++;
done:
    return st;
}

/* ---- rewards ---- */

static AT_CHECKED read_reward_list(struct loader *l, const struct at_line *line, const cJSON *list,
                                   uint32_t place)
{
    struct at_sample *s = l->items + l->out->n_rows - l->samples->group;

    if (!cJSON_IsArray(list) || (uint32_t)cJSON_GetArraySize(list) != l->samples->group)
        return at_line_fail(line, "rewards", "\"rewards\": %u numbers expected, one a completion",
                            l->samples->group);
    for (const cJSON *x = list->child; x; x = x->next, s++) {
        if (!cJSON_IsNull(x) && !(cJSON_IsNumber(x) && isfinite(x->valuedouble)))
            return at_line_fail(line, "rewards",
                                "\"rewards\": one is neither a finite number nor null");
        s->reward[place] = cJSON_IsNull(x) ? NAN : x->valuedouble;
        at_buf_put(&l->more, &s->reward[place], sizeof s->reward[place]);
    }
    return AT_OK;
}

/* The place of a name, which the first line gives it. */
static AT_CHECKED find_reward(struct loader *l, const struct at_line *line, const char *name,
                              uint32_t *place)
{
    enum at_status st = AT_OK;
    struct at_samples *s = l->samples;
    char *copy = NULL;

    for (*place = 0; *place < s->n_rewards; (*place)++)
        if (strcmp(s->names[*place], name) == 0)
            return AT_OK;
    if (l->out->n_rows > s->group)
        return at_line_fail(line, "rewards", "the reward \"%s\" is not in the lines before", name);
    if (s->n_rewards == AT_MAX_REWARDS)
        return at_line_fail(line, "rewards", "at most %d rewards can be named", AT_MAX_REWARDS);
    TRY(at_arena_strdup(&l->out->arena, &copy, name));
    s->names[s->n_rewards++] = copy;
done:
    return st;
}

static AT_CHECKED read_rewards(struct loader *l, const struct at_line *line, const cJSON *json)
{
    enum at_status st = AT_OK;
    const cJSON *rewards = at_json_find(json, "rewards");
    uint32_t place = 0, n = 0;

    if (!cJSON_IsObject(rewards)) {
        TRY(find_reward(l, line, "reward", &place));
        TRY(read_reward_list(l, line, rewards, place));
        n++;
    }
    for (const cJSON *x = cJSON_IsObject(rewards) ? rewards->child : NULL; x; x = x->next, n++) {
        TRY(find_reward(l, line, x->string, &place));
        TRY(read_reward_list(l, line, x, place));
    }
    if (n == 0 || n != l->samples->n_rewards)
        return at_line_fail(line, "rewards", "%u rewards are named, %u expected", n,
                            l->samples->n_rewards);
done:
    return st;
}

/* ---- lines ---- */

static AT_CHECKED read_group(struct loader *l, const struct at_line *line, const cJSON *json)
{
    enum at_status st = AT_OK;
    const cJSON *list = at_json_find(json, "completions"), *old = at_json_find(json, "old_logps");
    const cJSON *old_item = cJSON_IsArray(old) ? old->child : NULL;
    const uint32_t group = l->samples->group;
    int32_t *prefix = NULL;

    TRY(at_prompt_read(&l->reader, line, json));
    if (!cJSON_IsArray(list) || (uint32_t)cJSON_GetArraySize(list) != group)
        return at_line_fail(line, "completions",
                            "%d completions found, %u expected in every line (num_generations; "
                            "online_dpo takes 2)",
                            cJSON_GetArraySize(list), group);
    TRY(at_arena_alloc(&l->out->arena, &prefix, l->reader.ids.n, sizeof *prefix));
    AT_REQUIRE(l->reader.ids.data);
    memcpy(prefix, l->reader.ids.data, l->reader.ids.n * sizeof *prefix);
    for (const cJSON *item = list->child; item; item = item->next) {
        TRY(read_completion(l, line, item, cJSON_IsArray(at_json_find(json, "prompt"))));
        TRY(add_row(l, line, prefix));
        if (old && !cJSON_IsNull(old))
            TRY(read_old(l, line, old_item, cJSON_IsString(item),
                         &l->items[l->out->n_rows - 1].old));
        old_item = old_item ? old_item->next : NULL;
    }
    if (!l->params->unrewarded)
        TRY(read_rewards(l, line, json));
    l->out->n_read += group;
    l->out->n_chats += cJSON_IsArray(at_json_find(json, "prompt")) ? group : 0;
done:
    return st;
}

static AT_CHECKED read_lines(struct loader *l, struct at_lines *lines)
{
    enum at_status st = AT_OK;
    struct at_line line;
    cJSON *json = NULL;
    bool found = true;

    for (;;) {
        TRY(at_lines_next(lines, &line, &found));
        if (!found)
            break;
        TRY(at_json_parse(&json, line.text, line.n, line.path, line.number));
        if (l->out->n_rows > UINT32_MAX - l->samples->group)
            FAIL(AT_DATA, "%s: more than %u samples", line.path, UINT32_MAX);
        TRY(read_group(l, &line, json));
        at_json_free(&json);
    }
    if (l->out->n_rows == 0)
        FAIL(AT_DATA,
             "%s: no line: one {\"prompt\", \"completions\", \"rewards\"} a line is "
             "expected",
             lines->path);
done:
    at_json_free(&json);
    return st;
}

static AT_CHECKED finish(struct loader *l)
{
    enum at_status st = AT_OK;
    struct at_sample *items = NULL;
    const uint32_t n = l->out->n_rows;

    TRY(at_arena_alloc(&l->out->arena, &l->out->rows, n, sizeof *l->out->rows));
    TRY(at_arena_alloc(&l->out->arena, &items, n, sizeof *items));
    AT_REQUIRE(l->rows && l->items);
    memcpy(l->out->rows, l->rows, n * sizeof *l->rows);
    memcpy(items, l->items, n * sizeof *items);
    l->samples->items = items;
    at_dataset_digest(l->out);
    at_buf_puts(&l->more, l->out->digest);
    TRY(at_buf_status(&l->more));
    memcpy(l->out->digest, at_hash_bytes(l->more.data, l->more.n).hex, sizeof l->out->digest);
done:
    return st;
}

AT_CHECKED at_rollouts_load(struct at_dataset *out, struct at_samples *samples, const char *path,
                            uint32_t group, const struct at_dataset_params *params)
{
    enum at_status st = AT_OK;
    struct loader l = { .out = out, .samples = samples, .params = params };
    struct at_lines lines = { .path = path };

    *out = (struct at_dataset){ .n_rows = 0 };
    *samples = (struct at_samples){ .group = group };
    TRY(at_prompt_reader_init(&l.reader, params));
    TRY(at_lines_open(&lines, path));
    TRY(read_lines(&l, &lines));
    TRY(finish(&l));
done:
    at_lines_close(&lines);
    at_free(&l.rows);
    at_free(&l.items);
    at_prompt_reader_release(&l.reader);
    at_ids_release(&l.ids);
    at_buf_release(&l.more);
    if (st != AT_OK)
        at_dataset_release(out);
    return st;
}
