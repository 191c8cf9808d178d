#include "slab.h"

#include <string.h>

AT_CHECKED at_slab_init(struct at_slab *out, uint32_t capacity)
{
    enum at_status st = AT_OK;
    const size_t n = capacity;

    AT_REQUIRE(capacity > 0 && capacity % AT_SLAB_GRANULE == 0 && capacity <= INT32_MAX);
    *out = (struct at_slab){ .capacity = capacity, .granule = AT_SLAB_GRANULE };
    TRY(at_alloc(&out->ids, n, sizeof *out->ids));
    TRY(at_alloc(&out->positions, n, sizeof *out->positions));
    TRY(at_alloc(&out->intervals, n, sizeof *out->intervals));
    TRY(at_alloc(&out->tokens, n, 2 * sizeof *out->tokens));
    TRY(at_alloc(&out->query_end, n, sizeof *out->query_end));
    TRY(at_alloc(&out->source, n, sizeof *out->source));
    TRY(at_alloc(&out->target, n, sizeof *out->target));
    TRY(at_alloc(&out->row_segment, n, sizeof *out->row_segment));
    TRY(at_alloc(&out->row_weight, n, sizeof *out->row_weight));
    TRY(at_alloc(&out->row_begin, n + 1, sizeof *out->row_begin));
    TRY(at_alloc(&out->sources, n, sizeof *out->sources));
    TRY(at_alloc(&out->source_names, n, 2 * sizeof *out->source_names));
    TRY(at_alloc(&out->row_source, n, sizeof *out->row_source));
    TRY(at_alloc(&out->source_begin, n + 1, sizeof *out->source_begin));
    TRY(at_alloc(&out->source_place, n, sizeof *out->source_place));
    TRY(at_alloc(&out->order, n, sizeof *out->order));
    TRY(at_alloc(&out->segment_begin, n + 1, sizeof *out->segment_begin));
    TRY(at_alloc(&out->long_runs, n, 2 * sizeof *out->long_runs));
    TRY(at_alloc(&out->rows, n, sizeof *out->rows));
done:
    if (st != AT_OK)
        at_slab_release(out);
    return st;
}

void at_slab_release(struct at_slab *slab)
{
    at_free(&slab->ids);
    at_free(&slab->positions);
    at_free(&slab->intervals);
    at_free(&slab->tokens);
    at_free(&slab->query_end);
    at_free(&slab->source);
    at_free(&slab->target);
    at_free(&slab->row_segment);
    at_free(&slab->row_weight);
    at_free(&slab->row_begin);
    at_free(&slab->sources);
    at_free(&slab->source_names);
    at_free(&slab->row_source);
    at_free(&slab->source_begin);
    at_free(&slab->source_place);
    at_free(&slab->order);
    at_free(&slab->segment_begin);
    at_free(&slab->long_runs);
    at_free(&slab->rows);
    *slab = (struct at_slab){ .capacity = 0 };
}

/* Appends n tokens, each reading `reads` up to itself; their keys are read until query_end. */
static void put_run(struct at_slab *slab, const int32_t *ids, uint32_t n, uint32_t position,
                    struct at_interval reads, uint32_t query_end)
{
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t t = slab->n_tokens++;
        reads.key_end = (int32_t)slab->n_tokens;
        slab->ids[t] = ids[i];
        slab->positions[t] = (int32_t)(position + i);
        slab->intervals[t] = reads;
        slab->query_end[t] = (int32_t)query_end;
    }
}

/* No prefix, and a segment from `begin` on. */
static struct at_interval reads_from(uint32_t begin)
{
    const int32_t t = (int32_t)begin;

    return (struct at_interval){ .prefix_begin = t, .prefix_end = t, .seg_begin = t };
}

/* Names the last n tokens as those of the row from `place` on. */
static void put_places(struct at_slab *slab, const struct at_row *row, uint32_t n, uint32_t place)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t *token = slab->tokens + 2ul * (slab->n_tokens - n + i);
        token[0] = row->index;
        token[1] = place + i;
    }
}

