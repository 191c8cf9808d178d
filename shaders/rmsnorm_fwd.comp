// y[t,:] = w * (x[t,:] * rstd[t]), rstd[t] = 1 / sqrt(mean_c x[t,c]^2 + eps)
// y, x (T, C); w (C); rstd (T). With SAVED rstd is read instead; y has the same bits then. A workgroup
// takes 8 rows at a time. Shared: 256 bytes, none with SAVED or SHUFFLES.
// Zhang and Sennrich 2019, arXiv 1910.07467.
#version 450
#extension GL_GOOGLE_include_directive : require
#include "lib/store.glsl"
#include "args.h"
#include "lib/row_sum.glsl"
#include "lib/source.glsl"

layout(push_constant) uniform push { rmsnorm_args p; };
TARGET(0, y)
layout(binding = 1, std430) buffer inout_rstd { float rstd[]; };
SOURCE(2, x);
SOURCE(3, w);

#ifdef SAVED
float scale_of(uint t, uint begin, uint end) { return rstd[t]; }
#else
float scale_of(uint t, uint begin, uint end)
{
    float sum = 0.0;

    for (uint c = row_lane(); c < end; c += LANES) {
        const vec4 v = LOAD(x, begin + c);
        sum += dot(v, v);
    }
    return 1.0 / sqrt(row_sum(sum) / float(p.C) + p.eps);
}
#endif

void main()
{
    uint t0 = gl_WorkGroupID.x * ROWS;
    do {
        const uint row = t0 + row_in_group(), t = min(row, p.T - 1); // sums and STORE() need every lane
        const uint begin = t * p.ldx / 4, end = (p.C + 3) / 4;
        const float scale = scale_of(t, begin, end);

#ifndef SAVED
        if (row < p.T && row_lane() == 0)
            rstd[t] = scale;
#endif
        uint c0 = 0;
        do {
            const uint own = c0 + row_lane(), c = min(own, end - 1);
            const precise vec4 v = LOAD(w, c) * (LOAD(x, begin + c) * scale);
            STORE(y, row < p.T && own < end, t * p.ldy / 4 + c, cut_at(p.C, c, v));
        } while ((c0 += LANES) < end);
    } while ((t0 += gl_NumWorkGroups.x * ROWS) < p.T);
}
