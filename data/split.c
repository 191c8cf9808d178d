#include "hash.h"
#include "reader.h"

#include <stdlib.h>
#include <string.h>

/* ---- digest ---- */

static void hash_u32(struct at_hash *hash, uint32_t x)
{
    const uint8_t bytes[4] = { (uint8_t)x, (uint8_t)(x >> 8), (uint8_t)(x >> 16),
                               (uint8_t)(x >> 24) };

    at_hash_put(hash, bytes, sizeof bytes);
}

/* Ids are hashed as little-endian bytes, in pieces. */
static void hash_ids(struct at_hash *hash, const int32_t *ids, uint32_t n)
{
    uint8_t bytes[1024];
    size_t used = 0;

    for (uint32_t i = 0; i < n; i++) {
        for (unsigned shift = 0; shift < 32; shift += 8)
            bytes[used++] = (uint8_t)((uint32_t)ids[i] >> shift);
        if (used == sizeof bytes || i + 1 == n) {
            at_hash_put(hash, bytes, used);
            used = 0;
        }
    }
}

/* Nothing for rows without one, whose digests are older than margins. */
static void hash_margin(struct at_hash *hash, float margin)
{
    uint32_t bits = 0;

    memcpy(&bits, &margin, sizeof bits);
    if (margin != 0)
        hash_u32(hash, bits);
}

static void hash_row(struct at_hash *hash, const struct at_row *row)
{
    hash_u32(hash, row->line);
    hash_u32(hash, row->n_prompt);
    hash_u32(hash, row->n_prefix);
    hash_u32(hash, at_row_sums(row));
    if (row->kind == AT_ROWS_LABELLED)
        hash_u32(hash, row->desirable);
    hash_ids(hash, row->prefix, row->n_prefix);
    for (uint32_t k = 0; k < row->n_segments; k++) {
        const struct at_segment *s = &row->segment[k];
        hash_u32(hash, s->n);
        hash_ids(hash, s->ids, s->n);
        at_hash_put(hash, s->targets, s->n);
    }
    hash_margin(hash, row->margin);
}

void at_dataset_digest(struct at_dataset *dataset)
{
    struct at_digest digest;
    struct at_hash hash;

    at_hash_init(&hash);
    at_hash_put_text(&hash, "attune rows 1");
    for (uint32_t i = 0; i < dataset->n_rows; i++) {
        hash_row(&hash, &dataset->rows[i]);
        at_dataset_passed(dataset, i);
    }
    digest = at_hash_end(&hash);
    memcpy(dataset->digest, digest.hex, sizeof digest.hex);
    at_dataset_drop(dataset);
}

/* ---- split ---- */

uint64_t at_group_place(const struct at_row_id *group, uint64_t seed)
{
    const uint64_t words[3] = { seed, group->word[0], group->word[1] };
    struct at_digest digest;
    struct at_hash hash;

    at_hash_init(&hash);
    at_hash_put_text(&hash, "attune split 1");
    for (size_t i = 0; i < AT_COUNT(words); i++) {
        hash_u32(&hash, (uint32_t)words[i]);
        hash_u32(&hash, (uint32_t)(words[i] >> 32));
    }
    digest = at_hash_end(&hash);
    return at_hex_word(digest.hex);
}

uint64_t at_group_border(const uint64_t *places, size_t n, double fraction)
{
    uint64_t least = UINT64_MAX, most = 0, border = 0, below_most = 0;

    for (size_t i = 0; i < n; i++) {
        least = places[i] < least ? places[i] : least;
        most = places[i] > most ? places[i] : most;
    }
    for (size_t i = 0; i < n; i++)
        if (places[i] < most && places[i] > below_most)
            below_most = places[i];
    border = (uint64_t)(fraction * 0x1p64);
    if (border <= least)
        border = least;
    else
        border--;
    return border >= most ? below_most : border;
}

struct range {
    bool first; /* it begins below the first place */
    uint64_t low, high;
};

static bool is_within(struct range r, uint64_t place)
{
    return (r.first || place > r.low) && place <= r.high;
}

