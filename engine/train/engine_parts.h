/* What the files engine*.c share: the host side of rows that are computed. */
#ifndef AT_ENGINE_PARTS_H
#define AT_ENGINE_PARTS_H

#include "engine.h"

/* Host side of one at_engine_rows() call: slab by slab, where downloads land and whose they are. */
struct landing {
    struct at_segment_result *sums, *reference, *losses, *drifts; /* (segments) */
    struct at_pair_result *pairs;
    struct at_pair_match *matches;
    struct row_facts {
        float kl, desirable;
    } * facts;                 /* (rows) as at_row_loss() takes them */
    struct at_row_result **of; /* (rows), in slab order */
    size_t n_rows, n_segments;
    /* Where results want single tokens: the head's stats of policy and reference, slab by slab, and
       where those of each target are, grouped as slab.h says. */
    bool wants_tokens;
    float *stats[2];         /* (stats, 4) */
    size_t *target;          /* (targets) */
    uint32_t *n_targets;     /* (rows) */
    size_t n_stats, n_order; /* used of `stats` and `target` */
    size_t stats_capacity;
};

struct at_engine_host {
    struct landing landing;
    float *tokens, *facts; /* of policy losses: (rows of a slab, 4), (segments of a slab, 4) */
    /* (rows) of a slab, and its riders where rows have them */
    const struct at_row **packed, **riders;
    struct at_row_result **packed_results, **rider_results;
    uint32_t *slab_of_row, *order; /* order[i]: the row that comes i-th */
    bool siblings;                 /* rows of one prompt share it */
    size_t capacity;
    struct at_compute what;
    bool pending;
};

/* NULL is accepted. */
void at_engine_host_release(struct at_engine_host **host);

#endif
