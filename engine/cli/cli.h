/* Commands, their arguments and what is printed. This layer alone writes to stdout (data) and
 * stderr (everything else). */
#ifndef AT_CLI_H
#define AT_CLI_H

#include "config.h"
#include "os.h"
#include "trainer.h"

#include <stdio.h>

/* ---- commands ---- */

struct cli_flag {
    const char *name;  /* without "--" */
    const char *value; /* what stands for its value in --help; NULL: a switch */
    const char *help;
};
struct cli_args {
    const struct cli_command *command;
    const char *positional[4];
    size_t n_positional;
    struct at_flag *own, *keys; /* flags of the command; configuration keys */
    size_t n_own, n_keys;
    struct at_arena arena;
};
struct cli_command {
    const char *name;   /* "sft", "data show" */
    const char *usage;  /* what follows the name: "[CONFIG] [--key value ...]" */
    const char *help;   /* one line */
    const char *detail; /* further lines for --help, or NULL */
    const struct cli_flag *flags;
    size_t n_flags, n_positional; /* positional arguments at most */
    bool config;                  /* every configuration key is a flag */
    enum at_status (*run)(struct cli_args *args);
};
/* NULL at the end of the list. */
const struct cli_command *cli_command_get(size_t i);
/* Whether it is the first of two words of commands ("data"). */
bool cli_is_group(const char *word);
/* The command of argv[1] (and argv[2]); *used counts the words that name it. AT_USAGE with the
 * nearest command, or with "is not built in this version". */
AT_CHECKED cli_command_find(const struct cli_command **out, int argc, char **argv, int *used);

/* Trains by the method that the command is named after. */
enum at_status cli_method(struct cli_args *args);
enum at_status cli_run(struct cli_args *args);
enum at_status cli_sweep(struct cli_args *args);
enum at_status cli_plan(struct cli_args *args);
enum at_status cli_score(struct cli_args *args);
enum at_status cli_compare(struct cli_args *args);
enum at_status cli_dial(struct cli_args *args);
enum at_status cli_eval(struct cli_args *args);
enum at_status cli_report(struct cli_args *args);
enum at_status cli_export(struct cli_args *args);
enum at_status cli_merge(struct cli_args *args);
enum at_status cli_completions(struct cli_args *args);
enum at_status cli_man(struct cli_args *args);
enum at_status cli_chat(struct cli_args *args);
enum at_status cli_generate(struct cli_args *args);
enum at_status cli_tokenize(struct cli_args *args);
enum at_status cli_data_convert(struct cli_args *args);
enum at_status cli_data_coverage(struct cli_args *args);
enum at_status cli_data_lint(struct cli_args *args);
enum at_status cli_data_show(struct cli_args *args);
enum at_status cli_data_split(struct cli_args *args);
enum at_status cli_data_stats(struct cli_args *args);
enum at_status cli_label(struct cli_args *args);
enum at_status cli_monitor(struct cli_args *args);
enum at_status cli_inspect(struct cli_args *args);
enum at_status cli_devices(struct cli_args *args);
enum at_status cli_config_import(struct cli_args *args);
enum at_status cli_config_keys(struct cli_args *args);
enum at_status cli_bench(struct cli_args *args);

/* ---- arguments ---- */

/* Reads "--key value", "--key=value", switches and positional arguments. "-" within a key is "_".
 */
AT_CHECKED cli_args_read(struct cli_args *out, const struct cli_command *command, int argc,
                         char **argv);
void cli_args_release(struct cli_args *args);
/* Value of an own flag, the last one given, or NULL. A switch that is given has the value "true".
 */
const char *cli_flag_text(const struct cli_args *args, const char *name);
bool cli_flag_on(const struct cli_args *args, const char *name);
/* Keep *out when the flag is missing; AT_USAGE when it is no number in [low, high]. */
AT_CHECKED cli_flag_u32(uint32_t *out, const struct cli_args *args, const char *name, uint32_t low,
                        uint32_t high);
AT_CHECKED cli_flag_f64(double *out, const struct cli_args *args, const char *name, double low,
                        double high);
/* The configuration from the first positional argument (if any) and the flags. */
AT_CHECKED cli_config_read(struct at_config *out, const struct cli_args *args,
                           const enum at_method *method);
/* The same of commands that take a data file in a configuration's place: it is their
 * train_dataset, and the method is --method or dpo. AT_USAGE without train_dataset. */
AT_CHECKED cli_data_config_read(struct at_config *out, struct cli_args *args);
/* The model that is the first argument or --model_name_or_path; AT_USAGE for neither or both. */
AT_CHECKED cli_model_named(const char **out, const struct cli_args *args);
/* Tokenizer and chat template of the configuration's model, without its weights; nothing where it
 * names none. A template that cannot be used is a warning. The caller closes the bundle. */
AT_CHECKED cli_text_open(struct at_bundle *out, const struct at_config *config);
/* Whether a path is that of data: its name does not end as a configuration's. */
bool cli_is_data(const char *path);
/* --device and --kernels of commands without configuration. */
struct at_gpu_params cli_gpu_params(const struct cli_args *args);
AT_CHECKED cli_gpu_check(const struct cli_args *args); /* --kernels is auto or baseline */
/* --adapter_scale is not given where n adapters of --adapter are none. */
AT_CHECKED cli_check_scale(const struct cli_args *args, size_t n);

/* ---- output ---- */

