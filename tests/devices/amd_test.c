/* links: base gpu */
/* AMD without a card: Mesa's RADV compiles every kernel for each generation on its null device,
 * and its own numbers are printed. A spilled vector register or scratch memory fails: such a kernel
 * is several times slower than it looks. The null device computes nothing; results are not tested.
 */
#include "kernels.h"
#include "os.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* cmocka wants its includes before it */
#include <cmocka.h>

static const char *const drivers[] = { "/usr/share/vulkan/icd.d/radeon_icd.x86_64.json",
                                       "/usr/share/vulkan/icd.d/radeon_icd.json" };

/* By age. RADV ends the process at a name that it does not know; RDNA3's has changed. */
static const struct family {
    const char *name;
    unsigned from, to; /* Mesa's major versions with this name */
} families[] = {
    { "polaris10", 0, 99 }, { "vega10", 0, 99 },  { "navi10", 0, 99 },   { "navi21", 0, 99 },
    { "gfx1100", 0, 22 },   { "navi31", 23, 99 }, { "phoenix", 23, 99 }, { "gfx1200", 25, 99 },
};
static int n_compiled; /* families */
static unsigned mesa;  /* its major version, once a family has been opened */

/* Lanes, and the matrices that they multiply, of those that have matrix units. */
#define MATRIX 32, 16, 16, 16
/* Specialisation constants in use: head width (64 in small models, 128 in large ones, 96 and 256
 * for what is special) and, in attention, query heads a kv head, windows and soft-caps; soft-caps
 * of logits; GELU. Further ones are a variant's. */
static const struct spec {
    const char *kernel;
    uint32_t n, value[9];
} specs[] = {
    { "attention_bwd_kv", 9, { 64, 3, 0, 0, MATRIX, 128 } },
    { "attention_bwd_kv", 9, { 96, 1, 0, 0, MATRIX, 128 } },
    { "attention_bwd_kv", 9, { 128, 7, 0, 0, MATRIX, 128 } },
    { "attention_bwd_kv", 9, { 256, 8, 0, 0, MATRIX, 128 } },
    { "attention_bwd_kv", 9, { 256, 2, 1, 1, MATRIX, 128 } },
    { "attention_bwd_q", 9, { 64, 3, 0, 0, MATRIX, 128 } },
    { "attention_bwd_q", 9, { 96, 1, 0, 0, MATRIX, 128 } },
    { "attention_bwd_q", 9, { 128, 7, 0, 0, MATRIX, 128 } },
    { "attention_bwd_q", 9, { 256, 8, 0, 0, MATRIX, 128 } },
    { "attention_bwd_q", 9, { 256, 2, 1, 1, MATRIX, 128 } },
    { "attention_bwd_sum", 1, { 64 } },
    { "attention_bwd_sum", 1, { 128 } },
    { "attention_fwd", 9, { 64, 3, 0, 0, MATRIX, 128 } },
    { "attention_fwd", 9, { 96, 1, 0, 0, MATRIX, 128 } },
    { "attention_fwd", 9, { 128, 7, 0, 0, MATRIX, 128 } },
    { "attention_fwd", 9, { 256, 8, 0, 0, MATRIX, 128 } },
    { "attention_fwd", 9, { 256, 2, 1, 1, MATRIX, 128 } },
    { "gemm_bf16_nn", 7, { MATRIX, 256, 64, 32 } },
    { "gemm_bf16_nt", 7, { MATRIX, 256, 64, 32 } },
    { "gemm_half_nn", 7, { MATRIX, 256, 64, 32 } },
    { "gemm_half_nt", 7, { MATRIX, 256, 64, 32 } },
    { "head_chunk", 2, { 0, 0 } },
    { "head_chunk", 2, { 0, 1 } },
    { "head_chunk", 2, { 1, 1 } },
    { "head_finish", 1, { 0 } },
    { "head_finish", 1, { 1 } },
    { "head_grad", 1, { 0 } },
    { "head_grad", 1, { 1 } },
    { "pack_rows", 1, { 0 } },
    { "pack_rows", 1, { 1 } },
    { "peak_multiply", 6, { MATRIX, 256, 0 } },
    { "rope", 1, { 64 } },
    { "rope", 1, { 128 } },
    { "sample_rows", 1, { 0 } },
    { "sample_rows", 1, { 1 } },
    { "swiglu_bwd", 1, { 0 } },
    { "swiglu_bwd", 1, { 1 } },
    { "swiglu_fwd", 1, { 0 } },
    { "swiglu_fwd", 1, { 1 } },
};

