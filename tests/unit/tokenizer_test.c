/* links: base text */
#include "json.h"
#include "os.h"
#include "tokenizer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

#define FIXTURES TEST_DIR "/unit/fixtures/tokenizers/"
#define GOLDEN TEST_DIR "/golden/models/"

static struct at_tokenizer *load(const char *dir)
{
    struct at_tokenizer *t;

    if (at_tokenizer_load(&t, dir) != AT_OK)
        fail_msg("%s", at_message());
    return t;
}

/* ---- against the `tokenizers` library ---- */

static void check_ids(const struct at_tokenizer *t, const char *text, const cJSON *want,
                      bool special)
{
    struct at_ids ids = { 0 };
    size_t i = 0;

    assert_int_equal(at_tokenizer_encode(t, &ids, text, strlen(text), special), AT_OK);
    for (const cJSON *id = want->child; id; id = id->next, i++)
        if (i >= ids.n || ids.data[i] != id->valueint)
            fail_msg("\"%s\": id %zu is %d, should be %d", text, i, i < ids.n ? ids.data[i] : -1,
                     id->valueint);
    if (i != ids.n)
        fail_msg("\"%s\": %zu ids, should be %zu", text, ids.n, i);
    at_ids_release(&ids);
}

/* Decoded at once and id by id: both give `want`, but for a character cut off at the end. */
static void check_text(const struct at_tokenizer *t, const cJSON *list, const char *want)
{
    struct at_ids ids = { 0 };
    struct at_buf all = { 0 }, pieces = { 0 };
    struct at_decoding decoding = { .n_pending = 0 };

    at_buf_puts(&all, "");
    at_buf_puts(&pieces, "");
    for (const cJSON *id = list->child; id; id = id->next)
        assert_int_equal(at_ids_push(&ids, id->valueint), AT_OK);
    assert_int_equal(at_tokenizer_decode(t, &all, ids.data, ids.n, true), AT_OK);
    assert_string_equal(all.data, want);
    for (size_t i = 0; i < ids.n; i++)
        assert_int_equal(at_decoding_put(&decoding, t, &pieces, ids.data[i], true), AT_OK);
    if (decoding.n_pending > 0)
        at_buf_puts(&pieces, "\xEF\xBF\xBD");
    assert_string_equal(pieces.data, want);
    at_buf_release(&all);
    at_buf_release(&pieces);
    at_ids_release(&ids);
}

static void check_fixture(const char *dir)
{
    struct at_tokenizer *t = load(dir);
    cJSON *rows;
    char path[512];

    snprintf(path, sizeof path, "%s/expect.json", dir);
    assert_int_equal(at_json_load(&rows, path), AT_OK);
    assert_true(cJSON_GetArraySize(rows) > 40);
    for (const cJSON *row = rows->child; row; row = row->next) {
        const char *text = at_json_find(row, "text")->valuestring;
        check_ids(t, text, at_json_find(row, "ids"), false);
        check_ids(t, text, at_json_find(row, "special_ids"), true);
        check_text(t, at_json_find(row, "ids"), at_json_find(row, "decoded")->valuestring);
    }
    at_json_free(&rows);
    at_tokenizer_destroy(&t);
    assert_null(t);
}

static void encode_with_digits_equals_the_reference(void **state)
{
    (void)state;
    check_fixture(FIXTURES "smollm");
}

static void encode_with_ignored_merges_equals_the_reference(void **state)
{
    (void)state;
    check_fixture(FIXTURES "llama_bpe");
}

static void encode_with_added_tokens_equals_the_reference(void **state)
{
    (void)state;
    check_fixture(FIXTURES "added");
}

static void encode_with_removed_pieces_equals_the_reference(void **state)
{
    (void)state;
    check_fixture(FIXTURES "removed");
}

/* ---- one tokenizer ---- */

