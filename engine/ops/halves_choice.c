#include "halves_choice.h"

#include "attention.h"
#include "hash.h"
#include "json.h"
#include "kernels.h"
#include "linear.h"
#include "os.h"

#include <math.h>
#include <string.h>

enum { VERSION = 2, ROWS = 512, ROUNDS = 3 };
/* Of a product's norm: rounding to halves gives 4e-4 at random, to bf16 3e-3, wrong units give 1.
 * Attention's gradients are products of rounded products, and differences of them. */
static const double halves_apart = 2e-3, bf16_apart = 1.6e-2, attention_apart = 1e-2;

/* What is multiplied: x (ROWS, cols) with w (rows, cols), y (ROWS, rows) with w and with x, both
 * ways. */
struct trial {
    struct at_pool *pool;
    struct at_stream *stream;
    struct at_tensor x, w, y, dx, dw, y_half, dx_half, dw_half;
    struct at_halves halves;
};

/* Attention forward and backward over one sequence of ROWS tokens, in f32 and with halves. */
enum { Q, K, V, DO, INPUTS, O = 0, DQ, DK, DV, OUTPUTS };
struct attention_trial {
    struct at_pool *pool;
    struct at_stream *stream;
    struct at_tensor in[INPUTS], out[2][OUTPUTS];
    struct at_view lse, scratch;
    struct at_attention p;
};

/* One way of computing against the other. */
struct times {
    double f32_s, halves_s; /* of all shapes */
};
struct verdict {
    bool halves, attention;
    struct times products, scores;
};

/* ---- measuring ---- */

static AT_CHECKED fill(struct at_gpu *gpu, struct at_tensor t, uint64_t seed)
{
    const size_t n = (size_t)t.dim[0] * t.dim[1];
    enum at_status st = AT_OK;
    float *values = NULL;

    TRY(at_alloc(&values, n, sizeof *values));
    for (size_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        values[i] = (float)(seed >> 40) / (float)(1u << 24) - 0.5f;
    }
    TRY(at_tensor_write(gpu, t, values));
done:
    at_free(&values);
    return st;
}

static AT_CHECKED prepare(struct trial *t, struct at_gpu *gpu, struct at_weight_shape shape)
{
    struct at_halves_need need = { 0 };
    enum at_status st;

    *t = (struct trial){ 0 };
    TRY(at_pool_create(&t->pool, gpu, "timing of kernels"));
    TRY(at_stream_create(&t->stream, gpu));
    at_tensor_reserve(t->pool, &t->x, ROWS, shape.cols, "x");
    at_tensor_reserve(t->pool, &t->w, shape.rows, shape.cols, "w");
    at_tensor_reserve(t->pool, &t->y, ROWS, shape.rows, "y");
    at_tensor_reserve(t->pool, &t->dx, ROWS, shape.cols, "dx");
    at_tensor_reserve(t->pool, &t->y_half, ROWS, shape.rows, "y");
    at_tensor_reserve(t->pool, &t->dx_half, ROWS, shape.cols, "dx");
    at_tensor_reserve(t->pool, &t->dw, shape.rows, shape.cols, "dw");
    at_tensor_reserve(t->pool, &t->dw_half, shape.rows, shape.cols, "dw");
    at_halves_add(&need, ROWS, shape.rows, shape.cols);
    at_halves_add_tn(&need, ROWS, shape.rows, shape.cols);
    at_halves_reserve(t->pool, &t->halves, &need);
    TRY(at_pool_commit(t->pool));
    TRY(fill(gpu, t->x, 1));
    TRY(fill(gpu, t->w, 2));
done:
    return st;
}

static void products(struct trial *t, bool halves)
{
    if (halves) {
        at_halves_nt(t->stream, t->y_half, 0, t->x, t->w, false, &t->halves);
        at_halves_nn(t->stream, t->dx_half, t->y, 0, t->w, false, &t->halves);
    } else {
        at_matmul_nt(t->stream, t->y, t->x, t->w, 1, false);
        at_matmul_nn(t->stream, t->dx, t->y, t->w, 1, false);
    }
}

/* Seconds of one round, the first of which (compilation) does not count. */
static AT_CHECKED time_products(double *out_s, struct trial *t, bool halves)
{
    enum at_status st;
    double begin;

    products(t, halves);
    TRY(at_stream_wait(t->stream));
    begin = at_now_s();
    for (int i = 0; i < ROUNDS; i++)
        products(t, halves);
    TRY(at_stream_wait(t->stream));
    *out_s = (at_now_s() - begin) / ROUNDS;
done:
    return st;
}

