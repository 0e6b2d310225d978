/* Deltas that lie below a state that was taken whole: they are not stored, and need not be fetched;
 * and whoever applied one would have a head too many, below the others. Which they are is asked:
 * the peer that the state came from, which knows for as long as it keeps the view that the state
 * was read from, or somebody who has what lies below the state's heads. What is said is kept
 * (cal_contexts_cover). Of what is newer than the state nothing need be asked. */
#include <stdlib.h>

#include "sync/bulk.h"
#include "sync/tree.h"

enum { USELESS_MAX = 16, USELESS_MS = 60000 };

struct sync_cover {
    sync_context *context;
    cal_peer_id peer;      /* len 0: not known any more */
    cal_hash root, *heads; /* of the state */
    uint32_t head_count;
    uint64_t latest; /* no delta below it has a later time */
    cal_map asked;   /* ids, each once; and once more when it is known whose and when it was made */
    sync_bulk *bulk;
    cal_hash *ids; /* in the question, and their marks */
    uint8_t (*marks)[CAL_PAST_MARK_SIZE];
    uint32_t count;
    cal_peer_id asked_peer, useless[USELESS_MAX]; /* who does not have what is below the state */
    size_t useless_count;
    uint64_t useless_until_ms;
    void (*done)(void *user);
    void *user;
};

void sync_cover_free(sync_context *context) {
    struct sync_cover *cover = context->cover;
    context->cover = NULL;
    context->cover_read = false;
    if (!cover) return;
    if (cover->bulk) sync_bulk_leave(cover->bulk);
    cal_map_deinit(&cover->asked);
    free(cover->ids);
    free(cover->marks);
    free(cover->heads);
    free(cover);
}

static struct sync_cover *new_cover(sync_context *context, const cal_delta_record *boundary) {
    struct sync_cover *cover = calloc(1, sizeof *cover);
    if (!cover) return NULL;
    cover->context = context;
    cover->root = boundary->root;
    cover->latest = boundary->hlc.time;
    cover->head_count = (uint32_t)boundary->parent_count;
    cal_map_init(&cover->asked, context->sync->seed);
    context->cover = cover;
    cover->heads = malloc((boundary->parent_count + 1) * sizeof *cover->heads);
    cover->ids = malloc(SYNC_BULK_IDS_MAX * sizeof *cover->ids);
    cover->marks = malloc(SYNC_BULK_IDS_MAX * sizeof *cover->marks);
    if (!cover->heads || !cover->ids || !cover->marks) {
        sync_cover_free(context);
        return NULL;
    }
    if (cover->head_count)
        memcpy(cover->heads, boundary->parents, cover->head_count * sizeof *cover->heads);
    return cover;
}

/* Read when it is first asked for. */
static struct sync_cover *cover_of(sync_context *context) {
    cal_buffer row;
    cal_delta_record boundary;
    if (context->cover || context->cover_read) return context->cover;
    cal_buffer_init(&row, CAL_STORE_VALUE_MAX);
    int rc = cal_context_boundary(context->sync->options.store, &context->id, &row);
    if (rc == 0) rc = cal_delta_record_decode(cal_buffer_slice(&row), &boundary);
    if (rc == 0) new_cover(context, &boundary);
    context->cover_read = rc == 0 || rc == CAL_ENOTFOUND;
    cal_buffer_deinit(&row);
    return context->cover;
}

sync_ids sync_cover_heads(sync_context *context) {
    const struct sync_cover *cover = cover_of(context);
    return cover ? (sync_ids){cover->heads, cover->head_count} : (sync_ids){0};
}

/* --- doubts --- */

static char by_id, by_mark; /* what an id was asked with */

static bool was_asked(const struct sync_cover *cover, const cal_hash *id) {
    return cal_map_get(&cover->asked, cal_slice_of(id->bytes, sizeof id->bytes)) == &by_mark;
}

bool sync_cover_doubts(sync_delta *delta) {
    const struct sync_cover *cover = cover_of(delta->context);
    if (!cover || delta->record.hlc.time > cover->latest || cover->asked.count >= SYNC_COVERED_MAX)
        return false;
    return cover->bulk || !was_asked(cover, &delta->record.id);
}

static void settle(sync_delta *delta) {
    delta->doubted = false;
    cal_list_remove(&delta->link);
    cal_list_push(&delta->context->to_open, &delta->link);
}

