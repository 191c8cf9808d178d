#include "monitor.h"

#include "feedback.h"
#include "lines.h"
#include "lint.h"
#include "metrics.h"
#include "overlap.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const struct monitor_row monitor_rows[MONITOR_FIGURES] = {
    [MONITOR_COMPLETED] = { "completed", "completed", true, MONITOR_MORE },
    [MONITOR_COMPLETION_TOKENS] = { "completion_tokens", "tokens a reply", false, MONITOR_ANY },
    [MONITOR_EDITED] = { "edited", "edited by people", true, MONITOR_LESS },
    [MONITOR_ENDED] = { "ended", "ended by themselves", true, MONITOR_MORE },
    [MONITOR_ESCALATED] = { "escalated", "escalated", true, MONITOR_LESS },
    [MONITOR_FLAGGED] = { "flagged", "flagged", true, MONITOR_LESS },
    [MONITOR_LATENCY_S] = { "latency_s", "latency, s", false, MONITOR_LESS },
    [MONITOR_PROMPT_TOKENS] = { "prompt_tokens", "tokens a prompt", false, MONITOR_ANY },
    [MONITOR_REFUSALS] = { "refusals", "refusals", true, MONITOR_LESS },
    [MONITOR_REPETITION] = { "repetition", "repeated, % of words", false, MONITOR_LESS },
    [MONITOR_RULES] = { "rules", "keep the rules", true, MONITOR_MORE },
    [MONITOR_THUMBS_UP] = { "thumbs_up", "thumbs up", true, MONITOR_MORE },
    [MONITOR_WORDS] = { "words", "words a reply", false, MONITOR_ANY },
};

/* ---- measuring ---- */

struct sums {
    double n, sum, squares;
};
struct measuring {
    struct sums of[MONITOR_FIGURES];
    const struct monitor_rules *rules;
};

static void add(struct measuring *m, enum monitor_figure figure, double value)
{
    struct sums *s = &m->of[figure];

    if (isnan(value))
        return;
    s->n++;
    s->sum += value;
    s->squares += value * value;
}

static void add_told(struct measuring *m, enum monitor_figure figure, enum at_told told)
{
    if (told != AT_UNTOLD)
        add(m, figure, told == AT_TOLD_YES);
}

static AT_CHECKED add_rules(struct measuring *m, const char *reply)
{
    enum at_status st = AT_OK;
    bool kept = true;

    for (size_t i = 0; i < m->rules->n && kept; i++)
        TRY(at_rule_check(&kept, m->rules->items[i], reply));
    if (m->rules->n > 0)
        add(m, MONITOR_RULES, kept);
done:
    return st;
}

static AT_CHECKED add_reply(struct measuring *m, const struct at_feedback *f, bool asked)
{
    enum at_status st = AT_OK;
    double repetition = 0;

    TRY(at_repetition(&repetition, f->reply));
    TRY(add_rules(m, f->reply));
    add(m, MONITOR_REPETITION, repetition);
    add(m, MONITOR_REFUSALS, at_lint_find_refusal(f->reply) != NULL);
    add(m, MONITOR_WORDS, at_words(f->reply));
    add(m, MONITOR_COMPLETION_TOKENS, f->completion_tokens);
    add(m, MONITOR_LATENCY_S, f->latency_s);
    add(m, MONITOR_PROMPT_TOKENS, f->prompt_tokens);
    if (asked)
        add(m, MONITOR_EDITED, f->edit != NULL);
    add_told(m, MONITOR_COMPLETED, f->completed);
    add_told(m, MONITOR_ENDED, f->ended);
    add_told(m, MONITOR_ESCALATED, f->escalated);
    add_told(m, MONITOR_FLAGGED, f->flagged);
    add_told(m, MONITOR_THUMBS_UP, f->thumb);
done:
    return st;
}

static struct at_estimate share_estimate(double hits, double n)
{
    const struct at_share s = at_share_of(hits, n);

    return (struct at_estimate){ s.value, s.low, s.high, (uint32_t)n };
}

static struct at_estimate estimate(const struct sums *s, bool share)
{
    const double mean = s->sum / s->n;
    const double variance = (s->squares - s->sum * mean) / (s->n - 1);
    const double half = 1.959963984540054 * sqrt(fmax(0, variance) / s->n);

    if (s->n == 0)
        return (struct at_estimate){ .n = 0 };
    if (share)
        return share_estimate(s->sum, s->n);
    if (s->n == 1)
        return (struct at_estimate){ mean, -INFINITY, INFINITY, 1 };
    return (struct at_estimate){ mean, mean - half, mean + half, (uint32_t)s->n };
}

static AT_CHECKED measure_line(struct measuring *m, uint64_t *n_feedback,
                               const struct at_line *line)
{
    enum at_status st = AT_OK;
    struct at_feedback f;
    cJSON *row = NULL;

    TRY(at_json_parse(&row, line->text, line->n, line->path, line->number));
    st = at_feedback_read(&f, row);
    if (st != AT_OK)
        at_context("%s:%u", line->path, line->number);
    TRY(st);
    /* "edit": null says that people could have edited it, and did not */
    TRY(add_reply(m, &f, at_json_find(row, "edit") != NULL));
    *n_feedback += f.edit || f.thumb != AT_UNTOLD;
done:
    at_json_free(&row);
    return st;
}

