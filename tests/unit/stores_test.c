/* links: base gpu ops model */
/* Models in the stores of Hugging Face and Ollama: where is looked, what a name may hold, what a
 * hostile store cannot do. */
#include "model_files.h"

#include "stores.h"

#define TMP BUILD_DIR "/test_tmp/stores"
#define HUB TMP "/hub"
#define OLLAMA TMP "/ollama"
#define COMMIT "0123456789abcdef0123456789abcdef01234567"
#define OTHER "89abcdef0123456789abcdef0123456789abcdef"
#define HEX "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define BLOB OLLAMA "/blobs/sha256-" HEX
#define LIBRARY OLLAMA "/manifests/registry.ollama.ai/library"
#define KIND "application/vnd.ollama.image."
#define LAYER(kind, digest) "{\"mediaType\":\"" kind "\",\"digest\":\"" digest "\",\"size\":4}"
#define MANIFEST(layers) "{\"schemaVersion\":2,\"layers\":[" layers "]}"
#define MODEL LAYER(KIND "model", "sha256:" HEX)

static const char make[] =
    "rm -rf '" TMP "' && mkdir -p '" HUB "/models--org--name/refs/refs/pr' "
    "'" HUB "/models--org--name/snapshots/" COMMIT "' '" HUB "/models--org--name/snapshots/" OTHER
    "' '" HUB "/models--plain/refs' '" HUB "/models--plain/snapshots/" COMMIT "' "
    "'" OLLAMA "/blobs' '" LIBRARY "/tiny' '" OLLAMA "/manifests/hf.co/org/name' "
    "'" TMP "/home/.ollama/models/manifests/registry.ollama.ai/me/mine' "
    "'" TMP "/home/.ollama/models/blobs'";

static int make_stores(void **state)
{
    (void)state;
    assert_int_equal(system(make), 0);
    write_text(HUB "/models--org--name/refs/main", COMMIT);
    write_text(HUB "/models--org--name/refs/v2", OTHER "\n");
    write_text(HUB "/models--org--name/refs/refs/pr/1", OTHER);
    write_text(HUB "/models--plain/refs/main", COMMIT);
    write_text(HUB "/models--org--name/snapshots/" COMMIT "/a.gguf", "GGUF");
    write_text(BLOB, "GGUF");
    write_text(LIBRARY "/tiny/latest", MANIFEST(MODEL));
    at_env_set("HF_HUB_CACHE", HUB);
    at_env_set("OLLAMA_MODELS", OLLAMA);
    return 0;
}

static void find(const char *name, const char *path)
{
    struct at_arena arena = { 0 };
    struct at_found_model found;

    REQUIRE_OK(at_model_find(&found, &arena, name));
    assert_string_equal(found.path, path);
    at_arena_release(&arena);
}

static void refuse(enum at_status want, const char *name, const char *part)
{
    struct at_arena arena = { 0 };
    struct at_found_model found;

    assert_int_equal(at_model_find(&found, &arena, name), want);
    require_message(part);
    at_arena_release(&arena);
}

static void path_is_left_as_it_is(void **state)
{
    (void)state;
    find("out/model", "out/model");
    find("hf", "hf");
    assert_false(at_model_is_named("out/hf:x"));
    assert_true(at_model_is_named("hf:x"));
    assert_true(at_model_is_named("ollama:x"));
}

static void hub_names_are_found(void **state)
{
    struct at_arena arena = { 0 };
    struct at_found_model found;

    (void)state;
    find("hf:org/name", HUB "/models--org--name/snapshots/" COMMIT);
    find("hf:plain", HUB "/models--plain/snapshots/" COMMIT);
    find("hf:org/name@v2", HUB "/models--org--name/snapshots/" OTHER);
    find("hf:org/name@refs/pr/1", HUB "/models--org--name/snapshots/" OTHER);
    find("hf:org/name@" OTHER, HUB "/models--org--name/snapshots/" OTHER);
    find("hf:org/name/a.gguf", HUB "/models--org--name/snapshots/" COMMIT "/a.gguf");
    REQUIRE_OK(at_model_find(&found, &arena, "hf:org/name@v2"));
    assert_string_equal(found.hub_name, "org/name");
    assert_string_equal(found.revision, "v2");
    assert_string_equal(found.fetch, "hf download org/name --revision v2");
    REQUIRE_OK(at_model_find(&found, &arena, "hf:org/name"));
    assert_null(found.revision);
    REQUIRE_OK(at_model_find(&found, &arena, "hf:org/name/a.gguf"));
    assert_null(found.hub_name); /* a file is no base that PEFT loads by the name */
    at_arena_release(&arena);
}

