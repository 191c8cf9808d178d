#include "label.h"

#include "forms.h"
#include "hash.h"
#include "lines.h"
#include "os.h"
#include "rng.h"

#include <string.h>

enum { FORMAT_VERSION = 1, MAX_ANNOTATORS = 64, MAX_NAME = 64, MAX_TEXT = 1 << 20 };

static const char *const choices[] = { [AT_LABEL_FIRST] = "first",
                                       [AT_LABEL_SECOND] = "second",
                                       [AT_LABEL_TIE] = "tie",
                                       [AT_LABEL_SKIP] = "skip" };

struct pair {
    cJSON *json; /* in TRL's keys; candidates as a pair */
    uint32_t line;
    struct at_digest digest;
};
/* Latest decision of an annotator on a pair; json NULL: none. */
struct decision {
    cJSON *json;
    enum at_label_choice choice;
};
struct at_labels {
    struct at_labels_params params;
    struct at_arena arena;
    struct pair *pairs; /* (n) in the file's order */
    uint32_t n;
    size_t capacity;
    uint32_t *order;                        /* (n) this annotator's places to pairs */
    const char *annotators[MAX_ANNOTATORS]; /* number 0 is this one */
    uint32_t n_annotators;
    struct decision *decisions[MAX_ANNOTATORS]; /* (n) each */
    uint32_t done;
    struct at_lock *lock; /* one process at a time writes the log */
    struct at_log *log;   /* NULL: to be opened with `bytes`, which are whole lines */
    uint64_t bytes;
};

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
    struct pair pair = { .line = line->number, .digest = at_hash_bytes(line->text, line->n) };

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

/* Whether the file's first reply of a pair stands on the left. */
static bool first_is_left(const struct at_labels *l, uint32_t pair)
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
    if (l->n_annotators == MAX_ANNOTATORS)
        FAIL(AT_DATA, "more than %d annotators", MAX_ANNOTATORS);
    TRY(at_arena_strdup(&l->arena, &copy, name));
    TRY(at_alloc(&l->decisions[*out], l->n, sizeof **l->decisions));
    l->annotators[l->n_annotators++] = copy;
done:
    return st;
}

/* Takes a decision of annotator `who` over, `json` included. */
static void keep(struct at_labels *l, uint32_t who, uint32_t pair, cJSON *json,
                 enum at_label_choice choice)
{
    struct decision *d = &l->decisions[who][pair];

    l->done += who == 0 && !d->json;
    at_json_free(&d->json);
    *d = (struct decision){ json, choice };
}

