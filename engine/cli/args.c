#include "cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Short names of INTERFACE's common flags for configuration keys. */
static const struct at_flag aliases[] = {
    { "adapter", "adapter_name_or_path" },
    { "chat_template", "chat_template_path" },
};

static const struct cli_flag *own_find(const struct cli_command *command, const char *name)
{
    for (size_t i = 0; i < command->n_flags; i++)
        if (strcmp(command->flags[i].name, name) == 0)
            return &command->flags[i];
    return NULL;
}

static bool is_flag(const char *word)
{
    return word && word[0] == '-' && word[1] == '-' && word[2] != 0;
}

static bool is_truth(const char *word)
{
    static const char *const words[] = { "true", "false", "True", "False", "0", "1" };

    for (size_t i = 0; word && i < AT_COUNT(words); i++)
        if (strcmp(word, words[i]) == 0)
            return true;
    return false;
}

static bool is_config(const char *word)
{
    static const char *const ends[] = { ".json", ".yaml", ".yml" };
    const size_t n = strlen(word);

    for (size_t i = 0; i < AT_COUNT(ends); i++)
        if (n > strlen(ends[i]) && strcmp(word + n - strlen(ends[i]), ends[i]) == 0)
            return true;
    return false;
}

/* Whether a configuration flag before the word `next` stands without a value, which then is true:
 * truths of the table, and switches of TRL (`--bf16`) that the table knows without a type. */
static bool is_bare(const char *name, const char *next)
{
    enum at_key key = AT_KEY_seed;
    const char *text = NULL;

    switch (at_key_classify(name, &key, &text)) {
    case AT_CLASS_ACTIVE:
        return strcmp(at_key_type(key), "BOOL") == 0 && !is_truth(next);
    case AT_CLASS_NO_EFFECT:
    case AT_CLASS_LATER:
        return !next || is_flag(next) || is_config(next);
    default:
        return false;
    }
}

/* What follows a truth is its value, another flag, or a file; a word that is none of these was
 * meant as its value. */
static AT_CHECKED check_truth(const char *name, const char *next)
{
    if (!next || is_flag(next) || is_config(next) || at_path_exists(next))
        return AT_OK;
    return at_fail(AT_USAGE,
                   "--%s: true or false expected, found \"%s\" (and there is no such file)", name,
                   next);
}

/* A word that is no key at all is said to be that, whatever follows it. */
static AT_CHECKED check_known(const struct cli_flag *own, const char *name)
{
    enum at_key key = AT_KEY_seed;
    const char *text = NULL, *near = at_config_suggest(name);

    if (own || at_key_classify(name, &key, &text) != AT_CLASS_UNKNOWN)
        return AT_OK;
    return at_fail(AT_USAGE, "unknown flag --%s%s%s%s", name, near ? "; did you mean --" : "",
                   near ? near : "", near ? "?" : "; `attune config keys` lists the keys");
}

/* Takes the flag argv[*at]; *at is moved past its value. */
static AT_CHECKED read_flag(struct cli_args *a, int argc, char **argv, int *at)
{
    enum at_status st = AT_OK;
    char *name = NULL;
    const char *word = argv[*at] + 2, *value = strchr(word, '=');
    const char *next = *at + 1 < argc ? argv[*at + 1] : NULL;
    const struct cli_flag *own = NULL;

    TRY(at_arena_strndup(&a->arena, &name, word, value ? (size_t)(value - word) : strlen(word)));
    for (char *c = name; *c; c++)
        if (*c == '-')
            *c = '_';
    own = own_find(a->command, name);
    if (!own && !a->command->config)
        FAIL(AT_USAGE, "unknown flag --%s; `attune %s --help` lists them", name, a->command->name);
    if (own && !own->value) {
        if (value && !is_truth(value + 1))
            FAIL(AT_USAGE, "--%s takes no value", name);
        value = value ? value + 1 : "true";
    } else if (value) {
        value++;
    } else if (!own && is_bare(name, next)) {
        TRY(check_truth(name, next));
        value = "true";
    } else if (!next || is_flag(next)) {
        TRY(check_known(own, name));
        FAIL(AT_USAGE, "--%s needs a value", name);
    } else {
        value = next;
        ++*at;
    }
    for (size_t i = 0; !own && i < AT_COUNT(aliases); i++)
        if (strcmp(name, aliases[i].key) == 0)
            TRY(at_arena_strdup(&a->arena, &name, aliases[i].value));
    if (own)
        a->own[a->n_own++] = (struct at_flag){ name, value };
    else
        a->keys[a->n_keys++] = (struct at_flag){ name, value };
done:
    return st;
}

