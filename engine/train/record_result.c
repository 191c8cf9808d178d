#include "record_parts.h"

#include <stdio.h>
#include <string.h>

/* "better" when after's interval lies above before's value, "worse" when below, else open. A run
 * that was stopped may have written a state that was never evaluated, or the one that went too far.
 */
static const char *verdict(const struct at_outcome *o)
{
    if (o->too_far && o->best_step == o->steps)
        return "over budget";
    if (o->evaluated_step != o->best_step)
        return "not judged";
    if (!o->has_eval || !o->has_pairs)
        return o->has_eval ? (o->eval_loss_after < o->eval_loss_before ? "better" : "worse")
                           : "not judged";
    if (o->after.low > o->before.value)
        return "better";
    return o->after.high < o->before.value ? "worse" : "not enough evidence";
}

static void add_change(cJSON *out, const char *name, double before, double after)
{
    cJSON *change = cJSON_AddObjectToObject(out, name);

    at_metric_add(change, "", "before", before);
    at_metric_add(change, "", "after", after);
}

static void add_shares(cJSON *out, const char *name, struct at_share before, struct at_share after)
{
    cJSON *change = cJSON_AddObjectToObject(out, name);

    cJSON_AddItemToObject(change, "before", at_share_json(before));
    cJSON_AddItemToObject(change, "after", at_share_json(after));
}

cJSON *at_records_alarms(const struct at_outcome *o)
{
    cJSON *alarms = cJSON_CreateArray();
    struct at_buf reward = { 0 };
    char text[160];

    if (o->skipped > 0)
        cJSON_AddItemToArray(alarms, cJSON_CreateString("steps were skipped: values were not "
                                                        "finite"));
    if (o->too_far)
        cJSON_AddItemToArray(alarms,
                             cJSON_CreateString("the policy went further from its reference "
                                                "than max_drift"));
    if (o->displaced_step > 0) {
        snprintf(text, sizeof text,
                 "chosen log-probs of the held-out rows fell from %.2f to %.2f at step %llu "
                 "(likelihood displacement)",
                 o->chosen_logp_before, o->displaced_logp, (unsigned long long)o->displaced_step);
        cJSON_AddItemToArray(alarms, cJSON_CreateString(text));
    }
    for (int s = 0; s < AT_ALARM_SERIES; s++) {
        if (o->alarm.raised[s].step == 0)
            continue;
        at_buf_clear(&reward);
        at_alarm_tell(&reward, &o->alarm, (enum at_alarm_series)s);
        cJSON_AddItemToArray(alarms, cJSON_CreateString(reward.data ? reward.data : ""));
    }
    at_buf_release(&reward);
    return alarms;
}

AT_CHECKED at_records_write_result(struct at_records *r, const struct at_outcome *o)
{
    enum at_status st = AT_OK;
    cJSON *out = cJSON_CreateObject();

    cJSON_AddNumberToObject(out, "format_version", 1);
    cJSON_AddNumberToObject(out, "steps", (double)o->steps);
    cJSON_AddNumberToObject(out, "best_step", (double)o->best_step);
    cJSON_AddBoolToObject(out, "complete", o->complete);
    cJSON_AddBoolToObject(out, "stopped_early", o->stopped_early);
    cJSON_AddNumberToObject(out, "skipped_steps", (double)o->skipped);
    at_metric_add(out, "", "loss_first", o->loss_first);
    at_metric_add(out, "", "loss_last", o->loss_last);
    if (o->has_samples)
        add_change(out, "reward", o->reward_first, o->reward_last);
    if (o->has_eval)
        add_change(out, "eval_loss", o->eval_loss_before, o->eval_loss_after);
    cJSON_AddItemToObject(out, "alarms", at_records_alarms(o));
    if (o->has_drift)
        add_change(out, "eval_drift/kl", o->drift_before, o->drift_after);
    if (o->has_eval && o->has_rewards) {
        add_shares(out, "eval_accuracy", o->before, o->after);
        add_change(out, "eval_margin", o->margin_before, o->margin_after);
    } else if (o->has_eval && o->has_pairs) {
        add_shares(out, "eval_logps/accuracies", o->before, o->after);
        add_change(out, "eval_logps/chosen", o->chosen_logp_before, o->chosen_logp_after);
    }
    cJSON_AddStringToObject(out, "verdict", verdict(o));
    TRY(at_records_write_json(r, "result.json", out));
done:
    cJSON_Delete(out);
    return st;
}
