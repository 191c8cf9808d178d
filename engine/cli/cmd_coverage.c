/* `attune data coverage`: which prompts of a log are unlike everything that is trained on. */
#include "cli.h"

#include "prompts.h"

#include "generate.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN_BYTES = 80 };

struct states {
    const char *path;
    struct cli_prompts prompts;
    float *values; /* (n, C) */
};
struct nearest {
    double distance;
    size_t of, to; /* numbers of prompts: this one, the training prompt nearest to it */
};
struct coverage {
    struct cli_args *args;
    struct at_bundle bundle;
    struct at_generator *generator;
    struct states train, log;
    struct nearest *among; /* (train.n) of each from the next other training prompt */
    struct nearest *found; /* (log.n) the farthest first; in units of the median of those */
    double far;            /* beyond this a prompt is far: 95 % of those are within it */
    size_t n_far, n_shown;
    uint32_t n_common; /* tokens that all prompts begin with, the template's: not looked at */
};

/* ---- states ---- */

static AT_CHECKED compute(struct coverage *c, struct states *s)
{
    enum at_status st = AT_OK;
    const size_t n = s->prompts.n, C = c->bundle.config.C;

    TRY(at_alloc(&s->values, n * C, sizeof *s->values));
    for (size_t i = 0; i < n; i++) {
        st = at_generator_state(c->generator, s->values + i * C, s->prompts.items[i].ids,
                                s->prompts.items[i].n, c->n_common);
        if (st != AT_OK)
            at_context("%s:%zu", s->path, s->prompts.items[i].line);
        TRY(st);
    }
done:
    return st;
}

/* ---- distances ---- */

static bool same_ids(const struct cli_prompt *a, const struct cli_prompt *b)
{
    return a->n == b->n && memcmp(a->ids, b->ids, a->n * sizeof *a->ids) == 0;
}

/* `others`: a prompt is not compared with itself and what is the same. */
static struct nearest find_nearest(const struct coverage *c, const struct states *s, size_t i,
                                   bool others)
{
    const size_t C = c->bundle.config.C;
    const float *x = s->values + i * C;
    struct nearest best = { .distance = INFINITY, .of = i };

    for (size_t j = 0; j < c->train.prompts.n; j++) {
        const float *y = c->train.values + j * C;
        double squares = 0;
        if (others && same_ids(&s->prompts.items[i], &c->train.prompts.items[j]))
            continue;
        for (size_t k = 0; k < C; k++)
            squares += ((double)x[k] - y[k]) * ((double)x[k] - y[k]);
        if (squares < best.distance) {
            best.distance = squares;
            best.to = j;
        }
    }
    best.distance = sqrt(best.distance);
    return best;
}

static int farthest_first(const void *left, const void *right)
{
    const struct nearest *a = left, *b = right;

    if (a->distance != b->distance)
        return a->distance > b->distance ? -1 : 1;
    return (a->of > b->of) - (a->of < b->of);
}

static AT_CHECKED rank(struct coverage *c)
{
    enum at_status st = AT_OK;
    const size_t n = c->train.prompts.n;
    size_t n_among = 0;
    double unit = 0;

    TRY(at_alloc(&c->among, n, sizeof *c->among));
    TRY(at_alloc(&c->found, c->log.prompts.n, sizeof *c->found));
    for (size_t i = 0; i < n; i++) {
        const struct nearest next = find_nearest(c, &c->train, i, true);
        if (isfinite(next.distance))
            c->among[n_among++] = next;
    }
    if (n_among < 2)
        FAIL(AT_DATA, "%s has fewer than two different prompts to compare with", c->train.path);
    qsort(c->among, n_among, sizeof *c->among, farthest_first);
    unit = c->among[n_among / 2].distance;
    c->far = c->among[n_among / 20].distance / unit;
    for (size_t i = 0; i < c->log.prompts.n; i++) {
        c->found[i] = find_nearest(c, &c->log, i, false);
        c->found[i].distance /= unit;
        c->n_far += c->found[i].distance > c->far;
    }
    qsort(c->found, c->log.prompts.n, sizeof *c->found, farthest_first);
done:
    return st;
}

