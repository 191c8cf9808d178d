#include "online.h"

#include "loop.h"

#include <math.h>
#include <string.h>

/* ---- opening ---- */

static AT_CHECKED open_rewards(struct at_run *run)
{
    enum at_status st = AT_OK;
    const struct at_config *c = run->config;
    struct at_online *o = &run->online;
    const struct at_rewards_params p = { .funcs = c->reward_funcs,
                                         .command = c->reward_command,
                                         .command_timeout_s = c->reward_command_timeout };
    struct at_samples *s = &run->data.samples;

    TRY(at_rewards_open(&o->rewards, &p));
    s->n_rewards = at_rewards_count(o->rewards);
    for (uint32_t k = 0; k < s->n_rewards; k++)
        s->names[k] = at_rewards_name(o->rewards, k);
done:
    return st;
}

/* Each "rule" of a prompt's row, where rewards read them: not only once it is drawn. */
static AT_CHECKED check_rules(const struct at_online *o, const char *const *paths)
{
    enum at_status st = AT_OK;
    cJSON *row = NULL;
    bool any = false;

    for (uint32_t k = 0; k < at_rewards_count(o->rewards); k++)
        any = any || at_rewards_kind(o->rewards, k) == AT_REWARD_ROW_RULE;
    for (uint32_t i = 0; any && i < o->prompts.n; i++) {
        const struct at_prompt_row *p = &o->prompts.items[i];
        TRY(at_json_parse(&row, p->json, strlen(p->json), paths[p->file], p->line));
        st = at_reward_check_row(row);
        if (st != AT_OK) {
            at_context("%s:%u", paths[p->file], p->line);
            goto done;
        }
        at_json_free(&row);
    }
done:
    at_json_free(&row);
    return st;
}

/* Both sides of a pair stand behind one prompt, at one table of angles. */
static AT_CHECKED check_angles(const struct at_online *o, const struct at_dataset_params *p)
{
    const uint32_t n = o->prompts.longest + o->n_new;

    if (!o->pairs || p->long_from == 0 || n <= p->long_from)
        return AT_OK;
    return at_fail(AT_USAGE,
                   "online_dpo: the model has other rotary angles for sequences of more than %u "
                   "tokens, so that two replies cannot share a prompt; the longest prompt and "
                   "max_completion_length come to %u: lower max_completion_length, leave out long "
                   "prompts, or use rloo",
                   p->long_from, n);
}

/* The end of a sequence, and of a turn where that is a token of its own. */
static AT_CHECKED find_stops(struct at_online *o, const struct at_dataset_params *p)
{
    enum at_status st = AT_OK;
    struct at_prompt_reader reader;

    TRY(at_prompt_reader_init(&reader, p));
    if (reader.eos >= 0)
        o->stop[o->n_stop++] = reader.eos;
    if (reader.turn >= 0 && reader.turn != reader.eos &&
        at_tokenizer_is_special(p->tokenizer, reader.turn))
        o->stop[o->n_stop++] = reader.turn;
done:
    return st;
}

/* Row r of the window, from its prompt and its samples. */
static void set_row(struct at_online *o, uint32_t r)
{
    const uint32_t n_sides = o->pairs ? 2 : 1, g = o->pairs ? r : r / o->group;
    const struct at_prompt_row *prompt = &o->prompts.items[o->prompt[g]];
    struct at_row *row = &o->rows[r];

    *row = (struct at_row){ .kind = o->pairs ? AT_ROWS_PAIR : AT_ROWS_SAMPLE,
                            .file = prompt->file,
                            .line = prompt->line,
                            .index = r,
                            .prefix = prompt->ids,
                            .n_prefix = prompt->n,
                            .n_prompt = prompt->n,
                            .n_segments = n_sides };
    for (uint32_t k = 0; k < n_sides; k++) {
        const bool turns = o->pairs && o->choice[g] == AT_CHOSE_SECOND;
        const uint32_t i = r * n_sides + (turns ? 1 - k : k), n = o->n_ids[i];
        row->segment[k] = (struct at_segment){ o->ids + (size_t)i * o->n_new, o->targets, n, n, n };
    }
}

