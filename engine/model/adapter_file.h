/* Inside engine/model only: parts of adapters that several files share. */
#ifndef AT_ADAPTER_FILE_H
#define AT_ADAPTER_FILE_H

#include "adapter.h"
#include "json.h"

/* Name of a module's lora_A, lora_B or, of part 'm', lora_magnitude_vector in PEFT files, in
 * `arena`.
 */
AT_CHECKED at_adapter_tensor_name(struct at_arena *arena, char **out,
                                  const struct at_family *family, uint32_t layer, uint32_t linear,
                                  char part);
/* Values of A, B or m of module k in the adapter's file; NULL when it is not there. */
AT_CHECKED at_adapter_find_tensor(const struct at_source **out, const struct at_adapter *adapter,
                                  struct at_arena *arena, uint32_t k, char part);
/* Path of linear k % AT_LINEARS in layer k / AT_LINEARS, in `arena`; *out NULL: the family has no
 * such linear. */
AT_CHECKED at_adapter_path(struct at_arena *arena, char **out, const struct at_family *family,
                           uint32_t k);

/* A regular expression that must match a module's path as a whole (Python's re.fullmatch). A wrong
 * one, and a match that takes too long: AT_USAGE in the name of `what`. */
struct at_pattern;
AT_CHECKED at_pattern_open(struct at_pattern **out, const char *text, const char *what);
AT_CHECKED at_pattern_match(bool *matched, const struct at_pattern *pattern, const char *module);
void at_pattern_close(struct at_pattern **pattern);

/* Numbers by pattern, as PEFT's get_pattern_key() reads rank_pattern and alpha_pattern: the first
 * key that matches a module's path, or its tail behind a dot, gives values[module] its number;
 * other values stay. `patterns` NULL or null: nothing. Only modules that are `adapted` count. A
 * number out of range and, when strict, a key that matches none of them: AT_USAGE. */
struct at_pattern_params {
    const char *what; /* the key's name */
    double least, most;
    bool whole, strict;
    const struct at_model_config *model;
};
AT_CHECKED at_pattern_values(double *values, const cJSON *patterns, const bool *adapted,
                             const struct at_pattern_params *params);

#endif
