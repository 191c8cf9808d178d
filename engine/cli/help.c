#include "cli.h"

#include "losses.h"

#include <string.h>

/* Columns of a line of help, at most, and where usage, an option's text and a key's words begin. */
enum { HELP_COLUMNS = 100, HELP_USAGE = 7, HELP_TEXT = 37, HELP_WORDS = 39 };

const char *cli_exit_codes(void)
{
    return "0 ok (a verdict: better and within budgets), 1 verdict: worse or over budget, 2 "
           "usage,\n"
           "3 verdict: not enough evidence, 65 bad data, 66 missing input, 69 no usable device,\n"
           "70 internal, 73 cannot write, 74 I/O, 75 try again (resumable), 77 integrity (verify,\n"
           "digests), 130/143 signals.";
}

void cli_help_all(void)
{
    const struct cli_command *c = NULL;

    puts("attune: aligns the tone of a language model from preference pairs, on any Vulkan device\n"
         "\n"
         "Usage: attune COMMAND [arguments]\n");
    for (size_t i = 0; (c = cli_command_get(i)) != NULL; i++)
        printf("  %-14s %s\n", c->name, c->help);
    puts("\n"
         "  attune COMMAND --help    its arguments\n"
         "  attune --version\n"
         "\n"
         "Example: attune dpo configs/dpo.json --model_name_or_path model.gguf --output_dir out\n"
         "Exit codes:");
    puts(cli_exit_codes());
}

void cli_help_group(const char *group)
{
    const struct cli_command *c = NULL;
    const size_t n = strlen(group);

    printf("attune %s: one of\n\n", group);
    for (size_t i = 0; (c = cli_command_get(i)) != NULL; i++)
        if (strncmp(c->name, group, n) == 0 && c->name[n] == ' ')
            printf("  %-14s %s\n", c->name, c->help);
    printf("\n  attune %s COMMAND --help    its arguments\n", group);
}

/* The methods that `c` trains with: one, or all. */
static bool key_fits(const struct cli_command *c, enum at_key key)
{
    enum at_method method = AT_SFT;

    if (!at_method_find(&method, c->name))
        return true;
    return key != AT_KEY_method && at_key_read_by(key, method);
}

/* The words of a key, separated by |; of loss_type only those that fit the command's method. */
static const char *words_of(const struct cli_command *c, enum at_key key, struct at_buf *out)
{
    enum at_method method = AT_SFT;
    size_t n;
    const struct at_loss *list = at_loss_list(&n);

    at_buf_clear(out);
    if (key != AT_KEY_loss_type || !at_method_find(&method, c->name))
        return at_key_range(key);
    for (size_t i = 0; i < n; i++)
        if (strchr(list[i].methods, at_method_get(method)->letter))
            at_buf_printf(out, "%s%s", out->n ? "|" : "", list[i].name);
    return at_buf_status(out) == AT_OK ? out->data : at_key_range(key);
}

/* What stands for a key's value in help. */
static const char *value_of(const char *type, const char *words)
{
    static const char *const names[][2] = { { "BOOL", "true|false" }, { "F64", "X" },
                                            { "NUMBERS", "X" },       { "OBJECT", "JSON" },
                                            { "SOURCES", "JSON" },    { "U32", "N" } };

    if (strcmp(type, "CHOICE") == 0 || strcmp(type, "CHOICES") == 0)
        return strlen(words) > 60 ? "NAME" : words;
    for (size_t i = 0; i < AT_COUNT(names); i++)
        if (strcmp(type, names[i][0]) == 0)
            return names[i][1];
    return "TEXT";
}

static void option_of_key(struct cli_option *out, struct at_buf *text, const struct cli_command *c,
                          enum at_key key)
{
    enum at_method method = AT_DPO;
    const char *type = at_key_type(key), *words = words_of(c, key, text);
    const char *fallback;

