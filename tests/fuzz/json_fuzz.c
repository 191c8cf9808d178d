/* links: base */
/* JSON and YAML: a text is refused with a sentence, or becomes a tree that survives writing and
 * reading. */
#include "fuzz.h"
#include "json.h"
#include <string.h>

/* Writes a tree and reads it back: the same text again. */
static void check_round_trip(const cJSON *json, void (*write)(struct at_buf *, const cJSON *))
{
    struct at_buf first = { 0 }, second = { 0 };
    cJSON *again = NULL;

    write(&first, json);
    AT_REQUIRE(at_buf_status(&first) == AT_OK);
    AT_REQUIRE(at_utf8_check(first.data, first.n) == first.n);
    if (at_json_parse(&again, first.data, first.n, "written", 1) != AT_OK)
        AT_BUG("%s\n%s", at_message(), first.data);
    write(&second, again);
    AT_REQUIRE(at_buf_status(&second) == AT_OK);
    if (first.n != second.n || memcmp(first.data, second.data, first.n) != 0)
        AT_BUG("written again, it differs:\n%s\n%s", first.data, second.data);
    at_json_free(&again);
    at_buf_release(&first);
    at_buf_release(&second);
}

static void check_tree(enum at_status st, cJSON *json)
{
    AT_REQUIRE(st == AT_OK || (!json && at_message()[0] != 0));
    if (st != AT_OK)
        return;
    check_round_trip(json, at_json_write);
    check_round_trip(json, at_json_write_pretty);
    at_json_free(&json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    cJSON *json = NULL;
    enum at_status st = at_json_parse(&json, (const char *)data, n, "input", 1);

    check_tree(st, json);
    json = NULL;
    st = at_yaml_parse(&json, (const char *)data, n, "input");
    check_tree(st, json);
    return 0;
}
