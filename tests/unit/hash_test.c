/* links: base */
#include "hash.h"
#include "os.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

/* BLAKE2b-256 of "" and "abc", from `b2sum -l 256`. */
static const char empty_hex[] = "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8";
static const char abc_hex[] = "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319";

static void hash_bytes_known_texts_match_b2sum(void **state)
{
    (void)state;
    assert_string_equal(at_hash_bytes("", 0).hex, empty_hex);
    assert_string_equal(at_hash_bytes("abc", 3).hex, abc_hex);
}

static void hash_put_in_pieces_equals_whole(void **state)
{
    (void)state;
    struct at_hash hash;
    at_hash_init(&hash);
    at_hash_put(&hash, "a", 1);
    at_hash_put(&hash, NULL, 0);
    at_hash_put(&hash, "bc", 2);
    assert_string_equal(at_hash_end(&hash).hex, abc_hex);
}

static void hash_put_text_boundaries_matter(void **state)
{
    (void)state;
    struct at_hash left, right;
    at_hash_init(&left);
    at_hash_put_text(&left, "ab");
    at_hash_put_text(&left, "c");
    at_hash_init(&right);
    at_hash_put_text(&right, "a");
    at_hash_put_text(&right, "bc");
    assert_string_not_equal(at_hash_end(&left).hex, at_hash_end(&right).hex);
    /* the length is 8 little-endian bytes on every machine */
    at_hash_init(&left);
    at_hash_put_text(&left, "abc");
    assert_string_equal(at_hash_end(&left).hex, at_hash_bytes("\3\0\0\0\0\0\0\0abc", 11).hex);
}

static void hash_file_equals_its_bytes(void **state)
{
    (void)state;
    const char *path = BUILD_DIR "/test_tmp/hash.bin";
    struct at_digest digest;
    assert_int_equal(at_dir_create(BUILD_DIR "/test_tmp"), AT_OK);
    assert_int_equal(at_file_write_atomic(path, "abc", 3), AT_OK);
    assert_int_equal(at_hash_file(&digest, path), AT_OK);
    assert_string_equal(digest.hex, abc_hex);
    assert_int_equal(at_file_write_atomic(path, "", 0), AT_OK);
    assert_int_equal(at_hash_file(&digest, path), AT_OK);
    assert_string_equal(digest.hex, empty_hex);
    assert_int_equal(at_hash_file(&digest, BUILD_DIR "/test_tmp/missing"), AT_NOT_FOUND);
}

static void hash_file_longer_than_a_chunk_equals_its_bytes(void **state)
{
    (void)state;
    const char *path = BUILD_DIR "/test_tmp/hash_large.bin";
    const size_t n = ((size_t)64 << 20) + 4097;
    char *bytes;
    struct at_digest digest;
    assert_int_equal(at_alloc(&bytes, n, 1), AT_OK);
    for (size_t i = 0; i < n; i++)
        bytes[i] = (char)(i ^ i >> 20);
    assert_int_equal(at_dir_create(BUILD_DIR "/test_tmp"), AT_OK);
    assert_int_equal(at_file_write_atomic(path, bytes, n), AT_OK);
    assert_int_equal(at_hash_file(&digest, path), AT_OK);
    assert_string_equal(digest.hex, at_hash_bytes(bytes, n).hex);
    at_free(&bytes);
    assert_int_equal(at_file_write_atomic(path, "", 0), AT_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hash_bytes_known_texts_match_b2sum),
        cmocka_unit_test(hash_put_in_pieces_equals_whole),
        cmocka_unit_test(hash_put_text_boundaries_matter),
        cmocka_unit_test(hash_file_equals_its_bytes),
        cmocka_unit_test(hash_file_longer_than_a_chunk_equals_its_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
