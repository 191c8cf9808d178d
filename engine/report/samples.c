/* Samples of a run that drew them: completions.jsonl at its start, middle and end. */
#include "report_parts.h"

#include <math.h>
#include <string.h>

enum { EXCERPT = 480 };

struct reading {
    size_t n, wanted[SAMPLES_SHOWN]; /* lines so far; the places of those that are kept */
    cJSON **kept;                    /* NULL: lines are counted */
};

static enum at_status take_line(void *context, const cJSON *line, const char *name)
{
    struct reading *r = context;

    if (!cJSON_IsArray(at_json_find(line, "completions")) ||
        !cJSON_IsObject(at_json_find(line, "rewards")))
        return at_fail(
            AT_DATA,
            "%s: \"completions\", a list, or \"rewards\", an object, is missing; it is no "
            "completions.jsonl",
            name);
    for (size_t i = 0; r->kept && i < SAMPLES_SHOWN; i++)
        if (r->wanted[i] == r->n && !r->kept[i])
            r->kept[i] = cJSON_Duplicate(line, true);
    r->n++;
    return AT_OK;
}

AT_CHECKED samples_read(cJSON *out[SAMPLES_SHOWN], const char *path)
{
    enum at_status st = AT_OK;
    struct reading r = { .n = 0 };

    TRY(report_lines(path, take_line, &r));
    if (r.n == 0)
        goto done;
    for (size_t i = 0; i < SAMPLES_SHOWN; i++)
        r.wanted[i] = i * (r.n - 1) / (SAMPLES_SHOWN - 1);
    r.n = 0;
    r.kept = out;
    TRY(report_lines(path, take_line, &r));
done:
    return st;
}

/* ---- the section ---- */

/* A text, or the last message of a conversation. */
static const char *prompt_text(const cJSON *prompt)
{
    const cJSON *last =
        cJSON_IsArray(prompt) ? cJSON_GetArrayItem(prompt, cJSON_GetArraySize(prompt) - 1) : NULL;
    const char *text =
        cJSON_GetStringValue(cJSON_IsString(prompt) ? prompt : at_json_find(last, "content"));

    return text ? text : "";
}

/* The sum of what a sample was given. */
static double reward_of(const cJSON *line, int k)
{
    double sum = 0;
    const cJSON *list = NULL;

    cJSON_ArrayForEach(list, at_json_find(line, "rewards"))
    {
        const cJSON *x = cJSON_GetArrayItem(list, k);
        sum += cJSON_IsNumber(x) ? x->valuedouble : 0;
    }
    return sum;
}

static void put_sample(struct at_buf *out, const char *name, const cJSON *line, int k)
{
    const char *text =
        cJSON_GetStringValue(cJSON_GetArrayItem(at_json_find(line, "completions"), k));
    const cJSON *list = NULL;

    at_buf_printf(out, "<div><small>%s:", name);
    cJSON_ArrayForEach(list, at_json_find(line, "rewards"))
    {
        const cJSON *x = cJSON_GetArrayItem(list, k);
        at_buf_puts(out, " ");
        html_text(out, list->string);
        if (cJSON_IsNumber(x))
            at_buf_printf(out, " %.4g", x->valuedouble);
        else
            at_buf_puts(out, " none");
    }
    at_buf_puts(out, "</small><p class=\"said\">");
    html_excerpt(out, text ? text : "", EXCERPT);
    at_buf_puts(out, "</p></div>");
}

AT_CHECKED page_samples(struct page *p)
{
    static const char *const when[SAMPLES_SHOWN] = { "at the start", "in the middle",
                                                     "at the end" };
    cJSON *const *samples = p->report->samples;
    struct at_buf *out = &p->text;

    if (!samples[0])
        return AT_OK;
    at_buf_puts(out, "<section><h2>What it tried</h2>\n<p class=\"soft\">Samples of the training, "
                     "to one request each: the one with the highest reward, and the one with the "
                     "lowest.</p>\n");
    for (size_t i = 0; i < SAMPLES_SHOWN; i++) {
        if (i > 0 && cJSON_Compare(samples[i], samples[i - 1], true))
            continue; /* of fewer than three rollouts */
        const int n = cJSON_GetArraySize(at_json_find(samples[i], "completions"));
        const cJSON *step = at_json_find(samples[i], "step");
        int best = 0, worst = 0;
        for (int k = 1; k < n; k++) {
            best = reward_of(samples[i], k) > reward_of(samples[i], best) ? k : best;
            worst = reward_of(samples[i], k) < reward_of(samples[i], worst) ? k : worst;
        }
        at_buf_printf(out,
                      "<div class=\"pair\"><small>%s, step %.0f: request</small><p "
                      "class=\"said\">",
                      when[i], cJSON_IsNumber(step) ? step->valuedouble : 0);
        html_excerpt(out, prompt_text(at_json_find(samples[i], "prompt")), EXCERPT);
        at_buf_puts(out, "</p><div class=\"sides\">");
        put_sample(out, "highest", samples[i], best);
        if (worst != best)
            put_sample(out, "lowest", samples[i], worst);
        at_buf_puts(out, "</div></div>\n");
    }
    at_buf_puts(out, "</section>\n");
    return at_buf_status(out);
}