AT_CHECKED cli_args_read(struct cli_args *out, const struct cli_command *command, int argc,
                         char **argv)
{
    enum at_status st = AT_OK;
    bool only_positional = false;

    *out = (struct cli_args){ .command = command };
    TRY(at_arena_alloc(&out->arena, &out->own, (size_t)argc + 1, sizeof *out->own));
    TRY(at_arena_alloc(&out->arena, &out->keys, (size_t)argc + 1, sizeof *out->keys));
    for (int i = 0; i < argc; i++) {
        if (!only_positional && strcmp(argv[i], "--") == 0) {
            only_positional = true;
        } else if (!only_positional && is_flag(argv[i])) {
            TRY(read_flag(out, argc, argv, &i));
        } else if (!only_positional && argv[i][0] == '-' && argv[i][1] != 0) {
            FAIL(AT_USAGE, "unknown flag %s; flags begin with two dashes (`attune %s --help`)",
                 argv[i], command->name);
        } else if (out->n_positional == command->n_positional) {
            FAIL(AT_USAGE, "%s: one argument too many; usage: attune %s %s", argv[i], command->name,
                 command->usage);
        } else {
            out->positional[out->n_positional++] = argv[i];
        }
    }
done:
    return st;
}

void cli_args_release(struct cli_args *args)
{
    at_arena_release(&args->arena);
    *args = (struct cli_args){ .command = NULL };
}

const char *cli_flag_text(const struct cli_args *args, const char *name)
{
    for (size_t i = args->n_own; i-- > 0;)
        if (strcmp(args->own[i].key, name) == 0)
            return args->own[i].value;
    return NULL;
}

bool cli_flag_on(const struct cli_args *args, const char *name)
{
    const char *text = cli_flag_text(args, name);

    return text && strcmp(text, "false") != 0 && strcmp(text, "False") != 0 &&
           strcmp(text, "0") != 0;
}

AT_CHECKED cli_flag_f64(double *out, const struct cli_args *args, const char *name, double low,
                        double high)
{
    const char *text = cli_flag_text(args, name);
    char *end = NULL;
    double x = 0;

    if (!text)
        return AT_OK;
    x = strtod(text, &end);
    if (!*text || *end || !(x >= low && x <= high))
        return at_fail(AT_USAGE, "--%s: a number in %g..%g expected, found \"%s\"", name, low, high,
                       text);
    *out = x;
    return AT_OK;
}

AT_CHECKED cli_flag_u32(uint32_t *out, const struct cli_args *args, const char *name, uint32_t low,
                        uint32_t high)
{
    enum at_status st = AT_OK;
    double x = *out;

    TRY(cli_flag_f64(&x, args, name, low, high));
    if (x != floor(x))
        FAIL(AT_USAGE, "--%s: a whole number expected, found \"%s\"", name,
             cli_flag_text(args, name));
    *out = (uint32_t)x;
done:
    return st;
}

AT_CHECKED cli_config_read(struct at_config *out, const struct cli_args *args,
                           const enum at_method *method)
{
    enum at_status st = AT_OK;
    cJSON *document = NULL;
    const char *path = args->n_positional > 0 ? args->positional[0] : NULL;

    *out = (struct at_config){ .file = NULL };
    if (path)
        TRY(at_json_load(&document, path));
    TRY(at_config_read(out, document, path, args->keys, args->n_keys, method));
done:
    at_json_free(&document);
    return st;
}

