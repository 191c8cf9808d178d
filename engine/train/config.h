/* The configuration of a run: one table (config.def), read from JSON or YAML and flags, with
 * presets. Where each value came from is recorded and written to run.json. */
#ifndef AT_CONFIG_H
#define AT_CONFIG_H

#include "json.h"
#include "loss_file.h"
#include "mem.h"
#include "row.h"
#include "status.h"

enum at_method {
#define METHOD(id, name, letter, ...) AT_##id,
#include "methods.def"
#undef METHOD
    AT_METHOD_COUNT
};

/* A row of methods.def; the trainer has no `if` on its name. */
struct at_method_row {
    const char *name;
    char letter;           /* of losses.def and config.def */
    enum at_row_kind rows; /* what its rows are */
    bool reference;        /* it needs reference log-probs */
    bool lists;            /* loss_type may be a list */
    bool prompt;           /* a cross-entropy of prompt and chosen side is added */
    bool triples;          /* a cross-entropy of a third side is added (tpo_alpha above 0) */
    bool draws;            /* it draws samples while it trains, unless rollouts has them */
    bool value_head;       /* the model gives a reward a side, read at its last token */
};
const struct at_method_row *at_method_get(enum at_method method);
bool at_method_find(enum at_method *out, const char *name);

struct at_strings {
    const char *const *items;
    size_t n;
    const double *weights; /* (n) of train_dataset; NULL: 1 each */
};
struct at_numbers {
    const double *items;
    size_t n;
};
enum at_origin { AT_FROM_DEFAULT, AT_FROM_PRESET, AT_FROM_FILE, AT_FROM_FLAG };

enum at_key {
#define KEY(type, name, range, methods, trl, balanced, help) AT_KEY_##name,
#define PRESET(preset, name, value)
#define NO_EFFECT(name, reason)
#define LATER(name, reason)
#define RENAMED(name, now)
#include "config.def"
#undef KEY
#undef PRESET
#undef NO_EFFECT
#undef LATER
#undef RENAMED
    AT_KEY_COUNT
};

struct at_config {
    struct at_arena arena;
    enum at_method run_method;
#define STR const char * /* NULL: unset */
#define CHOICE const char *
#define U32 uint32_t
#define F64 double
#define BOOL bool
#define LIST struct at_strings /* n 0: unset */
#define CHOICES struct at_strings
#define NUMBERS struct at_numbers
#define OBJECT const char *
#define SOURCES const char *
#define KEY(type, name, range, methods, trl, balanced, help) type name;
#define PRESET(preset, name, value)
#define NO_EFFECT(name, reason)
#define LATER(name, reason)
#define RENAMED(name, now)
#include "config.def"
#undef STR
#undef CHOICE
#undef U32
#undef F64
#undef BOOL
#undef LIST
#undef CHOICES
#undef NUMBERS
#undef OBJECT
#undef SOURCES
#undef KEY
#undef PRESET
#undef NO_EFFECT
#undef LATER
#undef RENAMED
    bool is_set[AT_KEY_COUNT]; /* has a value (of any origin) */
    enum at_origin origin[AT_KEY_COUNT];
    const char *file;              /* path it was read from, or NULL */
    const struct at_loss **losses; /* of loss_type, one a word; those of files were read */
};

/* A flag as given: key without "--", value text. */
struct at_flag {
    const char *key, *value;
};
/* Reads a document (an object; NULL: empty), then the flags, then fills in the preset's defaults
 * for the method (the command's, or with NULL the key's). Relative paths of train_dataset,
 * eval_dataset, model_name_or_path, adapter_name_or_path, output_dir, reward_funcs, tokenizer,
 * chat_template_path in the file are taken from the file's folder; those of flags from the working
 * directory; so are the files of loss_type, which are read. Unknown keys suggest the nearest
 * (AT_USAGE). */
AT_CHECKED at_config_read(struct at_config *out, const cJSON *document, const char *path,
                          const struct at_flag *flags, size_t n_flags,
                          const enum at_method *method);
/* AT_USAGE with what is written today for a key of an older generation, to be pasted as it is where
 * it can be. `where`: "--" for a flag, else "path: "; `now`: what config.def says. */
enum at_status at_config_fail_renamed(const char *name, const cJSON *value, const char *where,
                                      const char *now);
/* What the schedule, evaluations and logs need of the keys alone (AT_USAGE), and what has no effect
 * (at_warn()). */
AT_CHECKED at_config_check_running(const struct at_config *config);
/* Whether rows are held out, by whatever key. */
bool at_config_holds_out(const struct at_config *config);
/* What adapters need of the keys alone, before model and device are looked at (AT_USAGE). */
AT_CHECKED at_config_check_adapters(const struct at_config *config);
void at_config_release(struct at_config *config);
/* Value of a key as JSON (for run.json), and as text. */
cJSON *at_config_value(const struct at_config *config, enum at_key key);
/* {"key": {"value": ..., "from": "default|preset balanced|file|flag"}, ...} */
cJSON *at_config_record(const struct at_config *config);
/* The nearest known key by edit distance, or NULL when none is near. */
const char *at_config_suggest(const char *name);
/* Table access for --help, the key reference and tests. */
const char *at_key_name(enum at_key key);
const char *at_key_help(enum at_key key);
const char *at_key_type(enum at_key key); /* "STR", "U32", ... */
const char *at_key_range(enum at_key key);
bool at_key_read_by(enum at_key key, enum at_method method);
/* "-" when the key is unset by default. Valid until the thread's next call. */
const char *at_key_default(enum at_key key, enum at_method method, const char *preset);
/* What a name is to the table: an active key (*key), or a word with a reason or today's name
 * (*text). */
enum at_key_class {
    AT_CLASS_ACTIVE,
    AT_CLASS_NO_EFFECT,
    AT_CLASS_LATER,
    AT_CLASS_RENAMED,
    AT_CLASS_UNKNOWN
};
enum at_key_class at_key_classify(const char *name, enum at_key *key, const char **text);
/* The i-th word of a class that is neither active nor unknown, or NULL behind the last. */
const char *at_key_word(enum at_key_class class, size_t i, const char **text);

#endif
