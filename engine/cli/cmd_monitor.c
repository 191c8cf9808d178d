/* `attune monitor`: replies after release beside the evaluation's. */
#include "cli.h"

#include "monitor.h"

#include <math.h>
#include <string.h>

enum drift { DRIFT_UNKNOWN, DRIFT_FEW, DRIFT_NONE, DRIFT_BETTER, DRIFT_CHANGED, DRIFT_WORSE };
static const char *const drift_names[] = { "", "too few", "none", "better", "changed", "worse" };

struct watch {
    struct cli_args *args;
    struct monitor_rules rules;
    struct monitor_figures now, then;
    struct at_estimate difference[MONITOR_FIGURES];
    enum drift drift[MONITOR_FIGURES];
    uint64_t n_feedback;
    bool compares;
};

static AT_CHECKED open_rules(struct watch *w)
{
    enum at_status st = AT_OK;
    const struct cli_args *a = w->args;

    TRY(at_arena_alloc(&w->args->arena, &w->rules.items, a->n_own + 1, sizeof(struct at_rule *)));
    TRY(at_arena_alloc(&w->args->arena, &w->rules.texts, a->n_own + 1, sizeof(cJSON *)));
    for (size_t i = 0; i < a->n_own; i++) {
        const size_t k = w->rules.n;
        if (strcmp(a->own[i].key, "rule") != 0)
            continue;
        TRY(at_json_load(&w->rules.texts[k], a->own[i].value));
        w->rules.n++;
        TRY(at_rule_open(&w->rules.items[k], w->rules.texts[k], a->own[i].value));
    }
done:
    return st;
}

static void close_rules(struct watch *w)
{
    for (size_t i = 0; i < w->rules.n; i++) {
        at_rule_close(&w->rules.items[i]);
        at_json_free(&w->rules.texts[i]);
    }
}

static void compare(struct watch *w)
{
    for (size_t i = 0; i < MONITOR_FIGURES; i++) {
        const struct at_estimate *now = &w->now.of[i], *then = &w->then.of[i];
        struct at_estimate *d = &w->difference[i];
        if (now->n == 0 || then->n == 0)
            continue;
        *d = monitor_difference(now, then);
        if (d->n < MONITOR_LEAST)
            w->drift[i] = DRIFT_FEW;
        else if (!(d->low > 0) && !(d->high < 0))
            w->drift[i] = DRIFT_NONE;
        else if (monitor_rows[i].good == MONITOR_ANY)
            w->drift[i] = DRIFT_CHANGED;
        else
            w->drift[i] = (d->value > 0) == (monitor_rows[i].good == MONITOR_MORE) ? DRIFT_BETTER
                                                                                   : DRIFT_WORSE;
    }
}

/* ---- output ---- */

static void print_value(const struct at_estimate *e, double scale)
{
    const int digits = scale > 1 ? 1 : 2;
    char interval[64] = "";

    if (isfinite(e->low))
        snprintf(interval, sizeof interval, "[%.*f, %.*f]", digits, scale * e->low, digits,
                 scale * e->high);
    printf("  %8.*f %-16s", digits, scale * e->value, interval);
}

static void print_text(const struct watch *w)
{
    printf("%-22s  %8s %-16s", "", "now", "");
    if (w->compares)
        printf("  %8s %-16s  drift", "before", "");
    printf("\n");
    for (size_t i = 0; i < MONITOR_FIGURES; i++) {
        const struct monitor_row *row = &monitor_rows[i];
        const double scale = row->share || i == MONITOR_REPETITION ? 100 : 1;
        char label[40];
        if (w->now.of[i].n == 0)
            continue;
        snprintf(label, sizeof label, "%s%s", row->text, row->share ? ", %" : "");
        printf("%-22s", label);
        print_value(&w->now.of[i], scale);
        if (w->drift[i] != DRIFT_UNKNOWN) {
            print_value(&w->then.of[i], scale);
            printf("  %s", w->drift[i] == DRIFT_NONE ? "-" : drift_names[w->drift[i]]);
        }
        printf("\n");
    }
}

static void add_number(cJSON *out, const char *name, double value)
{
    if (isfinite(value))
        cJSON_AddNumberToObject(out, name, value);
    else
        cJSON_AddNullToObject(out, name);
}

