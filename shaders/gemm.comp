// Matrix product, baseline: any Vulkan 1.2 device. One module a FORM:
//   1 NT (forward)   C[M,N] = alpha * A[M,K] * B[N,K]^T  (+ C)
//   0 NN (backward)  C[M,N] = alpha * A[M,K] * B[K,N]    (+ C)
//   2 TN (gradient)  C[M,N] = alpha * A[K,M]^T * B[K,N]  (+ C), K in blocks of GEMM_TN_BLOCK, each added to C
// Row-major f32; ld* and *_col (first column of the matrix in its rows) are multiples of 4. The sum over
// k runs in order in one invocation, so an element's bits do not depend on M, N or the tile. With
// -DHALVES A and B are halves with an exponent a row, alpha is 1, with -DBF16 too bf16 without exponents: see
// gemm_matrix.comp. With -DSTORED, of form NN, B is a weight as it is stored (-DDQ_<name>), decoded where it is loaded.
//
// Mapping: workgroup (x, y) = row tile, column tile of 64 x 64; 128 invocations own 8 x 4 each, in groups
// of 4 rows that lie 32 rows apart, so that neighbours read successive vec4 of shared memory. The next
// tile is loaded to registers during the products: clamped, zeroed on the way to shared memory.
// Shared: 16 * BK * (BM / 4 + BN / 4 + 2) = 8704 bytes. No subgroup operation. The columns from N to the
// next multiple of 4 are written as zeros.
#version 450
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require
#include "args.h"
#include "lib/power.glsl"

const uint BM = 64, BN = 64, BK = 16, TM = 8, TN = 4, THREADS = 128;

layout(local_size_x = 128) in;
#ifdef STORED
layout(push_constant) uniform push { gemm_stored_args p; };
layout(binding = 0, std430) buffer out_c { vec4 c[]; };
#include "lib/dq.glsl"
#ifdef DQ_SCALES
layout(binding = 3, std430) readonly buffer in_a { vec4 a[]; };
#else
layout(binding = 2, std430) readonly buffer in_a { vec4 a[]; };
#endif

vec4 load_a(uint r, uint i) { return a[(r * p.lda + p.a_col + i) / 4]; }
vec4 load_b(uint r, uint i) { return dq(r, i / 4); }
vec4 scaled(vec4 v, uint row, uint col) { return p.alpha * v; }
#else
layout(binding = 2, std430) buffer out_c { vec4 c[]; };
#ifdef HALVES
layout(push_constant) uniform push { gemm_half_args p; };
layout(binding = 0, std430) readonly buffer in_a { uvec2 a[]; };
layout(binding = 1, std430) readonly buffer in_b { uvec2 b[]; };
#ifdef BF16
vec4 widen(uvec2 h) { return uintBitsToFloat(uvec4(h.x << 16, h.x & 0xffff0000u, h.y << 16, h.y & 0xffff0000u)); }
vec4 scaled(vec4 v, uint row, uint col) { return v; }
#else
layout(binding = 3, std430) readonly buffer in_a_exp { int a_exp[]; };
#if FORM == 1
layout(binding = 4, std430) readonly buffer in_b_exp { int b_exp[]; };
#endif

vec4 widen(uvec2 h) { return vec4(unpackHalf2x16(h.x), unpackHalf2x16(h.y)); }
vec4 scaled(vec4 v, uint row, uint col)
{
    v *= power(a_exp[row]);
#if FORM == 1
    for (uint e = 0; e < 4; e++)
        v[e] *= power(b_exp[min(col + e, p.N - 1)]);
#endif
    return v;
}
#endif
vec4 load_a(uint r, uint i) { return widen(a[(r * p.lda + i) / 4]); }
vec4 load_b(uint r, uint i) { return widen(b[(r * p.ldb + i) / 4]); }
#else
layout(push_constant) uniform push { gemm_args p; };
layout(binding = 0, std430) readonly buffer in_a { vec4 a[]; };
layout(binding = 1, std430) readonly buffer in_b { vec4 b[]; };

vec4 load_a(uint r, uint i) { return a[(r * p.lda + p.a_col + i) / 4]; }
vec4 load_b(uint r, uint i) { return b[(r * p.ldb + p.b_col + i) / 4]; }
vec4 scaled(vec4 v, uint row, uint col) { return p.alpha * v; }
#endif
#endif

// In shared memory a row is one k. Where memory has k along its rows, 4 values spread over 4 rows.
const bool A_FLIP = FORM != 2, B_FLIP = FORM == 1;
const uint A_FAR = A_FLIP ? BM : BK, A_NEAR = A_FLIP ? BK : BM; // a tile in memory: FAR rows of NEAR
const uint B_FAR = B_FLIP ? BN : BK, B_NEAR = B_FLIP ? BK : BN;
const uint A_STRIDE = BM / 4 + 1, B_STRIDE = BN / 4 + 1; // vec4, skewed by one
const uint A_REGS = BM * BK / 4 / THREADS, B_REGS = BN * BK / 4 / THREADS;

shared vec4 tile_a[BK * A_STRIDE], tile_b[BK * B_STRIDE];
vec4 reg_a[A_REGS], reg_b[B_REGS];

// Job j of a tile as (far, near): 4 values along memory.
uvec2 place(uint near, uint j) { return uvec2(j / (near / 4), j % (near / 4) * 4); }

