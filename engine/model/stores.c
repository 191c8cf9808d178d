#include "stores.h"

#include "json.h"
#include "os.h"

#include <string.h>

#define HUB "hf:"
#define OLLAMA "ollama:"

enum { COMMIT_DIGITS = 40, DIGEST_DIGITS = 64, MAX_PLACES = 2 };

static bool begins_with(const char *text, const char *begin)
{
    return strncmp(text, begin, strlen(begin)) == 0;
}

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);

    return n >= m && strcmp(text + n - m, end) == 0;
}

bool at_model_is_named(const char *text)
{
    return begins_with(text, HUB) || begins_with(text, OLLAMA);
}

/* ---- names become paths, so they must not lead anywhere ---- */

static const char part_characters[] =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

/* Parts between slashes, none of them empty, "." or ".."; 0: it is not such a name. */
static size_t count_parts(const char *text)
{
    size_t parts = 0;

    for (;;) {
        const size_t n = strspn(text, part_characters);
        if (n == 0 || text[0] == '.' || (text[n] != '/' && text[n] != 0))
            return 0;
        parts++;
        if (text[n] == 0)
            return parts;
        text += n + 1;
    }
}

static bool is_hex(const char *text, size_t n)
{
    return strlen(text) == n && strspn(text, "0123456789abcdef") == n;
}

/* "~/x" becomes "HOME/x", as Python's expanduser has it. */
static AT_CHECKED expand(struct at_arena *arena, char **out, const char *path)
{
    const char *home = at_env("HOME");

    if (path[0] == '~' && (path[1] == '/' || path[1] == 0) && home)
        return at_arena_printf(arena, out, "%s%s", home, path + 1);
    return at_arena_strdup(arena, out, path);
}

static const char *set_env(const char *name)
{
    const char *value = at_env(name);

    return value && value[0] ? value : NULL;
}

/* ---- Hugging Face's cache ---- */

struct hub_name {
    char *repo, *revision, *file; /* file: NULL for the folder */
};

static AT_CHECKED hub_place(struct at_arena *arena, char **out)
{
    static const struct {
        const char *variable, *below;
    } places[] = {
        { "HF_HUB_CACHE", "" },
        { "HUGGINGFACE_HUB_CACHE", "" },
        { "HF_HOME", "/hub" },
        { "XDG_CACHE_HOME", "/huggingface/hub" },
    };
    enum at_status st = AT_OK;

    for (size_t i = 0; i < AT_COUNT(places); i++) {
        const char *value = set_env(places[i].variable);
        char *place = NULL;
        if (!value)
            continue;
        TRY(expand(arena, &place, value));
        return at_arena_printf(arena, out, "%s%s", place, places[i].below);
    }
    TRY(expand(arena, out, "~/.cache/huggingface/hub"));
done:
    return st;
}

static AT_CHECKED read_hub_name(struct hub_name *out, struct at_arena *arena, const char *text)
{
    static char main_branch[] = "main";
    enum at_status st = AT_OK;
    char *slash, *at;
    size_t parts;

    *out = (struct hub_name){ .revision = main_branch };
    TRY(at_arena_strdup(arena, &out->repo, text + strlen(HUB)));
    slash = strrchr(out->repo, '/');
    if (slash && slash != strchr(out->repo, '/') && ends_with(slash, ".gguf")) {
        *slash = 0;
        out->file = slash + 1;
    }
    at = strchr(out->repo, '@');
    if (at) {
        *at = 0;
        out->revision = at + 1;
    }
    parts = count_parts(out->repo);
    if (parts < 1 || parts > 2 || strstr(out->repo, "--") || count_parts(out->revision) == 0 ||
        (out->file && count_parts(out->file) != 1))
        FAIL(AT_USAGE,
             "%s: not the name of a model; expected hf:ORG/NAME, hf:ORG/NAME@REVISION or "
             "hf:ORG/NAME/FILE.gguf",
             text);
done:
    return st;
}

/* What fetches the model. */
static AT_CHECKED fetch_command(struct at_arena *arena, char **out, const struct hub_name *name)
{
    const bool is_main = strcmp(name->revision, "main") == 0;

    return at_arena_printf(arena, out, "hf download %s%s%s%s%s", name->repo, name->file ? " " : "",
                           name->file ? name->file : "", is_main ? "" : " --revision ",
                           is_main ? "" : name->revision);
}

