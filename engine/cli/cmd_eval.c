#include "cli.h"

#include "adapter.h"
#include "eval.h"
#include "record.h"
#include "report.h"
#include "stores.h"

#include <math.h>
#include <string.h>

struct judging {
    struct cli_args *args;
    struct at_config config;
    const char *rows; /* the held-out pairs */
    struct eval_params params;
    double target;             /* share of pairs; NAN: none */
    struct eval_state *states; /* the base first, then as it is prompted, then adapters */
    size_t n, first_adapter;
    struct eval_comparison *comparisons; /* (n) of each with the base; [0] is empty */
    struct at_arena arena;
};

/* ---- what is judged ---- */

static AT_CHECKED add_state(struct judging *j, const char *name, const char *adapter,
                            const char *system)
{
    enum at_status st = AT_OK;
    char *copy = NULL;

    if (adapter)
        TRY(at_adapter_check_folder(adapter));
    TRY(at_arena_strdup(&j->arena, &copy, name));
    j->states[j->n] =
        (struct eval_state){ .name = copy, .adapter = adapter, .system = system, .scale = 1 };
    if (adapter)
        TRY(cli_flag_f64(&j->states[j->n].scale, j->args, "adapter_scale", -100, 100));
    j->n++;
done:
    return st;
}

/* Few-shot: the base with examples in front. */
static AT_CHECKED add_few_shot(struct judging *j)
{
    enum at_status st = AT_OK;
    const char *path = cli_flag_text(j->args, "few_shot");
    uint32_t n = 4;
    char *name = NULL;

    TRY(cli_flag_u32(&n, j->args, "n_few_shot", 0, 1000));
    if (!path && cli_flag_text(j->args, "n_few_shot"))
        FAIL(AT_USAGE, "--n_few_shot counts the examples of --few_shot FILE.jsonl, which is not "
                       "given");
    if (!path || n == 0)
        goto done;
    TRY(at_arena_printf(&j->arena, &name, "base with %u example%s", n, n > 1 ? "s" : ""));
    TRY(add_state(j, name, NULL, NULL));
    TRY(at_examples_load(&j->states[j->n - 1].examples, &j->arena, path, n));
done:
    return st;
}

static AT_CHECKED list_states(struct judging *j)
{
    enum at_status st = AT_OK;
    const struct cli_args *a = j->args;
    const char *prompt = cli_flag_text(a, "baseline_prompt");

    TRY(at_arena_alloc(&j->arena, &j->states, a->n_own + 4, sizeof *j->states));
    TRY(add_state(j, "base", NULL, NULL));
    if (prompt)
        TRY(add_state(j, "base with the prompt", NULL, prompt));
    TRY(add_few_shot(j));
    j->first_adapter = j->n;
    for (size_t i = 0; i < a->n_own; i++)
        if (strcmp(a->own[i].key, "adapter") == 0)
            TRY(add_state(j, a->own[i].value, a->own[i].value, NULL));
    if (j->n == j->first_adapter && j->config.adapter_name_or_path)
        TRY(add_state(j, j->config.adapter_name_or_path, j->config.adapter_name_or_path, NULL));
    if (j->n == 1)
        FAIL(AT_USAGE, "nothing to judge: name an adapter with --adapter DIR, a system prompt with "
                       "--baseline_prompt TEXT, or examples with --few_shot FILE.jsonl");
    TRY(cli_check_scale(a, j->n - j->first_adapter));
    TRY(at_arena_alloc(&j->arena, &j->comparisons, j->n, sizeof *j->comparisons));
done:
    return st;
}

/* A file that was named, else what a run with eval_split held out, which lies beside its adapter.
 */
