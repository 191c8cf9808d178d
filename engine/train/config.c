#include "config.h"

#include "config_paths.h"
#include "objective.h"
#include "os.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- tables ---- */

enum key_type {
    TYPE_STR,
    TYPE_CHOICE,
    TYPE_U32,
    TYPE_F64,
    TYPE_BOOL,
    TYPE_LIST,
    TYPE_CHOICES,
    TYPE_NUMBERS,
    TYPE_OBJECT,
    TYPE_SOURCES
};

static const char *const type_names[] = { "STR",  "CHOICE",  "U32",     "F64",    "BOOL",
                                          "LIST", "CHOICES", "NUMBERS", "OBJECT", "SOURCES" };

struct key_row {
    const char *name;
    enum key_type type;
    const char *range, *methods, *trl, *balanced, *help;
    size_t offset;
};
struct word_row {
    const char *name, *text;
};
struct preset_row {
    const char *preset, *name, *value;
};

/* Words of loss_type: every row of losses.def. */
#define PAIR_LOSS_ROW(name, methods, reads, source) "|" #name
#define POLICY_LOSS_ROW(name, methods, reads, source) "|" #name
#define ROW_LOSS_ROW(name, methods, reads, source) "|" #name
#define TOKEN_LOSS_ROW(name, methods, source) "|" #name
static const char loss_names[] = ""
#include "losses.def"
    ;
#undef PAIR_LOSS_ROW
#undef POLICY_LOSS_ROW
#undef ROW_LOSS_ROW
#undef TOKEN_LOSS_ROW
#define LOSS_NAMES (loss_names + 1)

/* Words of method. */
#define METHOD(id, name, letter, ...) "|" #name
static const char method_names[] = ""
#include "methods.def"
    ;
#undef METHOD
#define METHOD_NAMES (method_names + 1)

/* Words of lr_scheduler_type: every row of schedules.def. */
#define SCHEDULE(name, warms_up, factor, knobs, cycles) "|" #name
static const char schedule_names[] = ""
#include "schedules.def"
    ;
#undef SCHEDULE
#define SCHEDULE_NAMES (schedule_names + 1)

