/* links: base gpu ops */
/* Dropout: the mask is Philox's of (step, row, place, module, column), its share is p, and LoRA
 * under it has the values and gradients of the double reference with the same mask. */
#include "gpu_test.h"

#include "dropout.h"
#include "ref_lora.h"
#include "rng.h"
#include "tolerances.h"

static const uint32_t key[2] = { 0x9ABCDEF0u, 77 };

/* Tokens of rows of 7, none where another test has them. */
static void make_tokens(uint32_t *tokens, uint32_t T)
{
    for (uint32_t t = 0; t < T; t++) {
        tokens[2 * t] = 1000 + t / 7;
        tokens[2 * t + 1] = t % 7;
    }
}

/* 1 / (1 - p) or 0 of every element. */
static double *make_mask(const uint32_t *tokens, uint32_t T, uint32_t C, float p, uint32_t module)
{
    double *mask = calloc((size_t)T * C, sizeof *mask);

    for (uint32_t t = 0; t < T; t++)
        for (uint32_t c = 0; c < C; c++) {
            const uint32_t counter[4] = { c / 4, tokens[2 * t + 1], tokens[2 * t], module };
            uint32_t random[4];

            at_philox(random, counter, key);
            if (random[c % 4] >= (double)p * 0x1p32)
                mask[(size_t)t * C + c] = 1 / (1 - (double)p);
        }
    return mask;
}

static void check_mask(struct gt *t, uint32_t T, uint32_t C, float p, uint32_t module)
{
    const size_t n = (size_t)T * C;
    float *x = gt_floats(n, 1), *y = gt_floats(n, 1);
    double *want = gt_doubles(y, n), *mask;
    uint32_t *tokens = calloc(2 * (size_t)T, sizeof *tokens);
    size_t ix, iy, ik;

    make_tokens(tokens, T);
    mask = make_mask(tokens, T, C, p, module);
    gt_begin(t);
    ix = gt_plan_tensor(t, T, C, 4);
    iy = gt_plan_tensor(t, T, C, 8);
    ik = gt_plan(t, 8ul * T);
    gt_commit(t);
    const struct at_tensor X = gt_tensor(t, ix, T, C, 4), Y = gt_tensor(t, iy, T, C, 8);
    const struct at_dropout dropout = { .p = p,
                                        .key = { key[0], key[1] },
                                        .tokens = gt_view(t, ik) };

    OK(at_tensor_write(t->gpu, X, x));
    OK(at_tensor_write(t->gpu, Y, y));
    OK(at_gpu_write(t->gpu, gt_view(t, ik), tokens, 8ul * T));
    at_dropout_apply(t->stream, Y, X, &dropout, module, true);
    at_dropout_apply(t->stream, X, X, &dropout, module, false); /* in place */
    OK(at_stream_wait(t->stream));
    OK(at_tensor_read(t->gpu, y, Y));
    for (size_t i = 0; i < n; i++)
        want[i] += mask[i] * (double)x[i];
    gt_require_close(t, "y", y, want, NULL, n, TOL_ROW);
    gt_require_padding(t, "y", Y);
    for (size_t i = 0; i < n; i++)
        want[i] = mask[i] * (double)x[i];
    OK(at_tensor_read(t->gpu, x, X));
    gt_require_close(t, "x", x, want, NULL, n, TOL_ROW);
    for (size_t i = 0; i < n; i++)
        assert_true((x[i] == 0) == (want[i] == 0)); /* exactly those elements */
    gt_end(t);
    free(x);
    free(y);
    free(want);
    free(mask);
    free(tokens);
}

static void mask_is_philox_of_row_place_module_and_column(void **state)
{
    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        struct gt t;

        gt_open(&t, setting);
        check_mask(&t, 2, 1, 0.5f, 0);
        check_mask(&t, 64, 63, 0.1f, 5);
        check_mask(&t, 300, 577, 0.9f, 209);
        check_mask(&t, 6, 20, 0, 1);
        gt_close(&t);
    }
}

