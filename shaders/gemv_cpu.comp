// gemv.comp for CPU Vulkan drivers (Mesa llvmpipe), the same bits as dequantise.comp and gemm_cpu.comp:
// a sum takes its products in the same order. One module a format and subgroup size (LANES).
// Mapping: workgroup (x, y) = tile of 4 * LANES rows of W, tile of ROWS rows of x by one subgroup; a lane
// owns 4 rows of W, 32 columns a turn by whole texels of quants; a sum begins at column 0 or a multiple of
// DQ_HOLD. x is read once by the lanes and spread by constant-index shuffles, one for 4 multiply-adds. No
// shared memory. Behind the end of a row of x or W a 0 is taken (OUTSIDE).
// Loops test at their end: a driver without jumps runs the body of one that tests before once more, lanes off.
#version 450
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "lib/store.glsl"
#include "args.h"

#define TURN4 8      // vec4s of a row a turn
#define MOST_ROWS 16 // of x
layout(constant_id = 1) const uint ROWS = 1;
layout(local_size_x = LANES) in;
layout(push_constant) uniform push { gemv_args p; };
TARGET(0, y)
#define TILE (4 * LANES)
#include "lib/dq_texel.glsl"
#ifdef DQ_SCALES
layout(binding = 3, rgba32f) readonly uniform imageBuffer x;
layout(binding = 4) uniform samplerBuffer y4; // y for reading
#else
layout(binding = 2, rgba32f) readonly uniform imageBuffer x;
layout(binding = 3) uniform samplerBuffer y4;
#endif
#define READS ((ROWS * TURN4 + LANES - 1) / LANES) // of x a turn
#define MOST_READS ((MOST_ROWS * TURN4 + LANES - 1) / LANES)

const int OUTSIDE = -(1 << 30); // an index whose fetch gives 0

void main()
{
    const int lane = int(gl_LocalInvocationID.x), m0 = int(gl_WorkGroupID.y * ROWS);
    const int texels = (int(p.k_end) + 4 * COUNT4 - 1) / (4 * COUNT4); // of a row of W
    const int end = (int(p.k_end) + 3) / 4, ldx4 = int(p.ldx) / 4, ldy4 = int(p.ldy) / 4;

    dq_begin();
    int tile = int(gl_WorkGroupID.x);
    do {
        const int n4 = tile * LANES + lane; // rows 4 n4 ... of W
        vec4 sum[MOST_ROWS];
        const int touched = p.k_begin == 0 ? dq_touch(tile * TILE) : 0;

        [[unroll]] for (uint m = 0; m < ROWS; m++) sum[m] = vec4(0);
        int c = int(p.k_begin) / 4;
        do {
            const int b = c;
            ivec4 held[4];

            [[unroll]] for (int j = 0; j < 4; j++) held[j] = dq_hold(4 * n4 + j, b / COUNT4);
            do {
                vec4 x4[MOST_READS];
                dq_quants quants[TURN4 / COUNT4][4];

                [[unroll]] for (uint i = 0; i < READS; i++) {
                    const int at = int(i) * LANES + lane, k = c + at % TURN4;

                    x4[i] = imageLoad(x, k < end ? (m0 + at / TURN4) * ldx4 + k : OUTSIDE);
                }
                [[unroll]] for (int t = 0; t < TURN4 / COUNT4; t++) {
                    const int i = c / COUNT4 + t;

                    [[unroll]] for (int j = 0; j < 4; j++)
                        quants[t][j] = dq_read(held[j], 4 * n4 + j, i < texels ? i : OUTSIDE);
                }
                [[unroll]] for (int e = 0; e < TURN4; e++) {
                    vec4 w[4]; // of rows of W

                    [[unroll]] for (int j = 0; j < 4; j++) w[j] = dq_values(quants[e / COUNT4][j], e % COUNT4);
                    [[unroll]] for (uint m = 0; m < ROWS; m++)
                        [[unroll]] for (int q = 0; q < 4; q++) {
                            const uint at = m * TURN4 + e;
                            const float s = subgroupShuffle(x4[at / LANES][q], at % LANES);

                            sum[m] += s * vec4(w[0][q], w[1][q], w[2][q], w[3][q]);
                        }
                }
                c += TURN4;
            } while (c < min(b + DQ_HOLD / 4, end));
        } while (c < end);
        const int left = int(p.N) - 4 * n4 - (p.N == 0 ? touched : 0); // never: it keeps the reads
        [[unroll]] for (uint m = 0; m < ROWS; m++) {
            const int at = (m0 + int(m)) * ldy4 + int(p.y_col) / 4 + n4;
            precise vec4 v = p.alpha * sum[m]; // and then added: as in gemm_cpu.comp
            if (p.accumulate != 0)
                v += texelFetch(y4, at);
            v = mix(vec4(0), v, lessThan(ivec4(0, 1, 2, 3), ivec4(left)));
            if (m0 + int(m) < int(p.M))
                STORE(y, left > 0, at, v);
        }
        tile += int(gl_NumWorkGroups.x);
    } while (tile * TILE < int(p.N));
}
