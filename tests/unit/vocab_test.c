/* links: base text */
#include "tokenizers.h"
#include <math.h>

/* The arrays that a converter would write for a tokenizer.json. */
struct arrays {
    struct at_vocab vocab;
    const char *tokens[512], *merges[512];
    size_t lengths[512];
    int32_t types[512];
    struct at_arena arena;
    cJSON *json;
};

static void make_arrays(struct arrays *out, const char *path, const char *pre)
{
    const cJSON *merges, *vocab;

    memset(out, 0, sizeof *out);
    assert_int_equal(at_vocab_init(&out->vocab, "gpt2", pre, "f.gguf"), AT_OK);
    out->vocab.tokens = out->tokens;
    out->vocab.token_lengths = out->lengths;
    out->vocab.types = out->types;
    out->vocab.merges = out->merges;
    out->vocab.bos = 1;
    out->vocab.eos = 2;
    assert_int_equal(at_json_load(&out->json, path), AT_OK);
    vocab = at_json_find(at_json_find(out->json, "model"), "vocab");
    merges = at_json_find(at_json_find(out->json, "model"), "merges");
    for (const cJSON *i = vocab->child; i; i = i->next, out->vocab.n_tokens++) {
        out->tokens[i->valueint] = i->string;
        out->lengths[i->valueint] = strlen(i->string);
        out->types[i->valueint] = i->valueint < 3 ? 3 : 1;
    }
    for (const cJSON *i = merges->child; i; i = i->next) {
        char *text = i->valuestring;
        if (!text)
            assert_int_equal(at_arena_printf(&out->arena, &text, "%s %s", i->child->valuestring,
                                             i->child->next->valuestring),
                             AT_OK);
        out->merges[out->vocab.n_merges++] = text;
    }
}

static void release_arrays(struct arrays *a)
{
    at_arena_release(&a->arena);
    at_json_free(&a->json);
}

static void vocab_arrays_make_the_tokenizer_of_the_folder(void **state)
{
    static const struct {
        const char *dir, *pre;
    } cases[] = { { FIXTURES "smollm", "smollm" },
                  { FIXTURES "llama_bpe", "llama-bpe" },
                  { GOLDEN "tiny_llama", "gpt-2" },
                  { GOLDEN "tiny_qwen2", "qwen2" } };

    (void)state;
    for (size_t i = 0; i < AT_COUNT(cases); i++) {
        static struct arrays arrays;
        struct at_tokenizer *t, *folder_one = load(cases[i].dir);
        char path[512];
        snprintf(path, sizeof path, "%s/tokenizer.json", cases[i].dir);
        make_arrays(&arrays, path, cases[i].pre);
        if (at_tokenizer_from_vocab(&t, &arrays.vocab, "f.gguf") != AT_OK)
            fail_msg("%s", at_message());
        if (strcmp(at_tokenizer_digest(t), at_tokenizer_digest(folder_one)) != 0)
            fail_msg("%s differs from its folder", cases[i].pre);
        assert_int_equal(at_tokenizer_bos(t), 1);
        assert_int_equal(at_tokenizer_eos(t), 2);
        at_tokenizer_destroy(&t);
        at_tokenizer_destroy(&folder_one);
        release_arrays(&arrays);
    }
}

/* What a converter would write for a tokenizer.json made of SentencePiece's model: scores for
 * merges. */
static void make_scored(struct arrays *out, float scores[512], const char *path)
{
    const cJSON *vocab, *added;

    memset(out, 0, sizeof *out);
    assert_int_equal(at_vocab_init(&out->vocab, "llama", NULL, "f.gguf"), AT_OK);
    assert_int_equal(at_json_load(&out->json, path), AT_OK);
    vocab = at_json_find(at_json_find(out->json, "model"), "vocab");
    added = at_json_find(out->json, "added_tokens");
    for (const cJSON *i = vocab->child; i; i = i->next)
        out->tokens[i->valueint] = i->string;
    for (const cJSON *i = added->child; i; i = i->next)
        out->tokens[at_json_find(i, "id")->valueint] = at_json_find(i, "content")->valuestring;
    for (int i = 0; out->tokens[i]; i++, out->vocab.n_tokens++) {
        out->lengths[i] = strlen(out->tokens[i]);
        out->types[i] = strncmp(out->tokens[i], "<0x", 3) == 0 ? 6 : 1;
        scores[i] = (float)-i;
    }
    for (const cJSON *i = added->child; i; i = i->next) {
        const int id = at_json_find(i, "id")->valueint;
        out->types[id] = id == 0 ? 2 : id < 3 ? 3 : 4;
    }
    out->vocab.tokens = out->tokens;
    out->vocab.token_lengths = out->lengths;
    out->vocab.types = out->types;
    out->vocab.scores = scores;
    out->vocab.unknown = 0;
    out->vocab.bos = 1;
    out->vocab.eos = 2;
}

