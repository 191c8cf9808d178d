#include "checkpoint_arrays.h"

#include "os.h"

#include <string.h>

static const char magic[8] = { 'A', 'T', 'T', 'N', 'O', 'P', 'T', 0 };

struct array {
    void *data;
    size_t bytes;
};
enum {
    N_PARAMS = 3,
    N_CACHES = 4,
    N_ROLLOUT = 5,
    N_ONLINE = 7,
    MAX_ARRAYS = N_PARAMS + N_CACHES + N_ROLLOUT + N_ONLINE + 2,
    WIDTH = AT_MAX_SEGMENTS * 8 + 1
};

/* Reference log-probs of rows as floats: a row's segments, then 1 where it has them. */
static AT_CHECKED pack_reference(struct at_arena *arena, struct array *out,
                                 const struct at_row_result *results, uint32_t n)
{
    enum at_status st = AT_OK;
    float *values = NULL;

    _Static_assert(sizeof results->reference == (WIDTH - 1) * sizeof *values, "8 floats a segment");
    TRY(at_arena_alloc(arena, &values, (size_t)n * WIDTH + 1, sizeof *values));
    for (uint32_t i = 0; i < n; i++) {
        memcpy(values + (size_t)i * WIDTH, results[i].reference, sizeof results->reference);
        values[(size_t)i * WIDTH + WIDTH - 1] = results[i].has_reference;
    }
    *out = (struct array){ values, (size_t)n * WIDTH * sizeof *values };
done:
    return st;
}

static void unpack_reference(struct at_row_result *results, uint32_t n, const struct array *from)
{
    const float *values = from->data;

    for (uint32_t i = 0; i < n; i++) {
        memcpy(results[i].reference, values + (size_t)i * WIDTH, sizeof results->reference);
        results[i].has_reference = values[(size_t)i * WIDTH + WIDTH - 1] != 0;
    }
}

/* Rows whose reference log-probs are kept. */
struct cache {
    struct at_row_result *results;
    uint32_t n;
};

static void list_caches(struct cache out[N_CACHES], const struct at_loop *l)
{
    const struct at_run_data *d = &l->run->data;
    const struct cache all[N_CACHES] = { { l->results, d->train_packs.n_rows },
                                         { l->eval, d->eval_packs.n_rows },
                                         { l->kl.results, l->kl.n },
                                         { l->eval_kl.results, l->eval_kl.n } };

    memcpy(out, all, sizeof all);
}

/* The trainable adapter whose reference changes in the run, or NULL. */
static const struct at_adapter *synced(const struct at_loop *l)
{
    const struct at_engine *e = &l->run->engine;

    return l->config->sync_ref_model ? e->stack[e->n_adapters - 1] : NULL;
}

static uint64_t reference_bytes(const struct at_loop *l)
{
    return synced(l) ? at_adapter_reference_bytes(synced(l)) : 0;
}

/* Of methods with samples. */
static void list_rollout(struct array out[MAX_ARRAYS], size_t *n, const struct at_loop *l)
{
    const struct at_rollout *r = &l->rollout;
    const struct array all[N_ROLLOUT] = {
        { r->old, r->n_targets * sizeof *r->old },
        { r->ref, r->n_targets * sizeof *r->ref },
        { r->advantage, l->run->data.train_packs.n_rows * sizeof *r->advantage },
        { (void *)&l->rollout.tally, sizeof l->rollout.tally },
        { (void *)&l->rollout.shown, sizeof l->rollout.shown },
    };

    for (size_t i = 0; r->n_targets > 0 && i < N_ROLLOUT; i++)
        out[(*n)++] = all[i];
}

/* Of samples that are drawn: the window. */
static void list_online(struct array out[MAX_ARRAYS], size_t *n, const struct at_loop *l)
{
    struct at_online *o = &l->run->online;
    const uint64_t rows = (uint64_t)o->n_groups * o->group;
    const struct array all[N_ONLINE] = {
        { o->ids, rows * o->n_new * sizeof *o->ids },
        { o->n_ids, rows * sizeof *o->n_ids },
        { o->samples, rows * sizeof *o->samples },
        { o->choice, o->n_groups * sizeof *o->choice },
        { &o->tally, sizeof o->tally },
        { &o->watch, sizeof o->watch },
        { &o->reward_watch.alarm, sizeof o->reward_watch.alarm },
    };

    for (size_t i = 0; o->is_on && i < N_ONLINE; i++)
        out[(*n)++] = all[i];
}

static AT_CHECKED list_arrays(struct at_arena *arena, struct array out[MAX_ARRAYS], size_t *n,
                              const struct at_loop *l)
{
    enum at_status st = AT_OK;
    struct cache caches[N_CACHES];
    const size_t bytes = at_params_bytes(&l->run->engine.params);
    const struct array all[N_PARAMS] = { { l->p, bytes }, { l->m, bytes }, { l->v, bytes } };

    memcpy(out, all, sizeof all);
    *n = AT_COUNT(all);
    list_caches(caches, l);
    for (size_t i = 0; i < N_CACHES; i++)
        TRY(pack_reference(arena, &out[(*n)++], caches[i].results, caches[i].n));
    out[(*n)++] = (struct array){ l->reference, reference_bytes(l) };
    if (l->best_p)
        out[(*n)++] = (struct array){ l->best_p, bytes };
    list_rollout(out, n, l);
    list_online(out, n, l);
done:
    return st;
}

