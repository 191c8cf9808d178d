/* links: base text data */
#include "data_test.h"

#include "rollouts.h"

#define GOLDEN TEST_DIR "/golden/"

/* ---- against TRL ---- */

static void check_side(const char *what, const struct at_row *row, uint32_t k, const cJSON *ids,
                       const cJSON *mask)
{
    const struct at_segment *s = &row->segment[k];
    uint32_t targets = 0;

    if ((uint32_t)cJSON_GetArraySize(ids) != row->n_prefix + s->n)
        fail_msg("%s: side %u has %u ids, should have %d", what, k, row->n_prefix + s->n,
                 cJSON_GetArraySize(ids));
    for (uint32_t i = 0; i < row->n_prefix + s->n; i++) {
        const bool shared = i < row->n_prefix;
        const int id = shared ? row->prefix[i] : s->ids[i - row->n_prefix];
        const int flag = shared ? 0 : s->targets[i - row->n_prefix];
        targets += (uint32_t)flag;
        if (id != cJSON_GetArrayItem(ids, (int)i)->valueint)
            fail_msg("%s: side %u: id %u is %d", what, k, i, id);
        if (mask && flag != cJSON_GetArrayItem(mask, (int)i)->valueint)
            fail_msg("%s: side %u: mask %u is %d", what, k, i, flag);
    }
    assert_int_equal(targets, s->n_targets);
}

static bool has_targets(const cJSON *sides)
{
    for (const cJSON *s = sides->child; s; s = s->next) {
        int n = 0;
        for (const cJSON *m = at_json_find(s, "mask")->child; m; m = m->next)
            n += m->valueint;
        if (n == 0)
            return false;
    }
    return true;
}

static void check_trl_row(const cJSON *want, const struct at_tokenizer *t)
{
    const cJSON *sides = at_json_find(want, "sides"), *n_prompt = at_json_find(want, "n_prompt");
    struct at_dataset_params p = { .tokenizer = t,
                                   .chat = chatml,
                                   .on_long = AT_LONG_CUT,
                                   .on_bad = AT_BAD_KEEP,
                                   .completion_only = true };
    struct at_dataset d;
    struct at_buf text = { 0 }, what = { 0 };

    OK(at_json_get_bool(&p.assistant_only, want, "assistant_only", "rows.json"));
    OK(at_json_get_bool(&p.completion_only, want, "completion_only", "rows.json"));
    OK(at_json_get_u32(&p.max_length, want, "max_length", "rows.json"));
    p.kind =
        strcmp(at_json_find(want, "kind")->valuestring, "pair") == 0 ? AT_ROWS_PAIR : AT_ROWS_SFT;
    at_json_write(&what, want);
    at_json_write(&text, at_json_find(want, "row"));
    const enum at_status st = load_text(&d, text.data, &p);
    if (!sides->child) {
        assert_int_equal(st, AT_DATA);
        if (!strstr(at_message(), "no row is left") || !strstr(warnings, "dropped_row"))
            fail_msg("%s: should be dropped: %s", what.data, at_message());
    } else if (!has_targets(sides)) {
        assert_int_equal(st, AT_DATA);
        if (!strstr(at_message(), ":1: ") || !strstr(at_message(), "; correct it"))
            fail_msg("%s: %s", what.data, at_message());
    } else {
        if (st != AT_OK)
            fail_msg("%s: %s", what.data, at_message());
        assert_int_equal(d.rows[0].n_segments, cJSON_GetArraySize(sides));
        for (uint32_t k = 0; k < d.rows[0].n_segments; k++) {
            const cJSON *s = cJSON_GetArrayItem(sides, (int)k);
            check_side(what.data, &d.rows[0], k, at_json_find(s, "ids"), at_json_find(s, "mask"));
        }
        if (cJSON_IsNumber(n_prompt) && p.kind == AT_ROWS_PAIR)
            assert_int_equal(d.rows[0].n_prompt, n_prompt->valueint);
        at_dataset_release(&d);
    }
    at_buf_release(&text);
    at_buf_release(&what);
}

