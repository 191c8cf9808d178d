/* links: base gpu ops model */
/* Matrices of bitsandbytes' files, and plain ones quantised at load, have the codes and scales that
 * bitsandbytes has (fixtures/make_bnb.py); what the planes then mean is parity.quant's to test. */
#include "model_files.h"

#include <math.h>
#include <sys/stat.h>

#include "ref_quant.h"
#include "weights_file.h"

#define FIXTURE TEST_DIR "/unit/fixtures/bnb"
#define TMP BUILD_DIR "/test_tmp/bnb"
enum { ROWS = 96, COLS = 192, BLOCKS = ROWS * COLS / 64, BYTE_ROWS = 16 };

static const struct {
    const char *name;
    enum at_quant_type type;
    bool nested;
} cases[] = {
    { "nf4.weight", AT_NF4, false },
    { "nf4_nested.weight", AT_NF4, true },
    { "fp4.weight", AT_FP4, false },
    { "fp4_nested.weight", AT_FP4, true },
};
static float scales[4][BLOCKS], largest_of[BYTE_ROWS];
static int8_t byte_codes[BYTE_ROWS][COLS];

static int read_expected(void **state)
{
    FILE *file = fopen(FIXTURE "/expected.bin", "rb");

    (void)state;
    assert_non_null(file);
    assert_int_equal(fread(scales, sizeof scales, 1, file), 1);
    assert_int_equal(fread(largest_of, sizeof largest_of, 1, file), 1);
    assert_int_equal(fread(byte_codes, sizeof byte_codes, 1, file), 1);
    fclose(file);
    return 0;
}

/* As make_bnb.py has them. */
static void make_values(float *w)
{
    uint64_t state = 1;

    for (int i = 0; i < ROWS * COLS; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        w[i] = ldexpf((float)(state >> 52) - 2048, -(12 + i / 64 % 5));
    }
}

/* A folder with W.weight, plain. */
static struct at_weights *open_plain(const struct at_quantise_params *params)
{
    static float w[ROWS * COLS];
    struct at_weights *weights;
    char header[128];

    make_values(w);
    snprintf(header, sizeof header,
             "{\"w\":{\"dtype\":\"F32\",\"shape\":[%d,%d],\"data_offsets\":[0,%zu]}}", ROWS, COLS,
             sizeof w);
    write_safetensors(TMP "/model.safetensors", header, w, sizeof w);
    write_text(TMP "/config.json", "{}");
    REQUIRE_OK(at_weights_open(&weights, TMP));
    at_weights_quantise(weights, params);
    return weights;
}

/* Nibbles of a file, whose upper ones come first. */
static void check_nibbles(const uint8_t *plane0, size_t stride, const uint8_t *packed)
{
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < COLS / 2; i++) {
            const uint8_t byte = packed[r * COLS / 2 + i];
            assert_int_equal(plane0[(size_t)r * stride + (size_t)i],
                             (byte >> 4 | byte << 4) & 0xff);
        }
}

static void planes_of(uint8_t *plane0, uint8_t *plane1, const struct at_source *s)
{
    at_repack_rows(plane0, plane1, s, 0, s->rows, NULL, NULL);
}

static void published_matrices_have_their_codes_and_scales(void **state)
{
    const size_t stride0 = at_quant_row_bytes(AT_NF4, 0, COLS),
                 stride1 = at_quant_row_bytes(AT_NF4, 1, COLS);
    uint8_t *plane0 = malloc(ROWS * stride0), *plane1 = malloc(ROWS * stride1);
    struct at_weights *weights;

    (void)state;
    REQUIRE_OK(at_weights_open(&weights, FIXTURE));
    for (size_t i = 0; i < AT_COUNT(cases); i++) {
        const struct at_source *s = at_weights_find(weights, cases[i].name);

        assert_non_null(s);
        assert_int_equal(s->type, cases[i].type);
        assert_true(s->rows == ROWS && s->cols == COLS && s->n_dims == 2 && !s->is_part);
        planes_of(plane0, plane1, s);
        check_nibbles(plane0, stride0, s->data);
        for (int r = 0; r < ROWS; r++)
            assert_memory_equal(plane1 + (size_t)r * stride1, scales[i] + r * 3, 3 * sizeof(float));
    }
    for (size_t i = 0; i < at_weights_count(weights); i++)
        assert_true(at_weights_get(weights, i)->is_part ==
                    (at_weights_get(weights, i)->type != AT_NF4 &&
                     at_weights_get(weights, i)->type != AT_FP4));
    at_weights_close(&weights);
    free(plane0);
    free(plane1);
}

/* The mean that double quantisation takes off is rounded otherwise than torch's: 1e-6. Code 8 of
 * fp4 is -0, code 0 is 0. */
