/* links: base gpu ops model */
/* GGUF: metadata of every type, tensors, and every way a file can be wrong (pains.md 1 to 12). */
#include "model_files.h"

#include "weights.h"

#define TMP BUILD_DIR "/test_tmp/gguf"
#define FILE_PATH TMP "/a.gguf"

enum { U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64, N_TYPES };
static const size_t type_bytes[N_TYPES] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };

static int make_folder(void **state)
{
    (void)state;
    return system("rm -rf '" TMP "' && mkdir -p '" TMP "'");
}

static struct at_weights *open_file(struct at_buf *file)
{
    struct at_weights *weights = NULL;

    write_file(FILE_PATH, file->data, file->n);
    at_buf_release(file);
    REQUIRE_OK(at_weights_open(&weights, FILE_PATH));
    return weights;
}

/* Refused with the path and this text in the message; frees the file. */
static void refuse(struct at_buf *file, const char *part)
{
    struct at_weights *weights = NULL;

    REQUIRE_OK(at_buf_status(file));
    write_file(FILE_PATH, file->data, file->n);
    at_buf_release(file);
    if (at_weights_open(&weights, FILE_PATH) != AT_DATA)
        fail_msg("not refused: expected \"%s\"", part);
    assert_null(weights);
    require_message(part);
    require_message(FILE_PATH);
}

/* ---- metadata ---- */

static void put_key(struct at_buf *out, const char *key, uint32_t type, const void *value)
{
    put_string(out, key);
    put_u32(out, type);
    at_buf_put(out, value, type_bytes[type]);
}

static void put_array(struct at_buf *out, const char *key, uint32_t type, uint64_t n,
                      const void *values)
{
    put_string(out, key);
    put_u32(out, ARRAY);
    put_u32(out, type);
    put_u64(out, n);
    at_buf_put(out, values, n * type_bytes[type]);
}

/* Whole numbers "n<type>" = 7 and one key or two of everything else. */
static struct at_weights *open_metadata(void)
{
    static const double f64 = 2.5;
    static const int64_t seven = 7, negative = -1, big = INT64_C(1) << 32;
    static const int32_t i32s[] = { 3, -4 };
    struct at_buf file = { 0 };

    put_head(&file, 2, 0, 17);
    for (uint32_t type = U8; type <= I64; type++)
        if (type_bytes[type] > 0 && type != F32 && type != BOOL) {
            char key[8];

            snprintf(key, sizeof key, "n%u", type);
            put_key(&file, key, type, &seven);
        }
    put_key(&file, "neg", I32, &negative);
    put_key(&file, "big", U64, &big);
    put_key(&file, "f64", F64, &f64);
    put_key_float(&file, "f32", 0.5f);
    put_key_bool(&file, "yes", 1);
    put_key_string(&file, "text", "caf\xc3\xa9");
    put_string(&file, "texts");
    put_u32(&file, ARRAY);
    put_u32(&file, STRING);
    put_u64(&file, 2);
    put_string(&file, "one");
    put_u64(&file, 3);
    at_buf_put(&file, "a\0b", 3);
    put_array(&file, "ints", I32, 2, i32s);
    put_array(&file, "none", I32, 0, i32s);
    return open_file(&file);
}

