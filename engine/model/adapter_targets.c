/* Which linear layers an adapter is put on, and with which rank and alpha: PEFT's rules. */
#include "adapter_file.h"

#include <math.h>
#include <string.h>

AT_CHECKED at_adapter_path(struct at_arena *arena, char **out, const struct at_family *family,
                           uint32_t k)
{
    const char *path = at_linear_path(family, k % AT_LINEARS);

    *out = NULL;
    return path ? at_arena_printf(arena, out, path, k / AT_LINEARS) : AT_OK;
}

AT_CHECKED at_adapter_tensor_name(struct at_arena *arena, char **out,
                                  const struct at_family *family, uint32_t layer, uint32_t linear,
                                  char part)
{
    enum at_status st = AT_OK;
    char *module = NULL;

    TRY(at_adapter_path(arena, &module, family, layer * AT_LINEARS + linear));
    AT_REQUIRE(module);
    if (part == 'm')
        TRY(at_arena_printf(arena, out, "base_model.model.%s.lora_magnitude_vector", module));
    else
        TRY(at_arena_printf(arena, out, "base_model.model.%s.lora_%c.weight", module, part));
done:
    return st;
}

/* ---- names ---- */

/* What is chosen among: paths of all linear layers, NULL where the family has none, and the names
 * of the modules for messages. */
struct choice {
    char **paths, *names;
    size_t n;
};

static AT_CHECKED list_modules(struct choice *out, struct at_arena *arena,
                               const struct at_model_config *c)
{
    enum at_status st = AT_OK;

    out->n = (size_t)c->L * AT_LINEARS;
    out->names = NULL;
    TRY(at_arena_alloc(arena, &out->paths, out->n, sizeof *out->paths));
    for (uint32_t k = 0; k < out->n; k++) {
        TRY(at_adapter_path(arena, &out->paths[k], c->family, k));
        if (k < AT_LINEARS && out->paths[k] && at_linear_module(c->family, k) == k)
            TRY(at_arena_printf(arena, &out->names, "%s%s%s", out->names ? out->names : "",
                                out->names ? ", " : "", at_linear_name(c->family, k)));
    }
done:
    return st;
}

/* PEFT: the module's name, or its tail behind a dot. */
static bool name_matches(const char *module, const char *item)
{
    const size_t n = strlen(module), m = strlen(item);

    return n >= m && strcmp(module + n - m, item) == 0 && (n == m || module[n - m - 1] == '.');
}

static AT_CHECKED select_name(bool *selected, const struct choice *all, const char *item)
{
    bool found = false;

    for (size_t i = 0; i < all->n; i++)
        if (all->paths[i] && name_matches(all->paths[i], item))
            selected[i] = found = true;
    if (!found)
        return at_fail(AT_USAGE,
                       "target_modules: \"%s\" is no linear layer of this model; there are %s",
                       item, all->names);
    return AT_OK;
}

static AT_CHECKED select_list(struct at_arena *arena, bool *selected, const struct choice *all,
                              const char *list)
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
            TRY(select_name(selected, all, item));
        at += length + (at[length] == ',');
    }
done:
    return st;
}

/* ---- patterns ---- */

/* Python's re.fullmatch. */
static AT_CHECKED select_pattern(bool *selected, const struct choice *all,
                                 const struct at_family *family, const char *text)
{
    const char *const embedding = at_role_name(family, AT_EMBED);
    enum at_status st = AT_OK;
    struct at_pattern *pattern = NULL;
    struct at_arena arena = { 0 };
    char *others[] = { NULL, NULL };
    bool matched = false;

    TRY(at_arena_strndup(&arena, &others[0], "lm_head", 7));
    TRY(at_arena_strndup(&arena, &others[1], embedding, strlen(embedding) - strlen(".weight")));
    TRY(at_pattern_open(&pattern, text, "target_modules"));
    for (size_t i = 0; i < all->n; i++)
        if (all->paths[i])
            TRY(at_pattern_match(&selected[i], pattern, all->paths[i]));
    for (size_t i = 0; i < AT_COUNT(others); i++) {
        TRY(at_pattern_match(&matched, pattern, others[i]));
        if (matched)
            FAIL(AT_USAGE,
                 "target_modules: the pattern \"%s\" also selects %s, which takes no adapter "
                 "in this version; there are %s",
                 text, others[i], all->names);
    }
done:
    at_pattern_close(&pattern);
    at_arena_release(&arena);
    return st;
}

static bool is_pattern(const char *target_modules)
{
    return strpbrk(target_modules, "\\^$*+?()[]{}|") != NULL;
}

