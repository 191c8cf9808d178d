/* links: base text data ops */
#include "attention.h"
#include "rng.h"
#include "slab.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

enum { CAPACITY = 512, MAX_ROWS = 24, MAX_PART = 9 };

/* Data rows with storage of their own; token ids are distinct, so that any mix-up shows. */
struct rows {
    struct at_row row[MAX_ROWS];
    const struct at_row *pointer[MAX_ROWS];
    int32_t ids[MAX_ROWS][3][MAX_PART];
    uint8_t targets[MAX_ROWS][2][MAX_PART];
    uint32_t n;
};

/* Where a token of the stream comes from. */
struct origin {
    uint32_t row, segment, position; /* segment: of the slab */
    uint32_t run;                    /* first row of those that share its prefix */
    bool in_prefix;
};

/* Every function that fills: whose prefixes are one. */
struct layout {
    void (*fill)(struct at_slab *slab, const struct at_row *const *rows, uint32_t n);
    bool sides, siblings;
};
static const struct layout SHARED = { at_slab_fill, true, false };
static const struct layout SIBLINGS = { at_slab_fill_siblings, true, true };
static const struct layout UNSHARED = { at_slab_fill_unshared, false, false };

/* Gives some rows the prompt of the row before; they become samples, and mostly that one, too. */
static void make_siblings(struct rows *out, struct at_rng *rng)
{
    for (uint32_t r = 0; r < out->n; r++) {
        struct at_row *row = &out->row[r];
        row->prompt_targets = false;
        row->kind = at_rng_below(rng, 8) ? AT_ROWS_SAMPLE : AT_ROWS_LABELLED;
        if (r > 0 && at_rng_below(rng, 4)) {
            row->n_prefix = row[-1].n_prefix;
            memcpy(out->ids[r][2], row[-1].prefix, row->n_prefix * sizeof *row->prefix);
        }
        if (row->n_prefix == 0)
            for (uint32_t k = 0; k < row->n_segments; k++) {
                row->segment[k].n_targets -= out->targets[r][k][0];
                out->targets[r][k][0] = 0;
            }
    }
}

static void make_rows(struct rows *out, struct at_rng *rng)
{
    memset(out, 0, sizeof *out);
    out->n = 1 + at_rng_below(rng, MAX_ROWS);
    for (uint32_t r = 0; r < out->n; r++) {
        struct at_row *row = &out->row[r];
        row->index = 50 + 3 * r;
        row->n_segments = 1 + at_rng_below(rng, 2);
        row->n_prefix = at_rng_below(rng, MAX_PART + 1);
        row->prefix = out->ids[r][2];
        row->prompt_targets = at_rng_below(rng, 2);
        for (uint32_t i = 0; i < MAX_PART; i++)
            for (int32_t k = 0; k < 3; k++)
                out->ids[r][k][i] = (int32_t)(1000 + r * 100 + i * 3) + k;
        for (uint32_t k = 0; k < row->n_segments; k++) {
            struct at_segment *s = &row->segment[k];
            s->n = 1 + at_rng_below(rng, MAX_PART);
            s->ids = out->ids[r][k];
            s->targets = out->targets[r][k];
            for (uint32_t i = row->n_prefix == 0; i < s->n; i++)
                s->n_targets += out->targets[r][k][i] = at_rng_below(rng, 4) != 0;
        }
        out->pointer[r] = row;
    }
}

/* The stream token by token: what fill must have laid out. */
static uint32_t make_origins(struct origin out[CAPACITY], const struct rows *rows,
                             const struct layout *layout)
{
    uint32_t n = 0, segment = 0, run = 0;

    for (uint32_t r = 0; r < rows->n; r++) {
        const struct at_row *row = &rows->row[r];
        const bool is_sibling = layout->siblings && r > 0 && row->n_prefix > 0 &&
                                row->kind == AT_ROWS_SAMPLE && row[-1].kind == AT_ROWS_SAMPLE &&
                                row->n_prefix == row[-1].n_prefix &&
                                row->prefix[0] == row[-1].prefix[0];
        run = is_sibling ? run : r;
        for (uint32_t k = 0; k < row->n_segments; k++, segment++) {
            if (!is_sibling && (k == 0 || !layout->sides))
                for (uint32_t i = 0; i < row->n_prefix; i++)
                    out[n++] = (struct origin){ r, segment, i, run, true };
            for (uint32_t i = 0; i < row->segment[k].n; i++)
                out[n++] = (struct origin){ r, segment, row->n_prefix + i, run, false };
        }
        segment += row->prompt_targets;
    }
    return n;
}

