#include "chat.h"

#include <string.h>

enum { MAX_VARIABLES = 64 };

struct at_chat {
    struct at_arena arena;
    struct at_jinja *jinja, *with_tools; /* with_tools: of rows with tools; NULL: jinja too */
    const char *tools_problem;           /* why with_tools is of no use, or NULL */
    struct at_chat_tokens tokens;
    const char *end_of_turn;
    bool ends_no_turn, writes_bos;
};

/* ---- messages as a document, which borrows from them ---- */

struct document {
    cJSON list;
    cJSON *nodes;   /* (3 * n) a message, its role, its content */
    cJSON **copies; /* (n) of messages that templates see in another form, else NULL */
    size_t n;
};

static void release_document(struct document *d)
{
    for (size_t i = 0; d->copies && i < d->n; i++)
        cJSON_Delete(d->copies[i]);
    at_free(&d->copies);
    at_free(&d->nodes);
}

static void set_string(cJSON *node, char *key, const char *text)
{
    node->type = cJSON_String;
    node->string = key;
    node->valuestring = (char *)(uintptr_t)text; /* only read */
}

/* Thoughts are given under each name that templates know, as transformers does: the first of these
 * keys that is set. */
static const cJSON *find_thoughts(const cJSON *message)
{
    static const char *const names[] = { "reasoning_content", "thinking", "reasoning" };

    for (size_t i = 0; i < AT_COUNT(names); i++) {
        const cJSON *found = at_json_find(message, names[i]);
        if (found && !cJSON_IsNull(found))
            return found;
    }
    return NULL;
}

/* {"thinking": thoughts, the message, "reasoning_content": thoughts}; keys keep their places. */
static bool add_thoughts(cJSON *message, const cJSON *thoughts)
{
    cJSON *first = cJSON_Duplicate(thoughts, true), *last = cJSON_Duplicate(thoughts, true);
    bool ok = first && last;

    if (ok && at_json_find(message, "reasoning_content"))
        ok = cJSON_ReplaceItemInObjectCaseSensitive(message, "reasoning_content", last);
    else if (ok)
        ok = cJSON_AddItemToObject(message, "reasoning_content", last);
    last = ok ? NULL : last;
    if (ok && !at_json_find(message, "thinking")) {
        ok = cJSON_AddItemToObject(message, "thinking", first);
        if (ok) { /* from the end to the front */
            (void)cJSON_DetachItemViaPointer(message, first);
            ok = cJSON_InsertItemInArray(message, 0, first);
        }
        first = ok ? NULL : first;
    }
    cJSON_Delete(first);
    cJSON_Delete(last);
    return ok;
}

static cJSON *find_null(const cJSON *message)
{
    for (cJSON *item = message->child; item; item = item->next)
        if (cJSON_IsNull(item))
            return item;
    return NULL;
}

/* The message as transformers shows it to templates: without keys that are null, with thoughts
 * under each of their names. *out stays NULL when that is the message itself. */
static AT_CHECKED normalise(cJSON **out, const cJSON *message)
{
    const cJSON *thoughts = find_thoughts(message);
    cJSON *copy = NULL, *item = NULL;

    if (!thoughts && !find_null(message))
        return AT_OK;
    copy = cJSON_Duplicate(message, true);
    while (copy && (item = find_null(copy)))
        cJSON_Delete(cJSON_DetachItemViaPointer(copy, item));
    if (!copy || (thoughts && !add_thoughts(copy, thoughts))) {
        cJSON_Delete(copy);
        return at_fail(AT_MEMORY, "a message cannot be copied");
    }
    *out = copy;
    return AT_OK;
}

static AT_CHECKED make_message(struct document *d, const struct at_message *m, size_t i)
{
    static char role[] = "role", content[] = "content";
    enum at_status st = AT_OK;
    cJSON *node = &d->nodes[3 * i];

    if (m->json) {
        TRY(normalise(&d->copies[i], m->json));
        *node = d->copies[i] ? *d->copies[i] : *m->json;
    } else {
        if (at_utf8_check(m->role, strlen(m->role)) < strlen(m->role) ||
            at_utf8_check(m->content, strlen(m->content)) < strlen(m->content))
            FAIL(AT_DATA, "message %zu is not valid UTF-8", i + 1);
        node->type = cJSON_Object;
        node->child = node + 1;
        set_string(node + 1, role, m->role);
        set_string(node + 2, content, m->content);
        node[1].next = node + 2;
    }
    node->next = i + 1 < d->n ? node + 3 : NULL;
done:
    return st;
}