/* Appends the completion row of one target token. */
static void put_target(struct at_slab *slab, uint32_t source, int32_t target, uint32_t segment)
{
    const uint32_t r = slab->n_rows++;

    slab->source[r] = (int32_t)source;
    slab->target[r] = target;
    slab->row_segment[r] = (int32_t)segment;
}

/* Targets of a segment whose tokens stand at `begin`, from its token `i` on; each is predicted by
 * the token `back` before it. */
static void put_targets(struct at_slab *slab, const struct at_segment *segment, uint32_t i,
                        uint32_t begin, uint32_t index, uint32_t back)
{
    for (; i < segment->n; i++)
        if (segment->targets[i])
            put_target(slab, begin + i - back, segment->ids[i], index);
}

/* Targets of a prefix that stands at `begin`. */
static void put_prompt_targets(struct at_slab *slab, const struct at_row *row, uint32_t begin,
                               uint32_t index)
{
    for (uint32_t i = 0; i < at_row_prompt_targets(row); i++)
        put_target(slab, begin + i, row->prefix[i + 1], index);
}

/* Position of the first token, at `begin` of the stream, of a sequence of n tokens. */
static uint32_t first_position(struct at_slab *slab, uint32_t begin, uint32_t n)
{
    if (slab->long_from == 0 || n <= slab->long_from)
        return 0;
    if (!slab->long_each)
        return slab->long_offset;
    slab->long_runs[2 * slab->n_long] = begin;
    slab->long_runs[2 * slab->n_long++ + 1] = n;
    return slab->long_offset + begin;
}

/* The same of what shares a prefix: all are long, or none, and with long_each of one length. */
static uint32_t shared_position(struct at_slab *slab, const struct at_row *row, uint32_t begin)
{
    const uint32_t from = slab->long_from, n = row->n_prefix + row->segment[0].n;

    for (uint32_t k = 1; k < row->n_segments; k++) {
        const uint32_t other = row->n_prefix + row->segment[k].n;
        AT_REQUIRE(from == 0 || (n > from) == (other > from));
        AT_REQUIRE(from == 0 || n <= from || !slab->long_each || n == other);
    }
    return first_position(slab, begin, n);
}

/* The sides of a row whose prefix stands at `prefix`, of which the first token has position
 * `first`. */
static void put_sides(struct at_slab *slab, const struct at_row *row, uint32_t prefix,
                      uint32_t first)
{
    const uint32_t back = !row->reads_last, before = slab->n_tokens;
    struct at_interval reads = reads_from(prefix);

    reads.prefix_end = (int32_t)(prefix + row->n_prefix);
    for (uint32_t k = 0; k < row->n_segments; k++) {
        const struct at_segment *s = &row->segment[k];
        const uint32_t begin = slab->n_tokens;
        const uint32_t at = row->n_prefix > 0 ? first : first_position(slab, begin, s->n);
        reads.seg_begin = (int32_t)begin;
        put_run(slab, s->ids, s->n, at + row->n_prefix, reads, begin + s->n);
        put_targets(slab, s, back, begin, slab->n_segments + k, back);
    }
    put_places(slab, row, slab->n_tokens - before, row->n_prefix);
    slab->n_segments += at_row_sums(row);
}

/* The last token of the prefix, `last`, predicts the first of every side; segments of the row are
 * counted from `index`. */
static void put_first_targets(struct at_slab *slab, const struct at_row *row, uint32_t last,
                              uint32_t index)
{
    for (uint32_t k = 0; k < row->n_segments; k++) {
        const struct at_segment *s = &row->segment[k];
        if (!row->reads_last && s->n > 0 && s->targets[0]) {
            AT_REQUIRE(row->n_prefix > 0);
            put_target(slab, last, s->ids[0], index + k);
        }
    }
}

/* Tokens of n siblings, or of a row: one prefix and all sides. */
static uint32_t tokens_together(const struct at_row *const *rows, uint32_t n)
{
    uint32_t tokens = at_row_tokens(rows[0]);

    for (uint32_t i = 1; i < n; i++)
        tokens += at_row_tokens(rows[i]) - rows[i]->n_prefix;
    return tokens;
}

