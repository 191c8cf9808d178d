/* What the files record*.c share: the folder of a run and its open logs. */
#ifndef AT_RECORD_PARTS_H
#define AT_RECORD_PARTS_H

#include "record.h"

struct at_records {
    struct at_arena arena;
    const char *dir;
    struct at_log *metrics, *timing;
    struct at_log *completions;    /* NULL: not wanted; so are the next */
    struct at_log *events, *pairs; /* NULL: not wanted; pairs has lines of other rows, too */
    uint64_t device_bytes;         /* of the plan, which a step never exceeds */
};

/* dir/name, of the arena. */
AT_CHECKED at_records_path(struct at_records *records, char **out, const char *name);
/* A line of a log. */
AT_CHECKED at_records_write_line(struct at_log *log, const cJSON *line);
/* A file of the folder, put in place whole. */
AT_CHECKED at_records_write_json(struct at_records *records, const char *name, const cJSON *json);
AT_CHECKED at_records_write_result(struct at_records *records, const struct at_outcome *outcome);
AT_CHECKED at_records_write_run(struct at_records *records, const struct at_run *run);

#endif