/* Those that were asked about and are still here go on; all: nobody can be asked. */
static void settle_doubts(sync_context *context, bool all) {
    for (cal_list *at = context->doubtful.next, *next; at != &context->doubtful; at = next) {
        sync_delta *delta = CAL_CONTAINER_OF(at, sync_delta, link);
        next = at->next;
        if (all || !context->cover || was_asked(context->cover, &delta->record.id)) settle(delta);
    }
}

/* What waited for parents before there was a state. */
static void doubt_waiting(sync_context *context) {
    cal_map_cursor cursor = {0};
    void *value;
    while (cal_map_next(&context->by_id, &cursor, NULL, &value)) {
        sync_delta *delta = value;
        if (delta->lacking == 0 || !sync_cover_doubts(delta)) continue;
        for (size_t i = 0; i < delta->absent_count; i++) {
            if (delta->absent[i].delta) cal_list_remove(&delta->absent[i].link);
            delta->absent[i].delta = NULL;
        }
        delta->lacking = 0;
        delta->doubted = true;
        cal_list_remove(&delta->link);
        cal_list_push(&context->doubtful, &delta->link);
    }
}

void sync_cover_note(sync_context *context, const cal_peer_id *peer) {
    sync_cover_free(context);
    struct sync_cover *cover = cover_of(context);
    if (!cover) return; /* then they are fetched */
    cover->peer = *peer;
    doubt_waiting(context);
}

void sync_cover_leave(sync_context *context) {
    if (context->cover) context->cover->done = NULL;
}

/* --- the answer --- */

static void swap_marks(uint8_t first[CAL_PAST_MARK_SIZE], uint8_t second[CAL_PAST_MARK_SIZE]) {
    uint8_t old[CAL_PAST_MARK_SIZE];
    memcpy(old, first, sizeof old);
    memmove(first, second, sizeof old);
    memcpy(second, old, sizeof old);
}

/* Of what is not covered nothing is known when the peer did not know the state's heads. */
static bool on_answer(void *user, const sync_bulk_answer *answer) {
    struct sync_cover *cover = user;
    sync_context *context = cover->context;
    cal_sync *sync = context->sync;
    uint32_t count = 0;
    if (answer->covered.len != cover->count) return true; /* nothing yet, or no answer */
    for (uint32_t i = 0; i < cover->count; i++) {
        cal_hash id = cover->ids[i];
        if (!answer->covered.data[i]) continue;
        cover->ids[i] = cover->ids[count];
        swap_marks(cover->marks[i], cover->marks[count]);
        cover->ids[count++] = id;
    }
    sync->stats.deltas_covered += count;
    if (count) cal_contexts_cover(sync->options.contexts, &context->id, cover->ids, count);
    for (uint32_t i = 0; i < count; i++) sync_context_cover(context, &cover->ids[i]);
    cover->count -= count;
    memmove(cover->ids, cover->ids + count, cover->count * sizeof *cover->ids);
    memmove(cover->marks, cover->marks + count, cover->count * sizeof *cover->marks);
    return true;
}

static int send_question(struct sync_cover *cover, const cal_peer_id *peer);

static void on_ended(void *user, int result) {
    struct sync_cover *cover = user;
    sync_context *context = cover->context;
    cover->bulk = NULL;
    if (result != 0 && cover->useless_count < USELESS_MAX) {
        cover->useless[cover->useless_count++] = cover->asked_peer;
        if (cover->count > 0 && send_question(cover, NULL) == 0) return;
    }
    void (*done)(void *user) = cover->done;
    void *done_user = cover->user;
    cover->done = NULL;
    settle_doubts(context, false);
    if (done) done(done_user);
    sync_context_go(context);
}

static const sync_bulk_events cover_events = {.answer = on_answer, .ended = on_ended};

/* --- the question --- */

static bool is_of_use(const struct sync_cover *cover, const cal_peer_id *peer) {
    if (!peer || peer->len == 0) return false;
    for (size_t i = 0; i < cover->useless_count; i++)
        if (cal_peer_id_equal(&cover->useless[i], peer)) return false;
    return !cover->context->sync->stopping &&
           sync_met_member(cover->context, peer) && /* others' word is worth nothing */
           cal_p2p_is_connected(cover->context->sync->options.host, peer);
}

