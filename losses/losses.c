#include "losses.h"

#include "losses_all.h"

#include <stdbool.h>
#include <string.h>

static const struct at_loss losses[] = {
#define PAIR_LOSS_ROW(name, methods, reads, source) \
    { #name, AT_LOSS_PAIR, methods, reads, source, NULL },
#define POLICY_LOSS_ROW(name, methods, reads, source) \
    { #name, AT_LOSS_POLICY, methods, reads, source, NULL },
#define ROW_LOSS_ROW(name, methods, reads, source) \
    { #name, AT_LOSS_ROW, methods, reads, source, NULL },
#define TOKEN_LOSS_ROW(name, methods, source) { #name, AT_LOSS_TOKEN, methods, "", source, NULL },
#include "losses.def"
#undef PAIR_LOSS_ROW
#undef POLICY_LOSS_ROW
#undef ROW_LOSS_ROW
#undef TOKEN_LOSS_ROW
};

const struct at_loss *at_loss_list(size_t *out_n)
{
    *out_n = sizeof losses / sizeof losses[0];
    return losses;
}

static bool is_name(const char *row, const char *name)
{
    while (*row && *row == (*name == '-' ? '_' : *name)) {
        row++;
        name++;
    }
    return *row == *name;
}

const struct at_loss *at_loss_find(const char *name)
{
    for (size_t i = 0; i < sizeof losses / sizeof losses[0]; i++)
        if (is_name(losses[i].name, name))
            return &losses[i];
    return NULL;
}

double at_pair_loss_value(const char *name, pair_stats s, loss_params p)
{
#define ROW_LOSS_ROW(row, methods, reads, source)
#define POLICY_LOSS_ROW(row, methods, reads, source)
#define TOKEN_LOSS_ROW(row, methods, source)
#define PAIR_LOSS_ROW(row, methods, reads, source) \
    if (strcmp(name, #row) == 0)                   \
        return row##_pair(s, p, (pair_match){ 0, 0, 0 }).loss;
#include "losses.def"
#undef PAIR_LOSS_ROW
#undef POLICY_LOSS_ROW
#undef ROW_LOSS_ROW
#undef TOKEN_LOSS_ROW
    return NAN;
}

double at_row_loss_value(const char *name, row_stats s, row_params p)
{
#define POLICY_LOSS_ROW(row, methods, reads, source)
#define TOKEN_LOSS_ROW(row, methods, source)
#define PAIR_LOSS_ROW(row, methods, reads, source)
#define ROW_LOSS_ROW(row, methods, reads, source) \
    if (strcmp(name, #row) == 0)                  \
        return row##_row(s, p).loss;
#include "losses.def"
#undef PAIR_LOSS_ROW
#undef POLICY_LOSS_ROW
#undef ROW_LOSS_ROW
#undef TOKEN_LOSS_ROW
    return NAN;
}

double at_log_odds_ratio(double chosen, double rejected)
{
    return log_odds_ratio(chosen, rejected);
}