bool cli_is_data(const char *path)
{
    static const char *const ends[] = { ".json", ".yaml", ".yml" };
    const size_t n = strlen(path);

    for (size_t i = 0; i < AT_COUNT(ends); i++) {
        const size_t length = strlen(ends[i]);
        if (n > length && strcmp(path + n - length, ends[i]) == 0)
            return false;
    }
    return true;
}

AT_CHECKED cli_data_config_read(struct at_config *out, struct cli_args *args)
{
    enum at_status st = AT_OK;
    const enum at_method pairs = AT_DPO;
    const enum at_method *method = &pairs;
    const bool data = args->n_positional > 0 && cli_is_data(args->positional[0]);
    struct at_flag *keys = NULL;

    for (size_t i = 0; i < args->n_keys; i++)
        if (strcmp(args->keys[i].key, "method") == 0)
            method = NULL;
    if (!data) {
        TRY(cli_config_read(out, args, args->n_positional > 0 ? NULL : method));
    } else {
        TRY(at_arena_alloc(&args->arena, &keys, args->n_keys + 1, sizeof *keys));
        keys[0] = (struct at_flag){ "train_dataset", args->positional[0] };
        for (size_t i = 0; i < args->n_keys; i++)
            keys[i + 1] = args->keys[i];
        TRY(at_config_read(out, NULL, NULL, keys, args->n_keys + 1, method));
    }
    if (out->train_dataset.n == 0)
        FAIL(AT_USAGE,
             "no data: name a file, or a configuration with train_dataset; usage: attune %s %s",
             args->command->name, args->command->usage);
done:
    return st;
}

AT_CHECKED cli_model_named(const char **out, const struct cli_args *args)
{
    const char *named = cli_flag_text(args, "model_name_or_path");
    const char *first = args->n_positional > 0 ? args->positional[0] : NULL;

    *out = named ? named : first;
    if (named && first)
        return at_fail(AT_USAGE, "the model is named twice: %s and %s", first, named);
    if (!*out)
        return at_fail(AT_USAGE, "no model is named; usage: attune %s %s", args->command->name,
                       args->command->usage);
    return AT_OK;
}

AT_CHECKED cli_text_open(struct at_bundle *out, const struct at_config *config)
{
    const struct at_bundle_params p = { .path = config->model_name_or_path,
                                        .tokenizer_dir = config->tokenizer,
                                        .chat_template_path = config->chat_template_path,
                                        .tokenizer_only = true };
    enum at_status st = AT_OK;

    *out = (struct at_bundle){ .path = NULL };
    if (!p.path)
        goto done;
    TRY(at_bundle_open(out, &p));
    if (out->chat_problem)
        at_warn("chat_template", "%s", out->chat_problem);
done:
    return st;
}

AT_CHECKED cli_gpu_check(const struct cli_args *args)
{
    const char *kernels = cli_flag_text(args, "kernels");

    if (kernels && strcmp(kernels, "auto") != 0 && strcmp(kernels, "baseline") != 0)
        return at_fail(AT_USAGE, "--kernels: one of auto|baseline expected, found \"%s\"", kernels);
    return AT_OK;
}

AT_CHECKED cli_check_scale(const struct cli_args *args, size_t n)
{
    if (n == 0 && cli_flag_text(args, "adapter_scale"))
        return at_fail(AT_USAGE,
                       "--adapter_scale: there is no adapter; name one with --adapter DIR");
    return AT_OK;
}

struct at_gpu_params cli_gpu_params(const struct cli_args *args)
{
    const char *kernels = cli_flag_text(args, "kernels");

    return (struct at_gpu_params){ .device = cli_flag_text(args, "device"),
                                   .baseline_only = kernels && strcmp(kernels, "baseline") == 0,
                                   .profile = cli_flag_on(args, "profile") };
}