/* Whether `got` lies within `allowed` of `want`, by norms. */
static AT_CHECKED check(bool *out, struct at_gpu *gpu, struct at_tensor want, struct at_tensor got,
                        double allowed)
{
    const size_t n = (size_t)want.dim[0] * want.dim[1];
    double difference = 0, norm = 0;
    float *a = NULL, *b = NULL;
    enum at_status st;

    TRY(at_alloc(&a, n, sizeof *a));
    TRY(at_alloc(&b, n, sizeof *b));
    TRY(at_tensor_read(gpu, a, want));
    TRY(at_tensor_read(gpu, b, got));
    for (size_t i = 0; i < n; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)a[i] * a[i];
    }
    *out = sqrt(difference) <= allowed * sqrt(norm); /* false of a NaN */
done:
    at_free(&a);
    at_free(&b);
    return st;
}

static void warn_wrong(struct at_gpu *gpu, const char *what, uint32_t a, uint32_t b)
{
    at_warn("wrong_matrix_units",
            "%s, driver %s: its matrix units compute %s of %u x %u wrongly; "
            "they are not used for that",
            at_gpu_get_info(gpu)->name, at_gpu_get_info(gpu)->driver, what, a, b);
}

/* The weight's gradients, which have no part in the choice, but must be right. */
static void gradients(struct trial *t)
{
    at_halves_tn(t->stream, t->dw_half, t->y, t->x, &t->halves);
    at_matmul_tn(t->stream, t->dw, t->y, t->x, 1, true);
}

/* Adds one shape's times to the verdict, or ends it where the products are wrong. */
static AT_CHECKED try_shape(struct verdict *v, struct at_gpu *gpu, struct at_weight_shape shape)
{
    double f32_s = 0, halves_s = 0;
    const double apart = at_gpu_get_info(gpu)->bf16 ? bf16_apart : halves_apart;
    bool y_right = false, dx_right = false, dw_right = false;
    enum at_status st;
    struct trial t;

    TRY(prepare(&t, gpu, shape));
    TRY(time_products(&f32_s, &t, false));
    TRY(time_products(&halves_s, &t, true));
    gradients(&t);
    TRY(at_stream_wait(t.stream));
    TRY(check(&y_right, gpu, t.y, t.y_half, apart));
    TRY(check(&dx_right, gpu, t.dx, t.dx_half, apart));
    TRY(check(&dw_right, gpu, t.dw, t.dw_half, apart));
    v->products.f32_s += f32_s;
    v->products.halves_s += halves_s;
    if (!y_right || !dx_right || !dw_right) {
        v->halves = false;
        warn_wrong(gpu, "products with weights", shape.rows, shape.cols);
    }
done:
    at_stream_destroy(&t.stream);
    at_pool_destroy(&t.pool);
    return st;
}

/* ---- attention ---- */

static AT_CHECKED fill_intervals(struct at_gpu *gpu, const struct at_attention *p)
{
    int32_t intervals[ROWS][4], query_end[ROWS];
    enum at_status st;

    for (int32_t t = 0; t < ROWS; t++) {
        const int32_t reads[4] = { 0, 0, 0, t + 1 };

        memcpy(intervals[t], reads, sizeof reads);
        query_end[t] = ROWS;
    }
    TRY(at_gpu_write(gpu, p->intervals, intervals, sizeof intervals));
    TRY(at_gpu_write(gpu, p->query_end, query_end, sizeof query_end));
done:
    return st;
}

static AT_CHECKED prepare_attention(struct attention_trial *t, struct at_gpu *gpu,
                                    struct at_attention_shape shape)
{
    const uint32_t HD = shape.H * shape.D, GD = shape.G * shape.D;
    const uint32_t in_cols[INPUTS] = { [Q] = HD, [K] = GD, [V] = GD, [DO] = HD };
    const uint32_t out_cols[OUTPUTS] = { [O] = HD, [DQ] = HD, [DK] = GD, [DV] = GD };
    enum at_status st;

