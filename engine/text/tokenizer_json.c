#include "json.h"
#include "os.h"
#include "tokenizer_parts.h"

#include <string.h>

enum { MAX_NESTING = 4 };

/* ---- components ---- */

static bool is_null(const cJSON *item)
{
    return !item || cJSON_IsNull(item);
}

static const char *type_of(const cJSON *component)
{
    const cJSON *type = at_json_find(component, "type");

    return cJSON_IsString(type) ? type->valuestring : "a component without a type";
}

static bool is_type(const cJSON *component, const char *type)
{
    return strcmp(type_of(component), type) == 0;
}

/* "...: normalizer: Replace is not built in this version (built: NFC)" */
static enum at_status refuse(const char *name, const char *where, const char *what,
                             const char *built)
{
    return at_fail(AT_DATA, "%s: %s: %s is not built in this version (built: %s)", name, where,
                   what, built);
}

/* Calls `read` for a component, or for each part of a Sequence, whose list is called `list`. */
typedef enum at_status reader(struct at_tokenizer *t, const cJSON *component, const char *name);
static AT_CHECKED read_parts(struct at_tokenizer *t, const cJSON *component, const char *list,
                             reader *read, int depth, const char *name)
{
    enum at_status st = AT_OK;
    const cJSON *parts = at_json_find(component, list);

    if (is_null(component))
        goto done;
    if (!is_type(component, "Sequence")) {
        TRY(read(t, component, name));
        goto done;
    }
    if (!cJSON_IsArray(parts) || depth == MAX_NESTING)
        FAIL(AT_DATA, "%s: a Sequence without \"%s\", or too deep", name, list);
    for (const cJSON *part = parts->child; part; part = part->next)
        TRY(read_parts(t, part, list, read, depth + 1, name));
done:
    return st;
}

static enum at_status read_normalizer(struct at_tokenizer *t, const cJSON *item, const char *name)
{
    if (!is_type(item, "NFC"))
        return refuse(name, "normalizer", type_of(item), "NFC");
    t->nfc = true;
    return AT_OK;
}

static AT_CHECKED read_split(struct at_tokenizer *t, const cJSON *item, const char *name)
{
    enum at_status st = AT_OK;
    const char *pattern = NULL, *behavior = "";
    const cJSON *kind = at_json_find(item, "pattern");
    struct at_stage stage = { .keep = AT_KEEP_ALL };
    bool invert = false;

    TRY(at_json_get_string(&pattern, kind, "Regex", name));
    TRY(at_json_need_string(&behavior, item, "behavior", name));
    TRY(at_json_get_bool(&invert, item, "invert", name));
    if (!pattern) {
        st = refuse(name, "pre_tokenizer: Split: pattern",
                    kind && kind->child ? kind->child->string : "none", "Regex");
        goto done;
    }
    if (strcmp(behavior, "Removed") == 0) {
        stage.keep = invert ? AT_KEEP_MATCHES : AT_KEEP_OTHERS;
    } else if (strcmp(behavior, "Isolated") != 0) {
        st = refuse(name, "pre_tokenizer: Split: behavior", behavior, "Isolated, Removed");
        goto done;
    }
    TRY(at_tokenizer_put_stage(t, pattern, stage, name));
done:
    return st;
}

static AT_CHECKED read_byte_level(struct at_tokenizer *t, const cJSON *item, const char *name)
{
    enum at_status st = AT_OK;
    bool prefix_space = true, use_regex = true; /* what the reference takes when a key is missing */

    TRY(at_json_get_bool(&prefix_space, item, "add_prefix_space", name));
    TRY(at_json_get_bool(&use_regex, item, "use_regex", name));
    if (prefix_space)
        TRY(at_tokenizer_put_stage(t, NULL, (struct at_stage){ .prefix_space = true }, name));
    if (use_regex)
        TRY(at_tokenizer_put_stage(t, at_pattern_gpt2, (struct at_stage){ .keep = AT_KEEP_ALL },
                                   name));
    t->is_byte_level = true;
done:
    return st;
}

static enum at_status read_pre_tokenizer(struct at_tokenizer *t, const cJSON *item,
                                         const char *name)
{
    enum at_status st = AT_OK;
    bool individual = false;

    if (t->is_byte_level)
        FAIL(AT_DATA, "%s: pre_tokenizer: %s behind ByteLevel is not built in this version", name,
             type_of(item));
    if (is_type(item, "ByteLevel")) {
        TRY(read_byte_level(t, item, name));
    } else if (is_type(item, "Split")) {
        TRY(read_split(t, item, name));
    } else if (is_type(item, "Digits")) {
        TRY(at_json_get_bool(&individual, item, "individual_digits", name));
        TRY(at_tokenizer_put_stage(t, individual ? "\\p{N}" : "\\p{N}+",
                                   (struct at_stage){ .keep = AT_KEEP_ALL }, name));
    } else {
        st = refuse(name, "pre_tokenizer", type_of(item), "ByteLevel, Digits, Sequence, Split");
    }
done:
    return st;
}

