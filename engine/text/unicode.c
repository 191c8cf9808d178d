#include "tokenizer_parts.h"

#include <string.h>
#include <utf8proc.h>

/* Bytes that print stand for themselves; the others, in order, for U+0100 on. */
enum { AFTER_BLANKS = 0x100 + 33, SOFT_HYPHEN = 0xAD, ITS_CHAR = AFTER_BLANKS + 34 };

uint32_t at_alphabet_char(uint8_t byte)
{
    if (byte <= ' ')
        return 0x100u + byte;
    if (byte >= 0x7F && byte <= 0xA0)
        return AFTER_BLANKS - 0x7Fu + byte;
    return byte == SOFT_HYPHEN ? ITS_CHAR : byte;
}

int at_alphabet_byte(uint32_t code)
{
    const int c = (int)code;

    if (code >= 0x100 && code < AFTER_BLANKS)
        return c - 0x100;
    if (code >= AFTER_BLANKS && code < ITS_CHAR)
        return c - AFTER_BLANKS + 0x7F;
    if (code == ITS_CHAR)
        return SOFT_HYPHEN;
    return code < 0x100 && at_alphabet_char((uint8_t)code) == code ? c : -1;
}

uint32_t at_utf8_get(const char *text, size_t *n)
{
    const uint8_t *s = (const uint8_t *)text;

    *n = s[0] < 0x80 ? 1 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
    switch (*n) {
    case 1:
        return s[0];
    case 2:
        return (s[0] & 0x1Fu) << 6 | (s[1] & 0x3Fu);
    case 3:
        return (s[0] & 0xFu) << 12 | (s[1] & 0x3Fu) << 6 | (s[2] & 0x3Fu);
    default:
        return (s[0] & 7u) << 18 | (s[1] & 0x3Fu) << 12 | (s[2] & 0x3Fu) << 6 | (s[3] & 0x3Fu);
    }
}

size_t at_utf8_put(char out[4], uint32_t code)
{
    return (size_t)utf8proc_encode_char((utf8proc_int32_t)code, (utf8proc_uint8_t *)out);
}

/* Bytes that a character with this first byte has; 1 when no character begins so. */
static size_t length_of(uint8_t first)
{
    if (first < 0xC2 || first > 0xF4)
        return 1;
    return first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

/* How many of the n bytes at s begin a character, though it does not end well. */
static size_t begun(const uint8_t *s, size_t n)
{
    const size_t length = length_of(s[0]);
    size_t i = 1;

    for (; i < length && i < n; i++) {
        /* The second byte's range excludes overlong forms, surrogates and codes past U+10FFFF. */
        const uint8_t low = i > 1 ? 0x80 : s[0] == 0xE0 ? 0xA0 : s[0] == 0xF0 ? 0x90 : 0x80;
        const uint8_t high = i > 1 ? 0xBF : s[0] == 0xED ? 0x9F : s[0] == 0xF4 ? 0x8F : 0xBF;
        if (s[i] < low || s[i] > high)
            break;
    }
    return i;
}

size_t at_utf8_repair(struct at_buf *out, const char *text, size_t n, size_t *n_rest)
{
    size_t n_bad = 0;

    if (n_rest)
        *n_rest = 0;
    while (n > 0) {
        const size_t good = at_utf8_check(text, n);
        at_buf_put(out, text, good);
        text += good;
        n -= good;
        if (n > 0) {
            const size_t bad = begun((const uint8_t *)text, n);
            if (n_rest && bad == n && length_of((uint8_t)text[0]) > n) {
                *n_rest = n;
                return n_bad;
            }
            at_buf_puts(out, "\xEF\xBF\xBD");
            n_bad++;
            text += bad;
            n -= bad;
        }
    }
    return n_bad;
}

bool at_is_space(uint32_t code)
{
    return (code >= 9 && code <= 13) || code == ' ' || code == 0x85 || code == 0xA0 ||
           code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
           code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

size_t at_last_char(const char *text, size_t n)
{
    size_t i = n - 1;

    while (i > 0 && ((uint8_t)text[i] & 0xC0) == 0x80)
        i--;
    return i;
}

size_t at_space_before(const char *text, size_t end)
{
    size_t n;

    for (size_t i; end > 0; end = i) {
        i = at_last_char(text, end);
        if (!at_is_space(at_utf8_get(text + i, &n)))
            break;
    }
    return end;
}

size_t at_space_after(const char *text, size_t n, size_t i)
{
    for (size_t length; i < n && at_is_space(at_utf8_get(text + i, &length));)
        i += length;
    return i;
}

bool at_is_mark(uint32_t code)
{
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
        return true;
    default:
        return false;
    }
}

bool at_is_word(uint32_t code)
{
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default: /* joiners, and the letters in circles (Other_Alphabetic) */
        return code == 0x200C || code == 0x200D || (code >= 0x24B6 && code <= 0x24E9);
    }
}
