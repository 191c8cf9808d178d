/* Paths in a configuration: relative ones of a file start at its folder. */
#ifndef AT_CONFIG_PATHS_H
#define AT_CONFIG_PATHS_H

#include "config.h"

/* Whether the text of a key says where something lies: no name of a store or among templates. */
bool at_config_is_path(enum at_key key, const char *text);
/* The text of a key, behind `dir` where it is a relative path; NULL: there is no folder, and of
 * keys that are no paths as it is. In `arena`. */
AT_CHECKED at_config_path(const char **out, struct at_arena *arena, enum at_key key,
                          const char *dir, const char *text);
/* A file of a list of them: its path, and of {"path", "weight"}, which train_dataset alone may
 * have, its weight; 1 without one. AT_USAGE with a sentence about the key. */
AT_CHECKED at_config_file(const char **path, double *weight, struct at_arena *arena,
                          enum at_key key, const char *dir, const cJSON *item);
/* The same as JSON. */
cJSON *at_config_file_value(const char *path, double weight);
/* reward_funcs as the JSON of a list, with the paths of reward models behind `dir`. In `arena`.
 * AT_USAGE when it is neither text nor object nor a list of them. */
AT_CHECKED at_config_sources(const char **out, struct at_arena *arena, enum at_key key,
                             const char *dir, const cJSON *value);
/* Leaves in a record (at_config_record()) nothing of where files lie: paths are empty, of reward
 * models the last folder's name; in the place of a file of losses is its digest. */
AT_CHECKED at_config_hide_paths(cJSON *record, const struct at_config *config);

#endif
