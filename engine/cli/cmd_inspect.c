#include "cli.h"

#include "bundle.h"
#include "weights.h"

#include <string.h>

enum { MAX_TYPES = 32, MAX_COLUMN = 32 };

struct type_count {
    const char *name;
    size_t n;
    uint64_t bytes;
};

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);

    return n >= m && strcmp(text + n - m, end) == 0;
}

/* ---- tensors ---- */

static cJSON *tensor_json(const struct at_source *s)
{
    cJSON *out = cJSON_CreateObject(), *shape = NULL;

    cJSON_AddStringToObject(out, "name", s->name);
    cJSON_AddStringToObject(out, "type", s->type_name);
    shape = cJSON_AddArrayToObject(out, "shape");
    for (uint32_t i = 0; i < s->n_dims; i++)
        cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)s->dim[i]));
    return out;
}

static void count_type(struct type_count *types, size_t *n, const struct at_source *s)
{
    size_t i = 0;

    while (i < *n && strcmp(types[i].name, s->type_name) != 0)
        i++;
    if (i == MAX_TYPES)
        return;
    types[i].name = s->type_name;
    types[i].n++;
    types[i].bytes += s->n_bytes;
    if (i == *n)
        ++*n;
}

static void add_tensors(cJSON *out, const struct at_weights *w, bool list)
{
    struct type_count types[MAX_TYPES] = { { .name = NULL } };
    size_t n_types = 0;
    double values = 0, bytes = 0;
    cJSON *tensors = NULL, *by_type = NULL;

    for (size_t i = 0; i < at_weights_count(w); i++) {
        const struct at_source *s = at_weights_get(w, i);
        if (!s->is_part)
            values += (double)s->rows * (double)s->cols;
        bytes += (double)s->n_bytes;
        count_type(types, &n_types, s);
    }
    cJSON_AddNumberToObject(out, "tensors", (double)at_weights_count(w));
    cJSON_AddNumberToObject(out, "values", values);
    cJSON_AddNumberToObject(out, "bytes", bytes);
    by_type = cJSON_AddObjectToObject(out, "types");
    for (size_t i = 0; i < n_types; i++) {
        cJSON *type = cJSON_AddObjectToObject(by_type, types[i].name);
        cJSON_AddNumberToObject(type, "tensors", (double)types[i].n);
        cJSON_AddNumberToObject(type, "bytes", (double)types[i].bytes);
    }
    if (!list)
        return;
    tensors = cJSON_AddArrayToObject(out, "tensor_list");
    for (size_t i = 0; i < at_weights_count(w); i++)
        cJSON_AddItemToArray(tensors, tensor_json(at_weights_get(w, i)));
}

/* ---- what a path is ---- */

static void add_model(cJSON *out, const struct at_model_config *m)
{
    cJSON *model = cJSON_AddObjectToObject(out, "model"), *biases = NULL;

    cJSON_AddStringToObject(model, "family", m->family->name);
    cJSON_AddNumberToObject(model, "layers", m->L);
    cJSON_AddNumberToObject(model, "width", m->C);
    cJSON_AddNumberToObject(model, "heads", m->H);
    cJSON_AddNumberToObject(model, "kv_heads", m->G);
    cJSON_AddNumberToObject(model, "head_width", m->D);
    cJSON_AddNumberToObject(model, "feed_forward", m->F);
    cJSON_AddNumberToObject(model, "vocabulary", m->V);
    cJSON_AddNumberToObject(model, "positions", m->max_positions);
    cJSON_AddNumberToObject(model, "rope_theta", m->rope.theta);
    cJSON_AddBoolToObject(model, "tied", m->tied);
    cJSON_AddBoolToObject(model, "value_head", m->value_head);
    biases = cJSON_AddArrayToObject(model, "biases");
    for (uint32_t i = 0; i < AT_LINEARS; i++)
        if (m->biases >> i & 1)
            cJSON_AddItemToArray(biases, cJSON_CreateString(at_linear_name(m->family, i)));
}