static void tokenizer_of_a_folder_knows_its_special_tokens(void **state)
{
    struct at_tokenizer *t = load(FIXTURES "smollm"), *r = load(FIXTURES "removed");

    (void)state;
    assert_int_equal(at_tokenizer_bos(t), 1);
    assert_int_equal(at_tokenizer_eos(t), 2); /* given as {"content": ...} */
    assert_int_equal(at_tokenizer_pad(t), -1);
    assert_int_equal(at_tokenizer_find(t, "<|im_end|>"), 2);
    assert_int_equal(at_tokenizer_find(t, "no such token"), -1);
    assert_true(at_tokenizer_is_special(t, 2));
    assert_false(at_tokenizer_is_special(t, 50));
    assert_false(at_tokenizer_is_special(t, -1));
    assert_false(at_tokenizer_is_special(t, 1 << 30));
    assert_int_equal(at_tokenizer_size(t), 340);
    assert_true(at_tokenizer_is_special(r, at_tokenizer_eos(r))); /* by tokenizer_config.json */
    assert_int_equal(strlen(at_tokenizer_digest(t)), 64);
    assert_string_not_equal(at_tokenizer_digest(t), at_tokenizer_digest(r));
    at_tokenizer_destroy(&t);
    at_tokenizer_destroy(&r);
}

static void encode_of_invalid_utf8_takes_the_replacement_character(void **state)
{
    static const char bad[] = "a\x80\xE4\xBD"
                              "b\xED\xA0\x80"
                              "c\xF0\x9F\x98";
    static const char good[] = "a\xEF\xBF\xBD\xEF\xBF\xBD"
                               "b\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"
                               "c\xEF\xBF\xBD"; /* as Python's errors="replace" */
    struct at_tokenizer *t = load(FIXTURES "smollm");
    struct at_ids a = { 0 }, b = { 0 };
    const size_t warnings = at_warn_count("invalid_utf8");

    (void)state;
    assert_int_equal(at_tokenizer_encode(t, &a, bad, sizeof bad - 1, false), AT_OK);
    assert_int_equal(at_warn_count("invalid_utf8"), warnings + 1);
    assert_int_equal(at_tokenizer_encode(t, &b, good, sizeof good - 1, false), AT_OK);
    assert_int_equal(at_warn_count("invalid_utf8"), warnings + 1);
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.data, b.data, a.n * sizeof *a.data);
    at_ids_release(&a);
    at_ids_release(&b);
    at_tokenizer_destroy(&t);
}

static void decode_of_ids_outside_the_vocabulary_fails(void **state)
{
    struct at_tokenizer *t = load(FIXTURES "smollm");
    struct at_buf text = { 0 };
    struct at_decoding decoding = { .n_pending = 0 };
    const int32_t ids[] = { 20, 340, -1 };

    (void)state;
    assert_int_equal(at_tokenizer_decode(t, &text, ids, 2, false), AT_DATA);
    assert_non_null(strstr(at_message(), "340"));
    assert_int_equal(at_tokenizer_decode(t, &text, ids + 2, 1, false), AT_DATA);
    assert_int_equal(at_decoding_put(&decoding, t, &text, 340, false), AT_DATA);
    assert_int_equal(text.n, 0);
    at_tokenizer_destroy(&t);
}

