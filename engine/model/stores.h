/* Models by name in the stores that other programs keep on this machine. Never the network.
 *
 *   hf:ORG/NAME[@REVISION][/FILE.gguf]   Hugging Face's cache: the first of HF_HUB_CACHE,
 *       HUGGINGFACE_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub,
 *       ~/.cache/huggingface/hub that is set, as huggingface_hub looks; a revision is a branch, a
 *       tag or a whole commit, main where none is named
 *   ollama:[[HOST/]USER/]NAME[:TAG]      Ollama's: OLLAMA_MODELS, else ~/.ollama/models, then
 *       /usr/share/ollama/.ollama/models; latest where no tag is named
 */
#ifndef AT_STORES_H
#define AT_STORES_H

#include "mem.h"

struct at_found_model {
    const char *path;  /* a folder or a file */
    const char *fetch; /* the command that fetches a store's model; NULL of a path */
    /* "org/name" on the hub, as PEFT names a base, and the revision that was asked for, or NULL:
     * main; without a name for a file of the hub, which PEFT cannot load. */
    const char *hub_name, *revision;
    const char *unread; /* ollama: kinds of layers beside the weights, "template, params", none of
                         * which is read; NULL: there are none */
    bool has_adapter;   /* ollama: one of them changes the weights */
};
/* Whether a text names a model of a store; else it is a path. */
bool at_model_is_named(const char *text);
/* A path is found as it is, whether something lies there or not. A name that no store has is
 * AT_NOT_FOUND and says where was looked and what fetches it; a name that cannot be one is
 * AT_USAGE; a store's file that is not as its program writes it is AT_DATA. Strings live in
 * `arena`. */
AT_CHECKED at_model_find(struct at_found_model *out, struct at_arena *arena, const char *text);

#endif
