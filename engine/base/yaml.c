#include "json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { MAX_DEPTH = 64 };

struct reader {
    yaml_parser_t parser;
    const char *name;
};

static enum at_status fail_mark(const struct reader *reader, const yaml_mark_t *mark,
                                const char *text)
{
    return at_fail(AT_DATA, "%s:%zu:%zu: %s", reader->name, mark->line + 1, mark->column + 1, text);
}

static enum at_status fail_memory(const struct reader *reader)
{
    return at_fail(AT_MEMORY, "%s: out of memory", reader->name);
}

/* The caller deletes the event, also after a failure. */
static enum at_status next_event(struct reader *reader, yaml_event_t *event)
{
    memset(event, 0, sizeof *event);
    if (yaml_parser_parse(&reader->parser, event))
        return AT_OK;
    const yaml_parser_t *parser = &reader->parser;
    if (parser->error == YAML_MEMORY_ERROR)
        return fail_memory(reader);
    fail_mark(reader, &parser->problem_mark, parser->problem ? parser->problem : "not valid YAML");
    if (parser->context)
        return at_fail(AT_DATA, "%s (%s)", at_message(), parser->context);
    return AT_DATA;
}

/* A number by YAML 1.2's JSON schema; other spellings (0x1f, 1_000, .5, +1) stay strings. */
static bool parse_number(double *out, const char *text)
{
    const char *digits = text + (text[0] == '-');
    if (text[strspn(text, "0123456789+-.eE")] != 0 || digits[0] < '0' || digits[0] > '9' ||
        (digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9'))
        return false;
    char *end;
    *out = strtod(text, &end);
    return *end == 0;
}

static enum at_status read_scalar(cJSON **out, struct reader *reader, const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    double number;
    if (strlen(text) != event->data.scalar.length)
        return fail_mark(reader, &event->start_mark, "strings with a zero byte are not supported");
    if (event->data.scalar.style !=
        YAML_PLAIN_SCALAR_STYLE) { // NOLINT(bugprone-branch-clone): order
        *out = cJSON_CreateString(text);
    } else if (text[0] == 0 || strcmp(text, "null") == 0) {
        *out = cJSON_CreateNull();
    } else if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0) {
        *out = cJSON_CreateBool(text[0] == 't');
    } else if (parse_number(&number, text)) {
        if (!isfinite(number))
            return fail_mark(reader, &event->start_mark, "the number is too large");
        *out = cJSON_CreateNumber(number);
    } else {
        *out = cJSON_CreateString(text);
    }
    return *out ? AT_OK : fail_memory(reader);
}

static enum at_status check_key(const struct reader *reader, const yaml_event_t *event,
                                const cJSON *object)
{
    if (event->type != YAML_SCALAR_EVENT)
        return fail_mark(reader, &event->start_mark, "a key must be a plain word or a string");
    if (event->data.scalar.anchor)
        return fail_mark(reader, &event->start_mark, "anchors are not supported");
    if (event->data.scalar.tag)
        return fail_mark(reader, &event->start_mark, "tags are not supported");
    const char *key = (const char *)event->data.scalar.value;
    if (strlen(key) != event->data.scalar.length)
        return fail_mark(reader, &event->start_mark, "keys with a zero byte are not supported");
    if (strcmp(key, "<<") == 0)
        return fail_mark(reader, &event->start_mark, "merge keys (<<) are not supported");
    if (cJSON_GetObjectItemCaseSensitive(object, key)) {
        fail_mark(reader, &event->start_mark, "");
        return at_fail(AT_DATA, "%sthe key \"%s\" stands twice in one mapping", at_message(), key);
    }
    return AT_OK;
}

static enum at_status read_value(cJSON **out, struct reader *reader, const yaml_event_t *event,
                                 int depth);

static enum at_status read_children(cJSON *parent, struct reader *reader, int depth)
{
    enum at_status st = AT_OK;
    yaml_event_t key = { 0 }, value = { 0 };
    cJSON *child = NULL;
    for (;;) {
        if (cJSON_IsObject(parent)) {
            TRY(next_event(reader, &key));
            if (key.type == YAML_MAPPING_END_EVENT)
                break;
            TRY(check_key(reader, &key, parent));
        }
        TRY(next_event(reader, &value));
        if (value.type == YAML_SEQUENCE_END_EVENT)
            break;
        TRY(read_value(&child, reader, &value, depth));
        if (cJSON_IsObject(parent)
                ? !cJSON_AddItemToObject(parent, (const char *)key.data.scalar.value, child)
                : !cJSON_AddItemToArray(parent, child))
            TRY(fail_memory(reader));
        child = NULL; /* the parent's now */
        yaml_event_delete(&value);
        yaml_event_delete(&key);
    }
done:
    at_json_free(&child);
    yaml_event_delete(&value);
    yaml_event_delete(&key);
    return st;
}

static enum at_status read_value(cJSON **out, struct reader *reader, const yaml_event_t *event,
                                 int depth)
{
    *out = NULL;
    const yaml_char_t *tag = NULL, *anchor = NULL;
    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return fail_mark(reader, &event->start_mark, "aliases are not supported");
    case YAML_SCALAR_EVENT:
        tag = event->data.scalar.tag;
        anchor = event->data.scalar.anchor;
        break;
    case YAML_SEQUENCE_START_EVENT:
        tag = event->data.sequence_start.tag;
        anchor = event->data.sequence_start.anchor;
        break;
    case YAML_MAPPING_START_EVENT:
        tag = event->data.mapping_start.tag;
        anchor = event->data.mapping_start.anchor;
        break;
    default:
        return fail_mark(reader, &event->start_mark, "a value is missing");
    }
    if (tag)
        return fail_mark(reader, &event->start_mark, "tags are not supported");
    if (anchor)
        return fail_mark(reader, &event->start_mark, "anchors are not supported");
    if (event->type == YAML_SCALAR_EVENT)
        return read_scalar(out, reader, event);
    if (depth >= MAX_DEPTH)
        return fail_mark(reader, &event->start_mark, "nested deeper than 64 levels");

    cJSON *node =
        event->type == YAML_MAPPING_START_EVENT ? cJSON_CreateObject() : cJSON_CreateArray();
    if (!node)
        return fail_memory(reader);
    enum at_status st = read_children(node, reader, depth + 1);
    if (st != AT_OK)
        at_json_free(&node);
    *out = node;
    return st;
}