static AT_CHECKED make_document(struct document *d, const struct at_message *messages, size_t n)
{
    enum at_status st = AT_OK;

    *d = (struct document){ .n = n };
    if (n == 0)
        FAIL(AT_DATA, "a conversation without messages cannot be rendered");
    TRY(at_alloc(&d->nodes, 3 * n, sizeof *d->nodes));
    TRY(at_alloc(&d->copies, n, sizeof(cJSON *)));
    d->list.type = cJSON_Array;
    d->list.child = d->nodes;
    for (size_t i = 0; i < n; i++)
        TRY(make_message(d, &messages[i], i));
done:
    return st;
}

/* ---- rendering ---- */

/* Adds what a row sets, but nothing that the conversation itself is given by. */
static AT_CHECKED add_variables(struct at_jinja_variable *out, size_t *n, const cJSON *variables)
{
    static const char *const reserved[] = { "add_generation_prompt", "messages", "tools" };
    enum at_status st = AT_OK;

    for (const cJSON *v = variables ? variables->child : NULL; v; v = v->next) {
        for (size_t i = 0; i < AT_COUNT(reserved); i++)
            if (strcmp(v->string, reserved[i]) == 0)
                FAIL(AT_DATA, "\"chat_template_kwargs\" may not set \"%s\"; remove it there",
                     v->string);
        if (*n == MAX_VARIABLES)
            FAIL(AT_DATA, "a chat template gets %d variables at most", MAX_VARIABLES);
        out[(*n)++] = (struct at_jinja_variable){ v->string, v, NULL };
    }
done:
    return st;
}

AT_CHECKED at_chat_render(const struct at_chat *chat, struct at_buf *out,
                          const struct at_chat_request *request)
{
    enum at_status st = AT_OK;
    struct document d = { .n = 0 };
    const cJSON generation = { .type = request->add_generation_prompt ? cJSON_True : cJSON_False };
    const struct at_chat_tokens *t = &chat->tokens;
    const struct at_jinja_variable tokens[] = { { "bos_token", NULL, t->bos },
                                                { "eos_token", NULL, t->eos },
                                                { "pad_token", NULL, t->pad } };
    struct at_jinja_variable variables[MAX_VARIABLES] = {
        { "tools", request->tools, NULL },
        { "documents", NULL, NULL },
        { "add_generation_prompt", &generation, NULL },
    };
    struct at_jinja_params params = { .variables = variables,
                                      .n_variables = 3,
                                      .spans = request->spans };

    for (size_t i = 0; i < AT_COUNT(tokens); i++)
        if (tokens[i].text) /* a token that the tokenizer lacks is undefined, not none */
            variables[params.n_variables++] = tokens[i];
    if (request->tools && chat->tools_problem)
        FAIL(AT_DATA, "%s", chat->tools_problem);
    TRY(make_document(&d, request->messages, request->n));
    variables[params.n_variables++] = (struct at_jinja_variable){ "messages", &d.list, NULL };
    TRY(add_variables(variables, &params.n_variables, request->variables));
    TRY(at_jinja_render(request->tools && chat->with_tools ? chat->with_tools : chat->jinja, out,
                        &params));
done:
    release_document(&d);
    return st;
}

/* ---- what a template does ---- */

/* Renders a question, and an answer when there is one; "" when the template refuses it. */
static AT_CHECKED probe(const struct at_chat *chat, struct at_buf *out, const char *answer)
{
    const struct at_message messages[] = { { "user", "x", NULL }, { "assistant", answer, NULL } };
    const struct at_chat_request request = { .messages = messages, .n = answer ? 2 : 1 };
    enum at_status st = at_chat_render(chat, out, &request);

    if (st == AT_DATA) {
        at_buf_clear(out);
        st = AT_OK;
    }
    return st;
}

static AT_CHECKED find_end_of_turn(struct at_chat *chat)
{
    static const char answer[] = "AnswerOfTheAssistant";
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };
    const char *found = NULL, *end = NULL;
    char *copy = NULL;

    TRY(probe(chat, &text, answer));
    for (const char *at = text.n > 0 ? text.data : ""; (at = strstr(at, answer)); at++)
        found = at;
    if (!found)
        goto done;
    found += sizeof answer - 1;
    found += strspn(found, " \t\r\n");
    end = found + strcspn(found, " \t\r\n");
    chat->ends_no_turn = end == found;
    if (chat->ends_no_turn)
        goto done;
    TRY(at_arena_strndup(&chat->arena, &copy, found, (size_t)(end - found)));
    chat->end_of_turn = copy;
done:
    at_buf_release(&text);
    return st;
}

static AT_CHECKED find_bos(struct at_chat *chat)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };
    const char *bos = chat->tokens.bos;

    TRY(probe(chat, &text, NULL));
    if (bos && bos[0] && text.n > 0)
        chat->writes_bos = strncmp(text.data, bos, strlen(bos)) == 0;