/* ---- output ---- */

static void print_excerpt(const char *text)
{
    size_t n = strlen(text), end = n < SHOWN_BYTES ? n : SHOWN_BYTES;

    while (end < n && end > 0 && ((unsigned char)text[end] & 0xC0) == 0x80)
        end--; /* not within a character */
    for (size_t i = 0; i < end; i++)
        putchar((unsigned char)text[i] < ' ' ? ' ' : text[i]);
    printf("%s\n", end < n ? "..." : "");
}

static void print_text(const struct coverage *c)
{
    for (size_t i = 0; i < c->n_shown; i++) {
        const struct nearest *f = &c->found[i];
        const struct cli_prompt *p = &c->log.prompts.items[f->of];
        printf("%s:%zu: %s %.2f, nearest %s:%zu\n  ", c->log.path, p->line,
               f->distance > c->far ? "far" : "covered", f->distance, c->train.path,
               c->train.prompts.items[f->to].line);
        print_excerpt(cli_prompt_text(p));
    }
    printf(
        "far        %zu of %zu prompts (%.0f %%): beyond %.2f, within which 95 %% of the training "
        "prompts have another\n",
        c->n_far, c->log.prompts.n, 100.0 * (double)c->n_far / (double)c->log.prompts.n, c->far);
}

static AT_CHECKED print_json(const struct coverage *c)
{
    enum at_status st = AT_OK;
    cJSON *out = cJSON_CreateObject(), *list = NULL;

    cJSON_AddNumberToObject(out, "training_prompts", (double)c->train.prompts.n);
    cJSON_AddNumberToObject(out, "prompts", (double)c->log.prompts.n);
    cJSON_AddNumberToObject(out, "far", (double)c->n_far);
    cJSON_AddNumberToObject(out, "far_beyond", c->far);
    list = cJSON_AddArrayToObject(out, "farthest");
    for (size_t i = 0; i < c->n_shown; i++) {
        const struct nearest *f = &c->found[i];
        cJSON *entry = cJSON_CreateObject();
        cJSON_AddItemToArray(list, entry);
        cJSON_AddNumberToObject(entry, "line", (double)c->log.prompts.items[f->of].line);
        cJSON_AddNumberToObject(entry, "distance", f->distance);
        cJSON_AddNumberToObject(entry, "nearest_line", (double)c->train.prompts.items[f->to].line);
        cJSON_AddStringToObject(entry, "prompt", cli_prompt_text(&c->log.prompts.items[f->of]));
    }
    TRY(cli_print_pretty(out));
done:
    cJSON_Delete(out);
    return st;
}

static AT_CHECKED write_prompts(struct coverage *c, const char *path)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };

    c->log.prompts.system = NULL; /* they get it again when they are replied to */
    for (size_t i = 0; i < c->n_shown; i++) {
        cJSON *row = cJSON_CreateObject();
        cJSON_AddItemToObject(row, "prompt", cli_prompts_json(&c->log.prompts, c->found[i].of));
        at_json_write(&text, row);
        at_buf_puts(&text, "\n");
        cJSON_Delete(row);
    }
    TRY(at_buf_status(&text));
    TRY(at_file_write_atomic(path, text.data, text.n));
done:
    at_buf_release(&text);
    return st;
}

/* ---- the command ---- */

/* At least one token is left of each. */
static uint32_t common_tokens(const struct coverage *c)
{
    const struct cli_prompt *first = &c->train.prompts.items[0];
    const struct cli_prompts *both[] = { &c->train.prompts, &c->log.prompts };
    uint32_t n = first->n - 1;

    for (size_t k = 0; k < AT_COUNT(both); k++)
        for (size_t i = 0; i < both[k]->n; i++) {
            const struct cli_prompt *p = &both[k]->items[i];
            uint32_t same = 0;
            while (same < n && same + 1 < p->n && p->ids[same] == first->ids[same])
                same++;
            n = same;
        }
    return n;
}

