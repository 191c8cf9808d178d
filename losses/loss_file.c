#include "loss_file.h"

#include "loss_texts.h"
#include "os.h"

#include <ctype.h>
#include <string.h>

/* ---- the text ---- */

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* Comments become blanks; lines stay. */
static void blank_comments(char *text)
{
    char *c = text;

    while (*c) {
        const bool line = c[0] == '/' && c[1] == '/', block = c[0] == '/' && c[1] == '*';
        const char *end = line ? strchr(c, '\n') : block ? strstr(c + 2, "*/") : c + 1;

        end = !end ? c + strlen(c) : block ? end + 2 : end;
        for (; c < end; c++)
            if ((line || block) && *c != '\n')
                *c = ' ';
    }
}

/* The number of the line in which `object.member` stands, or 0. */
static unsigned member_line(const char *code, const char *object, const char *member)
{
    const size_t n = strlen(object), m = strlen(member);
    unsigned line = 1;

    for (const char *c = code; *c; c++) {
        line += *c == '\n';
        if ((c > code && is_word(c[-1])) || strncmp(c, object, n) != 0 || is_word(c[n]))
            continue;
        const char *at = c + n + strspn(c + n, " \t");
        if (*at++ != '.')
            continue;
        at += strspn(at, " \t");
        if (strncmp(at, member, m) == 0 && !is_word(at[m]))
            return line;
    }
    return 0;
}

/* Whether `word(` stands in the text. */
static bool calls(const char *code, const char *word)
{
    const size_t n = strlen(word);

    for (const char *c = strstr(code, word); c; c = strstr(c + 1, word))
        if ((c == code || !is_word(c[-1])) && c[n + strspn(c + n, " \t")] == '(')
            return true;
    return false;
}

/* What follows `#word` on the line, or NULL. */
static const char *directive(const char *line, const char *word)
{
    const size_t n = strlen(word);

    line += strspn(line, " \t");
    if (*line++ != '#')
        return NULL;
    line += strspn(line, " \t");
    return strncmp(line, word, n) == 0 && !is_word(line[n]) ? line + n : NULL;
}

static const char *next_line(const char *line)
{
    line += strcspn(line, "\n");
    return line + (*line == '\n');
}

/* ---- the row ---- */

static const struct {
    const char *member;
    char letter; /* of losses.def */
} knobs[] = {
    { "discopop_tau", 't' },
    { "label_smoothing", 'o' },
    { "simpo_gamma", 'g' },
};
static const struct {
    const char *word;
    char letter;
} words[] = {
    { "logps", 'p' },
    { "token_means", 'm' },
};
static const struct {
    const char *object, *member, *why;
} not_there[] = {
    { "match", "chosen", "a loss of one's own does not couple pairs" },
    { "match", "pair", "a loss of one's own does not couple pairs" },
    { "match", "rejected", "a loss of one's own does not couple pairs" },
    { "p", "alphapo_alpha", "it is a knob of alphapo alone" },
    { "p", "center_rewards_coefficient", "only reward models have it" },
    { "p", "margin", "only reward models have it" },
    { "p", "tpo_l_gamma", "it is a knob of tpo_l alone" },
};

/* The words of `#define LOSS_READS` as letters behind those in `reads`. */
static AT_CHECKED add_words(struct at_buf *reads, const char *at, const char *name, unsigned line)
{
    const size_t all = strcspn(at, "\n");
    const char *end = at + all;

    while (at < end) {
        const size_t n = strcspn(at, " \t,\r\n");
        size_t i = 0;
        while (i < AT_COUNT(words) &&
               (strlen(words[i].word) != n || memcmp(words[i].word, at, n) != 0))
            i++;
        if (n > 0 && i == AT_COUNT(words))
            return at_fail(AT_DATA,
                           "%s:%u: LOSS_READS knows the words logps and token_means, found %.*s",
                           name, line, (int)n, at);
        if (n > 0)
            at_buf_put(reads, &words[i].letter, 1);
        at += n + (at + n < end);
    }
    return AT_OK;
}

static AT_CHECKED read_letters(struct at_buf *reads, const char *code, const char *name)
{
    enum at_status st = AT_OK;
    unsigned number = 1;

    for (size_t i = 0; i < AT_COUNT(not_there); i++) {
        const unsigned line = member_line(code, not_there[i].object, not_there[i].member);
        if (line > 0)
            FAIL(AT_DATA, "%s:%u: %s.%s: %s", name, line, not_there[i].object, not_there[i].member,
                 not_there[i].why);
    }
    for (size_t i = 0; i < AT_COUNT(knobs); i++)
        if (member_line(code, "p", knobs[i].member) > 0)
            at_buf_put(reads, &knobs[i].letter, 1);
    for (const char *line = code; *line; line = next_line(line), number++) {
        const char *define = directive(line, "define");
        define = define ? define + strspn(define, " \t") : NULL;
        if (define && strncmp(define, "LOSS_READS", 10) == 0 && !is_word(define[10]))
            TRY(add_words(reads, define + 10, name, number));
    }
    at_buf_puts(reads, "");
    TRY(at_buf_status(reads));
    if (!strchr(reads->data, 'p')) /* the driver maps log-ratios and applies the chain rule */
        at_buf_puts(reads, "f");
    st = at_buf_status(reads);
done:
    return st;
}

/* ---- reading ---- */

