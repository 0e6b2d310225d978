/* Who is no member hears all topics and asks every question of the protocol, of whoever it meets;
 * what it hears and what it is answered must tell it nothing that is hidden from it. */
#ifndef CAL_TESTS_SHARE_CHAOS_ASK_H
#define CAL_TESTS_SHARE_CHAOS_ASK_H

#include "share_chaos_keys.h"
#include "sync/bulk.h"

enum { BULK_DELTAS_KIND = SYNC_REQUEST_COUNT, BULK_HISTORY_KIND, QUESTION_COUNT };

typedef struct question {
    place *from, *to;
    const scope *about;
    uint8_t kind; /* sync_request_kind, or of the bulk protocol */
    bool stolen;  /* in the founder's name */
    bool has_key_id;
    cal_hash id, key_id;
    cal_public_key founder;
    cal_buffer invitation, credential;
} question;

/* --- what it hears --- */

static void on_heard(void *user, const cal_p2p_message *message) {
    place *p = user;
    look_at_founder();
    check_bytes(p, cal_slice_of(message->data, message->len), "what it hears");
    c.hearings++;
}

static void hear_everything(void *arg) {
    place *p = arg;
    char topic[GOV_TOPIC_TEXT_MAX + CAL_ID_TEXT_MAX];
    cal_p2p *host = cal_node_p2p(node_at(p));
    const cal_p2p_gossip_options options = {.message = on_heard, .user = p};
    cal_p2p_gossip_stop(host);
    assert_int_equal(cal_p2p_gossip_start(host, &options), 0);
    gov_topic_text(&c.ns, topic);
    assert_int_equal(cal_p2p_subscribe(host, topic, false, &err), 0);
    for (size_t s = 0; s < c.scope_count; s++) {
        cal_id_to_base58(c.scopes[s].context.bytes, topic);
        assert_int_equal(cal_p2p_subscribe(host, topic, false, &err), 0);
    }
}

/* --- what it asks --- */

static void sign_question(void *user, cal_slice message, uint8_t ret_signature[64]) {
    gov_sign(node_at(user)->gov, message, ret_signature);
}

static void write_request(question *q, cal_buffer *out) {
    const gov_identity *self = gov_self(node_at(q->from)->gov);
    bool of_namespace = q->kind >= SYNC_BACKFILL;
    sync_message message = {.kind = SYNC_INIT};
    sync_init *init = &message.init;
    init->party = q->stolen ? q->founder : self->sign_key;
    if (!of_namespace) init->context = q->about->context;
    init->request = (sync_request){.kind = q->kind,
                                   .context = q->about->context,
                                   .id = q->id,
                                   .page_limit = 16,
                                   .byte_limit = 1 << 20,
                                   .has_depth = true,
                                   .depth = 3,
                                   .namespace_id = c.ns,
                                   .group = q->about->group,
                                   .invitation = cal_buffer_slice(&q->invitation),
                                   .credential = cal_buffer_slice(&q->credential),
                                   .key = init->party,
                                   .has_device = true,
                                   .device = self->device,
                                   .has_key_id = q->has_key_id,
                                   .key_id = q->key_id};
    init->has_proof = true;
    sync_proof_sign(init, &q->from->id, sign_question, q->from, init->proof);
    assert_int_equal(sync_message_write(&message, out), 0);
}

static void write_bulk(const question *q, cal_buffer *out) {
    sync_init init = {.context = q->about->context,
                      .party = q->stolen ? q->founder : gov_self(node_at(q->from)->gov)->sign_key};
    sync_bulk_request request = {.kind = q->kind == BULK_DELTAS_KIND ? SYNC_BULK_DELTAS
                                                                     : SYNC_BULK_HISTORY,
                                 .context = init.context,
                                 .party = init.party,
                                 .namespace_id = c.ns,
                                 .max = 1000};
    if (q->kind == BULK_DELTAS_KIND) request.ids = (sync_ids){&q->id, 1};
    sync_proof_sign(&init, &q->from->id, sign_question, q->from, request.proof);
    assert_int_equal(sync_bulk_request_write(&request, out), 0);
}

static void on_question_opened(void *user, net_messages *messages) {
    question *q = user;
    cal_buffer bytes;
    cal_buffer_init(&bytes, 1 << 20);
    if (q->kind < SYNC_REQUEST_COUNT)
        write_request(q, &bytes);
    else
        write_bulk(q, &bytes);
    if (net_messages_send(messages, cal_buffer_slice(&bytes)) == 0)
        net_messages_expect(messages, 20000);
    cal_buffer_deinit(&bytes);
}

