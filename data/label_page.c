/* Labels: what the page shows, and its answers. */
#include "label_parts.h"

#include <string.h>

enum { MAX_TEXT = 1 << 20 };

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
static cJSON *as_answer(const struct label_decision *d, bool first_left)
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
    first_left = at_label_first_is_left(l, pair);
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
    TRY(take_choice(&choice, &edited, answer, at_label_first_is_left(l, pair)));
    TRY(at_json_get_string(&reason, answer, "reason", "answer"));
    cJSON_AddNumberToObject(line, "format_version", AT_LABEL_VERSION);
    cJSON_AddNumberToObject(line, "line", l->pairs[pair].line);
    cJSON_AddStringToObject(line, "digest", l->pairs[pair].digest.hex);
    cJSON_AddStringToObject(line, "annotator", l->annotators[0]);
    cJSON_AddStringToObject(line, "choice", at_label_choices[choice]);
    cJSON_AddStringToObject(line, "left", at_label_choices[!at_label_first_is_left(l, pair)]);
    if (reason && *reason)
        cJSON_AddStringToObject(line, "reason", reason);
    if (edited) {
        cJSON *edit = cJSON_AddObjectToObject(line, "edit");
        cJSON_AddStringToObject(edit, "of", at_label_choices[choice]);
        cJSON_AddStringToObject(edit, "text", edited);
    }
    TRY(take_ratings(line, l, at_json_find(answer, "ratings")));
    if (l->params.review)
        cJSON_AddBoolToObject(line, "review", true);
    cJSON_AddNumberToObject(line, "time", (double)(int64_t)at_wall_s());
    at_json_write(&text, line);
    TRY(at_buf_status(&text));
    TRY(write_line(l, &text));
    at_label_keep(l, 0, pair, line, choice);
    line = NULL;
done:
    at_json_free(&line);
    at_buf_release(&text);
    return st;
}