static const char *const kernel_names[] = {
#define KERNEL(name, file, defines, args, buffers, units, cut, flop) #name,
#define VARIANT(kernel, name, file, defines, needs, bindings, units)
#include "kernels.def"
#undef KERNEL
#undef VARIANT
};

/* What is printed, under the names that RADV has for it. */
enum { VGPRS, SPILLED, SCRATCH, LDS, OCCUPANCY, INSTRUCTIONS, LATENCY, INVERSE, COLUMNS };
static const char *const columns[COLUMNS] = {
    [VGPRS] = "VGPRs",     [SPILLED] = "Spilled VGPRs",        [SCRATCH] = "Scratch size",
    [LDS] = "LDS size",    [OCCUPANCY] = "Subgroups per SIMD", [INSTRUCTIONS] = "Instructions",
    [LATENCY] = "Latency", [INVERSE] = "Inverse Throughput",
};

/* Number of specialisation constants in a module's SPIR-V: decorations SpecId. Constant 0, the
 * workgroup of kernels that take a row at a time, is not a launch's and does not count. */
static uint32_t count_spec_constants(const char *module)
{
    enum { HEADER_WORDS = 5, OP_DECORATE = 71, SPEC_ID = 1 };
    struct at_buf file = { 0 };
    char path[512];
    uint32_t word[4], n = 0;

    snprintf(path, sizeof path, "%s/spirv/%s.spv", BUILD_DIR, module);
    if (at_file_read(&file, path) != AT_OK)
        fail_msg("%s", at_message());
    for (size_t at = HEADER_WORDS * sizeof word[0]; at + sizeof word <= file.n;) {
        memcpy(word, file.data + at, sizeof word);
        if ((word[0] & 0xffff) == OP_DECORATE && word[2] == SPEC_ID && word[3] > 0)
            n++;
        assert_true(word[0] >> 16 > 0);
        at += (word[0] >> 16) * sizeof word[0];
    }
    at_buf_release(&file);
    return n;
}

/* Prints a row; the number of complaints about it. */
static int report(struct at_gpu *gpu, const char *kernel, struct at_work work)
{
    const uint32_t number = at_kernel_find(kernel);
    double value[COLUMNS];
    struct at_arena arena = { 0 };
    struct at_kernel_statistic *statistics;
    char name[96];
    size_t n;
    int bad = 0;

    if (at_kernel_statistics(&arena, &statistics, &n, gpu, number, work) != AT_OK)
        fail_msg("%s: %s", kernel, at_message());
    for (size_t c = 0; c < COLUMNS; c++) {
        size_t i = 0;

        while (i < n && strcmp(statistics[i].name, columns[c]) != 0)
            i++;
        if (i == n)
            fail_msg("%s: the driver does not tell \"%s\"", kernel, columns[c]);
        value[c] = statistics[i].value;
    }
    snprintf(name, sizeof name, "%s %s", kernel, at_kernel_variant(gpu, number, work));
    for (uint32_t i = 0; i < work.n_spec; i++)
        snprintf(name + strlen(name), sizeof name - strlen(name), " %u", work.spec[i]);
    bad = value[SPILLED] > 0 || value[SCRATCH] > 0;
    printf("  %-36s %5.0f %7.0f %7.0f %6.0f %9.0f %6.0f %7.0f %7.0f%s\n", name, value[VGPRS],
           value[SPILLED], value[SCRATCH], value[LDS], value[OCCUPANCY], value[INSTRUCTIONS],
           value[LATENCY], value[INVERSE], bad ? "  SPILLS" : "");
    at_arena_release(&arena);
    return bad;
}

