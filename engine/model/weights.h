/* Tensors of a model as files hold them: a Hugging Face folder (safetensors, one file or a sharded
 * index) or a GGUF file, mapped read-only, every offset checked before a pointer exists. Hostile
 * files are refused with file, field, found and expected (reference: pains.md 1 to 16). */
#ifndef AT_WEIGHTS_H
#define AT_WEIGHTS_H

#include "family.h"
#include "json.h"
#include "mem.h"
#include "os.h"
#include "quant.h"
#include "tensor.h"

/* How blocks of a file become planes. */
struct at_format {
    const char *name; /* as files call it: "F32", "Q4_K" */
    uint32_t block_cols, block_bytes;
    enum at_quant_type type; /* AT_QUANT_COUNT when it cannot be used */
    /* A row of n blocks into a row of each zeroed plane; NULL: values as they are, in plane 0. */
    void (*repack)(uint8_t *plane0, uint8_t *plane1, const uint8_t *blocks, uint64_t n);
};
const struct at_format *at_format_find(const char *name);     /* or NULL */
uint32_t at_format_gguf_type(const struct at_format *format); /* ggml's number */
/* Whether at_format_encode() makes blocks of it: all types that are read but bitsandbytes'. */
bool at_format_is_written(const struct at_format *format);
/* The type itself, or the one that llama.cpp puts in its place for rows that are not whole blocks
 * of it: Q5_0 for Q4_K, ..., and F16 for rows that are no multiple of 32. */
const struct at_format *at_format_for_rows(const struct at_format *format, uint64_t cols);
/* n values as blocks: rounded to nearest, quantised as ggml does it without an importance matrix,
 * on all processors. AT_NUMERIC, in the name of tensor `name`, for what is not finite or too large
 * for the type. */
AT_CHECKED at_format_encode(uint8_t *out, const struct at_format *format, const float *values,
                            uint64_t n, const char *name);
/* Where the bits of codes lie in a format's blocks. */
enum { AT_MOST_BLOCK_COLS = 256 };
struct at_code_places {
    uint16_t of[8 * AT_MOST_BLOCK_COLS]; /* a bit of the block */
    uint32_t end;                        /* behind the last one that is somewhere */
};
/* Of a format with more than one value a block. */
void at_code_places_find(struct at_code_places *out, const struct at_format *format);
/* Of which numbers a rounding by chance is made. */
struct at_chance {
    uint32_t seed;  /* a tensor's own */
    uint64_t first; /* values of the tensor that are before those at hand */
};
/* Other codes for n values that have moved away from what blocks hold, with the scales of a block
 * as long as all of its values lie on their grid, else new ones. A value between two steps takes
 * either by chance, the nearer one more often, so that a change is kept on average; rounding to
 * nearest would undo one of less than half a step. AT_NUMERIC, in the name of tensor `name`, for
 * what is not finite or too large for the type. */
AT_CHECKED at_format_recode(uint8_t *bytes, const struct at_format *format, const float *values,
                            uint64_t n, const char *name, const struct at_code_places *places,
                            const struct at_chance *chance);
/* Summed squares of what at_format_encode() has rounded away of these values. */
double at_format_rounding(const struct at_format *format, const uint8_t *bytes, const float *values,
                          uint64_t n);

struct at_source;
/* A row of a tensor into a row of each zeroed plane. */
typedef void at_repack_row(uint8_t *plane0, uint8_t *plane1, const struct at_source *source,
                           uint64_t row);

/* A tensor in a file. Rows are outputs: a matrix W (rows, cols) as PyTorch's [out, in]. */
struct at_source {
    const char *name;         /* as in the file */
    const char *file;         /* path, for messages */
    const struct at_map *map; /* of that file */
    const char *type_name;    /* "F32", "BF16", "Q4_1", ...: as the file calls it */
    enum at_quant_type type;  /* device type; AT_QUANT_COUNT when the type cannot be used */
    uint32_t n_dims;
    uint64_t dim[4];             /* PyTorch order (slowest first) */
    uint64_t rows, cols;         /* all but the last dimension multiplied; the last */
    const uint8_t *data;         /* NULL where at_weights_lack_data() */
    uint64_t n_bytes, row_bytes; /* bytes of a row in the file */
    bool is_part;                /* belongs to a quantised matrix: its scales, its codebook */
    /* how rows become planes: by the blocks of a format, or with `repack` and what it needs */
    const struct at_format *format;
    at_repack_row *repack;
    const void *context;
};

