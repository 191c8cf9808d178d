/* links: base text data */
#include "data_test.h"

/* ---- wrong lines ---- */

/* Line 2 of three is wrong: the message is its place and `want`. */
static void check_wrong(const char *bad, const char *want, const struct at_dataset_params *p)
{
    struct at_dataset d;
    struct at_buf text = { 0 };
    char message[512];
    const char *good = p->kind != AT_ROWS_SFT ? PAIR("q") : "{\"text\":\"the tea\"}\n";

    at_buf_printf(&text, "%s%s\n%s", good, bad, good);
    snprintf(message, sizeof message, "%s:2:%s", path, want);
    if (load_text(&d, text.data, p) != AT_DATA)
        fail_msg("%s: is taken", bad);
    assert_string_equal(at_message(), message);
    assert_string_equal(warnings, "");
    assert_null(d.rows);
    at_buf_release(&text);
}

static void dataset_with_wrong_line_names_line_column_and_reason(void **state)
{
    static const struct {
        enum at_row_kind kind;
        const char *line, *want;
    } cases[] = {
        { AT_ROWS_PAIR, "{\"prompt\":\"\xC3\xA4\xFF\"}",
          "13: the text is not valid UTF-8 (byte 0xff)" },
        { AT_ROWS_PAIR, "{\"prompt\": yes}", "12: not valid JSON at \"yes}\"" },
        { AT_ROWS_PAIR, "{\"prompt\":\"a\",\"prompt\":\"b\"}",
          "15: the key \"prompt\" stands twice in one object" },
        { AT_ROWS_PAIR, "{\"prompt\":\"a\"", "14: the JSON text ends too early" },
        { AT_ROWS_PAIR, "[1]",
          " a JSON object is expected; the file holds one a line (`attune data convert` makes "
          "lines of a list)" },
        { AT_ROWS_PAIR, "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":null}",
          " the key \"rejected\" is missing; a preference row is {prompt, chosen, rejected} or "
          "{chosen, rejected}" },
        { AT_ROWS_PAIR, "{\"chosen\":3,\"\xC3\xA4\":\"rejected\", \"rejected\" : {}}",
          "2: \"chosen\" must be a string or a list of messages" },
        { AT_ROWS_PAIR, "{\"chosen\":\"a\",\"\xC3\xA4\":[{\"rejected\":1}], \"rejected\" : {}}",
          "37: \"rejected\" must be a string or a list of messages" },
        { AT_ROWS_PAIR, "{\"prompt\":\"a\",\"chosen\":[" SAID("b") "],\"rejected\":[]}",
          "15: \"prompt\" is a string and \"chosen\" is a list of messages; make both the same" },
        { AT_ROWS_PAIR, "{\"a\\\"\":\"chosen\",\"chosen\":3,\"rejected\":\"b\"}",
          "17: \"chosen\" must be a string or a list of messages" },
        { AT_ROWS_PAIR, "{\"prompt\":[1],\"chosen\":[],\"rejected\":[]}",
          "2: \"prompt\": message 1 is not an object with role and content" },
        { AT_ROWS_PAIR,
          "{\"prompt\":[" USER("a") ",{\"role\":\"user\"}],\"chosen\":[],\"rejected\":[]}",
          "2: \"prompt\": message 2: \"content\" is missing" },
        { AT_ROWS_PAIR,
          "{\"prompt\":[{\"role\":1,\"content\":\"a\"}],\"chosen\":[],\"rejected\":[]}",
          "2: \"prompt\": message 1: \"role\" must be a string" },
        { AT_ROWS_PAIR, "{\"prompt\":[],\"chosen\":[" SAID("b") "],\"rejected\":[" SAID("c") "]}",
          "2: \"prompt\" has no messages" },
        { AT_ROWS_PAIR, "{\"chosen\":[" SAID("b") "],\"rejected\":[" SAID("c") "]}",
          "2: \"chosen\" and \"rejected\" begin with no common message, so there is no prompt" },
        { AT_ROWS_PAIR, "{\"chosen\":\"a\",\"rejected\":\"b\",\"tools\":[1]}",
          "30: \"tools\" is not supported; remove it" },
        { AT_ROWS_PAIR, "{\"prompt\":\"a\",\"completion\":\"b\",\"label\":true}",
          "32: the row has a label and no pair: train it with kto, or make pairs of rows with one "
          "prompt" },
        { AT_ROWS_LABELLED, "{\"prompt\":\"a\",\"label\":true}",
          " the key \"completion\" is missing; a labelled row is {prompt, completion, label} or a "
          "preference row {prompt, chosen, rejected}" },
        { AT_ROWS_LABELLED, "{\"prompt\":\"a\",\"completion\":\"b\"}",
          " the key \"label\" is missing; a row with one completion is {prompt, completion, "
          "label}, label true or false; a row like this one is trained with sft" },
        { AT_ROWS_LABELLED, "{\"prompt\":\"a\",\"completion\":\"b\",\"label\":\"yes\"}",
          "32: \"label\" must be true (desirable) or false" },
        { AT_ROWS_LABELLED, "{\"prompt\":\"a\",\"completion\":\"b\",\"label\":2}",
          "32: \"label\" must be true (desirable) or false" },
        { AT_ROWS_SFT,
          "{\"messages\":[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[]}]}",
          "2: \"messages\": message 1: \"content\" must be a string" },
        { AT_ROWS_SFT, "{\"messages\":\"a\"}", "2: \"messages\" must be a list of messages" },
        { AT_ROWS_SFT, "{\"text\":[]}", "2: \"text\" must be a string" },
        { AT_ROWS_SFT, "{\"prompt\":\"a\"}",
          " the key \"completion\" is missing; it goes with \"prompt\" (prompts alone are for "
          "grpo, online_dpo and rloo)" },
        { AT_ROWS_SFT, "{\"completion\":\"a\"}",
          " the key \"prompt\" is missing; it goes with \"completion\"" },
        { AT_ROWS_SFT, "{\"a\":1}",
          " the row has none of the forms {messages}, {prompt, completion}, {text}, {prompt, "
          "chosen}, {chosen, rejected}" },
    };

    (void)state;
    for (size_t i = 0; i < AT_COUNT(cases); i++) {
        struct at_dataset_params p = strict(cases[i].kind);
        check_wrong(cases[i].line, cases[i].want, &p);
        p.on_bad = AT_BAD_SKIP; /* wrong lines are no matter of taste */
        check_wrong(cases[i].line, cases[i].want, &p);
    }
}

