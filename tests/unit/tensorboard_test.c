/* links: base train */
/* Event files: the bytes that TensorBoard's own writer gives for the same events (2.21). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
/* cmocka.h needs the headers above. */
#include <cmocka.h>

#include "tensorboard.h"

static void crc32c_equals_rfc_3720(void **state)
{
    const uint8_t zeros[32] = { 0 };

    (void)state;
    assert_int_equal(at_crc32c("123456789", 9), 0xe3069283);
    assert_int_equal(at_crc32c(zeros, sizeof zeros), 0x8a9136aa);
    assert_int_equal(at_crc32c(zeros, 0), 0);
}

static void events_have_the_bytes_of_tensorboard(void **state)
{
    static const uint8_t head[] = { 0x18, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xa3, 0x7f,
                                    0x4b, 0x22, 0x09, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xf8,
                                    0x3f, 0x1a, 0x0d, 0x62, 0x72, 0x61, 0x69, 0x6e, 0x2e, 0x45,
                                    0x76, 0x65, 0x6e, 0x74, 0x3a, 0x32, 0x2a, 0x28, 0x64, 0x6c };
    static const uint8_t line[] = {
        0x47, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xba, 0xc3, 0xfb, 0x9b, 0x09, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0xf8, 0x3f, 0x10, 0xac, 0x02, 0x2a, 0x39, 0x0a, 0x12, 0x0a, 0x0b,
        0x74, 0x72, 0x61, 0x69, 0x6e, 0x2f, 0x65, 0x70, 0x6f, 0x63, 0x68, 0x15, 0x00, 0x00, 0x80,
        0x3e, 0x0a, 0x11, 0x0a, 0x0a, 0x74, 0x72, 0x61, 0x69, 0x6e, 0x2f, 0x6c, 0x6f, 0x73, 0x73,
        0x15, 0x00, 0x00, 0x00, 0x3f, 0x0a, 0x10, 0x0a, 0x09, 0x65, 0x76, 0x61, 0x6c, 0x2f, 0x6c,
        0x6f, 0x73, 0x73, 0x15, 0x00, 0x00, 0x00, 0xc0, 0xdc, 0x42, 0x30, 0x9b
    };
    struct at_buf out = { 0 };
    cJSON *json = cJSON_Parse("{\"step\":300,\"epoch\":0.25,\"loss\":0.5,\"grad_norm\":null,"
                              "\"nonfinite\":[\"grad_norm\"],\"eval_loss\":-2,\"n\":12}");

    (void)state;
    at_events_begin(&out, 1.5);
    assert_int_equal(at_buf_status(&out), AT_OK);
    assert_int_equal(out.n, sizeof head);
    assert_memory_equal(out.data, head, sizeof head);
    at_buf_clear(&out);
    at_events_line(&out, json, 1.5);
    assert_int_equal(at_buf_status(&out), AT_OK);
    assert_int_equal(out.n, sizeof line);
    assert_memory_equal(out.data, line, sizeof line);
    at_buf_release(&out);
    cJSON_Delete(json);
}

/* Of five values in 30 buckets only the last checksum is kept, which is of all bytes. */
static void histograms_have_the_bytes_of_tensorboard(void **state)
{
    static const uint8_t same[] = {
        0x5b, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x1b, 0x01, 0x02, 0x8a, 0x09, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x00, 0xf8, 0x3f, 0x10, 0xac, 0x02, 0x2a, 0x4d, 0x0a, 0x4b,
        0x0a, 0x06, 0x65, 0x76, 0x61, 0x6c, 0x2f, 0x61, 0x2a, 0x41, 0x09, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x08, 0x40, 0x11, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x08, 0x40,
        0x19, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x40, 0x21, 0x00, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x18, 0x40, 0x29, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x32, 0x40, 0x32,
        0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x08, 0x40, 0x3a, 0x08, 0x00, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x00, 0x40, 0xd7, 0x14, 0x52, 0xb4
    };
    static const uint8_t end[] = { 0x53, 0xe0, 0xea, 0x0f };
    static const double values[] = { -1, 0.5, NAN, 2, 0.5, INFINITY, -0.875 };
    static const double equal[] = { 3, 3 };
    const struct at_histogram list[] = { { "b", values, AT_COUNT(values) },
                                         { "nothing", NULL, 0 },
                                         { "eval_a", equal, AT_COUNT(equal) } };
    struct at_buf out = { 0 };

    (void)state;
    at_events_histograms(&out, 300, list + 1, 2, 1.5);
    assert_int_equal(at_buf_status(&out), AT_OK);
    assert_int_equal(out.n, sizeof same);
    assert_memory_equal(out.data, same, sizeof same);
    at_buf_clear(&out);
    at_events_histograms(&out, 300, list, 3, 1.5);
    assert_int_equal(out.n, 654);
    assert_memory_equal(out.data + out.n - sizeof end, end, sizeof end);
    at_buf_release(&out);
}

/* Whatever allocation fails, the whole is known to lack a part. */
static void events_without_memory_say_so(void **state)
{
    cJSON *json = cJSON_Parse("{\"step\":1,\"loss\":0.5}");
    uint64_t n = 1;

    (void)state;
    for (;; n++) {
        struct at_buf out = { 0 };
        at_alloc_fail_at(n);
        at_events_line(&out, json, 1.5);
        const enum at_status st = at_buf_status(&out);
        at_alloc_fail_at(0);
        at_buf_release(&out);
        if (st == AT_OK)
            break;
        assert_int_equal(st, AT_MEMORY);
        assert_true(n < 100);
    }
    assert_true(n > 5);
    cJSON_Delete(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c_equals_rfc_3720),
        cmocka_unit_test(events_have_the_bytes_of_tensorboard),
        cmocka_unit_test(histograms_have_the_bytes_of_tensorboard),
        cmocka_unit_test(events_without_memory_say_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
