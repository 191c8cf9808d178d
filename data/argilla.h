/* Records that Argilla exports, in each of its layouts, as fields and people's answers. Private to
 * data/.
 *   1.x records   {fields: {name: text}, responses: [{user_id, status, values: {question:
 *                 {value}}}], suggestions: [{question_name, value}]}
 *   1.x columns   {name: text, question: [{user_id, value, status}], question-suggestion}, or the
 *                 lists of one object {user_id, value, status}
 *   2.x to_json   {fields: {name: text}, responses: {question: [{value, user_id}]}, suggestions:
 *                 {question: {value}}}
 *   2.x columns   {name: text, question.responses: [...], question.responses.users: [...],
 *                 question.responses.status: [...], question.suggestion}; metadata are columns,
 * too, and nothing tells them from fields */
#ifndef AT_ARGILLA_H
#define AT_ARGILLA_H

#include "json.h"

struct at_argilla_field {
    const char *name;
    const cJSON *value; /* a text, or a list of messages */
};
struct at_argilla_answer {
    const char *question; /* its first n_question bytes are the name */
    size_t n_question;
    const char *user; /* NULL where nobody is named */
    const cJSON *value;
};
/* All of it borrows from the row. */
struct at_argilla {
    struct at_argilla_field *fields;
    size_t n_fields, field_capacity;
    struct at_argilla_answer *answers; /* (n_answers) that were submitted, and have a value */
    size_t n_answers, answer_capacity;
    uint32_t n_drafts, n_discarded; /* answers that were not submitted */
    bool suggested;                 /* a model proposed answers; these are no person's */
    bool mixed;                     /* fields may be metadata */
};
bool at_argilla_is(const cJSON *row);
/* AT_DATA with a sentence that names no place. An answer without a status was submitted: to_json
 * writes none. */
AT_CHECKED at_argilla_read(struct at_argilla *out, const cJSON *row);
/* Takes fields, answers and suggestions out of the row, and metadata that are columns; its id and
 * `metadata` stay. */
void at_argilla_drop(cJSON *row);
void at_argilla_release(struct at_argilla *record);

#endif
