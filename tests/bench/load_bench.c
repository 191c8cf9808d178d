/* links: base gpu ops model */
/* Loading a model, measured beside reading its file.
 *   bench_load MODEL            seconds, GB/s and peak memory of each part
 *   bench_load MODEL --values   a line for every tensor: its Hugging Face name and the BLAKE2b-256
 *                               of its values as the device has them (f32, row by row) */
#include <stdio.h>
#include <string.h>

#include "hash.h"
#include "model.h"
#include "os.h"

enum { POSITIONS = 64 };

struct loaded {
    struct at_gpu *gpu;
    struct at_weights *weights;
    struct at_pool *pool;
    struct at_model model;
};

/* Seconds that reading every byte of the file takes, and its size. */
static AT_CHECKED read_file(double *time_s, size_t *n, const char *path)
{
    const double begin_s = at_now_s();
    enum at_status st = AT_OK;
    struct at_map map;
    uint64_t sum = 0, word = 0;

    TRY(at_map_open(&map, path));
    for (size_t i = 0; i + sizeof word <= map.n; i += sizeof word) {
        memcpy(&word, map.data + i, sizeof word);
        sum += word;
    }
    *n = map.n;
    at_map_close(&map);
    *time_s = at_now_s() - begin_s;
    if (sum == 0) /* so that the sum is needed */
        printf("%s holds zeros only\n", path);
done:
    return st;
}

static AT_CHECKED load(struct loaded *m, const char *path, bool measure)
{
    const struct at_gpu_params gpu = { .device = at_env("ATTUNE_DEVICE") };
    struct at_model_config config;
    enum at_status st = AT_OK;
    double wall_s[4] = { at_now_s() }, cpu_s = 0;
    uint64_t before_bytes = 0;

    TRY(at_weights_open(&m->weights, path));
    TRY(at_model_config_read(&config, m->weights));
    wall_s[1] = at_now_s();
    TRY(at_gpu_open(&m->gpu, &gpu));
    TRY(at_pool_create(&m->pool, m->gpu, "model"));
    TRY(at_model_plan(&m->model, &config, m->weights, m->pool, NULL, POSITIONS, NULL));
    TRY(at_pool_commit(m->pool));
    wall_s[2] = at_now_s();
    cpu_s = at_cpu_s();
    before_bytes = at_memory_peak_bytes();
    TRY(at_model_upload(&m->model, m->gpu, 0));
    wall_s[3] = at_now_s();
    if (measure)
        printf("open %.3f s, device and memory %.3f s, upload %.3f s (%.3f s of processor time) of "
               "%.0f MiB; peak memory %.0f MiB before the upload, %.0f MiB after\n",
               wall_s[1] - wall_s[0], wall_s[2] - wall_s[1], wall_s[3] - wall_s[2],
               at_cpu_s() - cpu_s, (double)at_pool_bytes(m->pool) / 1048576,
               (double)before_bytes / 1048576, (double)at_memory_peak_bytes() / 1048576);
done:
    return st;
}

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
    double time_s = 0;
    size_t n = 0;

    if (n_args != 2 && !values) {
        fprintf(stderr, "usage: bench_load MODEL [--values]\n");
        return 2;
    }
    TRY(load(&m, args[1], !values));
    if (values) {
        TRY(print_values(&m));
    } else if (at_weights_is_gguf(m.weights)) {
        TRY(read_file(&time_s, &n, args[1]));
        printf("reading the file, %.0f MiB: %.3f s (%.2f GB/s)\n", (double)n / 1048576, time_s,
               (double)n / time_s / 1e9);
    }
done:
    if (st != AT_OK)
        fprintf(stderr, "%s\n", at_message());
    at_model_release(&m.model);
    at_pool_destroy(&m.pool);
    at_gpu_close(&m.gpu);
    at_weights_close(&m.weights);
    return st == AT_OK ? 0 : 1;
}
