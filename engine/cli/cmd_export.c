#include "base.h"

#include "export.h"

#include <string.h>

/* What is exported, from where to where. */
struct job {
    const char *output, *format; /* "gguf", "peft" */
    struct cli_base base;
    struct at_export_params params;
};

static AT_CHECKED read_flags(struct job *job, const struct cli_args *a)
{
    enum at_status st = AT_OK;

    job->output = cli_flag_text(a, "output");
    job->format = cli_flag_text(a, "format");
    if (a->n_positional == 0 || !job->output)
        FAIL(AT_USAGE, "usage: attune export %s", a->command->usage);
    if (!job->format)
        job->format = cli_is_gguf_name(job->output) ? "gguf" : "peft";
    if (strcmp(job->format, "gguf") != 0 && strcmp(job->format, "peft") != 0)
        FAIL(AT_USAGE, "--format %s: gguf or peft is expected", job->format);
    if (strcmp(job->format, "peft") == 0 && !at_dir_is_empty(job->output))
        FAIL(AT_CANNOT_WRITE, "%s holds files, and nothing is overwritten; name a new folder",
             job->output);
    if (strcmp(job->format, "gguf") == 0 && at_path_exists(job->output))
        FAIL(AT_CANNOT_WRITE, "%s exists, and nothing is overwritten; name a new file",
             job->output);
    job->params =
        (struct at_export_params){ .dirs = a->positional, .n = a->n_positional, .scale = 1 };
    TRY(cli_flag_f64(&job->params.scale, a, "adapter_scale", -100, 100));
done:
    return st;
}

/* PEFT takes the name that adapter_config.json records for a folder or a name of the hub. */
static void warn_of_gguf(const struct job *job)
{
    const struct cli_base *b = &job->base;
    const char *name = b->peft_name;

    if (name &&
        (cli_is_gguf_name(name) || (at_weights_is_gguf(b->weights) && strcmp(name, b->model) == 0)))
        at_warn("gguf_base",
                "%s/adapter_config.json names the GGUF file %s as its base, which PEFT cannot "
                "load: name the model it was made from with --base_model_name_or_path (a Hugging "
                "Face folder or ORG/NAME)",
                job->output, name);
}

static void say_next(const struct job *job)
{
    const struct cli_base *b = &job->base;

    if (strcmp(job->format, "gguf") != 0)
        cli_next("next       attune generate %s --adapter %s --prompt TEXT", b->model, job->output);
    else if (at_weights_is_gguf(b->weights))
        cli_next("next       llama-server -m %s --lora %s", b->path, job->output);
    else /* by the script in a checkout of llama.cpp */
        cli_next("next       python3 LLAMA_CPP/convert_hf_to_gguf.py %s --outfile base.gguf"
                 " && llama-server -m base.gguf --lora %s",
                 b->path, job->output);
}

enum at_status cli_export(struct cli_args *args)
{
    enum at_status st = AT_OK;
    struct job job = { .output = NULL };
    struct at_export stack = { .n = 0 };
    const char *named = cli_flag_text(args, "base_model_name_or_path");

    TRY(read_flags(&job, args));
    TRY(cli_base_open(&job.base, args));
    TRY(at_export_open(&stack, &job.base.config, &job.params));
    TRY(cli_check_bases(job.params.dirs, job.params.n, job.base.weights));
    if (strcmp(job.format, "gguf") == 0)
        TRY(at_export_gguf(&stack, job.output));
    else
        TRY(at_export_peft(&stack, job.output, named ? named : job.base.peft_name));
    cli_note("%s: %s of %zu adapter%s over %s", job.output,
             strcmp(job.format, "gguf") == 0 ? "a GGUF adapter" : "a PEFT folder", stack.n,
             stack.n > 1 ? "s as one" : "", job.base.model);
    if (strcmp(job.format, "peft") == 0 && !named)
        warn_of_gguf(&job);
    say_next(&job);
done:
    at_export_close(&stack);
    cli_base_close(&job.base);
    return st;
}
