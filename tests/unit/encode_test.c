/* links: base gpu ops model */
/* Values as the blocks of files: halves and bfloats rounded to nearest even, quantised blocks as
 * gguf-py (quants.quantize) makes them of the same 32 values, and llama.cpp of fixtures/encode.bin.
 */
#include "model_files.h"

#include <math.h>

#include "ref_quant.h"
#include "weights_file.h"

static void halves_come_back_and_ties_go_to_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7c00; h++) {
        const float x = at_widen_half((uint16_t)h), next = at_widen_half((uint16_t)(h + 1));
        assert_int_equal(at_narrow_half(x), h);
        assert_int_equal(at_narrow_half(-x), h | 0x8000);
        if (h + 1 == 0x7c00)
            continue;
        assert_int_equal(at_narrow_half((x + next) / 2), h % 2 ? h + 1 : h);
        assert_int_equal(at_narrow_half(nextafterf((x + next) / 2, next)), h + 1);
    }
    assert_int_equal(at_narrow_half(65519.0f), 0x7bff);
    assert_int_equal(at_narrow_half(65520.0f), 0x7c00);
}

static const struct {
    const char *name;
    uint8_t n, bytes[34];
} blocks[] = {
    { "Q8_0", 34, { 0x8f, 0x23, 0x81, 0x1e, 0xb8, 0x55, 0xef, 0x89, 0x26, 0xc1, 0x5d, 0xf8,
                    0x92, 0x2f, 0xc9, 0x66, 0x00, 0x9a, 0x37, 0xd1, 0x6e, 0x08, 0xa3, 0x3f,
                    0xda, 0x77, 0x11, 0xab, 0x48, 0xe2, 0x7f, 0x19, 0xb4, 0x50 } },
    { "Q4_0",
      18,
      { 0x80, 0x33, 0xb0, 0x5a, 0xf3, 0x9d, 0x27, 0xc1, 0x6a, 0xf4, 0x9e, 0x37, 0xd1, 0x6b, 0xf5,
        0xae, 0x38, 0xd2 } },
    { "Q4_1", 20, { 0x00, 0x34, 0x80, 0xbf, 0xb0, 0x59, 0xe3, 0x8d, 0x27, 0xb1,
                    0x5a, 0xf4, 0x9d, 0x37, 0xc1, 0x6a, 0xf4, 0x9e, 0x38, 0xc2 } },
    { "Q5_0", 22, { 0x80, 0x2f, 0x4a, 0x69, 0xad, 0xb5, 0x70, 0xa4, 0xe7, 0x1b, 0x4e,
                    0x81, 0xb5, 0xf8, 0x2c, 0x5f, 0x92, 0xc6, 0xf9, 0x3d, 0x60, 0xa3 } },
    { "Q5_1", 24, { 0xbe, 0x2f, 0x80, 0xbf, 0x4a, 0x69, 0xad, 0xb5, 0x60, 0xa3, 0xd7, 0x1a,
                    0x4d, 0x71, 0xb4, 0xe8, 0x2b, 0x5e, 0x82, 0xc5, 0xf9, 0x3c, 0x60, 0x93 } },
};

static void blocks_are_those_of_ggml(void **state)
{
    float x[32], zero[32] = { 0 };
    uint8_t out[34];

    (void)state;
    for (int i = 0; i < 32; i++)
        x[i] = (float)(i * 37 % 61 - 30) / 16;
    for (size_t i = 0; i < AT_COUNT(blocks); i++) {
        const struct at_format *f = at_format_find(blocks[i].name);
        assert_true(at_format_is_written(f));
        assert_int_equal(f->block_bytes, blocks[i].n);
        assert_int_equal(at_format_encode(out, f, x, 32, "w"), AT_OK);
        assert_memory_equal(out, blocks[i].bytes, blocks[i].n);
        /* half a step a value at most: of 32 values of up to 2 in 16 or 32 steps, or 255 */
        assert_true(at_format_rounding(f, out, x, 32) > 0);
        assert_true(at_format_rounding(f, out, x, 32) < 32 * 0.25 * 0.25 / (i ? 3 : 100));
        assert_int_equal(at_format_encode(out, f, zero, 32, "w"), AT_OK);
        assert_true(at_format_rounding(f, out, zero, 32) == 0);
        assert_int_equal(out[0] | (out[1] & 0x7f), 0); /* 0 / -8 is -0, there as here */
    }
}

