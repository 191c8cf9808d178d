#define FOR(i, n) [[unroll]] for (uint i = 0; i < (n); i++)