static void dataset_of_awkward_rows_equals_trl(void **state)
{
    cJSON *rows;
    struct at_tokenizer *t = NULL;
    const char *name = "";
    char dir[512];
    size_t n = 0;

    (void)state;
    OK(at_json_load(&rows, TEST_DIR "/unit/fixtures/rows.json"));
    for (const cJSON *row = rows->child; row; row = row->next, n++) {
        const char *wanted = at_json_find(row, "tokenizer")->valuestring;
        if (strcmp(wanted, name) != 0) {
            at_tokenizer_destroy(&t);
            name = wanted;
            snprintf(dir, sizeof dir, TEST_DIR "/%s", name);
            OK(at_tokenizer_load(&t, dir));
        }
        check_trl_row(row, t);
    }
    assert_true(n > 120);
    at_tokenizer_destroy(&t);
    at_json_free(&rows);
}

static enum at_row_kind kind_of(const char *method)
{
    if (strcmp(method, "kto") == 0)
        return AT_ROWS_LABELLED;
    if (strcmp(method, "grpo") == 0 || strcmp(method, "rloo") == 0)
        return AT_ROWS_SAMPLE;
    return strcmp(method, "sft") == 0 ? AT_ROWS_SFT : AT_ROWS_PAIR;
}

/* A reward model's row: only the last token of each side counts, or the one `back` before it. */
static void check_last(const struct at_row *row, uint32_t back)
{
    for (uint32_t k = 0; k < row->n_segments; k++) {
        assert_int_equal(row->segment[k].n_targets, 1);
        assert_int_equal(row->segment[k].targets[row->segment[k].n - 1 - back], 1);
    }
}

/* The rows of a golden run: those that TRL kept, with their ids and number of targets. */
static void check_golden(const char *run)
{
    struct at_dataset_params p = strict(AT_ROWS_SFT);
    struct at_tokenizer *t;
    struct at_dataset d;
    cJSON *config, *expect;
    char file[512], data[512];
    const char *paths[] = { data };
    struct at_samples samples;
    uint32_t i = 0, group;
    bool sampled = false;

    snprintf(file, sizeof file, GOLDEN "%s/expect.json", run);
    OK(at_json_load(&expect, file));
    snprintf(file, sizeof file, GOLDEN "%s/config.json", run);
    OK(at_json_load(&config, file));
    sampled = at_json_find(config, "rollouts") != NULL;
    snprintf(data, sizeof data, GOLDEN "%s/%s", run,
             at_json_find(config, sampled ? "rollouts" : "train_dataset")->valuestring);
    snprintf(file, sizeof file, GOLDEN "%s/%s", run,
             at_json_find(config, "model_name_or_path")->valuestring);
    OK(at_tokenizer_load(&t, file));
    p.tokenizer = t;
    p.on_bad = AT_BAD_KEEP;
    p.on_long = AT_LONG_CUT;
    p.max_length = sampled ? 0 : 1024;
    OK(at_json_get_u32(&p.max_length, config, "max_length", run));
    p.kind = kind_of(at_json_find(config, "method")->valuestring);
    p.reads_last = strcmp(at_json_find(config, "method")->valuestring, "reward") == 0;
    if (p.reads_last)
        p.on_long = AT_LONG_DROP;
    p.skips_pad = at_json_find(config, "reward_token") != NULL;
    p.triples = strcmp(at_json_find(config, "method")->valuestring, "tpo") == 0;
    group = 2; /* of online_dpo, which has no key for it */
    OK(at_json_get_u32(&group, config, "num_generations", run));
    if (sampled)
        OK(at_rollouts_load(&d, &samples, data, group, &p));
    else
        OK(at_dataset_load(&d, paths, 1, &p));
    for (const cJSON *want = at_json_find(expect, "rows")->child; want; want = want->next) {
        if (cJSON_IsTrue(at_json_find(want, "dropped")))
            continue;
        assert_true(i < d.n_rows);
        const struct at_row *row = &d.rows[i++];
        assert_int_equal(row->line - 1, at_json_find(want, "row")->valueint);
        assert_int_equal(row->desirable, cJSON_IsTrue(at_json_find(want, "label")));
        for (uint32_t k = 0; k < row->n_segments; k++) {
            const cJSON *side = at_json_find(want, at_row_side_name(row, k));
            check_side(run, row, k, at_json_find(side, "ids"), NULL);
            if (!p.reads_last)
                assert_int_equal(row->segment[k].n_targets,
                                 at_json_find(side, "n_tokens")->valueint);
        }
        if (p.reads_last)
            check_last(row, p.skips_pad);
        else if (p.kind == AT_ROWS_PAIR)
            assert_int_equal(row->n_prompt, at_json_find(want, "prompt_tokens")->valueint);
    }
    if (at_json_find(expect, "rows")->child) /* those of online_dpo keep none */
        assert_int_equal(i, d.n_rows);
    at_dataset_release(&d);
    at_tokenizer_destroy(&t);
    at_json_free(&config);
    at_json_free(&expect);
}

