#include "losses.h"

#include <string.h>

static const struct at_loss losses[] = {
#define PAIR_LOSS_ROW(name, source) { #name, AT_LOSS_PAIR, source },
#define TOKEN_LOSS_ROW(name, source) { #name, AT_LOSS_TOKEN, source },
#include "losses.def"
#undef PAIR_LOSS_ROW
#undef TOKEN_LOSS_ROW
};

const struct at_loss *at_loss_list(size_t *out_n)
{
    *out_n = sizeof losses / sizeof losses[0];
    return losses;
}

const struct at_loss *at_loss_find(const char *name)
{
    for (size_t i = 0; i < sizeof losses / sizeof losses[0]; i++)
        if (strcmp(losses[i].name, name) == 0)
            return &losses[i];
    return NULL;
}