static void quantising_gives_the_codes_and_scales_of_bitsandbytes(void **state)
{
    const size_t stride0 = at_quant_row_bytes(AT_NF4, 0, COLS),
                 stride1 = at_quant_row_bytes(AT_NF4, 1, COLS);
    uint8_t *plane0 = malloc(ROWS * stride0), *plane1 = malloc(ROWS * stride1);
    struct at_weights *published;

    (void)state;
    REQUIRE_OK(at_weights_open(&published, FIXTURE));
    for (size_t i = 0; i < AT_COUNT(cases); i++) {
        const struct at_quantise_params params = { .type = cases[i].type,
                                                   .nested = cases[i].nested };
        const uint8_t *packed = at_weights_find(published, cases[i].name)->data;
        struct at_weights *weights = open_plain(&params);
        const struct at_source *s = NULL;

        REQUIRE_OK(at_weights_linear(&s, weights, at_weights_find(weights, "w")));
        REQUIRE_OK(at_quantise_begin(s));
        planes_of(plane0, plane1, s);
        REQUIRE_OK(at_quantise_end(s));
        for (int r = 0; r < ROWS; r++)
            for (int c = 0; c < COLS; c++) {
                const int got = plane0[(size_t)r * stride0 + (size_t)c / 2] >> (4 * (c % 2)) & 15;
                const int want = packed[(r * COLS + c) / 2] >> (c % 2 ? 0 : 4) & 15;

                if (got != want && !(cases[i].type == AT_FP4 && got % 8 == 0 && want % 8 == 0))
                    fail_msg("%s (%d,%d): code %d, want %d", cases[i].name, r, c, got, want);
            }
        for (int b = 0; b < BLOCKS; b++) {
            float scale = 0;

            memcpy(&scale, plane1 + (size_t)(b / 3) * stride1 + (size_t)(b % 3) * sizeof scale,
                   sizeof scale);
            if (!(fabsf(scale - scales[i][b]) <= (cases[i].nested ? 1e-6f * scales[i][b] : 0)))
                fail_msg("%s block %d: scale %.9g, want %.9g", cases[i].name, b, (double)scale,
                         (double)scales[i][b]);
        }
        assert_int_equal(at_weights_quantise_report(weights).matrices, 1);
        assert_true(at_weights_quantise_report(weights).error > 0.02 &&
                    at_weights_quantise_report(weights).error < 0.2);
        at_weights_close(&weights);
    }
    at_weights_close(&published);
    free(plane0);
    free(plane1);
}

static void bytes_are_those_of_llm_int8(void **state)
{
    const struct at_quantise_params params = { .type = AT_INT8 };
    const size_t stride0 = at_quant_row_bytes(AT_INT8, 0, COLS),
                 stride1 = at_quant_row_bytes(AT_INT8, 1, COLS);
    uint8_t *plane0 = malloc(ROWS * stride0), *plane1 = malloc(ROWS * stride1);
    struct at_weights *weights = open_plain(&params);
    const struct at_source *s = NULL;

    (void)state;
    REQUIRE_OK(at_weights_linear(&s, weights, at_weights_find(weights, "w")));
    REQUIRE_OK(at_quantise_begin(s));
    planes_of(plane0, plane1, s);
    REQUIRE_OK(at_quantise_end(s));
    for (size_t r = 0; r < BYTE_ROWS; r++) {
        assert_memory_equal(plane0 + r * stride0, byte_codes[r], COLS);
        assert_memory_equal(plane1 + r * stride1, &largest_of[r], sizeof(float));
    }
    assert_true(at_weights_quantise_report(weights).error < 0.01);
    at_weights_close(&weights);
    free(plane0);
    free(plane1);
}

static void published_bytes_have_their_codes_and_scales(void **state)
{
    const size_t stride0 = at_quant_row_bytes(AT_INT8, 0, COLS),
                 stride1 = at_quant_row_bytes(AT_INT8, 1, COLS);
    uint8_t *plane0 = malloc(BYTE_ROWS * stride0), *plane1 = malloc(BYTE_ROWS * stride1);
    struct at_weights *weights;
    const struct at_source *s;

    (void)state;
    REQUIRE_OK(at_weights_open(&weights, FIXTURE "/bytes"));
    s = at_weights_find(weights, "0.weight");
    assert_true(s->type == AT_INT8 && s->rows == BYTE_ROWS && s->cols == COLS && !s->is_part);
    planes_of(plane0, plane1, s);
    for (size_t r = 0; r < BYTE_ROWS; r++) {
        assert_memory_equal(plane0 + r * stride0, byte_codes[r], COLS);
        assert_memory_equal(plane1 + r * stride1, &largest_of[r], sizeof(float));
    }
    assert_true(at_weights_find(weights, "0.SCB")->is_part);
    assert_true(at_weights_find(weights, "0.weight_format")->is_part);
    at_weights_close(&weights);
    free(plane0);
    free(plane1);
}

