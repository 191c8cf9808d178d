/* Judges of replies: a reward model, a language model asked both ways round, people. */
#include "compare.h"

#include "generate.h"
#include "label.h"
#include "prompts.h"

#include <math.h>
#include <string.h>

static AT_CHECKED make_room(struct compare *c)
{
    c->n = (uint32_t)c->n_replies;
    return at_arena_alloc(&c->arena, &c->outcome, c->n, sizeof *c->outcome);
}

/* ---- a reward model ---- */

/* after's reply as chosen, before's as rejected: rows that a reward model reads. */
static AT_CHECKED write_pairs(const struct compare *c, const char *path)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };

    for (size_t i = 0; i < c->n_replies; i++) {
        const cJSON *responses = at_json_find(c->replies[i].row, "responses");
        cJSON *row = cJSON_CreateObject();
        cJSON_AddItemToObject(row, "prompt",
                              cJSON_Duplicate(at_json_find(c->replies[i].row, "prompt"), true));
        cJSON_AddItemToObject(row, "chosen",
                              cJSON_Duplicate(cJSON_GetArrayItem(responses, 1), true));
        cJSON_AddItemToObject(row, "rejected",
                              cJSON_Duplicate(cJSON_GetArrayItem(responses, 0), true));
        at_json_write(&text, row);
        at_buf_puts(&text, "\n");
        cJSON_Delete(row);
    }
    TRY(at_buf_status(&text));
    TRY(at_file_write_atomic(path, text.data, text.n));
done:
    at_buf_release(&text);
    return st;
}

/* The run that trained it, or a model with a value head. */
static AT_CHECKED reward_config(struct at_config *out, struct compare *c, const char *dir,
                                const char *rows)
{
    enum at_status st = AT_OK;
    const enum at_method method = AT_REWARD;
    cJSON *document = cJSON_CreateObject(), *run = NULL;
    const cJSON *model = NULL;
    char *adapter = NULL, *record = NULL;

    TRY(at_path_join(&c->arena, &adapter, dir, "adapter_config.json"));
    TRY(at_path_join(&c->arena, &record, dir, "run.json"));
    if (at_path_exists(adapter)) {
        if (at_path_exists(record))
            TRY(at_json_load(&run, record));
        model =
            at_json_find(at_json_find(at_json_find(run, "config"), "model_name_or_path"), "value");
        if (!cJSON_IsString(model))
            FAIL(AT_DATA, "%s: no run.json that names its base; name a whole reward model", dir);
        cJSON_AddStringToObject(document, "adapter_name_or_path", dir);
        cJSON_AddStringToObject(document, "model_name_or_path", model->valuestring);
    } else {
        cJSON_AddStringToObject(document, "model_name_or_path", dir);
    }
    cJSON_AddStringToObject(document, "train_dataset", rows);
    cJSON_AddStringToObject(document, "on_bad_row", "keep");  /* both may say the same */
    cJSON_AddStringToObject(document, "on_long_row", "drop"); /* nothing is said of it */
    cJSON_AddNumberToObject(document, "eval_split", 0);
    if (c->device)
        cJSON_AddStringToObject(document, "device", c->device);
    TRY(at_config_read(out, document, NULL, NULL, 0, &method));
done:
    cJSON_Delete(document);
    at_json_free(&run);
    return st;
}

static AT_CHECKED score_rewards(struct compare *c, const struct at_config *config)
{
    enum at_status st = AT_OK;
    struct at_run run = { .config = NULL };
    struct at_row_result *results = NULL;
    const struct at_row **rows = NULL;
    const struct at_dataset *d = &run.data.train;

    TRY(at_run_open_scores(&run, config));
    TRY(at_alloc(&results, d->n_rows, sizeof *results));
    TRY(at_alloc(&rows, d->n_rows, sizeof *rows));
    for (uint32_t i = 0; i < d->n_rows; i++) {
        rows[i] = &d->rows[i];
        results[i].n_segments = at_row_sums(rows[i]);
    }
    TRY(at_engine_commit(&run.engine));
    if (!run.engine.model.value.source)
        FAIL(AT_DATA, "--reward_model: neither model nor adapter has a value head (score.weight)");
    TRY(at_score_rows(&run.engine, rows, d->n_rows, results, false));
    for (uint32_t i = 0; i < c->n; i++)
        c->outcome[i] = NAN; /* rows that were too long */
    for (uint32_t i = 0; i < d->n_rows; i++) {
        const double after = (double)results[i].policy[0].logp;
        const double before = (double)results[i].policy[1].logp;
        AT_REQUIRE(rows[i]->line >= 1 && rows[i]->line <= c->n);
        c->outcome[rows[i]->line - 1] = after > before ? 1 : after < before ? 0 : 0.5;
    }
done:
    at_free(&results);
    at_free(&rows);
    at_run_close(&run);
    return st;
}

