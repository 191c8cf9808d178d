#include "tokenizer_parts.h"

#include <string.h>

enum { MAX_NESTING = 4 };

/* ---- all kinds ---- */

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

enum at_status at_component_refuse(const char *name, const char *where, const char *what,
                                   const char *built)
{
    return at_fail(AT_DATA, "%s: %s: %s is not built in this version (built: %s)", name, where,
                   what, built);
}

/* Reads a component of one type; `kind` is the row's. */
typedef enum at_status reader(struct at_tokenizer *t, const cJSON *item, int kind,
                              const char *name);
struct component {
    const char *type;
    reader *read;
    int kind;
};
struct components {
    const char *where, *list; /* keys of the file and of a Sequence */
    const struct component *rows;
    size_t n_rows;
};

static enum at_status refuse_type(const struct components *all, const char *type, const char *name)
{
    enum at_status st = AT_OK;
    struct at_buf built = { 0 };

    for (size_t i = 0; i < all->n_rows; i++)
        at_buf_printf(&built, "%s, ", all->rows[i].type);
    at_buf_puts(&built, "Sequence");
    TRY(at_buf_status(&built));
    st = at_component_refuse(name, all->where, type, built.data);
done:
    at_buf_release(&built);
    return st;
}

/* Reads a component, or each part of a Sequence. */
static AT_CHECKED read_parts(struct at_tokenizer *t, const cJSON *item,
                             const struct components *all, int depth, const char *name)
{
    enum at_status st = AT_OK;
    const cJSON *parts = at_json_find(item, all->list);

    if (is_null(item))
        goto done;
    if (is_type(item, "Sequence")) {
        if (!cJSON_IsArray(parts) || depth == MAX_NESTING)
            FAIL(AT_DATA, "%s: a Sequence without \"%s\", or too deep", name, all->list);
        for (const cJSON *part = parts->child; part; part = part->next)
            TRY(read_parts(t, part, all, depth + 1, name));
        goto done;
    }
    for (size_t i = 0; i < all->n_rows; i++)
        if (is_type(item, all->rows[i].type)) {
            TRY(all->rows[i].read(t, item, all->rows[i].kind, name));
            goto done;
        }
    st = refuse_type(all, type_of(item), name);
done:
    return st;
}

/* A copy that lives as long as the tokenizer. */
static AT_CHECKED keep(struct at_tokenizer *t, const char **out, const char *text)
{
    enum at_status st = AT_OK;
    char *copy = NULL;

    TRY(at_arena_strdup(&t->arena, &copy, text));
    *out = copy;
done:
    return st;
}

/* "pattern": {"Regex": ...} or {"String": ...}; *source is the one that is there. */
static AT_CHECKED read_pattern(pcre2_code **out, const char **source, const cJSON *item,
                               const char *name)
{
    enum at_status st = AT_OK;
    const cJSON *pattern = at_json_find(item, "pattern");
    const char *regex = NULL, *text = NULL;

    TRY(at_json_get_string(&regex, pattern, "Regex", name));
    TRY(at_json_get_string(&text, pattern, "String", name));
    *source = regex ? regex : text;
    if (regex)
        TRY(at_pattern_compile(out, regex, name));
    else if (text)
        TRY(at_pattern_compile_literal(out, text, name));
    else
        FAIL(AT_DATA, "%s: %s: \"pattern\" has neither \"Regex\" nor \"String\"", name,
             type_of(item));
done:
    return st;
}

/* ---- normalizers ---- */

static enum at_status read_plain(struct at_tokenizer *t, const cJSON *item, int kind,
                                 const char *name)
{
    (void)item;
    return at_tokenizer_put_normalizer(
        t, (struct at_normalizer){ .kind = (enum at_normalizer_kind)kind }, "", name);
}

static enum at_status read_strip(struct at_tokenizer *t, const cJSON *item, int kind,
                                 const char *name)
{
    enum at_status st = AT_OK;
    struct at_normalizer z = { .kind = (enum at_normalizer_kind)kind };

    TRY(at_json_get_bool(&z.left, item, "strip_left", name));
    TRY(at_json_get_bool(&z.right, item, "strip_right", name));
    TRY(at_tokenizer_put_normalizer(t, z, "", name));
done:
    return st;
}