static int report_kernel(struct at_gpu *gpu, const char *kernel)
{
    const uint32_t n_spec = count_spec_constants(kernel);
    struct at_work work = { .x = 1, .y = 1, .z = 1 };
    int bad = 0, rows = 0;

    for (size_t i = 0; i < AT_COUNT(specs); i++)
        if (strcmp(kernel, specs[i].kernel) == 0) {
            assert_true(specs[i].n >= n_spec);
            work.n_spec = specs[i].n;
            memcpy(work.spec, specs[i].value, sizeof specs[i].value);
            bad += report(gpu, kernel, work);
            rows++;
        }
    if (rows == 0 && n_spec == 0)
        return report(gpu, kernel, work);
    if (rows == 0)
        fail_msg("%s has %u specialisation constants, but no row of specs[] here", kernel, n_spec);
    return bad;
}

/* Reports every kernel once: its baseline, or only those that have a variant for this device. */
static int report_all(struct at_gpu *gpu, bool variants)
{
    const struct at_work any = { .x = 1, .y = 1, .z = 1, .spec = { 64, 3 } };
    int bad = 0;

    for (size_t i = 0; i < AT_COUNT(kernel_names); i++) {
        const uint32_t number = at_kernel_find(kernel_names[i]);

        if (!variants || strcmp(at_kernel_variant(gpu, number, any), "baseline") != 0)
            bad += report_kernel(gpu, kernel_names[i]);
    }
    return bad;
}

static void family_has_no_spills(void **state)
{
    const struct family *const row = *state;
    const char *const family = row->name;
    int bad = 0;

    if (mesa < row->from || mesa > row->to) {
        printf("Mesa %u has no %s\n", mesa, family);
        skip();
    }
    at_env_set("RADV_FORCE_FAMILY", family);
    for (int variants = 0; variants < 2; variants++) {
        const struct at_gpu_params params = { .baseline_only = !variants,
                                              .halves = variants,
                                              .compile_only = true };
        const char *version;
        struct at_gpu *gpu;

        if (at_gpu_open(&gpu, &params) == AT_DEVICE && strstr(at_message(), "no device offers")) {
            printf("skipped: this driver does not know %s\n", family);
            skip();
        }
        if (!gpu)
            fail_msg("%s: %s", family, at_message());
        if (!strstr(at_gpu_get_info(gpu)->name, "RADV"))
            fail_msg("%s: the device is %s", family, at_gpu_get_info(gpu)->name);
        version = strstr(at_gpu_get_info(gpu)->driver, "Mesa ");
        if (version)
            mesa = (unsigned)strtoul(version + 5, NULL, 10);
        if (!variants)
            printf("%s, %s\n  %-36s VGPRs spilled scratch    LDS sub./SIMD instr. latency inverse "
                   "throughput\n",
                   at_gpu_get_info(gpu)->name, at_gpu_get_info(gpu)->driver,
                   "kernel, variant, constants");
        bad += report_all(gpu, variants);
        assert_int_equal(at_gpu_validation_errors(gpu), 0);
        at_gpu_close(&gpu);
    }
    if (bad > 0)
        fail_msg("%s: %d kernels spill", family, bad);
    n_compiled++;
}

int main(void)
{
    struct CMUnitTest tests[AT_COUNT(families)];
    const char *driver = NULL;
    int failed;

    for (size_t i = 0; i < AT_COUNT(drivers); i++)
        if (!driver && at_path_exists(drivers[i]))
            driver = drivers[i];
    if (!driver) {
        printf("skipped: Mesa's RADV driver is not installed\n");
        return 125;
    }
    at_env_set("VK_ICD_FILENAMES", driver);
    at_env_set("VK_DRIVER_FILES", NULL);
    for (size_t i = 0; i < AT_COUNT(families); i++)
        tests[i] = (struct CMUnitTest){ .name = families[i].name,
                                        .test_func = family_has_no_spills,
                                        .initial_state = (void *)&families[i] };
    failed = cmocka_run_group_tests_name("amd", tests, NULL, NULL);
    return failed == 0 && n_compiled == 0 ? 125 : failed;
}
