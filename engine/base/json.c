#include "json.h"

#include "os.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_DEPTH = 64,
    MAX_NUMBER = 63 /* cJSON's own buffer */,
    MAX_EXACT_DIGITS = 15,
    FEW_KEYS = 16
};

/* A text being parsed and what its errors call it. */
struct document {
    const char *text;
    size_t n;
    const char *name;
    size_t line;
    bool infinite; /* numbers may be */
};

/* cJSON reports a failed allocation and bad syntax alike; its hook tells them apart here. */
static _Thread_local bool allocation_failed;

static void *allocate(size_t bytes)
{
    void *p;
    if (at_alloc(&p, bytes, 1) != AT_OK)
        allocation_failed = true;
    return p;
}

static void release(void *p)
{
    at_free(&p);
}

__attribute__((constructor)) static void install_hooks(void)
{
    cJSON_InitHooks(&(cJSON_Hooks){ .malloc_fn = allocate, .free_fn = release });
}

size_t at_utf8_check(const char *text, size_t n)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t i = 0;
    while (i < n) {
        uint64_t eight;
        if (n - i >= sizeof eight) {
            memcpy(&eight, s + i, sizeof eight);
            if (!(eight & 0x8080808080808080u)) {
                i += sizeof eight;
                continue;
            }
        }
        unsigned char c = s[i];
        size_t length = c < 0x80   ? 1
                        : c < 0xC2 ? 0
                        : c < 0xE0 ? 2
                        : c < 0xF0 ? 3
                        : c < 0xF5 ? 4
                                   : 0;
        if (length == 0 || n - i < length)
            return i;
        for (size_t k = 1; k < length; k++)
            if ((s[i + k] & 0xC0) != 0x80)
                return i;
        /* overlong forms, surrogates, beyond U+10FFFF */
        if ((c == 0xE0 && s[i + 1] < 0xA0) || (c == 0xED && s[i + 1] > 0x9F) ||
            (c == 0xF0 && s[i + 1] < 0x90) || (c == 0xF4 && s[i + 1] > 0x8F))
            return i;
        i += length;
    }
    return n;
}

/* Fails with the line and column (in characters, from 1) of `offset`. */
static enum at_status AT_PRINTF(3, 4)
    fail_at(const struct document *doc, size_t offset, const char *format, ...)
{
    size_t line = doc->line, column = 1;
    for (size_t i = 0; i < offset; i++) {
        unsigned char c = (unsigned char)doc->text[i];
        if (c == '\n') {
            line++;
            column = 1;
        } else if ((c & 0xC0) != 0x80) {
            column++;
        }
    }
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return at_fail(AT_DATA, "%s:%zu:%zu: %s", doc->name, line, column, text);
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}
static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* *i is at the opening quote and ends behind the closing one. */
static enum at_status scan_string(const struct document *doc, size_t *i)
{
    for (size_t k = *i + 1; k < doc->n; k++) {
        unsigned char c = (unsigned char)doc->text[k];
        if (c == '"') {
            *i = k + 1;
            return AT_OK;
        }
        if (c < 0x20)
            return fail_at(doc, k, "a control character (0x%02x) stands in a string; escape it", c);
        if (c != '\\')
            continue;
        if (doc->n - k > 5 && memcmp(doc->text + k, "\\u0000", 6) == 0)
            return fail_at(doc, k, "strings with \\u0000 are not supported");
        k++;
    }
    return fail_at(doc, *i, "a string does not end");
}

/* *i is at '-' or a digit and ends behind the number. cJSON takes what strtod takes. */
static enum at_status scan_number(const struct document *doc, size_t *i)
{
    char copy[MAX_NUMBER + 1];
    size_t n = 0;
    while (*i + n < doc->n && n <= MAX_NUMBER && doc->text[*i + n] &&
           strchr("0123456789+-.eE", doc->text[*i + n])) {
        if (n == MAX_NUMBER)
            return fail_at(doc, *i, "a number has more than %d characters", MAX_NUMBER);
        copy[n] = doc->text[*i + n];
        n++;
    }
    copy[n] = 0;
    const char *digits = copy + (copy[0] == '-');
    const char *point = strchr(copy, '.');
    char *end;
    double value = strtod(copy, &end);
    if (!is_digit(digits[0]) || (digits[0] == '0' && is_digit(digits[1])) || *end != 0 ||
        (point && !is_digit(point[1])))
        return fail_at(doc, *i, "\"%s\" is not a number in JSON", copy);
    if (!isfinite(value) && !doc->infinite)
        return fail_at(doc, *i, "the number %s is too large", copy);
    *i += n;
    return AT_OK;
}

