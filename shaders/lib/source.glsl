// Buffers of vec4 that a kernel reads: texel buffers where the variant says so (-DTEXELS; on CPU
// devices a fetch is a third of the cost of a load), else storage buffers. LOAD(x, i) is vec4 i of x.
#ifdef TEXELS
#define SOURCE(slot, name) layout(binding = slot) uniform samplerBuffer name
#define LOAD(name, i) texelFetch(name, int(i))
#else
#define SOURCE(slot, name) layout(binding = slot, std430) readonly buffer in_##name { vec4 name[]; }
#define LOAD(name, i) name[i]
#endif

// v with the elements from column n on as zeros, where v is vec4 c of a row.
vec4 cut_at(uint n, uint c, vec4 v)
{
    return mix(vec4(0), v, lessThan(4 * c + uvec4(0, 1, 2, 3), uvec4(n)));
}