static void whole_numbers_of_every_type_are_read(void **state)
{
    struct at_weights *weights = open_metadata();
    uint32_t u = 99;

    (void)state;
    assert_true(at_weights_is_gguf(weights));
    assert_int_equal(at_gguf_count(weights), 17);
    assert_string_equal(at_gguf_key(weights, 0), "n0");
    assert_true(at_gguf_has(weights, "text"));
    assert_false(at_gguf_has(weights, "tex"));
    for (uint32_t type = U8; type <= I64; type++) {
        char key[8];

        if (type_bytes[type] == 0 || type == F32 || type == BOOL)
            continue;
        snprintf(key, sizeof key, "n%u", type);
        u = 0;
        REQUIRE_OK(at_gguf_get_u32(&u, weights, key));
        assert_int_equal(u, 7);
    }
    REQUIRE_OK(at_gguf_get_u32(&u, weights, "missing"));
    assert_int_equal(u, 7);
    assert_int_equal(at_gguf_get_u32(&u, weights, "neg"), AT_DATA);
    assert_int_equal(at_gguf_get_u32(&u, weights, "big"), AT_DATA);
    require_message("key big is out of range");
    assert_int_equal(at_gguf_get_u32(&u, weights, "f32"), AT_DATA);
    require_message("key f32 is a float32; expected a whole number");
    assert_int_equal(at_gguf_get_u32(&u, weights, "ints"), AT_DATA);
    require_message("an array of int32");
    at_weights_close(&weights);
}

static void other_values_are_read(void **state)
{
    struct at_weights *weights = open_metadata();
    const char *const *texts = NULL, *text = "kept";
    const size_t *lengths = NULL;
    const int32_t *ints = NULL;
    bool flag = false;
    double d = 0;
    size_t n = 0;

    (void)state;
    REQUIRE_OK(at_gguf_get_double(&d, weights, "f64"));
    assert_true(d == 2.5);
    REQUIRE_OK(at_gguf_get_double(&d, weights, "f32"));
    assert_true(d == 0.5);
    REQUIRE_OK(at_gguf_get_double(&d, weights, "missing"));
    assert_true(d == 0.5);
    assert_int_equal(at_gguf_get_double(&d, weights, "n4"), AT_DATA);
    REQUIRE_OK(at_gguf_get_bool(&flag, weights, "yes"));
    assert_true(flag);
    assert_int_equal(at_gguf_get_bool(&flag, weights, "n0"), AT_DATA);
    REQUIRE_OK(at_gguf_get_string(&text, weights, "missing"));
    assert_string_equal(text, "kept");
    REQUIRE_OK(at_gguf_get_string(&text, weights, "text"));
    assert_string_equal(text, "caf\xc3\xa9");
    assert_int_equal(at_gguf_get_string(&text, weights, "ints"), AT_DATA);
    REQUIRE_OK(at_gguf_get_strings(&texts, &lengths, &n, weights, "texts"));
    assert_int_equal(n, 2);
    assert_string_equal(texts[0], "one");
    assert_int_equal(lengths[1], 3);
    assert_memory_equal(texts[1], "a\0b", 4);
    REQUIRE_OK(at_gguf_get_i32s(&ints, &n, weights, "ints"));
    assert_int_equal(n, 2);
    assert_int_equal(ints[1], -4);
    REQUIRE_OK(at_gguf_get_i32s(&ints, &n, weights, "none"));
    assert_int_equal(n, 0);
    at_weights_close(&weights);
}

static void arrays_of_another_element_type_are_refused(void **state)
{
    static const uint8_t zeros[16];

    (void)state;
    for (uint32_t type = 0; type < N_TYPES; type++) {
        struct at_buf file = { 0 };
        struct at_weights *weights;
        const char *const *texts;
        const size_t *lengths;
        const int32_t *ints;
        size_t n;

        if (type == ARRAY)
            continue;
        put_head(&file, 3, 0, 1);
        put_array(&file, "tokenizer.ggml.tokens", type, type == STRING ? 0 : 2, zeros);
        weights = open_file(&file);
        assert_int_equal(at_gguf_get_i32s(&ints, &n, weights, "tokenizer.ggml.tokens"),
                         type == I32 ? AT_OK : AT_DATA);
        assert_int_equal(
            at_gguf_get_strings(&texts, &lengths, &n, weights, "tokenizer.ggml.tokens"),
            type == STRING ? AT_OK : AT_DATA);
        if (type != STRING)
            require_message("expected an array of strings");
        at_weights_close(&weights);
    }
}