/* Rows as long as they may become: what is planned for. */
static AT_CHECKED make_window(struct at_run *run)
{
    enum at_status st = AT_OK;
    struct at_online *o = &run->online;
    struct at_arena *arena = &run->arena;
    const uint32_t n = o->n_groups * o->group;
    uint32_t longest = 0;

    TRY(at_arena_alloc(arena, &o->rows, o->n_rows, sizeof *o->rows));
    TRY(at_arena_alloc(arena, &o->samples, n, sizeof *o->samples));
    TRY(at_arena_alloc(arena, &o->n_ids, n, sizeof *o->n_ids));
    TRY(at_arena_alloc(arena, &o->ids, (size_t)n * o->n_new, sizeof *o->ids));
    TRY(at_arena_alloc(arena, &o->targets, o->n_new, sizeof *o->targets));
    TRY(at_arena_alloc(arena, &o->prompt, o->n_groups, sizeof *o->prompt));
    TRY(at_arena_alloc(arena, &o->choice, o->n_groups, sizeof *o->choice));
    memset(o->samples, 0, n * sizeof *o->samples);
    memset(o->ids, 0, (size_t)n * o->n_new * sizeof *o->ids);
    memset(o->targets, 1, o->n_new);
    memset(o->choice, AT_CHOSE_NONE, o->n_groups);
    for (uint32_t i = 0; i < o->prompts.n; i++)
        if (o->prompts.items[i].n > o->prompts.items[longest].n)
            longest = i;
    for (uint32_t g = 0; g < o->n_groups; g++)
        o->prompt[g] = longest;
    for (uint32_t i = 0; i < n; i++)
        o->n_ids[i] = o->n_new;
    for (uint32_t r = 0; r < o->n_rows; r++)
        set_row(o, r);
done:
    return st;
}

/* Rewards, and the prompts that samples are drawn for. */
static AT_CHECKED open_drawn(struct at_run *run, const struct at_dataset_params *p)
{
    enum at_status st = AT_OK;
    const struct at_strings *files = &run->config->train_dataset;
    struct at_online *o = &run->online;

    TRY(open_rewards(run));
    TRY(at_prompt_rows_load(&o->prompts, files->items, files->n, o->n_new, p));
    TRY(check_rules(o, files->items));
done:
    return st;
}

AT_CHECKED at_online_open(struct at_run *run, const struct at_dataset_params *p)
{
    enum at_status st = AT_OK;
    const struct at_config *c = run->config;
    struct at_online *o = &run->online;
    struct at_run_data *d = &run->data;
    const bool pairs = p->kind == AT_ROWS_PAIR;
    const uint64_t rows = at_rollout_rows(c), wanted = pairs ? rows : rows / c->num_generations;

    *o = (struct at_online){ .is_on = true,
                             .pairs = pairs,
                             .group = pairs ? 2 : c->num_generations,
                             .n_new = c->max_completion_length };
    if (c->rollouts)
        TRY(at_recorded_open(o, run, p));
    else
        TRY(open_drawn(run, p));
    TRY(check_angles(o, p));
    TRY(at_reward_watch_open(&o->reward_watch, run, p));
    TRY(find_stops(o, p));
    o->n_groups = wanted < o->prompts.n ? (uint32_t)wanted : o->prompts.n;
    o->n_rows = pairs ? o->n_groups : o->n_groups * o->group;
    TRY(make_window(run));
    d->samples.items = o->samples;
    d->samples.group = pairs ? 0 : o->group;
    d->train = (struct at_dataset){
        .rows = o->rows, .n_rows = o->n_rows, .n_read = o->prompts.n, .n_chats = o->prompts.n_chats
    };
    memcpy(d->train.digest, c->rollouts ? o->recorded.rows.digest : o->prompts.digest,
           sizeof d->train.digest);
done:
    return st;
}

void at_online_close(struct at_online *o)
{
    at_rewards_close(&o->rewards);
    at_reward_watch_close(&o->reward_watch);
    at_prompt_rows_release(&o->prompts);
    at_recorded_close(&o->recorded);
    *o = (struct at_online){ .is_on = false };
}

