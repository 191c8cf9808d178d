/* links: train base */
#include "config.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

/* Reads a document (JSON text or NULL) and flags, a list of pairs that ends with NULL. */
static enum at_status read_as(struct at_config *out, const char *text, const char *path,
                              enum at_method method, const char *const *flags)
{
    struct at_flag list[8];
    size_t n = 0;
    cJSON *document = text ? cJSON_Parse(text) : NULL;
    enum at_status st = AT_OK;

    assert_true(!text || document);
    for (; flags && flags[2 * n]; n++)
        list[n] = (struct at_flag){ flags[2 * n], flags[2 * n + 1] };
    st = at_config_read(out, document, path, list, n, &method);
    cJSON_Delete(document);
    return st;
}

static void check_fails(const char *text, enum at_method method, const char *const *flags,
                        const char *part, const char *other)
{
    struct at_config c;

    if (read_as(&c, text, "dir/run.json", method, flags) != AT_USAGE)
        fail_msg("accepted: %s", text ? text : flags[0]);
    if (!strstr(at_message(), part) || !strstr(at_message(), other))
        fail_msg("\"%s\" does not say \"%s\" and \"%s\"", at_message(), part, other);
}

/* Gentle pulls less than balanced, strong more: to the reference, or away from the anchor. */
static void presets_order_beta_by_method(void **state)
{
    static const struct {
        enum at_method method;
        bool more_is_gentle;
    } methods[] = { { AT_DPO, true }, { AT_ORPO, false } };

    (void)state;
    for (size_t i = 0; i < AT_COUNT(methods); i++) {
        const enum at_method m = methods[i].method;
        const double gentle = strtod(at_key_default(AT_KEY_beta, m, "gentle"), NULL);
        const double balanced = strtod(at_key_default(AT_KEY_beta, m, "balanced"), NULL);
        const double strong = strtod(at_key_default(AT_KEY_beta, m, "strong"), NULL);
        assert_int_equal(gentle > balanced, methods[i].more_is_gentle);
        assert_int_equal(balanced > strong, methods[i].more_is_gentle);
    }
}

static enum at_method a_method_of(enum at_key key)
{
    for (int m = 0; m < AT_METHOD_COUNT; m++)
        if (at_key_read_by(key, (enum at_method)m))
            return (enum at_method)m;
    fail_msg("no method reads %s", at_key_name(key));
    return AT_METHOD_COUNT;
}

static bool is_type(enum at_key key, const char *type)
{
    return strcmp(at_key_type(key), type) == 0;
}

static bool is_text(enum at_key key)
{
    return is_type(key, "STR") || is_type(key, "LIST") || is_type(key, "SOURCES");
}

/* A value of another JSON type is refused with the key's name, in file and flag. */
static void wrong_types_name_the_key(void **state)
{
    char text[256], name[96];

    (void)state;
    for (int k = 0; k < AT_KEY_COUNT; k++) {
        const enum at_key key = (enum at_key)k;
        const bool words = is_type(key, "STR") || is_type(key, "CHOICE") || is_type(key, "LIST") ||
                           is_type(key, "CHOICES") || is_type(key, "SOURCES");
        snprintf(text, sizeof text, "{\"%s\":%s}", at_key_name(key), words ? "7" : "\"x\"");
        snprintf(name, sizeof name, "dir/run.json: %s: ", at_key_name(key));
        check_fails(text, a_method_of(key), NULL, name, " expected, found ");
        if (words)
            continue;
        const char *const flags[] = { at_key_name(key), "x", NULL };
        snprintf(name, sizeof name, "--%s: ", at_key_name(key));
        check_fails(NULL, a_method_of(key), flags, name, "\"x\"");
    }
}

/* Just outside of each number's range, and a word that a choice lacks. */
static void values_out_of_range_say_the_range(void **state)
{
    char text[256];

    (void)state;
    for (int k = 0; k < AT_KEY_COUNT; k++) {
        const enum at_key key = (enum at_key)k;
        const char *range = at_key_range(key);
        if (is_type(key, "CHOICE") || is_type(key, "CHOICES")) {
            snprintf(text, sizeof text, "{\"%s\":\"nope\"}", at_key_name(key));
            check_fails(text, a_method_of(key), NULL, at_key_name(key),
                        key == AT_KEY_loss_type ? "unknown loss" : range);
        }
        if (!is_type(key, "U32") && !is_type(key, "F64"))
            continue;
        const double high = strtod(strstr(range, "..") + 2, NULL);
        const double low = range[0] == '(' ? 0 : strtod(range, NULL);
        snprintf(text, sizeof text, "{\"%s\":%.17g}", at_key_name(key), low - 0.5);
        check_fails(text, a_method_of(key), NULL, at_key_name(key), range);
        snprintf(text, sizeof text, "{\"%s\":%.17g}", at_key_name(key), 2 * high + 1);
        check_fails(text, a_method_of(key), NULL, at_key_name(key), range);
        if (range[0] == '(') {
            snprintf(text, sizeof text, "{\"%s\":0}", at_key_name(key));
            check_fails(text, a_method_of(key), NULL, at_key_name(key), range);
        }
        if (is_type(key, "U32")) {
            snprintf(text, sizeof text, "{\"%s\":1.5}", at_key_name(key));
            check_fails(text, a_method_of(key), NULL, at_key_name(key), "whole number");
        }
    }
}