    *t = (struct attention_trial){ .p = { .T = ROWS,
                                          .n_keys = ROWS,
                                          .H = shape.H,
                                          .G = shape.G,
                                          .D = shape.D,
                                          .scale = (float)(1 / sqrt(shape.D)),
                                          .cap = shape.cap } };
    at_gpu_use_attention_halves(gpu, false); /* scratch for both ways */
    TRY(at_pool_create(&t->pool, gpu, "timing of kernels"));
    TRY(at_stream_create(&t->stream, gpu));
    for (int i = 0; i < INPUTS; i++)
        at_tensor_reserve(t->pool, &t->in[i], ROWS, in_cols[i], "attention");
    for (int i = 0; i < 2 * OUTPUTS; i++)
        at_tensor_reserve(t->pool, &t->out[i / OUTPUTS][i % OUTPUTS], ROWS, out_cols[i % OUTPUTS],
                          "attention");
    at_pool_reserve(t->pool, &t->lse, ROWS * shape.H * sizeof(float), "attention");
    at_pool_reserve(t->pool, &t->p.intervals, ROWS * sizeof(int32_t[4]), "attention");
    at_pool_reserve(t->pool, &t->p.query_end, ROWS * sizeof(int32_t), "attention");
    at_pool_reserve(t->pool, &t->scratch,
                    at_attention_scratch_bytes(gpu, ROWS, shape.H, shape.G, shape.D), "attention");
    TRY(at_pool_commit(t->pool));
    for (int i = 0; i < INPUTS; i++)
        TRY(fill(gpu, t->in[i], (uint64_t)i + 1));
    TRY(fill_intervals(gpu, &t->p));
done:
    return st;
}

static AT_CHECKED time_attention(double *out_s, struct attention_trial *t, bool halves)
{
    const struct at_tensor *in = t->in, *out = t->out[halves];
    enum at_status st = AT_OK;
    double begin = 0;

    at_gpu_use_attention_halves(at_stream_gpu(t->stream), halves);
    for (int i = 0; i <= ROUNDS; i++) {
        if (i == 1) /* the round before compiled */
            begin = at_now_s();
        at_attention_fwd(t->stream, out[O], t->lse, in[Q], in[K], in[V], &t->p);
        at_attention_bwd(t->stream, out[DQ], out[DK], out[DV], in[DO], in[Q], in[K], in[V], out[O],
                         t->lse, t->scratch, &t->p);
        if (i == 0 || i == ROUNDS)
            TRY(at_stream_wait(t->stream));
    }
    *out_s = (at_now_s() - begin) / ROUNDS;
done:
    return st;
}

static AT_CHECKED try_attention(struct verdict *v, struct at_gpu *gpu,
                                struct at_attention_shape shape)
{
    struct attention_trial t;
    enum at_status st;

    TRY(prepare_attention(&t, gpu, shape));
    TRY(time_attention(&v->scores.f32_s, &t, false));
    TRY(time_attention(&v->scores.halves_s, &t, true));
    v->attention = v->scores.halves_s < v->scores.f32_s;
    for (int i = 0; i < OUTPUTS; i++) {
        bool right = false;

        TRY(check(&right, gpu, t.out[false][i], t.out[true][i], attention_apart));
        if (right)
            continue;
        v->attention = false;
        warn_wrong(gpu, "attention", shape.H, shape.D);
        break;
    }
done:
    at_stream_destroy(&t.stream);
    at_pool_destroy(&t.pool);
    return st;
}

static AT_CHECKED measure(struct verdict *out, struct at_gpu *gpu,
                          const struct at_weight_shape *shapes, size_t n,
                          struct at_attention_shape attention)
{
    enum at_status st = AT_OK;

    *out = (struct verdict){ .halves = true };
    at_gpu_use_halves(gpu, true);
    for (size_t i = 0; i < n && out->halves; i++)
        TRY(try_shape(out, gpu, shapes[i]));
    out->halves = out->halves && out->products.halves_s < out->products.f32_s;
    at_gpu_use_attention_halves(gpu, true);
    if (at_gpu_get_info(gpu)->attention_halves && attention.D <= ATTENTION_MATRIX_WIDTH)
        TRY(try_attention(out, gpu, attention));
done:
    at_gpu_use_halves(gpu, false);
    at_gpu_use_attention_halves(gpu, false);
    return st;
}

/* ---- the cache ---- */