AT_CHECKED compare_by_reward(struct compare *c)
{
    enum at_status st = AT_OK;
    const char *dir = cli_flag_text(c->args, "reward_model");
    struct at_config config = { .file = NULL };
    char *folder = NULL, *rows = NULL;

    TRY(make_room(c));
    TRY(at_arena_printf(&c->arena, &folder, "%s.reward", c->replies_path));
    TRY(at_dir_create(folder));
    TRY(at_path_join(&c->arena, &rows, folder, "pairs.jsonl"));
    TRY(write_pairs(c, rows));
    TRY(reward_config(&config, c, dir, rows));
    TRY(score_rewards(c, &config));
done:
    if (folder && at_dir_remove(folder) != AT_OK)
        at_warn("left_over", "%s cannot be removed", folder);
    at_config_release(&config);
    return st;
}

/* ---- a language model ---- */

struct judge {
    struct at_bundle bundle;
    struct cli_prompts prompts; /* of every case, then the other way round */
    struct at_generator *generator;
    int32_t letter[2]; /* ids of A and B */
    float *logits;     /* (V) */
};

static AT_CHECKED ask(struct judge *j, const struct compare *c, const char *better)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };
    char *copy = NULL;

    for (size_t i = 0; i < 2 * c->n_replies; i++) {
        const struct compare_reply *r = &c->replies[i / 2];
        at_buf_clear(&text);
        at_buf_printf(&text,
                      "Two assistants answered the same message. Which answer is %s?\n\nMessage:\n"
                      "%s\n\nAnswer A:\n%s\n\nAnswer B:\n%s\n\nReply with one letter, A or B.",
                      better, r->prompt, r->text[i % 2], r->text[1 - i % 2]);
        TRY(at_buf_status(&text));
        TRY(at_arena_strdup(&j->prompts.arena, &copy, text.data)); /* prompts borrow it */
        TRY(cli_prompts_add(&j->prompts, copy));
    }
done:
    at_buf_release(&text);
    return st;
}

static AT_CHECKED find_letters(struct judge *j, const char *model)
{
    static const char *const letters[] = { "A", "B" };
    enum at_status st = AT_OK;
    struct at_ids ids = { .n = 0 };

    for (int k = 0; k < 2; k++) {
        ids.n = 0;
        TRY(at_tokenizer_encode(j->bundle.tokenizer, &ids, letters[k], 1, false));
        if (ids.n == 0)
            FAIL(AT_DATA, "%s: its tokenizer has no %s", model, letters[k]);
        j->letter[k] = ids.data[ids.n - 1];
    }
    if (j->letter[0] == j->letter[1])
        FAIL(AT_DATA, "%s: its tokenizer does not tell A from B", model);
done:
    at_ids_release(&ids);
    return st;
}

static AT_CHECKED open_judge(struct judge *j, struct compare *c, const char *model)
{
    enum at_status st = AT_OK;
    const char *better = cli_flag_text(c->args, "better");
    struct at_bundle_params p = { .path = model };
    struct at_generator_params g = { .gpu = { .device = c->device }, .adapter_scale = 1 };

    TRY(at_bundle_open(&j->bundle, &p));
    TRY(cli_prompts_open(&j->prompts, &j->bundle));
    TRY(find_letters(j, model));
    TRY(ask(j, c, better ? better : "more helpful and better in tone"));
    g.sampler = (struct at_sampler_params){ .n_sequences = 1, .n_samples = 1 };
    for (size_t i = 0; i < j->prompts.n; i++)
        if (j->prompts.items[i].n >= g.sampler.n_positions)
            g.sampler.n_positions = j->prompts.items[i].n + 1;
    TRY(at_alloc(&j->logits, j->bundle.config.V, sizeof *j->logits));
    TRY(at_generator_open(&j->generator, j->bundle.weights, &j->bundle.config, &g));
done:
    return st;
}

