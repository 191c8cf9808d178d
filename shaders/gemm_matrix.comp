// Matrix product of halves, or with -DBF16 of bf16, on matrix units (VK_KHR_cooperative_matrix). One module a FORM:
//   1 NT (forward)   C[M,N] = A[M,K] * B[N,K]^T * 2^(a_exp[m] + b_exp[n])  (+ C)
//   0 NN (backward)  C[M,N] = A[M,K] * B[K,N]   * 2^a_exp[m]               (+ C)
// A and B halves as pack_rows.comp writes them (lda, ldb multiples of 8; what lies between a row's end
// and ld is read but not used), sums and C f32; bf16 have no exponents. gemm.comp with -DHALVES is its
// twin for any device.
//
// Mapping: workgroup (x, y) = row tile, column tile of 2 WM x 4 WN; its 8 subgroups of LANES own WM x WN
// each, as accumulators of the device's shape TM x TN x TK (A is TM x TK, B TK x TN): llvmpipe's 8 8 8, AMD's
// and NVIDIA's 16 16 16, Intel's 8 8 16 (Xe-HPG) and 8 16 16 (Xe2), or any that divides the tile. The next
// tile's loads are in flight during the products: clamped into the matrix, zeroed on the way to shared
// memory, where rows are skewed by 16 bytes. The result leaves through the same shared memory, for the
// exponents and the bounds. Arrays are local to main and loops unrolled: matrices cannot be indexed
// dynamically. Shared for 64 x 32: 20480 bytes (NT), 18944 (NN).
#version 450
#extension GL_EXT_control_flow_attributes : require
#ifdef BF16
#extension GL_EXT_bfloat16 : require
#define ELEMENT bfloat16_t
#else
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#define ELEMENT float16_t
#endif
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#include "args.h"
#include "lib/matrix.glsl"
#include "lib/power.glsl"
#include "lib/unroll.glsl"

layout(constant_id = 1) const uint LANES = 32;
layout(constant_id = 2) const uint TM = 16;
layout(constant_id = 3) const uint TN = 16;
layout(constant_id = 4) const uint TK = 16;
layout(local_size_x_id = 5) in; // 8 * LANES
layout(constant_id = 6) const uint WM = 64; // multiples of TM and TN
layout(constant_id = 7) const uint WN = 32;
layout(push_constant) uniform push { gemm_half_args p; };
layout(binding = 0, std430) readonly buffer in_a { uvec4 a[]; };
layout(binding = 1, std430) readonly buffer in_b { uvec4 b[]; };
layout(binding = 2, std430) buffer out_c { vec4 c[]; };
#ifndef BF16
layout(binding = 3, std430) readonly buffer in_a_exp { int a_exp[]; };
#if FORM == 1
layout(binding = 4, std430) readonly buffer in_b_exp { int b_exp[]; };
#endif
#endif

const uint BM = 2 * WM, BN = 4 * WN, BK = 32;
const uint THREADS = 8 * LANES;
const bool B_COL = FORM == 1;                                        // k goes along the rows of B
const uint B_FAR = B_COL ? BN : BK, B_NEAR = B_COL ? BK : BN;        // a tile in memory: FAR rows of NEAR
const uint A_STRIDE = BK / 8 + 1, B_STRIDE = B_NEAR / 8 + 1;         // in uvec4
const uint A_SIZE = BM * A_STRIDE, TILE_SIZE = A_SIZE + B_FAR * B_STRIDE;
const uint A_JOBS = BM * BK / 8, A_REGS = (A_JOBS + THREADS - 1) / THREADS;
const uint B_JOBS = BN * BK / 8, B_REGS = (B_JOBS + THREADS - 1) / THREADS;
const uint OUT_SIZE = 8 * TM * TN / 4;                               // a matrix of sums a subgroup

shared uvec4 tile[TILE_SIZE > OUT_SIZE ? TILE_SIZE : OUT_SIZE];

// Job j of a tile as (far, near): 8 halves along memory.
uvec2 place(uint near, uint j) { return uvec2(j / (near / 8), j % (near / 8) * 8); }

uvec2 a_place(uint row0, uint k, uint t) { return uvec2(row0, k) + place(BK, t * THREADS + gl_LocalInvocationIndex); }

uvec2 b_place(uint col0, uint k, uint t)
{
    return (B_COL ? uvec2(col0, k) : uvec2(k, col0)) + place(B_NEAR, t * THREADS + gl_LocalInvocationIndex);
}

uvec2 clamped(uvec2 at, uvec2 end) { return min(at, uvec2(end.x - 1, (end.y - 1) / 8 * 8)); }

// v, whose first half stands at `at`, with 0 outside the matrix
uvec4 inside(uvec4 v, uvec2 at, uvec2 end)
{
    const uint n = at.x < end.x ? end.y - min(at.y, end.y) : 0;
    const bvec4 lo = greaterThan(uvec4(n), uvec4(0, 2, 4, 6)), hi = greaterThan(uvec4(n), uvec4(1, 3, 5, 7));

    return v & (mix(uvec4(0), uvec4(0xffffu), lo) | mix(uvec4(0), uvec4(0xffff0000u), hi));
}