/* A row, or n siblings behind one prefix. `rider`: NULL, or a side behind all rows, segment
 * n_rider, whose first token the prefix predicts too. */
static void put_rows(struct at_slab *slab, const struct at_row *const *rows, uint32_t n,
                     const struct at_segment *rider, uint32_t n_rider)
{
    const struct at_row *row = rows[0];
    const uint32_t prefix = slab->n_tokens, last = prefix + row->n_prefix - 1;
    const uint32_t first = row->n_prefix > 0 ? shared_position(slab, row, prefix) : 0;
    uint32_t segment = slab->n_segments;

    AT_REQUIRE(n == 1 || slab->long_from == 0);
    put_run(slab, row->prefix, row->n_prefix, first, reads_from(prefix),
            prefix + tokens_together(rows, n));
    put_places(slab, row, row->n_prefix, 0);
    put_prompt_targets(slab, row, prefix, segment + row->n_segments);
    for (uint32_t i = 0; i < n; segment += at_row_sums(rows[i++]))
        put_first_targets(slab, rows[i], last, segment);
    if (rider && rider->n > 0 && rider->targets[0])
        put_target(slab, last, rider->ids[0], n_rider);
    for (uint32_t i = 0; i < n; i++)
        put_sides(slab, rows[i], prefix, first);
}

/* The side of a rider, segment `index`, whose row stands at `prefix`. Nothing is asked of its keys
 * backward. */
static void put_rider(struct at_slab *slab, const struct at_row *rider, uint32_t prefix,
                      uint32_t index)
{
    const struct at_segment *s = &rider->segment[0];
    const uint32_t begin = slab->n_tokens;
    struct at_interval reads = reads_from(prefix);

    reads.prefix_end = (int32_t)(prefix + rider->n_prefix);
    reads.seg_begin = (int32_t)begin;
    put_run(slab, s->ids, s->n, rider->n_prefix, reads, 0);
    put_places(slab, rider, s->n, rider->n_prefix);
    put_targets(slab, s, 1, begin, index, 1);
}

static void put_row_unshared(struct at_slab *slab, const struct at_row *row)
{
    const uint32_t back = !row->reads_last;
    uint32_t place = row->n_prefix;

    for (uint32_t k = 0; k < row->n_segments; place += row->segment[k++].n) {
        const struct at_segment *s = &row->segment[k];
        const uint32_t begin = slab->n_tokens, end = begin + row->n_prefix + s->n;
        const uint32_t first = first_position(slab, begin, row->n_prefix + s->n);
        put_run(slab, row->prefix, row->n_prefix, first, reads_from(begin), end);
        put_places(slab, row, row->n_prefix, 0);
        put_run(slab, s->ids, s->n, first + row->n_prefix, reads_from(begin), end);
        put_places(slab, row, s->n, place);
        AT_REQUIRE(s->n == 0 || !s->targets[0] || row->n_prefix > 0 || back == 0);
        if (k == 0)
            put_prompt_targets(slab, row, begin, slab->n_segments + row->n_segments);
        put_targets(slab, s, 0, begin + row->n_prefix, slab->n_segments + k, back);
    }
    slab->n_segments += at_row_sums(row);
}

/* R of n completion rows, or S of n sources: of tokens without any it is not 0. */
static uint32_t padded(const struct at_slab *slab, uint32_t n, uint32_t tokens)
{
    return (uint32_t)at_round_up(n == 0 && tokens > 0 ? 1 : n, slab->granule);
}

