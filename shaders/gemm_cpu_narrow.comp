// gemm_cpu.comp for products with a narrow side, such as the ranks of adapters: the same bits.
//   FORM 0, 1, 2  NN, NT, TN with few columns (N)    FORM 3  TN with few rows (M)
// TN sums blocks of GEMM_TN_BLOCK k apart and adds them to what C held, in order, in registers.
// Mapping: a workgroup is a tile of NARROW values of the narrow side, in registers, and 4 * LANES * CG
// of the long one, by lanes; the rest as there. TN reads a column of lines of the long side: those of the
// next turn are touched (lib/touch.glsl). A sum takes its products in the same order as there, and a
// product's factors may be swapped. One module a FORM and subgroup size (LANES 4, 8, 16).
#version 450
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_shuffle : require
#define ADJACENT (CG == 1) // a lane has one group of columns
#include "lib/store.glsl"
#include "args.h"

#if LANES == 16
#define CG 1 // groups of 4 of the long side a lane
#else
#define CG 2
#endif
#define NARROW 16
#define KB 8             // k a turn
#define KF (LANES / 4)   // k that the lanes read of the narrow side at a time, where it lies by columns

layout(local_size_x = LANES) in;
layout(push_constant) uniform push { gemm_args p; };
#if FORM == 3
layout(binding = 0, rgba32f) readonly uniform imageBuffer narrow4;
layout(binding = 1) uniform samplerBuffer long4;
#define LD_NARROW p.lda
#define LD_LONG p.ldb
#define COL_NARROW p.a_col
#define COL_LONG p.b_col
#else
#if FORM == 2
layout(binding = 0) uniform samplerBuffer long4;
#else
layout(binding = 0, rgba32f) readonly uniform imageBuffer long4;
#endif
layout(binding = 1, rgba32f) readonly uniform imageBuffer narrow4;
#define LD_NARROW p.ldb
#define LD_LONG p.lda
#define COL_NARROW p.b_col
#define COL_LONG p.a_col
#endif
layout(binding = 2) uniform samplerBuffer c4; // C for reading
TARGET(3, c)

const int OUTSIDE = -(1 << 30); // added to an index: a read that gives 0

vec4 sum[NARROW][CG];
#if FORM >= 2
int touched = 0;

#include "lib/touch.glsl"
#endif

// sum = of k_begin ... k_end; group0: this lane's first group of 4 of the long side.
void multiply(int narrow0, int group0, int k_begin, int k_end)
{
    const int lane = int(gl_LocalInvocationID.x);
    const int lds4 = int(LD_NARROW) / 4, ldl4 = int(LD_LONG) / 4;
    const int s_col4 = int(COL_NARROW) / 4, l_col4 = int(COL_LONG) / 4;
#if FORM >= 2
    const int last = (int(p.K) - 1) * ldl4; // row of the long side, read again (times 0) where KB asks for more
#endif

    [[unroll]] for (int i = 0; i < NARROW; i++)
        [[unroll]] for (int j = 0; j < CG; j++)
            sum[i][j] = vec4(0);

    for (int k = k_begin; k < k_end; k += KB) {
        vec4 l[KB][CG]; // of the long side: [k][group]
#if FORM < 2
        int k4[KB / 4]; // offsets in rows along k
        [[unroll]] for (int q = 0; q < KB; q += 4)
            k4[q / 4] = k + q < int(p.K) ? (k + q) / 4 : OUTSIDE;
        [[unroll]] for (int q = 0; q < KB; q += 4)
            [[unroll]] for (int j = 0; j < CG; j++) {
                vec4 t[4]; // 4 rows, 4 k each
                [[unroll]] for (int e = 0; e < 4; e++)
                    t[e] = imageLoad(long4, ((group0 + j) * 4 + e) * ldl4 + l_col4 + k4[q / 4]);
                [[unroll]] for (int e = 0; e < 4; e++)
                    l[q + e][j] = vec4(t[0][e], t[1][e], t[2][e], t[3][e]);
            }
#else
        [[unroll]] for (int q = 0; q < KB; q++)
            [[unroll]] for (int j = 0; j < CG; j++)
                l[q][j] = texelFetch(long4, min((k + q) * ldl4, last) + l_col4 + group0 + j);
        touched |= touch(long4, (k + KB) * ldl4 + l_col4 + group0 - lane * CG, ldl4, KB, CG * LANES / 4);
#endif
#if FORM == 1
        [[unroll]] for (int g = 0; g < NARROW; g += LANES) { // a lane reads KB k of one column of C
            vec4 s4[KB / 4];
            [[unroll]] for (int q = 0; q < KB / 4; q++)
                s4[q] = imageLoad(narrow4, (narrow0 + g + lane) * lds4 + s_col4 + k4[q]);
            [[unroll]] for (int i = 0; i < LANES; i++)
                [[unroll]] for (int q = 0; q < KB; q++) {
                    const float s = subgroupShuffle(s4[q / 4][q & 3], uint(i));
                    [[unroll]] for (int j = 0; j < CG; j++)
                        sum[g + i][j] += s * l[q][j];
                }
        }
#else
        vec4 s4[KB / KF]; // a lane reads 4 of the narrow side at one k
        [[unroll]] for (int q = 0; q < KB / KF; q++) {
            const int at = k + q * KF + lane / 4;
            s4[q] = imageLoad(narrow4, (at < int(p.K) ? at * lds4 : OUTSIDE) + s_col4 + narrow0 / 4 + lane % 4);
        }
        [[unroll]] for (int i = 0; i < NARROW; i++)
            [[unroll]] for (int q = 0; q < KB; q++) {
                const float s = subgroupShuffle(s4[q / KF][i & 3], uint(q % KF * 4 + i / 4));
                [[unroll]] for (int j = 0; j < CG; j++)
                    sum[i][j] += s * l[q][j];
            }
#endif
    }
}

