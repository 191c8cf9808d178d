// Parts of the attention kernels on matrix units. A tile is TILE rows and COLS columns, each a vector of D
// values, filled up with zeros to DP. Vectors lie in shared memory as halves with a power-of-two exponent
// each, made where they are loaded: values of any magnitude keep 11 bits. Sums are f32.
//
// Mapping: subgroup (i, side) = (id / 2, id % 2) owns TM rows from i TM on. They are multiplied with columns
// into scores; then an invocation has CPT columns of a row's scores and turns them into weights, halves in
// the scores' place; the weights are multiplied with the columns into outputs, of which a subgroup owns one
// half of D as accumulators of the device's shape: A is TM x TK, B TK x TN, sums TM x TN, as
// VkCooperativeMatrixPropertiesKHR has them. TM divides 32 and TN and TK divide 16, that is all: both products
// are of the form A B, and scores (sums) become weights (A) in shared memory, so that TN and TK need not be
// equal. A row's weights are divided by 2^e, and e moves with the row: accumulators are multiplied by a matrix
// with one factor a row (loaded with stride 0).
// A row's bits depend on its own vector and columns alone. Shared at D 128: 31232 bytes at most, and 1 KiB.
//
// The including file says COLS, and SIDES: sets of rows and of scores (columns have two).
#include "attention_score.glsl"
#include "matrix.glsl"
#include "to_halves.glsl"

layout(constant_id = 5) const uint LANES = 32;
layout(constant_id = 6) const uint TM = 16;
layout(constant_id = 7) const uint TN = 16;
layout(constant_id = 8) const uint TK = 16;
layout(local_size_x_id = 9) in; // 2 TILE / TM * LANES

const uint WG = 2 * TILE / TM * LANES;
const uint DP = (D + 31) / 32 * 32;
const uint STRIDE = DP / 8 + 1;         // from vector to vector, in uvec4: skewed by 16 bytes
const uint SCORE_STRIDE = COLS / 4 + 1; // from row to row of scores or weights, in uvec4
const uint OUT_STRIDE = DP / 4 + 1;     // of outputs on their way to memory, in uvec4
const uint LPR = WG / TILE, CPT = COLS / LPR; // lanes of a row of scores, columns of a lane
const uint SUMS = DP / 2 / TN; // accumulators of a subgroup

shared uvec4 rows[SIDES * TILE * STRIDE], cols[2 * COLS * STRIDE], scores[SIDES * TILE * SCORE_STRIDE];
shared int row_exp[SIDES * TILE], col_exp[2 * COLS];
shared float factor[SIDES * TILE];

#define LANE (gl_SubgroupID * LANES + gl_SubgroupInvocationID)
#define ROW (LANE / LPR)              // of scores, of this invocation
#define COL (LANE % LPR * CPT)        // its first column
#define ROW0 (gl_SubgroupID / 2 * TM) // of scores and outputs, of this subgroup
#define SIDE (gl_SubgroupID % 2)

uint bits_of(float x) { return floatBitsToUint(x) & 0x7fffffffu; }

// The largest of the n lanes side by side, n a power of two
uint most_of(uint x, uint n)
{
    for (uint i = 1; i < n; i *= 2)
        x = max(x, subgroupShuffleXor(x, i));
    return x;
}

float sum_of(float x, uint n)
{
    for (uint i = 1; i < n; i *= 2)
        x += subgroupShuffleXor(x, i);
    return x;
}

// n vectors of f32 as halves in to[at ...], their exponents in exps[0 ... n). LOAD(r, d): vec4 d of vector r.
#define STAGE(to, at, exps, exp_at, n, LOAD)                                    \
    {                                                                           \
        const uint lanes = WG / (n), regs = (DP / 8 + lanes - 1) / lanes;       \
        const uint r = LANE / lanes, d0 = LANE % lanes;                         \
        vec4 lo[regs], hi[regs];                                                \
        uint top = 0;                                                           \
        FOR(i, regs) {                                                          \
            const uint d = 2 * (d0 + i * lanes);                                \
            lo[i] = d < D4 ? LOAD(r, d) : vec4(0);                              \
            hi[i] = d + 1 < D4 ? LOAD(r, d + 1) : vec4(0);                      \
            FOR(e, 4) top = max(top, max(bits_of(lo[i][e]), bits_of(hi[i][e]))); \
        }                                                                       \
        const int e = half_exp(most_of(top, lanes));                            \
        FOR(i, regs) {                                                          \
            const vec4 a = lo[i] * power(-e), b = hi[i] * power(-e);            \
            if (d0 + i * lanes < DP / 8)                                        \
                to[(at) + r * STRIDE + d0 + i * lanes] = to_halves(a, b);       \
        }                                                                       \
        if (d0 == 0)                                                            \
            exps[(exp_at) + r] = e;                                             \
    }

