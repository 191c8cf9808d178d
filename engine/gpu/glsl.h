/* GLSL to SPIR-V at run time, by glslang's library: an optional part of the build
 * (ATTUNE_OWN_LOSSES). */
#ifndef AT_GLSL_H
#define AT_GLSL_H

#include "mem.h"
#include "status.h"

/* Compiles a compute shader for Vulkan 1.2; `out` lies in `arena`. AT_DATA with the compiler's
 * messages, "file:line: ..." as the text's #line directives have it; AT_USAGE where this build has
 * no compiler. */
AT_CHECKED at_glsl_compile(struct at_arena *arena, uint32_t **out, size_t *out_bytes,
                           const char *text);

#endif