/* What a verdict holds for, as text. */
static AT_CHECKED describe(struct at_buf *out, struct at_gpu *gpu,
                           const struct at_weight_shape *shapes, size_t n,
                           struct at_attention_shape attention)
{
    const struct at_gpu_info *info = at_gpu_get_info(gpu);
    const struct at_digest build = at_kernels_digest(gpu);

    at_buf_printf(out, "%s; %s; %s", info->name, info->driver, build.hex);
    for (size_t i = 0; i < n; i++)
        at_buf_printf(out, "; %u x %u", shapes[i].rows, shapes[i].cols);
    if (info->bf16)
        at_buf_printf(out, "; bf16");
    at_buf_printf(out, "; attention %u, %u x %u", attention.H, attention.G, attention.D);
    if (attention.cap > 0)
        at_buf_printf(out, ", capped");
    return at_buf_status(out);
}

static AT_CHECKED cache_path(struct at_arena *arena, char **out, const char *key)
{
    const struct at_digest name = at_hash_bytes(key, strlen(key));
    enum at_status st;
    char *dir = NULL;

    TRY(at_cache_dir(arena, &dir));
    TRY(at_arena_printf(arena, out, "%s/kernels-%.16s.json", dir, name.hex));
done:
    return st;
}

/* Whether the file has a verdict of this key; what cannot be read is made again. */
static bool load(struct verdict *out, const char *path, const char *key)
{
    const char *found = NULL;
    uint32_t version = 0;
    cJSON *json = NULL;
    bool ok = false;

    if (at_path_exists(path) && at_json_load(&json, path) == AT_OK)
        ok = at_json_need_u32(&version, json, "format_version", path) == AT_OK &&
             version == VERSION && at_json_need_string(&found, json, "for", path) == AT_OK &&
             strcmp(found, key) == 0 && cJSON_IsBool(at_json_find(json, "halves")) &&
             cJSON_IsBool(at_json_find(json, "attention_halves"));
    if (ok) {
        out->halves = cJSON_IsTrue(at_json_find(json, "halves"));
        out->attention = cJSON_IsTrue(at_json_find(json, "attention_halves"));
    }
    at_json_free(&json);
    return ok;
}

static AT_CHECKED save(const char *path, const char *key, const struct verdict *v)
{
    cJSON *json = cJSON_CreateObject();
    enum at_status st;

    cJSON_AddNumberToObject(json, "format_version", VERSION);
    cJSON_AddStringToObject(json, "for", key);
    cJSON_AddBoolToObject(json, "halves", v->halves);
    cJSON_AddNumberToObject(json, "f32_s", v->products.f32_s);
    cJSON_AddNumberToObject(json, "halves_s", v->products.halves_s);
    cJSON_AddBoolToObject(json, "attention_halves", v->attention);
    cJSON_AddNumberToObject(json, "attention_f32_s", v->scores.f32_s);
    cJSON_AddNumberToObject(json, "attention_halves_s", v->scores.halves_s);
    st = at_json_save(path, json);
    at_json_free(&json);
    return st;
}

AT_CHECKED at_halves_choose(struct at_gpu *gpu, const struct at_weight_shape *shapes, size_t n,
                            struct at_attention_shape attention)
{
    const struct at_gpu_info *info = at_gpu_get_info(gpu);
    const char *asked = at_env("ATTUNE_HALVES");
    const bool timed = asked && strcmp(asked, "time") == 0;
    struct at_arena arena = { 0 };
    struct at_buf key = { 0 };
    struct verdict v = { 0 };
    enum at_status st = AT_OK;
    char *path = NULL;

    if ((asked && !timed) || info->matrix.lanes == 0 || (info->type == AT_GPU_CPU && !timed))
        goto done;
    TRY(describe(&key, gpu, shapes, n, attention));
    TRY(cache_path(&arena, &path, key.data));
    if (!load(&v, path, key.data)) {
        st = measure(&v, gpu, shapes, n, attention);
        if (st == AT_DEVICE_MEMORY) {
            at_warn("no_timing", "%s: matrix units are not used", at_message());
            st = AT_OK;
            goto done;
        }
        TRY(st);
        if (save(path, key.data, &v) != AT_OK)
            at_warn("no_cache", "%s; the next run measures again", at_message());
    }
    at_gpu_use_halves(gpu, v.halves);
    at_gpu_use_attention_halves(gpu, v.attention);
done:
    at_buf_release(&key);
    at_arena_release(&arena);
    return st;
}