bool at_online_draws(const struct at_online *o)
{
    return o->is_on && o->recorded.rows.n_rows == 0;
}

struct at_sampler_params at_online_sampler(const struct at_online *o)
{
    const uint32_t n = o->n_groups * o->group;

    return (struct at_sampler_params){ .n_sequences = n < AT_SAMPLER_ROWS ? n : AT_SAMPLER_ROWS,
                                       .n_samples = o->group,
                                       .n_positions = o->prompts.longest + o->n_new,
                                       .n_prompt = o->prompts.longest,
                                       .n_new = o->n_new };
}

/* ---- drawing ---- */

static AT_CHECKED take_reply(void *context, const struct at_reply *reply)
{
    struct at_online *o = context;
    const uint32_t i = reply->prompt * o->group + reply->sample;
    int32_t *ids = o->ids + (size_t)i * o->n_new;
    uint32_t n = (uint32_t)reply->n;

    memset(ids, 0, o->n_new * sizeof *ids);
    memcpy(ids, reply->ids, n * sizeof *ids);
    if (reply->end == AT_END_STOP)
        ids[n++] = reply->stop;
    o->n_ids[i] = n;
    o->samples[i].ended = reply->end == AT_END_STOP;
    o->n_sampled += n;
    return AT_OK;
}

static AT_CHECKED sample(struct at_loop *l, uint32_t n_groups)
{
    enum at_status st = AT_OK;
    const struct at_config *c = l->config;
    struct at_online *o = &l->run->online;
    struct at_prompt_ids *prompts = NULL;
    const double begin_s = at_now_s();
    struct at_generation what = {
        .n_prompts = n_groups,
        .n_samples = o->group,
        .max_new_tokens = o->n_new,
        .stop = o->stop,
        .n_stop = o->n_stop,
        .sampling = { .temperature = o->pairs ? c->temperature : 1, /* else the engine has it */
                      .top_p = c->top_p,
                      .min_p = c->is_set[AT_KEY_min_p] ? c->min_p : 0,
                      .repetition_penalty = c->repetition_penalty,
                      .top_k = c->top_k,
                      .seed = c->seed | l->state.step << 32 },
        .reply = take_reply,
        .context = o,
    };

    o->n_sampled = 0;
    TRY(at_alloc(&prompts, n_groups, sizeof *prompts));
    for (uint32_t g = 0; g < n_groups; g++) {
        const struct at_prompt_row *p = &o->prompts.items[o->prompt[g]];
        prompts[g] = (struct at_prompt_ids){ p->ids, p->n };
    }
    what.prompts = prompts;
    TRY(at_engine_sample(&l->run->engine, &what));
    o->sampling_s = at_now_s() - begin_s;
    o->tokens_per_s = (double)o->n_sampled / (o->sampling_s + 1e-9);
done:
    at_free(&prompts);
    return st;
}

/* ---- texts ---- */

/* The prompts of a rollout as JSON, and the replies as texts. */
struct texts {
    cJSON **row;          /* (groups) */
    struct at_buf *reply; /* (samples) */
    uint32_t n_groups, n;
};

static void texts_release(struct texts *t)
{
    for (uint32_t g = 0; t->row && g < t->n_groups; g++)
        at_json_free(&t->row[g]);
    for (uint32_t i = 0; t->reply && i < t->n; i++)
        at_buf_release(&t->reply[i]);
    at_free(&t->row);
    at_free(&t->reply);
}

static AT_CHECKED texts_make(struct texts *out, const struct at_run *run, uint32_t n_groups)
{
    enum at_status st = AT_OK;
    const struct at_online *o = &run->online;

    *out = (struct texts){ .n_groups = n_groups, .n = n_groups * o->group };
    TRY(at_alloc(&out->row, out->n_groups, sizeof(cJSON *)));
    TRY(at_alloc(&out->reply, out->n, sizeof *out->reply));
    for (uint32_t g = 0; g < n_groups; g++) {
        const struct at_prompt_row *p = &o->prompts.items[o->prompt[g]];
        TRY(at_json_parse(&out->row[g], p->json, strlen(p->json), "train_dataset", p->line));
    }
    for (uint32_t i = 0; i < out->n; i++) {
        at_buf_puts(&out->reply[i], "");
        TRY(at_tokenizer_decode(run->bundle.tokenizer, &out->reply[i],
                                o->ids + (size_t)i * o->n_new, o->n_ids[i] - o->samples[i].ended,
                                true));
        TRY(at_buf_status(&out->reply[i]));
    }
done:
    return st;
}