    (void)at_method_find(&method, c->name);
    fallback = at_key_default(key, method, "balanced");
    *out = (struct cli_option){ .name = at_key_name(key),
                                .value = value_of(type, words),
                                .help = at_key_help(key),
                                .fallback = strcmp(fallback, "-") != 0 ? fallback : NULL,
                                .key = true };
    if (strcmp(type, "CHOICE") == 0 || strcmp(type, "CHOICES") == 0)
        out->words = words;
    else if (strcmp(type, "BOOL") == 0)
        out->words = out->value;
}

/* "auto|baseline"; what is in capitals stands for something. */
static bool are_words(const char *value)
{
    return value && strchr(value, '|') && !strpbrk(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
}

bool cli_option_get(struct cli_option *out, struct at_buf *text, const struct cli_command *c,
                    size_t i)
{
    if (i < c->n_flags) {
        const struct cli_flag *f = &c->flags[i];
        *out = (struct cli_option){ .name = f->name, .value = f->value, .help = f->help };
        out->words = are_words(f->value) ? f->value : NULL;
        return true;
    }
    i -= c->n_flags;
    for (int key = 0; c->config && key < AT_KEY_COUNT; key++)
        if (key_fits(c, (enum at_key)key) && i-- == 0) {
            option_of_key(out, text, c, (enum at_key)key);
            return true;
        }
    return false;
}

/* Bytes of `text` (ASCII) for a line of at most `room`: up to a space or behind a |; where neither
 * comes in time, up to the first space. */
static size_t line_of(const char *text, size_t room)
{
    const size_t n = strlen(text);
    size_t fit = room;

    if (n <= room)
        return n;
    while (fit > 0 && text[fit] != ' ' && text[fit - 1] != '|')
        fit--;
    return fit > 0 ? fit : strcspn(text, " ");
}

/* `text` in lines, of which each but the first, for which the cursor stands there, is indented. */
static void put_lines(const char *text, size_t indent)
{
    do {
        const size_t n = line_of(text, HELP_COLUMNS - indent);

        printf("%.*s\n", (int)n, text);
        text += n + strspn(text + n, " ");
        if (*text)
            printf("%*s", (int)indent, "");
    } while (*text);
}

static void put_option(const struct cli_option *o, struct at_buf *text)
{
    char left[96];

    snprintf(left, sizeof left, "  --%s%s%s", o->name, o->value ? " " : "",
             o->value ? o->value : "");
    printf("%-*s", HELP_TEXT, left);
    if (strlen(left) >= HELP_TEXT)
        printf("\n%*s", HELP_TEXT, "");
    at_buf_clear(text);
    at_buf_printf(text, "%s", o->help);
    if (o->fallback)
        at_buf_printf(text, " [%s]", o->fallback);
    put_lines(at_buf_status(text) == AT_OK ? text->data : o->help, HELP_TEXT);
    if (o->key && o->words && o->words != o->value) {
        printf("%*s", HELP_WORDS, "");
        put_lines(o->words, HELP_WORDS);
    }
}

void cli_help(const struct cli_command *c)
{
    struct cli_option o;
    struct at_buf words = { 0 }, text = { 0 };
    bool in_keys = false;

    printf("attune %s: %s\n\nUsage: ", c->name, c->help);
    at_buf_printf(&text, "attune %s %s", c->name, c->usage);
    put_lines(at_buf_status(&text) == AT_OK ? text.data : c->usage, HELP_USAGE);
    if (c->detail)
        printf("%s", c->detail);
    puts("\nFlags:");
    for (size_t i = 0; cli_option_get(&o, &words, c, i); i++) {
        if (o.key && !in_keys)
            puts("\nConfiguration keys, in CONFIG (JSON or YAML) or as flags, which win. In "
                 "brackets: "
                 "the\ndefault of the preset balanced; configs/README.md has those of the others.");
        in_keys = o.key;
        put_option(&o, &text);
    }
    at_buf_release(&words);
    at_buf_release(&text);
}
