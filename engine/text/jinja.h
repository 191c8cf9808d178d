/* Chat templates' language: the part of Jinja 2.11 to 3.1 that templates of models use, with the
 * results of jinja2's ImmutableSandboxedEnvironment as transformers sets it up (trim_blocks,
 * lstrip_blocks, loop controls, {% generation %}, its own tojson, raise_exception, strftime_now).
 * Expressions, filters, tests, methods of str, list and dict, set, for, if, macro, call, filter,
 * with, raw, break, continue; anything else is refused by name with its line. A template reaches
 * nothing but the values it is given and, by strftime_now, the clock; depth, work and memory are
 * capped. */
#ifndef AT_JINJA_H
#define AT_JINJA_H

#include "json.h"

struct at_jinja; /* read-only once parsed; may be rendered by several threads */

/* Parses n bytes of UTF-8, up to 1 MiB with 1000 different names; `name` is what errors call the
 * text, and is copied. AT_DATA with the line for what is wrong or not supported. */
AT_CHECKED at_jinja_parse(struct at_jinja **out, const char *text, size_t n, const char *name);
void at_jinja_destroy(struct at_jinja **jinja);
/* Whether the text has a variable or function of this name somewhere. */
bool at_jinja_mentions(const struct at_jinja *jinja, const char *name);
bool at_jinja_marks_generation(const struct at_jinja *jinja); /* it has {% generation %} blocks */

/* A variable: a document, or a text when it is NULL; with neither it is None. */
struct at_jinja_variable {
    const char *name;
    const cJSON *json;
    const char *text;
};
/* Bytes [begin, end) of what was rendered. */
struct at_span {
    size_t begin, end;
};
struct at_spans {
    struct at_span *data;
    size_t n, capacity;
};
void at_spans_release(struct at_spans *spans);

struct at_jinja_params {
    const struct at_jinja_variable *variables;
    size_t n_variables;
    double now_s;           /* what strftime_now shows, seconds since 1970; 0: the clock */
    uint64_t max_work;      /* about nanoseconds; 0: four seconds' worth */
    struct at_spans *spans; /* appended: what {% generation %} blocks wrote; or NULL */
};
/* Appends the rendered text. Spans count from where `out` ended before. What the template does
 * wrong, and its own raise_exception("..."), are AT_DATA with the line. */
AT_CHECKED at_jinja_render(const struct at_jinja *jinja, struct at_buf *out,
                           const struct at_jinja_params *params);

#endif
