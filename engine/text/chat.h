/* Chat templates, exactly recognised: a template's text is looked up in a table of known ones and
 * rendered by the row's function, byte for byte as transformers does. Any other is AT_DATA with the
 * list of what is known. */
#ifndef AT_CHAT_H
#define AT_CHAT_H

#include "mem.h"
#include "status.h"

struct at_message {
    const char *role;    /* "system", "user", "assistant", ... */
    const char *content; /* UTF-8 */
};
struct at_chat; /* a known template */

/* Finds the template by its text; `name` is what errors call its place. */
AT_CHECKED at_chat_recognise(const struct at_chat **out, const char *template_text,
                             const char *name);
/* The template whose text (without a newline at its end) has this digest of hash.h, or NULL. */
const struct at_chat *at_chat_find(const char *hex);
const char *at_chat_name(const struct at_chat *chat);
/* End-of-turn marker of the template's assistant turns, such as "<|im_end|>". */
const char *at_chat_end_of_turn(const struct at_chat *chat);
/* What the template writes as bos_token, which the tokenizer's BOS has to be; NULL: it has none. */
const char *at_chat_bos(const struct at_chat *chat);
/* Reads the template of a folder: chat_template.jinja, else chat_template of tokenizer_config.json
 * (a text, or a list, of which "default" is taken); *out NULL if none. */
AT_CHECKED at_chat_template_load(struct at_arena *arena, const char **out, const char *dir);
/* Appends the rendered text. No messages, and roles that the template refuses, would leave out or
 * takes for tools, are AT_DATA. */
AT_CHECKED at_chat_render(const struct at_chat *chat, struct at_buf *out,
                          const struct at_message *messages, size_t n, bool add_generation_prompt);

#endif
