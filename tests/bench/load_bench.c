/* links: base gpu ops model */
/* Loading a model, measured beside reading its file.
 *   bench_load MODEL            medians of ROUNDS: reading the file with read() into fresh memory
 *                               and through 1 MiB, loading it (open, plan, memory, upload) on an
 *                               open device; with the file in the page cache and, for GGUF,
 *                               without; peak memory
 *   bench_load MODEL --values   a line for every tensor: its Hugging Face name and the BLAKE2b-256
 *                               of its values as the device has them (f32, row by row) */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hash.h"
#include "model.h"
#include "os.h"

enum { POSITIONS = 64, ROUNDS = 9, READ_BYTES = 1 << 20 };

struct loaded {
    struct at_gpu *gpu;
    struct at_weights *weights;
    struct at_pool *pool;
    struct at_model model;
};

static AT_CHECKED open_gpu(struct loaded *m)
{
    const struct at_gpu_params gpu = { .device = at_env("ATTUNE_DEVICE") };

    return at_gpu_open(&m->gpu, &gpu);
}

static AT_CHECKED load(struct loaded *m, const char *path)
{
    struct at_model_config config;
    enum at_status st = AT_OK;

    TRY(at_weights_open(&m->weights, path));
    TRY(at_model_config_read(&config, m->weights));
    TRY(at_pool_create(&m->pool, m->gpu, "model"));
    TRY(at_model_plan(&m->model, &config, m->weights, m->pool, NULL, POSITIONS, NULL));
    TRY(at_pool_commit(m->pool));
    TRY(at_model_upload(&m->model, m->gpu, 0));
done:
    return st;
}

static void unload(struct loaded *m)
{
    at_model_release(&m->model);
    at_pool_destroy(&m->pool);
    at_weights_close(&m->weights);
}

/* ---- times ---- */

/* Reads a file piece by piece into `to`, which has room for it all or, NULL, for nothing: through
 * one piece. */
static AT_CHECKED read_file(uint64_t *n, uint8_t *to, const char *path)
{
    static uint8_t piece[READ_BYTES];
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = 0;

    *n = 0;
    while (fd >= 0 && (got = read(fd, to ? to + *n : piece, READ_BYTES)) > 0)
        *n += (uint64_t)got;
    if (fd >= 0)
        close(fd);
    return fd < 0 || got < 0 ? at_fail(AT_IO, "%s: cannot be read", path) : AT_OK;
}

/* Seconds of a reading, and the file's size. */
static AT_CHECKED time_reading(double *time_s, uint64_t *n, const char *path, bool fresh)
{
    uint8_t *memory = NULL;
    enum at_status st = AT_OK;
    double begin_s = 0;

    if (*n == 0)
        TRY(read_file(n, NULL, path));
    begin_s = at_now_s();
    if (fresh)
        TRY(at_alloc(&memory, *n + READ_BYTES, 1));
    TRY(read_file(n, memory, path));
    *time_s = at_now_s() - begin_s;
done:
    at_free(&memory);
    return st;
}

/* Out of the page cache, if the system agrees. */
static void drop(const char *path)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return;
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double values[static ROUNDS])
{
    qsort(values, ROUNDS, sizeof *values, by_size);
    return values[ROUNDS / 2];
}

/* A round is two readings and a loading, each with the file's pages dropped before where `cold`. */
static AT_CHECKED measure(struct loaded *m, const char *path, bool is_file, bool cold)
{
    double reading_s[2][ROUNDS] = { { 0 } }, loading_s[ROUNDS], cpu_s[ROUNDS], load_s = 0;
    enum at_status st = AT_OK;
    uint64_t n = 0;

    for (uint32_t i = 0; i < ROUNDS; i++) {
        double begin_s = 0, begin_cpu_s = 0;
        for (uint32_t fresh = 0; fresh < 2 && is_file; fresh++) {
            if (cold && n > 0)
                drop(path);
            TRY(time_reading(&reading_s[fresh][i], &n, path, fresh));
        }
        if (cold)
            drop(path);
        begin_s = at_now_s();
        begin_cpu_s = at_cpu_s();
        TRY(load(m, path));
        loading_s[i] = at_now_s() - begin_s;
        cpu_s[i] = at_cpu_s() - begin_cpu_s;
        unload(m);
    }
    load_s = median(loading_s);
    printf("%s: loading %.3f s (%.3f s of processor time)", cold ? "from the disk" : "from memory",
           load_s, median(cpu_s));
    for (uint32_t fresh = 2; fresh-- > 0 && is_file;) {
        const double read_s = median(reading_s[fresh]);
        printf(", %s %.3f s (%.2f GB/s): %.2f times",
               fresh ? "reading it into memory" : "through 1 MiB", read_s, (double)n / read_s / 1e9,
               load_s / read_s);
    }
    printf("\n");
done:
    return st;
}

