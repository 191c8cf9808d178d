#include "lint_parts.h"

#include <ctype.h>
#include <string.h>

/* ---- words ---- */

/* Bytes of the character at text[0], valid UTF-8. */
static size_t character(const char *text)
{
    const unsigned char c = (unsigned char)text[0];

    return c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}

static uint32_t code_point(const char *text)
{
    const unsigned char *c = (const unsigned char *)text;

    switch (character(text)) {
    case 1:
        return c[0];
    case 2:
        return (c[0] & 0x1Fu) << 6 | (c[1] & 0x3Fu);
    case 3:
        return (c[0] & 0x0Fu) << 12 | (c[1] & 0x3Fu) << 6 | (c[2] & 0x3Fu);
    default:
        return (c[0] & 0x07u) << 18 | (c[1] & 0x3Fu) << 12 | (c[2] & 0x3Fu) << 6 | (c[3] & 0x3Fu);
    }
}

enum shape { GAP, PART, WHOLE };

/* WHOLE: a word by itself (Han, kana, Hangul, emoji). */
static enum shape shape(uint32_t c)
{
    if (c < 0x80)
        return isalnum((int)c) || c == '\'' ? PART : GAP;
    if (c < 0xC0 || c == 0xD7 || c == 0xF7 || (c >= 0x2000 && c < 0x2070) ||
        (c >= 0x3000 && c < 0x3005) || (c >= 0xFF00 && c < 0xFF10))
        return GAP;
    return c >= 0x2E80 ? WHOLE : PART;
}

bool at_word_next(const char *text, size_t n, size_t *at, const char **word, size_t *length)
{
    size_t i = *at, begin = 0;

    while (i < n && shape(code_point(text + i)) == GAP)
        i += character(text + i);
    begin = i;
    while (i < n) {
        const enum shape s = shape(code_point(text + i));
        if (s == GAP || (s == WHOLE && i > begin))
            break;
        i += character(text + i);
        if (s == WHOLE)
            break;
    }
    *at = i;
    *word = text + begin;
    *length = i - begin;
    return i > begin;
}

uint32_t at_count_words(const char *text, size_t n)
{
    const char *word = NULL;
    size_t at = 0, length = 0;
    uint32_t n_words = 0;

    while (at_word_next(text, n, &at, &word, &length))
        n_words++;
    return n_words;
}

uint64_t at_word_hash(const char *word, size_t n)
{
    uint64_t h = 0xCBF29CE484222325u; /* FNV-1a */

    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)word[i];
        h = (h ^ (c < 0x80 ? (unsigned char)tolower(c) : c)) * 0x100000001B3u;
    }
    return h;
}

/* ---- text that was decoded wrongly ---- */

const char *at_lint_find_mojibake(const char *text)
{
    /* UTF-8 read as Windows-1252 and written as UTF-8 again: the letters that lead bytes become,
     * in front of what continuation bytes become. */
    static const char *const marks[] = {
        "\xC3\xA2\xE2\x82\xAC", /* of quotes, dashes, dots */
        "\xC3\xB0\xC5\xB8",     /* of emoji */
        "\xC3\x83\xC2",         /* of accented letters, with a control or a sign behind */
        "\xC3\x82\xC2",         /* of no-break spaces and signs */
    };

    if (strstr(text, "\xEF\xBF\xBD"))
        return "U+FFFD, which stands for bytes that could not be decoded";
    for (size_t i = 0; i < AT_COUNT(marks); i++)
        if (strstr(text, marks[i]))
            return "UTF-8 that was read as Windows-1252";
    return NULL;
}

/* ---- personal data ---- */

static bool is_mail_char(char c)
{
    return isalnum((unsigned char)c) || (c && strchr("._%+-", c));
}

/* Names that RFC 2606 keeps for examples belong to nobody. */
static bool is_reserved(const char *domain, size_t n)
{
    static const char *const names[] = { "example",     "example.com", "example.net",
                                         "example.org", "invalid",     "test" };

    for (size_t i = 0; i < AT_COUNT(names); i++) {
        const size_t length = strlen(names[i]);
        if (n < length || strncasecmp(domain + n - length, names[i], length) != 0)
            continue;
        if (n == length || domain[n - length - 1] == '.')
            return true;
    }
    return false;
}