/* One item of TemplateProcessing's "single": the text, or special tokens before or behind it. */
static AT_CHECKED read_template_item(struct at_tokenizer *t, bool *seen, const cJSON *item,
                                     const cJSON *special, const char *name)
{
    enum at_status st = AT_OK;
    const char *id = NULL;
    const cJSON *ids = NULL;

    if (at_json_find(item, "Sequence")) {
        *seen = true;
        goto done;
    }
    TRY(at_json_need_string(&id, at_json_find(item, "SpecialToken"), "id", name));
    ids = at_json_find(at_json_find(special, id), "ids");
    if (!cJSON_IsArray(ids))
        FAIL(AT_DATA, "%s: post_processor: special token \"%s\" has no ids", name, id);
    for (const cJSON *i = ids->child; i; i = i->next) {
        size_t *n = *seen ? &t->n_after : &t->n_before;
        if (!cJSON_IsNumber(i) || i->valuedouble < 0 || i->valuedouble > AT_MAX_ID)
            FAIL(AT_DATA, "%s: post_processor: \"%s\" has an id that is no number", name, id);
        if (*n == AT_MAX_TEMPLATE)
            FAIL(AT_DATA, "%s: post_processor: more than %d tokens", name, AT_MAX_TEMPLATE);
        (*seen ? t->after : t->before)[(*n)++] = i->valueint;
    }
done:
    return st;
}

static enum at_status read_post_processor(struct at_tokenizer *t, const cJSON *item,
                                          const char *name)
{
    enum at_status st = AT_OK;
    const cJSON *single = at_json_find(item, "single");
    bool seen = false;

    if (is_type(item, "ByteLevel")) /* changes offsets only */
        goto done;
    if (!is_type(item, "TemplateProcessing")) {
        st = refuse(name, "post_processor", type_of(item),
                    "ByteLevel, Sequence, TemplateProcessing");
        goto done;
    }
    if (!cJSON_IsArray(single))
        FAIL(AT_DATA, "%s: post_processor: TemplateProcessing without \"single\"", name);
    for (const cJSON *i = single->child; i; i = i->next)
        TRY(read_template_item(t, &seen, i, at_json_find(item, "special_tokens"), name));
done:
    return st;
}

static AT_CHECKED read_components(struct at_tokenizer *t, const cJSON *json, const char *name)
{
    enum at_status st = AT_OK;
    const cJSON *decoder = at_json_find(json, "decoder");

    TRY(read_parts(t, at_json_find(json, "normalizer"), "normalizers", read_normalizer, 0, name));
    TRY(read_parts(t, at_json_find(json, "pre_tokenizer"), "pretokenizers", read_pre_tokenizer, 0,
                   name));
    if (!t->is_byte_level)
        FAIL(AT_DATA,
             "%s: pre_tokenizer: there is no ByteLevel; only byte-level BPE is built in "
             "this version",
             name);
    TRY(read_parts(t, at_json_find(json, "post_processor"), "processors", read_post_processor, 0,
                   name));
    if (!is_type(decoder, "ByteLevel"))
        st = refuse(name, "decoder", is_null(decoder) ? "none" : type_of(decoder), "ByteLevel");
done:
    return st;
}

/* ---- model ---- */

static bool is_empty(const cJSON *item)
{
    return is_null(item) || cJSON_IsFalse(item) ||
           (cJSON_IsString(item) && item->valuestring[0] == 0) ||
           (cJSON_IsNumber(item) && item->valuedouble == 0);
}

static AT_CHECKED check_model(const cJSON *model, const char *name)
{
    static const char *const keys[] = { "byte_fallback", "continuing_subword_prefix", "dropout",
                                        "end_of_word_suffix" };
    enum at_status st = AT_OK;

    if (!cJSON_IsObject(model))
        FAIL(AT_DATA, "%s: \"model\" is missing", name);
    if (at_json_find(model, "type") ? !is_type(model, "BPE") : !at_json_find(model, "merges")) {
        st = refuse(name, "model", type_of(model), "BPE");
        goto done;
    }
    for (size_t i = 0; i < AT_COUNT(keys); i++)
        if (!is_empty(at_json_find(model, keys[i]))) {
            st = refuse(name, "model", keys[i], "byte-level BPE without it");
            goto done;
        }
    if (!cJSON_IsObject(at_json_find(model, "vocab")) ||
        !cJSON_IsArray(at_json_find(model, "merges")))
        FAIL(AT_DATA, "%s: the model has no \"vocab\" or no \"merges\"", name);
done:
    return st;
}