static enum at_status read_prepend(struct at_tokenizer *t, const cJSON *item, int kind,
                                   const char *name)
{
    enum at_status st = AT_OK;
    struct at_normalizer z = { .kind = (enum at_normalizer_kind)kind };
    const char *text = NULL;

    TRY(at_json_need_string(&text, item, "prepend", name));
    TRY(keep(t, &z.text, text));
    TRY(at_tokenizer_put_normalizer(t, z, "", name));
done:
    return st;
}

static enum at_status read_replace(struct at_tokenizer *t, const cJSON *item, int kind,
                                   const char *name)
{
    enum at_status st = AT_OK;
    struct at_normalizer z = { .kind = (enum at_normalizer_kind)kind };
    const char *content = NULL, *source = NULL;

    TRY(at_json_need_string(&content, item, "content", name));
    TRY(keep(t, &z.text, content));
    TRY(read_pattern(&z.code, &source, item, name));
    TRY(at_tokenizer_put_normalizer(t, z, source, name));
done:
    return st;
}

static enum at_status read_precompiled(struct at_tokenizer *t, const cJSON *item, int kind,
                                       const char *name)
{
    enum at_status st = AT_OK;
    struct at_normalizer z = { .kind = (enum at_normalizer_kind)kind };
    const char *blob = NULL;

    TRY(at_json_get_string(&blob, item, "precompiled_charsmap", name));
    if (!blob || !blob[0])
        goto done;
    TRY(at_charsmap_read(&z.map, &t->arena, blob, name));
    TRY(at_tokenizer_put_normalizer(t, z, blob, name));
done:
    return st;
}

static const struct component normalizer_rows[] = {
    { "Lowercase", read_plain, AT_NORMALIZE_LOWERCASE },
    { "NFC", read_plain, AT_NORMALIZE_NFC },
    { "NFD", read_plain, AT_NORMALIZE_NFD },
    { "NFKC", read_plain, AT_NORMALIZE_NFKC },
    { "NFKD", read_plain, AT_NORMALIZE_NFKD },
    { "Nmt", read_plain, AT_NORMALIZE_NMT },
    { "Precompiled", read_precompiled, AT_NORMALIZE_CHARSMAP },
    { "Prepend", read_prepend, AT_NORMALIZE_PREPEND },
    { "Replace", read_replace, AT_NORMALIZE_REPLACE },
    { "Strip", read_strip, AT_NORMALIZE_STRIP },
    { "StripAccents", read_plain, AT_NORMALIZE_STRIP_ACCENTS },
};
static const struct components all_normalizers = { "normalizer", "normalizers", normalizer_rows,
                                                   AT_COUNT(normalizer_rows) };

/* ---- pre-tokenizers ---- */