/* The commit that a branch or tag stands for; *out stays NULL where the cache has none. */
static AT_CHECKED read_commit(char **out, struct at_arena *arena, const char *dir,
                              const char *revision)
{
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };
    char *path = NULL, *commit = NULL;

    TRY(at_arena_printf(arena, &path, "%s/refs/%s", dir, revision));
    if (!at_path_exists(path) || at_path_is_dir(path)) {
        if (is_hex(revision, COMMIT_DIGITS))
            TRY(at_arena_strdup(arena, out, revision));
        goto done;
    }
    TRY(at_file_read(&text, path));
    while (text.n > 0 && strchr(" \r\n", text.data[text.n - 1]))
        text.n--;
    TRY(at_arena_strndup(arena, &commit, text.n > 0 ? text.data : "", text.n));
    if (!is_hex(commit, COMMIT_DIGITS))
        FAIL(AT_DATA, "%s: holds \"%.60s\"; expected a commit, %d hexadecimal digits", path, commit,
             COMMIT_DIGITS);
    *out = commit;
done:
    at_buf_release(&text);
    return st;
}

static AT_CHECKED find_in_hub(struct at_found_model *out, struct at_arena *arena, const char *text)
{
    enum at_status st = AT_OK;
    struct hub_name name;
    char *place = NULL, *org = NULL, *dir = NULL, *commit = NULL, *path = NULL, *fetch = NULL;
    char *slash;

    TRY(read_hub_name(&name, arena, text));
    TRY(fetch_command(arena, &fetch, &name));
    TRY(hub_place(arena, &place));
    TRY(at_arena_strdup(arena, &org, name.repo));
    slash = strchr(org, '/');
    if (slash)
        *slash = 0;
    TRY(at_arena_printf(arena, &dir, "%s/models--%s%s%s", place, org, slash ? "--" : "",
                        slash ? slash + 1 : ""));
    if (!at_path_is_dir(dir))
        FAIL(AT_NOT_FOUND,
             "%s: no such model in Hugging Face's cache: there is no %s; `%s` fetches it", text,
             dir, fetch);
    TRY(read_commit(&commit, arena, dir, name.revision));
    if (!commit)
        FAIL(AT_NOT_FOUND,
             "%s: the cache has no such revision: there is no %s/refs/%s; `%s` fetches it", text,
             dir, name.revision, fetch);
    TRY(at_arena_printf(arena, &path, "%s/snapshots/%s%s%s", dir, commit, name.file ? "/" : "",
                        name.file ? name.file : ""));
    if (!at_path_exists(path) || at_path_is_dir(path) == (name.file != NULL))
        FAIL(AT_NOT_FOUND, "%s: there is no %s; `%s` fetches it", text, path, fetch);
    *out = (struct at_found_model){ .path = path, .fetch = fetch };
    if (!name.file)
        out->hub_name = name.repo;
    if (!name.file && strcmp(name.revision, "main") != 0)
        out->revision = name.revision;
done:
    return st;
}

/* ---- Ollama's store ---- */

static AT_CHECKED ollama_places(struct at_arena *arena, char *out[MAX_PLACES], size_t *n)
{
    const char *own = set_env("OLLAMA_MODELS");
    enum at_status st = AT_OK;

    *n = own ? 1 : 2;
    TRY(expand(arena, &out[0], own ? own : "~/.ollama/models"));
    if (!own)
        TRY(at_arena_strdup(arena, &out[1], "/usr/share/ollama/.ollama/models"));
done:
    return st;
}

/* "registry.ollama.ai/library/NAME/TAG". */
static AT_CHECKED manifest_name(struct at_arena *arena, char **out, const char *text)
{
    enum at_status st = AT_OK;
    char *name = NULL, *tag = NULL;
    size_t parts;

    TRY(at_arena_strdup(arena, &name, text + strlen(OLLAMA)));
    tag = strrchr(name, ':');
    if (tag)
        *tag++ = 0;
    parts = count_parts(name);
    if (parts < 1 || parts > 3 || (tag && count_parts(tag) != 1))
        FAIL(AT_USAGE, "%s: not the name of a model; expected ollama:NAME or ollama:NAME:TAG",
             text);
    TRY(at_arena_printf(arena, out, "%s%s/%s",
                        parts == 1   ? "registry.ollama.ai/library/"
                        : parts == 2 ? "registry.ollama.ai/"
                                     : "",
                        name, tag ? tag : "latest"));
done:
    return st;
}

