#include "cli.h"

#include "losses.h"

#include <string.h>

/* ---- config import ---- */

/* TRL's keys outside its training arguments; what becomes of them here. */
static const struct at_flag trl_only[] = {
    { "dataset_config", "the data set is a file here" },
    { "dataset_name", "name a JSONL file as train_dataset; nothing is fetched" },
    { "dataset_streaming", "the data set is a file here" },
    { "dataset_test_split", "name a JSONL file as eval_dataset, or use eval_split" },
    { "dataset_train_split", "the data set is a file here" },
    { "logging_dir", "metrics.jsonl lies in output_dir" },
    { "lora_task_type", "it is always CAUSAL_LM" },
    { "max_completion_length", "it is for models with an encoder; max_length counts here" },
    { "model_init_kwargs", "a model is loaded as it lies in its files" },
    { "model_revision", "models are local files" },
    { "overwrite_output_dir", "nothing is overwritten" },
};

static bool is_off(const cJSON *value)
{
    return cJSON_IsNull(value) || cJSON_IsFalse(value) ||
           (cJSON_IsNumber(value) && value->valuedouble == 0) ||
           (cJSON_IsArray(value) && !value->child) ||
           (cJSON_IsString(value) && strcmp(value->valuestring, "none") == 0);
}

static void take_as(cJSON *out, const char *name, const cJSON *value)
{
    cJSON_DeleteItemFromObjectCaseSensitive(out, name);
    cJSON_AddItemToObject(out, name, cJSON_Duplicate(value, true));
}

static bool is_read(const char *name, const enum at_method *method)
{
    enum at_key key = AT_KEY_seed;
    const char *text = NULL;

    return at_key_classify(name, &key, &text) == AT_CLASS_ACTIVE &&
           (!method || at_key_read_by(key, *method));
}

/* A key with another name today: taken when the new name says the same. */
static void import_renamed(cJSON *out, const cJSON *document, const cJSON *item, const char *now,
                           const enum at_method *method)
{
    char name[64];
    const bool same = strcmp(item->string, "max_prompt_length") != 0 &&
                      (!strchr(now, ' ') || strcmp(item->string, "warmup_ratio") == 0);

    snprintf(name, sizeof name, "%.*s", (int)strcspn(now, " "), now);
    if (is_off(item)) {
        cli_note("%s: left out, it is off", item->string);
    } else if (same && method && !is_read(name, method)) {
        cli_note("%s: left out, %s does not read %s", item->string, at_method_get(*method)->name,
                 name);
    } else if (same && !at_json_find(document, name)) {
        cli_note("%s: is now %s", item->string, name);
        take_as(out, name, item);
    } else {
        at_warn("import", "%s: left out; the counterpart is %s", item->string, now);
    }
}

static AT_CHECKED import_key(cJSON *out, const cJSON *document, const cJSON *item,
                             const enum at_method *method)
{
    enum at_key key = AT_KEY_seed;
    const char *text = NULL, *near = NULL;

    for (size_t i = 0; i < AT_COUNT(trl_only); i++)
        if (strcmp(trl_only[i].key, item->string) == 0 && !is_read(item->string, method)) {
            cli_note("%s: left out: %s", item->string, trl_only[i].value);
            return AT_OK;
        }
    switch (at_key_classify(item->string, &key, &text)) {
    case AT_CLASS_ACTIVE:
        if (!method || at_key_read_by(key, *method))
            take_as(out, item->string, item);
        else
            cli_note("%s: left out, %s does not read it", item->string,
                     at_method_get(*method)->name);
        return AT_OK;
    case AT_CLASS_NO_EFFECT:
        cli_note("%s: left out: %s", item->string, text);
        return AT_OK;
    case AT_CLASS_RENAMED:
        import_renamed(out, document, item, text, method);
        return AT_OK;
    case AT_CLASS_LATER:
        if (is_off(item))
            cli_note("%s: left out, it is off", item->string);
        else
            at_warn("import",
                    "%s: left out, and that changes the result: this version does not "
                    "build %s",
                    item->string, text);
        return AT_OK;
    case AT_CLASS_UNKNOWN:
        break;
    }
    near = at_config_suggest(item->string);
    return at_fail(AT_USAGE, "unknown key %s%s%s%s", item->string, near ? "; did you mean " : "",
                   near ? near : "", near ? "?" : "");
}

/* The first method that takes the loss which the file names, if it is not DPO's. */
static bool method_of_loss(enum at_method *out, const cJSON *document)
{
    const cJSON *name = at_json_find(document, "loss_type");
    const struct at_loss *loss = cJSON_IsString(name) ? at_loss_find(name->valuestring) : NULL;

    for (int m = 0; loss && m < AT_METHOD_COUNT; m++)
        if (strchr(loss->methods, at_method_get((enum at_method)m)->letter)) {
            *out = (enum at_method)m;
            return !strchr(loss->methods, at_method_get(AT_DPO)->letter);
        }
    return false;
}

