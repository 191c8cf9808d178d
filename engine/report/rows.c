#include "report_parts.h"

#include <string.h>

/* The last message of a list that has the role, or with NULL the last of all; a string is itself.
 */
static const char *last_text(const cJSON *value, const char *role)
{
    const cJSON *message = NULL;
    const char *text = cJSON_GetStringValue(value);

    cJSON_ArrayForEach(message, value)
    {
        const char *its = cJSON_GetStringValue(at_json_find(message, "role"));
        const char *content = cJSON_GetStringValue(at_json_find(message, "content"));
        if (content && (!role || (its && strcmp(its, role) == 0)))
            text = content;
    }
    return text;
}

/* It may stand in front of both sides. */
static const char *prompt_of(const cJSON *row)
{
    const cJSON *prompt = at_json_find(row, "prompt"), *chosen = at_json_find(row, "chosen");

    if (prompt)
        return last_text(prompt, "user");
    return cJSON_IsArray(chosen) ? last_text(chosen, "user") : NULL;
}

static AT_CHECKED keep(const char **out, struct at_arena *arena, const char *text)
{
    enum at_status st = AT_OK;
    char *copy = NULL;

    *out = NULL;
    if (text)
        TRY(at_arena_strdup(arena, &copy, text));
    *out = copy;
done:
    return st;
}

static bool find_line(const struct at_map *map, uint32_t line, const char **out, size_t *n)
{
    const char *at = (const char *)map->data, *end = at + map->n, *stop = NULL;

    for (uint32_t i = 1; at < end; i++) {
        stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop)
            stop = end;
        if (i == line) {
            *out = at;
            *n = (size_t)(stop - at);
            return true;
        }
        at = stop + 1;
    }
    return false;
}

AT_CHECKED at_row_text_find(struct at_row_text *out, struct at_arena *arena, const char *path,
                            uint32_t line)
{
    enum at_status st = AT_OK;
    struct at_map map = { .n = 0 };
    cJSON *row = NULL;
    const char *text = NULL;
    size_t n = 0;

    *out = (struct at_row_text){ .prompt = NULL };
    if (!path || !at_path_exists(path) || at_path_is_dir(path))
        goto done;
    TRY(at_map_open(&map, path));
    if (!find_line(&map, line, &text, &n) || at_json_parse(&row, text, n, path, line) != AT_OK)
        goto done;
    TRY(keep(&out->prompt, arena, prompt_of(row)));
    TRY(keep(&out->chosen, arena, last_text(at_json_find(row, "chosen"), NULL)));
    TRY(keep(&out->rejected, arena, last_text(at_json_find(row, "rejected"), NULL)));
done:
    at_json_free(&row);
    at_map_close(&map);
    return st;
}
