#include "lines.h"

#include "json.h"
#include <string.h>
#include <zlib.h>
#include <zstd.h>

/* ---- files ---- */

enum { PIECE = 1 << 16, DROP_BYTES = 16 << 20 };

/* Bytes that were unpacked. */
static void take_piece(struct at_text *out, const void *piece, size_t n)
{
    if (n > 0 && out->into)
        memcpy(out->into + out->n, piece, n);
    if (out->n / DROP_BYTES != (out->n + n) / DROP_BYTES)
        at_arena_drop(&out->unpacked);
    out->n += n;
}

static AT_CHECKED unpack_gzip(struct at_text *out, const char *path)
{
    enum at_status st = AT_OK;
    z_stream stream = { .next_in = (Bytef *)(uintptr_t)out->map.data };
    uint8_t piece[PIECE];
    int state = Z_OK;
    bool begun = false;

    if (out->map.n > UINT32_MAX)
        FAIL(AT_DATA, "%s is larger than 4 GiB; unpack it first", path);
    stream.avail_in = (uInt)out->map.n;
    if (inflateInit2(&stream, 15 + 16) != Z_OK) /* gzip */
        FAIL(AT_MEMORY, "%s cannot be unpacked: out of memory", path);
    begun = true;
    while (state != Z_STREAM_END || stream.avail_in > 0) {
        if (state == Z_STREAM_END) /* one file packed behind another */
            (void)inflateReset(&stream);
        stream.next_out = piece;
        stream.avail_out = sizeof piece;
        state = inflate(&stream, Z_NO_FLUSH);
        if (state == Z_MEM_ERROR)
            FAIL(AT_MEMORY, "%s cannot be unpacked: out of memory", path);
        if (state != Z_OK && state != Z_STREAM_END)
            FAIL(AT_DATA, "%s is damaged: gzip says %s", path,
                 state == Z_BUF_ERROR ? "that its end is missing" : stream.msg);
        take_piece(out, piece, sizeof piece - stream.avail_out);
    }
done:
    if (begun)
        (void)inflateEnd(&stream);
    return st;
}

static AT_CHECKED unpack_zstd(struct at_text *out, const char *path)
{
    enum at_status st = AT_OK;
    ZSTD_DStream *stream = ZSTD_createDStream();
    ZSTD_inBuffer in = { out->map.data, out->map.n, 0 };
    uint8_t piece[PIECE];
    size_t left = 1;

    if (!stream)
        FAIL(AT_MEMORY, "%s cannot be unpacked: out of memory", path);
    while (in.pos < in.size || left > 0) {
        ZSTD_outBuffer to = { piece, sizeof piece, 0 };
        const size_t before = in.pos;
        left = ZSTD_decompressStream(stream, &to, &in);
        if (ZSTD_isError(left))
            FAIL(AT_DATA, "%s is damaged: Zstandard says %s", path, ZSTD_getErrorName(left));
        if (left > 0 && in.pos == before && to.pos == 0)
            FAIL(AT_DATA, "%s is damaged: its end is missing", path);
        take_piece(out, piece, to.pos);
    }
done:
    ZSTD_freeDStream(stream);
    return st;
}

AT_CHECKED at_text_open(struct at_text *out, const char *path)
{
    static const struct {
        const char *magic;
        size_t n;
        AT_CHECKED (*unpack)(struct at_text *out, const char *path);
    } kinds[] = { { "\x1F\x8B", 2, unpack_gzip }, { "\x28\xB5\x2F\xFD", 4, unpack_zstd } };
    enum at_status st = AT_OK;

    *out = (struct at_text){ .unpacked.spills = true };
    TRY(at_map_open(&out->map, path));
    out->data = (const char *)out->map.data;
    out->n = out->map.n;
    for (size_t i = 0; i < AT_COUNT(kinds); i++) {
        if (out->map.n < kinds[i].n || memcmp(out->map.data, kinds[i].magic, kinds[i].n) != 0)
            continue;
        out->n = 0;
        TRY(kinds[i].unpack(out, path));
        TRY(at_arena_alloc(&out->unpacked, &out->into, out->n, 1));
        out->n = 0;
        TRY(kinds[i].unpack(out, path));
        out->data = out->into;
        break;
    }
done:
    if (st != AT_OK)
        at_text_close(out);
    return st;
}

void at_text_close(struct at_text *text)
{
    at_map_close(&text->map);
    at_arena_release(&text->unpacked);
}

size_t at_text_begin(const struct at_text *file)
{
    static const char bom[3] = { '\xEF', '\xBB', '\xBF' };

    return file->n >= sizeof bom && memcmp(file->data, bom, sizeof bom) == 0 ? sizeof bom : 0;
}

/* ---- lines ---- */

AT_CHECKED at_lines_open(struct at_lines *out, const char *path)
{
    enum at_status st = AT_OK;

    *out = (struct at_lines){ .path = path };
    TRY(at_text_open(&out->file, path));
    out->at = at_text_begin(&out->file);
done:
    return st;
}

void at_lines_of_text(struct at_lines *out, const char *name, const char *text, size_t n)
{
    *out = (struct at_lines){ .path = name, .file = { .data = text, .n = n } };
}

bool at_line_is_blank(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r')
            return false;
    return true;
}

/* Lines that are still in use come back when they are read. */
static void drop_read(struct at_lines *lines)
{
    const struct at_text *file = &lines->file;
    const size_t end = lines->at < file->n ? lines->at : file->n;

    if (end - lines->dropped < DROP_BYTES)
        return;
    if (file->data == (const char *)file->map.data)
        at_map_drop(&file->map, lines->dropped, end - lines->dropped);
    else
        at_arena_drop(&file->unpacked);
    lines->dropped = end;
}

