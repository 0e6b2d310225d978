/* Snapshot pages and records, and blob messages, against stream.json and blobs.json. */
#include "golden.h"
#include "sync/message.h"

typedef struct {
    cal_buffer out, page;
} fixture;

static int setup(void **state) {
    fixture *f = malloc(sizeof *f);
    if (!f) return -1;
    cal_buffer_init(&f->out, 16 << 20);
    cal_buffer_init(&f->page, 16 << 20);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    cal_buffer_deinit(&f->out);
    cal_buffer_deinit(&f->page);
    free(f);
    return 0;
}

/* --- records and pages --- */

/* The legacy form has no place for an app key. */
static void expect_record(yyjson_val *in, bool legacy, const sync_record *record) {
    bool entity = strcmp(yyjson_get_str(yyjson_obj_get(in, "kind")), "Entity") == 0;
    assert_int_equal(record->kind, entity ? SYNC_RECORD_ENTITY : SYNC_RECORD_AUXILIARY);
    golden_equal(cal_slice_of(record->id.bytes, 32), in, "id");
    golden_equal(record->entry, in, entity ? "entry" : "value");
    if (!entity) {
        assert_int_equal(record->auxiliary, golden_u64(in, "aux_kind"));
        return;
    }
    golden_equal(record->index, in, "index");
    yyjson_val *app_key = yyjson_obj_get(in, "schema_app_key");
    assert_int_equal(record->has_app_key, !legacy && app_key && !yyjson_is_null(app_key));
    if (record->has_app_key)
        golden_equal(cal_slice_of(record->app_key.bytes, 32), in, "schema_app_key");
}

static void test_records(void **state) {
    fixture *f = *state;
    yyjson_doc *doc = golden_load("stream.json");
    yyjson_val *item;
    int count = 0;
    for (size_t i = 0; (item = golden_next(yyjson_doc_get_root(doc), "snapshot_record/", &i));
         count++) {
        cal_slice bytes = golden_hex(item, "hex");
        sync_record record;
        size_t offset = 0;
        cal_buffer_reset(&f->page);
        cal_buffer_append_u8(&f->page, SYNC_PAGE_MARKER);
        cal_buffer_append_u32le(&f->page, (uint32_t)bytes.len);
        cal_buffer_append_slice(&f->page, bytes);
        assert_int_equal(sync_record_next(cal_buffer_slice(&f->page), &offset, &record), 0);
        assert_int_equal(offset, f->page.len);
        expect_record(yyjson_obj_get(item, "inputs"), false, &record);
        cal_buffer_reset(&f->out);
        assert_int_equal(sync_record_write(&record, &f->out), 0);
        assert_true(cal_slice_equal(cal_buffer_slice(&f->out),
                                    cal_slice_of(f->page.data + 1, f->page.len - 1)));
        assert_int_equal(sync_record_next(cal_buffer_slice(&f->page), &offset, &record),
                         CAL_ENOTFOUND);
        /* cut, and with a byte more inside */
        for (size_t len = 2; len < f->page.len; len++) {
            offset = 0;
            assert_int_equal(sync_record_next(cal_slice_of(f->page.data, len), &offset, &record),
                             CAL_EDECODE);
            assert_int_equal(offset, 0);
        }
        cal_buffer_append_u8(&f->page, 0);
        cal_write_u32le(f->page.data + 1, (uint32_t)bytes.len + 1);
        offset = 0;
        assert_int_equal(sync_record_next(cal_buffer_slice(&f->page), &offset, &record),
                         CAL_EDECODE);
        golden_free(bytes);
    }
    assert_int_equal(count, 3);
    yyjson_doc_free(doc);
}

