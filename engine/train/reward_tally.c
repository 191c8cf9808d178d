#include "reward_tally.h"

#include "advantage.h"
#include "metrics.h"

void at_reward_tally_add(struct at_reward_tally *t, const struct at_samples *s,
                         const uint32_t *picked, double *x, uint32_t n)
{
    for (uint32_t k = 0; k < s->n_rewards; k++) {
        for (uint32_t i = 0; i < n; i++)
            x[i] = s->items[picked ? picked[i] : i].reward[k];
        t->mean[k] += at_mean_of(x, n);
        t->deviation[k] += at_deviation_of(x, n);
    }
}

void at_reward_tally_write(cJSON *line, const struct at_reward_tally *t, const struct at_samples *s,
                           double rollouts)
{
    struct at_buf name = { 0 };

    for (uint32_t k = 0; k < 2 * s->n_rewards; k++) {
        at_buf_clear(&name);
        at_buf_printf(&name, "rewards/%s/%s", s->names[k / 2], k % 2 ? "std" : "mean");
        if (name.data)
            at_metric_add(line, "", name.data, (k % 2 ? t->deviation : t->mean)[k / 2] / rollouts);
    }
    at_buf_release(&name);
}
