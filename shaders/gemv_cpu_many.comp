// gemv_cpu.comp for many rows of x, the same bits: weights go from their stored form into the product, there
// is no copy of them in f32. One module a format, for subgroups of 16 lanes (LANES), whose processors have 32
// vector registers; with 16 a copy in f32 is faster (most_rows() in engine/ops/linear.c).
// Mapping: workgroup (x, y) = tile of 4 * CG * LANES rows of W, tile of ROWS rows of x by one subgroup, as
// gemm_cpu.comp; a lane owns 4 * CG rows of W, whose texels of quants it reads once and decodes 4 columns a
// turn. No shared memory. Behind the end of a row of x or W a 0 is taken (OUTSIDE).
#version 450
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_shuffle : require
#define ADJACENT (CG == 1) // a lane has one group of columns
#include "lib/store.glsl"
#include "args.h"

layout(constant_id = 1) const uint X_ROWS = GEMV_MANY; // of a tile
#define CG 1                    // groups of 4 rows of W a lane
#define GROUPS (X_ROWS / LANES) // groups of LANES rows of x a tile
#define ROWS int(GROUPS * LANES)

layout(local_size_x = LANES) in;
layout(push_constant) uniform push { gemv_args p; };
TARGET(0, y)
#define TILE (4 * CG * LANES)
#include "lib/dq_texel.glsl"
#ifdef DQ_SCALES
layout(binding = 3, rgba32f) readonly uniform imageBuffer x;
layout(binding = 4) uniform samplerBuffer y4; // y for reading
layout(binding = 5, rgba32f) readonly uniform imageBuffer added_a4;
layout(binding = 6) uniform samplerBuffer added_b4;
#else
layout(binding = 2, rgba32f) readonly uniform imageBuffer x;
layout(binding = 3) uniform samplerBuffer y4;
layout(binding = 4, rgba32f) readonly uniform imageBuffer added_a4;
layout(binding = 5) uniform samplerBuffer added_b4;
#endif

const int OUTSIDE = -(1 << 30); // an index whose fetch gives 0

vec4 sum[ROWS][CG];

#include "lib/touch.glsl"

#define FORM 1
#define KB 4
#define MULTIPLY multiply_added
#define A4 added_a4
#define B4 added_b4
#define FETCH_B texelFetch
#define LDA p.added_lda
#define LDB p.added_ldb
#define A_COL 0
#define B_COL 0
#define K p.added_K
#include "lib/gemm_cpu_multiply.glsl"

void main()
{
    const int lane = int(gl_LocalInvocationID.x), m0 = int(gl_WorkGroupID.y * ROWS);
    const int texels = (int(p.k_end) + 4 * COUNT4 - 1) / (4 * COUNT4); // of a row of W
    const int end = (int(p.k_end) + 3) / 4, ldx4 = int(p.ldx) / 4, ldy4 = int(p.ldy) / 4;

    dq_begin();
    int tile = int(gl_WorkGroupID.x);
    do {
        const int n4 = (tile * LANES + lane) * CG; // rows 4 n4 ... of W
        vec4 total[ROWS][CG];
        const int y_at = m0 * ldy4 + int(p.y_col) / 4 + tile * LANES * CG;
        const int touched = (p.k_begin == 0 ? dq_touch(tile * TILE) : 0) | touch(y4, y_at, ldy4, ROWS, CG * LANES / 4);

        [[unroll]] for (int i = 0; i < ROWS; i++)
            [[unroll]] for (int j = 0; j < CG; j++)
                sum[i][j] = vec4(0);
        for (int c = int(p.k_begin) / 4; c < end; c += COUNT4) {
            dq_quants quants[CG][4];
            const int i = c / COUNT4;

            [[unroll]] for (int j = 0; j < CG; j++)
                [[unroll]] for (int r = 0; r < 4; r++) {
                    const int row = 4 * (n4 + j) + r;

                    quants[j][r] = dq_read(dq_hold(row, i), row, i < texels ? i : OUTSIDE);
                }
            int e = 0;
            do {
                const int k = c + e < end ? c + e : OUTSIDE;
                vec4 w[4][CG]; // [k][row of W]

                [[unroll]] for (int j = 0; j < CG; j++) {
                    vec4 t[4];
                    [[unroll]] for (int r = 0; r < 4; r++) t[r] = dq_values(quants[j][r], e);
                    [[unroll]] for (int q = 0; q < 4; q++) w[q][j] = vec4(t[0][q], t[1][q], t[2][q], t[3][q]);
                }
                [[unroll]] for (int g = 0; g < int(GROUPS); g++) {
                    const vec4 a = imageLoad(x, (m0 + g * LANES + lane) * ldx4 + k);
                    [[unroll]] for (uint l = 0; l < LANES; l++)
                        [[unroll]] for (int q = 0; q < 4; q++) {
                            const float s = subgroupShuffle(a[q], l);
                            [[unroll]] for (int j = 0; j < CG; j++)
                                sum[g * LANES + l][j] += s * w[q][j];
                        }
                }
            } while (++e < COUNT4);
        }
        [[unroll]] for (int m = 0; m < ROWS; m++)
            [[unroll]] for (int j = 0; j < CG; j++) {
                precise vec4 v = p.alpha * sum[m][j]; // and then added: as in gemm_cpu.comp
                if (p.accumulate != 0)
                    v += texelFetch(y4, (m0 + m) * ldy4 + int(p.y_col) / 4 + n4 + j);
                total[m][j] = v;
            }
        if (p.added_K > 0) {
            multiply_added(m0, n4, 0, int(p.added_K));
            [[unroll]] for (int m = 0; m < ROWS; m++)
                [[unroll]] for (int j = 0; j < CG; j++) {
                    precise const vec4 part = p.added_alpha * sum[m][j];
                    total[m][j] += part;
                }
        }
        [[unroll]] for (int j = 0; j < CG; j++) {
            const int left = int(p.N) - 4 * (n4 + j) - (p.N == 0 ? touched : 0); // never: it keeps the reads
            [[unroll]] for (int m = 0; m < ROWS; m++)
                if (m0 + m < int(p.M))
                    STORE(y, left > 0, (m0 + m) * ldy4 + int(p.y_col) / 4 + n4 + j,
                          mix(vec4(0), total[m][j], lessThan(ivec4(0, 1, 2, 3), ivec4(left))));
        }
        tile += int(gl_NumWorkGroups.x);
    } while (tile * TILE < int(p.N));
}