enum { SUPERS = 28, SUPER = 256, VALUES = SUPERS * SUPER, MOST_BYTES = 210 };

/* Of normal values, zeros, constants, outliers, one sign, subnormal scales, ties (make_encode.py).
 */
static void fitted_blocks_are_those_of_llama_cpp(void **state)
{
    float x[VALUES], back[VALUES];
    uint8_t want[SUPERS * MOST_BYTES], got[SUPERS * MOST_BYTES];
    char name[9] = { 0 };
    uint32_t size = 0, n_types = 0;
    FILE *file = fopen(TEST_DIR "/unit/fixtures/encode.bin", "rb");

    (void)state;
    assert_non_null(file);
    assert_int_equal(fread(x, sizeof *x, VALUES, file), VALUES);
    for (; fread(name, 1, 8, file) == 8; n_types++) {
        const struct at_format *f = at_format_find(name);
        double error = 0;
        assert_true(f && at_format_is_written(f));
        assert_int_equal(fread(&size, sizeof size, 1, file), 1);
        assert_int_equal(size, f->block_bytes);
        const size_t n = VALUES / f->block_cols * size;
        assert_int_equal(fread(want, 1, n, file), n);
        assert_int_equal(at_format_encode(got, f, x, VALUES, "w"), AT_OK);
        for (size_t i = 0; i < n; i++)
            if (got[i] != want[i])
                fail_msg("%s: byte %zu of block %zu is %u, llama.cpp's %u", name, i % size,
                         i / size, got[i], want[i]);
        ref_quant_values(back, ref_quant_find(name), got, VALUES);
        for (size_t i = 0; i < VALUES; i++)
            error += ((double)back[i] - (double)x[i]) * ((double)back[i] - (double)x[i]);
        assert_true(fabs(at_format_rounding(f, got, x, VALUES) / error - 1) < 1e-6);
    }
    assert_int_equal(n_types, 7);
    fclose(file);
}

/* Changes of less than half a step are kept on average, none leaves the values; parts of a tensor
 * are as the whole. */
static void recoded_blocks_keep_small_changes(void **state)
{
    static const char *const names[] = { "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0",   "Q2_K",
                                         "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS" };
    const struct at_chance chance = { .seed = 3 }, later = { .seed = 3, .first = 2 * SUPER };
    struct at_code_places places;
    float x[VALUES], base[VALUES], moved[VALUES], back[VALUES];
    uint8_t whole[SUPERS * MOST_BYTES * 2], got[sizeof whole], part[sizeof whole];

    (void)state;
    for (int i = 0; i < VALUES; i++)
        x[i] = (float)(i * 7919 % 4093 - 2046) / 1024;
    for (size_t k = 0; k < AT_COUNT(names); k++) {
        const struct at_format *f = at_format_find(names[k]);
        const struct ref_quant *ref = ref_quant_find(names[k]);
        const size_t n_bytes = VALUES / f->block_cols * f->block_bytes;
        const size_t skip = (size_t)later.first / f->block_cols * f->block_bytes;
        double change = 0, kept = 0;
        at_code_places_find(&places, f);
        assert_int_equal(at_format_encode(whole, f, x, VALUES, "w"), AT_OK);
        ref_quant_values(base, ref, whole, VALUES);
        memcpy(got, whole, n_bytes);
        assert_int_equal(at_format_recode(got, f, base, VALUES, "w", &places, &chance), AT_OK);
        ref_quant_values(back, ref, got, VALUES);
        assert_memory_equal(back, base, sizeof back);
        for (int i = 0; i < VALUES; i++)
            moved[i] = base[i] + (float)(i % 3 - 1) / 16;
        assert_int_equal(at_format_recode(got, f, moved, VALUES, "w", &places, &chance), AT_OK);
        ref_quant_values(back, ref, got, VALUES);
        for (int i = 0; i < VALUES; i++) {
            change += (double)((moved[i] - base[i]) * (moved[i] - base[i]));
            kept += (double)((back[i] - base[i]) * (moved[i] - base[i]));
            assert_true(fabsf(back[i] - moved[i]) < 1.5f);
        }
        /* of a code at the end of its grid, half of the changes are cut */
        assert_true(kept / change > 0.7 && kept / change < 1.2);
        memcpy(part, whole, n_bytes);
        assert_int_equal(at_format_recode(part, f, base, VALUES, "w", &places, &chance), AT_OK);
        assert_int_equal(at_format_recode(part + skip, f, moved + later.first, VALUES - 2 * SUPER,
                                          "w", &places, &later),
                         AT_OK);
        assert_memory_equal(part + skip, got + skip, n_bytes - skip);
        moved[5] = 300; /* far outside the block's grid, which is made anew */
        assert_int_equal(at_format_recode(got, f, moved, VALUES, "w", &places, &chance), AT_OK);
        ref_quant_values(back, ref, got, VALUES);
        assert_true(fabsf(back[5] - 300) < 100);
        moved[5] = 3e9f;
        assert_int_equal(at_format_recode(got, f, moved, VALUES, "w", &places, &chance),
                         AT_NUMERIC);
        moved[5] = NAN;
        assert_int_equal(at_format_recode(got, f, moved, VALUES, "w", &places, &chance),
                         AT_NUMERIC);
    }
}

