/* Push constants, one struct a kernel family: the same text for C and for GLSL. U32, I32 and F32
 * members only, so that both lay them out alike. Leading dimensions (ld*) are in elements and are
 * multiples of 4. Dimension letters: T tokens, C width, H heads, G kv heads, D head width, F feed-
 * forward width, V vocabulary, R rank, L layers; M, N, K in matrix products only. */
#ifndef AT_ARGS_H
#define AT_ARGS_H
#ifdef __STDC__
#include <stdint.h>
#define U32 uint32_t
#define I32 int32_t
#define F32 float
#else
#define U32 uint
#define I32 int
#define F32 float
#endif

/* C[M,N] (+)= alpha * op(A) op(B); accumulate 0 or 1. k0, k1: the part of K that is summed. */
struct gemm_args { U32 M; U32 N; U32 K; U32 lda; U32 ldb; U32 ldc; F32 alpha; U32 accumulate; };

#undef U32
#undef I32
#undef F32
#endif
