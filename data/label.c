#include "label_parts.h"

#include "forms.h"
#include "lines.h"
#include "rng.h"

#include <string.h>

enum { MAX_NAME = 64 };

const char *const at_label_choices[AT_LABEL_CHOICES] = { [AT_LABEL_FIRST] = "first",
                                                         [AT_LABEL_SECOND] = "second",
                                                         [AT_LABEL_TIE] = "tie",
                                                         [AT_LABEL_SKIP] = "skip" };

/* ---- pairs ---- */

/* {"prompt", "responses": [one, another]} as a pair. */
static AT_CHECKED take_candidates(cJSON *row)
{
    static const char *const sides[] = { "chosen", "rejected" };
    const cJSON *list = at_json_find(row, "responses");

    if (!cJSON_IsArray(list) || at_json_find(row, "chosen"))
        return AT_OK;
    if (cJSON_GetArraySize(list) != 2)
        return at_fail(AT_DATA, "\"responses\" has %d entries; two replies are compared",
                       cJSON_GetArraySize(list));
    for (int i = 0; i < 2; i++) {
        const cJSON *reply = cJSON_GetArrayItem(list, i);
        const bool text = cJSON_IsString(reply) && cJSON_IsArray(at_json_find(row, "prompt"));
        cJSON *side = text ? cJSON_CreateArray() : cJSON_Duplicate(reply, true);

        if (text) {
            cJSON *m = cJSON_CreateObject();
            cJSON_AddStringToObject(m, "role", "assistant");
            cJSON_AddStringToObject(m, "content", reply->valuestring);
            cJSON_AddItemToArray(side, m);
        }
        cJSON_AddItemToObject(row, sides[i], side);
    }
    cJSON_DeleteItemFromObjectCaseSensitive(row, "responses");
    return AT_OK;
}

static bool is_side(const cJSON *side)
{
    const cJSON *last = NULL;

    if (cJSON_IsString(side))
        return true;
    if (!cJSON_IsArray(side) || cJSON_GetArraySize(side) == 0)
        return false;
    cJSON_ArrayForEach(last, side) if (!cJSON_IsString(at_json_find(last, "role")) ||
                                       !cJSON_IsString(at_json_find(last, "content"))) return false;
    return true;
}

static AT_CHECKED add_pair(struct at_labels *l, const struct at_line *line)
{
    enum at_status st = AT_OK;
    const struct at_form *form = NULL;
    struct label_pair pair = { .line = line->number, .digest = at_hash_bytes(line->text, line->n) };

    TRY(at_json_parse(&pair.json, line->text, line->n, line->path, line->number));
    if (!cJSON_IsObject(pair.json))
        FAIL(AT_DATA, "a JSON object is expected; the file holds one a line");
    TRY(take_candidates(pair.json));
    TRY(at_form_take(&form, pair.json));
    at_form_part(pair.json);
    if (!is_side(at_json_find(pair.json, "chosen")) ||
        !is_side(at_json_find(pair.json, "rejected")))
        FAIL(AT_DATA,
             "two replies are compared: chosen and rejected, or responses with two; each a "
             "text or messages with role and content");
    if (l->n == l->capacity) {
        const size_t more = l->capacity ? 2 * l->capacity : 64;
        TRY(at_realloc(&l->pairs, l->capacity, more, sizeof *l->pairs));
        l->capacity = more;
    }
    l->pairs[l->n++] = pair;
    pair.json = NULL;
done:
    at_json_free(&pair.json);
    return st;
}

static AT_CHECKED read_pairs(struct at_labels *l, const char *path)
{
    enum at_status st = AT_OK;
    struct at_lines lines;
    struct at_line line;
    bool found = true;

    TRY(at_lines_open(&lines, path));
    for (;;) {
        TRY(at_lines_next(&lines, &line, &found));
        if (!found)
            break;
        st = add_pair(l, &line);
        if (st == AT_DATA && strncmp(at_message(), path, strlen(path)) != 0)
            at_context("%s:%u", path, line.number);
        TRY(st);
    }
    if (l->n == 0)
        FAIL(AT_DATA, "%s: there is no pair to judge", path);
done:
    at_lines_close(&lines);
    return st;
}