/* The text of an effective value, as defaults are written. */
static void value_text(char out[96], const struct at_config *c, enum at_key key)
{
    cJSON *value = at_config_value(c, key);

    if (cJSON_IsString(value))
        snprintf(out, 96, "%s", value->valuestring);
    else if (cJSON_IsArray(value) && cJSON_GetArraySize(value) == 1)
        snprintf(out, 96, "%s", value->child->valuestring);
    else if (cJSON_IsNumber(value))
        snprintf(out, 96, "%.17g", value->valuedouble);
    else
        snprintf(out, 96, "%s", cJSON_IsNull(value) ? "-" : cJSON_IsTrue(value) ? "true" : "false");
    cJSON_Delete(value);
}

/* Every key of every method and preset has the default that the table says. */
static void defaults_follow_the_table(void **state)
{
    static const char *const presets[] = { "trl", "gentle", "balanced", "strong" };
    char text[96], want[96], document[64];
    struct at_config c;

    (void)state;
    for (size_t p = 0; p < AT_COUNT(presets); p++)
        for (int m = 0; m < AT_METHOD_COUNT; m++) {
            snprintf(document, sizeof document, "{\"preset\":\"%s\"}", presets[p]);
            if (read_as(&c, document, NULL, (enum at_method)m, NULL) != AT_OK)
                fail_msg("%s", at_message());
            for (int k = 0; k < AT_KEY_COUNT; k++) {
                const enum at_key key = (enum at_key)k;
                if (k == AT_KEY_preset)
                    continue;
                value_text(text, &c, key);
                snprintf(want, sizeof want, "%s",
                         at_key_default(key, (enum at_method)m, presets[p]));
                if (is_type(key, "U32") || is_type(key, "F64")) {
                    char *end = NULL;
                    const double x = strtod(want, &end);
                    if (!*end)
                        snprintf(want, sizeof want, "%.17g", x);
                }
                if (strcmp(text, want) != 0)
                    fail_msg("%s of %s: %s, want %s", at_key_name(key), presets[p], text, want);
            }
            at_config_release(&c);
        }
}

/* Values that users rely on, not read from the table. */
static void presets_give_what_the_interface_says(void **state)
{
    struct at_config c;

    (void)state;
    assert_int_equal(read_as(&c, "{\"preset\":\"trl\"}", NULL, AT_DPO, NULL), AT_OK);
    assert_true(c.learning_rate == 1e-6 && c.eval_split == 0 && !c.use_peft);
    assert_string_equal(c.on_long_row, "cut");
    assert_string_equal(c.on_bad_row, "keep");
    assert_string_equal(c.loss_type.items[0], "sigmoid");
    at_config_release(&c);
    assert_int_equal(read_as(&c, NULL, NULL, AT_SFT, NULL), AT_OK);
    assert_true(c.learning_rate == 2e-4 && c.eval_split == 0.1 && c.use_peft);
    assert_true(c.assistant_only_loss && c.lora_r == 16 && c.lora_alpha == 32);
    assert_string_equal(c.preset, "balanced");
    assert_string_equal(c.lora_target_modules.items[0], "all-linear");
    assert_string_equal(c.on_long_row, "error");
    assert_string_equal(c.loss_type.items[0], "nll");
    at_config_release(&c);
    assert_int_equal(read_as(&c, "{\"preset\":\"strong\"}", NULL, AT_DPO, NULL), AT_OK);
    assert_true(c.beta == 0.05 && c.learning_rate == 2e-4 && c.num_train_epochs == 2);
    at_config_release(&c);
}