/* A key that is for the asker is one that it has from now on. */
static void check_envelope(const question *q, cal_slice bytes) {
    gov_envelope envelope;
    cal_secret key;
    cal_hash id;
    cal_group_id group = q->kind == SYNC_JOIN ? c.ns : q->about->group;
    cal_borsh in = cal_borsh_read(bytes);
    gov_envelope_read(&in, &envelope);
    if (in.error || gov_open_envelope(node_at(q->from)->gov, &envelope, &group, NULL, &key)) return;
    gov_key_id(&key, &id);
    cal_secret_wipe(&key);
    check_key(q->from, group.bytes, id.bytes, "answers");
}

static void check_answer(const question *q, const sync_answer *answer) {
    cal_buffer page;
    if (answer->kind == SYNC_ANSWER_JOIN || answer->kind == SYNC_ANSWER_JOIN_OPEN ||
        answer->kind == SYNC_ANSWER_KEY)
        check_envelope(q, answer->bytes);
    if (answer->kind != SYNC_ANSWER_PAGE) return;
    cal_buffer_init(&page, SYNC_PAGE_MAX);
    if (sync_page_expand(answer->bytes, answer->uncompressed_len, &page) == 0)
        check_bytes(q->from, cal_buffer_slice(&page), "a page");
    cal_buffer_deinit(&page);
}

static void on_question_answer(void *user, net_messages *messages, cal_slice bytes) {
    question *q = user;
    cal_arena arena;
    sync_message message;
    cal_arena_init(&arena, 1 << 26);
    if (look_at_founder()) { /* else it may be a member again */
        check_bytes(q->from, bytes, "answers");
        if (q->kind < SYNC_REQUEST_COUNT && sync_message_decode(bytes, &arena, &message) == 0 &&
            message.kind == SYNC_MESSAGE)
            check_answer(q, &message.answer);
    }
    cal_arena_deinit(&arena);
    c.answers++;
    net_messages_expect(messages, 5000);
}

static void on_question_ended(void *user, net_messages *messages, int reason) {
    question *q = user;
    (void)messages, (void)reason;
    cal_buffer_deinit(&q->invitation);
    cal_buffer_deinit(&q->credential);
    free(q);
}

static void open_question(void *arg) {
    static const net_messages_events events = {
        .opened = on_question_opened, .message = on_question_answer, .ended = on_question_ended};
    question *q = arg;
    net_messages *messages;
    if (net_messages_open(cal_node_p2p(node_at(q->from)), &q->to->id,
                          q->kind < SYNC_REQUEST_COUNT ? NET_STREAM_PROTOCOL : SYNC_BULK_PROTOCOL,
                          30000, &events, q, &messages))
        on_question_ended(q, NULL, 0);
}

/* Members have an invitation of their own; who never is one forges it. */
static void write_invitation(const question *q, cal_buffer *out) {
    gov_invitation invitation;
    cal_secret key = {{1}};
    OK(c.w, gov_invitation_read_json(cal_slice_text(c.invitation), &invitation, &err));
    if (q->from->index >= c.members) gov_invitation_sign(&invitation, &key);
    assert_int_equal(gov_invitation_write(&invitation, out), 0);
}

static void note_head(void *user, const cal_context_info *info) {
    question *q = user;
    q->id = below(c.w, 2) && info->head_count > 0 ? info->heads[0] : info->root;
}

/* The one who never is a member, or one who is none of something. */
static void ask_something(void) {
    world *w = c.w;
    place *from = &w->places[1 + below(w, w->count - 1)], *to = &w->places[below(w, c.members)];
    if (node_sim_is_off(from->sim) || node_sim_is_off(to->sim) || from == to || knows_all(from))
        return;
    question *q = calloc(1, sizeof *q);
    assert_non_null(q);
    *q = (question){.from = from,
                    .to = to,
                    .about = &c.scopes[below(w, c.scope_count)],
                    .kind = (uint8_t)below(w, QUESTION_COUNT),
                    .stolen = below(w, 8) == 0,
                    .founder = c.founder};
    cal_context_get(node_at(to), &q->about->context, note_head, q);
    if (below(w, 4) == 0) q->kind = SYNC_KEY;
    for (size_t i = c.key_count; i-- > 0 && !q->has_key_id && below(w, 4);) /* mostly the newest */
        if (c.keys[i].scope == q->about->keyed) {
            q->key_id = c.keys[i].id;
            q->has_key_id = true;
        }
    cal_buffer_init(&q->invitation, 1 << 16);
    cal_buffer_init(&q->credential, 1 << 16);
    write_invitation(q, &q->invitation);
    assert_int_equal(gov_credential_bytes(node_at(from)->gov, &q->credential), 0);
    c.questions++;
    cal_node_run(node_at(from), open_question, q);
}

#endif