static void wrong_heads_are_refused(void **state)
{
    static const uint32_t versions[] = { 0, 1, 4, 0x01000000, UINT32_MAX };
    static const uint64_t counts[] = { UINT64_MAX, UINT64_C(1) << 63, 65537, 2 };
    struct at_buf file = { 0 };

    (void)state;
    at_buf_puts(&file, "GGML");
    put_u32(&file, 3);
    refuse(&file, "does not start with \"GGUF\"");
    for (size_t i = 0; i < AT_COUNT(versions); i++) {
        put_head(&file, versions[i], 0, 0);
        refuse(&file, "versions 2 and 3 are read");
    }
    put_head(&file, 0x03000000, 0, 0);
    refuse(&file, "big-endian");
    for (size_t i = 0; i < AT_COUNT(counts); i++) {
        put_head(&file, 3, counts[i], 0);
        at_buf_put(&file, "0123456789012345678901234567890123456789", 40);
        refuse(&file, "tensors cannot fit in 40 bytes");
        put_head(&file, 3, 0, counts[i]);
        at_buf_put(&file, "0123456789012345678901234567890123456789", 20);
        refuse(&file, "metadata keys cannot fit in 20 bytes");
    }
}

/* One key of this many bytes in the file's claim, then 40 bytes. */
static void refuse_key_length(uint64_t length, const char *part)
{
    struct at_buf file = { 0 };

    put_head(&file, 3, 0, 1);
    put_u64(&file, length);
    at_buf_put(&file, "0123456789012345678901234567890123456789", 40);
    refuse(&file, part);
}

static void wrong_keys_are_refused(void **state)
{
    struct at_buf file = { 0 }, key = { 0 };

    (void)state;
    refuse_key_length(UINT64_MAX, "has a length of 18446744073709551615, but 40 bytes are left");
    refuse_key_length(UINT64_C(1) << 63, "bytes are left");
    refuse_key_length(41, "has a length of 41, but 40");
    refuse_key_length(0, "key at byte 24 has 0 bytes");
    refuse_key_length(40, "inside a value's type");
    for (int i = 0; i < 65536; i++)
        at_buf_puts(&key, "k");
    put_head(&file, 3, 0, 1);
    put_key_u32(&file, key.data, 1);
    refuse(&file, "has 65536 bytes");
    put_head(&file, 3, 0, 1);
    put_key_u32(&file, "\xff\xfe", 1);
    refuse(&file, "not UTF-8");
    put_head(&file, 3, 0, 1);
    put_u64(&file, 3);
    at_buf_put(&file, "a\0b", 3);
    put_u32(&file, U32);
    put_u32(&file, 1);
    refuse(&file, "not UTF-8");
    put_head(&file, 3, 0, 3);
    put_key_u32(&file, "twice", 1);
    put_key_u32(&file, "once", 1);
    put_key_u32(&file, "twice", 2);
    refuse(&file, "key twice stands twice, at bytes 24 and 65");
    at_buf_release(&key);
}

