/* The recorded cryptography of the reference (tests/vectors/crypto.json), and what it leaves open.
 */
#include "crypto/crypto.h"

#include <pthread.h>
#include <sodium.h>

#include "base/error.h"
#include "golden.h"

static void test_raw_keys(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("crypto.json");
    yyjson_val *item;
    size_t index = 0, seen = 0;
    while ((item = golden_next(yyjson_doc_get_root(doc), "from_sk/", &index))) {
        yyjson_val *in = yyjson_obj_get(item, "inputs");
        cal_secret key;
        uint8_t nonce[12], id[32];
        golden_bytes(in, "key", key.bytes, 32);
        golden_bytes(in, "nonce", nonce, 12);
        cal_slice plain = golden_hex(in, "plaintext");
        cal_buffer sealed, opened;
        cal_buffer_init(&sealed, 1 << 20);
        cal_buffer_init(&opened, 1 << 20);
        assert_int_equal(cal_seal(&key, nonce, (cal_slice){0}, plain, &sealed), 0);
        golden_equal(cal_buffer_slice(&sealed), item, "hex");
        assert_int_equal(cal_open(&key, nonce, (cal_slice){0}, cal_buffer_slice(&sealed), &opened),
                         0);
        assert_true(cal_slice_equal(cal_buffer_slice(&opened), plain));
        cal_sha256(cal_slice_of(key.bytes, 32), id);
        golden_equal(cal_slice_of(id, 32), item, "key_id");
        sealed.data[sealed.len - 1] ^= 1;
        size_t before = opened.len;
        assert_int_equal(cal_open(&key, nonce, (cal_slice){0}, cal_buffer_slice(&sealed), &opened),
                         CAL_EVERIFY);
        assert_int_equal(opened.len, before);
        cal_buffer_deinit(&sealed);
        cal_buffer_deinit(&opened);
        golden_free(plain);
        seen++;
    }
    assert_int_equal(seen, 4);
    yyjson_doc_free(doc);
}

static void check_agreement(yyjson_val *item, bool edwards) {
    yyjson_val *in = yyjson_obj_get(item, "inputs");
    cal_secret ours, theirs, key, mirrored;
    uint8_t our_pk[32], their_pk[32], nonce[12];
    golden_bytes(in, edwards ? "our_seed" : "our_secret", ours.bytes, 32);
    golden_bytes(in, edwards ? "their_seed" : "their_secret", theirs.bytes, 32);
    if (edwards) {
        cal_sign_public_key(&ours, our_pk);
        cal_sign_public_key(&theirs, their_pk);
    } else {
        cal_agree_public_key(&ours, our_pk);
        cal_agree_public_key(&theirs, their_pk);
    }
    golden_equal(cal_slice_of(our_pk, 32), in, "our_pk");
    golden_equal(cal_slice_of(their_pk, 32), in, "their_pk");
    int (*agree)(const cal_secret *, const uint8_t[32], cal_secret *) =
        edwards ? cal_agree_edwards : cal_agree_x25519;
    assert_int_equal(agree(&ours, their_pk, &key), 0);
    assert_int_equal(agree(&theirs, our_pk, &mirrored), 0);
    golden_equal(cal_slice_of(key.bytes, 32), item, "aead_key");
    assert_true(cal_equal_secret(&key, &mirrored, sizeof key));
    golden_bytes(in, "nonce", nonce, 12);
    cal_slice plain = golden_hex(in, "plaintext");
    cal_buffer sealed;
    cal_buffer_init(&sealed, 4096);
    assert_int_equal(cal_seal(&key, nonce, (cal_slice){0}, plain, &sealed), 0);
    golden_equal(cal_buffer_slice(&sealed), item, "hex");
    cal_buffer_deinit(&sealed);
    golden_free(plain);
}

static void test_agreements(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("crypto.json");
    yyjson_val *root = yyjson_doc_get_root(doc), *item;
    size_t seen = 0;
    for (size_t index = 0; (item = golden_next(root, "edwards_ecdh/", &index)); seen++)
        check_agreement(item, true);
    for (size_t index = 0; (item = golden_next(root, "x25519/", &index)); seen++)
        check_agreement(item, false);
    assert_int_equal(seen, 7);
    yyjson_doc_free(doc);
}

/* All that the reference refuses is refused; of what it accepts, we refuse the points no honest
 * peer sends (traps.md 3). */