static AT_CHECKED open_prompts(struct coverage *c, struct states *s, uint32_t *longest)
{
    enum at_status st = AT_OK;

    s->prompts.system = cli_flag_text(c->args, "system_prompt");
    TRY(cli_prompts_open(&s->prompts, &c->bundle));
    TRY(cli_prompts_read(&s->prompts, s->path));
    if (s->prompts.n == 0)
        FAIL(AT_DATA, "%s has no prompts", s->path);
    for (size_t i = 0; i < s->prompts.n; i++)
        *longest = s->prompts.items[i].n > *longest ? s->prompts.items[i].n : *longest;
done:
    return st;
}

static AT_CHECKED open_all(struct coverage *c)
{
    enum at_status st = AT_OK;
    const struct cli_args *a = c->args;
    const struct at_bundle_params bundle = { .path = cli_flag_text(a, "model_name_or_path"),
                                             .tokenizer_dir = cli_flag_text(a, "tokenizer"),
                                             .chat_template_path =
                                                 cli_flag_text(a, "chat_template") };
    struct at_generator_params p = { .gpu = cli_gpu_params(a),
                                     .adapter_scale = 1,
                                     .sampler = { .n_sequences = 1, .n_samples = 1 } };

    if (a->n_positional == 0 || !c->log.path || !bundle.path)
        FAIL(AT_USAGE, "usage: attune data coverage %s", a->command->usage);
    c->train.path = a->positional[0];
    TRY(at_bundle_open(&c->bundle, &bundle));
    TRY(open_prompts(c, &c->train, &p.sampler.n_positions));
    TRY(open_prompts(c, &c->log, &p.sampler.n_positions));
    c->n_common = common_tokens(c);
    TRY(at_generator_open(&c->generator, c->bundle.weights, &c->bundle.config, &p));
    cli_note("device   %s, driver %s", at_generator_get_info(c->generator)->name,
             at_generator_get_info(c->generator)->driver);
done:
    return st;
}

enum at_status cli_data_coverage(struct cli_args *args)
{
    enum at_status st = AT_OK;
    struct coverage c = { .args = args, .log.path = cli_flag_text(args, "against") };
    const char *output = cli_flag_text(args, "output");
    uint32_t n = 20;

    TRY(cli_gpu_check(args));
    TRY(cli_flag_u32(&n, args, "n", 1, UINT32_MAX));
    if (output && at_path_exists(output))
        FAIL(AT_CANNOT_WRITE, "%s exists, and nothing is overwritten; name another file", output);
    if (output)
        TRY(at_file_check_writable(output));
    TRY(open_all(&c));
    TRY(compute(&c, &c.train));
    TRY(compute(&c, &c.log));
    TRY(rank(&c));
    c.n_shown = n < c.log.prompts.n ? n : c.log.prompts.n;
    if (cli_flag_on(args, "json"))
        TRY(print_json(&c));
    else
        print_text(&c);
    if (output) {
        TRY(write_prompts(&c, output));
        cli_next("next     attune generate %s --prompts %s --pairs > candidates.jsonl",
                 cli_flag_text(args, "model_name_or_path"), output);
    } else {
        cli_next("next     the same with --output FILE.jsonl, to write replies to these prompts");
    }
done:
    at_generator_close(&c.generator);
    at_bundle_close(&c.bundle);
    cli_prompts_release(&c.train.prompts);
    cli_prompts_release(&c.log.prompts);
    at_free(&c.train.values);
    at_free(&c.log.values);
    at_free(&c.among);
    at_free(&c.found);
    return st;
}
