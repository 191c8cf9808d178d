/* links: base gpu ops */
/* The launch layer: devices, pools, transfers, order, cutting, descriptors, submissions, times. */
#include "gpu_test.h"

#include "kernels.h"
#include "linear.h"
#include "os.h"

#include <unistd.h>

#define TMP BUILD_DIR "/test_tmp/gpu"

enum { N = 3 << 18 }; /* 3 MiB of floats: cut into pieces by a limit of 1 MiB */

/* A pool with `n` slots of `bytes`. */
struct bench {
    struct at_gpu *gpu;
    struct at_pool *pool;
    struct at_stream *stream;
    struct at_view slot[4];
};

static void bench_open(struct bench *b, struct at_gpu_params params, size_t n, uint64_t bytes)
{
    *b = (struct bench){ .gpu = gt_open_device(params) };
    OK(at_stream_create(&b->stream, b->gpu));
    OK(at_pool_create(&b->pool, b->gpu, "test"));
    for (size_t i = 0; i < n; i++)
        at_pool_reserve(b->pool, &b->slot[i], bytes, "slot");
    OK(at_pool_commit(b->pool));
}

static void bench_close(struct bench *b)
{
    at_stream_destroy(&b->stream);
    at_pool_destroy(&b->pool);
    assert_int_equal(at_gpu_validation_errors(b->gpu), 0);
    at_gpu_close(&b->gpu);
}

static void add(struct bench *b, struct at_view y, struct at_view x, uint32_t n)
{
    const struct add_bufs bufs = { .y = y, .x = x };
    const struct add_args args = { .n = n };

    at_launch_add(b->stream, &bufs, &args, (struct at_work){ .x = n, .y = 1, .z = 1 });
}

static void expect_message(enum at_status got, enum at_status want, const char *part)
{
    assert_int_equal(got, want);
    if (!strstr(at_message(), part))
        fail_msg("message \"%s\" does not say \"%s\"", at_message(), part);
}

/* ---- devices ---- */

static void list_orders_devices_by_preference(void **state)
{
    struct at_arena arena = { 0 };
    struct at_gpu_info *infos;
    size_t n;

    (void)state;
    OK(at_gpu_list(&arena, &infos, &n));
    assert_true(n > 0);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(infos[i].index, i);
        assert_true(i == 0 || infos[i - 1].type <= infos[i].type);
        assert_true(infos[i].vulkan_major > 1 || infos[i].vulkan_minor >= 2);
        assert_true(infos[i].subgroup >= 1 && infos[i].max_shared_bytes >= 16384);
        assert_true(infos[i].max_range_bytes >= 1 << 27 && infos[i].max_alloc_bytes >= 1 << 30);
        assert_true(infos[i].memory_bytes > 0 && infos[i].name[0] && infos[i].driver[0]);
    }
    at_arena_release(&arena);
}

static void open_by_number_or_part_of_name_finds_the_device(void **state)
{
    struct at_gpu_params params = { .device = "0" };
    struct at_gpu *gpu;
    char part[6] = "";

    (void)state;
    OK(at_gpu_open(&gpu, &params));
    assert_int_equal(at_gpu_get_info(gpu)->index, 0);
    for (size_t i = 0; i < 5; i++) /* the other case of each letter */
        part[i] = (char)(at_gpu_get_info(gpu)->name[i] ^ ' ');
    at_gpu_close(&gpu);
    assert_null(gpu);
    params.device = part;
    OK(at_gpu_open(&gpu, &params));
    at_gpu_close(&gpu);
}

/* 512 bits where the processor has them, which Mesa would not take by itself; else the user's
 * choice. */
static void llvmpipe_takes_the_widest_vectors(void **state)
{
    struct at_gpu *gpu = gt_open_device((struct at_gpu_params){ 0 });
    const char *width = at_env("LP_NATIVE_VECTOR_WIDTH");
    const unsigned bits = at_cpu_vector_bits();

    (void)state;
    if (strstr(at_gpu_get_info(gpu)->name, "llvmpipe") && bits > 0) {
        assert_true(width || bits < 512);
        assert_int_equal(at_gpu_get_info(gpu)->subgroup * 32,
                         width ? strtoul(width, NULL, 10) : bits);
    }
    at_gpu_close(&gpu);
}

