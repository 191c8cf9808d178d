/* Chat templates: conversations as text, byte for byte as transformers' apply_chat_template writes
 * them, by the template's own text (jinja.h). */
#ifndef AT_CHAT_H
#define AT_CHAT_H

#include "jinja.h"
#include "tokenizer.h"

struct at_message {
    const char *role;    /* "system", "user", "assistant", ... */
    const char *content; /* UTF-8 */
    const cJSON *json;   /* the whole message with all its keys; NULL: role and content are all */
};
struct at_chat; /* a template; read-only, may be used by several threads */

/* The tokenizer's special tokens as text; NULL where it has none. */
struct at_chat_tokens {
    const char *bos, *eos, *pad;
};
/* Parses the template; `name` is what errors call its place. AT_DATA with line and construct when
 * it is wrong or uses what is not supported. Texts are copied. */
AT_CHECKED at_chat_compile(struct at_chat **out, const char *template_text, const char *name,
                           const struct at_chat_tokens *tokens);
void at_chat_destroy(struct at_chat **chat);
/* What the template writes behind an assistant's message, up to the first blank, such as
 * "<|im_end|>"; NULL when it writes nothing there, or does not show the message of the question and
 * answer that are tried. */
const char *at_chat_end_of_turn(const struct at_chat *chat);
/* Whether it is known to write nothing there, so that a model would not learn to end. */
bool at_chat_ends_no_turn(const struct at_chat *chat);
/* Whether what it writes begins with the tokenizer's BOS. */
bool at_chat_writes_bos(const struct at_chat *chat);
bool at_chat_writes_date(const struct at_chat *chat); /* it asks for today's */
/* Whether {% generation %} says what the assistant writes. */
bool at_chat_marks_generation(const struct at_chat *chat);
/* Another template of the same model, which rows with tools are rendered by, as transformers does
 * where the model has one called so and none is named. One that is wrong or not supported makes
 * these rows AT_DATA when they are rendered. */
#define AT_CHAT_TOOLS "tool_use"
AT_CHECKED at_chat_compile_tools(struct at_chat *chat, const char *template_text, const char *name);

/* A model's templates by name; of equal names the last one counts. Strings live in an arena. */
#define AT_CHAT_DEFAULT "default"
struct at_chat_template {
    const char *name, *text;
};
struct at_chat_templates {
    struct at_chat_template *items;
    size_t n;
};
/* Those of a folder: chat_template.jinja, which is "default", and
 * additional_chat_templates/NAME.jinja; where there are none, chat_template of
 * tokenizer_config.json, a text or a list. */
AT_CHECKED at_chat_templates_load(struct at_chat_templates *out, struct at_arena *arena,
                                  const char *dir);
/* Whether a text names a template, not a file: it has neither a slash nor a dot. */
bool at_chat_template_is_name(const char *text);
AT_CHECKED at_chat_template_add(struct at_chat_templates *out, struct at_arena *arena,
                                const char *name, const char *text);
const char *at_chat_template_find(const struct at_chat_templates *templates, const char *name);
/* The text of the one that is named, else of "default"; NULL where nothing is named and there are
 * none. AT_DATA naming the choices where it is not among them; place: whose they are. */
AT_CHECKED at_chat_template_pick(const char **out, const struct at_chat_templates *templates,
                                 const char *name, const char *place);

struct at_chat_request {
    const struct at_message *messages;
    size_t n;
    bool add_generation_prompt;
    const cJSON *tools;     /* a list of schemas, or NULL */
    const cJSON *variables; /* an object with more of the template's variables, or NULL; not
                             * "messages", "tools", "add_generation_prompt": AT_DATA */
    struct at_spans *spans; /* appended: what {% generation %} blocks wrote; or NULL */
};
/* Appends the rendered text. No messages, invalid UTF-8 and what the template itself refuses are
 * AT_DATA. */
AT_CHECKED at_chat_render(const struct at_chat *chat, struct at_buf *out,
                          const struct at_chat_request *request);

/* Appends the ids of a prompt: the messages, behind `system` (or NULL) where the first one is no
 * system message, and the opening of the assistant's turn. */
AT_CHECKED at_chat_encode(const struct at_chat *chat, const struct at_tokenizer *tokenizer,
                          struct at_ids *out, const char *system, const struct at_message *messages,
                          size_t n);
/* The token that ends a turn: at_chat_end_of_turn() as a whole, else its first one where that is
 * special; -1: none. */
AT_CHECKED at_chat_end_id(int32_t *out, const struct at_chat *chat,
                          const struct at_tokenizer *tokenizer);

#endif
