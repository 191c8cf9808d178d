#include "report_parts.h"

#include <string.h>

const char html_style[] =
    ":root{color-scheme:light dark;--bg:#fff;--fg:#1b1d21;--soft:#5a6069;--line:#d4d8de;"
    "--box:#f5f6f8;--a:#1d5fb4;--b:#b3480a;--c:#3c7a1f;--d:#7a3fa0;--e:#8a6d00}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#15171b;--fg:#e7e9ec;--soft:#a3aab4;"
    "--line:#3a3f47;--box:#1e2126;--a:#7db4ff;--b:#ffab6b;--c:#9bd67c;--d:#d0a2f2;--e:#e3c75a}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0;background:var(--bg);color:var(--fg);font:16px/1.5 system-ui,-apple-system,"
    "\"Segoe UI\",\"DejaVu Sans\",sans-serif;overflow-wrap:anywhere}\n"
    "main{max-width:62rem;margin:0 auto;padding:1rem}\n"
    "h1{font-size:1.6rem;line-height:1.25;margin:.5rem 0}\n"
    "h2{font-size:1.2rem;margin:2.2rem 0 .6rem;padding-top:.6rem;border-top:1px solid "
    "var(--line)}\n"
    "h3{font-size:1rem;margin:1.2rem 0 .4rem}\n"
    "p{margin:.5rem 0;max-width:44rem}\n"
    ".soft,figcaption,small{color:var(--soft)}\n"
    ".verdict{border:2px solid var(--fg);border-radius:.5rem;padding:.6rem 1rem;margin:1rem 0}\n"
    ".verdict b{font-size:1.25rem}\n"
    ".alarm{border-left:.35rem double var(--b);background:var(--box);padding:.5rem .8rem}\n"
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(19rem,100%),1fr));"
    "gap:1.2rem}\n"
    "figure{margin:0;min-width:0}\n"
    "figcaption{font-size:.85rem;line-height:1.35}figcaption b{color:var(--fg);font-size:1rem}\n"
    ".key{display:inline-block;white-space:nowrap;margin-right:.9rem;color:var(--fg)}\n"
    "svg{display:block;width:100%;height:auto;overflow:visible}.key svg{display:inline-block;"
    "width:28px;height:10px;vertical-align:middle;margin-right:.3rem}\n"
    "svg text{fill:var(--soft);paint-order:stroke;stroke:var(--bg);stroke-width:3px;font:11px "
    "system-ui,\"DejaVu Sans\",sans-serif}\n"
    ".grid{stroke:var(--line);stroke-width:1;fill:none}.axis{stroke:var(--soft);stroke-width:1;"
    "fill:none}\n"
    ".s{fill:none;stroke-width:1.6;stroke-linejoin:round}.m{stroke-width:1.4;fill:var(--bg)}\n"
    ".s0{stroke:var(--a)}.s1{stroke:var(--b);stroke-dasharray:6 3}.s2{stroke:var(--c);"
    "stroke-dasharray:2 3}.s3{stroke:var(--d);stroke-dasharray:9 3 2 3}.s4{stroke:var(--e);"
    "stroke-dasharray:1 2}\n"
    ".m.s1,.m.s2,.m.s3,.m.s4{stroke-dasharray:none}\n"
    ".wide{overflow-x:auto}\n"
    "table{border-collapse:collapse;font-size:.9rem;width:100%}\n"
    "th,td{text-align:left;vertical-align:top;padding:.3rem .6rem .3rem 0;border-bottom:1px solid "
    "var(--line)}td.n,th.n{text-align:right;"
    "font-variant-numeric:tabular-nums}th,td.n,td:first-child{overflow-wrap:normal}"
    "td.path{overflow-wrap:anywhere;min-width:5rem}\n"
    "code,mark{overflow-wrap:anywhere}\n"
    "code{font:.85em ui-monospace,\"DejaVu Sans Mono\",monospace}\n"
    ".pair{border:1px solid var(--line);border-radius:.4rem;margin:.8rem 0;padding:.5rem .8rem;"
    "break-inside:avoid}\n"
    ".sides{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(16rem,100%),1fr));"
    "gap:.4rem 1.4rem}.lists{display:grid;gap:.4rem 2rem;grid-template-columns:repeat(auto-fit,"
    "minmax(min(22rem,100%),1fr))}.said{white-space:pre-wrap;margin:.2rem 0}\n"
    "ins{background:none;color:inherit;text-decoration:underline 2px var(--a);font-weight:600}\n"
    "del{color:var(--soft);text-decoration:line-through 1.5px var(--b)}\n"
    "mark{background:var(--box);color:inherit;border:1px solid var(--line);border-radius:.25rem;"
    "padding:0 .25rem;white-space:pre-wrap}\n"
    "@media(max-width:30rem){main{padding:.7rem}body{font-size:15px}td,th{padding-right:.4rem}}\n"
    "@media print{:root{color-scheme:light;--bg:#fff;--fg:#000;--soft:#444;--line:#ccc;--box:#fff;"
    "--a:#1d5fb4;--b:#b3480a;--c:#3c7a1f;--d:#7a3fa0;--e:#8a6d00}body{font-size:10.5pt}"
    "main{max-width:none;padding:0}figure,tr,.verdict{break-inside:avoid}h2,h3{break-after:avoid}"
    ".charts{grid-template-columns:1fr 1fr}}\n";