static void wrong_values_are_refused(void **state)
{
    static const uint32_t types[] = { 13, 14, UINT32_MAX };
    struct at_buf file = { 0 };

    (void)state;
    for (size_t i = 0; i < AT_COUNT(types); i++) {
        put_head(&file, 3, 0, 1);
        put_string(&file, "key");
        put_u32(&file, types[i]);
        put_u64(&file, 0);
        refuse(&file, types[i] == UINT32_MAX ? "unknown value type -1" : "unknown value type 1");
        put_head(&file, 3, 0, 1);
        put_string(&file, "key");
        put_u32(&file, ARRAY);
        put_u32(&file, types[i]);
        put_u64(&file, 0);
        refuse(&file, "is not read");
    }
    put_head(&file, 3, 0, 1);
    put_string(&file, "key");
    put_u32(&file, ARRAY);
    for (int i = 0; i < 100000; i++) {
        put_u32(&file, ARRAY);
        put_u64(&file, 1);
    }
    refuse(&file, "nested arrays");
    for (int i = 0; i < 3; i++) {
        static const uint64_t lengths[] = { UINT64_MAX, UINT64_C(1) << 62, 3 };

        put_head(&file, 3, 0, 1);
        put_string(&file, "key");
        put_u32(&file, ARRAY);
        put_u32(&file, I32);
        put_u64(&file, lengths[i]);
        put_u64(&file, 0);
        refuse(&file, "elements cannot fit in the 8 bytes left");
        put_head(&file, 3, 0, 1);
        put_string(&file, "key");
        put_u32(&file, ARRAY);
        put_u32(&file, STRING);
        put_u64(&file, lengths[i]);
        put_u64(&file, 0);
        refuse(&file, "elements cannot fit in the 8 bytes left");
        put_head(&file, 3, 0, 1);
        put_string(&file, "key");
        put_u32(&file, STRING);
        put_u64(&file, lengths[i]);
        at_buf_put(&file, "12", 2);
        refuse(&file, "but 2 bytes are left");
    }
    put_head(&file, 3, 0, 1);
    put_key_bool(&file, "key", 2);
    refuse(&file, "a bool is 2");
    put_head(&file, 3, 0, 1);
    put_array(&file, "key", BOOL, 3, "\1\0\2");
    refuse(&file, "a bool is 2");
}

static void wrong_alignments_are_refused(void **state)
{
    static const uint32_t values[] = { 0, 1, 4, 13, 48, 1u << 17, 1u << 31, UINT32_MAX };
    static const uint64_t right = 32;
    struct at_buf file = { 0 };

    (void)state;
    for (size_t i = 0; i < AT_COUNT(values); i++) {
        put_head(&file, 3, 0, 1);
        put_key_u32(&file, "general.alignment", values[i]);
        refuse(&file, "must be a power of two from 8 to 65536");
    }
    put_head(&file, 3, 0, 1);
    put_key(&file, "general.alignment", U64, &right);
    refuse(&file, "general.alignment is a uint64; it must be a uint32");
}

/* ---- tensors ---- */

static void tensors_follow_the_alignment(void **state)
{
    static const uint64_t vector[] = { 5 }, matrix[] = { 32, 3 }, cube[] = { 2, 3, 4 };
    struct at_buf file = { 0 };
    struct at_weights *weights;
    const struct at_source *s;

    (void)state;
    put_head(&file, 3, 3, 1);
    put_key_u32(&file, "general.alignment", 64);
    put_tensor(&file, "vector", 1, vector, 0, 0);
    put_tensor(&file, "matrix", 2, matrix, 2, 64);
    put_tensor(&file, "cube", 3, cube, 1, 128);
    put_padding(&file, 64);
    for (int i = 0; i < 128 + 48; i++)
        at_buf_put(&file, &(char){ (char)i }, 1);
    weights = open_file(&file); /* nothing behind the last tensor */
    s = at_weights_find(weights, "vector");
    assert_int_equal(s->n_dims, 1);
    assert_int_equal(s->rows, 1);
    assert_int_equal(s->cols, 5);
    assert_int_equal(s->data[0], 0);
    s = at_weights_find(weights, "matrix");
    assert_string_equal(s->type_name, "Q4_0");
    assert_int_equal(s->type, AT_Q4_0);
    assert_int_equal(s->dim[0], 3);
    assert_int_equal(s->dim[1], 32);
    assert_int_equal(s->row_bytes, 18);
    assert_int_equal(s->n_bytes, 54);
    assert_int_equal(s->data[0], 64);
    s = at_weights_find(weights, "cube");
    assert_int_equal(s->dim[0], 4);
    assert_int_equal(s->dim[2], 2);
    assert_int_equal(s->rows, 12);
    assert_int_equal(s->data[0], 128);
    at_weights_close(&weights);
}

