/* links: base gpu ops model */
/* at_weight_upload then at_dequantise = the values of gguf-py, bit for bit, in any row order. */
#include "gpu_test.h"

#include <sys/stat.h>

#include "model_files.h"
#include "ref_quant.h"
#include "weights.h"

#define TMP BUILD_DIR "/test_tmp/upload"

struct order {
    uint64_t rows, mul;
};

/* A permutation when mul and rows have no common factor. */
static uint64_t scattered(const void *context, uint64_t i)
{
    const struct order *order = context;

    return i * order->mul % order->rows;
}

/* Random rows of a type in a mapped file, behind 7 bytes; halves are finite. */
static struct at_source make_source(struct at_map *map, const struct ref_quant *quant,
                                    uint32_t rows, uint32_t cols)
{
    const struct at_format *format = at_format_find(quant->name);
    const size_t row_bytes = cols / quant->block_cols * quant->block_bytes;
    const size_t n = 7 + rows * row_bytes;
    uint8_t *bytes = malloc(n);

    assert_non_null(bytes);
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)gt_random();
    ref_quant_tame(quant, bytes + 7, (n - 7) / quant->block_bytes);
    write_file(TMP "/rows", bytes, n);
    free(bytes);
    REQUIRE_OK(at_map_open(map, TMP "/rows"));
    return (struct at_source){ .name = "t",
                               .file = TMP "/rows",
                               .map = map,
                               .type_name = format->name,
                               .type = format->type,
                               .format = format,
                               .n_dims = 2,
                               .dim = { rows, cols },
                               .rows = rows,
                               .cols = cols,
                               .data = map->data + 7,
                               .n_bytes = rows * row_bytes,
                               .row_bytes = row_bytes };
}

static void check(struct gt *t, const struct ref_quant *quant, uint32_t rows, uint32_t cols,
                  const struct order *order)
{
    struct at_map map;
    const struct at_source source = make_source(&map, quant, rows, cols);
    struct at_weight weight = { 0 };
    struct at_tensor out = { 0 };
    float *got = gt_floats((size_t)rows * cols, 1), *want = gt_floats(cols, 1);

    gt_begin(t);
    at_weight_reserve(t->pool, &weight, source.type, rows, cols, "weight");
    at_tensor_reserve(t->pool, &out, rows, cols, "values");
    gt_commit(t);
    OK(at_weight_upload(t->gpu, weight, &source, order ? scattered : NULL, order));
    OK(at_stream_wait(at_gpu_transfer(t->gpu)));
    at_dequantise(t->stream, out, weight);
    OK(at_stream_wait(t->stream));
    OK(at_tensor_read(t->gpu, got, out));
    for (uint32_t r = 0; r < rows; r++) {
        const uint64_t from = order ? scattered(order, r) : r;

        ref_quant_values(want, quant, source.data + from * source.row_bytes, cols);
        for (uint32_t c = 0; c < cols; c++)
            if (memcmp(&got[(size_t)r * cols + c], &want[c], sizeof *want) != 0)
                fail_msg("%s: %s (%u,%u)[%u,%u]: got %.9g, want %.9g", t->setting, quant->name,
                         rows, cols, r, c, (double)got[(size_t)r * cols + c], (double)want[c]);
    }
    at_map_close(&map);
    free(got);
    free(want);
}

static void uploaded_weights_have_the_values_of_their_type(void **state)
{
    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        struct gt t;

        gt_open(&t, setting);
        for (size_t i = 0; i < ref_n_quants; i++) {
            const struct ref_quant *quant = &ref_quants[i];
            const uint32_t block = (uint32_t)quant->block_cols;

            if (!at_format_find(quant->name)) /* no GGUF file holds it */
                continue;
            check(&t, quant, 1, block, NULL);
            check(&t, quant, 70, block == 1 ? 37 : 3 * block, NULL);
            check(&t, quant, 131, block == 1 ? 64 : 256, &(struct order){ 131, 37 });
        }
        gt_close(&t);
    }
}

/* Pieces are 4 MiB of planes (AT_STAGE_BYTES): this weight takes five. */
static void weights_larger_than_a_piece_are_whole(void **state)
{
    struct gt t;

    (void)state;
    gt_open(&t, 0);
    check(&t, ref_quant_find("Q8_0"), 15901, 1024, NULL);
    check(&t, ref_quant_find("Q8_0"), 15901, 1024, &(struct order){ 15901, 37 });
    gt_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uploaded_weights_have_the_values_of_their_type),
        cmocka_unit_test(weights_larger_than_a_piece_are_whole),
    };

    (void)!mkdir(BUILD_DIR "/test_tmp", 0777);
    (void)!mkdir(TMP, 0777);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
