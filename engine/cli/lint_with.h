/* `attune data lint --with RUN`: the pairs that a training could not learn, for people to look at.
 */
#ifndef AT_LINT_WITH_H
#define AT_LINT_WITH_H

#include "cli.h"

/* Lists them on stdout (with --json as one object), writes their rows to RUN/bad_pairs.jsonl, the
 * worst first and each with its "source", and opens that file for review on label's page, which it
 * serves; --json does not. AT_DATA when the run judged no pairs or a file has changed. */
AT_CHECKED cli_lint_with(struct cli_args *args, const char *run);

#endif
