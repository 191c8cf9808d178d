/* links: base gpu ops */
/* at_halves_* = a sum in double as far as halves, or bf16, allow: awkward shapes, rows of very
 * unlike magnitude, NaN, small bindings; matrix units give what the portable kernels give, the same
 * bits twice and whatever the number of rows. */
#include "gpu_test.h"

#include "halves.h"
#include "kernels.h"
#include "tolerances.h"

static const struct at_gpu_params settings[] = {
    { .halves = true, .validate = true },
    { .halves = true, .baseline_only = true },
    { .halves = true, .max_range_bytes = 1 << 20 },
    { .bf16 = true, .validate = true },
};
static const char *const setting_names[] = { "variants", "baseline", "variants, 1 MiB bindings",
                                             "bf16" };

/* NT: A (M,K), B (N,K) at columns `col` of C. NN: B (K,N), A's columns from `col`. TN: A (K,M), B
 * (K,N), added to C. */
enum form { NN, NT, TN };
static const char *const form_names[] = { "nn", "nt", "tn" };
static const struct shape {
    enum form form;
    uint32_t M, N, K, col, extra;
    bool accumulate;
} shapes[] = {
    { NT, 1, 1, 1, 0, 0, false },       { NT, 1, 3, 63, 0, 4, true },
    { NT, 64, 65, 63, 4, 0, true },     { NT, 65, 130, 5, 0, 4, false },
    { NT, 130, 70, 576, 0, 0, true },   { NT, 129, 300, 33, 64, 0, false },
    { NT, 3, 700, 1030, 0, 0, false },  { NN, 1, 1, 1, 0, 0, false },
    { NN, 3, 63, 1, 0, 4, true },       { NN, 64, 65, 63, 4, 0, true },
    { NN, 65, 130, 5, 0, 4, false },    { NN, 130, 70, 576, 64, 0, true },
    { NN, 129, 300, 33, 0, 0, false },  { NN, 3, 1030, 700, 0, 0, false },
    { TN, 1, 1, 1, 0, 0, true },        { TN, 63, 3, 1, 0, 4, true },
    { TN, 65, 64, 63, 0, 0, true },     { TN, 130, 65, 5, 0, 4, true },
    { TN, 700, 1030, 300, 0, 0, true }, { TN, 17, 9, 2100, 0, 0, true },
};

struct product {
    float *A, *B, *C;
    uint32_t a_rows, a_cols, b_rows, b_cols, c_cols;
};

/* Rows of A and B as far apart as activations of 1e5 and gradients of 1e-7; of TN, which sums over
 * them, so that each counts for as much as another. */
static void spread(float *x, uint32_t rows, uint32_t cols, bool inverse)
{
    static const float factors[] = { 1, 1e5f, 1e-7f, 1e-2f };

    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t c = 0; c < cols; c++)
            x[(size_t)r * cols + c] *= inverse ? 1 / factors[r % 4] : factors[r % 4];
}

static void make_product(struct product *p, const struct shape *s)
{
    p->a_rows = s->form == TN ? s->K : s->M;
    p->a_cols = s->form == TN ? s->M : s->form == NT ? s->K : s->K + s->col + 3;
    p->b_rows = s->form == NT ? s->N : s->K;
    p->b_cols = s->form == NT ? s->K : s->N;
    p->c_cols = s->form == NT ? s->N + s->col : s->N;
    p->A = gt_floats((size_t)p->a_rows * p->a_cols, 1);
    p->B = gt_floats((size_t)p->b_rows * p->b_cols, 1);
    p->C = gt_floats((size_t)s->M * p->c_cols, 1);
    spread(p->A, p->a_rows, p->a_cols, false);
    spread(p->B, p->b_rows, p->b_cols, s->form == TN);
}

static void free_product(struct product *p)
{
    free(p->A);
    free(p->B);
    free(p->C);
}

/* The first `rows` rows of C, all of TN's. */
static float *run(struct gt *t, const struct shape *s, const struct product *p, uint32_t rows)
{
    const uint32_t a_rows = s->form == TN ? s->K : rows;
    float *out = gt_floats((size_t)rows * p->c_cols, 1);
    struct at_halves_need need = { 0 };
    struct at_tensor A, B, C;
    struct at_halves halves;
    size_t a, b, c;

    gt_begin(t);
    if (s->form == TN)
        at_halves_add_tn(&need, s->K, s->M, s->N);
    else
        at_halves_add(&need, rows, p->b_rows, p->b_cols);
    at_halves_reserve(t->pool, &halves, &need);
    a = gt_plan_tensor(t, a_rows, p->a_cols, s->extra);
    b = gt_plan_tensor(t, p->b_rows, p->b_cols, s->extra);
    c = gt_plan_tensor(t, rows, p->c_cols, s->extra);
    gt_commit(t);
    A = gt_tensor(t, a, a_rows, p->a_cols, s->extra);
    B = gt_tensor(t, b, p->b_rows, p->b_cols, s->extra);
    C = gt_tensor(t, c, rows, p->c_cols, s->extra);
    OK(at_tensor_write(t->gpu, A, p->A));
    OK(at_tensor_write(t->gpu, B, p->B));
    OK(at_tensor_write(t->gpu, C, p->C));
    if (s->form == NT)
        at_halves_nt(t->stream, C, s->col, A, B, s->accumulate, &halves);
    else if (s->form == TN)
        at_halves_tn(t->stream, C, A, B, &halves);
    else
        at_halves_nn(t->stream, C, A, s->col, B, s->accumulate, &halves);
    OK(at_stream_wait(t->stream));
    OK(at_tensor_read(t->gpu, out, C));
    gt_end(t);
    return out;
}