static bool has_mail(const char *text)
{
    for (const char *p = strchr(text, '@'); p; p = strchr(p + 1, '@')) {
        size_t n = 0, dot = 0;
        if (p == text || !isalnum((unsigned char)p[-1]))
            continue;
        while (is_mail_char(p[1 + n])) {
            if (p[1 + n] == '.' && n > 0 && isalpha((unsigned char)p[2 + n]) &&
                isalpha((unsigned char)p[3 + n]))
                dot = n;
            n++;
        }
        while (n > 0 && !isalnum((unsigned char)p[n]))
            n--;
        if (dot > 0 && n - dot > 2 && !is_reserved(p + 1, n))
            return true;
    }
    return false;
}

/* Digits from text[0] on with single separators between them: their number (at most 32 are kept),
 * separators counted, bytes read. */
static size_t digits_at(const char *text, const char *separators, char digits[32],
                        size_t *n_separators, size_t *n_bytes)
{
    size_t n = 0, i = 0;

    *n_separators = 0;
    *n_bytes = 0;
    while (text[i]) {
        if (isdigit((unsigned char)text[i])) {
            if (n < 32)
                digits[n] = text[i];
            n++;
            *n_bytes = ++i;
        } else if (strchr(separators, text[i]) && n > 0) {
            size_t k = i;
            while (text[k] && strchr(separators, text[k]) && k - i < 2)
                k++;
            if (!isdigit((unsigned char)text[k]))
                break;
            *n_separators += 1;
            i = k;
        } else {
            break;
        }
    }
    return n;
}

static bool passes_luhn(const char *digits, size_t n)
{
    unsigned sum = 0;

    for (size_t i = 0; i < n; i++) {
        const unsigned d = (unsigned)(digits[n - 1 - i] - '0');
        sum += i % 2 == 0 ? d : d > 4 ? 2 * d - 9 : 2 * d;
    }
    return sum % 10 == 0;
}

/* Payment cards have 13 to 19 digits, the first one 3 to 6 (ISO/IEC 7812), and a check digit. */
static bool is_card(const char *digits, size_t n)
{
    bool differ = false;

    for (size_t i = 1; i < n && n <= 19; i++)
        differ = differ || digits[i] != digits[0];
    return n >= 13 && n <= 19 && digits[0] >= '3' && digits[0] <= '6' && differ &&
           passes_luhn(digits, n);
}

/* 212-555-0187 or 212) 555-0187 */
static bool is_grouped(const char *text)
{
    static const size_t groups[] = { 3, 3, 4 };

    for (size_t i = 0; i < AT_COUNT(groups); i++) {
        const size_t gap = strspn(text, ") .-");
        if ((gap > 0) != (i > 0))
            return false;
        text += gap;
        if (strspn(text, "0123456789") != groups[i])
            return false;
        text += groups[i];
    }
    return true;
}

/* A national number begins with 0 and is written in groups, an international one with +. */
static bool is_phone(const char *before, const char *text, size_t n, size_t n_separators)
{
    const bool plus = before && *before == '+';

    return n >= 8 && n <= 15 &&
           (plus || (n == 10 && is_grouped(text)) ||
            (text[0] == '0' && isdigit((unsigned char)text[1]) && n >= 9 && n_separators >= 1));
}

/* IBAN (ISO 13616): two letters, two check digits, 11 to 30 further letters and digits, blanks
 * between groups; the number read from the fifth on is 1 modulo 97. */
static bool is_iban(const char *text)
{
    char flat[40];
    size_t n = 0;
    unsigned rest = 0;

    if (!isupper((unsigned char)text[0]) || !isupper((unsigned char)text[1]) ||
        !isdigit((unsigned char)text[2]) || !isdigit((unsigned char)text[3]))
        return false;
    for (size_t i = 0; n < sizeof flat; i++) {
        const unsigned char c = (unsigned char)text[i];
        if (isdigit(c) || isupper(c))
            flat[n++] = (char)c;
        else if (c != ' ' ||
                 !(isdigit((unsigned char)text[i + 1]) || isupper((unsigned char)text[i + 1])))
            break;
    }
    if (n < 15 || n > 34)
        return false;
    for (size_t i = 0; i < n; i++) {
        const char c = flat[(i + 4) % n];
        const unsigned value =
            isdigit((unsigned char)c) ? (unsigned)(c - '0') : (unsigned)(c - 'A') + 10;
        rest = (value > 9 ? rest * 100 + value : rest * 10 + value) % 97;
    }
    return rest == 1;
}

