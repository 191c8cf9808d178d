/* BLAKE2b-256 over libsodium. Hex digests are 64 lower-case letters and a 0. */
#ifndef AT_HASH_H
#define AT_HASH_H

#include "status.h"

struct at_hash {
    _Alignas(64) uint8_t state[384];
};
struct at_digest {
    char hex[65];
};
void at_hash_init(struct at_hash *hash);
void at_hash_put(struct at_hash *hash, const void *bytes, size_t n);
void at_hash_put_text(struct at_hash *hash, const char *text); /* with its length, so unambiguous */
struct at_digest at_hash_end(struct at_hash *hash);
struct at_digest at_hash_bytes(const void *bytes, size_t n);
AT_CHECKED at_hash_file(struct at_digest *out, const char *path);

#endif
