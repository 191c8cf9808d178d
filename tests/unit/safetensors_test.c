/* links: base gpu ops model */
/* One safetensors file: what it holds, every way it can be wrong, and the writer. */
#include "model_files.h"

#include <math.h>

#include "weights.h"

#define TMP BUILD_DIR "/test_tmp/safetensors"
#define FILE_PATH TMP "/a.safetensors"

static const char data[64] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };

static int make_folder(void **state)
{
    (void)state;
    return system("rm -rf '" TMP "' && mkdir -p '" TMP "'");
}

static struct at_weights *open_text(const char *header, size_t n)
{
    struct at_weights *weights = NULL;

    write_safetensors(FILE_PATH, header, data, n);
    REQUIRE_OK(at_weights_open_safetensors(&weights, FILE_PATH));
    return weights;
}

/* The file of n bytes is refused, with the path and this text in the message. */
static void refuse_bytes(const void *bytes, size_t n, const char *part)
{
    struct at_weights *weights = NULL;

    write_file(FILE_PATH, bytes, n);
    if (at_weights_open_safetensors(&weights, FILE_PATH) != AT_DATA)
        fail_msg("not refused: expected \"%s\"", part);
    assert_null(weights);
    require_message(part);
    require_message(FILE_PATH);
}

static void refuse(const char *header, size_t n, const char *part)
{
    const uint64_t bytes = strlen(header);
    struct at_buf file = { 0 };

    at_buf_put(&file, &bytes, sizeof bytes);
    at_buf_put(&file, header, bytes);
    at_buf_put(&file, data, n);
    refuse_bytes(file.data, file.n, part);
    at_buf_release(&file);
}

static void file_gives_shapes_types_and_bytes(void **state)
{
    struct at_weights *weights =
        open_text("{\"__metadata__\":{\"format\":\"pt\",\"note\":\"x\"},"
                  "\"b\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[8,24]},"
                  "\"a\":{\"dtype\":\"BF16\",\"shape\":[2,1,2],\"data_offsets\":[0,8]},"
                  "\"none\":{\"dtype\":\"F16\",\"shape\":[0,5],\"data_offsets\":[24,24]},"
                  "\"one\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[24,32]}}   ",
                  32);
    const struct at_source *s = at_weights_find(weights, "a");

    (void)state;
    assert_int_equal(at_weights_count(weights), 4);
    assert_string_equal(at_weights_get(weights, 0)->name, "a"); /* by place */
    assert_string_equal(at_weights_get(weights, 3)->name, "one");
    assert_string_equal(s->type_name, "BF16");
    assert_int_equal(s->type, AT_BF16);
    assert_int_equal(s->n_dims, 3);
    assert_int_equal(s->dim[0], 2);
    assert_int_equal(s->dim[2], 2);
    assert_int_equal(s->rows, 2);
    assert_int_equal(s->cols, 2);
    assert_int_equal(s->row_bytes, 4);
    assert_memory_equal(s->data, data, 8);
    s = at_weights_find(weights, "b");
    assert_int_equal(s->type, AT_F32);
    assert_memory_equal(s->data, data + 8, 16);
    s = at_weights_find(weights, "none");
    assert_int_equal(s->rows * s->cols, 0);
    s = at_weights_find(weights, "one");
    assert_int_equal(s->type, AT_QUANT_COUNT);
    assert_int_equal(s->n_bytes, 8);
    assert_null(at_weights_find(weights, "c"));
    assert_string_equal(at_weights_metadata(weights, "note"), "x");
    assert_null(at_weights_metadata(weights, "other"));
    assert_null(at_weights_config(weights));
    assert_false(at_weights_is_gguf(weights));
    at_weights_close(&weights);
}

