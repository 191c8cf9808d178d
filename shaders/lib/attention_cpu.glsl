// Parts of the attention kernels for CPU Vulkan drivers (Mesa llvmpipe). One subgroup of LANES a
// workgroup, no shared memory, no barrier. A tile's own rows lie in registers, the streamed side in
// lanes: scores then lie by streamed vector, which is just how the product with that vector wants them
// (a shuffle spreads a column, the head dimensions go by lanes), so nothing is transposed.
// Why so: there a texel fetch is one vector load a lane where a storage buffer read is a scalar loop
// over the lanes (and storage texels are inlined, uniform ones a call). A fetch at OUTSIDE gives 0; one behind
// a tensor may give anything: there the last row is read again. Loops over registers must be unrolled: a
// dynamic index costs a factor of 50. Loops are do-while: the driver jumps nowhere but back, so that a loop left at
// its head, by break or by continue runs its body once more with all lanes off (8 lanes' p v keeps its test at
// the head: 0.9 to 0.96 times as fast without, for a second copy of its sums).
#include "exp2.glsl"
#include "softcap.glsl"

layout(constant_id = 1) const int D = 64; // head width, a multiple of 8
layout(constant_id = 2) const int R = 1;  // query heads a kv head
layout(constant_id = 3) const uint WINDOW = 0; // windows have the portable kernels
layout(constant_id = 4) const uint CAP = 0;    // 1: scores are soft-capped at p.cap
#define D4 (D / 4)
#define CG ((D4 + LANES - 1) / LANES) // groups of 4 columns a lane
#define HAS_COLUMN(c) (D4 % LANES == 0 || lane * CG + (c) < D4) // else what it computes is not stored
#define FOR(i, n) [[unroll]] for (int i = 0; i < (n); i++)
// x of the lane n further on, behind the last one of the first. By the built-in number of a lane, which is the
// invocation's here and which the driver knows: by any other the shuffle is one by a variable.
#define FROM_AHEAD(x, n) subgroupShuffle(x, (gl_SubgroupInvocationID + (n)) & (LANES - 1))
layout(local_size_x = LANES) in;

const float LOG2E = 1.44269504, MASKED = -1e30; // a masked score in units of log2
const int OUTSIDE = -(1 << 30);                 // an index whose fetch gives 0

// Tiles from both ends in turn: the driver gives each thread one half of the grid, and late tiles of
// queries (early ones of keys) have more to do.
int tile_of(uint x)
{
    return int((x & 1) == 0 ? x >> 1 : gl_NumWorkGroups.x - 1 - (x >> 1));
}

int max_of_lanes(int x)
{
    [[unroll]] for (uint s = 1; s < LANES; s <<= 1)
        x = max(x, subgroupShuffleXor(x, s));
    return x;
}

int min_of_lanes(int x) { return -max_of_lanes(-x); }
