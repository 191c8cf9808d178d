/* links: base gpu */
/* The shader compiler: what it makes, what it says of errors, and a build without it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define at_glsl_compile compile_without
#include "glsl.c"
#undef at_glsl_compile
AT_CHECKED at_glsl_compile(struct at_arena *arena, uint32_t **out, size_t *out_bytes,
                           const char *text);

#define BEGIN                                                \
    "#version 450\n"                                         \
    "#extension GL_GOOGLE_include_directive : require\n"     \
    "layout(local_size_x = 64) in;\n"                        \
    "layout(binding = 0, std430) buffer b { float x[]; };\n" \
    "#line 1 \"mine.h\"\n"

static const char good[] = BEGIN "void main() { x[gl_GlobalInvocationID.x] = 1.0; }\n";
static const char bad[] = BEGIN "void main()\n{\n    x[0] = 1.0 +;\n}\n";

static bool is_built_in(enum at_status st)
{
    if (st == AT_USAGE)
        assert_non_null(strstr(at_message(), "apt install glslang-dev"));
    return st != AT_USAGE;
}

static void compile_text_gives_spirv(void **state)
{
    struct at_arena arena = { 0 };
    uint32_t *spirv = NULL;
    size_t n = 0;
    const enum at_status st = at_glsl_compile(&arena, &spirv, &n, good);

    (void)state;
    if (is_built_in(st)) {
        assert_int_equal(st, AT_OK);
        assert_int_equal(spirv[0], 0x07230203);
        assert_true(n > 20 && n % 4 == 0);
    }
    at_arena_release(&arena);
}

static void compile_bad_text_names_file_and_line(void **state)
{
    struct at_arena arena = { 0 };
    uint32_t *spirv = NULL;
    size_t n = 0;
    const enum at_status st = at_glsl_compile(&arena, &spirv, &n, bad);

    (void)state;
    if (is_built_in(st)) {
        assert_int_equal(st, AT_DATA);
        assert_ptr_equal(strstr(at_message(), "mine.h:3: "), at_message());
        assert_null(strchr(at_message(), '\n'));
        assert_null(strstr(at_message(), "ERROR"));
        assert_null(strstr(at_message(), "compilation"));
    }
    at_arena_release(&arena);
}

static void compile_without_library_says_how_to_get_it(void **state)
{
    struct at_arena arena = { 0 };
    uint32_t *spirv = NULL;
    size_t n = 0;

    (void)state;
    assert_int_equal(compile_without(&arena, &spirv, &n, good), AT_USAGE);
    assert_non_null(strstr(at_message(), "apt install glslang-dev"));
    at_arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compile_text_gives_spirv),
        cmocka_unit_test(compile_bad_text_names_file_and_line),
        cmocka_unit_test(compile_without_library_says_how_to_get_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