static void header_sizes_that_look_like_a_pickle_are_read(void **state)
{
    char header[2000];

    (void)state;
    for (size_t n = 128; n < 6 * 256; n += 256) {
        struct at_weights *weights = NULL;

        memset(header, ' ', n);
        memcpy(header, "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 54);
        header[n] = 0;
        weights = open_text(header, 4);
        assert_int_equal(at_weights_count(weights), 1);
        at_weights_close(&weights);
    }
}

static void values_of_plain_types_are_widened(void **state)
{
    static const uint16_t halves[] = { 0x3c00, 0xc000, 0x0001, 0x83ff, 0x7bff, 0x8000 };
    static const float f16[] = { 1, -2, 0x1p-24f, -0x3ffp-24f, 65504, -0.0f };
    static const uint16_t bf16s[] = { 0x3f80, 0xc000, 0x0001, 0x7f7f, 0x8000, 0x4049 };
    float out[6];
    struct at_weights *weights = NULL;

    (void)state;
    write_safetensors(
        FILE_PATH, "{\"h\":{\"dtype\":\"F16\",\"shape\":[6],\"data_offsets\":[0,12]}}", halves, 12);
    REQUIRE_OK(at_weights_open_safetensors(&weights, FILE_PATH));
    REQUIRE_OK(at_source_floats(out, at_weights_get(weights, 0)));
    assert_memory_equal(out, f16, sizeof f16);
    at_weights_close(&weights);
    write_safetensors(
        FILE_PATH, "{\"h\":{\"dtype\":\"BF16\",\"shape\":[6],\"data_offsets\":[0,12]}}", bf16s, 12);
    REQUIRE_OK(at_weights_open_safetensors(&weights, FILE_PATH));
    REQUIRE_OK(at_source_floats(out, at_weights_get(weights, 0)));
    for (size_t i = 0; i < 6; i++) {
        uint32_t bits;

        memcpy(&bits, &out[i], sizeof bits);
        assert_int_equal(bits, (uint32_t)bf16s[i] << 16);
    }
    at_weights_close(&weights);
    weights = open_text("{\"i\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4);
    assert_int_equal(at_source_floats(out, at_weights_get(weights, 0)), AT_DATA);
    require_message("I32");
    at_weights_close(&weights);
}

/* ---- hostile files (pains.md 13, 14, 16) ---- */

static void wrong_headers_are_refused(void **state)
{
    struct at_weights *weights = NULL;
    struct at_buf deep = { 0 };
    uint64_t n;

    (void)state;
    assert_int_equal(at_weights_open_safetensors(&weights, TMP "/none"), AT_NOT_FOUND);
    refuse_bytes("", 0, "0 bytes");
    refuse_bytes("\2\0\0\0\0\0\0", 7, "7 bytes");
    n = 100000001;
    refuse_bytes(&n, 8, "100000001 bytes; the format allows 100000000");
    n = UINT64_MAX;
    refuse_bytes(&n, 8, "the format allows");
    n = 3;
    {
        char file[10];

        memcpy(file, &n, 8);
        memcpy(file + 8, "{}", 2);
        refuse_bytes(file, 10, "cut short");
    }
    refuse("[]", 0, "does not start with '{'");
    refuse(" {}", 0, "does not start with '{'");
    refuse("", 0, "does not start with '{'");
    refuse("{", 0, "not a safetensors file");
    refuse("{ ", 0, ":1:");
    refuse("{\"a\":}", 0, "1:6");
    refuse("{\"\xff\":{}}", 0, "UTF-8");
    refuse("{} x", 0, ":1:");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
           "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
           8, "stands twice");
    at_buf_puts(&deep, "{\"a\":");
    for (int i = 0; i < 100000; i++)
        at_buf_puts(&deep, "[");
    refuse(deep.data, 0, "elements");
    at_buf_clear(&deep);
    at_buf_puts(&deep, "{\"a\":");
    for (int i = 0; i < 100000; i++)
        at_buf_puts(&deep, "[    ");
    refuse(deep.data, 0, "deeper");
    at_buf_release(&deep);
}

static void headers_that_are_no_tensor_entries_are_refused_before_they_are_a_tree(void **state)
{
    struct at_buf text = { 0 };

    (void)state;
    at_buf_puts(&text, "{\"a\":{\"dtype\":\"F32\",\"shape\":[1");
    for (int i = 0; i < 700000; i++)
        at_buf_puts(&text, ",    1");
    at_buf_puts(&text, "],\"data_offsets\":[0,4]}}");
    refuse(text.data, 4, "700007 elements");
    at_buf_release(&text);
}

static void wrong_entries_are_refused(void **state)
{
    static const struct {
        const char *entry, *part;
    } cases[] = {
        { "{\"shape\":[1],\"data_offsets\":[0,4]}", "tensor t: dtype is missing" },
        { "{\"dtype\":4,\"shape\":[1],\"data_offsets\":[0,4]}", "dtype is missing" },
        { "{\"dtype\":\"F31\",\"shape\":[1],\"data_offsets\":[0,4]}", "unknown dtype F31" },
        { "{\"dtype\":\"F32\",\"data_offsets\":[0,4]}", "shape must be an array" },
        { "{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1],\"data_offsets\":[0,4]}", "at most 4" },
        { "{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}", "not a whole number" },
        { "{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}", "not a whole number" },
        { "{\"dtype\":\"F32\",\"shape\":[1e300],\"data_offsets\":[0,4]}", "not a whole number" },
        { "{\"dtype\":\"F32\",\"shape\":[\"1\"],\"data_offsets\":[0,4]}", "not a whole number" },
        { "{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,4]}",
          "product overflows" },
        { "{\"dtype\":\"F32\",\"shape\":[4503599627370496,1024],\"data_offsets\":[0,0]}",
          "product overflows" },
        { "{\"dtype\":\"F32\",\"shape\":[1]}", "two whole numbers" },
        { "{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}", "two whole numbers" },
        { "{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}", "two whole numbers" },
        { "{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}", "two whole numbers" },
        { "{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}", "[4, 0]" },
        { "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}",
          "the data has 4 bytes (cut short?)" },
        { "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}", "span 4 bytes" },
        { "{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,4]}", "need 2" },
        { "[]", "needs a name and an object" },
        { "\"x\"", "needs a name and an object" },
    };

    (void)state;
    for (size_t i = 0; i < AT_COUNT(cases); i++) {
        char header[200];

        snprintf(header, sizeof header, "{\"t\":%s}", cases[i].entry);
        refuse(header, 4, cases[i].part);
    }
    refuse("{\"\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "needs a name");
    refuse("{\"__metadata__\":[]}", 0, "__metadata__ must be an object");
    refuse("{\"__metadata__\":{\"a\":1}}", 0, "__metadata__ a must be a string");
}

static void tensors_that_do_not_tile_are_refused(void **state)
{
    (void)state;
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
           "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
           12, "tensor b begins at byte 4 of the data; it overlaps");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
           "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
           4, "overlaps");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
           "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}",
           12, "a hole from 4");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "a hole from 0");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 5,
           "1 bytes follow the last tensor");
    refuse("{}", 1, "1 bytes follow");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
           "\"none\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[4,4]}}",
           8, "overlaps"); /* no bytes, but inside another */
}

