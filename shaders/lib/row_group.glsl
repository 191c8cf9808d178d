// Workgroup of kernels that take a row at a time and need no shared memory: an invocation has every GROUP-th vec4
// of the row. 64; on CPU devices one subgroup (constant 0, set for every pipeline): a driver that runs a
// workgroup's subgroups one after the other would else walk a row once a subgroup, in strides, which costs
// two to four times as much on llvmpipe as reading it once from end to end.
layout(local_size_x = 64, local_size_x_id = 0) in;
#define GROUP gl_WorkGroupSize.x