static AT_CHECKED make_order(struct at_labels *l)
{
    const struct at_digest name = at_hash_bytes(l->params.annotator, strlen(l->params.annotator));
    enum at_status st;
    struct at_rng rng;
    uint32_t word;

    memcpy(&word, name.hex, sizeof word); /* annotators see them in orders of their own */
    rng = at_rng_make(l->params.seed, AT_RNG_LABEL, word, 0);
    TRY(at_arena_alloc(&l->arena, &l->order, l->n, sizeof *l->order));
    for (uint32_t i = 0; i < l->n; i++)
        l->order[i] = i;
    if (!l->params.review)
        at_rng_shuffle(&rng, l->order, l->n);
done:
    return st;
}

bool at_label_first_is_left(const struct at_labels *l, uint32_t pair)
{
    struct at_rng rng = at_rng_make(l->params.seed, AT_RNG_LABEL, l->pairs[pair].line, 1);

    return l->params.review || at_rng_below(&rng, 2) == 0;
}

/* ---- decisions ---- */

static bool is_name(const char *text)
{
    const size_t n = strlen(text);

    return n > 0 && n <= MAX_NAME &&
           strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.@") == n;
}

static AT_CHECKED find_annotator(uint32_t *out, struct at_labels *l, const char *name)
{
    enum at_status st = AT_OK;
    char *copy = NULL;

    for (*out = 0; *out < l->n_annotators; ++*out)
        if (strcmp(l->annotators[*out], name) == 0)
            return AT_OK;
    if (l->n_annotators == AT_MAX_ANNOTATORS)
        FAIL(AT_DATA, "more than %d annotators", AT_MAX_ANNOTATORS);
    TRY(at_arena_strdup(&l->arena, &copy, name));
    TRY(at_alloc(&l->decisions[*out], l->n, sizeof **l->decisions));
    l->annotators[l->n_annotators++] = copy;
done:
    return st;
}

void at_label_keep(struct at_labels *l, uint32_t who, uint32_t pair, cJSON *json,
                   enum at_label_choice choice)
{
    struct label_decision *d = &l->decisions[who][pair];

    l->done += who == 0 && !d->json;
    at_json_free(&d->json);
    *d = (struct label_decision){ json, choice };
}

static AT_CHECKED find_choice(enum at_label_choice *out, const char *text)
{
    for (size_t i = 0; i < AT_LABEL_CHOICES; i++)
        if (strcmp(at_label_choices[i], text) == 0) {
            *out = (enum at_label_choice)i;
            return AT_OK;
        }
    return at_fail(AT_DATA, "\"choice\" is \"%.20s\"; first, second, tie or skip is expected",
                   text);
}

/* The pair of a line; lines ascend. */
static bool find_pair(uint32_t *out, const struct at_labels *l, uint32_t line)
{
    uint32_t begin = 0, end = l->n;

    while (begin < end) {
        const uint32_t middle = begin + (end - begin) / 2;
        if (l->pairs[middle].line < line)
            begin = middle + 1;
        else
            end = middle;
    }
    *out = begin;
    return begin < l->n && l->pairs[begin].line == line;
}

/* A line of the log; *json is taken. */
static AT_CHECKED read_decision(struct at_labels *l, cJSON **json, const char *place)
{
    enum at_status st;
    enum at_label_choice choice = AT_LABEL_SKIP;
    uint32_t version = 0, line = 0, who = 0, pair = 0;
    const char *digest = NULL, *annotator = NULL, *text = NULL;
    const cJSON *edit = NULL;
    bool review = false;

    TRY(at_json_need_u32(&version, *json, "format_version", place));
    if (version != AT_LABEL_VERSION)
        FAIL(AT_DATA, "format_version %u; this version reads %d", version, AT_LABEL_VERSION);
    TRY(at_json_need_u32(&line, *json, "line", place));
    TRY(at_json_need_string(&digest, *json, "digest", place));
    TRY(at_json_need_string(&annotator, *json, "annotator", place));
    TRY(at_json_need_string(&text, *json, "choice", place));
    TRY(at_json_get_bool(&review, *json, "review", place));
    TRY(find_choice(&choice, text));
    edit = at_json_find(*json, "edit");
    if (edit && (!cJSON_IsString(at_json_find(edit, "text")) || choice > AT_LABEL_SECOND))
        FAIL(AT_DATA, "\"edit\": a text that one of the replies became is expected");
    if (!find_pair(&pair, l, line) || strcmp(l->pairs[pair].digest.hex, digest) != 0)
        FAIL(AT_DATA,
             "the decision is about another line %u than %s has: the file was changed, or "
             "the log belongs to another; name a new one with --log",
             line, l->params.path);
    if (review != l->params.review && !l->params.reads)
        FAIL(AT_DATA, "the log holds %s; name another one with --log",
             review ? "reviews, not labels" : "labels, not reviews");
    TRY(find_annotator(&who, l, annotator));
    at_label_keep(l, who, pair, *json, choice);
    *json = NULL;
done:
    return st;
}

