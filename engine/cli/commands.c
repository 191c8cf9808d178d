#include "command_flags.h"

#include <string.h>

/* ---- the table: help, dispatch, completions and man pages come from here ---- */

#define FLAGS(list) .flags = (list), .n_flags = AT_COUNT(list)
static const struct cli_command commands[] = {
    { .name = "bench",
      .usage = "CONFIG [--steps N] [--json] [--key value ...] | --compare BEFORE.json AFTER.json",
      .help = "time every kernel over some training steps",
      .detail =
          "Measures the device's peaks (f32 multiply-adds in registers, products in matrix\n"
          "units where it has some, a copy between large buffers) and prints per kernel and\n"
          "shape: calls, time, share, rates and their share of the peaks, of matrix units for\n"
          "kernels that use them; bytes are those of the buffers bound. Attention's rates\n"
          "count every pair of a slab; the useful operations of a step, whose formula stands in\n"
          "engine/train/useful.h, only the pairs that the rows read. Each step is made three\n"
          "times over the same rows: as a run makes it, for its time; with every launch timed;\n"
          "and with launches of no workgroup, for what the host, the driver and the queue take.\n",
      FLAGS(bench_flags),
      .n_positional = 1,
      .config = true,
      .run = cli_bench },
    { .name = "chat",
      .usage = "MODEL [--adapter DIR ...] [--temperature X ...]",
      .help = "talk with a model and its adapters",
      .detail =
          "A message is a line of standard input (a backslash at its end goes on in the next); "
          "/help "
          "lists what\nelse a line can be: switching adapters and their scale, the system message, "
          "saving the conversation.\n",
      FLAGS(chat_flags),
      .n_positional = 1,
      .run = cli_chat },
    { .name = "compare",
      .usage = "[ROWS.jsonl] --adapter DIR [--against DIR] [--judge JUDGE] [--key value ...]",
      .help = "whose replies are better, blind: win rate with interval",
      .detail =
          "Both reply to the same held-out prompts (ROWS.jsonl, or what the run held out).\n"
          "Judges: logp (who sets the chosen reply further above the rejected one), rules,\n"
          "reward (a reward model), model (a language model asked both ways round; what it\n"
          "takes back is a tie), people (replies go to DIR/compare.jsonl; decide with `attune\n"
          "label DIR/compare.jsonl`, then the same command again). Win rates of replies are\n"
          "also given at equal length. Exit code: 0 better, 1 worse, 3 not enough evidence.\n"
          "Example: attune compare --adapter out --judge model --judge_model judge.gguf\n",
      FLAGS(compare_flags),
      .n_positional = 1,
      .config = true,
      .run = cli_compare },
    { .name = "completions",
      .usage = "bash|fish|zsh",
      .help = "what a shell completes commands, flags and their words with",
      .detail = "bash: source <(attune completions bash)\n"
                "fish: attune completions fish | source\n"
                "zsh:  source <(attune completions zsh)\n",
      FLAGS(plain_flags),
      .n_positional = 1,
      .run = cli_completions },
    { .name = "config import",
      .usage = "TRL.yaml [--method NAME]",
      .help = "our configuration from TRL's, with a list of what changed",
      FLAGS(import_flags),
      .n_positional = 1,
      .run = cli_config_import },
    { .name = "config keys",
      .usage = "[--markdown]",
      .help = "all configuration keys",
      FLAGS(keys_flags),
      .run = cli_config_keys },
    { .name = "cpo",
      .usage = "[CONFIG] [--key value ...]",
      .help = "align with pairs and no reference (CPO, SimPO, AlphaPO)",
      .detail = "Example: attune cpo configs/simpo.json "
                "--model_name_or_path model.gguf --output_dir out\n",
      FLAGS(train_flags),
      .n_positional = 1,
      .config = true,
      .run = cli_method },
    { .name = "data convert",
      .usage = "FILE ... --output FILE [--to FORM] [--from FORM] [--only KIND] "
               "[--columns KEY=NAME,...] [--plain] [--system HOW]",
      .help = "rows of another tool or a table as rows to train with, and back",
      .detail =
          "Reads JSON Lines, a JSON list of rows, .csv and .tsv, packed with gzip or\n"
          "Zstandard or not. Forms: alpaca, argilla, feedback (only with --from), hh-rlhf,\n"
          "openai (Azure, Fireworks, Together), openpipe, orca, ratings (distilabel),\n"
          "sharegpt, trl, ultrafeedback; all but argilla, feedback, orca and ratings are\n"
          "written, too. Of feedback, edits become pairs and other thumbs labelled rows; of a\n"
          "log that has both, --only names one. Of Argilla's records what nobody answered,\n"
          "and ties, are left out and counted.\n",
      FLAGS(data_convert_flags),
      .n_positional = 4,
      .run = cli_data_convert },
    { .name = "data coverage",
      .usage = "TRAIN.jsonl --against LOG.jsonl --model_name_or_path MODEL [--n N] [--output FILE]",
      .help = "prompts of a log that are farthest from any training prompt",
      .detail =
          "Distance: between the model's mean hidden states of two prompts; 1 is the median "
          "distance\n"
          "of a training prompt from the next one. Far: beyond 95 % of these.\n"
          "--output writes the prompts listed, for `attune generate --prompts FILE --pairs`.\n",
      FLAGS(data_coverage_flags),
      .n_positional = 1,
      .run = cli_data_coverage },
    { .name = "data lint",
      .usage =
          "CONFIG|FILE.jsonl [--json] [--all] [--strict] [--key value ...] | --with RUN [--json]",
      .help = "what is wrong with a data set",
      .detail = "Exit code 65 when rows are bad. --eval_dataset FILE: held-out rows, for leakage;\n"
                "--model_name_or_path MODEL: lengths and roles as this model has them.\n"
                "--with RUN: held-out pairs never learnt, forgotten or learnt backwards, many of "
                "which have a wrong\nlabel, are written to RUN/bad_pairs.jsonl and opened as by "
                "`attune label --review`.\n",
      FLAGS(data_lint_flags),
      .n_positional = 1,
      .config = true,
      .run = cli_data_lint },
    { .name = "data show",
      .usage = "CONFIG|FILE.jsonl [--json] [--n N] [--key value ...]",
      .help = "rows as the trainer will see them",
      FLAGS(data_show_flags),
      .n_positional = 1,
      .config = true,
      .run = cli_data_show },
    { .name = "data split",
      .usage = "CONFIG|FILE.jsonl --output DIR [--eval_split 0.1] [--seed N]",
      .help = "rows to train on and rows to judge by, as two files",
      .detail =
          "Rows with one prompt stay together; seed and prompt alone say where they go, as in "
          "a run\nwith eval_split. Lines are written as they stand.\n",
      FLAGS(data_split_flags),
      .n_positional = 1,
      .config = true,
      .run = cli_data_split },
    { .name = "data stats",
      .usage = "CONFIG|FILE.jsonl [--json] [--model_name_or_path MODEL]",
      .help = "what a data set is made of: rows, prompts, turns, words, tokens",
      FLAGS(json_flags),
      .n_positional = 1,
      .config = true,
      .run = cli_data_stats },
    { .name = "devices",
      .usage = "[--json]",
      .help = "the Vulkan devices of this machine",
      FLAGS(json_flags),
      .run = cli_devices },
    { .name = "dial",
      .usage = "DIR [--max_drift X] [--rules FILE.jsonl] [--key value ...]",
      .help = "how strong a trained adapter should act, without training again",
      .detail =
          "Measures the adapter at several strengths with one load of the model: pairs,\n"
          "drift, perplexity, length of replies, rules. Takes the strongest within the\n"
          "budgets (--max_drift, --max_longer, --max_lost_rules) that is not clearly worse\n"
          "than the best one; above 1 only with --max_drift. DIR/dial.json has the curve.\n"
          "Exit code: 0 it is better than the base, 1 none is within budgets or better, 3 not\n"
          "enough evidence.\n"
          "Example: attune dial out --max_drift 0.1 --rules data/samples/regression.jsonl\n",
      FLAGS(dial_flags),
      .n_positional = 1,
      .config = true,
      .run = cli_dial },
    { .name = "dpo",
      .usage = "[CONFIG] [--key value ...]",
      .help = "align a model with preference pairs (DPO)",
      .detail = "Example: attune dpo configs/dpo.json --model_name_or_path model.gguf "
                "--output_dir out\n",
      FLAGS(train_flags),
      .n_positional = 1,
      .config = true,
      .run = cli_method },
    { .name = "eval",
      .usage = "[CONFIG|FILE.jsonl] [--adapter DIR ...] [--rules FILE.jsonl] [--key value ...]",
      .help = "judge adapters beside the base on held-out pairs; the exit code is the verdict",
      .detail = "Exit code 0: better and within budgets; 1: worse or over a budget (max_drift, "
                "max_lost_rules);\n3: not enough evidence. FILE: held-out pairs; of CONFIG "
                "eval_dataset, else split_eval.jsonl beside\nthe adapter. Without either, "
                "rows and settings of the adapter's run, and its model unless\nanother is "
                "named.\n",
      FLAGS(eval_flags),
      .n_positional = 1,
      .config = true,
      .run = cli_eval },
    { .name = "export",
      .usage = "DIR ... --output FILE.gguf|DIR [--model_name_or_path MODEL] [--adapter_scale X]",
      .help = "adapters as one file for llama.cpp, or as one PEFT folder",
      .detail = "DIR: PEFT folders, bottom first. Example: attune export out --output tone.gguf, "
                "then\nllama-server -m model.gguf --lora tone.gguf\n",
      FLAGS(export_flags),
      .n_positional = 4,
      .run = cli_export },
    { .name = "generate",
      .usage = "MODEL [--adapter DIR] --prompt TEXT|--prompts FILE.jsonl [--pairs] | "
               "MODEL --vary SEEDS.jsonl",
      .help = "reply to prompts; make pairs of replies to choose from, or prompts",
      .detail =
          "Example: attune generate model.gguf --adapter out --prompt \"Where is my order?\"\n"
          "--pairs and --vary write rows marked \"synthetic\": true, \"reviewed\": false. The two "
          "replies of a\npair differ in temperature, adapters or system message; equal ones are "
          "left "
          "out:\n  attune generate model.gguf --vary seeds.jsonl --n 100 > prompts.jsonl\n  attune "
          "generate model.gguf --prompts prompts.jsonl --pairs > candidates.jsonl\n  attune label "
          "candidates.jsonl\n",
      FLAGS(generate_flags),
      .n_positional = 1,
      .run = cli_generate },
    { .name = "grpo",
      .usage = "[CONFIG] [--key value ...]",
      .help = "train on samples and their rewards, compared within groups (GRPO)",
      .detail =
          "Example: attune grpo --train_dataset prompts.jsonl --reward_funcs \"contains_any:Ahoy\" "
          "\\\n"
          "    --model_name_or_path model.gguf --output_dir out\n"
          "Samples are drawn while it trains, or recorded: --rollouts samples.jsonl, a line:\n"
          "{\"prompt\": ..., \"completions\": [...], \"rewards\": [...]}\n",
      FLAGS(train_flags),
      .n_positional = 1,
      .config = true,
      .run = cli_method },
    { .name = "inspect",
      .usage = "FILE|DIR [--json] [--tensors]",
      .help = "what a model, an adapter or a run holds",
      FLAGS(inspect_flags),
      .n_positional = 1,
      .run = cli_inspect },
    { .name = "kto",
      .usage = "[CONFIG] [--key value ...]",
      .help =
          "align with single replies that are desirable or not, or with pairs taken apart (KTO)",
      .detail = "Example: attune kto configs/kto.json --model_name_or_path model.gguf "
                "--output_dir out\n",
      FLAGS(train_flags),
      .n_positional = 1,
      .config = true,
      .run = cli_method },
    { .name = "label",
      .usage =
          "FILE.jsonl [--annotator NAME] [--review] [--port N] | FILE.jsonl --export OUT.jsonl",
      .help = "choose between two replies on a local page, blind and in random order",
      .detail =
          "FILE: pairs in any form that `attune data convert` reads, or {\"prompt\",\n"
          "\"responses\": [one, another]}. Every decision is on the disk before the next pair\n"
          "shows. Several annotators share a log, each with --annotator; --export writes the\n"
          "majority's pairs, rewritten replies as pairs of their own, and agreement.\n",
      FLAGS(label_flags),
      .n_positional = 1,
      .run = cli_label },
    { .name = "man",
      .usage = "[COMMAND]",
      .help = "the manual page of a command, or of the program, as roff",
      .detail = "To read it: attune man dpo | man -l -\n"
                "To install it: attune man dpo > ~/.local/share/man/man1/attune-dpo.1\n",
      FLAGS(plain_flags),
      .n_positional = 2,
      .run = cli_man },
    { .name = "merge",
      .usage = "DIR ... --output FILE.gguf|DIR [--model_name_or_path MODEL] [--type TYPE]",
      .help = "one model of a base and its adapters: a GGUF file or a folder, as the base is",
      .detail =
          "DIR: PEFT folders, bottom first. Tensors that no adapter touches keep their bytes;\n"
          "a GGUF file keeps all metadata and the tokenizer. Types: bf16, f16, f32; in GGUF\n"
          "files also iq4_nl, iq4_xs, q2_k, q3_k, q4_0, q4_1, q4_k, q5_0, q5_1, q5_k, q6_k,\n"
          "q8_0, as llama.cpp quantises without importance matrix; rows that are not whole\n"
          "blocks have the type that it gives them. In the base's own blocks changes are\n"
          "rounded by chance, which keeps them on average. What few bits do to replies (KL)\n"
          "is measured. Another base than the run's is refused (exit 77) without --force.\n"
          "Example: attune merge out --output merged.gguf, then llama-server -m merged.gguf\n",
      FLAGS(merge_flags),
      .n_positional = 4,
      .run = cli_merge },
    { .name = "monitor",
      .usage = "LOG.jsonl [--against FILE.json ...] [--rule FILE.json ...] [--json]",
      .help = "what became of replies after release, beside the evaluation; drift is flagged",
      .detail =
          "LOG: a reply a line, {\"messages\"} or {\"prompt\", \"completion\"}, with what is "
          "known\n"
          "of thumb, edit, flagged, escalated, completed, finish_reason, latency_s,\n"
          "prompt_tokens, completion_tokens. FILE: what `attune eval --json` printed, or this\n"
          "command of an earlier log. Exit code 1 when a figure drifted other than for the\n"
          "better: its difference has a 99.5 % interval without 0. A figure is judged from 30\n"
          "replies on either side on; where none has them: 3.\n",
      FLAGS(monitor_flags),
      .n_positional = 1,
      .run = cli_monitor },
    { .name = "online_dpo",
      .usage = "[CONFIG] [--key value ...]",
      .help = "align with pairs of samples that a reward decides, drawn in training (online DPO)",
      .detail =
          "Example: attune online_dpo --train_dataset prompts.jsonl --reward_funcs out/reward \\\n"
          "    --model_name_or_path model.gguf --output_dir out\n",
      FLAGS(train_flags),
      .n_positional = 1,
      .config = true,
      .run = cli_method },
    { .name = "orpo",
      .usage = "[CONFIG] [--key value ...]",
      .help = "fine-tune and align at once, with pairs and no reference (ORPO)",
      .detail = "Example: attune orpo configs/orpo.json --model_name_or_path model.gguf "
                "--output_dir out\n",
      FLAGS(train_flags),
      .n_positional = 1,
      .config = true,
      .run = cli_method },
    { .name = "plan",
      .usage = "CONFIG [--json] [--key value ...]",
      .help = "memory, time, disk and rows of a run, before step 0",
      .detail =
          "The time comes from the run's useful operations and the rate of a product of the\n"
          "model's own shape, which is measured in half a second where the device is here;\n"
          "what else a step does has stated shares of it (engine/cli/plan_time.h). A range is\n"
          "that of several measurements; evaluations are counted beside the steps: with --json\n"
          "flop and estimated_time_s are of the steps, total_flop and total_time_s of both.\n",
      FLAGS(json_flags),
      .n_positional = 1,
      .config = true,
      .run = cli_plan },
    { .name = "report",
      .usage = "DIR [--output FILE.html] [--json] [--eval FILE] [--replies FILE] [--tokens FILE]",
      .help = "a finished run as one page to read, print and pass on",
      .detail = "The page needs no network and no script. DIR: the output_dir of a run.\n",
      FLAGS(report_flags),
      .n_positional = 1,
      .run = cli_report },
    { .name = "reward",
      .usage = "[CONFIG] [--key value ...]",
      .help = "train a reward model with preference pairs (Bradley-Terry)",
      .detail = "Example: attune reward configs/reward.json --model_name_or_path model.gguf "
                "--output_dir out\n",
      FLAGS(train_flags),
      .n_positional = 1,
      .config = true,
      .run = cli_method },
    { .name = "rloo",
      .usage = "[CONFIG] [--key value ...]",
      .help = "train on samples and their rewards, each against the others (RLOO)",
      .detail =
          "Example: attune rloo --train_dataset prompts.jsonl --reward_funcs \"contains_any:Ahoy\" "
          "\\\n"
          "    --model_name_or_path model.gguf --output_dir out\n"
          "Samples are drawn while it trains, or recorded: --rollouts samples.jsonl, a line:\n"
          "{\"prompt\": ..., \"completions\": [...], \"rewards\": [...]}\n",
      FLAGS(train_flags),
      .n_positional = 1,
      .config = true,
      .run = cli_method },
    { .name = "run",
      .usage = "PIPELINE [--dry_run] [--key value ...]",
      .help = "several stages, each starting from the one before",
      .detail =
          "PIPELINE is {\"output_dir\": ..., \"stages\": [{\"name\": ..., \"method\": ..., "
          "...}]};\n"
          "its other keys are defaults of all stages. Rows and memory of all are checked\n"
          "first; finished stages are not run again. In a stage's keys \"stage:NAME\" is the\n"
          "folder of that stage before it, as train_dataset, eval_dataset or rows a side of a\n"
          "split. Stages of method lint (bad rows: exit code 65; strict: warnings, too) and\n"
          "split (train_dataset, eval_split) look at data, plan at the memory and time of all\n"
          "trainings behind it. Stages of method compare, eval and report judge the adapter\n"
          "of the stage that trained last, baseline what the model reaches by prompts alone;\n"
          "their keys are those commands' flags (baseline: eval's). Exit code 1 or 3: a\n"
          "stage's verdict, after the last stage.\n",
      FLAGS(run_flags),
      .n_positional = 1,
      .config = true,
      .run = cli_run },
    { .name = "score",
      .usage = "CONFIG [--tokens] [--json] [--key value ...]",
      .help = "log-probs of every row (rewards, of a reward model), no training",
      .detail =
          "ref_logp, of methods with a reference: by ref_model_name_or_path; with an adapter\n"
          "by what its run started from (run.json beside it), else by the bare model; with\n"
          "adapter_start stack by the adapter itself, on which a new one would be trained.\n"
          "--tokens: blue gained, orange lost (marked [+x] without colour). Of method rloo or\n"
          "grpo with rollouts and reward_funcs or reward_command: the lines of rollouts with\n"
          "their rewards, to train on.\n",
      FLAGS(score_flags),
      .n_positional = 1,
      .config = true,
      .run = cli_score },
    { .name = "sft",
      .usage = "[CONFIG] [--key value ...]",
      .help = "train on completions (SFT)",
      .detail = "Example: attune sft configs/sft.json --model_name_or_path model.gguf "
                "--output_dir out\n",
      FLAGS(train_flags),
      .n_positional = 1,
      .config = true,
      .run = cli_method },
    { .name = "sweep",
      .usage = "CONFIG --key V,V,... [--key V,V,...] [--json] [--key value ...]",
      .help = "train with several values of some keys, and rank them by held-out pairs",
      .detail = "Example: attune sweep configs/dpo.json --beta .05,.1,.3 --learning_rate 1e-5,5e-5 "
                "--output_dir out\nEach try is a run in a folder of output_dir; all share the "
                "loaded model and the reference's\nlog-probs. Tries over max_drift come last. The "
                "same command goes on with an interrupted sweep.\n",
      FLAGS(json_flags),
      .n_positional = 1,
      .config = true,
      .run = cli_sweep },
    { .name = "tokenize",
      .usage = "--model MODEL [--json] [--decode] [--chat [--render]]",
      .help = "text to ids and back, chat template rendering",
      FLAGS(tokenize_flags),
      .n_positional = 1,
      .run = cli_tokenize },
    { .name = "tpo",
      .usage = "[CONFIG] [--key value ...]",
      .help = "align with pairs and a third reply to imitate (TPO)",
      .detail = "Rows are {prompt, chosen, rejected, reference}.\n"
                "Example: attune tpo --train_dataset triples.jsonl --model_name_or_path model.gguf "
                "--output_dir out\n",
      FLAGS(train_flags),
      .n_positional = 1,
      .config = true,
      .run = cli_method },
};