void fetch_tiles(uint row0, uint col0, uint k)
{
    const uvec2 origin_a = A_FLIP ? uvec2(row0, k) : uvec2(k, row0);
    const uvec2 origin_b = B_FLIP ? uvec2(col0, k) : uvec2(k, col0);
    const uvec2 last_a = (A_FLIP ? uvec2(p.M, p.K) : uvec2(p.K, p.M)) - 1;
    const uvec2 last_b = (B_FLIP ? uvec2(p.N, p.K) : uvec2(p.K, p.N)) - 1;

    [[unroll]] for (uint t = 0; t < A_REGS; t++) {
        const uvec2 at = origin_a + place(A_NEAR, t * THREADS + gl_LocalInvocationIndex);
        reg_a[t] = load_a(min(at.x, last_a.x), min(at.y, last_a.y & ~3u));
    }
    [[unroll]] for (uint t = 0; t < B_REGS; t++) {
        const uvec2 at = origin_b + place(B_NEAR, t * THREADS + gl_LocalInvocationIndex);
        reg_b[t] = load_b(min(at.x, last_b.x), min(at.y, last_b.y & ~3u));
    }
}

// 0 outside the matrix, whose element (far, near) = at is the first of v
vec4 inside(vec4 v, uvec2 at, uvec2 end)
{
    return mix(vec4(0), v, lessThan(at.y + uvec4(0, 1, 2, 3), uvec4(at.x < end.x ? end.y : 0)));
}

void put_tiles(uint row0, uint col0, uint k)
{
    const uvec2 origin_a = A_FLIP ? uvec2(row0, k) : uvec2(k, row0);
    const uvec2 origin_b = B_FLIP ? uvec2(col0, k) : uvec2(k, col0);
    const uvec2 end_a = A_FLIP ? uvec2(p.M, p.K) : uvec2(p.K, p.M);
    const uvec2 end_b = B_FLIP ? uvec2(p.N, p.K) : uvec2(p.K, p.N);

    [[unroll]] for (uint t = 0; t < A_REGS; t++) {
        const uvec2 at = place(A_NEAR, t * THREADS + gl_LocalInvocationIndex);
        const vec4 v = inside(reg_a[t], origin_a + at, end_a);
        if (A_FLIP)
            [[unroll]] for (uint e = 0; e < 4; e++)
                tile_a[(at.y + e) * A_STRIDE + at.x / 4][at.x % 4] = v[e];
        else
            tile_a[at.x * A_STRIDE + at.y / 4] = v;
    }
    [[unroll]] for (uint t = 0; t < B_REGS; t++) {
        const uvec2 at = place(B_NEAR, t * THREADS + gl_LocalInvocationIndex);
        const vec4 v = inside(reg_b[t], origin_b + at, end_b);
        if (B_FLIP)
            [[unroll]] for (uint e = 0; e < 4; e++)
                tile_b[(at.y + e) * B_STRIDE + at.x / 4][at.x % 4] = v[e];
        else
            tile_b[at.x * B_STRIDE + at.y / 4] = v;
    }
}

vec4 sum[TM]; // of this invocation: rows of its two groups, 4 columns each

// sum = of k_begin ... k_end. Registers hold the tile at k_begin before, that at k_end afterwards.
void multiply(uint row0, uint col0, uint tm, uint tn, uint k_begin, uint k_end)
{
    [[unroll]] for (uint i = 0; i < TM; i++)
        sum[i] = vec4(0);
    for (uint k0 = k_begin; k0 < k_end; k0 += BK) {
        barrier();
        put_tiles(row0, col0, k0);
        barrier();
        fetch_tiles(row0, col0, k0 + BK); // in flight during the products
        [[unroll]] for (uint k = 0; k < BK; k++) {
            vec4 x[TM / 4];
            const vec4 y = tile_b[k * B_STRIDE + tn];
            [[unroll]] for (uint i = 0; i < TM / 4; i++)
                x[i] = tile_a[k * A_STRIDE + i * (BM / TM) + tm];
            [[unroll]] for (uint i = 0; i < TM; i++)
                sum[i] += x[i / 4][i % 4] * y;
        }
    }
}

void store(uint row0, uint col, uint tm, bool accumulate)
{
    const bvec4 used = lessThan(col + uvec4(0, 1, 2, 3), uvec4(p.N));

    if (col < p.N)
        [[unroll]] for (uint i = 0; i < TM; i++) {
            const uint row = row0 + (i / 4 * (BM / TM) + tm) * 4 + i % 4;
            const uint at = (row * p.ldc + p.c_col + col) / 4;
            if (row < p.M) {
                vec4 v = scaled(sum[i], row, col);
                if (accumulate)
                    v += c[at];
                c[at] = mix(vec4(0), v, used);
            }
        }
}

void main()
{
    const uint row0 = gl_WorkGroupID.x * BM, col0 = gl_WorkGroupID.y * BN;
    const uint tm = gl_LocalInvocationIndex / (BN / TN), tn = gl_LocalInvocationIndex % (BN / TN);

    fetch_tiles(row0, col0, 0);
#if FORM == 2
    for (uint k = 0; k < p.K; k += GEMM_TN_BLOCK) {
        multiply(row0, col0, tm, tn, k, min(k + GEMM_TN_BLOCK, p.K));
        store(row0, col0 + tn * 4, tm, p.accumulate != 0 || k > 0);
    }
#else
    multiply(row0, col0, tm, tn, 0, p.K);
    store(row0, col0 + tn * 4, tm, p.accumulate != 0);
#endif
}