/* Sources of the slab's completion rows, from row_begin. */
static void put_sources(struct at_slab *slab)
{
    uint32_t n = 0;

    memset(slab->row_source, 0, slab->R * sizeof *slab->row_source);
    for (uint32_t t = 0; t < slab->T; t++) {
        const int32_t first = slab->row_begin[t], end = slab->row_begin[t + 1];

        slab->source_place[t] = first < end ? (int32_t)n : -1;
        for (int32_t r = first; r < end; r++)
            slab->row_source[r] = (int32_t)n;
        if (first < end)
            slab->sources[n++] = (int32_t)t;
    }
    slab->S = padded(slab, n, slab->n_tokens);
    memset(slab->sources + n, 0, (slab->S - n) * sizeof *slab->sources);
    for (uint32_t i = 0; i < slab->S; i++)
        memcpy(slab->source_names + 2ul * i, slab->tokens + 2ul * (uint32_t)slab->sources[i],
               2 * sizeof *slab->source_names);
}

/* Padding tokens and rows, and the index arrays that follow from the completion rows. */
static void finish(struct at_slab *slab)
{
    const uint32_t n = slab->n_tokens;
    uint32_t r = 0;

    slab->T = (uint32_t)at_round_up(n, slab->granule);
    slab->R = padded(slab, slab->n_rows, n);
    memset(slab->ids + n, 0, (slab->T - n) * sizeof *slab->ids);
    memset(slab->positions + n, 0, (slab->T - n) * sizeof *slab->positions);
    memset(slab->intervals + n, 0, (slab->T - n) * sizeof *slab->intervals);
    memset(slab->tokens + 2ul * n, 0, 2 * (slab->T - n) * sizeof *slab->tokens);
    memset(slab->query_end + n, 0, (slab->T - n) * sizeof *slab->query_end);
    for (uint32_t i = slab->n_rows; i < slab->R; i++) {
        slab->source[i] = slab->target[i] = 0;
        slab->row_segment[i] = -1;
    }
    for (uint32_t i = 0; i < slab->R; i++)
        slab->row_weight[i] = 1;
    for (uint32_t t = 0; t <= slab->T; t++) {
        while (r < slab->n_rows && slab->source[r] < (int32_t)t)
            r++;
        slab->row_begin[t] = (int32_t)r;
    }
    put_sources(slab);
    /* Counting sort by segment keeps the order of source, which is the order of position. */
    memset(slab->segment_begin, 0, (slab->n_segments + 1) * sizeof *slab->segment_begin);
    for (uint32_t i = 0; i < slab->n_rows; i++)
        slab->segment_begin[slab->row_segment[i] + 1]++;
    for (uint32_t s = 0; s < slab->n_segments; s++)
        slab->segment_begin[s + 1] += slab->segment_begin[s];
    for (uint32_t i = 0; i < slab->n_rows; i++)
        slab->order[slab->segment_begin[slab->row_segment[i]]++] = (int32_t)i;
    for (uint32_t s = slab->n_segments; s > 0; s--)
        slab->segment_begin[s] = slab->segment_begin[s - 1];
    slab->segment_begin[0] = 0;
}

/* Begins a slab of these rows. */
static void begin(struct at_slab *slab, const struct at_row *const *rows, uint32_t n,
                  uint64_t tokens, uint64_t segments)
{
    for (uint32_t i = 0; i < n; i++)
        segments += at_row_sums(rows[i]);
    AT_REQUIRE(n <= slab->capacity && tokens <= slab->capacity && segments <= slab->capacity);
    slab->n_tokens = slab->n_rows = slab->n_segments = slab->n_long = 0;
    slab->n_packed = n;
    for (uint32_t i = 0; i < n; i++)
        slab->rows[i] = rows[i];
}

/* Ends it, whose first n_own tokens have gradients. */
static void end(struct at_slab *slab, uint32_t n_own)
{
    uint32_t sources = 0;

    finish(slab);
    slab->n_own = n_own;
    slab->T_back = (uint32_t)at_round_up(n_own, slab->granule);
    slab->R_back = padded(slab, (uint32_t)slab->row_begin[slab->T_back], n_own);
    sources = at_slab_sources(slab, slab->T_back);
    slab->S_back = padded(slab, sources, n_own);
    for (uint32_t i = 0; i <= slab->S; i++)
        slab->source_begin[i] =
            slab->row_begin[i < sources ? (uint32_t)slab->sources[i] : slab->T_back];
}