/* x to bf16, to the nearest, ties to even. */
static float to_bf16(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0x7fffu + (bits >> 16 & 1)) & 0xffff0000u;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* A product of the same operands, but rounded. */
static struct product rounded(const struct product *p, const struct shape *s)
{
    const size_t a_n = (size_t)p->a_rows * p->a_cols, b_n = (size_t)p->b_rows * p->b_cols;
    struct product out = *p;

    out.A = malloc(a_n * sizeof *out.A);
    out.B = malloc(b_n * sizeof *out.B);
    out.C = gt_floats((size_t)s->M * p->c_cols, 0);
    assert_non_null(out.A);
    assert_non_null(out.B);
    memcpy(out.C, p->C, (size_t)s->M * p->c_cols * sizeof *out.C);
    for (size_t i = 0; i < a_n; i++)
        out.A[i] = to_bf16(p->A[i]);
    for (size_t i = 0; i < b_n; i++)
        out.B[i] = to_bf16(p->B[i]);
    return out;
}

/* want (M, c_cols) and what its errors are relative to: sum |a||b| + |c|. */
static void reference(double *want, double *scale, const struct shape *s, const struct product *p)
{
    for (uint32_t m = 0; m < s->M; m++)
        for (uint32_t c = 0; c < p->c_cols; c++) {
            const size_t at = (size_t)m * p->c_cols + c;
            const bool inside = s->form != NT || (c >= s->col && c < s->col + s->N);
            double sum = 0, magnitude = 0;

            for (uint32_t k = 0; k < s->K && inside; k++) {
                const size_t i = s->form == TN   ? (size_t)k * p->a_cols + m
                                 : s->form == NT ? (size_t)m * p->a_cols + k
                                                 : (size_t)m * p->a_cols + s->col + k;
                const size_t j =
                    s->form == NT ? (size_t)(c - s->col) * s->K + k : (size_t)k * s->N + c;

                sum += (double)p->A[i] * p->B[j];
                magnitude += fabs((double)p->A[i] * p->B[j]);
            }
            want[at] = sum + (s->accumulate || !inside ? p->C[at] : 0);
            scale[at] = magnitude + (s->accumulate || !inside ? fabs((double)p->C[at]) : 0);
        }
}

static void open_setting(struct gt *t, size_t setting)
{
    *t = (struct gt){ .setting = setting_names[setting], .gpu = gt_open_device(settings[setting]) };
    OK(at_stream_create(&t->stream, t->gpu));
}

/* The larger of `most` and an error of `got`, in parts of its scale. */
static double larger_error(double most, const float *got, const double *want, const double *scale,
                           size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (scale[i] > 0 && fabs((double)got[i] - want[i]) > most * scale[i])
            most = fabs((double)got[i] - want[i]) / scale[i];
    return most;
}

static double largest_error[2]; /* of halves, of bf16 */

static void check_shape(struct gt *t, const struct shape *s)
{
    const bool bf16 = at_gpu_get_info(t->gpu)->bf16;
    struct product p;
    char what[96];

    make_product(&p, s);
    const size_t n = (size_t)s->M * p.c_cols;
    double *want = malloc(n * sizeof *want), *scale = malloc(n * sizeof *scale);
    float *out = run(t, s, &p, s->M), *again = run(t, s, &p, s->M);

    assert_non_null(want);
    assert_non_null(scale);
    reference(want, scale, s, &p);
    snprintf(what, sizeof what, "%s %s %u x %u x %u", t->setting, form_names[s->form], s->M, s->N,
             s->K);
    gt_require_close(t, what, out, want, scale, n, bf16 ? TOL_BF16 : TOL_HALVES);
    largest_error[bf16] = larger_error(largest_error[bf16], out, want, scale, n);
    if (bf16) { /* nothing is rounded but the operands */
        struct product q = rounded(&p, s);

        reference(want, scale, s, &q);
        gt_require_close(t, "bf16 operands", out, want, scale, n, TOL_GEMM);
        free_product(&q);
    }
    assert_memory_equal(out, again, n * sizeof *again);
    free(want);
    free(scale);
    free(out);
    free(again);
    free_product(&p);
}

