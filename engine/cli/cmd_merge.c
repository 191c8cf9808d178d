/* `attune merge`: one model of a base and its adapters. */
#include "base.h"

#include "export.h"
#include "merge_kl.h"

#include <string.h>

struct job {
    const struct cli_args *args;
    const char *output;
    bool force;
    struct merge_kl_params trained; /* digest NULL: the base of training is not known */
    bool other;                     /* than the base of training is this one */
    struct cli_base base;
    struct at_export_params params;
    struct at_merge_params merge;
};

/* "f16" as files call it, of the types that are written. */
static AT_CHECKED read_type(const struct at_format **out, const char *text)
{
    enum at_status st = AT_OK;
    char name[16] = { 0 };

    for (size_t i = 0; text && text[i] && i + 1 < sizeof name; i++)
        name[i] = (char)(text[i] >= 'a' && text[i] <= 'z' ? text[i] - 'a' + 'A' : text[i]);
    *out = text ? at_format_find(name) : NULL;
    if (text && (!*out || !at_format_is_written(*out)))
        FAIL(AT_USAGE,
             "--type %s: one of bf16, f16, f32 and, in GGUF files, iq4_nl, iq4_xs, q2_k, q3_k, "
             "q4_0, q4_1, q4_k, q5_0, q5_1, q5_k, q6_k, q8_0 is expected",
             text);
done:
    return st;
}

static AT_CHECKED read_flags(struct job *job)
{
    enum at_status st = AT_OK;
    const struct cli_args *a = job->args;

    TRY(cli_gpu_check(a));
    job->output = cli_flag_text(a, "output");
    job->force = cli_flag_on(a, "force");
    if (a->n_positional == 0 || !job->output)
        FAIL(AT_USAGE, "usage: attune merge %s", a->command->usage);
    TRY(read_type(&job->merge.type, cli_flag_text(a, "type")));
    job->params =
        (struct at_export_params){ .dirs = a->positional, .n = a->n_positional, .scale = 1 };
    TRY(cli_flag_f64(&job->params.scale, a, "adapter_scale", -100, 100));
done:
    return st;
}

/* A merged model has the form of its base. */
static AT_CHECKED check_output(const struct job *job)
{
    const bool gguf = at_weights_is_gguf(job->base.weights);
    const char *out = job->output;

    if (gguf && !cli_is_gguf_name(out))
        return at_fail(AT_USAGE,
                       "--output %s: the base is a GGUF file and its merged model is one, too: "
                       "name a file that ends in .gguf, or a folder as the base",
                       out);
    if (!gguf && cli_is_gguf_name(out))
        return at_fail(AT_USAGE,
                       "--output %s: the base is a folder of safetensors and its merged model is "
                       "one, too: name a folder, or the GGUF file of the same model as the base "
                       "(--model_name_or_path)",
                       out);
    if (gguf ? at_path_exists(out) : !at_dir_is_empty(out))
        return at_fail(AT_CANNOT_WRITE, "%s %s", out,
                       gguf ? "exists, and nothing is overwritten; name a new file"
                            : "holds files, and nothing is overwritten; name a new folder");
    return AT_OK;
}

/* Every adapter must have been trained on these weights, as far as its run.json tells. */
static AT_CHECKED check_base(struct job *job)
{
    enum at_status st = AT_OK;
    struct cli_base *b = &job->base;
    char hex[65];

    for (size_t i = 0; i < b->n; i++) {
        const char *trained = NULL, *name = NULL;
        TRY(cli_base_recorded(b, &trained, b->dirs[i], "run.json", "digests", "model"));
        if (!trained) {
            cli_note("base     not compared: %s has no run.json with the digest of its base",
                     b->dirs[i]);
            continue;
        }
        TRY(at_weights_digest(b->weights, hex));
        if (strcmp(hex, trained) == 0) {
            if (!job->other)
                job->trained = (struct merge_kl_params){ .trained = b->model, .digest = trained };
            continue;
        }
        TRY(cli_base_recorded(b, &name, b->dirs[i], "run.json", "config", "model_name_or_path"));
        if (!job->force)
            FAIL(AT_INTEGRITY,
                 "%s is not what %s was trained on, %s: digest %.12s, recorded %.12s; name that "
                 "one with --model_name_or_path, or add --force, which measures what it changes",
                 b->model, b->dirs[i], name ? name : "another model", hex, trained);
        at_warn("other_base", "%s is not what %s was trained on (%s)", b->model, b->dirs[i],
                name ? name : "another model");
        job->trained = (struct merge_kl_params){ .trained = name, .digest = trained };
        job->other = true;
    }
done:
    return st;
}

enum at_status cli_merge(struct cli_args *args)
{
    enum at_status st = AT_OK;
    struct job job = { .args = args };
    struct at_export stack = { .n = 0 };
    struct at_gpu_params gpu = cli_gpu_params(args);
    bool quantised = false;

    TRY(read_flags(&job));
    TRY(cli_base_open(&job.base, args));
    TRY(check_output(&job));
    TRY(check_base(&job));
    TRY(at_export_open(&stack, &job.base.config, &job.params));
    TRY(at_gpu_open(&job.merge.gpu, &gpu));
    job.merge.base = job.base.weights;
    job.merge.path = job.base.path;
    TRY(at_export_merged(&quantised, &stack, &job.merge, job.output));
    at_gpu_close(&job.merge.gpu);
    cli_note("%s: %s with %zu adapter%s in its weights", job.output, job.base.model, stack.n,
             stack.n > 1 ? "s" : "");
    job.trained.merged = job.output;
    job.trained.scale = job.params.scale;
    job.trained.gpu = gpu;
    if (job.trained.digest && (job.other || quantised))
        TRY(merge_kl_measure(&job.base, &job.trained));
    cli_next("next       attune generate %s --prompt TEXT", job.output);
done:
    at_export_close(&stack);
    at_gpu_close(&job.merge.gpu);
    cli_base_close(&job.base);
    return st;
}
