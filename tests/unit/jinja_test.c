/* links: base text */
#include "jinja.h"
#include "os.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

enum { MAX_VARIABLES = 64 };

/* Renders; NULL when it is refused. Free the buffer. */
static enum at_status render_with(struct at_buf *out, const char *text,
                                  const struct at_jinja_params *params)
{
    enum at_status st;
    struct at_jinja *jinja = NULL;

    at_buf_clear(out);
    st = at_jinja_parse(&jinja, text, strlen(text), "here");
    if (st == AT_OK)
        st = at_jinja_render(jinja, out, params);
    at_jinja_destroy(&jinja);
    return st;
}

static enum at_status render(struct at_buf *out, const char *text)
{
    const struct at_jinja_params none = { .n_variables = 0 };

    return render_with(out, text, &none);
}

/* ---- against jinja2 ---- */

static bool is_right(const cJSON *row, const struct at_jinja_params *params, struct at_buf *out)
{
    const char *text = row->child->valuestring, *want = row->child->next->valuestring;
    const enum at_status st = render_with(out, text, params);

    if (!want && st == AT_DATA)
        return true;
    if (want && st == AT_OK && strcmp(out->data ? out->data : "", want) == 0)
        return true;
    print_message("%s\n  want %s\n  got  %s\n", text, want ? want : "(an error)",
                  st == AT_OK ? out->data : at_message());
    return false;
}

static void render_equals_jinja2(void **state)
{
    struct at_jinja_variable variables[MAX_VARIABLES];
    struct at_jinja_params params = { .variables = variables };
    struct at_buf out = { 0 };
    cJSON *file;
    int n = 0, wrong = 0;

    (void)state;
    assert_int_equal(at_json_load(&file, TEST_DIR "/unit/fixtures/jinja.json"), AT_OK);
    for (const cJSON *v = at_json_find(file, "variables")->child; v; v = v->next) {
        assert_true(params.n_variables < MAX_VARIABLES);
        variables[params.n_variables++] = (struct at_jinja_variable){ v->string, v, NULL };
    }
    for (const cJSON *row = at_json_find(file, "cases")->child; row; row = row->next, n++)
        wrong += !is_right(row, &params, &out);
    assert_true(n > 700);
    assert_int_equal(wrong, 0);
    at_json_free(&file);
    at_buf_release(&out);
}

/* ---- caps ---- */

static void check_stopped(const char *text, const char *want)
{
    struct at_buf out = { 0 };

    assert_int_equal(render(&out, text), AT_DATA);
    if (!strstr(at_message(), want))
        fail_msg("%s", at_message());
    at_buf_release(&out);
}

