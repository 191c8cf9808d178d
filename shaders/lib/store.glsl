// Buffers of vec4 that a kernel writes (TARGET) or writes and, without STORES32 and STORES64, may read (INOUT):
// STORE(name, on, at, v) sets vec4 `at` of it to v in invocations whose `on` is true. All lanes of a subgroup come
// to it together.
//
// A store of llvmpipe is a loop over the lanes and, in it, over the components: each writes its whole vector to the
// stack and reads the lane's element there. Variants of CPU devices say how it is done:
//   STORES32  by four floats
//   STORES64  by two words of 64 bits, which need 64-bit integers: half as many turns
// Either, with 16 lanes and where LOWER is set (at_gpu_info.lower_lanes), by four floats of the lower 8 lanes, twice;
// the upper ones hand theirs down. Some processors read the upper half of a vector of 512 bits only when it has left
// the store queue: that of the loop's mask, too, a turn of each of the upper lanes.
//   PAIRS     besides: LOWER 2 says that widths and places of rows are multiples of 8 values. Where lanes then go in
//             pairs to a vec4 of an even place and to the next (ADJACENT; an includer may define when), or neither
//             does, one loop is enough: lanes 0 to 3 and 8 to 11, whose words of 64 bits lie in lower halves, store
//             32 bytes each
#if defined STORES64 || defined PAIRS
#extension GL_EXT_shader_explicit_arithmetic_types_int64 : require
#endif
#if defined STORES32 || defined STORES64
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#endif

#define STORE(name, on, at, v) STORE_TO(name, on, at, v)
#define STORE_TO(name, on, at, v) store_##name(on, int(at), v)

#if defined STORES64 || defined PAIRS
u64vec2 words_of_64(vec4 v)
{
    const uvec4 u = floatBitsToUint(v);

    return u64vec2(packUint2x32(u.xy), packUint2x32(u.zw));
}
#endif
#ifdef STORES64
#define WORDS u64vec2
#define words_of words_of_64
#else
#define WORDS vec4
#define words_of(v) (v)
#endif

#if defined STORES32 || defined STORES64
layout(constant_id = 31) const uint LOWER = 0;

#ifdef PAIRS
#ifndef ADJACENT
#define ADJACENT true
#endif
#define BY_PAIRS(name) if (LOWER == 2 && ADJACENT) store_pairs_##name(on, at, v); else
#define PAIRS_OF(slot, name)                                                            \
    layout(binding = slot, std430) writeonly buffer pairs_##name { u64vec4 name##_pairs[]; }; \
    void store_pairs_##name(bool on, int at, vec4 v)                                    \
    {                                                                                   \
        const uint own = gl_SubgroupInvocationID, from = (own & 3) * 2 + (own & 8);     \
        const int first = subgroupShuffle(on ? at : -1, from);                          \
        const vec4 a = subgroupShuffle(v, from), b = subgroupShuffle(v, from + 1);      \
        if ((own & 4) == 0 && first >= 0)                                               \
            name##_pairs[first / 2] = u64vec4(words_of_64(a), words_of_64(b));          \
    }
#else
#define BY_PAIRS(name)
#define PAIRS_OF(slot, name)
#endif

#define TARGET(slot, name)                                                              \
    layout(binding = slot, std430) writeonly buffer out_##name { WORDS name[]; };       \
    layout(binding = slot, std430) writeonly buffer lower_##name { vec4 name##_lower[]; }; \
    PAIRS_OF(slot, name)                                                                \
    void store_##name(bool on, int at, vec4 v)                                          \
    {                                                                                   \
        BY_PAIRS(name) if (LOWER != 0) {                                                \
            const int own = on ? at : -1, upper = subgroupShuffleXor(own, 8);           \
            const vec4 u = subgroupShuffleXor(v, 8);                                    \
            if (gl_SubgroupInvocationID < 8 && own >= 0)                                \
                name##_lower[own] = v;                                                  \
            if (gl_SubgroupInvocationID < 8 && upper >= 0)                              \
                name##_lower[upper] = u;                                                \
        } else if (on)                                                                  \
            name[at] = words_of(v);                                                     \
    }
#define INOUT TARGET
#else
#define STORING(name)                                                                   \
    void store_##name(bool on, int at, vec4 v)                                          \
    {                                                                                   \
        if (on)                                                                         \
            name[at] = v;                                                               \
    }
#define TARGET(slot, name)                                                              \
    layout(binding = slot, std430) writeonly buffer out_##name { vec4 name[]; };        \
    STORING(name)
#define INOUT(slot, name)                                                               \
    layout(binding = slot, std430) buffer inout_##name { vec4 name[]; };                \
    STORING(name)
#endif
