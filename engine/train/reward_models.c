#include "reward_models.h"

#include "hash.h"
#include "os.h"

#include <math.h>
#include <string.h>

/* ---- what a folder holds ---- */

struct folder {
    bool adapter;
    cJSON *run;       /* run.json, or NULL */
    const char *base; /* that it records, or the folder itself; NULL: not known */
    bool same;        /* as the policy's */
};

static const char *recorded(const cJSON *run, const char *key)
{
    return cJSON_GetStringValue(
        at_json_find(at_json_find(at_json_find(run, "config"), key), "value"));
}

/* Weights with the digest that run.json has; an adapter without one is taken to be the policy's. */
static AT_CHECKED look(struct folder *out, struct at_arena *arena, const char *dir,
                       const struct at_bundle *policy)
{
    enum at_status st = AT_OK;
    char *adapter = NULL, *record = NULL, digest[65] = "";
    const char *theirs = NULL;
    bool unread = false; /* planned with from its header: taken to be the same */

    *out = (struct folder){ .base = dir };
    TRY(at_path_join(arena, &adapter, dir, "adapter_config.json"));
    TRY(at_path_join(arena, &record, dir, "run.json"));
    if (at_path_exists(record))
        TRY(at_json_load(&out->run, record));
    if (!at_path_exists(adapter))
        goto done;
    out->adapter = true;
    out->base = recorded(out->run, "model_name_or_path");
    theirs = cJSON_GetStringValue(at_json_find(at_json_find(out->run, "digests"), "model"));
    unread = policy->weights && at_weights_lack_data(policy->weights);
    if (theirs && policy->weights && !unread)
        TRY(at_weights_digest(policy->weights, digest));
    out->same = !theirs || unread || strcmp(theirs, digest) == 0;
done:
    return st;
}

/* ---- planning ---- */

static AT_CHECKED plan_other(struct at_reward_model *m, const struct folder *f,
                             const struct at_reward_models_params *p)
{
    enum at_status st = AT_OK;
    struct at_engine *policy = p->policy;
    const double mib = 1.0 / (1 << 20);
    const struct at_engine_params params = { .gpu = p->gpu,
                                             .capacity = policy->decoder.capacity,
                                             .longest_row = policy->decoder.capacity,
                                             .frozen_dirs = &m->dir,
                                             .n_frozen = f->adapter,
                                             .value_head = true };
    uint64_t ours = 0, theirs = 0;
    char room[AT_GPU_ROOM_BYTES];

    if (!f->base)
        FAIL(AT_DATA, "%s: no run.json that names its base; name a whole reward model", m->dir);
    TRY(at_bundle_open(
        &m->bundle, &(struct at_bundle_params){ .path = f->base, .header_only = p->header_only }));
    TRY(at_engine_plan(&m->engine, &m->bundle, &params));
    if (!m->engine.model.value.source)
        FAIL(AT_DATA, "%s: no value head (score.weight): it is no reward model", m->dir);
    theirs = at_engine_get_bytes(&m->engine).total;
    ours = at_engine_get_bytes(policy).total;
    if (ours + theirs > at_engine_get_bytes(policy).available) {
        at_gpu_room_text(room, at_gpu_get_info(policy->gpu));
        FAIL(AT_USAGE,
             "%s: a reward model over another base (%s) needs %.0f MiB beside the policy's %.0f, "
             "and %s: train one over the policy's base, which needs no second copy",
             m->dir, f->base, (double)theirs * mib, (double)ours * mib, room);
    }
    policy->beside_bytes += theirs;
    if (!f->adapter && !at_weights_lack_data(m->bundle.weights))
        TRY(at_weights_digest(m->bundle.weights, m->digest));
    m->rows.tokenizer = m->bundle.tokenizer;
    m->rows.chat = m->bundle.chat;
    m->rows.chat_problem = m->bundle.chat_problem;
    m->rows.eos = NULL;
    m->rows.long_from = at_model_long_from(&m->bundle.config, UINT32_MAX);
    m->rows.long_each = at_model_long_each(&m->bundle.config);
done:
    return st;
}

static AT_CHECKED digest_adapter(struct at_reward_model *m, struct at_arena *arena)
{
    enum at_status st = AT_OK;
    struct at_digest file;
    char *path = NULL;

    TRY(at_path_join(arena, &path, m->dir, "adapter_model.safetensors"));
    TRY(at_hash_file(&file, path));
    memcpy(m->digest, file.hex, sizeof m->digest);
done:
    return st;
}