static void decoding_gives_characters_when_they_are_whole(void **state)
{
    struct at_tokenizer *t = load(FIXTURES "smollm");
    struct at_buf text = { 0 };
    struct at_decoding decoding = { .n_pending = 0 };
    static const char *const bytes[] = { "\xC3\xB0", "\xC5\x81", "\xC4\xBA",
                                         "\xC4\xA2" }; /* F0 9F 98 80 */

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        const int32_t id = at_tokenizer_find(t, bytes[i]);
        assert_true(id >= 0);
        assert_int_equal(text.n, 0);
        assert_int_equal(at_decoding_put(&decoding, t, &text, id, true), AT_OK);
        assert_int_equal(decoding.n_pending, i < 3 ? i + 1 : 0);
    }
    assert_string_equal(text.data, "\xF0\x9F\x98\x80");
    /* begun, then broken off by another character */
    assert_int_equal(at_decoding_put(&decoding, t, &text, at_tokenizer_find(t, bytes[0]), true),
                     AT_OK);
    assert_int_equal(at_decoding_put(&decoding, t, &text, at_tokenizer_find(t, "a"), true), AT_OK);
    assert_string_equal(text.data, "\xF0\x9F\x98\x80\xEF\xBF\xBD"
                                   "a");
    /* a special token is left out, or comes out */
    assert_int_equal(at_decoding_put(&decoding, t, &text, 2, true), AT_OK);
    assert_int_equal(text.n, 8);
    assert_int_equal(at_decoding_put(&decoding, t, &text, 2, false), AT_OK);
    assert_int_equal(text.n, 8 + strlen("<|im_end|>"));
    at_buf_release(&text);
    at_tokenizer_destroy(&t);
}

static void encode_of_a_mebibyte_of_one_character_is_fast(void **state)
{
    static const char characters[] = "a \n<0'";
    struct at_tokenizer *t = load(FIXTURES "llama_bpe");
    const size_t n = 1 << 20;
    char *text;

    (void)state;
    assert_int_equal(at_alloc(&text, n, 1), AT_OK);
    for (size_t i = 0; i < sizeof characters - 1; i++) {
        struct at_ids ids = { 0 };
        const double begin = at_cpu_s();
        memset(text, characters[i], n);
        assert_int_equal(at_tokenizer_encode(t, &ids, text, n, false), AT_OK);
        if (at_cpu_s() - begin > 5) /* 0.3 s; a quadratic way takes hours */
            fail_msg("'%c': %g s", characters[i], at_cpu_s() - begin);
        assert_in_range(ids.n, n / 64, n);
        at_ids_release(&ids);
    }
    at_free(&text);
    at_tokenizer_destroy(&t);
}

/* ---- damaged and unknown files ---- */

static char folder[] = "/tmp/attune_tokenizer_XXXXXX";

static void write_tokenizer(const cJSON *json, const char *config)
{
    struct at_buf text = { 0 };
    char path[128];

    at_json_write(&text, json);
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    assert_int_equal(at_file_write_atomic(path, text.data, text.n), AT_OK);
    snprintf(path, sizeof path, "%s/tokenizer_config.json", folder);
    assert_int_equal(at_file_write_atomic(path, config, strlen(config)), AT_OK);
    at_buf_release(&text);
}

/* Replaces the value at `keys` ("model/merges/0") by `value`, JSON; NULL removes it. */
static void replace(cJSON *json, const char *keys, const char *value)
{
    char copy[64], *rest = NULL, *last = copy;
    cJSON *new = value ? cJSON_Parse(value) : NULL;

    snprintf(copy, sizeof copy, "%s", keys);
    for (char *key = strtok_r(copy, "/", &rest); key; key = strtok_r(NULL, "/", &rest)) {
        last = key;
        if (*rest)
            json = cJSON_IsArray(json) ? cJSON_GetArrayItem(json, atoi(key))
                                       : cJSON_GetObjectItemCaseSensitive(json, key);
    }
    if (cJSON_IsArray(json)) {
        cJSON_ReplaceItemInArray(json, atoi(last), new);
    } else {
        cJSON_DeleteItemFromObjectCaseSensitive(json, last);
        if (new)
            cJSON_AddItemToObject(json, last, new);
    }
}

