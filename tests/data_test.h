/* Shared by tests of data sets: a file to write rows to, a tokenizer and template, warnings. */
#ifndef DATA_TEST_H
#define DATA_TEST_H

#include "dataset.h"
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

#define MODEL TEST_DIR "/golden/models/tiny_llama"
#define OK(call)                                     \
    do {                                             \
        if ((call) != AT_OK)                         \
            fail_msg("%s: %s", #call, at_message()); \
    } while (0)

static char path[] = "/tmp/attune_dataset_XXXXXX";
static struct at_tokenizer *tokenizer;
static struct at_arena arena;
static struct at_chat *chatml;
static char warnings[8192]; /* "kind: text\n" of each */

static inline void keep_warning(const char *kind, const char *text)
{
    const size_t n = strlen(warnings);

    snprintf(warnings + n, sizeof warnings - n, "%s: %s\n", kind, text);
}

static inline int open_model(void **state)
{
    struct at_chat_templates templates;
    const int file = mkstemp(path);

    (void)state;
    if (file < 0 || close(file) != 0 || at_tokenizer_load(&tokenizer, MODEL) != AT_OK ||
        at_chat_templates_load(&templates, &arena, MODEL) != AT_OK ||
        at_chat_compile(&chatml, templates.items[0].text, MODEL,
                        &(struct at_chat_tokens){ .bos = "<|im_start|>" }) != AT_OK)
        return -1;
    at_warn_set_sink(keep_warning);
    return 0;
}

static inline int close_model(void **state)
{
    (void)state;
    at_chat_destroy(&chatml);
    at_tokenizer_destroy(&tokenizer);
    at_arena_release(&arena);
    return unlink(path);
}

/* Nothing is cut, every row of no use is an error. */
static inline struct at_dataset_params strict(enum at_row_kind kind)
{
    return (struct at_dataset_params){
        .kind = kind, .tokenizer = tokenizer, .chat = chatml, .completion_only = true
    };
}

static inline enum at_status load_text(struct at_dataset *out, const char *text,
                                       const struct at_dataset_params *params)
{
    const char *const paths[] = { path };

    warnings[0] = 0;
    OK(at_file_write_atomic(path, text, strlen(text)));
    return at_dataset_load(out, paths, 1, params);
}

#define PAIR(q) "{\"prompt\":\"" q "\",\"chosen\":\" yes\",\"rejected\":\" no\"}\n"

#define USER(text) "{\"role\":\"user\",\"content\":\"" text "\"}"
#define SAID(text) "{\"role\":\"assistant\",\"content\":\"" text "\"}"
#define SYSTEM(text) "{\"role\":\"system\",\"content\":\"" text "\"}"

#endif
