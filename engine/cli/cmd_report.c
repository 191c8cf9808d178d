#include "cli.h"

#include "report.h"

enum at_status cli_report(struct cli_args *args)
{
    enum at_status st = AT_OK;
    struct at_report_params p = { .eval = cli_flag_text(args, "eval"),
                                  .replies = cli_flag_text(args, "replies"),
                                  .tokens = cli_flag_text(args, "tokens") };
    const char *output = cli_flag_text(args, "output");
    struct at_report *report = NULL;
    cJSON *json = NULL;
    char *path = NULL;

    if (args->n_positional == 0)
        FAIL(AT_USAGE, "the folder of a run is missing: attune report DIR");
    p.dir = args->positional[0];
    if (!at_path_is_dir(p.dir))
        FAIL(AT_NOT_FOUND, "%s is no folder; name the output_dir of a run", p.dir);
    TRY(at_report_open(&report, &p));
    TRY(at_path_join(&args->arena, &path, p.dir, "report.html"));
    TRY(at_report_write(report, output ? output : path));
    if (cli_flag_on(args, "json")) {
        TRY(at_report_json(&json, report));
        TRY(cli_print_pretty(json));
    }
    cli_note("page       %s: open it in a browser, or print it", output ? output : path);
    if (at_report_is_whole_model(report) && at_report_gives_rewards(report))
        cli_next("next       attune score CONFIG --method reward --use_peft false "
                 "--model_name_or_path %s --train_dataset ROWS",
                 p.dir);
    else if (at_report_is_whole_model(report))
        cli_next("next       attune generate --model_name_or_path %s --prompt TEXT", p.dir);
    else if (at_report_is_judged(report) || !at_report_has_held_pairs(report))
        cli_next("next       attune export %s --output tone.gguf", p.dir);
    else
        cli_next("next       attune eval --adapter %s --output %s/eval.json", p.dir, p.dir);
done:
    at_json_free(&json);
    at_report_close(&report);
    return st;
}
