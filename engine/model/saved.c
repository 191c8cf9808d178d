#include "saved.h"

#include <string.h>

static const struct {
    const char *name, *path, *tensor;
} modules[AT_SAVED_COUNT] = {
    [AT_SAVED_EMBED] = { "embed_tokens", "model.embed_tokens",
                         "base_model.model.model.embed_tokens.weight" },
    [AT_SAVED_HEAD] = { "lm_head", "lm_head", "base_model.model.lm_head.weight" },
};

const char *at_saved_name(enum at_saved module)
{
    AT_REQUIRE(module < AT_SAVED_COUNT);
    return modules[module].name;
}

const char *at_saved_tensor(enum at_saved module)
{
    AT_REQUIRE(module < AT_SAVED_COUNT);
    return modules[module].tensor;
}

enum at_saved at_saved_find(const char *name)
{
    uint32_t i = 0;

    while (i < AT_SAVED_COUNT && strcmp(name, modules[i].name) != 0 &&
           strcmp(name, modules[i].path) != 0)
        i++;
    return i;
}
