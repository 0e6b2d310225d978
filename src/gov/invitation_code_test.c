/* Invitations in one line (invitation_code.h): both ways to JSON, and every fault in words. */
#include <ctype.h>

#include "golden.h"
#include "gov/invitation_code.h"

static void make(gov_invitation_code *code) {
    cal_secret inviter = {{1}};
    memset(code, 0, sizeof *code);
    gov_invitation *invitation = &code->invitation;
    memset(invitation->group.bytes, 0xAA, 32);
    memset(invitation->nonce, 0x33, 32);
    invitation->expires_at_s = 1900000000;
    invitation->role = 1;
    invitation->has_inviter_account = invitation->has_application = true;
    invitation->has_app_key = true;
    memset(invitation->inviter_account.bytes, 0x44, 32);
    memset(invitation->application.bytes, 0x55, 32);
    memset(invitation->app_key.bytes, 0x66, 32);
    gov_invitation_sign(invitation, &inviter);
    invitation->signature = cal_slice_text(invitation->signature_text);
    strcpy(code->name, "café");
    static const uint8_t ip4[] = {4, 192, 168, 1, 7, 6, 9, 0x7c}, dns[] = {53, 1, 'a', 6, 0, 80};
    code->address_count = 2;
    code->addresses[0].len = sizeof ip4;
    memcpy(code->addresses[0].bytes, ip4, sizeof ip4);
    code->addresses[1].len = sizeof dns;
    memcpy(code->addresses[1].bytes, dns, sizeof dns);
}

static void same(const gov_invitation_code *a, const gov_invitation_code *b) {
    cal_buffer x, y;
    cal_buffer_init(&x, 4096);
    cal_buffer_init(&y, 4096);
    assert_int_equal(gov_invitation_write(&a->invitation, &x), 0);
    assert_int_equal(gov_invitation_write(&b->invitation, &y), 0);
    assert_true(cal_slice_equal(cal_buffer_slice(&x), cal_buffer_slice(&y)));
    assert_string_equal(a->name, b->name);
    assert_int_equal(a->address_count, b->address_count);
    for (size_t i = 0; i < a->address_count; i++) {
        assert_int_equal(a->addresses[i].len, b->addresses[i].len);
        assert_memory_equal(a->addresses[i].bytes, b->addresses[i].bytes, a->addresses[i].len);
    }
    cal_buffer_deinit(&x);
    cal_buffer_deinit(&y);
}

static gov_invitation_code code, again;
static cal_buffer text;
static cal_error err;

static int setup(void **state) {
    (void)state;
    make(&code);
    cal_buffer_init(&text, GOV_CODE_INPUT_MAX);
    return gov_invitation_code_write(&code, &text, &err);
}
static int teardown(void **state) {
    (void)state;
    cal_buffer_deinit(&text);
    return 0;
}

static void refused(cal_slice what, int result, const char *words) {
    err.message[0] = 0;
    assert_int_equal(gov_invitation_code_read(what, &again, &err), result);
    if (!strstr(err.message, words)) fail_msg("%s", err.message);
}

static void test_round_trip(void **state) {
    (void)state;
    assert_memory_equal(text.data, "calimero1", 9);
    for (size_t i = 0; i < text.len; i++)
        assert_true(islower(text.data[i]) || isdigit(text.data[i]));
    assert_true(text.len < 600);
    assert_int_equal(gov_invitation_code_read(cal_buffer_slice(&text), &again, &err), 0);
    same(&code, &again);
    assert_true(gov_invitation_verify(&again.invitation, NULL));
    /* the least there can be, and the most */
    code.name[0] = 0;
    code.address_count = 0;
    code.invitation.has_inviter_account = code.invitation.has_application = false;
    code.invitation.has_app_key = false;
    cal_buffer_reset(&text);
    assert_int_equal(gov_invitation_code_write(&code, &text, &err), 0);
    assert_int_equal(gov_invitation_code_read(cal_buffer_slice(&text), &again, &err), 0);
    same(&code, &again);
    make(&code);
    memset(code.name, 'n', GOV_CODE_NAME_MAX);
    code.address_count = GOV_CODE_ADDRESSES_MAX;
    for (size_t i = 0; i < GOV_CODE_ADDRESSES_MAX; i++) {
        code.addresses[i].len = CAL_MULTIADDR_MAX;
        memset(code.addresses[i].bytes, (int)i, CAL_MULTIADDR_MAX);
    }
    cal_buffer_reset(&text);
    assert_int_equal(gov_invitation_code_write(&code, &text, &err), 0);
    assert_int_equal(text.len, GOV_CODE_TEXT_MAX - 1);
    assert_int_equal(gov_invitation_code_read(cal_buffer_slice(&text), &again, &err), 0);
    same(&code, &again);
}