/* A token reads itself and, of its own row, what comes before: the prefix and its own segment. */
static bool may_read(const struct origin *query, const struct origin *key, bool shared)
{
    const bool same =
        shared && key->in_prefix ? query->run == key->run : query->segment == key->segment;

    return same && key <= query;
}

static void check_intervals(const struct at_slab *slab, const struct origin *origin, bool shared)
{
    for (uint32_t q = 0; q < slab->T; q++) {
        const struct at_interval *v = &slab->intervals[q];
        for (uint32_t k = 0; k < slab->T; k++) {
            const int32_t j = (int32_t)k, t = (int32_t)q;
            const bool want = q < slab->n_tokens && k < slab->n_tokens &&
                              may_read(&origin[q], &origin[k], shared);
            const bool in_prefix = v->prefix_begin <= j && j < v->prefix_end;
            const bool in_segment = v->seg_begin <= j && j < v->key_end;
            if ((in_prefix || in_segment) != want || (in_prefix && in_segment))
                fail_msg("query %u, key %u: reads %d, should %d", q, k, in_prefix || in_segment,
                         want);
            if ((j <= t && t < slab->query_end[k]) != want)
                fail_msg("key %u: read by query %u is not %d", k, q, want);
        }
    }
}

static void check_tokens(const struct at_slab *slab, const struct origin *origin, uint32_t n,
                         const struct rows *rows)
{
    assert_int_equal(slab->n_tokens, n);
    assert_int_equal(slab->T, at_round_up(n, AT_SLAB_GRANULE));
    for (uint32_t t = 0, first = 0; t < slab->T; t++) {
        const struct origin *o = &origin[t];
        if (t >= n) {
            assert_int_equal(slab->ids[t], 0);
            assert_int_equal(slab->positions[t], 0);
            assert_int_equal(slab->tokens[2 * t] + slab->tokens[2 * t + 1], 0);
            continue;
        }
        const struct at_row *row = &rows->row[o->row];
        if (t == 0 || origin[t - 1].row != o->row)
            first = o->segment;
        assert_int_equal(slab->positions[t], o->position);
        /* a place is a token's own: the second side counts on behind the first */
        assert_int_equal(slab->tokens[2 * t], row->index);
        assert_int_equal(slab->tokens[2 * t + 1],
                         o->position +
                             (o->in_prefix || o->segment == first ? 0 : row->segment[0].n));
        assert_int_equal(slab->ids[t],
                         o->in_prefix
                             ? row->prefix[o->position]
                             : row->segment[o->segment - first].ids[o->position - row->n_prefix]);
    }
}

/* Segment s, its target at `position`: exactly one completion row, the next of the segment's order,
 * whose source is the token before, in the same segment or in the row's prefix. */
static void check_target(const struct at_slab *slab, const struct origin *origin, uint32_t s,
                         uint32_t position, int32_t target, uint32_t nth, uint32_t row,
                         uint32_t run)
{
    const int32_t r = slab->order[slab->segment_begin[s] + (int32_t)nth];
    const struct origin *source = &origin[slab->source[r]];

    assert_int_equal(slab->target[r], target);
    assert_int_equal(slab->row_segment[r], s);
    assert_int_equal(source->position + 1, position);
    if (source->in_prefix) {
        assert_int_equal(source->run, run);
    } else {
        assert_int_equal(source->row, row);
        assert_int_equal(source->segment, s);
    }
}

/* Of the row's tokens, the first of the stream. */
static const struct origin *first_of(const struct origin *origin, uint32_t row)
{
    while (origin->row != row)
        origin++;
    return origin;
}