static void vocab_scores_make_the_tokenizer_of_the_folder(void **state)
{
    static const struct {
        const char *name;
        bool gemma; /* no space in front, an end token behind */
    } cases[] = { { "llama", false }, { "gemma", true } };

    (void)state;
    for (size_t i = 0; i < AT_COUNT(cases); i++) {
        static struct arrays arrays;
        static float scores[512];
        struct at_tokenizer *t;
        cJSON *rows;
        char path[512];
        snprintf(path, sizeof path, "%s%s/tokenizer.json", FIXTURES, cases[i].name);
        make_scored(&arrays, scores, path);
        assert_true(arrays.vocab.add_bos && arrays.vocab.add_space_prefix);
        arrays.vocab.add_space_prefix = !cases[i].gemma;
        arrays.vocab.add_eos = cases[i].gemma;
        if (at_tokenizer_from_vocab(&t, &arrays.vocab, "f.gguf") != AT_OK)
            fail_msg("%s", at_message());
        snprintf(path, sizeof path, "%s%s/expect.json", FIXTURES, cases[i].name);
        assert_int_equal(at_json_load(&rows, path), AT_OK);
        for (const cJSON *row = rows->child; row; row = row->next) {
            const char *text = at_json_find(row, "text")->valuestring;
            check_ids(t, text, at_json_find(row, "special_ids"), true);
            check_text(t, at_json_find(row, "ids"), at_json_find(row, "decoded")->valuestring);
        }
        at_json_free(&rows);
        at_tokenizer_destroy(&t);
        release_arrays(&arrays);
    }
}

static void vocab_with_extra_whitespace_removed_has_single_spaces(void **state)
{
    static struct arrays arrays;
    static float scores[512];
    struct at_tokenizer *t;
    struct at_ids a = { 0 }, b = { 0 };

    (void)state;
    make_scored(&arrays, scores, FIXTURES "llama/tokenizer.json");
    arrays.vocab.remove_extra_whitespaces = true;
    assert_int_equal(at_tokenizer_from_vocab(&t, &arrays.vocab, "f.gguf"), AT_OK);
    assert_int_equal(at_tokenizer_encode(t, &a, "  the   quick ", 14, false), AT_OK);
    assert_int_equal(at_tokenizer_encode(t, &b, "the quick", 9, false), AT_OK);
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.data, b.data, a.n * sizeof *a.data);
    at_ids_release(&a);
    at_ids_release(&b);
    at_tokenizer_destroy(&t);
    release_arrays(&arrays);
}

static void vocab_scores_that_are_damaged_are_refused(void **state)
{
    static struct arrays arrays;
    static float scores[512];
    struct at_tokenizer *t;

    (void)state;
    make_scored(&arrays, scores, FIXTURES "llama/tokenizer.json");
    arrays.vocab.scores = NULL;
    assert_int_equal(at_tokenizer_from_vocab(&t, &arrays.vocab, "f.gguf"), AT_DATA);
    assert_non_null(strstr(at_message(), "tokenizer.ggml.scores is missing"));
    arrays.vocab.scores = scores;
    scores[300] = (float)NAN;
    assert_int_equal(at_tokenizer_from_vocab(&t, &arrays.vocab, "f.gguf"), AT_DATA);
    assert_non_null(strstr(at_message(), "token 300 has"));
    release_arrays(&arrays);
}

/* Names that llama.cpp takes for one are one here, others differ. */
static void vocab_knows_pre_tokenizers_by_name(void **state)
{
    static const char *const same[][2] = {
        { "llama-bpe", "falcon3" },
        { "smollm", "refact" },
        { "gpt-2", "phi-2" },
        { "qwen2", "deepseek-r1-qwen" },
        { "dbrx", "smaug-bpe" },
        { "mpt", "olmo" },
        { "gpt-4o", "llama4" },
        { "stablelm2", "stablelm2" },
        { "tekken", "tekken" },
        { "falcon", "falcon" },
        { "command-r", "command-r" },
        { "default", "default" },
        { "deepseek-v3", "deepseek-v3" },
        { "deepseek-coder", "deepseek-coder" },
    };
    static struct arrays arrays;
    char digests[AT_COUNT(same)][2][65];

    (void)state;
    for (size_t i = 0; i < AT_COUNT(same); i++)
        for (size_t k = 0; k < 2; k++) {
            struct at_tokenizer *t;
            make_arrays(&arrays, FIXTURES "smollm/tokenizer.json", same[i][k]);
            if (at_tokenizer_from_vocab(&t, &arrays.vocab, "f.gguf") != AT_OK)
                fail_msg("%s", at_message());
            snprintf(digests[i][k], sizeof digests[i][k], "%s", at_tokenizer_digest(t));
            at_tokenizer_destroy(&t);
            release_arrays(&arrays);
        }
    for (size_t i = 0; i < AT_COUNT(same); i++) {
        assert_string_equal(digests[i][0], digests[i][1]);
        for (size_t k = 0; k < i; k++) {
            if (strcmp(digests[i][0], digests[k][0]) == 0)
                fail_msg("%s is %s", same[i][0], same[k][0]);
        }
    }
}