/* A file of one tensor entry and n bytes of data. */
static void put_file(struct at_buf *file, const char *name, uint32_t n_dims, const uint64_t *ne,
                     uint32_t type, uint64_t offset, size_t n)
{
    put_head(file, 3, 1, 0);
    put_tensor(file, name, n_dims, ne, type, offset);
    put_padding(file, 32);
    for (size_t i = 0; i < n; i++)
        at_buf_put(file, "", 1);
}

static void wrong_dimensions_are_refused(void **state)
{
    static const uint64_t many[8] = { 1, 1, 1, 1, 1, 1, 1, 1 };
    static const struct {
        uint64_t ne[4];
        uint32_t type;
        const char *part;
    } cases[] = {
        { { 0, 1, 1, 1 }, 0, "dimension 0 is 0" },
        { { 32, 0, 1, 1 }, 2, "dimension 1 is 0" },
        { { UINT64_MAX, 1, 1, 1 }, 0, "dimension 0 is -1" },
        { { 4, UINT64_C(1) << 63, 1, 1 }, 0, "dimension 1 is -" },
        { { 1, INT64_MAX, 3, 1 }, 0, "the product of its dimensions overflows" },
        { { UINT64_C(1) << 62, 1, 1, 1 }, 0, "its size overflows" },
        { { UINT64_C(1) << 31, UINT64_C(1) << 31, 1, 1 }, 0, "its size overflows" },
        { { UINT64_C(1) << 60, 1, 1, 1 }, 0, "needs bytes up to" },
        { { 33, 1, 1, 1 }, 2, "rows of 33 values are not whole blocks of 32 (Q4_0)" },
        { { 16, 2, 1, 1 }, 8, "not whole blocks of 32 (Q8_0)" },
        { { 128, 2, 1, 1 }, 14, "not whole blocks of 256 (Q6_K)" },
    };
    struct at_buf file = { 0 };

    (void)state;
    put_file(&file, "t", 5, many, 0, 0, 64);
    refuse(&file, "has 5 dimensions; at most 4");
    put_file(&file, "t", 8, many, 0, 0, 64);
    refuse(&file, "has 8 dimensions");
    put_head(&file, 3, 1, 0);
    put_string(&file, "t");
    put_u32(&file, UINT32_MAX);
    at_buf_put(&file, many, sizeof many);
    refuse(&file, "has 4294967295 dimensions");
    for (size_t i = 0; i < AT_COUNT(cases); i++) {
        put_file(&file, "t", 4, cases[i].ne, cases[i].type, 0, 64);
        refuse(&file, cases[i].part);
    }
}

static void unknown_and_removed_types_are_refused_others_are_named(void **state)
{
    static const uint32_t unknown[] = { 4, 5, 31, 32, 33, 36, 37, 38, 42, 1000, UINT32_MAX };
    static const uint64_t ne[] = { 256 };
    struct at_buf file = { 0 };
    struct at_weights *weights;

    (void)state;
    for (size_t i = 0; i < AT_COUNT(unknown); i++) {
        put_file(&file, "t", 1, ne, unknown[i], 0, 4096);
        refuse(&file, "is unknown or was removed from the format");
    }
    put_file(&file, "t", 1, ne, 16, 0, 96);
    weights = open_file(&file);
    assert_string_equal(at_weights_get(weights, 0)->type_name, "IQ2_XXS");
    assert_int_equal(at_weights_get(weights, 0)->type, AT_QUANT_COUNT);
    assert_int_equal(at_weights_get(weights, 0)->n_bytes, 66);
    at_weights_close(&weights);
}