/* stream start, document start, value, document end, stream end */
static enum at_status read_stream(cJSON **out, struct reader *reader)
{
    enum at_status st = AT_OK;
    yaml_event_t event;
    TRY(next_event(reader, &event));
    yaml_event_delete(&event);
    TRY(next_event(reader, &event));
    if (event.type == YAML_STREAM_END_EVENT)
        TRY(fail_mark(reader, &event.start_mark, "the YAML text is empty"));
    yaml_event_delete(&event);
    TRY(next_event(reader, &event));
    TRY(read_value(out, reader, &event, 0));
    yaml_event_delete(&event);
    TRY(next_event(reader, &event));
    yaml_event_delete(&event);
    TRY(next_event(reader, &event));
    if (event.type != YAML_STREAM_END_EVENT)
        TRY(fail_mark(reader, &event.start_mark, "only one YAML document a file is supported"));
done:
    yaml_event_delete(&event);
    return st;
}

/* The parser gives no place for bad UTF-8. Columns count characters, as its marks do. */
static enum at_status check_utf8(const struct reader *reader, const char *text, size_t n)
{
    yaml_mark_t mark = { 0 };
    const size_t bad = at_utf8_check(text, n);

    if (bad == n)
        return AT_OK;
    for (size_t i = 0; i < bad; i++) {
        if (((unsigned char)text[i] & 0xC0) != 0x80)
            mark.column++;
        if (text[i] == '\n') {
            mark.line++;
            mark.column = 0;
        }
    }
    return fail_mark(reader, &mark, "the text is not valid UTF-8");
}

enum at_status at_yaml_parse(cJSON **out, const char *text, size_t n, const char *name)
{
    *out = NULL;
    struct reader reader = { .name = name };
    cJSON *root = NULL;
    if (check_utf8(&reader, text, n) != AT_OK)
        return AT_DATA;
    if (!yaml_parser_initialize(&reader.parser))
        return fail_memory(&reader);
    yaml_parser_set_encoding(&reader.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&reader.parser, (const unsigned char *)text, n);
    enum at_status st = read_stream(&root, &reader);
    if (st != AT_OK)
        at_json_free(&root);
    *out = root;
    yaml_parser_delete(&reader.parser);
    return st;
}