int place(int row, int at) { return row * int(p.ldc) / 4 + int(p.c_col) / 4 + at; }

// What C holds, or 0, as sums lie.
void read_c(int narrow0, int group0, out vec4 held[NARROW][CG])
{
    [[unroll]] for (int j = 0; j < CG; j++)
#if FORM == 3
        [[unroll]] for (int i = 0; i < NARROW; i++)
            held[i][j] = p.accumulate != 0 ? texelFetch(c4, place(narrow0 + i, group0 + j)) : vec4(0);
#else
        [[unroll]] for (int e = 0; e < 4; e++)
            [[unroll]] for (int i = 0; i < NARROW; i += 4) {
                const int at = place((group0 + j) * 4 + e, (narrow0 + i) / 4);
                const vec4 v = p.accumulate != 0 ? texelFetch(c4, at) : vec4(0);
                [[unroll]] for (int q = 0; q < 4; q++)
                    held[i + q][j][e] = v[q];
            }
#endif
}

// v into C at vec4 `at` of row `row`, of which `left` columns are left.
void put(int row, int at, int left, vec4 v)
{
#if FORM >= 2
    left -= p.N == 0 ? touched : 0; // never: it keeps the reads
#endif
    STORE(c, row < int(p.M) && left > 0, place(row, at), mix(vec4(0), v, lessThan(ivec4(0, 1, 2, 3), ivec4(left))));
}

void main()
{
    const int lane = int(gl_LocalInvocationID.x);
#if FORM == 3
    const int narrow0 = int(gl_WorkGroupID.x) * NARROW;
    const int group0 = (int(gl_WorkGroupID.y) * LANES + lane) * CG;
#else
    const int narrow0 = int(gl_WorkGroupID.y) * NARROW;
    const int group0 = (int(gl_WorkGroupID.x) * LANES + lane) * CG;
#endif
    const int block = FORM >= 2 ? GEMM_TN_BLOCK : int(p.K);
    vec4 total[NARROW][CG];

    read_c(narrow0, group0, total);
    for (int k = 0; k < int(p.K); k += block) {
        multiply(narrow0, group0, k, min(k + block, int(p.K)));
        [[unroll]] for (int i = 0; i < NARROW; i++)
            [[unroll]] for (int j = 0; j < CG; j++) {
                precise const vec4 part = p.alpha * sum[i][j]; // and then added: as in gemv_cpu.comp
                total[i][j] += part;
            }
    }

    [[unroll]] for (int j = 0; j < CG; j++)
#if FORM == 3
        [[unroll]] for (int i = 0; i < NARROW; i++)
            put(narrow0 + i, group0 + j, int(p.N) - (group0 + j) * 4, total[i][j]);
#else
        [[unroll]] for (int e = 0; e < 4; e++)
            [[unroll]] for (int i = 0; i < NARROW; i += 4)
                put((group0 + j) * 4 + e, (narrow0 + i) / 4, int(p.N) - narrow0 - i,
                    vec4(total[i][j][e], total[i + 1][j][e], total[i + 2][j][e], total[i + 3][j][e]));
#endif
}
