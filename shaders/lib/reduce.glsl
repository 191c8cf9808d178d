// Sum and maximum over a workgroup of WG invocations: one halving tree over shared memory, so that
// the bits depend neither on the subgroup size nor on the device. Uniform control flow only; every
// invocation gets the result. A NaN stays a NaN in both. Shared: 4 * WG bytes, 16 * WG more where the
// vec4 sum is used.
#include "larger.glsl"
#define WG 64
#define PARTS 1 // values an invocation brings, where they may be several: reduce_lanes.glsl
layout(local_size_x = WG) in;

shared float reduce_cells[WG];
shared vec4 reduce_cells4[WG];

float reduce_sum(float x)
{
    const uint i = gl_LocalInvocationIndex;

    barrier(); // the result before this one has been read
    reduce_cells[i] = x;
    for (uint n = WG / 2; n > 0; n /= 2) {
        barrier();
        if (i < n)
            reduce_cells[i] += reduce_cells[i + n];
    }
    barrier();
    return reduce_cells[0];
}

float reduce_max(float x)
{
    const uint i = gl_LocalInvocationIndex;

    barrier();
    reduce_cells[i] = x;
    for (uint n = WG / 2; n > 0; n /= 2) {
        barrier();
        if (i < n)
            reduce_cells[i] = larger(reduce_cells[i], reduce_cells[i + n]);
    }
    barrier();
    return reduce_cells[0];
}

vec4 reduce_sum(vec4 x)
{
    const uint i = gl_LocalInvocationIndex;

    barrier();
    reduce_cells4[i] = x;
    for (uint n = WG / 2; n > 0; n /= 2) {
        barrier();
        if (i < n)
            reduce_cells4[i] += reduce_cells4[i + n];
    }
    barrier();
    return reduce_cells4[0];
}

float reduce_max(float x[PARTS]) { return reduce_max(x[0]); }
vec4 reduce_sum(vec4 x[PARTS]) { return reduce_sum(x[0]); }