static void loss_type_is_a_word_or_a_list_with_weights(void **state)
{
    static const char *const flags[] = { "loss_type", "[\"ipo\",\"sft\"]", "loss_weights", "[1,0]",
                                         NULL };
    struct at_config c;

    (void)state;
    assert_int_equal(read_as(&c, "{\"loss_type\":\"ipo\"}", NULL, AT_DPO, NULL), AT_OK);
    assert_int_equal(c.loss_type.n, 1);
    assert_string_equal(c.loss_type.items[0], "ipo");
    assert_int_equal(c.loss_weights.n, 0);
    at_config_release(&c);
    assert_int_equal(read_as(&c, NULL, NULL, AT_DPO, flags), AT_OK);
    assert_int_equal(c.loss_type.n, 2);
    assert_string_equal(c.loss_type.items[1], "sft");
    assert_true(c.loss_weights.n == 2 && c.loss_weights.items[0] == 1 &&
                c.loss_weights.items[1] == 0);
    at_config_release(&c);
}

/* PEFT writes true, its command line "true"; starts that are not built are refused with those that
 * are. */
static void a_choice_reads_true_as_its_word(void **state)
{
    static const char *const good[] = { "true", "\"true\"", "\"gaussian\"" };
    static const char *const bad[] = { "false", "\"pissa\"", "1" };
    char text[64];
    struct at_config c;

    (void)state;
    for (size_t i = 0; i < AT_COUNT(good); i++) {
        snprintf(text, sizeof text, "{\"init_lora_weights\":%s}", good[i]);
        assert_int_equal(read_as(&c, text, NULL, AT_DPO, NULL), AT_OK);
        assert_string_equal(c.init_lora_weights, i < 2 ? "true" : "gaussian");
        at_config_release(&c);
    }
    for (size_t i = 0; i < AT_COUNT(bad); i++) {
        snprintf(text, sizeof text, "{\"init_lora_weights\":%s}", bad[i]);
        check_fails(text, AT_DPO, NULL, "init_lora_weights",
                    i < 2 ? "one of true|gaussian" : "a string");
    }
}

struct refusal {
    const char *document, *want, *more;
    enum at_method method;
};

static void check_refusals(const struct refusal *cases, size_t n)
{
    for (size_t i = 0; i < n; i++)
        check_fails(cases[i].document, cases[i].method, NULL, cases[i].want, cases[i].more);
}

/* Lists and knobs that mean nothing are refused with the nearest valid choice. */
static void objectives_without_meaning_are_refused(void **state)
{
    static const struct refusal cases[] = {
        { "{\"loss_type\":[]}", "loss_type: at least one", "", AT_DPO },
        { "{\"loss_type\":[\"sigmoid\",\"bogus\"]}", "loss_type: unknown loss \"bogus\"; dpo takes",
          "sigmoid_norm or sppo_hard, or file:PATH.h", AT_DPO },
        { "{\"loss_type\":\"simp\"}", "did you mean simpo? cpo takes alphapo,", "", AT_CPO },
        { "{\"loss_type\":\"simpoo\"}", "unknown loss \"simpoo\"; sft takes dft or nll", "",
          AT_SFT },
        { "{\"loss_type\":[\"sft\",\"sft\"]}", "names sft twice", "loss_weights", AT_DPO },
        { "{\"loss_type\":\"sigmoid\",\"loss_weights\":[1,2]}", "loss_weights: 1 numbers",
          "found 2", AT_DPO },
        { "{\"loss_type\":[\"sigmoid\",\"sft\"],\"loss_weights\":[1]}", "loss_weights: 2 numbers",
          "found 1", AT_DPO },
        { "{\"loss_weights\":[-1]}", "loss_weights: a list of numbers in 0..", "", AT_DPO },
        { "{\"label_smoothing\":0.1}", "label_smoothing is not read by loss_type sigmoid",
          "cdpo, exo_pair or robust", AT_DPO },
        { "{\"loss_type\":\"exo_pair\"}", "exo_pair needs label_smoothing above 0", "1e-3",
          AT_DPO },
        { "{\"loss_type\":\"cdpo\"}", "cdpo needs label_smoothing above 0", "sigmoid", AT_DPO },
        { "{\"loss_type\":\"robust\",\"label_smoothing\":0.5}",
          "robust needs label_smoothing below 0.5", "", AT_DPO },
        { "{\"discopop_tau\":0.1}", "discopop_tau is not read by loss_type sigmoid", "use discopop",
          AT_DPO },
        { "{\"loss_type\":\"apo_zero\",\"f_divergence_type\":\"forward_kl\"}",
          "apo_zero does not take f_divergence_type forward_kl", "sigmoid_norm, or", AT_DPO },
        { "{\"loss_type\":\"sft\",\"f_divergence_type\":\"forward_kl\"}",
          "f_divergence_type forward_kl is not read by loss_type sft", "", AT_DPO },
        { "{\"f_alpha_divergence_coef\":0.1}", "f_alpha_divergence_coef is not read",
          "alpha_divergence", AT_DPO },
        { "{\"loss_type\":\"simpo\"}", "loss_type simpo does not fit dpo",
          "takes aot, aot_unpaired", AT_DPO },
        { "{\"loss_type\":\"aot\",\"f_divergence_type\":\"forward_kl\"}",
          "aot does not take f_divergence_type forward_kl", "cdpo, discopop", AT_DPO },
        { "{\"loss_type\":[\"hinge\",\"aot_unpaired\"],\"use_weighting\":true}",
          "use_weighting weighs a pair and loss_type aot_unpaired", "use sigmoid", AT_DPO },
        { "{\"loss_type\":\"sft\",\"ld_alpha\":0.5}", "ld_alpha is not read by loss_type sft",
          "use sigmoid", AT_DPO },
        { "{\"ld_alpha\":1.5}", "ld_alpha", "0..1", AT_DPO },
        { "{\"sync_ref_model\":true,\"use_peft\":true,\"ref_model_mixup_alpha\":0}",
          "ref_model_mixup_alpha 0 leaves the reference", "remove sync_ref_model", AT_DPO },
    };

    (void)state;
    check_refusals(cases, AT_COUNT(cases));
}

