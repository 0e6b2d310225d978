/* How much of what came may wait, and for whom: see internal.h and context.h.
 *
 * Of a context's deltas there are three rooms, so that what is worth less takes no place of what is
 * worth more: what came unasked and is not proved yet, what authors signed that may be nobody, and
 * the rest. Senders are the peers that bring it and, where authors are members, they too. Nothing
 * that waits gives way: what finds no room can be asked for. */
#include <stdlib.h>
#include <string.h>

#include "sync/context.h"

enum { KEY_MAX = 2 + (CAL_PEER_ID_MAX > 32 ? CAL_PEER_ID_MAX : 32) };

static const sync_usage limits[SYNC_ROOM_COUNT] = {
    [SYNC_ROOM_UNPROVED] = {SYNC_UNPROVED_MAX, SYNC_UNPROVED_BYTES_MAX},
    [SYNC_ROOM_STRANGERS] = {SYNC_STRANGERS_MAX, SYNC_STRANGERS_BYTES_MAX},
    [SYNC_ROOM_WAITING] = {SYNC_WAITING_MAX, SYNC_WAITING_BYTES_MAX},
};

/* --- shares --- */

struct sync_share {
    sync_usage used;
    size_t len;
    uint8_t key[KEY_MAX];
};

sync_share *sync_share_of(cal_map *shares, cal_slice sender) {
    sync_share *share = cal_map_get(shares, sender);
    if (share || sender.len > KEY_MAX) return share;
    share = malloc(sizeof *share);
    if (!share) return NULL;
    *share = (sync_share){.len = sender.len};
    memcpy(share->key, sender.data, sender.len);
    if (cal_map_put(shares, sender, share) == 0) return share;
    free(share);
    return NULL;
}

bool sync_share_fits(const sync_share *share, const sync_usage *used, const sync_usage *limit,
                     size_t bytes) {
    return share->used.count < limit->count - used->count &&
           share->used.bytes + bytes <= limit->bytes - used->bytes;
}

void sync_share_enter(sync_share *share, size_t bytes) {
    share->used.count++;
    share->used.bytes += bytes;
}

void sync_share_unused(cal_map *shares, sync_share *share) {
    if (!share || share->used.count > 0) return;
    cal_map_remove(shares, cal_slice_of(share->key, share->len));
    free(share);
}

void sync_share_leave(cal_map *shares, sync_share *share, size_t bytes) {
    share->used.count--;
    share->used.bytes -= bytes;
    sync_share_unused(shares, share);
}

/* --- rooms of a context --- */

static sync_share *share_of(sync_context *context, sync_room room, char kind, cal_slice id) {
    uint8_t key[KEY_MAX] = {(uint8_t)room, (uint8_t)kind};
    memcpy(key + 2, id.data, id.len);
    return sync_share_of(&context->shares, cal_slice_of(key, 2 + id.len));
}

static bool fits(const sync_context *context, const sync_delta *delta, const sync_share *share) {
    return sync_share_fits(share, &context->used[delta->room], &limits[delta->room], delta->cost);
}

void sync_room_leave(sync_delta *delta) {
    sync_context *context = delta->context;
    if (delta->room == SYNC_ROOM_NONE) return;
    context->used[delta->room].count--;
    context->used[delta->room].bytes -= delta->cost;
    for (size_t i = 0; i < 2; i++) {
        sync_share *share = delta->shares[i];
        delta->shares[i] = NULL;
        if (share) sync_share_leave(&context->shares, share, delta->cost);
    }
    delta->room = SYNC_ROOM_NONE;
}

bool sync_room_enter(sync_delta *delta, sync_room room) {
    sync_context *context = delta->context;
    bool authored = room == SYNC_ROOM_WAITING && delta->proved && delta->record.has_author;
    cal_slice peer = cal_slice_of(delta->peer.bytes, delta->peer.len);
    sync_room_leave(delta);
    delta->room = room;
    sync_share *from = share_of(context, room, 'p', peer), *by = NULL;
    if (authored) by = share_of(context, room, 'a', cal_slice_of(delta->record.author.bytes, 32));
    if (!from || !fits(context, delta, from) || (authored && (!by || !fits(context, delta, by)))) {
        sync_share_unused(&context->shares, from);
        sync_share_unused(&context->shares, by);
        delta->room = SYNC_ROOM_NONE;
        return false;
    }
    context->used[room].count++;
    context->used[room].bytes += delta->cost;
    delta->shares[0] = from;
    delta->shares[1] = by;
    for (size_t i = 0; i < 2 && delta->shares[i]; i++)
        sync_share_enter(delta->shares[i], delta->cost);
    return true;
}
