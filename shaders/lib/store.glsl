// Buffers of vec4 that a kernel writes (TARGET) or writes and, without STORES64, reads (INOUT): name[i] = STORED(v)
// sets vec4 i. A store of llvmpipe is a loop over the lanes and, in it, over the components: where the variant says
// so (-DSTORES64, of devices with 64-bit integers) these are two 64-bit words instead of four floats.
#ifdef STORES64
#extension GL_EXT_shader_explicit_arithmetic_types_int64 : require
#define TARGET(slot, name) layout(binding = slot, std430) writeonly buffer out_##name { u64vec2 name[]; }
#define INOUT TARGET

u64vec2 STORED(vec4 v)
{
    const uvec4 u = floatBitsToUint(v);

    return u64vec2(packUint2x32(u.xy), packUint2x32(u.zw));
}
#else
#define TARGET(slot, name) layout(binding = slot, std430) writeonly buffer out_##name { vec4 name[]; }
#define INOUT(slot, name) layout(binding = slot, std430) buffer inout_##name { vec4 name[]; }
#define STORED(v) (v)
#endif
