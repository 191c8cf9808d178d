// A tile of the gradients of k and v: its rows are keys, its columns the (query, head) pairs of a block of
// queries and of one kv head, g.
uint g, keys_begin, keys_end, col0, cols_end;

uint query_at(uint col) { return col / R; }
uint head_at(uint col) { return g * R + col % R; }

// vec4 d of a row's or a column's vector, 0 after the last
#define KEY_OR_0(x, ld, r, d) \
    (keys_begin + (r) < keys_end ? x[((keys_begin + (r)) * (ld) + g * D) / 4 + (d)] : vec4(0))
#define LOAD_K(r, d) KEY_OR_0(k4, p.ldk, r, d)
#define LOAD_V(r, d) KEY_OR_0(v4, p.ldv, r, d)
#define QUERY_OR_0(x, ld, c, d) \
    (col0 + (c) < cols_end ? x[(query_at(col0 + (c)) * (ld) + head_at(col0 + (c)) * D) / 4 + (d)] : vec4(0))
#define LOAD_Q(c, d) QUERY_OR_0(q, p.ldq, c, d)
#define LOAD_DO(c, d) QUERY_OR_0(d_o, p.lddo, c, d)