static void open_of_an_unknown_name_lists_the_devices(void **state)
{
    const struct at_gpu_params params = { .device = "no such device" };
    struct at_gpu *gpu;

    (void)state;
    expect_message(at_gpu_open(&gpu, &params), AT_DEVICE,
                   "no device is called \"no such device\"; the devices are: 0 = ");
    assert_null(gpu);
}

static void open_without_a_driver_names_the_package(void **state)
{
    const char *const names[] = { "VK_ICD_FILENAMES", "VK_DRIVER_FILES" };
    const struct at_gpu_params params = { 0 };
    struct at_gpu *gpu;
    char *old[2];

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        old[i] = getenv(names[i]) ? strdup(getenv(names[i])) : NULL;
        setenv(names[i], "/nonexistent.json", 1);
    }
    expect_message(at_gpu_open(&gpu, &params), AT_DEVICE, "mesa-vulkan-drivers");
    for (size_t i = 0; i < 2; i++) {
        at_env_set(names[i], old[i]);
        free(old[i]);
    }
}

/* ---- memory ---- */

static void pool_slots_are_aligned_apart_and_zero(void **state)
{
    static const uint64_t sizes[] = { 1, 16, 255, 256, 257, 5000, 1 << 20 };
    struct at_view slots[AT_COUNT(sizes)];
    struct bench b;
    uint8_t bytes[256];

    (void)state;
    b = (struct bench){ .gpu = gt_open_device((struct at_gpu_params){ 0 }) };
    OK(at_pool_create(&b.pool, b.gpu, "test"));
    for (size_t i = 0; i < AT_COUNT(sizes); i++)
        at_pool_reserve(b.pool, &slots[i], sizes[i], "slot");
    assert_int_equal(at_pool_bytes(b.pool), 256 * 4 + 512 + 5120 + (1 << 20));
    OK(at_pool_commit(b.pool));
    for (size_t i = 0; i < AT_COUNT(sizes); i++) {
        assert_int_equal(slots[i].offset % 256, 0);
        assert_int_equal(slots[i].bytes, at_round_up(sizes[i], 16));
        memset(bytes, 0xff, sizeof bytes);
        OK(at_gpu_read(b.gpu, bytes, slots[i], sizes[i] < 256 ? sizes[i] : 256));
        for (size_t j = 0; j < sizes[i] && j < 256; j++)
            assert_int_equal(bytes[j], 0);
        for (size_t j = 0; j < i; j++)
            assert_true(slots[j].buffer != slots[i].buffer ||
                        slots[j].offset + sizes[j] <= slots[i].offset);
    }
    bench_close(&b);
}

/* Whether the system was asked for large pages where `at` lies. */
static bool asks_for_large_pages(const void *at)
{
    FILE *file = fopen("/proc/self/smaps", "re");
    char line[512];
    unsigned long long begin, end;
    bool inside = false, asks = false;

    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "%llx-%llx ", &begin, &end) == 2)
            inside = begin <= (uintptr_t)at && (uintptr_t)at < end;
        else if (inside && strncmp(line, "VmFlags:", 8) == 0)
            asks = strstr(line, " hg") != NULL;
    }
    fclose(file);
    return asks;
}

static void memory_of_a_cpu_device_is_in_large_pages(void **state)
{
    struct bench b;

    (void)state;
    if (access("/sys/kernel/mm/transparent_hugepage", F_OK) != 0) {
        print_message("skipped: this system has no large pages\n");
        skip();
    }
    bench_open(&b, (struct at_gpu_params){ 0 }, 1, 4 << 20);
    const uint8_t *bytes = at_view_bytes(b.slot[0]);

    const bool cpu = at_gpu_get_info(b.gpu)->type == AT_GPU_CPU;

    if (cpu)
        assert_true(asks_for_large_pages(bytes + (1 << 20)));
    bench_close(&b);
    if (!cpu) {
        print_message("skipped: of CPU devices alone\n");
        skip();
    }
}

