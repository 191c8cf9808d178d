/* links: base */
/* The reference's backward pass of attention = central differences of its forward pass. */
#include "differences.h"
#include "ref_attention.h"

enum { T = 9, H = 4, G = 2, D = 3 };

static double q[T * H * D], k[T * G * D], v[T * G * D], d_o[T * H * D];
/* a prompt of 3, segments of 2 and 3 tokens, an empty row */
static const int32_t intervals[T][4] = { { 0, 0, 0, 1 }, { 0, 0, 0, 2 }, { 0, 0, 0, 3 },
                                         { 0, 3, 3, 4 }, { 0, 3, 3, 5 }, { 0, 3, 5, 6 },
                                         { 0, 3, 5, 7 }, { 0, 3, 5, 8 }, { 0, 0, 0, 0 } };
static struct ref_attention attention = {
    .T = T, .n_keys = T, .H = H, .G = G, .D = D, .scale = 0.7, .intervals = &intervals[0][0]
};

/* sum d_o * o */
static double value(void)
{
    double o[T * H * D], lse[T * H], sum = 0;

    ref_attention_fwd(o, lse, q, k, v, &attention);
    for (size_t i = 0; i < T * H * D; i++)
        sum += d_o[i] * o[i];
    return sum;
}

static void attention_backward_equals_differences(void **state)
{
    double dq[T * H * D], dk[T * G * D], dv[T * G * D];

    (void)state;
    gd_fill(q, T * H * D);
    gd_fill(k, T * G * D);
    gd_fill(v, T * G * D);
    gd_fill(d_o, T * H * D);
    ref_attention_bwd(dq, dk, dv, d_o, q, k, v, &attention);
    gd_check("dq", value, q, dq, T * H * D);
    gd_check("dk", value, k, dk, T * G * D);
    gd_check("dv", value, v, dv, T * G * D);
}

static void capped_attention_in_a_window_equals_differences(void **state)
{
    attention.cap = 0.6;
    attention.window = 3;
    attention_backward_equals_differences(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_backward_equals_differences),
        cmocka_unit_test(capped_attention_in_a_window_equals_differences),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
