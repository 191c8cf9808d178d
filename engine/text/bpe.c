#include "tokenizer_parts.h"

#include <string.h>

/* ---- tables ---- */

struct at_string_slot {
    const char *key; /* NULL: free */
    uint32_t n;
    int32_t id;
};

static size_t slots_for(size_t n)
{
    size_t slots = 16;

    while (slots < 2 * n)
        slots *= 2;
    return slots;
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 32) * 0x9E3779B97F4A7C15u;
    return x ^ x >> 29;
}

static uint64_t hash_bytes(const char *key, size_t n)
{
    uint64_t h = n, word;

    for (; n >= sizeof word; n -= sizeof word, key += sizeof word) {
        memcpy(&word, key, sizeof word);
        h = mix(h ^ word);
    }
    word = 0;
    if (n > 0)
        memcpy(&word, key, n);
    return mix(h ^ word);
}

AT_CHECKED at_string_map_init(struct at_string_map *out, size_t n)
{
    *out = (struct at_string_map){ .n_slots = slots_for(n) };
    return at_alloc(&out->slots, out->n_slots, sizeof *out->slots);
}

void at_string_map_release(struct at_string_map *map)
{
    at_free(&map->slots);
    *map = (struct at_string_map){ .n = 0 };
}

static struct at_string_slot *slot_of(const struct at_string_map *map, const char *key, size_t n)
{
    size_t i = hash_bytes(key, n) & (map->n_slots - 1);

    while (map->slots[i].key &&
           (map->slots[i].n != n || (n > 0 && memcmp(map->slots[i].key, key, n) != 0)))
        i = (i + 1) & (map->n_slots - 1);
    return &map->slots[i];
}

void at_string_map_put(struct at_string_map *map, const char *key, size_t n, int32_t id)
{
    struct at_string_slot *slot = slot_of(map, key, n);

    map->n += !slot->key;
    AT_REQUIRE(map->n < map->n_slots);
    *slot = (struct at_string_slot){ .key = key, .n = (uint32_t)n, .id = id };
}

int32_t at_string_map_find(const struct at_string_map *map, const char *key, size_t n)
{
    const struct at_string_slot *slot = map->n > 0 ? slot_of(map, key, n) : NULL;

    return slot && slot->key ? slot->id : -1;
}

AT_CHECKED at_merge_map_init(struct at_merge_map *out, size_t n)
{
    enum at_status st = AT_OK;

    *out = (struct at_merge_map){ .n_slots = slots_for(n) };
    TRY(at_alloc(&out->slots, out->n_slots, sizeof *out->slots));
    for (size_t i = 0; i < out->n_slots; i++)
        out->slots[i].pair = UINT64_MAX;
done:
    return st;
}

void at_merge_map_release(struct at_merge_map *map)
{
    at_free(&map->slots);
    map->n_slots = 0;
}

static struct at_merge *merge_slot(const struct at_merge_map *map, uint64_t pair)
{
    size_t i = mix(pair) & (map->n_slots - 1);

    while (map->slots[i].pair != pair && map->slots[i].pair != UINT64_MAX)
        i = (i + 1) & (map->n_slots - 1);
    return &map->slots[i];
}

static uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

void at_merge_map_put(struct at_merge_map *map, int32_t left, int32_t right, uint32_t rank,
                      int32_t id)
{
    const uint64_t pair = pair_of(left, right);

    *merge_slot(map, pair) = (struct at_merge){ .pair = pair, .rank = rank, .id = id };
}

const struct at_merge *at_merge_map_find(const struct at_merge_map *map, int32_t left,
                                         int32_t right)
{
    const struct at_merge *slot = merge_slot(map, pair_of(left, right));

    return slot->pair == UINT64_MAX ? NULL : slot;
}

/* ---- one word ---- */

