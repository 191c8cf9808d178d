/* `data split` and `data stats`. */
#include "cli.h"

#include "bundle.h"
#include "divide.h"
#include "record.h"
#include "stats.h"

#include <string.h>

/* ---- split ---- */

/* A training that draws samples holds none out by itself; prompts are, at the share of others. */
static const double HELD_PROMPTS = 0.1;

enum at_status cli_data_split(struct cli_args *args)
{
    static const char train[] = AT_SPLIT_TRAIN, held[] = AT_SPLIT_EVAL;
    enum at_status st = AT_OK;
    struct at_config config = { .file = NULL };
    struct at_divide_counts counts;
    struct at_divide_params p = { .from = NULL };
    const struct at_method_row *method = NULL;
    double share = 0;
    const char *dir = cli_flag_text(args, "output");
    char *path = NULL;

    TRY(cli_data_config_read(&config, args));
    method = at_method_get(config.run_method);
    share = method->draws && config.origin[AT_KEY_eval_split] < AT_FROM_FILE ? HELD_PROMPTS
                                                                             : config.eval_split;
    if (!dir)
        FAIL(AT_USAGE, "--output is missing: a folder for %s and %s; usage: attune data split %s",
             train, held, args->command->usage);
    if (share <= 0 || share >= 1)
        FAIL(AT_USAGE, "eval_split is %g: a share above 0 and below 1 is held out", share);
    p = (struct at_divide_params){ .from = config.train_dataset.items,
                                   .n_from = config.train_dataset.n,
                                   .prompts = method->draws,
                                   .fraction = share,
                                   .seed = at_run_data_seed(&config) };
    TRY(at_path_join(&args->arena, &path, dir, train));
    p.train = path;
    TRY(at_path_join(&args->arena, &path, dir, held));
    p.held = path;
    if (at_path_exists(p.train) || at_path_exists(p.held))
        FAIL(AT_CANNOT_WRITE, "%s holds a split already; name another folder", dir);
    if (config.train_dataset.weights)
        at_warn("weights", "the files have each row once; give weights to what is trained on them");
    TRY(at_dir_create(dir));
    TRY(at_divide(&counts, &p));
    cli_note("%s: %llu rows of %llu prompts", p.train, (unsigned long long)counts.train_rows,
             (unsigned long long)counts.train_groups);
    cli_note("%s: %llu rows of %llu prompts", p.held, (unsigned long long)counts.held_rows,
             (unsigned long long)counts.held_groups);
    cli_method_fit(&config, args, counts.n_singles > 0, counts.n_labelled > 0);
    TRY(cli_next_plan(args, &config, p.train, method->draws ? NULL : p.held));
done:
    at_config_release(&config);
    return st;
}

/* ---- stats ---- */

static const char *const parts[AT_PARTS] = {
    [AT_PART_PROMPT] = "prompt",
    [AT_PART_CHOSEN] = "chosen",
    [AT_PART_REJECTED] = "rejected",
    [AT_PART_ROW] = "row",
};

/* Data sets without pairs have no sides. */
static const char *part_name(const struct at_stats *s, enum at_part part)
{
    if (part == AT_PART_CHOSEN && s->n_pairs == 0)
        return s->n_labelled > 0 ? "desirable" : "completion";
    if (part == AT_PART_REJECTED && s->n_pairs == 0)
        return "undesirable";
    return parts[part];
}

static void print_spreads(const struct at_stats *s, const char *unit,
                          const struct at_spread spreads[AT_PARTS])
{
    bool any = false;

    for (uint32_t i = 0; i < AT_PARTS; i++) {
        const struct at_spread *p = &spreads[i];
        if (p->n == 0)
            continue;
        if (!any)
            printf("%-10s %12s %8s %8s %8s %8s %8s\n", unit, "", "least", "median", "mean", "p90",
                   "most");
        any = true;
        printf("%-10s %-12s %8u %8u %8.1f %8u %8u\n", "", part_name(s, i), p->least, p->median,
               p->mean, p->p90, p->most);
    }
}

