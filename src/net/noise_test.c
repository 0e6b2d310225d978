/* Noise: the public vector of the handshake, the channel in any split, forged and hostile peers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "calimero/error.h"
#include "codec/text.h"
#include "net/identity.h"
#include "net/noise.h"
#include "net/noise_vector.h"

static size_t from_hex(const char *hex, uint8_t *ret_bytes) {
    size_t len = strlen(hex) / 2;
    assert_int_equal(cal_hex_decode(cal_slice_text(hex), ret_bytes, len), 0);
    return len;
}

static void init_end(noise_xx *xx, bool initiator) {
    cal_secret own, ephemeral;
    uint8_t prologue[64], own_public[32];
    from_hex(initiator ? vector_init_static : vector_resp_static, own.bytes);
    from_hex(initiator ? vector_init_ephemeral : vector_resp_ephemeral, ephemeral.bytes);
    size_t len = from_hex(vector_init_prologue, prologue);
    cal_agree_public_key(&own, own_public);
    noise_xx_init(xx, initiator, &own, own_public, &ephemeral, cal_slice_of(prologue, len));
}

static void test_vector(void **state) {
    (void)state;
    noise_xx ends[2]; /* the initiator, the responder */
    init_end(&ends[0], true);
    init_end(&ends[1], false);
    cal_buffer out, in;
    cal_buffer_init(&out, 4096);
    cal_buffer_init(&in, 4096);
    uint8_t payload[256], message[256];
    for (size_t i = 0; i < NOISE_STEPS; i++) {
        size_t payload_len = from_hex(vector_messages[i].payload, payload);
        size_t message_len = from_hex(vector_messages[i].message, message);
        noise_xx *writer = &ends[i % 2], *reader = &ends[1 - i % 2];
        cal_buffer_reset(&out);
        cal_buffer_reset(&in);
        assert_true(noise_xx_writes(writer) && !noise_xx_writes(reader));
        assert_int_equal(noise_xx_write(writer, cal_slice_of(payload, payload_len), &out), 0);
        assert_int_equal(out.len, message_len);
        assert_memory_equal(out.data, message, message_len);
        assert_int_equal(noise_xx_read(reader, cal_buffer_slice(&out), &in), 0);
        assert_int_equal(in.len, payload_len);
        assert_memory_equal(in.data, payload, payload_len);
    }
    cal_secret send[2], receive[2];
    for (int i = 0; i < 2; i++) noise_xx_split(&ends[i], &send[i], &receive[i]);
    assert_memory_equal(&send[0], &receive[1], sizeof send[0]);
    uint64_t counters[2] = {0};
    for (size_t i = NOISE_STEPS; i < sizeof vector_messages / sizeof *vector_messages; i++) {
        size_t end = i % 2;
        size_t payload_len = from_hex(vector_messages[i].payload, payload);
        size_t message_len = from_hex(vector_messages[i].message, message);
        uint8_t sealed[256];
        cal_chacha cipher;
        assert_int_equal(cal_chacha_init(&cipher, &send[end], true), 0);
        assert_int_equal(cal_chacha_seal(&cipher, counters[end]++, (cal_slice){0},
                                         cal_slice_of(payload, payload_len), sealed),
                         0);
        cal_chacha_deinit(&cipher);
        assert_int_equal(message_len, payload_len + CAL_AEAD_TAG_SIZE);
        assert_memory_equal(sealed, message, message_len);
    }
    cal_buffer_deinit(&out);
    cal_buffer_deinit(&in);
}

/* --- two channels --- */

typedef struct end {
    noise_identity identity;
    noise channel;
    cal_buffer out, plain;
    cal_peer_id id;
} end;

static void end_start(end *e, uint8_t name, bool initiator) {
    cal_secret seed = {{name}};
    uint8_t public_key[32];
    memset(e, 0, sizeof *e);
    assert_int_equal(noise_identity_init(&e->identity, &seed, cal_os_posix()), 0);
    cal_sign_public_key(&seed, public_key);
    cal_peer_id_of_key(public_key, &e->id);
    cal_buffer_init(&e->out, 1 << 20);
    cal_buffer_init(&e->plain, 1 << 20);
    assert_int_equal(noise_init(&e->channel, &e->identity, initiator, cal_os_posix(), &e->out), 0);
}

static void end_stop(end *e) {
    noise_deinit(&e->channel);
    cal_buffer_deinit(&e->out);
    cal_buffer_deinit(&e->plain);
}

/* Carries what `from` said to `to`, in pieces of `split` bytes. */
static int carry(end *from, end *to, size_t split) {
    int result = 0;
    for (size_t at = 0; at < from->out.len && !result;) {
        size_t part = from->out.len - at < split ? from->out.len - at : split, used = 0;
        for (size_t done = 0; done < part && !result; done += used)
            result = noise_feed(&to->channel, from->out.data + at + done, part - done, &to->out,
                                &to->plain, &used);
        at += part;
    }
    cal_buffer_reset(&from->out);
    return result;
}

static void shake_hands(end *a, end *b, size_t split) {
    assert_int_equal(carry(a, b, split), 0);
    assert_int_equal(carry(b, a, split), 0);
    assert_int_equal(carry(a, b, split), 0);
    assert_int_equal(a->channel.state, NOISE_OPEN);
    assert_int_equal(b->channel.state, NOISE_OPEN);
}