static void wrong_names_are_refused(void **state)
{
    static const uint64_t ne[] = { 1 };
    struct at_buf file = { 0 };
    struct at_weights *weights;
    char name[65];

    (void)state;
    put_file(&file, "", 1, ne, 0, 0, 32);
    refuse(&file, "tensor name at byte 24 has 0 bytes");
    memset(name, 'n', 64);
    name[64] = 0;
    put_file(&file, name, 1, ne, 0, 0, 32);
    refuse(&file, "has 64 bytes; 1 to 63");
    name[63] = 0;
    put_file(&file, name, 1, ne, 0, 0, 32);
    weights = open_file(&file);
    at_weights_close(&weights);
    put_file(&file, "\xc3(", 1, ne, 0, 0, 32);
    refuse(&file, "not UTF-8");
    put_head(&file, 3, 1, 0);
    put_u64(&file, 3);
    at_buf_put(&file, "a\0b", 3);
    put_u32(&file, 1);
    put_u64(&file, 1);
    put_u32(&file, 0);
    put_u64(&file, 0);
    refuse(&file, "not UTF-8");
    put_head(&file, 3, 1, 0);
    put_u64(&file, UINT64_MAX);
    for (int i = 0; i < 64; i++)
        at_buf_put(&file, "", 1);
    refuse(&file, "bytes are left");
    put_head(&file, 3, 2, 0);
    put_tensor(&file, "same", 1, ne, 0, 0);
    put_tensor(&file, "same", 1, ne, 0, 32);
    put_padding(&file, 32);
    put_padding(&file, 32);
    for (int i = 0; i < 64; i++)
        at_buf_put(&file, "", 1);
    refuse(&file, "tensor same stands twice");
}

/* Two tensors of 8 floats (32 bytes each) at these offsets, n bytes of data. */
static void refuse_places(uint64_t first, uint64_t second, size_t n, const char *part)
{
    static const uint64_t ne[] = { 8 };
    struct at_buf file = { 0 };

    put_head(&file, 3, 2, 0);
    put_tensor(&file, "a", 1, ne, 0, first);
    put_tensor(&file, "b", 1, ne, 0, second);
    put_padding(&file, 32);
    for (size_t i = 0; i < n; i++)
        at_buf_put(&file, "", 1);
    refuse(&file, part);
}

static void wrong_offsets_are_refused(void **state)
{
    static const uint64_t huge[] = { (UINT64_C(1) << 61) - 8 }, five[] = { 5 };
    struct at_buf file = { 0 };

    (void)state;
    refuse_places(32, 0, 64, "tensor a: offset 32, expected 0"); /* unordered */
    refuse_places(0, 0, 64, "tensor b: offset 0, expected 32");  /* overlapping */
    refuse_places(0, 16, 64, "tensor b: offset 16, expected 32");
    refuse_places(0, 33, 96, "tensor b: offset 33, expected 32"); /* misaligned */
    refuse_places(0, 64, 96, "tensor b: offset 64, expected 32"); /* a hole */
    refuse_places(0, UINT64_MAX, 64, "expected 32");
    refuse_places(0, 32, 63,
                  "tensor b: needs bytes up to 64 of the data, but there are 63: the file has 159 "
                  "bytes and needs 160, its download or copy was probably cut short; fetch it");
    refuse_places(0, 32, 0,
                  "needs bytes up to 32 of the data, but there are 0: the file has 96 "
                  "bytes and needs 160, its");
    put_head(&file, 3, 3, 0); /* sizes that add up to more than 2^64 */
    put_tensor(&file, "a", 1, huge, 0, 0);
    put_tensor(&file, "b", 1, huge, 0, huge[0] * 4);
    put_tensor(&file, "c", 1, huge, 0, huge[0] * 8);
    put_padding(&file, 32);
    refuse(&file, "tensor c: its end overflows");
    put_head(&file, 3, 2, 0); /* or would, behind the table */
    put_tensor(&file, "a", 1, huge, 0, 0);
    put_tensor(&file, "b", 1, huge, 0, huge[0] * 4);
    put_padding(&file, 32);
    refuse(&file, "the end of its data overflows");
    put_file(&file, "t", 1, five, 0, 0, 31); /* padding of the last: whole or none */
    refuse(&file, "there are 31: the file has 95 bytes and needs 96, ");
}