static void pool_over_the_limit_says_asked_and_left(void **state)
{
    struct at_gpu *gpu = gt_open_device((struct at_gpu_params){ .memory_limit_bytes = 1 << 20 });
    struct at_view first, second;
    struct at_pool *pool, *more;

    (void)state;
    assert_int_equal(at_gpu_get_info(gpu)->memory_bytes, 1 << 20);
    OK(at_pool_create(&pool, gpu, "state"));
    at_pool_reserve(pool, &first, 1 << 19, "moments");
    OK(at_pool_commit(pool));
    OK(at_pool_create(&more, gpu, "slab"));
    at_pool_reserve(more, &second, (1 << 19) + 1, "logits");
    expect_message(at_pool_commit(more), AT_DEVICE_MEMORY, "memory pool slab needs 524544 bytes");
    expect_message(AT_OK, AT_OK, "has 524288 (0.5 MiB) left under device_memory_limit");
    at_pool_destroy(&more);
    at_pool_destroy(&pool);
    OK(at_pool_create(&pool, gpu, "again")); /* what was freed can be had again */
    at_pool_reserve(pool, &first, 1 << 20, "all");
    OK(at_pool_commit(pool));
    at_pool_destroy(&pool);
    at_gpu_close(&gpu);
}

static void pool_slot_over_the_allocation_limit_is_refused(void **state)
{
    struct at_gpu *gpu = gt_open_device((struct at_gpu_params){ 0 });
    struct at_pool *pool;
    struct at_view slot;

    (void)state;
    OK(at_pool_create(&pool, gpu, "frozen"));
    at_pool_reserve(pool, &slot, at_gpu_get_info(gpu)->max_alloc_bytes + 1, "embedding");
    expect_message(at_pool_commit(pool), AT_DEVICE_MEMORY, "embedding needs ");
    at_pool_destroy(&pool);
    at_gpu_close(&gpu);
}

/* ---- transfers ---- */

static void transfers_larger_than_the_staging_come_back_equal(void **state)
{
    const size_t n = (21 << 20) + 12, words = n / 4;
    uint32_t *in = malloc(n), *out = malloc(n);
    struct bench b;

    (void)state;
    bench_open(&b, (struct at_gpu_params){ 0 }, 2, n);
    for (size_t i = 0; i < words; i++)
        in[i] = (uint32_t)i * 2654435761u;
    OK(at_gpu_write(b.gpu, b.slot[0], in, n));
    OK(at_gpu_read(b.gpu, out, b.slot[0], n));
    assert_memory_equal(in, out, n);

    memset(out, 0, n);
    at_stream_upload(b.stream, b.slot[1], in, n);
    memset(in, 0, 64); /* was copied */
    at_stream_copy(b.stream, b.slot[1], at_view_part(b.slot[0], 64, 32), 32);
    at_stream_fill(b.stream, at_view_part(b.slot[1], 32, 16), 0xabcdef01);
    at_stream_download(b.stream, out, b.slot[1], n);
    OK(at_stream_wait(b.stream));
    for (size_t i = 0; i < words; i++)
        assert_int_equal(out[i], i < 8    ? (uint32_t)(i + 16) * 2654435761u
                                 : i < 12 ? 0xabcdef01
                                          : (uint32_t)i * 2654435761u);
    bench_close(&b);
    free(in);
    free(out);
}

/* ---- order ---- */

/* Fibonacci numbers: every launch needs the one before it. */
static void require_chain(struct at_gpu_params params)
{
    const float one = 1;
    struct bench b;
    float got[2];

    bench_open(&b, params, 2, 1024 * sizeof(float));
    at_stream_upload(b.stream, b.slot[0], &one, sizeof one);
    for (size_t i = 0; i < 16; i++) {
        add(&b, b.slot[1], b.slot[0], 1024);
        add(&b, b.slot[0], b.slot[1], 1024);
    }
    at_stream_download(b.stream, &got[0], b.slot[0], sizeof *got);
    at_stream_download(b.stream, &got[1], b.slot[1], sizeof *got);
    OK(at_stream_wait(b.stream));
    assert_true(got[0] == 3524578 && got[1] == 2178309);
    assert_int_equal(at_stream_barriers(b.stream), 33); /* each launch, and the downloads */
    bench_close(&b);
}

static void dependent_launches_are_ordered(void **state)
{
    (void)state;
    require_chain((struct at_gpu_params){ 0 });
}

static void descriptor_ring_gives_the_same(void **state)
{
    (void)state;
    require_chain((struct at_gpu_params){ .no_push_descriptors = true });
}

