/* Parts of the tokenizer, private to engine/text: tables, pre-tokenizer, merging, loaders. */
#ifndef AT_TOKENIZER_PARTS_H
#define AT_TOKENIZER_PARTS_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include "hash.h"
#include "tokenizer.h"
#include <pcre2.h>

enum {
    AT_MAX_ID = (1 << 24) - 1, /* a file that says more is damaged */
    AT_MAX_STAGES = 8,
    AT_MAX_TEMPLATE = 8
};

/* ---- strings to ids ---- */

/* Open addressing; keys are borrowed and outlive the map. */
struct at_string_map {
    struct at_string_slot *slots;
    size_t n, n_slots;
};
/* Room for n keys. */
AT_CHECKED at_string_map_init(struct at_string_map *out, size_t n);
void at_string_map_release(struct at_string_map *map);
/* Sets a key's id; the last one holds. At most as many keys as there is room for. */
void at_string_map_put(struct at_string_map *map, const char *key, size_t n, int32_t id);
int32_t at_string_map_find(const struct at_string_map *map, const char *key, size_t n); /* or -1 */

/* ---- merges ---- */

struct at_merge {
    uint64_t pair; /* left id in the upper half; UINT64_MAX: a free slot */
    uint32_t rank;
    int32_t id;
};
struct at_merge_map {
    struct at_merge *slots;
    size_t n_slots;
};
AT_CHECKED at_merge_map_init(struct at_merge_map *out, size_t n);
void at_merge_map_release(struct at_merge_map *map);
void at_merge_map_put(struct at_merge_map *map, int32_t left, int32_t right, uint32_t rank,
                      int32_t id);
const struct at_merge *at_merge_map_find(const struct at_merge_map *map, int32_t left,
                                         int32_t right); /* or NULL */

/* Memory of one merging, used again for each word. */
struct at_bpe {
    struct at_symbol *symbols;
    struct at_candidate_merge *heap;
    size_t capacity, n_heap;
};
void at_bpe_release(struct at_bpe *bpe);
/* Appends the ids of a word's bytes. Bytes that have no token are left out, as the reference does.
 */
AT_CHECKED at_bpe_word(const struct at_tokenizer *tokenizer, struct at_bpe *bpe, struct at_ids *out,
                       const char *word, size_t n);

/* ---- pre-tokenizer ---- */

/* One way of cutting a text: at the matches of a pattern, which become pieces like what stands
 * between them. `keep` says which of the two are kept. */
enum at_keep { AT_KEEP_ALL, AT_KEEP_MATCHES, AT_KEEP_OTHERS };
struct at_stage {
    pcre2_code *code; /* NULL: nothing is cut */
    enum at_keep keep;
    bool prefix_space; /* a space is put before texts that do not begin with one */
};
extern const char at_pattern_gpt2[];
/* Compiles a pattern written for the reference's engine (Oniguruma with Ruby's syntax). AT_DATA for
 * constructs that PCRE2 would read in another way. */
AT_CHECKED at_stage_compile(struct at_stage *out, const char *pattern, const char *name);
/* Cuts a text by all stages and appends the ids of the words. */
struct at_encoding {
    const struct at_tokenizer *tokenizer;
    struct at_ids *out;
    struct at_bpe bpe;
    pcre2_match_data *match;
    pcre2_match_context *limits;
};
AT_CHECKED at_encoding_init(struct at_encoding *out, const struct at_tokenizer *tokenizer,
                            struct at_ids *ids);
void at_encoding_release(struct at_encoding *encoding);
AT_CHECKED at_encoding_put(struct at_encoding *encoding, const char *text, size_t n);

/* ---- the tokenizer ---- */

struct at_token {
    const char *text;  /* the byte alphabet, or an added token's own text; NULL: a gap */
    const char *bytes; /* what it decodes to */
    uint32_t n_text, n_bytes;
    bool special, lstrip, rstrip, single_word;
};

/* Added tokens that are looked for in one form of the text. */
struct at_added {
    struct at_string_map map;
    uint32_t *lengths; /* distinct lengths, longest first */
    size_t n_lengths;
    bool first[256]; /* bytes that a token begins with */
};

struct at_tokenizer {
    struct at_arena arena;
    struct at_token *tokens; /* (n_tokens) */
    size_t n_tokens;
    struct at_string_map vocab; /* the model's vocabulary */
    struct at_merge_map merges;
    int32_t byte_id[256]; /* -1: no token */
    bool ignore_merges;   /* a word that is a token is that token */
    bool nfc;
    bool is_byte_level;       /* the last pre-tokenizer was seen */
    struct at_added added[2]; /* looked for before and after normalisation */
    struct at_stage stages[AT_MAX_STAGES];
    size_t n_stages;
    int32_t before[AT_MAX_TEMPLATE], after[AT_MAX_TEMPLATE]; /* around a text */
    size_t n_before, n_after;
    int32_t bos, eos, pad;
    struct at_hash hash; /* of what loading has seen so far */
    char digest[65];
};

/* An added token as a file describes it. */
struct at_added_token {
    const char *text;
    int32_t id;
    bool special, lstrip, rstrip, single_word, normalized;
};

/* Loading: begin, tokens, merges, added tokens, stages, end. Errors begin with `name`. */
AT_CHECKED at_tokenizer_begin(struct at_tokenizer *t, size_t n_tokens, size_t n_vocab,
                              size_t n_merges);
AT_CHECKED at_tokenizer_put_token(struct at_tokenizer *t, const char *text, size_t n, int32_t id,
                                  const char *name);
/* After all tokens; left and right are texts. */
AT_CHECKED at_tokenizer_put_merge(struct at_tokenizer *t, uint32_t rank, const char *left,
                                  size_t n_left, const char *right, size_t n_right,
                                  const char *name);
AT_CHECKED at_tokenizer_put_added(struct at_tokenizer *t, const struct at_added_token *tokens,
                                  size_t n, const char *name);
/* The next stage; `pattern` may be NULL. */
AT_CHECKED at_tokenizer_put_stage(struct at_tokenizer *t, const char *pattern,
                                  struct at_stage stage, const char *name);
void at_tokenizer_end(struct at_tokenizer *t);

/* ---- characters ---- */

/* GPT-2's alphabet: the code point that stands for a byte, and back (-1: for none). */
uint32_t at_alphabet_char(uint8_t byte);
int at_alphabet_byte(uint32_t code);
/* Code point at text[0], valid UTF-8; *n is its length. */
uint32_t at_utf8_get(const char *text, size_t *n);
size_t at_utf8_put(char out[4], uint32_t code);
/* Appends the text; every maximal part that is no UTF-8 becomes U+FFFD (Unicode 3.9, as Rust and
 * Python do). With n_rest, a character that only lacks its end is not appended: *n_rest bytes are
 * left. Returns the number of replacements. */
size_t at_utf8_repair(struct at_buf *out, const char *text, size_t n, size_t *n_rest);
/* Appends the text in normal form C. */
AT_CHECKED at_utf8_nfc(struct at_buf *out, const char *text, size_t n);
bool at_is_space(uint32_t code); /* White_Space */
bool at_is_word(uint32_t code);  /* \w of the reference: letters, marks, digits, connectors */

#endif
