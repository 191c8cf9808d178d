#include "os.h"
#include "tokenizer_parts.h"

#include <string.h>

/* Folders from before tokenizer.json say with their class how words are cut. */
static const struct {
    const char *name, *pre;
} classes[] = {
    { "CodeGenTokenizer", "gpt-2" },
    { "GPT2Tokenizer", "gpt-2" },
    { "Qwen2Tokenizer", "qwen2" },
};

/* The class without "Fast" at its end. */
static AT_CHECKED find_pre(const struct at_pre **out, const cJSON *config, const char *name)
{
    enum at_status st = AT_OK;
    const char *wanted = "GPT2Tokenizer", *fast;
    struct at_buf known = { 0 };
    size_t n;

    TRY(at_json_get_string(&wanted, config, "tokenizer_class", name));
    fast = strstr(wanted, "Fast");
    n = fast && !fast[strlen("Fast")] ? (size_t)(fast - wanted) : strlen(wanted);
    for (size_t i = 0; i < AT_COUNT(classes); i++) {
        if (strlen(classes[i].name) == n && strncmp(classes[i].name, wanted, n) == 0) {
            TRY(at_pre_find(out, classes[i].pre, name));
            goto done;
        }
        at_buf_printf(&known, "%s%s", i > 0 ? ", " : "", classes[i].name);
    }
    TRY(at_buf_status(&known));
    FAIL(AT_DATA,
         "%s: tokenizer_class \"%s\" with vocab.json and merges.txt is not built in this version "
         "(built: %s); save the tokenizer as tokenizer.json",
         name, wanted, known.data);
done:
    at_buf_release(&known);
    return st;
}

/* The same components that the class's tokenizer.json has. */
static AT_CHECKED put_components(cJSON *json, const struct at_pre *pre, const cJSON *config)
{
    cJSON *normalizer = pre->nfc ? cJSON_AddObjectToObject(json, "normalizer") : NULL;
    cJSON *sequence = cJSON_AddObjectToObject(json, "pre_tokenizer");
    cJSON *parts, *part, *decoder = cJSON_AddObjectToObject(json, "decoder");
    const bool prefix = cJSON_IsTrue(at_json_find(config, "add_prefix_space"));

    if (normalizer)
        cJSON_AddStringToObject(normalizer, "type", "NFC");
    cJSON_AddStringToObject(sequence, "type", "Sequence");
    parts = cJSON_AddArrayToObject(sequence, "pretokenizers");
    if (prefix) {
        cJSON_AddItemToArray(parts, part = cJSON_CreateObject());
        cJSON_AddStringToObject(part, "type", "ByteLevel");
        cJSON_AddBoolToObject(part, "use_regex", false);
    }
    for (size_t i = 0; i < AT_COUNT(pre->patterns) && pre->patterns[i]; i++) {
        cJSON_AddItemToArray(parts, part = cJSON_CreateObject());
        cJSON_AddStringToObject(part, "type", "Split");
        cJSON_AddStringToObject(cJSON_AddObjectToObject(part, "pattern"), "Regex",
                                pre->patterns[i]);
    }
    cJSON_AddItemToArray(parts, part = cJSON_CreateObject());
    cJSON_AddStringToObject(part, "type", "ByteLevel");
    cJSON_AddBoolToObject(part, "add_prefix_space", false);
    cJSON_AddBoolToObject(part, "use_regex", false);
    return cJSON_AddStringToObject(decoder, "type", "ByteLevel") ? AT_OK : AT_MEMORY;
}

/* Each line of merges.txt but the first, which names a version, and empty ones. */
static AT_CHECKED put_merges(cJSON *model, char *text)
{
    cJSON *merges = cJSON_AddArrayToObject(model, "merges");
    char *rest = NULL;

    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        const size_t n = strlen(line);
        if (n > 0 && line[n - 1] == '\r')
            line[n - 1] = 0;
        if (line[0] && strncmp(line, "#version", strlen("#version")) != 0)
            cJSON_AddItemToArray(merges, cJSON_CreateString(line));
    }
    return merges ? AT_OK : AT_MEMORY;
}

/* tokenizer_config.json's "added_tokens_decoder": {"50256": {"content": ..., ...}, ...}. */
static AT_CHECKED put_added(cJSON *json, const cJSON *config, const char *name)
{
    enum at_status st = AT_OK;
    const cJSON *tokens = at_json_find(config, "added_tokens_decoder");
    cJSON *list = cJSON_AddArrayToObject(json, "added_tokens");

    for (const cJSON *i = cJSON_IsObject(tokens) ? tokens->child : NULL; i; i = i->next) {
        cJSON *copy = cJSON_Duplicate(i, true), *id = cJSON_Parse(i->string);
        cJSON_AddItemToArray(list, copy);
        if (!cJSON_IsObject(copy) || !cJSON_IsNumber(id)) {
            cJSON_Delete(id);
            FAIL(AT_DATA, "%s: tokenizer_config.json: added_tokens_decoder: \"%s\" is not an id",
                 name, i->string);
        }
        cJSON_AddItemToObject(copy, "id", id);
    }
done:
    return st;
}

/* Says what is there when nothing can be read. */
static enum at_status refuse(struct at_arena *paths, const char *dir)
{
    enum at_status st = AT_OK;
    char *path = NULL;

    TRY(at_path_join(paths, &path, dir, "tokenizer.model"));
    if (at_path_exists(path))
        FAIL(AT_NOT_FOUND,
             "%s: SentencePiece's own file is not read; make tokenizer.json beside it: python3 -c "
             "\"from transformers import AutoTokenizer as T; T.from_pretrained('%s')"
             ".save_pretrained('%s')\"",
             path, dir, dir);
    TRY(at_path_join(paths, &path, dir, "tokenizer.json"));
    FAIL(AT_NOT_FOUND,
         "%s: no such file; a tokenizer is read from tokenizer.json, or from vocab.json and "
         "merges.txt",
         path);
done:
    return st;
}

AT_CHECKED at_vocab_files_read(cJSON **out, const char *dir, const cJSON *config)
{
    enum at_status st = AT_OK;
    struct at_arena paths = { 0 };
    struct at_buf merges = { 0 };
    const struct at_pre *pre = NULL;
    cJSON *vocab = NULL, *model;
    char *vocab_path = NULL, *merges_path = NULL;

    TRY(at_path_join(&paths, &vocab_path, dir, "vocab.json"));
    TRY(at_path_join(&paths, &merges_path, dir, "merges.txt"));
    if (!at_path_exists(vocab_path) || !at_path_exists(merges_path)) {
        st = refuse(&paths, dir);
        goto done;
    }
    TRY(find_pre(&pre, config, vocab_path));
    TRY(at_json_load(&vocab, vocab_path));
    TRY(at_file_read(&merges, merges_path));
    if (at_utf8_check(merges.data, merges.n) < merges.n || strlen(merges.data) < merges.n)
        FAIL(AT_DATA, "%s: the file is not UTF-8 text", merges_path);
    *out = cJSON_CreateObject();
    model = cJSON_AddObjectToObject(*out, "model");
    cJSON_AddStringToObject(model, "type", "BPE");
    if (cJSON_AddItemToObject(model, "vocab", vocab))
        vocab = NULL;
    TRY(put_merges(model, merges.data));
    TRY(put_components(*out, pre, config));
    TRY(put_added(*out, config, vocab_path));
done:
    at_json_free(&vocab);
    at_buf_release(&merges);
    at_arena_release(&paths);
    return st;
}
