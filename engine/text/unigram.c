#include "tokenizer_parts.h"

#include <string.h>

#define UNKNOWN_PENALTY 10.0 /* below the lowest score, as SentencePiece has it */

/* The node behind `node` for a byte. */
static int32_t child_of(const struct at_unigram *u, int32_t node, uint8_t byte, int32_t *token)
{
    const struct at_merge *m = at_merge_map_find(&u->trie, node, byte);

    *token = m ? (int32_t)m->rank - 1 : -1;
    return m ? m->id : -1;
}

static void put_in_trie(struct at_unigram *u, const struct at_token *token, int32_t id,
                        int32_t *n_nodes)
{
    int32_t node = 0;

    for (uint32_t i = 0; i < token->n_text; i++) {
        const uint8_t byte = (uint8_t)token->text[i];
        int32_t there, next = child_of(u, node, byte, &there);
        if (next < 0)
            next = (*n_nodes)++;
        if (i + 1 == token->n_text)
            there = id;
        at_merge_map_put(&u->trie, node, byte, (uint32_t)(there + 1), next);
        node = next;
    }
}

AT_CHECKED at_unigram_init(struct at_unigram *out, const struct at_tokenizer *t, double *scores,
                           size_t n)
{
    enum at_status st = AT_OK;
    double lowest = 0;
    size_t n_bytes = 0;
    int32_t n_nodes = 1;

    out->scores = scores;
    for (size_t i = 0; i < n; i++) {
        n_bytes += t->tokens[i].n_text;
        lowest = i == 0 || scores[i] < lowest ? scores[i] : lowest;
    }
    if (n_bytes > INT32_MAX / 2)
        FAIL(AT_DATA, "a vocabulary of %zu bytes is too large", n_bytes);
    TRY(at_merge_map_init(&out->trie, n_bytes));
    for (size_t i = 0; i < n; i++)
        put_in_trie(out, &t->tokens[i], (int32_t)i, &n_nodes);
    out->unknown_score = lowest - UNKNOWN_PENALTY;
done:
    return st;
}

void at_unigram_release(struct at_unigram *u)
{
    at_merge_map_release(&u->trie);
    at_free(&u->scores);
}

/* The best way to a place in the word; begin == SIZE_MAX: none was found yet. */
struct way {
    size_t begin, next; /* next: where the best way of all goes on from here */
    double score;
    int32_t id;
};

static void offer(struct way *way, size_t begin, double score, int32_t id)
{
    if (way->begin == SIZE_MAX || score > way->score)
        *way = (struct way){ .begin = begin, .score = score, .id = id }; /* `next` comes later */
}

/* ways[i] becomes the best way to byte i (Viterbi). */
static AT_CHECKED find_ways(const struct at_tokenizer *t, struct way *ways, const char *word,
                            size_t n)
{
    enum at_status st = AT_OK;
    const struct at_unigram *u = &t->unigram;

    for (size_t i = 1; i <= n; i++)
        ways[i].begin = SIZE_MAX;
    for (size_t i = 0, length; i < n; i += length) {
        const double here = ways[i].score;
        bool has_single = false;
        int32_t node = 0, token;
        (void)at_utf8_get(word + i, &length);
        for (size_t k = i; k < n; k++) {
            node = child_of(u, node, (uint8_t)word[k], &token);
            if (node < 0)
                break;
            if (token >= 0) {
                offer(&ways[k + 1], i, u->scores[token] + here, token);
                has_single = has_single || k + 1 == i + length;
            }
        }
        if (has_single)
            continue;
        if (t->unknown < 0)
            FAIL(AT_DATA, "\"%.*s\" has no token and the tokenizer has no unknown token",
                 (int)length, word + i);
        offer(&ways[i + length], i, u->unknown_score + here, t->unknown);
    }
done:
    return st;
}

/* Text without a token of its own: its bytes' tokens when all are there, else the unknown one. */
static AT_CHECKED put_unknown(struct at_encoding *e, const char *text, size_t n)
{
    enum at_status st = AT_OK;
    const struct at_tokenizer *t = e->tokenizer;
    const int32_t whole = at_string_map_find(&t->vocab, text, n);
    bool has_all = t->byte_fallback && whole < 0;

    for (size_t i = 0; i < n && has_all; i++)
        has_all = t->fallback_id[(uint8_t)text[i]] >= 0;
    for (size_t i = 0; i < n && has_all; i++)
        TRY(at_ids_push(e->out, t->fallback_id[(uint8_t)text[i]]));
    if (!has_all)
        TRY(at_ids_push(e->out, whole >= 0 ? whole : t->unknown));
done:
    return st;
}

AT_CHECKED at_unigram_word(struct at_encoding *e, const char *word, size_t n)
{
    enum at_status st = AT_OK;
    const struct at_tokenizer *t = e->tokenizer;
    struct way *ways = NULL;
    size_t next = 0;

    TRY(at_alloc(&ways, n + 1, sizeof *ways));
    TRY(find_ways(t, ways, word, n));
    for (size_t end = n; end > 0; end = next) {
        next = ways[end].begin;
        ways[next].next = end;
    }
    for (size_t i = 0, end; i < n; i = end) {
        end = ways[i].next;
        if (ways[end].id != t->unknown) {
            TRY(at_ids_push(e->out, ways[end].id));
            continue;
        }
        while (end < n && ways[ways[end].next].id == t->unknown)
            end = ways[end].next;
        TRY(put_unknown(e, word + i, end - i));
    }
done:
    at_free(&ways);
    return st;
}
