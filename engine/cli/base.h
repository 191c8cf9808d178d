/* What commands that write adapters in other forms share: the adapters' folders and the base that
 * they belong to. */
#ifndef AT_BASE_H
#define AT_BASE_H

#include "cli.h"
#include "stores.h"

struct cli_base {
    const char *const *dirs; /* PEFT folders, bottom first */
    size_t n;
    const char *model;     /* the base, as it is named */
    const char *path;      /* where it lies */
    const char *peft_name; /* what the last adapter_config.json names; or NULL */
    struct at_weights *weights;
    struct at_model_config config;
    struct at_arena arena;
};
/* The positional arguments' folders; the base is --model_name_or_path or, as the run recorded it,
 * the one that the last adapter was trained on. AT_NOT_FOUND when it is not here. */
AT_CHECKED cli_base_open(struct cli_base *out, const struct cli_args *args);
void cli_base_close(struct cli_base *base);
/* A text of a JSON file in an adapter's folder, such as run.json's config.key: *out stays when it
 * is not there. In the base's arena. */
AT_CHECKED cli_base_recorded(struct cli_base *base, const char **out, const char *dir,
                             const char *file, const char *part, const char *key);
/* at_adapter_check_base() of each folder. */
AT_CHECKED cli_check_bases(const char *const *dirs, size_t n, struct at_weights *weights);
/* Whether a path ends in .gguf. */
bool cli_is_gguf_name(const char *path);

#endif