/* Whether the number's double does not tell how it was written. */
static bool keeps_text(const char *text, size_t n)
{
    return n > MAX_EXACT_DIGITS || memchr(text, '.', n) || memchr(text, 'e', n) ||
           memchr(text, 'E', n);
}

/* What cJSON does not check: depth, numbers' form and range, control characters, zero bytes. Keys
 * too, whose place it reports one byte late. */
static enum at_status scan(bool *keeps_texts, const struct document *doc)
{
    enum at_status st = AT_OK;
    size_t depth = 0, i = 0;
    bool in_object[MAX_DEPTH + 1] = { false };
    char previous = 0; /* last byte of the token before */
    while (i < doc->n) {
        char c = doc->text[i];
        if (is_space(c)) {
            i++;
            continue;
        }
        if (in_object[depth] && c != '"' && (previous == ',' || (previous == '{' && c != '}')))
            return fail_at(doc, i, "a key in double quotes is expected");
        if (c == '"') {
            TRY(scan_string(doc, &i));
        } else if (c == '-' || is_digit(c)) {
            const size_t begin = i;
            TRY(scan_number(doc, &i));
            *keeps_texts |= keeps_text(doc->text + begin, i - begin);
        } else {
            if ((c == '[' || c == '{') && ++depth > MAX_DEPTH)
                return fail_at(doc, i, "nested deeper than %d levels", MAX_DEPTH);
            if (c == '[' || c == '{')
                in_object[depth] = c == '{';
            if ((c == ']' || c == '}') && depth > 0)
                depth--;
            if ((unsigned char)c < 0x20)
                return fail_at(doc, i, "a control character (0x%02x)", (unsigned char)c);
            i++;
        }
        previous = c;
    }
done:
    return st;
}

/* Gives the numbers below `node` their texts; *i is in front of the first. */
static enum at_status keep_texts(cJSON *node, const struct document *doc, size_t *i)
{
    enum at_status st = AT_OK;
    size_t begin;
    if (cJSON_IsNumber(node)) {
        while (doc->text[*i] != '-' && !is_digit(doc->text[*i]))
            if (doc->text[*i] != '"')
                (*i)++;
            else
                TRY(scan_string(doc, i));
        begin = *i;
        TRY(scan_number(doc, i));
        if (keeps_text(doc->text + begin, *i - begin)) {
            node->valuestring = cJSON_malloc(*i - begin + 1);
            if (!node->valuestring)
                return AT_MEMORY;
            memcpy(node->valuestring, doc->text + begin, *i - begin);
            node->valuestring[*i - begin] = 0;
        }
    }
    for (cJSON *child = node->child; child; child = child->next)
        TRY(keep_texts(child, doc, i));
done:
    return st;
}

struct key {
    const cJSON *item;
    size_t index;
};

static int compare_keys(const void *left, const void *right)
{
    const struct key *a = left, *b = right;
    int order = strcmp(a->item->string, b->item->string);
    return order ? order : (a->index > b->index) - (a->index < b->index);
}

/* The second item of an equal pair in one object, or NULL. */
static enum at_status find_twin(const cJSON **out, const cJSON *object)
{
    struct key few[FEW_KEYS], *keys = few, *many = NULL;
    size_t n = (size_t)cJSON_GetArraySize(object), i = 0;
    if (n > FEW_KEYS) {
        enum at_status st = at_alloc(&many, n, sizeof *many);
        if (st != AT_OK)
            return st;
        keys = many;
    }
    for (const cJSON *child = object->child; child; child = child->next, i++)
        keys[i] = (struct key){ child, i };
    qsort(keys, n, sizeof *keys, compare_keys);
    for (i = 1; i < n && !*out; i++)
        if (strcmp(keys[i - 1].item->string, keys[i].item->string) == 0)
            *out = keys[i].item;
    at_free(&many);
    return AT_OK;
}

