#include "reference.h"

#include "hash.h"
#include "json.h"
#include "os.h"

#include <string.h>

/* A string of run.json's "config", or NULL. */
static const char *recorded(const cJSON *run, const char *key)
{
    const cJSON *entry = at_json_find(at_json_find(run, "config"), key);

    return cJSON_GetStringValue(at_json_find(entry, "value"));
}

static AT_CHECKED check_parent(struct at_arena *arena, const char *parent, const cJSON *run,
                               const char *record)
{
    enum at_status st = AT_OK;
    const char *digest =
        cJSON_GetStringValue(at_json_find(at_json_find(run, "digests"), "parent_adapter"));
    struct at_digest found;
    char *file = NULL;

    TRY(at_path_join(arena, &file, parent, "adapter_model.safetensors"));
    if (!at_path_exists(file))
        FAIL(AT_NOT_FOUND,
             "%s is not there: %s records that adapter as the reference; put it back, or name a "
             "model with ref_model_name_or_path",
             file, record);
    TRY(at_hash_file(&found, file));
    if (digest && strcmp(digest, found.hex) != 0)
        FAIL(AT_INTEGRITY,
             "%s is not the adapter that %s records as the reference: its weights are others", file,
             record);
done:
    return st;
}

AT_CHECKED at_reference_of_adapter(struct at_reference_source *out, struct at_arena *arena,
                                   const char *adapter_dir, const char *model,
                                   const char *tokenizer_dir)
{
    enum at_status st = AT_OK;
    cJSON *run = NULL;
    char *record = NULL, *copy = NULL;
    const char *other = NULL, *parent = NULL;

    *out = (struct at_reference_source){ .model = model, .tokenizer_dir = tokenizer_dir };
    TRY(at_path_join(arena, &record, adapter_dir, "run.json"));
    if (!at_path_exists(record))
        goto done;
    TRY(at_json_load(&run, record));
    other = recorded(run, "ref_model_name_or_path");
    parent = recorded(run, "adapter_name_or_path");
    if (other) {
        TRY(at_arena_strdup(arena, &copy, other));
        *out = (struct at_reference_source){ .model = copy };
    } else if (parent) {
        TRY(check_parent(arena, parent, run, record));
        TRY(at_arena_strdup(arena, &copy, parent));
        out->adapter = copy;
    }
done:
    at_json_free(&run);
    return st;
}

AT_CHECKED at_reference_plan(struct at_reference *out, const struct at_reference_source *source,
                             const struct at_quantise_params *quantise,
                             const struct at_tokenizer *policy,
                             const struct at_engine_params *params)
{
    enum at_status st = AT_OK;
    const char *path = source->model;
    const struct at_bundle_params b = { .path = path,
                                        .tokenizer_dir = source->tokenizer_dir,
                                        .header_only = source->header_only,
                                        .quantise = *quantise };
    const struct at_engine_params p = { .gpu = params->gpu,
                                        .elsewhere = params->elsewhere,
                                        .capacity = params->capacity,
                                        .longest_row = params->longest_row,
                                        .n_positions = params->n_positions,
                                        .seed = params->seed,
                                        .frozen_dirs = &source->adapter,
                                        .n_frozen = source->adapter ? 1 : 0 };
    const char *here = NULL, *there = NULL;
    uint32_t from = 0;
    int32_t id = 0;

    *out = (struct at_reference){ .device_bytes = 0 };
    TRY(at_bundle_open(&out->bundle, &b));
    id = at_tokenizer_compare(policy, out->bundle.tokenizer, &here, &there);
    if (id >= 0)
        FAIL(AT_DATA,
             "%s has another vocabulary than the policy: id %d is \"%s\" there and \"%s\" here; "
             "its log-probs would be of other text, name a model with the same tokenizer",
             path, id, there ? there : "(nothing)", here ? here : "(nothing)");
    at_bundle_check_length(&out->bundle, params->longest_sequence);
    from = at_model_long_from(&out->bundle.config, p.longest_row);
    if (from > 0 && (from != params->long_from ||
                     (at_model_long_each(&out->bundle.config) && !params->long_each)))
        FAIL(AT_DATA,
             "%s has other rotary angles for sequences of more than %u tokens, the policy has not; "
             "set max_length to at most %u",
             path, from, from);
    TRY(at_engine_plan(&out->engine, &out->bundle, &p));
    out->device_bytes = at_engine_get_bytes(&out->engine).total;
done:
    if (st != AT_OK) {
        at_context("ref_model_name_or_path");
        at_reference_close(out);
    }
    return st;
}

AT_CHECKED at_reference_commit(struct at_reference *r)
{
    const enum at_status st = at_engine_commit(&r->engine);

    if (st != AT_OK)
        at_context("ref_model_name_or_path");
    return st;
}

void at_reference_leave_device(struct at_reference *r)
{
    at_engine_close(&r->engine);
}

void at_reference_close(struct at_reference *r)
{
    at_reference_leave_device(r);
    at_bundle_close(&r->bundle);
}

AT_CHECKED at_reference_rows(struct at_engine *engine, const struct at_row *rows,
                             struct at_row_result *results, uint32_t n_rows, float tail_discount)
{
    enum { PIECE = 64 };
    enum at_status st = AT_OK;
    const struct at_compute what = { .reference = true, .tail_discount = tail_discount };
    const struct at_row *picked[PIECE];

    for (uint32_t i = 0; i < n_rows; i += PIECE) {
        const uint32_t n = n_rows - i < PIECE ? n_rows - i : PIECE;
        for (uint32_t k = 0; k < n; k++)
            picked[k] = &rows[i + k];
        TRY(at_engine_rows(engine, picked, results + i, n, &what));
        TRY(at_engine_finish(engine));
        if (at_signal_status() != AT_OK)
            FAIL(at_signal_status(), "stopped by a signal before the first step");
    }
done:
    return st;
}
