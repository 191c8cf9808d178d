// What kernels for matrix units share: a subgroup's matrix of sums, of the device's shape TM x TN, and a wait
// for what its other lanes wrote to shared memory.
#define SUM coopmat<float, gl_ScopeSubgroup, TM, TN, gl_MatrixUseAccumulator>
#define SYNC_SUBGROUP() controlBarrier(gl_ScopeSubgroup, gl_ScopeSubgroup, gl_StorageSemanticsShared, \
    gl_SemanticsAcquireRelease | gl_SemanticsMakeAvailable | gl_SemanticsMakeVisible)
