/* links: base text */
#include "chat.h"
#include "hash.h"
#include "json.h"
#include "os.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

enum { MAX_MESSAGES = 8 };
static const struct at_chat_tokens tokens = { "<s>", "</s>", "<pad>" };
static char folder[] = "/tmp/at_chat_XXXXXX";

static struct at_chat *compile(const char *text)
{
    struct at_chat *chat;

    if (at_chat_compile(&chat, text, "here", &tokens) != AT_OK)
        fail_msg("%s", at_message());
    return chat;
}

/* ---- against transformers ---- */

static struct at_chat *compile_row(const cJSON *row)
{
    const cJSON *text = at_json_find(row, "text");
    struct at_buf file = { 0 };
    struct at_chat *chat;
    char path[256];

    if (text)
        return compile(text->valuestring);
    snprintf(path, sizeof path, TEST_DIR "/unit/fixtures/chats/%s.jinja",
             at_json_find(row, "name")->valuestring);
    assert_int_equal(at_file_read(&file, path), AT_OK);
    chat = compile(file.data);
    at_buf_release(&file);
    return chat;
}

/* Whether the rendered text has this digest, or is refused where there is none. */
static bool is_right(const struct at_chat *chat, const cJSON *request, bool generation,
                     const char *want)
{
    struct at_message messages[MAX_MESSAGES];
    struct at_chat_request r = { .messages = messages,
                                 .add_generation_prompt = generation,
                                 .tools = at_json_find(request, "tools"),
                                 .variables = at_json_find(request, "chat_template_kwargs") };
    struct at_buf out = { 0 };
    bool right = false;

    for (const cJSON *m = at_json_find(request, "messages")->child; m; m = m->next) {
        assert_true(r.n < MAX_MESSAGES);
        messages[r.n++] = (struct at_message){ "", "", m };
    }
    at_buf_puts(&out, "before ");
    if (at_chat_render(chat, &out, &r) == AT_OK) {
        const struct at_digest digest = at_hash_bytes(out.data + 7, out.n - 7);
        right = want && strncmp(digest.hex, want, strlen(want)) == 0;
    } else {
        right = !want;
    }
    if (!right)
        print_message("%s\n", want ? out.data : "not refused");
    assert_memory_equal(out.data, "before ", 7);
    at_buf_release(&out);
    return right;
}

static int check_template(const cJSON *row, const cJSON *requests)
{
    struct at_chat *chat = compile_row(row);
    const cJSON *want = at_json_find(row, "rendered")->child;
    const char *end = at_json_find(row, "end_of_turn")->valuestring;
    int wrong = 0;

    if (end)
        assert_string_equal(at_chat_end_of_turn(chat), end);
    else
        assert_null(at_chat_end_of_turn(chat));
    for (const cJSON *r = requests->child; r; r = r->next)
        for (int generation = 0; generation < 2; generation++, want = want->next) {
            wrong += !is_right(chat, r, generation != 0, want->valuestring);
            if (wrong == 1)
                print_message("(%s)\n", at_json_find(row, "name")->valuestring);
        }
    assert_null(want);
    at_chat_destroy(&chat);
    return wrong;
}

static void render_equals_transformers(void **state)
{
    cJSON *file;
    int n = 0, wrong = 0;

    (void)state;
    assert_int_equal(at_json_load(&file, TEST_DIR "/unit/fixtures/chats.json"), AT_OK);
    for (const cJSON *row = at_json_find(file, "templates")->child; row; row = row->next, n++)
        wrong += check_template(row, at_json_find(file, "requests"));
    assert_int_equal(n, 19);
    assert_int_equal(wrong, 0);
    at_json_free(&file);
}

/* ---- what is said of a template ---- */

static void compile_finds_bos_date_and_marks(void **state)
{
    struct at_chat *chat = compile("{{ bos_token }}{{ messages[0].content }}");

    (void)state;
    assert_true(at_chat_writes_bos(chat));
    assert_null(at_chat_end_of_turn(chat));
    assert_false(at_chat_writes_date(chat) || at_chat_marks_generation(chat));
    at_chat_destroy(&chat);
    chat = compile("{% generation %}{{ messages[-1].content }}<e> x{% endgeneration %}"
                   "{{ strftime_now('%Y') }}");
    assert_false(at_chat_writes_bos(chat));
    assert_string_equal(at_chat_end_of_turn(chat), "<e>");
    assert_true(at_chat_writes_date(chat) && at_chat_marks_generation(chat));
    at_chat_destroy(&chat);
    chat = compile("{% macro f(generation) %}{{ generation }}{% endmacro %}{{ generation }}");
    assert_false(at_chat_marks_generation(chat)); /* a variable, no block */
    at_chat_destroy(&chat);
}

static void compile_tells_no_end_of_turn_from_an_unknown_one(void **state)
{
    static const struct {
        const char *text;
        bool ends_no_turn;
    } cases[] = {
        { "{% for m in messages %}{{ m.content }}\n{% endfor %}", true },
        { "{% for m in messages %}{{ m.content }}<e>{% endfor %}", false },
        { "{{ raise_exception('one system message is needed') }}", false },
        { "{{ messages[0].content }}", false },
    };

    (void)state;
    for (size_t i = 0; i < AT_COUNT(cases); i++) {
        struct at_chat *chat = compile(cases[i].text);
        assert_int_equal(at_chat_ends_no_turn(chat), cases[i].ends_no_turn);
        at_chat_destroy(&chat);
    }
}