/* Whom the state came from, the one that is given, somebody else. */
static bool choose(const struct sync_cover *cover, const cal_peer_id *peer, cal_peer_id *ret_peer) {
    cal_peer_id peers[SYNC_PEERS_ASKED_MAX];
    const sync_context *context = cover->context;
    *ret_peer = cover->peer;
    if (is_of_use(cover, ret_peer)) return true;
    if (is_of_use(cover, peer)) {
        *ret_peer = *peer;
        return true;
    }
    size_t count = sync_hearers(context->sync, context->topic, peers, SYNC_PEERS_ASKED_MAX);
    for (size_t i = 0; i < count; i++) {
        *ret_peer = peers[i];
        if (is_of_use(cover, ret_peer)) return true;
    }
    return false;
}

static int send_question(struct sync_cover *cover, const cal_peer_id *peer) {
    sync_context *context = cover->context;
    if (!choose(cover, peer, &cover->asked_peer)) return CAL_EUNREACHABLE;
    sync_bulk_request request = {
        .kind = SYNC_BULK_COVERED,
        .context = context->id,
        .root = cover->root,
        .ids = {cover->ids, cover->count},
        .known = {cover->heads, cover->head_count},
        .marks = cal_slice_of((const uint8_t *)cover->marks, cover->count * sizeof *cover->marks)};
    return sync_bulk_ask(context->sync, &cover->asked_peer, &request, &cover_events, cover,
                         &cover->bulk);
}

/* record NULL: only the id is known. */
static int add(struct sync_cover *cover, const cal_hash *id, const cal_delta_record *record) {
    cal_slice key = cal_slice_of(id->bytes, sizeof id->bytes);
    if (cover->count >= SYNC_BULK_IDS_MAX || was_asked(cover, id)) return 0;
    if (!record && cal_map_get(&cover->asked, key)) return 0;
    if (cover->asked.count >= SYNC_COVERED_MAX) return CAL_ELIMIT;
    cal_map_remove(&cover->asked, key);
    int rc = cal_map_put(&cover->asked, key, record ? &by_mark : &by_id);
    if (rc != 0) return rc;
    uint8_t *mark = cover->marks[cover->count];
    memset(mark, 0, sizeof *cover->marks);
    if (record && record->has_author) {
        memcpy(mark, record->author.bytes, sizeof record->author.bytes);
        cal_write_u64le(mark + sizeof record->author.bytes, record->hlc.time);
    }
    cover->ids[cover->count++] = *id;
    return 0;
}

static int ask(struct sync_cover *cover, const cal_peer_id *peer, const cal_hash *ids,
               size_t count) {
    sync_context *context = cover->context;
    uint64_t now = sync_now_ms(context->sync);
    int rc = 0;
    if (now >= cover->useless_until_ms) cover->useless_count = 0;
    if (cover->useless_count == 0) cover->useless_until_ms = now + USELESS_MS;
    cover->count = 0;
    for (const cal_list *at = context->doubtful.next; rc == 0 && at != &context->doubtful;
         at = at->next) {
        const cal_delta_record *record = &CAL_CONTAINER_OF(at, sync_delta, link)->record;
        rc = add(cover, &record->id, record);
    }
    for (size_t i = 0; i < count && rc == 0; i++) rc = add(cover, &ids[i], NULL);
    if (rc == 0 && cover->count == 0) rc = CAL_ENOTFOUND;
    return rc ? rc : send_question(cover, peer);
}

/* One question after the other. */
bool sync_cover_ask(sync_context *context, const cal_peer_id *peer, const cal_hash *ids,
                    size_t count, void (*done)(void *user), void *user) {
    struct sync_cover *cover = cover_of(context);
    if (!cover || (!cover->bulk && ask(cover, peer, ids, count) != 0)) return false;
    cover->done = done;
    cover->user = user;
    return true;
}

void sync_cover_look(sync_context *context) {
    struct sync_cover *cover = context->cover;
    const sync_delta *first = CAL_CONTAINER_OF(context->doubtful.next, sync_delta, link);
    if (cover && cover->bulk) return;
    cal_peer_id peer = first->peer;
    if (cover && sync_cover_ask(context, &peer, NULL, 0, NULL, NULL)) return;
    settle_doubts(context, true);
    sync_context_go(context);
}