static void objectives_without_meaning_of_other_methods_are_refused(void **state)
{
    static const struct refusal cases[] = {
        { "{\"loss_type\":[\"nll\",\"nll\"]}", "sft takes one loss", "", AT_SFT },
        { "{\"desirable_weight\":0,\"undesirable_weight\":0}", "are both 0 and nothing would be",
          "give one of them", AT_KTO },
        { "{\"loss_type\":\"nca_pair\"}", "loss_type nca_pair does not fit cpo",
          "takes alphapo, cdpo, hinge, ipo, sigmoid or simpo", AT_CPO },
        { "{\"loss_type\":[\"simpo\",\"ipo\"]}", "cpo takes one loss", "", AT_CPO },
        { "{\"simpo_gamma\":1}", "simpo_gamma is not read by loss_type sigmoid",
          "use alphapo or simpo", AT_CPO },
        { "{\"alpha\":1,\"loss_type\":\"simpo\"}", "alpha is not read by loss_type simpo",
          "use alphapo", AT_CPO },
        { "{\"cpo_alpha\":0.5,\"loss_type\":\"alphapo\"}", "cpo_alpha is not read by", "alphapo",
          AT_CPO },
        { "{\"label_smoothing\":0.5,\"loss_type\":\"simpo\"}",
          "simpo needs label_smoothing below 0.5", "", AT_CPO },
        { "{\"loss_type\":\"tpo-l\"}", "tpo-l does not fit cpo, which takes", "simpo", AT_CPO },
        { "{\"loss_type\":\"simpo\"}", "simpo does not fit tpo, which takes",
          "cdpo, hinge, ipo, sigmoid or tpo_l", AT_TPO },
        { "{\"tpo_alpha\":1}", "tpo_alpha is not read by cpo", "remove it", AT_CPO },
        { "{\"tpo_l_gamma\":1}", "tpo_l_gamma is not read by loss_type sigmoid", "use tpo_l",
          AT_TPO },
        { "{\"label_smoothing\":0.1}", "label_smoothing is not read by loss_type sigmoid",
          "use cdpo or tpo_l", AT_TPO },
        { "{\"cpo_alpha\":1}", "cpo_alpha is not read by tpo", "remove it", AT_TPO },
        { "{\"ref_model_name_or_path\":\"x\"}", "is not read by tpo", "remove it", AT_TPO },
    };

    (void)state;
    check_refusals(cases, AT_COUNT(cases));
}