/* The one layer with the weights; the kinds of the others go to *out. */
static AT_CHECKED read_layers(struct at_found_model *out, const char **digest,
                              struct at_arena *arena, const cJSON *manifest, const char *path)
{
    static const char kind[] = "application/vnd.ollama.image.";
    const cJSON *layers = at_json_find(manifest, "layers");
    enum at_status st = AT_OK;
    char *unread = NULL;

    if (!cJSON_IsArray(layers))
        FAIL(AT_DATA, "%s: \"layers\" must be a list", path);
    for (const cJSON *layer = layers->child; layer; layer = layer->next) {
        const char *type = NULL, *found = NULL;
        TRY(at_json_need_string(&type, layer, "mediaType", path));
        TRY(at_json_need_string(&found, layer, "digest", path));
        type += begins_with(type, kind) ? sizeof kind - 1 : 0;
        if (strcmp(type, "model") != 0) {
            TRY(at_arena_printf(arena, &unread, "%s%s%.40s", unread ? unread : "",
                                unread ? ", " : "", type));
            out->has_adapter = out->has_adapter || strcmp(type, "adapter") == 0;
            continue;
        }
        if (*digest)
            FAIL(AT_DATA, "%s: has two layers with weights; a model in one file is read", path);
        *digest = found;
    }
    if (!*digest)
        FAIL(AT_DATA, "%s: no layer has the mediaType %smodel, a GGUF file; found: %s", path, kind,
             unread ? unread : "no layers");
    out->unread = unread;
done:
    return st;
}

static AT_CHECKED read_manifest(struct at_found_model *out, struct at_arena *arena,
                                const char *place, const char *path, const char *text)
{
    static const char algorithm[] = "sha256:";
    enum at_status st = AT_OK;
    cJSON *manifest = NULL;
    const char *digest = NULL;
    char *blob = NULL;

    TRY(at_json_load(&manifest, path));
    TRY(read_layers(out, &digest, arena, manifest, path));
    if (!begins_with(digest, algorithm) || !is_hex(digest + sizeof algorithm - 1, DIGEST_DIGITS))
        FAIL(AT_DATA, "%s: digest \"%.90s\"; expected %s and %d hexadecimal digits", path, digest,
             algorithm, DIGEST_DIGITS);
    TRY(at_arena_printf(arena, &blob, "%s/blobs/sha256-%s", place, digest + sizeof algorithm - 1));
    if (!at_path_exists(blob) || at_path_is_dir(blob))
        FAIL(AT_NOT_FOUND, "%s: the file of its weights is not there, %s; `%s` fetches it", text,
             blob, out->fetch);
    out->path = blob;
done:
    at_json_free(&manifest);
    return st;
}

static AT_CHECKED find_in_ollama(struct at_found_model *out, struct at_arena *arena,
                                 const char *text)
{
    enum at_status st = AT_OK;
    char *places[MAX_PLACES], *name = NULL, *fetch = NULL, *paths[MAX_PLACES];
    size_t n = 0;

    TRY(manifest_name(arena, &name, text));
    TRY(at_arena_printf(arena, &fetch, "ollama pull %s", text + strlen(OLLAMA)));
    *out = (struct at_found_model){ .fetch = fetch };
    TRY(ollama_places(arena, places, &n));
    for (size_t i = 0; i < n; i++) {
        TRY(at_arena_printf(arena, &paths[i], "%s/manifests/%s", places[i], name));
        if (!at_path_exists(paths[i]) || at_path_is_dir(paths[i]))
            continue;
        TRY(read_manifest(out, arena, places[i], paths[i], text));
        goto done;
    }
    FAIL(AT_NOT_FOUND, "%s: no such model in Ollama's store: there is no %s%s%s; `%s` fetches it",
         text, paths[0], n > 1 ? " and no " : "", n > 1 ? paths[1] : "", fetch);
done:
    return st;
}

AT_CHECKED at_model_find(struct at_found_model *out, struct at_arena *arena, const char *text)
{
    enum at_status st = AT_OK;
    char *path = NULL;

    *out = (struct at_found_model){ .path = NULL };
    if (begins_with(text, HUB))
        return find_in_hub(out, arena, text);
    if (begins_with(text, OLLAMA))
        return find_in_ollama(out, arena, text);
    TRY(at_arena_strdup(arena, &path, text));
    out->path = path;
done:
    return st;
}
