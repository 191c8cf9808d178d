/* `attune sweep`: one training for every combination of some keys' values, ranked. */
#include "cli.h"

#include "trained.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_AXES = 4, MAX_TRIES = 64 };

/* Keys that change neither rows nor reference. */
static const char *const swept[] = { "beta",          "label_smoothing",  "learning_rate",
                                     "lora_alpha",    "lora_r",           "loraplus_lr_ratio",
                                     "max_grad_norm", "num_train_epochs", "warmup_steps",
                                     "weight_decay" };
struct axis {
    const char *key;
    char **values; /* (n) */
    size_t n;
};
enum end { END_WITHIN, END_OVER, END_DIVERGED }; /* the better first */
static const char *const end_words[] = { "", "over max_drift", "diverged" };
struct trial {
    const char *name; /* "beta=0.1 learning_rate=1e-5" */
    const char *dir;
    struct at_config config;
    struct at_outcome outcome; /* of no use where it diverged */
    enum end end;
    bool finished; /* by an earlier call */
};
struct sweep {
    struct cli_args *args;
    struct axis axes[MAX_AXES];
    size_t n_axes;
    struct at_flag
        *keys; /* (n_keys + n_axes + 1) of the arguments without the axes, then of a try */
    size_t n_keys;
    struct trial *tries; /* (n) */
    size_t n;
    struct cli_trainer trainer;
    struct at_arena arena;
};

/* ---- what is tried ---- */

static bool is_swept(const char *key)
{
    for (size_t i = 0; i < AT_COUNT(swept); i++)
        if (strcmp(swept[i], key) == 0)
            return true;
    return false;
}

/* "beta, label_smoothing, ..." */
static AT_CHECKED list_swept(struct at_buf *out)
{
    for (size_t i = 0; i < AT_COUNT(swept); i++)
        at_buf_printf(out, "%s%s", i ? ", " : "", swept[i]);
    return at_buf_status(out);
}

static AT_CHECKED add_axis(struct sweep *s, const struct at_flag *flag)
{
    enum at_status st = AT_OK;
    struct axis *axis = &s->axes[s->n_axes];
    char *copy = NULL;

    if (s->n_axes == MAX_AXES)
        FAIL(AT_USAGE, "at most %d keys with several values are tried at once", MAX_AXES);
    TRY(at_arena_strdup(&s->arena, &copy, flag->value));
    TRY(at_arena_alloc(&s->arena, &axis->values, strlen(copy) + 1, sizeof *axis->values));
    axis->key = flag->key;
    for (char *next = copy; next;) {
        char *value = next;
        next = strchr(next, ',');
        if (next)
            *next++ = 0;
        if (!*value)
            FAIL(AT_USAGE, "--%s %s: a value between commas is missing", flag->key, flag->value);
        axis->values[axis->n++] = value;
    }
    s->n_axes++;
done:
    return st;
}

static AT_CHECKED read_axes(struct sweep *s)
{
    enum at_status st = AT_OK;
    const struct cli_args *a = s->args;
    struct at_buf names = { 0 };
    size_t n = 1;

    TRY(list_swept(&names));
    TRY(at_arena_alloc(&s->arena, &s->keys, a->n_keys + MAX_AXES + 1, sizeof *s->keys));
    for (size_t i = 0; i < a->n_keys; i++)
        if (is_swept(a->keys[i].key) && strchr(a->keys[i].value, ','))
            TRY(add_axis(s, &a->keys[i]));
        else
            s->keys[s->n_keys++] = a->keys[i];
    for (size_t i = 0; i < s->n_axes; i++)
        n *= s->axes[i].n;
    if (s->n_axes == 0)
        FAIL(AT_USAGE,
             "nothing to compare: give several values of one of %s, such as --beta .05,.1,.3",
             names.data);
    if (n > MAX_TRIES)
        FAIL(AT_USAGE, "%zu combinations; at most %d are tried", n, MAX_TRIES);
    s->n = n;
    TRY(at_alloc(&s->tries, n, sizeof *s->tries));
done:
    at_buf_release(&names);
    return st;
}

