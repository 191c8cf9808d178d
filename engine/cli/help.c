#include "cli.h"

#include "losses.h"

#include <string.h>

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
         "Exit codes: 0 ok, 1 over budget, 2 usage, 65 bad data, 66 missing input, 69 no usable\n"
         "device, 70 internal, 73 cannot write, 74 input/output, 75 stopped with an older state, "
         "77\n"
         "integrity, 130 interrupted, 143 terminated.");
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

static void help_key(const struct cli_command *c, enum at_key key)
{
    enum at_method method = AT_DPO;
    const char *value = at_key_type(key), *fallback = NULL;
    char left[96];
    struct at_buf text = { 0 };
    const char *words = words_of(c, key, &text);
    const bool choice = strcmp(value, "CHOICE") == 0 || strcmp(value, "CHOICES") == 0;
    const bool lists = choice && strlen(words) > 60;

    (void)at_method_find(&method, c->name);
    fallback = at_key_default(key, method, "balanced");
    if (choice)
        value = lists ? "NAME" : words;
    else if (strcmp(value, "BOOL") == 0)
        value = "true|false";
    else if (strcmp(value, "U32") == 0)
        value = "N";
    else if (strcmp(value, "F64") == 0 || strcmp(value, "NUMBERS") == 0)
        value = "X";
    else if (strcmp(value, "OBJECT") == 0)
        value = "JSON";
    else
        value = "TEXT";
    snprintf(left, sizeof left, "--%s %s", at_key_name(key), value);
    printf("  %-34s %s", left, at_key_help(key));
    if (strcmp(fallback, "-") != 0)
        printf(" [%s]", fallback);
    putchar('\n');
    if (lists)
        printf("  %-34s %s\n", "", words);
    at_buf_release(&text);
}

void cli_help(const struct cli_command *c)
{
    char left[96];

    printf("attune %s: %s\n\nUsage: attune %s %s\n", c->name, c->help, c->name, c->usage);
    if (c->detail)
        printf("%s", c->detail);
    puts("\nFlags:");
    for (size_t i = 0; i < c->n_flags; i++) {
        const struct cli_flag *f = &c->flags[i];
        snprintf(left, sizeof left, "--%s%s%s", f->name, f->value ? " " : "",
                 f->value ? f->value : "");
        printf("  %-34s %s\n", left, f->help);
    }
    if (!c->config)
        return;
    puts("\nConfiguration keys, in CONFIG (JSON or YAML) or as flags, which win. In brackets: the\n"
         "default of the preset balanced; configs/README.md has those of the others.");
    for (int key = 0; key < AT_KEY_COUNT; key++)
        if (key_fits(c, (enum at_key)key))
            help_key(c, (enum at_key)key);
}