static void test_pages(void **state) {
    fixture *f = *state;
    yyjson_doc *doc = golden_load("stream.json");
    yyjson_val *item;
    int count = 0;
    for (size_t i = 0; (item = golden_next(yyjson_doc_get_root(doc), "snapshot_page/", &i));
         count++) {
        cal_slice payload = golden_hex(item, "payload");
        uint32_t len = (uint32_t)golden_u64(item, "uncompressed_len");
        yyjson_val *records = yyjson_obj_get(yyjson_obj_get(item, "inputs"), "records");
        sync_record record;
        size_t offset = 0, n = 0;
        cal_buffer_reset(&f->page);
        assert_int_equal(sync_page_expand(payload, len, &f->page), 0);
        golden_equal(cal_buffer_slice(&f->page), item, "uncompressed");
        while (sync_record_next(cal_buffer_slice(&f->page), &offset, &record) == 0)
            expect_record(yyjson_arr_get(records, n++), strstr(golden_name(item), "legacy") != NULL,
                          &record);
        assert_int_equal(n, yyjson_arr_size(records));
        assert_int_equal(offset, f->page.len);
        /* there and back */
        cal_buffer_reset(&f->out);
        assert_int_equal(sync_page_compress(cal_buffer_slice(&f->page), &f->out), 0);
        cal_buffer_reset(&f->page);
        assert_int_equal(sync_page_expand(cal_buffer_slice(&f->out), len, &f->page), 0);
        golden_equal(cal_buffer_slice(&f->page), item, "uncompressed");
        /* another length than the block has, or than the message says */
        cal_buffer_reset(&f->page);
        assert_int_equal(sync_page_expand(payload, len + 1, &f->page), CAL_EDECODE);
        assert_int_equal(sync_page_expand(payload, len - 1, &f->page), CAL_EDECODE);
        cal_write_u32le(f->out.data, len + 1);
        assert_int_equal(sync_page_expand(cal_buffer_slice(&f->out), len + 1, &f->page),
                         CAL_EDECODE);
        cal_write_u32le(f->out.data, len - 1);
        assert_int_equal(sync_page_expand(cal_buffer_slice(&f->out), len - 1, &f->page),
                         CAL_EDECODE);
        /* the right one in the message alone */
        assert_int_equal(sync_page_expand(cal_buffer_slice(&f->out), len, &f->page), CAL_EDECODE);
        cal_write_u32le(f->out.data, len + 1);
        assert_int_equal(sync_page_expand(cal_buffer_slice(&f->out), len, &f->page), CAL_EDECODE);
        assert_int_equal(f->page.len, 0);
        golden_free(payload);
    }
    assert_int_equal(count, 3);
    yyjson_doc_free(doc);
}

static void test_page_bounds(void **state) {
    fixture *f = *state;
    sync_record record;
    size_t offset = 0;
    uint8_t *zeros = calloc(1, SYNC_PAGE_MAX + 1);
    assert_non_null(zeros);
    assert_int_equal(sync_page_compress(cal_slice_of(zeros, SYNC_PAGE_MAX + 1), &f->out),
                     CAL_ELIMIT);
    assert_int_equal(sync_page_compress(cal_slice_of(zeros, SYNC_PAGE_MAX), &f->out), 0);
    assert_int_equal(sync_page_expand(cal_buffer_slice(&f->out), SYNC_PAGE_MAX, &f->page), 0);
    assert_int_equal(f->page.len, SYNC_PAGE_MAX);
    assert_int_equal(sync_page_expand(cal_buffer_slice(&f->out), SYNC_PAGE_MAX + 1, &f->page),
                     CAL_ELIMIT);
    /* an empty context, and pages that are none */
    cal_buffer_reset(&f->page);
    assert_int_equal(sync_page_expand((cal_slice){0}, 0, &f->page), 0);
    assert_int_equal(sync_page_expand((cal_slice){0}, 1, &f->page), CAL_EDECODE);
    assert_int_equal(sync_page_expand(cal_slice_of(zeros, 3), 0, &f->page), CAL_EDECODE);
    assert_int_equal(f->page.len, 0);
    assert_int_equal(sync_record_next((cal_slice){0}, &offset, &record), CAL_ENOTFOUND);
    uint8_t marker = SYNC_PAGE_MARKER;
    assert_int_equal(sync_record_next(cal_slice_of(&marker, 1), &offset, &record), CAL_ENOTFOUND);
    /* a page that does not compress still fits */
    uint32_t seed = 1;
    for (size_t i = 0; i < SYNC_PAGE_MAX; i++)
        zeros[i] = (uint8_t)((seed = seed * 1664525u + 1013904223u) >> 24);
    cal_buffer_reset(&f->out);
    assert_int_equal(sync_page_compress(cal_slice_of(zeros, SYNC_PAGE_MAX), &f->out), 0);
    assert_true(f->out.len > SYNC_PAGE_MAX && f->out.len <= SYNC_PAGE_PAYLOAD_MAX);
    assert_int_equal(sync_page_expand(cal_buffer_slice(&f->out), SYNC_PAGE_MAX, &f->page), 0);
    assert_memory_equal(f->page.data, zeros, SYNC_PAGE_MAX);
    free(zeros);
}