static void add_estimate(cJSON *out, const struct at_estimate *e)
{
    cJSON_AddNumberToObject(out, "value", e->value);
    add_number(out, "low", e->low);
    add_number(out, "high", e->high);
    cJSON_AddNumberToObject(out, "n", e->n);
}

static AT_CHECKED print_json(const struct watch *w)
{
    enum at_status st = AT_OK;
    cJSON *out = cJSON_CreateObject(), *figures = NULL;

    cJSON_AddStringToObject(out, "log", w->args->positional[0]);
    cJSON_AddNumberToObject(out, "replies", w->now.of[MONITOR_WORDS].n);
    cJSON_AddNumberToObject(out, "with_feedback", (double)w->n_feedback);
    figures = cJSON_AddObjectToObject(out, "figures");
    for (size_t i = 0; i < MONITOR_FIGURES; i++) {
        cJSON *figure = NULL;
        if (w->now.of[i].n == 0)
            continue;
        figure = cJSON_AddObjectToObject(figures, monitor_rows[i].name);
        add_estimate(figure, &w->now.of[i]);
        if (i == MONITOR_RULES)
            cJSON_AddItemToObject(figure, "of", monitor_rules_json(&w->rules));
        if (w->drift[i] == DRIFT_UNKNOWN)
            continue;
        add_estimate(cJSON_AddObjectToObject(figure, "before"), &w->then.of[i]);
        add_estimate(cJSON_AddObjectToObject(figure, "difference"), &w->difference[i]);
        cJSON_AddStringToObject(figure, "drift", drift_names[w->drift[i]]);
    }
    TRY(cli_print_pretty(out));
done:
    cJSON_Delete(out);
    return st;
}

/* ---- the command ---- */

/* Whether logs were compared, and no figure on enough replies. */
static bool is_too_few(const struct watch *w)
{
    bool judged = false;

    for (size_t i = 0; i < MONITOR_FIGURES; i++)
        judged = judged || w->drift[i] > DRIFT_FEW;
    return w->compares && !judged;
}

/* Drift for the better is no fault. */
static AT_CHECKED verdict(const struct watch *w)
{
    enum at_status st = AT_OK;
    struct at_buf list = { 0 };
    const char *log = w->args->positional[0];

    for (size_t i = 0; i < MONITOR_FIGURES; i++)
        if (w->drift[i] >= DRIFT_CHANGED)
            at_buf_printf(&list, "%s%s (%s)", list.n > 0 ? ", " : "", monitor_rows[i].text,
                          drift_names[w->drift[i]]);
    TRY(at_buf_status(&list));
    if (list.n > 0)
        FAIL(AT_OVER_BUDGET, "drift: %s; read such replies, and collect pairs for the next round",
             list.data);
    if (is_too_few(w))
        FAIL(AT_NO_EVIDENCE,
             "too few replies to judge drift by: %u in the log, %u before, and a figure is judged "
             "from %d of each on; let the log grow, or judge with more --n_replies",
             w->now.of[MONITOR_WORDS].n, w->then.of[MONITOR_WORDS].n, MONITOR_LEAST);
    if (w->n_feedback > 0)
        cli_next(
            "next       attune data convert %s --from feedback --only pairs --output next.jsonl",
            log);
    else if (!w->compares)
        cli_next(
            "next       attune monitor LATER.jsonl --against FILE, what this prints with --json");
    else
        cli_next("next       attune generate MODEL --prompts %s --pairs > candidates.jsonl", log);
done:
    at_buf_release(&list);
    return st;
}

enum at_status cli_monitor(struct cli_args *args)
{
    enum at_status st = AT_OK;
    struct watch w = { .args = args };

    if (args->n_positional == 0)
        FAIL(AT_USAGE, "usage: attune monitor %s", args->command->usage);
    TRY(open_rules(&w));
    for (size_t i = 0; i < args->n_own; i++)
        if (strcmp(args->own[i].key, "against") == 0) {
            TRY(monitor_read(&w.then, args->own[i].value, &w.rules));
            w.compares = true;
        }
    TRY(monitor_measure(&w.now, &w.n_feedback, args->positional[0], &w.rules));
    compare(&w);
    cli_note("replies    %u, of %llu an edit or a thumb is known", w.now.of[MONITOR_WORDS].n,
             (unsigned long long)w.n_feedback);
    if (cli_flag_on(args, "json"))
        TRY(print_json(&w));
    else
        print_text(&w);
    TRY(verdict(&w));
done:
    close_rules(&w);
    return st;
}
