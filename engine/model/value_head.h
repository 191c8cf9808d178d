/* The head of a reward model: one row in place of the vocabulary's, score.weight (1, C) without a
 * bias, always trainable, beside adapters as under full fine-tuning. */
#ifndef AT_VALUE_HEAD_H
#define AT_VALUE_HEAD_H

#include "params.h"
#include "weights.h"

/* Its tensor in a model's folder, and in an adapter's file as PEFT saves modules_to_save. */
#define AT_SCORE "score.weight"
#define AT_ADAPTER_SCORE "base_model.model." AT_SCORE

struct at_value_head {
    struct at_param *param;
    struct at_tensor w, dw; /* (1, C); from at_value_head_upload() on */
    const struct at_source *source;
    double init_std;
};
/* Adds the head to the trainable parameters. source: what it starts from (AT_DATA when that is not
 * 1 x C), which must live until the upload; NULL: normal of `init_std` by the seed. */
AT_CHECKED at_value_head_plan(struct at_value_head *out, uint32_t C, double init_std,
                              struct at_params *params, const struct at_source *source);
/* After commit and at_params_bind(). */
AT_CHECKED at_value_head_upload(struct at_value_head *head, struct at_gpu *gpu, uint64_t seed);
/* Whether a config.json is that of a reward model: "...ForSequenceClassification". */
bool at_value_head_is_in(const cJSON *config);
/* The config.json of a language model as that of a reward model over it, as text in `out`. `pad`:
 * its pad_token_id where it has none, without which transformers scores one row at a time; below
 * 0: none. */
AT_CHECKED at_value_head_config(struct at_buf *out, const char *config_json_text, const char *name,
                                int32_t pad);

#endif
