#include "chat.h"
#include "os.h"

#include <string.h>

AT_CHECKED at_chat_template_add(struct at_chat_templates *out, struct at_arena *arena,
                                const char *name, const char *text)
{
    enum at_status st = AT_OK;
    struct at_chat_template *items = NULL;
    char *own_name = NULL, *own_text = NULL;

    TRY(at_arena_alloc(arena, &items, out->n + 1, sizeof *items));
    if (out->n > 0)
        memcpy(items, out->items, out->n * sizeof *items);
    TRY(at_arena_strdup(arena, &own_name, name));
    TRY(at_arena_strdup(arena, &own_text, text));
    items[out->n] = (struct at_chat_template){ own_name, own_text };
    out->items = items;
    out->n++;
done:
    return st;
}

/* ---- a folder's files ---- */

static AT_CHECKED add_file(struct at_chat_templates *out, struct at_arena *arena, const char *name,
                           const char *path)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };

    TRY(at_file_read(&text, path));
    TRY(at_chat_template_add(out, arena, name, text.data ? text.data : ""));
done:
    at_buf_release(&text);
    return st;
}

/* additional_chat_templates/NAME.jinja */
static AT_CHECKED add_folder(struct at_chat_templates *out, struct at_arena *arena, const char *dir)
{
    static const char end[] = ".jinja";
    enum at_status st = AT_OK;
    char *folder = NULL, **names = NULL;
    size_t n = 0;

    TRY(at_path_join(arena, &folder, dir, "additional_chat_templates"));
    if (!at_path_is_dir(folder))
        goto done;
    TRY(at_dir_list(arena, &names, &n, folder));
    for (size_t i = 0; i < n; i++) {
        const size_t length = strlen(names[i]);
        char *path = NULL;
        if (length < sizeof end || strcmp(names[i] + length - (sizeof end - 1), end) != 0)
            continue;
        TRY(at_path_join(arena, &path, folder, names[i]));
        names[i][length - (sizeof end - 1)] = 0;
        TRY(add_file(out, arena, names[i], path));
    }
done:
    return st;
}

static AT_CHECKED add_list(struct at_chat_templates *out, struct at_arena *arena, const cJSON *list,
                           const char *path)
{
    enum at_status st = AT_OK;
    const char *name = NULL, *text = NULL;

    for (const cJSON *item = list->child; item; item = item->next) {
        TRY(at_json_need_string(&name, item, "name", path));
        TRY(at_json_need_string(&text, item, "template", path));
        TRY(at_chat_template_add(out, arena, name, text));
    }
done:
    return st;
}

static AT_CHECKED add_configured(struct at_chat_templates *out, struct at_arena *arena,
                                 const char *path)
{
    enum at_status st = AT_OK;
    const char *text = NULL;
    const cJSON *templates;
    cJSON *config = NULL;

    TRY(at_json_load_python(&config, path));
    templates = at_json_find(config, "chat_template");
    if (cJSON_IsArray(templates))
        TRY(add_list(out, arena, templates, path));
    else
        TRY(at_json_get_string(&text, config, "chat_template", path));
    if (text)
        TRY(at_chat_template_add(out, arena, AT_CHAT_DEFAULT, text));
done:
    at_json_free(&config);
    return st;
}

AT_CHECKED at_chat_templates_load(struct at_chat_templates *out, struct at_arena *arena,
                                  const char *dir)
{
    enum at_status st = AT_OK;
    char *path = NULL;

    *out = (struct at_chat_templates){ .n = 0 };
    TRY(at_path_join(arena, &path, dir, "chat_template.jinja"));
    if (at_path_exists(path))
        TRY(add_file(out, arena, AT_CHAT_DEFAULT, path));
    TRY(add_folder(out, arena, dir));
    TRY(at_path_join(arena, &path, dir, "tokenizer_config.json"));
    if (out->n == 0 && at_path_exists(path))
        TRY(add_configured(out, arena, path));
done:
    return st;
}

/* ---- choosing ---- */

bool at_chat_template_is_name(const char *text)
{
    return !strpbrk(text, "/.");
}

const char *at_chat_template_find(const struct at_chat_templates *templates, const char *name)
{
    for (size_t i = templates->n; i > 0; i--)
        if (strcmp(templates->items[i - 1].name, name) == 0)
            return templates->items[i - 1].text;
    return NULL;
}

AT_CHECKED at_chat_template_pick(const char **out, const struct at_chat_templates *templates,
                                 const char *name, const char *place)
{
    enum at_status st = AT_OK;
    struct at_buf names = { 0 };

    *out = at_chat_template_find(templates, name ? name : AT_CHAT_DEFAULT);
    if (*out || (!name && templates->n == 0))
        goto done;
    for (size_t i = 0; i < templates->n; i++)
        at_buf_printf(&names, "%s%.80s", i > 0 ? ", " : "", templates->items[i].name);
    TRY(at_buf_status(&names));
    if (name)
        FAIL(AT_DATA,
             "%s: no chat template is called \"%.80s\" (a file's path has a slash or a dot); there "
             "are: %s",
             place, name, templates->n > 0 ? names.data : "none");
    FAIL(
        AT_DATA,
        "%s: none of the chat templates is called \"default\"; choose one with --chat_template: %s",
        place, names.data);
done:
    at_buf_release(&names);
    return st;
}
