/* links: base text */
#include "chat.h"
#include "json.h"
#include "os.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

enum { MAX_MESSAGES = 8 };
static char folder[] = "/tmp/at_chat_XXXXXX";

static const struct at_chat *find(const cJSON *row)
{
    const struct at_chat *chat = at_chat_find(at_json_find(row, "digest")->valuestring);

    if (!chat)
        fail_msg("%s: unknown", at_json_find(row, "name")->valuestring);
    return chat;
}

static const struct at_chat *recognise(const char *text)
{
    const struct at_chat *chat;

    if (at_chat_recognise(&chat, text, "here") != AT_OK)
        fail_msg("%s", at_message());
    return chat;
}

static size_t read_messages(struct at_message *out, const cJSON *list)
{
    size_t n = 0;

    for (const cJSON *m = list->child; m; m = m->next, n++) {
        assert_true(n < MAX_MESSAGES);
        out[n].role = at_json_find(m, "role")->valuestring;
        out[n].content = at_json_find(m, "content")->valuestring;
    }
    return n;
}

/* ---- against transformers ---- */

static void check_template(const cJSON *row, const cJSON *conversations)
{
    const struct at_chat *chat = find(row);
    const char *prompt = at_json_find(row, "generation_prompt")->valuestring;
    const cJSON *want = at_json_find(row, "rendered")->child;
    struct at_buf out = { 0 };

    assert_string_equal(at_chat_name(chat), at_json_find(row, "name")->valuestring);
    assert_string_equal(at_chat_end_of_turn(chat), at_json_find(row, "end_of_turn")->valuestring);
    for (const cJSON *c = conversations->child; c; c = c->next, want = want->next) {
        struct at_message messages[MAX_MESSAGES];
        const size_t n = read_messages(messages, c);
        at_buf_clear(&out);
        assert_int_equal(at_chat_render(chat, &out, messages, n, false), AT_OK);
        assert_string_equal(out.data, want->valuestring);
        at_buf_clear(&out);
        at_buf_puts(&out, "before ");
        assert_int_equal(at_chat_render(chat, &out, messages, n, true), AT_OK);
        assert_memory_equal(out.data, "before ", 7);
        assert_int_equal(out.n, 7 + strlen(want->valuestring) + strlen(prompt));
        assert_memory_equal(out.data + 7, want->valuestring, strlen(want->valuestring));
        assert_string_equal(out.data + out.n - strlen(prompt), prompt);
    }
    assert_null(want);
    at_buf_release(&out);
}

static void render_equals_transformers(void **state)
{
    cJSON *file;
    int n = 0;

    (void)state;
    assert_int_equal(at_json_load(&file, TEST_DIR "/unit/fixtures/chats.json"), AT_OK);
    for (const cJSON *row = at_json_find(file, "templates")->child; row; row = row->next, n++)
        check_template(row, at_json_find(file, "conversations"));
    assert_int_equal(n, 8);
    at_json_free(&file);
}

/* ---- recognition ---- */

/* ChatML, with a system message written when there is none. */
static const char *chatml(struct at_buf *out, const char *system)
{
    at_buf_clear(out);
    at_buf_puts(out, "{% for message in messages %}");
    if (system)
        at_buf_printf(out,
                      "{%% if loop.first and messages[0]['role'] != 'system' %%}{{ '<|im_start|>"
                      "system\n%s<|im_end|>\n' }}{%% endif %%}",
                      system);
    at_buf_puts(out, "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
                     "'<|im_end|>' + '\n'}}{% endfor %}");
    at_buf_puts(out, "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}");
    return out->data;
}

static void recognise_of_known_texts_names_them(void **state)
{
    struct at_buf text = { 0 };

    (void)state;
    assert_string_equal(at_chat_name(recognise(chatml(&text, NULL))), "ChatML");
    assert_null(at_chat_bos(recognise(text.data)));
    at_buf_puts(&text, "\n"); /* as an editor leaves it; Jinja drops it */
    assert_string_equal(at_chat_name(recognise(text.data)), "ChatML");
    chatml(&text, "You are a helpful assistant.");
    assert_string_equal(at_chat_name(recognise(text.data)), "Qwen2");
    chatml(&text, "You are a helpful AI assistant named SmolLM, trained by Hugging Face");
    assert_string_equal(at_chat_name(recognise(text.data)), "SmolLM2");
    at_buf_release(&text);
}

static void recognise_of_unknown_texts_lists_the_known_ones(void **state)
{
    static const char names[] = "ChatML, Llama 3, Llama 3.1, Qwen2, Qwen2.5, Qwen3, Qwen3 2507, "
                                "SmolLM2";
    const struct at_chat *chat;
    struct at_buf text = { 0 };

    (void)state;
    chatml(&text, "You are a pirate.");
    assert_int_equal(at_chat_recognise(&chat, text.data, "model/dir"), AT_DATA);
    assert_null(chat);
    assert_memory_equal(at_message(), "model/dir: ", 11);
    assert_non_null(strstr(at_message(), names));
    chatml(&text, NULL);
    at_buf_puts(&text, "\n\n"); /* one of them is part of what is rendered */
    assert_int_equal(at_chat_recognise(&chat, text.data, "x"), AT_DATA);
    assert_int_equal(at_chat_recognise(&chat, "", "x"), AT_DATA);
    at_buf_release(&text);
}

