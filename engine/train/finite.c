#include "finite.h"

#include <math.h>

/* Log-probs (rewards), and the KL term that the row's loss reads. */
static bool has_finite_sums(const struct at_loop *l, uint32_t i)
{
    const struct at_row_result *r = &l->window[i];

    for (uint32_t k = 0; k < at_row_sums(l->window_rows[i]); k++)
        if (!isfinite(r->policy[k].logp) || (l->what.reference && !isfinite(r->reference[k].logp)))
            return false;
    return true;
}

static bool is_finite_row(const struct at_loop *l, uint32_t i)
{
    return has_finite_sums(l, i) && isfinite(l->window[i].kl);
}

bool at_step_is_finite(const struct at_loop *l, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (!is_finite_row(l, i))
            return false;
    return l->norm[2] != 0; /* of the gradient: the device makes no update otherwise */
}

/* "the log-probs of line 3, line 7", the KL term, or the gradient. */
static AT_CHECKED name_bad_values(const struct at_loop *l, uint32_t n, struct at_buf *out)
{
    const bool value_head = at_method_get(l->run->method)->value_head;

    for (uint32_t i = 0; i < n; i++)
        if (!has_finite_sums(l, i))
            at_buf_printf(out, "%s %u",
                          out->n       ? ", line"
                          : value_head ? "the rewards of line"
                                       : "the log-probs of line",
                          l->window_rows[i]->line);
    for (uint32_t i = 0; out->n == 0 && i < n; i++)
        if (!is_finite_row(l, i))
            at_buf_printf(out, "the mismatched rows of the KL term of line %u and those with it",
                          l->window_rows[i]->line);
    if (out->n == 0)
        at_buf_printf(out, "the gradient of the rows from line %u on", l->window_rows[0]->line);
    return at_buf_status(out);
}

/* {"step": ..., "skipped_lines": [lines whose values are not finite]} */
static AT_CHECKED log_skip(struct at_loop *l, uint32_t n)
{
    enum at_status st = AT_OK;
    cJSON *line = at_records_line(l->state.step + 1,
                                  (double)(l->state.step + 1) / (double)l->run->steps_per_epoch);
    cJSON *lines = cJSON_AddArrayToObject(line, "skipped_lines");

    for (uint32_t i = 0; i < n; i++)
        if (!is_finite_row(l, i))
            cJSON_AddItemToArray(lines, cJSON_CreateNumber(l->window_rows[i]->line));
    TRY(at_records_metrics(l->records, line));
done:
    cJSON_Delete(line);
    return st;
}

AT_CHECKED at_step_skip(struct at_loop *l, uint32_t n)
{
    enum { MOST_IN_ROW = 3 };
    enum at_status st = AT_OK;
    const unsigned long long step = l->state.step + 1;
    struct at_buf what = { 0 };

    TRY(name_bad_values(l, n, &what));
    if (l->state.step == l->state.skipped)
        FAIL(AT_NUMERIC, "step %llu: %s are not finite; no update was made", step, what.data);
    l->state.skipped++;
    l->state.skipped_in_row++;
    TRY(log_skip(l, n));
    if (l->state.skipped_in_row == MOST_IN_ROW)
        FAIL(AT_RETRY, "step %llu: %s are not finite, and so were the %d steps before", step,
             what.data, MOST_IN_ROW - 1);
    at_warn("nonfinite", "step %llu: %s are not finite; no update was made", step, what.data);
done:
    at_buf_release(&what);
    return st;
}
