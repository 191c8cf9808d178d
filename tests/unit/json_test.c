/* links: base */
#include "json.h"
#include "os.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

enum syntax { JSON, YAML };

static enum at_status parse(cJSON **out, enum syntax syntax, const char *text, size_t n)
{
    return syntax == YAML ? at_yaml_parse(out, text, n, "t") : at_json_parse(out, text, n, "t", 1);
}

/* The message's place is `where` ("line:column") and its text contains `what`. */
static void check_error(enum syntax syntax, const char *text, size_t n, const char *where,
                        const char *what)
{
    cJSON *json = NULL;
    char place[64];
    snprintf(place, sizeof place, "t:%s: ", where);
    if (parse(&json, syntax, text, n) != AT_DATA || json)
        fail_msg("accepted: %s", text);
    if (strncmp(at_message(), place, strlen(place)) != 0 || !strstr(at_message(), what))
        fail_msg("\"%s\" for %s (expected %s%s)", at_message(), text, place, what);
}

#define CHECK_ERROR(syntax, text, where, what) \
    check_error(syntax, text, sizeof(text) - 1, where, what)

/* `text` parses and writes as `compact`. */
static void check_same(enum syntax syntax, const char *text, const char *compact)
{
    cJSON *json;
    struct at_buf buf = { 0 };
    if (parse(&json, syntax, text, strlen(text)) != AT_OK)
        fail_msg("%s", at_message());
    at_json_write(&buf, json);
    assert_string_equal(buf.data, compact);
    at_buf_release(&buf);
    at_json_free(&json);
    assert_null(json);
}

/* depth times `open`, then depth times `close` */
static void nest(struct at_buf *out, int depth, const char *open, const char *close)
{
    at_buf_clear(out);
    for (int i = 0; i < depth; i++)
        at_buf_puts(out, open);
    for (int i = 0; i < depth; i++)
        at_buf_puts(out, close);
}

static void parse_valid_text_round_trips(void **state)
{
    (void)state;
    check_same(JSON, " {\"b\" : [1, -2.5e-3, true, false, null], \"a\":\"\\u00e9\\n\"}\n",
               "{\"b\":[1,-0.0025,true,false,null],\"a\":\"\xC3\xA9\\n\"}");
    check_same(JSON, "\"\\ud83d\\ude00\"", "\"\xF0\x9F\x98\x80\"");
    check_same(JSON, "\xEF\xBB\xBF[]", "[]");
    check_same(JSON, "{\"a\":{\"x\":1},\"b\":{\"x\":1},\"A\":0}",
               "{\"a\":{\"x\":1},\"b\":{\"x\":1},\"A\":0}");
    check_same(JSON, "0", "0");
}

static void parse_bad_syntax_gives_line_and_column(void **state)
{
    (void)state;
    CHECK_ERROR(JSON, "{\"a\": 1,\n \"b\": tru}", "2:7", "tru}");
    CHECK_ERROR(JSON, "[\"\xC3\xA9\xC3\xA9\", x]", "1:8", "x]"); /* columns count characters */
    CHECK_ERROR(JSON, "[1, 2", "1:6", "too early");
    CHECK_ERROR(JSON, "[1,", "1:4", "too early");
    CHECK_ERROR(JSON, "{\"a\":1,", "1:8", "too early");
    CHECK_ERROR(JSON, "", "1:1", "no JSON");
    CHECK_ERROR(JSON, "[1] x", "1:5", "x");
    CHECK_ERROR(JSON, "{\"a\":1}{\"a\":1}", "1:8", "{");
    CHECK_ERROR(JSON, "[1,]", "1:4", "]");
    CHECK_ERROR(JSON, "{a: 1}", "1:2", "key");
    CHECK_ERROR(JSON, "{\"a\":1, }", "1:9", "key");
    CHECK_ERROR(JSON, "{1:2}", "1:2", "key");
    CHECK_ERROR(JSON, "[{\"a\":[1,2]},{,}]", "1:15", "key");
    CHECK_ERROR(JSON, "[1,2x]", "1:5", "x]");
    CHECK_ERROR(JSON, "[\"abc]", "1:2", "does not end");
    CHECK_ERROR(JSON, "[\"a\\x\"]", "1:4", "not valid");
}

static void parse_first_line_offsets_places(void **state)
{
    (void)state;
    cJSON *json;
    assert_int_equal(at_json_parse(&json, "[1,\n?]", 6, "d.jsonl", 41), AT_DATA);
    assert_int_equal(strncmp(at_message(), "d.jsonl:42:1: ", 14), 0);
}