/* Symbols form a list by index; an eaten one has id -1. */
struct at_symbol {
    int32_t id;
    uint32_t previous, next; /* UINT32_MAX: none */
};
struct at_candidate_merge {
    uint32_t rank, at; /* index of the left symbol */
    int32_t id;
};

void at_bpe_release(struct at_bpe *bpe)
{
    at_free(&bpe->symbols);
    at_free(&bpe->heap);
    *bpe = (struct at_bpe){ .capacity = 0 };
}

static bool before(const struct at_candidate_merge *a, const struct at_candidate_merge *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

/* The heap has room: a word of n bytes sees at most n - 1 pairs, then two new ones a merge. */
static void heap_push(struct at_bpe *bpe, struct at_candidate_merge c)
{
    size_t i = bpe->n_heap++;

    for (; i > 0 && before(&c, &bpe->heap[(i - 1) / 2]); i = (i - 1) / 2)
        bpe->heap[i] = bpe->heap[(i - 1) / 2];
    bpe->heap[i] = c;
}

static struct at_candidate_merge heap_pop(struct at_bpe *bpe)
{
    const struct at_candidate_merge top = bpe->heap[0], last = bpe->heap[--bpe->n_heap];
    size_t i = 0;

    for (size_t child; (child = 2 * i + 1) < bpe->n_heap; i = child) {
        if (child + 1 < bpe->n_heap && before(&bpe->heap[child + 1], &bpe->heap[child]))
            child++;
        if (!before(&bpe->heap[child], &last))
            break;
        bpe->heap[i] = bpe->heap[child];
    }
    bpe->heap[i] = last;
    return top;
}

static void push_pair(const struct at_merge_map *merges, struct at_bpe *bpe, uint32_t left)
{
    const struct at_symbol *s = bpe->symbols;
    const struct at_merge *m = s[left].next == UINT32_MAX
                                   ? NULL
                                   : at_merge_map_find(merges, s[left].id, s[s[left].next].id);

    if (m)
        heap_push(bpe, (struct at_candidate_merge){ .rank = m->rank, .at = left, .id = m->id });
}

static void merge_all(const struct at_merge_map *merges, struct at_bpe *bpe, uint32_t n)
{
    struct at_symbol *s = bpe->symbols;

    bpe->n_heap = 0;
    for (uint32_t i = 0; i + 1 < n; i++)
        push_pair(merges, bpe, i);
    while (bpe->n_heap > 0) {
        const struct at_candidate_merge top = heap_pop(bpe);
        struct at_symbol *left = &s[top.at];
        const uint32_t eaten = left->next;
        /* Candidates go stale when a neighbour changes. Like the reference, one is still good when
         * the pair that now stands there makes the same token. */
        const struct at_merge *m = left->id < 0 || eaten == UINT32_MAX
                                       ? NULL
                                       : at_merge_map_find(merges, left->id, s[eaten].id);
        if (!m || m->id != top.id)
            continue;
        left->id = m->id;
        left->next = s[eaten].next;
        s[eaten].id = -1;
        if (left->next != UINT32_MAX)
            s[left->next].previous = top.at;
        if (left->previous != UINT32_MAX)
            push_pair(merges, bpe, left->previous);
        push_pair(merges, bpe, top.at);
    }
}

static AT_CHECKED reserve(struct at_bpe *bpe, size_t n)
{
    enum at_status st = AT_OK;
    size_t capacity = bpe->capacity ? bpe->capacity : 64;

    while (capacity < n)
        capacity *= 2;
    if (capacity > bpe->capacity) {
        TRY(at_realloc(&bpe->symbols, bpe->capacity, capacity, sizeof *bpe->symbols));
        TRY(at_realloc(&bpe->heap, 3 * bpe->capacity, 3 * capacity, sizeof *bpe->heap));
        bpe->capacity = capacity;
    }
done:
    return st;
}

/* ---- letters ---- */

/* Symbols of a word as they come; what has no token is held back until what follows is known. */
struct spelling {
    const struct at_tokenizer *t;
    struct at_bpe *bpe;
    uint32_t n;
    bool unknown; /* one is held back */
};

static void spell(struct spelling *s, int32_t id)
{
    s->bpe->symbols[s->n] = (struct at_symbol){ .id = id, .previous = s->n - 1, .next = s->n + 1 };
    s->n++;
}

static void spell_held(struct spelling *s)
{
    if (s->unknown)
        spell(s, s->t->unknown);
    s->unknown = false;
}

/* A letter without a token: its bytes, the unknown token, or nothing. The reference does not put
 * down what it held back before the bytes. */
static void spell_unknown(struct spelling *s, const char *letter, size_t n)
{
    const struct at_tokenizer *t = s->t;
    bool has_all = t->byte_fallback;

    for (size_t i = 0; i < n; i++)
        has_all = has_all && t->fallback_id[(uint8_t)letter[i]] >= 0;
    if (has_all) {
        for (size_t i = 0; i < n; i++)
            spell(s, t->fallback_id[(uint8_t)letter[i]]);
    } else if (t->unknown >= 0) {
        if (!t->fuse_unknown)
            spell_held(s);
        s->unknown = true;
    } else {
        at_warn("no_token", "\"%.*s\" has no token and is left out", (int)n, letter);
    }
}

static void spell_bytes(struct spelling *s, const char *word, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const int32_t id = s->t->byte_id[(uint8_t)word[i]];
        char letter[4];
        if (id < 0) {
            spell_unknown(s, letter, at_utf8_put(letter, at_alphabet_char((uint8_t)word[i])));
            continue;
        }
        spell_held(s);
        spell(s, id);
    }
}

