/* links: base gpu ops model */
/* Model folders: one file, shards with an index, what is refused, and the digest. */
#include "model_files.h"

#include <glob.h>
#include <sys/stat.h>
#include <unistd.h>

#include "weights.h"

#define TMP BUILD_DIR "/test_tmp/weights"
#define MODEL TMP "/model"
#define INDEX MODEL "/model.safetensors.index.json"

static const float values[] = { 1, 2, 3, 4 };

static const char entry_a[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
static const char entry_b[] = "{\"b\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]}}";

static int make_folder(void **state)
{
    (void)state;
    return system("rm -rf '" TMP "' && mkdir -p '" MODEL "'");
}

static void write_shards(const char *index)
{
    write_text(MODEL "/config.json", "{\"model_type\":\"llama\"}");
    write_safetensors(MODEL "/m-1.safetensors", entry_a, values, 8);
    write_safetensors(MODEL "/m-2.safetensors", entry_b, values + 2, 8);
    write_text(INDEX, index);
}

static void refuse(enum at_status want, const char *path, const char *part)
{
    struct at_weights *weights = NULL;

    assert_int_equal(at_weights_open(&weights, path), want);
    assert_null(weights);
    require_message(part);
}

static void refuse_index(const char *index, const char *part)
{
    write_shards(index);
    refuse(AT_DATA, MODEL, part);
}

static void folder_of_one_file_is_read(void **state)
{
    struct at_weights *weights = NULL;
    char digest[65], again[65];

    (void)state;
    write_text(MODEL "/config.json", "{\"model_type\":\"llama\"}");
    write_safetensors(MODEL "/model.safetensors", entry_a, values, 8);
    write_text(INDEX, "not read beside a single file");
    REQUIRE_OK(at_weights_open(&weights, MODEL));
    assert_int_equal(at_weights_count(weights), 1);
    assert_memory_equal(at_weights_find(weights, "a")->data, values, 8);
    assert_string_equal(at_json_find(at_weights_config(weights), "model_type")->valuestring,
                        "llama");
    REQUIRE_OK(at_weights_digest(weights, digest));
    REQUIRE_OK(at_weights_digest(weights, again));
    assert_string_equal(digest, again);
    assert_int_equal(strlen(digest), 64);
    at_weights_close(&weights);
    write_safetensors(MODEL "/model.safetensors", entry_a, values + 1, 8);
    REQUIRE_OK(at_weights_open(&weights, MODEL));
    REQUIRE_OK(at_weights_digest(weights, again));
    assert_string_not_equal(digest, again);
    at_weights_close(&weights);
}

static void shards_are_found_by_the_index(void **state)
{
    const float swapped[] = { values[2], values[3], values[0], values[1] };
    struct at_weights *weights = NULL;
    char sharded[65], single[65];

    (void)state;
    write_shards("{\"metadata\":{\"total_size\":16},\"weight_map\":"
                 "{\"b\":\"m-2.safetensors\",\"a\":\"m-1.safetensors\"}}");
    REQUIRE_OK(at_weights_open(&weights, MODEL));
    assert_int_equal(at_weights_count(weights), 2);
    assert_memory_equal(at_weights_find(weights, "a")->data, values, 8);
    assert_memory_equal(at_weights_find(weights, "b")->data, values + 2, 8);
    assert_string_equal(at_weights_find(weights, "b")->file, MODEL "/m-2.safetensors");
    REQUIRE_OK(at_weights_digest(weights, sharded));
    at_weights_close(&weights);
    write_safetensors(MODEL "/model.safetensors",
                      "{\"b\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]},"
                      "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}",
                      swapped, 16);
    REQUIRE_OK(at_weights_open(&weights, MODEL));
    REQUIRE_OK(at_weights_digest(weights, single));
    assert_string_equal(sharded, single);
    at_weights_close(&weights);
}

static void wrong_indexes_are_refused(void **state)
{
    (void)state;
    refuse_index("{}", "weight_map is missing");
    refuse_index("{\"weight_map\":{}}", "weight_map is missing or empty");
    refuse_index("{\"weight_map\":[\"m-1.safetensors\"]}", "weight_map is missing");
    refuse_index("{\"weight_map\":{\"a\":1}}", "must be a file name");
    refuse_index("{\"weight_map\":{\"a\":\"../model/m-1.safetensors\"}}", "not a file name in");
    refuse_index("{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "not a file name in");
    refuse_index("{\"weight_map\":{\"a\":\"..\"}}", "not a file name in");
    refuse_index("{\"weight_map\":{\"a\":\"config.json\"}}", "not a .safetensors file");
    refuse_index("{\"weight_map\":{\"a\":\"pytorch_model.bin\"}}", "pickle");
    refuse_index("{\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"m-1.safetensors\"}}",
                 "tensor b is not in m-1.safetensors");
    refuse_index("{\"weight_map\":{\"a\":\"m-2.safetensors\",\"b\":\"m-1.safetensors\"}}",
                 "is not in");
    refuse_index("{\"weight_map\":{\"a\":\"m-1.safetensors\",\"c\":\"m-2.safetensors\"}}",
                 "tensor c is not in m-2.safetensors");
    write_shards("{\"weight_map\":{\"a\":\"m-3.safetensors\"}}");
    refuse(AT_NOT_FOUND, MODEL, "m-3.safetensors");
    write_shards("{\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\"}}");
    write_safetensors(MODEL "/m-2.safetensors", entry_a, values, 8);
    refuse(AT_DATA, MODEL, "tensor a stands twice");
    write_safetensors(MODEL "/m-2.safetensors",
                      "{\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                      "\"c\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
                      values, 8);
    refuse(AT_DATA, MODEL, "names 2 tensors, the files hold 3");
}

static void links_out_of_the_folder_are_refused_but_for_the_cache(void **state)
{
    static const char index[] =
        "{\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\"}}";
    struct at_weights *weights = NULL;

    (void)state;
    write_shards(index);
    assert_int_equal(rename(MODEL "/m-2.safetensors", TMP "/outside"), 0);
    assert_int_equal(symlink("../outside", MODEL "/m-2.safetensors"), 0);
    refuse(AT_DATA, MODEL, "a link out of the model's folder");
    assert_int_equal(unlink(MODEL "/m-2.safetensors"), 0);
    assert_int_equal(rename(TMP "/outside", MODEL "/inside"), 0);
    assert_int_equal(symlink("inside", MODEL "/m-2.safetensors"), 0);
    REQUIRE_OK(at_weights_open(&weights, MODEL));
    at_weights_close(&weights);
    /* Hugging Face's cache */
    assert_int_equal(mkdir(TMP "/snapshots", 0777) | mkdir(TMP "/blobs", 0777), 0);
    assert_int_equal(rename(MODEL "/inside", TMP "/blobs/1f"), 0);
    assert_int_equal(unlink(MODEL "/m-2.safetensors"), 0);
    assert_int_equal(symlink("../../blobs/1f", MODEL "/m-2.safetensors"), 0);
    assert_int_equal(rename(MODEL, TMP "/snapshots/main"), 0);
    REQUIRE_OK(at_weights_open(&weights, TMP "/snapshots/main"));
    at_weights_close(&weights);
    assert_int_equal(rename(TMP "/blobs/1f", TMP "/1f"), 0);
    assert_int_equal(unlink(TMP "/snapshots/main/m-2.safetensors"), 0);
    assert_int_equal(symlink("../../1f", TMP "/snapshots/main/m-2.safetensors"), 0);
    refuse(AT_DATA, TMP "/snapshots/main", "a link out of the model's folder");
}

static void what_is_no_model_is_refused_with_advice(void **state)
{
    (void)state;
    refuse(AT_NOT_FOUND, TMP "/none", "no such file or folder");
    refuse(AT_NOT_FOUND, MODEL, "neither model.safetensors nor");
    write_text(MODEL "/a.gguf", "");
    refuse(AT_NOT_FOUND, MODEL, MODEL "/a.gguf");
    refuse(AT_DATA, MODEL "/a.gguf", "ends at byte 0");
    assert_int_equal(unlink(MODEL "/a.gguf"), 0);
    write_text(MODEL "/pytorch_model.bin", "");
    refuse(AT_DATA, MODEL, "safe_serialization=True");
    refuse(AT_DATA, MODEL "/pytorch_model.bin", "a pickle file; it is not read");
    write_text(MODEL "/model.pt", "");
    refuse(AT_DATA, MODEL "/model.pt", "a pickle file");
    write_text(MODEL "/model.pth", "");
    refuse(AT_DATA, MODEL "/model.pth", "a pickle file");
    write_text(MODEL "/renamed.gguf", "PK\3\4");
    refuse(AT_DATA, MODEL "/renamed.gguf", "not a GGUF file");
    write_safetensors(MODEL "/model.safetensors", entry_a, values, 8);
    refuse(AT_NOT_FOUND, MODEL, "config.json");
    refuse(AT_DATA, MODEL "/model.safetensors", "give the folder");
    write_text(MODEL "/config.json", "{");
    refuse(AT_DATA, MODEL, "config.json:1:2");
}

/* What tests/fuzz/make_model_corpus.py calls pNN_*: each is wrong in one place and refused. */
static void hostile_files_of_the_script_are_refused(void **state)
{
    static const struct {
        const char *pattern, *path;
        size_t n;
    } kinds[] = {
        { SOURCE_DIR "/tests/fuzz/corpus/gguf/p*", TMP "/hostile.gguf", 35 },
        { SOURCE_DIR "/tests/fuzz/corpus/safetensors/p[0-9]*", TMP "/hostile.safetensors", 18 },
    };

    (void)state;
    for (size_t k = 0; k < AT_COUNT(kinds); k++) {
        struct at_weights *weights = NULL;
        glob_t found;
        assert_int_equal(glob(kinds[k].pattern, 0, NULL, &found), 0);
        assert_int_equal(found.gl_pathc, kinds[k].n);
        for (size_t i = 0; i < found.gl_pathc; i++) {
            struct at_buf bytes = { 0 };
            REQUIRE_OK(at_file_read(&bytes, found.gl_pathv[i]));
            write_file(kinds[k].path, bytes.data, bytes.n);
            const enum at_status st = k == 0 ? at_weights_open(&weights, kinds[k].path)
                                             : at_weights_open_safetensors(&weights, kinds[k].path);
            if (st != AT_DATA || strncmp(at_message(), kinds[k].path, strlen(kinds[k].path)) != 0)
                fail_msg("%s: status %d: %s", found.gl_pathv[i], (int)st, at_message());
            at_buf_release(&bytes);
        }
        globfree(&found);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(folder_of_one_file_is_read, make_folder),
        cmocka_unit_test_setup(shards_are_found_by_the_index, make_folder),
        cmocka_unit_test_setup(wrong_indexes_are_refused, make_folder),
        cmocka_unit_test_setup(links_out_of_the_folder_are_refused_but_for_the_cache, make_folder),
        cmocka_unit_test_setup(what_is_no_model_is_refused_with_advice, make_folder),
        cmocka_unit_test_setup(hostile_files_of_the_script_are_refused, make_folder),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
