/* Labels: decisions as pairs, and how far annotators agree. */
#include "label_parts.h"

#include <math.h>

/* A pair with the winner as chosen; `edit`: with its text in place of the winner's last message,
 * and the winner as rejected. */
static cJSON *decided_row(const struct label_pair *pair, enum at_label_choice winner,
                          const char *edit)
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

static void count_votes(uint32_t votes[AT_LABEL_CHOICES], const struct at_labels *l, uint32_t pair)
{
    for (uint32_t who = 0; who < l->n_annotators; who++)
        if (l->decisions[who][pair].json)
            votes[l->decisions[who][pair].choice]++;
}

double at_labels_outcome(const struct at_labels *l, uint32_t i)
{
    uint32_t votes[AT_LABEL_CHOICES] = { 0 };

    AT_REQUIRE(i < l->n);
    count_votes(votes, l, i);
    const uint32_t first = votes[AT_LABEL_FIRST], second = votes[AT_LABEL_SECOND];
    const uint32_t tie = votes[AT_LABEL_TIE];

    if (first + second + tie == 0)
        return NAN;
    return second > first && second > tie ? 1 : first > second && first > tie ? 0 : 0.5;
}

static AT_CHECKED export_pair(struct at_labels_counts *c, const struct at_labels *l, uint32_t pair,
                              struct at_writer *writer, struct at_buf *text)
{
    enum at_status st = AT_OK;
    uint32_t votes[AT_LABEL_CHOICES] = { 0 };
    enum at_label_choice winner;

    count_votes(votes, l, pair);
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
        const struct label_decision *d = &l->decisions[who][pair];
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
        const struct label_decision *x = &l->decisions[i][pair], *y = &l->decisions[k][pair];
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
