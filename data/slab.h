/* A slab: rows packed behind each other as one token stream without padding between them.
 * Host arrays only; all are allocated once for `capacity` tokens and filled again for each slab.
 * T is the stream's length rounded up with empty tokens (id 0, empty intervals). */
#ifndef AT_SLAB_H
#define AT_SLAB_H

#include "row.h"

/* What T, R and S are rounded up to. Kernels take any number of rows, and no bit depends on it: 16
 * are what row kernels on CPU devices (lanes) and matrix units go over together. A product's last
 * tile of 64 rows goes over what lies behind T, too, and writes none of it. */
enum { AT_SLAB_GRANULE = 16 };

struct at_interval { /* keys a query token reads: [prefix_begin, prefix_end) and [seg_begin,
                        key_end) */
    int32_t prefix_begin, prefix_end, seg_begin, key_end; /* key indices; 0,0,0,0 reads nothing */
};
struct at_slab {
    uint32_t capacity;    /* tokens, a multiple of `granule` */
    uint32_t granule;     /* AT_SLAB_GRANULE; another may be set after at_slab_init() */
    uint32_t n_tokens, T; /* used; rounded up */
    int32_t *ids;         /* (T) */
    int32_t *positions;   /* (T) rotary positions; segments start where the prefix ends */
    /* Sides that have more than long_from tokens with their prefix: long_offset is added to their
     * positions, and with long_each where the sequence begins in the stream, too. 0: none do. Set
     * after at_slab_init(). */
    uint32_t long_from, long_offset;
    bool long_each; /* lengths differ in their angles: sides share a prefix if theirs are equal */
    uint32_t *long_runs; /* (n_long, 2) with long_each: where such sequences begin, their tokens */
    uint32_t n_long;
    struct at_interval *intervals; /* (T) */
    uint32_t *tokens;   /* (T, 2) index of the data row and place in it, for random numbers */
    int32_t *query_end; /* (T) key j is read by queries j <= t < query_end[j]; 0 for padding */
    /* Completion rows: one per target token, sorted by source row (so row_begin is a CSR). */
    uint32_t n_rows, R;   /* used; 1 at least, rounded up (padding: source 0, weight 0) */
    int32_t *source;      /* (R) token whose hidden state predicts the target, or is itself read */
    int32_t *target;      /* (R) vocabulary id */
    int32_t *row_segment; /* (R) index into the slab's segments, -1 for padding */
    float *row_weight;    /* (R) of the log-prob in its segment's sum; 1 until at_slab_weigh() */
    int32_t
        *row_begin; /* (T + 1) completion rows whose source is t: [row_begin[t], row_begin[t+1]) */
    /* The tokens that are a row's source, in order: the last layer goes over these alone where no
     * other token reads what it computes. */
    uint32_t S;             /* their number, 1 at least, rounded up (padding: token 0, no rows) */
    int32_t *sources;       /* (S) */
    uint32_t *source_names; /* (S, 2) `tokens` of these */
    int32_t *row_source;    /* (R) which of these is a row's source (padding: 0) */
    int32_t *source_begin;  /* (S + 1) rows of a source that have gradients, as row_begin */
    int32_t *source_place;  /* (T) which of these a token is, or -1 */
    /* Rows by segment, in order of position: segment s has rows order[segment_begin[s] ...). */
    int32_t *order;         /* (n_rows) completion row indices grouped by segment */
    int32_t *segment_begin; /* (n_segments + 1) */
    uint32_t n_segments;
    const struct at_row **rows; /* (n_packed) the data rows, in stream order */
    uint32_t n_packed;
    /* The first n_own tokens have gradients: all, but for riders and padding. The backward pass
     * goes over the first T_back, R_back completion rows and S_back sources, multiples of the
     * granule. */
    uint32_t n_own, T_back, R_back, S_back;
};
AT_CHECKED at_slab_init(struct at_slab *out, uint32_t capacity);
void at_slab_release(struct at_slab *slab);
/* Places rows[0..n) behind each other. They must fit: sum of at_row_tokens() <= capacity. */
void at_slab_fill(struct at_slab *slab, const struct at_row *const *rows, uint32_t n);
/* The same, but siblings (row.h) that stand behind each other read one copy of their prompt, which
 * counts as the first one's. The model has one table of angles (long_from 0). They must fit: of
 * such a run the prompt counts once. */
void at_slab_fill_siblings(struct at_slab *slab, const struct at_row *const *rows, uint32_t n);
/* The same with a rider to each row: riders[i] has the prefix of rows[i] and one side, which reads
 * it where it stands and has no gradient. Their sides stand behind all rows, their segments behind
 * the segments of these. The model has one table of angles (long_from 0). They must fit:
 * at_rider_tokens() <= capacity. */
void at_slab_fill_riders(struct at_slab *slab, const struct at_row *const *rows,
                         const struct at_row *const *riders, uint32_t n);
uint32_t at_rider_tokens(const struct at_row *const *rows, const struct at_row *const *riders,
                         uint32_t n);
/* Variant without sharing: the prefix is repeated before each segment (tests compare both). */
void at_slab_fill_unshared(struct at_slab *slab, const struct at_row *const *rows, uint32_t n);

/* LD-DPO (Liu et al. 2024, arXiv 2409.06411): gives weight `tail` to the completion rows of a
 * pair's longer side that lie past the length of the shorter one, in target tokens. */
void at_slab_weigh(struct at_slab *slab, float tail);

/* Sources among the first n tokens. */
uint32_t at_slab_sources(const struct at_slab *slab, uint32_t n);

/* Packs rows of one step, in order of arrival, into slabs of at most `capacity` tokens: first fit
 * decreasing by (tokens, position in `rows`). Writes slab numbers; a pure function of its inputs. A
 * row longer than capacity is a bug of the caller (checked when the data set is planned). */
AT_CHECKED at_pack(uint32_t *slab_of_row, uint32_t *out_n_slabs, const struct at_row *const *rows,
                   uint32_t n, uint32_t capacity);
/* The same for at_slab_fill_siblings(), rows in an order in which siblings stand behind each other:
 * order[i] (n) says which comes i-th, by the first of them. Those of a run stay together as far as
 * they fit into a slab. */
AT_CHECKED at_pack_siblings(uint32_t *slab_of_row, uint32_t *order, uint32_t *out_n_slabs,
                            const struct at_row *const *rows, uint32_t n, uint32_t capacity);
/* The same of rows with riders: each `batch` of them, in order, stay in one slab together. */
AT_CHECKED at_pack_riders(uint32_t *slab_of_row, uint32_t *out_n_slabs,
                          const struct at_row *const *rows, const struct at_row *const *riders,
                          uint32_t n, uint32_t batch, uint32_t capacity);

#endif
