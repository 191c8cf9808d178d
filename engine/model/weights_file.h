/* Inside engine/model only: what the parsers of safetensors and GGUF fill in. */
#ifndef AT_WEIGHTS_FILE_H
#define AT_WEIGHTS_FILE_H

#include "hash.h"
#include "weights.h"

struct at_shard {
    char *path;
    struct at_map map;
};
/* A key of GGUF metadata; the value lies at `value` in the file, checked by the parser. */
struct at_gguf_item {
    char *key;
    size_t at, end; /* byte offsets of the key, and behind the value */
    enum at_gguf_type type;
    enum at_gguf_type element; /* of an array */
    uint64_t n;                /* elements of an array, bytes of a string, or 1 */
    const uint8_t *value;
};
/* Quantising at load; arrays are those of the matrix being uploaded. */
struct at_quantise {
    struct at_quantise_params params;
    float *scales;       /* a block, of double quantisation; or NULL */
    double *errors;      /* (rows, 2): squares of roundings, of values */
    double error, total; /* of all matrices */
    struct at_quantise_report report;
};
struct at_weights {
    struct at_arena *arena;  /* a pointer, so that getters of a const file can keep copies */
    struct at_shard *shards; /* fixed after open: sources point into it */
    size_t n_shards;
    bool lacks_data; /* at_weights_open_header(): no source has any */
    struct at_source *sources;
    size_t n_sources;
    const struct at_source **by_name;
    cJSON *config; /* NULL for GGUF and single safetensors files */
    char *config_path;
    cJSON *metadata;            /* safetensors __metadata__ of the first file, or NULL */
    struct at_gguf_item *items; /* NULL: not GGUF */
    const struct at_gguf_item **items_by_key;
    size_t n_items;
    struct at_digest digest; /* "" until asked for */
    struct at_quantise quantise;
};

/* By ggml's number of the type, or NULL. */
const struct at_format *at_format_find_gguf(uint64_t type);
uint16_t at_get_half(const uint8_t *bytes);
/* Exact: every half is a float. */
float at_widen_half(uint16_t half);
/* To nearest, ties to even; beyond its range: infinite. */
uint16_t at_narrow_half(float x);

/* Each parses one mapped shard and appends its tensors to weights->sources. */
AT_CHECKED at_safetensors_parse(struct at_weights *weights, const struct at_shard *shard);
AT_CHECKED at_gguf_parse(struct at_weights *weights, const struct at_shard *shard);
/* The same of a file that may be cut anywhere behind its tensor table. */
AT_CHECKED at_gguf_parse_header(struct at_weights *weights, const struct at_shard *shard);
/* Turns tensors of bitsandbytes (4 bits) of a folder, whose config is read, into matrices. */
AT_CHECKED at_bnb_attach(struct at_weights *weights);
/* Around the upload of a matrix, whose rows may be quantised. AT_NUMERIC for what is not finite. */
AT_CHECKED at_quantise_begin(const struct at_source *source);
AT_CHECKED at_quantise_end(const struct at_source *source);
/* Metadata of a GGUF file from *at on; *at is left behind it. *alignment: general.alignment. */
AT_CHECKED at_gguf_parse_items(struct at_weights *weights, const struct at_shard *shard, size_t *at,
                               uint64_t n, uint32_t *alignment);
/* A little-endian number of 1 to 8 bytes at *at, or a string; AT_DATA at the end of the file. */
AT_CHECKED at_gguf_take(uint64_t *out, const struct at_shard *shard, size_t *at, size_t n_bytes,
                        const char *what);
AT_CHECKED at_gguf_take_string(const uint8_t **out, uint64_t *n, const struct at_shard *shard,
                               size_t *at, const char *what);

/* safetensors in pieces: `values` of tensors[i] that are NULL are asked for one tensor after the
 * other, into zeros. */
typedef enum at_status at_read_tensor(void *context, size_t i, float *out);
AT_CHECKED at_safetensors_stream(const char *path, const struct at_save_tensor *tensors, size_t n,
                                 const char *const (*metadata)[2], size_t n_metadata,
                                 at_read_tensor *read, void *context);
/* A block of finite values in a type that is written; false: they are too large for it. */
bool at_format_encode_block(uint8_t *out, const struct at_format *format, const float *x);
/* AT_NUMERIC, naming the tensor, when a value is not finite. */
AT_CHECKED at_check_finite(const char *name, const float *values, uint64_t n);

#endif
