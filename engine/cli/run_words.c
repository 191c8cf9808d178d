#include "run_words.h"

AT_CHECKED run_words_add(struct run_words *w, const char *word)
{
    if (w->n == (int)AT_COUNT(w->items))
        return at_fail(AT_USAGE, "more keys than a stage that is a command has");
    return at_arena_strdup(&w->pipeline->arena, &w->items[w->n++], word);
}

AT_CHECKED run_words_flag(struct run_words *w, const char *key, const char *value)
{
    enum at_status st = AT_OK;
    char *flag = NULL;

    TRY(at_arena_printf(&w->pipeline->arena, &flag, "--%s", key));
    TRY(run_words_add(w, flag));
    if (value)
        TRY(run_words_add(w, value));
done:
    return st;
}

static AT_CHECKED json_text(char **out, struct run_words *w, const cJSON *value)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };

    at_json_write(&text, value);
    TRY(at_buf_status(&text));
    TRY(at_arena_strdup(&w->pipeline->arena, out, text.data));
done:
    at_buf_release(&text);
    return st;
}

AT_CHECKED run_words_key(struct run_words *w, const struct at_config *c, enum at_key key)
{
    enum at_status st = AT_OK;
    cJSON *value = NULL;
    char *text = NULL;

    if (!c->is_set[key] || c->origin[key] < AT_FROM_FILE)
        goto done;
    value = at_config_value(c, key);
    if (cJSON_IsNumber(value))
        TRY(at_arena_printf(&w->pipeline->arena, &text, "%.15g", value->valuedouble));
    else if (cJSON_IsString(value))
        TRY(at_arena_strdup(&w->pipeline->arena, &text, value->valuestring));
    else if (cJSON_IsArray(value))
        TRY(json_text(&text, w, value));
    else
        TRY(at_arena_strdup(&w->pipeline->arena, &text, cJSON_IsTrue(value) ? "true" : "false"));
    TRY(run_words_flag(w, at_key_name(key), text));
done:
    cJSON_Delete(value);
    return st;
}

AT_CHECKED run_words_read(struct cli_args *out, struct run_words *w)
{
    enum at_status st = AT_OK;
    const struct cli_command *command = NULL;
    int used = 0;

    TRY(cli_command_find(&command, w->n, w->items, &used));
    TRY(cli_args_read(out, command, w->n - 1 - used, w->items + 1 + used));
done:
    return st;
}