static void hub_is_where_its_library_has_it(void **state)
{
    static const char *const variables[] = { "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME",
                                             "XDG_CACHE_HOME", "HOME" };
    static const char *const values[] = { TMP "/1", TMP "/2", TMP "/3", TMP "/4", TMP "/5" };
    static const char *const hubs[] = { TMP "/1/", TMP "/2/", TMP "/3/hub/",
                                        TMP "/4/huggingface/hub/",
                                        TMP "/5/.cache/huggingface/hub/" };

    (void)state;
    for (size_t i = 0; i < AT_COUNT(variables); i++)
        at_env_set(variables[i], values[i]);
    for (size_t i = 0; i < AT_COUNT(variables); i++) {
        refuse(AT_NOT_FOUND, "hf:a/b", hubs[i]);
        if (i + 1 < AT_COUNT(variables))
            at_env_set(variables[i], i == 1 ? "" : NULL); /* empty is not set */
    }
    at_env_set("HF_HOME", "~/x");
    refuse(AT_NOT_FOUND, "hf:a/b", TMP "/5/x/hub/models--a--b");
    at_env_set("HF_HOME", NULL);
}

static void hub_misses_say_what_fetches(void **state)
{
    (void)state;
    refuse(AT_NOT_FOUND, "hf:org/none", HUB "/models--org--none; `hf download org/none`");
    refuse(AT_NOT_FOUND, "hf:org/name@v3",
           "/refs/v3; `hf download org/name --revision v3` fetches it");
    refuse(AT_NOT_FOUND, "hf:org/name/b.gguf", "`hf download org/name b.gguf` fetches it");
    refuse(AT_NOT_FOUND, "hf:org/name@" HEX, "no such revision");
}

static void hub_names_lead_nowhere_else(void **state)
{
    static const char *const names[] = {
        "hf:",     "hf:/",           "hf:../name",    "hf:a/b/c",         "hf:a//b",  "hf:a--b/c",
        "hf:a/b@", "hf:a/b@../../c", "hf:a/b@x/../y", "hf:a/b/../c.gguf", "hf:a/b c", "hf:./a"
    };

    (void)state;
    for (size_t i = 0; i < AT_COUNT(names); i++)
        refuse(AT_USAGE, names[i], "not the name of a model; expected hf:ORG/NAME");
    write_text(HUB "/models--org--name/refs/main", "../../../secret");
    refuse(AT_DATA, "hf:org/name", "refs/main: holds \"../../../secret\"; expected a commit");
    write_text(HUB "/models--org--name/refs/main", "");
    refuse(AT_DATA, "hf:org/name", "holds \"\"");
}

static void links_in_a_circle_are_a_miss(void **state)
{
    (void)state;
    assert_int_equal(system("cd '" HUB "/models--org--name/snapshots' && rm -r " COMMIT
                            " && ln -s " COMMIT " " COMMIT
                            " && cd ../refs && ln -s x x && cd '" OLLAMA
                            "/blobs' && rm * && ln -s sha256-" HEX " sha256-" HEX),
                     0);
    refuse(AT_NOT_FOUND, "hf:org/name", "there is no " HUB "/models--org--name/snapshots/" COMMIT);
    refuse(AT_NOT_FOUND, "hf:org/name@x", "no such revision");
    refuse(AT_NOT_FOUND, "ollama:tiny", "the file of its weights is not there");
}

static void ollama_names_are_found(void **state)
{
    struct at_arena arena = { 0 };
    struct at_found_model found;

    (void)state;
    write_text(LIBRARY "/tiny/0.5b-q4",
               MANIFEST(LAYER(KIND "template", "x") "," MODEL "," LAYER(KIND "adapter", "y")));
    write_text(OLLAMA "/manifests/hf.co/org/name/Q4", MANIFEST(MODEL));
    find("ollama:tiny", BLOB);
    find("ollama:tiny:latest", BLOB);
    find("ollama:hf.co/org/name:Q4", BLOB);
    REQUIRE_OK(at_model_find(&found, &arena, "ollama:tiny"));
    assert_null(found.unread);
    assert_null(found.hub_name);
    REQUIRE_OK(at_model_find(&found, &arena, "ollama:tiny:0.5b-q4"));
    assert_string_equal(found.unread, "template, adapter");
    assert_true(found.has_adapter);
    at_arena_release(&arena);
}