static void load_of_what_is_not_built_names_it(void **state)
{
    static const struct {
        const char *keys, *value, *words;
    } cases[] = {
        { "normalizer", "{\"type\":\"Replace\"}", "normalizer: Replace is not built" },
        { "normalizer", "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Lowercase\"}]}",
          "normalizer: Lowercase is not built" },
        { "normalizer", "{}", "a component without a type" },
        { "pre_tokenizer", "{\"type\":\"Metaspace\"}", "pre_tokenizer: Metaspace is not built" },
        { "pre_tokenizer", "null", "there is no ByteLevel" },
        { "pre_tokenizer", "{\"type\":\"Sequence\"}", "Sequence without \"pretokenizers\"" },
        { "pre_tokenizer/pretokenizers/0", "{\"type\":\"ByteLevel\"}", "behind ByteLevel" },
        { "pre_tokenizer/pretokenizers/0/pattern", "{\"String\":\" \"}", "pattern: String is not" },
        { "pre_tokenizer/pretokenizers/0/behavior", "\"Contiguous\"",
          "behavior: Contiguous is not" },
        { "pre_tokenizer/pretokenizers/0/pattern/Regex", "\"a\\\\w+\"", "has \"\\w\"" },
        { "pre_tokenizer/pretokenizers/0/pattern/Regex", "\"[a-z&&[^x]]\"", "has \"&&\"" },
        { "pre_tokenizer/pretokenizers/0/pattern/Regex", "\"(?m)a\"", "has \"(?m\"" },
        { "pre_tokenizer/pretokenizers/0/pattern/Regex", "\"a{1,3}+\"", "has \"}+\"" },
        { "pre_tokenizer/pretokenizers/0/pattern/Regex", "\"(a\"", "the pattern is wrong (" },
        { "post_processor", "{\"type\":\"BertProcessing\"}", "post_processor: BertProcessing is" },
        { "post_processor/processors/1/special_tokens", "{}", "\"<|im_start|>\" has no ids" },
        { "decoder", "{\"type\":\"WordPiece\"}", "decoder: WordPiece is not built" },
        { "decoder", NULL, "decoder: none is not built" },
        { "model", NULL, "\"model\" is missing" },
        { "model/type", "\"Unigram\"", "model: Unigram is not built" },
        { "model/byte_fallback", "true", "model: byte_fallback is not built" },
        { "model/dropout", "0.1", "model: dropout is not built" },
        { "model/merges", NULL, "no \"merges\"" },
        { "model/merges/3", "\"a b c\"", "merge 3 is neither" },
        { "model/merges/3", "[\"a\"]", "merge 3 is neither" },
        { "model/merges/3", "[\"a\",\"zz\"]", "\"zz\" is not in the vocabulary" },
        { "model/merges/3", "[\"z\",\"q\"]", "\"zq\" is not in the vocabulary" },
        { "model/vocab/a", "-1", "the id of \"a\" is not a whole number" },
        { "model/vocab/a", "1e12", "the id of \"a\" is not a whole number" },
        { "model/vocab/a", "1.5", "the id of \"a\" is not a whole number" },
        { "model/vocab/a", "40", "id 40 stands for two tokens" },
        { "added_tokens/1/id", "7", "added token \"<|im_start|>\" has id 7, in the vocabulary" },
        { "added_tokens/1/content", NULL, "content" },
    };

    (void)state;
    for (size_t i = 0; i < AT_COUNT(cases); i++) {
        struct at_tokenizer *t;
        cJSON *json;
        assert_int_equal(at_json_load(&json, FIXTURES "llama_bpe/tokenizer.json"), AT_OK);
        replace(json, cases[i].keys, cases[i].value);
        write_tokenizer(json, "{}");
        if (at_tokenizer_load(&t, folder) != AT_DATA || t)
            fail_msg("case %zu (%s) was taken", i, cases[i].words);
        if (!strstr(at_message(), cases[i].words) || !strstr(at_message(), "tokenizer.json: "))
            fail_msg("\"%s\" should say \"%s\"", at_message(), cases[i].words);
        at_json_free(&json);
    }
}