static AT_CHECKED find_rows(struct judging *j)
{
    enum at_status st = AT_OK;
    struct cli_args *a = j->args;
    char *path = NULL;

    if (a->n_positional > 0 && cli_is_data(a->positional[0])) {
        j->rows = a->positional[0];
        goto done;
    }
    if (j->config.eval_dataset.n > 1)
        FAIL(AT_USAGE, "eval_dataset names %zu files; join them, or name one: --eval_dataset FILE",
             j->config.eval_dataset.n);
    if (j->config.eval_dataset.n == 1) {
        j->rows = j->config.eval_dataset.items[0];
        goto done;
    }
    for (size_t i = j->n; i-- > j->first_adapter && !j->rows;) {
        TRY(at_path_join(&j->arena, &path, j->states[i].adapter, AT_SPLIT_EVAL));
        if (at_path_exists(path))
            j->rows = path;
    }
    if (!j->rows)
        FAIL(AT_USAGE, "no held-out pairs: name a file of them, or give eval_dataset; a run with "
                       "eval_split writes " AT_SPLIT_EVAL " into its output_dir");
done:
    return st;
}

static AT_CHECKED read_params(struct judging *j)
{
    enum at_status st = AT_OK;
    const struct cli_args *a = j->args;
    struct eval_params *p = &j->params;

    *p = (struct eval_params){ .rules = cli_flag_text(a, "rules"),
                               .n_replies = 32,
                               .max_new_tokens = 96,
                               .seed = j->config.seed,
                               .max_drift = NAN,
                               .max_lost = 0.05 };
    if (j->config.is_set[AT_KEY_max_drift])
        p->max_drift = j->config.max_drift;
    TRY(cli_flag_u32(&p->n_replies, a, "n_replies", 0, 1000000));
    TRY(cli_flag_u32(&p->max_new_tokens, a, "max_new_tokens", 1, 1000000));
    TRY(cli_flag_f64(&p->max_lost, a, "max_lost_rules", 0, 1));
    j->target = NAN;
    TRY(cli_flag_f64(&j->target, a, "target", 0, 1));
done:
    return st;
}

/* The pairs are scored as DPO's rows are read, whatever trained. Without a configuration or a
 * file of rows those of the (last) adapter's run are taken. */
static AT_CHECKED read_config(struct judging *j)
{
    enum at_status st = AT_OK;
    struct at_config *c = &j->config;
    const enum at_method pairs = AT_DPO;
    const char *adapter = cli_flag_text(j->args, "adapter");
    const char *output = cli_flag_text(j->args, "output");

    if (j->args->n_positional == 0 && adapter)
        TRY(eval_config_of_run(c, adapter, j->args->keys, j->args->n_keys));
    else if (j->args->n_positional > 0 && cli_is_data(j->args->positional[0]))
        TRY(cli_data_config_read(c, j->args));
    else
        TRY(cli_config_read(c, j->args, j->args->n_positional > 0 ? NULL : &pairs));
    if (at_method_get(c->run_method)->value_head)
        FAIL(AT_USAGE, "a reward model has no log-probs to judge; `attune score` prints its "
                       "rewards");
    TRY(list_states(j));
    TRY(find_rows(j));
    TRY(read_params(j));
    if (output)
        TRY(at_file_check_writable(output));
    eval_take_rows(c, &j->rows);
done:
    return st;
}

/* ---- output ---- */

enum { COLUMN = 20 };

/* A name that fits above a column, or the last folders of a path that do; NULL where there are none
 * or another column's name ends with them. */
static const char *short_name(const struct judging *j, size_t i)
{
    const char *name = j->states[i].name;

    if (strlen(name) <= COLUMN)
        return name;
    while (name && strlen(name) > COLUMN) {
        name = strchr(name, '/');
        name = name ? name + 1 : NULL;
    }
    for (size_t k = 0; k < j->n && name; k++) {
        const char *other = j->states[k].name;
        const size_t n = strlen(name), m = strlen(other);
        if (k != i && m >= n && strcmp(other + m - n, name) == 0)
            name = NULL;
    }
    return name && *name ? name : NULL;
}

