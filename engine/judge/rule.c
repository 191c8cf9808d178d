#define PCRE2_CODE_UNIT_WIDTH 8
#include "rule.h"

#include "lint.h"
#include "overlap.h"
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* Steps of the matcher on one reply. */
enum { MATCH_LIMIT = 1000000 };

enum kind { CONTAINS_ANY, EXCLUDES_ANY, JSON_SCHEMA, LANGUAGE, MAX_WORDS, MIN_WORDS, REGEX, KINDS };
static const char *const names[KINDS] = {
    [CONTAINS_ANY] = "contains_any",
    [EXCLUDES_ANY] = "excludes_any",
    [JSON_SCHEMA] = "json_schema",
    [LANGUAGE] = "language",
    [MAX_WORDS] = "max_words",
    [MIN_WORDS] = "min_words",
    [REGEX] = "regex",
};

struct at_rule {
    enum kind kind;
    const cJSON *value;
    const char *name;
    struct at_lint_words words; /* of LANGUAGE */
    pcre2_code *code;
    pcre2_match_data *data;
    pcre2_match_context *context;
};

/* ---- texts in any case ---- */

static AT_CHECKED fold(utf8proc_uint8_t **out, const char *text)
{
    const utf8proc_option_t options =
        UTF8PROC_NULLTERM | UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_CASEFOLD;

    *out = NULL;
    if (utf8proc_map((const utf8proc_uint8_t *)text, 0, out, options) < 0)
        return at_fail(AT_DATA, "a text is no UTF-8");
    return AT_OK;
}

static AT_CHECKED holds_any(bool *out, const cJSON *list, const char *reply)
{
    enum at_status st = AT_OK;
    utf8proc_uint8_t *folded = NULL, *part = NULL;

    *out = false;
    TRY(fold(&folded, reply));
    for (const cJSON *item = list->child; item && !*out; item = item->next) {
        TRY(fold(&part, item->valuestring));
        *out = strstr((const char *)folded, (const char *)part) != NULL;
        free(part);
        part = NULL;
    }
done:
    free(folded);
    return st;
}

/* ---- opening ---- */

static AT_CHECKED check_strings(const cJSON *list, const char *key, const char *name)
{
    bool good = cJSON_IsArray(list) && list->child;

    for (const cJSON *item = good ? list->child : NULL; item; item = item->next)
        good = good && cJSON_IsString(item) && item->valuestring[0];
    if (!good)
        return at_fail(AT_DATA, "%s: %s must be a list of texts", name, key);
    return AT_OK;
}

static AT_CHECKED compile(struct at_rule *rule, const char *name)
{
    const uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C;
    enum at_status st = AT_OK;
    PCRE2_SIZE at = 0;
    int error = 0;

    if (!cJSON_IsString(rule->value))
        FAIL(AT_DATA, "%s: regex must be a text", name);
    rule->code = pcre2_compile((PCRE2_SPTR)rule->value->valuestring,
                               strlen(rule->value->valuestring), options, &error, &at, NULL);
    if (!rule->code) {
        PCRE2_UCHAR reason[120] = { 0 };
        pcre2_get_error_message(error, reason, sizeof reason);
        FAIL(AT_DATA, "%s: the pattern \"%.200s\" is wrong at character %zu: %s", name,
             rule->value->valuestring, (size_t)at + 1, (const char *)reason);
    }
    rule->data = pcre2_match_data_create_from_pattern(rule->code, NULL);
    rule->context = pcre2_match_context_create(NULL);
    if (!rule->data || !rule->context)
        FAIL(AT_MEMORY, "%s: no memory for the pattern", name);
    pcre2_set_match_limit(rule->context, MATCH_LIMIT);
done:
    return st;
}

static AT_CHECKED find_language(struct at_rule *rule, const char *name)
{
    const char *wanted = cJSON_GetStringValue(rule->value), *known = NULL;
    struct at_buf list = { 0 };

    for (size_t i = 0; (known = at_lint_language_name(i)) != NULL; i++) {
        if (wanted && strcmp(known, wanted) == 0)
            break;
        at_buf_printf(&list, "%s%s", i ? ", " : "", known);
    }
    if (!known)
        at_fail(AT_DATA, "%s: language must be one of %s", name, list.data ? list.data : "?");
    else
        at_lint_words_init(&rule->words);
    at_buf_release(&list);
    return known ? AT_OK : AT_DATA;
}