static AT_CHECKED plan_model(struct at_reward_model *m, struct at_arena *arena,
                             const struct at_reward_models_params *p)
{
    enum at_status st = AT_OK;
    const char *token = NULL;
    struct folder f = { .run = NULL };

    TRY(look(&f, arena, m->dir, p->policy->bundle));
    token = recorded(f.run, "reward_token");
    m->rows = p->rows;
    m->rows.kind = AT_ROWS_PAIR;
    m->rows.reads_last = m->rows.singles = true;
    m->rows.prompt_targets = m->rows.triples = false;
    m->rows.skips_pad = token && strcmp(token, "last_not_pad") == 0;
    m->rows.max_length = p->policy->decoder.capacity;
    m->rows.on_long = AT_LONG_DROP;
    m->rows.on_bad = AT_BAD_KEEP;
    if (f.adapter)
        TRY(digest_adapter(m, arena));
    if (f.adapter && f.same)
        TRY(at_engine_plan_reward(&m->engine, p->policy, m->dir));
    else
        TRY(plan_other(m, &f, p));
done:
    at_json_free(&f.run);
    if (st != AT_OK)
        at_context("reward \"%s\"", m->name);
    return st;
}

/* ---- scoring ---- */

/* A line of `attune score`. */
static void write_row(struct at_buf *out, const struct at_reward_sample *s)
{
    const bool chat = cJSON_IsArray(s->prompt);

    at_buf_puts(out, "{\"prompt\":");
    at_json_write(out, s->prompt);
    at_buf_puts(out, ",\"completion\":");
    at_buf_puts(out, chat ? "[{\"role\":\"assistant\",\"content\":" : "");
    at_json_write_string(out, s->completion, strlen(s->completion));
    at_buf_puts(out, chat ? "}]}\n" : "}\n");
}

static AT_CHECKED compute(struct at_reward_model *m, double *out, const struct at_dataset *d)
{
    enum at_status st = AT_OK;
    const struct at_compute what = { .policy = true };
    struct at_row_result *results = NULL;
    const struct at_row **rows = NULL;

    TRY(at_alloc(&results, d->n_rows, sizeof *results));
    TRY(at_alloc(&rows, d->n_rows, sizeof *rows));
    for (uint32_t i = 0; i < d->n_rows; i++) {
        rows[i] = &d->rows[i];
        results[i].n_segments = at_row_sums(rows[i]);
    }
    TRY(at_engine_rows(&m->engine, rows, results, d->n_rows, &what));
    TRY(at_engine_finish(&m->engine));
    for (uint32_t i = 0; i < d->n_rows; i++)
        out[rows[i]->line - 1] = (double)results[i].policy[0].logp;
done:
    at_free(&results);
    at_free(&rows);
    return st;
}

static enum at_status score(void *context, double *out, const struct at_reward_sample *samples,
                            uint32_t n)
{
    enum at_status st = AT_OK;
    struct at_reward_model *m = context;
    struct at_dataset d = { .n_rows = 0 };
    struct at_buf lines = { 0 };

    for (uint32_t i = 0; i < n; i++) {
        out[i] = NAN;
        write_row(&lines, &samples[i]);
    }
    TRY(at_buf_status(&lines));
    at_warn_mute(true); /* of empty replies, say: they are the policy's */
    st = at_dataset_parse(&d, m->name, lines.data, lines.n, &m->rows);
    at_warn_mute(false);
    TRY(st);
    if (d.n_rows > 0)
        TRY(compute(m, out, &d));
    if (d.n_rows < n)
        at_warn(
            "reward_long",
            "reward \"%s\": %u of %u replies have none: with their prompts they are longer than "
            "%u tokens; raise max_tokens_per_slab",
            m->name, n - d.n_rows, n, m->rows.max_length);
done:
    at_dataset_release(&d);
    at_buf_release(&lines);
    if (st != AT_OK)
        at_context("reward \"%s\"", m->name);
    return st;
}

/* ---- all of a run ---- */

AT_CHECKED at_reward_models_plan(struct at_reward_models *out, struct at_rewards *rewards,
                                 const struct at_reward_models_params *p)
{
    enum at_status st = AT_OK;

    *out = (struct at_reward_models){ .n = 0 };
    TRY(at_alloc(&out->items, at_rewards_count(rewards), sizeof *out->items));
    for (uint32_t k = 0; k < at_rewards_count(rewards); k++) {
        struct at_reward_model *m = &out->items[out->n];
        if (at_rewards_kind(rewards, k) != AT_REWARD_MODEL)
            continue;
        m->name = at_rewards_name(rewards, k);
        m->dir = at_rewards_what(rewards, k);
        out->n++;
        TRY(plan_model(m, &out->arena, p));
        at_rewards_bind(rewards, k, score, m);
    }
done:
    if (st != AT_OK)
        at_reward_models_close(out);
    return st;
}

AT_CHECKED at_reward_models_commit(struct at_reward_models *models)
{
    enum at_status st = AT_OK;

    for (uint32_t i = 0; i < models->n; i++)
        TRY(at_engine_commit(&models->items[i].engine));
done:
    return st;
}

void at_reward_models_close(struct at_reward_models *models)
{
    for (uint32_t i = 0; i < models->n; i++) {
        at_engine_close(&models->items[i].engine);
        at_bundle_close(&models->items[i].bundle);
    }
    at_free(&models->items);
    at_arena_release(&models->arena);
    *models = (struct at_reward_models){ .n = 0 };
}