static void put_char(struct at_buf *out, const char **at)
{
    const unsigned char *c = (const unsigned char *)*at;
    size_t n = 1;

    switch (*c) {
    case '&':
        at_buf_puts(out, "&amp;");
        break;
    case '<':
        at_buf_puts(out, "&lt;");
        break;
    case '>':
        at_buf_puts(out, "&gt;");
        break;
    case '"':
        at_buf_puts(out, "&quot;");
        break;
    case '\'':
        at_buf_puts(out, "&#39;");
        break;
    case '\r': /* of an end of line; alone it is one */
        if (c[1] != '\n')
            at_buf_puts(out, "\n");
        break;
    default:
        if ((*c < 0x20 && !strchr("\t\n", *c)) || *c == 0x7f) {
            at_buf_puts(out, "\xEF\xBF\xBD");
            break;
        }
        while (*c >= 0xC0 && (c[n] & 0xC0) == 0x80)
            n++;
        at_buf_put(out, c, n);
    }
    *at += n;
}

void html_excerpt(struct at_buf *out, const char *text, size_t n)
{
    while (*text && n-- > 0)
        put_char(out, &text);
    if (*text)
        at_buf_puts(out, "\xE2\x80\xA6");
}

void html_text(struct at_buf *out, const char *text)
{
    html_excerpt(out, text, SIZE_MAX);
}

/* ---- differences ---- */

enum { MAX_WORDS = 600 };

struct word {
    const char *begin;
    size_t n;
    bool common;
};

/* Words and the blanks before them; false: there are too many. */
static bool split(struct word *out, size_t *n, const char *text)
{
    *n = 0;
    while (*text) {
        const size_t blanks = strspn(text, " \t\r\n"), length = strcspn(text + blanks, " \t\r\n");
        if (length == 0)
            break;
        if (*n == MAX_WORDS)
            return false;
        out[(*n)++] = (struct word){ .begin = text + blanks, .n = length };
        text += blanks + length;
    }
    return true;
}

static bool same(const struct word *a, const struct word *b)
{
    return a->n == b->n && memcmp(a->begin, b->begin, a->n) == 0;
}

/* Marks the words of `a` that are in a longest common subsequence with `b`. table: (n + 1, m + 1).
 */
static void mark_common(struct word *a, size_t n, const struct word *b, size_t m, uint16_t *table)
{
    const size_t width = m + 1;

    for (size_t i = n; i-- > 0;)
        for (size_t j = m; j-- > 0;) {
            const uint16_t down = table[(i + 1) * width + j], right = table[i * width + j + 1];
            table[i * width + j] = same(&a[i], &b[j])
                                       ? (uint16_t)(table[(i + 1) * width + j + 1] + 1)
                                       : (down > right ? down : right);
        }
    for (size_t i = 0, j = 0; i < n && j < m;) {
        if (same(&a[i], &b[j])) {
            a[i++].common = true;
            j++;
        } else if (table[(i + 1) * width + j] >= table[i * width + j + 1]) {
            i++;
        } else {
            j++;
        }
    }
}

static void put_words(struct at_buf *out, const char *text, const struct word *words, size_t n,
                      const char *tag)
{
    const char *at = text;
    bool open = false;

    for (size_t i = 0; i < n; i++) {
        const char *end = words[i].begin + words[i].n;
        if (open && words[i].common)
            at_buf_printf(out, "</%s>", tag);
        if (!open && !words[i].common) {
            while (at < words[i].begin)
                put_char(out, &at);
            at_buf_printf(out, "<%s>", tag);
        }
        open = !words[i].common;
        while (at < end)
            put_char(out, &at);
    }
    if (open)
        at_buf_printf(out, "</%s>", tag);
    html_text(out, at);
}

AT_CHECKED html_difference(struct at_buf *out, const char *text, const char *other, const char *tag)
{
    enum at_status st = AT_OK;
    struct word *words = NULL;
    uint16_t *table = NULL;
    size_t n = 0, m = 0;

    TRY(at_alloc(&words, 2 * (size_t)MAX_WORDS, sizeof *words));
    if (!split(words, &n, text) || !split(words + MAX_WORDS, &m, other)) {
        html_text(out, text);
        goto done;
    }
    TRY(at_alloc(&table, (n + 1) * (m + 1), sizeof *table));
    mark_common(words, n, words + MAX_WORDS, m, table);
    put_words(out, text, words, n, tag);
done:
    at_free(&words);
    at_free(&table);
    return st;
}