static void barriers_come_with_hazards_only(void **state)
{
    struct bench b;
    float out[4];

    (void)state;
    bench_open(&b, (struct at_gpu_params){ 0 }, 4, 4096 * sizeof(float));
    add(&b, b.slot[0], b.slot[3], 4096); /* two readers of slot 3, two writers apart */
    add(&b, b.slot[1], b.slot[3], 4096);
    assert_int_equal(at_stream_barriers(b.stream), 0);
    add(&b, at_view_part(b.slot[2], 0, 4096), at_view_part(b.slot[2], 4096, 4096), 1024);
    assert_int_equal(at_stream_barriers(b.stream), 0); /* the same buffer, other bytes */
    at_stream_fill(b.stream, b.slot[3], 7);            /* written after reads */
    assert_int_equal(at_stream_barriers(b.stream), 1);
    add(&b, b.slot[0], b.slot[1], 4096); /* what was pending is done */
    assert_int_equal(at_stream_barriers(b.stream), 1);
    add(&b, b.slot[2], b.slot[0], 4096); /* read after write */
    assert_int_equal(at_stream_barriers(b.stream), 2);
    at_stream_download(b.stream, out, b.slot[1], sizeof out); /* read after read */
    assert_int_equal(at_stream_barriers(b.stream), 2);
    at_stream_upload(b.stream, b.slot[1], out, sizeof out); /* write after the download's read */
    assert_int_equal(at_stream_barriers(b.stream), 3);
    OK(at_stream_wait(b.stream));
    bench_close(&b);
}

/* ---- cutting ---- */

/* y += x over N elements, then C = A B^T over N / 256 rows; `out` has N + N / 2 floats. */
static void run_cut(float *out, struct at_gpu_params params, uint64_t *launches)
{
    const uint32_t rows = N / 256;
    const struct gemm_args args = { .M = rows,
                                    .N = 128,
                                    .K = 256,
                                    .lda = 256,
                                    .ldb = 256,
                                    .ldc = 128,
                                    .alpha = 0.5f,
                                    .accumulate = 1 };
    float *x = malloc(N * sizeof *x);
    struct gemm_nt_bufs bufs;
    uint64_t submissions;
    struct bench b;

    bench_open(&b, params, 3, N * sizeof *x);
    for (size_t i = 0; i < N; i++)
        x[i] = (float)(i * 40503u % 8191) / 8191.0f - 0.5f;
    OK(at_gpu_write(b.gpu, b.slot[0], x, N * sizeof *x));
    OK(at_gpu_write(b.gpu, b.slot[1], x, N * sizeof *x / 2));
    add(&b, b.slot[0], b.slot[1], N);
    bufs = (struct gemm_nt_bufs){ .a = b.slot[0],
                                  .b = at_view_part(b.slot[1], 0, 128 * 256 * sizeof *x),
                                  .c = at_view_part(b.slot[2], 0, N / 2 * sizeof *x) };
    at_launch_gemm_nt(b.stream, &bufs, &args, (struct at_work){ .x = rows, .y = 128, .z = 1 });
    at_stream_download(b.stream, out, b.slot[0], N * sizeof *x);
    at_stream_download(b.stream, out + N, b.slot[2], N / 2 * sizeof *x);
    OK(at_stream_wait(b.stream));
    at_stream_counts(b.stream, launches, &submissions);
    bench_close(&b);
    free(x);
}

static void cut_launches_give_the_same_bits(void **state)
{
    static const struct {
        struct at_gpu_params params;
        size_t least, most; /* launches; where each is a row of tiles, these have 16 to 64 rows */
    } settings[] = {
        { { .max_range_bytes = 1 << 20 }, 3 + 2, 55 },
        { { .max_range_bytes = 1 << 20, .baseline_only = true }, 3 + 3, 56 },
        { { .max_range_bytes = (1 << 20) - 4096, .no_push_descriptors = true }, 4 + 2, 56 },
        { { .submission_flop = 1e5 }, 8 + 48, 8 + 192 },
        { { .submission_flop = 1e8, .baseline_only = true }, 1 + 3, 54 },
    };
    float *want = malloc(N * 6), *got = malloc(N * 6);
    uint64_t launches;

    (void)state;
    for (size_t i = 0; i < AT_COUNT(settings); i++) {
        run_cut(want, (struct at_gpu_params){ .baseline_only = settings[i].params.baseline_only },
                &launches);
        assert_int_equal(launches, 2);
        assert_true(want[5] != 0 && want[N + 5] != 0);
        memset(got, 0xff, N * 6);
        run_cut(got, settings[i].params, &launches);
        assert_memory_equal(got, want, N * 6);
        assert_in_range(launches, settings[i].least, settings[i].most);
    }
    free(want);
    free(got);
}