static void vocab_flags_put_bos_and_eos_around(void **state)
{
    static struct arrays arrays;
    struct at_tokenizer *t;
    struct at_ids ids = { 0 };

    (void)state;
    make_arrays(&arrays, FIXTURES "smollm/tokenizer.json", NULL);
    arrays.vocab.add_bos = arrays.vocab.add_eos = true;
    arrays.types[at_json_find(at_json_find(at_json_find(arrays.json, "model"), "vocab"), "a")
                     ->valueint] = 4; /* user-defined: found inside words, not special */
    assert_int_equal(at_tokenizer_from_vocab(&t, &arrays.vocab, "f.gguf"), AT_OK);
    assert_true(at_warn_count("no_pre_tokenizer") > 0);
    assert_int_equal(at_tokenizer_encode(t, &ids, "the a", 5, true), AT_OK);
    assert_int_equal(ids.data[0], 1);
    assert_int_equal(ids.data[ids.n - 1], 2);
    assert_int_equal(ids.data[ids.n - 2], at_tokenizer_find(t, "a"));
    assert_false(at_tokenizer_is_special(t, at_tokenizer_find(t, "a")));
    at_ids_release(&ids);
    at_tokenizer_destroy(&t);
    release_arrays(&arrays);
}

static int32_t compare_with(const struct at_tokenizer *folder_one, struct arrays *arrays,
                            const char **here, const char **there)
{
    struct at_tokenizer *t;
    int32_t id;

    assert_int_equal(at_tokenizer_from_vocab(&t, &arrays->vocab, "f.gguf"), AT_OK);
    id = at_tokenizer_compare(folder_one, t, here, there);
    assert_int_equal(at_tokenizer_compare(t, folder_one, here, there), id);
    id = at_tokenizer_compare(folder_one, t, here, there);
    *there = *there ? strdup(*there) : NULL; /* t goes */
    at_tokenizer_destroy(&t);
    return id;
}

static void compare_finds_tokens_that_texts_can_have(void **state)
{
    static struct arrays arrays;
    struct at_tokenizer *folder_one = load(GOLDEN "tiny_llama");
    const char *here = NULL, *there = NULL;
    size_t n = 0;

    (void)state;
    make_arrays(&arrays, GOLDEN "tiny_llama/tokenizer.json", "gpt-2");
    n = arrays.vocab.n_tokens;
    arrays.tokens[n] = "[PAD197]";
    arrays.lengths[n] = 8;
    arrays.types[n] = 5;
    arrays.vocab.n_tokens++;
    assert_int_equal(compare_with(folder_one, &arrays, &here, &there), -1);
    arrays.types[n] = 4; /* user-defined: a text may have it */
    assert_int_equal(compare_with(folder_one, &arrays, &here, &there), n);
    assert_null(here);
    assert_string_equal(there, "[PAD197]");
    free((char *)there);
    arrays.types[n] = 5;
    arrays.tokens[1] = "<s>";
    arrays.lengths[1] = 3;
    assert_int_equal(compare_with(folder_one, &arrays, &here, &there), 1);
    assert_string_equal(here, "<|im_start|>");
    assert_string_equal(there, "<s>");
    free((char *)there);
    release_arrays(&arrays);
    at_tokenizer_destroy(&folder_one);
}

static void vocab_that_is_damaged_is_refused(void **state)
{
    static const char *const words[] = { "\"t5\" is not built", "\"deepseek-llm\" is not built",
                                         "eos_token_id is 340", "token 300 is not valid UTF-8",
                                         "merge 5 (\"ab\")",    "merge 6 (\"zq\" \"a\")",
                                         "a vocabulary of 0" };

    (void)state;
    for (size_t i = 0; i < AT_COUNT(words); i++) {
        static struct arrays a;
        struct at_tokenizer *t;
        make_arrays(&a, FIXTURES "smollm/tokenizer.json", "smollm");
        switch (i) {
        case 0:
            a.vocab.model = "t5";
            break;
        case 1:
            a.vocab.pre = "deepseek-llm";
            break;
        case 2:
            a.vocab.eos = 340;
            break;
        case 3:
            a.tokens[300] = "\xFF";
            a.lengths[300] = 1;
            break;
        case 4:
            a.merges[5] = "ab";
            break;
        case 5:
            a.merges[6] = "zq a";
            break;
        default:
            a.vocab.n_tokens = 0;
        }
        if (at_tokenizer_from_vocab(&t, &a.vocab, "f.gguf") != AT_DATA || t)
            fail_msg("taken, though %s", words[i]);
        if (!strstr(at_message(), words[i]) || strncmp(at_message(), "f.gguf: ", 8) != 0)
            fail_msg("\"%s\" should say \"%s\"", at_message(), words[i]);
        release_arrays(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vocab_arrays_make_the_tokenizer_of_the_folder),
        cmocka_unit_test(vocab_scores_make_the_tokenizer_of_the_folder),
        cmocka_unit_test(vocab_with_extra_whitespace_removed_has_single_spaces),
        cmocka_unit_test(vocab_scores_that_are_damaged_are_refused),
        cmocka_unit_test(vocab_knows_pre_tokenizers_by_name),
        cmocka_unit_test(vocab_flags_put_bos_and_eos_around),
        cmocka_unit_test(compare_finds_tokens_that_texts_can_have),
        cmocka_unit_test(vocab_that_is_damaged_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