/* The i-th combination: the last key's values change fastest. */
static AT_CHECKED name_try(struct sweep *s, size_t i, const char *output_dir)
{
    enum at_status st = AT_OK;
    struct at_buf name = { 0 };
    char *copy = NULL;
    size_t left = i;

    for (size_t k = s->n_axes; k-- > 0; left /= s->axes[k].n)
        s->keys[s->n_keys + k] =
            (struct at_flag){ s->axes[k].key, s->axes[k].values[left % s->axes[k].n] };
    for (size_t k = 0; k < s->n_axes; k++)
        at_buf_printf(&name, "%s%s=%s", k > 0 ? " " : "", s->keys[s->n_keys + k].key,
                      s->keys[s->n_keys + k].value);
    TRY(at_buf_status(&name));
    TRY(at_arena_strdup(&s->arena, &copy, name.data));
    s->tries[i].name = copy;
    for (size_t k = 0; k < name.n; k++)
        if (name.data[k] == ' ')
            name.data[k] = '-';
    TRY(at_path_join(&s->arena, &copy, output_dir, name.data));
    s->tries[i].dir = copy;
    s->keys[s->n_keys + s->n_axes] = (struct at_flag){ "output_dir", copy };
done:
    at_buf_release(&name);
    return st;
}

static AT_CHECKED read_config(struct at_config *out, struct sweep *s, bool whole)
{
    struct cli_args args = *s->args;

    args.keys = s->keys;
    args.n_keys = s->n_keys + (whole ? s->n_axes + 1 : 0);
    return cli_config_read(out, &args, NULL);
}

static AT_CHECKED find_finished(struct sweep *s, struct trial *t)
{
    enum at_status st = AT_OK;
    const char *ended = NULL;
    char *what = NULL;

    TRY(at_arena_printf(&s->arena, &what, "the try %s", t->name));
    TRY(cli_trained_find(&t->finished, &s->arena, &t->config, what, false));
    if (!t->finished)
        goto done;
    TRY(cli_trained_read(&t->outcome, &ended, &s->arena, &t->config));
    while (ended && t->end < END_DIVERGED && strcmp(ended, end_words[t->end]) != 0)
        t->end++;
done:
    return st;
}

/* What would end a try although it can be known before the first one is trained. */
static AT_CHECKED check_tries(struct sweep *s, const char *output_dir)
{
    enum at_status st = AT_OK;

    for (size_t i = 0; i < s->n; i++) {
        TRY(name_try(s, i, output_dir));
        for (size_t k = 0; k < i; k++)
            if (strcmp(s->tries[k].name, s->tries[i].name) == 0)
                FAIL(AT_USAGE, "%s is given twice; name every value once", s->tries[i].name);
        TRY(read_config(&s->tries[i].config, s, true));
        if (s->tries[i].config.cross_validation > 0)
            FAIL(AT_USAGE, "cross_validation is for one configuration; remove it from the sweep, "
                           "and give it to the best one");
    }
    for (size_t i = 0; i < s->n; i++)
        TRY(find_finished(s, &s->tries[i]));
done:
    return st;
}

/* ---- trying ---- */

static AT_CHECKED take_end(struct trial *t, enum at_status trained)
{
    t->end = trained == AT_OVER_BUDGET                      ? END_OVER
             : trained == AT_RETRY || trained == AT_NUMERIC ? END_DIVERGED
                                                            : END_WITHIN;
    return t->end == END_WITHIN ? trained : AT_OK;
}

static void tell(const struct sweep *s, size_t i, const char *why)
{
    const struct trial *t = &s->tries[i];

    if (t->end == END_DIVERGED)
        cli_note("tried    %zu of %zu: %s, diverged: %s", i + 1, s->n, t->name, why);
    else
        cli_note("tried    %zu of %zu: %s, chosen likelier in %.1f %%%s%s", i + 1, s->n, t->name,
                 100 * t->outcome.after.value, t->end == END_OVER ? ", " : "", end_words[t->end]);
}

static AT_CHECKED train(struct sweep *s, size_t i)
{
    enum at_status st = AT_OK;
    struct trial *t = &s->tries[i];
    struct at_digest inputs;

    if (t->finished) {
        tell(s, i, "finished earlier");
        goto done;
    }
    TRY(cli_trained_digest(&inputs, &s->arena, &t->config, CLI_TRAINED_VERSION));
    TRY(cli_trainer_use(&s->trainer, &t->config));
    TRY(take_end(t, at_train(&s->trainer.run, &t->outcome)));
    tell(s, i, at_message());
    TRY(cli_trained_mark(&s->arena, &t->config, t->name, &inputs,
                         t->end == END_WITHIN ? NULL : end_words[t->end]));
done:
    return st;
}

/* Within budgets first, diverged ones last, then by held-out accuracy, of equal ones the least
 * drift. */
