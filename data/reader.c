#include "reader.h"

#include "forms.h"
#include "hash.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const side_names[AT_MAX_SIDES] = { "chosen", "rejected", "reference" };

/* ---- errors ---- */

size_t at_line_column(const struct at_line *line, const char *key)
{
    const size_t n_key = strlen(key);
    size_t depth = 0, column = 0;

    for (size_t i = 0; i < line->n; i++) {
        const char c = line->text[i];
        column += ((unsigned char)c & 0xC0) != 0x80;
        depth += c == '{' || c == '[';
        depth -= c == '}' || c == ']';
        if (c != '"')
            continue;
        const size_t begin = i + 1, at = column;
        for (i++; i < line->n && line->text[i] != '"'; i++) {
            column += ((unsigned char)line->text[i] & 0xC0) != 0x80;
            if (line->text[i] == '\\') {
                i++;
                column++;
            }
        }
        column++;
        size_t next = i + 1;
        while (next < line->n && (line->text[next] == ' ' || line->text[next] == '\t'))
            next++;
        if (depth == 1 && i - begin == n_key && memcmp(line->text + begin, key, n_key) == 0 &&
            next < line->n && line->text[next] == ':')
            return at;
    }
    return 0;
}

enum at_status at_line_fail(const struct at_line *line, const char *key, const char *format, ...)
{
    const size_t column = key ? at_line_column(line, key) : 0;
    char text[512];
    va_list args;

    va_start(args, format);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): clang-tidy 14 forgets va_start() */
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (column > 0)
        return at_fail(AT_DATA, "%s:%u:%zu: %s", line->path, line->number, column, text);
    return at_fail(AT_DATA, "%s:%u: %s", line->path, line->number, text);
}

/* The first reason stays. */
static void AT_PRINTF(4, 5)
    doubt(struct at_record *r, enum at_doubt why, const char *key, const char *format, ...)
{
    va_list args;

    if (r->doubted)
        return;
    r->doubted = why;
    r->doubt_key = key;
    va_start(args, format);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): clang-tidy 14 forgets va_start() */
    vsnprintf(r->doubt, sizeof r->doubt, format, args);
    va_end(args);
}

/* ---- values ---- */

static bool is_blank(const char *text)
{
    return text[strspn(text, " \t\r\n")] == 0;
}

/* Missing keys and nulls are the same: tables with many kinds of rows are written with nulls. */
static const cJSON *find(const struct at_record *r, const char *key)
{
    const cJSON *item = at_json_find(r->json, key);

    return cJSON_IsNull(item) ? NULL : item;
}

static bool holds_something(const cJSON *item)
{
    return item && !cJSON_IsNull(item) &&
           !((cJSON_IsArray(item) || cJSON_IsObject(item)) && !item->child);
}

static AT_CHECKED push_message(struct at_record_side *side, struct at_message message)
{
    enum at_status st = AT_OK;

    if (side->n == side->capacity) {
        const size_t capacity = side->capacity ? 2 * side->capacity : 8;
        TRY(at_realloc(&side->messages, side->capacity, capacity, sizeof *side->messages));
        side->capacity = capacity;
    }
    side->messages[side->n++] = message;
done:
    return st;
}

static bool calls_tools(const cJSON *message)
{
    return holds_something(at_json_find(message, "tool_calls"));
}

/* "" of a message that only calls tools. */
static const char *content_of(const cJSON *message)
{
    const cJSON *content = at_json_find(message, "content");

    return cJSON_IsString(content) ? content->valuestring : "";
}

static AT_CHECKED check_message(const struct at_line *line, const char *key, const cJSON *m,
                                size_t number)
{
    static const char *const names[] = { "role", "content" };
    enum at_status st = AT_OK;

    if (!cJSON_IsObject(m)) {
        st = at_line_fail(line, key, "\"%s\": message %zu is not an object with role and content",
                          key, number);
        goto done;
    }
    for (size_t i = 0; i < AT_COUNT(names); i++) {
        const cJSON *item = at_json_find(m, names[i]);
        if (cJSON_IsString(item))
            continue;
        if (i == 1 && (cJSON_IsNull(item) || !item) && calls_tools(m))
            continue;
        st = at_line_fail(line, key, "\"%s\": message %zu: \"%s\" %s", key, number, names[i],
                          item ? "must be a string" : "is missing");
        goto done;
    }
done:
    return st;
}