static void dataset_of_golden_runs_equals_trl(void **state)
{
    char **names, file[512];
    size_t n, runs = 0;
    struct at_arena list = { 0 };

    (void)state;
    OK(at_dir_list(&list, &names, &n, GOLDEN));
    for (size_t i = 0; i < n; i++) {
        snprintf(file, sizeof file, GOLDEN "%s/expect.json", names[i]);
        if (!at_path_exists(file))
            continue;
        check_golden(names[i]);
        runs++;
    }
    assert_true(runs >= 11);
    at_arena_release(&list);
}

/* Rows with one completion beside pairs, where they may be. */
static void check_singles(struct at_dataset_params p)
{
    static const char rows[] = "{\"prompt\":\"a\",\"completion\":\"b\"}\n{\"messages\":[" USER(
        "a") "," SAID("b") "]}\n"
                           "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}";
    struct at_dataset d;

    p.max_length = 0;
    assert_int_equal(load_text(&d, rows, &p), AT_DATA);
    p.singles = true;
    OK(load_text(&d, rows, &p));
    assert_int_equal(d.n_rows, 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(d.rows[i].n_segments, i < 2 ? 1 : 2);
        check_last(&d.rows[i], 0);
    }
    at_dataset_release(&d);
    assert_int_equal(load_text(&d, "{\"prompt\":\"a\",\"chosen\":\"b\"}", &p), AT_DATA);
}

static void dataset_of_rewards_has_margins_and_reads_what_is_left_of_a_side(void **state)
{
    static const char rows[] =
        "{\"prompt\":\"a\",\"chosen\":\"b c d e f g\",\"rejected\":\"c\","
        "\"margin\":-0.5}\n"
        "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\",\"margin\":null}\n";
    static const char *const wrong[] = { "\"1\"", "true", "[1]", "1e99" };
    struct at_dataset_params p = strict(AT_ROWS_PAIR);
    struct at_dataset d, other;
    char text[128];

    (void)state;
    p.reads_last = true;
    p.on_long = AT_LONG_CUT;
    p.max_length = 5;
    OK(load_text(&d, rows, &p));
    assert_int_equal(d.n_cut, 1);
    assert_true(d.rows[0].margin == -0.5f && d.rows[1].margin == 0);
    for (uint32_t i = 0; i < 2; i++)
        check_last(&d.rows[i], 0);
    at_dataset_release(&d);
    OK(load_text(&d, "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\",\"margin\":1}", &p));
    OK(load_text(&other, "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\",\"margin\":2}",
                 &p));
    assert_string_not_equal(d.digest, other.digest);
    at_dataset_release(&d);
    at_dataset_release(&other);
    for (size_t i = 0; i < AT_COUNT(wrong); i++) {
        snprintf(text, sizeof text,
                 "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\",\"margin\":%s}", wrong[i]);
        assert_int_equal(load_text(&d, text, &p), AT_DATA);
        assert_non_null(strstr(at_message(), "\"margin\" must be a number"));
    }
    check_singles(p);
    p.reads_last = false; /* for other methods it is a column like any other */
    OK(load_text(&d, text, &p));
    at_dataset_release(&d);
}

/* ---- forms ---- */

