// Query rows of a portable attention tile: ATTENTION_POSITIONS(R) positions times the heads of one part
// of a kv head (the grid's y: kv heads times parts), and the walk over the keys that they read.
// Shared: 640 bytes.
#define PARTS ATTENTION_PARTS(R)
#define HEADS ATTENTION_HEADS(R)
#define POSITIONS ATTENTION_POSITIONS(R)

// vec4 d of k or v of the turn's key c, 0 from key `stop` on; the including file has `tile`, `base` and `stop`
#define KEY_OR_0(x, ld, c, d) \
    (base + int(c) < stop ? x[(uint(base + int(c)) * (ld) + tile.g * D) / 4 + (d)] : vec4(0))
#define LOAD_K(c, d) KEY_OR_0(k4, p.ldk, c, d)
#define LOAD_V(c, d) KEY_OR_0(v4, p.ldv, c, d)

shared ivec4 tile_intervals[TILE];

struct row_tile { uint pos0, end, g, h0, heads; }; // positions [pos0, end), query heads [h0, h0 + heads)

// g0: the kv head at the grid's begin.
row_tile make_row_tile(uint pos0, uint end, uint g0)
{
    const uint g = g0 + gl_WorkGroupID.y / PARTS, h = gl_WorkGroupID.y % PARTS * HEADS;

    return row_tile(pos0, min(pos0 + POSITIONS, end), g, g * R + h, min(HEADS, R - h));
}

// Row r of the tile stands for this position and head; false where it stands for none.
bool row_at(row_tile t, uint r, out uint pos, out uint head)
{
    pos = t.pos0 + r / HEADS;
    head = t.h0 + r % HEADS;
    return pos < t.end && r % HEADS < t.heads;
}

bool same_segment(ivec4 a, ivec4 b) { return b.w != 0 && a.x == b.x && a.z == b.z; }

// Rows of one segment within the tile: positions [pos, pos + n), their keys' prefix and begin from
// `first`, `last` the end of the last row's keys. Rows without keys are passed over; false at the end.
bool next_segment(row_tile t, inout uint pos, out uint n, out ivec4 first, out int last)
{
    while (pos < t.end && tile_intervals[pos - t.pos0].w == 0)
        pos++;
    n = 0;
    last = 0;
    if (pos >= t.end)
        return false;
    first = tile_intervals[pos - t.pos0];
    while (pos + n < t.end && same_segment(first, tile_intervals[pos + n - t.pos0])) {
        last = tile_intervals[pos + n - t.pos0].w;
        n++;
    }
    return true;
}

// Begin of the keys that row r reads in this part, with a window; 0 without.
int row_start(row_tile t, uint r, uint part, uint window)
{
    uint at, head;

    return WINDOW == 0 || !row_at(t, r, at, head) ? 0
                                                  : window_begin(tile_intervals[at - t.pos0], part, window);
}

// End of the keys that row r reads in this part (0: prefix, 1: segment) of the segment at pos.
int row_stop(row_tile t, uint r, uint pos, uint n, uint part)
{
    uint at, head;
    const bool used = row_at(t, r, at, head) && at >= pos && at < pos + n;

    return !used ? 0 : part == 0 ? tile_intervals[at - t.pos0].y : tile_intervals[at - t.pos0].w;
}