/* Appends the messages of a list from number `begin` to before `end`. */
static AT_CHECKED push_messages(struct at_record_side *side, const cJSON *list, size_t begin,
                                size_t end)
{
    enum at_status st = AT_OK;
    size_t i = 0;

    for (const cJSON *m = list->child; m && i < end; m = m->next, i++)
        if (i >= begin)
            TRY(push_message(side, (struct at_message){ at_json_find(m, "role")->valuestring,
                                                        content_of(m), m }));
done:
    return st;
}

/* ---- the prompt inside both sides ---- */

/* What two texts begin with, in characters; a space before the difference belongs to the
 * completions. */
static size_t shared_bytes(const char *a, const char *b)
{
    size_t n = 0;
    bool differ = false;

    while (a[n] && b[n] && a[n] == b[n])
        n++;
    differ = a[n] && b[n];
    if (!differ && n > 0)
        n--;
    while (n > 0 && (((unsigned char)a[n] & 0xC0) == 0x80 || ((unsigned char)b[n] & 0xC0) == 0x80))
        n--;
    if (differ && n > 0 && a[n - 1] == ' ')
        n--;
    return n;
}

/* ---- forms ---- */

/* Where the parts of a row stand; a NULL key is no part. */
struct form {
    const char *prompt, *side[AT_MAX_SIDES];
    bool implicit; /* the prompt is what `side` and `other` begin with */
    const char *other;
};

/* Of a row that lacks what its method reads: what does read it, for a message; or "". */
static const char *read_elsewhere(const struct at_record *r)
{
    const bool sft =
        find(r, "messages") || find(r, "text") || (find(r, "prompt") && find(r, "completion"));

    return sft ? "; a row like this one is trained with sft" : "";
}

static AT_CHECKED choose_pair(struct form *out, const struct at_record *r,
                              const struct at_line *line)
{
    enum at_status st = AT_OK;

    *out = (struct form){ .other = side_names[1] };
    for (size_t k = 0; k < AT_MAX_SIDES && k < r->n_sides; k++) {
        out->side[k] = side_names[k];
        if (!find(r, side_names[k])) {
            st = k == 2 ? at_line_fail(
                              line, NULL,
                              "the key \"reference\" is missing; a row of tpo is {prompt, chosen, "
                              "rejected, reference}, reference a reply to imitate; rows without "
                              "one are trained with cpo, whose cross-entropy is of chosen")
                 : find(r, "label")
                     ? at_line_fail(line, "label",
                                    "the row has a label and no pair: train it with kto, or make "
                                    "pairs of rows with one prompt")
                     : at_line_fail(
                           line, NULL,
                           "the key \"%s\" is missing; a preference row is {prompt, chosen, "
                           "rejected} or {chosen, rejected}%s",
                           side_names[k], read_elsewhere(r));
            goto done;
        }
    }
done:
    return st;
}

static AT_CHECKED choose_sft(struct form *out, const struct at_record *r,
                             const struct at_line *line)
{
    enum at_status st = AT_OK;
    const bool prompt = find(r, "prompt") != NULL;

    if (find(r, "completion") && prompt)
        *out = (struct form){ .side = { "completion" } };
    else if (find(r, "messages"))
        *out = (struct form){ .side = { "messages" } };
    else if (find(r, "chosen") && (prompt || find(r, "rejected")))
        *out = (struct form){ .side = { "chosen" }, .other = "rejected" };
    else if (find(r, "text"))
        *out = (struct form){ .side = { "text" } };
    else if (find(r, "completion") || prompt)
        st = at_line_fail(line, NULL, "the key \"%s\" is missing; it goes with \"%s\"%s",
                          prompt ? "completion" : "prompt", prompt ? "prompt" : "completion",
                          prompt ? " (prompts alone are for grpo, online_dpo and rloo)" : "");
    else
        st = at_line_fail(line, NULL,
                          "the row has none of the forms {messages}, {prompt, "
                          "completion}, {text}, {prompt, chosen}, {chosen, rejected}");
    return st;
}

