/* The files of a run in output_dir: metrics.jsonl, timing.jsonl, pairs.jsonl while it goes on;
 * adapter or model, result.json and run.json at the end, each put in place whole. */
#ifndef AT_RECORD_H
#define AT_RECORD_H

#include "trainer.h"

/* Rows for training and held out by eval_split, as they stand in train_dataset. */
#define AT_SPLIT_TRAIN "split_train.jsonl"
#define AT_SPLIT_EVAL "split_eval.jsonl"

struct at_records;
/* Creates output_dir: AT_USAGE when unset; AT_CANNOT_WRITE when it exists and is not empty, cannot
 * be written, or the disk is too small for what will be written. Before anything is allocated. */
AT_CHECKED at_records_check(const struct at_run *run);
/* Opens the logs in output_dir, after at_records_check(). */
AT_CHECKED at_records_open(struct at_records **out, const struct at_run *run);
void at_records_close(struct at_records **records);

/* {"step": ..., "epoch": ...}: the head of a line; the caller adds and frees. */
cJSON *at_records_line(uint64_t step, double epoch);
AT_CHECKED at_records_metrics(struct at_records *records, const cJSON *line);
AT_CHECKED at_records_timing(struct at_records *records, uint64_t step, double step_s,
                             uint64_t tokens, uint32_t rows, double eta_s);
/* One line a pair: margin, log-ratios and lengths of an evaluation. */
AT_CHECKED at_records_pairs(struct at_records *records, uint64_t step,
                            const struct at_dataset *data, const struct at_row_result *results,
                            double beta);
/* Adapter (or model), tokenizer files, run.json and result.json. */
AT_CHECKED at_records_finish(struct at_records *records, struct at_run *run,
                             const struct at_outcome *outcome);

#endif
