/* links: base text data */
#include "lines.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

static char path[] = "/tmp/attune_lines_XXXXXX";

static void write_bytes(const void *bytes, size_t n)
{
    assert_int_equal(at_file_write_atomic(path, bytes, n), AT_OK);
}

static int make_file(void **state)
{
    const int fd = mkstemp(path);
    (void)state;

    return fd < 0 || close(fd) != 0;
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

/* ---- lines ---- */

static void lines_with_blanks_between_keep_their_numbers(void **state)
{
    static const char text[] = "\xEF\xBB\xBF{1}\n\n \t\r\n{2}\r\n{3}";
    static const char *const expected[] = { "{1}", "{2}\r", "{3}" };
    static const uint32_t numbers[] = { 1, 4, 5 };
    struct at_lines lines;
    struct at_line line;
    bool found = false;
    (void)state;

    write_bytes(text, sizeof text - 1);
    assert_int_equal(at_lines_open(&lines, path), AT_OK);
    for (size_t i = 0; i < AT_COUNT(expected); i++) {
        assert_int_equal(at_lines_next(&lines, &line, &found), AT_OK);
        assert_true(found);
        assert_int_equal(line.n, strlen(expected[i]));
        assert_memory_equal(line.text, expected[i], line.n);
        assert_int_equal(line.number, numbers[i]);
    }
    assert_int_equal(at_lines_next(&lines, &line, &found), AT_OK);
    assert_false(found);
    at_lines_close(&lines);
}

/* Longer than a piece of unpacking, two frames; cut anywhere it is damaged. */
static void text_packed_with_zstandard_is_unpacked_whole(void **state)
{
    enum { N = 200000 };
    static char text[N], packed[N];
    struct at_text file;
    size_t n = 0;
    (void)state;

    for (size_t i = 0; i < N; i++)
        text[i] = (char)('a' + (i * i / 7) % 26);
    n = ZSTD_compress(packed, sizeof packed, text, N / 2, 3);
    assert_false(ZSTD_isError(n));
    n += ZSTD_compress(packed + n, sizeof packed - n, text + N / 2, N / 2, 3);
    write_bytes(packed, n);
    assert_int_equal(at_text_open(&file, path), AT_OK);
    assert_int_equal(file.n, N);
    assert_memory_equal(file.data, text, N);
    at_text_close(&file);
    for (size_t cut = 1; cut + 4 < n; cut += n / 5) {
        write_bytes(packed, n - cut);
        if (at_text_open(&file, path) == AT_OK) { /* at the end of a frame */
            assert_int_equal(file.n, N / 2);
            at_text_close(&file);
        }
    }
    write_bytes(packed, n - 1);
    assert_int_equal(at_text_open(&file, path), AT_DATA);
    assert_non_null(strstr(at_message(), "its end is missing"));
    packed[n / 4] ^= 1;
    packed[n / 4 + 1] ^= 0x55;
    write_bytes(packed, n);
    if (at_text_open(&file, path) == AT_OK)
        at_text_close(&file); /* a literal may have changed: the frame has no checksum */
    else
        assert_non_null(strstr(at_message(), "is damaged"));
}

/* ---- tables ---- */

static void cells_of_quoted_text_are_what_was_written(void **state)
{
    static const char text[] = "a;b,c\r\n\"x\n\"\"y\"\"\",,\" \"\n\n\"\"\nlast,1";
    static const char *const expected[][3] = { { "a;b", "c" },
                                               { "x\n\"y\"", "", " " },
                                               { "last", "1" } };
    static const size_t counts[] = { 2, 3, 2 };
    static const uint32_t begin[] = { 1, 2, 6 };
    struct at_cells cells;
    bool found = false;
    (void)state;

    write_bytes(text, sizeof text - 1);
    assert_int_equal(at_cells_open(&cells, path, ','), AT_OK);
    for (size_t i = 0; i < AT_COUNT(expected); i++) {
        assert_int_equal(at_cells_next(&cells, &found), AT_OK);
        assert_true(found);
        assert_int_equal(cells.n, counts[i]);
        assert_int_equal(cells.line, begin[i]);
        for (size_t k = 0; k < counts[i]; k++)
            assert_string_equal(at_cells_get(&cells, k), expected[i][k]);
    }
    assert_int_equal(at_cells_next(&cells, &found), AT_OK);
    assert_false(found);
    at_cells_close(&cells);
}

static void cells_with_wrong_quotes_are_refused(void **state)
{
    static const char *const wrong[] = { "\"a", "\"a\"b,c", "x,\"a\n" };
    struct at_cells cells;
    bool found = false;
    (void)state;

    for (size_t i = 0; i < AT_COUNT(wrong); i++) {
        write_bytes(wrong[i], strlen(wrong[i]));
        assert_int_equal(at_cells_open(&cells, path, ','), AT_OK);
        assert_int_equal(at_cells_next(&cells, &found), AT_DATA);
        assert_non_null(strstr(at_message(), ":1: "));
        at_cells_close(&cells);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_with_blanks_between_keep_their_numbers),
        cmocka_unit_test(text_packed_with_zstandard_is_unpacked_whole),
        cmocka_unit_test(cells_of_quoted_text_are_what_was_written),
        cmocka_unit_test(cells_with_wrong_quotes_are_refused),
    };

    return cmocka_run_group_tests(tests, make_file, remove_file);
}
