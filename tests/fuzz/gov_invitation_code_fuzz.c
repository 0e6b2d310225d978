/* Invitations in one line: what reads writes the same text again, but for case and white space. */
#include <stdlib.h>

#include "gov/invitation_code.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static gov_invitation_code code;
    cal_error err = {.code = 0};
    cal_buffer text;
    if (gov_invitation_code_read(cal_slice_of(data, size), &code, &err)) {
        if (!err.message[0]) abort();
        return 0;
    }
    cal_buffer_init(&text, GOV_CODE_TEXT_MAX);
    if (gov_invitation_code_write(&code, &text, &err)) abort();
    size_t at = 0;
    for (size_t i = 0; i < size; i++) {
        uint8_t c = data[i];
        if (c == ' ' || c == '\t' || c == '\r' || c == '\n') continue;
        if (c >= 'A' && c <= 'Z') c = (uint8_t)(c - 'A' + 'a');
        if (at >= text.len || text.data[at++] != c) abort();
    }
    if (at != text.len) abort();
    gov_invitation_verify(&code.invitation, NULL);
    cal_buffer_deinit(&text);
    return 0;
}