static void ollama_is_looked_for_in_two_places(void **state)
{
    (void)state;
    write_text(TMP "/home/.ollama/models/manifests/registry.ollama.ai/me/mine/latest",
               MANIFEST(MODEL));
    write_text(TMP "/home/.ollama/models/blobs/sha256-" HEX, "GGUF");
    at_env_set("OLLAMA_MODELS", NULL);
    at_env_set("HOME", TMP "/home");
    find("ollama:me/mine", TMP "/home/.ollama/models/blobs/sha256-" HEX);
    refuse(AT_NOT_FOUND, "ollama:tiny",
           "/home/.ollama/models/manifests/registry.ollama.ai/library/tiny/latest and no "
           "/usr/share/ollama/.ollama/models/manifests/registry.ollama.ai/library/tiny/latest; "
           "`ollama pull tiny` fetches it");
}

static void ollama_names_lead_nowhere_else(void **state)
{
    static const char *const names[] = { "ollama:",     "ollama:../a",   "ollama:a/../b",
                                         "ollama:a:",   "ollama:a:../b", "ollama:a/b/c/d",
                                         "ollama:/etc", "ollama:a:b/c",  "ollama:a b" };

    (void)state;
    for (size_t i = 0; i < AT_COUNT(names); i++)
        refuse(AT_USAGE, names[i], "not the name of a model; expected ollama:NAME");
}

static void refuse_manifest(const char *text, const char *part)
{
    write_text(LIBRARY "/tiny/latest", text);
    refuse(AT_DATA, "ollama:tiny", part);
    require_message(LIBRARY "/tiny/latest");
}

static void hostile_manifests_are_refused(void **state)
{
    (void)state;
    refuse_manifest("", ":1:1: no JSON text");
    refuse_manifest("[]", "\"layers\" must be a list");
    refuse_manifest("{\"layers\":{}}", "\"layers\" must be a list");
    refuse_manifest(MANIFEST("1"), "mediaType");
    refuse_manifest(MANIFEST("{\"mediaType\":3}"), "mediaType");
    refuse_manifest(MANIFEST("{\"mediaType\":\"" KIND "model\"}"), "digest");
    refuse_manifest(MANIFEST(""), "found: no layers");
    refuse_manifest(MANIFEST(LAYER(KIND "tensors", "sha256:" HEX)), "found: tensors");
    refuse_manifest(MANIFEST(MODEL "," MODEL), "two layers with weights");
    refuse_manifest(MANIFEST(LAYER(KIND "model", "sha256:../../../etc/passwd")),
                    "digest \"sha256:../../../etc/passwd\"; expected sha256: and 64");
    refuse_manifest(MANIFEST(LAYER(KIND "model", "sha256-" HEX)), "digest");
    refuse_manifest(MANIFEST(LAYER(KIND "model", "sha256:" HEX "0")), "digest");
    refuse_manifest(MANIFEST(LAYER(KIND "model", "md5:" HEX)), "digest");
    assert_int_equal(system("rm '" BLOB "'"), 0);
    write_text(LIBRARY "/tiny/latest", MANIFEST(MODEL));
    refuse(AT_NOT_FOUND, "ollama:tiny", BLOB "; `ollama pull tiny` fetches it");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(path_is_left_as_it_is, make_stores),
        cmocka_unit_test_setup(hub_names_are_found, make_stores),
        cmocka_unit_test_setup(hub_is_where_its_library_has_it, make_stores),
        cmocka_unit_test_setup(hub_misses_say_what_fetches, make_stores),
        cmocka_unit_test_setup(hub_names_lead_nowhere_else, make_stores),
        cmocka_unit_test_setup(links_in_a_circle_are_a_miss, make_stores),
        cmocka_unit_test_setup(ollama_names_are_found, make_stores),
        cmocka_unit_test_setup(ollama_is_looked_for_in_two_places, make_stores),
        cmocka_unit_test_setup(ollama_names_lead_nowhere_else, make_stores),
        cmocka_unit_test_setup(hostile_manifests_are_refused, make_stores),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
