/* The JSON of invitations: what reads writes a form that reads to the same. */
#include <stdlib.h>

#include "gov/invitation.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    gov_invitation invitation, again;
    cal_error err;
    if (gov_invitation_read_json(cal_slice_of(data, size), &invitation, &err)) return 0;
    cal_buffer text, once, twice;
    cal_buffer_init(&text, GOV_INVITATION_JSON_MAX);
    cal_buffer_init(&once, 4096);
    cal_buffer_init(&twice, 4096);
    if (gov_invitation_write_json(&invitation, &text)) abort();
    if (gov_invitation_read_json(cal_buffer_slice(&text), &again, &err)) abort();
    invitation.signature = again.signature; /* the case of its digits may differ */
    gov_invitation_write(&invitation, &once);
    gov_invitation_write(&again, &twice);
    if (!cal_slice_equal(cal_buffer_slice(&once), cal_buffer_slice(&twice))) abort();
    gov_invitation_verify(&again, NULL);
    cal_buffer_deinit(&text);
    cal_buffer_deinit(&once);
    cal_buffer_deinit(&twice);
    return 0;
}
