/* The files of a run in output_dir: metrics.jsonl, timing.jsonl, pairs.jsonl (rows.jsonl of methods
 * whose rows are no pairs) and TensorBoard's events while it goes on; adapter or model, result.json
 * and run.json at the end, each put in place whole. */
#ifndef AT_RECORD_H
#define AT_RECORD_H

#include "tensorboard.h"
#include "trainer.h"

/* Rows for training and held out by eval_split, as they stand in train_dataset. */
#define AT_SPLIT_TRAIN "split_train.jsonl"
#define AT_SPLIT_EVAL "split_eval.jsonl"

struct at_records;
/* What is in an output_dir: AT_LEFT_KILLED has logs and no result; a stopped run has the state so
 * far. */
enum at_left { AT_LEFT_NOTHING, AT_LEFT_OTHER, AT_LEFT_KILLED, AT_LEFT_STOPPED, AT_LEFT_FINISHED };
AT_CHECKED at_records_look(enum at_left *out, const char *dir);
/* Bytes of the logs; `pairs` is of rows.jsonl too. */
struct at_log_bytes {
    uint64_t completions, events, metrics, pairs, timing;
};
/* What output_dir tells before rows are read, as at_records_check() would: AT_CANNOT_WRITE when it
 * holds what the run may not go on with, or takes no files. Changes nothing. */
AT_CHECKED at_records_check_folder(const struct at_config *config);
/* Creates output_dir: AT_USAGE when unset; AT_CANNOT_WRITE when it exists and is not empty, cannot
 * be written, or the disk is too small for what will be written. Before anything is allocated. A
 * run that goes on finds its folder there; one that goes on without a checkpoint may find an
 * unfinished one, and starts again. */
AT_CHECKED at_records_check(const struct at_run *run, bool has_checkpoint);
/* Opens the logs in output_dir, after at_records_check(), cut to `keep`. */
AT_CHECKED at_records_open(struct at_records **out, const struct at_run *run,
                           struct at_log_bytes keep);
void at_records_close(struct at_records **records);
/* Everything logged so far is on the disk. */
AT_CHECKED at_records_sync(struct at_records *records, struct at_log_bytes *out);

/* {"step": ..., "epoch": ...}: the head of a line; the caller adds and frees. */
cJSON *at_records_line(uint64_t step, double epoch);
AT_CHECKED at_records_metrics(struct at_records *records, const cJSON *line);
/* Whether the run has an event file. */
bool at_records_has_events(const struct at_records *records);
/* n histograms into the event file. */
AT_CHECKED at_records_histograms(struct at_records *records, uint64_t step,
                                 const struct at_histogram *list, size_t n);
/* A step's line of timing.jsonl. */
struct at_step_timing {
    uint64_t step, tokens;
    uint32_t rows;
    double step_s, eta_s;
    bool samples;                 /* drawn while training: the three that follow */
    double sampling_s, scoring_s; /* of step_s */
    uint64_t n_sampled;           /* tokens */
};
AT_CHECKED at_records_timing(struct at_records *records, const struct at_step_timing *timing);
/* A line of completions.jsonl. */
AT_CHECKED at_records_completions(struct at_records *records, const cJSON *line);
/* One line a row of an evaluation, {"step", "row", "file", "line", "loss", ...}: of pairs margin,
 * log-ratios (with a reference), log-probs and lengths, or rewards; of labelled rows label, reward,
 * log-probs of policy and reference, KL term and length; of SFT means over its target tokens. */
AT_CHECKED at_records_rows(struct at_records *records, uint64_t step,
                           const struct at_row *const *rows, const struct at_row_result *results,
                           uint32_t n, const struct at_metric_style *style);
/* Adapter or model of the state that the engine is in, into the folder `dir`. */
AT_CHECKED at_records_weights(struct at_records *records, struct at_run *run, const char *dir);
/* What a checkpoint is of: {"config": keys that results depend on, "inputs": digests of model,
 * tokenizer and rows, "machine": device and kernels}. The caller frees it. */
AT_CHECKED at_records_identity(cJSON **out, const struct at_run *run);
/* What went wrong in a run that ended, a sentence each: the "alarms" of result.json. */
cJSON *at_records_alarms(const struct at_outcome *outcome);
/* Adapter (or model), tokenizer files, run.json and result.json. */
AT_CHECKED at_records_finish(struct at_records *records, struct at_run *run,
                             const struct at_outcome *outcome);

#endif
