#include "decoder.h"

#include "activation.h"
#include "decoder_parts.h"
#include "value.h"

#include <stdlib.h>

uint32_t at_decoder_window(const struct at_decoder *d, uint32_t l)
{
    const uint32_t window = at_layer_window(&d->model->config, l);

    return window < d->model->n_positions ? window : 0;
}

/* ---- slab inputs ---- */

static int by_id(const void *a, const void *b)
{
    const struct id_place *x = a, *y = b;

    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    return x->place < y->place ? -1 : x->place > y->place;
}

/* Rows of the embedding gradient: the stream's tokens sorted by (id, place), as distinct ids and
 * the places of each. Fills embed_host, returns the number of distinct ids. */
static uint32_t sort_embedding(struct at_decoder *d, const int32_t *ids, uint32_t T)
{
    struct id_place *pairs = d->embed_pairs;
    int32_t *distinct = d->embed_host, *begin = distinct + T, *order = begin + T + 1;
    uint32_t n = 0;

    for (uint32_t t = 0; t < T; t++)
        pairs[t] = (struct id_place){ ids[t], (int32_t)t };
    qsort(pairs, T, sizeof *pairs, by_id);
    for (uint32_t t = 0; t < T; t++) {
        if (t == 0 || pairs[t].id != pairs[t - 1].id) {
            distinct[n] = pairs[t].id;
            begin[n++] = (int32_t)t;
        }
        order[t] = pairs[t].place;
    }
    begin[n] = (int32_t)T;
    return n;
}

static void upload_embedding(struct at_stream *s, struct at_decoder *d, const struct at_batch *b)
{
    const uint32_t T = b->T_back;

    if (at_model_trains_embedding(d->model) && d->trains) {
        d->n_embed_ids = sort_embedding(d, b->ids, T);
        at_stream_upload(s, d->embed_ids, d->embed_host, 4ul * d->n_embed_ids);
        at_stream_upload(s, d->embed_begin, d->embed_host + T, 4ul * (d->n_embed_ids + 1));
        at_stream_upload(s, d->embed_order, d->embed_host + 2ul * T + 1, 4ul * T);
    }
    if (!d->model->trainable) /* the reference's, where it is trained beside an adapter */
        at_decoder_upload_rows(s, d, b->ids, b->T);
}

static void count_pairs(struct at_decoder *d, int which, const int32_t *intervals, uint32_t T,
                        uint32_t n)
{
    d->counted[which].T = T;
    for (int windowed = 0; windowed < 2; windowed++)
        d->counted[which].pairs[windowed] =
            at_attention_pairs(intervals, n, windowed ? d->model->config.window : 0);
}

void at_decoder_begin(struct at_stream *s, struct at_decoder *d, const struct at_batch *b)
{
    AT_REQUIRE(b->T <= d->capacity && b->R <= d->capacity_rows);
    AT_REQUIRE(b->n_segments <= d->capacity_segments && b->n_order <= b->R);
    AT_REQUIRE(b->T_back <= b->T && b->R_back <= b->R);
    AT_REQUIRE(b->S > 1 && b->S <= b->R && b->S <= b->T); /* one row is what decoding has */
    AT_REQUIRE(b->S_back <= b->S && b->S_back <= b->T_back);
    count_pairs(d, 0, b->intervals, b->T, b->T);
    count_pairs(d, 1, b->intervals, b->T_back, b->n_back);
    at_stream_upload(s, d->ids, b->ids, 4ul * b->T);
    at_stream_upload(s, d->positions, b->positions, 4ul * b->T);
    at_stream_upload(s, d->intervals, b->intervals, 16ul * b->T);
    if (d->dropout.p > 0) {
        at_stream_upload(s, d->dropout.tokens, b->tokens, 8ul * b->T);
        at_stream_upload(s, d->source_names, b->source_names, 8ul * b->S);
    }
    at_stream_upload(s, d->query_end, b->query_end, 4ul * b->T);
    at_stream_upload(s, d->sources, b->sources, 4ul * b->S);
    at_stream_upload(s, d->row_source, b->row_source, 4ul * b->R);
    at_stream_upload(s, d->source_begin, b->source_begin, 4ul * (b->S + 1));
    at_stream_upload(s, d->source_place, b->source_place, 4ul * b->T);
    at_stream_upload(s, d->target, b->target, 4ul * b->R);
    at_stream_upload(s, d->row_segment, b->row_segment, 4ul * b->R);
    at_stream_upload(s, d->row_weight, b->row_weight, 4ul * b->R);
    if (b->n_order > 0)
        at_stream_upload(s, d->order, b->order, 4ul * b->n_order);
    at_stream_upload(s, d->segment_begin, b->segment_begin, 4ul * (b->n_segments + 1));
    for (uint32_t i = 0; i < b->n_long; i++) {
        const uint32_t begin = b->long_runs[2 * i], n = b->long_runs[2 * i + 1];
        at_model_turn(s, d->model, d->model->n_positions + begin, n, n);
    }
    upload_embedding(s, d, b);
}

/* ---- forward ---- */

/* A trained embedding or head is the policy's alone: the reference has that of the frozen model. */
static void embed_fwd(struct at_stream *s, struct at_decoder *d, struct at_tensor x,
                      enum at_pass pass)
{
    const bool policy = pass != AT_PASS_REFERENCE;

    if (d->model->trainable || (policy && d->model->saved[AT_SAVED_EMBED].param))
        at_gather_rows(s, x, d->model->embed, words(d->ids, x.dim[0]));
    else
        at_dequantise(s, x, at_weight_rows(d->embed_rows, 0, x.dim[0]));
    if (d->model->config.embed_scale != 1)
        at_scale(s, x, d->model->config.embed_scale);
}