/* Commands of the interface that come with later versions. */
static const char *const not_built[] = {
    "online_dpo",
    "sign",
    "verify",
};

const struct cli_command *cli_command_get(size_t i)
{
    return i < AT_COUNT(commands) ? &commands[i] : NULL;
}

/* ---- finding one ---- */

/* Letters that differ by place, lengths included: enough for words of a few letters. */
static size_t typos(const char *a, const char *b)
{
    const size_t n = strlen(a), m = strlen(b);
    size_t i = 0, j = 0;

    while (i < n && i < m && a[i] == b[i])
        i++;
    while (j < n - i && j < m - i && a[n - 1 - j] == b[m - 1 - j])
        j++;
    return (n > m ? n : m) - i - j;
}

static AT_CHECKED unknown_command(const char *name)
{
    const char *best = NULL;
    size_t near = 3;

    for (size_t i = 0; i < AT_COUNT(commands); i++)
        if (typos(name, commands[i].name) < near) {
            near = typos(name, commands[i].name);
            best = commands[i].name;
        }
    if (best)
        return at_fail(AT_USAGE, "unknown command %s; did you mean `attune %s`?", name, best);
    return at_fail(AT_USAGE, "unknown command %s; `attune --help` lists them", name);
}

/* The part of a command's name after "GROUP ", or NULL. */
static const char *within(const char *name, const char *group)
{
    const size_t n = strlen(group);

    return strncmp(name, group, n) == 0 && name[n] == ' ' ? name + n + 1 : NULL;
}

