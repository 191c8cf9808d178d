/* links: base gpu ops model */
/* at_repack_rows = the planes of ref_quant byte for byte (and those give gguf-py's values: quant
 * and parity.quant), in any row order. */
#include "model_files.h"

#include "ref_quant.h"
#include "weights.h"

enum { ROWS = 7 };

static uint8_t *random_bytes(size_t n)
{
    static uint64_t state = 1;
    uint8_t *bytes = malloc(n);

    assert_non_null(bytes);
    for (size_t i = 0; i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        bytes[i] = (uint8_t)(state >> 56);
    }
    return bytes;
}

static uint64_t reversed(const void *context, uint64_t i)
{
    return *(const uint64_t *)context - 1 - i;
}

static struct at_source source_of(const struct at_format *format, uint64_t cols,
                                  const uint8_t *data)
{
    const uint64_t row_bytes = cols / format->block_cols * format->block_bytes;

    return (struct at_source){ .name = "t",
                               .file = "f",
                               .type_name = format->name,
                               .type = format->type,
                               .format = format,
                               .n_dims = 2,
                               .dim = { ROWS, cols },
                               .rows = ROWS,
                               .cols = cols,
                               .data = data,
                               .n_bytes = ROWS * row_bytes,
                               .row_bytes = row_bytes };
}

static void check(const struct ref_quant *quant, uint32_t cols)
{
    const size_t n_blocks = ROWS * cols / quant->block_cols;
    uint8_t *blocks = random_bytes(n_blocks * quant->block_bytes);
    const struct at_source source = source_of(at_format_find(quant->name), cols, blocks);
    const size_t stride0 = at_quant_row_bytes(source.type, 0, cols);
    const size_t stride1 =
        quant->scales ? at_quant_row_bytes(source.type, 1, cols) : 0; /* plain types have none */
    uint8_t *want0 = calloc(ROWS, stride0), *want1 = calloc(ROWS, stride1 + 1);
    uint8_t *got0 = random_bytes(ROWS * stride0), *got1 = random_bytes(ROWS * stride1 + 1);
    const uint64_t n = ROWS;

    assert_true(want0 && want1);
    ref_quant_tame(quant, blocks, n_blocks); /* no NaN, whose bits nobody promises */
    ref_quant_planes(want0, stride0, want1, stride1, quant, blocks, ROWS, cols);
    at_repack_rows(got0, stride1 > 0 ? got1 : NULL, &source, 0, ROWS, NULL, NULL);
    assert_memory_equal(got0, want0, ROWS * stride0);
    assert_memory_equal(got1, want1, ROWS * stride1);
    at_repack_rows(got0, stride1 > 0 ? got1 : NULL, &source, 2, 3, reversed, &n);
    for (size_t i = 0; i < 3; i++) {
        assert_memory_equal(got0 + i * stride0, want0 + (4 - i) * stride0, stride0);
        assert_memory_equal(got1 + i * stride1, want1 + (4 - i) * stride1, stride1);
    }
    assert_memory_equal(got0 + 3 * stride0, want0 + 3 * stride0, stride0); /* no row more */
    free(blocks);
    free(want0);
    free(want1);
    free(got0);
    free(got1);
}

static void planes_equal_the_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < ref_n_quants; i++) {
        const struct ref_quant *quant = &ref_quants[i];
        const uint32_t block = (uint32_t)quant->block_cols;

        if (!at_format_find(quant->name)) /* no GGUF file holds it */
            continue;
        check(quant, block);
        check(quant, block == 1 ? 37 : 3 * block);
    }
}

static void f32_rows_are_copied_and_padded(void **state)
{
    const float values[] = { 1, 2, 3, 4, 5, 6 };
    const struct at_source source = { .type = AT_F32,
                                      .format = at_format_find("F32"),
                                      .rows = 2,
                                      .cols = 3,
                                      .row_bytes = 12,
                                      .n_bytes = 24,
                                      .data = (const uint8_t *)values };
    const float want[] = { 1, 2, 3, 0, 4, 5, 6, 0 };
    float got[8] = { -1, -1, -1, -1, -1, -1, -1, -1 };

    (void)state;
    at_repack_rows((uint8_t *)got, NULL, &source, 0, 2, NULL, NULL);
    assert_memory_equal(got, want, sizeof want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(planes_equal_the_reference),
        cmocka_unit_test(f32_rows_are_copied_and_padded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