/* The rows whose places are above `low` and up to `high`, or the others. */
static AT_CHECKED take_side(struct at_dataset *out, const struct at_dataset *all,
                            const uint64_t *places, struct range range, bool within)
{
    enum at_status st = AT_OK;
    uint32_t n = 0;

    *out = (struct at_dataset){ .arena.spills = true, .all = all };
    for (uint32_t i = 0; i < all->n_rows; i++)
        n += is_within(range, places[i]) == within;
    TRY(at_arena_alloc(&out->arena, &out->rows, n, sizeof *out->rows));
    TRY(at_arena_alloc(&out->arena, &out->from, n, sizeof *out->from));
    for (uint32_t i = 0; i < all->n_rows; i++) {
        if (is_within(range, places[i]) != within)
            continue;
        out->rows[out->n_rows] = all->rows[i];
        out->rows[out->n_rows].index = out->n_rows;
        out->from[out->n_rows++] = i;
        at_dataset_passed(out, out->n_rows);
    }
    out->n_read = n;
    at_dataset_digest(out);
done:
    return st;
}

static AT_CHECKED take_sides(struct at_dataset *train, struct at_dataset *held,
                             const struct at_dataset *all, const uint64_t *places,
                             struct range range)
{
    enum at_status st = AT_OK;

    TRY(take_side(train, all, places, range, false));
    TRY(take_side(held, all, places, range, true));
done:
    return st;
}

static AT_CHECKED list_places(uint64_t **out, const struct at_dataset *all, uint64_t seed)
{
    enum at_status st = AT_OK;

    TRY(at_alloc(out, all->n_rows, sizeof **out));
    for (uint32_t i = 0; i < all->n_rows; i++) {
        (*out)[i] = at_group_place(&all->rows[i].prompt_hash, seed);
        at_dataset_passed(all, i);
    }
done:
    return st;
}

AT_CHECKED at_dataset_split(struct at_dataset *train, struct at_dataset *held,
                            const struct at_dataset *all, double fraction, uint64_t seed)
{
    enum at_status st = AT_OK;
    uint64_t *places = NULL, border = 0;
    bool several = false;

    AT_REQUIRE(fraction > 0 && fraction < 1);
    *train = *held = (struct at_dataset){ .n_rows = 0 };
    TRY(list_places(&places, all, seed));
    for (uint32_t i = 0; i < all->n_rows; i++)
        several = several || places[i] != places[0];
    if (!several)
        FAIL(AT_DATA,
             "all %u rows have the same prompt, so none can be held out; give eval_dataset "
             "or set eval_split to 0",
             all->n_rows);
    border = at_group_border(places, all->n_rows, fraction);
    TRY(take_sides(train, held, all, places, (struct range){ .first = true, .high = border }));
done:
    at_free(&places);
    if (st != AT_OK) {
        at_dataset_release(train);
        at_dataset_release(held);
    }
    return st;
}

static int by_place(const void *left, const void *right)
{
    const uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

    return a < b ? -1 : a > b;
}

/* The range of fold i: groups in the order of their places are cut where a k-th of the groups is
 * full. `sorted` holds a place a row. */
static struct range fold_range(const uint64_t *sorted, uint32_t n, uint32_t n_groups, uint32_t i,
                               uint32_t k)
{
    struct range range = { .first = i == 0 };
    const uint64_t begin = (uint64_t)n_groups * i / k, end = (uint64_t)n_groups * (i + 1) / k;
    uint64_t group = 0;

    for (uint32_t r = 0; r < n; r++) {
        if (r > 0 && sorted[r] != sorted[r - 1])
            group++;
        if (group + 1 == begin)
            range.low = sorted[r];
        if (group + 1 == end)
            range.high = sorted[r];
    }
    return range;
}

AT_CHECKED at_dataset_fold(struct at_dataset *train, struct at_dataset *held,
                           const struct at_dataset *all, uint32_t fold, uint32_t n_folds,
                           uint64_t seed)
{
    enum at_status st = AT_OK;
    uint64_t *places = NULL, *sorted = NULL;
    uint32_t n_groups = all->n_rows > 0;

    AT_REQUIRE(n_folds > 1 && fold < n_folds);
    *train = *held = (struct at_dataset){ .n_rows = 0 };
    TRY(list_places(&places, all, seed));
    TRY(list_places(&sorted, all, seed));
    qsort(sorted, all->n_rows, sizeof *sorted, by_place);
    for (uint32_t i = 1; i < all->n_rows; i++)
        n_groups += sorted[i] != sorted[i - 1];
    if (n_groups < n_folds)
        FAIL(AT_DATA,
             "%u prompts are too few for %u folds, each of which holds out prompts of its own; "
             "lower cross_validation",
             n_groups, n_folds);
    TRY(take_sides(train, held, all, places,
                   fold_range(sorted, all->n_rows, n_groups, fold, n_folds)));
done:
    at_free(&places);
    at_free(&sorted);
    if (st != AT_OK) {
        at_dataset_release(train);
        at_dataset_release(held);
    }
    return st;
}