static void rows_that_are_not_whole_blocks_have_llama_cpps_type(void **state)
{
    static const struct {
        const char *type;
        uint64_t cols;
        const char *instead;
    } rows[] = {
        { "F16", 7, "F16" },         { "Q4_0", 64, "Q4_0" },      { "Q4_0", 48, "F16" },
        { "Q4_K", 512, "Q4_K" },     { "Q4_K", 576, "Q5_0" },     { "Q5_K", 576, "Q5_1" },
        { "Q6_K", 576, "Q8_0" },     { "Q2_K", 576, "Q4_0" },     { "Q3_K", 576, "Q4_0" },
        { "IQ4_XS", 576, "IQ4_NL" }, { "IQ4_NL", 576, "IQ4_NL" }, { "IQ4_XS", 300, "F16" },
    };

    (void)state;
    for (size_t i = 0; i < AT_COUNT(rows); i++)
        assert_string_equal(at_format_for_rows(at_format_find(rows[i].type), rows[i].cols)->name,
                            rows[i].instead);
}

static void what_a_type_cannot_hold_is_refused(void **state)
{
    static const char *const too_small[] = { "F16",  "Q8_0",   "Q4_0",  "Q4_1", "Q5_0",
                                             "Q5_1", "Q2_K",   "Q3_K",  "Q4_K", "Q5_K",
                                             "Q6_K", "IQ4_NL", "IQ4_XS" };
    static const float too_large[] = { 3e38f, -1e30f, 4e9f, 6e8f };
    float x[SUPER] = { 0 };
    uint8_t out[4 * SUPER];

    (void)state;
    for (size_t i = 0; i < AT_COUNT(too_small) * AT_COUNT(too_large); i++) {
        const char *name = too_small[i / AT_COUNT(too_large)];
        x[7] = too_large[i % AT_COUNT(too_large)];
        assert_int_equal(at_format_encode(out, at_format_find(name), x, SUPER, "w"), AT_NUMERIC);
        assert_non_null(strstr(at_message(), "tensor w holds values that are too large for"));
    }
    assert_int_equal(at_format_encode(out, at_format_find("BF16"), x, SUPER, "w"), AT_OK);
    x[7] = NAN;
    assert_int_equal(at_format_encode(out, at_format_find("Q4_K"), x, SUPER, "w"), AT_NUMERIC);
    assert_non_null(strstr(at_message(), "value 7 is NaN"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(halves_come_back_and_ties_go_to_even),
        cmocka_unit_test(blocks_are_those_of_ggml),
        cmocka_unit_test(fitted_blocks_are_those_of_llama_cpp),
        cmocka_unit_test(recoded_blocks_keep_small_changes),
        cmocka_unit_test(rows_that_are_not_whole_blocks_have_llama_cpps_type),
        cmocka_unit_test(what_a_type_cannot_hold_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
