/* Matrix products, bias and LoRA by definition, dense row-major double. */
#ifndef REF_GEMM_H
#define REF_GEMM_H

#include <stdbool.h>
#include <stddef.h>

/* C (M,N) = alpha op(A) op(B), plus C with `accumulate`. Dense arrays. */
void ref_matmul_nt(double *C, const double *A, const double *B, size_t M, size_t N, size_t K,
                   double alpha, bool accumulate); /* A (M,K), B (N,K) */
void ref_matmul_nn(double *C, const double *A, const double *B, size_t M, size_t N, size_t K,
                   double alpha, bool accumulate); /* A (M,K), B (K,N) */
void ref_matmul_tn(double *C, const double *A, const double *B, size_t M, size_t N, size_t K,
                   double alpha, bool accumulate); /* A (K,M), B (K,N) */

void ref_bias_fwd(double *y, const double *b, size_t T, size_t C);   /* y[t,:] += b */
void ref_bias_bwd(double *db, const double *dy, size_t T, size_t C); /* db += sum_t dy[t,:] */

#endif