/* h: what the head reads. */
static void final_norm_fwd(struct at_stream *s, struct at_decoder *d, struct at_tensor h,
                           struct at_tensor x)
{
    const struct at_model *model = d->model;

    at_decoder_norm_fwd(s, d, h, words(d->final_rstd, x.dim[0]), x, model->final_norm,
                        model->final_norm_bias);
    if (at_scales_logits(&model->config))
        at_scale(s, h, model->config.logit_scale);
}

static const struct at_tensor unwanted;

/* n completion rows from r on through the head; u: where their gradient rows are wanted. */
static void head_fwd(struct at_stream *s, struct at_decoder *d, uint32_t r, uint32_t n,
                     enum at_pass pass, struct at_tensor u)
{
    const struct at_tensor rows = part(d->rows, r + n, d->model->config.C);

    if (n > 0)
        at_head_fwd(
            s, at_view_part(d->stats, 16ul * r, 16ul * n), at_view_part(d->lse, 4ul * r, 4ul * n),
            at_view_part(d->log_p2, 4ul * r, 4ul * n), u, at_tensor_rows(rows, r, n),
            at_view_part(d->target, 4ul * r, 4ul * n), at_head_of(d->model, pass), &d->head);
}

void at_decoder_forward(struct at_stream *s, struct at_decoder *d, const struct at_batch *b,
                        enum at_pass pass, struct at_view sums)
{
    const struct at_model_config *c = &d->model->config;
    const struct at_pass_rows all = { b->T, b->S };
    const uint32_t R = b->R;
    const uint32_t n = pass == AT_PASS_POLICY_TRAIN ? b->R_back : R; /* have gradient rows */
    const struct at_tensor h = part(d->h, b->S, c->C), rows = part(d->rows, R, c->C);
    struct at_tensor x = part(d->x, b->T, c->C), u = unwanted;

    embed_fwd(s, d, x, pass);
    for (uint32_t l = 0; l < c->L; l++) {
        const struct at_activations a = at_decoder_saved(d, l);
        x = at_decoder_layer_fwd(s, d, &a, l, all, x, pass, NULL);
    }
    final_norm_fwd(s, d, h, x);
    at_gather_rows(s, rows, h, words(d->row_source, R));
    if (pass == AT_PASS_POLICY_TRAIN || pass == AT_PASS_POLICY_DRIFT)
        u = part(d->u, n, c->C);
    if (c->value_head) {
        at_value_fwd(s, at_view_part(d->stats, 0, 16ul * R), u, rows, d->model->value.w);
        at_stream_fill(s, words(d->log_p2, R), 0);
    } else {
        head_fwd(s, d, 0, n, pass, u);
        head_fwd(s, d, n, R - n, pass, unwanted);
    }
    at_segment_sums(s, sums, at_view_part(d->stats, 0, 16ul * R), words(d->row_weight, R),
                    words(d->log_p2, R), d->order, d->segment_begin, b->n_segments);
}

void at_decoder_keep(struct at_stream *s, struct at_decoder *d, const struct at_batch *b)
{
    const struct at_tensor rows = part(d->rows, b->R, d->model->config.C);

    at_tensor_copy(s, part(d->ref_rows, b->R, rows.dim[1]), rows);
    at_stream_copy(s, at_view_part(d->ref_stats, 0, 16ul * b->R),
                   at_view_part(d->stats, 0, 16ul * b->R), 16ul * b->R);
}

void at_decoder_drift(struct at_stream *s, struct at_decoder *d, const struct at_batch *b,
                      struct at_view sums)
{
    const uint32_t R = b->R, C = d->model->config.C;
    const struct at_view kl = at_view_part(d->row_loss, 0, 16ul * R);

    at_head_kl(s, kl, at_view_part(d->stats, 0, 16ul * R), at_view_part(d->ref_stats, 0, 16ul * R),
               part(d->u, R, C), part(d->rows, R, C), part(d->ref_rows, R, C));
    at_segment_sums(s, sums, kl, words(d->row_weight, R), words(d->log_p2, R), d->order,
                    d->segment_begin, b->n_segments);
}

/* ---- decoding ---- */

struct at_tensor at_decoder_extend(struct at_stream *s, struct at_decoder *d,
                                   const struct at_kv_cache *cache,
                                   const struct at_extension *tokens)
{
    const struct at_model_config *c = &d->model->config;
    const uint32_t T = tokens->T;
    const struct at_batch batch = { .T = T, .ids = tokens->ids };
    const struct at_pass_rows all = { T, 0 };
    const struct at_tensor x = part(d->x, T, c->C), h = part(d->h, T, c->C);

    AT_REQUIRE(!d->trains && T > 0 && T <= d->capacity);
    d->n_alone = tokens->n_alone;
    count_pairs(d, 0, &tokens->intervals[0][0], T, T);
    at_stream_upload(s, d->ids, tokens->ids, 4ul * T);
    at_stream_upload(s, d->positions, tokens->positions, 4ul * T);
    at_stream_upload(s, d->intervals, tokens->intervals, 16ul * T);
    at_stream_upload(s, cache->place, tokens->place, 4ul * T);
    upload_embedding(s, d, &batch);
    embed_fwd(s, d, x, AT_PASS_POLICY_EVAL);
    for (uint32_t l = 0; l < c->L; l++)
        at_decoder_layer_fwd(s, d, &d->layers[0], l, all, x, AT_PASS_POLICY_EVAL, cache);
    d->n_alone = 0;
    final_norm_fwd(s, d, h, x);
    return h;
}