/* A special token as {"id", "text"}; nothing for one that the tokenizer has not. */
static AT_CHECKED add_token(cJSON *out, const char *name, const struct at_tokenizer *t, int32_t id)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };
    cJSON *token = NULL;

    if (id < 0)
        goto done;
    TRY(at_tokenizer_decode(t, &text, &id, 1, false));
    TRY(at_buf_status(&text));
    token = cJSON_AddObjectToObject(out, name);
    cJSON_AddNumberToObject(token, "id", id);
    cJSON_AddStringToObject(token, "text", text.data ? text.data : "");
done:
    at_buf_release(&text);
    return st;
}

static void add_template(cJSON *out, const struct at_bundle *b)
{
    cJSON *chat = NULL;

    if (!b->template_text) {
        cJSON_AddStringToObject(out, "chat_template", "none");
        return;
    }
    chat = cJSON_AddObjectToObject(out, "chat_template");
    cJSON_AddNumberToObject(chat, "bytes", (double)strlen(b->template_text));
    if (b->chat_problem)
        cJSON_AddStringToObject(chat, "problem", b->chat_problem);
    if (!b->chat)
        return;
    cJSON_AddStringToObject(chat, "end_of_turn",
                            at_chat_end_of_turn(b->chat) ? at_chat_end_of_turn(b->chat) : "");
    cJSON_AddBoolToObject(chat, "writes_bos", at_chat_writes_bos(b->chat));
    cJSON_AddBoolToObject(chat, "marks_generation", at_chat_marks_generation(b->chat));
}

/* Tokenizer and chat template; what is wrong with them is told, the rest of the model is there. */
static AT_CHECKED add_text(cJSON *out, const char *path)
{
    const struct at_bundle_params p = { .path = path, .tokenizer_only = true };
    struct at_bundle b = { .path = NULL };
    enum at_status st = AT_OK;
    cJSON *tokenizer = cJSON_AddObjectToObject(out, "tokenizer");

    if (at_bundle_open(&b, &p) != AT_OK) {
        cJSON_AddStringToObject(tokenizer, "problem", at_message());
        goto done;
    }
    cJSON_AddNumberToObject(tokenizer, "vocabulary", at_tokenizer_size(b.tokenizer));
    TRY(add_token(tokenizer, "bos", b.tokenizer, at_tokenizer_bos(b.tokenizer)));
    TRY(add_token(tokenizer, "eos", b.tokenizer, at_tokenizer_eos(b.tokenizer)));
    TRY(add_token(tokenizer, "pad", b.tokenizer, at_tokenizer_pad(b.tokenizer)));
    cJSON_AddStringToObject(tokenizer, "digest", at_tokenizer_digest(b.tokenizer));
    add_template(out, &b);
done:
    at_bundle_close(&b);
    return st;
}

/* A module of a GGUF adapter is two tensors: "blk.0.attn_q.weight.lora_a" (rank, in) and ".lora_b".
 * The name without its end; or NULL. */
static AT_CHECKED module_name(char **out, struct at_arena *arena, const struct at_source *s)
{
    static const char end[] = ".lora_a", weight[] = ".weight";
    size_t n = strlen(s->name);

    *out = NULL;
    if (!ends_with(s->name, end))
        return AT_OK;
    n -= sizeof end - 1;
    if (n >= sizeof weight - 1 &&
        strncmp(s->name + n - sizeof weight + 1, weight, sizeof weight - 1) == 0)
        n -= sizeof weight - 1;
    return at_arena_strndup(arena, out, s->name, n);
}

/* Adds "attn_q" of "blk.0.attn_q" to the list, which has each once. */
static void add_target(cJSON *list, const char *module)
{
    const char *name = module;

    if (strncmp(name, "blk.", 4) == 0 && strchr(name + 4, '.'))
        name = strchr(name + 4, '.') + 1;
    for (const cJSON *i = list->child; i; i = i->next)
        if (strcmp(i->valuestring, name) == 0)
            return;
    cJSON_AddItemToArray(list, cJSON_CreateString(name));
}