static void spell_letters(struct spelling *s, const char *word, size_t n)
{
    for (size_t i = 0, length; i < n; i += length) {
        (void)at_utf8_get(word + i, &length);
        const int32_t id = at_string_map_find(&s->t->vocab, word + i, length);
        if (id < 0) {
            spell_unknown(s, word + i, length);
            continue;
        }
        spell_held(s);
        spell(s, id);
    }
}

static AT_CHECKED whole_word(const struct at_tokenizer *t, int32_t *out, const char *word, size_t n)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };

    for (size_t i = 0; t->byte_level && i < n; i++) {
        char c[4];
        at_buf_put(&text, c, at_utf8_put(c, at_alphabet_char((uint8_t)word[i])));
    }
    if (!t->byte_level)
        at_buf_put(&text, word, n);
    TRY(at_buf_status(&text));
    *out = at_string_map_find(&t->vocab, text.data, text.n);
done:
    at_buf_release(&text);
    return st;
}

AT_CHECKED at_bpe_word(struct at_encoding *e, const char *word, size_t n)
{
    enum at_status st = AT_OK;
    const struct at_tokenizer *t = e->tokenizer;
    struct spelling s = { .t = t, .bpe = &e->bpe };
    int32_t whole = -1;

    if (n > UINT32_MAX / 8)
        FAIL(AT_DATA, "a word of %zu bytes is too long", n);
    if (t->ignore_merges)
        TRY(whole_word(t, &whole, word, n));
    if (whole >= 0) {
        TRY(at_ids_push(e->out, whole));
        goto done;
    }
    TRY(reserve(&e->bpe, t->byte_level ? 2 * n : n)); /* a letter of the alphabet has two bytes */
    if (t->byte_level)
        spell_bytes(&s, word, n);
    else
        spell_letters(&s, word, n);
    spell_held(&s);
    if (s.n == 0)
        goto done;
    e->bpe.symbols[s.n - 1].next = UINT32_MAX; /* the first's previous is UINT32_MAX already */
    merge_all(&t->merges, &e->bpe, s.n);
    for (uint32_t i = 0; i != UINT32_MAX; i = e->bpe.symbols[i].next)
        TRY(at_ids_push(e->out, e->bpe.symbols[i].id));
done:
    return st;
}