static void a_template_with_todays_date_is_refused(void **state)
{
    static const struct at_message hello = { "user", "Hello" };
    const struct at_chat *chat =
        at_chat_find("51e68c9f989467577fb67f8e1d45e58110c1ca737735c3662bd62c2d93112828");
    struct at_buf out = { 0 };

    (void)state;
    assert_non_null(chat);
    assert_string_equal(at_chat_name(chat), "Llama 3.2");
    assert_int_equal(at_chat_render(chat, &out, &hello, 1, true), AT_DATA);
    assert_non_null(strstr(at_message(), "today's date"));
    assert_int_equal(out.n, 0);
}

/* ---- messages that are refused ---- */

static void check_refused(const char *hex, const char *role, const char *content,
                          const char *message)
{
    const struct at_message messages[] = { { "user", "x" }, { role, content } };
    struct at_buf out = { 0 };

    assert_int_equal(at_chat_render(at_chat_find(hex), &out, messages, 2, false), AT_DATA);
    assert_memory_equal(at_message(), "message 2", 9);
    assert_non_null(strstr(at_message(), message));
    assert_int_equal(out.n, 0);
}

static void render_of_roles_it_would_change_is_refused(void **state)
{
    static const char chatml_hex[] =
        "827b1b44d7e035c3f79e595cfd2472e7f08a2764ccbb98d1d4e95d96f882ae0b";
    static const char llama31[] =
        "57a8c20780bfb41e320b31e7d20285cb33a0a23b65ddf18c92e65feadb207e71";
    static const char qwen25[] = "ef0829bf42c538a9bbd234c9664d95d9504fb8e6939b293dea2c595107b35170";
    const struct at_message odd = { "pirate", "Ahoy" };
    struct at_buf out = { 0 };

    (void)state;
    assert_string_equal(at_chat_bos(at_chat_find(llama31)), "<|begin_of_text|>");
    check_refused(qwen25, "tool", "4", "the role \"tool\"");
    check_refused(qwen25, "pirate", "Ahoy", "the role \"pirate\"");
    check_refused(llama31, "tool", "4", "the role \"tool\"");
    check_refused(llama31, "ipython", "4", "the role \"ipython\"");
    check_refused(llama31, "user", "\xFF", "not valid UTF-8");
    check_refused(chatml_hex, "\xC3", "x", "not valid UTF-8");
    assert_int_equal(at_chat_render(at_chat_find(chatml_hex), &out, &odd, 0, true), AT_DATA);
    /* ChatML writes any role as it is. */
    assert_int_equal(at_chat_render(at_chat_find(chatml_hex), &out, &odd, 1, false), AT_OK);
    assert_string_equal(out.data, "<|im_start|>pirate\nAhoy<|im_end|>\n");
    at_buf_release(&out);
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

/* The template that a tokenizer_config.json gives; NULL for none. */
static void check_config(const char *json, enum at_status status, const char *want)
{
    struct at_arena arena = { 0 };
    const char *text;

    write_file("tokenizer_config.json", json);
    assert_int_equal(at_chat_template_load(&arena, &text, folder), status);
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
    assert_non_null(strstr(at_message(), "\"default\""));
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
    assert_int_equal(at_chat_template_load(&arena, &text, folder), AT_OK);
    assert_null(text);
    at_arena_release(&arena);
}

static void load_of_this_repositorys_models_is_recognised(void **state)
{
    static const char *const dirs[] = { SOURCE_DIR "/data/toy/model",
                                        TEST_DIR "/golden/models/tiny_llama",
                                        TEST_DIR "/golden/models/tiny_qwen2" };
    struct at_arena arena = { 0 };
    const char *text;

    (void)state;
    for (size_t i = 0; i < AT_COUNT(dirs); i++) {
        assert_int_equal(at_chat_template_load(&arena, &text, dirs[i]), AT_OK);
        assert_string_equal(at_chat_name(recognise(text)), "ChatML");
    }
    at_arena_release(&arena);
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
        cmocka_unit_test(recognise_of_known_texts_names_them),
        cmocka_unit_test(recognise_of_unknown_texts_lists_the_known_ones),
        cmocka_unit_test(a_template_with_todays_date_is_refused),
        cmocka_unit_test(render_of_roles_it_would_change_is_refused),
        cmocka_unit_test(load_of_tokenizer_config_takes_a_text_or_default),
        cmocka_unit_test(load_takes_the_jinja_file_first),
        cmocka_unit_test(load_of_a_folder_without_files_gives_none),
        cmocka_unit_test(load_of_this_repositorys_models_is_recognised),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