static void check_point(yyjson_val *item, bool edwards) {
    yyjson_val *in = yyjson_obj_get(item, "inputs");
    cal_secret ours, key;
    uint8_t their_pk[32], nonce[12];
    golden_bytes(in, edwards ? "our_seed" : "our_secret", ours.bytes, 32);
    golden_bytes(in, "their_pk", their_pk, 32);
    golden_bytes(in, "nonce", nonce, 12);
    bool accepted = yyjson_get_bool(yyjson_obj_get(item, "accepted"));
    int result = edwards ? cal_agree_edwards(&ours, their_pk, &key)
                         : cal_agree_x25519(&ours, their_pk, &key);
    if (edwards && accepted) assert_non_null(strstr(golden_name(item), "noncanonical"));
    assert_int_equal(result, accepted && !edwards ? 0 : CAL_EVERIFY);
    if (result) return;
    cal_slice plain = golden_hex(in, "plaintext");
    cal_buffer sealed;
    cal_buffer_init(&sealed, 4096);
    assert_int_equal(cal_seal(&key, nonce, (cal_slice){0}, plain, &sealed), 0);
    golden_equal(cal_buffer_slice(&sealed), item, "hex");
    cal_buffer_deinit(&sealed);
    golden_free(plain);
}

static void test_odd_points(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("crypto.json");
    yyjson_val *root = yyjson_doc_get_root(doc), *item;
    size_t seen = 0;
    for (size_t index = 0; (item = golden_next(root, "edwards_ecdh_point/", &index)); seen++)
        check_point(item, true);
    for (size_t index = 0; (item = golden_next(root, "x25519_point/", &index)); seen++)
        check_point(item, false);
    assert_int_equal(seen, 14);
    yyjson_doc_free(doc);
}

static void test_signature_verdicts(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("crypto.json");
    yyjson_val *item;
    size_t index = 0, seen = 0, wrong = 0;
    while ((item = golden_next(yyjson_doc_get_root(doc), "ed25519/", &index))) {
        yyjson_val *in = yyjson_obj_get(item, "inputs");
        uint8_t key[32], signature[64];
        golden_bytes(in, "public_key", key, 32);
        golden_bytes(in, "signature", signature, 64);
        cal_slice message = golden_hex(in, "message");
        bool lax = cal_verify_lax(key, message, signature),
             strict = cal_verify_strict(key, message, signature);
        bool decodes = cal_public_key_decodes(key);
        if (lax != yyjson_get_bool(yyjson_obj_get(item, "verify")) ||
            strict != yyjson_get_bool(yyjson_obj_get(item, "verify_strict")) ||
            decodes != yyjson_get_bool(yyjson_obj_get(item, "key_decodes"))) {
            print_error("%s: lax %d strict %d decodes %d\n", golden_name(item), lax, strict,
                        decodes);
            wrong++;
        }
        golden_free(message);
        seen++;
    }
    assert_int_equal(wrong, 0);
    assert_int_equal(seen, 32);
    yyjson_doc_free(doc);
}

static void test_small_order(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("crypto.json");
    yyjson_val *item;
    size_t index = 0, seen = 0;
    while ((item = golden_next(yyjson_doc_get_root(doc), "edwards_ecdh_point/torsion_", &index))) {
        uint8_t key[32];
        golden_bytes(yyjson_obj_get(item, "inputs"), "their_pk", key, 32);
        assert_true(cal_public_key_small_order(key));
        seen++;
    }
    assert_true(seen > 0);
    cal_secret seed = {{7}};
    uint8_t public_key[32], nowhere[32] = {2};
    cal_sign_public_key(&seed, public_key);
    assert_false(cal_public_key_small_order(public_key));
    assert_false(cal_public_key_small_order(nowhere));
    yyjson_doc_free(doc);
}

static void test_sign(void **state) {
    (void)state;
    cal_secret seed;
    memset(seed.bytes, 5, 32);
    uint8_t public_key[32], signature[64];
    cal_slice message = cal_slice_text("a message");
    cal_sign_public_key(&seed, public_key);
    cal_sign(&seed, message, signature);
    assert_true(cal_verify_strict(public_key, message, signature));
    assert_true(cal_verify_lax(public_key, message, signature));
    signature[40] ^= 1;
    assert_false(cal_verify_strict(public_key, message, signature));
    assert_false(cal_verify_lax(public_key, message, signature));
    cal_sign(&seed, (cal_slice){0}, signature);
    assert_true(cal_verify_lax(public_key, (cal_slice){0}, signature));
    assert_true(cal_verify_strict(public_key, (cal_slice){0}, signature));
}

static void expect_hex(const uint8_t *bytes, size_t len, const char *hex) {
    char text[129];
    assert_true(len * 2 < sizeof text);
    for (size_t i = 0; i < len; i++) snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    assert_string_equal(text, hex);
}

