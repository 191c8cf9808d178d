/* Which linear layers an adapter is put on: PEFT's rules for target_modules. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "adapter_file.h"

#include <pcre2.h>
#include <string.h>

/* Steps of the matcher on one name; a pattern that needs more is refused instead of running on. */
enum { MATCH_LIMIT = 100000 };

static const char available[] = "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj";

void at_linear_shape(const struct at_model_config *c, uint32_t i, uint32_t *in, uint32_t *out)
{
    const uint32_t HD = c->H * c->D, GD = c->G * c->D;
    const uint32_t shape[AT_LINEARS][2] = { { c->C, HD },  { c->C, GD },   { c->C, GD },
                                            { HD, c->C },  { c->C, c->F }, { c->C, c->F },
                                            { c->F, c->C } };

    AT_REQUIRE(i < AT_LINEARS);
    *in = shape[i][0];
    *out = shape[i][1];
}

AT_CHECKED at_adapter_tensor_name(struct at_arena *arena, char **out, uint32_t layer,
                                  uint32_t linear, char part)
{
    enum at_status st = AT_OK;
    char *module = NULL;

    TRY(at_arena_printf(arena, &module, at_linear_path(linear), layer));
    TRY(at_arena_printf(arena, out, "base_model.model.%s.lora_%c.weight", module, part));
done:
    return st;
}

/* ---- names ---- */

/* PEFT: the module's name, or its tail behind a dot. */
static bool name_matches(const char *module, const char *item)
{
    const size_t n = strlen(module), m = strlen(item);

    return n >= m && strcmp(module + n - m, item) == 0 && (n == m || module[n - m - 1] == '.');
}

static AT_CHECKED select_name(bool *selected, char *const *modules, size_t n, const char *item)
{
    bool found = false;

    for (size_t i = 0; i < n; i++)
        if (name_matches(modules[i], item))
            selected[i] = found = true;
    if (!found)
        return at_fail(AT_USAGE,
                       "target_modules: \"%s\" is no linear layer of this model; there are %s",
                       item, available);
    return AT_OK;
}

static AT_CHECKED select_list(struct at_arena *arena, bool *selected, char *const *modules,
                              size_t n, const char *list)
{
    enum at_status st = AT_OK;

    for (const char *at = list; *at;) {
        const size_t length = strcspn(at, ",");
        size_t begin = 0, end = length;
        char *item = NULL;
        while (begin < end && at[begin] == ' ')
            begin++;
        while (end > begin && at[end - 1] == ' ')
            end--;
        TRY(at_arena_strndup(arena, &item, at + begin, end - begin));
        if (item[0])
            TRY(select_name(selected, modules, n, item));
        at += length + (at[length] == ',');
    }
done:
    return st;
}

/* ---- patterns ---- */

static AT_CHECKED match_pattern(bool *matched, const pcre2_code *code, pcre2_match_data *data,
                                pcre2_match_context *context, const char *module)
{
    const int rc = pcre2_match(code, (PCRE2_SPTR)module, strlen(module), 0, 0, data, context);

    *matched = rc >= 0;
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
        return at_fail(AT_USAGE,
                       "target_modules: the pattern takes too long on %s (PCRE2 error %d)", module,
                       rc);
    return AT_OK;
}

/* Python's re.fullmatch. */
static AT_CHECKED select_pattern(bool *selected, char *const *modules, size_t n,
                                 const char *pattern)
{
    static const char *const others[] = { "lm_head", "model.embed_tokens" };
    enum at_status st = AT_OK;
    pcre2_match_context *context = NULL;
    pcre2_match_data *data = NULL;
    pcre2_code *code = NULL;
    PCRE2_SIZE at = 0;
    bool matched = false;
    int error = 0;

    code = pcre2_compile((PCRE2_SPTR)pattern, strlen(pattern),
                         PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_UTF, &error, &at, NULL);
    if (!code) {
        PCRE2_UCHAR text[120] = { 0 };
        pcre2_get_error_message(error, text, sizeof text);
        FAIL(AT_USAGE, "target_modules: the pattern \"%s\" is wrong at character %zu: %s", pattern,
             (size_t)at + 1, (const char *)text);
    }
    data = pcre2_match_data_create_from_pattern(code, NULL);
    context = pcre2_match_context_create(NULL);
    if (!data || !context)
        FAIL(AT_MEMORY, "target_modules: no memory for the pattern");
    pcre2_set_match_limit(context, MATCH_LIMIT);
    for (size_t i = 0; i < n; i++)
        TRY(match_pattern(&selected[i], code, data, context, modules[i]));
    for (size_t i = 0; i < AT_COUNT(others); i++) {
        TRY(match_pattern(&matched, code, data, context, others[i]));
        if (matched)
            FAIL(AT_USAGE,
                 "target_modules: the pattern \"%s\" also selects %s, which takes no adapter "
                 "in this version; there are %s",
                 pattern, others[i], available);
    }
done:
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
    pcre2_code_free(code);
    return st;
}

AT_CHECKED at_adapter_select(bool *selected, const struct at_model_config *c,
                             const char *target_modules)
{
    const size_t n = (size_t)c->L * AT_LINEARS;
    enum at_status st = AT_OK;
    struct at_arena arena = { 0 };
    char **modules = NULL;
    bool any = false;

    TRY(at_arena_alloc(&arena, &modules, n, sizeof *modules));
    for (size_t i = 0; i < n; i++) {
        selected[i] = strcmp(target_modules, "all-linear") == 0;
        TRY(at_arena_printf(&arena, &modules[i], at_linear_path((uint32_t)(i % AT_LINEARS)),
                            (uint32_t)(i / AT_LINEARS)));
    }
    if (strpbrk(target_modules, "\\^$*+?()[]{}|"))
        TRY(select_pattern(selected, modules, n, target_modules));
    else if (strcmp(target_modules, "all-linear") != 0)
        TRY(select_list(&arena, selected, modules, n, target_modules));
    for (size_t i = 0; i < n; i++)
        any = any || selected[i];
    if (!any)
        FAIL(AT_USAGE,
             "target_modules: \"%s\" selects nothing; there are %s in layers 0 to %u, or "
             "all-linear",
             target_modules, available, c->L - 1);
done:
    at_arena_release(&arena);
    return st;
}
