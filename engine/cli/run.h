/* `attune run`: a pipeline of stages, which train or judge what was trained. */
#ifndef AT_RUN_H
#define AT_RUN_H

#include "cli.h"
#include "hash.h"
#include "rollouts.h"

/* What a stage does before a training; RUN_NOTHING: it trains, or judges. */
enum run_prepares { RUN_NOTHING, RUN_LINT, RUN_PLAN, RUN_SPLIT };

struct stage {
    const char *name;
    struct at_config config; /* of a stage that trains, or prepares */
    bool trains;
    enum run_prepares prepares;
    bool strict; /* lint: warnings end the pipeline, too */
    struct at_flag *flags;
    size_t n_flags;
    bool finished; /* by an earlier call */
    /* of a stage that judges: a command about the stage that trained last, or about the pairs of
     * the one that trains on pairs next (baseline) */
    bool judges, before;
    const struct stage *of;
    struct cli_args judge;
    char *split[2]; /* files of training and held-out rows, of split, and of baseline where it makes
                       them of eval_split */
    const char *output_dir;
    enum at_status verdict; /* AT_OK, AT_OVER_BUDGET or AT_NO_EVIDENCE */
    const char *said;       /* what it says */
};
struct pipeline {
    struct at_arena arena;
    cJSON *document;
    const char *path, *output_dir;
    const char *next; /* the next command that the last of the stages names, of those that do */
    struct stage *stages;
    size_t n, n_read;
};

/* ---- stages by their names ---- */

/* Whether a text is "stage:NAME". */
bool run_names_stage(const char *text);
/* The folder of that stage, which must be before stage i (AT_USAGE); of one that splits, its file
 * of training or of held-out rows, whichever the key takes. */
AT_CHECKED run_names_folder(const char **out, struct pipeline *pipeline, size_t i, const char *key,
                            const char *text);
/* Keys of a stage's document with such texts become flags, for which the stage has room. */
AT_CHECKED run_names_take(struct pipeline *pipeline, size_t i, cJSON *document);
/* reward_funcs with rules in the place of what scores by a command, and of models that are missing:
 * as many sources, of the same names. */
AT_CHECKED
run_names_stand_in(const char **out, struct pipeline *pipeline, const struct stage *stage,
                   bool (*is_missing)(const struct pipeline *, const struct stage *, const char *));

/* The stage's configuration with what stages before it have yet to write replaced by what that will
 * be made from; `all`: have written, too. */
AT_CHECKED run_stand_in(struct at_config *out, struct pipeline *pipeline, const struct stage *stage,
                        bool all);

/* ---- stages that prepare ---- */

/* Whether a stage's method is one that prepares: lint, plan, split. */
bool run_prepare_find(enum run_prepares *out, const cJSON *stage);
AT_CHECKED run_prepare_read(struct pipeline *pipeline, const struct cli_args *args, size_t i);
/* Files that it reads are there; an earlier call on the same inputs finishes it. What is written
 * over is a verdict on other inputs, never a split of them (AT_CANNOT_WRITE). */
AT_CHECKED run_prepare_check(struct pipeline *pipeline, struct stage *stage);
/* AT_DATA where rows are bad, AT_DEVICE_MEMORY where a training does not fit. */
AT_CHECKED run_prepare(struct pipeline *pipeline, struct stage *stage);
/* The stage before that has yet to write this file, or NULL. */
const struct stage *run_split_of(const struct pipeline *pipeline, const struct stage *stage,
                                 const char *path);
/* Rows that are yet to be divided in the place of both sides. */
AT_CHECKED run_split_stand_in(struct at_config *config, struct pipeline *pipeline,
                              const struct stage *stage);

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