static void check_targets(const struct at_slab *slab, const struct origin *origin,
                          const struct rows *rows)
{
    uint32_t s = 0, total = 0;

    for (uint32_t r = 0; r < rows->n; r++) {
        const uint32_t run = first_of(origin, r)->run;
        for (uint32_t k = 0; k < rows->row[r].n_segments; k++, s++) {
            const struct at_segment *segment = &rows->row[r].segment[k];
            uint32_t nth = 0;
            for (uint32_t i = 0; i < segment->n; i++)
                if (segment->targets[i])
                    check_target(slab, origin, s, rows->row[r].n_prefix + i, segment->ids[i], nth++,
                                 r, run);
            assert_int_equal(slab->segment_begin[s], total);
            total += nth;
            assert_int_equal(slab->segment_begin[s + 1], total);
        }
        if (!rows->row[r].prompt_targets)
            continue;
        for (uint32_t i = 1; i < rows->row[r].n_prefix; i++, total++)
            check_target(slab, origin, s, i, rows->row[r].prefix[i], i - 1, r, run);
        assert_int_equal(slab->segment_begin[++s], total);
    }
    assert_int_equal(slab->n_segments, s);
    assert_int_equal(slab->n_rows, total);
    assert_int_equal(slab->R, at_round_up(total, AT_SLAB_GRANULE));
    for (uint32_t i = total; i < slab->R; i++) {
        assert_int_equal(slab->source[i], 0);
        assert_int_equal(slab->target[i], 0);
        assert_int_equal(slab->row_segment[i], -1);
    }
}

static void check_row_begin(const struct at_slab *slab)
{
    assert_int_equal(slab->row_begin[0], 0);
    assert_int_equal(slab->row_begin[slab->T], slab->n_rows);
    for (int32_t t = 0; t < (int32_t)slab->T; t++)
        for (int32_t r = 0; r < (int32_t)slab->n_rows; r++)
            if ((slab->source[r] == t) != (slab->row_begin[t] <= r && r < slab->row_begin[t + 1]))
                fail_msg("row %d with source %d is wrong in row_begin of token %d", r,
                         slab->source[r], t);
}

/* Each token that is a row's source, once and in order. */
static void check_sources(const struct at_slab *slab)
{
    uint32_t n = 0;

    for (uint32_t t = 0; t < slab->T; t++) {
        const bool is_source = slab->row_begin[t] < slab->row_begin[t + 1];
        assert_int_equal(slab->source_place[t], is_source ? (int32_t)n : -1);
        if (!is_source)
            continue;
        assert_int_equal(slab->sources[n], t);
        assert_memory_equal(slab->source_names + 2ul * n, slab->tokens + 2ul * t,
                            2 * sizeof *slab->tokens);
        assert_int_equal(slab->source_begin[n],
                         t < slab->T_back ? slab->row_begin[t] : slab->row_begin[slab->T_back]);
        n++;
        assert_int_equal(at_slab_sources(slab, t + 1), n);
    }
    assert_true(n <= slab->S && slab->S < n + AT_SLAB_GRANULE + (n == 0));
    assert_int_equal(slab->S % AT_SLAB_GRANULE, 0);
    assert_true(slab->S_back <= slab->S && at_slab_sources(slab, slab->T_back) <= slab->S_back);
    for (uint32_t i = n; i < slab->S; i++)
        assert_int_equal(slab->sources[i], 0);
    for (uint32_t i = n; i <= slab->S; i++)
        assert_int_equal(slab->source_begin[i], slab->row_begin[slab->T_back]);
    for (uint32_t r = 0; r < slab->R; r++)
        assert_int_equal(r < slab->n_rows ? slab->sources[slab->row_source[r]]
                                          : slab->row_source[r],
                         r < slab->n_rows ? slab->source[r] : 0);
}

