/* States that are held back. A delta says at which operations its author wrote it, and waits for
 * them; a state, or leaves of one, say nothing. Whoever gave them may know of a removal that this
 * node has not heard of, and it would go on to whom it was to be kept from. So what was taken from
 * a peer goes to nobody else before the namespace's history of that peer has been asked for and is
 * here: mostly one question, in which nothing is new.
 *
 * A peer that goes away without answering holds it for a while only: this node may be the one that
 * is left. Loop thread. */
#include <string.h>

#include "sync/context.h"

enum { OWED_MS = 30000 };

static sync_owed *find(sync_namespace *ns, const cal_peer_id *peer) {
    for (size_t i = 0; i < ns->owed_count; i++)
        if (cal_peer_id_equal(&ns->owed[i].peer, peer)) return &ns->owed[i];
    return NULL;
}

static void drop(sync_namespace *ns, sync_owed *owed) { *owed = ns->owed[--ns->owed_count]; }

void sync_context_took(sync_context *context, const cal_peer_id *peer) {
    sync_namespace *ns = sync_namespace_of(context->sync, &context->id);
    if (!ns) return;
    sync_owed *owed = find(ns, peer);
    if (!owed) { /* when there are too many the oldest gives way */
        if (ns->owed_count == SYNC_OWED_MAX)
            memmove(ns->owed, ns->owed + 1, (--ns->owed_count) * sizeof *ns->owed);
        owed = &ns->owed[ns->owed_count++];
    }
    *owed = (sync_owed){.peer = *peer, .until_ms = sync_now_ms(context->sync) + OWED_MS};
    bool noted = false;
    for (size_t i = 0; i < SYNC_HELD_MAX; i++)
        noted = noted || cal_peer_id_equal(&context->held[i], peer);
    if (!noted) context->held[context->held_at++ % SYNC_HELD_MAX] = *peer;
    sync_history_tick(ns, sync_now_ms(context->sync));
}

bool sync_context_held(const sync_context *context, const cal_peer_id *to) {
    sync_namespace *ns = sync_namespace_of(context->sync, &context->id);
    uint64_t now = sync_now_ms(context->sync);
    if (!ns || ns->owed_count == 0) return false;
    for (size_t i = 0; i < SYNC_HELD_MAX; i++) {
        const cal_peer_id *by = &context->held[i];
        if (by->len == 0 || cal_peer_id_equal(by, to)) continue;
        const sync_owed *owed = find(ns, by);
        if (owed && now < owed->until_ms) return true;
    }
    return false;
}

/* --- the history that is owed (history.c) --- */

const cal_peer_id *sync_owed_next(sync_namespace *ns, uint64_t now_ms) {
    const cal_peer_id *next = NULL;
    for (size_t i = ns->owed_count; i-- > 0;) {
        sync_owed *owed = &ns->owed[i];
        if (now_ms >= owed->until_ms)
            drop(ns, owed);
        else if (!owed->asked && cal_p2p_is_connected(ns->sync->options.host, &owed->peer))
            next = &owed->peer;
    }
    return next;
}

void sync_owed_asked(sync_namespace *ns, const cal_peer_id *peer) {
    sync_owed *owed = find(ns, peer);
    if (owed) owed->asked = true;
}

void sync_owed_answered(sync_namespace *ns, const cal_peer_id *peer, bool success) {
    sync_owed *owed = find(ns, peer);
    if (!owed || !owed->asked) return; /* more was taken since it was asked */
    if (success)
        drop(ns, owed);
    else
        owed->asked = false;
}