/* --- blobs --- */

static void test_blob_requests(void **state) {
    fixture *f = *state;
    const char *names[] = {"request_auth/a", "request_no_auth"};
    yyjson_doc *doc = golden_load("blobs.json");
    for (size_t i = 0; i < 2; i++) {
        yyjson_val *item = golden_find(yyjson_doc_get_root(doc), names[i]);
        yyjson_val *in = yyjson_obj_get(item, "inputs");
        cal_slice json = golden_hex(item, "hex");
        sync_blob_request request;
        assert_int_equal(sync_blob_request_decode(json, &request), 0);
        golden_equal(cal_slice_of(request.blob.bytes, 32), in, "blob_id");
        golden_equal(cal_slice_of(request.context.bytes, 32), in, "context_id");
        assert_int_equal(request.has_auth, i == 0);
        cal_buffer_reset(&f->out);
        assert_int_equal(sync_blob_request_write(&request, &f->out), 0);
        golden_equal(cal_buffer_slice(&f->out), item, "hex");
        if (request.has_auth) {
            cal_secret seed;
            uint8_t key[32], signature[64];
            golden_bytes(in, "signer_seed", seed.bytes, 32);
            cal_sign_public_key(&seed, key);
            assert_memory_equal(key, request.key.bytes, 32);
            assert_int_equal(request.timestamp_s, golden_u64(in, "timestamp"));
            cal_buffer_reset(&f->out);
            assert_int_equal(sync_blob_request_signable(&request, &f->out), 0);
            golden_equal(cal_buffer_slice(&f->out), item, "auth_payload");
            cal_sign(&seed, cal_buffer_slice(&f->out), signature);
            assert_memory_equal(signature, request.signature, 64);
            golden_equal(cal_slice_of(signature, 64), item, "signature");
        }
        golden_free(json);
    }
    yyjson_doc_free(doc);
}

#define BLOB "6k78AbasGMFFrhG95Pj6jQbqkVt7FQMhVgemxJovWKR6"
#define CONTEXT "11111111111111111111111111111111"

