/* What tests of tokenizers share: fixtures, and comparisons with what is expected of them. */
#ifndef TEST_TOKENIZERS_H
#define TEST_TOKENIZERS_H

#include "json.h"
#include "os.h"
#include "tokenizer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

#define FIXTURES TEST_DIR "/unit/fixtures/tokenizers/"
#define GOLDEN TEST_DIR "/golden/models/"

static struct at_tokenizer *load(const char *dir)
{
    struct at_tokenizer *t;

    if (at_tokenizer_load(&t, dir) != AT_OK)
        fail_msg("%s", at_message());
    return t;
}

static void check_ids(const struct at_tokenizer *t, const char *text, const cJSON *want,
                      bool special)
{
    struct at_ids ids = { 0 };
    size_t i = 0;

    assert_int_equal(at_tokenizer_encode(t, &ids, text, strlen(text), special), AT_OK);
    for (const cJSON *id = want->child; id; id = id->next, i++)
        if (i >= ids.n || ids.data[i] != id->valueint)
            fail_msg("\"%s\": id %zu is %d, should be %d", text, i, i < ids.n ? ids.data[i] : -1,
                     id->valueint);
    if (i != ids.n)
        fail_msg("\"%s\": %zu ids, should be %zu", text, ids.n, i);
    at_ids_release(&ids);
}

/* Decoded at once and id by id: both give `want`, but for a character cut off at the end. */
static void check_text(const struct at_tokenizer *t, const cJSON *list, const char *want)
{
    struct at_ids ids = { 0 };
    struct at_buf all = { 0 }, pieces = { 0 };
    struct at_decoding decoding = { .n_pending = 0 };

    at_buf_puts(&all, "");
    at_buf_puts(&pieces, "");
    for (const cJSON *id = list->child; id; id = id->next)
        assert_int_equal(at_ids_push(&ids, id->valueint), AT_OK);
    assert_int_equal(at_tokenizer_decode(t, &all, ids.data, ids.n, true), AT_OK);
    assert_string_equal(all.data, want);
    for (size_t i = 0; i < ids.n; i++)
        assert_int_equal(at_decoding_put(&decoding, t, &pieces, ids.data[i], true), AT_OK);
    if (decoding.n_pending > 0)
        at_buf_puts(&pieces, "\xEF\xBF\xBD");
    assert_string_equal(pieces.data, want);
    at_buf_release(&all);
    at_buf_release(&pieces);
    at_ids_release(&ids);
}

#endif