static void check_random(const struct layout *layout)
{
    struct at_rng rng = at_rng_make(5, AT_RNG_TEST, layout->sides + layout->siblings, 0);
    struct at_slab slab;
    struct origin origin[CAPACITY] = { { 0 } };
    struct rows rows;
    int n_checked = 0;

    assert_int_equal(at_slab_init(&slab, CAPACITY), AT_OK);
    for (int i = 0; i < 60; i++) {
        uint32_t n = 0;
        make_rows(&rows, &rng);
        if (layout->siblings)
            make_siblings(&rows, &rng);
        for (uint32_t r = 0; r < rows.n; r++)
            n += at_row_tokens_unshared(&rows.row[r]);
        if (n > CAPACITY)
            continue;
        n = make_origins(origin, &rows, layout);
        layout->fill(&slab, rows.pointer, rows.n);
        check_tokens(&slab, origin, n, &rows);
        check_intervals(&slab, origin, layout->sides);
        check_targets(&slab, origin, &rows);
        check_row_begin(&slab);
        check_sources(&slab);
        assert_int_equal(slab.n_packed, rows.n);
        assert_memory_equal(slab.rows, rows.pointer, rows.n * sizeof *rows.pointer);
        n_checked++;
    }
    assert_true(n_checked > 30);
    at_slab_release(&slab);
}

static void slab_of_shared_rows_equals_its_definition(void **state)
{
    (void)state;
    check_random(&SHARED);
}

static void slab_of_siblings_equals_its_definition(void **state)
{
    (void)state;
    check_random(&SIBLINGS);
}

static void slab_of_unshared_rows_equals_its_definition(void **state)
{
    (void)state;
    check_random(&UNSHARED);
}

static void slab_of_a_pair_is_as_written_out(void **state)
{
    static const int32_t prefix[] = { 10, 11 }, chosen[] = { 20, 21 }, rejected[] = { 30 };
    static const uint8_t ones[] = { 1, 1 };
    const struct at_row row = { .prefix = prefix,
                                .n_prefix = 2,
                                .n_prompt = 2,
                                .n_segments = 2,
                                .segment = { { chosen, ones, 2, 2 }, { rejected, ones, 1, 1 } } };
    const struct at_row *pointer = &row;
    static const int32_t ids[] = { 10, 11, 20, 21, 30 }, positions[] = { 0, 1, 2, 3, 2 };
    static const int32_t query_end[] = { 5, 5, 4, 4, 5 };
    static const struct at_interval intervals[] = {
        { 0, 0, 0, 1 }, { 0, 0, 0, 2 }, { 0, 2, 2, 3 }, { 0, 2, 2, 4 }, { 0, 2, 4, 5 }
    };
    static const int32_t source[] = { 1, 1, 2 }, target[] = { 20, 30, 21 };
    static const int32_t segment[] = { 0, 1, 0 }, order[] = { 0, 2, 1 }, begin[] = { 0, 2, 3 };
    struct at_slab slab;

    (void)state;
    assert_int_equal(at_row_tokens(&row), 5);
    assert_int_equal(at_row_tokens_unshared(&row), 7);
    assert_int_equal(at_row_targets(&row), 3);
    assert_int_equal(at_slab_init(&slab, 64), AT_OK);
    at_slab_fill(&slab, &pointer, 1);
    assert_int_equal(slab.n_tokens, 5);
    assert_int_equal(slab.n_rows, 3);
    assert_memory_equal(slab.ids, ids, sizeof ids);
    assert_memory_equal(slab.positions, positions, sizeof positions);
    assert_memory_equal(slab.query_end, query_end, sizeof query_end);
    assert_memory_equal(slab.intervals, intervals, sizeof intervals);
    assert_memory_equal(slab.source, source, sizeof source);
    assert_memory_equal(slab.target, target, sizeof target);
    assert_memory_equal(slab.row_segment, segment, sizeof segment);
    assert_memory_equal(slab.order, order, sizeof order);
    assert_memory_equal(slab.segment_begin, begin, sizeof begin);
    for (uint32_t i = 0; i < slab.R; i++)
        assert_true(slab.row_weight[i] == 1);
    at_slab_weigh(&slab, 0.25f);
    for (uint32_t i = 0; i < slab.R; i++) /* one token of the chosen side is past the rejected */
        assert_true(slab.row_weight[i] == (i == 2 ? 0.25f : 1));
    at_slab_release(&slab);
}