/* The method that a TRL file trains: --method, or what its keys tell, which is said. */
static AT_CHECKED import_method(enum at_method *out, bool *known, const struct cli_args *args,
                                const cJSON *document)
{
    static const struct {
        const char *key;
        enum at_method method;
    } signs[] = {
        { "alpha", AT_CPO },
        { "cpo_alpha", AT_CPO },
        { "desirable_weight", AT_KTO },
        { "num_generations", AT_GRPO },
        { "simpo_gamma", AT_CPO },
        { "tpo_alpha", AT_TPO },
        { "tpo_l_gamma", AT_TPO },
        { "undesirable_weight", AT_KTO },
        { "center_rewards_coefficient", AT_REWARD },
        { "loss_type", AT_DPO },
        { "beta", AT_DPO },
        { "assistant_only_loss", AT_SFT },
        { "completion_only_loss", AT_SFT },
        { "packing", AT_SFT },
    };
    const char *name = cli_flag_text(args, "method");

    *known = true;
    if (name && !at_method_find(out, name))
        return at_fail(AT_USAGE, "--method: one of %s expected, found \"%s\"",
                       at_key_range(AT_KEY_method), name);
    if (name)
        return AT_OK;
    if (method_of_loss(out, document)) {
        cli_note("method %s: its loss_type says so", at_method_get(*out)->name);
        return AT_OK;
    }
    for (size_t i = 0; i < AT_COUNT(signs); i++)
        if (at_json_find(document, signs[i].key)) {
            *out = signs[i].method;
            cli_note("method %s: %s says so; another is given by --method",
                     at_method_get(*out)->name, signs[i].key);
            return AT_OK;
        }
    *out = AT_SFT;
    *known = false;
    return AT_OK;
}

/* What TRL does where our default differs: its own defaults, as a preset. */
static void add_head(cJSON *out, const struct at_method_row *method)
{
    if (method)
        cJSON_AddStringToObject(out, "method", method->name);
    cJSON_AddStringToObject(out, "preset", "trl");
    cli_note("preset: trl added: TRL's default for every key that is not given");
    if (!method || !method->value_head)
        return;
    cJSON_AddStringToObject(out, "reward_token", "last_not_pad");
    cli_note("reward_token: last_not_pad added: where TRL reads a reward");
}

enum at_status cli_config_import(struct cli_args *args)
{
    enum at_status st = AT_OK;
    cJSON *document = NULL, *out = cJSON_CreateObject();
    struct at_config config = { .file = NULL };
    enum at_method method = AT_SFT;
    bool known = false;

    if (args->n_positional == 0)
        FAIL(AT_USAGE, "a file is missing; usage: attune config import %s", args->command->usage);
    TRY(at_json_load(&document, args->positional[0]));
    if (!cJSON_IsObject(document))
        FAIL(AT_DATA, "%s: keys and values expected", args->positional[0]);
    TRY(import_method(&method, &known, args, document));
    if (!known)
        at_warn("import", "the file does not say what it trains; give --method, one of %s",
                at_key_range(AT_KEY_method));
    add_head(out, known ? at_method_get(method) : NULL);
    for (const cJSON *item = document->child; item; item = item->next)
        TRY(import_key(out, document, item, known ? &method : NULL));
    if (known) /* else whoever reads it with a method finds what is wrong */
        TRY(at_config_read(&config, out, NULL, NULL, 0, &method));
    TRY(cli_print_pretty(out));
done:
    if (st != AT_OK && args->n_positional > 0)
        at_context("%s", args->positional[0]);
    at_config_release(&config);
    at_json_free(&document);
    cJSON_Delete(out);
    return st;
}

/* ---- config keys ---- */

enum { DEFAULT_BYTES = 192 };

/* A key's default under a preset; each method's own where they differ. */
static void default_text(char out[DEFAULT_BYTES], enum at_key key, const char *preset)
{
    char first[64] = "", part[DEFAULT_BYTES];
    size_t n = 0;
    bool same = true;

    for (int m = 0; m < AT_METHOD_COUNT; m++) {
        const char *word = at_key_default(key, (enum at_method)m, preset);
        if (!at_key_read_by(key, (enum at_method)m))
            continue;
        if (!*first)
            snprintf(first, sizeof first, "%s", word);
        same = same && strcmp(first, word) == 0;
    }
    if (same) {
        snprintf(out, DEFAULT_BYTES, "%s", strcmp(first, "-") == 0 ? "" : first);
        return;
    }
    out[0] = 0;
    for (int m = 0; m < AT_METHOD_COUNT; m++) {
        if (!at_key_read_by(key, (enum at_method)m))
            continue;
        snprintf(part, sizeof part, "%s%s %s", n ? ", " : "",
                 at_method_get((enum at_method)m)->name,
                 at_key_default(key, (enum at_method)m, preset));
        snprintf(out + n, DEFAULT_BYTES - n, "%s", part);
        n = strlen(out);
    }
}

