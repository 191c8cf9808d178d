/* links: base gpu ops */
/* at_matmul_* = ref_matmul_*: awkward shapes, padded rows, both kernels, small bindings; the same
 * bits twice and whatever the number of rows. */
#include "gpu_test.h"

#include "linear.h"
#include "ref_gemm.h"
#include "tolerances.h"

typedef void matmul(struct at_stream *, struct at_tensor, struct at_tensor, struct at_tensor, float,
                    bool);
typedef void ref_matmul(double *, const double *, const double *, size_t, size_t, size_t, double,
                        bool);
static const struct form {
    const char *name;
    matmul *op;
    ref_matmul *ref;
    bool a_flip, b_flip; /* memory is (K,M), (N,K) */
} forms[] = { { "nt", at_matmul_nt, ref_matmul_nt, false, true },
              { "nn", at_matmul_nn, ref_matmul_nn, false, false },
              { "tn", at_matmul_tn, ref_matmul_tn, true, false } };

static const struct shape {
    uint32_t M, N, K, extra;
    float alpha;
    bool accumulate;
} shapes[] = {
    { 1, 1, 1, 0, 1, false },     { 1, 3, 63, 4, 0.5f, true },   { 3, 1, 64, 0, 1, true },
    { 63, 64, 65, 8, 1, false },  { 64, 65, 63, 0, -2, true },   { 65, 130, 3, 4, 1, false },
    { 130, 63, 576, 0, 1, true }, { 64, 576, 130, 0, 1, false }, { 5, 16, 4100, 0, 1, true },
    { 130, 16, 576, 0, 2, true }, { 16, 576, 300, 0, 1, true },  { 576, 576, 257, 0, 1, false },
    { 65, 40, 72, 4, 1, true },   { 70, 136, 88, 0, 1, false },  { 33, 700, 520, 0, 0.25f, true },
    { 3, 70, 8193, 0, 1, false }, { 2, 2, 4096, 12, 1, true },
};

struct matmul_case {
    float *A, *B, *C, *out;
    uint32_t a_rows, a_cols, b_rows, b_cols;
};

static void make_case(struct matmul_case *c, const struct form *f, const struct shape *s)
{
    c->a_rows = f->a_flip ? s->K : s->M;
    c->a_cols = f->a_flip ? s->M : s->K;
    c->b_rows = f->b_flip ? s->N : s->K;
    c->b_cols = f->b_flip ? s->K : s->N;
    c->A = gt_floats((size_t)c->a_rows * c->a_cols, 1);
    c->B = gt_floats((size_t)c->b_rows * c->b_cols, 1);
    c->C = gt_floats((size_t)s->M * s->N, 1);
    c->out = gt_floats((size_t)s->M * s->N, 1);
}

static void free_case(struct matmul_case *c)
{
    free(c->A);
    free(c->B);
    free(c->C);
    free(c->out);
}

/* The first `rows` rows of the product into out (rows, N). */
static void run(struct gt *t, const struct form *f, const struct shape *s,
                const struct matmul_case *c, uint32_t rows, float *out)
{
    const uint32_t a_rows = f->a_flip ? s->K : rows;
    size_t a, b, o;
    struct at_tensor A, B, C;

    gt_begin(t);
    a = gt_plan_tensor(t, a_rows, c->a_cols, s->extra);
    b = gt_plan_tensor(t, c->b_rows, c->b_cols, s->extra);
    o = gt_plan_tensor(t, rows, s->N, s->extra);
    gt_commit(t);
    A = gt_tensor(t, a, a_rows, c->a_cols, s->extra);
    B = gt_tensor(t, b, c->b_rows, c->b_cols, s->extra);
    C = gt_tensor(t, o, rows, s->N, s->extra);
    OK(at_tensor_write(t->gpu, A, c->A));
    OK(at_tensor_write(t->gpu, B, c->B));
    OK(at_tensor_write(t->gpu, C, c->C));
    f->op(t->stream, C, A, B, s->alpha, s->accumulate);
    OK(at_stream_wait(t->stream));
    OK(at_tensor_read(t->gpu, out, C));
    gt_end(t);
}

/* Sum of |alpha| |A| |B| + |C|: what rounding errors are relative to. */
static double *magnitudes(const struct form *f, const struct shape *s, const struct matmul_case *c)
{
    double *A = gt_doubles(c->A, (size_t)s->M * s->K), *B = gt_doubles(c->B, (size_t)s->N * s->K);
    double *C = gt_doubles(c->C, (size_t)s->M * s->N);

    for (size_t i = 0; i < (size_t)s->M * s->K; i++)
        A[i] = fabs(A[i]);
    for (size_t i = 0; i < (size_t)s->N * s->K; i++)
        B[i] = fabs(B[i]);
    for (size_t i = 0; i < (size_t)s->M * s->N; i++)
        C[i] = fabs(C[i]);
    f->ref(C, A, B, s->M, s->N, s->K, fabs((double)s->alpha), true);
    free(A);
    free(B);
    return C;
}