/* Two rows, then the sides that ride: these read their row's prefix where it stands. */
static void slab_of_riders_is_as_written_out(void **state)
{
    static const int32_t prefix[] = { 10, 11 }, a[] = { 20, 21 }, b[] = { 30, 31 };
    static const uint8_t ones[] = { 1, 1 };
    const struct at_row row[] = {
        { .prefix = prefix, .n_prefix = 2, .n_segments = 1, .segment = { { a, ones, 2, 2 } } },
        { .prefix = b, .n_prefix = 1, .n_segments = 1, .segment = { { a + 1, ones, 1, 1 } } },
    };
    const struct at_row rider[] = {
        { .prefix = prefix, .n_prefix = 2, .n_segments = 1, .segment = { { b, ones, 1, 1 } } },
        { .prefix = b, .n_prefix = 1, .n_segments = 1, .segment = { { b, ones, 2, 2 } } },
    };
    const struct at_row *rows[] = { &row[0], &row[1] }, *riders[] = { &rider[0], &rider[1] };
    static const int32_t ids[] = { 10, 11, 20, 21, 30, 21, 30, 30, 31 };
    static const int32_t positions[] = { 0, 1, 2, 3, 0, 1, 2, 1, 2 };
    static const int32_t query_end[] = { 4, 4, 4, 4, 6, 6, 0, 0, 0 };
    static const struct at_interval intervals[] = {
        { 0, 0, 0, 1 }, { 0, 0, 0, 2 }, { 0, 2, 2, 3 }, { 0, 2, 2, 4 }, { 4, 4, 4, 5 },
        { 4, 5, 5, 6 }, { 0, 2, 6, 7 }, { 4, 5, 7, 8 }, { 4, 5, 7, 9 }
    };
    static const int32_t source[] = { 1, 1, 2, 4, 4, 7 }, target[] = { 20, 30, 21, 21, 30, 31 };
    static const int32_t segment[] = { 0, 2, 0, 1, 3, 3 }, order[] = { 0, 2, 3, 1, 4, 5 };
    static const int32_t begin[] = { 0, 2, 3, 4, 6 };
    struct at_slab slab;

    (void)state;
    assert_int_equal(at_slab_init(&slab, 64), AT_OK);
    at_slab_fill_riders(&slab, rows, riders, 2);
    assert_int_equal(slab.n_tokens, 9);
    assert_int_equal(slab.n_own, 6);
    assert_int_equal(slab.n_segments, 4);
    assert_int_equal(slab.n_rows, 6);
    assert_memory_equal(slab.ids, ids, sizeof ids);
    assert_memory_equal(slab.positions, positions, sizeof positions);
    assert_memory_equal(slab.query_end, query_end, sizeof query_end);
    assert_memory_equal(slab.intervals, intervals, sizeof intervals);
    assert_memory_equal(slab.source, source, sizeof source);
    assert_memory_equal(slab.target, target, sizeof target);
    assert_memory_equal(slab.row_segment, segment, sizeof segment);
    assert_memory_equal(slab.order, order, sizeof order);
    assert_memory_equal(slab.segment_begin, begin, sizeof begin);
    check_sources(&slab);
    at_slab_release(&slab);
}

/* 40 rows of 3 tokens, then as many riders of one: the backward pass goes over the first 128 tokens
 * and what these predict, which is a row's own two tokens and its rider's. */
