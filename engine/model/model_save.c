/* A fully trained model to a folder of safetensors and config.json. */
#include "model_parts.h"

#include "weights_file.h"

#include <string.h>

struct save_context {
    struct at_gpu *gpu;
    const struct at_model *model;
    size_t *places; /* of the params, or that behind them: the value head */
};

/* Rows of linear i in layer l into those of its module. */
static AT_CHECKED read_part(float *out, struct at_gpu *gpu, const struct at_model *model,
                            uint32_t i, uint32_t l)
{
    const struct at_param *param = param_of(model, AT_Q + i, l);
    enum at_status st = AT_OK;
    float *values = NULL;

    TRY(at_alloc(&values, (size_t)param->rows * param->cols, sizeof *values));
    TRY(at_tensor_read(gpu, values, param->p));
    for (uint32_t row = 0; row < param->rows; row++)
        memcpy(out + at_module_row(&model->config, i, row, false) * param->cols,
               values + (size_t)row * param->cols, param->cols * sizeof *out);
done:
    at_free(&values);
    return st;
}

static enum at_status read_param(void *context, size_t i, float *out)
{
    const struct save_context *c = context;
    const struct at_model *model = c->model;
    const size_t n = (size_t)model->config.L * AT_ROLE_COUNT, place = c->places[i];
    const uint32_t role = (uint32_t)(place % AT_ROLE_COUNT), l = (uint32_t)(place / AT_ROLE_COUNT);
    const struct at_param *param = place < n ? model->params[place] : model->value.param;
    enum at_status st = AT_OK;

    if (place == n || !is_linear(role)) {
        TRY(at_tensor_read(c->gpu, out, param->p));
        for (uint32_t k = 0; place < n && is_offset(model, role) && k < param->cols; k++)
            out[k] -= 1;
        goto done;
    }
    for (uint32_t k = role - AT_Q; k < AT_LINEARS; k++)
        if (param_of(model, AT_Q + k, l) &&
            at_linear_module(model->config.family, k) == role - AT_Q)
            TRY(read_part(out, c->gpu, model, k, l));
done:
    return st;
}

AT_CHECKED at_model_save(const char *dir, struct at_gpu *gpu, const struct at_model *model,
                         const char *config_json_text)
{
    const size_t places = (size_t)model->config.L * AT_ROLE_COUNT;
    enum at_status st = AT_OK;
    struct save_context context = { .gpu = gpu, .model = model };
    struct at_save_tensor *tensors = NULL;
    struct at_arena arena = { 0 };
    char *path = NULL, *config = NULL;
    size_t n = 0;

    AT_REQUIRE(model->trainable);
    TRY(at_arena_alloc(&arena, &tensors, places + 1, sizeof *tensors));
    TRY(at_arena_alloc(&arena, &context.places, places + 1, sizeof *context.places));
    for (size_t i = 0; i <= places; i++) {
        const uint32_t role = (uint32_t)(i % AT_ROLE_COUNT);
        struct at_param *param = i < places ? model->params[i] : model->value.param;
        uint32_t rows = param ? param->rows : 0, cols = 0;
        if (!param || (i < places && is_linear(role) &&
                       at_linear_module(model->config.family, role - AT_Q) != role - AT_Q))
            continue;
        if (i < places && is_linear(role))
            at_module_shape(&model->config, role - AT_Q, &cols, &rows);
        tensors[n] = (struct at_save_tensor){ .name = param->name,
                                              .n_dims = 2,
                                              .dim = { rows, param->cols } };
        if (i < places && !is_matrix(role))
            tensors[n] =
                (struct at_save_tensor){ .name = param->name, .n_dims = 1, .dim = { param->cols } };
        context.places[n++] = i;
    }
    TRY(at_dir_create(dir));
    TRY(at_path_join(&arena, &path, dir, "model.safetensors"));
    TRY(at_path_join(&arena, &config, dir, "config.json"));
    TRY(at_safetensors_stream(path, tensors, n, NULL, 0, read_param, &context));
    TRY(at_file_write_atomic(config, config_json_text, strlen(config_json_text)));
done:
    at_arena_release(&arena);
    return st;
}
