#include "lines.h"

#include <string.h>

AT_CHECKED at_lines_open(struct at_lines *out, const char *path)
{
    static const char bom[3] = { '\xEF', '\xBB', '\xBF' };
    enum at_status st = AT_OK;

    *out = (struct at_lines){ .path = path };
    TRY(at_map_open(&out->map, path));
    if (out->map.n >= sizeof bom && memcmp(out->map.data, bom, sizeof bom) == 0)
        out->at = sizeof bom;
done:
    return st;
}

static bool is_blank(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r')
            return false;
    return true;
}

AT_CHECKED at_lines_next(struct at_lines *lines, struct at_line *out, bool *found)
{
    *found = false;
    while (lines->at < lines->map.n) {
        const char *text = (const char *)lines->map.data + lines->at;
        const char *end = memchr(text, '\n', lines->map.n - lines->at);
        const size_t n = end ? (size_t)(end - text) : lines->map.n - lines->at;
        if (lines->number == UINT32_MAX)
            return at_fail(AT_DATA, "%s has more than %u lines; split it", lines->path, UINT32_MAX);
        lines->number++;
        lines->at += n + 1;
        if (is_blank(text, n))
            continue;
        *out = (struct at_line){ lines->path, text, n, lines->number };
        *found = true;
        break;
    }
    return AT_OK;
}

void at_lines_close(struct at_lines *lines)
{
    at_map_close(&lines->map);
}