static enum at_status find_duplicate(const cJSON **out, const cJSON *node)
{
    enum at_status st = cJSON_IsObject(node) ? find_twin(out, node) : AT_OK;
    for (const cJSON *child = node->child; child && st == AT_OK && !*out; child = child->next)
        if (child->child)
            st = find_duplicate(out, child);
    return st;
}

/* Adds the number of keys that stand before `wanted` in the text; true when it was reached. */
static bool count_keys(size_t *count, const cJSON *node, const cJSON *wanted)
{
    for (const cJSON *child = node->child; child; child = child->next) {
        if (child == wanted)
            return true;
        *count += child->string != NULL;
        if (count_keys(count, child, wanted))
            return true;
    }
    return false;
}

/* Offset of the key with number `index` of a text that parses. */
static size_t key_offset(const struct document *doc, size_t index)
{
    size_t i = 0;
    while (i < doc->n) {
        size_t begin = i;
        if (doc->text[i] != '"') {
            i++;
            continue;
        }
        if (scan_string(doc, &i) != AT_OK)
            break;
        while (i < doc->n && is_space(doc->text[i]))
            i++;
        if (i < doc->n && doc->text[i] == ':' && index-- == 0)
            return begin;
    }
    return doc->n;
}

static enum at_status check_duplicates(const struct document *doc, const cJSON *root)
{
    const cJSON *twin = NULL;
    enum at_status st = find_duplicate(&twin, root);
    if (st != AT_OK || !twin)
        return st;
    size_t count = 0;
    count_keys(&count, root, twin);
    return fail_at(doc, key_offset(doc, count), "the key \"%s\" stands twice in one object",
                   twin->string);
}

static enum at_status fail_syntax(const struct document *doc, size_t offset)
{
    while (offset < doc->n && is_space(doc->text[offset]))
        offset++;
    if (offset >= doc->n)
        return fail_at(doc, doc->n, "%s", doc->n ? "the JSON text ends too early" : "no JSON text");
    size_t n = 0;
    while (n < 16 && offset + n < doc->n && (unsigned char)doc->text[offset + n] >= 0x20)
        n++;
    while (n > 0 && offset + n < doc->n && ((unsigned char)doc->text[offset + n] & 0xC0) == 0x80)
        n--;
    return fail_at(doc, offset, "not valid JSON at \"%.*s\"", (int)n, doc->text + offset);
}

static enum at_status parse(cJSON **out, const struct document *doc)
{
    const char *const text = doc->text;
    const size_t n = doc->n;
    enum at_status st = AT_OK;
    char *copy = NULL;
    const char *end = NULL;
    cJSON *root = NULL;
    size_t bad = at_utf8_check(text, n), size, at = 0;
    bool keeps_texts = false;
    if (bad < n)
        return fail_at(doc, bad, "the text is not valid UTF-8 (byte 0x%02x)",
                       (unsigned char)text[bad]);
    TRY(scan(&keeps_texts, doc));

    /* cJSON reads one byte past a text that ends behind a comma: give it a 0 there. */
    if (!at_add_ok(&size, n, 1))
        FAIL(AT_MEMORY, "%s: the text is larger than any memory", doc->name);
    TRY(at_alloc(&copy, size, 1));
    if (n > 0)
        memcpy(copy, text, n);
    allocation_failed = false;
    root = cJSON_ParseWithLengthOpts(copy, size, &end, true);
    if (!root && allocation_failed) {
        st = AT_MEMORY;
        goto done;
    }
    if (!root) {
        st = fail_syntax(doc, (size_t)(end - copy));
        goto done;
    }
    TRY(check_duplicates(doc, root));
    if (keeps_texts)
        TRY(keep_texts(root, doc, &at));
    *out = root;
    root = NULL;
done:
    at_json_free(&root);
    at_free(&copy);
    return st;
}

enum at_status at_json_parse(cJSON **out, const char *text, size_t n, const char *name, size_t line)
{
    const struct document doc = { .text = text, .n = n, .name = name, .line = line };

    *out = NULL;
    return parse(out, &doc);
}

/* The text with infinities as numbers that are too large for a double. */
static enum at_status put_infinities(struct at_buf *out, const struct document *doc)
{
    static const char *const words[] = { "-Infinity", "Infinity", "NaN" };
    enum at_status st = AT_OK;