static const char *type_text(enum at_key key)
{
    static const char *const words[][2] = {
        { "BOOL", "true or false" }, { "CHOICE", "" },           { "CHOICES", "one or a list" },
        { "F64", "number" },         { "LIST", "text or list" }, { "NUMBERS", "number or list" },
        { "OBJECT", "object" },      { "SOURCES", "sources" },   { "STR", "text" },
        { "U32", "whole number" },
    };

    for (size_t i = 0; i < AT_COUNT(words); i++)
        if (strcmp(words[i][0], at_key_type(key)) == 0)
            return words[i][1];
    return at_key_type(key);
}

static void markdown_key(enum at_key key)
{
    char trl[DEFAULT_BYTES], balanced[DEFAULT_BYTES];
    char readers[64] = "";
    bool all = true;

    for (int m = 0; m < AT_METHOD_COUNT; m++) {
        const size_t n = strlen(readers);
        if (at_key_read_by(key, (enum at_method)m))
            snprintf(readers + n, sizeof readers - n, "%s%s", n ? ", " : "",
                     at_method_get((enum at_method)m)->name);
        else
            all = false;
    }
    default_text(trl, key, "trl");
    default_text(balanced, key, "balanced");
    printf("| `%s` | %s", at_key_name(key), type_text(key));
    for (const char *c = at_key_range(key); *c; c++) {
        if (c == at_key_range(key) && *type_text(key))
            fputs(strcmp(at_key_type(key), "CHOICES") == 0 ? ": " : ", ", stdout);
        if (*c == '|')
            fputs(", ", stdout);
        else
            putchar(*c);
    }
    printf(" | %s | %s | %s | %s |\n", all ? "all" : readers, trl, balanced, at_key_help(key));
}

static void markdown_words(const char *title, const char *column, enum at_key_class class)
{
    const char *text = NULL, *name = NULL;

    printf("\n## %s\n\n| key | %s |\n|---|---|\n", title, column);
    for (size_t i = 0; (name = at_key_word(class, i, &text)) != NULL; i++)
        printf("| `%s` | %s |\n", name, text);
}

/* Why the presets' numbers are what they are: of every key whose value under one of them is not
 * TRL's. */
static const char *reason_of(enum at_key key)
{
    static const struct {
        enum at_key key;
        const char *reason;
    } rows[] = {
        { AT_KEY_assistant_only_loss, "tone is in the replies; the users' words are not to be "
                                      "learnt" },
        { AT_KEY_beta, "TRL's 0.1 in the middle; three times it holds a model that must hardly "
                       "change, half of it lets one go further from its start" },
        { AT_KEY_disable_dropout, "the reference is exact and runs repeat; few steps do not "
                                  "overfit for want of it" },
        { AT_KEY_eval_split, "without held-out pairs no result can be judged; a tenth costs little "
                             "training" },
        { AT_KEY_eval_strategy, "an evaluation an epoch shows when it gets worse" },
        { AT_KEY_learning_rate, "TRL's defaults are for full fine-tuning of many rows and hardly "
                                "move a LoRA adapter in 100 steps; 2e-4 does, half of it in one "
                                "epoch moves gently, SFT bears twice as much" },
        { AT_KEY_load_best_model_at_end, "few pairs are soon overfitted: the best evaluation is "
                                         "what is written" },
        { AT_KEY_log_completions, "what the policy says is seen while it trains, and the report "
                                  "has it" },
        { AT_KEY_logging_steps, "a run has some dozens of steps; each is worth a line" },
        { AT_KEY_lora_dropout, "see disable_dropout" },
        { AT_KEY_lora_target_modules, "with all linear layers LoRA learns like full fine-tuning; "
                                      "attention alone does not" },
        { AT_KEY_lr_scheduler_type, "the last steps are small, so that the end does not depend on "
                                    "the last batch" },
        { AT_KEY_num_train_epochs, "preference pairs are overfitted after one or two passes; SFT "
                                   "on a few hundred replies needs three" },
        { AT_KEY_on_bad_row, "a pair with an empty or the same reply twice teaches nothing and is "
                             "likely a mistake" },
        { AT_KEY_on_long_row, "a reply that was cut ends in the middle of a sentence, and that is "
                              "learnt" },
        { AT_KEY_per_device_train_batch_size, "more steps from few pairs; losses that compare the "
                                              "rows of a batch keep 8" },
        { AT_KEY_save_steps, "a run on a slow device loses minutes when it is stopped, not hours" },
        { AT_KEY_save_total_limit, "the newest checkpoint, and one before it" },
        { AT_KEY_train_sampling_strategy, "rows of one subject often stand together in a file" },
        { AT_KEY_use_peft, "an adapter is small, can be weakened (`attune dial`) and taken off" },
        { AT_KEY_warmup_steps, "Adam's second moments are poor in the first steps; a tenth of them "
                               "is enough" },
    };

    for (size_t i = 0; i < AT_COUNT(rows); i++)
        if (rows[i].key == key)
            return rows[i].reason;
    return NULL;
}

