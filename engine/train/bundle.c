#include "bundle.h"

#include <string.h>

/* The one form of a model that is a file; Ollama's have no ending. */
static bool is_gguf(const char *path)
{
    return !at_path_is_dir(path);
}

static AT_CHECKED tokenizer_from_gguf(struct at_bundle *b)
{
    enum at_status st = AT_OK;
    const struct at_weights *w = b->weights;
    struct at_vocab vocab;
    const char *model = NULL, *pre = NULL;
    const size_t *merge_lengths = NULL;
    uint32_t ids[4] = { UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX };
    size_t n_types = 0, n_scores = 0;

    TRY(at_gguf_get_string(&model, w, "tokenizer.ggml.model"));
    if (!model)
        FAIL(AT_NOT_FOUND, "%s: the file has no tokenizer; give one with --tokenizer DIR", b->path);
    TRY(at_gguf_get_string(&pre, w, "tokenizer.ggml.pre"));
    TRY(at_vocab_init(&vocab, model, pre, b->path));
    TRY(at_gguf_get_strings(&vocab.tokens, &vocab.token_lengths, &vocab.n_tokens, w,
                            "tokenizer.ggml.tokens"));
    TRY(at_gguf_get_strings(&vocab.merges, &merge_lengths, &vocab.n_merges, w,
                            "tokenizer.ggml.merges"));
    TRY(at_gguf_get_i32s(&vocab.types, &n_types, w, "tokenizer.ggml.token_type"));
    if (vocab.types && n_types != vocab.n_tokens)
        FAIL(AT_DATA, "%s: tokenizer.ggml.token_type has %zu entries, tokenizer.ggml.tokens %zu",
             b->path, n_types, vocab.n_tokens);
    TRY(at_gguf_get_f32s(&vocab.scores, &n_scores, w, "tokenizer.ggml.scores"));
    if (vocab.scores && n_scores != vocab.n_tokens)
        FAIL(AT_DATA, "%s: tokenizer.ggml.scores has %zu entries, tokenizer.ggml.tokens %zu",
             b->path, n_scores, vocab.n_tokens);
    TRY(at_gguf_get_u32(&ids[0], w, "tokenizer.ggml.bos_token_id"));
    TRY(at_gguf_get_u32(&ids[1], w, "tokenizer.ggml.eos_token_id"));
    TRY(at_gguf_get_u32(&ids[2], w, "tokenizer.ggml.padding_token_id"));
    TRY(at_gguf_get_u32(&ids[3], w, "tokenizer.ggml.unknown_token_id"));
    TRY(at_gguf_get_bool(&vocab.add_bos, w, "tokenizer.ggml.add_bos_token"));
    TRY(at_gguf_get_bool(&vocab.add_eos, w, "tokenizer.ggml.add_eos_token"));
    TRY(at_gguf_get_bool(&vocab.add_space_prefix, w, "tokenizer.ggml.add_space_prefix"));
    TRY(at_gguf_get_bool(&vocab.remove_extra_whitespaces, w,
                         "tokenizer.ggml.remove_extra_whitespaces"));
    vocab.bos = (int32_t)ids[0]; /* UINT32_MAX: -1 */
    vocab.eos = (int32_t)ids[1];
    vocab.pad = (int32_t)ids[2];
    vocab.unknown = (int32_t)ids[3];
    TRY(at_tokenizer_from_vocab(&b->tokenizer, &vocab, b->path));
done:
    return st;
}

static AT_CHECKED open_model(struct at_bundle *b, const struct at_bundle_params *p)
{
    enum at_status st = AT_OK;
    cJSON *config = NULL;
    char *path = NULL;

    if (p->no_weights && !is_gguf(b->path)) {
        TRY(at_path_join(&b->arena, &path, b->path, "config.json"));
        TRY(at_json_load_python(&config, path));
        TRY(at_model_config_from_json(&b->config, config, path));
        goto done;
    }
    TRY(p->header_only ? at_weights_open_header(&b->weights, b->path)
                       : at_weights_open(&b->weights, b->path));
    at_weights_quantise(b->weights, &p->quantise);
    TRY(at_model_config_read(&b->config, b->weights));
done:
    at_json_free(&config);
    return st;
}

/* The text of a special token; NULL when there is none. */
static AT_CHECKED token_text(struct at_bundle *b, const char **out, int32_t id)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };
    char *copy = NULL;

    if (id < 0)
        goto done;
    TRY(at_tokenizer_decode(b->tokenizer, &text, &id, 1, false));
    TRY(at_buf_status(&text));
    TRY(at_arena_strndup(&b->arena, &copy, text.data, text.n));
    *out = copy;
done:
    at_buf_release(&text);
    return st;
}

/* A GGUF file's: tokenizer.chat_template, and those that tokenizer.chat_templates names. */
static AT_CHECKED gguf_templates(struct at_chat_templates *out, struct at_bundle *b)
{
    const char *text = NULL, *const *names = NULL;
    const size_t *lengths = NULL;
    enum at_status st = AT_OK;
    size_t n = 0;

    TRY(at_gguf_get_string(&text, b->weights, "tokenizer.chat_template"));
    if (text)
        TRY(at_chat_template_add(out, &b->arena, AT_CHAT_DEFAULT, text));
    TRY(at_gguf_get_strings(&names, &lengths, &n, b->weights, "tokenizer.chat_templates"));
    for (size_t i = 0; i < n; i++) {
        char *key = NULL, *name = NULL;
        TRY(at_arena_strndup(&b->arena, &name, names[i], lengths[i]));
        TRY(at_arena_printf(&b->arena, &key, "tokenizer.chat_template.%s", name));
        text = NULL;
        TRY(at_gguf_get_string(&text, b->weights, key));
        if (text)
            TRY(at_chat_template_add(out, &b->arena, name, text));
    }
done:
    return st;
}

