/* Forms that rows come in elsewhere, as one table: each is recognised by its keys and rewritten
 * with TRL's, and back. Private to data/ but for the names. */
#ifndef AT_FORMS_H
#define AT_FORMS_H

#include "json.h"

/* Answers that were left unread, of forms that have them. */
struct at_form_unused {
    uint64_t n_drafts, n_discarded;
};
struct at_form {
    const char *name;
    const char *what;    /* its keys, for people */
    bool whole_messages; /* messages are written as they are, with all their keys */
    bool only_named;     /* the form is read only where it is named */
    bool (*is)(const cJSON *row);
    /* Why a row that `is` of the form has nothing to train on, a few words, or NULL; counts answers
     * of it that are not used. NULL: rows always have something. */
    const char *(*lacks)(const cJSON *row, struct at_form_unused *unused);
    AT_CHECKED (*take)(cJSON *row);
    AT_CHECKED (*give)(cJSON *row); /* NULL: it is only read */
};
/* NULL at the end of the list, which is sorted by name. */
const struct at_form *at_form_get(size_t i);
const struct at_form *at_form_find(const char *name); /* or NULL */
/* Tables with many kinds of rows are written with nulls: they are missing keys. */
void at_form_drop_nulls(cJSON *row);
/* What a row without nulls is; NULL when it is TRL's, or nothing of the table. */
const struct at_form *at_form_of(const cJSON *row);
/* Rewrites an object in TRL's keys: {prompt, chosen, rejected}, {prompt, completion}, {messages} or
 * {chosen, rejected}; *form is what it was, NULL when it was nothing of the table. Other keys stay,
 * nulls go. A row that is one of TRL's already is left alone, whatever else it holds but a
 * record's answers (argilla.h). AT_DATA with a sentence that names no place. */
AT_CHECKED at_form_take(const struct at_form **form, cJSON *row);
/* Messages that both lists begin with; a list that goes no further keeps its last one. */
size_t at_form_shared(const cJSON *a, const cJSON *b);
/* Gives a pair of conversations that begin alike a prompt of its own; leaves other rows alone. */
void at_form_part(cJSON *row);
/* Rewrites a row in TRL's keys in the form. AT_DATA when the form cannot hold it. */
AT_CHECKED at_form_give(const struct at_form *form, cJSON *row);

#endif
