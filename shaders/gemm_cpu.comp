// Matrix product for CPU Vulkan drivers (Mesa llvmpipe): the forms and conventions of gemm.comp.
// One module a FORM and subgroup size (LANES 4, 8, 16; equal to the device's subgroup size).
//
// Mapping: workgroup (x, y) = row tile, column tile of ROWS x COLS by one subgroup; a lane owns CG groups
// of 4 columns, the rows lie in registers (spilled: rows outside, KB values of k inside). No shared
// memory. A value of A is read by one lane and spread by a constant-index shuffle.
// TN sums blocks of GEMM_TN_BLOCK k apart and adds them to what C held, in order, in registers.
// Why so: there a texel fetch is one vector load a lane where a storage buffer read is a scalar loop
// over the lanes, and a fetch outside the view gives 0, which takes care of the tails: the views end
// with the matrices, row padding is 0. Only stores test for M and N. The columns from N to the next
// multiple of 4 are written as zeros.
#version 450
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "args.h"

#if LANES == 16
#define CG 1     // column groups of 4 a lane
#define GROUPS 4 // row groups of LANES a tile
#define KB 4     // k a turn: as many as leave a turn's code room in an instruction cache of 32 KiB
#elif LANES == 8
#define CG 2
#define GROUPS 4
#define KB 8
#else
#define CG 2
#define GROUPS 8
#define KB 8
#endif
#define ROWS (GROUPS * LANES) // tile: 64 x 64 (16 lanes), 32 x 64 (8), 32 x 32 (4)

layout(local_size_x = LANES) in;
layout(push_constant) uniform push { gemm_args p; };
layout(binding = 0, rgba32f) readonly uniform imageBuffer a4;
layout(binding = 1) uniform samplerBuffer b4;
layout(binding = 2) uniform samplerBuffer c4; // C for reading
layout(binding = 3, std430) writeonly buffer out_c { vec4 c[]; };

const int OUTSIDE = -(1 << 30); // added to an index: a read that gives 0

vec4 sum[ROWS][CG];

// sum = of k_begin ... k_end; col4: this lane's first column group.
void multiply(int row0, int col4, int k_begin, int k_end)
{
    const int lane = int(gl_LocalInvocationID.x);
    const int lda4 = int(p.lda) / 4, ldb4 = int(p.ldb) / 4;
    const int a_col4 = int(p.a_col) / 4, b_col4 = int(p.b_col) / 4;

    [[unroll]] for (int i = 0; i < ROWS; i++)
        [[unroll]] for (int j = 0; j < CG; j++)
            sum[i][j] = vec4(0);

    for (int k = k_begin; k < k_end; k += KB) {
        vec4 b[KB][CG]; // [k][column group]
#if FORM != 2
        int k4[KB / 4]; // offsets in rows of A (and B) along k
        [[unroll]] for (int q = 0; q < KB; q += 4)
            k4[q / 4] = k + q < int(p.K) ? (k + q) / 4 : OUTSIDE;
#endif
#if FORM == 1
        [[unroll]] for (int q = 0; q < KB; q += 4)
            [[unroll]] for (int j = 0; j < CG; j++) {
                vec4 t[4]; // 4 rows of B = 4 columns of C, 4 k each
                [[unroll]] for (int e = 0; e < 4; e++)
                    t[e] = texelFetch(b4, ((col4 + j) * 4 + e) * ldb4 + b_col4 + k4[q / 4]);
                [[unroll]] for (int e = 0; e < 4; e++)
                    b[q + e][j] = vec4(t[0][e], t[1][e], t[2][e], t[3][e]);
            }
#else
        [[unroll]] for (int q = 0; q < KB; q++)
            [[unroll]] for (int j = 0; j < CG; j++)
                b[q][j] = texelFetch(b4, (k + q) * ldb4 + b_col4 + col4 + j);
#endif
#if FORM == 2
        [[unroll]] for (int g = 0; g < GROUPS; g += 4) { // a lane reads 4 rows of C at one k
            vec4 a[KB];
            [[unroll]] for (int q = 0; q < KB; q++)
                a[q] = imageLoad(a4, (k + q) * lda4 + a_col4 + (row0 + g * LANES) / 4 + lane);
            [[unroll]] for (uint i = 0; i < 4 * LANES; i++)
                [[unroll]] for (int q = 0; q < KB; q++) {
                    const float s = subgroupShuffle(a[q][i & 3], i >> 2);
                    [[unroll]] for (int j = 0; j < CG; j++)
                        sum[g * LANES + i][j] += s * b[q][j];
                }
        }
#else
        [[unroll]] for (int g = 0; g < GROUPS; g++) { // a lane reads 1 row of C at KB k
            vec4 a[KB / 4];
            [[unroll]] for (int q = 0; q < KB / 4; q++)
                a[q] = imageLoad(a4, (row0 + g * LANES + lane) * lda4 + a_col4 + k4[q]);
            [[unroll]] for (uint i = 0; i < LANES; i++)
                [[unroll]] for (int q = 0; q < KB; q++) {
                    const float s = subgroupShuffle(a[q / 4][q & 3], i);
                    [[unroll]] for (int j = 0; j < CG; j++)
                        sum[g * LANES + i][j] += s * b[q][j];
                }
        }
#endif
    }
}

void main()
{
    const int lane = int(gl_LocalInvocationID.x);
    const int row0 = int(gl_WorkGroupID.x) * ROWS;
    const int col4 = (int(gl_WorkGroupID.y) * LANES + lane) * CG;
    const int ldc4 = int(p.ldc) / 4, c_col4 = int(p.c_col) / 4;

#if FORM == 2
    vec4 total[ROWS][CG];

    [[unroll]] for (int i = 0; i < ROWS; i++)
        [[unroll]] for (int j = 0; j < CG; j++)
            total[i][j] = p.accumulate != 0 ? texelFetch(c4, (row0 + i) * ldc4 + c_col4 + col4 + j) : vec4(0);
    for (int k = 0; k < int(p.K); k += GEMM_TN_BLOCK) {
        multiply(row0, col4, k, min(k + GEMM_TN_BLOCK, int(p.K)));
        [[unroll]] for (int i = 0; i < ROWS; i++)
            [[unroll]] for (int j = 0; j < CG; j++) {
                precise const vec4 part = p.alpha * sum[i][j]; // and then added: as in gemv_cpu.comp
                total[i][j] += part;
            }
    }
#else
    multiply(row0, col4, 0, int(p.K));
#endif

    [[unroll]] for (int j = 0; j < CG; j++) {
        const int left = int(p.N) - (col4 + j) * 4; // columns of this group and behind it
        if (left > 0)
            [[unroll]] for (int i = 0; i < ROWS; i++) {
                const int at = (row0 + i) * ldc4 + c_col4 + col4 + j;
                if (row0 + i < int(p.M)) {
#if FORM == 2
                    const vec4 v = total[i][j];
#else
                    precise vec4 v = p.alpha * sum[i][j]; // and then added: as in gemv_cpu.comp
                    if (p.accumulate != 0)
                        v += texelFetch(c4, at);
#endif
                    c[at] = mix(vec4(0), v, lessThan(ivec4(0, 1, 2, 3), ivec4(left)));
                }
            }
    }
}