static void slab_of_riders_goes_back_over_rows_alone(void **state)
{
    enum { N = 40 };
    static const int32_t ids[] = { 10, 11, 12 };
    static const uint8_t ones[] = { 1, 1 };
    const struct at_row row = {
        .prefix = ids, .n_prefix = 1, .n_segments = 1, .segment = { { ids + 1, ones, 2, 2 } }
    };
    const struct at_row rider = {
        .prefix = ids, .n_prefix = 1, .n_segments = 1, .segment = { { ids, ones, 2, 2 } }
    };
    const struct at_row *rows[N], *riders[N];
    struct at_slab slab;

    (void)state;
    for (uint32_t i = 0; i < N; i++) {
        rows[i] = &row;
        riders[i] = &rider;
    }
    assert_int_equal(at_slab_init(&slab, CAPACITY), AT_OK);
    at_slab_fill_riders(&slab, rows, riders, N);
    assert_int_equal(slab.T, 208);
    assert_int_equal(slab.T_back, 128);
    assert_int_equal(slab.R, 160);
    assert_int_equal(slab.R_back, 128); /* 120, and those of the 4 riders behind token 120 */
    assert_int_equal(slab.S, 128);
    assert_int_equal(slab.S_back, 96); /* 80, and those of the 4 riders */
    check_sources(&slab);
    for (int32_t r = 0; r < (int32_t)slab.n_rows; r++)
        assert_true(slab.row_segment[r] >= N || r < (int32_t)slab.R_back);
    at_slab_fill(&slab, rows, N);
    assert_int_equal(slab.T_back, slab.T);
    assert_int_equal(slab.R_back, slab.R);
    at_slab_release(&slab);
}

/* Of every pair and by position: as many rows of full weight as the shorter side has targets. */
/* Sides of more than 3 tokens have their positions in a second table, 100 rows on. Sides that share
 * a prefix are long or short together; of others each is for itself. */
static void slab_of_long_sides_has_other_positions(void **state)
{
    static const int32_t prefix[] = { 10, 11 }, a[] = { 20, 21, 22 }, b[] = { 30, 31 };
    static const uint8_t ones[] = { 1, 1, 1 }, later[] = { 0, 1, 1 };
    const struct at_row both = { .prefix = prefix,
                                 .n_prefix = 2,
                                 .n_prompt = 2,
                                 .n_segments = 2,
                                 .segment = { { a, ones, 3, 3 }, { b, ones, 2, 2 } } };
    const struct at_row apart = { .n_segments = 2,
                                  .segment = { { prefix, later, 2, 1 }, { a, later, 3, 2 } } };
    const struct at_row *rows[] = { &both, &apart };
    static const int32_t shared[] = { 100, 101, 102, 103, 104, 102, 103, 0, 1, 100, 101, 102 };
    struct at_slab slab;

    (void)state;
    assert_int_equal(at_slab_init(&slab, 64), AT_OK);
    slab.long_from = 3;
    slab.long_offset = 100;
    at_slab_fill(&slab, &rows[0], 1);
    assert_memory_equal(slab.positions, shared, 7 * sizeof *shared);
    slab.long_from = 2;
    at_slab_fill(&slab, rows, 2);
    assert_memory_equal(slab.positions, shared, sizeof shared);
    at_slab_release(&slab);
}

/* With long_each a long sequence's positions begin where it does in the stream, and it is listed.
 */
static void slab_lists_sequences_with_angles_of_their_own(void **state)
{
    static int32_t prefix[] = { 1, 2 }, a[] = { 3, 4, 5 };
    static uint8_t ones[] = { 1, 1, 1 }, later[] = { 0, 1, 1 };
    const struct at_row both = { .prefix = prefix,
                                 .n_prefix = 2,
                                 .n_prompt = 2,
                                 .n_segments = 2,
                                 .segment = { { a, ones, 3, 3 }, { a, ones, 3, 3 } } };
    const struct at_row apart = { .n_segments = 2,
                                  .segment = { { prefix, later, 2, 1 }, { a, later, 3, 2 } } };
    const struct at_row *rows[] = { &apart, &both };
    static const int32_t positions[] = {
        0, 1, 102, 103, 104, 105, 106, 107, 108, 109, 107, 108, 109
    };
    static const uint32_t runs[] = { 2, 3, 5, 5 };
    static const uint32_t unshared[] = { 2, 3, 5, 5, 10, 5 };
    struct at_slab slab;

    (void)state;
    assert_int_equal(at_slab_init(&slab, 64), AT_OK);
    slab.long_from = 2;
    slab.long_each = true;
    slab.long_offset = 100;
    at_slab_fill(&slab, rows, 2);
    assert_memory_equal(slab.positions, positions, sizeof positions);
    assert_int_equal(slab.n_long, 2);
    assert_memory_equal(slab.long_runs, runs, sizeof runs);
    at_slab_fill_unshared(&slab, rows, 2);
    assert_int_equal(slab.n_long, 3);
    assert_memory_equal(slab.long_runs, unshared, sizeof unshared);
    at_slab_release(&slab);
}

