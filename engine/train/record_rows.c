#include "record_parts.h"

/* Whose line it is. A packed row of joined text is of no single line. */
static cJSON *head_of(uint64_t step, const struct at_row *row)
{
    cJSON *line = cJSON_CreateObject();

    cJSON_AddNumberToObject(line, "step", (double)step);
    cJSON_AddNumberToObject(line, "row", row->index);
    if (row->line > 0) {
        cJSON_AddNumberToObject(line, "file", row->file);
        cJSON_AddNumberToObject(line, "line", row->line);
    }
    return line;
}

static void add_pair(cJSON *line, const struct at_row_result *r, const struct at_metric_style *s)
{
    const struct at_pair_result *pair = &r->pair;

    if (!s->without_reference)
        at_metric_add(line, "", "margin",
                      s->beta * ((double)pair->score_chosen - pair->score_rejected));
    if (at_method_get(s->method)->reference && !s->without_reference) {
        at_metric_add(line, "", "chosen_logratio", pair->score_chosen);
        at_metric_add(line, "", "rejected_logratio", pair->score_rejected);
    }
    at_metric_add(line, "", "loss", pair->loss);
    if (at_method_get(s->method)->value_head) {
        at_metric_add(line, "", "chosen_reward", r->policy[0].logp);
        at_metric_add(line, "", "rejected_reward", r->policy[1].logp);
        return;
    }
    if (s->log_odds)
        at_metric_add(line, "", "log_odds", pair->log_odds);
    at_metric_add(line, "", "chosen_logp", r->policy[0].raw_logp);
    at_metric_add(line, "", "rejected_logp", r->policy[1].raw_logp);
    cJSON_AddNumberToObject(line, "chosen_tokens", r->policy[0].n);
    cJSON_AddNumberToObject(line, "rejected_tokens", r->policy[1].n);
    if (!s->triples)
        return;
    at_metric_add(line, "", "reference_logp", r->policy[2].raw_logp);
    cJSON_AddNumberToObject(line, "reference_tokens", r->policy[2].n);
}

static void add_labelled(cJSON *line, const struct at_row *row, const struct at_row_result *r,
                         const struct at_metric_style *s)
{
    cJSON_AddBoolToObject(line, "label", row->desirable);
    at_metric_add(line, "", "loss", r->pair.loss);
    at_metric_add(line, "", "reward", s->beta * r->pair.score_chosen);
    at_metric_add(line, "", "logp", r->policy[0].logp);
    at_metric_add(line, "", "ref_logp", r->reference[0].logp);
    if (s->kl)
        at_metric_add(line, "", "kl", r->kl);
    cJSON_AddNumberToObject(line, "tokens", r->policy[0].n);
}

/* Means over the target tokens, of which packed rows may have none. */
static void add_text(cJSON *line, const struct at_row_result *r)
{
    const struct at_segment_result *p = &r->policy[0];

    cJSON_AddNumberToObject(line, "tokens", p->n);
    if (p->n == 0)
        return;
    at_metric_add(line, "", "loss", (double)r->pair.loss / p->n);
    at_metric_add(line, "", "nll", -(double)p->logp / p->n);
    at_metric_add(line, "", "entropy", (double)p->entropy / p->n);
    at_metric_add(line, "", "accuracy", (double)p->hits / p->n);
}

AT_CHECKED at_records_rows(struct at_records *records, uint64_t step,
                           const struct at_row *const *rows, const struct at_row_result *results,
                           uint32_t n, const struct at_metric_style *style)
{
    enum at_status st = AT_OK;
    cJSON *line = NULL;

    for (uint32_t i = 0; i < n; i++) {
        line = head_of(step, rows[i]);
        switch (rows[i]->kind) {
        case AT_ROWS_PAIR:
            add_pair(line, &results[i], style);
            break;
        case AT_ROWS_LABELLED:
            add_labelled(line, rows[i], &results[i], style);
            break;
        case AT_ROWS_SAMPLE:
        case AT_ROWS_SFT:
            add_text(line, &results[i]);
            break;
        }
        TRY(at_records_write_line(records->pairs, line));
        cJSON_Delete(line);
        line = NULL;
    }
done:
    cJSON_Delete(line);
    return st;
}