static void parse_odd_numbers_are_refused(void **state)
{
    (void)state;
    CHECK_ERROR(JSON, "[NaN]", "1:2", "NaN");
    CHECK_ERROR(JSON, "[-Infinity]", "1:2", "not a number");
    CHECK_ERROR(JSON, "[1e999]", "1:2", "too large");
    CHECK_ERROR(JSON, "[-1e999]", "1:2", "too large");
    CHECK_ERROR(JSON, "[01]", "1:2", "not a number");
    CHECK_ERROR(JSON, "[1.]", "1:2", "not a number");
    CHECK_ERROR(JSON, "[1e]", "1:2", "not a number");
    CHECK_ERROR(JSON, "[.5]", "1:2", ".5");
    CHECK_ERROR(JSON, "[+1]", "1:2", "+1");
    CHECK_ERROR(JSON, "[0x10]", "1:3", "x10");
    char digits[80] = "[";
    memset(digits + 1, '7', 70);
    strcpy(digits + 71, "]");
    check_error(JSON, digits, strlen(digits), "1:2", "63");
}

static void parse_duplicate_keys_are_refused_at_the_second(void **state)
{
    (void)state;
    CHECK_ERROR(JSON, "{\"a\":1,\n\"b\":2, \"a\":3}", "2:8", "\"a\" stands twice");
    CHECK_ERROR(JSON, "[{\"x\":\"x\"},{\"c\":{\"a\":[{\"k\":1,\"\\u006b\":2}]}}]", "1:30", "\"k\"");
    struct at_buf buf = { 0 }; /* more keys than the small table */
    at_buf_puts(&buf, "{");
    for (int i = 0; i < 500; i++)
        at_buf_printf(&buf, "\"k%d\":{\"v\":%d},\n", i, i);
    at_buf_puts(&buf, "\"k250\":0}");
    check_error(JSON, buf.data, buf.n, "501:1", "\"k250\"");
    at_buf_release(&buf);
}

static void parse_depth_64_is_the_limit(void **state)
{
    (void)state;
    struct at_buf buf = { 0 };
    cJSON *json;
    nest(&buf, 64, "[", "]");
    for (enum syntax syntax = JSON; syntax <= YAML; syntax++) {
        assert_int_equal(parse(&json, syntax, buf.data, buf.n), AT_OK);
        at_json_free(&json);
    }
    nest(&buf, 65, "[", "]");
    check_error(JSON, buf.data, buf.n, "1:65", "64 levels");
    check_error(YAML, buf.data, buf.n, "1:65", "64 levels");
    nest(&buf, 100000, "[", "");
    check_error(JSON, buf.data, buf.n, "1:65", "64 levels");
    check_error(YAML, buf.data, buf.n, "1:65", "64 levels");
    at_buf_release(&buf);
}

static void parse_bad_bytes_are_refused(void **state)
{
    (void)state;
    CHECK_ERROR(JSON, "[\"a\xFF\"]", "1:4", "UTF-8");
    CHECK_ERROR(JSON, "[\"a\nb\"]", "1:4", "control");
    CHECK_ERROR(JSON, "[1,\0 2]", "1:4", "control");
    CHECK_ERROR(JSON, "[\"a\\u0000b\"]", "1:4", "\\u0000");
    CHECK_ERROR(JSON, "[\"\\ud800\"]", "1:3", "not valid");
    check_same(JSON, "\"\\\\u0000\"", "\"\\\\u0000\"");
}

static void parse_every_failing_allocation_is_a_status(void **state)
{
    (void)state;
    static const char *const texts[] = {
        [JSON] = "{\"a\":[1,\"two\",{\"b\":null}],\"c\":true}",
        [YAML] = "a: [1, two, {b: null}]\nc: true\n",
    };
    for (enum syntax syntax = JSON; syntax <= YAML; syntax++) {
        enum at_status st = AT_MEMORY;
        uint64_t n = 0;
        while (st != AT_OK && n < 100) {
            cJSON *json;
            at_alloc_fail_at(++n);
            st = parse(&json, syntax, texts[syntax], strlen(texts[syntax]));
            assert_true(st == AT_OK || (st == AT_MEMORY && !json));
            at_json_free(&json);
        }
        assert_in_range(n, 8, 99);
    }
    at_alloc_fail_at(0);
}