bool cli_is_group(const char *word)
{
    bool found = false;

    for (size_t i = 0; i < AT_COUNT(commands); i++)
        found = found || within(commands[i].name, word);
    return found;
}

/* `word`: what follows the group's name; NULL or a flag: nothing does. */
static AT_CHECKED unknown_in_group(const char *group, const char *word)
{
    enum at_status st = AT_OK;
    const char *best = NULL;
    size_t near = 3;
    struct at_buf list = { 0 };

    for (size_t i = 0; i < AT_COUNT(commands); i++) {
        const char *name = within(commands[i].name, group);
        if (!name)
            continue;
        at_buf_printf(&list, "%s%s", list.n ? ", " : "", commands[i].name);
        if (word && typos(word, name) < near) {
            near = typos(word, name);
            best = name;
        }
    }
    TRY(at_buf_status(&list));
    if (!word || *word == '-')
        FAIL(AT_USAGE, "%s: a command is missing, one of: %s", group, list.data);
    if (best)
        FAIL(AT_USAGE, "unknown command %s %s; did you mean `attune %s %s`? There are: %s", group,
             word, group, best, list.data);
    FAIL(AT_USAGE, "unknown command %s %s; there are: %s", group, word, list.data);
done:
    at_buf_release(&list);
    return st;
}

AT_CHECKED cli_command_find(const struct cli_command **out, int argc, char **argv, int *used)
{
    char two[64];
    const char *names[2] = { two, argv[1] };

    snprintf(two, sizeof two, "%s %s", argv[1], argc > 2 ? argv[2] : "");
    for (int k = 0; k < 2; k++) {
        *used = 2 - k;
        for (size_t i = 0; i < AT_COUNT(commands); i++)
            if (strcmp(commands[i].name, names[k]) == 0) {
                *out = &commands[i];
                return AT_OK;
            }
        for (size_t i = 0; i < AT_COUNT(not_built); i++)
            if (strcmp(not_built[i], names[k]) == 0)
                return at_fail(AT_USAGE, "%s is not built in this version", names[k]);
    }
    if (cli_is_group(argv[1]))
        return unknown_in_group(argv[1], argc > 2 ? argv[2] : NULL);
    return unknown_command(argv[1]);
}