static void print_text(const struct at_stats *s)
{
    if (s->n_prompts > 0)
        printf("rows       %u: %u prompts to draw samples for\n", s->n_rows, s->n_prompts);
    else
        printf("rows       %u: %u pairs, %u labelled (%u desirable), %u with one completion\n",
               s->n_rows, s->n_pairs, s->n_labelled, s->n_desirable, s->n_singles);
    printf("prompts    %u different ones, %.2f rows each\n", s->n_groups,
           (double)s->n_rows / s->n_groups);
    printf("chat       %u conversations, %u of several turns, %u with a system message\n",
           s->n_chat, s->n_turns, s->n_system);
    if (s->n_synthetic > 0 || s->n_unreviewed > 0)
        printf("made       %u synthetic, %u not reviewed\n", s->n_synthetic, s->n_unreviewed);
    if (s->n_pairs > 0)
        printf("longer     chosen in %.1f %% of the pairs by words, rejected in %.1f %%\n",
               100.0 * s->n_chosen_longer / s->n_pairs,
               100.0 * (s->n_pairs - s->n_chosen_longer - s->n_same_words) / s->n_pairs);
    print_spreads(s, "words", s->words);
    print_spreads(s, "tokens", s->tokens);
}

static void add_spreads(cJSON *out, const char *unit, const struct at_stats *s,
                        const struct at_spread spreads[AT_PARTS])
{
    cJSON *all = NULL;

    for (uint32_t i = 0; i < AT_PARTS; i++) {
        const struct at_spread *p = &spreads[i];
        cJSON *part = NULL;
        if (p->n == 0)
            continue;
        if (!all)
            all = cJSON_AddObjectToObject(out, unit);
        part = cJSON_AddObjectToObject(all, part_name(s, i));
        cJSON_AddNumberToObject(part, "n", p->n);
        cJSON_AddNumberToObject(part, "least", p->least);
        cJSON_AddNumberToObject(part, "median", p->median);
        cJSON_AddNumberToObject(part, "mean", p->mean);
        cJSON_AddNumberToObject(part, "p90", p->p90);
        cJSON_AddNumberToObject(part, "most", p->most);
    }
}

static AT_CHECKED print_json(const struct at_stats *s)
{
    const struct {
        const char *name;
        uint32_t n;
    } counts[] = {
        { "rows", s->n_rows },
        { "pairs", s->n_pairs },
        { "labelled", s->n_labelled },
        { "desirable", s->n_desirable },
        { "singles", s->n_singles },
        { "prompts_alone", s->n_prompts },
        { "prompts", s->n_groups },
        { "conversations", s->n_chat },
        { "several_turns", s->n_turns },
        { "system", s->n_system },
        { "synthetic", s->n_synthetic },
        { "unreviewed", s->n_unreviewed },
        { "chosen_longer", s->n_chosen_longer },
        { "same_words", s->n_same_words },
    };
    enum at_status st = AT_OK;
    cJSON *out = cJSON_CreateObject();

    for (size_t i = 0; i < AT_COUNT(counts); i++)
        cJSON_AddNumberToObject(out, counts[i].name, counts[i].n);
    add_spreads(out, "words", s, s->words);
    add_spreads(out, "tokens", s, s->tokens);
    TRY(cli_print_pretty(out));
done:
    cJSON_Delete(out);
    return st;
}

enum at_status cli_data_stats(struct cli_args *args)
{
    enum at_status st = AT_OK;
    struct at_config config = { .file = NULL };
    struct at_bundle bundle = { .path = NULL };
    struct at_stats stats;
    struct at_stats_params p = { .from = NULL };

    TRY(cli_data_config_read(&config, args));
    p.from = config.train_dataset.items;
    p.n_from = config.train_dataset.n;
    p.prompts = at_method_get(config.run_method)->draws;
    p.eos = config.eos_token;
    p.system_prompt = config.system_prompt;
    TRY(cli_text_open(&bundle, &config));
    p.tokenizer = bundle.tokenizer;
    p.chat = bundle.chat;
    TRY(at_stats_read(&stats, &p));
    if (cli_flag_on(args, "json"))
        TRY(print_json(&stats));
    else
        print_text(&stats);
    cli_method_fit(&config, args, stats.n_singles > 0, stats.n_labelled > 0);
    TRY(cli_next_rows(args, &config));
done:
    at_bundle_close(&bundle);
    at_config_release(&config);
    return st;
}
