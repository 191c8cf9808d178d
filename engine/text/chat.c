#include "chat.h"
#include "hash.h"
#include "json.h"
#include "os.h"
#include "tokenizer_parts.h"

#include <string.h>

/* A part of a message. */
struct span {
    const char *text;
    size_t n;
};

/* Roles that a template is rendered with. */
enum roles {
    ROLES_ANY,      /* written as they are */
    ROLES_NO_TOOLS, /* any, but "tool" and "ipython" would be rendered in another way */
    ROLES_PLAIN     /* system, user, assistant: others would be left out or are tools' */
};

typedef void render(const struct at_chat *chat, struct at_buf *out,
                    const struct at_message *messages, size_t n);
struct at_chat {
    const char *name;
    const char *end_of_turn;
    const char *generation_prompt;
    const char *bos;            /* what the template calls bos_token; NULL: not used */
    const char *default_system; /* written when the first message is no system message */
    const char *date;           /* Llama 3.1's system block: "Today Date" */
    const char *refused;        /* why it cannot be rendered; NULL: it can */
    enum roles roles;
    bool thinks; /* Qwen3: replies behind the last question have a <think> block */
    render *render;
    const char *digest; /* of the text without a newline at its end, which Jinja drops */
};

static bool is_role(const struct at_message *message, const char *role)
{
    return strcmp(message->role, role) == 0;
}

/* ---- parts of a text, as Python's str methods cut them ---- */

static struct span span_of(const char *text)
{
    return (struct span){ text, strlen(text) };
}

static void put_span(struct at_buf *out, struct span s)
{
    at_buf_put(out, s.text, s.n);
}

/* str.isspace(): White_Space and the four separators of ASCII. */
static bool is_python_space(uint32_t code)
{
    return at_is_space(code) || (code >= 0x1C && code <= 0x1F);
}

/* str.strip() of valid UTF-8 */
static struct span strip(struct span s)
{
    size_t begin = s.n, end = 0;

    for (size_t i = 0, n = 0; i < s.n; i += n) {
        if (is_python_space(at_utf8_get(s.text + i, &n)))
            continue;
        if (begin == s.n)
            begin = i;
        end = i + n;
    }
    return (struct span){ s.text + begin, end > begin ? end - begin : 0 };
}

/* lstrip('\n') */
static struct span drop_newlines_before(struct span s)
{
    while (s.n > 0 && s.text[0] == '\n') {
        s.text++;
        s.n--;
    }
    return s;
}

/* rstrip('\n') */
static struct span drop_newlines_behind(struct span s)
{
    while (s.n > 0 && s.text[s.n - 1] == '\n')
        s.n--;
    return s;
}

/* Offset of the first or the last mark, or s.n when there is none. */
static size_t find_mark(struct span s, const char *mark, bool last)
{
    const size_t n = strlen(mark);
    size_t found = s.n;

    for (size_t i = 0; i + n <= s.n; i++)
        if (memcmp(s.text + i, mark, n) == 0) {
            found = i;
            if (!last)
                break;
        }
    return found;
}

/* split(mark)[0] */
static struct span before_first(struct span s, const char *mark)
{
    s.n = find_mark(s, mark, false);
    return s;
}

/* split(mark)[-1] */
static struct span behind_last(struct span s, const char *mark)
{
    const size_t at = find_mark(s, mark, true);

    if (at < s.n) {
        s.text += at + strlen(mark);
        s.n -= at + strlen(mark);
    }
    return s;
}

/* ---- ChatML: Qwen, SmolLM2 ---- */

static void put_turn(struct at_buf *out, const char *role, struct span content)
{
    at_buf_puts(out, "<|im_start|>");
    at_buf_puts(out, role);
    at_buf_puts(out, "\n");
    put_span(out, content);
    at_buf_puts(out, "<|im_end|>\n");
}

