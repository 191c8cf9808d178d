/* links: base */
/* Turning back is the gradient of turning: the reference rope backward = central differences. */
#include "differences.h"

#include "ref_rope.h"

enum { T = 4, HEADS = 2, D = 8, W = 6, POSITIONS = 6, N = T * HEADS * D };
static const int32_t positions[T] = { 0, 5, 2, 2 };
static double x[N], dy[N], table[POSITIONS * W];

static double value(void)
{
    double y[N];

    memcpy(y, x, sizeof y);
    ref_rope(y, positions, table, T, HEADS, D, W, false);
    return gd_dot(dy, y, N);
}

static void rope_backward_equals_differences(void **state)
{
    double dx[N];

    (void)state;
    gd_fill(x, N);
    gd_fill(dy, N);
    gd_fill(table, POSITIONS * W); /* any numbers: the gradient is linear in them */
    memcpy(dx, dy, sizeof dx);
    ref_rope(dx, positions, table, T, HEADS, D, W, true);
    gd_check("dx", value, x, dx, N);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(rope_backward_equals_differences) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
