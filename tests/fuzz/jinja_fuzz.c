/* links: base text */
/* A chat template, then a line "%%", then a document of its variables (without: a conversation with
 * tools): the template is refused with a sentence, or writes valid UTF-8 within its caps, the same
 * text every time. */
#include "fuzz.h"
#include "jinja.h"
#include <string.h>

enum { MAX_VARIABLES = 16, MAX_WORK = 20000000 };

static const char conversation[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\" S\xC3\xA9 \"},"
    "{\"role\":\"user\",\"content\":\"Hi\\n\"},"
    "{\"role\":\"assistant\",\"content\":\"<think>a</think>b\",\"tool_calls\":[{\"type\":"
    "\"function\",\"function\":{\"name\":\"f\",\"arguments\":{\"x\":1.5,\"y\":[1,null,true]}}}]}],"
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":"
    "\"object\",\"properties\":{\"x\":{\"type\":\"number\"}},\"required\":[\"x\"]}}}],"
    "\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"add_generation_prompt\":true,"
    "\"enable_thinking\":false,\"n\":-3,\"f\":2.5,\"d\":{\"b\":1,\"a\":\"x\"}}";

/* Offset of the line "%%", or n. */
static size_t find_line(const char *data, size_t n)
{
    for (size_t i = 0; i + 4 <= n; i++)
        if (memcmp(data + i, "\n%%\n", 4) == 0)
            return i;
    return n;
}

static void check_render(const struct at_jinja *jinja, const struct at_jinja_params *params)
{
    struct at_buf first = { 0 }, second = { 0 };
    const enum at_status st = at_jinja_render(jinja, &first, params);

    AT_REQUIRE(st == AT_OK || at_message()[0] != 0);
    params->spans->n = 0;
    if (st == AT_OK) {
        AT_REQUIRE(at_utf8_check(first.data ? first.data : "", first.n) == first.n);
        AT_REQUIRE(at_jinja_render(jinja, &second, params) == AT_OK);
        AT_REQUIRE(first.n == second.n);
        AT_REQUIRE(first.n == 0 || memcmp(first.data, second.data, first.n) == 0);
        for (size_t i = 0; i < params->spans->n; i++)
            AT_REQUIRE(params->spans->data[i].begin <= params->spans->data[i].end &&
                       params->spans->data[i].end <= first.n);
    }
    at_buf_release(&first);
    at_buf_release(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *text = (const char *)data;
    const size_t line = find_line(text, n);
    struct at_jinja_variable variables[MAX_VARIABLES];
    struct at_spans spans = { .n = 0 };
    struct at_jinja_params params = {
        .variables = variables, .now_s = 1e9, .max_work = MAX_WORK, .spans = &spans
    };
    struct at_jinja *jinja = NULL;
    cJSON *json = NULL;

    if (line == n || at_json_parse(&json, text + line + 4, n - line - 4, "input", 1) != AT_OK)
        AT_REQUIRE(at_json_parse(&json, conversation, strlen(conversation), "own", 1) == AT_OK);
    for (const cJSON *v = json->child; v && v->string && params.n_variables < MAX_VARIABLES;
         v = v->next)
        variables[params.n_variables++] = (struct at_jinja_variable){ v->string, v, NULL };
    if (at_jinja_parse(&jinja, text, line, "input") == AT_OK)
        check_render(jinja, &params);
    else
        AT_REQUIRE(!jinja && at_message()[0] != 0);
    at_jinja_destroy(&jinja);
    at_json_free(&json);
    at_spans_release(&spans);
    return 0;
}