done:
    at_buf_release(&text);
    return st;
}

static AT_CHECKED copy_token(struct at_arena *arena, const char **out, const char *text)
{
    enum at_status st = AT_OK;
    char *copy = NULL;

    if (text)
        TRY(at_arena_strdup(arena, &copy, text));
    *out = copy;
done:
    return st;
}

AT_CHECKED at_chat_compile_tools(struct at_chat *chat, const char *template_text, const char *name)
{
    enum at_status st = AT_OK;
    struct at_buf place = { 0 };

    AT_REQUIRE(!chat->with_tools);
    at_buf_printf(&place, "%s: chat template " AT_CHAT_TOOLS, name);
    TRY(at_buf_status(&place));
    st = at_jinja_parse(&chat->with_tools, template_text, strlen(template_text), place.data);
    if (st == AT_DATA) /* rows without tools do not need it */
        st = copy_token(&chat->arena, &chat->tools_problem, at_message());
done:
    at_buf_release(&place);
    return st;
}

AT_CHECKED at_chat_compile(struct at_chat **out, const char *template_text, const char *name,
                           const struct at_chat_tokens *tokens)
{
    enum at_status st = AT_OK;
    struct at_chat *chat = NULL;
    struct at_buf place = { 0 };

    *out = NULL;
    TRY(at_alloc(&chat, 1, sizeof *chat));
    TRY(copy_token(&chat->arena, &chat->tokens.bos, tokens->bos));
    TRY(copy_token(&chat->arena, &chat->tokens.eos, tokens->eos));
    TRY(copy_token(&chat->arena, &chat->tokens.pad, tokens->pad));
    at_buf_printf(&place, "%s: chat template", name);
    TRY(at_buf_status(&place));
    TRY(at_jinja_parse(&chat->jinja, template_text, strlen(template_text), place.data));
    TRY(find_end_of_turn(chat));
    TRY(find_bos(chat));
    *out = chat;
    chat = NULL;
done:
    at_buf_release(&place);
    at_chat_destroy(&chat);
    return st;
}

void at_chat_destroy(struct at_chat **chat)
{
    if (!*chat)
        return;
    at_jinja_destroy(&(*chat)->jinja);
    at_jinja_destroy(&(*chat)->with_tools);
    at_arena_release(&(*chat)->arena);
    at_free(chat);
}

const char *at_chat_end_of_turn(const struct at_chat *chat)
{
    return chat->end_of_turn;
}

bool at_chat_ends_no_turn(const struct at_chat *chat)
{
    return chat->ends_no_turn;
}

bool at_chat_writes_bos(const struct at_chat *chat)
{
    return chat->writes_bos;
}

bool at_chat_writes_date(const struct at_chat *chat)
{
    return at_jinja_mentions(chat->jinja, "strftime_now");
}

bool at_chat_marks_generation(const struct at_chat *chat)
{
    return at_jinja_marks_generation(chat->jinja);
}

/* ---- as ids ---- */

AT_CHECKED at_chat_encode(const struct at_chat *chat, const struct at_tokenizer *tokenizer,
                          struct at_ids *out, const char *system, const struct at_message *messages,
                          size_t n)
{
    enum at_status st = AT_OK;
    const bool adds = system && (n == 0 || strcmp(messages[0].role, "system") != 0);
    struct at_message *all = NULL;
    struct at_chat_request request = { .n = n + adds, .add_generation_prompt = true };
    struct at_buf text = { 0 };

    TRY(at_alloc(&all, n + 1, sizeof *all));
    all[0] = (struct at_message){ "system", system, NULL };
    if (n > 0)
        memcpy(all + adds, messages, n * sizeof *all);
    request.messages = all;
    TRY(at_chat_render(chat, &text, &request));
    TRY(at_buf_status(&text));
    TRY(at_tokenizer_encode(tokenizer, out, text.data ? text.data : "", text.n, false));
done:
    at_free(&all);
    at_buf_release(&text);
    return st;
}

AT_CHECKED at_chat_end_id(int32_t *out, const struct at_chat *chat,
                          const struct at_tokenizer *tokenizer)
{
    enum at_status st = AT_OK;
    const char *mark = at_chat_end_of_turn(chat);
    struct at_ids ids = { .n = 0 };

    *out = mark ? at_tokenizer_find(tokenizer, mark) : -1;
    if (!mark || *out >= 0)
        goto done;
    TRY(at_tokenizer_encode(tokenizer, &ids, mark, strlen(mark), false));
    if (ids.n > 0 && at_tokenizer_is_special(tokenizer, ids.data[0]))
        *out = ids.data[0];
done:
    at_ids_release(&ids);
    return st;
}