/* Of n draws at a time the kept ones scatter as binomial numbers: the sum of squares in deviations
 * is chi-square with as many degrees as groups (mean k, variance 2 k), by token, by column and over
 * modules and steps. */
static void share_kept_is_one_minus_p(void **state)
{
    enum { T = 256, C = 256, MODULES = 4 };
    static const float shares[] = { 0.05f, 0.5f };
    float *ones = calloc((size_t)T * C, sizeof *ones), *y = calloc((size_t)T * C, sizeof *y);
    uint32_t tokens[2 * T];
    struct gt t;
    size_t ix, iy, ik;

    (void)state;
    gt_open(&t, 0);
    make_tokens(tokens, T);
    gt_begin(&t);
    ix = gt_plan_tensor(&t, T, C, 0);
    iy = gt_plan_tensor(&t, T, C, 0);
    ik = gt_plan(&t, sizeof tokens);
    gt_commit(&t);
    for (size_t i = 0; i < (size_t)T * C; i++)
        ones[i] = 1;
    OK(at_tensor_write(t.gpu, gt_tensor(&t, ix, T, C, 0), ones));
    OK(at_gpu_write(t.gpu, gt_view(&t, ik), tokens, sizeof tokens));
    for (size_t i = 0; i < AT_COUNT(shares); i++) {
        const double q = 1 - (double)shares[i];
        double by_token[T] = { 0 }, by_column[C] = { 0 }, chi[3] = { 0 };

        for (uint32_t m = 0; m < MODULES; m++) {
            const struct at_dropout dropout = { .p = shares[i],
                                                .key = { 5, m / 2 },
                                                .tokens = gt_view(&t, ik) };
            double kept = 0;

            at_dropout_apply(t.stream, gt_tensor(&t, iy, T, C, 0), gt_tensor(&t, ix, T, C, 0),
                             &dropout, m % 2, false);
            OK(at_stream_wait(t.stream));
            OK(at_tensor_read(t.gpu, y, gt_tensor(&t, iy, T, C, 0)));
            for (size_t j = 0; j < (size_t)T * C; j++) {
                by_token[j / C] += y[j] != 0;
                by_column[j % C] += y[j] != 0;
                kept += y[j] != 0;
            }
            chi[2] += pow(kept - T * C * q, 2) / (T * C * q * (1 - q));
        }
        for (uint32_t j = 0; j < T; j++) {
            chi[0] += pow(by_token[j] - MODULES * C * q, 2) / (MODULES * C * q * (1 - q));
            chi[1] += pow(by_column[j] - MODULES * T * q, 2) / (MODULES * T * q * (1 - q));
        }
        for (int j = 0; j < 3; j++) {
            const double degrees = j == 2 ? MODULES : T;
            if (!(fabs(chi[j] - degrees) < 4 * sqrt(2 * degrees)))
                fail_msg("p %g: chi-square %d is %.1f of %.0f degrees", (double)shares[i], j,
                         chi[j], degrees);
        }
    }
    gt_end(&t);
    gt_close(&t);
    free(ones);
    free(y);
}

enum { X, A, B, DY, Y, DX, DA, DB, Z, DZ, SCRATCH, TENSORS };