static void check_same_rows(const char *a, const char *b, enum at_row_kind kind)
{
    const struct at_dataset_params p = strict(kind);
    struct at_dataset x, y;

    OK(load_text(&x, a, &p));
    OK(load_text(&y, b, &p));
    if (strcmp(x.digest, y.digest) != 0)
        fail_msg("%s and %s give other rows", a, b);
    assert_memory_equal(&x.rows[0].prompt_hash, &y.rows[0].prompt_hash, sizeof(struct at_row_id));
    at_dataset_release(&x);
    at_dataset_release(&y);
}

static void dataset_of_one_conversation_in_any_form_gives_one_row(void **state)
{
    static const char explicit_pair[] =
        "{\"prompt\":[" USER("hi") "],\"chosen\":[" SAID("yes") "],\"rejected\":[" SAID("no") "]}";
    static const char plain[] = "{\"prompt\":\"good \",\"chosen\":\"day\",\"rejected\":\"tea\"}";
    static const char completion[] =
        "{\"prompt\":[" USER("hi") "],\"completion\":[" SAID("yes") "]}";

    (void)state;
    check_same_rows(explicit_pair,
                    "{\"id\":7,\"tools\":null,\"chosen\":[" USER("hi") "," SAID(
                        "yes") "],\"rejected\":[" USER("hi") "," SAID("no") "]}",
                    AT_ROWS_PAIR);
    check_same_rows(explicit_pair,
                    "\xEF\xBB\xBF{\"rejected\":[" SAID("no") "],\"prompt\":[" USER(
                        "hi") "],\"chosen\":[" SAID("\\u0079es") "],\"score\":1}\r\n",
                    AT_ROWS_PAIR);
    check_same_rows(plain,
                    "{\"prompt\":\"good \",\"chosen\":\"day<|im_end|>\",\"rejected\":\"tea\"}",
                    AT_ROWS_PAIR);
    check_same_rows(completion, explicit_pair, AT_ROWS_SFT);
    check_same_rows(completion,
                    "{\"chosen\":[" USER("hi") "," SAID("yes") "],\"rejected\":[" USER(
                        "hi") "," SAID("no") "]}",
                    AT_ROWS_SFT);
}

/* Of TPO: the prompt is in a key of its own or what all three sides begin with. */
static void dataset_of_triples_has_a_third_side(void **state)
{
    static const char part[] = "{\"prompt\":[" USER("hi") "],\"chosen\":[" SAID(
        "yes") "],\"rejected\":[" SAID("no") "],\"reference\":[" SAID("yes, my dear") "]}";
    static const char whole[] = "{\"chosen\":[" USER("hi") "," SAID("yes") "],\"rejected\":[" USER(
        "hi") "," SAID("no") "],\"reference\":[" USER("hi") "," SAID("yes, my dear") "]}";
    static const char other[] = "{\"chosen\":[" USER("hi") "," SAID("yes") "],\"rejected\":[" USER(
        "hi") "," SAID("no") "],\"reference\":[" USER("ho") "," SAID("yes, my dear") "]}";
    static const char *const without = "{\"prompt\":\"a\",\"chosen\":\" b\",\"rejected\":\" c\"}";
    static const char *const plain =
        "{\"chosen\":\"the tea is hot\",\"rejected\":\"the tea or so\",\"reference\":\"a tea is\"}";
    struct at_dataset_params p = strict(AT_ROWS_PAIR);
    struct at_dataset d, pair, implicit;
    char place[16];

    (void)state;
    snprintf(place, sizeof place, ":1:%d: ", (int)(strstr(other, "\"reference\"") - other) + 1);
    OK(load_text(&pair, part, &p)); /* as a pair, the column is not read */
    p.triples = true;
    OK(load_text(&d, part, &p));
    OK(load_text(&implicit, whole, &p));
    assert_string_equal(d.digest, implicit.digest);
    assert_string_not_equal(d.digest, pair.digest);
    assert_int_equal(pair.rows[0].n_segments, 2);
    assert_int_equal(d.rows[0].n_segments, 3);
    assert_true(d.rows[0].segment[2].n_targets > d.rows[0].segment[0].n_targets);
    assert_int_equal(at_row_sums(&d.rows[0]), 3);
    at_dataset_release(&implicit);
    assert_int_equal(load_text(&implicit, other, &p), AT_DATA);
    assert_non_null(strstr(at_message(), place));
    assert_non_null(strstr(at_message(), "\"reference\" does not begin with the prompt"));
    assert_int_equal(load_text(&implicit, plain, &p), AT_DATA);
    assert_non_null(strstr(at_message(), "\"reference\" does not begin with the prompt"));
    assert_int_equal(load_text(&implicit, without, &p), AT_DATA);
    assert_non_null(strstr(at_message(), "the key \"reference\" is missing"));
    assert_non_null(strstr(at_message(), "are trained with cpo"));
    at_dataset_release(&d);
    at_dataset_release(&pair);
}