static AT_CHECKED score(struct at_loop *l, uint32_t n_groups)
{
    enum at_status st = AT_OK;
    struct at_online *o = &l->run->online;
    const uint32_t n_rewards = l->run->data.samples.n_rewards;
    const double begin_s = at_now_s();
    struct texts texts = { .n = 0 };
    struct at_reward_sample *samples = NULL;
    double *rewards = NULL;

    TRY(texts_make(&texts, l->run, n_groups));
    TRY(at_alloc(&samples, texts.n, sizeof *samples));
    TRY(at_alloc(&rewards, (size_t)texts.n * n_rewards, sizeof *rewards));
    for (uint32_t i = 0; i < texts.n; i++)
        samples[i] = (struct at_reward_sample){
            .prompt = at_json_find(texts.row[i / o->group], "prompt"),
            .row = texts.row[i / o->group],
            .completion = texts.reply[i].data,
            .n_tokens = o->n_ids[i],
            .ended = o->samples[i].ended,
        };
    TRY(at_rewards_score(o->rewards, rewards, samples, texts.n));
    TRY(at_reward_watch_replies(&o->reward_watch, texts.reply, texts.n));
    for (uint32_t i = 0; i < texts.n; i++)
        memcpy(o->samples[i].reward, rewards + (size_t)i * n_rewards, n_rewards * sizeof *rewards);
    o->scoring_s = at_now_s() - begin_s;
done:
    texts_release(&texts);
    at_free(&samples);
    at_free(&rewards);
    return st;
}

/* Prompts of n rows. */
static uint32_t groups_of(const struct at_online *o, uint32_t n)
{
    return o->pairs ? n : n / o->group;
}

/* What was known of the rows that were there before. */
static void forget(struct at_loop *l, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        l->results[i] = (struct at_row_result){ .n_segments = l->run->online.pairs ? 2 : 1 };
        if (l->rollout.n_targets > 0)
            l->rollout.ref[l->rollout.first[i]] = NAN;
    }
}

/* Samples of n prompts with their rewards. */
static AT_CHECKED fill_window(struct at_loop *l, uint32_t n)
{
    enum at_status st = AT_OK;
    struct at_online *o = &l->run->online;

    if (!at_online_draws(o)) {
        at_recorded_take(o, n);
        goto done;
    }
    TRY(sample(l, n));
    st = score(l, n);
    o->is_unscored = st != AT_OK;
done:
    return st;
}

AT_CHECKED at_online_draw(struct at_loop *l, uint32_t n)
{
    enum at_status st = AT_OK;
    struct at_online *o = &l->run->online;

    if (!o->is_on)
        goto done;
    o->sampling_s = o->scoring_s = 0;
    if (l->state.step % at_rollout_steps(l->config) == 0) {
        TRY(fill_window(l, groups_of(o, n)));
        if (o->pairs)
            TRY(at_pairs_decide(l, n));
        forget(l, n);
    }
    for (uint32_t r = 0; r < n; r++)
        set_row(o, r);
done:
    return st;
}

/* ---- completions.jsonl ---- */

static void add_number(cJSON *list, double value)
{
    cJSON_AddItemToArray(list, isfinite(value) ? cJSON_CreateNumber(value) : cJSON_CreateNull());
}

/* {"step", "prompt", "completions": texts, "ended", "n_tokens", "rewards": {name: [...]},
 * "advantages", or of pairs the place that was "chosen"} of group g. */