static void test_any_split(void **state) {
    (void)state;
    static const size_t splits[] = {1, 2, 3, 31, 100, 65536};
    static uint8_t data[200000];
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i * 7);
    for (size_t i = 0; i < sizeof splits / sizeof *splits; i++) {
        end a, b;
        end_start(&a, 1, true);
        end_start(&b, 2, false);
        shake_hands(&a, &b, splits[i]);
        assert_true(cal_peer_id_equal(&a.channel.peer, &b.id));
        assert_true(cal_peer_id_equal(&b.channel.peer, &a.id));
        assert_int_equal(noise_seal(&a.channel, cal_slice_of(data, sizeof data), &a.out), 0);
        assert_int_equal(carry(&a, &b, splits[i]), 0);
        assert_int_equal(b.plain.len, sizeof data);
        assert_memory_equal(b.plain.data, data, sizeof data);
        assert_int_equal(b.channel.partial.capacity, 0); /* idle: no buffer */
        end_stop(&a);
        end_stop(&b);
    }
}

static void test_forged_and_replayed_messages(void **state) {
    (void)state;
    end a, b;
    end_start(&a, 1, true);
    end_start(&b, 2, false);
    shake_hands(&a, &b, 65536);
    assert_int_equal(noise_seal(&a.channel, cal_slice_text("once"), &a.out), 0);
    uint8_t copy[64];
    size_t len = a.out.len, used;
    memcpy(copy, a.out.data, len);
    assert_int_equal(carry(&a, &b, 65536), 0);
    assert_int_equal(noise_feed(&b.channel, copy, len, &b.out, &b.plain, &used), CAL_EVERIFY);
    assert_int_equal(b.channel.state, NOISE_FAILED);
    assert_int_equal(b.plain.len, 4);
    end_stop(&a);
    end_stop(&b);
}

/* A handshake recorded earlier opens nothing: the responder's ephemeral key is new. */
static void test_replayed_handshake(void **state) {
    (void)state;
    end a, b, c;
    uint8_t first[256], third[512];
    end_start(&a, 1, true);
    end_start(&b, 2, false);
    size_t first_len = a.out.len, used;
    memcpy(first, a.out.data, first_len);
    assert_int_equal(carry(&a, &b, 65536), 0);
    assert_int_equal(carry(&b, &a, 65536), 0);
    size_t third_len = a.out.len;
    memcpy(third, a.out.data, third_len);
    end_start(&c, 2, false);
    assert_int_equal(noise_feed(&c.channel, first, first_len, &c.out, &c.plain, &used), 0);
    assert_int_equal(noise_feed(&c.channel, third, third_len, &c.out, &c.plain, &used),
                     CAL_EVERIFY);
    end_stop(&a);
    end_stop(&b);
    end_stop(&c);
}

/* A payload signed for another static key, unsigned, or with a key that is no key. */
static void test_wrong_signatures(void **state) {
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        end a, b, other;
        end_start(&other, 3, true);
        end_start(&a, 1, true);
        end_start(&b, 2, false);
        int expected = CAL_EVERIFY;
        if (kind == 0) { /* another's payload over our static key */
            memcpy(a.identity.payload, other.identity.payload, other.identity.payload_len);
        } else if (kind == 1) { /* one bit of the signature */
            a.identity.payload[a.identity.payload_len - 1] ^= 1;
        } else if (kind == 2) { /* the key alone */
            a.identity.payload_len = 2 + NET_KEY_SIZE;
        } else {
            a.identity.payload_len = 0;
            expected = CAL_EDECODE;
        }
        assert_int_equal(carry(&a, &b, 65536), 0);
        assert_int_equal(carry(&b, &a, 65536), 0);
        assert_int_equal(carry(&a, &b, 65536), expected);
        assert_int_equal(b.channel.peer.len, 0); /* nobody */
        end_stop(&a);
        end_stop(&b);
        end_stop(&other);
    }
}

static void test_hostile_lengths(void **state) {
    (void)state;
    static const uint8_t zero[2] = {0, 0}, huge[2] = {0xff, 0xff};
    static const uint8_t points[2 + 32] = {0, 32}; /* an ephemeral key of zeroes */
    size_t used;
    end b;
    end_start(&b, 2, false);
    assert_int_equal(noise_feed(&b.channel, zero, 2, &b.out, &b.plain, &used), CAL_EDECODE);
    end_stop(&b);
    end_start(&b, 2, false);
    assert_int_equal(noise_feed(&b.channel, huge, 2, &b.out, &b.plain, &used), CAL_ELIMIT);
    end_stop(&b);
    end_start(&b, 2, false);
    assert_int_equal(noise_feed(&b.channel, points, sizeof points, &b.out, &b.plain, &used),
                     CAL_EVERIFY);
    end_stop(&b);
    end a;
    end_start(&a, 1, true);
    end_start(&b, 2, false);
    shake_hands(&a, &b, 65536);
    assert_int_equal(noise_feed(&b.channel, zero, 2, &b.out, &b.plain, &used), CAL_EDECODE);
    end_stop(&a);
    end_stop(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vector),
        cmocka_unit_test(test_any_split),
        cmocka_unit_test(test_forged_and_replayed_messages),
        cmocka_unit_test(test_replayed_handshake),
        cmocka_unit_test(test_wrong_signatures),
        cmocka_unit_test(test_hostile_lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