/* The reference with x masked before and dx's part after. */
static void check_lora(struct gt *t, uint32_t T, uint32_t K, uint32_t N, uint32_t r)
{
    const uint32_t dims[TENSORS][2] = {
        [X] = { T, K }, [A] = { r, K },  [B] = { N, r },      [DY] = { T, N },
        [Y] = { T, N }, [DX] = { T, K }, [DA] = { r, K },     [DB] = { N, r },
        [Z] = { T, r }, [DZ] = { T, r }, [SCRATCH] = { T, K }
    };
    const size_t n = (size_t)T * K;
    uint32_t *tokens = calloc(2 * (size_t)T, sizeof *tokens);
    double *part = calloc(n, sizeof *part), *mask, *d[TENSORS];
    float *f[TENSORS];
    size_t ids[TENSORS], ik;
    struct at_tensor v[TENSORS];

    make_tokens(tokens, T);
    mask = make_mask(tokens, T, K, 0.25f, 3);
    gt_begin(t);
    for (int i = 0; i < TENSORS; i++) {
        f[i] = gt_floats((size_t)dims[i][0] * dims[i][1], 1);
        d[i] = gt_doubles(f[i], (size_t)dims[i][0] * dims[i][1]);
        ids[i] = gt_plan_tensor(t, dims[i][0], dims[i][1], 0);
    }
    ik = gt_plan(t, 8ul * T);
    gt_commit(t);
    for (int i = 0; i < TENSORS; i++) {
        v[i] = gt_tensor(t, ids[i], dims[i][0], dims[i][1], 0);
        OK(at_tensor_write(t->gpu, v[i], f[i]));
    }
    OK(at_gpu_write(t->gpu, gt_view(t, ik), tokens, 8ul * T));
    const struct at_lora lora = { .A = v[A], .B = v[B], .dA = v[DA], .dB = v[DB], .scale = 0.5f };
    const struct ref_lora ref = {
        .T = T, .K = K, .N = N, .r = r, .A = d[A], .B = d[B], .scale = 0.5
    };
    const struct at_dropout dropout = { .p = 0.25f,
                                        .key = { key[0], key[1] },
                                        .tokens = gt_view(t, ik) };
    const struct at_tensor none = { .dim = { T, K } };

    at_lora_dropout_fwd(t->stream, v[Y], v[Z], v[X], v[SCRATCH], &lora, &dropout, 3);
    at_stream_fill(t->stream, v[SCRATCH].view, 0);
    at_lora_dropout_bwd(t->stream, v[DX], v[DZ], v[DY], v[X], v[Z], v[SCRATCH], &lora, &dropout, 3);
    at_lora_dropout_bwd(t->stream, none, v[DZ], v[DY], v[X], v[Z], v[SCRATCH], &lora, &dropout, 3);
    OK(at_stream_wait(t->stream));
    for (size_t i = 0; i < n; i++)
        d[X][i] *= mask[i];
    ref_lora_fwd(d[Y], d[Z], d[X], &ref);
    ref_lora_bwd(part, d[DZ], d[DA], d[DB], d[DY], d[X], &ref);
    for (size_t i = 0; i < n; i++)
        d[DX][i] += mask[i] * part[i];
    ref_lora_bwd(part, d[DZ], d[DA], d[DB], d[DY], d[X], &ref);
    for (int i = Y; i <= DZ; i++) {
        static const char *const names[] = {
            [Y] = "y", [DX] = "dx", [DA] = "dA", [DB] = "dB", [Z] = "z", [DZ] = "dz"
        };
        const size_t size = (size_t)dims[i][0] * dims[i][1];
        double most = 1;

        for (size_t j = 0; j < size; j++)
            most = fabs(d[i][j]) > most ? fabs(d[i][j]) : most;
        OK(at_tensor_read(t->gpu, f[i], v[i]));
        gt_require_close(t, names[i], f[i], d[i], NULL, size, TOL_LINEAR * most);
    }
    gt_end(t);
    for (int i = 0; i < TENSORS; i++) {
        free(f[i]);
        free(d[i]);
    }
    free(tokens);
    free(part);
    free(mask);
}

static void lora_under_dropout_equals_reference_with_the_mask(void **state)
{
    (void)state;
    for (size_t setting = 0; setting < GT_SETTINGS; setting++) {
        struct gt t;

        gt_open(&t, setting);
        check_lora(&t, 2, 3, 5, 1);
        check_lora(&t, 64, 130, 63, 8);
        check_lora(&t, 300, 96, 160, 16);
        gt_close(&t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mask_is_philox_of_row_place_module_and_column),
        cmocka_unit_test(share_kept_is_one_minus_p),
        cmocka_unit_test(lora_under_dropout_equals_reference_with_the_mask),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