static void test_blob_requests_malformed(void **state) {
    (void)state;
    sync_blob_request request;
    const char *good[] = {
        "{\"blob_id\":\"" BLOB "\",\"context_id\":\"" CONTEXT "\"}",
        " { \"context_id\":\"" CONTEXT "\", \"blob_id\":\"" BLOB "\",\"auth\":null,\"more\":[1]}",
    };
    const char *bad[] = {
        "",
        "[]",
        "null",
        "{\"blob_id\":\"" BLOB "\"}",
        "{\"blob_id\":\"" BLOB "1\",\"context_id\":\"" CONTEXT "\"}",
        "{\"blob_id\":\"" BLOB "\\u0000\",\"context_id\":\"" CONTEXT "\"}",
        "{\"blob_id\":5,\"context_id\":\"" CONTEXT "\"}",
        "{\"blob_id\":\"" BLOB "\",\"context_id\":\"" CONTEXT "\"}x",
        "{\"blob_id\":\"" BLOB "\",\"context_id\":\"" CONTEXT "\",\"auth\":{}}",
        "{\"blob_id\":\"" BLOB "\",\"context_id\":\"" CONTEXT "\",\"auth\":{\"public_key\":\"" BLOB
        "\",\"signature\":[1,2],\"timestamp\":1}}",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(sync_blob_request_decode(cal_slice_text(good[i]), &request), 0);
        assert_false(request.has_auth);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (sync_blob_request_decode(cal_slice_text(bad[i]), &request) != CAL_EDECODE)
            fail_msg("%s", bad[i]);
    char *padded = calloc(1, 4098);
    assert_non_null(padded);
    memset(padded, ' ', 4097);
    memcpy(padded, good[0], strlen(good[0]));
    assert_int_equal(sync_blob_request_decode(cal_slice_of(padded, 4096), &request), 0);
    assert_int_equal(sync_blob_request_decode(cal_slice_of(padded, 4097), &request), CAL_ELIMIT);
    free(padded);
}

/* Numbers of a signature are bytes. */
static void test_blob_signature_numbers(void **state) {
    fixture *f = *state;
    sync_blob_request request = {.has_auth = true, .timestamp_s = 9};
    memset(request.signature, 255, 64);
    assert_int_equal(sync_blob_request_write(&request, &f->out), 0);
    assert_int_equal(sync_blob_request_decode(cal_buffer_slice(&f->out), &request), 0);
    char *number = strstr((char *)f->out.data, "255");
    number[2] = '6';
    assert_int_equal(sync_blob_request_decode(cal_buffer_slice(&f->out), &request), CAL_EDECODE);
    memcpy(number, "-25", 3);
    assert_int_equal(sync_blob_request_decode(cal_buffer_slice(&f->out), &request), CAL_EDECODE);
    memcpy(number, "2.5", 3);
    assert_int_equal(sync_blob_request_decode(cal_buffer_slice(&f->out), &request), CAL_EDECODE);
}

static void test_blob_responses(void **state) {
    fixture *f = *state;
    yyjson_doc *doc = golden_load("blobs.json");
    yyjson_val *item;
    int count = 0;
    sync_blob_response response;
    for (size_t i = 0; (item = golden_next(yyjson_doc_get_root(doc), "response/", &i)); count++) {
        yyjson_val *in = yyjson_obj_get(item, "inputs");
        cal_slice json = golden_hex(item, "hex");
        assert_int_equal(sync_blob_response_decode(json, &response), 0);
        assert_int_equal(response.found, yyjson_get_bool(yyjson_obj_get(in, "found")));
        assert_int_equal(response.has_size, !yyjson_is_null(yyjson_obj_get(in, "size")));
        assert_true(response.size == yyjson_get_uint(yyjson_obj_get(in, "size")));
        cal_buffer_reset(&f->out);
        assert_int_equal(sync_blob_response_write(&response, &f->out), 0);
        golden_equal(cal_buffer_slice(&f->out), item, "hex");
        golden_free(json);
    }
    assert_int_equal(count, 2);
    const char *bad[] = {"{}", "{\"found\":1}", "{\"found\":true,\"size\":-1}",
                         "{\"found\":true,\"size\":\"1\"}", "true"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(sync_blob_response_decode(cal_slice_text(bad[i]), &response), CAL_EDECODE);
    yyjson_doc_free(doc);
}

static void test_blob_chunks(void **state) {
    fixture *f = *state;
    yyjson_doc *doc = golden_load("blobs.json");
    yyjson_val *item;
    cal_slice chunk;
    for (size_t i = 0; (item = golden_next(yyjson_doc_get_root(doc), "chunk/", &i));) {
        cal_slice frame = golden_hex(item, "hex");
        assert_int_equal(sync_blob_chunk_decode(frame, &chunk), 0);
        golden_equal(chunk, yyjson_obj_get(item, "inputs"), "data");
        cal_buffer_reset(&f->out);
        assert_int_equal(sync_blob_chunk_write(chunk, &f->out), 0);
        golden_equal(cal_buffer_slice(&f->out), item, "hex");
        cal_buffer_append_u8(&f->out, 0);
        assert_int_equal(sync_blob_chunk_decode(cal_buffer_slice(&f->out), &chunk), CAL_EDECODE);
        golden_free(frame);
    }
    uint8_t *zeros = calloc(1, SYNC_BLOB_CHUNK_MAX + 5);
    assert_non_null(zeros);
    cal_buffer_reset(&f->out);
    assert_int_equal(sync_blob_chunk_write(cal_slice_of(zeros, SYNC_BLOB_CHUNK_MAX + 1), &f->out),
                     CAL_ELIMIT);
    cal_write_u32le(zeros, SYNC_BLOB_CHUNK_MAX + 1);
    assert_int_equal(sync_blob_chunk_decode(cal_slice_of(zeros, SYNC_BLOB_CHUNK_MAX + 5), &chunk),
                     CAL_ELIMIT);
    cal_write_u32le(zeros, SYNC_BLOB_CHUNK_MAX);
    assert_int_equal(sync_blob_chunk_decode(cal_slice_of(zeros, SYNC_BLOB_CHUNK_MAX + 4), &chunk),
                     0);
    free(zeros);
    yyjson_doc_free(doc);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_records, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_page_bounds, setup, teardown),
        cmocka_unit_test_setup_teardown(test_blob_requests, setup, teardown),
        cmocka_unit_test_setup_teardown(test_blob_requests_malformed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_blob_signature_numbers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_blob_responses, setup, teardown),
        cmocka_unit_test_setup_teardown(test_blob_chunks, setup, teardown),
    };
    cal_crypto_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