static enum kind kind_of(const char *key)
{
    uint32_t kind = 0;

    while (kind < KINDS && strcmp(names[kind], key) != 0)
        kind++;
    return (enum kind)kind;
}

bool at_rule_is_kind(const char *key)
{
    return kind_of(key) != KINDS;
}

const char *at_rule_suggest(const char *key)
{
    const char *best = NULL;
    size_t near = 4;

    for (size_t k = 0; k < KINDS; k++) {
        const size_t d = at_edit_distance(key, names[k]);
        best = d < near ? names[k] : best;
        near = d < near ? d : near;
    }
    return best;
}

AT_CHECKED at_rule_open(struct at_rule **out, const cJSON *json, const char *name)
{
    enum at_status st = AT_OK;
    const cJSON *only = cJSON_IsObject(json) ? json->child : NULL;
    struct at_rule *rule = NULL;
    enum kind kind = KINDS;

    *out = NULL;
    if (!only || only->next)
        FAIL(AT_DATA,
             "%s: a rule is an object with one key, such as {\"contains_any\": [\"Paris\"]}", name);
    kind = kind_of(only->string);
    if (kind == KINDS)
        FAIL(AT_DATA,
             "%s: unknown rule \"%.60s\"; there are contains_any, excludes_any, json_schema, "
             "language, max_words, min_words, regex",
             name, only->string);
    TRY(at_alloc(&rule, 1, sizeof *rule));
    *rule = (struct at_rule){ .kind = kind, .value = only, .name = name };
    if (kind == CONTAINS_ANY || kind == EXCLUDES_ANY)
        TRY(check_strings(only, names[kind], name));
    if ((kind == MAX_WORDS || kind == MIN_WORDS) && !cJSON_IsNumber(only))
        FAIL(AT_DATA, "%s: %s must be a number", name, names[kind]);
    if (kind == LANGUAGE)
        TRY(find_language(rule, name));
    if (kind == JSON_SCHEMA)
        TRY(at_schema_check(only, name));
    if (kind == REGEX)
        TRY(compile(rule, name));
    *out = rule;
    rule = NULL;
done:
    at_rule_close(&rule);
    return st;
}

void at_rule_close(struct at_rule **rule)
{
    struct at_rule *r = *rule;

    if (!r)
        return;
    pcre2_match_context_free(r->context);
    pcre2_match_data_free(r->data);
    pcre2_code_free(r->code);
    at_free(rule);
}

/* ---- checking ---- */

static AT_CHECKED matches(bool *out, const struct at_rule *rule, const char *reply)
{
    const int rc =
        pcre2_match(rule->code, (PCRE2_SPTR)reply, strlen(reply), 0, 0, rule->data, rule->context);

    *out = rc >= 0;
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
        return at_fail(AT_DATA, "%s: the pattern takes too long on a reply (PCRE2 error %d)",
                       rule->name, rc);
    return AT_OK;
}

static bool fits_schema(const cJSON *schema, const char *reply)
{
    cJSON *json = NULL;
    bool fits = false;

    if (at_json_parse(&json, reply, strlen(reply), "reply", 1) == AT_OK)
        fits = at_schema_fits(schema, json);
    at_json_free(&json);
    return fits;
}

static bool is_in(const struct at_rule *rule, const char *reply)
{
    const char *found = at_lint_language(&rule->words, reply);

    return found && strcmp(found, rule->value->valuestring) == 0;
}

AT_CHECKED at_rule_check(bool *passed, const struct at_rule *rule, const char *reply)
{
    enum at_status st = AT_OK;

    switch (rule->kind) {
    case CONTAINS_ANY:
    case EXCLUDES_ANY:
        TRY(holds_any(passed, rule->value, reply));
        *passed = *passed == (rule->kind == CONTAINS_ANY);
        break;
    case JSON_SCHEMA:
        *passed = fits_schema(rule->value, reply);
        break;
    case LANGUAGE:
        *passed = is_in(rule, reply);
        break;
    case MAX_WORDS:
        *passed = at_words(reply) <= rule->value->valuedouble;
        break;
    case MIN_WORDS:
        *passed = at_words(reply) >= rule->value->valuedouble;
        break;
    case REGEX:
        TRY(matches(passed, rule, reply));
        break;
    case KINDS:
        AT_BUG("a rule without a kind");
    }
done:
    if (st == AT_DATA)
        at_context("%s", rule->name);
    return st;
}
