#include "packing.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK = 1000 }; /* rows that TRL's map packs together */

/* A row or a piece of one on its way into a packed row. */
struct part {
    struct at_row row;
    uint32_t tokens, bin;
    uint32_t index; /* among those of the block; once placed, which placement it was */
};
/* A packed row with room. */
struct bin {
    uint32_t number, room;
    uint32_t since; /* placement that left this room */
};
struct packer {
    struct at_arena *arena;
    struct at_packs *out;
    struct at_row *rows; /* out->rows */
    uint32_t *begin;     /* out->begin */
    uint32_t max_length;
    struct part *parts; /* of the block */
    uint32_t n_parts;
    struct bin *open; /* packed rows of the block with room, in no order */
    uint32_t n_open, n_bins, n_placed;
};

static void end_pack(struct packer *p)
{
    struct at_packs *out = p->out;
    const uint32_t n = out->n_rows - p->begin[out->n];

    p->begin[++out->n] = out->n_rows;
    out->most = n > out->most ? n : out->most;
}

static void put_row(struct packer *p, const struct at_row *row)
{
    p->rows[p->out->n_rows] = *row;
    p->rows[p->out->n_rows].index = p->out->n_rows;
    p->out->n_rows++;
    p->out->tokens += at_row_tokens(row);
}

/* ---- pieces ---- */

/* The tokens of a row with their flags; that of the first says whether the row counts it. */
static void copy_tokens(int32_t *ids, uint8_t *targets, const struct at_row *row)
{
    const struct at_segment *s = &row->segment[0];

    AT_REQUIRE(row->n_prefix + s->n > 0);
    for (uint32_t i = 0; i < row->n_prefix; i++)
        ids[i] = row->prefix[i]; /* and no target */
    for (uint32_t i = 0; i < s->n; i++) {
        ids[row->n_prefix + i] = s->ids[i];
        targets[row->n_prefix + i] = s->targets[i];
    }
    targets[0] = row->first_counts;
}

/* A row of tokens that stand there already, named after the row that it begins in. */
static struct at_row piece_of(const struct at_row *row, const int32_t *ids, uint8_t *targets,
                              uint32_t n)
{
    struct at_row piece = *row;

    piece.prefix = NULL;
    piece.n_prefix = piece.n_prompt = 0;
    piece.first_counts = false;
    piece.segment[0] = (struct at_segment){ .ids = ids, .targets = targets, .n = n, .n_uncut = n };
    targets[0] = 0;
    for (uint32_t i = 0; i < n; i++)
        piece.segment[0].n_targets += targets[i];
    return piece;
}

static AT_CHECKED split_row(struct packer *p, const struct at_row *row)
{
    enum at_status st = AT_OK;
    const uint32_t tokens = at_row_tokens(row);
    int32_t *ids = NULL;
    uint8_t *targets = NULL;

    TRY(at_arena_alloc(p->arena, &ids, tokens, sizeof *ids));
    TRY(at_arena_alloc(p->arena, &targets, tokens, sizeof *targets));
    copy_tokens(ids, targets, row);
    for (uint32_t at = 0; at < tokens; at += p->max_length) {
        const uint32_t n = tokens - at < p->max_length ? tokens - at : p->max_length;
        p->parts[p->n_parts] = (struct part){ .row = piece_of(row, ids + at, targets + at, n),
                                              .tokens = n,
                                              .index = p->n_parts };
        p->n_parts++;
    }
done:
    return st;
}

/* ---- best fit decreasing ---- */

