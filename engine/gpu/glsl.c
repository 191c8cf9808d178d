#include "glsl.h"

#ifdef ATTUNE_HAS_GLSLANG

#include <glslang/Include/glslang_c_interface.h>
#include <glslang/Public/resource_limits_c.h>
#include <string.h>

/* The compiler's log as one line: its first messages, without the word ERROR and without those that
 * say that there were errors. */
static AT_CHECKED fail_with(const char *log)
{
    enum { MOST = 4 };
    static const char error[] = "ERROR: ", end[] = "compilation terminated";
    enum at_status st = AT_OK;
    struct at_buf text = { 0 };
    const char *line = log;

    for (size_t n = 0; *line && n < MOST; line += strcspn(line, "\n"), line += *line == '\n') {
        const char *at = line + sizeof error - 1;
        size_t length = strcspn(line, "\n");
        if (length < sizeof error || memcmp(line, error, sizeof error - 1) != 0 ||
            at[strspn(at, "0123456789")] == ' ') /* "2 compilation errors." */
            continue;
        length -= sizeof error - 1;
        while (length > 0 && at[length - 1] == ' ')
            length--;
        if (length < sizeof end || memcmp(at + length - sizeof end + 1, end, sizeof end - 1) != 0)
            at_buf_printf(&text, "%s%.*s", n++ > 0 ? "; " : "", (int)length, at);
    }
    TRY(at_buf_status(&text));
    st = at_fail(AT_DATA, "%s", text.n > 0 ? text.data : log);
done:
    at_buf_release(&text);
    return st;
}

static AT_CHECKED generate(struct at_arena *arena, uint32_t **out, size_t *out_bytes,
                           glslang_program_t *program, glslang_shader_t *shader, int messages)
{
    enum at_status st = AT_OK;
    size_t n = 0;

    glslang_program_add_shader(program, shader);
    if (!glslang_program_link(program, messages))
        TRY(fail_with(glslang_program_get_info_log(program)));
    glslang_program_SPIRV_generate(program, GLSLANG_STAGE_COMPUTE);
    n = glslang_program_SPIRV_get_size(program);
    if (n == 0)
        FAIL(AT_INTERNAL, "glslang made no code of a shader that it had accepted");
    TRY(at_arena_alloc(arena, out, n, sizeof **out));
    glslang_program_SPIRV_get(program, *out);
    *out_bytes = n * sizeof **out;
done:
    return st;
}

AT_CHECKED at_glsl_compile(struct at_arena *arena, uint32_t **out, size_t *out_bytes,
                           const char *text)
{
    enum at_status st = AT_OK;
    const glslang_messages_t messages = GLSLANG_MSG_SPV_RULES_BIT | GLSLANG_MSG_VULKAN_RULES_BIT;
    const glslang_input_t input = { .language = GLSLANG_SOURCE_GLSL,
                                    .stage = GLSLANG_STAGE_COMPUTE,
                                    .client = GLSLANG_CLIENT_VULKAN,
                                    .client_version = GLSLANG_TARGET_VULKAN_1_2,
                                    .target_language = GLSLANG_TARGET_SPV,
                                    .target_language_version = GLSLANG_TARGET_SPV_1_5,
                                    .code = text,
                                    .default_version = 450,
                                    .default_profile = GLSLANG_NO_PROFILE,
                                    .messages = messages,
                                    .resource = glslang_default_resource() };
    glslang_shader_t *shader = NULL;
    glslang_program_t *program = NULL;

    if (!glslang_initialize_process())
        return at_fail(AT_INTERNAL, "glslang does not start");
    shader = glslang_shader_create(&input);
    program = glslang_program_create();
    if (!shader || !program)
        FAIL(AT_MEMORY, "no memory for the shader compiler");
    if (!glslang_shader_preprocess(shader, &input) || !glslang_shader_parse(shader, &input))
        TRY(fail_with(glslang_shader_get_info_log(shader)));
    TRY(generate(arena, out, out_bytes, program, shader, (int)messages));
done:
    if (program)
        glslang_program_delete(program);
    if (shader)
        glslang_shader_delete(shader);
    glslang_finalize_process();
    return st;
}

#else

AT_CHECKED at_glsl_compile(struct at_arena *arena, uint32_t **out, size_t *out_bytes,
                           const char *text)
{
    (void)arena;
    (void)out;
    (void)out_bytes;
    (void)text;
    return at_fail(AT_USAGE,
                   "this build has no shader compiler, which a loss of one's own needs: install "
                   "glslang's library (Debian: apt install glslang-dev), then configure and build "
                   "anew");
}

#endif