static cJSON *line_of(const struct at_loop *l, const struct texts *texts, uint32_t g)
{
    const struct at_online *o = &l->run->online;
    const struct at_samples *s = &l->run->data.samples;
    const uint32_t begin = g * o->group, end = begin + o->group;
    cJSON *line = cJSON_CreateObject(), *list = NULL, *rewards = NULL;

    cJSON_AddNumberToObject(line, "step", (double)(l->state.step + 1));
    cJSON_AddItemToObject(line, "prompt",
                          cJSON_Duplicate(at_json_find(texts->row[g], "prompt"), true));
    list = cJSON_AddArrayToObject(line, "completions");
    for (uint32_t i = begin; i < end; i++)
        cJSON_AddItemToArray(list, cJSON_CreateString(texts->reply[i].data));
    list = cJSON_AddArrayToObject(line, "ended");
    for (uint32_t i = begin; i < end; i++)
        cJSON_AddItemToArray(list, cJSON_CreateBool(o->samples[i].ended));
    list = cJSON_AddArrayToObject(line, "n_tokens");
    for (uint32_t i = begin; i < end; i++)
        add_number(list, o->n_ids[i]);
    rewards = cJSON_AddObjectToObject(line, "rewards");
    for (uint32_t k = 0; k < s->n_rewards; k++) {
        list = cJSON_AddArrayToObject(rewards, s->names[k]);
        for (uint32_t i = begin; i < end; i++)
            add_number(list, o->samples[i].reward[k]);
    }
    if (o->pairs && o->choice[g] != AT_CHOSE_NONE)
        cJSON_AddNumberToObject(line, "chosen", o->choice[g]);
    else if (o->pairs)
        cJSON_AddNullToObject(line, "chosen");
    list = o->pairs ? NULL : cJSON_AddArrayToObject(line, "advantages");
    for (uint32_t i = begin; list && i < end; i++)
        add_number(list, l->rollout.advantage[i]);
    return line;
}

AT_CHECKED at_online_write(struct at_loop *l, uint32_t n)
{
    enum at_status st = AT_OK;
    struct texts texts = { .n = 0 };
    cJSON *line = NULL;

    if (!at_online_draws(&l->run->online) || !l->config->log_completions)
        goto done;
    TRY(texts_make(&texts, l->run, groups_of(&l->run->online, n)));
    for (uint32_t g = 0; g < texts.n_groups; g++) {
        line = line_of(l, &texts, g);
        TRY(at_records_completions(l->records, line));
        cJSON_Delete(line);
        line = NULL;
    }
done:
    cJSON_Delete(line);
    texts_release(&texts);
    return st;
}

/* ---- what cannot teach ---- */

AT_CHECKED at_online_look(struct at_online *o, const double *sums, uint32_t n, double flat)
{
    enum { EMPTY = 3, ROLLOUTS = 8, SAMPLES = 128 };
    enum at_status st = AT_OK;
    struct at_online_watch *w = &o->watch;
    uint32_t n_rewarded = 0;
    bool equal = true;

    if (!at_online_draws(o))
        goto done;
    for (uint32_t i = 0; i < n; i++) {
        n_rewarded += isnan(sums[i]) ? 0 : 1;
        equal = equal && sums[i] == sums[0];
    }
    w->empty = n_rewarded == 0 ? w->empty + 1 : 0;
    if (w->empty == EMPTY)
        FAIL(AT_DATA,
             "no sample of the last %d rollouts has a reward (all were excluded): nothing can be "
             "learnt; look at the rewards in completions.jsonl",
             EMPTY);
    w->ever = w->ever != 0 || flat < 1;
    if (equal && w->equal > 0 && sums[0] == w->equal_value) {
        w->equal += n;
        w->rollouts++;
    } else {
        w->equal = equal ? n : 0;
        w->rollouts = equal;
        w->equal_value = sums[0];
    }
    if (w->rollouts < ROLLOUTS || w->equal < SAMPLES)
        goto done;
    if (w->ever == 0)
        FAIL(AT_DATA,
             "all %.0f samples so far have the reward %g: nothing can be learnt; a reward must "
             "differ among the replies to a prompt (try prompts or a model that earn it at times, "
             "a higher temperature, or a reward that is less strict)",
             w->equal, w->equal_value);
    o->is_done = true;
done:
    return st;
}