/* A label is true or false, as numbers 1 or 0. */
static AT_CHECKED read_label(struct at_record *r, const struct at_line *line)
{
    const cJSON *label = find(r, "label");

    r->desirable = cJSON_IsTrue(label) || (cJSON_IsNumber(label) && label->valuedouble == 1);
    if (r->desirable || cJSON_IsFalse(label) || (cJSON_IsNumber(label) && label->valuedouble == 0))
        return AT_OK;
    if (label)
        return at_line_fail(line, "label", "\"label\" must be true (desirable) or false");
    return at_line_fail(line, NULL,
                        "the key \"label\" is missing; a row with one completion is {prompt, "
                        "completion, label}, label true or false%s",
                        read_elsewhere(r));
}

static AT_CHECKED choose_labelled(struct form *out, struct at_record *r, const struct at_line *line,
                                  uint32_t half)
{
    enum at_status st = AT_OK;
    const cJSON *chosen = find(r, "chosen"), *rejected = find(r, "rejected");

    if (chosen && rejected) {
        r->n_halves = 2;
        r->desirable = half == 0;
        *out = (struct form){ .side = { side_names[half] }, .other = side_names[1 - half] };
        if (cJSON_Compare(chosen, rejected, true))
            doubt(r, AT_DOUBT_IDENTICAL, NULL, "chosen and rejected are the same");
        goto done;
    }
    for (size_t i = 0; i < 2; i++) {
        static const char *const needed[] = { "prompt", "completion" };
        if (find(r, needed[i]))
            continue;
        st =
            at_line_fail(line, NULL,
                         "the key \"%s\" is missing; a labelled row is {prompt, completion, label} "
                         "or a preference row {prompt, chosen, rejected}%s",
                         needed[i], read_elsewhere(r));
        goto done;
    }
    TRY(read_label(r, line));
    *out = (struct form){ .side = { "completion" } };
done:
    return st;
}

/* Parts are all texts or all lists of messages. */
static AT_CHECKED check_part(struct at_record *r, const struct at_line *line, const char *key,
                             const char *first)
{
    enum at_status st = AT_OK;
    const cJSON *part = find(r, key);
    const bool chat = cJSON_IsArray(part);
    size_t number = 1;

    if (!chat && !cJSON_IsString(part)) {
        st = at_line_fail(line, key, "\"%s\" must be a string or a list of messages", key);
        goto done;
    }
    if (strcmp(key, "messages") == 0 && !chat) {
        st = at_line_fail(line, key, "\"messages\" must be a list of messages");
        goto done;
    }
    if (strcmp(key, "text") == 0 && chat) {
        st = at_line_fail(line, key, "\"text\" must be a string");
        goto done;
    }
    if (strcmp(key, first) == 0)
        r->chat = chat;
    if (chat != r->chat) {
        st = at_line_fail(line, key, "\"%s\" is %s and \"%s\" is %s; make both the same", first,
                          r->chat ? "a list of messages" : "a string", key,
                          chat ? "a list of messages" : "a string");
        goto done;
    }
    for (const cJSON *m = chat ? part->child : NULL; m; m = m->next, number++)
        TRY(check_message(line, key, m, number));
done:
    return st;
}

/* The form of this kind of row; SFT on what is marked as not wanted is doubtful. Of pairs, a record
 * with one side is a row to score. */
static AT_CHECKED choose_kind(struct form *out, struct at_record *r, const struct at_line *line,
                              enum at_row_kind kind, uint32_t half)
{
    if (kind == AT_ROWS_PAIR)
        return r->n_sides > 1 ? choose_pair(out, r, line) : choose_sft(out, r, line);
    if (kind == AT_ROWS_LABELLED)
        return choose_labelled(out, r, line, half);
    if (cJSON_IsFalse(find(r, "label")))
        doubt(r, AT_DOUBT_LABEL, "label", "\"label\" is false: SFT would teach what is not wanted");
    return choose_sft(out, r, line);
}

