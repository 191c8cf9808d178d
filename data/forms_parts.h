/* Parts of the forms: rows are cJSON objects, keys case-sensitive. Private to data/forms*.c. */
#ifndef AT_FORMS_PARTS_H
#define AT_FORMS_PARTS_H

#include "forms.h"

extern const struct at_form at_form_alpaca, at_form_argilla, at_form_feedback, at_form_hh_rlhf,
    at_form_openai, at_form_openpipe, at_form_orca, at_form_ratings, at_form_sharegpt, at_form_trl,
    at_form_ultrafeedback;

bool at_form_has_text(const cJSON *row, const char *key);
bool at_form_has_list(const cJSON *row, const char *key);
const char *at_form_text(const cJSON *row, const char *key); /* "" when it is no text */
/* Appends {role, content}; returns the list. */
cJSON *at_form_add(cJSON *list, const char *role, const char *content);
cJSON *at_form_list(const char *role, const char *content); /* of one message */
/* Sets a key to an item, whatever was there; takes the item. */
void at_form_set(cJSON *row, const char *key, cJSON *item);
void at_form_drop(cJSON *row, const char *key);
/* A copy of a message or a list of messages as a list; `key` is for the error. */
AT_CHECKED at_form_messages(cJSON **out, const cJSON *item, const char *key);
/* Messages have a role and a content, and nothing else; where they go out as they are (`whole`),
 * tool calls may stand for the content, and other keys beside it. */
AT_CHECKED at_form_check(const cJSON *list, const char *key, bool whole);
/* The content of a list that is one message of the assistant; borrowed. */
AT_CHECKED at_form_reply(const char **out, const cJSON *list, const char *key);

#endif
