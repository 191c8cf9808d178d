#include "tokenizer_parts.h"

#include <string.h>
#include <utf8proc.h>

enum { LONGEST_GRAPHEME = 5 }; /* bytes; longer ones are looked up by their characters */

static int digit_of(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *found = c ? strchr(digits, c) : NULL;

    return found ? (int)(found - digits) : -1;
}

static AT_CHECKED decode_base64(struct at_buf *out, const char *text, const char *name)
{
    enum at_status st = AT_OK;
    uint32_t bits = 0;
    unsigned n_bits = 0;

    for (const char *p = text; *p && *p != '='; p++) {
        const int digit = digit_of(*p);
        if (digit < 0)
            FAIL(AT_DATA, "%s: normalizer: precompiled_charsmap is not base64", name);
        bits = (bits << 6 | (uint32_t)digit) & 0xFFFF;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            at_buf_put(out, &(char){ (char)(bits >> n_bits) }, 1);
        }
    }
    TRY(at_buf_status(out));
done:
    return st;
}

AT_CHECKED at_charsmap_read(struct at_charsmap *out, struct at_arena *arena, const char *blob,
                            const char *name)
{
    enum at_status st = AT_OK;
    struct at_buf bytes = { 0 };
    uint32_t *units = NULL, n_bytes = 0;
    char *texts = NULL;

    TRY(decode_base64(&bytes, blob, name));
    if (bytes.n >= sizeof n_bytes)
        memcpy(&n_bytes, bytes.data, sizeof n_bytes);
    if (n_bytes == 0 || n_bytes % sizeof *units != 0 || n_bytes > bytes.n - sizeof n_bytes)
        FAIL(AT_DATA, "%s: normalizer: precompiled_charsmap has %zu bytes and says its trie has %u",
             name, bytes.n, n_bytes);
    out->n_units = n_bytes / sizeof *units;
    TRY(at_arena_alloc(arena, &units, out->n_units, sizeof *units));
    memcpy(units, bytes.data + sizeof n_bytes, n_bytes);
    out->units = units;
    out->n_texts = bytes.n - sizeof n_bytes - n_bytes;
    TRY(at_arena_strndup(arena, &texts, bytes.data + bytes.n - out->n_texts, out->n_texts));
    out->texts = texts;
    if (at_utf8_check(texts, out->n_texts) < out->n_texts)
        FAIL(AT_DATA, "%s: normalizer: precompiled_charsmap has a text that is not valid UTF-8",
             name);
done:
    at_buf_release(&bytes);
    return st;
}

static size_t offset_of(uint32_t unit)
{
    return (unit >> 10) << ((unit & 1u << 9) >> 6);
}

/* The text for the shortest key that begins the given text, as the reference takes it; or NULL. */
static const char *find(const struct at_charsmap *map, const char *text, size_t n)
{
    size_t at = offset_of(map->units[0]);

    for (size_t i = 0; i < n && text[i]; i++) {
        at ^= (uint8_t)text[i];
        if (at >= map->n_units || (map->units[at] & (1u << 31 | 0xFF)) != (uint8_t)text[i])
            return NULL;
        const bool has_leaf = map->units[at] >> 8 & 1;
        at ^= offset_of(map->units[at]);
        if (has_leaf && at < map->n_units) {
            const uint32_t place = map->units[at] & ~(1u << 31);
            return place < map->n_texts && ((uint8_t)map->texts[place] & 0xC0) != 0x80
                       ? map->texts + place
                       : "";
        }
    }
    return NULL;
}

static void put_characters(const struct at_charsmap *map, struct at_buf *out, const char *text,
                           size_t n)
{
    for (size_t i = 0, length; i < n; i += length) {
        (void)at_utf8_get(text + i, &length);
        const char *other = find(map, text + i, length);
        if (other)
            at_buf_puts(out, other);
        else
            at_buf_put(out, text + i, length);
    }
}

void at_charsmap_put(const struct at_charsmap *map, struct at_buf *out, const char *text, size_t n)
{
    for (size_t begin = 0, end; begin < n; begin = end) {
        utf8proc_int32_t state = 0;
        size_t length;
        uint32_t code = at_utf8_get(text + begin, &length);
        for (end = begin + length; end < n; end += length) {
            const uint32_t next = at_utf8_get(text + end, &length);
            if (utf8proc_grapheme_break_stateful((utf8proc_int32_t)code, (utf8proc_int32_t)next,
                                                 &state))
                break;
            code = next;
        }
        const char *other =
            end - begin <= LONGEST_GRAPHEME ? find(map, text + begin, end - begin) : NULL;
        if (other)
            at_buf_puts(out, other);
        else
            put_characters(map, out, text + begin, end - begin);
    }
}
