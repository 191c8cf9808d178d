/* links: base gpu ops */
/* DoRA on the device: norms, forward and backward pass against the double reference, with dropout
 * and without; a fresh one changes no bit; merged rows are what it multiplies with. */
#include "gpu_test.h"

#include "activation.h"
#include "dora.h"
#include "ref_dora.h"
#include "tolerances.h"

enum { X, W, A, B, M, DY, Y, DX, DA, DB, DM, NORM, Z, DZ, U, DROPPED, MASK, PANEL, TENSORS };
enum { APART = 8 }; /* columns by which rows of y lie further apart than those of u */

struct fixture {
    struct gt *t;
    uint32_t T, K, N, dims[TENSORS][2];
    size_t ids[TENSORS], tokens;
    struct at_tensor v[TENSORS];
    float *f[TENSORS];
    double *d[TENSORS];
    struct at_lora lora;
    struct at_dropout dropout;
    struct at_dora_linear linear;
    struct at_linear_scratch scratch;
};

static size_t size_of(const struct fixture *f, int i)
{
    return (size_t)f->dims[i][0] * f->dims[i][1];
}

static void open_fixture(struct fixture *f, struct gt *t, uint32_t T, uint32_t K, uint32_t N,
                         uint32_t r, float p)
{
    const uint32_t dims[TENSORS][2] = {
        [X] = { T, K },       [W] = { N, K },    [A] = { r, K },
        [B] = { N, r },       [M] = { 1, N },    [DY] = { T, N },
        [Y] = { T, N },       [DX] = { T, K },   [DA] = { r, K },
        [DB] = { N, r },      [DM] = { 1, N },   [NORM] = { 1, N },
        [Z] = { T, r },       [DZ] = { T, r },   [U] = { T, N },
        [DROPPED] = { T, K }, [MASK] = { T, K }, [PANEL] = { AT_DORA_PANEL, K },
    };
    uint32_t *tokens = calloc(2 * (size_t)T, sizeof *tokens);

    *f = (struct fixture){ .t = t, .T = T, .K = K, .N = N };
    memcpy(f->dims, dims, sizeof dims);
    for (uint32_t i = 0; i < 2 * T; i++)
        tokens[i] = i % 2 ? i / 2 % 7 : i / 14;
    gt_begin(t);
    for (int i = 0; i < TENSORS; i++)
        f->ids[i] = gt_plan_tensor(t, dims[i][0], dims[i][1], i == Y || i == U ? APART : 0);
    f->tokens = gt_plan(t, 8ul * T);
    gt_commit(t);
    for (int i = 0; i < TENSORS; i++) {
        f->v[i] = gt_tensor(t, f->ids[i], dims[i][0], dims[i][1], i == Y ? APART : 0);
        f->f[i] = gt_floats(size_of(f, i), 1);
        if (i == M)
            for (uint32_t n = 0; n < N; n++)
                f->f[i][n] += 2;
        f->d[i] = gt_doubles(f->f[i], size_of(f, i));
        OK(at_tensor_write(t->gpu, f->v[i], f->f[i]));
    }
    OK(at_gpu_write(t->gpu, gt_view(t, f->tokens), tokens, 8ul * T));
    free(tokens);
    f->lora = (struct at_lora){ .A = f->v[A],
                                .B = f->v[B],
                                .dA = f->v[DA],
                                .dB = f->v[DB],
                                .m = f->v[M],
                                .dm = f->v[DM],
                                .norm = f->v[NORM].view,
                                .scale = 0.5f };
    f->dropout = (struct at_dropout){ .p = p, .key = { 1, 2 }, .tokens = gt_view(t, f->tokens) };
    f->linear = (struct at_dora_linear){ .w = at_weight_of_tensor(f->v[W]),
                                         .scratch = &f->scratch,
                                         .lora = &f->lora,
                                         .u = f->v[U],
                                         .z = f->v[Z],
                                         .dz = f->v[DZ],
                                         .dropped = f->v[DROPPED],
                                         .dropout = p > 0 ? &f->dropout : NULL,
                                         .module = 3 };
}

static void close_fixture(struct fixture *f)
{
    gt_end(f->t);
    for (int i = 0; i < TENSORS; i++) {
        free(f->f[i]);
        free(f->d[i]);
    }
}

/* The mask that dropout makes of ones; dropout itself has a test of its own. */
static void read_mask(struct fixture *f)
{
    for (size_t i = 0; i < size_of(f, MASK); i++)
        f->f[MASK][i] = 1;
    OK(at_tensor_write(f->t->gpu, f->v[MASK], f->f[MASK]));
    at_dropout_apply(f->t->stream, f->v[MASK], f->v[MASK], &f->dropout, 3, false);
    OK(at_stream_wait(f->t->stream));
    OK(at_tensor_read(f->t->gpu, f->f[MASK], f->v[MASK]));
    for (size_t i = 0; i < size_of(f, MASK); i++)
        f->d[MASK][i] = (double)f->f[MASK][i];
}

