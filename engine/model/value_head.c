#include "value_head.h"

#include "rng.h"
#include "weights_file.h"

#include <math.h>
#include <string.h>

/* Apart from the roles of a model's own tensors, which count from 256. */
enum { RNG_STREAM = 512 };

static const char of_language[] = "ForCausalLM", of_reward[] = "ForSequenceClassification";

AT_CHECKED at_value_head_plan(struct at_value_head *out, uint32_t C, double init_std,
                              struct at_params *params, const struct at_source *source)
{
    enum at_status st = AT_OK;

    *out = (struct at_value_head){ .source = source, .init_std = init_std };
    if (source && (source->n_dims != 2 || source->rows != 1 || source->cols != C))
        FAIL(AT_DATA,
             "%s: tensor %s has %u dimensions of %llu x %llu; a reward model has one output: 1 x "
             "%u",
             source->file, source->name, source->n_dims, (unsigned long long)source->rows,
             (unsigned long long)source->cols, C);
    if (source && source->type != AT_F32 && source->type != AT_F16 && source->type != AT_BF16)
        FAIL(AT_DATA, "%s: tensor %s is %s; it must be F32, F16 or BF16", source->file,
             source->name, source->type_name);
    TRY(at_params_add(params, &out->param, AT_SCORE, 1, C, AT_PARAM_MATRIX));
done:
    return st;
}

AT_CHECKED at_value_head_upload(struct at_value_head *head, struct at_gpu *gpu, uint64_t seed)
{
    struct at_rng rng = at_rng_make(seed, AT_RNG_INIT, 0, RNG_STREAM);
    const uint32_t C = head->param->cols;
    enum at_status st = AT_OK;
    float *values = NULL;

    head->w = head->param->p;
    head->dw = head->param->g;
    TRY(at_alloc(&values, C, sizeof *values));
    if (head->source) {
        TRY(at_source_floats(values, head->source));
        TRY(at_check_finite(head->source->name, values, C));
    } else {
        for (uint32_t i = 0; i < C; i++)
            values[i] = (float)(head->init_std * at_rng_normal(&rng));
    }
    TRY(at_tensor_write(gpu, head->w, values));
done:
    at_free(&values);
    return st;
}

/* ---- config.json ---- */

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);

    return n >= m && strcmp(text + n - m, end) == 0;
}

static const char *architecture(const cJSON *config)
{
    const cJSON *first = cJSON_GetArrayItem(at_json_find(config, "architectures"), 0);

    return cJSON_IsString(first) ? first->valuestring : "";
}

bool at_value_head_is_in(const cJSON *config)
{
    return ends_with(architecture(config), of_reward);
}

/* transformers' model classes are named after their families. */
static AT_CHECKED class_name(struct at_buf *out, const cJSON *config)
{
    const char *name = architecture(config);
    const size_t n = strlen(name) - (ends_with(name, of_language) ? strlen(of_language) : 0);
    const cJSON *type = at_json_find(config, "model_type");

    if (ends_with(name, of_language)) {
        at_buf_put(out, name, n);
    } else if (cJSON_IsString(type) && type->valuestring[0]) { /* "qwen2": Qwen2 */
        const char first = type->valuestring[0];
        at_buf_printf(out, "%c%s", first >= 'a' && first <= 'z' ? first - 'a' + 'A' : first,
                      type->valuestring + 1);
    }
    at_buf_puts(out, of_reward);
    return at_buf_status(out);
}

AT_CHECKED at_value_head_config(struct at_buf *out, const char *config_json_text, const char *name,
                                int32_t pad)
{
    enum at_status st = AT_OK;
    cJSON *config = NULL, *list = NULL, *labels = NULL;
    struct at_buf architecture_name = { 0 };

    TRY(at_json_parse_python(&config, config_json_text, strlen(config_json_text), name));
    if (at_value_head_is_in(config)) {
        at_buf_puts(out, config_json_text);
        goto done;
    }
    TRY(class_name(&architecture_name, config));
    cJSON_DeleteItemFromObjectCaseSensitive(config, "architectures");
    list = cJSON_AddArrayToObject(config, "architectures");
    cJSON_AddItemToArray(list, cJSON_CreateString(architecture_name.data));
    cJSON_DeleteItemFromObjectCaseSensitive(config, "num_labels");
    cJSON_DeleteItemFromObjectCaseSensitive(config, "id2label");
    labels = cJSON_AddObjectToObject(config, "id2label"); /* their number is num_labels */
    cJSON_AddStringToObject(labels, "0", "LABEL_0");
    cJSON_DeleteItemFromObjectCaseSensitive(config, "label2id");
    labels = cJSON_AddObjectToObject(config, "label2id");
    cJSON_AddNumberToObject(labels, "LABEL_0", 0);
    if (pad >= 0 && !cJSON_IsNumber(at_json_find(config, "pad_token_id"))) {
        cJSON_DeleteItemFromObjectCaseSensitive(config, "pad_token_id");
        cJSON_AddNumberToObject(config, "pad_token_id", pad);
    }
    at_json_write_pretty(out, config);
done:
    if (st == AT_OK)
        st = at_buf_status(out);
    at_buf_release(&architecture_name);
    at_json_free(&config);
    return st;
}
