// reduce.glsl for workgroups of one subgroup of LANES, with the same bits: a lane stands for PARTS of the WG
// invocations there, lane, lane + LANES and so on, and brings a value for each. No shared memory, no barrier: with
// both head_chunk took llvmpipe 4.5 times as long. An includer has GL_EXT_control_flow_attributes.
#extension GL_KHR_shader_subgroup_shuffle : require
#include "larger.glsl"
#define WG 64
#define PARTS (WG / LANES)
layout(local_size_x = LANES) in;

#define ADD(a, b) ((a) + (b))
#define REDUCE(type, name, op)                                                          \
    type name(type x[PARTS])                                                            \
    {                                                                                   \
        [[unroll]] for (int n = PARTS / 2; n > 0; n /= 2)                               \
            [[unroll]] for (int j = 0; j < PARTS / 2; j++)                              \
                if (j < n)                                                              \
                    x[j] = op(x[j], x[j + n]);                                          \
        type all = x[0];                                                                \
        [[unroll]] for (uint n = LANES / 2; n > 0; n /= 2)                              \
            all = op(all, subgroupShuffleXor(all, n));                                  \
        return all;                                                                     \
    }
REDUCE(float, reduce_max, larger)
REDUCE(vec4, reduce_sum, ADD)
