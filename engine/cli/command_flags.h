/* The flags of every command, sorted, for the table in commands.c alone; rows that several commands
 * have stand once. */
#ifndef AT_COMMAND_FLAGS_H
#define AT_COMMAND_FLAGS_H

#include "cli.h"

/* clang-format off */
#define COMMON \
    { "quiet", NULL, "no progress and no notes on stderr" }, \
    { "verbose", NULL, "more notes on stderr" }
#define DEVICE \
    { "device", "NAME", "number or part of the name of the device" }, \
    { "kernels", "auto|baseline", "baseline uses no device-specific variants" }
#define ADAPTER_SCALE { "adapter_scale", "X", "multiplies the adapters' strength (default 1); plain LoRA only" }
#define CHAT_TEMPLATE { "chat_template", "FILE|NAME", "chat template instead of the model's, or one of the model's" }
#define MODEL_NAME { "model_name_or_path", "MODEL", "the model, when it is not the first argument" }
#define TOKENIZER { "tokenizer", "DIR", "tokenizer instead of the model's" }
#define PENALTY { "repetition_penalty", "X", "weakens tokens that prompt or reply have (default 1: not)" }
#define LEAST \
    { "min_new_tokens", "N", "a reply does not end before it has N tokens (default 0)" }, \
    { "min_p", "X", "sample among those at least X times as likely as the likeliest (default 0)" }
#define SEED_AND_STOP \
    { "seed", "N", "seed of the sampling (default 42)" }, \
    { "stop", "TEXT", "ends a reply, and is no part of it; may be given several times" }
#define TOP \
    { "top_k", "N", "sample among the N likeliest; 0 (default): all" }, \
    { "top_p", "X", "sample among the likeliest that sum to X (default 1)" }
/* clang-format on */