static void pieces_of_a_launch_need_no_barrier(void **state)
{
    uint64_t launches, submissions;
    struct bench b;

    (void)state;
    bench_open(&b, (struct at_gpu_params){ .max_range_bytes = 1 << 20 }, 2, N * sizeof(float));
    add(&b, b.slot[0], b.slot[1], N);
    at_stream_counts(b.stream, &launches, &submissions);
    assert_int_equal(launches, 3);
    assert_int_equal(at_stream_barriers(b.stream), 0);
    OK(at_stream_wait(b.stream));
    bench_close(&b);
}

static void empty_work_launches_nothing(void **state)
{
    const struct add_args args = { .n = 4 };
    struct add_bufs bufs;
    uint64_t launches, submissions;
    struct bench b;

    (void)state;
    bench_open(&b, (struct at_gpu_params){ 0 }, 1, 16);
    bufs = (struct add_bufs){ .y = b.slot[0], .x = b.slot[0] };
    at_launch_add(b.stream, &bufs, &args, (struct at_work){ .x = 0, .y = 1, .z = 1 });
    at_launch_add(b.stream, &bufs, &args, (struct at_work){ .x = 4, .y = 0, .z = 1 });
    at_launch_add(b.stream, &bufs, &args, (struct at_work){ .x = 4, .y = 1, .z = 0 });
    OK(at_stream_wait(b.stream));
    at_stream_counts(b.stream, &launches, &submissions);
    assert_int_equal(launches, 0);
    assert_int_equal(submissions, 0);
    bench_close(&b);
}

/* ---- submissions ---- */

static void the_stream_submits_when_the_budget_is_spent(void **state)
{
    uint64_t launches, submissions;
    struct bench b;

    (void)state;
    bench_open(&b, (struct at_gpu_params){ .submission_flop = 5 * 16384 }, 2, 1 << 16);
    for (size_t i = 0; i < 42; i++)
        add(&b, b.slot[0], b.slot[1], 16384);
    at_stream_counts(b.stream, &launches, &submissions);
    assert_int_equal(launches, 42);
    assert_int_equal(submissions, 8);
    OK(at_stream_submit(b.stream));
    at_stream_counts(b.stream, &launches, &submissions);
    assert_int_equal(submissions, 9);
    OK(at_stream_wait(b.stream)); /* nothing is left to submit */
    at_stream_counts(b.stream, &launches, &submissions);
    assert_int_equal(submissions, 9);
    bench_close(&b);
}

/* More launches, downloads and bytes than the ring of command buffers holds, and not one
 * allocation after the first round. */
static void the_ring_goes_round_without_allocating(void **state)
{
    enum { ROUNDS = 12000, OUT = 3000 };
    static float out[OUT];
    const float one = 1;
    struct bench b;

    (void)state;
    bench_open(&b, (struct at_gpu_params){ 0 }, 2, 64);
    at_stream_upload(b.stream, b.slot[1], &one, sizeof one);
    add(&b, b.slot[0], b.slot[1], 16);
    OK(at_stream_wait(b.stream));
    at_alloc_fail_at(1);
    for (size_t i = 1; i < ROUNDS; i++) {
        add(&b, b.slot[0], b.slot[1], 16);
        if (i % 4 == 0)
            at_stream_download(b.stream, &out[i / 4], b.slot[0], sizeof *out);
    }
    OK(at_stream_wait(b.stream));
    at_alloc_fail_at(0);
    for (size_t i = 1; i < OUT; i++)
        assert_true(out[i] == (float)(4 * i + 1));
    bench_close(&b);
}

/* ---- times ---- */