// This lane's part of one matrix of sums, which lies in shared memory from `at` on.
void store(uint at, uint row0, uint col0)
{
    for (uint q = gl_SubgroupInvocationID; q < TM * TN / 4; q += LANES) {
        const uint row = row0 + q / (TN / 4), col = col0 + q % (TN / 4) * 4;
        const uint i = (row * p.ldc + p.c_col + col) / 4;

        if (row >= p.M || col >= p.N)
            continue;
        vec4 v = uintBitsToFloat(tile[at + q]);
#ifndef BF16
        v *= power(a_exp[row]);
#if FORM == 1
        for (uint e = 0; e < 4; e++)
            v[e] *= power(b_exp[min(col + e, p.N - 1)]);
#endif
#endif
        if (p.accumulate != 0)
            v += c[i];
        c[i] = mix(vec4(0), v, lessThan(col + uvec4(0, 1, 2, 3), uvec4(p.N)));
    }
}

void main()
{
    const uint row0 = gl_WorkGroupID.x * BM, col0 = gl_WorkGroupID.y * BN;
    const uint wm = gl_SubgroupID / (BN / WN) * WM, wn = gl_SubgroupID % (BN / WN) * WN;
    const uvec2 end_a = uvec2(p.M, p.K), end_b = B_COL ? uvec2(p.N, p.K) : uvec2(p.K, p.N);
    SUM sum[WM / TM][WN / TN];
    uvec4 reg_a[A_REGS], reg_b[B_REGS];

    FOR(i, WM / TM) FOR(j, WN / TN) sum[i][j] = SUM(0.0);
#define FETCH(k) \
    FOR(t, A_REGS) { const uvec2 at = clamped(a_place(row0, k, t), end_a); reg_a[t] = a[(at.x * p.lda + at.y) / 8]; } \
    FOR(t, B_REGS) { const uvec2 at = clamped(b_place(col0, k, t), end_b); reg_b[t] = b[(at.x * p.ldb + at.y) / 8]; }
// Registers to shared memory, of a tile within the matrices or at their edge.
#define PUT(value_a, value_b) \
    FOR(t, A_REGS) { \
        const uvec2 at = place(BK, t * THREADS + gl_LocalInvocationIndex); \
        if (A_JOBS % THREADS == 0 || at.x < BM) \
            tile[at.x * A_STRIDE + at.y / 8] = value_a; \
    } \
    FOR(t, B_REGS) { \
        const uvec2 at = place(B_NEAR, t * THREADS + gl_LocalInvocationIndex); \
        if (B_JOBS % THREADS == 0 || at.x < B_FAR) \
            tile[A_SIZE + at.x * B_STRIDE + at.y / 8] = value_b; \
    }
    FETCH(0)
    for (uint k0 = 0; k0 < p.K; k0 += BK) {
        barrier();
        if (row0 + BM <= p.M && col0 + BN <= p.N && k0 + BK <= p.K) {
            PUT(reg_a[t], reg_b[t])
        } else {
            PUT(inside(reg_a[t], a_place(row0, k0, t), end_a), inside(reg_b[t], b_place(col0, k0, t), end_b))
        }
        barrier();
        FETCH(k0 + BK) // in flight during the products
        FOR(k, BK / TK) {
            coopmat<ELEMENT, gl_ScopeSubgroup, TM, TK, gl_MatrixUseA> x[WM / TM];

            FOR(i, WM / TM)
                coopMatLoad(x[i], tile, (wm + i * TM) * A_STRIDE + k * TK / 8, A_STRIDE,
                            gl_CooperativeMatrixLayoutRowMajor);
            FOR(j, WN / TN) {
                const uint n = wn + j * TN;
                coopmat<ELEMENT, gl_ScopeSubgroup, TK, TN, gl_MatrixUseB> y;

#if FORM == 1
                coopMatLoad(y, tile, A_SIZE + n * B_STRIDE + k * TK / 8, B_STRIDE, gl_CooperativeMatrixLayoutColumnMajor);
#else
                coopMatLoad(y, tile, A_SIZE + k * TK * B_STRIDE + n / 8, B_STRIDE, gl_CooperativeMatrixLayoutRowMajor);
#endif
                FOR(i, WM / TM) sum[i][j] = coopMatMulAdd(x[i], y, sum[i][j]);
            }
        }
    }
    barrier();

    const uint at = gl_SubgroupID * TM * TN / 4;
    FOR(i, WM / TM) FOR(j, WN / TN) {
        coopMatStore(sum[i][j], tile, at, TN / 4, gl_CooperativeMatrixLayoutRowMajor);
        SYNC_SUBGROUP();
        store(at, row0 + wm + i * TM, col0 + wn + j * TN);
        SYNC_SUBGROUP();
    }
}