static void render_of_endless_templates_is_stopped(void **state)
{
    struct at_buf deep = { 0 };

    (void)state;
    check_stopped("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "deeper than");
    check_stopped("{{ range(10 ** 9) }}", "Range too big");
    check_stopped("{{ 'x' * 10 ** 12 }}", "MiB");
    check_stopped("{% set n = namespace(s='ab') %}{% for i in range(90) %}"
                  "{% set n.s = n.s + n.s %}{% endfor %}",
                  "MiB");
    check_stopped("{{ ''.__class__.__mro__ }}", "no attribute");
    for (int i = 0; i < 60000; i++)
        at_buf_puts(&deep, i == 0 ? "{{ (" : "(");
    check_stopped(deep.data, "nested deeper");
    at_buf_release(&deep);
}

static void render_of_too_much_work_is_stopped(void **state)
{
    const struct at_jinja_params few = { .max_work = 1000000 };
    struct at_buf out = { 0 };

    (void)state;
    assert_int_equal(render_with(&out,
                                 "{% for a in range(9999) %}{% for b in range(9999) %}"
                                 "{% endfor %}{% endfor %}",
                                 &few),
                     AT_DATA);
    assert_non_null(strstr(at_message(), "works too long"));
    at_buf_release(&out);
}

/* Each would take minutes if only the text's length were charged. */
static void render_is_stopped_by_the_work_that_is_done(void **state)
{
    static const char *const loops[] = {
        "{% if s.rfind(p) > 0 %}{% endif %}",       "{% if s.rpartition(p) %}{% endif %}",
        "{% if s.rsplit(p) %}{% endif %}",          "{% if b.strip(p) %}{% endif %}",
        "{% if b | trim(p) %}{% endif %}",          "{% if d[q] %}{% endif %}",
        "{% if s.count('aa') %}{% endif %}",        "{% if l.count(1) %}{% endif %}",
        "{% if l | select('string') %}{% endif %}",
    };
    const struct at_jinja_params few = { .max_work = 30000000 };
    struct at_buf text = { 0 }, out = { 0 };
    const double begin = at_cpu_s();

    (void)state;
    for (size_t i = 0; i < AT_COUNT(loops); i++) {
        at_buf_clear(&text);
        at_buf_puts(
            &text,
            "{% set s = 'a' * 1000000 %}{% set b = 'b' * 1000000 %}{% set p = 'a' * 500000 ~ 'b' %}"
            "{% set q = 'a' * 500001 %}{% set d = {p: 1} %}{% set l = [2] * 1000000 %}"
            "{% for i in range(100000) %}");
        at_buf_puts(&text, loops[i]);
        at_buf_puts(&text, "{% endfor %}");
        assert_int_equal(render_with(&out, text.data, &few), AT_DATA);
        if (!strstr(at_message(), "works too long"))
            fail_msg("%s: %s", loops[i], at_message());
    }
    assert_true(at_cpu_s() - begin < 60);
    at_buf_release(&text);
    at_buf_release(&out);
}

static void render_is_stopped_by_the_names_that_are_passed(void **state)
{
    const struct at_jinja_params few = { .max_work = 10000000 };
    struct at_buf text = { 0 }, out = { 0 };

    (void)state;
    at_buf_puts(&text, "{% set first = 1 %}");
    for (int i = 0; i < 900; i++)
        at_buf_printf(&text, "{%% set x%d = 1 %%}", i);
    at_buf_puts(&text, "{% for i in range(20000) %}{{ first }}{% endfor %}");
    assert_int_equal(render_with(&out, text.data, &few), AT_DATA);
    assert_non_null(strstr(at_message(), "works too long"));
    at_buf_release(&text);
    at_buf_release(&out);
}

static void parse_of_what_is_too_large_says_the_limit(void **state)
{
    struct at_buf text = { 0 };

    (void)state;
    for (int i = 0; i < 1001; i++)
        at_buf_printf(&text, "{{ x%d }}\n", i);
    check_stopped(text.data, "here: line 997: more than 1000 different names are not supported");
    while (text.n <= 1 << 20)
        at_buf_puts(&text, "                                                               .");
    check_stopped(text.data, "bytes; 1 MiB are the most that is supported");
    at_buf_release(&text);
}

/* ---- what jinja2 does not tell ---- */

static void render_of_a_large_number_as_whole_is_refused(void **state)
{
    (void)state;
    check_stopped("{{ '%d' % 1e300 }}", "this conversion of a number is not supported");
    check_stopped("{{ '%x' % -1e300 }}", "this conversion of a number is not supported");
}

static void render_gives_spans_of_generation_blocks(void **state)
{
    struct at_spans spans = { .n = 0 };
    const struct at_jinja_params params = { .spans = &spans };
    struct at_buf out = { 0 };

    (void)state;
    assert_int_equal(render_with(&out,
                                 "ab{% for i in range(2) %}{% generation %}c{{ i }}"
                                 "{% endgeneration %}-{% endfor %}",
                                 &params),
                     AT_OK);
    assert_string_equal(out.data, "abc0-c1-");
    assert_int_equal(spans.n, 2);
    assert_int_equal(spans.data[0].begin, 2);
    assert_int_equal(spans.data[0].end, 4);
    assert_int_equal(spans.data[1].begin, 5);
    assert_int_equal(spans.data[1].end, 7);
    at_spans_release(&spans);
    at_buf_release(&out);
}

static void render_writes_the_date_it_is_given(void **state)
{
    const struct at_jinja_params params = { .now_s = 1721995200 }; /* noon, 26 July 2024 UTC */
    struct at_buf out = { 0 };

    (void)state;
    assert_int_equal(render_with(&out, "{{ strftime_now('%d %b %Y') }}", &params), AT_OK);
    assert_string_equal(out.data, "26 Jul 2024");
    at_buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(render_equals_jinja2),
        cmocka_unit_test(render_of_endless_templates_is_stopped),
        cmocka_unit_test(render_of_too_much_work_is_stopped),
        cmocka_unit_test(render_is_stopped_by_the_work_that_is_done),
        cmocka_unit_test(render_is_stopped_by_the_names_that_are_passed),
        cmocka_unit_test(parse_of_what_is_too_large_says_the_limit),
        cmocka_unit_test(render_of_a_large_number_as_whole_is_refused),
        cmocka_unit_test(render_gives_spans_of_generation_blocks),
        cmocka_unit_test(render_writes_the_date_it_is_given),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
