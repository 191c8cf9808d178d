/* A model as users name it, opened: weights, sizes, tokenizer and chat template of one source (a
 * Hugging Face folder or a GGUF file, or what a store has by this name: stores.h). */
#ifndef AT_BUNDLE_H
#define AT_BUNDLE_H

#include "chat.h"
#include "model.h"
#include "stores.h"
#include "tokenizer.h"

struct at_bundle_params {
    const char *path;
    const char *tokenizer_dir;      /* or hf:ORG/NAME; NULL: the model's own */
    const char *chat_template_path; /* file, or a name among the model's; NULL: the model's own */
    bool no_weights;                /* sizes from config.json only (init_from_scratch, tokenize) */
    bool tokenizer_only;            /* nothing of the model itself is looked at */
    bool header_only;               /* at_weights_open_header() is enough */
    struct at_quantise_params quantise;
};
struct at_bundle {
    struct at_arena arena;
    const char *path;                /* where it was found */
    const char *hub_name, *revision; /* as at_found_model has them */
    const char *fetch;               /* the command that fetches it into its store, or NULL */
    struct at_weights *weights;      /* NULL with no_weights or tokenizer_only */
    struct at_model_config config;
    struct at_tokenizer *tokenizer;
    const char *template_text; /* NULL when the model has none */
    const char *tools_text;    /* of the template for rows with tools, or NULL */
    struct at_chat *chat;      /* NULL when there is none, or it is of no use */
    const char *chat_problem;  /* why a template that is there is of no use, or NULL */
    const char *tokenizer_dir; /* folder with tokenizer files, NULL for GGUF */
};
/* A chat template of the model that is missing or not supported is not an error here (plain rows
 * need none); one given by chat_template_path must be good (AT_DATA). */
AT_CHECKED at_bundle_open(struct at_bundle *out, const struct at_bundle_params *params);
/* A warning where a sequence of n tokens is longer than it was made for. */
void at_bundle_check_length(const struct at_bundle *bundle, uint32_t n);
void at_bundle_close(struct at_bundle *bundle);

#endif