static void pickles_and_gguf_files_are_refused_by_content(void **state)
{
    (void)state;
    refuse_bytes("PK\3\4 and so on, a zip", 22, "a pickle or zip file");
    refuse_bytes("\x80\2\x8a\nl\xfc\x9c\x46\xf9 j\xa8P\x19.\x80\2M", 18, "a pickle or zip file");
    refuse_bytes("\x80\2}q\0.", 6, "a pickle or zip file");
    refuse_bytes("GGUF\3\0\0\0\0\0\0\0", 12, "a GGUF file");
}

static void each_cut_of_a_file_is_refused(void **state)
{
    static const char header[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
    struct at_buf file = { 0 };
    const uint64_t n = sizeof header - 1;

    (void)state;
    at_buf_put(&file, &n, sizeof n);
    at_buf_put(&file, header, n);
    at_buf_put(&file, data, 8);
    for (size_t i = 0; i < file.n; i++)
        refuse_bytes(file.data, i, "");
    at_buf_release(&file);
}

static void a_failed_allocation_is_a_status(void **state)
{
    struct at_weights *weights = NULL;
    uint64_t i = 1;

    (void)state;
    write_safetensors(FILE_PATH,
                      "{\"__metadata__\":{\"a\":\"b\"},"
                      "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
                      data, 8);
    for (;; i++) {
        at_alloc_fail_at(i);
        enum at_status st = at_weights_open_safetensors(&weights, FILE_PATH);
        at_alloc_fail_at(0);
        if (st == AT_OK)
            break;
        assert_int_equal(st, AT_MEMORY);
        assert_null(weights);
        assert_true(i < 1000);
    }
    assert_true(i > 10);
    at_weights_close(&weights);
}

/* ---- writing ---- */

static void written_file_is_sorted_padded_and_read_back(void **state)
{
    static const float x[] = { 1, 2, 3, 4, 5, 6 }, y[] = { -1.5f };
    static const struct at_save_tensor tensors[] = {
        { .name = "z \"q\"", .n_dims = 2, .dim = { 2, 3 }, .values = x },
        { .name = "a", .n_dims = 1, .dim = { 1 }, .values = y },
    };
    static const char *const metadata[][2] = { { "k", "v" } };
    static const char want[] = "{\"__metadata__\":{\"format\":\"pt\",\"k\":\"v\"},"
                               "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                               "\"z \\\"q\\\"\":{\"dtype\":\"F32\",\"shape\":[2,3],"
                               "\"data_offsets\":[4,28]}}";
    struct at_weights *weights = NULL;
    struct at_buf file = { 0 };
    uint64_t n;

    (void)state;
    REQUIRE_OK(at_safetensors_write(FILE_PATH, tensors, 2, metadata, 1));
    REQUIRE_OK(at_file_read(&file, FILE_PATH));
    memcpy(&n, file.data, 8);
    assert_int_equal(n % 8, 0);
    assert_int_equal(file.n, 8 + n + 28);
    assert_memory_equal(file.data + 8, want, sizeof want - 1);
    for (size_t i = 8 + sizeof want - 1; i < 8 + n; i++)
        assert_int_equal(file.data[i], ' ');
    REQUIRE_OK(at_weights_open_safetensors(&weights, FILE_PATH));
    assert_memory_equal(at_weights_find(weights, "z \"q\"")->data, x, sizeof x);
    assert_memory_equal(at_weights_find(weights, "a")->data, y, sizeof y);
    assert_string_equal(at_weights_metadata(weights, "k"), "v");
    at_weights_close(&weights);
    at_buf_release(&file);
}

static void non_finite_values_are_never_written(void **state)
{
    const float bad[] = { 1, NAN }, worse[] = { INFINITY };
    const struct at_save_tensor nan[] = {
        { .name = "good", .n_dims = 1, .dim = { 1 }, .values = bad },
        { .name = "weight", .n_dims = 1, .dim = { 2 }, .values = bad },
    };
    const struct at_save_tensor inf = { .name = "w", .n_dims = 1, .dim = { 1 }, .values = worse };

    (void)state;
    assert_int_equal(at_safetensors_write(FILE_PATH, nan, 2, NULL, 0), AT_NUMERIC);
    require_message("tensor weight: value 1 is NaN");
    assert_true(at_dir_is_empty(TMP));
    assert_int_equal(at_safetensors_write(FILE_PATH, &inf, 1, NULL, 0), AT_NUMERIC);
    require_message("infinite");
    assert_true(at_dir_is_empty(TMP));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(file_gives_shapes_types_and_bytes, make_folder),
        cmocka_unit_test_setup(header_sizes_that_look_like_a_pickle_are_read, make_folder),
        cmocka_unit_test_setup(values_of_plain_types_are_widened, make_folder),
        cmocka_unit_test_setup(wrong_headers_are_refused, make_folder),
        cmocka_unit_test_setup(
            headers_that_are_no_tensor_entries_are_refused_before_they_are_a_tree, make_folder),
        cmocka_unit_test_setup(wrong_entries_are_refused, make_folder),
        cmocka_unit_test_setup(tensors_that_do_not_tile_are_refused, make_folder),
        cmocka_unit_test_setup(pickles_and_gguf_files_are_refused_by_content, make_folder),
        cmocka_unit_test_setup(each_cut_of_a_file_is_refused, make_folder),
        cmocka_unit_test_setup(a_failed_allocation_is_a_status, make_folder),
        cmocka_unit_test_setup(written_file_is_sorted_padded_and_read_back, make_folder),
        cmocka_unit_test_setup(non_finite_values_are_never_written, make_folder),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