static void compile_of_what_is_wrong_names_line_and_construct(void **state)
{
    struct at_chat *chat;

    (void)state;
    assert_int_equal(at_chat_compile(&chat, "a\n{% include 'x' %}", "model/dir", &tokens), AT_DATA);
    assert_null(chat);
    assert_string_equal(at_message(),
                        "model/dir: chat template: line 2: the tag \"include\" is not "
                        "supported here");
    assert_int_equal(at_chat_compile(&chat, "\n\n{{ a | pprint }}", "x", &tokens), AT_DATA);
    assert_string_equal(at_message(),
                        "x: chat template: line 3: the filter \"pprint\" is not supported");
}

static void check_refused(const char *text, const struct at_message *message, size_t n,
                          const char *want)
{
    struct at_chat *chat = compile(text);
    const struct at_chat_request request = { .messages = message, .n = n };
    struct at_buf out = { 0 };

    assert_int_equal(at_chat_render(chat, &out, &request), AT_DATA);
    assert_string_equal(at_message(), want);
    at_buf_release(&out);
    at_chat_destroy(&chat);
}

static void render_of_what_cannot_be_says_why(void **state)
{
    static const struct at_message good = { "user", "x", NULL }, bad = { "user", "\xFF", NULL };

    (void)state;
    check_refused("{{ messages }}", &good, 0, "a conversation without messages cannot be rendered");
    check_refused("{{ messages }}", &bad, 1, "message 1 is not valid UTF-8");
    check_refused("\n{{ raise_exception('No ' ~ messages[0].role) }}", &good, 1,
                  "here: chat template: line 2: the template refuses the conversation: No user");
}

static void check_variable(const char *name, enum at_status want)
{
    static const struct at_message message = { "user", "x", NULL };
    struct at_chat *chat = compile("{{ messages }}");
    cJSON *variables = cJSON_CreateObject();
    const struct at_chat_request request = { .messages = &message, .n = 1, .variables = variables };
    struct at_buf out = { 0 }, sentence = { 0 };

    assert_non_null(cJSON_AddNullToObject(variables, name));
    assert_int_equal(at_chat_render(chat, &out, &request), want);
    at_buf_printf(&sentence, "\"chat_template_kwargs\" may not set \"%s\"; remove it there", name);
    if (want != AT_OK)
        assert_string_equal(at_message(), sentence.data);
    cJSON_Delete(variables);
    at_buf_release(&out);
    at_buf_release(&sentence);
    at_chat_destroy(&chat);
}

/* transformers: TypeError, got multiple values for the argument. */
static void render_refuses_variables_in_place_of_the_conversation(void **state)
{
    (void)state;
    check_variable("messages", AT_DATA);
    check_variable("tools", AT_DATA);
    check_variable("add_generation_prompt", AT_DATA);
    check_variable("documents", AT_OK);
    check_variable("bos_token", AT_OK);
}

/* ---- files ---- */

static void write_file(const char *name, const char *text)
{
    char path[128];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(at_file_write_atomic(path, text, strlen(text)), AT_OK);
}

static void remove_file(const char *name)
{
    char path[128];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    (void)unlink(path);
}

static enum at_status pick(struct at_arena *arena, const char **text, const char *name)
{
    struct at_chat_templates all;
    const enum at_status st = at_chat_templates_load(&all, arena, folder);

    return st == AT_OK ? at_chat_template_pick(text, &all, name, folder) : st;
}

/* The template that a tokenizer_config.json gives; NULL for none. */
static void check_config(const char *json, enum at_status status, const char *want)
{
    struct at_arena arena = { 0 };
    const char *text = NULL;

    write_file("tokenizer_config.json", json);
    assert_int_equal(pick(&arena, &text, NULL), status);
    if (want)
        assert_string_equal(text, want);
    else
        assert_null(text);
    at_arena_release(&arena);
}

static void load_of_tokenizer_config_takes_a_text_or_default(void **state)
{
    (void)state;
    check_config("{}", AT_OK, NULL);
    check_config("{\"chat_template\": null}", AT_OK, NULL);
    check_config("{\"chat_template\": \"a\\nb\"}", AT_OK, "a\nb");
    check_config("{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"t\"},"
                 "{\"name\": \"default\", \"template\": \"d\"}]}",
                 AT_OK, "d");
    check_config("{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"t\"}]}", AT_DATA,
                 NULL);
    assert_non_null(
        strstr(at_message(), "called \"default\"; choose one with --chat_template: tool_use"));
    check_config("{\"chat_template\": [{\"name\": \"default\"}]}", AT_DATA, NULL);
    check_config("{\"chat_template\": 3}", AT_DATA, NULL);
    check_config("{\"chat_template\":", AT_DATA, NULL);
}