static void slab_weighed_rows_past_the_shorter_side(void **state)
{
    struct at_rng rng = at_rng_make(7, AT_RNG_TEST, 0, 0);
    struct at_slab slab;
    struct rows rows;

    (void)state;
    assert_int_equal(at_slab_init(&slab, CAPACITY), AT_OK);
    for (int k = 0; k < 50; k++) {
        make_rows(&rows, &rng);
        at_slab_fill(&slab, rows.pointer, rows.n);
        at_slab_weigh(&slab, 0.5f);
        for (uint32_t i = 0, s = 0; i < rows.n; s += at_row_sums(&rows.row[i]), i++) {
            const struct at_row *row = &rows.row[i];
            for (uint32_t j = 0; j < at_row_sums(row); j++) {
                const int32_t first = slab.segment_begin[s + j];
                const bool pair = row->n_segments == 2 && j < 2;
                for (int32_t at = first; at < slab.segment_begin[s + j + 1]; at++) {
                    const bool past =
                        pair && (uint32_t)(at - first) >= row->segment[1 - j].n_targets;
                    assert_true(slab.row_weight[slab.order[at]] == (past ? 0.5f : 1));
                }
            }
        }
    }
    at_slab_release(&slab);
}

/* One row a side, at its last token itself, whether it stands alone or behind others. */
static void slab_of_a_pair_that_is_read_at_its_ends(void **state)
{
    static const int32_t prefix[] = { 10, 11 }, chosen[] = { 20, 21 }, rejected[] = { 30 };
    static const uint8_t last[] = { 0, 1 }, only[] = { 1 };
    const struct at_row row = { .prefix = prefix,
                                .n_prefix = 2,
                                .n_prompt = 2,
                                .n_segments = 2,
                                .segment = { { chosen, last, 2, 1 }, { rejected, only, 1, 1 } },
                                .reads_last = true };
    const struct at_row *pointer = &row;
    static const int32_t source[] = { 3, 4 }, segment[] = { 0, 1 }, begin[] = { 0, 1, 2 };
    struct at_slab slab;

    (void)state;
    assert_int_equal(at_slab_init(&slab, 64), AT_OK);
    at_slab_fill(&slab, &pointer, 1);
    assert_int_equal(slab.n_rows, 2);
    assert_memory_equal(slab.source, source, sizeof source);
    assert_memory_equal(slab.row_segment, segment, sizeof segment);
    assert_memory_equal(slab.segment_begin, begin, sizeof begin);
    assert_int_equal(slab.row_begin[4] - slab.row_begin[3], 1);
    at_slab_fill_unshared(&slab, &pointer, 1);
    assert_int_equal(slab.n_rows, 2);
    assert_int_equal(slab.source[0], 3);
    assert_int_equal(slab.source[1], 6);
    at_slab_release(&slab);
}

/* A piece of a prompt, say: the head computes padding rows alone. */
static void slab_without_targets_has_padding_rows(void **state)
{
    const int32_t ids[] = { 7, 8, 9 };
    const uint8_t targets[3] = { 0 };
    const struct at_row row = { .n_segments = 1,
                                .segment[0] = { .ids = ids, .targets = targets, .n = 3 } };
    const struct at_row *pointer = &row;
    struct at_slab slab;

    (void)state;
    assert_int_equal(at_slab_init(&slab, CAPACITY), AT_OK);
    at_slab_fill(&slab, &pointer, 1);
    assert_int_equal(slab.n_rows, 0);
    assert_int_equal(slab.R, AT_SLAB_GRANULE);
    for (uint32_t i = 0; i < slab.R; i++)
        assert_int_equal(slab.row_segment[i], -1);
    assert_int_equal(slab.n_segments, 1);
    assert_int_equal(slab.segment_begin[1], 0);
    at_slab_release(&slab);
}

