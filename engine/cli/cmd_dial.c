/* `attune dial`: how strong a trained adapter should act, measured with one load of the model. */
#include "cli.h"

#include "eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DIAL_FILE "dial.json"
enum { MAX_STRENGTHS = 32 };
static const double usual_strengths[] = { 0, 0.25, 0.5, 0.75, 1, 1.25, 1.5 };

struct dial {
    struct cli_args *args;
    const char *dir;
    struct at_config config;
    const char *rows;
    struct eval_params params;
    double max_longer; /* words a reply: at most this times the base's, at least its inverse */
    double scales[MAX_STRENGTHS];
    size_t n;
    struct eval_state states[MAX_STRENGTHS];
    struct eval_comparison with_base[MAX_STRENGTHS], with_best[MAX_STRENGTHS];
    const char *why_not[MAX_STRENGTHS]; /* NULL: within budgets */
    size_t best, chosen;                /* chosen 0: none */
    struct at_arena arena;
};

/* ---- what is measured ---- */

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* "0.5,1": sorted, and 0 always among them: it is the base. */
static AT_CHECKED read_strengths(struct dial *d)
{
    enum at_status st = AT_OK;
    const char *text = cli_flag_text(d->args, "strengths"), *at = text;
    size_t distinct = 0;

    if (!text) {
        memcpy(d->scales, usual_strengths, sizeof usual_strengths);
        d->n = AT_COUNT(usual_strengths);
        goto done;
    }
    d->scales[d->n++] = 0;
    while (*at) {
        char *end = NULL;
        const double x = strtod(at, &end);
        if (end == at || !(x >= 0 && x <= 10) || (*end && *end != ','))
            FAIL(AT_USAGE, "--strengths %s: numbers from 0 to 10 with commas between are expected",
                 text);
        if (d->n == MAX_STRENGTHS)
            FAIL(AT_USAGE, "--strengths %s: at most %d are measured", text, MAX_STRENGTHS - 1);
        d->scales[d->n++] = x;
        at = *end ? end + 1 : end;
    }
    qsort(d->scales, d->n, sizeof *d->scales, by_size);
    for (size_t i = 0; i < d->n; i++)
        if (i == 0 || d->scales[i] != d->scales[distinct - 1])
            d->scales[distinct++] = d->scales[i];
    d->n = distinct;
    if (d->n < 2)
        FAIL(AT_USAGE, "--strengths %s: one above 0 is needed", text);
done:
    return st;
}

static AT_CHECKED find_rows(struct dial *d)
{
    d->rows = cli_flag_text(d->args, "rows");
    if (!d->rows)
        return eval_rows_of_run(&d->rows, &d->arena, &d->config, d->dir);
    if (!at_path_exists(d->rows))
        return at_fail(AT_NOT_FOUND, "--rows %s: no such file", d->rows);
    return AT_OK;
}

static AT_CHECKED read_params(struct dial *d)
{
    enum at_status st = AT_OK;
    const struct cli_args *a = d->args;
    struct eval_params *p = &d->params;

    *p = (struct eval_params){ .rules = cli_flag_text(a, "rules"),
                               .n_replies = 16,
                               .max_new_tokens = 96,
                               .seed = d->config.seed,
                               .max_drift = NAN,
                               .max_lost = 0.05 };
    if (d->config.is_set[AT_KEY_max_drift])
        p->max_drift = d->config.max_drift;
    d->max_longer = 1.5;
    TRY(cli_flag_u32(&p->n_replies, a, "n_replies", 0, 1000000));
    TRY(cli_flag_u32(&p->max_new_tokens, a, "max_new_tokens", 1, 1000000));
    TRY(cli_flag_f64(&p->max_lost, a, "max_lost_rules", 0, 1));
    TRY(cli_flag_f64(&d->max_longer, a, "max_longer", 1, 1000));
done:
    return st;
}