static void load_without_a_file_says_which(void **state)
{
    struct at_tokenizer *t;
    cJSON *json;

    (void)state;
    assert_int_equal(at_tokenizer_load(&t, "/no/such/folder"), AT_NOT_FOUND);
    assert_non_null(strstr(at_message(), "/no/such/folder/tokenizer.json"));
    assert_null(t);
    assert_int_equal(at_json_load(&json, FIXTURES "smollm/tokenizer.json"), AT_OK);
    write_tokenizer(json, "{\"eos_token\":\"<nothing>\"}");
    assert_int_equal(at_tokenizer_load(&t, folder), AT_DATA);
    assert_non_null(strstr(at_message(), "eos_token \"<nothing>\" is not in the vocabulary"));
    write_tokenizer(json, "{");
    assert_int_equal(at_tokenizer_load(&t, folder), AT_DATA);
    assert_non_null(strstr(at_message(), "tokenizer_config.json:1:"));
    at_json_free(&json);
}

static void load_without_memory_leaks_nothing(void **state)
{
    struct at_tokenizer *t;
    enum at_status st = AT_MEMORY;

    (void)state;
    for (uint64_t n = 1; st == AT_MEMORY; n += n < 20 ? 1 : 97) {
        at_alloc_fail_at(n);
        st = at_tokenizer_load(&t, FIXTURES "smollm");
        if (st != AT_OK)
            assert_null(t);
    }
    at_alloc_fail_at(0);
    assert_int_equal(st, AT_OK);
    at_tokenizer_destroy(&t);
}

/* ---- GGUF arrays ---- */

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
    out->vocab = (struct at_vocab){ .model = "gpt2",
                                    .pre = pre,
                                    .tokens = out->tokens,
                                    .token_lengths = out->lengths,
                                    .types = out->types,
                                    .merges = out->merges,
                                    .bos = 1,
                                    .eos = 2,
                                    .pad = -1 };
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

static void vocab_that_is_damaged_is_refused(void **state)
{
    static const char *const words[] = { "\"llama\" is not built", "\"deepseek-llm\" is not built",
                                         "eos_token_id is 340",    "token 300 is not valid UTF-8",
                                         "merge 5 (\"ab\")",       "merge 6 (\"zq\" \"a\")",
                                         "a vocabulary of 0" };

    (void)state;
    for (size_t i = 0; i < AT_COUNT(words); i++) {
        static struct arrays a;
        struct at_tokenizer *t;
        make_arrays(&a, FIXTURES "smollm/tokenizer.json", "smollm");
        switch (i) {
        case 0:
            a.vocab.model = "llama";
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

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    static const char *const names[] = { "tokenizer.json", "tokenizer_config.json" };
    char path[128];

    (void)state;
    for (size_t i = 0; i < AT_COUNT(names); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        remove(path);
    }
    return remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encode_with_digits_equals_the_reference),
        cmocka_unit_test(encode_with_ignored_merges_equals_the_reference),
        cmocka_unit_test(encode_with_added_tokens_equals_the_reference),
        cmocka_unit_test(encode_with_removed_pieces_equals_the_reference),
        cmocka_unit_test(tokenizer_of_a_folder_knows_its_special_tokens),
        cmocka_unit_test(encode_of_invalid_utf8_takes_the_replacement_character),
        cmocka_unit_test(decode_of_ids_outside_the_vocabulary_fails),
        cmocka_unit_test(decoding_gives_characters_when_they_are_whole),
        cmocka_unit_test(encode_of_a_mebibyte_of_one_character_is_fast),
        cmocka_unit_test(load_of_what_is_not_built_names_it),
        cmocka_unit_test(load_without_a_file_says_which),
        cmocka_unit_test(load_without_memory_leaks_nothing),
        cmocka_unit_test(vocab_arrays_make_the_tokenizer_of_the_folder),
        cmocka_unit_test(vocab_flags_put_bos_and_eos_around),
        cmocka_unit_test(vocab_that_is_damaged_is_refused),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