/* Columns whose name is too long are numbered, and named before the table. */
static void print_heads(const struct judging *j)
{
    for (size_t i = 0; i < j->n; i++)
        if (!short_name(j, i))
            printf("[%zu] %s\n", i, j->states[i].name);
    printf("%-22s", "");
    for (size_t i = 0; i < j->n; i++) {
        const char *name = short_name(j, i);
        char number[24];
        snprintf(number, sizeof number, "[%zu]", i);
        printf("  %*s", COLUMN, name ? name : number);
    }
}

static void print_states(const struct judging *j)
{
    const struct eval_state *s = j->states;

    print_heads(j);
#define ROW(label, format, value)            \
    do {                                     \
        printf("\n%-22s", label);            \
        for (size_t i = 0; i < j->n; i++)    \
            printf("  %20" format, (value)); \
    } while (0)
    ROW("chosen likelier, %", ".1f", 100 * s[i].accuracy.value);
    ROW("  from", ".1f", 100 * s[i].accuracy.low);
    ROW("  to", ".1f", 100 * s[i].accuracy.high);
    ROW("margin, nats a token", ".4f", s[i].margin.value);
    ROW("perplexity of chosen", ".3f", s[i].perplexity);
    ROW("prompt tokens", ".1f", s[i].prompt_tokens);
    printf("\n%-22s", "drift, nats a token");
    for (size_t i = 0; i < j->n; i++)
        if (s[i].has_drift)
            printf("  %20.4f", s[i].drift);
        else
            printf("  %20s", s[i].adapter ? "not measured" : "-");
    if (s[0].n_replies > 0) {
        const double n = s[0].n_replies;
        ROW("exact match, %", ".1f", 100 * s[i].n_exact / n);
        ROW("ROUGE-L", ".3f", s[i].rouge_l.value);
        ROW("BLEU", ".2f", at_bleu_score(&s[i].bleu));
        ROW("words a reply", ".1f", s[i].words.value);
        ROW("repeated, %", ".1f", 100 * s[i].repetition.value);
        ROW("ended by themselves, %", ".1f", 100 * s[i].n_ended / n);
        ROW("refusals, %", ".1f", 100 * s[i].n_refusals / n);
    }
    if (s[0].n_rules > 0)
        ROW("rules kept, %", ".1f", 100.0 * s[i].n_passed / s[i].n_rules);
#undef ROW
    printf("\n");
}

/* Where a prompt or examples are judged beside an adapter: what need not be read any longer. */
static void print_saved(const struct judging *j)
{
    for (size_t i = j->first_adapter; i < j->n; i++)
        for (size_t k = 1; k < j->first_adapter; k++)
            printf("saved    %s: %.1f prompt tokens a pair less than %s (%.1f of %.1f)\n",
                   j->states[i].name, j->states[k].prompt_tokens - j->states[i].prompt_tokens,
                   j->states[k].name, j->states[i].prompt_tokens, j->states[k].prompt_tokens);
}

static bool meets(const struct judging *j, size_t i)
{
    return j->states[i].accuracy.low >= j->target;
}

/* Says which states have the share of pairs that is wanted, and what that means before training. */
static void tell_target(const struct judging *j)
{
    size_t met = j->first_adapter;

    if (isnan(j->target))
        return;
    for (size_t i = 0; i < j->n; i++) {
        const struct at_share *a = &j->states[i].accuracy;
        cli_note("target   %s: %.1f %% [%.1f, %.1f] of the pairs, %g %% %s", j->states[i].name,
                 100 * a->value, 100 * a->low, 100 * a->high, 100 * j->target,
                 meets(j, i)            ? "is met"
                 : a->high >= j->target ? "may be met: more held-out pairs would tell"
                                        : "is not met");
        met = i < met && meets(j, i) ? i : met;
    }
    if (met < j->first_adapter)
        cli_note("note     %s meets the target without training: try it in use before you train",
                 j->states[met].name);
}