    for (size_t i = 0, end; i < doc->n; i = end) {
        const char *number = NULL;
        end = i + 1;
        if (doc->text[i] == '"') {
            end = i;
            TRY(scan_string(doc, &end));
        }
        for (size_t k = 0; k < AT_COUNT(words) && !number; k++) {
            const size_t length = strlen(words[k]);
            if (doc->n - i < length || memcmp(doc->text + i, words[k], length) != 0)
                continue;
            number = k == 0 ? "-1e999" : "1e999";
            end = i + length;
        }
        if (number)
            at_buf_puts(out, number);
        else
            at_buf_put(out, doc->text + i, end - i);
    }
    st = at_buf_status(out);
done:
    return st;
}

enum at_status at_json_parse_python(cJSON **out, const char *text, size_t n, const char *name)
{
    struct document doc = { .text = text, .n = n, .name = name, .line = 1, .infinite = true };
    struct at_buf plain = { 0 };
    enum at_status st = AT_OK;

    *out = NULL;
    TRY(put_infinities(&plain, &doc));
    doc.text = plain.data ? plain.data : "";
    doc.n = plain.n;
    TRY(parse(out, &doc));
done:
    at_buf_release(&plain);
    return st;
}

enum at_status at_json_load_python(cJSON **out, const char *path)
{
    struct at_map map;
    enum at_status st = AT_OK;

    *out = NULL;
    TRY(at_map_open(&map, path));
    st = at_json_parse_python(out, (const char *)map.data, map.n, path);
    at_map_close(&map);
done:
    return st;
}

enum at_status at_json_load(cJSON **out, const char *path)
{
    *out = NULL;
    struct at_map map;
    enum at_status st = at_map_open(&map, path);
    if (st != AT_OK)
        return st;
    const char *suffix = strrchr(path, '.');
    if (suffix && (strcmp(suffix, ".yaml") == 0 || strcmp(suffix, ".yml") == 0))
        st = at_yaml_parse(out, (const char *)map.data, map.n, path);
    else
        st = at_json_parse(out, (const char *)map.data, map.n, path, 1);
    at_map_close(&map);
    return st;
}

void at_json_free(cJSON **json)
{
    cJSON_Delete(*json);
    *json = NULL;
}

void at_json_write_string(struct at_buf *out, const char *text, size_t n)
{
    static const char short_escapes[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    size_t begin = 0, i = 0, valid = at_utf8_check(text, n);
    at_buf_puts(out, "\"");
    while (i < n) {
        unsigned char c = (unsigned char)text[i];
        bool invalid = i == valid;
        if (!invalid && c >= 0x20 && c != '"' && c != '\\') {
            i++;
            continue;
        }
        at_buf_put(out, text + begin, i - begin);
        begin = ++i;
        if (invalid) {
            at_buf_puts(out, "\xEF\xBF\xBD");
            valid = i + at_utf8_check(text + i, n - i);
            continue;
        }
        const char *pair = short_escapes;
        while (*pair && *pair != (char)c)
            pair += 2;
        if (*pair)
            at_buf_printf(out, "\\%c", pair[1]);
        else
            at_buf_printf(out, "\\u%04x", c);
    }
    at_buf_put(out, text + begin, n - begin);
    at_buf_puts(out, "\"");
}

void at_json_write_double(struct at_buf *out, double x)
{
    char text[32];
    if (!isfinite(x)) {
        at_buf_puts(out, "null");
        return;
    }
    if (fabs(x) <= 0x1p53 && x == nearbyint(x)) {
        at_buf_printf(out, "%.0f", x);
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x)
            break;
    }
    at_buf_puts(out, text);
}

