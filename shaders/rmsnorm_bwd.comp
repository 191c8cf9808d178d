// dx[t,:] += rstd[t] * (w * dy[t,:] - x[t,:] * rstd[t]^2 * mean_c(w * dy[t,:] * x[t,:]))
// dx, dy, x (T, C); w (C); rstd (T). A workgroup takes 8 rows at a time. Shared: 256 bytes, none with
// SHUFFLES.
// Zhang and Sennrich 2019, arXiv 1910.07467.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/store.glsl"
#include "args.h"
#include "lib/row_sum.glsl"
#include "lib/source.glsl"

layout(push_constant) uniform push { rmsnorm_bwd_args p; };
INOUT(0, dx)
SOURCE(1, dy);
SOURCE(2, x);
SOURCE(3, w);
layout(binding = 4, std430) readonly buffer in_rstd { float rstd[]; };
#ifdef TEXELS
layout(binding = 5) uniform samplerBuffer old; // dx for reading
#else
#define old dx
#endif

void main()
{
    uint t0 = gl_WorkGroupID.x * ROWS;
    do {
        const uint row = t0 + row_in_group(), t = min(row, p.T - 1); // sums and STORE() need every lane
        const uint at_dx = t * p.lddx / 4, at_dy = t * p.lddy / 4, at_x = t * p.ldx / 4;
        const uint end = (p.C + 3) / 4;
        const float scale = rstd[t];
        float sum = 0.0;

        for (uint c = row_lane(); c < end; c += LANES)
            sum += dot(LOAD(dy, at_dy + c), cut_at(p.C, c, LOAD(w, c)) * LOAD(x, at_x + c));
        const float k = row_sum(sum) / float(p.C) * scale * scale;
        uint c0 = 0;

        do {
            const uint own = c0 + row_lane(), c = min(own, end - 1);
            const vec4 d = LOAD(w, c) * LOAD(dy, at_dy + c) - k * LOAD(x, at_x + c);
            const vec4 v = LOAD(old, at_dx + c) + cut_at(p.C, c, scale * d);
            STORE(dx, row < p.T && own < end, at_dx + c, v);
        } while ((c0 += LANES) < end);
    } while ((t0 += gl_NumWorkGroups.x * ROWS) < p.T);
}
