#include "lint_parts.h"

#include <stdlib.h>
#include <string.h>

/* A mixing of 64 bits (the finaliser of SplitMix64). */
static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

/* ---- sketches ---- */

static int compare_hashes(const void *left, const void *right)
{
    const uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

    return a < b ? -1 : a > b;
}

/* The shingles of a text: hashes of AT_SHINGLE words in a row, or of all where there are fewer.
 * `place` keeps the parts of a row apart. */
static size_t add_shingles(uint64_t *out, const char *text, uint64_t place)
{
    uint64_t last[AT_SHINGLE] = { 0 };
    const size_t length = strlen(text);
    const char *word = NULL;
    size_t at = 0, n_word = 0, n_words = 0, n = 0;

    while (at_word_next(text, length, &at, &word, &n_word)) {
        for (size_t k = 0; k + 1 < AT_SHINGLE; k++)
            last[k] = last[k + 1];
        last[AT_SHINGLE - 1] = at_word_hash(word, n_word);
        n_words++;
        if (n_words < AT_SHINGLE)
            continue;
        uint64_t h = place;
        for (size_t k = 0; k < AT_SHINGLE; k++)
            h = mix(h ^ last[k]);
        out[n++] = h;
    }
    if (n == 0 && n_words > 0) {
        uint64_t h = mix(place + n_words);
        for (size_t k = 0; k < AT_SHINGLE; k++)
            h = mix(h ^ last[k]);
        out[n++] = h;
    }
    return n;
}

/* MinHash with multiply-add functions of 64 bits; a band is a hash of AT_BAND_ROWS minima. */
static void make_bands(uint64_t bands[AT_BANDS], const uint64_t *hashes, size_t n)
{
    uint64_t low[AT_BANDS * AT_BAND_ROWS];

    for (size_t i = 0; i < AT_COUNT(low); i++) {
        const uint64_t a = mix(2 * i + 1) | 1, b = mix(2 * i + 2);
        low[i] = UINT64_MAX;
        for (size_t k = 0; k < n; k++) {
            const uint64_t h = a * hashes[k] + b;
            low[i] = h < low[i] ? h : low[i];
        }
    }
    for (size_t band = 0; band < AT_BANDS; band++) {
        bands[band] = band;
        for (size_t k = 0; k < AT_BAND_ROWS; k++)
            bands[band] = mix(bands[band] ^ low[band * AT_BAND_ROWS + k]);
    }
}

AT_CHECKED at_sketch_make(struct at_sketch *out, struct at_arena *arena, const char *const *texts,
                          size_t n_texts)
{
    enum at_status st = AT_OK;
    uint64_t *all = NULL, *kept = NULL;
    size_t room = 1, n = 0, n_unique = 0;

    for (size_t i = 0; i < n_texts; i++)
        room += strlen(texts[i]) / 2 + 1;
    TRY(at_alloc(&all, room, sizeof *all));
    for (size_t i = 0; i < n_texts; i++)
        n += add_shingles(all + n, texts[i], i + 1);
    qsort(all, n, sizeof *all, compare_hashes);
    for (size_t i = 0; i < n; i++)
        if (n_unique == 0 || all[n_unique - 1] != all[i])
            all[n_unique++] = all[i];
    make_bands(out->bands, all, n_unique);
    out->n = (uint32_t)(n_unique < AT_SKETCH ? n_unique : AT_SKETCH);
    TRY(at_arena_alloc(arena, &kept, out->n, sizeof *kept));
    if (out->n > 0)
        memcpy(kept, all, out->n * sizeof *kept);
    out->hashes = kept;
done:
    at_free(&all);
    return st;
}

/* Of the smallest hashes of both together, the share that both have. */
double at_sketch_jaccard(const struct at_sketch *a, const struct at_sketch *b)
{
    uint32_t i = 0, k = 0, both = 0, n = 0;

    while (n < AT_SKETCH && (i < a->n || k < b->n)) {
        const bool left = k == b->n || (i < a->n && a->hashes[i] <= b->hashes[k]);
        const bool right = i == a->n || (k < b->n && b->hashes[k] <= a->hashes[i]);
        both += left && right;
        i += left;
        k += right;
        n++;
    }
    return n > 0 ? (double)both / n : 0;
}

/* ---- matches ---- */

struct place {
    uint64_t band;
    uint32_t row;
};

static int compare_places(const void *left, const void *right)
{
    const struct place *a = left, *b = right;

    if (a->band != b->band)
        return a->band < b->band ? -1 : 1;
    return a->row < b->row ? -1 : a->row > b->row;
}

