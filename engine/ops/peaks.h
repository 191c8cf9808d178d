/* What a device reaches at best, measured: the yardstick of a table of kernel times. */
#ifndef AT_PEAKS_H
#define AT_PEAKS_H

#include "gpu.h"

struct at_peaks {
    double flop_per_s; /* f32 multiply-adds in registers, two operations each */
    double byte_per_s; /* a copy between buffers too large for caches, bytes read and written */
};
/* Best of several rounds of about 50 ms; takes up to 256 MiB of device memory meanwhile, or an
 * eighth of what there is. */
AT_CHECKED at_peaks_measure(struct at_peaks *out, struct at_gpu *gpu);

/* y[0 .. n) as peak_multiply.comp says; n a multiple of 4. */
void at_peak_multiply(struct at_stream *s, struct at_view y, uint32_t n, uint32_t turns,
                      float factor, float offset);

#endif