/* Of texts nothing is rendered, so what a template would get is of no use. */
static bool is_chat(const struct at_record *r, const struct form *form)
{
    return cJSON_IsArray(find(r, form->side[0]));
}

static AT_CHECKED choose_form(struct form *out, struct at_record *r, const struct at_line *line,
                              enum at_row_kind kind, uint32_t half)
{
    static const char *const unsupported[] = { "image", "images", "chat_template_kwargs", "tools" };
    enum at_status st = AT_OK;
    const char *first = NULL;

    *out = (struct form){ .prompt = NULL };
    if (!cJSON_IsObject(r->json)) {
        st = at_line_fail(line, NULL, "a JSON object is expected; the file holds one a line");
        goto done;
    }
    TRY(choose_kind(out, r, line, kind, half));
    for (size_t i = 0; i < AT_COUNT(unsupported); i++)
        if (holds_something(find(r, unsupported[i])) && !(i >= 2 && is_chat(r, out))) {
            st = at_line_fail(line, unsupported[i], "\"%s\" is not supported; remove it",
                              unsupported[i]);
            goto done;
        }
    first = out->side[0];
    r->has_prompt = strcmp(first, "messages") != 0 && strcmp(first, "text") != 0;
    if (r->has_prompt && find(r, "prompt"))
        out->prompt = "prompt";
    out->implicit = r->has_prompt && !out->prompt;
    if (out->prompt)
        first = out->prompt;
    TRY(check_part(r, line, first, first));
    for (size_t k = 0; k < AT_MAX_SIDES && out->side[k]; k++)
        TRY(check_part(r, line, out->side[k], first));
    if (out->implicit)
        TRY(check_part(r, line, out->other, first));
done:
    return st;
}

/* ---- chat ---- */

static const char *role_at(const struct at_record_side *side, size_t i)
{
    return i < side->n ? side->messages[i].role : "";
}

/* A completion is the assistant's, and something was said. */
static void judge_messages(struct at_record *r, const struct form *f)
{
    const bool assistant_ends_prompt =
        r->n_prompt > 0 && strcmp(role_at(&r->side[0], r->n_prompt - 1), "assistant") == 0;

    for (size_t k = 0; k < r->n_sides; k++) {
        const struct at_record_side *s = &r->side[k];
        if (s->n == r->n_prompt)
            doubt(r, AT_DOUBT_EMPTY, f->side[k], "\"%s\" is empty", f->side[k]);
        for (size_t i = r->n_prompt; i < s->n; i++)
            if (strcmp(s->messages[i].role, "assistant") == 0 && is_blank(s->messages[i].content) &&
                !calls_tools(s->messages[i].json))
                doubt(r, AT_DOUBT_EMPTY, f->side[k], "\"%s\": an assistant message is empty",
                      f->side[k]);
        if (r->has_prompt && strcmp(role_at(s, r->n_prompt), "assistant") != 0)
            doubt(r, AT_DOUBT_ROLES, f->side[k],
                  "\"%s\" begins with a message of role \"%.32s\", not assistant", f->side[k],
                  role_at(s, r->n_prompt));
        if (r->has_prompt && strcmp(role_at(s, s->n - 1), "assistant") != 0)
            doubt(r, AT_DOUBT_ROLES, f->side[k],
                  "\"%s\" ends with a message of role \"%.32s\", not assistant", f->side[k],
                  role_at(s, s->n - 1));
    }
    if (assistant_ends_prompt)
        doubt(r, AT_DOUBT_ROLES, f->prompt, "the prompt ends with a message of the assistant");
}

static bool has_system(const cJSON *list, size_t n)
{
    for (const cJSON *m = list->child; m && n > 0; m = m->next, n--)
        if (strcmp(at_json_find(m, "role")->valuestring, "system") == 0)
            return true;
    return false;
}

