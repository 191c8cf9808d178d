/* `attune completions` and `attune man`: from the table of commands that --help prints. */
#include "cli.h"

#include <ctype.h>
#include <string.h>

/* ---- completions ---- */

/* In single quotes, for all three shells. */
static void put_quoted(const char *text)
{
    putchar('\'');
    for (; *text; text++)
        if (*text == '\'')
            printf("'\\''");
        else
            putchar(*text);
    putchar('\'');
}

static void put_words(const char *words)
{
    for (; *words; words++)
        putchar(*words == '|' ? ' ' : *words);
}

/* What stands for a value is a path's, or a number's or text's. */
static bool takes_path(const struct cli_option *o)
{
    static const char *const parts[] = { "DIR", "FILE", "MODEL", "PATH", ".json" };
    bool found = o->key && strcmp(o->value, "TEXT") == 0;

    for (size_t i = 0; o->value && i < AT_COUNT(parts); i++)
        found = found || strstr(o->value, parts[i]);
    return found;
}

/* case branches: the flags of each command, and what follows those that take words or paths. */
static void put_bash_command(const struct cli_command *c)
{
    struct cli_option o;
    struct at_buf text = { 0 };

    printf("    ");
    put_quoted(c->name);
    printf(")\n        case $before in\n");
    for (size_t i = 0; cli_option_get(&o, &text, c, i); i++) {
        if (!o.value)
            continue;
        printf("        --%s) ", o.name);
        if (o.words) {
            printf("words='");
            put_words(o.words);
            printf("'");
        } else {
            printf("%s", takes_path(&o) ? "files=1" : "words=''");
        }
        printf(" ;;\n");
    }
    printf("        *) files=1; words='--help");
    for (size_t i = 0; cli_option_get(&o, &text, c, i); i++)
        printf(" --%s", o.name);
    printf("' ;;\n        esac ;;\n");
    at_buf_release(&text);
}

/* The first words of all commands, or the second ones of a group. */
static void put_first_words(const char *group)
{
    const struct cli_command *c = NULL;
    const size_t n = group ? strlen(group) : 0;
    char last[64] = "";

    for (size_t i = 0; (c = cli_command_get(i)) != NULL; i++) {
        const int width = (int)strcspn(c->name, " ");
        if (group && strncmp(c->name, group, n) == 0 && c->name[n] == ' ') {
            printf(" %s", c->name + n + 1);
        } else if (!group && (strncmp(last, c->name, (size_t)width) != 0 || last[width])) {
            snprintf(last, sizeof last, "%.*s", width, c->name);
            printf(" %s", last);
        }
    }
}

static void put_bash(void)
{
    const struct cli_command *c = NULL;
    char last[64] = "";

    printf("_attune() {\n"
           "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
           "    local name=${COMP_WORDS[1]-} words='' files=''\n"
           "    if [ \"$COMP_CWORD\" = 1 ]; then\n"
           "        words='--help --version");
    put_first_words(NULL);
    printf("'\n        COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n        return\n    fi\n"
           "    case $name in\n");
    for (size_t i = 0; (c = cli_command_get(i)) != NULL; i++) {
        const size_t n = strcspn(c->name, " ");
        if (!c->name[n] || (strncmp(last, c->name, n) == 0 && !last[n]))
            continue;
        snprintf(last, sizeof last, "%.*s", (int)n, c->name);
        printf("    %s)\n        if [ \"$COMP_CWORD\" = 2 ]; then\n            words='--help",
               last);
        put_first_words(last);
        printf(
            "'\n            COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n            return\n"
            "        fi\n        name=\"$name ${COMP_WORDS[2]}\" ;;\n");
    }
    printf("    esac\n    case $name in\n");
    for (size_t i = 0; (c = cli_command_get(i)) != NULL; i++)
        put_bash_command(c);
    printf("    *) files=1 ;;\n    esac\n"
           "    COMPREPLY=()\n"
           "    case $word in\n"
           "    -*) files='' ;;\n"
           "    *) case $words in --*) words='' ;; esac ;;\n"
           "    esac\n"
           "    [ -z \"$words\" ] || COMPREPLY+=($(compgen -W \"$words\" -- \"$word\"))\n"
           "    [ -z \"$files\" ] || while IFS= read -r word; do COMPREPLY+=(\"$word\"); done "
           "< <(compgen -f -- \"$word\")\n"
           "}\n"
           "complete -o filenames -F _attune attune\n");
}

/* A condition of fish: these words begin the line. */
static void put_fish_name(const char *name)
{
    char first[64];

    snprintf(first, sizeof first, "%.*s", (int)strcspn(name, " "), name);
    printf("__fish_seen_subcommand_from %s", first);
    if (strchr(name, ' '))
        printf("; and __fish_seen_subcommand_from %s", strchr(name, ' ') + 1);
}

