/* The table of peers, see kad.h: at most KAD_BUCKET for each length of the prefix they share with
 * us. Those that answer stay: a flood of new ids cannot push out peers that work. */
#include <stdlib.h>

#include "net/kad_internal.h"

void kad_place(cal_slice id, uint8_t ret_place[CAL_HASH_SIZE]) { cal_sha256(id, ret_place); }

int kad_nearer(const uint8_t a[CAL_HASH_SIZE], const uint8_t b[CAL_HASH_SIZE],
               const uint8_t target[CAL_HASH_SIZE]) {
    for (size_t i = 0; i < CAL_HASH_SIZE; i++) {
        uint8_t x = a[i] ^ target[i], y = b[i] ^ target[i];
        if (x != y) return x < y ? -1 : 1;
    }
    return 0;
}

static unsigned shared_bits(const uint8_t a[CAL_HASH_SIZE], const uint8_t b[CAL_HASH_SIZE]) {
    for (unsigned i = 0; i < CAL_HASH_SIZE; i++) {
        unsigned differ = a[i] ^ b[i];
        if (differ) return i * 8 + (unsigned)__builtin_clz(differ) - 24;
    }
    return CAL_HASH_SIZE * 8;
}

void kad_contact_make(const cal_peer_id *id, const cal_multiaddr *addresses, size_t count,
                      kad_contact *ret_contact) {
    *ret_contact = (kad_contact){.id = *id};
    kad_place((cal_slice){id->bytes, id->len}, ret_contact->place);
    if (count > KAD_ADDRESSES_MAX) count = KAD_ADDRESSES_MAX;
    for (size_t i = 0; i < count; i++) ret_contact->addresses[i] = addresses[i];
    ret_contact->address_count = count;
}

static size_t find_peer(const cal_kad *kad, const cal_peer_id *id) {
    for (size_t i = 0; i < kad->peer_count; i++)
        if (cal_peer_id_equal(&kad->peers[i]->id, id)) return i;
    return SIZE_MAX;
}

const kad_contact *kad_contact_find(const cal_kad *kad, const cal_peer_id *id) {
    size_t at = find_peer(kad, id);
    return at == SIZE_MAX ? NULL : kad->peers[at];
}

bool kad_knows(const cal_kad *kad, const cal_peer_id *id) { return find_peer(kad, id) != SIZE_MAX; }

/* A place for one that shares so many bits with us: a new one, or that of the peer that failed most
 * often. NULL: all the others work, or no memory. */
static kad_contact *place_for(cal_kad *kad, unsigned shared) {
    kad_contact *worst = NULL;
    size_t alike = 0;
    for (size_t i = 0; i < kad->peer_count; i++) {
        kad_contact *peer = kad->peers[i];
        if (shared_bits(peer->place, kad->place) != shared) continue;
        alike++;
        if (peer->failures > (worst ? worst->failures : 0)) worst = peer;
    }
    if (alike >= KAD_BUCKET || kad->peer_count >= KAD_PEERS_MAX) return worst;
    kad_contact *made = malloc(sizeof *made);
    if (made) kad->peers[kad->peer_count++] = made;
    return made;
}

void kad_seen(cal_kad *kad, const cal_peer_id *id, const cal_multiaddr *addresses, size_t count,
              uint64_t now_ns) {
    if (now_ns > kad->now) kad->now = now_ns;
    kad_contact contact;
    size_t at = find_peer(kad, id);
    kad_contact_make(id, addresses, count, &contact);
    if (at != SIZE_MAX) {
        kad->peers[at]->failures = 0;
        if (contact.address_count) *kad->peers[at] = contact;
        return;
    }
    unsigned shared = shared_bits(contact.place, kad->place);
    if (shared == CAL_HASH_SIZE * 8) return; /* that is us */
    kad_contact *place = place_for(kad, shared);
    if (!place) {
        kad->stats.peers_refused++;
        return;
    }
    *place = contact;
    /* It may know others, and be nearer to our records than those that keep them. */
    uint64_t soon = kad->refreshed ? kad->refreshed + KAD_BOOTSTRAP_NS : kad->now;
    if (soon < kad->now) soon = kad->now;
    if (soon < kad->refresh_at) kad->refresh_at = soon;
    kad_puts_due(kad, true);
}

static void drop_peer(cal_kad *kad, size_t at) {
    free(kad->peers[at]);
    kad->peers[at] = kad->peers[--kad->peer_count];
}

void kad_gone(cal_kad *kad, const cal_peer_id *id) {
    size_t at = find_peer(kad, id);
    if (at != SIZE_MAX) drop_peer(kad, at);
}

void kad_failed(cal_kad *kad, const cal_peer_id *id) {
    size_t at = find_peer(kad, id);
    if (at == SIZE_MAX || ++kad->peers[at]->failures < KAD_FAILURES_MAX) return;
    drop_peer(kad, at);
    kad->stats.peers_dropped++;
}

void kad_answered(cal_kad *kad, const cal_peer_id *id) {
    size_t at = find_peer(kad, id);
    if (at != SIZE_MAX) kad->peers[at]->failures = 0;
}

size_t kad_nearest(const cal_kad *kad, const uint8_t target[CAL_HASH_SIZE],
                   const kad_contact *ret_contacts[], size_t max) {
    size_t count = 0;
    for (size_t i = 0; i < kad->peer_count; i++) {
        const kad_contact *contact = kad->peers[i];
        size_t at = count;
        while (at > 0 && kad_nearer(contact->place, ret_contacts[at - 1]->place, target) < 0) at--;
        if (at == max) continue;
        if (count < max) count++;
        for (size_t j = count - 1; j > at; j--) ret_contacts[j] = ret_contacts[j - 1];
        ret_contacts[at] = contact;
    }
    return count;
}