static void yaml_scalars_follow_the_json_schema(void **state)
{
    (void)state;
    check_same(YAML, "a: 1\nb: -2.5\nc: 5e-6\nd: true\ne: null\nf:\n",
               "{\"a\":1,\"b\":-2.5,\"c\":5e-06,\"d\":true,\"e\":null,\"f\":null}");
    check_same(YAML, "[yes, no, on, True, ~, 0x1f, 1_000, 010, .5, +1, .inf, 1.2.3, 1-2]",
               "[\"yes\",\"no\",\"on\",\"True\",\"~\",\"0x1f\",\"1_000\",\"010\",\".5\",\"+1\","
               "\".inf\",\"1.2.3\",\"1-2\"]");
    check_same(YAML, "['1', \"true\", \"\\u00e9\", '']", "[\"1\",\"true\",\"\xC3\xA9\",\"\"]");
    check_same(YAML, "t: |\n  two\n  lines\nu: >\n  one\n  line\n",
               "{\"t\":\"two\\nlines\\n\",\"u\":\"one line\\n\"}");
}

static void yaml_blocks_give_the_same_tree_as_json(void **state)
{
    (void)state;
    check_same(YAML, "# a run\nmodel: m\nlora:\n  r: 16\n  targets:\n    - q\n    - v\n1: x\n",
               "{\"model\":\"m\",\"lora\":{\"r\":16,\"targets\":[\"q\",\"v\"]},\"1\":\"x\"}");
    check_same(YAML, "---\n- {a: []}\n...\n", "[{\"a\":[]}]");
}

static void yaml_unsupported_parts_are_refused_with_place(void **state)
{
    (void)state;
    CHECK_ERROR(YAML, "a: &x 1\n", "1:4", "anchors");
    CHECK_ERROR(YAML, "a: 1\nb: *x\n", "2:4", "aliases");
    CHECK_ERROR(YAML, "a: !!str 1\n", "1:4", "tags");
    CHECK_ERROR(YAML, "a: !py/object [1]\n", "1:4", "tags");
    CHECK_ERROR(YAML, "&k a: 1\n", "1:1", "anchors");
    CHECK_ERROR(YAML, "b: 1\n!t a: 1\n", "2:1", "tags");
    CHECK_ERROR(YAML, "<<: {a: 1}\n", "1:1", "merge");
    CHECK_ERROR(YAML, "? [a, b]\n: 1\n", "1:3", "key");
    CHECK_ERROR(YAML, "a: 1\nb: {c: 1, c: 2}\n", "2:11", "\"c\" stands twice");
    CHECK_ERROR(YAML, "a: 1\n---\nb: 2\n", "2:1", "document");
    CHECK_ERROR(YAML, "# nothing\n", "2:1", "empty");
    CHECK_ERROR(YAML, "a: 1e999\n", "1:4", "too large");
    CHECK_ERROR(YAML, "a: \"x\\0y\"\n", "1:4", "zero byte");
    CHECK_ERROR(YAML, "b: 1\n\"a\\0b\": 1\n", "2:1", "zero byte");
    CHECK_ERROR(YAML, "a: [1, 2\n", "2:1", "");
    CHECK_ERROR(YAML, "a:\n\t- 1\n", "2:1", "");
    CHECK_ERROR(YAML, "a: \xFF\n", "1:4", "UTF-8");
    CHECK_ERROR(YAML, "a: 1\nb: \xE2\x82\xAC \xE2\x82\n", "2:6", "UTF-8");
}

static void load_suffix_chooses_the_language(void **state)
{
    (void)state;
    const char *const dir = BUILD_DIR "/test_tmp";
    cJSON *json;
    assert_int_equal(at_dir_create(dir), AT_OK);
    assert_int_equal(at_file_write_atomic(BUILD_DIR "/test_tmp/a.yaml", "a: b\n", 5), AT_OK);
    assert_int_equal(at_file_write_atomic(BUILD_DIR "/test_tmp/a.json", "a: b\n", 5), AT_OK);
    assert_int_equal(at_json_load(&json, BUILD_DIR "/test_tmp/a.yaml"), AT_OK);
    at_json_free(&json);
    assert_int_equal(at_json_load(&json, BUILD_DIR "/test_tmp/a.json"), AT_DATA);
    assert_non_null(strstr(at_message(), "a.json:1:1: "));
    assert_int_equal(at_json_load(&json, BUILD_DIR "/test_tmp/missing.json"), AT_NOT_FOUND);
    assert_null(json);
}

