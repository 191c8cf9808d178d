/* Modules that an adapter holds whole and trains in full beside LoRA (PEFT's modules_to_save): the
 * embedding and the head. On a tied base each is then a matrix of its own, and the other one stays
 * what it was, as PEFT has it (ensure_weight_tying false). */
#ifndef AT_SAVED_H
#define AT_SAVED_H

#include "params.h"
#include "weights.h"

enum at_saved { AT_SAVED_EMBED, AT_SAVED_HEAD, AT_SAVED_COUNT };

/* "embed_tokens", "lm_head". */
const char *at_saved_name(enum at_saved module);
/* Its tensor in an adapter's file, (V, C). */
const char *at_saved_tensor(enum at_saved module);
/* By name, or by path ("model.embed_tokens"); AT_SAVED_COUNT when it is neither of them. */
enum at_saved at_saved_find(const char *name);

/* What has taken the place of the base's tensor in a model. */
struct at_saved_module {
    const struct at_source *source; /* an adapter's, which starts it; NULL: the base's own */
    struct at_param *param;         /* trained; the reference keeps what it started from */
};

#endif