static AT_CHECKED check_includes(const char *code, const char *name)
{
    static const char allowed[] = "\"prelude.h\"";
    unsigned number = 1;

    for (const char *line = code; *line; line = next_line(line), number++) {
        const char *what = directive(line, "include");
        if (!what)
            continue;
        what += strspn(what, " \t");
        if (strncmp(what, allowed, sizeof allowed - 1) != 0)
            return at_fail(AT_DATA,
                           "%s:%u: a loss may include \"prelude.h\" and nothing else: write "
                           "what it needs into this file",
                           name, number);
    }
    return AT_OK;
}

/* A pair loss, with nothing in it that cannot be shown or compiled. */
static AT_CHECKED check_text(const struct at_loss_file *file, const char *code)
{
    const char *const other = calls(code, "ROW_LOSS") ? "ROW_LOSS" : "TOKEN_LOSS";

    if (strlen(file->text) != file->n_bytes)
        return at_fail(AT_DATA, "%s is no text: it has a zero byte", file->name);
    if (calls(code, "ROW_LOSS") || calls(code, "TOKEN_LOSS"))
        return at_fail(AT_DATA, "%s: %s: a loss of one's own is a PAIR_LOSS, for dpo and cpo",
                       file->name, other);
    if (!calls(code, "PAIR_LOSS"))
        return at_fail(AT_DATA, "%s has no PAIR_LOSS(name) { ... }; losses/README.md shows two",
                       file->name);
    return check_includes(code, file->name);
}

static AT_CHECKED check_name(const char *word, const char *name)
{
    const size_t n = strlen(name);

    if (n < 3 || strcmp(name + n - 2, ".h") != 0 || strpbrk(name, "\"\\\n"))
        return at_fail(AT_USAGE,
                       "loss_type %s: a file whose name ends in .h is expected, such as "
                       "file:my_loss.h",
                       word);
    return AT_OK;
}

AT_CHECKED at_loss_file_read(struct at_arena *arena, const struct at_loss **out, const char *word,
                             const char *dir)
{
    enum at_status st = AT_OK;
    const char *path = word + sizeof AT_LOSS_FILE_PREFIX - 1;
    const char *slash = strrchr(path, '/');
    struct at_loss_file *file = NULL;
    struct at_loss *loss = NULL;
    struct at_buf bytes = { 0 }, letters = { 0 };
    char *full = NULL, *code = NULL, *copy = NULL, *reads = NULL;

    TRY(check_name(word, slash ? slash + 1 : path));
    TRY(at_path_join(arena, &full, dir, path));
    TRY(at_file_read(&bytes, full));
    TRY(at_arena_alloc(arena, &file, 1, sizeof *file));
    TRY(at_arena_alloc(arena, &loss, 1, sizeof *loss));
    TRY(at_arena_strdup(arena, &copy, slash ? slash + 1 : path));
    TRY(at_arena_strndup(arena, &code, bytes.n ? bytes.data : "", bytes.n));
    *file = (struct at_loss_file){
        .name = copy, .text = code, .n_bytes = bytes.n, .digest = at_hash_bytes(code, bytes.n)
    };
    TRY(at_arena_strdup(arena, &code, file->text));
    blank_comments(code);
    file->code = code;
    TRY(check_text(file, code));
    TRY(read_letters(&letters, code, file->name));
    TRY(at_arena_strdup(arena, &reads, letters.data));
    TRY(at_arena_strdup(arena, &copy, word));
    *loss = (struct at_loss){ .name = copy,
                              .kind = AT_LOSS_PAIR,
                              .methods = AT_LOSS_FILE_METHODS,
                              .reads = reads,
                              .source = "a file of the user's own",
                              .file = file };
    *out = loss;
done:
    if (st == AT_NOT_FOUND)
        at_context("loss_type %s", word);
    at_buf_release(&bytes);
    at_buf_release(&letters);
    return st;
}

/* ---- the shader ---- */

struct text {
    const char *name, *text;
};

/* What a line `#include "name"` stands for; no name: the line is none, or one for the compiler to
 * refuse. */
static struct text included(const char *line, const struct at_loss_file *file)
{
    const struct text texts[] = {
        { "args.h", text_args_h },
        { "divergence.h", text_divergence_h },
        { "loss.h", file->text },
        { "prelude.h", text_prelude_h },
    };
    const char *what = directive(line, "include");
    const char *quoted = what ? strchr(what, '"') : NULL;
    const size_t n = quoted ? strcspn(quoted + 1, "\"\n") : 0;

    for (size_t i = 0; i < AT_COUNT(texts); i++)
        if (strlen(texts[i].name) == n && memcmp(texts[i].name, quoted + 1, n) == 0)
            return texts[i].text == file->text ? (struct text){ file->name, file->text } : texts[i];
    return (struct text){ NULL, NULL };
}

/* The lines of a text, with those that it includes in their place; a file guards itself. In the
 * user's own check_includes() has left prelude.h, outside comments. */
static void put_lines(struct at_buf *out, struct text from, const struct at_loss_file *file)
{
    unsigned number = 1;

    for (const char *line = from.text; *line; line = next_line(line), number++) {
        const char *seen = from.text == file->text ? file->code + (line - from.text) : line;
        const struct text inner = included(seen, file);
        if (!inner.name) {
            at_buf_put(out, line, strcspn(line, "\n"));
            at_buf_puts(out, "\n");
            continue;
        }
        at_buf_printf(out, "#line 1 \"%s\"\n", inner.name);
        put_lines(out, inner, file);
        at_buf_printf(out, "#line %u \"%s\"\n", number + 1, from.name);
    }
}

AT_CHECKED at_loss_file_shader(struct at_buf *out, const struct at_loss_file *file)
{
    put_lines(out, (struct text){ "pair.comp", text_pair_comp }, file);
    return at_buf_status(out);
}
