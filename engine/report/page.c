#include "report_parts.h"

#include <string.h>

/* ---- in plain words ---- */

static bool is_number(const cJSON *object, const char *key)
{
    return cJSON_IsNumber(at_json_find(object, key));
}

static double number(const cJSON *object, const char *key)
{
    return is_number(object, key) ? at_json_find(object, key)->valuedouble : 0;
}

static bool has_interval(const cJSON *share)
{
    return is_number(share, "value") && is_number(share, "low") && is_number(share, "high");
}

/* {"before": share, "after": share} of pairs, or of a reward model's; NULL: none was measured. */
static const cJSON *shares_of(const struct at_report *r)
{
    const cJSON *shares = at_json_find(r->result, "eval_logps/accuracies");

    if (!shares)
        shares = at_json_find(r->result, "eval_accuracy");
    return has_interval(at_json_find(shares, "before")) &&
                   has_interval(at_json_find(shares, "after"))
               ? shares
               : NULL; /* what is not finite is null there */
}

static void say_shares(struct at_buf *out, const cJSON *shares)
{
    const cJSON *before = at_json_find(shares, "before"), *after = at_json_find(shares, "after");

    at_buf_printf(out,
                  " %.0f pairs were kept aside and never trained on. In them the better reply came "
                  "first in %.1f %% before the training and in %.1f %% after it (with 95 %% "
                  "certainty between %.1f and %.1f %%).",
                  number(after, "n"), 100 * number(before, "value"), 100 * number(after, "value"),
                  100 * number(after, "low"), 100 * number(after, "high"));
}

static void say_loss(struct at_buf *out, const cJSON *loss)
{
    at_buf_printf(out,
                  " On examples kept aside and never trained on, its error (the loss) was %.4g "
                  "before the training and %.4g after it.",
                  number(loss, "before"), number(loss, "after"));
}

/* What became of the pairs that were held out. */
static void say_pairs(struct at_buf *out, const struct pairs *p)
{
    const uint32_t bad = p->n_judged - p->count[PAIR_LEARNT];

    if (p->n_judged == 0)
        return;
    at_buf_printf(out, " Of the pairs kept aside %u ended as they were meant",
                  p->count[PAIR_LEARNT]);
    if (bad == 0)
        at_buf_puts(out, ".");
    else
        at_buf_printf(out, "; %u did not: look at them first, some may have their replies swapped.",
                      bad);
}

AT_CHECKED report_summary(struct at_buf *out, const struct at_report *r)
{
    const cJSON *data = at_json_find(r->run, "data"), *shares = shares_of(r);
    const cJSON *loss = at_json_find(r->result, "eval_loss");

    at_buf_printf(out,
                  "A language model was shown %.0f examples in %.0f steps of training (%s). They "
                  "were %s.",
                  number(data, "train_rows"), number(r->result, "steps"), report_method(r)->title,
                  report_method(r)->text);
    if (shares)
        say_shares(out, shares);
    else if (is_number(loss, "before") && is_number(loss, "after"))
        say_loss(out, loss);
    say_pairs(out, &r->pairs);
    at_buf_printf(out, " %s", report_verdict(r)->text);
    if (cJSON_IsTrue(at_json_find(r->result, "stopped_early")))
        at_buf_puts(out, " The training ended early, because it no longer got better.");
    if (!cJSON_IsTrue(at_json_find(r->result, "complete")))
        at_buf_puts(out, " The training was stopped before its end.");
    return at_buf_status(out);
}

/* ---- sections ---- */

static AT_CHECKED page_head(struct page *p)
{
    enum at_status st = AT_OK;
    const struct at_report *r = p->report;
    const struct report_words *verdict = report_verdict(r);
    const cJSON *shares = shares_of(r);
    struct at_buf summary = { 0 };
    struct interval_bar bars[2] = { { .label = "before" }, { .label = "after" } };

    TRY(report_summary(&summary, r));
    at_buf_puts(&p->text, "<header><h1>What this training did</h1><p class=\"soft\">");
    html_text(&p->text, r->dir);
    at_buf_printf(&p->text, "</p><div class=\"verdict\"><b>%s</b><br>%s</div>\n<p>", verdict->title,
                  verdict->text);
    html_text(&p->text, summary.data);
    at_buf_puts(&p->text, "</p></header>\n");
    if (!shares)
        goto done;
    at_buf_puts(&p->text, "<h3>The better reply comes first, of the pairs kept aside</h3>\n");
    for (int k = 0; k < 2; k++) {
        const cJSON *share = at_json_find(shares, bars[k].label);
        bars[k].value = number(share, "value");
        bars[k].low = number(share, "low");
        bars[k].high = number(share, "high");
    }
    intervals_write(&p->text, bars, 2);
    at_buf_puts(&p->text, "<p class=\"soft\">Ring: what was measured. Line: where the true share "
                          "lies with 95 % certainty. \"Comes first\": it is likelier a token "
                          "than the other reply (of reward models: it has more points).</p>\n");
done:
    at_buf_release(&summary);
    return st;
}