/* How much likelier A is than B as the first token of the answer. */
static AT_CHECKED lean(double *out, struct judge *j, size_t i)
{
    enum at_status st = AT_OK;
    struct at_ids ignored = { .n = 0 };
    enum at_generation_end end = AT_END_LENGTH;
    const struct at_prompt_ids prompt = { j->prompts.items[i].ids, j->prompts.items[i].n };
    const struct at_generation what = {
        .prompts = &prompt, .n_prompts = 1, .max_new_tokens = 1, .sampling = { .top_p = 1 }
    };

    TRY(at_generate_one(j->generator, &ignored, &end, &what));
    TRY(at_generator_read_logits(j->generator, j->logits));
    *out = (double)j->logits[j->letter[0]] - (double)j->logits[j->letter[1]];
done:
    at_ids_release(&ignored);
    return st;
}

AT_CHECKED compare_by_model(struct compare *c)
{
    enum at_status st = AT_OK;
    struct judge j = { .generator = NULL };
    const char *model = cli_flag_text(c->args, "judge_model");
    uint32_t n_same = 0;

    TRY(make_room(c));
    TRY(open_judge(&j, c, model));
    for (uint32_t i = 0; i < c->n; i++) {
        double lean_[2];
        for (size_t k = 0; k < 2; k++)
            TRY(lean(&lean_[k], &j, 2 * i + k));
        /* the first time A is before's, the second time after's: only what both say counts */
        c->outcome[i] = lean_[0] > 0 && lean_[1] < 0 ? 0 : lean_[0] < 0 && lean_[1] > 0 ? 1 : 0.5;
        n_same += c->outcome[i] != 0.5;
    }
    cli_note("judge      %s said the same both ways round of %u of %u; the others count as ties",
             model, n_same, c->n);
done:
    at_generator_close(&j.generator);
    at_free(&j.logits);
    cli_prompts_release(&j.prompts);
    at_bundle_close(&j.bundle);
    return st;
}

/* ---- people ---- */

AT_CHECKED compare_by_people(struct compare *c)
{
    enum at_status st = AT_OK;
    struct at_labels *labels = NULL;
    struct at_labels_params p = { .path = c->replies_path,
                                  .log = cli_flag_text(c->args, "log"),
                                  .annotator = "me",
                                  .reads = true };
    char *log = NULL;
    uint32_t decided = 0;

    if (!p.log) {
        TRY(at_arena_printf(&c->arena, &log, "%s.labels.jsonl", c->replies_path));
        p.log = log;
    }
    if (!at_path_exists(p.log)) { /* the first step; exit code 3, so that no pipeline goes on */
        cli_note(
            "people     %zu pairs of replies are written, to be decided on a page that does not "
            "show whose reply is whose",
            c->n_replies);
        if (log)
            cli_next("next       attune label %s", c->replies_path);
        else
            cli_next("next       attune label %s --log %s", c->replies_path, p.log);
        FAIL(AT_NO_EVIDENCE,
             "no evidence yet, as nobody has decided on the pairs of %s: `attune label`, then "
             "this command again",
             c->replies_path);
    }
    TRY(make_room(c));
    TRY(at_labels_open(&labels, &p));
    AT_REQUIRE(at_labels_count(labels) == c->n);
    for (uint32_t i = 0; i < c->n; i++) {
        c->outcome[i] = at_labels_outcome(labels, i);
        decided += isnan(c->outcome[i]) ? 0 : 1;
    }
    cli_note("people     %u of %u pairs are decided", decided, c->n);
done:
    at_labels_close(&labels);
    return st;
}
