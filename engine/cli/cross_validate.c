/* cross_validation: every pair is judged once, by an adapter that has not seen its prompt. */
#include "cli.h"

#include "eval.h"
#include "lines.h"
#include "trained.h"

#include <math.h>
#include <string.h>

enum { MAX_FOLDS = 20 };

struct folds {
    const struct at_config *config;
    struct at_config each[MAX_FOLDS]; /* the configuration with a folder of its own */
    bool finished[MAX_FOLDS];         /* by an earlier call */
    uint32_t n;
    struct cli_trainer trainer;
    struct eval_state before, after; /* of all folds' held-out pairs */
    struct eval_comparison comparison;
    struct at_arena arena;
};

/* ---- training ---- */

/* What an earlier call left is found before anything is trained. */
static AT_CHECKED find_folds(struct folds *f)
{
    enum at_status st = AT_OK;
    char *name = NULL, *dir = NULL;

    for (uint32_t i = 0; i < f->n; i++) {
        f->each[i] = *f->config;
        TRY(at_arena_printf(&f->arena, &name, "fold-%u", i + 1));
        TRY(at_path_join(&f->arena, &dir, f->config->output_dir, name));
        f->each[i].output_dir = dir;
        TRY(cli_trained_find(&f->finished[i], &f->arena, &f->each[i], name, false));
    }
done:
    return st;
}

static AT_CHECKED train_fold(struct folds *f, uint32_t i)
{
    enum at_status st = AT_OK;
    const struct at_config *c = &f->each[i];
    struct at_digest inputs;
    struct at_outcome outcome;
    bool over = false;
    const char *name = strrchr(c->output_dir, '/') + 1;

    if (f->finished[i]) {
        cli_note("fold     %u of %u: finished earlier", i + 1, f->n);
        goto done;
    }
    TRY(cli_trained_digest(&inputs, &f->arena, c, CLI_TRAINED_VERSION));
    TRY(cli_trainer_use(&f->trainer, c));
    TRY(at_run_fold(&f->trainer.run, i));
    st = at_train(&f->trainer.run, &outcome);
    over = st == AT_OVER_BUDGET; /* its last evaluation counts, the other folds go on */
    TRY(over ? AT_OK : st);
    TRY(cli_trained_mark(&f->arena, c, name, &inputs, over ? "over max_drift" : NULL));
    cli_note("fold     %u of %u: chosen %s in %.1f %% of its %u pairs, %.1f %% before%s", i + 1,
             f->n, outcome.has_rewards ? "rewarded higher" : "likelier", 100 * outcome.after.value,
             f->trainer.run.data.eval.n_rows, 100 * outcome.before.value,
             over ? "; ended over max_drift" : "");
done:
    if (st != AT_OK)
        at_context("%s", name);
    return st;
}

/* ---- pooling ---- */

static double side_of(const cJSON *line, const char *side, const char *dir, enum at_status *st)
{
    static const char *const names[] = { "reward", "logp", "tokens" };
    double value[AT_COUNT(names)];
    char name[32];

    for (size_t i = 0; i < AT_COUNT(names); i++) {
        const cJSON *item = NULL;
        snprintf(name, sizeof name, "%s_%s", side, names[i]);
        item = at_json_find(line, name);
        value[i] = cJSON_IsNumber(item) ? item->valuedouble : NAN;
    }
    if (isfinite(value[0]))
        return value[0];
    if (!(isfinite(value[1]) && value[2] > 0))
        *st = at_fail(AT_DATA, "%s/pairs.jsonl: line %.0f has no %s", dir,
                      cJSON_GetNumberValue(at_json_find(line, "line")), name);
    return value[1] / value[2];
}

static AT_CHECKED add_pair(struct eval_state *s, const cJSON *line, const char *dir)
{
    static const char *const sides[] = { "chosen", "rejected" };
    enum at_status st = AT_OK;
    const uint32_t n = s->n_pairs, room = n ? n & (n - 1) ? 0 : 2 * n : 1;

    for (size_t k = 0; k < 2; k++) {
        if (room)
            TRY(at_realloc(&s->side[k], n, room, sizeof *s->side[k]));
        s->side[k][n] = side_of(line, sides[k], dir, &st);
        TRY(st);
    }
    if (room)
        TRY(at_realloc(&s->lines, n, room, sizeof *s->lines));
    s->lines[n] = (uint32_t)cJSON_GetNumberValue(at_json_find(line, "line"));
    s->n_pairs++;
done:
    return st;
}

