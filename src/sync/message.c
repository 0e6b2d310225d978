/* The envelope of every message on a sync stream (network-sync.md 2, StreamMessage). */
#include <assert.h>

#include "net/messages.h"
#include "sync/field.h"

static const sync_field head_fields[] = {
    FIELD(sync_init, FIELD_ID, context, 0),
    FIELD(sync_init, FIELD_ID, party, 0),
    {FIELD_END, 0, 0, false, 0},
};
static const sync_field tail_fields[] = {
    FIELD(sync_init, FIELD_NONCE, next_nonce, 0),
    FIELD_OPTION(sync_init, FIELD_SIGNATURE, proof, 0, has_proof),
    {FIELD_END, 0, 0, false, 0},
};

int sync_message_decode(cal_slice bytes, cal_arena *arena, sync_message *ret_message) {
    if (bytes.len > NET_MESSAGE_MAX) return CAL_ELIMIT;
    cal_borsh in = cal_borsh_read(bytes);
    sync_message message = {.kind = cal_borsh_tag(&in, SYNC_MESSAGE_COUNT)};
    if (!in.error && message.kind == SYNC_INIT) {
        sync_fields_read(head_fields, &in, arena, &message.init);
        sync_request_read(&in, arena, &message.init.request);
        sync_fields_read(tail_fields, &in, arena, &message.init);
    } else if (!in.error && message.kind == SYNC_MESSAGE) {
        message.sequence = cal_borsh_u64(&in);
        sync_answer_read(&in, arena, &message.answer);
        cal_borsh_fixed(&in, message.next_nonce, CAL_AEAD_NONCE_SIZE);
    }
    if (cal_borsh_end(&in)) return in.error;
    *ret_message = message;
    return 0;
}

int sync_message_write(const sync_message *message, cal_buffer *out) {
    assert(message->kind < SYNC_MESSAGE_COUNT);
    cal_buffer_append_u8(out, message->kind);
    if (message->kind == SYNC_INIT) {
        sync_fields_write(head_fields, &message->init, out);
        sync_request_write(&message->init.request, out);
        sync_fields_write(tail_fields, &message->init, out);
    } else if (message->kind == SYNC_MESSAGE) {
        cal_buffer_append_u64le(out, message->sequence);
        sync_answer_write(&message->answer, out);
        cal_buffer_append(out, message->next_nonce, CAL_AEAD_NONCE_SIZE);
    }
    return out->error;
}