struct at_weights;
/* Opens a folder or a .gguf file. Pickle files are refused and never read. */
AT_CHECKED at_weights_open(struct at_weights **out, const char *path);
/* The same, to be looked at: a GGUF file may be cut anywhere behind its tensor table, as the first
 * megabytes of a download are. No source of such a file has data: what reads any must not be
 * called. */
AT_CHECKED at_weights_open_header(struct at_weights **out, const char *path);
bool at_weights_lack_data(const struct at_weights *weights);
/* One safetensors file (adapters). Tensors must tile the buffer exactly; one without bytes lies
 * where another begins or at the end. */
AT_CHECKED at_weights_open_safetensors(struct at_weights **out, const char *path);
void at_weights_close(struct at_weights **weights);
bool at_weights_is_gguf(const struct at_weights *weights);
size_t at_weights_count(const struct at_weights *weights);
const struct at_source *at_weights_get(const struct at_weights *weights, size_t i); /* file order */
const struct at_source *at_weights_find(const struct at_weights *weights, const char *name);
/* config.json of a folder, or NULL for GGUF. */
const cJSON *at_weights_config(const struct at_weights *weights);
/* Digest over names, shapes, types and bytes of all tensors. Reads the whole file once; cached in
 * memory. */
AT_CHECKED at_weights_digest(struct at_weights *weights, char hex[65]);
/* safetensors __metadata__ value or NULL. */
const char *at_weights_metadata(const struct at_weights *weights, const char *key);

/* ---- quantising at load ---- */
struct at_quantise_params {
    enum at_quant_type type; /* AT_NF4, AT_FP4 or AT_INT8; AT_F32: as the file has them */
    bool nested;             /* 4 bits: scales are quantised, too */
    bool if_plain;           /* matrices that are quantised already stay as they are */
};
struct at_quantise_report {
    const char *type_name; /* "NF4", "FP4", "INT8" */
    bool nested;
    uint64_t matrices;
    double error; /* root of the summed squares of rounding over that of all values */
};
/* Plain matrices of linear layers are to be quantised when they are uploaded, as bitsandbytes does
 * it. */
void at_weights_quantise(struct at_weights *weights, const struct at_quantise_params *params);
/* The source to upload for a linear layer's `source`: itself, or one that quantises its rows.
 * AT_USAGE when it is quantised already, unless if_plain. */
AT_CHECKED at_weights_linear(const struct at_source **out, struct at_weights *weights,
                             const struct at_source *source);
/* Of what was uploaded so far. */
struct at_quantise_report at_weights_quantise_report(const struct at_weights *weights);

/* ---- GGUF metadata ---- */
enum at_gguf_type {
    AT_GGUF_U8,
    AT_GGUF_I8,
    AT_GGUF_U16,
    AT_GGUF_I16,
    AT_GGUF_U32,
    AT_GGUF_I32,
    AT_GGUF_F32,
    AT_GGUF_BOOL,
    AT_GGUF_STRING,
    AT_GGUF_ARRAY,
    AT_GGUF_U64,
    AT_GGUF_I64,
    AT_GGUF_F64
};
AT_CHECKED at_gguf_get_u32(uint32_t *out, const struct at_weights *weights, const char *key);
AT_CHECKED at_gguf_get_double(double *out, const struct at_weights *weights, const char *key);
AT_CHECKED at_gguf_get_bool(bool *out, const struct at_weights *weights, const char *key);
/* These keep *out as it is when the key is missing. Strings are copied, live as long as `weights`.
 */
