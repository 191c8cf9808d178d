/* JSON and YAML documents as one tree (cJSON's), with the place of every error.
 * Parsing: depth at most 64, duplicate keys and invalid UTF-8 are errors, errors say line and
 * column (in characters). Strings are 0-terminated in the tree, so \u0000 is an error, too.
 * YAML (libyaml) gives the same tree: plain scalars by YAML 1.2's JSON schema, other words are
 * strings, an empty value is null; anchors, aliases, tags, merge keys, second documents are errors.
 * Numbers of JSON with a fraction, an exponent or more than 15 characters keep their text in
 * valuestring; others have NULL there.
 * Writing: doubles with the fewest of 15 to 17 significant digits that read back, whole numbers up
 * to 2^53 without exponent, non-finite as null; cJSON_Raw as it is. Key order is kept. */
#ifndef AT_JSON_H
#define AT_JSON_H

#include "mem.h"
#include "status.h"
#include <cjson/cJSON.h>

/* `name` is what errors call the text, `line` the number of its first line (1 for whole files). */
AT_CHECKED at_json_parse(cJSON **out, const char *text, size_t n, const char *name, size_t line);
/* The same of what Python's json writes, which knows NaN, Infinity and -Infinity: numbers that are
 * infinite in the tree and that the typed access below refuses. */
AT_CHECKED at_json_parse_python(cJSON **out, const char *text, size_t n, const char *name);
AT_CHECKED at_json_load_python(cJSON **out, const char *path);
AT_CHECKED at_json_load(cJSON **out, const char *path); /* .yaml and .yml go through libyaml */
AT_CHECKED at_yaml_parse(cJSON **out, const char *text, size_t n, const char *name);
void at_json_free(cJSON **json);

/* Appends compact JSON; at_json_write_pretty() indents by two and ends with '\n'. */
void at_json_write(struct at_buf *out, const cJSON *json);
void at_json_write_pretty(struct at_buf *out, const cJSON *json);
/* The file's text as of at_json_write_pretty(), put in place whole. */
AT_CHECKED at_json_save(const char *path, const cJSON *json);
/* Bytes that are not valid UTF-8 become U+FFFD. */
void at_json_write_string(struct at_buf *out, const char *text, size_t n);
void at_json_write_double(struct at_buf *out, double x);

/* Typed access with errors that name document and key. `out` keeps its value when the key is
 * missing or null; the *_need_* forms fail with AT_DATA then. Integers must be exact. */
const cJSON *at_json_find(const cJSON *object, const char *key); /* case-sensitive; may be NULL */
AT_CHECKED at_json_get_u32(uint32_t *out, const cJSON *object, const char *key, const char *name);
AT_CHECKED at_json_need_u32(uint32_t *out, const cJSON *object, const char *key, const char *name);
AT_CHECKED at_json_get_double(double *out, const cJSON *object, const char *key, const char *name);
AT_CHECKED at_json_get_bool(bool *out, const cJSON *object, const char *key, const char *name);
/* Borrowed until the document is freed. */
AT_CHECKED at_json_get_string(const char **out, const cJSON *object, const char *key,
                              const char *name);
AT_CHECKED at_json_need_string(const char **out, const cJSON *object, const char *key,
                               const char *name);

/* Offset of the first byte that is not valid UTF-8, or n when all is valid. */
size_t at_utf8_check(const char *text, size_t n);

#endif