static void dataset_with_one_side_the_beginning_of_the_other_is_taken(void **state)
{
    const struct at_dataset_params p = strict(AT_ROWS_PAIR);
    struct at_dataset d;

    (void)state;
    OK(load_text(&d, "{\"prompt\":\"q\",\"chosen\":\" no\",\"rejected\":\" no<|im_end|>x\"}", &p));
    assert_true(d.rows[0].segment[0].n < d.rows[0].segment[1].n);
    at_dataset_release(&d);
}

static void dataset_groups_rows_by_their_last_user_message(void **state)
{
    static const char text[] = "{\"prompt\":[" USER("hi") "],\"completion\":[" SAID(
        "yes") "]}\n"
               "{\"messages\":[" SYSTEM("be kind") "," USER("a") "," SAID("b") "," USER(
                   "hi") "," SAID("no") "]}\n{\"messages\":[" USER("a") "," SAID("yes") "]}\n"
                                                                                        "{\"prompt"
                                                                                        "\":\"hi\","
                                                                                        "\"completi"
                                                                                        "on\":\" "
                                                                                        "a\"}\n{"
                                                                                        "\"prompt\""
                                                                                        ":\"hi\","
                                                                                        "\"completi"
                                                                                        "on\":\" "
                                                                                        "b\"}\n"
                                                                                        "{\"text\":"
                                                                                        "\"hi "
                                                                                        "a\"}\n{"
                                                                                        "\"text\":"
                                                                                        "\"hi "
                                                                                        "b\"}\n";
    static const uint32_t groups[] = { 0, 0, 2, 0, 0, 5, 6 }; /* the first row of the group */
    const struct at_dataset_params p = strict(AT_ROWS_SFT);
    struct at_dataset d;

    (void)state;
    OK(load_text(&d, text, &p));
    assert_int_equal(d.n_rows, AT_COUNT(groups));
    for (uint32_t i = 0; i < d.n_rows; i++)
        for (uint32_t k = 0; k < d.n_rows; k++)
            assert_int_equal(memcmp(&d.rows[i].prompt_hash, &d.rows[k].prompt_hash,
                                    sizeof(struct at_row_id)) == 0,
                             groups[i] == groups[k]);
    at_dataset_release(&d);
}

static void dataset_with_system_prompt_puts_it_where_none_is(void **state)
{
    struct at_dataset_params p = strict(AT_ROWS_PAIR);
    struct at_dataset with, without;

    (void)state;
    OK(load_text(&without,
                 "{\"prompt\":[" SYSTEM("be kind") "," USER("hi") "],\"chosen\":[" SAID(
                     "yes") "],\"rejected\":[" SAID("no") "]}",
                 &p));
    p.system_prompt = "be kind";
    OK(load_text(
        &with,
        "{\"prompt\":[" USER("hi") "],\"chosen\":[" SAID("yes") "],\"rejected\":[" SAID("no") "]}",
        &p));
    assert_string_equal(with.digest, without.digest);
    at_dataset_release(&with);
    OK(load_text(&with,
                 "{\"chosen\":[" SYSTEM("be kind") "," USER("hi") "," SAID(
                     "yes") "],\"rejected\":[" SYSTEM("be kind") "," USER("hi") "," SAID("no") "]}",
                 &p));
    assert_string_equal(with.digest, without.digest);
    at_dataset_release(&with);
    at_dataset_release(&without);
}

