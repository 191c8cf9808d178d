// Weights by whole 16-byte texels of quants, for CPU devices: dq_texel(row, i) -> COUNT4 vec4s, columns
// 4 * COUNT4 * i and on of a row, bit for bit the values of lib/dq_<name>.glsl. A lane decodes a texel (half
// a one of two bits): no test a value. Or one vec4 a turn of a loop: dq_values(dq_read(dq_hold(row, i), row, i), e),
// where what dq_hold() gives serves a block of DQ_HOLD columns. Needs quants_stride and scales_stride in p; main()
// begins with dq_begin().
#ifdef DQ_F32
layout(binding = 1) uniform samplerBuffer quants;
#else
layout(binding = 1) uniform isamplerBuffer quants;
#endif
#if !defined DQ_F32 && !defined DQ_F16 && !defined DQ_BF16
#define DQ_SCALES
layout(binding = 2) uniform isamplerBuffer scales;
#endif
#include "lib/half.glsl"

#ifdef DQ_F32
#define COUNT4 1
#elif defined DQ_F16 || defined DQ_BF16
#define COUNT4 2
#elif defined DQ_Q8_0 || defined DQ_Q6_K || defined DQ_INT8
#define COUNT4 4
#else
#define COUNT4 8
#endif

#define DQ_HOLD 128
// Formats whose scales are read by whole texels, and the word of a row that has those of texel i of quants; of
// the others, a word at a time
#if defined DQ_Q4_1 || defined DQ_Q5_1 || defined DQ_IQ4
#define SCALE_INDEX(i) (i)
#elif defined DQ_Q4_0 || defined DQ_Q5_0 || defined DQ_NF4 || defined DQ_FP4
#define SCALE_INDEX(i) ((i) >> 1)
#elif defined DQ_Q8_0
#define SCALE_INDEX(i) ((i) >> 2)
#endif

int quants_ld, scales_ld; // texels of a row: in a loop every lane would load the push constant

void dq_begin()
{
    quants_ld = int(p.quants_stride) / 4;
#ifdef SCALE_INDEX
    scales_ld = int(p.scales_stride) / 4;
#elif defined DQ_SCALES
    scales_ld = int(p.scales_stride);
#endif
}

#ifdef SCALE_INDEX
ivec4 dq_hold(int row, int i) { return texelFetch(scales, row * scales_ld + (SCALE_INDEX(i) >> 2)); }
#else
ivec4 dq_hold(int row, int i) { return ivec4(0); }
#endif

#ifndef DQ_F32
ivec4 texel(int row, int i) { return texelFetch(quants, row * quants_ld + i); }
#endif
#if defined DQ_SCALES && !defined SCALE_INDEX
int scale_word(int row, int i) { return texelFetch(scales, row * scales_ld + i).x; }
#endif

// A word has the two or three bits of 16 columns, the nibbles of 8, the bytes of 4; whole texels hold the
// third or fifth bits, a word per 32 columns, behind those of 128 columns.
const ivec4 PLACE = ivec4(0, 1, 2, 3);
ivec4 bytes_of(int word) { return ivec4(word) >> 8 * PLACE & 255; }
ivec4 nibbles_of(ivec4 q, int e) { return ivec4(q[e / 2]) >> (4 * PLACE + 16 * (e & 1)) & 15; }
ivec4 pairs_of(ivec2 q, int e) { return ivec4(q[e / 4]) >> (2 * PLACE + 8 * (e & 3)) & 3; }
ivec4 bits_of(int word, int e) { return ivec4(word) >> (PLACE + 4 * e) & 1; }
ivec2 half_of(ivec4 q, int i) { return (i & 1) == 0 ? q.xy : q.zw; }

#if defined DQ_Q2_K || defined DQ_Q3_K || defined DQ_Q4_K || defined DQ_Q5_K || defined DQ_Q6_K
#define SUPER_TEXELS (64 / COUNT4) // of a super-block of 256 columns
// d and m; word w of the scales behind them
uint super_halves(int row, int i) { return uint(scale_word(row, i / SUPER_TEXELS * 5)); }
int super_word(int row, int i, int w) { return scale_word(row, i / SUPER_TEXELS * 5 + 1 + w); }
// 32 columns: a pair of bytes
ivec2 super_bytes(int row, int i)
{
    return ivec2(super_word(row, i, (i & 7) / 2)) >> (ivec2(0, 8) + 16 * (i & 1)) & 255;
}
#elif defined DQ_Q4_0 || defined DQ_Q5_0 || defined DQ_Q8_0
// f16 of a block of 32 columns, two a word
float block_scale(int word, int block)
{
    return half_to_float((block & 1) == 0 ? uint(word) & 0xffffu : uint(word) >> 16);
}
#elif defined DQ_IQ4 || defined DQ_NF4 || defined DQ_FP4
#define CODE_BY_SELECTION
#include "lib/dq_code.glsl"
#endif

struct dq_quants {
    ivec4 q;   // a texel of quants, or the half of it in xy
    int high;  // third or fifth bits
    vec2 d, m; // scale and what is added, of 32 columns; of d and m two where they are of 16
};