static AT_CHECKED read_behavior(enum at_behavior *out, const cJSON *item, const char *name)
{
    static const char *const names[] = {
        [AT_SPLIT_ISOLATED] = "Isolated",
        [AT_SPLIT_REMOVED] = "Removed",
        [AT_SPLIT_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
        [AT_SPLIT_MERGED_WITH_NEXT] = "MergedWithNext",
        [AT_SPLIT_CONTIGUOUS] = "Contiguous",
    };
    enum at_status st = AT_OK;
    const char *text = names[AT_SPLIT_ISOLATED];

    TRY(at_json_get_string(&text, item, "behavior", name));
    for (size_t i = 0; i < AT_COUNT(names); i++)
        if (strcmp(names[i], text) == 0) {
            *out = (enum at_behavior)i;
            goto done;
        }
    FAIL(AT_DATA, "%s: pre_tokenizer: %s: \"behavior\" is \"%s\"", name, type_of(item), text);
done:
    return st;
}

static enum at_status read_split(struct at_tokenizer *t, const cJSON *item, int kind,
                                 const char *name)
{
    enum at_status st = AT_OK;
    struct at_stage stage = { .invert = kind != 0 };
    const char *source = NULL;

    TRY(read_behavior(&stage.behavior, item, name));
    TRY(at_json_get_bool(&stage.invert, item, "invert", name));
    TRY(read_pattern(&stage.code, &source, item, name));
    TRY(at_tokenizer_put_stage(t, stage, source, name));
done:
    return st;
}

/* Those that cut at characters of one kind. */
enum { PUNCTUATION, WHITESPACE, WHITESPACE_SPLIT };
static enum at_status read_characters(struct at_tokenizer *t, const cJSON *item, int kind,
                                      const char *name)
{
    static const struct {
        const char *pattern;
        enum at_behavior behavior;
        bool invert;
    } rows[] = {
        [PUNCTUATION] = { "[\\p{P}$+<=>^`|~]", AT_SPLIT_ISOLATED, false },
        /* \w is spelled out: letters, marks, digits, connectors, joiners */
        [WHITESPACE] = { "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\u200C\u200D]+|"
                         "[^\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\u200C\u200D\\s]+",
                         AT_SPLIT_REMOVED, true },
        [WHITESPACE_SPLIT] = { "\\s", AT_SPLIT_REMOVED, false },
    };
    enum at_status st = AT_OK;
    struct at_stage stage = { .behavior = rows[kind].behavior, .invert = rows[kind].invert };

    if (kind == PUNCTUATION)
        TRY(read_behavior(&stage.behavior, item, name));
    TRY(at_pattern_compile(&stage.code, rows[kind].pattern, name));
    TRY(at_tokenizer_put_stage(t, stage, rows[kind].pattern, name));
done:
    return st;
}

static enum at_status read_digits(struct at_tokenizer *t, const cJSON *item, int kind,
                                  const char *name)
{
    enum at_status st = AT_OK;
    bool individual = false;

    (void)kind;
    TRY(at_json_get_bool(&individual, item, "individual_digits", name));
    TRY(at_tokenizer_put_isolated(t, individual ? "\\p{N}" : "\\p{N}+", name));
done:
    return st;
}

static enum at_status read_byte_level(struct at_tokenizer *t, const cJSON *item, int kind,
                                      const char *name)
{
    enum at_status st = AT_OK;
    bool prefix_space = true, use_regex = true; /* what the reference takes when a key is missing */

    (void)kind;
    TRY(at_json_get_bool(&prefix_space, item, "add_prefix_space", name));
    TRY(at_json_get_bool(&use_regex, item, "use_regex", name));
    if (prefix_space)
        TRY(at_tokenizer_put_stage(
            t, (struct at_stage){ .mark = " ", .prepend = AT_PREPEND_ALWAYS }, "", name));
    if (use_regex)
        TRY(at_tokenizer_put_isolated(t, at_pattern_gpt2, name));
    t->byte_level = true;
done:
    return st;
}

/* "prepend_scheme", or the flag that stood in its place in older files. */
static AT_CHECKED read_prepend_scheme(enum at_prepend *out, const cJSON *item, const char *name)
{
    static const char *const names[] = {
        [AT_PREPEND_NEVER] = "never", [AT_PREPEND_FIRST] = "first", [AT_PREPEND_ALWAYS] = "always"
    };
    enum at_status st = AT_OK;
    const char *scheme = names[AT_PREPEND_ALWAYS];
    bool add = true;

    TRY(at_json_get_bool(&add, item, "add_prefix_space", name));
    TRY(at_json_get_string(&scheme, item, "prepend_scheme", name));
    if (!add)
        scheme = names[AT_PREPEND_NEVER];
    for (size_t i = 0; i < AT_COUNT(names); i++)
        if (strcmp(names[i], scheme) == 0) {
            *out = (enum at_prepend)i;
            goto done;
        }
    FAIL(AT_DATA, "%s: Metaspace: \"prepend_scheme\" is \"%s\"", name, scheme);
done:
    return st;
}

static AT_CHECKED read_mark(struct at_tokenizer *t, const char **out, const cJSON *item,
                            const char *name)
{
    enum at_status st = AT_OK;
    const char *mark = NULL;
    size_t n = 0;

    TRY(at_json_need_string(&mark, item, "replacement", name));
    if (mark[0])
        (void)at_utf8_get(mark, &n);
    if (n == 0 || mark[n])
        FAIL(AT_DATA, "%s: Metaspace: \"replacement\" is not one character", name);
    TRY(keep(t, out, mark));
done:
    return st;
}

static enum at_status read_metaspace(struct at_tokenizer *t, const cJSON *item, int kind,
                                     const char *name)
{
    enum at_status st = AT_OK;
    struct at_stage stage = { .code = NULL };
    struct at_stage cuts = { .behavior = (enum at_behavior)kind };
    bool is_split = true;

    TRY(read_mark(t, &stage.mark, item, name));
    TRY(read_prepend_scheme(&stage.prepend, item, name));
    TRY(at_json_get_bool(&is_split, item, "split", name));
    TRY(at_tokenizer_put_stage(t, stage, "", name));
    if (is_split) {
        TRY(at_pattern_compile_literal(&cuts.code, stage.mark, name));
        TRY(at_tokenizer_put_stage(t, cuts, stage.mark, name));
    }
done:
    return st;
}

static const struct component pre_tokenizer_rows[] = {
    { "ByteLevel", read_byte_level, 0 },
    { "Digits", read_digits, 0 },
    { "Metaspace", read_metaspace, AT_SPLIT_MERGED_WITH_NEXT },
    { "Punctuation", read_characters, PUNCTUATION },
    { "Split", read_split, 0 },
    { "Whitespace", read_characters, WHITESPACE },
    { "WhitespaceSplit", read_characters, WHITESPACE_SPLIT },
};
static const struct components all_pre_tokenizers = { "pre_tokenizer", "pretokenizers",
                                                      pre_tokenizer_rows,
                                                      AT_COUNT(pre_tokenizer_rows) };

/* ---- post-processors ---- */

static AT_CHECKED put_around(struct at_tokenizer *t, bool behind, const cJSON *id,
                             const char *token, const char *name)
{
    enum at_status st = AT_OK;
    size_t *n = behind ? &t->n_after : &t->n_before;

    if (!cJSON_IsNumber(id) || id->valuedouble < 0 || id->valuedouble > AT_MAX_ID)
        FAIL(AT_DATA, "%s: post_processor: \"%s\" has an id that is no number", name, token);
    if (*n == AT_MAX_TEMPLATE)
        FAIL(AT_DATA, "%s: post_processor: more than %d tokens", name, AT_MAX_TEMPLATE);
    (behind ? t->after : t->before)[(*n)++] = id->valueint;
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
    for (const cJSON *i = ids->child; i; i = i->next)
        TRY(put_around(t, *seen, i, id, name));
done:
    return st;
}

static enum at_status read_template(struct at_tokenizer *t, const cJSON *item, int kind,
                                    const char *name)
{
    enum at_status st = AT_OK;
    const cJSON *single = at_json_find(item, "single");
    bool seen = false;

    (void)kind;
    if (!cJSON_IsArray(single))
        FAIL(AT_DATA, "%s: post_processor: TemplateProcessing without \"single\"", name);
    for (const cJSON *i = single->child; i; i = i->next)
        TRY(read_template_item(t, &seen, i, at_json_find(item, "special_tokens"), name));
done:
    return st;
}

/* "cls" before and "sep" behind, each [text, id]. */
static enum at_status read_cls_sep(struct at_tokenizer *t, const cJSON *item, int kind,
                                   const char *name)
{
    static const char *const keys[] = { "cls", "sep" };
    enum at_status st = AT_OK;

    (void)kind;
    for (size_t i = 0; i < AT_COUNT(keys); i++)
        TRY(put_around(t, i == 1, cJSON_GetArrayItem(at_json_find(item, keys[i]), 1), keys[i],
                       name));
done:
    return st;
}

/* Changes offsets only. */
static enum at_status read_nothing(struct at_tokenizer *t, const cJSON *item, int kind,
                                   const char *name)
{
    (void)t;
    (void)item;
    (void)kind;
    (void)name;
    return AT_OK;
}

static const struct component post_processor_rows[] = {
    { "BertProcessing", read_cls_sep, 0 },
    { "ByteLevel", read_nothing, 0 },
    { "RobertaProcessing", read_cls_sep, 0 },
    { "TemplateProcessing", read_template, 0 },
};
static const struct components all_post_processors = { "post_processor", "processors",
                                                       post_processor_rows,
                                                       AT_COUNT(post_processor_rows) };

/* ---- decoders ---- */

/* What comes behind these acts on other pieces than tokens. */
static AT_CHECKED check_order(const struct at_tokenizer *t, const cJSON *item, const char *name)
{
    const struct at_decoder *d = &t->decoder;
    const char *before = d->byte_level      ? "behind ByteLevel"
                         : d->fuse          ? "behind Fuse"
                         : d->byte_fallback ? "behind ByteFallback"
                                            : NULL;
    enum at_status st = AT_OK;

    if (before)
        FAIL(AT_DATA, "%s: decoder: %s %s is not built in this version", name, type_of(item),
             before);
done:
    return st;
}

static enum at_status read_decode_replace(struct at_tokenizer *t, const cJSON *item, int kind,
                                          const char *name)
{
    enum at_status st = AT_OK;
    struct at_decode_op op = { .kind = (enum at_decode_kind)kind };
    const char *text = NULL, *content = NULL;

    TRY(check_order(t, item, name));
    TRY(at_json_get_string(&text, at_json_find(item, "pattern"), "String", name));
    TRY(at_json_need_string(&content, item, "content", name));
    if (!text) {
        st = at_component_refuse(name, "decoder: Replace", "a pattern of another kind", "String");
        goto done;
    }
    TRY(keep(t, &op.text, text));
    TRY(keep(t, &op.content, content));
    TRY(at_tokenizer_put_decode(t, op, name));
done:
    return st;
}

static enum at_status read_decode_strip(struct at_tokenizer *t, const cJSON *item, int kind,
                                        const char *name)
{
    enum at_status st = AT_OK;
    struct at_decode_op op = { .kind = (enum at_decode_kind)kind };
    const char *text = NULL;

    TRY(at_json_need_string(&text, item, "content", name));
    TRY(at_json_get_u32(&op.start, item, "start", name));
    TRY(at_json_get_u32(&op.stop, item, "stop", name));
    if (t->decoder.fuse && !t->decoder.strip) {
        if (op.start > 1 || op.stop > 0 || !text[0] || text[1] || (uint8_t)text[0] >= 0x80)
            FAIL(AT_DATA,
                 "%s: decoder: Strip behind Fuse is not built in this version for more than one "
                 "ASCII character at the start",
                 name);
        /* NOLINTNEXTLINE(bugprone-narrowing-conversions): ASCII */
        t->decoder.strip = op.start > 0 ? text[0] : 0;
        goto done;
    }
    TRY(check_order(t, item, name));
    TRY(keep(t, &op.text, text));
    TRY(at_tokenizer_put_decode(t, op, name));
done:
    return st;
}

static enum at_status read_decode_metaspace(struct at_tokenizer *t, const cJSON *item, int kind,
                                            const char *name)
{
    enum at_status st = AT_OK;
    struct at_decode_op op = { .kind = (enum at_decode_kind)kind };
    enum at_prepend prepend = AT_PREPEND_ALWAYS;

    TRY(check_order(t, item, name));
    TRY(read_mark(t, &op.text, item, name));
    TRY(read_prepend_scheme(&prepend, item, name));
    op.first_has_none = prepend != AT_PREPEND_NEVER;
    TRY(at_tokenizer_put_decode(t, op, name));
done:
    return st;
}

enum { BYTE_LEVEL, BYTE_FALLBACK, FUSE };
static enum at_status read_decode_flag(struct at_tokenizer *t, const cJSON *item, int kind,
                                       const char *name)
{
    bool *const flags[] = { [BYTE_LEVEL] = &t->decoder.byte_level,
                            [BYTE_FALLBACK] = &t->decoder.byte_fallback,
                            [FUSE] = &t->decoder.fuse };
    enum at_status st = AT_OK;

    if (kind != FUSE)
        TRY(check_order(t, item, name));
    *flags[kind] = true;
done:
    return st;
}

static const struct component decoder_rows[] = {
    { "ByteFallback", read_decode_flag, BYTE_FALLBACK },
    { "ByteLevel", read_decode_flag, BYTE_LEVEL },
    { "Fuse", read_decode_flag, FUSE },
    { "Metaspace", read_decode_metaspace, AT_DECODE_MARK },
    { "Replace", read_decode_replace, AT_DECODE_REPLACE },
    { "Strip", read_decode_strip, AT_DECODE_STRIP },
};
static const struct components all_decoders = { "decoder", "decoders", decoder_rows,
                                                AT_COUNT(decoder_rows) };

AT_CHECKED at_components_read(struct at_tokenizer *t, const cJSON *json, const char *name)
{
    enum at_status st = AT_OK;
    const cJSON *decoder = at_json_find(json, "decoder");

    TRY(read_parts(t, at_json_find(json, "normalizer"), &all_normalizers, 0, name));
    TRY(read_parts(t, at_json_find(json, "pre_tokenizer"), &all_pre_tokenizers, 0, name));
    TRY(read_parts(t, at_json_find(json, "post_processor"), &all_post_processors, 0, name));
    if (is_null(decoder))
        st = refuse_type(&all_decoders, "none", name);
    else
        TRY(read_parts(t, decoder, &all_decoders, 0, name));
done:
    return st;
}