void at_slab_fill(struct at_slab *slab, const struct at_row *const *rows, uint32_t n)
{
    uint64_t tokens = 0;

    for (uint32_t i = 0; i < n; i++)
        tokens += at_row_tokens(rows[i]);
    begin(slab, rows, n, tokens, 0);
    for (uint32_t i = 0; i < n; i++)
        put_rows(slab, rows + i, 1, NULL, 0);
    end(slab, slab->n_tokens);
}

/* How many of the n rows, from the first on, are siblings. */
static uint32_t siblings(const struct at_row *const *rows, uint32_t n)
{
    uint32_t i = 1;

    while (i < n && at_rows_are_siblings(rows[0], rows[i]))
        i++;
    return i;
}

void at_slab_fill_siblings(struct at_slab *slab, const struct at_row *const *rows, uint32_t n)
{
    uint64_t tokens = 0;

    for (uint32_t i = 0, run; i < n; i += run) {
        run = siblings(rows + i, n - i);
        tokens += tokens_together(rows + i, run);
    }
    begin(slab, rows, n, tokens, 0);
    for (uint32_t i = 0, run; i < n; i += run) {
        run = siblings(rows + i, n - i);
        put_rows(slab, rows + i, run, NULL, 0);
    }
    end(slab, slab->n_tokens);
}

uint32_t at_rider_tokens(const struct at_row *const *rows, const struct at_row *const *riders,
                         uint32_t n)
{
    uint32_t tokens = 0;

    for (uint32_t i = 0; i < n; i++)
        tokens += at_row_tokens(rows[i]) + riders[i]->segment[0].n;
    return tokens;
}

void at_slab_fill_riders(struct at_slab *slab, const struct at_row *const *rows,
                         const struct at_row *const *riders, uint32_t n)
{
    uint32_t prefix = 0, n_own = 0, segment = 0;

    AT_REQUIRE(slab->long_from == 0);
    begin(slab, rows, n, at_rider_tokens(rows, riders, n), n);
    for (uint32_t i = 0; i < n; i++)
        segment += at_row_sums(rows[i]);
    for (uint32_t i = 0; i < n; i++) {
        AT_REQUIRE(riders[i]->n_segments == 1 && riders[i]->n_prefix > 0 &&
                   riders[i]->n_prefix == rows[i]->n_prefix);
        put_rows(slab, rows + i, 1, &riders[i]->segment[0], segment + i);
    }
    n_own = slab->n_tokens;
    for (uint32_t i = 0; i < n; prefix += at_row_tokens(rows[i++]))
        put_rider(slab, riders[i], prefix, segment + i);
    slab->n_segments += n;
    end(slab, n_own);
}

void at_slab_fill_unshared(struct at_slab *slab, const struct at_row *const *rows, uint32_t n)
{
    uint64_t tokens = 0;

    for (uint32_t i = 0; i < n; i++)
        tokens += at_row_tokens_unshared(rows[i]);
    begin(slab, rows, n, tokens, 0);
    for (uint32_t i = 0; i < n; i++)
        put_row_unshared(slab, rows[i]);
    end(slab, slab->n_tokens);
}

void at_slab_weigh(struct at_slab *slab, float tail)
{
    for (uint32_t i = 0, s = 0; i < slab->n_packed; s += at_row_sums(slab->rows[i]), i++) {
        const struct at_segment *side = slab->rows[i]->segment;
        uint32_t both = 0;
        if (slab->rows[i]->n_segments != 2)
            continue;
        both = side[0].n_targets < side[1].n_targets ? side[0].n_targets : side[1].n_targets;
        for (uint32_t k = 0; k < 2; k++)
            for (uint32_t r = both; r < side[k].n_targets; r++)
                slab->row_weight[slab->order[(uint32_t)slab->segment_begin[s + k] + r]] = tail;
    }
}

uint32_t at_slab_sources(const struct at_slab *slab, uint32_t n)
{
    uint32_t sources = 0;

    for (uint32_t t = 0; t < n; t++)
        sources += slab->row_begin[t] < slab->row_begin[t + 1];
    return sources;
}