AT_CHECKED at_sketch_match(uint32_t *out, const struct at_sketch *const *sketches, uint32_t n,
                           double from, bool (*fits)(const void *context, uint32_t a, uint32_t b),
                           const void *context)
{
    enum { CROWD = 24 };
    enum at_status st = AT_OK;
    struct place *places = NULL;

    for (uint32_t i = 0; i < n; i++)
        out[i] = UINT32_MAX;
    TRY(at_alloc(&places, n, sizeof *places));
    for (size_t band = 0; band < AT_BANDS; band++) {
        size_t used = 0, begin = 0;
        for (uint32_t i = 0; i < n; i++)
            if (sketches[i] && sketches[i]->n > 0)
                places[used++] = (struct place){ sketches[i]->bands[band], i };
        qsort(places, used, sizeof *places, compare_places);
        for (size_t i = 0; i < used; i++) {
            if (places[i].band != places[begin].band)
                begin = i;
            const uint32_t row = places[i].row;
            for (size_t k = begin; k < i && k < begin + CROWD; k++) {
                const uint32_t earlier = places[k].row;
                if (earlier < out[row] && fits(context, earlier, row) &&
                    at_sketch_jaccard(sketches[earlier], sketches[row]) >= from)
                    out[row] = earlier;
            }
        }
    }
done:
    at_free(&places);
    return st;
}

/* ---- similarity ---- */

static AT_CHECKED hash_words(uint64_t **out, size_t *out_n, const char *text)
{
    enum at_status st = AT_OK;
    const size_t length = strlen(text);
    const char *word = NULL;
    size_t at = 0, n_word = 0, n = 0;
    uint64_t *words = NULL;

    TRY(at_alloc(&words, length / 2 + 1, sizeof *words)); /* a word and a gap have two bytes */
    while (at_word_next(text, length, &at, &word, &n_word))
        words[n++] = at_word_hash(word, n_word);
    *out = words;
    *out_n = n;
done:
    return st;
}

/* Words that both hold, in any order. */
static AT_CHECKED count_common(size_t *out, const uint64_t *a, size_t n, const uint64_t *b,
                               size_t m)
{
    enum at_status st = AT_OK;
    uint64_t *sorted = NULL;
    size_t i = 0, k = n;

    *out = 0;
    TRY(at_alloc(&sorted, n + m, sizeof *sorted));
    memcpy(sorted, a, n * sizeof *a);
    memcpy(sorted + n, b, m * sizeof *b);
    qsort(sorted, n, sizeof *sorted, compare_hashes);
    qsort(sorted + n, m, sizeof *sorted, compare_hashes);
    while (i < n && k < n + m) {
        const int order = compare_hashes(&sorted[i], &sorted[k]);
        *out += order == 0;
        i += order <= 0;
        k += order >= 0;
    }
done:
    at_free(&sorted);
    return st;
}

static AT_CHECKED longest_common(size_t *out, const uint64_t *a, size_t n, const uint64_t *b,
                                 size_t m)
{
    enum at_status st = AT_OK;
    uint32_t *row = NULL;

    TRY(at_alloc(&row, m + 1, sizeof *row));
    for (size_t i = 0; i < n; i++) {
        uint32_t diagonal = 0;
        for (size_t k = 1; k <= m; k++) {
            const uint32_t above = row[k];
            row[k] = a[i] == b[k - 1] ? diagonal + 1 : above > row[k - 1] ? above : row[k - 1];
            diagonal = above;
        }
    }
    *out = row[m];
done:
    at_free(&row);
    return st;
}

AT_CHECKED at_lint_similarity(double *out, const char *a, const char *b, double from)
{
    enum at_status st = AT_OK;
    uint64_t *left = NULL, *right = NULL;
    size_t n = 0, m = 0, common = 0;
    enum { LONGEST = 4000 }; /* words; beyond, the bound is the answer */

    TRY(hash_words(&left, &n, a));
    TRY(hash_words(&right, &m, b));
    *out = 0;
    if (n + m == 0)
        goto done;
    TRY(count_common(&common, left, n, right, m));
    *out = 2 * (double)common / (double)(n + m);
    if (*out < from || n > LONGEST || m > LONGEST)
        goto done;
    TRY(longest_common(&common, left, n, right, m));
    *out = 2 * (double)common / (double)(n + m);
done:
    at_free(&left);
    at_free(&right);
    return st;
}