AT_CHECKED at_lines_next(struct at_lines *lines, struct at_line *out, bool *found)
{
    *found = false;
    drop_read(lines);
    while (lines->at < lines->file.n) {
        const char *text = lines->file.data + lines->at;
        const char *end = memchr(text, '\n', lines->file.n - lines->at);
        const size_t n = end ? (size_t)(end - text) : lines->file.n - lines->at;
        if (lines->number == UINT32_MAX)
            return at_fail(AT_DATA, "%s has more than %u lines; split it", lines->path, UINT32_MAX);
        lines->number++;
        lines->at += n + 1;
        if (at_line_is_blank(text, n))
            continue;
        *out = (struct at_line){ lines->path, text, n, lines->number };
        *found = true;
        break;
    }
    return AT_OK;
}

void at_lines_close(struct at_lines *lines)
{
    at_text_close(&lines->file);
}

/* ---- tables ---- */

/* Spreadsheets write semicolons where the comma is a decimal one. */
static char guess_separator(const struct at_cells *c)
{
    size_t commas = 0, semicolons = 0;

    for (size_t i = c->at; i < c->file.n && c->file.data[i] != '\n'; i++) {
        commas += c->file.data[i] == ',';
        semicolons += c->file.data[i] == ';';
    }
    return semicolons > commas ? ';' : ',';
}

AT_CHECKED at_cells_open(struct at_cells *out, const char *path, char separator)
{
    enum at_status st = AT_OK;

    *out = (struct at_cells){ .path = path, .separator = separator, .number = 1 };
    TRY(at_text_open(&out->file, path));
    out->at = at_text_begin(&out->file);
    if (separator == 0)
        out->separator = guess_separator(out);
    if (at_utf8_check(out->file.data, out->file.n) < out->file.n)
        FAIL(AT_DATA, "%s is not UTF-8; save it as CSV UTF-8", path);
    if (memchr(out->file.data, 0, out->file.n))
        FAIL(AT_DATA, "%s holds a NUL character", path);
done:
    if (st != AT_OK)
        at_cells_close(out);
    return st;
}

static AT_CHECKED begin_cell(struct at_cells *c)
{
    enum at_status st = AT_OK;

    if (c->n == c->capacity) {
        const size_t capacity = c->capacity ? 2 * c->capacity : 16;
        TRY(at_realloc(&c->starts, c->capacity, capacity, sizeof *c->starts));
        c->capacity = capacity;
    }
    c->starts[c->n++] = c->text.n;
done:
    return st;
}

/* A cell in quotes, from behind the first one to behind the last. */
static AT_CHECKED take_quoted(struct at_cells *c)
{
    const uint32_t begin = c->number;

    for (;; c->at++) {
        if (c->at == c->file.n)
            return at_fail(AT_DATA, "%s:%u: a quote is opened here and never closed", c->path,
                           begin);
        if (c->file.data[c->at] == '"') {
            if (c->at + 1 == c->file.n || c->file.data[c->at + 1] != '"')
                break;
            c->at++;
        }
        c->number += c->file.data[c->at] == '\n';
        at_buf_put(&c->text, c->file.data + c->at, 1);
    }
    c->at++;
    return AT_OK;
}

static bool ends_line(const struct at_cells *c)
{
    return c->at == c->file.n || c->file.data[c->at] == '\n' ||
           (c->file.data[c->at] == '\r' &&
            (c->at + 1 == c->file.n || c->file.data[c->at + 1] == '\n'));
}

static AT_CHECKED take_cell(struct at_cells *c)
{
    enum at_status st = AT_OK;

    TRY(begin_cell(c));
    if (c->at < c->file.n && c->file.data[c->at] == '"') {
        c->at++;
        TRY(take_quoted(c));
        if (!ends_line(c) && c->file.data[c->at] != c->separator)
            FAIL(AT_DATA,
                 "%s:%u: something stands behind a closing quote; double quotes inside a cell",
                 c->path, c->number);
    }
    while (!ends_line(c) && c->file.data[c->at] != c->separator)
        at_buf_put(&c->text, c->file.data + c->at++, 1);
    at_buf_put(&c->text, "", 1);
done:
    return st;
}

AT_CHECKED at_cells_next(struct at_cells *cells, bool *found)
{
    enum at_status st = AT_OK;

    *found = false;
    while (!*found && cells->at < cells->file.n) {
        cells->n = 0;
        cells->line = cells->number;
        at_buf_clear(&cells->text);
        TRY(take_cell(cells));
        while (!ends_line(cells)) {
            cells->at++; /* the separator */
            TRY(take_cell(cells));
        }
        TRY(at_buf_status(&cells->text));
        if (cells->at < cells->file.n)
            cells->at +=
                cells->file.data[cells->at] == '\r' && cells->at + 1 < cells->file.n ? 2 : 1;
        if (cells->number == UINT32_MAX)
            FAIL(AT_DATA, "%s has more than %u lines; split it", cells->path, UINT32_MAX);
        cells->number++;
        *found = cells->n > 1 || cells->text.n > 1;
    }
done:
    return st;
}

const char *at_cells_get(const struct at_cells *cells, size_t i)
{
    return cells->text.data + cells->starts[i];
}

void at_cells_close(struct at_cells *cells)
{
    at_text_close(&cells->file);
    at_buf_release(&cells->text);
    at_free(&cells->starts);
}