static void profile_sums_calls_by_kernel_and_shape(void **state)
{
    struct at_arena arena = { 0 };
    struct at_kernel_time *times;
    struct bench b;
    size_t n;

    (void)state;
    bench_open(&b, (struct at_gpu_params){ .profile = true, .max_range_bytes = 1 << 20 }, 2,
               N * sizeof(float));
    if (!at_gpu_get_info(b.gpu)->timestamps) {
        bench_close(&b);
        printf("no timestamps on this device\n");
        return;
    }
    for (size_t i = 0; i < 3; i++)
        add(&b, b.slot[0], b.slot[1], N);
    add(&b, b.slot[0], b.slot[1], N / 2);
    OK(at_stream_profile(b.stream, &arena, &times, &n));
    assert_int_equal(n, 2);
    assert_true(times[0].time_s >= times[1].time_s && times[1].time_s > 0 && times[0].time_s < 60);
    for (size_t i = 0; i < 2; i++) {
        const bool whole = strtoul(times[i].shape + 2, NULL, 10) == N;
        const double calls = whole ? 3 : 1;

        assert_string_equal(times[i].kernel, "add");
        assert_string_equal(times[i].variant, "baseline");
        assert_true((double)times[i].calls == calls);
        assert_memory_equal(times[i].shape, "n=", 2);
        assert_true(times[i].flop == calls * (whole ? N : N / 2));
        assert_true(times[i].bytes == 2 * calls * N * sizeof(float)); /* whole slots were bound */
    }
    OK(at_stream_profile(b.stream, &arena, &times, &n));
    assert_int_equal(n, 0);
    at_arena_release(&arena);
    bench_close(&b);
}

static void hollow_launches_change_nothing_but_the_counts(void **state)
{
    const float one = 1;
    uint64_t launches, submissions;
    struct bench b;
    float got;

    (void)state;
    bench_open(&b, (struct at_gpu_params){ 0 }, 2, 1024 * sizeof(float));
    at_stream_upload(b.stream, b.slot[0], &one, sizeof one);
    add(&b, b.slot[1], b.slot[0], 1024);
    OK(at_stream_hollow(b.stream, true));
    for (size_t i = 0; i < 3; i++)
        add(&b, b.slot[1], b.slot[0], 1024);
    OK(at_stream_hollow(b.stream, false));
    add(&b, b.slot[1], b.slot[0], 1024);
    at_stream_download(b.stream, &got, b.slot[1], sizeof got);
    OK(at_stream_wait(b.stream));
    at_stream_counts(b.stream, &launches, &submissions);
    assert_true(got == 2);
    assert_int_equal(launches, 5);
    assert_int_equal(submissions, 3);
    bench_close(&b);
}

/* ---- kernels ---- */

/* (rows,cols) = (rows,k) (cols,k)^T with a buffer for each, as large as the matrix. */
static void multiply(struct at_gpu *gpu, uint32_t rows, uint32_t cols, uint32_t k)
{
    const uint32_t dims[3][2] = { { rows, cols }, { rows, k }, { cols, k } };
    struct at_stream *stream;
    struct at_pool *pools[3];
    struct at_tensor t[3];

    OK(at_stream_create(&stream, gpu));
    for (int i = 0; i < 3; i++) {
        OK(at_pool_create(&pools[i], gpu, "matrix"));
        at_tensor_reserve(pools[i], &t[i], dims[i][0], dims[i][1], "matrix");
        OK(at_pool_commit(pools[i]));
    }
    at_matmul_nt(stream, t[0], t[1], t[2], 1, false);
    OK(at_stream_wait(stream));
    for (int i = 0; i < 3; i++)
        at_pool_destroy(&pools[i]);
    at_stream_destroy(&stream);
}

/* How many files the folders in `path` held; both are removed. */
static size_t take_files(const char *path)
{
    struct at_arena arena = { 0 };
    size_t n, n_files, all = 0;
    char **names, **files, *folder;

    OK(at_dir_list(&arena, &names, &n, path));
    for (size_t i = 0; i < n; i++) {
        OK(at_path_join(&arena, &folder, path, names[i]));
        if (!at_path_is_dir(folder))
            continue;
        OK(at_dir_list(&arena, &files, &n_files, folder));
        all += n_files;
        OK(at_dir_remove(folder));
    }
    at_arena_release(&arena);
    return all;
}

/* Seen in Mesa's cache of shaders, as its versions 22 lay it out: a file for each code that was
 * made. Among the sizes are multiples of 65,536 bytes and others, and powers of two, by themselves
 * and with the 768 bytes that buffers have behind. */
