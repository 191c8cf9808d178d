#include "report_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PAIRS_SHOWN = 20, EXCERPT = 240, REPLIES_SHOWN = 12 };
static const double shown_from = 0.05; /* nats: of what was learnt */

static double number(const cJSON *object, const char *key)
{
    const cJSON *item = at_json_find(object, key);

    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static const char *string(const cJSON *object, const char *key)
{
    const char *text = cJSON_GetStringValue(at_json_find(object, key));

    return text ? text : "";
}

/* ---- replies ---- */

static AT_CHECKED put_side(struct at_buf *out, const char *name, const char *text,
                           const char *other, const char *tag)
{
    enum at_status st = AT_OK;

    at_buf_puts(out, "<div><small>");
    html_text(out, name);
    at_buf_puts(out, "</small><p class=\"said\">");
    TRY(html_difference(out, text, other, tag));
    at_buf_puts(out, "</p></div>");
done:
    return st;
}

AT_CHECKED page_replies(struct page *p)
{
    enum at_status st = AT_OK;
    const struct at_report *r = p->report;
    struct at_buf *out = &p->text;

    if (r->n_replies == 0)
        goto done;
    at_buf_printf(out,
                  "<section><h2>Replies side by side</h2>\n<p class=\"soft\"><del>Struck "
                  "out</del>: words that went away. <ins>Underlined</ins>: words that are new. "
                  "%zu of %zu replies are shown.</p>\n",
                  r->n_replies < REPLIES_SHOWN ? r->n_replies : (size_t)REPLIES_SHOWN,
                  r->n_replies);
    for (size_t i = 0; i < r->n_replies && i < REPLIES_SHOWN; i++) {
        const struct reply *reply = &r->replies[i];
        at_buf_puts(out, "<div class=\"pair\"><small>request</small><p class=\"said\">");
        html_excerpt(out, reply->prompt, 4UL * EXCERPT);
        at_buf_puts(out, "</p><div class=\"sides\">");
        TRY(put_side(out, r->before_name, reply->before, reply->after, "del"));
        TRY(put_side(out, r->after_name, reply->after, reply->before, "ins"));
        at_buf_puts(out, "</div></div>\n");
    }
    at_buf_puts(out, "</section>\n");
    TRY(at_buf_status(out));
done:
    return st;
}

/* ---- eval ---- */

static void put_interval(struct at_buf *out, const cJSON *i, double scale)
{
    at_buf_printf(out, "%+.1f [%+.1f, %+.1f]", scale * number(i, "value"), scale * number(i, "low"),
                  scale * number(i, "high"));
}

/* Shares or figures of the states, a row each. */
static void put_states(struct at_buf *out, const cJSON *states)
{
    const cJSON *s = NULL;

    at_buf_puts(out,
                "<div class=\"wide\"><table><tr><th>model</th><th class=\"n\">chosen likelier, "
                "%</th><th class=\"n\">drift, nats a token</th><th class=\"n\">words a "
                "reply</th><th class=\"n\">refusals, %</th><th class=\"n\">rules kept, "
                "%</th></tr>\n");
    cJSON_ArrayForEach(s, states)
    {
        const cJSON *replies = at_json_find(s, "replies"), *rules = at_json_find(s, "rules");
        at_buf_puts(out, "<tr><td class=\"path\">");
        html_text(out, string(s, "name"));
        at_buf_printf(out, "</td><td class=\"n\">%.1f</td>",
                      100 * number(at_json_find(s, "accuracy"), "value"));
        if (at_json_find(s, "drift"))
            at_buf_printf(out, "<td class=\"n\">%.4f</td>", number(s, "drift"));
        else
            at_buf_puts(out, "<td class=\"n\">\xE2\x80\x93</td>");
        if (replies)
            at_buf_printf(out, "<td class=\"n\">%.1f</td><td class=\"n\">%.1f</td>",
                          number(at_json_find(replies, "words"), "value"),
                          100 * number(at_json_find(replies, "refusals"), "value"));
        else
            at_buf_puts(out, "<td class=\"n\">\xE2\x80\x93</td><td class=\"n\">\xE2\x80\x93</td>");
        if (rules)
            at_buf_printf(out, "<td class=\"n\">%.1f</td></tr>\n", 100 * number(rules, "value"));
        else
            at_buf_puts(out, "<td class=\"n\">\xE2\x80\x93</td></tr>\n");
    }
    at_buf_puts(out, "</table></div>\n");
}

static void put_comparison(struct at_buf *out, const cJSON *c)
{
    at_buf_puts(out, "<p><b>");
    html_text(out, string(c, "name"));
    at_buf_puts(out, ": ");
    html_text(out, string(c, "verdict"));
    at_buf_puts(out, ".</b> Chosen likelier in ");
    put_interval(out, at_json_find(c, "accuracy"), 100);
    at_buf_printf(out, " points of the pairs than under the base; %.0f became right, %.0f wrong.",
                  number(c, "wins"), number(c, "losses"));
    if (at_json_find(c, "rules_lost"))
        at_buf_printf(out, " Regressions: of the rules %.0f were gained, %.0f lost.",
                      number(c, "rules_gained"), number(c, "rules_lost"));
    if (cJSON_IsTrue(at_json_find(c, "over_drift")))
        at_buf_puts(out, " It moved further than max_drift allows.");
    if (cJSON_IsTrue(at_json_find(c, "over_lost_rules")))
        at_buf_puts(out, " It lost more rules than the budget allows.");
    at_buf_puts(out, "</p>\n");
}

/* A share with its interval, as `attune compare` has it. */
static void put_share(struct at_buf *out, const cJSON *share)
{
    at_buf_printf(out, "%.1f %% [%.1f, %.1f]", 100 * number(share, "value"),
                  100 * number(share, "low"), 100 * number(share, "high"));
}

static void put_compared(struct at_buf *out, const cJSON *c)
{
    at_buf_puts(out, "<p><b>");
    html_text(out, string(c, "verdict"));
    at_buf_puts(out, ".</b> ");
    html_text(out, string(c, "after"));
    at_buf_puts(out, " against ");
    html_text(out, string(c, "before"));
    at_buf_puts(out, ", judged by ");
    html_text(out, string(c, "judge"));
    at_buf_puts(out, ": it wins ");
    put_share(out, at_json_find(c, "win_rate"));
    at_buf_printf(out, " of %.0f (%.0f better, %.0f worse, %.0f equal)",
                  number(at_json_find(c, "win_rate"), "n"), number(c, "wins"), number(c, "losses"),
                  number(c, "ties"));
    if (at_json_find(c, "length_controlled")) {
        at_buf_puts(out, "; at equal length ");
        put_share(out, at_json_find(c, "length_controlled"));
    }
    at_buf_puts(out, ".</p>\n");
}

AT_CHECKED page_judged(struct page *p)
{
    const struct at_report *r = p->report;
    struct at_buf *out = &p->text;
    const cJSON *item = NULL;

    if (r->eval) {
        at_buf_puts(out, "<section><h2>Judged beside the base</h2>\n");
        put_states(out, at_json_find(r->eval, "states"));
        cJSON_ArrayForEach(item, at_json_find(r->eval, "comparisons"))
        {
            put_comparison(out, item);
        }
        at_buf_puts(out, "</section>\n");
    }
    if (r->compare) {
        at_buf_puts(out, "<section><h2>Compared blind</h2>\n");
        put_compared(out, r->compare);
        cJSON_ArrayForEach(item, at_json_find(r->compare, "others"))
        {
            put_compared(out, item);
        }
        at_buf_puts(out, "</section>\n");
    }
    return at_buf_status(out);
}

/* ---- dial ---- */

/* A figure of the strengths over them; `part` NULL: the entry's own. */
static AT_CHECKED put_dial_chart(struct at_buf *out, const cJSON *strengths,
                                 const struct chart *chart, const char *part, const char *key)
{
    enum at_status st = AT_OK;
    struct curve curves[CHART_SERIES] = { { .n = 0 } };
    const cJSON *s = NULL;
    struct curve_point *points = NULL;

    TRY(at_alloc(&points, (size_t)cJSON_GetArraySize(strengths), sizeof *points));
    curves[0].points = points;
    cJSON_ArrayForEach(s, strengths)
    {
        const cJSON *value = at_json_find(part ? at_json_find(s, part) : s, key);
        if (cJSON_IsNumber(value))
            points[curves[0].n++] =
                (struct curve_point){ number(s, "adapter_scale"),
                                      (chart->scale > 0 ? chart->scale : 1) * value->valuedouble };
    }
    TRY(chart_write(out, chart, curves));
done:
    at_free(&points);
    return st;
}

/* A cell, a dash where nothing was measured. */
static void put_cell(struct at_buf *out, int digits, const cJSON *value, double scale)
{
    at_buf_puts(out, "<td class=\"n\">");
    if (cJSON_IsNumber(value))
        at_buf_printf(out, "%.*f", digits, scale * value->valuedouble);
    else
        at_buf_puts(out, "\xE2\x80\x93");
    at_buf_puts(out, "</td>");
}

static void put_strength(struct at_buf *out, const cJSON *s, bool chosen)
{
    const cJSON *accuracy = at_json_find(s, "accuracy");
    const cJSON *words = at_json_find(at_json_find(s, "replies"), "words");

    at_buf_printf(out, "<tr><td>%s%g%s</td><td class=\"n\">%.1f [%.1f, %.1f]</td>",
                  chosen ? "<b>" : "", number(s, "adapter_scale"), chosen ? ", chosen</b>" : "",
                  100 * number(accuracy, "value"), 100 * number(accuracy, "low"),
                  100 * number(accuracy, "high"));
    put_cell(out, 4, at_json_find(s, "drift"), 1);
    put_cell(out, 3, at_json_find(s, "perplexity"), 1);
    put_cell(out, 1, at_json_find(words, "value"), 1);
    put_cell(out, 1, at_json_find(at_json_find(s, "rules"), "value"), 100);
    at_buf_puts(out, "<td>");
    html_text(out, string(s, "not_chosen"));
    at_buf_puts(out, "</td></tr>\n");
}

AT_CHECKED page_dial(struct page *p)
{
    static const struct chart accuracy = { .id = "dial-accuracy",
                                           .title = "Chosen likelier",
                                           .unit = "%",
                                           .help = "of the pairs kept aside; higher is better",
                                           .by = "strength",
                                           .scale = 100,
                                           .look = 1,
                                           .series = { { .label = "held out" } } };
    static const struct chart drift = { .id = "dial-drift",
                                        .title = "Drift",
                                        .unit = "nats a token",
                                        .help =
                                            "how far replies are from the base's; lower is safer",
                                        .by = "strength",
                                        .look = 1,
                                        .series = { { .label = "held out" } } };
    enum at_status st = AT_OK;
    const cJSON *dial = p->report->dial, *strengths = at_json_find(dial, "strengths"), *s = NULL;
    struct at_buf *out = &p->text;

    if (!dial)
        return AT_OK;
    at_buf_puts(out,
                "<section><h2>How strong it should act</h2>\n<p class=\"soft\">The same adapter "
                "at several strengths (adapter_scale): 0 is the base, 1 what was "
                "trained.</p>\n<div class=\"charts\">\n");
    TRY(put_dial_chart(out, strengths, &accuracy, "accuracy", "value"));
    TRY(put_dial_chart(out, strengths, &drift, NULL, "drift"));
    at_buf_puts(out,
                "</div>\n<div class=\"wide\"><table><tr><th>strength</th><th class=\"n\">chosen "
                "likelier, %</th><th class=\"n\">drift</th><th class=\"n\">perplexity</th><th "
                "class=\"n\">words a reply</th><th class=\"n\">rules kept, %</th><th>why "
                "not</th></tr>\n");
    cJSON_ArrayForEach(s, strengths)
    {
        put_strength(out, s,
                     cJSON_IsNumber(at_json_find(dial, "chosen")) &&
                         number(dial, "chosen") == number(s, "adapter_scale"));
    }
    at_buf_puts(out, "</table></div></section>\n");
    TRY(at_buf_status(out));
done:
    return st;
}

/* ---- what was learnt ---- */

static void put_learnt(struct at_buf *out, const char *title, const cJSON *list)
{
    const cJSON *entry = NULL;
    bool any = false;

    at_buf_printf(out,
                  "<div><h3>%s</h3><table><tr><th>text</th><th class=\"n\">times</th><th "
                  "class=\"n\">log-ratio, nats</th></tr>\n",
                  title);
    cJSON_ArrayForEach(entry, list)
    {
        if (fabs(number(entry, "log_ratio")) < shown_from)
            continue;
        any = true;
        at_buf_puts(out, "<tr><td><mark>");
        html_text(out, string(entry, "text"));
        at_buf_printf(out, "</mark></td><td class=\"n\">%.0f</td><td class=\"n\">%+.2f</td></tr>\n",
                      number(entry, "n"), number(entry, "log_ratio"));
    }
    if (!any)
        at_buf_puts(out, "<tr><td colspan=\"3\">none</td></tr>\n");
    at_buf_puts(out, "</table></div>\n");
}

AT_CHECKED page_learnt(struct page *p)
{
    static const char *const parts[2] = { "tokens", "openings" };
    static const char *const titles[2][2] = {
        { "Pieces of words it now likes more", "Pieces of words it now avoids" },
        { "Openings it now likes more", "Openings it now avoids" }
    };
    struct at_buf *out = &p->text;

    if (!p->report->learnt)
        return AT_OK;
    at_buf_puts(out, "<section><h2>What was learnt</h2>\n<p class=\"soft\">How much likelier each "
                     "piece of the replies became (log-ratio to the model before, summed over all "
                     "replies): shows when it learnt the length or a symbol and not the tone."
                     "</p>\n<div class=\"lists\">\n");
    for (int k = 0; k < 2; k++) {
        const cJSON *part = at_json_find(p->report->learnt, parts[k]);
        put_learnt(out, titles[k][0], at_json_find(part, "gained"));
        put_learnt(out, titles[k][1], at_json_find(part, "lost"));
    }
    at_buf_puts(out, "</div></section>\n");
    return at_buf_status(out);
}

/* ---- pairs ---- */

static AT_CHECKED put_pair(struct page *p, struct at_arena *arena, const struct pair *pair)
{
    enum at_status st = AT_OK;
    struct at_buf *out = &p->text;
    const char *file = report_pair_file(p->report, pair->file);
    struct at_row_text text;

    TRY(at_row_text_find(&text, arena, file, pair->line));
    at_buf_puts(out, "<div class=\"pair\"><b>");
    at_buf_puts(out, pair_fate_names[pair->fate]);
    at_buf_printf(out, "</b>, margin %+.3f <small>", pair->last);
    html_text(out, file ? file : "file");
    at_buf_printf(out, ":%u</small>", pair->line);
    if (text.prompt) {
        at_buf_puts(out, "<p class=\"said\">");
        html_excerpt(out, text.prompt, EXCERPT);
        at_buf_puts(out, "</p>");
    }
    at_buf_puts(out, "<div class=\"sides\">");
    if (text.chosen) {
        at_buf_puts(out, "<div><small>marked as better</small><p class=\"said\">");
        html_excerpt(out, text.chosen, EXCERPT);
        at_buf_puts(out, "</p></div>");
    }
    if (text.rejected) {
        at_buf_puts(out, "<div><small>marked as worse</small><p class=\"said\">");
        html_excerpt(out, text.rejected, EXCERPT);
        at_buf_puts(out, "</p></div>");
    }
    at_buf_puts(out, "</div></div>\n");
done:
    return st;
}

AT_CHECKED page_pairs(struct page *p)
{
    enum at_status st = AT_OK;
    const struct pairs *pairs = &p->report->pairs;
    struct at_buf *out = &p->text;
    struct at_arena arena = { 0 };
    uint32_t shown = 0;

    if (pairs->n_judged == 0)
        goto done;
    at_buf_printf(out,
                  "<section><h2>Pairs to look at</h2>\n<p>Of %u pairs kept aside: %u learnt, %u "
                  "learnt backwards (likely a label error: the two replies may be swapped), %u "
                  "forgotten (right once, wrong at the end), %u never learnt.</p>\n",
                  pairs->n_judged, pairs->count[PAIR_LEARNT], pairs->count[PAIR_BACKWARDS],
                  pairs->count[PAIR_FORGOTTEN], pairs->count[PAIR_NEVER]);
    for (uint32_t i = 0; i < pairs->n_judged && shown < PAIRS_SHOWN; i++) {
        const struct pair *pair = &pairs->items[pairs->worst[i]];
        if (pair->fate == PAIR_LEARNT)
            break;
        TRY(put_pair(p, &arena, pair));
        shown++;
    }
    if (shown < pairs->n_judged - pairs->count[PAIR_LEARNT])
        at_buf_puts(out, "<p class=\"soft\">The worst are shown; --json lists all of them.</p>\n");
    at_buf_puts(out, "</section>\n");
    TRY(at_buf_status(out));
done:
    at_arena_release(&arena);
    return st;
}

/* ---- data ---- */

static int ascending(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static AT_CHECKED put_lengths(struct at_buf *out, const struct pairs *pairs)
{
    static const char *const names[2] = { "chosen", "rejected" };
    enum at_status st = AT_OK;
    uint32_t *n = NULL, longer = 0;

    TRY(at_alloc(&n, pairs->n, sizeof *n));
    at_buf_puts(out, "<h3>Lengths of the replies kept aside, in tokens</h3>\n<table><tr><th></th>"
                     "<th class=\"n\">a tenth up to</th><th class=\"n\">half</th><th "
                     "class=\"n\">nine tenths</th><th class=\"n\">longest</th></tr>\n");
    for (int k = 0; k < 2; k++) {
        for (uint32_t i = 0; i < pairs->n; i++) {
            n[i] = pairs->items[i].tokens[k];
            longer += k == 0 && n[i] > pairs->items[i].tokens[1];
        }
        qsort(n, pairs->n, sizeof *n, ascending);
        at_buf_printf(out,
                      "<tr><td>%s</td><td class=\"n\">%u</td><td class=\"n\">%u</td><td "
                      "class=\"n\">%u</td><td class=\"n\">%u</td></tr>\n",
                      names[k], n[(pairs->n - 1) / 10], n[(pairs->n - 1) / 2],
                      n[(pairs->n - 1) * 9UL / 10], n[pairs->n - 1]);
    }
    at_buf_printf(
        out, "</table>\n<p>The chosen reply is the longer one in %.1f %% of the pairs.%s</p>\n",
        100.0 * longer / pairs->n,
        longer > 0.7 * pairs->n
            ? " What is learnt may be the length: see the curve of margins by length."
            : "");
done:
    at_free(&n);
    return st;
}

AT_CHECKED page_data(struct page *p)
{
    enum at_status st = AT_OK;
    const struct at_report *r = p->report;
    const cJSON *data = at_json_find(r->run, "data"), *part = NULL;
    struct at_buf *out = &p->text;

    at_buf_puts(out, "<section><h2>Data</h2>\n<div class=\"wide\"><table><tr><th></th><th "
                     "class=\"n\">rows read</th><th class=\"n\">kept</th><th class=\"n\">of them "
                     "cut</th><th class=\"n\">left out</th></tr>\n");
    cJSON_ArrayForEach(part, data)
    {
        if (!cJSON_IsObject(part))
            continue;
        at_buf_puts(out, "<tr><td>");
        html_text(out, part->string);
        at_buf_printf(out,
                      "</td><td class=\"n\">%.0f</td><td class=\"n\">%.0f</td><td "
                      "class=\"n\">%.0f</td><td class=\"n\">%.0f</td></tr>\n",
                      number(part, "read"), number(part, "kept"), number(part, "cut"),
                      number(part, "dropped"));
    }
    at_buf_printf(out,
                  "</table></div>\n<p>%.0f %s were trained on, %.0f kept aside; %.0f tokens were "
                  "given to the training.</p>\n",
                  number(data, "train_rows"), report_trains_on(r), number(data, "eval_rows"),
                  number(r->run, "tokens_given"));
    if (r->pairs.n > 0 && r->pairs.items[0].tokens[0] > 0)
        TRY(put_lengths(out, &r->pairs));
    at_buf_puts(out, "</section>\n");
    TRY(at_buf_status(out));
done:
    return st;
}

/* ---- provenance ---- */

static void put_value(struct at_buf *out, const cJSON *value)
{
    struct at_buf text = { 0 };

    at_json_write(&text, value);
    if (at_buf_status(&text) == AT_OK)
        html_text(out, text.data);
    else
        out->failed = true;
    at_buf_release(&text);
}

static void put_row(struct at_buf *out, const char *name, const cJSON *value)
{
    at_buf_puts(out, "<tr><td>");
    html_text(out, name);
    at_buf_puts(out, "</td><td><code>");
    if (cJSON_IsString(value))
        html_text(out, value->valuestring);
    else if (value)
        put_value(out, value);
    else
        at_buf_puts(out, "\xE2\x80\x93"); /* a dash */
    at_buf_puts(out, "</code></td>");
}

/* Keys that somebody chose, or that a preset did, first: `defaults` are the others. */
static void put_keys(struct at_buf *out, const cJSON *config, bool defaults)
{
    const cJSON *key = NULL;

    at_buf_puts(out, "<table><tr><th>key</th><th>value</th><th>from</th></tr>\n");
    cJSON_ArrayForEach(key, config)
    {
        if ((strcmp(string(key, "from"), "default") == 0) != defaults)
            continue;
        put_row(out, key->string, at_json_find(key, "value"));
        at_buf_puts(out, "<td>");
        html_text(out, string(key, "from"));
        at_buf_puts(out, "</td></tr>\n");
    }
    at_buf_puts(out, "</table>\n");
}

AT_CHECKED page_provenance(struct page *p)
{
    const cJSON *run = p->report->run, *config = at_json_find(run, "config"), *item = NULL;
    struct at_buf *out = &p->text;

    at_buf_puts(out, "<section><h2>Where this comes from</h2>\n<table>\n");
    put_row(out, "attune", at_json_find(run, "attune"));
    at_buf_puts(out, "</tr>\n");
    put_row(out, "device", at_json_find(at_json_find(run, "device"), "name"));
    at_buf_puts(out, "</tr>\n");
    put_row(out, "driver", at_json_find(at_json_find(run, "device"), "driver"));
    at_buf_puts(out, "</tr>\n");
    put_row(out, "values trained", at_json_find(run, "trainable_values"));
    at_buf_puts(out, "</tr>\n</table>\n<h3>Digests</h3>\n<table>\n");
    cJSON_ArrayForEach(item, at_json_find(run, "digests"))
    {
        put_row(out, item->string, item);
        at_buf_puts(out, "</tr>\n");
    }
    cJSON_ArrayForEach(item, at_json_find(run, "data"))
    {
        if (!cJSON_IsObject(item))
            continue;
        put_row(out, item->string, at_json_find(item, "digest"));
        at_buf_puts(out, "</tr>\n");
    }
    at_buf_puts(out, "</table>\n<h3>Configuration, and where each value came from</h3>\n");
    put_keys(out, config, false);
    at_buf_puts(out, "<details><summary>Keys with their default</summary>\n");
    put_keys(out, config, true);
    at_buf_puts(out, "</details></section>\n");
    return at_buf_status(out);
}