static void dataset_with_other_eos_appends_that(void **state)
{
    struct at_dataset_params p = strict(AT_ROWS_SFT);
    struct at_dataset d;

    (void)state;
    p.eos = "<|im_start|>";
    OK(load_text(&d, "{\"text\":\"the tea\"}", &p));
    assert_int_equal(d.rows[0].segment[0].ids[d.rows[0].segment[0].n - 1],
                     at_tokenizer_find(tokenizer, "<|im_start|>"));
    at_dataset_release(&d);
    p.eos = "<none>";
    assert_int_equal(load_text(&d, "{\"text\":\"the tea\"}", &p), AT_DATA);
    assert_string_equal(at_message(),
                        "eos_token \"<none>\" is not a token of the model; name one that is");
}

/* The text that is trained on of a conversation with two replies. */
static void check_assistant_text(const char *template_text, const char *want)
{
    static const char text[] =
        "{\"messages\":[" SYSTEM("s") "," USER("a") "," SAID("b") "," USER("c") "," SAID("d") "]}";
    struct at_dataset_params p = strict(AT_ROWS_SFT);
    struct at_ids ids = { 0 };
    struct at_buf trained = { 0 };
    struct at_chat *chat;
    struct at_dataset d;

    OK(at_chat_compile(&chat, template_text, "own", &(struct at_chat_tokens){ .bos = NULL }));
    p.chat = chat;
    p.assistant_only = true;
    OK(load_text(&d, text, &p));
    const struct at_segment *s = &d.rows[0].segment[0];
    for (uint32_t i = 0; i < s->n; i++)
        if (s->targets[i])
            OK(at_ids_push(&ids, s->ids[i]));
    OK(at_tokenizer_decode(tokenizer, &trained, ids.data, ids.n, false));
    assert_string_equal(trained.data, want);
    at_dataset_release(&d);
    at_chat_destroy(&chat);
    at_buf_release(&trained);
    at_ids_release(&ids);
}

static void dataset_with_assistant_only_trains_on_replies_and_their_ends(void **state)
{
    static const char chats[] = TEST_DIR "/unit/fixtures/chats/";
    static const char marked[] = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
                                 "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
                                 "{% endgeneration %}{% else %}{{ m.content }}{% endif %}"
                                 "{{ '<|im_end|>\n' }}{% endfor %}";
    struct at_buf text = { 0 };
    char file[256];

    (void)state;
    snprintf(file, sizeof file, "%sqwen3.jinja", chats);
    OK(at_file_read(&text, file));
    /* Qwen3 leaves the thoughts of earlier turns out, so their rendering changes. */
    check_assistant_text(text.data, "b<|im_end|>\n<think>\n\n</think>\n\nd<|im_end|>\n");
    at_buf_release(&text);
    check_assistant_text("{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + "
                         "'<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}"
                         "{{ '<|im_start|>assistant\n' }}{% endif %}",
                         "b<|im_end|>\nd<|im_end|>\n");
    check_assistant_text(marked, "bd");
    assert_null(strstr(warnings, "no_end_of_turn"));
}

static void dataset_renders_tools_and_variables_of_rows(void **state)
{
    static const char text[] =
        "{\"messages\":[" USER("a") ",{\"role\":\"assistant\",\"content\":null,\"tool_calls\":"
                                    "[{\"name\":\"f\"}]}],\"tools\":\"[{\\\"x\\\":1}]\","
                                    "\"chat_template_kwargs\":{\"mode\":\"on\"}}";
    static const char shown[] = "{{ mode }}{{ tools[0].x }}{{ messages[1].tool_calls[0].name }}"
                                "{{ messages[1].content is defined }}";
    struct at_dataset_params p = strict(AT_ROWS_SFT);
    struct at_buf out = { 0 };
    struct at_chat *chat;
    struct at_dataset d;

    (void)state;
    OK(at_chat_compile(&chat, shown, "own", &(struct at_chat_tokens){ .bos = NULL }));
    p.chat = chat;
    OK(load_text(&d, text, &p));
    const struct at_segment *s = &d.rows[0].segment[0];
    OK(at_tokenizer_decode(tokenizer, &out, s->ids, s->n, false));
    assert_string_equal(out.data, "on1fFalse");
    assert_null(strstr(warnings, "no_end_of_turn")); /* not known: it takes rows with tools only */
    at_dataset_release(&d);
    at_chat_destroy(&chat);
    at_buf_release(&out);
}