const char *at_lint_find_personal(const char *text)
{
    if (has_mail(text))
        return "a mail address";
    for (size_t i = 0; text[i];) {
        const bool begins = i == 0 || !isalnum((unsigned char)text[i - 1]);
        char digits[32];
        size_t n_separators = 0, n_bytes = 0, n = 0;
        if (begins && isupper((unsigned char)text[i]) && is_iban(text + i))
            return "an account number (IBAN)";
        if (!begins || !isdigit((unsigned char)text[i])) {
            i++;
            continue;
        }
        n = digits_at(text + i, " -", digits, &n_separators, &n_bytes);
        if (is_card(digits, n))
            return "a card number";
        n = digits_at(text + i, " -./()", digits, &n_separators, &n_bytes);
        if (is_phone(i > 0 ? text + i - 1 : NULL, text + i, n, n_separators))
            return "a phone number";
        i += n_bytes;
    }
    return NULL;
}

/* ---- refusals ---- */

const char *at_lint_find_refusal(const char *reply)
{
    enum { LOOK_AT = 200 };
    static const char *const phrases[] = {
        "as a language model", "as an ai",
        "i am not able to",    "i am unable to",
        "i can not assist",    "i can not help",
        "i can't assist",      "i can't comply",
        "i can't fulfill",     "i can't help with",
        "i can't provide",     "i cannot assist",
        "i cannot comply",     "i cannot fulfill",
        "i cannot help",       "i cannot provide",
        "i must decline",      "i'm not able to",
        "i'm sorry, but i",    "i'm sorry, i can",
        "i'm unable to",       "i am sorry, but i",
        "i won't be able to",  "sorry, but i can",
        "sorry, but i cannot", "i'm sorry, i cannot",
    };
    char flat[LOOK_AT + 1];
    size_t n = 0;

    for (size_t i = 0; reply[i] && n < LOOK_AT; n++) {
        if (strncmp(reply + i, "\xE2\x80\x99", 3) == 0) { /* right single quote */
            flat[n] = '\'';
            i += 3;
        } else {
            flat[n] = (char)tolower((unsigned char)reply[i++]);
        }
    }
    flat[n] = 0;
    for (size_t i = 0; i < AT_COUNT(phrases); i++) {
        const char *found = strstr(flat, phrases[i]);
        if (found && (found == flat || !isalnum((unsigned char)found[-1])) &&
            !isalnum((unsigned char)found[strlen(phrases[i])]))
            return phrases[i];
    }
    return NULL;
}

/* ---- marks of templates ---- */

const char *at_lint_find_mark(const char *text, const char **family)
{
    static const struct {
        const char *mark, *family;
    } marks[] = {
        { "<<SYS>>", "Llama 2" },
        { "<end_of_turn>", "Gemma" },
        { "<start_of_turn>", "Gemma" },
        { "<|assistant|>", "Phi or Zephyr" },
        { "<|begin_of_text|>", "Llama 3" },
        { "<|end_of_text|>", "Llama 3" },
        { "<|endoftext|>", "GPT" },
        { "<|eot_id|>", "Llama 3" },
        { "<|im_end|>", "ChatML" },
        { "<|im_start|>", "ChatML" },
        { "<|start_header_id|>", "Llama 3" },
        { "<|user|>", "Phi or Zephyr" },
        { "[/INST]", "Llama 2" },
        { "[INST]", "Llama 2" },
        { "### Instruction:", "Alpaca" },
        { "### Response:", "Alpaca" },
        { "\n\nAssistant:", "Anthropic" },
        { "\n\nHuman:", "Anthropic" },
        { "\nASSISTANT:", "Vicuna" },
        { "\nUSER:", "Vicuna" },
    };

    for (size_t i = 0; i < AT_COUNT(marks); i++)
        if (strstr(text, marks[i].mark)) {
            *family = marks[i].family;
            return marks[i].mark;
        }
    return NULL;
}

