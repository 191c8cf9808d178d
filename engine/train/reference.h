/* Reference log-probs that are computed before the first step: by the run's own engine, or by
 * another model (ref_model_name_or_path), which is on the device before the policy is and gone
 * when that comes: the run's peak is the larger of the two, not their sum. */
#ifndef AT_REFERENCE_H
#define AT_REFERENCE_H

#include "engine.h"

/* Another model as reference. */
struct at_reference {
    struct at_bundle bundle; /* open for its digest as long as the run is */
    struct at_engine engine; /* planned; closed when its rows are computed, or never needed */
    uint64_t device_bytes;   /* of its plan */
};
/* What it is: a model with its own tokenizer or that of a folder, and an adapter on it or none. */
struct at_reference_source {
    const char *model, *tokenizer_dir, *adapter; /* the last two may be NULL */
    bool header_only;                            /* to be planned with: of at_bundle_params */
};
/* The state that an adapter of `model` was trained from, where it is only scored: what the run.json
 * in its folder records as the reference at step 0 (another model, an adapter that it continued or
 * was stacked on), the bare model where none is recorded or there is no run.json. An adapter that
 * is not there is AT_NOT_FOUND, one with other weights AT_INTEGRITY. Strings in `arena`. */
AT_CHECKED at_reference_of_adapter(struct at_reference_source *out, struct at_arena *arena,
                                   const char *adapter_dir, const char *model,
                                   const char *tokenizer_dir);
/* Opens and plans it. `params`: device, capacity and longest row of the policy's engine. AT_DATA
 * with the first token that differs when an id of `policy` means another text there, and where
 * sequences have other rotary angles there than the policy's; at_bundle_check_length() is called.
 */
AT_CHECKED at_reference_plan(struct at_reference *out, const struct at_reference_source *source,
                             const struct at_quantise_params *quantise,
                             const struct at_tokenizer *policy,
                             const struct at_engine_params *params);
/* AT_DEVICE_MEMORY when it does not fit. */
AT_CHECKED at_reference_commit(struct at_reference *reference);
/* Gives its device memory back; once or more. */
void at_reference_leave_device(struct at_reference *reference);
void at_reference_close(struct at_reference *reference);

/* Reference values of n rows into their results, whose n_segments are set. tail_discount as in
 * struct at_compute. A signal is its status. */
AT_CHECKED at_reference_rows(struct at_engine *engine, const struct at_row *rows,
                             struct at_row_result *results, uint32_t n, float tail_discount);

#endif