static AT_CHECKED page_alarms(struct page *p)
{
    const cJSON *alarms = at_json_find(p->report->result, "alarms"), *alarm = NULL;
    const cJSON *kinds = at_json_find(p->report->run, "warning_kinds"), *kind = NULL;
    const double warnings = number(p->report->run, "warnings");
    const double skipped = number(p->report->result, "skipped_steps");

    at_buf_puts(&p->text, "<section><h2>Warnings</h2>\n");
    cJSON_ArrayForEach(alarm, alarms)
    {
        at_buf_puts(&p->text, "<p class=\"alarm\"><b>! </b>");
        html_text(&p->text, cJSON_IsString(alarm) ? alarm->valuestring : "");
        at_buf_puts(&p->text, "</p>\n");
    }
    if (cJSON_GetArraySize(alarms) == 0)
        at_buf_puts(&p->text, "<p>No alarm was raised.</p>\n");
    if (warnings > 0)
        at_buf_printf(&p->text, "<p>%.0f warning%s given while it ran%s</p>\n", warnings,
                      warnings == 1 ? " was" : "s were", cJSON_GetArraySize(kinds) > 0 ? ":" : ".");
    cJSON_ArrayForEach(kind, kinds)
    {
        const char *first = cJSON_GetStringValue(at_json_find(kind, "first"));
        const double more = number(kind, "count") - 1;
        if (!first)
            continue;
        at_buf_puts(&p->text, "<p class=\"soft\">");
        html_text(&p->text, first);
        if (more > 0)
            at_buf_printf(&p->text, " (and %.0f more of this kind)", more);
        at_buf_puts(&p->text, "</p>\n");
    }
    if (skipped > 0)
        at_buf_printf(&p->text, "<p>%.0f step%s left out, for a value was not finite.</p>\n",
                      skipped, skipped == 1 ? " was" : "s were");
    at_buf_puts(&p->text, "</section>\n");
    return at_buf_status(&p->text);
}

static AT_CHECKED page_curves(struct page *p)
{
    enum at_status st = AT_OK;

    at_buf_puts(&p->text, "<section><h2>Curves</h2>\n<p class=\"soft\">Solid: examples that were "
                          "trained on. Broken, with marks: examples kept aside.</p>\n<div "
                          "class=\"charts\">\n");
    for (size_t i = 0; i < N_CHARTS; i++)
        TRY(chart_write(&p->text, &charts[i], p->report->curves.of[i]));
    at_buf_puts(&p->text, "</div></section>\n");
done:
    return st;
}

static AT_CHECKED flush(struct page *p)
{
    enum at_status st = AT_OK;

    TRY(at_buf_status(&p->text));
    TRY(at_writer_put(p->writer, p->text.data, p->text.n));
    at_buf_clear(&p->text);
done:
    return st;
}

AT_CHECKED at_report_write(const struct at_report *r, const char *path)
{
    static enum at_status (*const sections[])(struct page *) = {
        page_head,   page_alarms, page_replies, page_samples, page_judged,     page_dial,
        page_learnt, page_pairs,  page_curves,  page_data,    page_provenance,
    };
    enum at_status st = AT_OK;
    struct page p = { .report = r };

    TRY(at_writer_open(&p.writer, path));
    at_buf_puts(&p.text,
                "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
                "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
                "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
                "style-src 'unsafe-inline'\">\n<title>What this training did</title>\n<style>\n");
    at_buf_puts(&p.text, html_style);
    at_buf_puts(&p.text, "</style></head><body><main>\n");
    for (size_t i = 0; i < AT_COUNT(sections); i++) {
        TRY(sections[i](&p));
        TRY(flush(&p));
    }
    at_buf_puts(&p.text, "</main></body></html>\n");
    TRY(flush(&p));
    TRY(at_writer_commit(p.writer));
done:
    at_writer_close(&p.writer);
    at_buf_release(&p.text);
    return st;
}
