/* Linear layers as parts of modules: a fused matrix holds the rows of several. */
#include "model.h"

void at_linear_shape(const struct at_model_config *c, uint32_t i, uint32_t *in, uint32_t *out)
{
    const uint32_t HD = c->H * c->D, GD = c->G * c->D;
    const uint32_t shape[AT_LINEARS][2] = { { c->C, HD },  { c->C, GD },   { c->C, GD },
                                            { HD, c->C },  { c->C, c->F }, { c->C, c->F },
                                            { c->F, c->C } };

    AT_REQUIRE(i < AT_LINEARS);
    *in = shape[i][0];
    *out = shape[i][1];
}

void at_module_shape(const struct at_model_config *c, uint32_t i, uint32_t *in, uint32_t *out)
{
    const uint32_t module = at_linear_module(c->family, i);
    uint32_t width = 0;

    *out = 0;
    for (uint32_t k = 0; k < AT_LINEARS; k++) {
        if (!at_linear_path(c->family, k) || at_linear_module(c->family, k) != module)
            continue;
        at_linear_shape(c, k, in, &width);
        *out += width;
    }
}

static double weights_from(const struct at_model_config *c, uint32_t first)
{
    uint32_t in = 0, out = 0;
    double weights = 0;

    for (uint32_t i = first; i < AT_LINEARS; i++) {
        if (!at_linear_path(c->family, i))
            continue;
        at_linear_shape(c, i, &in, &out);
        weights += (double)in * out;
    }
    return weights;
}

double at_layer_weights(const struct at_model_config *c)
{
    return weights_from(c, 0);
}

double at_layer_weights_behind(const struct at_model_config *c)
{
    return weights_from(c, AT_O - AT_Q);
}

uint64_t at_module_row(const struct at_model_config *c, uint32_t i, uint64_t row, bool gguf)
{
    const uint64_t queries = c->H / c->G, head = row / c->D, place = row % c->D;
    uint32_t in = 0, out = 0;

    if (c->family->qkv_by_group && !gguf && i <= AT_V - AT_Q) {
        const uint64_t group = i == 0 ? head / queries : head;
        const uint64_t in_group = i == 0 ? head % queries : queries + i - 1;
        return (group * (queries + 2) + in_group) * c->D + place;
    }
    for (uint32_t k = at_linear_module(c->family, i); k < i; k++, row += out)
        at_linear_shape(c, k, &in, &out);
    return row;
}

/* GGUF's rows of q and k are (head, pair, half); Hugging Face's are (head, half, pair). */
static uint64_t rotary_row(uint32_t D, uint64_t row)
{
    const uint64_t in_head = row % D;

    return row - in_head + 2 * (in_head % (D / 2)) + in_head / (D / 2);
}

uint64_t at_file_row(const struct at_model_config *c, uint32_t role, uint64_t row, bool gguf)
{
    const bool rotary = role == AT_Q || role == AT_K || role == AT_Q_BIAS || role == AT_K_BIAS;

    if (gguf && c->family->gguf_permutes_qk && rotary)
        row = rotary_row(c->D, row);
    return role >= AT_Q && role <= AT_DOWN ? at_module_row(c, role - AT_Q, row, gguf) : row;
}
