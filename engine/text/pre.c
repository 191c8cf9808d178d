#include "tokenizer_parts.h"

#include <string.h>

/* Patterns are those of the models' own tokenizer.json. Normalisation is theirs, too: a model was
 * trained with it, whatever llama.cpp does. */
#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define LLAMA_BPE(digits)                                           \
    CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" digits "|" \
                 " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
/* Words end where a capital begins. */
#define CASED(end, digits)                                                                     \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" end "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER \
    "*" end "|\\p{N}" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define CHINESE "[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+"

static const struct at_pre pres[] = {
    { .names = " command-r ", .patterns = { "\\p{N}", at_pattern_gpt2 }, .nfc = true },
    { .names = " dbrx smaug-bpe glm4 chatglm-bpe ", .patterns = { LLAMA_BPE("{1,3}") } },
    { .names = " deepseek-coder ",
      .patterns = { "[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", CHINESE, "\\p{N}" } },
    { .names = " deepseek-r1-qwen megrez qwen2 ", .patterns = { LLAMA_BPE("") }, .nfc = true },
    { .names = " deepseek-v3 ",
      .patterns = { "\\p{N}{1,3}", "[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+",
                    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|"
                    "[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|"
                    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+" } },
    { .names = " default ",
      .patterns = { "[\\p{P}\\$\\+<=>\\^~\\|]+", at_pattern_gpt2, "\\p{N}+", "[0-9][0-9][0-9]" } },
    { .names = " falcon ",
      .patterns = { "[\\p{P}\\$\\+<=>\\^~\\|`]+", at_pattern_gpt2, "[0-9][0-9][0-9]" } },
    { .names = " falcon-h1 falcon3 llama-bpe llama-v3 llama3 ",
      .patterns = { LLAMA_BPE("{1,3}") },
      .ignore_merges = true,
      .add_bos = true },
    { .names = " gpt-2 phi-2 roberta-bpe ", .patterns = { at_pattern_gpt2 } },
    { .names = " gpt-4o llama4 ", .patterns = { CASED(CONTRACTIONS "?", "{1,3}") } },
    { .names = " mpt olmo ", .patterns = { at_pattern_gpt2 }, .nfc = true },
    { .names = " refact smollm starcoder ", .patterns = { "\\p{N}", at_pattern_gpt2 } },
    { .names = " stablelm2 ", .patterns = { LLAMA_BPE("") } },
    { .names = " tekken ", .patterns = { CASED("", "") }, .ignore_merges = true, .add_bos = true },
};

AT_CHECKED at_pre_find(const struct at_pre **out, const char *wanted, const char *name)
{
    enum at_status st = AT_OK;
    struct at_buf known = { 0 }, word = { 0 };

    at_buf_printf(&word, " %s ", wanted);
    TRY(at_buf_status(&word));
    for (size_t i = 0; i < AT_COUNT(pres); i++) {
        if (wanted[0] && !strchr(wanted, ' ') && strstr(pres[i].names, word.data)) {
            *out = &pres[i];
            goto done;
        }
        at_buf_puts(&known, pres[i].names + (i == 0));
        known.n--; /* the space behind is the next one's in front */
    }
    TRY(at_buf_status(&known));
    FAIL(AT_DATA, "%s: tokenizer.ggml.pre \"%s\" is not built in this version (built: %s)", name,
         wanted, known.data);
done:
    at_buf_release(&known);
    at_buf_release(&word);
    return st;
}