/* All whole lines. */
static AT_CHECKED read_log(struct at_labels *l)
{
    const char *path = l->params.log;
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };
    cJSON *json = NULL;
    uint32_t number = 0;

    if (!at_path_exists(path)) {
        if (l->params.reads)
            FAIL(AT_NOT_FOUND, "%s does not exist: nothing has been labelled yet", path);
        goto done;
    }
    TRY(at_file_read(&text, path));
    for (const char *at = text.data, *end; text.n > 0; at = end + 1) {
        const size_t left = text.n - (size_t)(at - text.data);

        end = memchr(at, '\n', left);
        if (left > 0 && !end)
            at_warn("cut_label", "%s: its last line is not whole and is cut off", path);
        if (!end)
            break;
        l->bytes = (uint64_t)(end + 1 - text.data);
        number++;
        TRY(at_json_parse(&json, at, (size_t)(end - at), path, number));
        st = read_decision(l, &json, path);
        if (st == AT_DATA && strncmp(at_message(), path, strlen(path)) != 0)
            at_context("%s:%u", path, number);
        TRY(st);
    }
done:
    at_json_free(&json);
    at_buf_release(&text);
    return st;
}

AT_CHECKED at_labels_open(struct at_labels **out, const struct at_labels_params *p)
{
    enum at_status st;
    struct at_labels *l = NULL;
    uint32_t who = 0;

    TRY(at_alloc(&l, 1, sizeof *l));
    l->params = *p;
    if (!is_name(p->annotator))
        FAIL(AT_USAGE,
             "annotator \"%.80s\": a name of letters, digits, -, _, . and @ is expected, of "
             "at most %d",
             p->annotator, MAX_NAME);
    for (size_t i = 0; i < p->n_dimensions; i++)
        if (!is_name(p->dimensions[i]))
            FAIL(AT_USAGE,
                 "dimension \"%.80s\": a name of letters, digits, -, _, . and @ is "
                 "expected, of at most %d",
                 p->dimensions[i], MAX_NAME);
    TRY(read_pairs(l, p->path));
    TRY(make_order(l));
    TRY(find_annotator(&who, l, p->annotator));
    if (!p->reads)
        TRY(at_lock_take(&l->lock, p->log));
    TRY(read_log(l));
    if (!p->reads)
        TRY(at_log_open(&l->log, p->log, l->bytes));
    *out = l;
    l = NULL;
done:
    at_labels_close(&l);
    return st;
}

void at_labels_close(struct at_labels **labels)
{
    struct at_labels *l = *labels;

    if (!l)
        return;
    for (uint32_t i = 0; i < l->n; i++)
        at_json_free(&l->pairs[i].json);
    at_free(&l->pairs);
    for (uint32_t who = 0; who < l->n_annotators; who++) {
        for (uint32_t i = 0; i < l->n; i++)
            at_json_free(&l->decisions[who][i].json);
        at_free(&l->decisions[who]);
    }
    at_log_close(&l->log);
    at_lock_release(&l->lock);
    at_arena_release(&l->arena);
    at_free(labels);
}

uint32_t at_labels_count(const struct at_labels *l)
{
    return l->n;
}

uint32_t at_labels_done(const struct at_labels *l)
{
    return l->done;
}