static void row_of_sft_names_the_method_that_reads_it(void **state)
{
    const struct at_dataset_params labelled = strict(AT_ROWS_LABELLED), pair = strict(AT_ROWS_PAIR);

    (void)state;
    check_wrong(
        "{\"messages\":[" USER("a") "," SAID("b") "]}",
        " the key \"prompt\" is missing; a labelled row is {prompt, completion, label} or a "
        "preference row {prompt, chosen, rejected}; a row like this one is trained with sft",
        &labelled);
    check_wrong("{\"text\":\"a\"}",
                " the key \"chosen\" is missing; a preference row is {prompt, chosen, rejected} or "
                "{chosen, rejected}; a row like this one is trained with sft",
                &pair);
}

static void dataset_with_useless_row_names_line_and_reason(void **state)
{
    static const struct {
        enum at_row_kind kind;
        const char *line, *want;
    } cases[] = {
        { AT_ROWS_PAIR, "{\"prompt\":\"a\",\"chosen\":\" \\n\",\"rejected\":\"b\"}",
          "\"chosen\" is empty" },
        { AT_ROWS_PAIR, "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"b\"}",
          "chosen and rejected are the same" },
        { AT_ROWS_PAIR, "{\"chosen\":\"ab\",\"rejected\":\"\"}", "\"rejected\" is empty" },
        { AT_ROWS_PAIR,
          "{\"prompt\":[" USER("a") "],\"chosen\":[" SAID("b") "],\"rejected\":[" SAID("") "]}",
          "\"rejected\": an assistant message is empty" },
        { AT_ROWS_PAIR, "{\"prompt\":[" USER("a") "],\"chosen\":[],\"rejected\":[" SAID("b") "]}",
          "\"chosen\" is empty" },
        { AT_ROWS_PAIR,
          "{\"prompt\":[" USER("a") "],\"chosen\":[" USER("b") "],\"rejected\":[" SAID("c") "]}",
          "\"chosen\" begins with a message of role \"user\", not assistant" },
        { AT_ROWS_PAIR,
          "{\"prompt\":[" USER("a") "],\"chosen\":[" SAID("c") "," USER(
              "d") "],\"rejected\":[" SAID("c") "]}",
          "\"chosen\" ends with a message of role \"user\", not assistant" },
        { AT_ROWS_PAIR,
          "{\"prompt\":[" USER("a") "," SAID("b") "],\"chosen\":[" SAID(
              "c") "],\"rejected\":[" SAID("d") "]}",
          "the prompt ends with a message of the assistant" },
        { AT_ROWS_SFT, "{\"messages\":[" USER("a") "]}", "no token of the row is trained on" },
        { AT_ROWS_SFT, "{\"messages\":[]}", "\"messages\" is empty" },
        { AT_ROWS_SFT, "{\"text\":\"\"}", "\"text\" is empty" },
        { AT_ROWS_SFT, "{\"prompt\":\"a\",\"completion\":\"b\",\"label\":false}",
          "\"label\" is false: SFT would teach what is not wanted" },
    };
    char want[256];

    (void)state;
    for (size_t i = 0; i < AT_COUNT(cases); i++) {
        struct at_dataset_params p = strict(cases[i].kind);
        struct at_dataset d;
        struct at_buf text = { 0 };
        p.assistant_only = true;
        snprintf(want, sizeof want, " %s; correct it or set on_bad_row to skip", cases[i].want);
        check_wrong(cases[i].line, want, &p);
        p.on_bad = AT_BAD_SKIP;
        at_buf_printf(&text, "%s\n%s", cases[i].line,
                      cases[i].kind != AT_ROWS_SFT ? PAIR("q") : "{\"text\":\"the tea\"}");
        OK(load_text(&d, text.data, &p));
        snprintf(want, sizeof want, "bad_row: %s:1: %s\n", path, cases[i].want);
        assert_string_equal(warnings, want);
        assert_int_equal(d.n_read, 2);
        assert_int_equal(d.n_dropped, 1);
        assert_int_equal(d.n_rows, 1);
        assert_int_equal(d.rows[0].line, 2);
        at_dataset_release(&d);
        at_buf_release(&text);
    }
}

