#include "reader.h"

#include <string.h>

/* The turns of a conversation that has both a prompt and a reply. */
static AT_CHECKED add_turns(struct at_arena *arena, struct at_message *to, size_t *n,
                            const struct at_record_side *side)
{
    enum at_status st = AT_OK;

    for (size_t i = 0; i < side->n; i++) {
        const struct at_message *m = &side->messages[i];
        char *role = NULL, *content = NULL;
        if (strcmp(m->role, "system") == 0)
            continue;
        TRY(at_arena_strdup(arena, &role, m->role));
        TRY(at_arena_strdup(arena, &content, m->content));
        to[(*n)++] = (struct at_message){ role, content, NULL };
    }
done:
    return st;
}

AT_CHECKED at_examples_load(struct at_examples *out, struct at_arena *arena, const char *path,
                            uint32_t n_rows)
{
    enum at_status st = AT_OK;
    const struct at_dataset_params params = { .kind = AT_ROWS_SFT };
    struct at_lines lines = { .path = NULL };
    struct at_record record = { .json = NULL };
    struct at_message *messages = NULL, *kept = NULL;
    struct at_line line;
    size_t n = 0;
    uint32_t rows = 0;
    bool found = true;

    TRY(at_lines_open(&lines, path));
    while (rows < n_rows) {
        TRY(at_lines_next(&lines, &line, &found));
        if (!found)
            break;
        TRY(at_record_read(&record, &line, &params, "", 0));
        if (!record.chat || record.doubted)
            continue;
        TRY(at_realloc(&messages, n, n + record.side[0].n, sizeof *messages));
        TRY(add_turns(arena, messages, &n, &record.side[0]));
        rows++;
    }
    if (rows < n_rows)
        FAIL(
            AT_DATA,
            "%s: %u examples are wanted and %u conversations are there; lower n_few_shot (0: none) "
            "or name another file as few_shot",
            path, n_rows, rows);
    TRY(at_arena_alloc(arena, &kept, n, sizeof *kept));
    for (size_t i = 0; i < n; i++)
        kept[i] = messages[i];
    *out = (struct at_examples){ kept, n };
done:
    at_free(&messages);
    at_lines_close(&lines);
    at_record_release(&record);
    return st;
}