/* The older generation's, with what to write today. */
static void objectives_of_older_releases_are_refused(void **state)
{
    static const struct refusal cases[] = {
        { "{\"rpo_alpha\":0.5}", ", here \"loss_type\": [\"sigmoid\", \"sft\"], ",
          "\"loss_weights\": [1, 0.5]", AT_DPO },
        { "{\"reference_free\":true}", "here \"method\": \"cpo\", \"cpo_alpha\": 0", "`attune cpo`",
          AT_DPO },
        { "{\"reference_free\":false}", "reference_free is off", "remove it", AT_DPO },
        { "{\"max_prompt_length\":512}", "here \"max_length\": 1024", "together", AT_DPO },
        { "{\"loss_type\":\"aot_pair\"}", "\"loss_type\": \"aot_unpaired\"",
          "--loss_type aot_unpaired", AT_DPO },
        { "{\"label_smoothing_factor\":0.1}", "does not build label smoothing of the cross-entropy",
          "remove it", AT_SFT },
        { "{\"loss_type\":\"chunked_nll\"}", "chunked_nll: write nll", "", AT_SFT },
    };
    static const char *const flag[] = { "rpo_alpha", "0.25", NULL };
    static const char *const prompt[] = { "max_prompt_length", "512", NULL };
    static const char *const free_of[] = { "reference_free", "true", NULL };

    (void)state;
    check_fails(NULL, AT_DPO, prompt, "--max_prompt_length: write ", "here --max_length 1024");
    check_fails(NULL, AT_DPO, free_of, "--reference_free: write ",
                "here attune cpo, with --cpo_alpha 0");
    check_refusals(cases, AT_COUNT(cases));
    check_fails(NULL, AT_DPO, flag, "--rpo_alpha: write ",
                "here --loss_type '[\"sigmoid\", \"sft\"]' "
                "--loss_weights '[1, 0.25]'");
}

static void losses_of_weight_0_read_nothing(void **state)
{
    static const struct {
        const char *document, *want, *more;
    } cases[] = {
        { "{\"loss_type\":[\"sft\",\"sigmoid\"],\"loss_weights\":[1,0],\"ld_alpha\":0.5}",
          "ld_alpha is not read by loss_type sft", "use sigmoid" },
        { "{\"loss_type\":[\"discopop\",\"hinge\"],\"loss_weights\":[0,1],\"discopop_tau\":0.1}",
          "discopop_tau is not read by loss_type discopop", "have a weight above 0: use discopop" },
        { "{\"loss_type\":[\"cdpo\",\"hinge\"],\"loss_weights\":[0,1],\"label_smoothing\":0.1}",
          "label_smoothing is not read by", "have a weight above 0" },
        { "{\"loss_type\":[\"sft\",\"hinge\"],\"loss_weights\":[1,0],\"f_divergence_type\":"
          "\"forward_kl\"}",
          "f_divergence_type forward_kl is not read by loss_type sft", "" },
    };

    (void)state;
    for (size_t i = 0; i < AT_COUNT(cases); i++)
        check_fails(cases[i].document, AT_DPO, NULL, cases[i].want, cases[i].more);
}

static void unknown_keys_suggest_the_nearest(void **state)
{
    static const char *const flag[] = { "lora_rank", "8", NULL };
    static const char *const typo[] = { "lerning_rate", "1", NULL };

    (void)state;
    check_fails("{\"lerning_rate\":1}", AT_DPO, NULL, "dir/run.json: unknown key lerning_rate",
                "did you mean learning_rate?");
    check_fails(NULL, AT_DPO, typo, "unknown flag --lerning_rate", "did you mean --learning_rate?");
    check_fails(NULL, AT_DPO, flag, "--lora_rank", "--lora_r");
    check_fails("{\"zzzzzzzzzzzzzz\":1}", AT_DPO, NULL, "unknown key zzzzzzzzzzzzzz",
                "config keys");
}

/* An empty list asks for no held-out rows, of the training's as of a file, unless a share is given,
 * too; folds hold out without either. A flag may so turn off what the file's evaluations need. */
static void empty_eval_dataset_holds_out_nothing(void **state)
{
    static const char *const empty[] = { "eval_dataset", "[]", NULL };
    static const struct {
        const char *text;
        const char *const *flags;
        double split;
    } cases[] = {
        { "{}", NULL, 0.1 },
        { "{\"eval_dataset\":[]}", NULL, 0 },
        { "{\"eval_dataset\":null}", NULL, 0.1 },
        { "{\"eval_dataset\":\"a.jsonl\"}", empty, 0 },
        { "{\"eval_dataset\":[],\"eval_split\":0.2}", NULL, 0.2 },
        { "{\"cross_validation\":5}", empty, 0.1 },
        { "{\"eval_strategy\":\"epoch\"}", empty, 0 },
    };
    struct at_config c;

    (void)state;
    for (size_t i = 0; i < AT_COUNT(cases); i++) {
        assert_int_equal(read_as(&c, cases[i].text, NULL, AT_DPO, cases[i].flags), AT_OK);
        if (c.eval_split != cases[i].split)
            fail_msg("%s: eval_split is %g", cases[i].text, c.eval_split);
        at_config_release(&c);
    }
    check_fails("{\"eval_dataset\":[],\"eval_strategy\":\"epoch\"}", AT_DPO, NULL,
                "eval_strategy epoch needs held-out rows", "eval_split");
}