/* ---- languages ---- */

enum { LANGUAGES = 7, STOP_WORDS = 32 };
/* Frequent words, most of which the other languages of the table do not have. */
static const struct language {
    const char *name, *words[STOP_WORDS];
} languages[LANGUAGES] = {
    { "Dutch", { "het",   "een", "niet", "voor",   "zijn",   "ook",  "maar", "naar",
                 "wordt", "jij", "deze", "omdat",  "hebben", "nog",  "kunt", "jouw",
                 "van",   "ik",  "je",   "dat",    "wat",    "aan",  "als",  "er",
                 "bij",   "uit", "moet", "worden", "heeft",  "geen", "kan",  "hoe" } },
    { "English",
      { "the",  "and",  "you",   "that",  "with",   "this", "your", "have", "are",   "it's", "what",
        "they", "from", "would", "there", "which",  "to",   "for",  "it",   "if",    "not",  "can",
        "be",   "how",  "do",    "when",  "should", "will", "or",   "by",   "about", "i'm" } },
    { "French",
      { "les",   "est",         "vous", "une",   "pas",       "pour",    "dans",         "avec",
        "votre", "sur",         "mais", "cette", "sont",      "aux",     "c'est",        "le",
        "je",    "du",          "et",   "plus",  "qui",       "ce",      "ne",           "nous",
        "leur",  "\xC3\xAAtre", "mon",  "quand", "o\xC3\xB9", "comment", "\xC3\xA7\x61", "j'ai" } },
    { "German",
      { "der", "und",  "nicht", "ist",  "das",  "sie",  "ich",  "mit", "auf",        "ein", "eine",
        "dem", "auch", "oder",  "wird", "bei",  "den",  "zu",   "wie", "f\xC3\xBCr", "von", "sich",
        "es",  "aber", "wenn",  "ihre", "kann", "noch", "dass", "im",  "zum",        "nur" } },
    { "Italian",
      { "il",       "che",           "di",   "della", "sono", "gli",        "anche", "nel",
        "questo",   "perch\xC3\xA9", "hai",  "alla",  "dei",  "pi\xC3\xB9", "dopo",  "\xC3\xA8",
        "un'altra", "per",           "come", "mio",   "tuo",  "ho",         "ci",    "loro",
        "quando",   "puoi",          "fare", "nella", "cosa", "senza",      "ogni",  "allora" } },
    { "Portuguese",
      { "voc\xC3\xAA", "n\xC3\xA3o", "com",    "seu", "sua",        "isso",       "tamb\xC3\xA9m",
        "pode",        "ao",         "em",     "dos", "pelo",       "s\xC3\xA3o", "ent\xC3\xA3o",
        "da",          "na",         "os",     "as",  "mas",        "j\xC3\xA1",  "tem",
        "meu",         "minha",      "quando", "eu",  "at\xC3\xA9", "depois",     "s\xC3\xB3",
        "um",          "nos",        "quem" } },
    { "Spanish", { "el",          "los",   "las",        "por",    "con",   "pero",
                   "est\xC3\xA1", "puede", "muy",        "y",      "del",   "tambi\xC3\xA9n",
                   "hay",         "lo",    "su",         "es",     "en",    "para",
                   "mi",          "tu",    "qu\xC3\xA9", "cuando", "esta",  "este",
                   "m\xC3\xA1s",  "sin",   "al",         "te",     "hasta", "aqu\xC3\xAD" } },
};

static const struct script {
    const char *name;
    uint32_t begin, end;
} scripts[] = {
    { "Latin", 0x41, 0x250 },     { "Greek", 0x370, 0x400 },      { "Cyrillic", 0x400, 0x530 },
    { "Hebrew", 0x590, 0x600 },   { "Arabic", 0x600, 0x780 },     { "Devanagari", 0x900, 0x980 },
    { "Thai", 0xE00, 0xE80 },     { "Japanese", 0x3040, 0x3100 }, { "Chinese", 0x4E00, 0xA000 },
    { "Korean", 0xAC00, 0xD7B0 },
};