static void check(struct gt *t, uint32_t T, uint32_t K, uint32_t N, uint32_t r, float p)
{
    static const char *const names[TENSORS] = {
        [Y] = "y", [DX] = "dx", [DA] = "dA", [DB] = "dB", [DM] = "dm", [NORM] = "norm"
    };
    const struct at_tensor none = { .dim = { T, K } };
    struct fixture f;

    open_fixture(&f, t, T, K, N, r, p);
    read_mask(&f);
    const struct ref_dora ref = { .lora = { T, K, N, r, f.d[A], f.d[B], 0.5 },
                                  .W = f.d[W],
                                  .m = f.d[M],
                                  .norm = f.d[NORM],
                                  .mask = p > 0 ? f.d[MASK] : NULL };
    double *ignored = calloc(size_of(&f, X), sizeof *ignored);

    at_dora_norm(t->stream, &f.lora, f.linear.w, f.v[PANEL].view);
    at_dora_fwd(t->stream, f.v[Y], f.v[X], &f.linear, true);
    at_dora_bwd(t->stream, f.v[DX], f.v[DY], f.v[X], &f.linear, true);
    at_dora_bwd(t->stream, none, f.v[DY], f.v[X], &f.linear, false);
    OK(at_stream_wait(t->stream));
    ref_dora_norm(f.d[NORM], &ref);
    ref_dora_fwd(f.d[Y], f.d[X], &ref);
    ref_dora_bwd(f.d[DX], f.d[DA], f.d[DB], f.d[DM], f.d[DY], f.d[X], &ref);
    ref_dora_bwd(ignored, f.d[DA], f.d[DB], f.d[DM], f.d[DY], f.d[X], &ref);
    for (int i = 0; i < TENSORS; i++) {
        double most = 1;
        if (!names[i])
            continue;
        for (size_t j = 0; j < size_of(&f, i); j++)
            most = fabs(f.d[i][j]) > most ? fabs(f.d[i][j]) : most;
        OK(at_tensor_read(t->gpu, f.f[i], f.v[i]));
        gt_require_close(t, names[i], f.f[i], f.d[i], NULL, size_of(&f, i), TOL_LINEAR * most);
    }
    free(ignored);
    close_fixture(&f);
}

static void dora_equals_reference(void **state)
{
    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        struct gt t;

        gt_open(&t, setting);
        check(&t, 2, 3, 5, 1, 0);
        check(&t, 64, 130, 63, 8, 0.25f);
        check(&t, 70, 36, 290, 4, 0); /* two panels */
        check(&t, 128, 20, 33, 3, 0.5f);
        gt_close(&t);
    }
}

/* B zero and m the norm: passes with the adapter, without it and under dropout have the same bits.
 */
static void fresh_dora_changes_no_bit(void **state)
{
    enum { T = 64, K = 130, N = 70, R = 4 };

    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++)
        for (int accumulate = 0; accumulate < 2; accumulate++) {
            float want[T * N], got[T * N];
            struct fixture f;
            struct gt t;

            gt_open(&t, setting);
            open_fixture(&f, &t, T, K, N, R, 0.25f);
            at_stream_fill(t.stream, f.v[B].view, 0);
            at_dora_norm(t.stream, &f.lora, f.linear.w, f.v[PANEL].view);
            at_stream_copy(t.stream, f.v[M].view, f.lora.norm, N * sizeof(float));
            for (int pass = 0; pass < 3; pass++) { /* skipped, plain, dropout */
                f.linear.lora = pass > 0 ? &f.lora : NULL;
                f.linear.dropout = pass > 1 ? &f.dropout : NULL;
                OK(at_tensor_write(t.gpu, f.v[Y], f.f[Y]));
                at_dora_fwd(t.stream, f.v[Y], f.v[X], &f.linear, accumulate);
                OK(at_stream_wait(t.stream));
                OK(at_tensor_read(t.gpu, pass > 0 ? got : want, f.v[Y]));
                if (pass > 0)
                    assert_memory_equal(got, want, sizeof want);
            }
            close_fixture(&f);
            gt_close(&t);
        }
}

/* The rows that the adapter makes of the base's are what its forward pass multiplies with. */
static void merged_rows_are_those_of_the_forward_pass(void **state)
{
    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        enum { K = 70, N = 130, R = 3 };
        double want[N * K] = { 0 };
        struct fixture f;
        struct gt t;

        gt_open(&t, setting);
        open_fixture(&f, &t, K, K, N, R, 0);
        const struct ref_dora ref = {
            .lora = { K, K, N, R, f.d[A], f.d[B], 0.5 }, .W = f.d[W], .m = f.d[M], .norm = f.d[NORM]
        };
        ref_dora_norm(f.d[NORM], &ref);
        memset(f.d[X], 0, size_of(&f, X) * sizeof(double));
        memset(f.d[Y], 0, size_of(&f, Y) * sizeof(double));
        for (size_t i = 0; i < K; i++)
            f.d[X][i * K + i] = 1;
        ref_dora_fwd(f.d[Y], f.d[X], &ref);
        for (size_t i = 0; i < N; i++)
            for (size_t k = 0; k < K; k++)
                want[i * K + k] = f.d[Y][k * N + i];
        at_dora_merge(t.stream, f.v[W], &f.lora);
        OK(at_stream_wait(t.stream));
        OK(at_tensor_read(t.gpu, f.f[W], f.v[W]));
        gt_require_close(&t, "merged rows", f.f[W], want, NULL, size_of(&f, W), TOL_LINEAR);
        close_fixture(&f);
        gt_close(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dora_equals_reference),
        cmocka_unit_test(fresh_dora_changes_no_bit),
        cmocka_unit_test(merged_rows_are_those_of_the_forward_pass),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