static void test_hashes(void **state) {
    (void)state;
    uint8_t hash[32], parts_hash[32];
    cal_sha256((cal_slice){0}, hash);
    expect_hex(hash, 32, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    cal_sha256(cal_slice_text("abc"), hash);
    expect_hex(hash, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    cal_slice parts[] = {cal_slice_text("a"), {0}, cal_slice_text("bc")};
    cal_sha256_parts(parts, 3, parts_hash);
    assert_memory_equal(hash, parts_hash, 32);
    cal_sha256_stream stream;
    assert_int_equal(cal_sha256_begin(&stream), 0);
    cal_sha256_feed(&stream, parts[0]);
    cal_sha256(cal_slice_text("another hash between"), hash);
    cal_sha256_feed(&stream, parts[2]);
    cal_sha256_end(&stream, hash);
    assert_memory_equal(hash, parts_hash, 32);
    cal_sha256_end(&stream, NULL);
    cal_blake3((cal_slice){0}, hash);
    expect_hex(hash, 32, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
    cal_sha1(cal_slice_text("abc"), hash);
    expect_hex(hash, 20, "a9993e364706816aba3e25717850c26c9cd0d89d");
}

static void test_domain_hash(void **state) {
    (void)state;
    yyjson_doc *doc = golden_load("account.json");
    yyjson_val *item;
    size_t index = 0, seen = 0;
    while ((item = golden_next(yyjson_doc_get_root(doc), "domain_hash/", &index))) {
        yyjson_val *in = yyjson_obj_get(item, "inputs"), *list = yyjson_obj_get(in, "parts");
        cal_slice parts[16];
        size_t count = yyjson_arr_size(list);
        assert_true(count <= 16);
        for (size_t i = 0; i < count; i++) parts[i] = golden_hex_value(yyjson_arr_get(list, i));
        uint8_t hash[32];
        char domain[128] = {0};
        cal_slice domain_bytes = golden_hex(in, "domain");
        assert_true(domain_bytes.len < sizeof domain);
        memcpy(domain, domain_bytes.data, domain_bytes.len);
        cal_domain_hash(domain, parts, count, hash);
        golden_equal(cal_slice_of(hash, 32), item, "hash");
        golden_free(domain_bytes);
        for (size_t i = 0; i < count; i++) golden_free(parts[i]);
        seen++;
    }
    assert_true(seen > 0);
    yyjson_doc_free(doc);
}

/* RFC 5869, test case 1, first 32 bytes. */
static void test_hkdf(void **state) {
    (void)state;
    uint8_t ikm[22], salt[13];
    memset(ikm, 0x0b, sizeof ikm);
    for (uint8_t i = 0; i < 13; i++) salt[i] = i;
    cal_secret key;
    cal_hkdf(cal_slice_of(ikm, 22), cal_slice_of(salt, 13),
             "\xf0\xf1\xf2\xf3\xf4\xf5\xf6\xf7\xf8\xf9", &key);
    expect_hex(key.bytes, 32, "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf");
}

static void test_passphrase(void **state) {
    (void)state;
    uint8_t salt[CAL_SALT_SIZE] = {1};
    cal_secret a, b;
    assert_int_equal(cal_kdf_passphrase(cal_slice_text("one"), salt, 1, 8, &a), 0);
    assert_int_equal(cal_kdf_passphrase(cal_slice_text("one"), salt, 1, 8, &b), 0);
    assert_true(cal_equal_secret(&a, &b, sizeof a));
    assert_int_equal(cal_kdf_passphrase(cal_slice_text("two"), salt, 1, 8, &b), 0);
    assert_false(cal_equal_secret(&a, &b, sizeof a));
    cal_secret_wipe(&a);
    uint8_t zero[32] = {0};
    assert_memory_equal(a.bytes, zero, 32);
}

static void test_seal_bounds(void **state) {
    (void)state;
    cal_secret key = {{1}};
    uint8_t nonce[12] = {0}, bytes[16] = {0};
    cal_buffer out;
    cal_buffer_init(&out, 20);
    assert_int_equal(cal_open(&key, nonce, (cal_slice){0}, cal_slice_of(bytes, 15), &out),
                     CAL_EVERIFY);
    assert_int_equal(cal_seal(&key, nonce, (cal_slice){0}, cal_slice_of(bytes, 5), &out),
                     CAL_ELIMIT);
    cal_buffer_reset(&out);
    assert_int_equal(cal_seal(&key, nonce, cal_slice_text("aad"), cal_slice_of(bytes, 4), &out), 0);
    cal_buffer plain;
    cal_buffer_init(&plain, 20);
    assert_int_equal(cal_open(&key, nonce, cal_slice_text("abd"), cal_buffer_slice(&out), &plain),
                     CAL_EVERIFY);
    assert_int_equal(cal_open(&key, nonce, cal_slice_text("aad"), cal_buffer_slice(&out), &plain),
                     0);
    assert_int_equal(plain.len, 4);
    cal_buffer_deinit(&out);
    cal_buffer_deinit(&plain);
}

/* The channel's cipher against libsodium's, which takes the nonce as it is: four zero bytes, then
 * the counter in little endian. */
static void test_channel(void **state) {
    (void)state;
    static const uint64_t counters[] = {0, 1, 0x0102030405060708, UINT64_MAX};
    static const uint8_t plain[] = "thirty-three bytes of plain text.", aad[] = "beside";
    enum { LEN = sizeof plain - 1, SEALED = LEN + CAL_AEAD_TAG_SIZE };
    cal_secret key;
    memset(key.bytes, 7, sizeof key.bytes);
    cal_chacha sealing, opening;
    assert_int_equal(cal_chacha_init(&sealing, &key, true), 0);
    assert_int_equal(cal_chacha_init(&opening, &key, false), 0);
    for (size_t i = 0; i < sizeof counters / sizeof *counters; i++)
        for (size_t aad_len = 0; aad_len < sizeof aad; aad_len++) {
            uint8_t nonce[12] = {0}, sealed[SEALED], expected[SEALED], opened[LEN];
            cal_slice beside = cal_slice_of(aad, aad_len), whole = cal_slice_of(sealed, SEALED);
            cal_write_u64le(nonce + 4, counters[i]);
            crypto_aead_chacha20poly1305_ietf_encrypt(expected, NULL, plain, LEN, aad, aad_len,
                                                      NULL, nonce, key.bytes);
            assert_int_equal(
                cal_chacha_seal(&sealing, counters[i], beside, cal_slice_of(plain, LEN), sealed),
                0);
            assert_memory_equal(sealed, expected, SEALED);
            assert_int_equal(cal_chacha_open(&opening, counters[i], beside, whole, opened), 0);
            assert_memory_equal(opened, plain, LEN);
            /* Another counter, another thing beside it, any bit: not authentic, and nothing of it
             * is given out. */
            assert_int_equal(cal_chacha_open(&opening, counters[i] + 1, beside, whole, opened),
                             CAL_EVERIFY);
            for (size_t k = 0; k < LEN; k++) assert_int_equal(opened[k], 0);
            cal_slice other = cal_slice_of("other", aad_len ? 0 : 5);
            assert_int_equal(cal_chacha_open(&opening, counters[i], other, whole, opened),
                             CAL_EVERIFY);
            for (size_t at = 0; at < SEALED; at++) {
                sealed[at] ^= 1;
                assert_int_equal(cal_chacha_open(&opening, counters[i], beside, whole, opened),
                                 CAL_EVERIFY);
                sealed[at] ^= 1;
            }
        }
    uint8_t tag[CAL_AEAD_TAG_SIZE], none;
    assert_int_equal(cal_chacha_seal(&sealing, 5, (cal_slice){0}, (cal_slice){0}, tag), 0);
    assert_int_equal(
        cal_chacha_open(&opening, 5, (cal_slice){0}, cal_slice_of(tag, sizeof tag), &none), 0);
    for (size_t len = 0; len < sizeof tag; len++)
        assert_int_equal(
            cal_chacha_open(&opening, 5, (cal_slice){0}, cal_slice_of(tag, len), &none),
            CAL_EVERIFY);
    cal_chacha_deinit(&sealing);
    cal_chacha_deinit(&opening);
}

static void *hash_on_thread(void *user) {
    uint8_t *hash = user;
    for (int i = 0; i < 100; i++) cal_sha256(cal_slice_of(hash, 32), hash);
    return NULL;
}

static void test_threads(void **state) {
    (void)state;
    pthread_t threads[4];
    uint8_t hashes[4][32] = {{0}};
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hash_on_thread, hashes[i]), 0);
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (int i = 1; i < 4; i++) assert_memory_equal(hashes[0], hashes[i], 32);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hashes),      cmocka_unit_test(test_domain_hash),
        cmocka_unit_test(test_raw_keys),    cmocka_unit_test(test_agreements),
        cmocka_unit_test(test_odd_points),  cmocka_unit_test(test_signature_verdicts),
        cmocka_unit_test(test_small_order), cmocka_unit_test(test_sign),
        cmocka_unit_test(test_hkdf),        cmocka_unit_test(test_passphrase),
        cmocka_unit_test(test_seal_bounds), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_channel),
    };
    if (cal_crypto_init()) return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
