// What all attention kernels of GPUs share: constants, scores, windows. Score tiles have TILE rows.
#include "exp2.glsl"
#include "softcap.glsl"
#include "unroll.glsl"

layout(constant_id = 1) const uint D = 64; // head width
layout(constant_id = 2) const uint R = 1;  // query heads a kv head
layout(constant_id = 3) const uint WINDOW = 0; // 1: keys are read from less than p.window positions away
layout(constant_id = 4) const uint CAP = 0;    // 1: scores are soft-capped at p.cap
#define TILE 32
#define D4 (D / 4)

const float LOG2E = 1.44269504, MASKED = -1e30; // a masked score in units of log2

// A scaled score in units of log2, capped. SLOPE: its derivative by the score before the cap.
#define CAPPED(s) (CAP != 0 ? SOFTCAP((s) * p.scale, p.cap) * LOG2E : (s) * p.scale * LOG2E)
#define SLOPE(s) (CAP != 0 ? SOFTCAP_SLOPE(SOFTCAP((s) * p.scale, p.cap), p.cap) : 1.0)

// First key of the segment (part 1) or the prefix (part 0) that the query with this interval reads:
// its last key stands at its own position, counted from the prefix's begin.
int window_begin(ivec4 i, uint part, uint window)
{
    const int prefix = i.y - i.x, position = prefix + i.w - 1 - i.z;
    const int first = max(position - int(window) + 1, 0);

    return part == 0 ? i.x + first : i.z + max(first - prefix, 0);
}