dq_quants dq_read(ivec4 held, int row, int i)
{
    dq_quants t;
#ifdef SCALE_INDEX
    const int scale = held[SCALE_INDEX(i) & 3];
#endif

#ifdef DQ_F32
    t.q = floatBitsToInt(texelFetch(quants, row * quants_ld + i));
#elif defined DQ_Q2_K
    t.q.xy = half_of(texel(row, i / 2), i);
#elif defined DQ_Q3_K
    t.q.xy = half_of(texel(row, i / 4 * 3 + (i & 3) / 2), i);
    t.high = texel(row, i / 4 * 3 + 2)[i & 3];
#elif defined DQ_Q5_0 || defined DQ_Q5_1 || defined DQ_Q5_K
    t.q = texel(row, i / 4 * 5 + (i & 3));
    t.high = texel(row, i / 4 * 5 + 4)[i & 3];
#else
    t.q = texel(row, i);
#endif

#if defined DQ_Q8_0
    t.d.x = block_scale(scale, i >> 1);
#elif defined DQ_INT8
    t.d.x = intBitsToFloat(scale_word(row, 0));
#elif defined DQ_Q6_K
    const int scale = super_word(row, i, (i & 15) / 4) << (24 - 8 * (i & 3)) >> 24;
    t.d.x = half_to_float(super_halves(row, i) & 0xffffu) * scale;
#elif defined DQ_Q4_0 || defined DQ_Q5_0
    t.d.x = block_scale(scale, i);
#elif defined DQ_Q4_1 || defined DQ_Q5_1
    t.d.x = half_to_float(uint(scale) & 0xffffu);
    t.m.x = half_to_float(uint(scale) >> 16);
#elif defined DQ_Q2_K
    const ivec2 both = super_bytes(row, i);
    const uint halves = super_halves(row, i);
    const precise vec2 d = half_to_float(halves & 0xffffu) * vec2(both & 15);
    const precise vec2 m = half_to_float(halves >> 16) * vec2(both >> 4);
    t.d = d;
    t.m = -m;
#elif defined DQ_Q3_K
    t.d = half_to_float(super_halves(row, i) & 0xffffu) * vec2(super_bytes(row, i) << 24 >> 24);
#elif defined DQ_Q4_K || defined DQ_Q5_K
    const vec2 both = vec2(super_bytes(row, i));
    const uint halves = super_halves(row, i);
    const precise float d = half_to_float(halves & 0xffffu) * both.x, m = half_to_float(halves >> 16) * both.y;
    t.d.x = d;
    t.m.x = -m;
#elif defined DQ_IQ4 || defined DQ_NF4 || defined DQ_FP4
    t.d.x = intBitsToFloat(scale);
#endif
    return t;
}

vec4 dq_values(dq_quants t, int e)
{
    precise vec4 w;

#ifdef DQ_F32
    w = intBitsToFloat(t.q);
#elif defined DQ_F16
    const uvec2 q = uvec2(t.q[2 * e], t.q[2 * e + 1]);
    w = vec4(half_to_float(q.x & 0xffffu), half_to_float(q.x >> 16), half_to_float(q.y & 0xffffu),
             half_to_float(q.y >> 16));
#elif defined DQ_BF16
    const ivec2 q = ivec2(t.q[2 * e], t.q[2 * e + 1]);
    w = intBitsToFloat(ivec4(q.x << 16, q.x & ~0xffff, q.y << 16, q.y & ~0xffff));
#elif defined DQ_Q8_0
    w = t.d.x * vec4(ivec4(t.q[e]) << 24 - 8 * PLACE >> 24);
#elif defined DQ_INT8
    w = vec4(ivec4(t.q[e]) << 24 - 8 * PLACE >> 24) * t.d.x * 0.007874015718698502;
#elif defined DQ_Q6_K
    w = t.d.x * vec4(bytes_of(t.q[e]) - 32);
#elif defined DQ_Q4_0
    w = t.d.x * vec4(nibbles_of(t.q, e) - 8);
#elif defined DQ_Q5_0
    w = t.d.x * vec4((nibbles_of(t.q, e) | bits_of(t.high, e) << 4) - 16);
#elif defined DQ_Q4_1
    w = t.d.x * vec4(nibbles_of(t.q, e)) + t.m.x;
#elif defined DQ_Q5_1
    w = t.d.x * vec4(nibbles_of(t.q, e) | bits_of(t.high, e) << 4) + t.m.x;
#elif defined DQ_Q2_K
    w = t.d[e / 4] * vec4(pairs_of(t.q.xy, e)) + t.m[e / 4];
#elif defined DQ_Q3_K
    w = t.d[e / 4] * vec4((pairs_of(t.q.xy, e) | bits_of(t.high, e) << 2) - 4);
#elif defined DQ_Q4_K
    w = t.d.x * vec4(nibbles_of(t.q, e)) + t.m.x;
#elif defined DQ_Q5_K
    w = t.d.x * vec4(nibbles_of(t.q, e) | bits_of(t.high, e) << 4) + t.m.x;
#else
    w = t.d.x * code_value(nibbles_of(t.q, e));
#endif
    return w;
}

vec4[COUNT4] dq_texel(int row, int i)
{
    const dq_quants t = dq_read(dq_hold(row, i), row, i);
    vec4 w[COUNT4];

    [[unroll]] for (int e = 0; e < COUNT4; e++) w[e] = dq_values(t, e);
    return w;
}

#ifdef TILE // rows of a matrix that a workgroup takes
#define MOST_TOUCHED 128 // texels of a row: more are a piece of memory by themselves
// A tile is one piece of memory, of which a product reads a few bytes of every row a turn: no prefetcher follows
// that. So before, it reads one texel of each cache line of it, in order. The result has no meaning.
int dq_touch(int row)
{
    const int lane = int(gl_LocalInvocationID.x);
    int any = 0;

#if COUNT4 > 1
    if (quants_ld < MOST_TOUCHED) {
        int i = 0;
        do {
            any |= texel(row, i + 4 * lane).x;
            i += 4 * LANES;
        } while (i < TILE * quants_ld);
    }
#endif
#ifdef SCALE_INDEX
    if (quants_ld < MOST_TOUCHED) {
        int i = 0;
        do {
            any |= texelFetch(scales, row * scales_ld + i + 4 * lane).x;
            i += 4 * LANES;
        } while (i < TILE * scales_ld);
    }
#endif
    return any;
}
#endif