AT_CHECKED monitor_measure(struct monitor_figures *out, uint64_t *n_feedback, const char *path,
                           const struct monitor_rules *rules)
{
    enum at_status st = AT_OK;
    struct measuring m = { .rules = rules };
    struct at_lines lines;
    struct at_line line;
    bool found = true;

    *n_feedback = 0;
    TRY(at_lines_open(&lines, path));
    for (;;) {
        TRY(at_lines_next(&lines, &line, &found));
        if (!found)
            break;
        TRY(measure_line(&m, n_feedback, &line));
    }
    if (m.of[MONITOR_WORDS].n == 0)
        FAIL(AT_DATA, "%s: the log has no replies; a JSON object a line is expected", path);
    for (size_t i = 0; i < MONITOR_FIGURES; i++)
        out->of[i] = estimate(&m.of[i], monitor_rows[i].share);
done:
    at_lines_close(&lines);
    return st;
}

/* ---- reading what was measured ---- */

/* {"value", "low", "high", "n"}; null: an interval that is not known. */
static AT_CHECKED read_estimate(struct at_estimate *out, const cJSON *json, const char *name)
{
    enum at_status st = AT_OK;
    struct at_estimate e = { .value = NAN, .low = -INFINITY, .high = INFINITY };
    const double rounding = 1e-9; /* Wilson's limits of 0 and 1 */
    double n = 0;

    TRY(at_json_get_double(&e.value, json, "value", name));
    TRY(at_json_get_double(&n, json, "n", name));
    if (cJSON_IsNumber(at_json_find(json, "low")))
        TRY(at_json_get_double(&e.low, json, "low", name));
    if (cJSON_IsNumber(at_json_find(json, "high")))
        TRY(at_json_get_double(&e.high, json, "high", name));
    if (isnan(e.value) || !(n >= 1 && n <= UINT32_MAX) || e.low > e.value + rounding ||
        e.high < e.value - rounding)
        FAIL(AT_DATA, "%s: \"value\" within \"low\" and \"high\", and \"n\" are expected", name);
    e.n = (uint32_t)n;
    *out = e;
done:
    return st;
}

cJSON *monitor_rules_json(const struct monitor_rules *rules)
{
    cJSON *list = cJSON_CreateArray();

    for (size_t i = 0; i < rules->n; i++)
        cJSON_AddItemToArray(list, cJSON_Duplicate(rules->texts[i], true));
    return list;
}

/* Whether a share is of replies that keep these rules. */
static bool is_of_rules(const cJSON *figure, const struct monitor_rules *rules, const char *path)
{
    cJSON *ours = monitor_rules_json(rules);
    const bool same = cJSON_Compare(at_json_find(figure, "of"), ours, true);

    cJSON_Delete(ours);
    if (!same && rules->n > 0)
        at_warn("other_rules",
                "%s: its share of replies that keep the rules is of other rules, and is not "
                "compared; give both the same --rule",
                path);
    return same;
}

/* rules NULL: "rules" in it are an evaluation's own, of other prompts. */
static AT_CHECKED read_figures(struct monitor_figures *out, const cJSON *from, const char *path,
                               const struct monitor_rules *rules)
{
    enum at_status st = AT_OK;
    char name[512];

    for (size_t i = 0; i < MONITOR_FIGURES; i++) {
        const cJSON *json = at_json_find(from, monitor_rows[i].name);
        snprintf(name, sizeof name, "%s: \"%s\"", path, monitor_rows[i].name);
        if (json && i == MONITOR_RULES && !(rules && is_of_rules(json, rules, path)))
            continue;
        if (json)
            TRY(read_estimate(&out->of[i], json, name));
    }
done:
    return st;
}

/* Eval's own rules are of other prompts: these are held against the replies that it shows. */
static AT_CHECKED read_texts(struct monitor_figures *out, const cJSON *eval,
                             const struct monitor_rules *rules)
{
    enum at_status st = AT_OK;
    struct measuring m = { .rules = rules };
    const cJSON *entry = NULL;

    cJSON_ArrayForEach(entry, at_json_find(eval, "texts"))
    {
        const cJSON *list = at_json_find(entry, "replies");
        const char *reply =
            cJSON_GetStringValue(cJSON_GetArrayItem(list, cJSON_GetArraySize(list) - 1));
        if (reply)
            TRY(add_rules(&m, reply));
    }
    if (m.of[MONITOR_RULES].n > 0)
        out->of[MONITOR_RULES] = estimate(&m.of[MONITOR_RULES], true);
done:
    return st;
}

AT_CHECKED monitor_read(struct monitor_figures *out, const char *path,
                        const struct monitor_rules *rules)
{
    enum at_status st = AT_OK;
    cJSON *json = NULL;
    const cJSON *figures = NULL, *states = NULL, *replies = NULL;

    TRY(at_json_load(&json, path));
    figures = at_json_find(json, "figures");
    states = at_json_find(json, "states");
    if (cJSON_IsObject(figures)) {
        TRY(read_figures(out, figures, path, rules));
    } else if (cJSON_IsArray(states) && states->child) {
        replies =
            at_json_find(cJSON_GetArrayItem(states, cJSON_GetArraySize(states) - 1), "replies");
        if (!replies)
            FAIL(AT_DATA, "%s: the evaluation wrote no replies; give it --n_replies", path);
        TRY(read_figures(out, replies, path, NULL));
        TRY(read_texts(out, json, rules));
    } else {
        FAIL(AT_DATA,
             "%s: what `attune eval --json` or `attune monitor --json` printed is expected", path);
    }
done:
    at_json_free(&json);
    return st;
}

/* ---- comparing ---- */

struct at_estimate monitor_difference(const struct at_estimate *now, const struct at_estimate *then)
{
    const double wider = 2.807033768343811 / 1.959963984540054; /* from 95 % to 99.5 % */
    const double d = now->value - then->value;
    const double below = hypot(now->value - now->low, then->high - then->value);
    const double above = hypot(now->high - now->value, then->value - then->low);

    return (struct at_estimate){ d, d - wider * below, d + wider * above,
                                 now->n < then->n ? now->n : then->n };
}