/* What the row gives its template: tools, a list or the text of one, and variables. */
static AT_CHECKED read_extras(struct at_record *r, const struct at_line *line)
{
    enum at_status st = AT_OK;

    r->tools = find(r, "tools");
    r->variables = find(r, "chat_template_kwargs");
    if (cJSON_IsString(r->tools)) {
        TRY(at_json_parse(&r->parsed_tools, r->tools->valuestring, strlen(r->tools->valuestring),
                          "\"tools\"", 1));
        r->tools = cJSON_IsNull(r->parsed_tools) ? NULL : r->parsed_tools;
    }
    if (r->tools && !cJSON_IsArray(r->tools))
        return at_line_fail(line, "tools", "\"tools\" must be a list of schemas");
    if (r->variables && !cJSON_IsObject(r->variables))
        return at_line_fail(line, "chat_template_kwargs",
                            "\"chat_template_kwargs\" must be an object");
done:
    if (st == AT_DATA)
        at_context("%s:%u", line->path, line->number);
    return st;
}

/* Messages that two lists begin with. */
static size_t count_equal(const cJSON *a, const cJSON *b)
{
    size_t n = 0;

    for (a = a->child, b = b->child; a && b && cJSON_Compare(a, b, true); a = a->next, b = b->next)
        n++;
    return n;
}

/* Of a triple whose prompt is what chosen and rejected begin with. */
static enum at_status other_prompt(const struct at_line *line, const struct form *f)
{
    return at_line_fail(line, f->side[2],
                        "\"%s\" does not begin with the prompt that \"%s\" and \"%s\" share; "
                        "write the prompt into a key \"prompt\"",
                        f->side[2], f->side[0], f->side[1]);
}

/* The prompt: the system message that it is given or NULL, its own, examples, the rest. */
static AT_CHECKED push_prompt(struct at_record_side *side, const cJSON *head, size_t n,
                              const char *system, const struct at_examples *examples)
{
    enum at_status st = AT_OK;
    const cJSON *m = head->child;
    size_t lead = 0;

    if (system)
        TRY(push_message(side, (struct at_message){ "system", system, NULL }));
    for (; lead < n && strcmp(at_json_find(m, "role")->valuestring, "system") == 0; m = m->next)
        lead++;
    TRY(push_messages(side, head, 0, lead));
    for (size_t i = 0; i < examples->n; i++)
        TRY(push_message(side, examples->messages[i]));
    TRY(push_messages(side, head, lead, n));
done:
    return st;
}

static AT_CHECKED fill_messages(struct at_record *r, const struct form *f,
                                const struct at_line *line, const struct at_dataset_params *params)
{
    enum at_status st = AT_OK;
    const cJSON *head = find(r, f->prompt ? f->prompt : f->side[0]);
    size_t n = 0, skip = 0;
    bool lacks_system = false;

    if (f->prompt) {
        n = (size_t)cJSON_GetArraySize(head);
        if (n == 0) {
            st = at_line_fail(line, f->prompt, "\"prompt\" has no messages");
            goto done;
        }
    } else if (f->implicit) {
        n = skip = at_form_shared(head, find(r, f->other));
        if (n == 0) {
            st = at_line_fail(line, f->side[0],
                              "\"%s\" and \"%s\" begin with no common message, so there is no "
                              "prompt",
                              f->side[0], f->other);
            goto done;
        }
    }
    if (skip > 0 && r->n_sides > 2 && count_equal(head, find(r, f->side[2])) < skip) {
        st = other_prompt(line, f);
        goto done;
    }
    lacks_system = !has_system(head, r->has_prompt ? n : SIZE_MAX);
    for (size_t k = 0; k < r->n_sides; k++) {
        TRY(push_prompt(&r->side[k], head, n, lacks_system ? params->system_prompt : NULL,
                        &params->examples));
        r->n_prompt = r->has_prompt ? r->side[k].n : 0;
        TRY(push_messages(&r->side[k], find(r, f->side[k]), skip, SIZE_MAX));
    }
    judge_messages(r, f);
done:
    return st;
}

/* ---- plain text ---- */