static AT_CHECKED get_id(int32_t *out, const cJSON *item, const char *text, const char *name)
{
    enum at_status st = AT_OK;

    if (!cJSON_IsNumber(item) || item->valuedouble < 0 || item->valuedouble > AT_MAX_ID ||
        item->valuedouble != item->valueint)
        FAIL(AT_DATA, "%s: the id of \"%s\" is not a whole number up to %d", name, text, AT_MAX_ID);
    *out = item->valueint;
done:
    return st;
}

static AT_CHECKED begin(struct at_tokenizer *t, const cJSON *vocab, const cJSON *merges,
                        const struct at_added_token *added, size_t n_added, const char *name)
{
    enum at_status st = AT_OK;
    size_t n_vocab = 0;
    int32_t largest = -1, id;

    for (const cJSON *i = vocab->child; i; i = i->next, n_vocab++) {
        TRY(get_id(&id, i, i->string, name));
        largest = id > largest ? id : largest;
    }
    for (size_t i = 0; i < n_added; i++)
        largest = added[i].id > largest ? added[i].id : largest;
    TRY(at_tokenizer_begin(t, (size_t)(largest + 1), n_vocab, (size_t)cJSON_GetArraySize(merges)));
done:
    return st;
}

static AT_CHECKED read_merge(struct at_tokenizer *t, uint32_t rank, const cJSON *merge,
                             const char *name)
{
    enum at_status st = AT_OK;
    const cJSON *left = cJSON_GetArrayItem(merge, 0), *right = cJSON_GetArrayItem(merge, 1);
    const char *space;

    if (cJSON_GetArraySize(merge) == 2 && cJSON_IsString(left) && cJSON_IsString(right)) {
        TRY(at_tokenizer_put_merge(t, rank, left->valuestring, strlen(left->valuestring),
                                   right->valuestring, strlen(right->valuestring), name));
        goto done;
    }
    space = cJSON_IsString(merge) ? strchr(merge->valuestring, ' ') : NULL;
    if (!space || strchr(space + 1, ' '))
        FAIL(AT_DATA, "%s: merge %u is neither \"left right\" nor a pair", name, rank);
    TRY(at_tokenizer_put_merge(t, rank, merge->valuestring, (size_t)(space - merge->valuestring),
                               space + 1, strlen(space + 1), name));
done:
    return st;
}

static AT_CHECKED read_model(struct at_tokenizer *t, const cJSON *model,
                             const struct at_added_token *added, size_t n_added, const char *name)
{
    enum at_status st = AT_OK;
    const cJSON *vocab = at_json_find(model, "vocab"), *merges = at_json_find(model, "merges");
    const char *unknown = NULL;
    uint32_t rank = 0;
    int32_t id;

    TRY(begin(t, vocab, merges, added, n_added, name));
    for (const cJSON *i = vocab->child; i; i = i->next) {
        TRY(get_id(&id, i, i->string, name));
        TRY(at_tokenizer_put_token(t, i->string, strlen(i->string), id, name));
    }
    for (const cJSON *i = merges->child; i; i = i->next, rank++)
        TRY(read_merge(t, rank, i, name));
    TRY(at_json_get_bool(&t->ignore_merges, model, "ignore_merges", name));
    TRY(at_json_get_string(&unknown, model, "unk_token", name));
    for (unsigned byte = 0; unknown && byte < 256; byte++) {
        char text[4];
        if (at_string_map_find(&t->vocab, text,
                               at_utf8_put(text, at_alphabet_char((uint8_t)byte))) < 0) {
            st = refuse(name, "model", "unk_token for a byte that has no token",
                        "a token for each byte");
            goto done;
        }
    }
done:
    return st;
}

/* ---- added tokens ---- */

/* Texts of the special tokens that tokenizer_config.json or special_tokens_map.json name. */
enum { BOS, EOS, PAD, UNK, N_ROLES };
static const char *const roles[N_ROLES] = { "bos_token", "eos_token", "pad_token", "unk_token" };

static void read_roles(const char *out[N_ROLES], const cJSON *config)
{
    for (int i = 0; i < N_ROLES; i++) {
        const cJSON *item = at_json_find(config, roles[i]);
        if (cJSON_IsObject(item))
            item = at_json_find(item, "content");
        if (!out[i] && cJSON_IsString(item))
            out[i] = item->valuestring;
    }
}

