/* links: base */
/* ref_quant = gguf-py on fixtures/quant.bin, bit for bit: what the GPU is compared with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ref_quant.h"

static void ref_quant_fixture_equals_gguf_py(void **state)
{
    FILE *file = fopen(TEST_DIR "/unit/fixtures/quant.bin", "rb");
    char name[9] = { 0 };
    uint32_t size[2];
    int n_types = 0;

    (void)state;
    assert_non_null(file);
    for (; fread(name, 8, 1, file) == 1; n_types++) {
        const struct ref_quant *quant = ref_quant_find(name);

        assert_non_null(quant);
        assert_int_equal(fread(size, sizeof size, 1, file), 1);
        uint8_t *blocks = malloc(size[1]);
        float *want = malloc(size[0] * sizeof *want), *got = malloc(size[0] * sizeof *got);

        assert_int_equal(fread(blocks, 1, size[1], file), size[1]);
        assert_int_equal(fread(want, sizeof *want, size[0], file), size[0]);
        ref_quant_values(got, quant, blocks, size[0]);
        for (size_t i = 0; i < size[0]; i++)
            if (memcmp(&got[i], &want[i], sizeof *got) != 0)
                fail_msg("%s[%zu]: got %.9g, want %.9g", name, i, (double)got[i], (double)want[i]);
        free(blocks);
        free(want);
        free(got);
    }
    assert_int_equal(n_types, 14);
    fclose(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(ref_quant_fixture_equals_gguf_py) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