/* A fold's first evaluation, and its last: which one was the best is known by these very pairs. */
static AT_CHECKED read_fold(struct folds *f, const char *dir)
{
    enum at_status st = AT_OK;
    const uint32_t n = f->after.n_pairs; /* of earlier folds */
    struct at_lines lines = { .path = NULL };
    struct at_line text;
    cJSON *line = NULL;
    char *path = NULL;
    double step = 0, last = 0;
    bool found = false;

    TRY(at_path_join(&f->arena, &path, dir, "pairs.jsonl"));
    TRY(at_lines_open(&lines, path));
    for (;;) {
        TRY(at_lines_next(&lines, &text, &found));
        if (!found)
            break;
        TRY(at_json_parse(&line, text.text, text.n, path, text.number));
        step = cJSON_GetNumberValue(at_json_find(line, "step"));
        if (step > last) /* a later evaluation takes the place of the one before */
            f->after.n_pairs = n;
        last = step > last ? step : last;
        TRY(add_pair(step > 0 ? &f->after : &f->before, line, dir));
        at_json_free(&line);
    }
    if (f->after.n_pairs != f->before.n_pairs)
        FAIL(AT_DATA, "%s: %u pairs after training and %u before; remove %s to train it again",
             path, f->after.n_pairs - n, f->before.n_pairs - n, dir);
done:
    at_json_free(&line);
    at_lines_close(&lines);
    return st;
}

static AT_CHECKED pool(struct folds *f)
{
    enum at_status st = AT_OK;
    const struct eval_params params = { .seed = f->config->seed, .max_drift = NAN, .max_lost = 1 };

    f->before.name = "before training";
    f->after.name = "after training";
    for (uint32_t i = 0; i < f->n; i++)
        TRY(read_fold(f, f->each[i].output_dir));
    TRY(eval_sum_up(&f->before, params.seed));
    TRY(eval_sum_up(&f->after, params.seed));
    TRY(eval_compare(&f->comparison, &f->before, &f->after, &params));
done:
    return st;
}

/* ---- output ---- */

static AT_CHECKED save(struct folds *f)
{
    enum at_status st = AT_OK;
    cJSON *out = cJSON_CreateObject();
    char *path = NULL;

    cJSON_AddNumberToObject(out, "format_version", 1);
    cJSON_AddNumberToObject(out, "folds", f->n);
    cJSON_AddItemToObject(out, "before", at_share_json(f->before.accuracy));
    cJSON_AddItemToObject(out, "after", at_share_json(f->after.accuracy));
    cJSON_AddItemToObject(out, "comparison", eval_comparison_json(&f->after, &f->comparison));
    TRY(at_path_join(&f->arena, &path, f->config->output_dir, "cross_validation.json"));
    TRY(at_json_save(path, out));
    cli_note("files    %s", path);
done:
    cJSON_Delete(out);
    return st;
}

/* Prints the pooled shares and the verdict, which is also the status. */
static AT_CHECKED tell(const struct folds *f)
{
    static const char *const words[] = {
        [EVAL_BETTER] = "better", [EVAL_WORSE] = "worse", [EVAL_OPEN] = "not enough evidence"
    };
    const struct at_share *b = &f->before.accuracy, *a = &f->after.accuracy;
    const struct eval_comparison *c = &f->comparison;

    cli_note("pooled   %u pairs, each held out once: right in %.1f %% [%.1f, %.1f] before, %.1f %% "
             "[%.1f, %.1f] after the last step",
             f->after.n_pairs, 100 * b->value, 100 * b->low, 100 * b->high, 100 * a->value,
             100 * a->low, 100 * a->high);
    cli_note("verdict  %s: %+.1f points [%+.1f, %+.1f], %u pairs became right, %u wrong, p %.3g",
             words[c->verdict], 100 * c->accuracy.value, 100 * c->accuracy.low,
             100 * c->accuracy.high, c->wins, c->losses, c->p);
    if (c->verdict == EVAL_OPEN && c->needed > c->accuracy.n)
        cli_note("         a difference of this size would show with about %.0f more pairs",
                 c->needed - c->accuracy.n);
    if (c->verdict != EVAL_BETTER)
        return at_fail(c->verdict == EVAL_WORSE ? AT_OVER_BUDGET : AT_NO_EVIDENCE,
                       "%s: %+.1f points [%+.1f, %+.1f] over the pairs of all folds; %s",
                       words[c->verdict], 100 * c->accuracy.value, 100 * c->accuracy.low,
                       100 * c->accuracy.high,
                       c->verdict == EVAL_WORSE
                           ? "look at the pairs with `attune data lint` and at learning_rate"
                           : "more pairs or more steps may show one");
    cli_next("next     the same without cross_validation, which trains one adapter to use");
    return AT_OK;
}

AT_CHECKED cli_cross_validate(const struct at_config *config)
{
    enum at_status st = AT_OK;
    struct folds *f = NULL;

    TRY(at_alloc(&f, 1, sizeof *f));
    f->config = config;
    f->n = config->cross_validation;
    if (!config->output_dir)
        FAIL(AT_USAGE, "output_dir is missing: --output_dir DIR, the folder for a folder a fold");
    TRY(find_folds(f));
    for (uint32_t i = 0; i < f->n; i++)
        TRY(train_fold(f, i));
    TRY(pool(f));
    TRY(save(f));
    TRY(tell(f));
done:
    if (f) {
        cli_trainer_close(&f->trainer);
        for (size_t k = 0; k < 2; k++) {
            at_free(&f->before.side[k]);
            at_free(&f->after.side[k]);
        }
        at_free(&f->before.lines);
        at_free(&f->after.lines);
        at_arena_release(&f->arena);
    }
    at_free(&f);
    return st;
}
