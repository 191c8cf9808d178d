/* Typed launches, generated from shaders/kernels.def and shaders/args.h: for every kernel its
 * number AT_KERNEL_<name>, struct <name>_bufs with one view a buffer, and at_launch_<name>(). */
#ifndef AT_KERNELS_H
#define AT_KERNELS_H

#include "args.h"
#include "gpu.h"

enum at_kernel {
#define KERNEL(name, file, defines, args, bufs, units, cut, flop) AT_KERNEL_##name,
#define VARIANT(kernel, name, file, defines, needs, bindings, units)
#include "kernels.def"
#undef KERNEL
    AT_KERNEL_COUNT
};

#define R(buffer) struct at_view buffer;
#define W(buffer) struct at_view buffer;
#define RW(buffer) struct at_view buffer;
#define KR(buffer) struct at_view buffer;
#define KRW(buffer) struct at_view buffer;
#define KERNEL(name, file, defines, args, bufs, units, cut, flop)                                  \
    struct name##_bufs {                                                                           \
        bufs                                                                                       \
    };                                                                                             \
    static inline void at_launch_##name(struct at_stream *stream, const struct name##_bufs *views, \
                                        const struct args *values, struct at_work work)            \
    {                                                                                              \
        _Static_assert(sizeof(struct args) <= 128, "push constants");                              \
        at_stream_launch(stream, AT_KERNEL_##name, (const struct at_view *)views, values,          \
                         sizeof *values, work);                                                    \
    }
#include "kernels.def"
#undef R
#undef W
#undef RW
#undef KR
#undef KRW
#undef KERNEL
#undef VARIANT

#endif
