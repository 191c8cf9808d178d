/* links: base text */
#include "tokenizers.h"

/* ---- against the `tokenizers` library ---- */

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

static void encode_of_sentencepiece_kinds_equals_the_reference(void **state)
{
    static const char *const names[] = { "llama",     "gemma",   "mistral",
                                         "metaspace", "unigram", "unigram_bytes" };

    (void)state;
    for (size_t i = 0; i < AT_COUNT(names); i++) {
        char dir[512];
        snprintf(dir, sizeof dir, "%s%s", FIXTURES, names[i]);
        check_fixture(dir);
    }
}

static void encode_with_words_cut_in_other_ways_equals_the_reference(void **state)
{
    (void)state;
    check_fixture(FIXTURES "cuts");
    check_fixture(FIXTURES "words");
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

static void ids_behind_the_vocabulary_decode_to_nothing_negative_ones_fail(void **state)
{
    struct at_tokenizer *t = load(FIXTURES "smollm");
    struct at_buf text = { 0 }, one = { 0 };
    struct at_decoding decoding = { .n_pending = 0 };
    const int32_t ids[] = { 20, 340, -1 };

    (void)state;
    assert_int_equal(at_tokenizer_decode(t, &text, ids + 1, 1, false), AT_OK);
    assert_int_equal(at_decoding_put(&decoding, t, &text, 340, false), AT_OK);
    assert_int_equal(text.n, 0);
    assert_int_equal(at_tokenizer_decode(t, &text, ids, 2, false), AT_OK);
    assert_int_equal(at_tokenizer_decode(t, &one, ids, 1, false), AT_OK);
    assert_int_equal(text.n, one.n);
    assert_int_equal(at_tokenizer_decode(t, &text, ids + 2, 1, false), AT_DATA);
    assert_non_null(strstr(at_message(), "-1"));
    at_buf_release(&text);
    at_buf_release(&one);
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
    static const struct {
        const char *name, *characters;
    } cases[] = {
        { "llama_bpe", "a \n<0'" }, { "llama", "a " }, { "metaspace", " " }, { "unigram", "a" }
    };
    const size_t n = 1 << 20;
    char *text;

    (void)state;
    assert_int_equal(at_alloc(&text, n, 1), AT_OK);
    for (size_t i = 0; i < AT_COUNT(cases); i++) {
        char dir[512];
        snprintf(dir, sizeof dir, "%s%s", FIXTURES, cases[i].name);
        struct at_tokenizer *t = load(dir);
        for (const char *c = cases[i].characters; *c; c++) {
            struct at_ids ids = { 0 };
            const double begin = at_cpu_s();
            memset(text, *c, n);
            assert_int_equal(at_tokenizer_encode(t, &ids, text, n, false), AT_OK);
            if (at_cpu_s() - begin > 5) /* 0.3 s; a quadratic way takes hours */
                fail_msg("%s, '%c': %g s", cases[i].name, *c, at_cpu_s() - begin);
            assert_in_range(ids.n, 1, n + 1); /* a mark may stand in front */
            at_ids_release(&ids);
        }
        at_tokenizer_destroy(&t);
    }
    at_free(&text);
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

/* What at `keys` becomes `value`, and what is said then. */
static const struct {
    const char *keys, *value, *words;
} not_built[] = {
    { "normalizer", "{\"type\":\"Replace\",\"content\":\"\",\"pattern\":{}}",
      "has neither \"Regex\" nor \"String\"" },
    { "normalizer", "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"BertNormalizer\"}]}",
      "normalizer: BertNormalizer is not built" },
    { "normalizer", "{}", "a component without a type" },
    { "normalizer", "{\"type\":\"Prepend\"}", "prepend" },
    { "normalizer", "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"?\"}", "is not base64" },
    { "normalizer", "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"CAAAAAAA\"}",
      "has 6 bytes and says its trie has 8" },
    { "normalizer", "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"BAAAAAAAAAD/\"}",
      "a text that is not valid UTF-8" },
    { "pre_tokenizer", "{\"type\":\"BertPreTokenizer\"}",
      "pre_tokenizer: BertPreTokenizer is not built" },
    { "pre_tokenizer", "{\"type\":\"Metaspace\"}", "replacement" },
    { "pre_tokenizer", "{\"type\":\"Metaspace\",\"replacement\":\"ab\"}", "not one character" },
    { "pre_tokenizer", "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"last\"}",
      "\"prepend_scheme\" is \"last\"" },
    { "pre_tokenizer", "{\"type\":\"Sequence\"}", "Sequence without \"pretokenizers\"" },
    { "pre_tokenizer/pretokenizers/0/pattern", "{\"Char\":\" \"}", "neither \"Regex\"" },
    { "pre_tokenizer/pretokenizers/0/behavior", "\"Doubled\"", "\"behavior\" is \"Doubled\"" },
    { "pre_tokenizer/pretokenizers/0/pattern/Regex", "\"a\\\\h+\"", "has \"\\h\"" },
    { "pre_tokenizer/pretokenizers/0/pattern/Regex", "\"[a-z&&[^x]]\"", "has \"&&\"" },
    { "pre_tokenizer/pretokenizers/0/pattern/Regex", "\"(?m)a\"", "has \"(?m\"" },
    { "pre_tokenizer/pretokenizers/0/pattern/Regex", "\"a{1,3}+\"", "has \"}+\"" },
    { "pre_tokenizer/pretokenizers/0/pattern/Regex", "\"(a\"", "the pattern is wrong (" },
    { "post_processor", "{\"type\":\"CtcProcessing\"}", "post_processor: CtcProcessing is not" },
    { "post_processor", "{\"type\":\"BertProcessing\"}", "\"cls\" has an id that is no number" },
    { "post_processor/processors/1/special_tokens", "{}", "\"<|im_start|>\" has no ids" },
    { "decoder", "{\"type\":\"WordPiece\"}", "decoder: WordPiece is not built" },
    { "decoder", NULL, "decoder: none is not built" },
    { "decoder",
      "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":\"ByteFallback\"}]}",
      "decoder: ByteFallback behind Fuse is not built" },
    { "decoder",
      "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":\"Strip\","
      "\"content\":\" \",\"start\":2,\"stop\":0}]}",
      "Strip behind Fuse is not built" },
    { "decoder", "{\"type\":\"Replace\",\"content\":\" \",\"pattern\":{\"Regex\":\" \"}}",
      "a pattern of another kind is not built" },
    { "model", NULL, "\"model\" is missing" },
    { "model/type", "\"WordPiece\"", "model: WordPiece is not built" },
    { "model/type", "\"WordLevel\"", "model: WordLevel is not built" },
    { "model", "{\"type\":\"Unigram\",\"vocab\":[[\"a\",-1]]}",
      "ByteLevel is not built in this version for Unigram" },
    { "model", "{\"type\":\"Unigram\",\"vocab\":[[\"a\"]]}", "is not [text, score]" },
    { "model", "{\"type\":\"Unigram\",\"vocab\":[[\"a\",-1]],\"unk_id\":1}", "unk_id is 1" },
    { "model/unk_token", "\"<none>\"", "unk_token \"<none>\" is not in the vocabulary" },
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

static void load_of_what_is_not_built_names_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < AT_COUNT(not_built); i++) {
        struct at_tokenizer *t;
        cJSON *json;
        assert_int_equal(at_json_load(&json, FIXTURES "llama_bpe/tokenizer.json"), AT_OK);
        replace(json, not_built[i].keys, not_built[i].value);
        write_tokenizer(json, "{}");
        if (at_tokenizer_load(&t, folder) != AT_DATA || t)
            fail_msg("case %zu (%s) was taken", i, not_built[i].words);
        if (!strstr(at_message(), not_built[i].words) || !strstr(at_message(), "tokenizer.json: "))
            fail_msg("\"%s\" should say \"%s\"", at_message(), not_built[i].words);
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

static void write_file(const char *name, const char *text)
{
    char path[128];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(at_file_write_atomic(path, text, strlen(text)), AT_OK);
}

static void remove_files(void)
{
    static const char *const names[] = { "merges.txt", "tokenizer.json", "tokenizer.model",
                                         "tokenizer_config.json", "vocab.json" };
    char path[128];

    for (size_t i = 0; i < AT_COUNT(names); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        remove(path);
    }
}

/* Writes vocab.json and merges.txt of a tokenizer.json. */
static void write_vocab_files(const char *path, const char *config)
{
    struct at_buf text = { 0 };
    cJSON *json;
    const cJSON *model;

    remove_files();
    assert_int_equal(at_json_load(&json, path), AT_OK);
    model = at_json_find(json, "model");
    at_json_write(&text, at_json_find(model, "vocab"));
    write_file("vocab.json", text.data);
    at_buf_clear(&text);
    at_buf_puts(&text, "#version: 0.2\r\n");
    for (const cJSON *i = at_json_find(model, "merges")->child; i; i = i->next)
        at_buf_printf(&text, "%s %s\r\n", i->child->valuestring, i->child->next->valuestring);
    write_file("merges.txt", text.data);
    write_file("tokenizer_config.json", config);
    at_buf_release(&text);
    at_json_free(&json);
}

#define ADDED(id, text) \
    "\"" id "\":{\"content\":\"" text "\",\"special\":true,\"normalized\":false}"

static void load_of_vocab_and_merges_equals_tokenizer_json(void **state)
{
    static const struct {
        const char *dir, *class;
    } cases[] = { { GOLDEN "tiny_llama", "GPT2Tokenizer" },
                  { GOLDEN "tiny_qwen2", "Qwen2TokenizerFast" } };
    char path[512], config[512];

    (void)state;
    for (size_t i = 0; i < AT_COUNT(cases); i++) {
        struct at_tokenizer *a = load(cases[i].dir), *b;
        snprintf(path, sizeof path, "%s/tokenizer.json", cases[i].dir);
        snprintf(config, sizeof config,
                 "{\"tokenizer_class\":\"%s\",\"added_tokens_decoder\":{%s,%s,%s}}", cases[i].class,
                 ADDED("0", "<|endoftext|>"), ADDED("1", "<|im_start|>"), ADDED("2", "<|im_end|>"));
        write_vocab_files(path, config);
        b = load(folder);
        assert_string_equal(at_tokenizer_digest(a), at_tokenizer_digest(b));
        at_tokenizer_destroy(&a);
        at_tokenizer_destroy(&b);
    }
    remove_files();
}

static void load_of_vocab_and_merges_refuses_other_classes(void **state)
{
    struct at_tokenizer *t;

    (void)state;
    write_vocab_files(GOLDEN "tiny_llama/tokenizer.json",
                      "{\"tokenizer_class\":\"CLIPTokenizer\"}");
    assert_int_equal(at_tokenizer_load(&t, folder), AT_DATA);
    assert_non_null(strstr(at_message(), "tokenizer_class \"CLIPTokenizer\""));
    write_file("tokenizer_config.json", "{\"added_tokens_decoder\":{\"x\":{}}}");
    assert_int_equal(at_tokenizer_load(&t, folder), AT_DATA);
    assert_non_null(strstr(at_message(), "\"x\" is not an id"));
    write_file("tokenizer_config.json", "{}");
    write_file("merges.txt", "\xFF\n");
    assert_int_equal(at_tokenizer_load(&t, folder), AT_DATA);
    assert_non_null(strstr(at_message(), "merges.txt: the file is not UTF-8"));
    remove_files();
    write_file("tokenizer.model", "x");
    assert_int_equal(at_tokenizer_load(&t, folder), AT_NOT_FOUND);
    assert_non_null(strstr(at_message(), "tokenizer.model: SentencePiece's own file is not read; "
                                         "make tokenizer.json"));
    remove_files();
}

static void load_without_memory_leaks_nothing(void **state)
{
    static const char *const names[] = { "smollm", "llama", "unigram" };
    struct at_tokenizer *t;
    enum at_status st = AT_MEMORY;

    (void)state;
    for (size_t i = 0; i < AT_COUNT(names); i++, st = AT_MEMORY) {
        char dir[512];
        snprintf(dir, sizeof dir, "%s%s", FIXTURES, names[i]);
        for (uint64_t n = 1; st == AT_MEMORY; n += n < 20 ? 1 : 97) {
            at_alloc_fail_at(n);
            st = at_tokenizer_load(&t, dir);
            if (st != AT_OK)
                assert_null(t);
        }
        at_alloc_fail_at(0);
        assert_int_equal(st, AT_OK);
        at_tokenizer_destroy(&t);
    }
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    remove_files();
    return remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encode_with_digits_equals_the_reference),
        cmocka_unit_test(encode_with_ignored_merges_equals_the_reference),
        cmocka_unit_test(encode_with_added_tokens_equals_the_reference),
        cmocka_unit_test(encode_with_removed_pieces_equals_the_reference),
        cmocka_unit_test(encode_of_sentencepiece_kinds_equals_the_reference),
        cmocka_unit_test(encode_with_words_cut_in_other_ways_equals_the_reference),
        cmocka_unit_test(tokenizer_of_a_folder_knows_its_special_tokens),
        cmocka_unit_test(encode_of_invalid_utf8_takes_the_replacement_character),
        cmocka_unit_test(ids_behind_the_vocabulary_decode_to_nothing_negative_ones_fail),
        cmocka_unit_test(decoding_gives_characters_when_they_are_whole),
        cmocka_unit_test(encode_of_a_mebibyte_of_one_character_is_fast),
        cmocka_unit_test(load_of_what_is_not_built_names_it),
        cmocka_unit_test(load_without_a_file_says_which),
        cmocka_unit_test(load_of_vocab_and_merges_equals_tokenizer_json),
        cmocka_unit_test(load_of_vocab_and_merges_refuses_other_classes),
        cmocka_unit_test(load_without_memory_leaks_nothing),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