AT_CHECKED at_adapter_select(bool *selected, const struct at_model_config *c,
                             const char *target_modules)
{
    enum at_status st = AT_OK;
    struct at_arena arena = { 0 };
    struct choice all = { 0 };
    bool any = false;

    TRY(list_modules(&all, &arena, c));
    for (size_t i = 0; i < all.n; i++)
        selected[i] = all.paths[i] && strcmp(target_modules, "all-linear") == 0;
    if (is_pattern(target_modules))
        TRY(select_pattern(selected, &all, c->family, target_modules));
    else if (strcmp(target_modules, "all-linear") != 0)
        TRY(select_list(&arena, selected, &all, target_modules));
    for (size_t i = 0; i < all.n; i++)
        any = any || selected[i];
    if (!any)
        FAIL(AT_USAGE,
             "target_modules: \"%s\" selects nothing; there are %s in layers 0 to %u, or "
             "all-linear",
             target_modules, all.names, c->L - 1);
done:
    at_arena_release(&arena);
    return st;
}

/* ---- layout ---- */

/* Leaves only the modules of these layers. PEFT takes layers with names alone, not with a pattern,
 * whose paths have the layer in them. */
static AT_CHECKED keep_layers(bool *selected, const struct at_model_config *c,
                              const struct at_adapter_params *p)
{
    enum at_status st = AT_OK;
    bool any = false;

    if (p->n_layers > 0 && is_pattern(p->target_modules))
        FAIL(AT_USAGE,
             "layers_to_transform needs target modules by name or all-linear; the pattern \"%s\" "
             "can name layers itself, as in model\\.layers\\.[01]\\..*q_proj",
             p->target_modules);
    for (size_t i = 0; i < p->n_layers; i++)
        if (p->layers[i] != floor(p->layers[i]) || p->layers[i] >= c->L)
            FAIL(AT_USAGE, "layers_to_transform: %g is no layer of this model, which has 0 to %u",
                 p->layers[i], c->L - 1);
    for (size_t k = 0; k < (size_t)c->L * AT_LINEARS; k++) {
        const size_t layer = k / AT_LINEARS;
        bool kept = p->n_layers == 0;
        for (size_t i = 0; i < p->n_layers; i++)
            kept = kept || p->layers[i] == (double)layer;
        selected[k] = selected[k] && kept;
        any = any || selected[k];
    }
    if (!any)
        FAIL(AT_USAGE,
             "target_modules: \"%s\" selects nothing in the layers of "
             "layers_to_transform",
             p->target_modules);
done:
    return st;
}

static AT_CHECKED pattern_of(double *values, const char *text, const bool *selected,
                             const struct at_pattern_params *params)
{
    enum at_status st = AT_OK;
    cJSON *patterns = NULL;

    if (!text)
        goto done;
    TRY(at_json_parse(&patterns, text, strlen(text), params->what, 1));
    TRY(at_pattern_values(values, patterns, selected, params));
done:
    at_json_free(&patterns);
    return st;
}

AT_CHECKED at_adapter_layout(uint32_t *rank, double *alpha, const struct at_model_config *c,
                             const struct at_adapter_params *p)
{
    const size_t n = (size_t)c->L * AT_LINEARS;
    /* the ranges of lora_r and lora_alpha */
    const struct at_pattern_params ranks = {
        .what = "rank_pattern", .least = 1, .most = 1024, .whole = true, .strict = true, .model = c
    };
    const struct at_pattern_params alphas = {
        .what = "alpha_pattern", .least = 1e-6, .most = 1e5, .strict = true, .model = c
    };
    enum at_status st = AT_OK;
    struct at_arena arena = { 0 };
    double *values = NULL;
    bool *selected = NULL;

    TRY(at_arena_alloc(&arena, &selected, n, sizeof *selected));
    TRY(at_arena_alloc(&arena, &values, n, sizeof *values));
    TRY(at_adapter_select(selected, c, p->target_modules));
    TRY(keep_layers(selected, c, p));
    for (size_t k = 0; k < n; k++) {
        values[k] = p->r;
        alpha[k] = p->alpha;
    }
    TRY(pattern_of(values, p->rank_pattern, selected, &ranks));
    TRY(pattern_of(alpha, p->alpha_pattern, selected, &alphas));
    for (size_t k = 0; k < n; k++)
        rank[k] = selected[k] ? (uint32_t)values[k] : 0;
done:
    at_arena_release(&arena);
    return st;
}