/* Decides by terminal, NO_COLOR, TERM; installs the sinks for warnings and a model's loading. */
void cli_term_init(void);
void cli_term_set(bool quiet, bool verbose);
/* Whether stdout may be coloured: a terminal, and neither NO_COLOR nor TERM speak against it. */
bool cli_colours(void);
/* A line on stderr unless --quiet; cli_detail() only with --verbose. */
void cli_note(const char *format, ...) AT_PRINTF(1, 2);
void cli_detail(const char *format, ...) AT_PRINTF(1, 2);
/* The line "next ..." that a command ends with, to be pasted into a POSIX shell: of its conversions
 * (%s, %u, %g) %s is a path, as cli_path_put() has it. Between cli_next_hold() and
 * cli_next_tell(), as commands are stages of another, only the last such line is printed, by the
 * latter. */
void cli_next(const char *format, ...) AT_PRINTF(1, 2);
void cli_next_line(const char *line); /* the same of a line that is put together */
void cli_word_put(struct at_buf *out, const char *word); /* quoted where a shell asks for it */
void cli_path_put(struct at_buf *out, const char *path); /* nor is "-x" taken for a flag: "./-x" */
/* "STEM", or the first of STEM_2 and so on that is not there: nothing is overwritten. */
AT_CHECKED cli_new_path(char **out, struct at_arena *arena, const char *stem);
void cli_next_hold(void);        /* forgets the one that is held */
const char *cli_next_held(void); /* NULL: none; as it is until the next call */
void cli_next_tell(bool print);
/* " --key value" of every configuration key that was given, for a command to go on with them; those
 * in `skip` (n) left out. Words are quoted where a shell asks for it; a value that begins as a flag
 * does stands behind a "=". */
void cli_keys_text(struct at_buf *out, const struct cli_args *args, const char *const *skip,
                   size_t n);
/* The method of the next command stays as it was named where it reads rows such as there are among
 * the others: `singles`, with one completion, or `labelled`. Where it does not that is warned of,
 * and a file's is the one that reads them, also as --method; what was given of the other one alone
 * is left out. */
void cli_method_fit(struct at_config *config, struct cli_args *args, bool singles, bool labelled);
/* The next line `attune plan` of rows: a file of them, a configuration or keys alone, as the
 * command was given; train and held replace what it named unless NULL. */
AT_CHECKED cli_next_plan(const struct cli_args *args, const struct at_config *config,
                         const char *train, const char *held);
/* The next line of rows that were looked at: to hold some out of a file, `attune data split` into a
 * folder under out/, unless some are, or samples are what is trained on; else cli_next_plan(). */
AT_CHECKED cli_next_rows(struct cli_args *args, const struct at_config *config);
/* at_events.progress: an updating line on a terminal, else a plain line every few seconds. */
void cli_progress(void *context, const struct at_progress *progress);
/* at_events.evaluation: a count, as progress is shown, and a line with the result and the time. */
void cli_evaluation(void *context, const struct at_evaluation *evaluation);
/* Of a measurement that goes on, a line as progress is shown: "measuring NAME: 64 of 200 pairs",
 * `what` being "pairs". Called with done = 0 first and done = n last, at which the line goes. The
 * name is short enough for a line of a terminal. */
void cli_measuring(const char *name, uint32_t done, uint32_t n, const char *what);
/* Ends the progress line and counts the warnings. */
void cli_term_end(void);
/* Prints the one error line of a failing command. */
void cli_error(const char *message);
/* JSON on stdout: one line, or indented. */
AT_CHECKED cli_print_line(const cJSON *json);
AT_CHECKED cli_print_pretty(const cJSON *json);
/* "1 h 02 min", "3 min 20 s", "12.4 s" */
void cli_duration(char out[32], double seconds);

/* ---- shared by commands ---- */

/* Rows, memory, disk and time of a run, on stdout; AT_DEVICE_MEMORY where it does not fit. */
AT_CHECKED cli_plan_print(const struct at_run *run, bool json);

/* "48 rows as 12 of up to 128 tokens, 91.2 % full", and the held-out ones; false without packing.
 */
enum { CLI_PACKED_BYTES = 192 };
bool cli_packed_text(char out[CLI_PACKED_BYTES], const struct at_run_data *data);
/* Device, rows, memory and what is trained: the lines before training. */
void cli_describe_run(const struct at_run *run);
/* Trains one configuration with progress and summary. */
AT_CHECKED cli_train(const struct at_config *config, struct at_outcome *outcome);
/* Trains config.cross_validation adapters, each into a folder of output_dir, and pools what their
 * held-out pairs say into cross_validation.json. */
AT_CHECKED cli_cross_validate(const struct at_config *config);
/* Serves label's page for a file of pairs until they are decided; --annotator, --log and --port may
 * be flags of the command. */
AT_CHECKED cli_label_page(struct cli_args *args, const char *path, bool review);
/* The kernel table of a stream opened with `profile`, beside the device's peaks, which are measured
 * for it: on `file`, as JSON into `json`, where not NULL. */
AT_CHECKED cli_kernel_table(FILE *file, cJSON *json, struct at_stream *stream);
/* What changed from the saved `bench --json` at `before` to the one that the arguments name. */
AT_CHECKED cli_bench_compare(const struct cli_args *args, const char *before);
/* A flag of a command or a configuration key that it takes as one, as help, completions and manual
 * pages have it. */
struct cli_option {
    const char *name;     /* without "--" */
    const char *value;    /* what stands for its value; NULL: a switch */
    const char *help;     /* one line */
    const char *words;    /* what it may be, separated by |; NULL: anything */
    const char *fallback; /* of keys: the default; or NULL */
    bool key;
};
/* Option i, flags before keys; false behind the last. `text` keeps what *out borrows from. */
bool cli_option_get(struct cli_option *out, struct at_buf *text, const struct cli_command *command,
                    size_t i);
/* --help of a command, and of the program. */
void cli_help(const struct cli_command *command);
void cli_help_group(const char *group); /* of the commands of a first word */
void cli_help_all(void);
const char *cli_exit_codes(void); /* what each means, as lines */

#endif
