/* What a device reaches at best, measured: the yardstick of a table of kernel times. */
#ifndef AT_PEAKS_H
#define AT_PEAKS_H

#include "gpu.h"

struct at_peaks {
    double flop_per_s;        /* f32 multiply-adds in registers, two operations each */
    double matrix_flop_per_s; /* products of halves on matrix units; 0: there are none */
    double byte_per_s; /* a copy between buffers too large for caches, bytes read and written */
};
/* Best of several rounds of about 50 ms; takes up to 256 MiB of device memory meanwhile, or an
 * eighth of what there is. */
AT_CHECKED at_peaks_measure(struct at_peaks *out, struct at_gpu *gpu);

/* Best and slowest of the rounds. */
struct at_rate {
    double best, least;
};
/* Operations a second of products x w^T, x (T, cols) and w (rows, cols), by the kernels that
 * weights of this shape have (halves.h); of T and rows no more than fills a large device.
 * Several rounds of about 50 ms, after one that compiles. AT_DEVICE_MEMORY: there is too little. */
AT_CHECKED at_product_rate(struct at_rate *out_flop_per_s, struct at_gpu *gpu, uint32_t T,
                           uint32_t rows, uint32_t cols);

/* y[0 .. n) as peak_multiply.comp says; n a multiple of 4, turns at least 1. */
void at_peak_multiply(struct at_stream *s, struct at_view y, uint32_t n, uint32_t turns,
                      float factor, float offset);
/* y[0 .. n) as peak_matrix.comp says; n a multiple of 8 of the device's matrices. Where
 * at_peak_has_matrix(): the device has units for halves, and the build kernels for them. */
bool at_peak_has_matrix(const struct at_gpu *gpu);
void at_peak_matrix(struct at_stream *s, struct at_view y, uint32_t n, uint32_t turns, float factor,
                    float offset);

#endif
