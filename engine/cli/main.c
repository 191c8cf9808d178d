#include "cli.h"

#include <string.h>

/* The answers that need no command. */
static bool answer_early(int argc, char **argv)
{
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        (argc == 2 && strcmp(argv[1], "help") == 0)) {
        cli_help_all();
        return true;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("attune %s\n", ATTUNE_VERSION);
        return true;
    }
    return false;
}

static bool wants_help(int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
        else if (strcmp(argv[i], "--") == 0)
            return false;
    return false;
}

static AT_CHECKED run_command(int argc, char **argv)
{
    enum at_status st = AT_OK;
    const struct cli_command *command = NULL;
    struct cli_args args = { .command = NULL };
    const bool help = strcmp(argv[1], "help") == 0;
    int used = 0;

    if (argc > 1 + help && cli_is_group(argv[1 + help]) &&
        (argc == 2 + help ? help : wants_help(1, argv + 2 + help))) {
        cli_help_group(argv[1 + help]);
        goto done;
    }
    TRY(cli_command_find(&command, argc - help, argv + help, &used));
    argc -= 1 + used + help;
    argv += 1 + used + help;
    if (help || wants_help(argc, argv)) {
        cli_help(command);
        goto done;
    }
    TRY(cli_args_read(&args, command, argc, argv));
    cli_term_set(cli_flag_on(&args, "quiet"), cli_flag_on(&args, "verbose"));
    TRY(command->run(&args));
done:
    cli_args_release(&args);
    return st;
}

int main(int argc, char **argv)
{
    enum at_status st = AT_OK;

    cli_term_init();
    if (argc < 2) {
        cli_help_all();
        st = at_fail(AT_USAGE, "a command is missing; usage: attune COMMAND [arguments]");
    } else if (!answer_early(argc, argv)) {
        at_signals_install();
        st = run_command(argc, argv);
    }
    if ((fflush(stdout) != 0 || ferror(stdout)) && st == AT_OK)
        st = at_fail(AT_IO, "standard output cannot be written");
    cli_term_end();
    if (st != AT_OK)
        cli_error(at_message());
    return at_exit_code(st);
}