static AT_CHECKED fill_text(struct at_record *r, const struct form *f, const struct at_line *line,
                            const char *eos)
{
    enum at_status st = AT_OK;
    const char *head = find(r, f->prompt ? f->prompt : f->side[0])->valuestring;
    const size_t n_eos = strlen(eos);
    size_t skip = 0;

    if (f->prompt)
        r->n_prompt = strlen(head);
    else if (f->implicit)
        r->n_prompt = skip = shared_bytes(head, find(r, f->other)->valuestring);
    if (skip > 0 && r->n_sides > 2 && strncmp(head, find(r, f->side[2])->valuestring, skip) != 0) {
        st = other_prompt(line, f);
        goto done;
    }
    for (size_t k = 0; k < r->n_sides; k++) {
        const char *rest = find(r, f->side[k])->valuestring + skip;
        const size_t n = strlen(rest);
        struct at_buf *text = &r->side[k].text;
        if (is_blank(rest))
            doubt(r, AT_DOUBT_EMPTY, f->side[k], "\"%s\" is empty", f->side[k]);
        at_buf_put(text, head, r->n_prompt);
        at_buf_put(text, rest, n);
        if (n < n_eos || memcmp(rest + n - n_eos, eos, n_eos) != 0)
            at_buf_puts(text, eos);
        TRY(at_buf_status(text));
    }
done:
    return st;
}

/* ---- prompts ---- */

uint64_t at_hex_word(const char *hex)
{
    uint64_t word = 0;

    for (size_t i = 0; i < 16; i++)
        word = word << 4 | (uint64_t)(hex[i] <= '9' ? hex[i] - '0' : hex[i] - 'a' + 10);
    return word;
}

/* Rows about the same question are one group: the last user message, whatever stands before it, or
 * the text of the prompt. Rows without a prompt are groups of their own. */
static struct at_row_id hash_prompt(const struct at_record *r)
{
    const struct at_record_side *s = &r->side[0];
    const size_t n = r->n_prompt > 0 ? r->n_prompt : r->chat ? s->n : s->text.n;
    struct at_digest digest;
    struct at_hash hash;
    size_t last = n;

    while (r->chat && last > 0 && strcmp(s->messages[last - 1].role, "user") != 0)
        last--;
    at_hash_init(&hash);
    if (!r->chat)
        at_hash_put(&hash, s->text.data, n);
    else if (last > 0)
        at_hash_put(&hash, s->messages[last - 1].content, strlen(s->messages[last - 1].content));
    for (size_t i = 0; r->chat && last == 0 && i < n; i++)
        at_hash_put_text(&hash, s->messages[i].content);
    digest = at_hash_end(&hash);
    return (struct at_row_id){ { at_hex_word(digest.hex), at_hex_word(digest.hex + 16) } };
}

/* ---- record ---- */

/* Prompts to draw samples for: whatever else stands in the row is for its rewards. */
static AT_CHECKED read_prompt(struct at_record *r, const struct at_line *line,
                              const struct at_dataset_params *params)
{
    static const char key[] = "prompt";
    enum at_status st = AT_OK;
    struct at_record_side *side = &r->side[0];
    const cJSON *prompt = find(r, key);
    size_t n = 0;

    r->form = NULL;
    r->has_prompt = true;
    if (!prompt) {
        st = at_line_fail(line, NULL,
                          "the key \"prompt\" is missing: a text or a list of messages, to draw "
                          "samples for");
        goto done;
    }
    TRY(check_part(r, line, key, key));
    if (!r->chat) {
        if (is_blank(prompt->valuestring))
            doubt(r, AT_DOUBT_EMPTY, key, "\"prompt\" is empty");
        at_buf_puts(&side->text, prompt->valuestring);
        TRY(at_buf_status(&side->text));
        r->n_prompt = side->text.n;
        goto done;
    }
    n = (size_t)cJSON_GetArraySize(prompt);
    if (n == 0) {
        st = at_line_fail(line, key, "\"prompt\" has no messages");
        goto done;
    }
    TRY(push_prompt(side, prompt, n, has_system(prompt, n) ? NULL : params->system_prompt,
                    &params->examples));
    r->n_prompt = side->n;
done:
    return st;
}

