/* Inside engine/model only: parts of adapters that several files share. */
#ifndef AT_ADAPTER_FILE_H
#define AT_ADAPTER_FILE_H

#include "adapter.h"

/* Name of a linear's lora_A (or lora_B) in PEFT files, in `arena`. */
AT_CHECKED at_adapter_tensor_name(struct at_arena *arena, char **out, uint32_t layer,
                                  uint32_t linear, char part);
/* Inputs and outputs of linear i. */
void at_linear_shape(const struct at_model_config *c, uint32_t i, uint32_t *in, uint32_t *out);

#endif
