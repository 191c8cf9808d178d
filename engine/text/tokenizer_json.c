#include "json.h"
#include "os.h"
#include "tokenizer_parts.h"

#include <string.h>

/* ---- model ---- */

static bool is_null(const cJSON *item)
{
    return !item || cJSON_IsNull(item);
}

static bool is_empty(const cJSON *item)
{
    return is_null(item) || cJSON_IsFalse(item) ||
           (cJSON_IsString(item) && item->valuestring[0] == 0) ||
           (cJSON_IsNumber(item) && item->valuedouble == 0);
}

/* A model without a type is told by its parts, as the reference does. */
static const char *model_of(const cJSON *model)
{
    const cJSON *type = at_json_find(model, "type");

    if (cJSON_IsString(type))
        return type->valuestring;
    return at_json_find(model, "merges") ? "BPE" : "a model without a type";
}

static AT_CHECKED check_bpe(const cJSON *model, const char *name)
{
    static const char *const keys[] = { "continuing_subword_prefix", "dropout",
                                        "end_of_word_suffix" };
    enum at_status st = AT_OK;

    for (size_t i = 0; i < AT_COUNT(keys); i++)
        if (!is_empty(at_json_find(model, keys[i]))) {
            st = at_component_refuse(name, "model", keys[i], "BPE without it");
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

static int32_t largest_added(const struct at_added_token *added, size_t n)
{
    int32_t largest = -1;

    for (size_t i = 0; i < n; i++)
        largest = added[i].id > largest ? added[i].id : largest;
    return largest;
}

static AT_CHECKED begin(struct at_tokenizer *t, const cJSON *vocab, const cJSON *merges,
                        const struct at_added_token *added, size_t n_added, const char *name)
{
    enum at_status st = AT_OK;
    size_t n_vocab = 0;
    int32_t largest = largest_added(added, n_added), id;

    for (const cJSON *i = vocab->child; i; i = i->next, n_vocab++) {
        TRY(get_id(&id, i, i->string, name));
        largest = id > largest ? id : largest;
    }
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

static AT_CHECKED read_bpe(struct at_tokenizer *t, const cJSON *model,
                           const struct at_added_token *added, size_t n_added, const char *name)
{
    enum at_status st = AT_OK;
    const cJSON *vocab = at_json_find(model, "vocab"), *merges = at_json_find(model, "merges");
    const char *unknown = NULL;
    uint32_t rank = 0;
    int32_t id;

    TRY(check_bpe(model, name));
    TRY(begin(t, vocab, merges, added, n_added, name));
    for (const cJSON *i = vocab->child; i; i = i->next) {
        TRY(get_id(&id, i, i->string, name));
        TRY(at_tokenizer_put_token(t, i->string, strlen(i->string), id, name));
    }
    for (const cJSON *i = merges->child; i; i = i->next, rank++)
        TRY(read_merge(t, rank, i, name));
    TRY(at_json_get_bool(&t->ignore_merges, model, "ignore_merges", name));
    TRY(at_json_get_bool(&t->byte_fallback, model, "byte_fallback", name));
    TRY(at_json_get_bool(&t->fuse_unknown, model, "fuse_unk", name));
    TRY(at_json_get_string(&unknown, model, "unk_token", name));
    if (unknown && unknown[0]) {
        t->unknown = at_string_map_find(&t->vocab, unknown, strlen(unknown));
        if (t->unknown < 0)
            FAIL(AT_DATA, "%s: model: unk_token \"%s\" is not in the vocabulary", name, unknown);
    }
done:
    return st;
}

/* A list of [text, score]; a token's id is its place. */
static AT_CHECKED read_unigram(struct at_tokenizer *t, const cJSON *model,
                               const struct at_added_token *added, size_t n_added, const char *name)
{
    enum at_status st = AT_OK;
    const cJSON *vocab = at_json_find(model, "vocab");
    const size_t n = (size_t)cJSON_GetArraySize(vocab);
    const int32_t largest = largest_added(added, n_added);
    uint32_t unknown = UINT32_MAX;
    double *scores = NULL;
    int32_t id = 0;

    if (!cJSON_IsArray(vocab) || n == 0 || n > AT_MAX_ID)
        FAIL(AT_DATA, "%s: the model has no \"vocab\"", name);
    TRY(at_tokenizer_begin(t, (size_t)largest + 1 > n ? (size_t)largest + 1 : n, n, 0));
    TRY(at_alloc(&scores, n, sizeof *scores));
    for (const cJSON *i = vocab->child; i; i = i->next, id++) {
        const cJSON *text = cJSON_GetArrayItem(i, 0), *score = cJSON_GetArrayItem(i, 1);
        if (!cJSON_IsString(text) || !cJSON_IsNumber(score))
            FAIL(AT_DATA, "%s: token %d of \"vocab\" is not [text, score]", name, id);
        TRY(at_tokenizer_put_token(t, text->valuestring, strlen(text->valuestring), id, name));
        scores[id] = score->valuedouble;
    }
    at_hash_put(&t->hash, scores, n * sizeof *scores);
    TRY(at_json_get_u32(&unknown, model, "unk_id", name));
    if (unknown != UINT32_MAX && unknown >= n)
        FAIL(AT_DATA, "%s: model: unk_id is %u, the vocabulary has %zu tokens", name, unknown, n);
    t->unknown = unknown == UINT32_MAX ? -1 : (int32_t)unknown;
    TRY(at_json_get_bool(&t->byte_fallback, model, "byte_fallback", name));
    t->word = at_unigram_word;
    st = at_unigram_init(&t->unigram, t, scores, n);
    scores = NULL;
done:
    at_free(&scores);
    return st;
}

static AT_CHECKED read_model(struct at_tokenizer *t, const cJSON *model,
                             const struct at_added_token *added, size_t n_added, const char *name)
{
    static const struct {
        const char *type;
        enum at_status (*read)(struct at_tokenizer *t, const cJSON *model,
                               const struct at_added_token *added, size_t n_added,
                               const char *name);
    } models[] = { { "BPE", read_bpe }, { "Unigram", read_unigram } };
    enum at_status st = AT_OK;

    if (!cJSON_IsObject(model))
        FAIL(AT_DATA, "%s: \"model\" is missing", name);
    for (size_t i = 0; i < AT_COUNT(models); i++)
        if (strcmp(models[i].type, model_of(model)) == 0) {
            TRY(models[i].read(t, model, added, n_added, name));
            goto done;
        }
    st = at_component_refuse(name, "model", model_of(model), "BPE, Unigram");
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

/* The id of a token of the model's vocabulary, an object or a list; -1 when it has none. */
static AT_CHECKED find_in_vocab(int32_t *out, const cJSON *vocab, const char *text,
                                const char *name)
{
    enum at_status st = AT_OK;
    const cJSON *item = cJSON_IsObject(vocab) ? at_json_find(vocab, text) : NULL;
    int32_t place = 0;

    *out = -1;
    if (item)
        TRY(get_id(out, item, text, name));
    for (const cJSON *i = cJSON_IsArray(vocab) ? vocab->child : NULL; i && *out < 0;
         i = i->next, place++) {
        const cJSON *token = cJSON_GetArrayItem(i, 0);
        if (cJSON_IsString(token) && strcmp(token->valuestring, text) == 0)
            *out = place;
    }
done:
    return st;
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
    const cJSON *model = at_json_find(json, "model"), *vocab = at_json_find(model, "vocab");

    TRY(at_alloc(out, (size_t)cJSON_GetArraySize(list) + N_ROLES, sizeof **out));
    for (const cJSON *i = list ? list->child : NULL; i; i = i->next)
        TRY(read_added_token(&(*out)[(*out_n)++], i, name));
    for (int r = 0; r < N_ROLES; r++) {
        int32_t id = -1;
        if (named[r])
            TRY(find_in_vocab(&id, vocab, named[r], name));
        bool known = id < 0;
        for (size_t i = 0; i < *out_n && !known; i++)
            known = strcmp((*out)[i].text, named[r]) == 0;
        if (!known)
            (*out)[(*out_n)++] =
                (struct at_added_token){ .text = named[r], .id = id, .special = true };
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

    TRY(read_added(&added, &n_added, json, named, name));
    TRY(read_model(t, at_json_find(json, "model"), added, n_added, name));
    TRY(at_components_read(t, json, name));
    if (t->byte_level && t->word != at_bpe_word)
        FAIL(AT_DATA, "%s: pre_tokenizer: ByteLevel is not built in this version for Unigram",
             name);
    TRY(at_tokenizer_put_added(t, added, n_added, name));
    TRY(set_roles(t, named, name));
    TRY(at_tokenizer_end(t));
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
        TRY(at_json_load_python(out, path));
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
    TRY(load_optional(&config, &paths, dir, "tokenizer_config.json"));
    TRY(load_optional(&map, &paths, dir, "special_tokens_map.json"));
    TRY(at_path_join(&paths, &path, dir, "tokenizer.json"));
    if (at_path_exists(path))
        TRY(at_json_load(&json, path));
    else
        TRY(at_vocab_files_read(&json, dir, config));
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
