// The rate of matrix units: chained products C = A B + C of halves into f32 in registers, as
// VK_KHR_cooperative_matrix has them. Chain c of 4 begins with C = offset + c and has B = 2^c everywhere; it takes
// 16 * turns steps. A is 1/4 everywhere and is multiplied by `factor` before the first step of a turn; with EACH
// before every one, lest a CPU's compiler, which takes matrices apart, see the same sum of products in all of them
// (for a card each would cost 16 operations beside four products). With factor 1 the sum of the chains, y, is
// 4 offset + 6 + 60 turns TK everywhere.
// Mapping: a subgroup of LANES has one matrix of y, TM x TN values behind each other, a workgroup 8 of them.
// Values that are all the same take less power than others: a card that lowers its clock for power may reach
// less in a run. No shared memory.
#version 450
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#include "args.h"
#include "lib/matrix.glsl"
#include "lib/unroll.glsl"

layout(constant_id = 1) const uint LANES = 32;
layout(constant_id = 2) const uint TM = 16;
layout(constant_id = 3) const uint TN = 16;
layout(constant_id = 4) const uint TK = 16;
layout(local_size_x_id = 5) in; // 8 * LANES
layout(constant_id = 6) const uint EACH = 0;
layout(push_constant) uniform push { peak_multiply_args a; };
layout(binding = 0, std430) writeonly buffer out_y { float y[]; };

const uint CHAINS = 4;

void main()
{
    const uint at = (gl_WorkGroupID.x * 8 + gl_SubgroupID) * TM * TN;
    coopmat<float16_t, gl_ScopeSubgroup, TM, TK, gl_MatrixUseA> left =
        coopmat<float16_t, gl_ScopeSubgroup, TM, TK, gl_MatrixUseA>(float16_t(0.25));
    coopmat<float16_t, gl_ScopeSubgroup, TK, TN, gl_MatrixUseB> right[CHAINS];
    SUM sum[CHAINS];

    FOR(c, CHAINS) {
        right[c] = coopmat<float16_t, gl_ScopeSubgroup, TK, TN, gl_MatrixUseB>(float16_t(1 << c));
        sum[c] = SUM(a.offset + c);
    }
    for (uint turn = 0; turn < a.turns; turn++)
        FOR(k, 16) {
            if (EACH != 0 || k == 0)
                left *= float16_t(a.factor);
            FOR(c, CHAINS) sum[c] = coopMatMulAdd(left, right[c], sum[c]);
        }
    FOR(c, CHAINS - 1) sum[0] += sum[c + 1];
    if (at < a.n)
        coopMatStore(sum[0], y, at, TN, gl_CooperativeMatrixLayoutRowMajor);
}