/* A key of one method given to another is an error, for every such key. */
/* Values that exclude each other, with the nearest that do not. */
static void contradictions_are_refused(void **state)
{
    static const struct {
        enum at_method method;
        const char *text, *part, *other;
    } cases[] = {
        { AT_DPO, "{\"loss_type\":\"aot\",\"disable_dropout\":false,\"lora_dropout\":0.1}",
          "without dropout", "disable_dropout" },
        { AT_DPO, "{\"eval_strategy\":\"epoch\",\"eval_steps\":3}", "eval_steps is not read",
          "set that to steps" },
        { AT_DPO, "{\"eval_strategy\":\"steps\",\"eval_split\":0}",
          "eval_strategy steps needs held-out rows", "eval_dataset" },
        { AT_DPO, "{\"load_best_model_at_end\":true,\"eval_split\":0}", "load_best_model_at_end",
          "eval_dataset" },
        { AT_DPO, "{\"loss_type\":\"aot_pair\"}", "aot_pair", "aot_unpaired" },
        { AT_DPO, "{\"loss_type\":\"kto_pair\"}", "kto_pair", "method kto" },
        { AT_DPO, "{\"lr_scheduler_type\":\"polynomial\",\"lr_scheduler_kwargs\":{\"cycles\":2}}",
          "it has lr_end power", "has no cycles" },
        { AT_DPO, "{\"lr_scheduler_type\":\"reduce_lr_on_plateau\",\"eval_strategy\":\"no\"}",
          "needs evaluations", "eval_strategy" },
        { AT_DPO, "{\"lr_scheduler_type\":\"reduce_lr_on_plateau\",\"eval_split\":0}",
          "needs held-out rows", "eval_split" },
        { AT_DPO, "{\"metric_for_best_model\":\"eval_loss\",\"eval_split\":0}",
          "metric_for_best_model", "eval_dataset" },
        { AT_DPO, "{\"ref_model_sync_steps\":4}", "ref_model_sync_steps", "sync_ref_model" },
        { AT_DPO, "{\"save_strategy\":\"epoch\",\"save_steps\":3}", "save_steps is not read",
          "set that to steps" },
        { AT_DPO, "{\"save_strategy\":\"no\",\"save_total_limit\":3}",
          "save_total_limit is not read", "steps or epoch" },
        { AT_DPO, "{\"sync_ref_model\":true,\"precompute_ref_log_probs\":true}",
          "precompute_ref_log_probs", "sync_ref_model" },
        { AT_DPO, "{\"sync_ref_model\":true,\"use_peft\":false}", "sync_ref_model", "use_peft" },
        { AT_DPO, "{\"use_weighting\":true,\"loss_type\":\"aot\"}", "use_weighting", "sigmoid" },
        { AT_KTO, "{\"per_device_train_batch_size\":1}", "above 1", "apo_zero_unpaired" },
        { AT_KTO, "{\"sync_ref_model\":true,\"use_peft\":false}", "sync_ref_model", "use_peft" },
        { AT_SFT, "{\"packing\":true,\"max_length\":0}", "packing", "max_length" },
        { AT_SFT, "{\"eval_packing\":true,\"max_length\":0}", "packing", "max_length" },
        { AT_SFT,
          "{\"packing\":true,\"packing_strategy\":\"wrapped\",\"eval_packing\":false,"
          "\"eval_split\":0.1}",
          "eval_split", "eval_dataset" },
    };

    (void)state;
    for (size_t i = 0; i < AT_COUNT(cases); i++)
        check_fails(cases[i].text, cases[i].method, NULL, cases[i].part, cases[i].other);
}

