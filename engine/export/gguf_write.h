/* Writing GGUF files (version 3, little-endian): metadata, then tensors whose bytes come in pieces,
 * in order, so that a file of any size needs memory for a piece alone. */
#ifndef AT_GGUF_WRITE_H
#define AT_GGUF_WRITE_H

#include "mem.h"
#include "os.h"

/* ggml's numbers of types. */
enum at_ggml_type { AT_GGML_F32 = 0, AT_GGML_F16 = 1 };

/* Metadata: a buffer of pairs and their number. `struct at_gguf_pairs p = {0}`; failures stick as
 * in at_buf. */
struct at_gguf_pairs {
    struct at_buf bytes;
    uint64_t n;
};
void at_gguf_put_text(struct at_gguf_pairs *pairs, const char *key, const char *text);
void at_gguf_put_u32(struct at_gguf_pairs *pairs, const char *key, uint32_t value);
void at_gguf_put_f32(struct at_gguf_pairs *pairs, const char *key, float value);
/* Key and value as another file has them: at_gguf_pair(). */
void at_gguf_put_pair(struct at_gguf_pairs *pairs, const uint8_t *bytes, uint64_t n);

struct at_gguf_tensor {
    const char *name;
    uint32_t n_dims;
    uint64_t dim[4]; /* PyTorch's order, slowest first */
    uint32_t type;   /* ggml's number */
    uint64_t n_bytes;
};
struct at_gguf_writer;
/* The file appears under `path` when it is whole: at_gguf_commit(). `tensors` must live until then.
 */
AT_CHECKED at_gguf_create(struct at_gguf_writer **out, const char *path,
                          const struct at_gguf_pairs *pairs, const struct at_gguf_tensor *tensors,
                          size_t n);
/* Bytes of the tensors one after the other; padding between them is written here. More than a
 * tensor has left is AT_BUG, and so is a commit before the last byte. */
AT_CHECKED at_gguf_put(struct at_gguf_writer *writer, const void *bytes, uint64_t n);
AT_CHECKED at_gguf_commit(struct at_gguf_writer *writer);
void at_gguf_close(struct at_gguf_writer **writer);

#endif
