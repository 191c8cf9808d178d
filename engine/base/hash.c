#include "hash.h"

#include "mem.h"
#include "os.h"
#include <sodium.h>
#include <string.h>

enum { DIGEST_BYTES = 32, FILE_CHUNK_BYTES = 64 << 20 };

_Static_assert(sizeof(crypto_generichash_state) <= sizeof(struct at_hash), "state fits");
_Static_assert(_Alignof(crypto_generichash_state) <= _Alignof(struct at_hash), "state is aligned");

static crypto_generichash_state *state_of(struct at_hash *hash)
{
    return (crypto_generichash_state *)(void *)hash->state;
}

void at_hash_init(struct at_hash *hash)
{
    if (sodium_init() < 0) /* chooses the fastest implementation; cheap when done before */
        AT_BUG("libsodium does not start");
    crypto_generichash_init(state_of(hash), NULL, 0, DIGEST_BYTES);
}

void at_hash_put(struct at_hash *hash, const void *bytes, size_t n)
{
    if (n > 0)
        crypto_generichash_update(state_of(hash), bytes, n);
}

void at_hash_put_text(struct at_hash *hash, const char *text)
{
    size_t n = strlen(text);
    uint8_t length[8]; /* little-endian, so that digests are the same on every machine */
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)((uint64_t)n >> (8 * i));
    at_hash_put(hash, length, sizeof length);
    at_hash_put(hash, text, n);
}

struct at_digest at_hash_end(struct at_hash *hash)
{
    uint8_t bytes[DIGEST_BYTES];
    struct at_digest digest;
    crypto_generichash_final(state_of(hash), bytes, sizeof bytes);
    sodium_bin2hex(digest.hex, sizeof digest.hex, bytes, sizeof bytes);
    return digest;
}

struct at_digest at_hash_bytes(const void *bytes, size_t n)
{
    struct at_hash hash;
    at_hash_init(&hash);
    at_hash_put(&hash, bytes, n);
    return at_hash_end(&hash);
}

enum at_status at_hash_file(struct at_digest *out, const char *path)
{
    struct at_map map;
    enum at_status st = at_map_open(&map, path);
    if (st != AT_OK)
        return st;
    struct at_hash hash;
    at_hash_init(&hash);
    for (size_t begin = 0; begin < map.n; begin += FILE_CHUNK_BYTES) {
        size_t n = map.n - begin < FILE_CHUNK_BYTES ? map.n - begin : FILE_CHUNK_BYTES;
        at_hash_put(&hash, map.data + begin, n);
        at_map_drop(&map, begin, n);
    }
    at_map_close(&map);
    *out = at_hash_end(&hash);
    return AT_OK;
}