static void keys_that_are_not_read_are_errors(void **state)
{
    struct at_config c;
    char text[160];
    int n = 0;

    (void)state;
    assert_int_equal(read_as(&c, NULL, NULL, AT_DPO, NULL), AT_OK);
    for (int k = 0; k < AT_KEY_COUNT; k++)
        for (int m = 0; m < AT_METHOD_COUNT; m++) {
            if (at_key_read_by((enum at_key)k, (enum at_method)m))
                continue;
            const char *words = at_key_range((enum at_key)k);
            snprintf(text, sizeof text, "{\"%s\":%s}", at_key_name((enum at_key)k),
                     is_type((enum at_key)k, "BOOL")  ? "true"
                     : is_type((enum at_key)k, "U32") ? "1"
                     : is_text((enum at_key)k)        ? "\"x\""
                                                      : "0.25");
            if (is_type((enum at_key)k, "CHOICE"))
                snprintf(text, sizeof text, "{\"%s\":\"%.*s\"}", at_key_name((enum at_key)k),
                         (int)strcspn(words, "|"), words);
            check_fails(text, (enum at_method)m, NULL, at_key_name((enum at_key)k),
                        "is not read by");
            n++;
        }
    assert_true(n >= 4);
    check_fails("{\"beta\":0.1}", AT_SFT, NULL, "beta", "is not read by sft");
    at_config_release(&c);
    check_fails("{\"loss_type\":\"ipo\"}", AT_SFT, NULL, "loss_type ipo", "nll");
    check_fails("{\"loss_type\":\"nll\"}", AT_DPO, NULL, "loss_type nll", "sigmoid");
}

static void words_of_trl_are_classified(void **state)
{
    static const char *const come_later[] = { "loraplus_lr_embedding" };
    struct at_config c;
    const size_t before = at_warn_count("no_effect");
    const char *text = NULL, *name = NULL;
    char document[160];

    (void)state;
    for (size_t i = 0; (name = at_key_word(AT_CLASS_LATER, i, &text)) != NULL; i++) {
        snprintf(document, sizeof document, "{\"%s\":1}", name);
        check_fails(document, AT_DPO, NULL, name, text);
    }
    for (size_t i = 0; (name = at_key_word(AT_CLASS_RENAMED, i, &text)) != NULL; i++) {
        snprintf(document, sizeof document, "{\"%s\":1}", name);
        check_fails(document, AT_DPO, NULL, name, text);
    }
    for (size_t i = 0; i < AT_COUNT(come_later); i++) {
        enum at_key key = AT_KEY_seed;
        assert_int_equal(at_key_classify(come_later[i], &key, &text), AT_CLASS_LATER);
    }
    assert_int_equal(read_as(&c, "{\"bf16\":true,\"report_to\":\"wandb\"}", NULL, AT_DPO, NULL),
                     AT_OK);
    assert_int_equal(at_warn_count("no_effect"), before + 2);
    at_config_release(&c);
}

/* Said, not refused: a value that another one leaves without an effect. A flag may do so silently.
 */
static void keys_without_an_effect_are_said(void **state)
{
    static const char *const cases[] = {
        "{\"use_peft\":true,\"lora_dropout\":0,\"disable_dropout\":false}",
        "{\"max_steps\":3,\"num_train_epochs\":2}",
        "{\"on_long_row\":\"cut\",\"max_length\":0}",
        "{\"eval_split\":0.5,\"eval_dataset\":\"a.jsonl\"}",
    };
    static const char *const steps[] = { "max_steps", "3", NULL };
    struct at_config c;

    (void)state;
    for (size_t i = 0; i < AT_COUNT(cases); i++) {
        const size_t before = at_warn_count("ignored");
        assert_int_equal(read_as(&c, cases[i], NULL, AT_DPO, NULL), AT_OK);
        if (at_warn_count("ignored") != before + 1)
            fail_msg("%s: nothing is said", cases[i]);
        at_config_release(&c);
    }
    const size_t before = at_warn_count("ignored");
    assert_int_equal(read_as(&c, "{\"num_train_epochs\":2}", NULL, AT_DPO, steps), AT_OK);
    assert_int_equal(at_warn_count("ignored"), before);
    at_config_release(&c);
}

static void paths_of_a_file_start_at_its_folder(void **state)
{
    static const char *const flags[] = { "output_dir", "out", "train_dataset", "b.jsonl", NULL };
    struct at_config c;

    (void)state;
    assert_int_equal(read_as(&c,
                             "{\"model_name_or_path\":\"m\",\"adapter_name_or_path\":\"/a\","
                             "\"eval_dataset\":[\"x.jsonl\",\"/y.jsonl\"],\"output_dir\":\"o\"}",
                             "dir/run.json", AT_DPO, flags),
                     AT_OK);
    assert_string_equal(c.model_name_or_path, "dir/m");
    assert_string_equal(c.adapter_name_or_path, "/a");
    assert_string_equal(c.eval_dataset.items[0], "dir/x.jsonl");
    assert_string_equal(c.eval_dataset.items[1], "/y.jsonl");
    assert_string_equal(c.output_dir, "out");
    assert_string_equal(c.train_dataset.items[0], "b.jsonl");
    at_config_release(&c);
    assert_int_equal(read_as(&c,
                             "{\"reward_funcs\":[\"regex:a/b\",\"out/kind\",{\"model\":\"m\"},"
                             "\"rule\",\"hf:org/m\"]}",
                             "dir/run.json", AT_RLOO, NULL),
                     AT_OK);
    assert_string_equal(c.reward_funcs, "[\"regex:a/b\",\"dir/out/kind\",{\"model\":\"dir/m\"},"
                                        "\"rule\",\"hf:org/m\"]");
    at_config_release(&c);
}