/* What a reader may conclude, as a sentence. */
static void conclude(struct at_buf *out, const struct judging *j, size_t i)
{
    const struct eval_comparison *c = &j->comparisons[i];
    const struct eval_state *s = &j->states[i];

    at_buf_printf(out,
                  "%s: chosen likelier in %+.1f points of the %u pairs [%+.1f, %+.1f] than under "
                  "the base (%u became right, %u wrong, p %.3g)",
                  s->name, 100 * c->accuracy.value, c->accuracy.n, 100 * c->accuracy.low,
                  100 * c->accuracy.high, c->wins, c->losses, c->p);
    if (s->n_rules > 0)
        at_buf_printf(out, "; rules gained %u, lost %u", c->gained, c->lost);
    if (c->over_drift)
        at_buf_printf(out, "; drift %.4f is over max_drift %g", s->drift, j->params.max_drift);
    if (c->over_lost)
        at_buf_printf(out, "; more than %g %% of the rules were lost", 100 * j->params.max_lost);
    if (c->verdict != EVAL_OPEN)
        return;
    if (c->needed > c->accuracy.n)
        at_buf_printf(out, "; a difference of this size would show with about %.0f more pairs",
                      c->needed - c->accuracy.n);
    else if (c->needed > 0)
        at_buf_printf(out, "; the interval touches 0: hold out some more pairs");
    else
        at_buf_printf(out, "; %s",
                      c->wins + c->losses == 0
                          ? "no pair changed sides"
                          : "no number of pairs shows a difference that is not there");
}

static AT_CHECKED print_text(const struct judging *j)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };

    print_states(j);
    for (size_t i = 1; i < j->n; i++) {
        at_buf_clear(&text);
        conclude(&text, j, i);
        TRY(at_buf_status(&text));
        printf("%-8s %s\n", eval_verdict_word(j->comparisons[i].verdict), text.data);
    }
    print_saved(j);
done:
    at_buf_release(&text);
    return st;
}

/* What every state replied: [{"line", "prompt", "replies": [one a state]}]. */
static AT_CHECKED add_texts(cJSON *out, struct judging *j)
{
    enum at_status st = AT_OK;
    struct at_row_text text;

    for (uint32_t i = 0; i < j->states[0].n_replies; i++) {
        cJSON *entry = cJSON_CreateObject(), *list = NULL;
        cJSON_AddItemToArray(out, entry);
        TRY(at_row_text_find(&text, &j->arena, j->rows, j->states[0].lines[i]));
        cJSON_AddNumberToObject(entry, "line", j->states[0].lines[i]);
        cJSON_AddStringToObject(entry, "prompt", text.prompt ? text.prompt : "");
        list = cJSON_AddArrayToObject(entry, "replies");
        for (size_t k = 0; k < j->n; k++)
            cJSON_AddItemToArray(list, cJSON_CreateString(j->states[k].texts[i]));
    }
done:
    return st;
}

static cJSON *state_json(const struct judging *j, size_t i)
{
    cJSON *out = eval_state_json(&j->states[i]), *saved = NULL;

    if (!isnan(j->target))
        cJSON_AddBoolToObject(out, "meets_target", meets(j, i));
    if (i >= j->first_adapter && j->first_adapter > 1)
        saved = cJSON_AddObjectToObject(out, "prompt_tokens_saved");
    for (size_t k = 1; saved && k < j->first_adapter; k++)
        cJSON_AddNumberToObject(saved, j->states[k].name,
                                j->states[k].prompt_tokens - j->states[i].prompt_tokens);
    return out;
}