/* Python writes what JSON does not have; a value that is read is refused by its key. */
static void python_s_numbers_are_read(void **state)
{
    static const char text[] = "{\"a\": [0.0, Infinity, -Infinity, NaN],\n"
                               " \"b \\\" NaN\": \"Infinity\", \"c\": 1.5, \"d\": NaN}";
    cJSON *json;
    double x = 2;

    (void)state;
    assert_int_equal(at_json_parse_python(&json, text, strlen(text), "c.json"), AT_OK);
    const cJSON *list = at_json_find(json, "a");
    assert_int_equal(cJSON_GetArraySize(list), 4);
    assert_true(cJSON_GetArrayItem(list, 1)->valuedouble > 1e300);
    assert_true(cJSON_GetArrayItem(list, 2)->valuedouble < -1e300);
    assert_string_equal(at_json_find(json, "b \" NaN")->valuestring, "Infinity");
    assert_int_equal(at_json_get_double(&x, json, "c", "c.json"), AT_OK);
    assert_true(x == 1.5);
    assert_int_equal(at_json_get_double(&x, json, "d", "c.json"), AT_DATA);
    assert_string_equal(at_message(), "c.json: \"d\" must be a number");
    at_json_free(&json);
    assert_int_equal(at_json_parse(&json, text, strlen(text), "c.json", 1), AT_DATA);
    assert_int_equal(at_json_parse_python(&json, "[1,\nNan]", 8, "c.json"), AT_DATA);
    assert_non_null(strstr(at_message(), "c.json:2:1: "));
}

static void check_double(double x, const char *want)
{
    struct at_buf buf = { 0 };
    at_json_write_double(&buf, x);
    assert_string_equal(buf.data, want);
    if (isfinite(x))
        assert_true(strtod(buf.data, NULL) == x);
    at_buf_release(&buf);
}

static void write_double_is_short_and_reads_back(void **state)
{
    (void)state;
    check_double(0.1, "0.1");
    check_double(1.0 / 3, "0.3333333333333333");
    check_double(0.1 + 0.2, "0.30000000000000004");
    check_double(5e-324, "4.94065645841247e-324");
    check_double(1e15, "1000000000000000");
    check_double(0x1p53, "9007199254740992");
    check_double(0x1p60, "1.152921504606847e+18");
    check_double(-16, "-16");
    check_double(-0.0, "-0");
    check_double(1e300, "1e+300");
    check_double(NAN, "null");
    check_double(-INFINITY, "null");
}

