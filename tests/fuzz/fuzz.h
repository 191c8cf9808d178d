/* A fuzz target: takes any bytes. What it finds wrong is AT_REQUIRE, AT_BUG or a sanitizer's. */
#ifndef AT_FUZZ_H
#define AT_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n); /* the name is libFuzzer's; returns 0 */

#endif
