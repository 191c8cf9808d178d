// Parts of the portable attention kernels. A score tile is TILE rows x TILE columns, each row and
// column a vector of D elements. The invocation (tx, ty) = (i % 8, i / 8) computes the scores of rows
// 2 ty, 2 ty + 1 with columns tx, tx + 8, tx + 16, tx + 24; outputs (TILE rows x at most SLICE columns
// of D) belong to invocation i as rows 4 (i / 16) ... + 3 and vec4 columns i % 16, i % 16 + 16.
// No subgroup operation: the same bits at any subgroup size. Shared: 9 KiB, 4 KiB a weight tile.
#include "attention_score.glsl"

#define WG 128
#define CHUNK4 8 // vec4 columns of D that are staged at a time
#define SLICE4 32 // vec4 columns of D that a workgroup writes: the grid's z picks them
#define GROUPS (D4 > 16 ? 2 : 1) // column groups of an invocation
layout(local_size_x = WG) in;

shared vec4 tile_rows[TILE][CHUNK4 + 1], tile_cols[TILE][CHUNK4 + 1];

// s[i][j] = row(2 ty + i) . column(tx + 8 j). LOAD_ROW(r, d) and LOAD_COL(c, d) are vec4 d of a vector.
#define SCORES(s, LOAD_ROW, LOAD_COL)                                       \
    FOR(si, 2) s[si] = vec4(0);                                             \
    for (uint d0 = 0; d0 < D4; d0 += CHUNK4) {                              \
        barrier();                                                          \
        for (uint e = gl_LocalInvocationIndex; e < TILE * CHUNK4; e += WG) { \
            const uint sr = e / CHUNK4, sd = e % CHUNK4;                    \
            const bool inside = d0 + sd < D4;                               \
            tile_rows[sr][sd] = inside ? LOAD_ROW(sr, d0 + sd) : vec4(0);   \
            tile_cols[sr][sd] = inside ? LOAD_COL(sr, d0 + sd) : vec4(0);   \
        }                                                                   \
        barrier();                                                          \
        for (uint d = 0; d < CHUNK4; d++) {                                 \
            const vec4 low = tile_rows[2 * ty][d], high = tile_rows[2 * ty + 1][d]; \
            FOR(sj, 4) {                                                    \
                const vec4 b = tile_cols[tx + 8 * sj][d];                   \
                s[0][sj] += dot(low, b);                                    \
                s[1][sj] += dot(high, b);                                   \
            }                                                               \
        }                                                                   \
    }

// sum[i][c] += weight[row][k] * vector(k) for k in [0, n), the rows and columns of this invocation.
// LOAD(k, d) is vec4 d of vector k.
#define WEIGHTED_SUM(sum, weight, n, LOAD)                                  \
    for (uint k = 0; k < (n); k += 4) {                                     \
        vec4 value[4][GROUPS];                                              \
        FOR(e, 4) FOR(c, GROUPS)                                            \
            value[e][c] = k + e < (n) && col4(c) < D4 ? LOAD(k + e, col4(c)) : vec4(0); \
        FOR(i, 4) FOR(e, 4) {                                               \
            const float w = weight[row4 + i][k + e];                        \
            FOR(c, GROUPS) sum[i][c] += w * value[e][c];                    \
        }                                                                   \
    }

uint col4(uint group) { return gl_WorkGroupID.z * SLICE4 + group * 16 + gl_LocalInvocationIndex % 16; }