static void dataset_with_many_wrong_lines_reports_each_up_to_a_limit(void **state)
{
    const struct at_dataset_params p = strict(AT_ROWS_PAIR);
    struct at_dataset d;
    struct at_buf text = { 0 };
    char want[128];
    size_t lines = 0;

    (void)state;
    for (int i = 0; i < 5000; i++)
        at_buf_puts(&text, i % 200 == 7 ? "{\"prompt\":\"a\"}\n" : i % 3 ? PAIR("q") : " \r\n");
    assert_int_equal(load_text(&d, text.data, &p), AT_DATA);
    assert_string_equal(at_message(), "25 of 3341 rows cannot be used (the first are "
                                      "named above); correct them");
    for (const char *c = warnings; *c; c++)
        lines += *c == '\n';
    assert_int_equal(lines, 21);
    snprintf(want, sizeof want, "bad_row: %s:8: the key \"chosen\" is missing", path);
    assert_memory_equal(warnings, want, strlen(want));
    snprintf(want, sizeof want, "bad_row: %s:3808: ", path);
    assert_non_null(strstr(warnings, want));
    assert_non_null(strstr(warnings, "bad_row: and 5 more bad rows\n"));
    at_buf_release(&text);
}

static void dataset_without_rows_is_an_error(void **state)
{
    const struct at_dataset_params p = strict(AT_ROWS_PAIR);
    const char *const missing[] = { "/nowhere/rows.jsonl" };
    struct at_dataset d;
    char want[128];

    (void)state;
    snprintf(want, sizeof want, "%s: the data set has no rows; one JSON object a line is expected",
             path);
    assert_int_equal(load_text(&d, "", &p), AT_DATA);
    assert_string_equal(at_message(), want);
    assert_int_equal(load_text(&d, " \n\n", &p), AT_DATA);
    assert_string_equal(at_message(), want);
    assert_int_equal(at_dataset_load(&d, missing, 1, &p), AT_NOT_FOUND);
}

static void dataset_of_conversations_without_template_is_an_error(void **state)
{
    struct at_dataset_params p = strict(AT_ROWS_SFT);
    struct at_dataset d;
    char want[256];

    (void)state;
    p.chat = NULL;
    snprintf(want, sizeof want,
             "%s:2: the row is a conversation, but the model has no chat template; name one with "
             "chat_template_path",
             path);
    assert_int_equal(
        load_text(&d,
                  "{\"text\":\"a\"}\n{\"messages\":[" SAID("b") "]}\n"
                                                                "{\"messages\":[" SAID("b") "]}\n",
                  &p),
        AT_DATA);
    assert_string_equal(at_message(), want);
    assert_string_equal(warnings, "");
}

/* ---- long rows ---- */