static void put_fish(void)
{
    const struct cli_command *c = NULL;
    struct cli_option o;
    struct at_buf text = { 0 };

    for (size_t i = 0; (c = cli_command_get(i)) != NULL; i++) {
        const char *second = strchr(c->name, ' ');
        char first[64];

        snprintf(first, sizeof first, "%.*s", (int)strcspn(c->name, " "), c->name);
        if (second) {
            printf("complete -c attune -n __fish_use_subcommand -f -a %s\n", first);
            printf("complete -c attune -n '__fish_seen_subcommand_from %s; and not "
                   "__fish_seen_subcommand_from",
                   first);
            put_first_words(first);
            printf("' -f -a %s -d ", second + 1);
        } else {
            printf("complete -c attune -n __fish_use_subcommand -f -a %s -d ", first);
        }
        put_quoted(c->help);
        putchar('\n');
        for (size_t k = 0; cli_option_get(&o, &text, c, k); k++) {
            printf("complete -c attune -n '");
            put_fish_name(c->name);
            printf("' -l %s", o.name);
            if (o.words) {
                printf(" -x -a '");
                put_words(o.words);
                printf("'");
            } else if (o.value) {
                printf(takes_path(&o) ? " -r" : " -x");
            }
            printf(" -d ");
            put_quoted(o.help);
            putchar('\n');
        }
    }
    at_buf_release(&text);
}

enum at_status cli_completions(struct cli_args *args)
{
    const char *shell = args->n_positional > 0 ? args->positional[0] : "";

    if (strcmp(shell, "fish") == 0) {
        put_fish();
    } else if (strcmp(shell, "bash") == 0) {
        put_bash();
    } else if (strcmp(shell, "zsh") == 0) {
        printf("autoload -Uz compinit bashcompinit && compinit && bashcompinit\n");
        put_bash();
    } else {
        return at_fail(AT_USAGE, "\"%s\" is no shell; usage: attune completions %s", shell,
                       args->command->usage);
    }
    return AT_OK;
}

/* ---- manual pages ---- */

/* Text of a paragraph: roff's own characters are escaped, lines end where they do. */
static void put_roff(const char *text)
{
    bool begins = true;

    for (; *text; text++) {
        if (begins && (*text == '.' || *text == '\''))
            printf("\\&");
        if (*text == '\\')
            printf("\\e");
        else if (*text == '-')
            printf("\\-");
        else
            putchar(*text);
        begins = *text == '\n';
    }
}

static void put_head(const char *title, const char *name, const char *help)
{
    printf(".TH ");
    for (; *title; title++)
        putchar(*title == ' ' ? '-' : toupper((unsigned char)*title));
    printf(" 1 \"\" \"attune " ATTUNE_VERSION "\"\n.SH NAME\n%s \\- ", name);
    put_roff(help);
    printf("\n");
}

static void put_options(const struct cli_command *c)
{
    struct cli_option o;
    struct at_buf text = { 0 };
    bool in_keys = false;

    printf(".SH OPTIONS\n");
    for (size_t i = 0; cli_option_get(&o, &text, c, i); i++) {
        if (o.key && !in_keys)
            printf(".SH CONFIGURATION KEYS\nIn the configuration (JSON or YAML) or as flags, which "
                   "win.\n");
        in_keys = o.key;
        printf(".TP\n\\fB\\-\\-%s\\fR", o.name);
        if (o.value) {
            printf(" \\fI");
            put_roff(o.value);
            printf("\\fR");
        }
        printf("\n");
        put_roff(o.help);
        if (o.fallback) {
            printf(" [");
            put_roff(o.fallback);
            printf("]");
        }
        printf("\n");
        if (o.key && o.words && o.words != o.value) {
            printf(".br\n");
            for (const char *word = o.words; *word; word++)
                printf(*word == '|' ? ", " : "%c", *word);
            printf("\n");
        }
    }
    at_buf_release(&text);
}

static void put_command(const struct cli_command *c)
{
    char name[64] = "attune-";

    for (size_t i = 0; c->name[i] && i + 8 < sizeof name; i++) {
        name[i + 7] = c->name[i];
        if (c->name[i] == ' ')
            name[i + 7] = '-';
        name[i + 8] = 0;
    }
    put_head(name, name, c->help);
    printf(".SH SYNOPSIS\n\\fBattune %s\\fR ", c->name);
    put_roff(c->usage);
    printf("\n");
    if (c->detail) {
        printf(".SH DESCRIPTION\n.nf\n");
        put_roff(c->detail);
        printf(".fi\n");
    }
    put_options(c);
    printf(".SH SEE ALSO\n.BR attune (1)\n");
}

static void put_program(void)
{
    const struct cli_command *c = NULL;

    put_head("attune", "attune",
             "aligns the tone of a language model from preference pairs, on any Vulkan device");
    printf(".SH SYNOPSIS\n\\fBattune\\fR \\fICOMMAND\\fR [\\fIarguments\\fR]\n.SH COMMANDS\n");
    for (size_t i = 0; (c = cli_command_get(i)) != NULL; i++) {
        printf(".TP\n\\fB%s\\fR ", c->name);
        put_roff(c->usage);
        printf("\n");
        put_roff(c->help);
        printf("\n");
    }
    printf(".SH EXIT STATUS\n");
    put_roff(cli_exit_codes());
    printf("\n");
}

enum at_status cli_man(struct cli_args *args)
{
    enum at_status st = AT_OK;
    const struct cli_command *c = NULL;
    char *words[] = { NULL, (char *)(uintptr_t)args->positional[0],
                      (char *)(uintptr_t)args->positional[1] };
    int used = 0;

    if (args->n_positional == 0) {
        put_program();
        goto done;
    }
    TRY(cli_command_find(&c, 1 + (int)args->n_positional, words, &used));
    put_command(c);
done:
    return st;
}
