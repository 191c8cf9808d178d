#include "ref_loss.h"

#include <string.h>

#include "losses_all.h"

bool ref_pair_loss(pair_out *out, const char *name, pair_stats s, loss_params p)
{
    return ref_matched_loss(out, name, s, p, (pair_match){ 0, 0, 0 });
}

bool ref_matched_loss(pair_out *out, const char *name, pair_stats s, loss_params p, pair_match m)
{
#define ROW_LOSS_ROW(row, methods, reads, source)
#define POLICY_LOSS_ROW(row, methods, reads, source)
#define TOKEN_LOSS_ROW(row, methods, source)
#define PAIR_LOSS_ROW(row, methods, reads, source) \
    if (strcmp(name, #row) == 0) {                 \
        *out = row##_pair(s, p, m);                \
        return true;                               \
    }
#include "losses.def"
#undef PAIR_LOSS_ROW
#undef POLICY_LOSS_ROW
#undef ROW_LOSS_ROW
#undef TOKEN_LOSS_ROW
    return false;
}

bool ref_row_loss(row_out *out, const char *name, row_stats s, row_params p)
{
#define PAIR_LOSS_ROW(row, methods, reads, source)
#define POLICY_LOSS_ROW(row, methods, reads, source)
#define TOKEN_LOSS_ROW(row, methods, source)
#define ROW_LOSS_ROW(row, methods, reads, source) \
    if (strcmp(name, #row) == 0) {                \
        *out = row##_row(s, p);                   \
        return true;                              \
    }
#include "losses.def"
#undef PAIR_LOSS_ROW
#undef POLICY_LOSS_ROW
#undef ROW_LOSS_ROW
#undef TOKEN_LOSS_ROW
    return false;
}

bool ref_token_loss(token_out *out, const char *name, token_stats s)
{
#define PAIR_LOSS_ROW(row, methods, reads, source)
#define ROW_LOSS_ROW(row, methods, reads, source)
#define POLICY_LOSS_ROW(row, methods, reads, source)
#define TOKEN_LOSS_ROW(row, methods, source) \
    if (strcmp(name, #row) == 0) {           \
        *out = row##_token(s);               \
        return true;                         \
    }
#include "losses.def"
#undef PAIR_LOSS_ROW
#undef POLICY_LOSS_ROW
#undef ROW_LOSS_ROW
#undef TOKEN_LOSS_ROW
    return false;
}

bool ref_policy_loss(policy_out *out, const char *name, policy_stats s, policy_params p)
{
#define PAIR_LOSS_ROW(row, methods, reads, source)
#define ROW_LOSS_ROW(row, methods, reads, source)
#define TOKEN_LOSS_ROW(row, methods, source)
#define POLICY_LOSS_ROW(row, methods, reads, source) \
    if (strcmp(name, #row) == 0) {                   \
        *out = row##_policy(s, p);                   \
        return true;                                 \
    }
#include "losses.def"
#undef PAIR_LOSS_ROW
#undef POLICY_LOSS_ROW
#undef ROW_LOSS_ROW
#undef TOKEN_LOSS_ROW
    return false;
}