static const struct cli_flag train_flags[] = { COMMON };
static const struct cli_flag json_flags[] = {
    { "json", NULL, "one JSON object on stdout" },
    COMMON,
};
static const struct cli_flag run_flags[] = {
    { "dry_run", NULL, "check all stages and say what would be done" },
    COMMON,
};
static const struct cli_flag score_flags[] = {
    { "adapter_scale", "X", "multiplies the adapter's strength (default 1); plain LoRA only" },
    { "json", NULL, "one JSON object a row" },
    { "tokens", NULL, "every token's log-prob and log-ratio, and what gained or lost most" },
    COMMON,
};
static const struct cli_flag data_convert_flags[] = {
    { "columns", "KEY=NAME,...", "what columns of a table are: prompt=Question,chosen=Reply" },
    { "from", "FORM", "the rows' form, when their keys do not tell" },
    { "only", "pairs|labelled|sft", "rows of this kind; others are left out and counted" },
    { "output", "FILE", "where to write, one JSON object a line" },
    { "plain", NULL, "texts of tables stay texts; else each becomes a message" },
    { "system", "keep|drop|replace=FILE", "what becomes of system messages (default keep)" },
    { "to", "FORM", "the form to write (default trl)" },
    COMMON,
};
static const struct cli_flag data_coverage_flags[] = {
    { "against", "LOG.jsonl", "lines with \"prompt\" (text or messages) or \"messages\"" },
    CHAT_TEMPLATE,
    DEVICE,
    { "json", NULL, "one JSON object on stdout" },
    { "model_name_or_path", "MODEL", "whose hidden states are compared" },
    { "n", "N", "prompts to list (default 20)" },
    { "output", "FILE.jsonl", "where to write the prompts listed, one {\"prompt\"} a line" },
    { "system_prompt", "TEXT", "system message for prompts that have none" },
    TOKENIZER,
    COMMON,
};
static const struct cli_flag data_lint_flags[] = {
    { "all", NULL, "every warning, not the first 20 of a kind" },
    { "annotator", "NAME", "with --with: who decides (default $USER)" },
    { "json", NULL, "one JSON object on stdout; with --with no page" },
    { "port", "N", "with --with: of the page (default 0: any that is free)" },
    { "strict", NULL, "warnings fail, too" },
    { "with", "RUN", "instead: a page with the pairs that a run could not learn, to review" },
    COMMON,
};
static const struct cli_flag data_show_flags[] = {
    { "json", NULL, "one JSON object a row: ids and masks" },
    { "n", "N", "rows to show (default 3)" },
    COMMON,
};
static const struct cli_flag data_split_flags[] = {
    { "output", "DIR", "where split_train.jsonl and split_eval.jsonl go" },
    COMMON,
};
static const struct cli_flag eval_flags[] = {
    { "adapter", "DIR", "PEFT folder to judge; may be given several times, the last one counts" },
    ADAPTER_SCALE,
    { "baseline_prompt", "TEXT", "also judge the base with this system message" },
    { "few_shot", "FILE.jsonl",
      "also judge the base with the first chosen replies of FILE as examples" },
    { "json", NULL, "one JSON object on stdout" },
    { "max_lost_rules", "X", "share of the rules that may be lost (default 0.05)" },
    { "max_new_tokens", "N", "length of a reply at most (default 96)" },
    { "n_few_shot", "N", "examples of --few_shot (default 4; 0: none)" },
    { "n_replies", "N", "held-out prompts to reply to (default 32; 0: none)" },
    { "output", "FILE.json", "also write what --json prints into this file" },
    { "rules", "FILE.jsonl", "prompts with a \"rule\" that replies must keep" },
    { "target", "X", "share of pairs whose chosen reply should be likelier; says what reaches it" },
    COMMON,
};
static const struct cli_flag compare_flags[] = {
    { "adapter", "DIR", "PEFT folder whose replies are judged" },
    { "adapter_scale", "X", "multiplies its strength (default 1); plain LoRA only" },
    { "against", "DIR", "adapter that it is compared with (default: the base alone)" },
    { "better", "TEXT", "judge model: \"Which answer is TEXT?\"" },
    { "json", NULL, "one JSON object on stdout" },
    { "judge", "logp|model|people|reward|rules", "who judges (default logp)" },
    { "judge_model", "MODEL", "the model that is asked, both ways round" },
    { "log", "FILE", "people's decisions (default: beside the replies, as attune label has it)" },
    { "max_new_tokens", "N", "length of a reply at most (default 96)" },
    { "n_replies", "N", "held-out prompts to reply to (default 64)" },
    { "replies", "FILE.jsonl",
      "where replies are kept, and read again (default DIR/compare.jsonl)" },
    { "reward_model", "DIR", "the output_dir of attune reward, or a whole reward model" },
    { "rules", "FILE.jsonl", "judge rules: prompts with a \"rule\" that replies must keep" },
    COMMON,
};
static const struct cli_flag dial_flags[] = {
    { "json", NULL, "what DIR/dial.json holds, on stdout" },
    { "max_longer", "X", "words a reply may have, in the base's (default 1.5, and 1 / 1.5)" },
    { "max_lost_rules", "X", "share of the rules that may be lost (default 0.05)" },
    { "max_new_tokens", "N", "length of a reply at most (default 96)" },
    { "n_replies", "N", "held-out prompts to reply to (default 16; 0: none)" },
    { "rows", "FILE.jsonl", "held-out pairs (default: those that the run held out)" },
    { "rules", "FILE.jsonl", "prompts with a \"rule\" that replies must keep" },
    { "strengths", "X,X,...", "what is measured (default 0,0.25,0.5,0.75,1,1.25,1.5)" },
    COMMON,
};
static const struct cli_flag export_flags[] = {
    ADAPTER_SCALE,
    { "base_model_name_or_path", "NAME", "what adapter_config.json is to name as the base" },
    { "format", "gguf|peft", "default: gguf when --output ends in .gguf, else peft" },
    { "model_name_or_path", "MODEL", "the base (default: the one that the run trained on)" },
    { "output", "PATH", "the new file or folder" },
    COMMON,
};
static const struct cli_flag merge_flags[] = {
    ADAPTER_SCALE,
    DEVICE,
    { "force", NULL, "also where the base is not the one that the adapters were trained on" },
    { "model_name_or_path", "MODEL", "the base (default: the one that the run trained on)" },
    { "output", "PATH", "the new file (.gguf) or folder, as the base is one" },
    { "type", "TYPE", "of every matrix: f16, f32, q8_0, q4_k, ... (default: as the base has it)" },
    COMMON,
};
static const struct cli_flag chat_flags[] = {
    { "adapter", "DIR", "PEFT folder; may be given several times, bottom first" },
    ADAPTER_SCALE,
    CHAT_TEMPLATE,
    { "context", "N", "tokens of the conversation at most (default 4096, or the model's)" },
    DEVICE,
    { "max_new_tokens", "N", "length of a reply at most (default 128)" },
    LEAST,
    MODEL_NAME,
    PENALTY,
    SEED_AND_STOP,
    { "system_prompt", "TEXT", "system message" },
    { "temperature", "X", "0 (default) takes the likeliest token" },
    TOKENIZER,
    TOP,
    COMMON,
};
static const struct cli_flag generate_flags[] = {
    { "adapter", "DIR", "PEFT folder; may be given several times, bottom first" },
    ADAPTER_SCALE,
    CHAT_TEMPLATE,
    DEVICE,
    { "json", NULL, "one JSON object a reply" },
    { "max_new_tokens", "N", "length of a reply at most (default 128)" },
    LEAST,
    MODEL_NAME,
    { "n", "N", "with --vary: prompts to propose (default 20)" },
    { "num_generations", "N", "replies to each prompt (default 1)" },
    { "other_adapter", "DIR|none",
      "with --pairs: adapters of the second reply instead of the first's" },
    { "other_system_prompt", "TEXT",
      "with --pairs: system message of the second reply; \"\": none" },
    { "other_temperature", "X",
      "with --pairs: of the second reply (default 0.8, or the first's where another --other_* is "
      "given)" },
    { "pairs", NULL, "two replies to every prompt, as rows for `attune label`" },
    { "parallel", "N", "replies that grow at once (default: all, 32 at most, as memory allows)" },
    { "profile", NULL, "time every kernel and print the table at the end" },
    { "prompt", "TEXT", "a user's message; may be given several times" },
    { "prompts", "FILE.jsonl", "lines with \"prompt\" (text or messages) or \"messages\"" },
    { "raw", NULL, "prompts are plain text: no chat template" },
    PENALTY,
    { "reward_command", "TEXT",
      "with --rollouts: `sh -c` of it gives rewards, of rows on stdin a number a line" },
    { "reward_command_timeout", "S", "seconds that it may take for a prompt (default 600)" },
    { "reward_funcs", "JSON",
      "with --rollouts: sources of rewards, such as \"contains_any:Ahoy\" or a list of them" },
    { "rollouts", NULL,
      "a line a prompt for `attune grpo`: ids and log-probs, and rewards where they are asked "
      "for" },
    SEED_AND_STOP,
    { "system_prompt", "TEXT", "system message for prompts that have none" },
    { "temperature", "X",
      "0 takes the likeliest token (default 0, with --vary 0.8, with --rollouts 1)" },
    TOKENIZER,
    TOP,
    { "vary", "SEEDS.jsonl", "propose prompts like these instead of replying" },
    COMMON,
};
static const struct cli_flag tokenize_flags[] = {
    { "add_generation_prompt", NULL, "with --chat: open the assistant's turn" },
    { "chat", NULL, "stdin has one {\"messages\":[...]} a line" },
    CHAT_TEMPLATE,
    { "decode", NULL, "stdin has one array of ids a line, stdout one JSON string a line" },
    { "json", NULL, "stdin has one JSON string a line instead of one line of text" },
    { "model", "MODEL", "model, or folder with tokenizer files only" },
    { "no_special_tokens", NULL, "no BOS and EOS" },
    { "render", NULL, "with --chat: the text as a JSON string instead of ids" },
    TOKENIZER,
    COMMON,
};
static const struct cli_flag inspect_flags[] = {
    { "json", NULL, "one JSON object on stdout" },
    { "tensors", NULL, "every tensor with type and shape" },
    COMMON,
};
static const struct cli_flag import_flags[] = {
    { "method", "NAME", "what the file trains, when it does not say it" },
    COMMON,
};
static const struct cli_flag keys_flags[] = {
    { "markdown", NULL, "as configs/README.md" },
    COMMON,
};
static const struct cli_flag plain_flags[] = { COMMON };
static const struct cli_flag label_flags[] = {
    { "annotator", "NAME", "who decides (default $USER)" },
    { "dimensions", "A,B,...", "what is rated from 1 to 5 of the chosen reply" },
    { "export", "FILE.jsonl", "no page: writes what was decided as pairs, and who agrees" },
    { "json", NULL, "the page's address, or the export's counts, as a JSON object on stdout" },
    { "log", "FILE", "the decisions (default: FILE.labels.jsonl beside the pairs)" },
    { "port", "N", "of the page (default 0: any that is free)" },
    { "review", NULL, "not blind: is the label of each pair right?" },
    { "seed", "N", "of the order of pairs and of sides (default 42)" },
    COMMON,
};
static const struct cli_flag bench_flags[] = {
    { "compare", "BEFORE.json", "instead of measuring: what changed from it to AFTER.json" },
    { "json", NULL, "one JSON object on stdout" },
    { "steps", "N", "optimizer steps that are measured (default 3), after one to warm up" },
    COMMON,
};

static const struct cli_flag monitor_flags[] = {
    { "against", "FILE.json", "figures to compare with; may be given several times" },
    { "json", NULL, "one JSON object on stdout" },
    { "rule", "FILE.json",
      "a rule that every reply must keep, such as {\"max_words\": 80}; several may be given" },
    COMMON,
};
static const struct cli_flag report_flags[] = {
    { "eval", "FILE", "what `attune eval --json` printed (default DIR/eval.json, if any)" },
    { "json", NULL, "the same facts as one JSON object on stdout" },
    { "output", "FILE.html", "the page (default DIR/report.html)" },
    { "replies", "FILE.jsonl",
      "lines with \"prompt\", \"before\", \"after\" (default DIR/replies.jsonl, if any)" },
    { "tokens", "FILE.jsonl",
      "what `attune score --tokens --json` printed (default DIR/tokens.jsonl, if any)" },
    COMMON,
};

#endif