/* What tools answered stands in a user's turn. */
static bool is_tool_response(const char *content)
{
    static const char begin[] = "<tool_response>", end[] = "</tool_response>";
    const size_t n = strlen(content);

    return strncmp(content, begin, sizeof begin - 1) == 0 && n >= sizeof end - 1 &&
           strcmp(content + n - (sizeof end - 1), end) == 0;
}

/* Index of the last question; n - 1 when there is none. */
static size_t last_question(const struct at_message *messages, size_t n)
{
    for (size_t i = n; i-- > 0;)
        if (is_role(&messages[i], "user") && !is_tool_response(messages[i].content))
            return i;
    return n - 1;
}

static void put_thinking_turn(struct at_buf *out, const struct at_message *message, bool answers,
                              bool is_last)
{
    static const char end_mark[] = "</think>";
    struct span content = span_of(message->content), thought = { "", 0 };

    if (find_mark(content, end_mark, false) < content.n) {
        thought = drop_newlines_behind(before_first(content, end_mark));
        thought = drop_newlines_before(behind_last(thought, "<think>"));
        content = drop_newlines_before(behind_last(content, end_mark));
    }
    if (!answers || (!is_last && thought.n == 0)) {
        put_turn(out, message->role, content);
        return;
    }
    at_buf_puts(out, "<|im_start|>assistant\n<think>\n");
    put_span(out, thought);
    at_buf_puts(out, "\n</think>\n\n");
    put_span(out, drop_newlines_before(content));
    at_buf_puts(out, "<|im_end|>\n");
}

static void render_chatml(const struct at_chat *chat, struct at_buf *out,
                          const struct at_message *messages, size_t n)
{
    const size_t question = last_question(messages, n);

    if (chat->default_system && !is_role(&messages[0], "system"))
        put_turn(out, "system", span_of(chat->default_system));
    for (size_t i = 0; i < n; i++) {
        if (chat->thinks && is_role(&messages[i], "assistant"))
            put_thinking_turn(out, &messages[i], i > question, i == n - 1);
        else
            put_turn(out, messages[i].role, span_of(messages[i].content));
    }
}

/* ---- Llama 3 ---- */

static void put_header(struct at_buf *out, const char *role)
{
    at_buf_puts(out, "<|start_header_id|>");
    at_buf_puts(out, role);
    at_buf_puts(out, "<|end_header_id|>\n\n");
}

static void render_llama3(const struct at_chat *chat, struct at_buf *out,
                          const struct at_message *messages, size_t n)
{
    size_t first = 0;

    at_buf_puts(out, chat->bos);
    if (chat->date) { /* the system block is written even when there is no system message */
        put_header(out, "system");
        at_buf_puts(out, "Cutting Knowledge Date: December 2023\nToday Date: ");
        at_buf_puts(out, chat->date);
        at_buf_puts(out, "\n\n");
        if (is_role(&messages[0], "system")) {
            put_span(out, strip(span_of(messages[0].content)));
            first = 1;
        }
        at_buf_puts(out, chat->end_of_turn);
    }
    for (size_t i = first; i < n; i++) {
        put_header(out, messages[i].role);
        put_span(out, strip(span_of(messages[i].content)));
        at_buf_puts(out, chat->end_of_turn);
    }
}

/* ---- the table ---- */

#define CHATML                                            \
    .end_of_turn = "<|im_end|>", .render = render_chatml, \
    .generation_prompt = "<|im_start|>assistant\n"
#define LLAMA3                                                                        \
    .end_of_turn = "<|eot_id|>", .render = render_llama3, .bos = "<|begin_of_text|>", \
    .generation_prompt = "<|start_header_id|>assistant<|end_header_id|>\n\n"

/* One row a text, sorted by name; rows of one name stand together.
 * tests/unit/fixtures/make_chats.py has the texts. */