/* On stdout with --json, into the file of --output. */
static AT_CHECKED write_json(struct judging *j)
{
    enum at_status st = AT_OK;
    const char *path = cli_flag_text(j->args, "output");
    cJSON *out = cJSON_CreateObject(), *states = NULL, *comparisons = NULL;

    cJSON_AddStringToObject(out, "rows", j->rows);
    cJSON_AddStringToObject(out, "verdict", eval_verdict_word(j->comparisons[j->n - 1].verdict));
    if (!isnan(j->target))
        cJSON_AddNumberToObject(out, "target", j->target);
    states = cJSON_AddArrayToObject(out, "states");
    comparisons = cJSON_AddArrayToObject(out, "comparisons");
    for (size_t i = 0; i < j->n; i++)
        cJSON_AddItemToArray(states, state_json(j, i));
    for (size_t i = 1; i < j->n; i++)
        cJSON_AddItemToArray(comparisons, eval_comparison_json(&j->states[i], &j->comparisons[i]));
    if (j->states[0].n_replies > 0)
        TRY(add_texts(cJSON_AddArrayToObject(out, "texts"), j));
    if (path)
        TRY(at_json_save(path, out));
    if (cli_flag_on(j->args, "json"))
        TRY(cli_print_pretty(out));
done:
    cJSON_Delete(out);
    return st;
}

/* ---- the command ---- */

/* The exit code is that of the last state. */
static AT_CHECKED verdict(const struct judging *j)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };
    const struct eval_state *last = &j->states[j->n - 1];
    char *record = NULL;

    conclude(&text, j, j->n - 1);
    TRY(at_buf_status(&text));
    switch (j->comparisons[j->n - 1].verdict) {
    case EVAL_WORSE:
        FAIL(AT_OVER_BUDGET, "worse or over a budget. %s", text.data);
    case EVAL_OPEN:
        FAIL(AT_NO_EVIDENCE, "not enough evidence. %s", text.data);
    case EVAL_BETTER:
        if (last->adapter)
            TRY(at_path_join(&j->args->arena, &record, last->adapter, "run.json"));
        if (last->adapter && at_path_exists(record)) /* where compare finds model and prompts */
            cli_next("next       attune compare --adapter %s --judge people", last->adapter);
        else if (last->adapter)
            cli_next("next       attune export %s --output tone.gguf", last->adapter);
        else
            cli_next("next       the prompt alone is better than the base: try it before training");
    }
done:
    at_buf_release(&text);
    return st;
}

/* That every adapter fits the model, before the base is measured. */
static AT_CHECKED check_fit(struct judging *j)
{
    enum at_status st = AT_OK;
    struct at_found_model found;
    struct at_weights *weights = NULL;
    struct at_model_config config;
    struct at_adapter adapter;

    TRY(at_model_find(&found, &j->arena, j->config.model_name_or_path));
    TRY(at_weights_open_header(&weights, found.path));
    TRY(at_model_config_read(&config, weights));
    for (size_t i = j->first_adapter; i < j->n; i++) {
        at_warn_mute(true); /* it is loaded again, and warns then */
        st = at_adapter_plan_load(&adapter, &config, j->states[i].adapter, NULL, NULL);
        at_warn_mute(false);
        TRY(st);
        at_adapter_release(&adapter);
    }
done:
    at_weights_close(&weights);
    return st;
}

enum at_status cli_eval(struct cli_args *args)
{
    enum at_status st = AT_OK;
    struct judging j = { .args = args, .config = { .file = NULL } };
    const char *system = NULL;

    TRY(read_config(&j));
    if (j.first_adapter < j.n && j.config.model_name_or_path)
        TRY(check_fit(&j));
    system = j.config.system_prompt;
    for (size_t i = 0; i < j.n; i++) {
        j.config.system_prompt = system;
        TRY(eval_measure(&j.states[i], 1, &j.config, &j.params));
        if (i > 0)
            TRY(eval_compare(&j.comparisons[i], &j.states[0], &j.states[i], &j.params));
    }
    if (!cli_flag_on(args, "json"))
        TRY(print_text(&j));
    TRY(write_json(&j));
    tell_target(&j);
    TRY(verdict(&j));
done:
    for (size_t i = 0; i < j.n; i++)
        eval_release(&j.states[i]);
    at_arena_release(&j.arena);
    at_config_release(&j.config);
    return st;
}