static AT_CHECKED open_dial(struct dial *d)
{
    enum at_status st = AT_OK;
    char *path = NULL;

    if (d->args->n_positional == 0)
        FAIL(AT_USAGE, "the folder of a run is missing: attune dial DIR");
    d->dir = d->args->positional[0];
    if (!at_path_is_dir(d->dir))
        FAIL(AT_NOT_FOUND, "%s is no folder; name the output_dir of a run", d->dir);
    TRY(read_strengths(d));
    TRY(eval_config_of_run(&d->config, d->dir, d->args->keys, d->args->n_keys));
    TRY(find_rows(d));
    TRY(read_params(d));
    TRY(at_path_join(&d->args->arena, &path, d->dir, DIAL_FILE));
    TRY(at_file_check_writable(path));
    eval_take_rows(&d->config, &d->rows);
    for (size_t i = 0; i < d->n; i++) {
        char *name = NULL;
        TRY(at_arena_printf(&d->arena, &name, "%g", d->scales[i]));
        d->states[i] =
            (struct eval_state){ .name = name, .adapter = d->dir, .scale = d->scales[i] };
    }
done:
    return st;
}

/* ---- the choice ---- */

static AT_CHECKED over_budget(struct dial *d, size_t i)
{
    enum at_status st = AT_OK;
    const struct eval_state *s = &d->states[i], *base = &d->states[0];
    const struct eval_comparison *c = &d->with_base[i];
    const double words = base->words.value > 0 ? s->words.value / base->words.value : 1;
    char *why = NULL;

    if (c->over_drift)
        TRY(at_arena_printf(&d->arena, &why, "drift over max_drift %g", d->params.max_drift));
    else if (c->over_lost)
        TRY(at_arena_printf(&d->arena, &why, "loses over %g %% of the rules",
                            100 * d->params.max_lost));
    else if (base->n_replies > 0 && (words > d->max_longer || words < 1 / d->max_longer))
        TRY(at_arena_printf(&d->arena, &why, "replies %.2f times as long as the base's", words));
    else if (d->scales[i] > 1 && isnan(d->params.max_drift))
        TRY(at_arena_printf(&d->arena, &why, "stronger than it was trained: set --max_drift"));
    d->why_not[i] = why;
done:
    return st;
}

/* The strongest within budgets that is not clearly worse than the base, nor than the best of those
 * within budgets. */
static AT_CHECKED choose(struct dial *d)
{
    enum at_status st = AT_OK;

    for (size_t i = 1; i < d->n; i++) {
        TRY(eval_compare(&d->with_base[i], &d->states[0], &d->states[i], &d->params));
        TRY(over_budget(d, i));
        if (!d->why_not[i] && (d->states[i].accuracy.value >= d->states[d->best].accuracy.value))
            d->best = i;
    }
    for (size_t i = 1; i < d->n; i++) {
        TRY(eval_compare(&d->with_best[i], &d->states[d->best], &d->states[i], &d->params));
        if (d->why_not[i])
            continue;
        if (d->with_best[i].verdict == EVAL_WORSE)
            TRY(at_arena_printf(&d->arena, (char **)&d->why_not[i],
                                "clearly fewer pairs right than at %g", d->scales[d->best]));
        else
            d->chosen = i;
    }
done:
    return st;
}

/* ---- output ---- */

static void print_table(const struct dial *d)
{
    const bool replies = d->states[0].n_replies > 0, rules = d->states[0].n_rules > 0;

    printf("%8s  %17s  %8s  %10s%s%s\n", "strength", "chosen likelier, %", "drift", "perplexity",
           replies ? "  words a reply" : "", rules ? "  rules kept, %" : "");
    for (size_t i = 0; i < d->n; i++) {
        const struct eval_state *s = &d->states[i];
        printf("%8g  %5.1f [%4.1f,%5.1f]  ", d->scales[i], 100 * s->accuracy.value,
               100 * s->accuracy.low, 100 * s->accuracy.high);
        if (s->has_drift)
            printf("%8.4f", s->drift);
        else
            printf("%8s", "-");
        printf("  %10.3f", s->perplexity);
        if (replies)
            printf("  %13.1f", s->words.value);
        if (rules)
            printf("  %13.1f", 100.0 * s->n_passed / s->n_rules);
        printf("  %s\n", i == d->chosen && i > 0 ? "<- chosen"
                         : i == 0                ? "the base"
                         : d->why_not[i]         ? d->why_not[i]
                                                 : "");
    }
}