static AT_CHECKED read_added_token(struct at_added_token *out, const cJSON *item, const char *name)
{
    enum at_status st = AT_OK;

    TRY(at_json_need_string(&out->text, item, "content", name));
    TRY(get_id(&out->id, at_json_find(item, "id"), out->text, name));
    TRY(at_json_get_bool(&out->special, item, "special", name));
    TRY(at_json_get_bool(&out->lstrip, item, "lstrip", name));
    TRY(at_json_get_bool(&out->rstrip, item, "rstrip", name));
    TRY(at_json_get_bool(&out->single_word, item, "single_word", name));
    TRY(at_json_get_bool(&out->normalized, item, "normalized", name));
done:
    return st;
}

/* The list of the file, then tokens that only the configuration makes special. */
static AT_CHECKED read_added(struct at_added_token **out, size_t *out_n, const cJSON *json,
                             const char *const named[N_ROLES], const char *name)
{
    enum at_status st = AT_OK;
    const cJSON *list = at_json_find(json, "added_tokens");
    const cJSON *vocab = at_json_find(at_json_find(json, "model"), "vocab");

    TRY(at_alloc(out, (size_t)cJSON_GetArraySize(list) + N_ROLES, sizeof **out));
    for (const cJSON *i = list ? list->child : NULL; i; i = i->next)
        TRY(read_added_token(&(*out)[(*out_n)++], i, name));
    for (int r = 0; r < N_ROLES; r++) {
        const cJSON *item = named[r] ? at_json_find(vocab, named[r]) : NULL;
        bool known = !item;
        for (size_t i = 0; i < *out_n && !known; i++)
            known = strcmp((*out)[i].text, named[r]) == 0;
        if (known)
            continue;
        struct at_added_token *added = &(*out)[(*out_n)++];
        *added = (struct at_added_token){ .text = named[r], .special = true };
        TRY(get_id(&added->id, item, named[r], name));
    }
done:
    return st;
}

static AT_CHECKED set_roles(struct at_tokenizer *t, const char *const named[N_ROLES],
                            const char *name)
{
    enum at_status st = AT_OK;
    int32_t *const ids[] = { &t->bos, &t->eos, &t->pad };

    for (size_t i = 0; i < AT_COUNT(ids); i++) {
        if (!named[i])
            continue;
        *ids[i] = at_tokenizer_find(t, named[i]);
        if (*ids[i] < 0 && i != PAD)
            FAIL(AT_DATA, "%s: %s \"%s\" is not in the vocabulary", name, roles[i], named[i]);
    }
    for (size_t i = 0; i < t->n_before + t->n_after; i++) {
        const int32_t id = i < t->n_before ? t->before[i] : t->after[i - t->n_before];
        if ((size_t)id >= t->n_tokens)
            FAIL(AT_DATA, "%s: post_processor: id %d is not in the vocabulary", name, id);
    }
done:
    return st;
}

/* ---- the file ---- */

static AT_CHECKED read_all(struct at_tokenizer *t, const cJSON *json,
                           const char *const named[N_ROLES], const char *name)
{
    enum at_status st = AT_OK;
    struct at_added_token *added = NULL;
    size_t n_added = 0;

    TRY(check_model(at_json_find(json, "model"), name));
    TRY(read_added(&added, &n_added, json, named, name));
    TRY(read_model(t, at_json_find(json, "model"), added, n_added, name));
    TRY(read_components(t, json, name));
    TRY(at_tokenizer_put_added(t, added, n_added, name));
    TRY(set_roles(t, named, name));
    at_tokenizer_end(t);
done:
    at_free(&added);
    return st;
}

static AT_CHECKED load_optional(cJSON **out, struct at_arena *arena, const char *dir,
                                const char *file)
{
    enum at_status st = AT_OK;
    char *path = NULL;

    TRY(at_path_join(arena, &path, dir, file));
    if (at_path_exists(path))
        TRY(at_json_load(out, path));
done:
    return st;
}

AT_CHECKED at_tokenizer_load(struct at_tokenizer **out, const char *dir)
{
    enum at_status st = AT_OK;
    struct at_arena paths = { 0 };
    cJSON *json = NULL, *config = NULL, *map = NULL;
    const char *named[N_ROLES] = { NULL };
    char *path = NULL;

    *out = NULL;
    TRY(at_path_join(&paths, &path, dir, "tokenizer.json"));
    if (!at_path_exists(path))
        FAIL(AT_NOT_FOUND, "%s: no such file; a tokenizer is read from tokenizer.json", path);
    TRY(at_json_load(&json, path));
    TRY(load_optional(&config, &paths, dir, "tokenizer_config.json"));
    TRY(load_optional(&map, &paths, dir, "special_tokens_map.json"));
    read_roles(named, config);
    read_roles(named, map);
    TRY(at_alloc(out, 1, sizeof **out));
    TRY(read_all(*out, json, named, path));
done:
    if (st != AT_OK)
        at_tokenizer_destroy(out);
    at_json_free(&json);
    at_json_free(&config);
    at_json_free(&map);
    at_arena_release(&paths);
    return st;
}
