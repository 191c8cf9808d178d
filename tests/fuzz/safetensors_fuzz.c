/* links: base gpu ops model */
/* safetensors: parsing, lookup of every name, metadata, the digest. */
#include "fuzz.h"
#include "model_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct at_weights *weights = NULL;
    char digest[65];

    fuzz_heap(data, n, at_safetensors_parse, NULL);
    if (at_weights_open_safetensors(&weights, fuzz_file(data, n)) != AT_OK) {
        AT_REQUIRE(!weights && at_message()[0]);
        return 0;
    }
    for (size_t i = 0; i < at_weights_count(weights); i++) {
        const struct at_source *s = at_weights_get(weights, i);

        AT_REQUIRE(at_weights_find(weights, s->name) == s);
    }
    (void)at_weights_metadata(weights, "format");
    (void)!at_weights_digest(weights, digest);
    at_weights_close(&weights);
    return 0;
}