static uint64_t arrays_bytes(const struct array *arrays, size_t n)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < n; i++)
        bytes += 8 + arrays[i].bytes;
    return bytes;
}

struct header {
    char magic[8];
    uint32_t version, zero;
    uint64_t bytes;
};

AT_CHECKED at_checkpoint_arrays_write(struct at_arena *arena, const char *path,
                                      const struct at_loop *l)
{
    enum at_status st = AT_OK;
    struct at_writer *w = NULL;
    struct array arrays[MAX_ARRAYS];
    size_t n = 0;
    struct header head = { .version = AT_CHECKPOINT_VERSION };
    const struct at_engine *e = &l->run->engine;

    TRY(at_params_read(e->gpu, &e->params, l->p, l->m, l->v));
    if (synced(l))
        TRY(at_adapter_reference_read(e->gpu, synced(l), l->reference));
    TRY(list_arrays(arena, arrays, &n, l));
    memcpy(head.magic, magic, sizeof magic);
    head.bytes = arrays_bytes(arrays, n);
    TRY(at_writer_open(&w, path));
    TRY(at_writer_put(w, &head, sizeof head));
    for (size_t i = 0; i < n; i++) {
        const uint64_t bytes = arrays[i].bytes;
        TRY(at_writer_put(w, &bytes, sizeof bytes));
        if (bytes > 0)
            TRY(at_writer_put(w, arrays[i].data, arrays[i].bytes));
    }
    TRY(at_writer_commit(w));
done:
    at_writer_close(&w);
    return st;
}

/* The window that was read, of samples that are drawn: sizes, ids and choices index arrays. */
static AT_CHECKED check_online(struct at_online *o, uint32_t n_ids, const char *path)
{
    enum at_status st = AT_OK;
    const uint32_t rows = o->is_on ? o->n_groups * o->group : 0;
    bool good = true;

    for (uint32_t i = 0; i < rows; i++) {
        o->samples[i].old = NULL; /* of recorded samples alone */
        good = good && o->n_ids[i] <= o->n_new;
        for (uint32_t k = 0; k < o->n_new; k++) {
            const int32_t id = o->ids[(size_t)i * o->n_new + k];
            good = good && id >= 0 && (uint32_t)id < n_ids;
        }
    }
    for (uint32_t g = 0; o->is_on && o->pairs && g < o->n_groups; g++)
        good = good && o->choice[g] <= AT_CHOSE_NONE;
    for (int s = 0; o->is_on && s < AT_ALARM_SERIES; s++)
        good = good && o->reward_watch.alarm.count[s] >= 0;
    if (!good)
        FAIL(AT_DATA,
             "%s: samples in it have lengths, tokens or choices that no run writes: the file is "
             "damaged; name an older checkpoint with resume_from_checkpoint",
             path);
done:
    return st;
}

AT_CHECKED at_checkpoint_arrays_read(struct at_arena *arena, struct at_loop *l, const char *path)
{
    enum at_status st = AT_OK;
    struct at_map map = { .n = 0 };
    struct array arrays[MAX_ARRAYS];
    struct cache caches[N_CACHES];
    size_t n = 0, at = sizeof(struct header);
    struct header head = { .version = 0 };
    struct at_engine *e = &l->run->engine;

    TRY(list_arrays(arena, arrays, &n, l));
    TRY(at_map_open(&map, path));
    if (map.n >= sizeof head)
        memcpy(&head, map.data, sizeof head);
    if (memcmp(head.magic, magic, sizeof magic) != 0 || head.version != AT_CHECKPOINT_VERSION ||
        head.bytes != map.n - sizeof head || head.bytes != arrays_bytes(arrays, n))
        FAIL(AT_DATA, "%s: not the arrays of this run in format version %d", path,
             AT_CHECKPOINT_VERSION);
    for (size_t i = 0; i < n; i++) {
        uint64_t bytes = 0;
        memcpy(&bytes, map.data + at, sizeof bytes);
        if (bytes != arrays[i].bytes)
            FAIL(AT_DATA, "%s: array %zu has %llu bytes, %zu expected", path, i,
                 (unsigned long long)bytes, arrays[i].bytes);
        if (bytes > 0)
            memcpy(arrays[i].data, map.data + at + sizeof bytes, bytes);
        at += sizeof bytes + bytes;
    }
    TRY(check_online(&l->run->online, e->model.config.V, path));
    list_caches(caches, l);
    for (size_t i = 0; i < N_CACHES; i++)
        unpack_reference(caches[i].results, caches[i].n, &arrays[N_PARAMS + i]);
    TRY(at_params_write(e->gpu, &e->params, l->p, l->m, l->v));
    if (synced(l))
        TRY(at_adapter_reference_write(e->gpu, synced(l), l->reference));
done:
    at_map_close(&map);
    return st;
}