static void dataset_with_long_rows_follows_the_policy(void **state)
{
    static const char text[] = PAIR("q")
        PAIR("a long prompt that is longer than all others") "{\"prompt\":\"q\",\"chosen\":\" "
                                                             "yes\",\"rejected\":\" no, no, no, "
                                                             "no, no, no, no, no\"}\n";
    struct at_dataset_params p = strict(AT_ROWS_PAIR);
    struct at_dataset d;
    char want[512];

    (void)state;
    p.max_length = 8;
    assert_int_equal(load_text(&d, text, &p), AT_DATA);
    assert_string_equal(at_message(), "2 of 3 rows cannot be used (named above); correct them");
    assert_non_null(strstr(warnings, ":3: the row has "));
    assert_non_null(strstr(warnings, " tokens, max_length is 8; raise it or set on_long_row to cut "
                                     "or drop\n"));

    p.on_long = AT_LONG_DROP;
    p.max_length = 4; /* exactly */
    OK(load_text(&d, PAIR("q"), &p));
    assert_int_equal(d.rows[0].n_prefix + d.rows[0].segment[0].n, 4);
    at_dataset_release(&d);
    p.max_length = 8;
    OK(load_text(&d, text, &p));
    snprintf(want, sizeof want,
             "dropped_row: %s: 2 rows were dropped: they are longer than max_length of 8 tokens "
             "(lines 2, 3)\n",
             path);
    assert_string_equal(warnings, want);
    assert_int_equal(d.n_rows, 1);
    assert_int_equal(d.n_dropped, 2);
    assert_int_equal(d.n_cut, 0);
    at_dataset_release(&d);

    p.on_long = AT_LONG_CUT;
    OK(load_text(&d, text, &p));
    snprintf(
        want, sizeof want,
        "cut_row: %s: 1 rows were cut to 8 tokens (line 3)\n"
        "dropped_row: %s: 1 rows were dropped: their prompt alone fills max_length of 8 tokens "
        "(line 2)\n",
        path, path);
    assert_string_equal(warnings, want);
    assert_int_equal(d.n_rows, 2);
    assert_int_equal(d.n_dropped, 1);
    assert_int_equal(d.n_cut, 1);
    assert_int_equal(d.rows[1].n_prefix + d.rows[1].segment[1].n, 8);
    at_dataset_release(&d);
}

static void dataset_with_sides_equal_after_the_cut_is_an_error(void **state)
{
    static const char text[] =
        "{\"prompt\":\"q\",\"chosen\":\" no, no, no, yes\",\"rejected\":\" no, no, no, no\"}";
    struct at_dataset_params p = strict(AT_ROWS_PAIR);
    struct at_dataset d;

    (void)state;
    p.max_length = 4;
    p.on_long = AT_LONG_CUT;
    assert_int_equal(load_text(&d, text, &p), AT_DATA);
    assert_non_null(strstr(at_message(), "chosen and rejected are the same once they are cut"));
    p.on_bad = AT_BAD_KEEP;
    OK(load_text(&d, text, &p));
    assert_non_null(strstr(warnings, "kept_row: "));
    at_dataset_release(&d);
}

/* Two rows of a line are counted, the line is said once. */
static void dataset_with_long_rows_of_one_line_says_it_once(void **state)
{
    struct at_dataset_params p = strict(AT_ROWS_LABELLED);
    struct at_dataset d;

    (void)state;
    p.on_long = AT_LONG_DROP;
    p.max_length = 16;
    OK(load_text(&d,
                 PAIR("q") "{\"prompt\":\"a long question about tea and bread and all the rest\","
                           "\"chosen\":\" yes\",\"rejected\":\" no\"}\n" PAIR("r"),
                 &p));
    assert_int_equal(d.n_rows, 4);
    assert_int_equal(d.n_dropped, 2);
    assert_non_null(strstr(warnings, ": 2 rows were dropped"));
    assert_non_null(strstr(warnings, "(line 2)"));
    at_dataset_release(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dataset_with_wrong_line_names_line_column_and_reason),
        cmocka_unit_test(row_of_sft_names_the_method_that_reads_it),
        cmocka_unit_test(dataset_with_useless_row_names_line_and_reason),
        cmocka_unit_test(dataset_with_many_wrong_lines_reports_each_up_to_a_limit),
        cmocka_unit_test(dataset_without_rows_is_an_error),
        cmocka_unit_test(dataset_of_conversations_without_template_is_an_error),
        cmocka_unit_test(dataset_with_long_rows_follows_the_policy),
        cmocka_unit_test(dataset_with_sides_equal_after_the_cut_is_an_error),
        cmocka_unit_test(dataset_with_long_rows_of_one_line_says_it_once),
    };

    return cmocka_run_group_tests(tests, open_model, close_model);
}
