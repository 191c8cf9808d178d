/* links: base gpu ops model */
/* GGUF: parsing, every getter on every key, the model's configuration, the digest. */
#include "fuzz.h"
#include "model.h"
#include "model_fuzz.h"

static void get_items(const struct at_weights *weights)
{
    for (size_t i = 0; i < at_gguf_count(weights); i++) {
        const char *key = at_gguf_key(weights, i), *text = NULL;
        const char *const *texts = NULL;
        const size_t *lengths = NULL;
        const int32_t *values = NULL;
        uint32_t u = 0;
        double d = 0;
        bool flag = false;
        size_t count = 0;

        (void)!at_gguf_get_u32(&u, weights, key);
        (void)!at_gguf_get_double(&d, weights, key);
        (void)!at_gguf_get_bool(&flag, weights, key);
        (void)!at_gguf_get_string(&text, weights, key);
        (void)!at_gguf_get_i32s(&values, &count, weights, key);
        if (at_gguf_get_strings(&texts, &lengths, &count, weights, key) == AT_OK && texts)
            for (size_t k = 0; k < count; k++)
                AT_REQUIRE(texts[k][lengths[k]] == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct at_weights *weights = NULL;
    struct at_model_config config;
    char digest[65];

    fuzz_heap(data, n, at_gguf_parse, get_items);
    if (at_weights_open(&weights, fuzz_file(data, n)) != AT_OK) {
        AT_REQUIRE(!weights && at_message()[0]);
        return 0;
    }
    (void)!at_model_config_read(&config, weights);
    (void)!at_weights_digest(weights, digest);
    at_weights_close(&weights);
    return 0;
}