static cJSON *to_json(const struct dial *d)
{
    cJSON *out = cJSON_CreateObject(), *list = NULL;

    cJSON_AddStringToObject(out, "adapter", d->dir);
    cJSON_AddStringToObject(out, "rows", d->rows);
    if (!isnan(d->params.max_drift))
        cJSON_AddNumberToObject(out, "max_drift", d->params.max_drift);
    cJSON_AddNumberToObject(out, "max_lost_rules", d->params.max_lost);
    cJSON_AddNumberToObject(out, "max_longer", d->max_longer);
    if (d->chosen > 0)
        cJSON_AddNumberToObject(out, "chosen", d->scales[d->chosen]);
    else
        cJSON_AddNullToObject(out, "chosen");
    list = cJSON_AddArrayToObject(out, "strengths");
    for (size_t i = 0; i < d->n; i++) {
        cJSON *entry = eval_state_json(&d->states[i]);
        cJSON_AddNumberToObject(entry, "adapter_scale", d->scales[i]);
        if (i > 0)
            cJSON_AddStringToObject(entry, "against_base",
                                    eval_verdict_word(d->with_base[i].verdict));
        if (d->why_not[i])
            cJSON_AddStringToObject(entry, "not_chosen", d->why_not[i]);
        cJSON_AddItemToArray(list, entry);
    }
    return out;
}

static AT_CHECKED write_out(const struct dial *d)
{
    enum at_status st = AT_OK;
    cJSON *json = to_json(d);
    char *path = NULL;

    TRY(at_path_join(&d->args->arena, &path, d->dir, DIAL_FILE));
    TRY(at_json_save(path, json));
    if (cli_flag_on(d->args, "json"))
        TRY(cli_print_pretty(json));
    else
        print_table(d);
    cli_note("curve      %s, and on the page of: attune report %s", path, d->dir);
done:
    cJSON_Delete(json);
    return st;
}

/* The exit code: 0 where the chosen strength is better than the base, 3 where that does not show.
 */
static AT_CHECKED conclude(const struct dial *d)
{
    enum at_status st = AT_OK;
    const struct eval_comparison *c = &d->with_base[d->chosen];

    if (d->chosen == 0)
        FAIL(AT_OVER_BUDGET, "no strength above 0 is within the budgets; at %g: %s", d->scales[1],
             d->why_not[1]);
    cli_note("chosen     adapter_scale %g: %+.1f points of the %u pairs [%+.1f, %+.1f] against the "
             "base",
             d->scales[d->chosen], 100 * c->accuracy.value, c->accuracy.n, 100 * c->accuracy.low,
             100 * c->accuracy.high);
    cli_next("next       attune export %s --adapter_scale %g --output tone.gguf", d->dir,
             d->scales[d->chosen]);
    if (c->verdict == EVAL_WORSE)
        FAIL(AT_OVER_BUDGET,
             "at every strength within the budgets fewer pairs are right than under "
             "the base");
    if (c->verdict == EVAL_OPEN)
        FAIL(AT_NO_EVIDENCE,
             "not enough evidence that adapter_scale %g is better than the base: %u pairs became "
             "right, %u wrong (p %.3g); hold out more pairs",
             d->scales[d->chosen], c->wins, c->losses, c->p);
done:
    return st;
}

enum at_status cli_dial(struct cli_args *args)
{
    enum at_status st = AT_OK;
    struct dial *d = NULL;

    TRY(at_alloc(&d, 1, sizeof *d));
    d->args = args;
    TRY(open_dial(d));
    TRY(eval_measure(d->states, d->n, &d->config, &d->params));
    TRY(choose(d));
    TRY(write_out(d));
    TRY(conclude(d));
done:
    for (size_t i = 0; d && i < d->n; i++)
        eval_release(&d->states[i]);
    if (d) {
        at_arena_release(&d->arena);
        at_config_release(&d->config);
    }
    at_free(&d);
    return st;
}