static void slab_refilled_keeps_nothing(void **state)
{
    struct at_rng rng = at_rng_make(6, AT_RNG_TEST, 0, 0);
    struct at_slab slab;
    struct rows rows;

    (void)state;
    make_rows(&rows, &rng);
    assert_int_equal(at_slab_init(&slab, CAPACITY), AT_OK);
    at_slab_fill(&slab, rows.pointer, rows.n);
    at_slab_fill(&slab, rows.pointer, 0);
    assert_int_equal(slab.n_tokens + slab.T + slab.n_rows + slab.R + slab.n_segments, 0);
    at_slab_fill(&slab, rows.pointer, 1);
    for (uint32_t t = slab.n_tokens; t < slab.T; t++)
        assert_int_equal(
            slab.ids[t] + slab.positions[t] + slab.query_end[t] + slab.intervals[t].key_end, 0);
    at_slab_release(&slab);
}

static void slab_without_memory_holds_nothing(void **state)
{
    (void)state;
    for (uint64_t n = 1; n <= 12; n++) {
        struct at_slab slab;
        at_alloc_fail_at(n);
        assert_int_equal(at_slab_init(&slab, 64), AT_MEMORY);
        assert_null(slab.ids);
    }
    at_alloc_fail_at(0);
}

/* Pair by pair as the intervals and positions say. */
static void slab_pairs_are_those_that_are_read(void **state)
{
    static const uint32_t windows[] = { 0, 1, 2, 5, 9, 100 };
    struct at_rng rng = at_rng_make(12, AT_RNG_TEST, 0, 0);
    struct at_slab slab;
    struct rows rows;

    (void)state;
    assert_int_equal(at_slab_init(&slab, CAPACITY), AT_OK);
    for (int round = 0; round < 40; round++) {
        make_rows(&rows, &rng);
        (round % 2 ? at_slab_fill_unshared : at_slab_fill)(&slab, rows.pointer, rows.n);
        for (size_t w = 0; w < AT_COUNT(windows); w++) {
            double want = 0;
            for (uint32_t q = 0; q < slab.T; q++)
                for (int32_t k = 0; k < (int32_t)slab.T; k++) {
                    const struct at_interval *v = &slab.intervals[q];
                    const int32_t distance = slab.positions[q] - slab.positions[k];
                    want += ((v->prefix_begin <= k && k < v->prefix_end) ||
                             (v->seg_begin <= k && k < v->key_end)) &&
                            (windows[w] == 0 || distance < (int32_t)windows[w]);
                }
            assert_true(at_attention_pairs(&slab.intervals[0].prefix_begin, slab.n_tokens,
                                           windows[w]) == want);
        }
    }
    at_slab_release(&slab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slab_of_a_pair_is_as_written_out),
        cmocka_unit_test(slab_of_riders_is_as_written_out),
        cmocka_unit_test(slab_of_riders_goes_back_over_rows_alone),
        cmocka_unit_test(slab_of_long_sides_has_other_positions),
        cmocka_unit_test(slab_lists_sequences_with_angles_of_their_own),
        cmocka_unit_test(slab_of_a_pair_that_is_read_at_its_ends),
        cmocka_unit_test(slab_of_shared_rows_equals_its_definition),
        cmocka_unit_test(slab_of_siblings_equals_its_definition),
        cmocka_unit_test(slab_of_unshared_rows_equals_its_definition),
        cmocka_unit_test(slab_without_targets_has_padding_rows),
        cmocka_unit_test(slab_refilled_keeps_nothing),
        cmocka_unit_test(slab_weighed_rows_past_the_shorter_side),
        cmocka_unit_test(slab_pairs_are_those_that_are_read),
        cmocka_unit_test(slab_without_memory_holds_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