static const struct at_chat known[] = {
    { .name = "ChatML",
      CHATML,
      .digest = "827b1b44d7e035c3f79e595cfd2472e7f08a2764ccbb98d1d4e95d96f882ae0b" },
    { .name = "Llama 3",
      LLAMA3,
      .digest = "05facb19f527d33e1ba2066abb9656dc46ff7f61a33d5419bbd0f773d3519478" },
    { .name = "Llama 3.1",
      LLAMA3,
      .date = "26 Jul 2024",
      .roles = ROLES_NO_TOOLS,
      .digest = "57a8c20780bfb41e320b31e7d20285cb33a0a23b65ddf18c92e65feadb207e71" },
    { .name = "Llama 3.2",
      LLAMA3,
      .refused = "it writes today's date, so that no two days would agree; name a file with that "
                 "of Llama 3.1, which writes 26 Jul 2024",
      .digest = "51e68c9f989467577fb67f8e1d45e58110c1ca737735c3662bd62c2d93112828" },
    { .name = "Qwen2",
      CHATML,
      .default_system = "You are a helpful assistant.",
      .digest = "7cb398e81113b4aee262bd9621f9186062cf6d071f87ac2c0f735f064e2a3e50" },
    { .name = "Qwen2.5",
      CHATML,
      .default_system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
      .roles = ROLES_PLAIN,
      .digest = "ef0829bf42c538a9bbd234c9664d95d9504fb8e6939b293dea2c595107b35170" },
    { .name = "Qwen3",
      CHATML,
      .thinks = true,
      .roles = ROLES_PLAIN,
      .digest = "9f5090d79b6197a19b77603444b9cf5282ab6ca2ca628f365f76bd94ce22418d" },
    { .name = "Qwen3",
      CHATML,
      .thinks = true,
      .roles = ROLES_PLAIN,
      .digest = "b9dfc3e866d8e1360059a0d3bb3094ef035279d0a5bdb60bab369537cf0b9ece" },
    { .name = "Qwen3 2507",
      CHATML,
      .roles = ROLES_PLAIN,
      .digest = "d3a0def017a2375da38d22f044e3ec02719b4733de9697f5dd023c0480456d6a" },
    { .name = "SmolLM2",
      CHATML,
      .default_system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
      .digest = "786dc803909c78d9d03264ecb6d82c6bcbbe28070b7e342b474af75e0d1c93db" },
};

/* The names, each once. */
static void put_names(struct at_buf *out)
{
    const char *last = "";

    for (size_t i = 0; i < AT_COUNT(known); i++) {
        if (known[i].refused || strcmp(known[i].name, last) == 0)
            continue;
        if (out->n > 0)
            at_buf_puts(out, ", ");
        at_buf_puts(out, known[i].name);
        last = known[i].name;
    }
}

const struct at_chat *at_chat_find(const char *hex)
{
    for (size_t i = 0; i < AT_COUNT(known); i++)
        if (strcmp(known[i].digest, hex) == 0)
            return &known[i];
    return NULL;
}

AT_CHECKED at_chat_recognise(const struct at_chat **out, const char *template_text,
                             const char *name)
{
    enum at_status st = AT_OK;
    size_t n = strlen(template_text);
    const struct at_chat *chat = NULL;
    struct at_buf names = { 0 };
    struct at_digest digest;

    *out = NULL;
    n -= n > 0 && template_text[n - 1] == '\n';
    digest = at_hash_bytes(template_text, n);
    chat = at_chat_find(digest.hex);
    if (chat && chat->refused)
        FAIL(AT_DATA, "%s: the chat template is that of %s: %s", name, chat->name, chat->refused);
    *out = chat;
    if (chat)
        goto done;
    put_names(&names);
    TRY(at_buf_status(&names));
    st = at_fail(AT_DATA,
                 "%s: the chat template (BLAKE2b %.16s) is not one that this version renders; "
                 "name a file that holds a known one (%s)",
                 name, digest.hex, names.data);
done:
    at_buf_release(&names);
    return st;
}

