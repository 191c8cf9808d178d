/* What became of replies after release: a log with a reply a line,
 *   {"messages": [..., {"role": "assistant", "content": ...}]} or
 *   {"prompt": text or messages, "completion": text or one message of the assistant}
 * and of these what is known, null like missing:
 *   "thumb": "up" or "down" (true or false, 1 or -1)
 *   "edit": the text that a person made of the reply
 *   "completed", "escalated", "flagged": true or false
 *   "finish_reason": "stop" or "length"
 *   "latency_s": seconds; "prompt_tokens", "completion_tokens": counts, also within "usage" */
#ifndef AT_FEEDBACK_H
#define AT_FEEDBACK_H

#include "json.h"

enum at_told { AT_UNTOLD, AT_TOLD_NO, AT_TOLD_YES };
struct at_feedback {
    const char *reply;
    const char *edit;                                   /* another text than the reply; or NULL */
    enum at_told thumb;                                 /* yes: up */
    enum at_told completed;                             /* what the user came for was done */
    enum at_told ended;                                 /* the reply ended by itself */
    enum at_told escalated;                             /* a person had to take over */
    enum at_told flagged;                               /* a filter or a person objected */
    double completion_tokens, latency_s, prompt_tokens; /* NAN: untold */
};
/* Borrows from `row`. AT_DATA with a sentence that names the key and no place. */
AT_CHECKED at_feedback_read(struct at_feedback *out, const cJSON *row);

#endif
