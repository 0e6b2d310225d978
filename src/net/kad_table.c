/* The table of peers, see kad.h: at most KAD_BUCKET for each length of the prefix they share with
 * us. Those that are there stay: a flood of new ids cannot push out peers that work. */
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

void kad_seen(cal_kad *kad, const cal_peer_id *id, const cal_multiaddr *addresses, size_t count,
              uint64_t now_ns) {
    if (now_ns > kad->now) kad->now = now_ns;
    kad_contact contact;
    size_t at = find_peer(kad, id), alike = 0;
    kad_contact_make(id, addresses, count, &contact);
    if (at != SIZE_MAX) {
        if (contact.address_count) *kad->peers[at] = contact;
        return;
    }
    unsigned shared = shared_bits(contact.place, kad->place);
    if (shared == CAL_HASH_SIZE * 8) return; /* that is us */
    for (size_t i = 0; i < kad->peer_count; i++)
        alike += shared_bits(kad->peers[i]->place, kad->place) == shared;
    kad_contact *made = NULL;
    if (alike < KAD_BUCKET && kad->peer_count < KAD_PEERS_MAX) made = malloc(sizeof *made);
    if (!made) {
        kad->stats.peers_refused++;
        return;
    }
    *made = contact;
    kad->peers[kad->peer_count++] = made;
    if (kad->peer_count == 1) kad->refresh_at = kad->now; /* now there is somebody to ask */
}

void kad_gone(cal_kad *kad, const cal_peer_id *id) {
    size_t at = find_peer(kad, id);
    if (at == SIZE_MAX) return;
    free(kad->peers[at]);
    kad->peers[at] = kad->peers[--kad->peer_count];
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