const char *at_chat_name(const struct at_chat *chat)
{
    return chat->name;
}

const char *at_chat_end_of_turn(const struct at_chat *chat)
{
    return chat->end_of_turn;
}

const char *at_chat_bos(const struct at_chat *chat)
{
    return chat->bos;
}

/* ---- rendering ---- */

static bool takes_role(const struct at_chat *chat, const struct at_message *message)
{
    switch (chat->roles) {
    case ROLES_ANY:
        return true;
    case ROLES_NO_TOOLS:
        return !is_role(message, "tool") && !is_role(message, "ipython");
    case ROLES_PLAIN:
        return is_role(message, "system") || is_role(message, "user") ||
               is_role(message, "assistant");
    }
    AT_BUG("a chat template without a list of roles");
}

static AT_CHECKED check_message(const struct at_chat *chat, const struct at_message *message,
                                size_t number)
{
    const size_t n_role = strlen(message->role), n = strlen(message->content);

    if (at_utf8_check(message->role, n_role) < n_role || at_utf8_check(message->content, n) < n)
        return at_fail(AT_DATA, "message %zu is not valid UTF-8", number);
    if (!takes_role(chat, message))
        return at_fail(AT_DATA,
                       "message %zu: the role \"%s\" cannot be rendered with the template of %s; "
                       "use system, user and assistant",
                       number, message->role, chat->name);
    return AT_OK;
}

AT_CHECKED at_chat_render(const struct at_chat *chat, struct at_buf *out,
                          const struct at_message *messages, size_t n, bool add_generation_prompt)
{
    enum at_status st = AT_OK;

    if (n == 0)
        FAIL(AT_DATA, "a conversation without messages cannot be rendered");
    if (chat->refused)
        FAIL(AT_DATA, "the chat template of %s: %s", chat->name, chat->refused);
    for (size_t i = 0; i < n; i++)
        TRY(check_message(chat, &messages[i], i + 1));
    chat->render(chat, out, messages, n);
    if (add_generation_prompt)
        at_buf_puts(out, chat->generation_prompt);
    TRY(at_buf_status(out));
done:
    return st;
}

/* ---- files ---- */

/* A list of templates with names: the one called "default", of several the last. */
static AT_CHECKED find_default(const char **out, const cJSON *list, const char *path)
{
    enum at_status st = AT_OK;
    const char *name = NULL, *text = NULL;

    for (const cJSON *item = list->child; item; item = item->next) {
        TRY(at_json_need_string(&name, item, "name", path));
        TRY(at_json_need_string(&text, item, "template", path));
        if (strcmp(name, "default") == 0)
            *out = text;
    }
    if (!*out)
        FAIL(AT_DATA, "%s: none of the chat templates is called \"default\"; name a file with one",
             path);
done:
    return st;
}

AT_CHECKED at_chat_template_load(struct at_arena *arena, const char **out, const char *dir)
{
    enum at_status st = AT_OK;
    const char *found = NULL;
    char *path = NULL, *copy = NULL;
    struct at_buf text = { 0 };
    cJSON *config = NULL;
    const cJSON *list;

    *out = NULL;
    TRY(at_path_join(arena, &path, dir, "chat_template.jinja"));
    if (at_path_exists(path)) {
        TRY(at_file_read(&text, path));
        found = text.data ? text.data : "";
    } else {
        TRY(at_path_join(arena, &path, dir, "tokenizer_config.json"));
        if (!at_path_exists(path))
            goto done;
        TRY(at_json_load(&config, path));
        list = at_json_find(config, "chat_template");
        if (cJSON_IsArray(list))
            TRY(find_default(&found, list, path));
        else
            TRY(at_json_get_string(&found, config, "chat_template", path));
    }
    if (!found)
        goto done;
    TRY(at_arena_strdup(arena, &copy, found));
    *out = copy;
done:
    at_buf_release(&text);
    at_json_free(&config);
    return st;
}
