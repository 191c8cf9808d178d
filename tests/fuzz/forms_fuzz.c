/* links: base text data */
/* Rows of other tools: whatever is read is written in every form, or refused with a sentence. */
#include "forms.h"
#include "fuzz.h"
#include "json.h"

/* A refusal has a sentence. */
static bool is_said(enum at_status st)
{
    AT_REQUIRE(st == AT_OK || (st == AT_DATA && at_message()[0] != 0));
    return st == AT_OK;
}

/* Why the row has nothing to train on, where it is of a form that can say so. */
static void ask_lacks(const cJSON *row)
{
    struct at_form_unused unused = { .n_drafts = 0 };

    for (size_t i = 0; at_form_get(i); i++)
        if (at_form_get(i)->lacks && at_form_get(i)->is(row)) {
            const char *why = at_form_get(i)->lacks(row, &unused);
            AT_REQUIRE(!why || why[0]);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const struct at_form *form = NULL;
    cJSON *row = NULL;

    if (at_json_parse(&row, (const char *)data, n, "fuzz", 1) != AT_OK)
        return 0;
    ask_lacks(row);
    if (is_said(at_form_take(&form, row))) {
        at_form_part(row);
        for (size_t i = 0; at_form_get(i); i++) {
            cJSON *copy = cJSON_Duplicate(row, true);
            if (is_said(at_form_give(at_form_get(i), copy)))
                (void)is_said(at_form_take(&form, copy));
            cJSON_Delete(copy);
        }
    }
    at_json_free(&row);
    return 0;
}