/* To be looked at, a file whose table is whole is enough. */
static void look_at_header(const struct at_buf *file, size_t n, bool whole_table)
{
    struct at_weights *weights = NULL;

    write_file(FILE_PATH, file->data, n);
    assert_int_equal(at_weights_open_header(&weights, FILE_PATH), whole_table ? AT_OK : AT_DATA);
    if (!whole_table)
        return;
    assert_int_equal(at_weights_lack_data(weights), n < file->n);
    assert_int_equal(at_weights_get(weights, 0)->n_bytes, 64);
    assert_int_equal(at_weights_get(weights, 0)->data == NULL, n < file->n);
    at_weights_close(&weights);
}

static void each_cut_of_a_file_is_refused(void **state)
{
    static const uint64_t ne[] = { 8, 2 };
    struct at_buf file = { 0 };
    size_t table = 0;

    (void)state;
    put_head(&file, 3, 1, 3);
    put_key_string(&file, "general.architecture", "llama");
    put_key_float(&file, "x", 1);
    put_array(&file, "y", I32, 2, ne);
    put_tensor(&file, "t", 2, ne, 0, 0);
    table = file.n;
    put_padding(&file, 32);
    for (int i = 0; i < 64; i++)
        at_buf_put(&file, "", 1);
    look_at_header(&file, file.n, true);
    for (size_t i = 0; i < file.n; i++) {
        struct at_buf cut = { 0 };

        look_at_header(&file, i, i >= table);
        at_buf_put(&cut, file.data, i);
        refuse(&cut, "");
    }
    at_buf_release(&file);
}

static void a_failed_allocation_is_a_status(void **state)
{
    static const uint64_t ne[] = { 8 };
    struct at_weights *weights = NULL;
    struct at_buf file = { 0 };
    uint64_t i = 1;

    (void)state;
    put_head(&file, 3, 1, 1);
    put_key_string(&file, "general.architecture", "llama");
    put_tensor(&file, "t", 1, ne, 0, 0);
    put_padding(&file, 32);
    at_buf_put(&file, (char[32]){ 0 }, 32);
    write_file(FILE_PATH, file.data, file.n);
    at_buf_release(&file);
    for (;; i++) {
        at_alloc_fail_at(i);
        enum at_status st = at_weights_open(&weights, FILE_PATH);
        at_alloc_fail_at(0);
        if (st == AT_OK)
            break;
        assert_int_equal(st, AT_MEMORY);
        assert_null(weights);
    }
    assert_true(i > 6);
    at_weights_close(&weights);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(whole_numbers_of_every_type_are_read, make_folder),
        cmocka_unit_test_setup(other_values_are_read, make_folder),
        cmocka_unit_test_setup(arrays_of_another_element_type_are_refused, make_folder),
        cmocka_unit_test_setup(wrong_heads_are_refused, make_folder),
        cmocka_unit_test_setup(wrong_keys_are_refused, make_folder),
        cmocka_unit_test_setup(wrong_values_are_refused, make_folder),
        cmocka_unit_test_setup(wrong_alignments_are_refused, make_folder),
        cmocka_unit_test_setup(tensors_follow_the_alignment, make_folder),
        cmocka_unit_test_setup(wrong_dimensions_are_refused, make_folder),
        cmocka_unit_test_setup(unknown_and_removed_types_are_refused_others_are_named, make_folder),
        cmocka_unit_test_setup(wrong_names_are_refused, make_folder),
        cmocka_unit_test_setup(wrong_offsets_are_refused, make_folder),
        cmocka_unit_test_setup(each_cut_of_a_file_is_refused, make_folder),
        cmocka_unit_test_setup(a_failed_allocation_is_a_status, make_folder),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
