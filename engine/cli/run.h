/* `attune run`: a pipeline of stages, which train or judge what was trained. */
#ifndef AT_RUN_H
#define AT_RUN_H

#include "cli.h"
#include "hash.h"
#include "rollouts.h"

struct stage {
    const char *name;
    struct at_config config; /* of a stage that trains */
    struct at_flag *flags;
    size_t n_flags;
    bool finished; /* by an earlier call */
    /* of a stage that judges: a command about the stage that trained last, or about the pairs of
     * the one that trains on pairs next (baseline) */
    bool judges, before;
    const struct stage *of;
    struct cli_args judge;
    char *split[2]; /* baseline: files of training and held-out rows that it makes of eval_split */
    const char *output_dir;
    enum at_status verdict; /* AT_OK, AT_OVER_BUDGET or AT_NO_EVIDENCE */
    const char *said;       /* what it says */
};
struct pipeline {
    struct at_arena arena;
    cJSON *document;
    const char *path, *output_dir;
    struct stage *stages;
    size_t n, n_read;
};

/* ---- stages by their names ---- */

/* Whether a text is "stage:NAME". */
bool run_names_stage(const char *text);
/* The folder of that stage, which must be before stage i (AT_USAGE). */
AT_CHECKED run_names_folder(const char **out, struct pipeline *pipeline, size_t i,
                            const char *text);
/* Keys of a stage's document with such texts become flags, for which the stage has room. */
AT_CHECKED run_names_take(struct pipeline *pipeline, size_t i, cJSON *document);
/* reward_funcs with rules in the place of what scores by a command, and of models that are missing:
 * as many sources, of the same names. */
AT_CHECKED
run_names_stand_in(const char **out, struct pipeline *pipeline, const struct stage *stage,
                   bool (*is_missing)(const struct pipeline *, const struct stage *, const char *));

/* ---- stages that judge ---- */

/* Whether a stage's method is one that judges: baseline (eval of the model alone), compare, eval,
 * report. */
bool run_judges(const cJSON *stage);
/* Whether it is about a stage behind it, and is read when all others are. */
bool run_judges_before(const cJSON *stage);
/* Reads it; its keys are the command's flags. AT_USAGE where no stage before trained an adapter, of
 * baseline where none behind trains on pairs and holds some out. */
AT_CHECKED run_judge_read(struct pipeline *pipeline, const struct cli_args *args, size_t i);
/* Files that it names are there; an earlier call's verdict on the same inputs finishes it, one on
 * others is AT_CANNOT_WRITE. */
AT_CHECKED run_judge_check(struct pipeline *pipeline, struct stage *stage);
/* Its verdict, also one that an earlier call has reached, is left in stage->verdict: worse and open
 * ones end no pipeline before its last stage. */
AT_CHECKED run_judge(struct pipeline *pipeline, struct stage *stage);

#endif