/* Longest first, equal ones as they came. */
static int compare_parts(const void *left, const void *right)
{
    const struct part *a = left, *b = right;

    if (a->tokens != b->tokens)
        return a->tokens > b->tokens ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

/* The least room that suffices; of equal ones the one that is there for longest. NULL: none. */
static struct bin *find_bin(const struct packer *p, uint32_t tokens)
{
    struct bin *best = NULL;

    for (uint32_t i = 0; i < p->n_open; i++) {
        struct bin *b = &p->open[i];
        if (b->room >= tokens &&
            (!best || b->room < best->room || (b->room == best->room && b->since < best->since)))
            best = b;
    }
    return best;
}

static void place_part(struct packer *p, struct part *part)
{
    struct bin *b = find_bin(p, part->tokens);

    if (!b) {
        b = &p->open[p->n_open++];
        *b = (struct bin){ .number = p->n_bins++, .room = p->max_length };
    }
    part->bin = b->number;
    part->index = b->since = p->n_placed++;
    b->room -= part->tokens;
    if (b->room == 0)
        *b = p->open[--p->n_open];
}

/* By packed row, in each in order of placement. */
static int compare_places(const void *left, const void *right)
{
    const struct part *a = left, *b = right;

    if (a->bin != b->bin)
        return a->bin < b->bin ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

static AT_CHECKED pack_bfd(struct packer *p, const struct at_row *rows, uint32_t n, bool split)
{
    enum at_status st = AT_OK;

    p->n_parts = p->n_open = p->n_bins = p->n_placed = 0;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t tokens = at_row_tokens(&rows[i]);
        AT_REQUIRE(tokens > 0 && (split || tokens <= p->max_length));
        if (tokens > p->max_length) {
            TRY(split_row(p, &rows[i]));
            continue;
        }
        p->parts[p->n_parts] =
            (struct part){ .row = rows[i], .tokens = tokens, .index = p->n_parts };
        p->n_parts++;
    }
    qsort(p->parts, p->n_parts, sizeof *p->parts, compare_parts);
    for (uint32_t i = 0; i < p->n_parts; i++)
        place_part(p, &p->parts[i]);
    qsort(p->parts, p->n_parts, sizeof *p->parts, compare_places);
    for (uint32_t i = 0; i < p->n_parts; i++) {
        put_row(p, &p->parts[i].row);
        if (i + 1 == p->n_parts || p->parts[i + 1].bin != p->parts[i].bin)
            end_pack(p);
    }
done:
    return st;
}

/* ---- wrapped ---- */

static AT_CHECKED pack_wrapped(struct packer *p, const struct at_row *rows, uint32_t n)
{
    enum at_status st = AT_OK;
    uint64_t tokens = 0, begin = 0;
    uint32_t row = 0;
    int32_t *ids = NULL;
    uint8_t *targets = NULL;

    for (uint32_t i = 0; i < n; i++)
        tokens += at_row_tokens(&rows[i]);
    TRY(at_arena_alloc(p->arena, &ids, tokens, sizeof *ids));
    TRY(at_arena_alloc(p->arena, &targets, tokens, sizeof *targets));
    for (uint32_t i = 0; i < n; i++) {
        copy_tokens(ids + begin, targets + begin, &rows[i]);
        begin += at_row_tokens(&rows[i]);
    }
    begin = 0;
    for (uint64_t at = 0; at < tokens; at += p->max_length) {
        const uint64_t left = tokens - at;
        const uint32_t length = left < p->max_length ? (uint32_t)left : p->max_length;
        while (begin + at_row_tokens(&rows[row]) <= at)
            begin += at_row_tokens(&rows[row++]);
        struct at_row wrapped = piece_of(&rows[row], ids + at, targets + at, length);
        put_row(p, &wrapped);
        end_pack(p);
    }
done:
    return st;
}

/* ---- all ---- */

/* Rows of the result at most, and parts of one block. */
static void count_parts(const struct at_dataset *d, enum at_packing how, uint32_t max_length,
                        uint64_t *all, uint64_t *of_block)
{
    *all = *of_block = 0;
    for (uint32_t begin = 0; begin < d->n_rows; begin += BLOCK) {
        const uint32_t end = d->n_rows - begin < BLOCK ? d->n_rows : begin + BLOCK;
        uint64_t tokens = 0, n = 0;
        for (uint32_t i = begin; i < end; i++) {
            tokens += at_row_tokens(&d->rows[i]);
            n += at_div_up(at_row_tokens(&d->rows[i]), max_length);
        }
        if (how == AT_PACKING_WRAPPED)
            n = at_div_up(tokens, max_length);
        at_dataset_drop(d);
        *all += n;
        *of_block = n > *of_block ? n : *of_block;
    }
}

static AT_CHECKED pack_none(struct at_packs *out, struct at_arena *arena,
                            const struct at_dataset *d)
{
    enum at_status st = AT_OK;
    uint32_t *begin = NULL;

    TRY(at_arena_alloc(arena, &begin, (size_t)d->n_rows + 1, sizeof *begin));
    *out = (struct at_packs){
        .rows = d->rows, .n_rows = d->n_rows, .begin = begin, .n = d->n_rows, .most = 1
    };
    for (uint32_t i = 0; i <= d->n_rows; i++)
        begin[i] = i;
    for (uint32_t i = 0; i < d->n_rows; i++) {
        out->tokens += at_row_tokens(&d->rows[i]);
        at_dataset_passed(d, i);
    }
done:
    return st;
}

AT_CHECKED at_packs_make(struct at_packs *out, struct at_arena *arena, const struct at_dataset *d,
                         enum at_packing how, uint32_t max_length)
{
    enum at_status st = AT_OK;
    struct packer p = { .arena = arena, .out = out, .max_length = max_length };
    uint64_t all = 0, of_block = 0;

    if (how == AT_PACKING_NONE)
        return pack_none(out, arena, d);
    AT_REQUIRE(max_length > 0);
    *out = (struct at_packs){ .how = how, .max_length = max_length };
    count_parts(d, how, max_length, &all, &of_block);
    if (all >= UINT32_MAX)
        FAIL(AT_DATA, "packing makes more than %u rows; raise max_length or train on a part",
             UINT32_MAX);
    TRY(at_arena_alloc(arena, &p.rows, all, sizeof *p.rows));
    TRY(at_arena_alloc(arena, &p.begin, all + 1, sizeof *p.begin));
    out->rows = p.rows;
    out->begin = p.begin;
    TRY(at_alloc(&p.parts, of_block, sizeof *p.parts));
    TRY(at_alloc(&p.open, of_block, sizeof *p.open));
    for (uint32_t i = 0; i < d->n_rows; i += BLOCK) {
        const uint32_t n = d->n_rows - i < BLOCK ? d->n_rows - i : BLOCK;
        if (how == AT_PACKING_WRAPPED)
            TRY(pack_wrapped(&p, d->rows + i, n));
        else
            TRY(pack_bfd(&p, d->rows + i, n, how == AT_PACKING_BFD_SPLIT));
        at_dataset_drop(d);
        at_arena_drop(arena);
    }
done:
    at_free(&p.parts);
    at_free(&p.open);
    return st;
}

double at_packs_fill(const struct at_packs *packs)
{
    AT_REQUIRE(packs->how != AT_PACKING_NONE);
    return (double)packs->tokens / ((double)packs->n * packs->max_length);
}
