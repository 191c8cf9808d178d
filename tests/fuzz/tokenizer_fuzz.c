/* links: base text */
/* A tokenizer.json, then a line "%%", then a text: the file is refused with a sentence, or its
 * tokenizer encodes any text and decodes its own ids. Without the line the file is the text, too.
 */
#include "fuzz.h"
#include "json.h"
#include "os.h"
#include "tokenizer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The file that the tokenizer is read from, in a folder of this process that goes with it. */
static char folder[] = "/tmp/at_fuzz_XXXXXX";
static char file_path[64];

static void remove_folder(void)
{
    (void)unlink(file_path);
    (void)rmdir(folder);
}

static void write_file(const uint8_t *bytes, size_t n)
{
    FILE *file;

    if (!file_path[0]) {
        AT_REQUIRE(mkdtemp(folder));
        snprintf(file_path, sizeof file_path, "%s/tokenizer.json", folder);
        AT_REQUIRE(atexit(remove_folder) == 0);
    }
    file = fopen(file_path, "wb");
    AT_REQUIRE(file);
    AT_REQUIRE(fwrite(bytes, 1, n, file) == n);
    AT_REQUIRE(fclose(file) == 0);
}

/* Offset of the line "%%", or n. */
static size_t find_line(const uint8_t *data, size_t n)
{
    for (size_t i = 0; i + 4 <= n; i++)
        if (memcmp(data + i, "\n%%\n", 4) == 0)
            return i;
    return n;
}

/* Ids are in range; decoded at once and id by id they give the same text, but for a character cut
 * off at the end, and for U+FFFD, which byte tokens come to one by one or by the run. */
static void check_ids(const struct at_tokenizer *t, const struct at_ids *ids)
{
    struct at_buf all = { 0 }, pieces = { 0 };
    struct at_decoding decoding = { .n_pending = 0 };

    for (size_t i = 0; i < ids->n; i++) {
        AT_REQUIRE(ids->data[i] >= 0 && (uint32_t)ids->data[i] < at_tokenizer_size(t));
        AT_REQUIRE(at_decoding_put(&decoding, t, &pieces, ids->data[i], false) == AT_OK);
    }
    AT_REQUIRE(at_tokenizer_decode(t, &all, ids->data, ids->n, false) == AT_OK);
    AT_REQUIRE(at_utf8_check(all.data, all.n) == all.n);
    if (decoding.n_pending > 0)
        at_buf_puts(&pieces, "\xEF\xBF\xBD");
    AT_REQUIRE((all.data && strstr(all.data, "\xEF\xBF\xBD")) ||
               (all.n == pieces.n && (all.n == 0 || memcmp(all.data, pieces.data, all.n) == 0)));
    at_buf_release(&all);
    at_buf_release(&pieces);
}

static void check_text(const struct at_tokenizer *t, const char *text, size_t n)
{
    for (int special = 0; special < 2; special++) {
        struct at_ids ids = { .n = 0 };
        if (at_tokenizer_encode(t, &ids, text, n, special != 0) == AT_OK)
            check_ids(t, &ids);
        else
            AT_REQUIRE(at_message()[0] != 0);
        at_ids_release(&ids);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const size_t line = find_line(data, n), text = line < n ? line + 4 : 0;
    struct at_tokenizer *t = NULL;

    write_file(data, line);
    if (at_tokenizer_load(&t, folder) == AT_OK)
        check_text(t, (const char *)data + text, n - text);
    else
        AT_REQUIRE(!t && at_message()[0] != 0);
    at_tokenizer_destroy(&t);
    return 0;
}
