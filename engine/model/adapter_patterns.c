/* Regular expressions over the paths of linear layers: PEFT's rank_pattern and alpha_pattern. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "adapter_file.h"

#include <math.h>
#include <pcre2.h>
#include <string.h>

/* Steps of the matcher on one name; a pattern that needs more is refused instead of running on. */
enum { MATCH_LIMIT = 100000 };

struct at_pattern {
    pcre2_code *code;
    pcre2_match_data *data;
    pcre2_match_context *context;
    const char *what;
};

AT_CHECKED at_pattern_open(struct at_pattern **out, const char *text, const char *what)
{
    enum at_status st = AT_OK;
    PCRE2_SIZE at = 0;
    int error = 0;

    TRY(at_alloc(out, 1, sizeof **out));
    (*out)->what = what;
    (*out)->code = pcre2_compile((PCRE2_SPTR)text, strlen(text),
                                 PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_UTF, &error, &at, NULL);
    if (!(*out)->code) {
        PCRE2_UCHAR reason[120] = { 0 };
        pcre2_get_error_message(error, reason, sizeof reason);
        FAIL(AT_USAGE, "%s: the pattern \"%s\" is wrong at character %zu: %s", what, text,
             (size_t)at + 1, (const char *)reason);
    }
    (*out)->data = pcre2_match_data_create_from_pattern((*out)->code, NULL);
    (*out)->context = pcre2_match_context_create(NULL);
    if (!(*out)->data || !(*out)->context)
        FAIL(AT_MEMORY, "%s: no memory for the pattern", what);
    pcre2_set_match_limit((*out)->context, MATCH_LIMIT);
done:
    if (st != AT_OK)
        at_pattern_close(out);
    return st;
}

void at_pattern_close(struct at_pattern **pattern)
{
    struct at_pattern *p = *pattern;

    if (!p)
        return;
    pcre2_match_context_free(p->context);
    pcre2_match_data_free(p->data);
    pcre2_code_free(p->code);
    at_free(pattern);
}

AT_CHECKED at_pattern_match(bool *matched, const struct at_pattern *p, const char *module)
{
    const int rc =
        pcre2_match(p->code, (PCRE2_SPTR)module, strlen(module), 0, 0, p->data, p->context);

    *matched = rc >= 0;
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
        return at_fail(AT_USAGE, "%s: the pattern takes too long on %s (PCRE2 error %d)", p->what,
                       module, rc);
    return AT_OK;
}

/* ---- values by pattern ---- */

/* The adapted module's name or path that is nearest to `key`. */
static const char *nearest(const char *key, char *const *modules, const bool *adapted, size_t n)
{
    const char *best = NULL;
    size_t least = SIZE_MAX;

    for (size_t k = 0; k < n; k++) {
        const char *dot = modules[k] ? strrchr(modules[k], '.') : NULL;
        const char *names[] = { dot ? dot + 1 : "", dot ? modules[k] : "" };
        for (size_t i = 0; i < AT_COUNT(names) && adapted[k] && dot; i++) {
            const size_t d = at_edit_distance(key, names[i]);
            if (!best || d < least) {
                least = d;
                best = names[i];
            }
        }
    }
    return best;
}

/* Gives the modules of one entry that no entry before it took its number. */
static AT_CHECKED apply(double *values, bool *taken, const cJSON *entry, char *const *modules,
                        const bool *adapted, const struct at_pattern_params *p)
{
    const size_t n = (size_t)p->model->L * AT_LINEARS;
    enum at_status st = AT_OK;
    struct at_pattern *pattern = NULL;
    struct at_arena arena = { 0 };
    char *text = NULL;
    bool found = false;

    if (!cJSON_IsNumber(entry) || !(entry->valuedouble >= p->least) ||
        entry->valuedouble > p->most ||
        (p->whole && entry->valuedouble != floor(entry->valuedouble)))
        FAIL(AT_USAGE, "%s: \"%s\" must have a %s from %g to %g", p->what, entry->string,
             p->whole ? "whole number" : "number", p->least, p->most);
    TRY(at_arena_printf(&arena, &text, "(.*\\.)?(%s)", entry->string));
    TRY(at_pattern_open(&pattern, text, p->what));
    for (size_t k = 0; k < n; k++) {
        bool matched = false;
        if (!adapted[k] || !modules[k])
            continue;
        TRY(at_pattern_match(&matched, pattern, modules[k]));
        found = found || matched;
        if (!matched || taken[k])
            continue;
        values[k] = entry->valuedouble;
        taken[k] = true;
    }
    if (!found && p->strict)
        FAIL(AT_USAGE, "%s: \"%s\" matches no module that has an adapter; the nearest is %s",
             p->what, entry->string, nearest(entry->string, modules, adapted, n));
done:
    at_pattern_close(&pattern);
    at_arena_release(&arena);
    return st;
}

AT_CHECKED at_pattern_values(double *values, const cJSON *patterns, const bool *adapted,
                             const struct at_pattern_params *p)
{
    const size_t n = (size_t)p->model->L * AT_LINEARS;
    enum at_status st = AT_OK;
    struct at_arena arena = { 0 };
    char **modules = NULL;
    bool *taken = NULL;

    if (!patterns || cJSON_IsNull(patterns))
        goto done;
    if (!cJSON_IsObject(patterns))
        FAIL(AT_USAGE, "%s: must be an object of patterns and numbers", p->what);
    TRY(at_arena_alloc(&arena, &modules, n, sizeof *modules));
    TRY(at_arena_alloc(&arena, &taken, n, sizeof *taken));
    for (uint32_t k = 0; k < n; k++)
        TRY(at_adapter_path(&arena, &modules[k], p->model->family, k));
    for (const cJSON *entry = patterns->child; entry; entry = entry->next)
        TRY(apply(values, taken, entry, modules, adapted, p));
done:
    at_arena_release(&arena);
    return st;
}
