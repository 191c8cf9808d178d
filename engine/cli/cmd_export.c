#include "cli.h"

#include "export.h"

#include <string.h>

/* What is exported, from where to where. */
struct job {
    const struct cli_args *args;
    const char *output, *format; /* "gguf", "peft" */
    const char *model;           /* the base, as it is named */
    const char *path;            /* where it lies */
    const char *base_name;       /* what an adapter_config.json is to name; NULL: as the last one */
    struct at_export_params params;
    struct at_weights *weights;
    struct at_model_config config;
    struct at_arena arena;
};

static bool is_gguf_name(const char *path)
{
    const size_t n = strlen(path);

    return n > 5 && strcmp(path + n - 5, ".gguf") == 0;
}

static AT_CHECKED read_flags(struct job *job)
{
    enum at_status st = AT_OK;
    const struct cli_args *a = job->args;

    job->output = cli_flag_text(a, "output");
    job->format = cli_flag_text(a, "format");
    job->model = cli_flag_text(a, "model_name_or_path");
    job->base_name = cli_flag_text(a, "base_model_name_or_path");
    if (a->n_positional == 0 || !job->output)
        FAIL(AT_USAGE, "usage: attune export %s", a->command->usage);
    if (!job->format)
        job->format = is_gguf_name(job->output) ? "gguf" : "peft";
    if (strcmp(job->format, "gguf") != 0 && strcmp(job->format, "peft") != 0)
        FAIL(AT_USAGE, "--format %s: gguf or peft is expected", job->format);
    if (strcmp(job->format, "peft") == 0 && !at_dir_is_empty(job->output))
        FAIL(AT_USAGE, "%s holds files; name a new folder", job->output);
    if (strcmp(job->format, "gguf") == 0 && at_path_exists(job->output))
        FAIL(AT_USAGE, "%s exists; name a new file", job->output);
    job->params =
        (struct at_export_params){ .dirs = a->positional, .n = a->n_positional, .scale = 1 };
    TRY(cli_flag_f64(&job->params.scale, a, "adapter_scale", -100, 100));
done:
    return st;
}

/* A text of a JSON file in the last adapter's folder, such as run.json's config.key; NULL when it
 * is not there. */
static AT_CHECKED recorded(struct job *job, const char **out, const char *file, const char *part,
                           const char *key)
{
    enum at_status st = AT_OK;
    const char *dir = job->params.dirs[job->params.n - 1];
    const cJSON *at = NULL;
    cJSON *json = NULL;
    char *path = NULL, *copy = NULL;

    TRY(at_path_join(&job->arena, &path, dir, file));
    if (!at_path_exists(path))
        goto done;
    TRY(at_json_load(&json, path));
    at = part ? at_json_find(json, part) : json;
    at = at ? at_json_find(at, key) : NULL;
    if (at && cJSON_IsObject(at))
        at = at_json_find(at, "value");
    if (!at || !cJSON_IsString(at))
        goto done;
    TRY(at_arena_strdup(&job->arena, &copy, at->valuestring));
    *out = copy;
done:
    at_json_free(&json);
    return st;
}

/* The base, whose sizes say how an adapter's tensors lie: named, or as the run recorded it. */
static AT_CHECKED open_base(struct job *job)
{
    enum at_status st = AT_OK;
    struct at_found_model found;
    const char *named = NULL;

    TRY(recorded(job, &named, "adapter_config.json", NULL, "base_model_name_or_path"));
    if (!job->base_name)
        job->base_name = named;
    if (!job->model)
        TRY(recorded(job, &job->model, "run.json", "config", "model_name_or_path"));
    if (!job->model)
        job->model = named;
    if (job->model)
        TRY(at_model_find(&found, &job->arena, job->model));
    if (!job->model || !at_path_exists(found.path))
        FAIL(AT_NOT_FOUND,
             "the base model %s%sis not here; name it with --model_name_or_path (a folder or a "
             "GGUF file)",
             job->model ? job->model : "", job->model ? " " : "");
    job->path = found.path;
    TRY(at_weights_open(&job->weights, job->path));
    TRY(at_model_config_read(&job->config, job->weights));
done:
    return st;
}

static void say_next(const struct job *job)
{
    const bool gguf = strcmp(job->format, "gguf") == 0;

    if (!gguf)
        cli_note("next       attune generate %s --adapter %s --prompt TEXT", job->model,
                 job->output);
    else
        cli_note("next       llama-server -m %s --lora %s",
                 at_weights_is_gguf(job->weights) ? job->path : "BASE.gguf", job->output);
}

enum at_status cli_export(struct cli_args *args)
{
    enum at_status st = AT_OK;
    struct job job = { .args = args };
    struct at_export stack = { .n = 0 };

    TRY(read_flags(&job));
    TRY(open_base(&job));
    TRY(at_export_open(&stack, &job.config, &job.params));
    if (strcmp(job.format, "gguf") == 0)
        TRY(at_export_gguf(&stack, job.output));
    else
        TRY(at_export_peft(&stack, job.output, job.base_name));
    cli_note("%s: %s of %zu adapter%s over %s", job.output,
             strcmp(job.format, "gguf") == 0 ? "a GGUF adapter" : "a PEFT folder", stack.n,
             stack.n > 1 ? "s as one" : "", job.model);
    say_next(&job);
done:
    at_export_close(&stack);
    at_weights_close(&job.weights);
    at_arena_release(&job.arena);
    return st;
}