static AT_CHECKED find_choice(enum at_label_choice *out, const char *text)
{
    for (size_t i = 0; i < AT_COUNT(choices); i++)
        if (strcmp(choices[i], text) == 0) {
            *out = (enum at_label_choice)i;
            return AT_OK;
        }
    return at_fail(AT_DATA, "\"choice\" is \"%.20s\"; first, second, tie or skip is expected",
                   text);
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
    if (version != FORMAT_VERSION)
        FAIL(AT_DATA, "format_version %u; this version reads %d", version, FORMAT_VERSION);
    TRY(at_json_need_u32(&line, *json, "line", place));
    TRY(at_json_need_string(&digest, *json, "digest", place));
    TRY(at_json_need_string(&annotator, *json, "annotator", place));
    TRY(at_json_need_string(&text, *json, "choice", place));
    TRY(at_json_get_bool(&review, *json, "review", place));
    TRY(find_choice(&choice, text));
    edit = at_json_find(*json, "edit");
    if (edit && (!cJSON_IsString(at_json_find(edit, "text")) || choice > AT_LABEL_SECOND))
        FAIL(AT_DATA, "\"edit\": a text that one of the replies became is expected");
    while (pair < l->n && l->pairs[pair].line != line)
        pair++;
    if (pair == l->n || strcmp(l->pairs[pair].digest.hex, digest) != 0)
        FAIL(AT_DATA,
             "the decision is about another line %u than %s has: the file was changed, or "
             "the log belongs to another; name a new one with --log",
             line, l->params.path);
    if (review != l->params.review && !l->params.reads)
        FAIL(AT_DATA, "the log holds %s; name another one with --log",
             review ? "reviews, not labels" : "labels, not reviews");
    TRY(find_annotator(&who, l, annotator));
    keep(l, who, pair, *json, choice);
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

/* ---- the page ---- */

static cJSON *as_messages(const cJSON *part, const char *role)
{
    cJSON *list = NULL, *m = NULL;

    if (cJSON_IsArray(part))
        return cJSON_Duplicate(part, true);
    list = cJSON_CreateArray();
    if (!cJSON_IsString(part))
        return list;
    m = cJSON_CreateObject();
    cJSON_AddStringToObject(m, "role", role);
    cJSON_AddStringToObject(m, "content", part->valuestring);
    cJSON_AddItemToArray(list, m);
    return list;
}

/* What an earlier decision was, in the page's words. */
static cJSON *as_answer(const struct decision *d, bool first_left)
{
    static const char *const copied[] = { "ratings", "reason" };
    const cJSON *edit = at_json_find(d->json, "edit");
    const char *const sides[] = { first_left ? "a" : "b", first_left ? "b" : "a", "tie", "skip" };
    cJSON *out = cJSON_CreateObject();

    cJSON_AddStringToObject(out, "choice", sides[d->choice]);
    for (size_t i = 0; i < AT_COUNT(copied); i++)
        if (at_json_find(d->json, copied[i]))
            cJSON_AddItemToObject(out, copied[i],
                                  cJSON_Duplicate(at_json_find(d->json, copied[i]), true));
    if (edit) {
        cJSON *e = cJSON_AddObjectToObject(out, "edit");
        cJSON_AddStringToObject(e, "of", sides[d->choice]);
        cJSON_AddItemToObject(e, "text", cJSON_Duplicate(at_json_find(edit, "text"), true));
    }
    return out;
}

AT_CHECKED at_labels_show(cJSON **out, const struct at_labels *l, uint32_t place)
{
    const cJSON *row = NULL;
    cJSON *json = NULL, *names = NULL;
    uint32_t pair = 0;
    bool first_left = false;

    if (place != UINT32_MAX && place >= l->n)
        return at_fail(AT_DATA, "place %u: there are %u pairs", place, l->n);
    for (uint32_t i = 0; place == UINT32_MAX && i < l->n; i++)
        if (!l->decisions[0][l->order[i]].json)
            place = i;
    *out = json = cJSON_CreateObject();
    cJSON_AddNumberToObject(json, "done", l->done);
    cJSON_AddNumberToObject(json, "total", l->n);
    cJSON_AddBoolToObject(json, "review", l->params.review);
    if (place == UINT32_MAX) {
        cJSON_AddBoolToObject(json, "finished", true);
        return AT_OK;
    }
    pair = l->order[place];
    row = l->pairs[pair].json;
    first_left = first_is_left(l, pair);
    cJSON_AddNumberToObject(json, "place", place);
    names = cJSON_AddArrayToObject(json, "dimensions");
    for (size_t i = 0; i < l->params.n_dimensions; i++)
        cJSON_AddItemToArray(names, cJSON_CreateString(l->params.dimensions[i]));
    cJSON_AddItemToObject(json, "prompt", as_messages(at_json_find(row, "prompt"), "prompt"));
    cJSON_AddItemToObject(
        json, "a", as_messages(at_json_find(row, first_left ? "chosen" : "rejected"), "reply"));
    cJSON_AddItemToObject(
        json, "b", as_messages(at_json_find(row, first_left ? "rejected" : "chosen"), "reply"));
    if (l->decisions[0][pair].json)
        cJSON_AddItemToObject(json, "before", as_answer(&l->decisions[0][pair], first_left));
    return AT_OK;
}

/* ratings: each of a dimension, 1 to 5. */
static AT_CHECKED take_ratings(cJSON *line, const struct at_labels *l, const cJSON *ratings)
{
    const cJSON *rating = NULL;

    if (!ratings || cJSON_IsNull(ratings))
        return AT_OK;
    cJSON_ArrayForEach(rating, ratings)
    {
        const double value = cJSON_IsNumber(rating) ? rating->valuedouble : 0;
        size_t i = 0;

        while (i < l->params.n_dimensions && strcmp(l->params.dimensions[i], rating->string) != 0)
            i++;
        if (i == l->params.n_dimensions || value < 1 || value > 5 || value != (int)value)
            return at_fail(AT_DATA,
                           "\"ratings\": a dimension that is rated from 1 to 5 is expected");
    }
    if (!cJSON_IsObject(ratings))
        return at_fail(AT_DATA, "\"ratings\" must be an object");
    if (ratings->child)
        cJSON_AddItemToObject(line, "ratings", cJSON_Duplicate(ratings, true));
    return AT_OK;
}

/* The choice of an answer, in the file's words; with an edit the side that it is of. */
static AT_CHECKED take_choice(enum at_label_choice *out, const char **edited, const cJSON *answer,
                              bool first_left)
{
    enum at_status st;
    const cJSON *edit = at_json_find(answer, "edit");
    const char *choice = NULL;

    *edited = NULL;
    TRY(at_json_need_string(&choice, answer, "choice", "answer"));
    if (edit && !cJSON_IsNull(edit)) {
        TRY(at_json_need_string(&choice, edit, "of", "answer"));
        TRY(at_json_need_string(edited, edit, "text", "answer"));
        if (strspn(*edited, " \t\r\n") == strlen(*edited) || strlen(*edited) > MAX_TEXT)
            FAIL(AT_DATA, "\"edit\": a reply of at most %d bytes is expected", MAX_TEXT);
    }
    if (strcmp(choice, "a") == 0)
        *out = first_left ? AT_LABEL_FIRST : AT_LABEL_SECOND;
    else if (strcmp(choice, "b") == 0)
        *out = first_left ? AT_LABEL_SECOND : AT_LABEL_FIRST;
    else if (strcmp(choice, "tie") == 0 && !*edited)
        *out = AT_LABEL_TIE;
    else if (strcmp(choice, "skip") == 0 && !*edited)
        *out = AT_LABEL_SKIP;
    else
        FAIL(AT_DATA, "\"choice\" is \"%.20s\"; a, b, tie or skip is expected", choice);
done:
    return st;
}

/* On the disk whole, or not at all: what a full disk left of it is cut off before the next line. */
static AT_CHECKED write_line(struct at_labels *l, const struct at_buf *text)
{
    enum at_status st;

    if (!l->log)
        TRY(at_log_open(&l->log, l->params.log, l->bytes));
    TRY(at_log_line(l->log, text->data, text->n));
    TRY(at_log_sync(l->log, &l->bytes));
done:
    if (st != AT_OK)
        at_log_close(&l->log);
    return st;
}

AT_CHECKED at_labels_put(struct at_labels *l, const cJSON *answer)
{
    enum at_status st;
    enum at_label_choice choice = AT_LABEL_SKIP;
    const char *edited = NULL, *reason = NULL;
    struct at_buf text = { 0 };
    cJSON *line = cJSON_CreateObject();
    uint32_t place = UINT32_MAX, pair = 0;

    TRY(at_json_need_u32(&place, answer, "place", "answer"));
    if (place >= l->n)
        FAIL(AT_DATA, "place %u: there are %u pairs", place, l->n);
    pair = l->order[place];
    TRY(take_choice(&choice, &edited, answer, first_is_left(l, pair)));
    TRY(at_json_get_string(&reason, answer, "reason", "answer"));
    cJSON_AddNumberToObject(line, "format_version", FORMAT_VERSION);
    cJSON_AddNumberToObject(line, "line", l->pairs[pair].line);
    cJSON_AddStringToObject(line, "digest", l->pairs[pair].digest.hex);
    cJSON_AddStringToObject(line, "annotator", l->annotators[0]);
    cJSON_AddStringToObject(line, "choice", choices[choice]);
    cJSON_AddStringToObject(line, "left", choices[!first_is_left(l, pair)]);
    if (reason && *reason)
        cJSON_AddStringToObject(line, "reason", reason);
    if (edited) {
        cJSON *edit = cJSON_AddObjectToObject(line, "edit");
        cJSON_AddStringToObject(edit, "of", choices[choice]);
        cJSON_AddStringToObject(edit, "text", edited);
    }
    TRY(take_ratings(line, l, at_json_find(answer, "ratings")));
    if (l->params.review)
        cJSON_AddBoolToObject(line, "review", true);
    cJSON_AddNumberToObject(line, "time", (double)(int64_t)at_wall_s());
    at_json_write(&text, line);
    TRY(at_buf_status(&text));
    TRY(write_line(l, &text));
    keep(l, 0, pair, line, choice);
    line = NULL;
done:
    at_json_free(&line);
    at_buf_release(&text);
    return st;
}

/* ---- what comes out ---- */

/* A pair with the winner as chosen; `edit`: with its text in place of the winner's last message,
 * and the winner as rejected. */
static cJSON *decided_row(const struct pair *pair, enum at_label_choice winner, const char *edit)
{
    cJSON *row = cJSON_Duplicate(pair->json, true);
    cJSON *sides[2], *last = NULL;

    sides[0] = cJSON_DetachItemFromObjectCaseSensitive(row, "chosen");
    sides[1] = cJSON_DetachItemFromObjectCaseSensitive(row, "rejected");
    if (winner == AT_LABEL_SECOND) {
        cJSON *swap = sides[0];
        sides[0] = sides[1];
        sides[1] = swap;
    }
    if (edit) {
        cJSON_Delete(sides[1]);
        sides[1] = cJSON_Duplicate(sides[0], true);
        last = cJSON_IsArray(sides[0])
                   ? cJSON_GetArrayItem(sides[0], cJSON_GetArraySize(sides[0]) - 1)
                   : NULL;
        if (last)
            cJSON_ReplaceItemInObjectCaseSensitive(last, "content", cJSON_CreateString(edit));
        else
            cJSON_SetValuestring(sides[0], edit);
    }
    cJSON_AddItemToObject(row, "chosen", sides[0]);
    cJSON_AddItemToObject(row, "rejected", sides[1]);
    if (winner == AT_LABEL_SECOND || edit) /* it was of the other side, or of another text */
        cJSON_DeleteItemFromObjectCaseSensitive(row, "margin");
    cJSON_DeleteItemFromObjectCaseSensitive(row, "reviewed");
    cJSON_AddBoolToObject(row, "reviewed", true);
    return row;
}

static AT_CHECKED put_row(struct at_writer *writer, struct at_buf *text, cJSON *row)
{
    at_buf_clear(text);
    at_json_write(text, row);
    at_buf_puts(text, "\n");
    cJSON_Delete(row);
    if (at_buf_status(text) != AT_OK)
        return at_buf_status(text);
    return at_writer_put(writer, text->data, text->n);
}

static enum at_label_choice other_side(enum at_label_choice side)
{
    return side == AT_LABEL_FIRST ? AT_LABEL_SECOND : AT_LABEL_FIRST;
}

static AT_CHECKED export_pair(struct at_labels_counts *c, const struct at_labels *l, uint32_t pair,
                              struct at_writer *writer, struct at_buf *text)
{
    enum at_status st = AT_OK;
    uint32_t votes[AT_COUNT(choices)] = { 0 };
    enum at_label_choice winner;

    for (uint32_t who = 0; who < l->n_annotators; who++)
        if (l->decisions[who][pair].json)
            votes[l->decisions[who][pair].choice]++;
    winner = votes[AT_LABEL_FIRST] > votes[AT_LABEL_SECOND] ? AT_LABEL_FIRST : AT_LABEL_SECOND;
    if (votes[winner] == 0) {
        c->n_undecided++;
    } else if (votes[winner] <= votes[other_side(winner)] || votes[winner] <= votes[AT_LABEL_TIE]) {
        c->n_split++;
    } else {
        TRY(put_row(writer, text, decided_row(&l->pairs[pair], winner, NULL)));
        c->n_rows++;
    }
    for (uint32_t who = 0; who < l->n_annotators; who++) {
        const struct decision *d = &l->decisions[who][pair];
        const cJSON *edit = d->json ? at_json_find(d->json, "edit") : NULL;
        if (!edit)
            continue;
        TRY(put_row(writer, text,
                    decided_row(&l->pairs[pair], d->choice,
                                cJSON_GetStringValue(at_json_find(edit, "text")))));
        c->n_rows++;
        c->n_edits++;
    }
done:
    return st;
}

AT_CHECKED at_labels_export(struct at_labels_counts *out, const struct at_labels *l,
                            const char *path)
{
    enum at_status st;
    struct at_writer *writer = NULL;
    struct at_buf text = { 0 };

    *out = (struct at_labels_counts){ 0 };
    if (at_path_exists(path))
        FAIL(AT_CANNOT_WRITE, "%s exists already; name another file", path);
    TRY(at_writer_open(&writer, path));
    for (uint32_t i = 0; i < l->n; i++)
        TRY(export_pair(out, l, i, writer, &text));
    if (out->n_rows == 0)
        FAIL(AT_DATA, "%s holds no decision for a side: there is nothing to write", l->params.log);
    TRY(at_writer_commit(writer));
done:
    at_writer_close(&writer);
    at_buf_release(&text);
    return st;
}

static bool compare(struct at_agreement *out, const struct at_labels *l, uint32_t i, uint32_t k)
{
    double share[2][3] = { { 0 } }, by_chance = 0, equal;

    *out = (struct at_agreement){ .one = l->annotators[i], .other = l->annotators[k] };
    for (uint32_t pair = 0; pair < l->n; pair++) {
        const struct decision *x = &l->decisions[i][pair], *y = &l->decisions[k][pair];
        if (!x->json || !y->json || x->choice == AT_LABEL_SKIP || y->choice == AT_LABEL_SKIP)
            continue;
        out->n++;
        out->n_equal += x->choice == y->choice;
        share[0][x->choice]++;
        share[1][y->choice]++;
    }
    if (out->n == 0)
        return false;
    for (int c = 0; c < 3; c++)
        by_chance += share[0][c] / out->n * (share[1][c] / out->n);
    equal = (double)out->n_equal / out->n;
    out->kappa = by_chance < 1 ? (equal - by_chance) / (1 - by_chance) : 1;
    return true;
}

AT_CHECKED at_labels_agreement(struct at_arena *arena, struct at_agreement **out, size_t *out_n,
                               const struct at_labels *l)
{
    const size_t n = l->n_annotators;
    enum at_status st;

    *out_n = 0;
    TRY(at_arena_alloc(arena, out, n * n + 1, sizeof **out));
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = i + 1; k < n; k++)
            if (compare(&(*out)[*out_n], l, i, k))
                ++*out_n;
done:
    return st;
}
