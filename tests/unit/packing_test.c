/* links: base text data */
#include "json.h"
#include "packing.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

#define OK(call)                                     \
    do {                                             \
        if ((call) != AT_OK)                         \
            fail_msg("%s: %s", #call, at_message()); \
    } while (0)

enum { MAX_TOKENS = 20000, MAX_ROWS = 1200 };

/* Rows whose tokens are numbered on from 0; every third token is a target, and of every other row
 * the first half is its prefix. */
struct rows {
    int32_t ids[MAX_TOKENS];
    uint8_t targets[MAX_TOKENS];
    struct at_row row[MAX_ROWS];
    struct at_dataset data;
};

static bool counts(uint32_t token)
{
    return token % 3 == 0;
}

/* The row that begins at the token has no prefix and counts its first token. */
static bool first_counts(const struct rows *r, int32_t first)
{
    for (uint32_t i = 0; i < r->data.n_rows; i++)
        if (r->row[i].n_prefix == 0 && r->row[i].segment[0].ids[0] == first)
            return r->row[i].first_counts;
    return false;
}

static void make_rows(struct rows *out, const uint32_t *tokens, uint32_t n, uint32_t most)
{
    uint32_t at = 0;

    memset(out, 0, sizeof *out);
    assert_true(n <= MAX_ROWS);
    for (uint32_t i = 0; i < n; i++) {
        struct at_row *row = &out->row[i];
        const uint32_t length = tokens[i] < most ? tokens[i] : most;
        const uint32_t n_prefix = i % 2 ? length / 2 : 0;
        assert_true(at + tokens[i] <= MAX_TOKENS);
        for (uint32_t k = 0; k < tokens[i]; k++) {
            out->ids[at + k] = (int32_t)(at + k);
            out->targets[at + k] = k > 0 && k >= n_prefix && counts(at + k);
        }
        *row = (struct at_row){ .line = i + 1,
                                .index = i,
                                .prefix = out->ids + at,
                                .n_prefix = n_prefix,
                                .first_counts = n_prefix == 0 && i % 4 == 0,
                                .n_segments = 1 };
        row->segment[0] = (struct at_segment){ .ids = out->ids + at + n_prefix,
                                               .targets = out->targets + at + n_prefix,
                                               .n = length - n_prefix };
        for (uint32_t k = n_prefix; k < length; k++)
            row->segment[0].n_targets += out->targets[at + k];
        at += tokens[i];
    }
    out->data = (struct at_dataset){ .rows = out->row, .n_rows = n };
}

static int32_t token_of(const struct at_row *row, uint32_t i)
{
    return i < row->n_prefix ? row->prefix[i] : row->segment[0].ids[i - row->n_prefix];
}

/* n tokens from `first` on, with the flags that they had; a first token is none, but in the middle
 * of a wrapped row that of a data row that counts it is. */
static void check_row(const struct rows *r, const struct at_row *row, int32_t first, uint32_t n)
{
    const struct at_segment *s = &row->segment[0];
    uint32_t targets = 0;

    assert_int_equal(row->n_segments, 1);
    assert_int_equal(at_row_tokens(row), n);
    for (uint32_t i = 0; i < n; i++) {
        const int32_t id = token_of(row, i);
        const bool target = i >= row->n_prefix && s->targets[i - row->n_prefix];
        assert_int_equal(id, first + (int32_t)i);
        assert_int_equal(target, i > 0 && (r->targets[id] || first_counts(r, id)));
        targets += target;
    }
    assert_int_equal(s->n_targets, targets);
}

static enum at_packing strategy_of(const cJSON *want)
{
    const char *name = at_json_find(want, "strategy")->valuestring;

    return strcmp(name, "bfd") == 0         ? AT_PACKING_BFD
           : strcmp(name, "bfd_split") == 0 ? AT_PACKING_BFD_SPLIT
                                            : AT_PACKING_WRAPPED;
}

static void check_case(struct rows *r, const cJSON *want)
{
    const enum at_packing how = strategy_of(want);
    const uint32_t max_length = (uint32_t)at_json_find(want, "max_length")->valueint;
    const cJSON *pack = at_json_find(want, "packs")->child, *x = NULL;
    uint32_t lengths[MAX_ROWS], n = 0, k = 0, i = 0, most = 0;
    struct at_arena arena = { 0 };
    struct at_packs packs;
    uint64_t tokens = 0;

    for (x = at_json_find(want, "lengths")->child; x; x = x->next)
        lengths[n++] = (uint32_t)x->valueint;
    make_rows(r, lengths, n, how == AT_PACKING_BFD ? max_length : UINT32_MAX);
    OK(at_packs_make(&packs, &arena, &r->data, how, max_length));
    for (; pack; pack = pack->next, k++) {
        assert_true(k < packs.n);
        assert_int_equal(packs.begin[k], i);
        for (x = pack->child; x; x = x->next->next, i++) {
            assert_true(i < packs.begin[k + 1]);
            check_row(r, &packs.rows[i], x->valueint, (uint32_t)x->next->valueint);
            assert_int_equal(packs.rows[i].index, i);
            tokens += (uint32_t)x->next->valueint;
        }
        most = i - packs.begin[k] > most ? i - packs.begin[k] : most;
    }
    assert_int_equal(packs.n, k);
    assert_int_equal(packs.begin[k], i);
    assert_int_equal(packs.n_rows, i);
    assert_int_equal(packs.most, most);
    assert_int_equal(packs.tokens, tokens);
    assert_true(at_packs_fill(&packs) == (double)tokens / (k * (double)max_length));
    at_arena_release(&arena);
}

static void packs_are_those_of_trl(void **state)
{
    struct rows *r = NULL;
    cJSON *cases = NULL;
    uint32_t n = 0;

    (void)state;
    OK(at_alloc(&r, 1, sizeof *r));
    OK(at_json_load(&cases, TEST_DIR "/unit/fixtures/packs.json"));
    for (const cJSON *want = cases->child; want; want = want->next, n++)
        check_case(r, want);
    assert_int_equal(n, 30);
    at_json_free(&cases);
    at_free(&r);
}

/* A wrapped row is named after the line that it begins in, a piece after its own. */
static void packed_rows_have_the_lines_they_begin_in(void **state)
{
    const uint32_t tokens[] = { 5, 3, 9 }, wrapped[] = { 1, 1, 3, 3, 3 };
    struct at_arena arena = { 0 };
    struct at_packs packs;
    struct rows *r = NULL;

    (void)state;
    OK(at_alloc(&r, 1, sizeof *r));
    make_rows(r, tokens, 3, UINT32_MAX);
    OK(at_packs_make(&packs, &arena, &r->data, AT_PACKING_WRAPPED, 4));
    assert_int_equal(packs.n, 5);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(packs.rows[i].line, wrapped[i]);
    OK(at_packs_make(&packs, &arena, &r->data, AT_PACKING_BFD_SPLIT, 8));
    assert_int_equal(packs.n, 3);
    assert_int_equal(packs.rows[0].line, 3);
    assert_int_equal(packs.rows[1].line, 1);
    assert_int_equal(packs.rows[2].line, 2);
    assert_int_equal(packs.rows[3].line, 3);
    assert_int_equal(packs.most, 2);
    at_arena_release(&arena);
    at_free(&r);
}

static void without_packing_a_row_is_a_packed_row(void **state)
{
    const uint32_t tokens[] = { 5, 3, 9 };
    struct at_arena arena = { 0 };
    struct at_packs packs;
    struct rows *r = NULL;

    (void)state;
    OK(at_alloc(&r, 1, sizeof *r));
    make_rows(r, tokens, 3, UINT32_MAX);
    OK(at_packs_make(&packs, &arena, &r->data, AT_PACKING_NONE, 0));
    assert_ptr_equal(packs.rows, r->row);
    assert_int_equal(packs.n, 3);
    assert_int_equal(packs.most, 1);
    assert_int_equal(packs.tokens, 17);
    for (uint32_t i = 0; i <= 3; i++)
        assert_int_equal(packs.begin[i], i);
    at_arena_release(&arena);
    at_free(&r);
}

static void packing_without_memory_fails(void **state)
{
    const uint32_t tokens[] = { 5, 3, 9 };
    struct rows *r = NULL;

    (void)state;
    OK(at_alloc(&r, 1, sizeof *r));
    make_rows(r, tokens, 3, UINT32_MAX);
    for (int how = AT_PACKING_NONE; how <= AT_PACKING_WRAPPED; how++) {
        for (uint64_t n = 1;; n++) {
            struct at_arena arena = { 0 };
            struct at_packs packs;
            at_alloc_fail_at(n);
            const enum at_status st =
                at_packs_make(&packs, &arena, &r->data, (enum at_packing)how, 9);
            at_alloc_fail_at(0);
            at_arena_release(&arena);
            if (st == AT_OK) {
                assert_true(n > 1);
                break;
            }
            assert_int_equal(st, AT_MEMORY);
        }
    }
    at_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packs_are_those_of_trl),
        cmocka_unit_test(packed_rows_have_the_lines_they_begin_in),
        cmocka_unit_test(without_packing_a_row_is_a_packed_row),
        cmocka_unit_test(packing_without_memory_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