static void flags_win_and_origins_are_recorded(void **state)
{
    static const char *const flags[] = { "beta", "0.7", "max_steps", "-1", NULL };
    struct at_config c;
    cJSON *record = NULL;

    (void)state;
    assert_int_equal(read_as(&c, "{\"beta\":0.2,\"lora_r\":4,\"seed\":null}", NULL, AT_DPO, flags),
                     AT_OK);
    assert_true(c.beta == 0.7 && c.lora_r == 4 && c.max_steps == 0 && c.seed == 42);
    record = at_config_record(&c);
    assert_string_equal(at_json_find(at_json_find(record, "beta"), "from")->valuestring, "flag");
    assert_string_equal(at_json_find(at_json_find(record, "lora_r"), "from")->valuestring, "file");
    assert_string_equal(at_json_find(at_json_find(record, "seed"), "from")->valuestring, "default");
    assert_string_equal(at_json_find(at_json_find(record, "use_peft"), "from")->valuestring,
                        "preset balanced");
    assert_null(at_json_find(record, "assistant_only_loss"));
    cJSON_Delete(record);
    at_config_release(&c);
    assert_int_equal(read_as(&c, "{\"max_length\":null}", NULL, AT_DPO, NULL), AT_OK);
    assert_true(c.max_length == 0 && c.origin[AT_KEY_max_length] == AT_FROM_FILE);
    at_config_release(&c);
}

static void method_comes_from_command_or_key(void **state)
{
    struct at_config c;
    cJSON *document = cJSON_Parse("{\"method\":\"dpo\"}");

    (void)state;
    assert_int_equal(at_config_read(&c, document, NULL, NULL, 0, NULL), AT_OK);
    assert_int_equal(c.run_method, AT_DPO);
    at_config_release(&c);
    cJSON_Delete(document);
    assert_int_equal(at_config_read(&c, NULL, NULL, NULL, 0, NULL), AT_USAGE);
    check_fails("{\"method\":\"dpo\"}", AT_SFT, NULL, "method: dpo", "sft");
}

/* Rows of config.def are sorted within their class. */
static void table_is_sorted(void **state)
{
    (void)state;
    for (int k = 1; k < AT_KEY_COUNT; k++)
        assert_true(strcmp(at_key_name((enum at_key)(k - 1)), at_key_name((enum at_key)k)) < 0);
    for (int class = AT_CLASS_NO_EFFECT; class <= AT_CLASS_RENAMED; class ++) {
        const char *text = NULL, *last = "", *name = NULL;
        for (size_t i = 0; (name = at_key_word((enum at_key_class) class, i, &text));
             last = name, i++)
            assert_true(strcmp(last, name) < 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_types_name_the_key),
        cmocka_unit_test(values_out_of_range_say_the_range),
        cmocka_unit_test(presets_order_beta_by_method),
        cmocka_unit_test(defaults_follow_the_table),
        cmocka_unit_test(presets_give_what_the_interface_says),
        cmocka_unit_test(loss_type_is_a_word_or_a_list_with_weights),
        cmocka_unit_test(a_choice_reads_true_as_its_word),
        cmocka_unit_test(objectives_without_meaning_are_refused),
        cmocka_unit_test(objectives_without_meaning_of_other_methods_are_refused),
        cmocka_unit_test(objectives_of_older_releases_are_refused),
        cmocka_unit_test(losses_of_weight_0_read_nothing),
        cmocka_unit_test(unknown_keys_suggest_the_nearest),
        cmocka_unit_test(contradictions_are_refused),
        cmocka_unit_test(empty_eval_dataset_holds_out_nothing),
        cmocka_unit_test(keys_that_are_not_read_are_errors),
        cmocka_unit_test(words_of_trl_are_classified),
        cmocka_unit_test(keys_without_an_effect_are_said),
        cmocka_unit_test(paths_of_a_file_start_at_its_folder),
        cmocka_unit_test(flags_win_and_origins_are_recorded),
        cmocka_unit_test(method_comes_from_command_or_key),
        cmocka_unit_test(table_is_sorted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