static void halves_any_shape_equals_reference(void **state)
{
    (void)state;
    for (size_t setting = 0; setting < AT_COUNT(settings); setting++) {
        struct gt t;

        open_setting(&t, setting);
        for (size_t i = 0; i < AT_COUNT(shapes); i++)
            check_shape(&t, &shapes[i]);
        gt_close(&t);
    }
    printf("largest errors, in parts of sum |a||b|: halves %.1e, bf16 %.1e\n", largest_error[0],
           largest_error[1]);
}

static bool by_matrices(const struct gt *t)
{
    return strcmp(at_kernel_variant(t->gpu, AT_KERNEL_gemm_half_nt, (struct at_work){ 0 }),
                  "matrix") == 0;
}

/* The matrix units multiply what the portable kernels multiply: only the order of sums differs. */
static void halves_variant_equals_baseline(void **state)
{
    static const struct shape products[] = { { NT, 130, 200, 300, 0, 0, false },
                                             { NN, 130, 200, 300, 0, 0, false },
                                             { TN, 130, 200, 300, 0, 0, true } };
    const struct at_matrix_shape *m;
    struct gt t[2];

    (void)state;
    open_setting(&t[0], 0);
    open_setting(&t[1], 1);
    m = &at_gpu_get_info(t[0].gpu)->matrix;
    for (size_t i = 0; i < AT_COUNT(products); i++) {
        const struct shape *s = &products[i];
        const size_t n = (size_t)s->M * s->N;
        struct product p;

        make_product(&p, s);
        float *out = run(&t[0], s, &p, s->M), *other = run(&t[1], s, &p, s->M);
        double *want = gt_doubles(other, n), *scale = malloc(n * sizeof *scale);
        double *unused = malloc(n * sizeof *unused);

        assert_non_null(scale);
        assert_non_null(unused);
        reference(unused, scale, s, &p);
        gt_require_close(&t[0], "against the baseline", out, want, scale, n, TOL_GEMM);
        free(out);
        free(other);
        free(want);
        free(scale);
        free(unused);
        free_product(&p);
    }
    if (by_matrices(&t[0]))
        printf("products by matrix units of %u x %u x %u, %u lanes\n", m->m, m->n, m->k, m->lanes);
    gt_close(&t[0]);
    gt_close(&t[1]);
}

/* The tiles hold for every shape that a vendor reports. */
static void halves_other_matrix_shapes_equal_reference(void **state)
{
    (void)state;
    for (size_t k = 0; k < GT_SHAPES; k++) {
        struct gt t;

        if (!gt_open_shape(&t, k))
            continue;
        for (size_t i = 0; i < AT_COUNT(shapes) && by_matrices(&t); i++)
            check_shape(&t, &shapes[i]);
        if (by_matrices(&t))
            printf("products by matrix units of %u x %u x %u\n", gt_shapes[k].m, gt_shapes[k].n,
                   gt_shapes[k].k);
        gt_close(&t);
    }
}

static void halves_fewer_rows_same_bits(void **state)
{
    static const uint32_t rows[] = { 1, 7, 64, 65, 128 };
    static const struct shape products[] = { { NT, 200, 70, 300, 0, 0, false },
                                             { NN, 200, 70, 300, 0, 0, false } };

    (void)state;
    for (size_t setting = 0; setting < AT_COUNT(settings); setting++) {
        struct gt t;

        open_setting(&t, setting);
        for (size_t i = 0; i < AT_COUNT(products); i++) {
            struct product p;

            make_product(&p, &products[i]);
            float *all = run(&t, &products[i], &p, products[i].M);
            for (size_t j = 0; j < AT_COUNT(rows); j++) {
                float *part = run(&t, &products[i], &p, rows[j]);

                assert_memory_equal(part, all, rows[j] * p.c_cols * sizeof *part);
                free(part);
            }
            free(all);
            free_product(&p);
        }
        gt_close(&t);
    }
}

/* What is not finite stays in its row. */
static void halves_nan_and_infinity_stay_in_their_rows(void **state)
{
    static const struct shape s = { NT, 9, 20, 40, 0, 0, false };

    (void)state;
    for (size_t setting = 0; setting < AT_COUNT(settings); setting++) {
        struct product p;
        struct gt t;

        make_product(&p, &s);
        p.A[2 * s.K + 5] = NAN;
        p.A[4 * s.K + 39] = INFINITY;
        open_setting(&t, setting);
        float *out = run(&t, &s, &p, s.M);
        for (uint32_t m = 0; m < s.M; m++)
            for (uint32_t n = 0; n < s.N; n++)
                if (isfinite(out[m * s.N + n]) != (m != 2 && m != 4))
                    fail_msg("%s: row %u column %u: %g", t.setting, m, n, (double)out[m * s.N + n]);
        free(out);
        free_product(&p);
        gt_close(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(halves_any_shape_equals_reference),
        cmocka_unit_test(halves_variant_equals_baseline),
        cmocka_unit_test(halves_other_matrix_shapes_equal_reference),
        cmocka_unit_test(halves_fewer_rows_same_bits),
        cmocka_unit_test(halves_nan_and_infinity_stay_in_their_rows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