// Scores of set `set` = rows times columns of their sets, at columns c0 ... c0 + n TN
#define PRODUCT(set, row_set, col_set, c0, n)                                   \
    {                                                                           \
        const uint a0 = ((row_set) * TILE + ROW0) * STRIDE, b0 = ((col_set) * COLS + (c0)) * STRIDE; \
        SUM s[n];                                                               \
        FOR(j, n) s[j] = SUM(0.0);                                              \
        for (uint k = 0; k < DP / TK; k++) {                                    \
            coopmat<float16_t, gl_ScopeSubgroup, TM, TK, gl_MatrixUseA> x;      \
            coopMatLoad(x, rows, a0 + k * TK / 8, STRIDE, gl_CooperativeMatrixLayoutRowMajor); \
            FOR(j, n) {                                                         \
                coopmat<float16_t, gl_ScopeSubgroup, TK, TN, gl_MatrixUseB> y;  \
                coopMatLoad(y, cols, b0 + j * TN * STRIDE + k * TK / 8, STRIDE, \
                            gl_CooperativeMatrixLayoutColumnMajor);             \
                s[j] = coopMatMulAdd(x, y, s[j]);                               \
            }                                                                   \
        }                                                                       \
        FOR(j, n)                                                               \
            coopMatStore(s[j], scores, ((set) * TILE + ROW0) * SCORE_STRIDE + ((c0) + j * TN) / 4, SCORE_STRIDE, \
                         gl_CooperativeMatrixLayoutRowMajor);                   \
    }

// A score, and two weights, of this invocation's row
#define SCORE_AT(set, c) uintBitsToFloat(scores[((set) * TILE + ROW) * SCORE_STRIDE + (c) / 4][(c) % 4])
#define PUT_WEIGHTS(set, c, two) \
    scores[((set) * TILE + ROW) * SCORE_STRIDE + (c) / 8][(c) / 2 % 4] = packHalf2x16(two)

// sum += weights of set `set` times columns of set `col_set`, each row first multiplied by its factor
#define ACCUMULATE(sum, set, col_set)                                           \
    {                                                                           \
        const uint a0 = ((set) * TILE + ROW0) * SCORE_STRIDE, b0 = (col_set) * COLS * STRIDE + SIDE * DP / 16; \
        SCALE_ROWS(sum, set)                                                    \
        for (uint k = 0; k < COLS / TK; k++) {                                  \
            coopmat<float16_t, gl_ScopeSubgroup, TM, TK, gl_MatrixUseA> x;      \
            coopMatLoad(x, scores, a0 + k * TK / 8, SCORE_STRIDE, gl_CooperativeMatrixLayoutRowMajor); \
            FOR(i, SUMS) {                                                      \
                coopmat<float16_t, gl_ScopeSubgroup, TK, TN, gl_MatrixUseB> y;  \
                coopMatLoad(y, cols, b0 + k * TK * STRIDE + i * TN / 8, STRIDE, \
                            gl_CooperativeMatrixLayoutRowMajor);                \
                sum[i] = coopMatMulAdd(x, y, sum[i]);                           \
            }                                                                   \
        }                                                                       \
    }

#define SCALE_ROWS(sum, set)                                                    \
    {                                                                           \
        SUM f;                                                                  \
        coopMatLoad(f, factor, (set) * TILE + ROW0, 0, gl_CooperativeMatrixLayoutColumnMajor); \
        FOR(i, SUMS) sum[i] *= f;                                               \
    }

// sum times its rows' factors to memory, by way of the shared array `to`. STORE(r, d, v): vec4 d of row r.
#define WRITE(sum, set, to, STORE)                                              \
    {                                                                           \
        SCALE_ROWS(sum, set)                                                    \
        FOR(i, SUMS)                                                            \
            coopMatStore(sum[i], to, ROW0 * OUT_STRIDE + (SIDE * DP / 2 + i * TN) / 4, OUT_STRIDE, \
                         gl_CooperativeMatrixLayoutRowMajor);                   \
        barrier();                                                              \
        for (uint i = LANE; i < TILE * D4; i += WG)                             \
            STORE(i / D4, i % D4, uintBitsToFloat(to[i / D4 * OUT_STRIDE + i % D4])); \
    }

// A row's weights w[CPT] become halves times 2^-e. `e`, of the weights so far, becomes what these need or
// `move` less than it was, whichever is more; the row's factor is what sums so far shrink by.
#define WEIGH(w, e, move, set)                                                  \
    {                                                                           \
        const float before = e - (move), least = e - floor(move);               \
        uint top = 0;                                                           \
        FOR(j, CPT) top = max(top, bits_of(w[j]));                              \
        top = most_of(top, LPR);                                                \
        e = max(least, top == 0 ? LEAST_EXP : float(half_exp(top)));            \
        const float scale = power(-int(e));                                     \
        FOR(j, CPT / 2) PUT_WEIGHTS(set, COL + 2 * j, vec2(w[2 * j], w[2 * j + 1]) * scale); \
        if (COL == 0)                                                           \
            factor[(set) * TILE + ROW] = exp2_neg(before - e);                  \
    }