static void write_string_escapes_and_repairs(void **state)
{
    (void)state;
    const char text[] = "q\" b\\ /\b\f\n\r\t\x01\x7F\0 \xC3\xA9";
    struct at_buf buf = { 0 };
    at_json_write_string(&buf, text, sizeof text - 1);
    assert_string_equal(buf.data, "\"q\\\" b\\\\ /\\b\\f\\n\\r\\t\\u0001\x7F\\u0000 \xC3\xA9\"");
    at_buf_clear(&buf);
    at_json_write_string(&buf, "a\xFF\xF0\x9F", 4); /* cut in the middle of a character */
    assert_string_equal(buf.data, "\"a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"");
    at_buf_clear(&buf);
    at_json_write_string(&buf, "", 0);
    assert_string_equal(buf.data, "\"\"");
    at_buf_release(&buf);
}

static void write_pretty_indents_by_two(void **state)
{
    (void)state;
    cJSON *json;
    struct at_buf buf = { 0 };
    const char text[] = "{\"a\":[1,{}],\"b\":{\"c\":[]}}";
    assert_int_equal(at_json_parse(&json, text, sizeof text - 1, "t", 1), AT_OK);
    at_json_write_pretty(&buf, json);
    assert_string_equal(buf.data, "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": {\n    \"c\": []\n"
                                  "  }\n}\n");
    at_buf_release(&buf);
    at_json_free(&json);
}

static const char access_text[] =
    "{\"n\":7,\"big\":4294967295,\"over\":4294967296,\"half\":0.5,\"neg\":-1,\"s\":\"x\","
    "\"yes\":true,\"nil\":null}";

static void get_typed_values_are_read_or_kept(void **state)
{
    (void)state;
    cJSON *json;
    uint32_t n = 3;
    double x = 2;
    bool yes = false;
    const char *s = "kept";
    assert_int_equal(at_json_parse(&json, access_text, sizeof access_text - 1, "t", 1), AT_OK);
    assert_int_equal(at_json_get_u32(&n, json, "missing", "t"), AT_OK);
    assert_int_equal(at_json_get_u32(&n, json, "nil", "t"), AT_OK);
    assert_int_equal(at_json_get_u32(&n, json, "N", "t"), AT_OK); /* keys are case-sensitive */
    assert_int_equal(n, 3);
    assert_int_equal(at_json_get_u32(&n, json, "big", "t"), AT_OK);
    assert_int_equal(n, UINT32_MAX);
    assert_int_equal(at_json_get_double(&x, json, "half", "t"), AT_OK);
    assert_true(x == 0.5);
    assert_int_equal(at_json_get_bool(&yes, json, "yes", "t"), AT_OK);
    assert_true(yes);
    assert_int_equal(at_json_get_string(&s, json, "nil", "t"), AT_OK);
    assert_string_equal(s, "kept");
    assert_int_equal(at_json_need_string(&s, json, "s", "t"), AT_OK);
    assert_string_equal(s, "x");
    assert_null(at_json_find(NULL, "s"));
    at_json_free(&json);
}

static void get_wrong_types_name_document_and_key(void **state)
{
    (void)state;
    cJSON *json;
    uint32_t n = 3;
    double x = 2;
    bool yes = true;
    const char *s = "kept";
    assert_int_equal(at_json_parse(&json, access_text, sizeof access_text - 1, "t", 1), AT_OK);
    static const char *const not_u32[] = { "over", "half", "neg", "s", "yes" };
    for (size_t i = 0; i < AT_COUNT(not_u32); i++) {
        assert_int_equal(at_json_get_u32(&n, json, not_u32[i], "doc.json"), AT_DATA);
        assert_non_null(strstr(at_message(), "doc.json: \""));
        assert_non_null(strstr(at_message(), not_u32[i]));
    }
    assert_int_equal(at_json_get_double(&x, json, "s", "t"), AT_DATA);
    assert_int_equal(at_json_get_bool(&yes, json, "n", "t"), AT_DATA);
    assert_int_equal(at_json_get_string(&s, json, "n", "t"), AT_DATA);
    assert_int_equal(at_json_need_string(&s, json, "nil", "t"), AT_DATA);
    assert_non_null(strstr(at_message(), "missing"));
    assert_int_equal(at_json_need_u32(&n, json, "none", "t"), AT_DATA);
    assert_int_equal(at_json_need_u32(&n, NULL, "none", "t"), AT_DATA);
    assert_int_equal(n, 3);
    assert_true(x == 2 && yes);
    assert_string_equal(s, "kept");
    at_json_free(&json);
}

static void utf8_check_finds_the_first_bad_byte(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t bad; /* the length: all is valid */
    } cases[] = {
        { "", 0 },
        { "plain ascii of some length", 26 },
        { "\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xF0\x90\x80\x80\xF4\x8F\xBF\xBF",
          21 },
        { "12345678\x80", 8 }, /* a continuation alone */
        { "ab\xC0\x80", 2 },   /* overlong forms */
        { "ab\xC1\xBF", 2 },
        { "ab\xE0\x9F\xBF", 2 },
        { "ab\xF0\x8F\xBF\xBF", 2 },
        { "\xED\xA0\x80", 0 },     /* a surrogate */
        { "\xF4\x90\x80\x80", 0 }, /* beyond U+10FFFF */
        { "\xF5\x80\x80\x80", 0 },
        { "12345678901234567\xE2\x82", 17 }, /* cut short */
        { "\xE2\x82z", 0 },
    };
    for (size_t i = 0; i < AT_COUNT(cases); i++)
        assert_int_equal(at_utf8_check(cases[i].text, strlen(cases[i].text)), cases[i].bad);
    assert_int_equal(at_utf8_check("ab\xE2\x82\xAC", 4), 2); /* goes on behind the end */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse_valid_text_round_trips),
        cmocka_unit_test(parse_bad_syntax_gives_line_and_column),
        cmocka_unit_test(parse_first_line_offsets_places),
        cmocka_unit_test(parse_odd_numbers_are_refused),
        cmocka_unit_test(parse_duplicate_keys_are_refused_at_the_second),
        cmocka_unit_test(parse_depth_64_is_the_limit),
        cmocka_unit_test(parse_bad_bytes_are_refused),
        cmocka_unit_test(parse_every_failing_allocation_is_a_status),
        cmocka_unit_test(yaml_scalars_follow_the_json_schema),
        cmocka_unit_test(yaml_blocks_give_the_same_tree_as_json),
        cmocka_unit_test(yaml_unsupported_parts_are_refused_with_place),
        cmocka_unit_test(load_suffix_chooses_the_language),
        cmocka_unit_test(python_s_numbers_are_read),
        cmocka_unit_test(write_double_is_short_and_reads_back),
        cmocka_unit_test(write_string_escapes_and_repairs),
        cmocka_unit_test(write_pretty_indents_by_two),
        cmocka_unit_test(get_typed_values_are_read_or_kept),
        cmocka_unit_test(get_wrong_types_name_document_and_key),
        cmocka_unit_test(utf8_check_finds_the_first_bad_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
