/* The part of JSON Schema that rules have. */
#include "rule.h"

#include <math.h>
#include <string.h>

/* ---- whether it can be checked ---- */

AT_CHECKED at_schema_check(const cJSON *schema, const char *name)
{
    static const char *const words[] = { "$schema",    "additionalProperties",
                                         "const",      "description",
                                         "enum",       "items",
                                         "maxItems",   "maxLength",
                                         "maximum",    "minItems",
                                         "minLength",  "minimum",
                                         "properties", "required",
                                         "title",      "type" };
    enum at_status st = AT_OK;

    if (!cJSON_IsObject(schema))
        FAIL(AT_DATA, "%s: a schema must be an object", name);
    for (const cJSON *word = schema->child; word; word = word->next) {
        size_t i = 0;
        while (i < AT_COUNT(words) && strcmp(words[i], word->string) != 0)
            i++;
        if (i == AT_COUNT(words))
            FAIL(AT_DATA, "%s: schemas with \"%.60s\" are not checked in this version", name,
                 word->string);
        if (strcmp(word->string, "additionalProperties") == 0 && !cJSON_IsBool(word))
            FAIL(AT_DATA, "%s: additionalProperties must be true or false", name);
        if (strcmp(word->string, "items") == 0)
            TRY(at_schema_check(word, name));
        for (const cJSON *p = strcmp(word->string, "properties") == 0 ? word->child : NULL; p;
             p = p->next)
            TRY(at_schema_check(p, name));
    }
done:
    return st;
}

/* ---- whether it fits ---- */

static bool is_type(const cJSON *value, const char *type)
{
    const bool whole = cJSON_IsNumber(value) && value->valuedouble == floor(value->valuedouble);

    return (strcmp(type, "string") == 0 && cJSON_IsString(value)) ||
           (strcmp(type, "number") == 0 && cJSON_IsNumber(value)) ||
           (strcmp(type, "integer") == 0 && whole) ||
           (strcmp(type, "boolean") == 0 && cJSON_IsBool(value)) ||
           (strcmp(type, "object") == 0 && cJSON_IsObject(value)) ||
           (strcmp(type, "array") == 0 && cJSON_IsArray(value)) ||
           (strcmp(type, "null") == 0 && cJSON_IsNull(value));
}

static bool fits_type(const cJSON *type, const cJSON *value)
{
    if (cJSON_IsString(type))
        return is_type(value, type->valuestring);
    for (const cJSON *t = type->child; t; t = t->next)
        if (cJSON_IsString(t) && is_type(value, t->valuestring))
            return true;
    return false;
}

static bool is_one_of(const cJSON *list, const cJSON *value)
{
    for (const cJSON *item = list->child; item; item = item->next)
        if (cJSON_Compare(item, value, true))
            return true;
    return false;
}

static double characters(const char *text)
{
    double n = 0;

    for (; *text; text++)
        n += ((unsigned char)*text & 0xC0) != 0x80;
    return n;
}

/* A limit of `size`, where there is one. */
static bool within(const cJSON *schema, const char *least, const char *most, double size)
{
    const cJSON *low = at_json_find(schema, least), *high = at_json_find(schema, most);

    return !(low && size < low->valuedouble) && !(high && size > high->valuedouble);
}

static bool fits_object(const cJSON *schema, const cJSON *value)
{
    const cJSON *properties = at_json_find(schema, "properties");
    const cJSON *required = at_json_find(schema, "required");
    const bool closed = cJSON_IsFalse(at_json_find(schema, "additionalProperties")) != 0;

    for (const cJSON *key = required ? required->child : NULL; key; key = key->next)
        if (!cJSON_IsString(key) || !at_json_find(value, key->valuestring))
            return false;
    for (const cJSON *p = value->child; p; p = p->next) {
        const cJSON *its = properties ? at_json_find(properties, p->string) : NULL;
        if (its ? !at_schema_fits(its, p) : closed)
            return false;
    }
    return true;
}

bool at_schema_fits(const cJSON *schema, const cJSON *value)
{
    const cJSON *type = at_json_find(schema, "type"), *items = at_json_find(schema, "items");
    const cJSON *one = at_json_find(schema, "const"), *list = at_json_find(schema, "enum");

    if ((type && !fits_type(type, value)) || (one && !cJSON_Compare(one, value, true)) ||
        (list && !is_one_of(list, value)))
        return false;
    if (cJSON_IsString(value))
        return within(schema, "minLength", "maxLength", characters(value->valuestring));
    if (cJSON_IsNumber(value))
        return within(schema, "minimum", "maximum", value->valuedouble);
    if (cJSON_IsObject(value))
        return fits_object(schema, value);
    if (!cJSON_IsArray(value))
        return true;
    for (const cJSON *item = items ? value->child : NULL; item; item = item->next)
        if (!at_schema_fits(items, item))
            return false;
    return within(schema, "minItems", "maxItems", cJSON_GetArraySize(value));
}