/* What a GGUF adapter says of itself, under PEFT's names where PEFT has one. */
static AT_CHECKED add_gguf_adapter(cJSON *out, struct at_arena *arena, const struct at_weights *w)
{
    enum at_status st = AT_OK;
    cJSON *adapter = cJSON_AddObjectToObject(out, "adapter");
    cJSON *ranks = cJSON_CreateObject(), *targets = cJSON_CreateArray();
    const char *type = "unknown", *architecture = "unknown";
    double alpha = 0, rank = 0;

    TRY(at_gguf_get_string(&type, w, "adapter.type"));
    TRY(at_gguf_get_string(&architecture, w, "general.architecture"));
    cJSON_AddStringToObject(adapter, "type", type);
    cJSON_AddStringToObject(adapter, "base_architecture", architecture);
    for (size_t i = 0; i < at_weights_count(w); i++) {
        const struct at_source *s = at_weights_get(w, i);
        char *module = NULL;
        TRY(module_name(&module, arena, s));
        if (!module)
            continue;
        rank = targets->child ? rank : (double)s->rows;
        if ((double)s->rows != rank)
            cJSON_AddNumberToObject(ranks, module, (double)s->rows);
        add_target(targets, module);
    }
    cJSON_AddNumberToObject(adapter, "r", rank);
    if (at_gguf_has(w, "adapter.lora.alpha")) {
        TRY(at_gguf_get_double(&alpha, w, "adapter.lora.alpha"));
        cJSON_AddNumberToObject(adapter, "lora_alpha", alpha);
    }
    cJSON_AddItemToObject(adapter, "rank_pattern", ranks);
    cJSON_AddItemToObject(adapter, "target_modules", targets);
    ranks = targets = NULL;
done:
    cJSON_Delete(ranks);
    cJSON_Delete(targets);
    return st;
}

static AT_CHECKED inspect_model(cJSON *out, struct at_arena *arena, const char *path, bool list)
{
    enum at_status st = AT_OK;
    struct at_weights *w = NULL;
    struct at_model_config config;
    const char *type = NULL;

    TRY(at_weights_open(&w, path));
    if (at_weights_is_gguf(w) && at_gguf_get_string(&type, w, "general.type") != AT_OK)
        at_warn("model", "%s", at_message());
    if (type && strcmp(type, "adapter") == 0) {
        cJSON_AddStringToObject(out, "kind", "adapter");
        add_tensors(out, w, list);
        TRY(add_gguf_adapter(out, arena, w));
        goto done;
    }
    cJSON_AddStringToObject(out, "kind", at_weights_is_gguf(w) ? "gguf" : "folder");
    if (at_model_config_read(&config, w) == AT_OK)
        add_model(out, &config);
    else
        at_warn("model", "%s", at_message());
    TRY(add_text(out, path));
    add_tensors(out, w, list);
done:
    at_weights_close(&w);
    return st;
}

static AT_CHECKED inspect_tensors(cJSON *out, const char *path, const char *kind, bool list)
{
    enum at_status st = AT_OK;
    struct at_weights *w = NULL;

    TRY(at_weights_open_safetensors(&w, path));
    cJSON_AddStringToObject(out, "kind", kind);
    add_tensors(out, w, list);
done:
    at_weights_close(&w);
    return st;
}

/* A file of the folder, as it is, under its name. Nothing when it is not there. */
static AT_CHECKED attach(cJSON *out, struct at_arena *arena, const char *dir, const char *file,
                         const char *name)
{
    enum at_status st = AT_OK;
    cJSON *json = NULL;
    char *path = NULL;

    TRY(at_path_join(arena, &path, dir, file));
    if (!at_path_exists(path))
        goto done;
    TRY(at_json_load_python(&json, path));
    cJSON_AddItemToObject(out, name, json);
done:
    return st;
}