static void refuse(const char *header, const char *data, size_t n, const char *part)
{
    struct at_weights *weights = NULL;

    write_safetensors(TMP "/model.safetensors", header, data, n);
    assert_int_equal(at_weights_open(&weights, TMP), AT_DATA);
    assert_null(weights);
    require_message(part);
}

static void broken_matrices_are_refused(void **state)
{
    static const char json[] =
        "{\"blocksize\":64,\"shape\":[1,64],\"quant_type\":\"nf4\"}          ";
    static const char bad_shape[] = "{\"blocksize\":64,\"shape\":[2,64]}";
    static const char bad_block[] = "{\"blocksize\":60,\"shape\":[1,64]}";
    char data[32 + sizeof json], header[512];

    (void)state;
    write_text(TMP "/config.json", "{\"quantization_config\":{\"quant_method\":\"bitsandbytes\"}}");
    refuse("{\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", "x", 1,
           "no tensor has a quant_state");
    snprintf(header, sizeof header,
             "{\"w.quant_state.bitsandbytes__nf4\":{\"dtype\":\"U8\",\"shape\":[%zu],"
             "\"data_offsets\":[0,%zu]}}",
             strlen(json), strlen(json));
    refuse(header, json, strlen(json), "tensor w is missing");
    memset(data, 0, sizeof data);
    for (int i = 0; i < 3; i++) {
        const char *const texts[] = { json, bad_shape, bad_block };
        const char *const parts[] = { "w.quant_map is missing", "has 32 bytes; 2 x 64",
                                      "must be multiples of 64" };
        const size_t n = strlen(texts[i]);

        memcpy(data + 32, texts[i], n);
        snprintf(header, sizeof header,
                 "{\"w\":{\"dtype\":\"U8\",\"shape\":[32,1],\"data_offsets\":[0,32]},"
                 "\"w.quant_state.bitsandbytes__nf4\":{\"dtype\":\"U8\",\"shape\":[%zu],"
                 "\"data_offsets\":[32,%zu]}}",
                 n, 32 + n);
        refuse(header, data, 32 + n, parts[i]);
    }
}

/* A row of 32 bytes, its scale, a format. */
static void broken_bytes_are_refused(void **state)
{
    static const char form[] =
        "{\"w.weight\":{\"dtype\":\"%s\",\"shape\":[1,%d],\"data_offsets\":[0,%d]},"
        "\"w.%s\":{\"dtype\":\"%s\",\"shape\":[%d],\"data_offsets\":[%d,%d]},"
        "\"w.weight_format\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[%d,%d]}}";
    static const struct {
        const char *type, *name, *scale_type;
        int cols, scale_bytes, format;
        const char *part;
    } broken[] = {
        { "U8", "SCB", "F32", 32, 4, 0, "w.weight has type U8" },
        { "I8", "SCB", "F32", 31, 4, 0, "rows of 31 values; beside w.SCB" },
        { "I8", "SCB", "F16", 32, 2, 0, "w.SCB has 1 values of type F16; expected 1 of F32" },
        { "I8", "SCB", "F32", 32, 8, 0, "w.SCB has 2 values" },
        { "I8", "SCB", "F32", 32, 4, 2, "w.weight_format is 2" },
        { "I8", "scb", "F32", 32, 4, 0, "an SCB of 8" },
    };
    char header[512], data[64] = { 0 };

    (void)state;
    write_text(TMP "/config.json", "{\"quantization_config\":{\"quant_method\":\"bitsandbytes\"}}");
    for (size_t i = 0; i < AT_COUNT(broken); i++) {
        const int cols = broken[i].cols, end = cols + broken[i].scale_bytes;
        const int n = broken[i].scale_bytes == 8 ? 2 : 1;

        snprintf(header, sizeof header, form, broken[i].type, cols, cols, broken[i].name,
                 broken[i].scale_type, n, cols, end, end, end + 1);
        data[end] = (char)broken[i].format;
        refuse(header, data, (size_t)end + 1, broken[i].part);
        data[end] = 0;
    }
    refuse("{\"w.SCB\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", data, 4,
           "tensor w.weight is missing, whose scales are in w.SCB");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_matrices_have_their_codes_and_scales),
        cmocka_unit_test(quantising_gives_the_codes_and_scales_of_bitsandbytes),
        cmocka_unit_test(bytes_are_those_of_llm_int8),
        cmocka_unit_test(published_bytes_have_their_codes_and_scales),
        cmocka_unit_test(broken_matrices_are_refused),
        cmocka_unit_test(broken_bytes_are_refused),
    };

    (void)!mkdir(BUILD_DIR "/test_tmp", 0777);
    (void)!mkdir(TMP, 0777);
    return cmocka_run_group_tests(tests, read_expected, NULL);
}