static void test_json_both_ways(void **state) {
    (void)state;
    cal_buffer json, once;
    cal_buffer_init(&json, GOV_INVITATION_JSON_MAX);
    cal_buffer_init(&once, GOV_CODE_INPUT_MAX);
    assert_int_equal(gov_invitation_code_read_any(cal_buffer_slice(&text), &again, &err), 0);
    assert_int_equal(gov_invitation_write_json(&again.invitation, &json), 0);
    assert_int_equal(gov_invitation_code_read_any(cal_buffer_slice(&json), &again, &err), 0);
    assert_int_equal(again.address_count, 0);
    strcpy(again.name, code.name);
    again.address_count = code.address_count;
    memcpy(again.addresses, code.addresses, sizeof code.addresses);
    assert_int_equal(gov_invitation_code_write(&again, &once, &err), 0);
    assert_true(cal_slice_equal(cal_buffer_slice(&once), cal_buffer_slice(&text)));
    cal_buffer_deinit(&json);
    cal_buffer_deinit(&once);
}

/* As mail programs and people treat it. */
static void test_survives_copying(void **state) {
    (void)state;
    cal_buffer wrapped;
    cal_buffer_init(&wrapped, GOV_CODE_INPUT_MAX);
    cal_buffer_append_text(&wrapped, "  ");
    for (size_t i = 0; i < text.len; i++) {
        cal_buffer_append_u8(&wrapped, (uint8_t)toupper(text.data[i]));
        if (i % 64 == 63) cal_buffer_append_text(&wrapped, "\r\n ");
    }
    cal_buffer_append_text(&wrapped, "\n");
    assert_true(gov_invitation_code_is(cal_buffer_slice(&wrapped)));
    assert_int_equal(gov_invitation_code_read_any(cal_buffer_slice(&wrapped), &again, &err), 0);
    same(&code, &again);
    cal_buffer_deinit(&wrapped);
}

static void test_faults(void **state) {
    (void)state;
    cal_slice all = cal_buffer_slice(&text);
    refused(cal_slice_text(""), CAL_EDECODE, "no invitation code");
    refused(cal_slice_text("calimera1qq"), CAL_EDECODE, "no invitation code");
    refused(cal_slice_text("calimero"), CAL_EDECODE, "no invitation code");
    refused(cal_slice_text("calimero2qq"), CAL_EVERSION, "version 2");
    refused(cal_slice_text("calimero1"), CAL_EDECODE, "too early");
    refused(cal_slice_text("calimero1qqqb"), CAL_EDECODE, "\"b\"");
    refused(cal_slice_text("calimero1qqq\xc3\xa9"), CAL_EDECODE, "copy it again");
    assert_false(gov_invitation_code_is(cal_slice_text("{}")));
    for (size_t len = 9; len < all.len; len++) { /* cut off anywhere */
        assert_int_equal(gov_invitation_code_read(cal_slice_of(all.data, len), &again, &err),
                         CAL_EDECODE);
    }
    for (size_t at = 9; at < all.len; at++) { /* one character wrong, missing, twice, swapped */
        uint8_t copy[1024], kept = text.data[at];
        text.data[at] = kept == 'q' ? 'p' : 'q';
        assert_int_equal(gov_invitation_code_read(all, &again, &err), CAL_EDECODE);
        text.data[at] = kept;
        memcpy(copy, all.data, at);
        memcpy(copy + at, all.data + at + 1, all.len - at - 1);
        assert_int_equal(gov_invitation_code_read(cal_slice_of(copy, all.len - 1), &again, &err),
                         CAL_EDECODE);
        memcpy(copy, all.data, at + 1);
        memcpy(copy + at + 1, all.data + at, all.len - at);
        assert_int_equal(gov_invitation_code_read(cal_slice_of(copy, all.len + 1), &again, &err),
                         CAL_EDECODE);
    }
    text.data[20] = text.data[20] == 'q' ? 'p' : 'q';
    refused(all, CAL_EDECODE, "wrong or missing");
    static uint8_t longer[GOV_CODE_INPUT_MAX + 1];
    memset(longer, 'q', sizeof longer);
    memcpy(longer, "calimero1", 9);
    refused(cal_slice_of(longer, sizeof longer), CAL_EDECODE, "longer than any");
    refused(cal_slice_of(longer, sizeof longer - 1), CAL_EDECODE, "longer than any");
}

static void test_what_is_not_written(void **state) {
    (void)state;
    cal_buffer out;
    cal_buffer_init(&out, GOV_CODE_INPUT_MAX);
    code.address_count = GOV_CODE_ADDRESSES_MAX + 1;
    assert_int_equal(gov_invitation_code_write(&code, &out, &err), CAL_EINVAL);
    make(&code);
    code.addresses[1].len = 0;
    assert_int_equal(gov_invitation_code_write(&code, &out, &err), CAL_EINVAL);
    make(&code);
    strcpy(code.name, "\xff");
    assert_int_equal(gov_invitation_code_write(&code, &out, &err), CAL_EINVAL);
    make(&code);
    code.invitation.signature = cal_slice_text("none");
    assert_int_equal(gov_invitation_code_write(&code, &out, &err), CAL_EINVAL);
    assert_int_equal(out.len, 0);
    cal_buffer_deinit(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(test_json_both_ways, setup, teardown),
        cmocka_unit_test_setup_teardown(test_survives_copying, setup, teardown),
        cmocka_unit_test_setup_teardown(test_faults, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_not_written, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