/* indent < 0: compact. */
static void write_value(struct at_buf *out, const cJSON *json, int indent)
{
    if (cJSON_IsNumber(json)) {
        at_json_write_double(out, json->valuedouble);
    } else if (cJSON_IsString(json)) {
        at_json_write_string(out, json->valuestring, strlen(json->valuestring));
    } else if (cJSON_IsRaw(json)) {
        at_buf_puts(out, json->valuestring);
    } else if (cJSON_IsBool(json)) {
        at_buf_puts(out, cJSON_IsTrue(json) ? "true" : "false");
    } else if (cJSON_IsNull(json)) {
        at_buf_puts(out, "null");
    } else {
        AT_REQUIRE(cJSON_IsArray(json) || cJSON_IsObject(json));
        int inner = indent < 0 ? indent : indent + 2;
        at_buf_puts(out, cJSON_IsObject(json) ? "{" : "[");
        for (const cJSON *child = json->child; child; child = child->next) {
            if (indent >= 0)
                at_buf_printf(out, "\n%*s", inner, "");
            if (cJSON_IsObject(json)) {
                at_json_write_string(out, child->string, strlen(child->string));
                at_buf_puts(out, indent < 0 ? ":" : ": ");
            }
            write_value(out, child, inner);
            if (child->next)
                at_buf_puts(out, ",");
        }
        if (indent >= 0 && json->child)
            at_buf_printf(out, "\n%*s", indent, "");
        at_buf_puts(out, cJSON_IsObject(json) ? "}" : "]");
    }
}

void at_json_write(struct at_buf *out, const cJSON *json)
{
    write_value(out, json, -1);
}

void at_json_write_pretty(struct at_buf *out, const cJSON *json)
{
    write_value(out, json, 0);
    at_buf_puts(out, "\n");
}

enum at_status at_json_save(const char *path, const cJSON *json)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };

    at_json_write_pretty(&text, json);
    TRY(at_buf_status(&text));
    TRY(at_file_write_atomic(path, text.data, text.n));
done:
    at_buf_release(&text);
    return st;
}

const cJSON *at_json_find(const cJSON *object, const char *key)
{
    return cJSON_IsObject(object) ? cJSON_GetObjectItemCaseSensitive(object, key) : NULL;
}

/* NULL when the key is missing or null. */
static const cJSON *find_value(const cJSON *object, const char *key)
{
    const cJSON *item = at_json_find(object, key);
    return cJSON_IsNull(item) ? NULL : item;
}

static enum at_status need_value(const cJSON *object, const char *key, const char *name)
{
    if (!find_value(object, key))
        return at_fail(AT_DATA, "%s: the key \"%s\" is missing", name, key);
    return AT_OK;
}

enum at_status at_json_get_u32(uint32_t *out, const cJSON *object, const char *key,
                               const char *name)
{
    const cJSON *item = find_value(object, key);
    if (!item)
        return AT_OK;
    double x = cJSON_IsNumber(item) ? item->valuedouble : -1;
    if (!(x >= 0 && x <= UINT32_MAX && x == nearbyint(x)))
        return at_fail(AT_DATA, "%s: \"%s\" must be a whole number from 0 to %u", name, key,
                       UINT32_MAX);
    *out = (uint32_t)x;
    return AT_OK;
}

enum at_status at_json_need_u32(uint32_t *out, const cJSON *object, const char *key,
                                const char *name)
{
    enum at_status st = need_value(object, key, name);
    return st == AT_OK ? at_json_get_u32(out, object, key, name) : st;
}

enum at_status at_json_get_double(double *out, const cJSON *object, const char *key,
                                  const char *name)
{
    const cJSON *item = find_value(object, key);
    if (!item)
        return AT_OK;
    if (!cJSON_IsNumber(item) || !isfinite(item->valuedouble))
        return at_fail(AT_DATA, "%s: \"%s\" must be a number", name, key);
    *out = item->valuedouble;
    return AT_OK;
}

enum at_status at_json_get_bool(bool *out, const cJSON *object, const char *key, const char *name)
{
    const cJSON *item = find_value(object, key);
    if (!item)
        return AT_OK;
    if (!cJSON_IsBool(item))
        return at_fail(AT_DATA, "%s: \"%s\" must be true or false", name, key);
    *out = cJSON_IsTrue(item);
    return AT_OK;
}

enum at_status at_json_get_string(const char **out, const cJSON *object, const char *key,
                                  const char *name)
{
    const cJSON *item = find_value(object, key);
    if (!item)
        return AT_OK;
    if (!cJSON_IsString(item))
        return at_fail(AT_DATA, "%s: \"%s\" must be a string", name, key);
    *out = item->valuestring;
    return AT_OK;
}

enum at_status at_json_need_string(const char **out, const cJSON *object, const char *key,
                                   const char *name)
{
    enum at_status st = need_value(object, key, name);
    return st == AT_OK ? at_json_get_string(out, object, key, name) : st;
}
