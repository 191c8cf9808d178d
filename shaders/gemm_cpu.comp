// Matrix product for CPU Vulkan drivers (Mesa llvmpipe): the forms and conventions of gemm.comp.
// One module a FORM and subgroup size (LANES 4, 8, 16; equal to the device's subgroup size).
//
// With -DREGISTERS32 for 8 lanes of processors that have 32 vector registers. With -DSTORED, of form NN and 16
// lanes, B is a weight as it is stored (-DDQ_<name>): a turn decodes its 4 k by words, there is no copy in f32.
//
// Mapping: workgroup (x, y) = row tile, column tile of ROWS x COLS by one subgroup, in form NN counted
// through columns first (not with REGISTERS32); a lane owns CG groups of 4 columns, the rows lie in registers
// (spilled: rows outside, KB values of k inside). No shared memory. A value of A is read by one lane and spread
// by a constant-index shuffle.
// TN sums blocks of GEMM_TN_BLOCK k apart and adds them to what C held, in order, in registers.
// Why so: there a texel fetch is one vector load a lane where a storage buffer read is a scalar loop
// over the lanes. A thread takes workgroups in order: in form NN it reads a tile's rows of A, lines far
// apart, once and streams the rows of B. B's texels are storage ones, whose reads are inlined in the loop;
// what is read outside it stays a call. Lines of C are touched before the loop (lib/touch.glsl). Behind K one
// factor is 0 (OUTSIDE, or row padding) and the other a row of the matrix read again; what lies behind the
// matrices reaches no result. Only stores test for M and N. The columns from N to the next multiple of 4 are
// written as zeros. NN and NT may add a second product, an adapter's, to what they store (args.h): y or dx is
// not read and written once more for it.
#version 450
#extension GL_EXT_control_flow_attributes : require
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_shuffle : require
#define ADJACENT (CG == 1) // a lane has one group of columns
#include "lib/store.glsl"
#include "args.h"

#if LANES == 16
#define CG 1     // column groups of 4 a lane
#define GROUPS 4 // row groups of LANES a tile
#define KB 4     // k a turn: as many as leave a turn's code room in an instruction cache of 32 KiB
#elif LANES == 8 && defined REGISTERS32
#define CG 2
#define GROUPS 4
#define KB 8
#elif LANES == 8 // of processors with 16 vector registers: the 4 sums and 4 values of B of a k and a row in them
#define CG 1
#if FORM == 2 // where a lane reads 4 rows of C
#define GROUPS 4
#else
#define GROUPS 2
#endif
#define KB 4
#else
#define CG 2
#define GROUPS 8
#define KB 8
#endif
#define ROWS (GROUPS * LANES) // tile: 64 x 64 (16 lanes), 32 x 64 (8, 32 registers), 16 x 32 (8; TN 32 x 32), 32 x 32 (4)

layout(local_size_x = LANES) in;
#ifdef STORED
layout(push_constant) uniform push { gemm_stored_args p; };
TARGET(0, c)
#define DQ_WORDS
#include "lib/dq.glsl"
#ifdef DQ_SCALES
#define SLOT(i) 3 + i
#else
#define SLOT(i) 2 + i
#endif
layout(binding = SLOT(0), rgba32f) readonly uniform imageBuffer a4;
layout(binding = SLOT(1)) uniform samplerBuffer c4; // C for reading
layout(binding = SLOT(2), rgba32f) readonly uniform imageBuffer added_a4;
layout(binding = SLOT(3)) uniform samplerBuffer added_b4;
#else
layout(push_constant) uniform push { gemm_args p; };
layout(binding = 0, rgba32f) readonly uniform imageBuffer a4;
#ifdef REGISTERS32 // 16 reads of B a turn by calls: written out they are 8 KB
layout(binding = 1) uniform samplerBuffer b4;
#define FETCH texelFetch
#else
layout(binding = 1, rgba32f) readonly uniform imageBuffer b4;
#define FETCH imageLoad
#endif
layout(binding = 2) uniform samplerBuffer c4;
TARGET(3, c)
#if FORM != 2
layout(binding = 4, rgba32f) readonly uniform imageBuffer added_a4;
layout(binding = 5) uniform samplerBuffer added_b4;
#endif
#endif

const int OUTSIDE = -(1 << 30); // added to an index: a read that gives 0

vec4 sum[ROWS][CG];

#include "lib/touch.glsl"

#define MULTIPLY multiply
#define A4 a4
#define LDA p.lda
#define A_COL p.a_col
#define K p.K
#ifdef STORED
#define DECODE
#else
#define B4 b4
#define FETCH_B FETCH
#define LDB p.ldb
#define B_COL p.b_col
#endif
#include "lib/gemm_cpu_multiply.glsl"

#if FORM != 2
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
#endif

void main()
{
    const int lane = int(gl_LocalInvocationID.x);
#if FORM == 0 && !defined REGISTERS32
    const int id = int(gl_WorkGroupID.x + gl_WorkGroupID.y * gl_NumWorkGroups.x), columns = int(gl_NumWorkGroups.y);
    const int row0 = id / columns * ROWS, col4 = (id % columns * LANES + lane) * CG;
#else
    const int row0 = int(gl_WorkGroupID.x) * ROWS, col4 = (int(gl_WorkGroupID.y) * LANES + lane) * CG;
#endif
    const int ldc4 = int(p.ldc) / 4, c_col4 = int(p.c_col) / 4;

#ifdef STORED
    dq_begin();
#endif
    const int touched = touch(c4, row0 * ldc4 + c_col4 + col4 - lane * CG, ldc4, ROWS, CG * LANES / 4);
    vec4 total[ROWS][CG];

#if FORM == 2
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
    [[unroll]] for (int i = 0; i < ROWS; i++)
        [[unroll]] for (int j = 0; j < CG; j++) {
            precise vec4 v = p.alpha * sum[i][j]; // and then added: as in gemv_cpu.comp
            if (p.accumulate != 0)
                v += texelFetch(c4, (row0 + i) * ldc4 + c_col4 + col4 + j);
            total[i][j] = v;
        }
    if (p.added_K > 0) {
        multiply_added(row0, col4, 0, int(p.added_K));
        [[unroll]] for (int i = 0; i < ROWS; i++)
            [[unroll]] for (int j = 0; j < CG; j++) {
                precise const vec4 part = p.added_alpha * sum[i][j];
                total[i][j] += part;
            }
    }
#endif

    [[unroll]] for (int j = 0; j < CG; j++) {
        // columns of this group and behind it; `touched` never: it keeps the reads
        const int left = int(p.N) - (col4 + j) * 4 - (p.N == 0 ? touched : 0);
        [[unroll]] for (int i = 0; i < ROWS; i++)
            if (row0 + i < int(p.M))
                STORE(c, left > 0, (row0 + i) * ldc4 + c_col4 + col4 + j,
                      mix(vec4(0), total[i][j], lessThan(ivec4(0, 1, 2, 3), ivec4(left))));
    }
}