#define PRESET(preset, name, value)
#define NO_EFFECT(name, reason)
#define LATER(name, reason)
#define RENAMED(name, now)
#define KEY(type, name, range, methods, trl, balanced, help) \
    { #name, TYPE_##type, range, methods, trl, balanced, help, offsetof(struct at_config, name) },
static const struct key_row keys[] = {
#include "config.def"
};
#undef KEY
#define KEY(type, name, range, methods, trl, balanced, help)

#undef PRESET
#define PRESET(preset, name, value) { #preset, #name, value },
static const struct preset_row presets[] = {
#include "config.def"
};
#undef PRESET
#define PRESET(preset, name, value)

#undef NO_EFFECT
#define NO_EFFECT(name, reason) { #name, reason },
static const struct word_row no_effect[] = {
#include "config.def"
};
#undef NO_EFFECT
#define NO_EFFECT(name, reason)

#undef LATER
#define LATER(name, reason) { #name, reason },
static const struct word_row later[] = {
#include "config.def"
};
#undef LATER
#define LATER(name, reason)

#undef RENAMED
#define RENAMED(name, now) { #name, now },
static const struct word_row renamed[] = {
#include "config.def"
};
#undef RENAMED

static const struct at_method_row methods[AT_METHOD_COUNT] = {
#define METHOD(id, method, of_tables, ...) \
    [AT_##id] = { .name = #method, .letter = of_tables, __VA_ARGS__ },
#include "methods.def"
#undef METHOD
};

const struct at_method_row *at_method_get(enum at_method method)
{
    return &methods[method];
}

bool at_method_find(enum at_method *out, const char *name)
{
    for (size_t i = 0; i < AT_COUNT(methods); i++)
        if (strcmp(methods[i].name, name) == 0) {
            *out = (enum at_method)i;
            return true;
        }
    return false;
}

const char *at_key_name(enum at_key key)
{
    return keys[key].name;
}

const char *at_key_help(enum at_key key)
{
    return keys[key].help;
}

const char *at_key_type(enum at_key key)
{
    return type_names[keys[key].type];
}

const char *at_key_range(enum at_key key)
{
    return keys[key].range;
}

bool at_key_read_by(enum at_key key, enum at_method method)
{
    return strcmp(keys[key].methods, "*") == 0 || strchr(keys[key].methods, methods[method].letter);
}

static const char *word_find(const struct word_row *rows, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(rows[i].name, name) == 0)
            return rows[i].text;
    return NULL;
}

static int key_find(const char *name)
{
    for (int i = 0; i < AT_KEY_COUNT; i++)
        if (strcmp(keys[i].name, name) == 0)
            return i;
    return -1;
}

enum at_key_class at_key_classify(const char *name, enum at_key *key, const char **text)
{
    const int found = key_find(name);

    if (found >= 0) {
        *key = (enum at_key)found;
        return AT_CLASS_ACTIVE;
    }
    if ((*text = word_find(no_effect, AT_COUNT(no_effect), name)) != NULL)
        return AT_CLASS_NO_EFFECT;
    if ((*text = word_find(later, AT_COUNT(later), name)) != NULL)
        return AT_CLASS_LATER;
    if ((*text = word_find(renamed, AT_COUNT(renamed), name)) != NULL)
        return AT_CLASS_RENAMED;
    return AT_CLASS_UNKNOWN;
}

const char *at_key_word(enum at_key_class class, size_t i, const char **text)
{
    static const struct {
        const struct word_row *rows;
        size_t n;
    } lists[] = {
        [AT_CLASS_NO_EFFECT] = { no_effect, AT_COUNT(no_effect) },
        [AT_CLASS_LATER] = { later, AT_COUNT(later) },
        [AT_CLASS_RENAMED] = { renamed, AT_COUNT(renamed) },
    };

    if (class >= AT_COUNT(lists) || i >= lists[class].n)
        return NULL;
    *text = lists[class].rows[i].text;
    return lists[class].rows[i].name;
}

const char *at_config_suggest(const char *name)
{
    const char *best = NULL;
    size_t near = 1 + strlen(name) / 3;

    for (size_t i = 0; i < AT_COUNT(keys); i++) {
        const size_t d = at_edit_distance(name, keys[i].name);
        if (d <= near && (!best || d < near)) {
            near = d;
            best = keys[i].name;
        }
    }
    return best;
}

/* ---- values ---- */

static void *slot(struct at_config *c, enum at_key key)
{
    return (char *)c + keys[key].offset;
}

/* "min..max", "(min..max)": whether x lies inside. */
static bool in_range(const char *range, double x)
{
    const bool open = range[0] == '(';
    const double low = strtod(range + open, NULL), high = strtod(strstr(range, "..") + 2, NULL);

    return open ? x > low && x < high : x >= low && x <= high;
}

static bool in_words(const char *words, const char *value)
{
    const size_t n = strlen(value);

    for (const char *w = words; w; w = strchr(w, '|') ? strchr(w, '|') + 1 : NULL)
        if (strncmp(w, value, n) == 0 && (w[n] == '|' || w[n] == 0))
            return true;
    return false;
}

static AT_CHECKED bad_value(const char *name, const char *want, const cJSON *value)
{
    const bool endless = cJSON_IsNumber(value) && !isfinite(value->valuedouble); /* not of JSON */
    char *text = endless ? NULL : cJSON_PrintUnformatted(value);
    const char *other = !endless                    ? "?"
                        : isnan(value->valuedouble) ? "nan"
                        : value->valuedouble > 0    ? "inf"
                                                    : "-inf";
    const enum at_status st =
        at_fail(AT_USAGE, "%s: %s expected, found %s", name, want, text ? text : other);

    cJSON_free(text);
    return st;
}

static AT_CHECKED set_number(struct at_config *c, enum at_key key, const cJSON *value)
{
    const struct key_row *k = &keys[key];
    enum at_status st = AT_OK;
    char want[96];
    double x = 0;

    snprintf(want, sizeof want, "%s in %s", k->type == TYPE_U32 ? "a whole number" : "a number",
             k->range);
    if (!cJSON_IsNumber(value) && !cJSON_IsNull(value))
        return bad_value(k->name, want, value);
    x = cJSON_IsNull(value) ? 0 : value->valuedouble;
    if (strcmp(k->name, "max_steps") == 0 && x == -1) /* TRL's "no limit" */
        x = 0;
    if (!isfinite(x) || !in_range(k->range, x) || (k->type == TYPE_U32 && x != floor(x)))
        return bad_value(k->name, want, value);
    if (k->type == TYPE_U32)
        *(uint32_t *)slot(c, key) = (uint32_t)x;
    else
        *(double *)slot(c, key) = x;
    return st;
}

static bool is_loss_file(const char *word)
{
    return strncmp(word, AT_LOSS_FILE_PREFIX, sizeof AT_LOSS_FILE_PREFIX - 1) == 0;
}

/* The word is one of the key's. */
static AT_CHECKED check_word(enum at_key key, const char *word, const cJSON *value)
{
    char want[512];

    if (in_words(keys[key].range, word))
        return AT_OK;
    if (key == AT_KEY_loss_type && strcmp(word, "aot_pair") == 0) /* TRL up to 0.27 */
        return at_fail(AT_USAGE, "loss_type aot_pair: write aot_unpaired, here \"loss_type\": "
                                 "\"aot_unpaired\" or --loss_type aot_unpaired");
    if (key == AT_KEY_loss_type && strcmp(word, "chunked_nll") == 0) /* TRL's default for SFT */
        return at_fail(AT_USAGE, "loss_type chunked_nll: write nll, which never holds all logits");
    if (key == AT_KEY_loss_type && strcmp(word, "kto_pair") == 0) /* TRL up to 0.11 */
        return at_fail(AT_USAGE, "loss_type kto_pair: write method kto, which takes pairs apart");
    if (key == AT_KEY_loss_type) /* read_losses() looks whether it is one of the method's */
        return AT_OK;
    snprintf(want, sizeof want, "one of %s", keys[key].range);
    return bad_value(keys[key].name, want, value);
}

static AT_CHECKED set_list(struct at_config *c, enum at_key key, const cJSON *value,
                           const char *dir)
{
    enum at_status st = AT_OK;
    const size_t n = cJSON_IsArray(value) ? (size_t)cJSON_GetArraySize(value) : 1;
    const char **items = NULL;
    double *weights = NULL;
    bool weighted = false;

    TRY(at_arena_alloc(&c->arena, &items, n + 1, sizeof *items));
    TRY(at_arena_alloc(&c->arena, &weights, n + 1, sizeof *weights));
    for (size_t i = 0; i < n; i++) {
        const cJSON *item = cJSON_IsArray(value) ? cJSON_GetArrayItem(value, (int)i) : value;
        TRY(at_config_file(&items[i], &weights[i], &c->arena, key, dir, item));
        if (keys[key].type == TYPE_CHOICES)
            TRY(check_word(key, item->valuestring, item));
        weighted = weighted || weights[i] != 1;
    }
    *(struct at_strings *)slot(c, key) = (struct at_strings){ items, n, weighted ? weights : NULL };
done:
    return st;
}

/* A number or a list of them. */
static AT_CHECKED set_numbers(struct at_config *c, enum at_key key, const cJSON *value)
{
    enum at_status st = AT_OK;
    const struct key_row *k = &keys[key];
    const size_t n = cJSON_IsArray(value) ? (size_t)cJSON_GetArraySize(value) : 1;
    double *items = NULL;
    char want[96];

    snprintf(want, sizeof want, "a list of numbers in %s", k->range);
    TRY(at_arena_alloc(&c->arena, &items, n + 1, sizeof *items));
    for (size_t i = 0; i < n; i++) {
        const cJSON *item = cJSON_IsArray(value) ? cJSON_GetArrayItem(value, (int)i) : value;
        if (!cJSON_IsNumber(item) || !in_range(k->range, item->valuedouble)) {
            st = bad_value(k->name, want, value);
            goto done;
        }
        items[i] = item->valuedouble;
    }
    *(struct at_numbers *)slot(c, key) = (struct at_numbers){ items, n };
done:
    return st;
}

static AT_CHECKED set_object(struct at_config *c, enum at_key key, const cJSON *value)
{
    enum at_status st = AT_OK;
    char *text = NULL, *copy = NULL;

    if (!cJSON_IsObject(value)) {
        st = bad_value(keys[key].name, "a JSON object", value);
        goto done;
    }
    text = cJSON_PrintUnformatted(value);
    TRY(at_arena_strdup(&c->arena, &copy, text ? text : "{}"));
    *(const char **)slot(c, key) = copy;
done:
    cJSON_free(text);
    return st;
}

static AT_CHECKED set_text(struct at_config *c, enum at_key key, const cJSON *value,
                           const char *dir)
{
    enum at_status st = AT_OK;
    const bool choice = keys[key].type == TYPE_CHOICE;
    const char *text = value->valuestring;

    if (choice && cJSON_IsBool(value)) { /* PEFT's init_lora_weights: true */
        text = cJSON_IsTrue(value) ? "true" : "false";
    } else if (!cJSON_IsString(value)) {
        st = bad_value(keys[key].name, "a string", value);
        goto done;
    }
    if (choice)
        TRY(check_word(key, text, value));
    TRY(at_config_path((const char **)slot(c, key), &c->arena, key, dir, text));
done:
    return st;
}

/* Sets a key from a JSON value; `dir` is the folder that relative paths start from, or NULL. */
static AT_CHECKED set_value(struct at_config *c, enum at_key key, const cJSON *value,
                            const char *dir, enum at_origin origin)
{
    enum at_status st = AT_OK;

    switch (keys[key].type) {
    case TYPE_BOOL:
        if (!cJSON_IsBool(value)) {
            st = bad_value(keys[key].name, "true or false", value);
            goto done;
        }
        *(bool *)slot(c, key) = cJSON_IsTrue(value);
        break;
    case TYPE_U32:
    case TYPE_F64:
        TRY(set_number(c, key, value));
        break;
    case TYPE_LIST:
    case TYPE_CHOICES:
        TRY(set_list(c, key, value, dir));
        break;
    case TYPE_NUMBERS:
        TRY(set_numbers(c, key, value));
        break;
    case TYPE_OBJECT:
        TRY(set_object(c, key, value));
        break;
    case TYPE_SOURCES:
        TRY(at_config_sources((const char **)slot(c, key), &c->arena, key, dir, value));
        break;
    case TYPE_STR:
    case TYPE_CHOICE:
        TRY(set_text(c, key, value, dir));
        break;
    }
    c->is_set[key] = true;
    c->origin[key] = origin;
done:
    return st;
}

/* A flag's or a default's text as the JSON that its key's type wants. */
static cJSON *value_of_text(enum at_key key, const char *text)
{
    char *end = NULL;
    double x = 0;

    switch (keys[key].type) {
    case TYPE_BOOL:
        if (strcmp(text, "true") == 0 || strcmp(text, "True") == 0 || strcmp(text, "1") == 0)
            return cJSON_CreateTrue();
        if (strcmp(text, "false") == 0 || strcmp(text, "False") == 0 || strcmp(text, "0") == 0)
            return cJSON_CreateFalse();
        return cJSON_CreateString(text);
    case TYPE_U32:
    case TYPE_F64:
        x = strtod(text, &end);
        return *text && !*end ? cJSON_CreateNumber(x) : cJSON_CreateString(text);
    case TYPE_LIST:
    case TYPE_CHOICES:
    case TYPE_NUMBERS:
    case TYPE_OBJECT:
    case TYPE_SOURCES:
        if (text[0] == '[' || text[0] == '{' || keys[key].type == TYPE_NUMBERS) {
            cJSON *list = cJSON_ParseWithOpts(text, NULL, true);
            return list ? list : cJSON_CreateString(text);
        }
        return cJSON_CreateString(text);
    default:
        if (key == AT_KEY_resume_from_checkpoint &&
            (strcasecmp(text, "true") == 0 || strcasecmp(text, "false") == 0))
            return cJSON_CreateBool(strcasecmp(text, "true") == 0);
        return cJSON_CreateString(text);
    }
}

/* ---- keys of a document ---- */

/* `where` is "--" for a flag, else "path: ". */
static AT_CHECKED unknown_key(const char *name, const cJSON *value, const char *where)
{
    const bool flag = strcmp(where, "--") == 0;
    const char *kind = flag ? "unknown flag --" : "unknown key ";
    const char *near = NULL, *reason = word_find(later, AT_COUNT(later), name);

    if (reason)
        return at_fail(AT_USAGE, "%s%s: this version does not build %s", where, name, reason);
    reason = word_find(renamed, AT_COUNT(renamed), name);
    if (reason)
        return at_config_fail_renamed(name, value, where, reason);
    if (strcmp(name, "stages") == 0)
        return at_fail(AT_USAGE,
                       "%sthis is a pipeline of several stages: `attune run` takes it, with "
                       "--dry_run to check it",
                       where);
    near = at_config_suggest(name);
    if (near)
        return at_fail(AT_USAGE, "%s%s%s; did you mean %s%s?", flag ? "" : where, kind, name,
                       flag ? "--" : "", near);
    return at_fail(AT_USAGE, "%s%s%s; `attune config keys` lists them", flag ? "" : where, kind,
                   name);
}

static AT_CHECKED take(struct at_config *c, const char *name, const cJSON *value, const char *dir,
                       enum at_origin origin, const char *where)
{
    enum at_status st = AT_OK;
    const char *reason = word_find(no_effect, AT_COUNT(no_effect), name);
    const int key = key_find(name);

    if (reason) {
        at_warn("no_effect", "%s%s has no effect because %s", where, name, reason);
        goto done;
    }
    if (key < 0) {
        st = unknown_key(name, value, where);
        goto done;
    }
    if (cJSON_IsNull(value) && key != AT_KEY_max_length) /* there it is TRL's "no limit" */
        goto done;
    if (key == AT_KEY_resume_from_checkpoint && cJSON_IsBool(value)) { /* TRL's true: the newest */
        c->resume_from_checkpoint = cJSON_IsTrue(value) ? "true" : NULL;
        c->is_set[key] = cJSON_IsTrue(value);
        c->origin[key] = origin;
        goto done;
    }
    TRY(set_value(c, (enum at_key)key, value, dir, origin));
done:
    if (st != AT_OK && key >= 0)
        st = at_fail(st, "%s%s", where, at_message());
    return st;
}

static AT_CHECKED read_document(struct at_config *c, const cJSON *document, const char *path)
{
    enum at_status st = AT_OK;
    char *dir = NULL, *copy = NULL, *where = NULL;

    if (!document)
        goto done;
    if (!cJSON_IsObject(document))
        FAIL(AT_DATA, "%s: an object of keys is expected", path ? path : "config");
    if (path) {
        TRY(at_path_dir(&c->arena, &dir, path));
        TRY(at_arena_strdup(&c->arena, &copy, path));
        c->file = copy;
    }
    TRY(at_arena_printf(&c->arena, &where, "%s%s", path ? path : "", path ? ": " : ""));
    for (const cJSON *item = document->child; item; item = item->next)
        TRY(take(c, item->string, item, dir, AT_FROM_FILE, where));
done:
    return st;
}

static AT_CHECKED read_flags(struct at_config *c, const struct at_flag *flags, size_t n)
{
    enum at_status st = AT_OK;
    cJSON *value = NULL;

    for (size_t i = 0; i < n; i++) {
        const int key = key_find(flags[i].key);
        value = key < 0 ? cJSON_CreateString(flags[i].value)
                        : value_of_text((enum at_key)key, flags[i].value);
        TRY(take(c, flags[i].key, value, NULL, AT_FROM_FLAG, "--"));
        cJSON_Delete(value);
        value = NULL;
    }
done:
    cJSON_Delete(value);
    return st;
}

/* ---- defaults ---- */

/* The word of a default "1e-6 sft:2e-5" for a method, into `out`. */
static void default_word(char *out, size_t size, const char *spec, enum at_method method)
{
    const char *word = spec, *found = spec;
    const size_t n = strlen(methods[method].name);

    while ((word = strchr(word, ' ')) != NULL) {
        word++;
        if (strncmp(word, methods[method].name, n) == 0 && word[n] == ':')
            found = word + n + 1;
    }
    snprintf(out, size, "%.*s", (int)strcspn(found, " "), found);
}

const char *at_key_default(enum at_key key, enum at_method method, const char *preset)
{
    static _Thread_local char word[64];
    const char *spec = keys[key].trl;

    if (preset && strcmp(preset, "trl") != 0 && strcmp(keys[key].balanced, "=") != 0)
        spec = keys[key].balanced;
    for (size_t i = 0; preset && i < AT_COUNT(presets); i++)
        if (strcmp(presets[i].preset, preset) == 0 && strcmp(presets[i].name, keys[key].name) == 0)
            spec = presets[i].value;
    default_word(word, sizeof word, spec, method);
    return word;
}

/* Who gives an empty list of held-out rows asks for none, and not for a share of the training rows.
 * Folds, which are held out in turn, have nothing to do with it. */
static bool wants_no_split(const struct at_config *c)
{
    return c->is_set[AT_KEY_eval_dataset] && c->eval_dataset.n == 0 && c->cross_validation == 0;
}

static AT_CHECKED fill_defaults(struct at_config *c)
{
    enum at_status st = AT_OK;
    cJSON *value = NULL;

    for (int key = 0; key < AT_KEY_COUNT; key++) {
        const char *word = at_key_default((enum at_key)key, c->run_method, c->preset);
        if (c->is_set[key] || strcmp(word, "-") == 0)
            continue;
        if (key == AT_KEY_eval_split && wants_no_split(c)) /* folds are filled in before it */
            word = "0";
        const bool same = strcmp(word, keys[key].trl) == 0;
        value = value_of_text((enum at_key)key, word);
        TRY(set_value(c, (enum at_key)key, value, NULL, same ? AT_FROM_DEFAULT : AT_FROM_PRESET));
        cJSON_Delete(value);
        value = NULL;
    }
done:
    cJSON_Delete(value);
    return st;
}

static AT_CHECKED choose_method(struct at_config *c, const enum at_method *method)
{
    enum at_status st = AT_OK;

    if (method)
        c->run_method = *method;
    if (c->is_set[AT_KEY_method]) {
        enum at_method named = AT_SFT;
        AT_REQUIRE(at_method_find(&named, c->method));
        if (method && *method != named)
            FAIL(AT_USAGE, "the configuration says method: %s, the command is %s", c->method,
                 methods[*method].name);
        c->run_method = named;
    } else if (!method) {
        FAIL(AT_USAGE, "method is missing: %s %s",
             c->file ? "one of" : "name a CONFIG that has one, or with --method one of",
             METHOD_NAMES);
    }
    if (!c->preset)
        c->preset = "balanced";
done:
    return st;
}

/* The rows of loss_type; a path in the configuration's file starts from its folder. */
static AT_CHECKED read_losses(struct at_config *c)
{
    enum at_status st = AT_OK;
    const struct at_strings *list = &c->loss_type;
    char *dir = NULL;

    if (c->file && c->origin[AT_KEY_loss_type] == AT_FROM_FILE)
        TRY(at_path_dir(&c->arena, &dir, c->file));
    TRY(at_arena_alloc(&c->arena, &c->losses, list->n + 1, sizeof *c->losses));
    for (size_t i = 0; i < list->n; i++)
        if (is_loss_file(list->items[i]))
            TRY(at_loss_file_read(&c->arena, &c->losses[i], list->items[i], dir ? dir : ""));
        else
            TRY(at_objective_find(&c->losses[i], c, list->items[i]));
done:
    return st;
}

/* Keys that were given but that the method does not read, and values that only some methods take.
 */
static AT_CHECKED check_method(const struct at_config *c)
{
    enum at_status st = AT_OK;
    const struct at_method_row *m = &methods[c->run_method];

    for (int key = 0; key < AT_KEY_COUNT; key++)
        if (c->is_set[key] && c->origin[key] >= AT_FROM_FILE &&
            !at_key_read_by((enum at_key)key, c->run_method))
            FAIL(AT_USAGE, "%s is not read by %s; remove it", keys[key].name, m->name);
    TRY(at_objective_check(c));
    TRY(at_config_check_running(c));
    if (!c->deterministic)
        FAIL(AT_USAGE, "deterministic: false is not built; every run is deterministic");
done:
    return st;
}

AT_CHECKED at_config_read(struct at_config *out, const cJSON *document, const char *path,
                          const struct at_flag *flags, size_t n_flags, const enum at_method *method)
{
    enum at_status st = AT_OK;

    *out = (struct at_config){ .file = NULL };
    TRY(read_document(out, document, path));
    TRY(read_flags(out, flags, n_flags));
    TRY(choose_method(out, method));
    TRY(fill_defaults(out));
    TRY(read_losses(out));
    TRY(check_method(out));
done:
    if (st != AT_OK)
        at_config_release(out);
    return st;
}

void at_config_release(struct at_config *config)
{
    at_arena_release(&config->arena);
    *config = (struct at_config){ .file = NULL };
}

/* ---- as JSON ---- */

static cJSON *list_value(const struct at_strings *list)
{
    cJSON *out = cJSON_CreateArray();

    for (size_t i = 0; i < list->n; i++)
        cJSON_AddItemToArray(
            out, at_config_file_value(list->items[i], list->weights ? list->weights[i] : 1));
    return out;
}

cJSON *at_config_value(const struct at_config *c, enum at_key key)
{
    const void *at = (const char *)c + keys[key].offset;
    const struct at_strings *list = at;
    const struct at_numbers *numbers = at;

    if (!c->is_set[key])
        return cJSON_CreateNull();
    switch (keys[key].type) {
    case TYPE_BOOL:
        return cJSON_CreateBool(*(const bool *)at);
    case TYPE_U32:
        return cJSON_CreateNumber(*(const uint32_t *)at);
    case TYPE_F64:
        return cJSON_CreateNumber(*(const double *)at);
    case TYPE_LIST:
    case TYPE_CHOICES:
        return list_value(list);
    case TYPE_OBJECT:
    case TYPE_SOURCES:
        return cJSON_Parse(*(const char *const *)at);
    case TYPE_NUMBERS:
        return cJSON_CreateDoubleArray(numbers->items, (int)numbers->n);
    default:
        return cJSON_CreateString(*(const char *const *)at);
    }
}

cJSON *at_config_record(const struct at_config *c)
{
    char preset[32];
    const char *const origins[] = { "default", preset, "file", "flag" };
    cJSON *out = cJSON_CreateObject();

    snprintf(preset, sizeof preset, "preset %s", c->preset);
    for (int key = 0; key < AT_KEY_COUNT; key++) {
        if (!at_key_read_by((enum at_key)key, c->run_method))
            continue;
        cJSON *entry = cJSON_AddObjectToObject(out, keys[key].name);
        cJSON_AddItemToObject(entry, "value", at_config_value(c, (enum at_key)key));
        cJSON_AddStringToObject(entry, "from", origins[c->origin[key]]);
    }
    return out;
}