static AT_CHECKED measure_all(struct loaded *m, const char *path)
{
    const uint64_t before_bytes = at_memory_peak_bytes();
    enum at_status st = AT_OK;
    uint64_t after_bytes = 0;
    bool is_file = false;

    TRY(load(m, path));
    after_bytes = at_memory_peak_bytes();
    is_file = at_weights_is_gguf(m->weights);
    printf("device memory %.0f MiB; peak host memory %.0f MiB before, %.0f MiB after (with device "
           "memory where that is the host's)\n",
           (double)at_pool_bytes(m->pool) / 1048576, (double)before_bytes / 1048576,
           (double)after_bytes / 1048576);
    unload(m);
    TRY(measure(m, path, is_file, false));
    if (is_file)
        TRY(measure(m, path, is_file, true));
done:
    return st;
}

/* ---- values ---- */

static void print_hash(const char *name, uint32_t layer, const float *values, size_t n)
{
    const struct at_digest digest = at_hash_bytes(values, n * sizeof *values);

    printf(name, layer); /* a row of the family's table of names */
    printf(" %s\n", digest.hex);
}

static AT_CHECKED print_matrix(struct loaded *m, struct at_weight weight, uint32_t role,
                               uint32_t layer)
{
    enum at_status st = AT_OK;
    struct at_stream *stream = NULL;
    struct at_pool *pool = NULL;
    struct at_tensor out = { 0 };
    float *values = NULL;

    TRY(at_alloc(&values, (size_t)weight.rows * weight.cols, sizeof *values));
    TRY(at_pool_create(&pool, m->gpu, "values"));
    at_tensor_reserve(pool, &out, weight.rows, weight.cols, "values");
    TRY(at_pool_commit(pool));
    TRY(at_stream_create(&stream, m->gpu));
    at_dequantise(stream, out, weight);
    TRY(at_stream_wait(stream));
    TRY(at_tensor_read(m->gpu, values, out));
    print_hash(at_role_name(at_family_find("llama"), role), layer, values,
               (size_t)weight.rows * weight.cols);
done:
    at_stream_destroy(&stream);
    at_pool_destroy(&pool);
    at_free(&values);
    return st;
}

static AT_CHECKED print_vector(struct loaded *m, struct at_view view, uint32_t n, uint32_t role,
                               uint32_t layer)
{
    enum at_status st = AT_OK;
    float *values = NULL;

    TRY(at_alloc(&values, n, sizeof *values));
    TRY(at_gpu_read(m->gpu, values, view, n * sizeof *values));
    print_hash(at_role_name(at_family_find("llama"), role), layer, values, n);
done:
    at_free(&values);
    return st;
}

static AT_CHECKED print_values(struct loaded *m)
{
    const struct at_model_config *c = &m->model.config;
    enum at_status st = AT_OK;

    TRY(print_matrix(m, m->model.head, c->tied ? AT_EMBED : AT_HEAD, 0));
    TRY(print_vector(m, m->model.final_norm, c->C, AT_FINAL_NORM, 0));
    for (uint32_t l = 0; l < c->L; l++) {
        const struct at_layer *layer = &m->model.layers[l];

        for (uint32_t i = 0; i < AT_LINEARS; i++)
            TRY(print_matrix(m, layer->linear[i], AT_Q + i, l));
        for (uint32_t i = 0; i < AT_LINEARS; i++)
            if (c->biases >> i & 1)
                TRY(print_vector(m, layer->bias[i], layer->linear[i].rows, AT_Q_BIAS + i, l));
        TRY(print_vector(m, layer->attn_norm, c->C, AT_ATTN_NORM, l));
        TRY(print_vector(m, layer->mlp_norm, c->C, AT_MLP_NORM, l));
    }
done:
    return st;
}

int main(int n_args, char **args)
{
    const bool values = n_args == 3 && strcmp(args[2], "--values") == 0;
    enum at_status st = AT_OK;
    struct loaded m = { 0 };

    if (n_args != 2 && !values) {
        fprintf(stderr, "usage: bench_load MODEL [--values]\n");
        return 2;
    }
    TRY(open_gpu(&m));
    if (values) {
        TRY(load(&m, args[1]));
        TRY(print_values(&m));
    } else {
        TRY(measure_all(&m, args[1]));
    }
done:
    if (st != AT_OK)
        fprintf(stderr, "%s\n", at_message());
    unload(&m);
    at_gpu_close(&m.gpu);
    return st == AT_OK ? 0 : 1;
}