static void load_takes_the_jinja_file_first(void **state)
{
    (void)state;
    write_file("chat_template.jinja", "from a file\n");
    check_config("{\"chat_template\": \"from the configuration\"}", AT_OK, "from a file\n");
    remove_file("chat_template.jinja");
    check_config("{\"chat_template\": \"from the configuration\"}", AT_OK,
                 "from the configuration");
}

static void load_of_a_folder_without_files_gives_none(void **state)
{
    struct at_arena arena = { 0 };
    const char *text = "x";

    (void)state;
    remove_file("tokenizer_config.json");
    assert_int_equal(pick(&arena, &text, NULL), AT_OK);
    assert_null(text);
    assert_int_equal(pick(&arena, &text, "rag"), AT_DATA);
    assert_non_null(strstr(at_message(), "there are: none"));
    at_arena_release(&arena);
}

/* As transformers has it: files hide the configuration; the last of equal names counts. */
static void load_knows_templates_by_name(void **state)
{
    struct at_arena arena = { 0 };
    const char *text = NULL;
    char path[128];

    (void)state;
    write_file(
        "tokenizer_config.json",
        "{\"chat_template\": [{\"name\": \"default\", \"template\": \"a\"},"
        "{\"name\": \"rag\", \"template\": \"b\"}, {\"name\": \"rag\", \"template\": \"c\"}]}");
    assert_int_equal(pick(&arena, &text, "rag"), AT_OK);
    assert_string_equal(text, "c");
    assert_int_equal(pick(&arena, &text, "tool_use"), AT_DATA);
    assert_non_null(strstr(at_message(), "no chat template is called \"tool_use\""));
    assert_non_null(strstr(at_message(), "there are: default, rag"));
    snprintf(path, sizeof path, "%s/additional_chat_templates", folder);
    assert_int_equal(mkdir(path, 0777), 0);
    write_file("additional_chat_templates/tool_use.jinja", "t\n");
    write_file("additional_chat_templates/.jinja", "x");
    write_file("additional_chat_templates/other.txt", "x");
    assert_int_equal(pick(&arena, &text, "tool_use"), AT_OK);
    assert_string_equal(text, "t\n");
    assert_int_equal(pick(&arena, &text, NULL), AT_DATA); /* none is called default by now */
    assert_non_null(strstr(at_message(), "--chat_template: tool_use"));
    write_file("chat_template.jinja", "d");
    assert_int_equal(pick(&arena, &text, NULL), AT_OK);
    assert_string_equal(text, "d");
    remove_file("chat_template.jinja");
    remove_file("additional_chat_templates/tool_use.jinja");
    remove_file("additional_chat_templates/.jinja");
    remove_file("additional_chat_templates/other.txt");
    assert_int_equal(rmdir(path), 0);
    at_arena_release(&arena);
}

static void rows_with_tools_take_the_template_for_them(void **state)
{
    const struct at_message message = { "user", "x", NULL };
    cJSON *tools = cJSON_CreateArray();
    struct at_chat_request request = { .messages = &message, .n = 1 };
    struct at_buf out = { 0 };
    struct at_chat *chat;

    (void)state;
    assert_int_equal(at_chat_compile(&chat, "plain", "m", &(struct at_chat_tokens){ 0 }), AT_OK);
    assert_int_equal(at_chat_compile_tools(chat, "tools", "m"), AT_OK);
    assert_int_equal(at_chat_render(chat, &out, &request), AT_OK);
    request.tools = tools;
    assert_int_equal(at_chat_render(chat, &out, &request), AT_OK);
    assert_string_equal(out.data, "plaintools");
    at_chat_destroy(&chat);
    /* one that is wrong is in the way of rows with tools alone */
    assert_int_equal(at_chat_compile(&chat, "plain", "m", &(struct at_chat_tokens){ 0 }), AT_OK);
    assert_int_equal(at_chat_compile_tools(chat, "{% nonsense %}", "m"), AT_OK);
    assert_int_equal(at_chat_render(chat, &out, &request), AT_DATA);
    assert_non_null(strstr(at_message(), "tool_use: line 1: the tag \"nonsense\""));
    request.tools = NULL;
    assert_int_equal(at_chat_render(chat, &out, &request), AT_OK);
    at_chat_destroy(&chat);
    at_buf_release(&out);
    cJSON_Delete(tools);
}

static int set_up(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    remove_file("tokenizer_config.json");
    remove_file("chat_template.jinja");
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(render_equals_transformers),
        cmocka_unit_test(compile_finds_bos_date_and_marks),
        cmocka_unit_test(compile_tells_no_end_of_turn_from_an_unknown_one),
        cmocka_unit_test(compile_of_what_is_wrong_names_line_and_construct),
        cmocka_unit_test(render_of_what_cannot_be_says_why),
        cmocka_unit_test(render_refuses_variables_in_place_of_the_conversation),
        cmocka_unit_test(load_of_tokenizer_config_takes_a_text_or_default),
        cmocka_unit_test(load_takes_the_jinja_file_first),
        cmocka_unit_test(load_of_a_folder_without_files_gives_none),
        cmocka_unit_test(load_knows_templates_by_name),
        cmocka_unit_test(rows_with_tools_take_the_template_for_them),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
