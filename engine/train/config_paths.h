/* Paths in a configuration: relative ones of a file start at its folder. */
#ifndef AT_CONFIG_PATHS_H
#define AT_CONFIG_PATHS_H

#include "config.h"

/* The text of a key, behind `dir` where it is a relative path; NULL: there is no folder, and of
 * keys that are no paths as it is. In `arena`. */
AT_CHECKED at_config_path(const char **out, struct at_arena *arena, enum at_key key,
                          const char *dir, const char *text);
/* reward_funcs as the JSON of a list, with the paths of reward models behind `dir`. In `arena`.
 * AT_USAGE when it is neither text nor object nor a list of them. */
AT_CHECKED at_config_sources(const char **out, struct at_arena *arena, enum at_key key,
                             const char *dir, const cJSON *value);

#endif