static void print_presets(void)
{
    static const char *const presets[] = { "trl", "gentle", "balanced", "strong" };
    enum { N = AT_COUNT(presets) };

    puts("\n## Presets\n\n"
         "What the presets set otherwise than TRL, for a few hundred pairs of a tone.\n\n"
         "| key | gentle | balanced | strong | why |\n|---|---|---|---|---|");
    for (int key = 0; key < AT_KEY_COUNT; key++) {
        char text[N][DEFAULT_BYTES];
        bool differs = false;
        for (size_t i = 0; i < N; i++) {
            default_text(text[i], (enum at_key)key, presets[i]);
            differs = differs || strcmp(text[i], text[0]) != 0;
        }
        AT_REQUIRE(differs == (reason_of((enum at_key)key) != NULL));
        if (differs)
            printf("| `%s` | %s | %s | %s | %s |\n", at_key_name((enum at_key)key), text[1],
                   text[2], text[3], reason_of((enum at_key)key));
    }
}

static void print_markdown(void)
{
    puts(
        "# Run files and configuration keys\n\n"
        "This file is made by `attune config keys --markdown`; a test compares.\n\n"
        "| file | what it does |\n|---|---|\n"
        "| `quickstart.sh` | trains a toy, or with `--real` a real model, on this machine |\n"
        "| `toy.json` | the toy's pipeline: SFT from random weights, then DPO and SFT at once |\n"
        "| `sft.json` | SFT with LoRA on conversations: `attune sft configs/sft.json` |\n"
        "| `dpo.json` | DPO with LoRA on the tone pairs: `attune dpo configs/dpo.json` |\n"
        "| `simpo.json` | SimPO, without a reference: `attune cpo configs/simpo.json` |\n"
        "| `kto.json` | KTO, the tone pairs taken apart: `attune kto configs/kto.json` |\n"
        "| `orpo.json` | ORPO, SFT and pairs at once: `attune orpo configs/orpo.json` |\n"
        "| `reward.json` | a reward model from pairs: `attune reward configs/reward.json` |\n"
        "| `rlhf.json` | SFT, DPO, a reward model, RLOO over the SFT, compared with the DPO, and a "
        "report: `attune run configs/rlhf.json` |\n"
        "| `tone.json` | lint, split, what prompts alone reach, a plan, SFT, DPO on top, judged, "
        "and a "
        "report: `attune run configs/tone.json` |\n"
        "| `qlora_dpo.json` | DPO with LoRA over a quantised GGUF file, for little memory |\n\n"
        "All but the toy need a model: add `--model_name_or_path MODEL`, a Hugging Face folder or "
        "a\n"
        "GGUF file. A key may stand in the file (JSON or YAML) or on the command line as\n"
        "`--key value`, which wins. Paths in a file start at the file's folder.\n\n"
        "## Keys\n\n"
        "`(a..b)` leaves out the ends. Without a default a key is unset. `preset: trl` gives the\n"
        "column trl, any other preset the column balanced with the changes below it.\n\n"
        "| key | value | read by | trl | balanced | meaning |\n|---|---|---|---|---|---|");
    for (int key = 0; key < AT_KEY_COUNT; key++)
        markdown_key((enum at_key)key);
    print_presets();
    markdown_words("Accepted without effect", "because", AT_CLASS_NO_EFFECT);
    markdown_words("Not built in this version (an error)", "needs", AT_CLASS_LATER);
    markdown_words("Other names (an error that names today's)", "write", AT_CLASS_RENAMED);
}

enum at_status cli_config_keys(struct cli_args *args)
{
    char fallback[DEFAULT_BYTES];

    if (cli_flag_on(args, "markdown")) {
        print_markdown();
        return AT_OK;
    }
    for (int key = 0; key < AT_KEY_COUNT; key++) {
        default_text(fallback, (enum at_key)key, "balanced");
        printf("%-30s %-22s %s\n", at_key_name((enum at_key)key), fallback,
               at_key_help((enum at_key)key));
    }
    return AT_OK;
}