AT_CHECKED at_gguf_get_string(const char **out, const struct at_weights *weights, const char *key);
/* Arrays; the arrays live as long as `weights`. AT_DATA when the element type is another one. */
AT_CHECKED at_gguf_get_strings(const char *const **out, const size_t **lengths, size_t *n,
                               const struct at_weights *weights, const char *key);
AT_CHECKED at_gguf_get_i32s(const int32_t **out, size_t *n, const struct at_weights *weights,
                            const char *key);
AT_CHECKED at_gguf_get_f32s(const float **out, size_t *n, const struct at_weights *weights,
                            const char *key);
bool at_gguf_has(const struct at_weights *weights, const char *key);
size_t at_gguf_count(const struct at_weights *weights);
const char *at_gguf_key(const struct at_weights *weights, size_t i);
/* The bytes of key i and its value as the file has them. */
const uint8_t *at_gguf_pair(const struct at_weights *weights, size_t i, uint64_t *n_bytes);

/* ---- to the device ---- */

/* Repacks rows [begin, begin + n) of the result, of which row i is row `row_of(context, i)` of the
 * source (NULL: i), into plane bytes (at_quant_row_bytes() each, zero padding): bit movement only,
 * but for the exact d * scale of IQ4_XS, the scales of double quantisation, and what quantises.
 * plane1 may be NULL for types that lack it. */
typedef uint64_t at_row_order(const void *context, uint64_t i);
void at_repack_rows(uint8_t *plane0, uint8_t *plane1, const struct at_source *source,
                    uint64_t begin, uint64_t n, at_row_order *row_of, const void *context);
/* Uploads a source into a weight of the same type and shape, or with row_of the rows that it names
 * into one with fewer, in bounded pieces, on several threads, dropping file pages behind. Complete,
 * with its errors, when at_stream_wait(at_gpu_transfer(gpu)) has returned. */
AT_CHECKED at_weight_upload(struct at_gpu *gpu, struct at_weight weight,
                            const struct at_source *source, at_row_order *row_of,
                            const void *context);
/* Plain values as f32 on the host (norms, biases, adapters, full fine-tuning; F32, F16, BF16 only:
 * widening, no arithmetic). out: rows * cols floats. */
AT_CHECKED at_source_floats(float *out, const struct at_source *source);
/* One row of it: cols floats. */
AT_CHECKED at_source_row(float *out, const struct at_source *source, uint64_t row);
/* Lets go of the pages of the files that are mapped; they come back when they are read. */
void at_weights_drop_pages(const struct at_weights *weights);

/* ---- writing safetensors ---- */
struct at_safetensors_entry {
    const char *name, *dtype; /* "F32", "BF16", ... */
    uint32_t n_dims;
    uint64_t dim[4];
    uint64_t n_bytes;
};
struct at_safetensors_writer;
/* A file whose tensors' bytes come in pieces, in this order; metadata {"format":"pt"} and the extra
 * pairs. It appears under `path` when it is whole: at_safetensors_commit(). `entries` must live
 * until then. More bytes than a tensor has left, and a commit before the last one, are AT_BUG. */
AT_CHECKED at_safetensors_create(struct at_safetensors_writer **out, const char *path,
                                 const struct at_safetensors_entry *entries, size_t n,
                                 const char *const (*metadata)[2], size_t n_metadata);
AT_CHECKED at_safetensors_put(struct at_safetensors_writer *writer, const void *bytes, uint64_t n);
AT_CHECKED at_safetensors_commit(struct at_safetensors_writer *writer);
void at_safetensors_close(struct at_safetensors_writer **writer);

struct at_save_tensor {
    const char *name;
    uint32_t n_dims;
    uint64_t dim[4];
    const float *values; /* written as F32 */
};
/* Sorted by name, header padded to 8 bytes, metadata {"format":"pt"} and the extra pairs; atomic.
 * A non-finite value is AT_NUMERIC with the tensor's name and nothing is written. */
AT_CHECKED at_safetensors_write(const char *path, const struct at_save_tensor *tensors, size_t n,
                                const char *const (*metadata)[2], size_t n_metadata);

#endif