static void dataset_warns_of_its_template_once(void **state)
{
    static const char *const texts[] = { "{\"text\":\"a b\"}",
                                         "{\"messages\":[" USER("a") "," SAID("b") "]}",
                                         "{\"messages\":[" USER("a") "," SAID("b") "]}" };
    static const char shown[] = "{% for m in messages %}{{ m.content }} {% endfor %}"
                                "{% if dated %}{{ strftime_now('%Y') }}{% endif %}";
    struct at_dataset_params p = strict(AT_ROWS_SFT);
    struct at_chat *chat;
    struct at_dataset d;

    (void)state;
    OK(at_chat_compile(&chat, shown, "own", &(struct at_chat_tokens){ .bos = NULL }));
    p.chat = chat;
    for (size_t i = 0; i < AT_COUNT(texts); i++) { /* no conversation, the first, another set */
        OK(load_text(&d, texts[i], &p));
        assert_int_equal(strstr(warnings, "no_end_of_turn: ") != NULL, i == 1);
        assert_int_equal(strstr(warnings, "template_date: ") != NULL, i == 1);
        at_dataset_release(&d);
    }
    at_chat_destroy(&chat);
}

/* ---- samples ---- */

/* The rows that users copy from are good, and no question of the held-out ones is trained on. */
static void dataset_of_samples_has_no_question_on_both_sides(void **state)
{
    static const char *const files[] = { SOURCE_DIR "/data/samples/tone_train.jsonl",
                                         SOURCE_DIR "/data/samples/tone_eval.jsonl",
                                         SOURCE_DIR "/data/samples/sft_train.jsonl" };
    struct at_dataset_params p = strict(AT_ROWS_PAIR);
    struct at_dataset train, held, sft;

    (void)state;
    OK(at_dataset_load(&train, &files[0], 1, &p));
    OK(at_dataset_load(&held, &files[1], 1, &p));
    p.kind = AT_ROWS_SFT;
    p.assistant_only = true;
    OK(at_dataset_load(&sft, &files[2], 1, &p));
    assert_int_equal(train.n_rows, 300);
    assert_int_equal(held.n_rows, 120);
    assert_int_equal(sft.n_rows, 120);
    for (uint32_t i = 0; i < held.n_rows; i++) {
        for (uint32_t k = 0; k < train.n_rows; k++)
            assert_memory_not_equal(&held.rows[i].prompt_hash, &train.rows[k].prompt_hash,
                                    sizeof(struct at_row_id));
        for (uint32_t k = 0; k < sft.n_rows; k++)
            assert_memory_not_equal(&held.rows[i].prompt_hash, &sft.rows[k].prompt_hash,
                                    sizeof(struct at_row_id));
    }
    at_dataset_release(&train);
    at_dataset_release(&held);
    at_dataset_release(&sft);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dataset_of_awkward_rows_equals_trl),
        cmocka_unit_test(dataset_of_golden_runs_equals_trl),
        cmocka_unit_test(dataset_of_rewards_has_margins_and_reads_what_is_left_of_a_side),
        cmocka_unit_test(dataset_of_one_conversation_in_any_form_gives_one_row),
        cmocka_unit_test(dataset_of_triples_has_a_third_side),
        cmocka_unit_test(dataset_with_one_side_the_beginning_of_the_other_is_taken),
        cmocka_unit_test(dataset_groups_rows_by_their_last_user_message),
        cmocka_unit_test(dataset_with_system_prompt_puts_it_where_none_is),
        cmocka_unit_test(dataset_with_other_eos_appends_that),
        cmocka_unit_test(dataset_with_assistant_only_trains_on_replies_and_their_ends),
        cmocka_unit_test(dataset_renders_tools_and_variables_of_rows),
        cmocka_unit_test(dataset_warns_of_its_template_once),
        cmocka_unit_test(dataset_of_samples_has_no_question_on_both_sides),
    };

    return cmocka_run_group_tests(tests, open_model, close_model);
}