/* The script of at least 8 letters and of most; kana make Han Japanese. */
static const struct script *script_of(const char *text)
{
    uint32_t counts[AT_COUNT(scripts)] = { 0 }, total = 0;
    size_t best = 0;
    enum { LATIN = 0, JAPANESE = 7, CHINESE = 8 };

    for (size_t i = 0; text[i]; i += character(text + i)) {
        const uint32_t c = code_point(text + i);
        if (c < 0x80 && !isalpha((int)c))
            continue;
        for (size_t k = 0; k < AT_COUNT(scripts); k++)
            if (c >= scripts[k].begin && c < scripts[k].end) {
                counts[k]++;
                total++;
            }
    }
    if (10 * counts[JAPANESE] > counts[CHINESE]) {
        counts[JAPANESE] += counts[CHINESE];
        counts[CHINESE] = 0;
    }
    for (size_t k = 1; k < AT_COUNT(scripts); k++)
        if (counts[k] > counts[best])
            best = k;
    return counts[best] >= 8 && 4 * counts[best] >= 3 * total ? &scripts[best] : NULL;
}

void at_lint_words_init(struct at_lint_words *out)
{
    *out = (struct at_lint_words){ .hashes = { 0 } };
    for (uint32_t k = 0; k < LANGUAGES; k++)
        for (size_t i = 0; i < STOP_WORDS && languages[k].words[i]; i++) {
            const char *word = languages[k].words[i];
            const uint64_t hash = at_word_hash(word, strlen(word));
            size_t at = hash % AT_LINT_WORDS;
            while (out->hashes[at] != 0 && out->hashes[at] != hash)
                at = (at + 1) % AT_LINT_WORDS;
            out->hashes[at] = hash;
            out->languages[at] = (uint8_t)(out->languages[at] | 1u << k);
        }
}

/* Of texts in Latin letters: at least 4 of its words, thrice as many as of the next language. */
static const char *latin_language(const struct at_lint_words *words, const char *text)
{
    uint32_t counts[LANGUAGES] = { 0 };
    const size_t n = strlen(text);
    const char *word = NULL;
    size_t at = 0, length = 0, best = 0, next = 0;

    while (at_word_next(text, n, &at, &word, &length)) {
        const uint64_t hash = at_word_hash(word, length);
        size_t slot = hash % AT_LINT_WORDS;
        while (words->hashes[slot] != 0 && words->hashes[slot] != hash)
            slot = (slot + 1) % AT_LINT_WORDS;
        for (size_t k = 0; k < LANGUAGES; k++)
            counts[k] += words->languages[slot] >> k & 1;
    }
    for (size_t k = 1; k < LANGUAGES; k++)
        if (counts[k] > counts[best])
            best = k;
    for (size_t k = 0; k < LANGUAGES; k++)
        if (k != best && counts[k] > next)
            next = counts[k];
    return counts[best] >= 4 && counts[best] >= 3 * next ? languages[best].name : NULL;
}

const char *at_lint_language(const struct at_lint_words *words, const char *text)
{
    const struct script *script = script_of(text);

    if (!script)
        return NULL;
    return script == &scripts[0] ? latin_language(words, text) : script->name;
}

const char *at_lint_language_name(size_t i)
{
    if (i < LANGUAGES)
        return languages[i].name;
    i = i - LANGUAGES + 1; /* Latin letters alone are no language */
    return i < AT_COUNT(scripts) ? scripts[i].name : NULL;
}

bool at_lint_names_language(const char *text)
{
    static const char *const words[] = {
        "translat", "german",  "french",  "spanish",      "italian",      "portuguese", "dutch",
        "english",  "russian", "chinese", "japanese",     "korean",       "arabic",     "greek",
        "hebrew",   "hindi",   "deutsch", "fran\xC3\xA7", "espa\xC3\xB1", "englisch",   "anglais",
        "ingl\xC3", "bersetz", "tradu",   "traduz",       "language",
    };

    for (const char *p = text; *p; p++)
        for (size_t i = 0; i < AT_COUNT(words); i++)
            if (strncasecmp(p, words[i], strlen(words[i])) == 0)
                return true;
    return false;
}