static int best_first(const void *left, const void *right)
{
    const struct trial *a = left, *b = right;

    if (a->end != b->end)
        return a->end > b->end ? 1 : -1;
    if (a->end == END_DIVERGED)
        return strcmp(a->name, b->name);
    if (a->outcome.after.value != b->outcome.after.value)
        return a->outcome.after.value > b->outcome.after.value ? -1 : 1;
    if (a->outcome.drift_after != b->outcome.drift_after)
        return a->outcome.drift_after < b->outcome.drift_after ? -1 : 1;
    return strcmp(a->name, b->name);
}

/* ---- output ---- */

static void print_trial(size_t rank, const struct trial *t)
{
    const struct at_outcome *o = &t->outcome;
    char share[32] = "    -", drift[16] = "-";

    if (t->end != END_DIVERGED) {
        snprintf(share, sizeof share, "%5.1f [%.1f, %.1f]", 100 * o->after.value,
                 100 * o->after.low, 100 * o->after.high);
        if (o->has_drift)
            snprintf(drift, sizeof drift, "%.4f", o->drift_after);
    }
    printf("%2zu  %-20s %10s  %s%s%s\n", rank, share, drift, t->name,
           *end_words[t->end] ? "  " : "", end_words[t->end]);
}

static void print_text(const struct sweep *s)
{
    const struct at_share *before = &s->tries[0].outcome.before;
    char share[32];

    printf("    %-20s %10s  %s\n", "chosen likelier, %", "drift", "");
    snprintf(share, sizeof share, "%5.1f [%.1f, %.1f]", 100 * before->value, 100 * before->low,
             100 * before->high);
    printf("    %-20s %10s  before training\n", share, "");
    for (size_t i = 0; i < s->n; i++)
        print_trial(i + 1, &s->tries[i]);
}

static AT_CHECKED print_json(const struct sweep *s)
{
    enum at_status st = AT_OK;
    cJSON *out = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(out, "tries");

    for (size_t i = 0; i < s->n; i++) {
        const struct trial *t = &s->tries[i];
        cJSON *entry = cJSON_CreateObject();
        cJSON_AddItemToArray(list, entry);
        cJSON_AddStringToObject(entry, "name", t->name);
        cJSON_AddStringToObject(entry, "output_dir", t->dir);
        cJSON_AddBoolToObject(entry, "over_drift", t->end == END_OVER);
        cJSON_AddBoolToObject(entry, "diverged", t->end == END_DIVERGED);
        if (t->end == END_DIVERGED)
            continue;
        cJSON_AddItemToObject(entry, "before", at_share_json(t->outcome.before));
        cJSON_AddItemToObject(entry, "after", at_share_json(t->outcome.after));
        if (t->outcome.has_drift)
            cJSON_AddNumberToObject(entry, "drift", t->outcome.drift_after);
        cJSON_AddNumberToObject(entry, "best_step", (double)t->outcome.best_step);
    }
    TRY(cli_print_pretty(out));
done:
    cJSON_Delete(out);
    return st;
}

enum at_status cli_sweep(struct cli_args *args)
{
    enum at_status st = AT_OK;
    struct sweep s = { .args = args };
    struct at_config config = { .file = NULL };

    TRY(read_axes(&s));
    TRY(read_config(&config, &s, false));
    if (!config.output_dir)
        FAIL(AT_USAGE, "output_dir is missing: --output_dir DIR, the folder for a folder a try");
    TRY(check_tries(&s, config.output_dir));
    for (size_t i = 0; i < s.n; i++)
        TRY(train(&s, i));
    cli_trainer_close(&s.trainer); /* it borrows what is sorted now */
    qsort(s.tries, s.n, sizeof *s.tries, best_first);
    if (s.tries[0].end == END_DIVERGED)
        FAIL(AT_RETRY, "every try diverged; try lower learning rates");
    if (cli_flag_on(args, "json"))
        TRY(print_json(&s));
    else
        print_text(&s);
    if (s.tries[0].end == END_OVER)
        FAIL(AT_OVER_BUDGET, "every try went over max_drift or diverged; try lower learning rates "
                             "or a higher beta");
    cli_note(
        "note     the best of %zu on the same held-out pairs looks better than it is: judge it "
        "on others",
        s.n);
    cli_next("next     attune eval OTHER_PAIRS.jsonl --model_name_or_path %s --adapter %s",
             config.model_name_or_path ? config.model_name_or_path : "MODEL", s.tries[0].dir);
done:
    cli_trainer_close(&s.trainer);
    for (size_t i = 0; s.tries && i < s.n; i++)
        at_config_release(&s.tries[i].config);
    at_free(&s.tries);
    at_config_release(&config);
    at_arena_release(&s.arena);
    return st;
}
