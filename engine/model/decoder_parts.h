/* Inside engine/model only: parts of the decoder that several files share. */
#ifndef AT_DECODER_PARTS_H
#define AT_DECODER_PARTS_H

#include "decoder.h"

/* A token of the slab, for sorting by id. */
struct id_place {
    int32_t id, place;
};

/* Most inputs and outputs of a linear layer. */
void at_decoder_widest(const struct at_model_config *c, uint32_t *most_in, uint32_t *most_out);
/* Scratch and norms of an adapter with DoRA; sets d->dora. */
void at_decoder_plan_dora(struct at_decoder *d, struct at_pool *pool);
/* Raw embedding rows of these ids, as the file has them, into d->embed_rows. */
void at_decoder_upload_rows(struct at_stream *s, struct at_decoder *d, const int32_t *ids,
                            uint32_t T);

#endif