static AT_CHECKED inspect(cJSON *out, struct at_arena *arena, const char *named, bool list)
{
    enum at_status st = AT_OK;
    struct at_found_model found;
    const char *path = NULL;
    char *adapter = NULL;

    TRY(at_model_find(&found, arena, named));
    path = found.path;
    cJSON_AddStringToObject(out, "path", path);
    if (found.unread)
        cJSON_AddStringToObject(out, "layers_not_read", found.unread);
    if (!at_path_exists(path))
        FAIL(AT_NOT_FOUND, "%s: no such file or folder", path);
    if (!at_path_is_dir(path) && ends_with(path, ".safetensors")) {
        TRY(inspect_tensors(out, path, "safetensors", list));
        goto done;
    }
    if (!at_path_is_dir(path)) {
        TRY(inspect_model(out, arena, path, list));
        goto done;
    }
    TRY(at_path_join(arena, &adapter, path, "adapter_model.safetensors"));
    if (at_path_exists(adapter)) {
        TRY(inspect_tensors(out, adapter, "adapter", list));
        TRY(attach(out, arena, path, "adapter_config.json", "adapter"));
    } else {
        TRY(inspect_model(out, arena, path, list));
    }
    TRY(attach(out, arena, path, "result.json", "result"));
done:
    return st;
}

/* ---- as text ---- */

/* Names and values are a foreign file's: no escape sequence may reach a terminal. */
static void print_plain(const char *text, int width)
{
    for (; *text; text++, width--) {
        const unsigned char c = (unsigned char)*text;
        putchar((c < 0x20 && c != '\n' && c != '\t') || c == 0x7F ? '?' : c);
    }
    printf("%*s", width > 0 ? width : 0, "");
}

static void print_compact(const cJSON *value)
{
    char *text = cJSON_PrintUnformatted(value);

    print_plain(text ? text : "", 0);
    cJSON_free(text);
}

static void print_tensors(const cJSON *list)
{
    for (const cJSON *t = list->child; t; t = t->next) {
        fputs("  ", stdout);
        print_plain(at_json_find(t, "name")->valuestring, 60);
        putchar(' ');
        print_plain(at_json_find(t, "type")->valuestring, 6);
        putchar(' ');
        print_compact(at_json_find(t, "shape"));
        putchar('\n');
    }
}

/* Where values begin: behind the longest name that has one. */
static int column_of(const cJSON *out, int indent)
{
    int column = 22;

    for (const cJSON *item = out->child; item; item = item->next) {
        const size_t n = strlen(item->string) + (size_t)indent;
        const int needs =
            item->child && cJSON_IsObject(item) ? column_of(item, indent + 2) : (int)n;
        column = needs > column && needs <= MAX_COLUMN ? needs : column;
    }
    return column;
}

/* `tensors` is this command's own list; what an attached file calls so is the file's. */
static void print_text(const cJSON *out, const cJSON *tensors, int indent, int column)
{
    for (const cJSON *item = out->child; item; item = item->next) {
        const bool heads = item == tensors || (cJSON_IsObject(item) && item->child);
        printf("%*s", indent, "");
        print_plain(item->string, heads ? 0 : column - indent);
        if (!heads)
            putchar(' ');
        if (cJSON_IsString(item))
            print_plain(item->valuestring, 0);
        else if (!heads)
            print_compact(item);
        putchar('\n');
        if (item == tensors)
            print_tensors(item);
        else if (heads)
            print_text(item, tensors, indent + 2, column);
    }
}

enum at_status cli_inspect(struct cli_args *args)
{
    enum at_status st = AT_OK;
    struct at_arena arena = { 0 };
    cJSON *out = cJSON_CreateObject();

    if (args->n_positional == 0)
        FAIL(AT_USAGE, "a file or folder is missing; usage: attune inspect %s",
             args->command->usage);
    TRY(inspect(out, &arena, args->positional[0], cli_flag_on(args, "tensors")));
    if (cli_flag_on(args, "json"))
        TRY(cli_print_pretty(out));
    else
        print_text(out, at_json_find(out, "tensor_list"), 0, column_of(out, 0));
done:
    cJSON_Delete(out);
    at_arena_release(&arena);
    return st;
}
