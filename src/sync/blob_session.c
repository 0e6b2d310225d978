/* A context's code, handed out inside a session (BlobShare, network-sync.md 4.5): nodes of the
 * reference ask for it this way before they take a state. The frames are sealed for the key that
 * the asker names, so it need not be proved. Chunks are read on a worker, one while nothing else of
 * the stream is. */
#include <stdlib.h>
#include <string.h>

#include "blob/blob.h"
#include "sync/serve.h"

typedef struct blob_session {
    cal_blobs_reader *reader;
    cal_secret key;
    uint8_t nonce[CAL_AEAD_NONCE_SIZE]; /* of the next frame */
    cal_buffer chunk;
    uint64_t sequence;
    bool last; /* the empty chunk has been sent */
} blob_session;

static void end_blob(sync_serving *serving) {
    blob_session *blob = serving->state;
    serving->state = NULL;
    serving->more = NULL;
    serving->ended = NULL;
    if (!blob) return;
    cal_blobs_read_close(blob->reader);
    cal_secret_wipe(&blob->key);
    cal_buffer_deinit(&blob->chunk);
    free(blob);
}

static void decline_blob(sync_serving *serving) {
    end_blob(serving);
    sync_serving_decline(serving, false);
}

static int read_chunk(sync_serving *serving) { /* worker */
    blob_session *blob = serving->state;
    cal_slice bytes = {0};
    cal_buffer_reset(&blob->chunk);
    int rc = cal_blobs_read_chunk(blob->reader, &bytes);
    return rc ? rc : cal_buffer_append(&blob->chunk, bytes.data, bytes.len);
}

static int open_blob(sync_serving *serving) { /* worker */
    blob_session *blob = serving->state;
    cal_error err;
    return cal_blobs_read_open(serving->sync->options.blobs, &serving->request.blob, &blob->reader,
                               NULL, &err);
}

static void next_chunk(sync_serving *serving);

/* Sealed under the nonce that the message before named. */
static void send_chunk(sync_serving *serving) {
    blob_session *blob = serving->state;
    sync_message message = {
        .kind = SYNC_MESSAGE,
        .sequence = blob->sequence++,
        .answer = {.kind = SYNC_ANSWER_BLOB, .bytes = cal_buffer_slice(&blob->chunk)}};
    cal_buffer plain, sealed;
    cal_buffer_init(&plain, NET_MESSAGE_MAX);
    cal_buffer_init(&sealed, NET_MESSAGE_MAX);
    blob->last = blob->chunk.len == 0;
    if (!blob->last)
        cal_random(serving->sync->options.os, message.next_nonce, sizeof message.next_nonce);
    int rc = serving->result;
    if (rc == 0) rc = sync_message_write(&message, &plain);
    if (rc == 0)
        rc = cal_seal(&blob->key, blob->nonce, (cal_slice){0}, cal_buffer_slice(&plain), &sealed);
    memcpy(blob->nonce, message.next_nonce, sizeof blob->nonce);
    serving->more = next_chunk;
    if (rc == 0) rc = net_messages_send(serving->messages, cal_buffer_slice(&sealed));
    if (rc != 0) net_messages_reset(serving->messages); /* `ended` drops the rest */
    cal_buffer_deinit(&plain);
    cal_buffer_deinit(&sealed);
}

static void next_chunk(sync_serving *serving) {
    const blob_session *blob = serving->state;
    if (!blob->last) {
        sync_serving_work(serving, read_chunk, send_chunk);
        return;
    }
    end_blob(serving);
    net_messages_expect(serving->messages, NET_REQUEST_TIMEOUT_MS);
}

/* The answer begins with an Init of ours, in the clear. */
static void send_init(sync_serving *serving) {
    blob_session *blob = serving->state;
    cal_sync *sync = serving->sync;
    const gov_identity *self = gov_self(sync->options.gov);
    sync_message message = {
        .kind = SYNC_INIT,
        .init = {.context = serving->request.context,
                 .party = self->sign_key,
                 .request = {.kind = SYNC_BLOB_SHARE, .blob = serving->request.blob}}};
    cal_buffer bytes;
    cal_buffer_init(&bytes, NET_MESSAGE_MAX);
    int rc = serving->result;
    if (rc == 0) rc = cal_agree_edwards(&self->sign_seed, serving->party.bytes, &blob->key);
    if (rc != 0) {
        cal_buffer_deinit(&bytes);
        decline_blob(serving);
        return;
    }
    cal_random(sync->options.os, blob->nonce, sizeof blob->nonce);
    memcpy(message.init.next_nonce, blob->nonce, sizeof blob->nonce);
    serving->more = next_chunk;
    rc = sync_message_write(&message, &bytes);
    if (rc == 0) rc = net_messages_send(serving->messages, cal_buffer_slice(&bytes));
    if (rc != 0) net_messages_reset(serving->messages);
    cal_buffer_deinit(&bytes);
}

/* Whether the blob is the code that the context's group runs, and the asker one of its members. */
static bool may_have(const sync_serving *serving, const cal_context_id *context) {
    cal_gov *gov = serving->sync->options.gov;
    cal_group_id group, ns;
    cal_blob_id code;
    return gov_context_group(gov, context, &group, &ns) == 0 &&
           gov_group_code(gov, &group, &code) == 0 &&
           memcmp(&code, &serving->request.blob, sizeof code) == 0 &&
           gov_key_may_read(gov, &group, &serving->party);
}

void sync_serve_blob(sync_serving *serving, const cal_context_id *context) {
    blob_session *blob = calloc(1, sizeof *blob);
    if (!blob || !may_have(serving, context)) {
        free(blob);
        sync_serving_decline(serving, false);
        return;
    }
    cal_buffer_init(&blob->chunk, SYNC_BLOB_CHUNK_MAX);
    serving->request.context = *context;
    serving->state = blob;
    serving->ended = end_blob;
    sync_serving_work(serving, open_blob, send_init);
}