static AT_CHECKED read_margin(struct at_record *r, const struct at_line *line)
{
    const cJSON *margin = find(r, "margin");

    if (!margin)
        return AT_OK;
    if (!cJSON_IsNumber(margin) || !isfinite((float)margin->valuedouble))
        return at_line_fail(line, "margin", "\"margin\" must be a number");
    r->margin = (float)margin->valuedouble;
    return AT_OK;
}

AT_CHECKED at_record_read(struct at_record *record, const struct at_line *line,
                          const struct at_dataset_params *params, const char *eos, uint32_t half)
{
    enum at_status st = AT_OK;
    struct form form;

    at_json_free(&record->json);
    at_json_free(&record->parsed_tools);
    record->tools = record->variables = NULL;
    for (size_t k = 0; k < AT_MAX_SIDES; k++) {
        record->side[k].n = 0;
        at_buf_clear(&record->side[k].text);
    }
    record->n_prompt = 0;
    record->doubted = AT_DOUBT_NONE;
    record->doubt[0] = 0;
    record->margin = 0;
    record->n_sides = params->kind != AT_ROWS_PAIR ? 1 : params->triples ? 3 : 2;
    record->n_halves = 1;
    record->desirable = record->of_pair = false;
    if (line->n > 0 && line->text[0] == '[') { /* it may go on in further lines */
        st = at_line_fail(line, NULL,
                          "a JSON object is expected; the file holds one a line "
                          "(`attune data convert` makes lines of a list)");
        goto done;
    }
    TRY(at_json_parse(&record->json, line->text, line->n, line->path, line->number));
    if (params->kind == AT_ROWS_SAMPLE) {
        TRY(read_prompt(record, line, params));
        record->prompt_hash = hash_prompt(record);
        goto done;
    }
    st = at_form_take(&record->form, record->json);
    if (st == AT_DATA) {
        (void)at_line_fail(line, NULL, "%s", at_message());
        goto done;
    }
    TRY(st);
    if (params->singles && !find(record, "chosen") && !find(record, "rejected"))
        record->n_sides = 1;
    TRY(choose_form(&form, record, line, params->kind, half));
    record->of_pair = params->kind == AT_ROWS_SFT && form.other && find(record, form.other);
    if (params->reads_last)
        TRY(read_margin(record, line));
    if (record->chat)
        TRY(read_extras(record, line));
    if (record->chat)
        TRY(fill_messages(record, &form, line, params));
    else
        TRY(fill_text(record, &form, line, eos));
    record->prompt_hash = hash_prompt(record);
done:
    return st;
}

AT_CHECKED at_line_kind(enum at_row_kind *out, const struct at_line *line)
{
    enum at_status st = AT_OK;
    cJSON *json = NULL;
    const struct at_form *form = NULL;

    *out = AT_ROWS_SFT;
    TRY(at_json_parse(&json, line->text, line->n, line->path, line->number));
    st = at_form_take(&form, json);
    if (st == AT_DATA) /* at_record_read() will say so */
        st = AT_OK;
    if (at_json_find(json, "chosen") || at_json_find(json, "rejected"))
        *out = AT_ROWS_PAIR;
    else if (at_json_find(json, "label") && at_json_find(json, "completion"))
        *out = AT_ROWS_LABELLED;
done:
    at_json_free(&json);
    return st;
}

size_t at_record_n_prompt(const struct at_record *r, size_t k)
{
    const struct at_record_side *s = &r->side[k];
    size_t n = s->n > 0 ? s->n - 1 : 0;

    if (!r->chat || r->has_prompt)
        return r->n_prompt;
    while (n > 0 && strcmp(s->messages[n].role, "assistant") != 0)
        n--;
    return n;
}

void at_record_release(struct at_record *record)
{
    at_json_free(&record->json);
    at_json_free(&record->parsed_tools);
    for (size_t k = 0; k < AT_MAX_SIDES; k++) {
        at_free(&record->side[k].messages);
        at_buf_release(&record->side[k].text);
    }
    *record = (struct at_record){ .json = NULL };
}