static AT_CHECKED compile_template(struct at_bundle *b, const char *name)
{
    enum at_status st = AT_OK;
    struct at_chat_tokens tokens = { .bos = NULL };

    TRY(token_text(b, &tokens.bos, at_tokenizer_bos(b->tokenizer)));
    TRY(token_text(b, &tokens.eos, at_tokenizer_eos(b->tokenizer)));
    TRY(token_text(b, &tokens.pad, at_tokenizer_pad(b->tokenizer)));
    TRY(at_chat_compile(&b->chat, b->template_text, name, &tokens));
done:
    return st;
}

/* The model's own template, or that of its templates which is named. */
static AT_CHECKED own_template(struct at_bundle *b, const char *named)
{
    const char *place = b->tokenizer_dir ? b->tokenizer_dir : b->path;
    enum at_status st = AT_OK;
    struct at_chat_templates all = { .n = 0 };

    if (b->tokenizer_dir)
        TRY(at_chat_templates_load(&all, &b->arena, b->tokenizer_dir));
    else if (b->weights)
        TRY(gguf_templates(&all, b));
    TRY(at_chat_template_pick(&b->template_text, &all, named, place));
    if (!named)
        b->tools_text = at_chat_template_find(&all, AT_CHAT_TOOLS);
done:
    return st;
}

static AT_CHECKED open_template(struct at_bundle *b, const struct at_bundle_params *p)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };
    char *copy = NULL;
    const char *name = b->tokenizer_dir ? b->tokenizer_dir : b->path;
    const bool named = p->chat_template_path && at_chat_template_is_name(p->chat_template_path);

    if (p->chat_template_path && !named) {
        TRY(at_file_read(&text, p->chat_template_path));
        TRY(at_arena_strndup(&b->arena, &copy, text.data ? text.data : "", text.n));
        b->template_text = copy;
        name = p->chat_template_path;
    } else {
        TRY(own_template(b, p->chat_template_path));
    }
    if (!b->template_text)
        goto done;
    st = compile_template(b, name);
    if (st == AT_OK && b->tools_text)
        st = at_chat_compile_tools(b->chat, b->tools_text, name);
    if (st != AT_OK)
        at_chat_destroy(&b->chat);
    if (st == AT_DATA && !p->chat_template_path) {
        TRY(at_arena_strdup(&b->arena, &copy, at_message()));
        b->chat_problem = copy;
    }
done:
    at_buf_release(&text);
    return st;
}

/* Where the model lies, and what of a store's model is left alone. */
static AT_CHECKED find_model(struct at_bundle *b, const char *named)
{
    enum at_status st = AT_OK;
    struct at_found_model found;
    const char *slash = strchr(named, '/');
    const bool hub = slash && slash != named && !strchr(slash + 1, '/') && named[0] != '.';

    TRY(at_model_find(&found, &b->arena, named));
    b->path = found.path;
    b->hub_name = found.hub_name;
    b->revision = found.revision;
    b->fetch = found.fetch;
    if (!at_path_exists(b->path))
        FAIL(AT_NOT_FOUND,
             "%s: no such model; model_name_or_path is a Hugging Face folder, a GGUF file, "
             "hf:ORG/NAME or ollama:NAME%s%s",
             named, hub ? "; one of the Hugging Face cache is hf:" : "", hub ? named : "");
    if (found.unread)
        at_warn("ollama", "%s: of its layers the weights are read, not: %s%s", named, found.unread,
                found.has_adapter ? "; without its adapter the model is another one" : "");
done:
    return st;
}

AT_CHECKED at_bundle_open(struct at_bundle *out, const struct at_bundle_params *p)
{
    enum at_status st = AT_OK;
    struct at_found_model tokenizer;

    *out = (struct at_bundle){ .path = NULL };
    if (!p->path)
        FAIL(AT_USAGE, "model_name_or_path is missing: a Hugging Face folder or a GGUF file");
    TRY(find_model(out, p->path));
    if (!p->tokenizer_only || is_gguf(out->path))
        TRY(open_model(out, p));
    if (p->tokenizer_dir || !is_gguf(out->path)) {
        TRY(at_model_find(&tokenizer, &out->arena,
                          p->tokenizer_dir ? p->tokenizer_dir : out->path));
        out->tokenizer_dir = tokenizer.path;
        TRY(at_tokenizer_load(&out->tokenizer, tokenizer.path));
    } else {
        TRY(tokenizer_from_gguf(out));
    }
    TRY(open_template(out, p));
    if (!p->tokenizer_only && at_tokenizer_size(out->tokenizer) > out->config.V)
        FAIL(AT_DATA, "%s: the tokenizer has ids up to %u, the model's vocabulary is %u", out->path,
             at_tokenizer_size(out->tokenizer) - 1, out->config.V);
done:
    if (st == AT_NOT_FOUND && out->fetch) /* a model that lies there in part */
        at_fail(st, "%s; `%s` fetches what is missing", at_message(), out->fetch);
    if (st != AT_OK)
        at_bundle_close(out);
    return st;
}

void at_bundle_check_length(const struct at_bundle *b, uint32_t n)
{
    const uint32_t most = at_model_made_for(&b->config);

    if (most > 0 && n > most)
        at_warn("positions", "the longest sequence has %u tokens, %s was made for %u positions", n,
                b->path, most);
}

void at_bundle_close(struct at_bundle *bundle)
{
    at_chat_destroy(&bundle->chat);
    at_tokenizer_destroy(&bundle->tokenizer);
    at_weights_close(&bundle->weights);
    at_arena_release(&bundle->arena);
    *bundle = (struct at_bundle){ .path = NULL };
}