static void check_shape(struct gt *t, const struct form *f, const struct shape *s)
{
    const size_t n = (size_t)s->M * s->N;
    struct matmul_case c;
    char what[96];

    make_case(&c, f, s);
    double *A = gt_doubles(c.A, (size_t)s->M * s->K), *B = gt_doubles(c.B, (size_t)s->N * s->K);
    double *want = gt_doubles(c.C, n), *scale = magnitudes(f, s, &c);
    float *again = gt_floats(n, 1);

    f->ref(want, A, B, s->M, s->N, s->K, (double)s->alpha, s->accumulate);
    run(t, f, s, &c, s->M, c.out);
    run(t, f, s, &c, s->M, again);
    snprintf(what, sizeof what, "%s %u x %u x %u", f->name, s->M, s->N, s->K);
    gt_require_close(t, what, c.out, want, scale, n, TOL_GEMM);
    assert_memory_equal(c.out, again, n * sizeof *again);
    free(A);
    free(B);
    free(want);
    free(scale);
    free(again);
    free_case(&c);
}

static void matmul_any_shape_equals_reference(void **state)
{
    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        struct gt t;

        gt_open(&t, setting);
        for (size_t f = 0; f < AT_COUNT(forms); f++)
            for (size_t i = 0; i < AT_COUNT(shapes); i++)
                check_shape(&t, &forms[f], &shapes[i]);
        gt_close(&t);
    }
}

static void matmul_fewer_rows_same_bits(void **state)
{
    static const uint32_t rows[] = { 1, 7, 64, 65 };
    static const struct shape shape = { 130, 70, 300, 0, 1, false };

    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        struct gt t;

        gt_open(&t, setting);
        for (size_t f = 0; f < 2; f++) {
            struct matmul_case c;
            float part[65 * 70];

            make_case(&c, &forms[f], &shape);
            run(&t, &forms[f], &shape, &c, shape.M, c.out);
            for (size_t i = 0; i < AT_COUNT(rows); i++) {
                run(&t, &forms[f], &shape, &c, rows[i], part);
                assert_memory_equal(part, c.out, rows[i] * shape.N * sizeof(float));
            }
            free_case(&c);
        }
        gt_close(&t);
    }
}

/* The first `cols` columns of a (rows, all) matrix. */
static float *first_columns(const float *x, size_t rows, size_t all, size_t cols)
{
    float *y = gt_floats(rows * cols, 1);

    for (size_t i = 0; i < rows * cols; i++)
        y[i] = x[i / cols * all + i % cols];
    return y;
}

/* A narrow product is a part of a wide one, whatever kernel computes it. */
static void check_part(struct gt *t, const struct form *f, uint32_t M, uint32_t N, uint32_t K)
{
    const struct shape wide = { 130, 70, K, 0, 1, true }, part = { M, N, K, 0, 1, true };
    struct matmul_case all, some;
    float *want;

    make_case(&all, f, &wide);
    run(t, f, &wide, &all, wide.M, all.out);
    want = first_columns(all.out, M, wide.N, N);
    some = (struct matmul_case){
        .A = f->a_flip ? first_columns(all.A, K, wide.M, M) : first_columns(all.A, M, K, K),
        .B = f->b_flip ? first_columns(all.B, N, K, K) : first_columns(all.B, K, wide.N, N),
        .C = first_columns(all.C, M, wide.N, N),
        .out = gt_floats((size_t)M * N, 1),
        .a_rows = f->a_flip ? K : M,
        .a_cols = f->a_flip ? M : K,
        .b_rows = f->b_flip ? N : K,
        .b_cols = f->b_flip ? K : N
    };
    run(t, f, &part, &some, M, some.out);
    if (memcmp(some.out, want, (size_t)M * N * sizeof *want) != 0)
        fail_msg("%s: %s %u x %u x %u: other bits than a wide product", t->setting, f->name, M, N,
                 K);
    free(want);
    free_case(&all);
    free_case(&some);
}

static void matmul_narrow_side_same_bits(void **state)
{
    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        struct gt t;

        gt_open(&t, setting);
        for (size_t f = 0; f < AT_COUNT(forms); f++) {
            check_part(&t, &forms[f], 130, 16, 300);
            check_part(&t, &forms[f], 70, 31, 45);
            check_part(&t, &forms[f], 130, 3, 7);
            check_part(&t, &forms[f], 16, 70, 300);
            check_part(&t, &forms[f], 31, 33, 45);
        }
        gt_close(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matmul_any_shape_equals_reference),
        cmocka_unit_test(matmul_fewer_rows_same_bits),
        cmocka_unit_test(matmul_narrow_side_same_bits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
