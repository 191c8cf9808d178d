#include "online_recorded.h"

#include "loop.h"

#include <string.h>

enum { PAIR = 2 };

AT_CHECKED at_recorded_open(struct at_online *o, struct at_run *run,
                            const struct at_dataset_params *params)
{
    enum at_status st = AT_OK;
    const char *const path = run->config->rollouts;
    struct at_recorded *r = &o->recorded;
    struct at_dataset_params p = *params;

    p.kind = AT_ROWS_SAMPLE;
    TRY(at_rollouts_load(&r->rows, &r->samples, path, PAIR, &p));
    TRY(at_prompt_rows_load(&o->prompts, &path, 1, 1, params));
    AT_REQUIRE(o->prompts.n * PAIR == r->rows.n_rows);
    run->data.samples.n_rewards = r->samples.n_rewards;
    memcpy(run->data.samples.names, r->samples.names, sizeof r->samples.names);
    o->n_new = 0;
    for (uint32_t i = 0; i < r->rows.n_rows; i++)
        if (r->rows.rows[i].segment[0].n > o->n_new)
            o->n_new = r->rows.rows[i].segment[0].n;
done:
    return st;
}

void at_recorded_close(struct at_recorded *r)
{
    at_dataset_release(&r->rows);
}

void at_recorded_take(struct at_online *o, uint32_t n)
{
    for (uint32_t i = 0; i < n * PAIR; i++) {
        const uint32_t k = o->prompt[i / PAIR] * PAIR + i % PAIR;
        const struct at_segment *from = &o->recorded.rows.rows[k].segment[0];
        int32_t *ids = o->ids + (size_t)i * o->n_new;

        memset(ids, 0, o->n_new * sizeof *ids);
        memcpy(ids, from->ids, from->n * sizeof *ids);
        o->n_ids[i] = from->n;
        o->samples[i] = o->recorded.samples.items[k];
        o->samples[i].old = NULL; /* a pair's loss reads none */
    }
}
