/* Event files as TensorBoard reads them. A record is the length of its event (u64), the masked
 * CRC-32C of these 8 bytes (u32), the event, its masked CRC-32C (u32), little-endian; the event is
 * a protocol buffer: wall_time (1, double), step (2), file_version (3) or summary (5) with a value
 * (1) for each scalar or histogram, its tag (1) and simple_value (2, float) or histo (5: min 1, max
 * 2, num 3, sum 4, sum of squares 5, packed upper limits 6 and counts 7 of the buckets, doubles).
 * Records are appended to a buffer, whose status tells whether memory was short. */
#ifndef AT_TENSORBOARD_H
#define AT_TENSORBOARD_H

#include "json.h"
#include "mem.h"

/* Its name must have "tfevents" in it, and stays the same when a run goes on. */
#define AT_EVENTS "events.out.tfevents.attune"

/* The record that a file begins with. wall_s: seconds since 1970. */
void at_events_begin(struct at_buf *out, double wall_s);
/* One record of a line of metrics.jsonl: its numbers but "step" and "n", under the tags of
 * transformers' callback, eval/NAME for "eval_NAME", else train/NAME. */
void at_events_line(struct at_buf *out, const cJSON *line, double wall_s);
/* Values under a name, "eval_NAME" or another, as in a line. */
struct at_histogram {
    const char *name;
    const double *values;
    size_t n;
};
/* One record of histograms in 30 buckets of equal width from the least to the greatest value (one,
 * where these are the same); values that are not finite are left out, and histograms without one.
 */
void at_events_histograms(struct at_buf *out, uint64_t step, const struct at_histogram *list,
                          size_t n, double wall_s);
/* CRC-32C (Castagnoli; RFC 3720, B.4) of n bytes. */
uint32_t at_crc32c(const void *bytes, size_t n);

#endif