static void views_of_any_size_take_one_code_of_a_kernel(void **state)
{
    static const char variable[] = "MESA_SHADER_CACHE_DIR", cache[] = TMP "/mesa_shader_cache";
    struct at_arena arena = { 0 };
    struct at_gpu *gpu;
    char *before = NULL;
    uint32_t codes;
    bool counts;

    (void)state;
    if (at_env(variable))
        OK(at_arena_strdup(&arena, &before, at_env(variable)));
    OK(at_dir_create(cache));
    take_files(cache); /* of an earlier run */
    at_env_set(variable, TMP);
    /* Lanes that store by pairs are code of their own: the first size's alone. */
    for (enum at_stores stores = AT_STORES_ALL_LANES; stores <= AT_STORES_LOWER_LANES; stores++) {
        gpu = gt_open_device((struct at_gpu_params){ .validate = true, .stores = stores });
        counts = strstr(at_gpu_get_info(gpu)->driver, "llvmpipe Mesa 22.") &&
                 !at_env("MESA_SHADER_CACHE_DISABLE") &&
                 strcmp(at_env("ATTUNE_VALIDATE") ? at_env("ATTUNE_VALIDATE") : "", "sync") != 0;
        codes = at_gpu_get_info(gpu)->lower_lanes ? 2 : 1;
        multiply(gpu, 64, 256, 64);
        multiply(gpu, 63, 255, 20);
        multiply(gpu, 256, 253, 64);
        multiply(gpu, 253, 254, 64);
        assert_int_equal(at_gpu_validation_errors(gpu), 0);
        assert_int_equal(at_gpu_pipelines(gpu), codes);
        at_gpu_close(&gpu);
        if (counts)
            assert_int_equal(take_files(cache), codes);
    }
    at_env_set(variable, before);
    at_arena_release(&arena);
}

static void kernels_are_found_by_name(void **state)
{
    struct at_gpu *gpu = gt_open_device((struct at_gpu_params){ .baseline_only = true });

    (void)state;
    assert_int_equal(at_kernel_find("add"), AT_KERNEL_add);
    assert_int_equal(at_kernel_find("loss_sigmoid"), AT_KERNEL_loss_sigmoid);
    assert_int_equal(at_kernel_find("loss_"), UINT32_MAX);
    assert_string_equal(at_kernel_variant(gpu, AT_KERNEL_gemm_nt, (struct at_work){ 0 }),
                        "baseline");
    at_gpu_close(&gpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(list_orders_devices_by_preference),
        cmocka_unit_test(open_by_number_or_part_of_name_finds_the_device),
        cmocka_unit_test(llvmpipe_takes_the_widest_vectors),
        cmocka_unit_test(open_of_an_unknown_name_lists_the_devices),
        cmocka_unit_test(open_without_a_driver_names_the_package),
        cmocka_unit_test(pool_slots_are_aligned_apart_and_zero),
        cmocka_unit_test(memory_of_a_cpu_device_is_in_large_pages),
        cmocka_unit_test(pool_over_the_limit_says_asked_and_left),
        cmocka_unit_test(pool_slot_over_the_allocation_limit_is_refused),
        cmocka_unit_test(transfers_larger_than_the_staging_come_back_equal),
        cmocka_unit_test(dependent_launches_are_ordered),
        cmocka_unit_test(descriptor_ring_gives_the_same),
        cmocka_unit_test(barriers_come_with_hazards_only),
        cmocka_unit_test(cut_launches_give_the_same_bits),
        cmocka_unit_test(pieces_of_a_launch_need_no_barrier),
        cmocka_unit_test(empty_work_launches_nothing),
        cmocka_unit_test(the_stream_submits_when_the_budget_is_spent),
        cmocka_unit_test(the_ring_goes_round_without_allocating),
        cmocka_unit_test(profile_sums_calls_by_kernel_and_shape),
        cmocka_unit_test(hollow_launches_change_nothing_but_the_counts),
        cmocka_unit_test(views_of_any_size_take_one_code_of_a_kernel),
        cmocka_unit_test(kernels_are_found_by_name),
    };

    struct at_gpu *gpu = gt_open_device((struct at_gpu_params){ 0 }); /* or the test is skipped */

    at_gpu_close(&gpu);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
