/* When to ask and to answer, and what is known; see mdns.h. Answers wait a random moment, because
 * everybody answers the same question, and come at most once a second, so that nobody can use us to
 * fill the network. */
#include "net/mdns.h"

#include <stdlib.h>

#define NEVER UINT64_MAX
#define MS UINT64_C(1000000)
#define SECOND_NS UINT64_C(1000000000)
enum { ANSWER_DELAY_MIN_MS = 20, ANSWER_DELAY_SPREAD_MS = 100 }; /* RFC 6762 6 */

struct cal_mdns {
    cal_peer_id self;
    uint64_t random;
    char name[MDNS_NAME_LEN];
    char texts[MDNS_ADDRESSES_MAX][CAL_MULTIADDR_TEXT_MAX];
    size_t text_count, text_at; /* text_at: the next to go into a packet of this answer */
    uint64_t query_at, query_pause, answer_at, answered, services_at;
    struct mdns_known {
        cal_peer_id peer;
        cal_multiaddr address;
        uint64_t expires; /* 0: free */
        uint64_t told_at;
        bool told;
    } known[MDNS_KNOWN_MAX];
    cal_p2p_mdns_stats stats;
};

static uint64_t mdns_random(cal_mdns *mdns) {
    uint64_t z = mdns->random += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

int mdns_new(const cal_peer_id *self, uint64_t random, uint64_t now_ns, cal_mdns **ret_mdns) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    cal_mdns *mdns = calloc(1, sizeof *mdns);
    if (!mdns) return CAL_ENOMEM;
    mdns->self = *self;
    mdns->random = random;
    for (size_t i = 0; i < MDNS_NAME_LEN; i++)
        mdns->name[i] = letters[mdns_random(mdns) % (sizeof letters - 1)];
    mdns->query_at = now_ns;
    mdns->query_pause = MDNS_QUERY_FIRST_NS;
    mdns->answer_at = mdns->services_at = NEVER;
    *ret_mdns = mdns;
    return 0;
}

void mdns_free(cal_mdns *mdns) { free(mdns); }

/* --- answers --- */

static void answer_soon(cal_mdns *mdns, uint64_t now_ns) {
    if (mdns->answer_at != NEVER || mdns->text_count == 0) return;
    uint64_t delay = ANSWER_DELAY_MIN_MS + mdns_random(mdns) % ANSWER_DELAY_SPREAD_MS;
    mdns->answer_at = now_ns + delay * MS;
    if (mdns->answered && mdns->answer_at < mdns->answered + MDNS_ANSWER_NS)
        mdns->answer_at = mdns->answered + MDNS_ANSWER_NS;
    mdns->text_at = 0;
}

void mdns_announce(cal_mdns *mdns, const cal_multiaddr *addresses, size_t count, uint64_t now_ns) {
    mdns->text_count = mdns->text_at = 0;
    for (size_t i = 0; i < count && mdns->text_count < MDNS_ADDRESSES_MAX; i++) {
        cal_multiaddr address = addresses[i];
        if (cal_multiaddr_set_peer(&address, &mdns->self) == 0)
            cal_multiaddr_text(&address, mdns->texts[mdns->text_count++]);
    }
    mdns->answer_at = NEVER;
    answer_soon(mdns, now_ns);
}

/* --- what others say --- */

static struct mdns_known *known_find(cal_mdns *mdns, const cal_multiaddr *address,
                                     uint64_t now_ns) {
    struct mdns_known *free_one = NULL;
    for (size_t i = 0; i < MDNS_KNOWN_MAX; i++) {
        struct mdns_known *known = &mdns->known[i];
        if (known->expires > now_ns && cal_multiaddr_equal(&known->address, address)) return known;
        if (known->expires <= now_ns && !free_one) free_one = known;
    }
    if (free_one) *free_one = (struct mdns_known){0};
    return free_one;
}

/* CAL_EDECODE, CAL_ELIMIT: not remembered. */
static int learn(cal_mdns *mdns, cal_slice given, uint32_t ttl, uint64_t now_ns) {
    char text[256];
    cal_multiaddr address;
    cal_peer_id peer;
    if (given.len >= sizeof text || memchr(given.data, 0, given.len)) return CAL_EDECODE;
    memcpy(text, given.data, given.len);
    text[given.len] = 0;
    if (cal_multiaddr_parse(text, &address) || cal_multiaddr_peer(&address, &peer))
        return CAL_EDECODE;
    if (cal_peer_id_equal(&peer, &mdns->self)) return 0;
    struct mdns_known *known = known_find(mdns, &address, now_ns);
    if (!known) return CAL_ELIMIT;
    if (ttl > MDNS_TTL_MAX_S) ttl = MDNS_TTL_MAX_S;
    if (known->expires == 0 && ttl > 0) {
        known->peer = peer;
        known->address = address;
        mdns->stats.discovered++;
    }
    if (known->told && now_ns >= known->told_at + MDNS_RETELL_NS) known->told = false;
    known->expires = ttl ? now_ns + ttl * SECOND_NS : 0; /* 0: it says goodbye */
    return 0;
}

int mdns_receive(cal_mdns *mdns, cal_slice bytes, uint64_t now_ns) {
    mdns_packet packet;
    mdns->stats.packets++;
    if (mdns_read(bytes, &packet)) {
        mdns->stats.malformed++;
        return CAL_EDECODE;
    }
    if (packet.asks_peers) answer_soon(mdns, now_ns);
    if (packet.asks_services && mdns->services_at == NEVER) {
        mdns->services_at = now_ns;
        if (mdns->answered && now_ns < mdns->answered + MDNS_ANSWER_NS)
            mdns->services_at = mdns->answered + MDNS_ANSWER_NS;
    }
    for (size_t i = 0; i < packet.count; i++)
        if (learn(mdns, packet.addresses[i].text, packet.addresses[i].ttl, now_ns))
            mdns->stats.refused++;
    return 0;
}

bool mdns_next(cal_mdns *mdns, cal_peer_id *ret_peer, cal_multiaddr *ret_address, uint64_t now_ns) {
    for (size_t i = 0; i < MDNS_KNOWN_MAX; i++) {
        struct mdns_known *known = &mdns->known[i];
        if (known->expires == 0 || known->told) continue;
        known->told = true;
        known->told_at = now_ns;
        *ret_peer = known->peer;
        *ret_address = known->address;
        return true;
    }
    return false;
}

/* --- packets out --- */

static int write_answer(cal_mdns *mdns, cal_buffer *out, uint64_t now_ns) {
    const char *texts[MDNS_ADDRESSES_MAX];
    size_t used, left = mdns->text_count - mdns->text_at;
    for (size_t i = 0; i < left; i++) texts[i] = mdns->texts[mdns->text_at + i];
    int result = mdns_write_answer(out, mdns->name, texts, left, &used);
    mdns->text_at += result ? left : used;
    if (mdns->text_at >= mdns->text_count) mdns->answer_at = NEVER;
    mdns->answered = now_ns;
    mdns->stats.answers++;
    return result;
}

bool mdns_output(cal_mdns *mdns, cal_buffer *out, uint64_t now_ns) {
    if (mdns->query_at <= now_ns) {
        mdns->query_at = now_ns + mdns->query_pause;
        mdns->query_pause *= 2;
        if (mdns->query_pause > MDNS_QUERY_NS) mdns->query_pause = MDNS_QUERY_NS;
        mdns->stats.queries++;
        answer_soon(mdns, now_ns); /* a peer answers its own question too */
        return mdns_write_query(out) == 0;
    }
    if (mdns->services_at <= now_ns) {
        mdns->services_at = NEVER;
        mdns->answered = now_ns;
        return mdns_write_services(out) == 0;
    }
    if (mdns->answer_at <= now_ns) return write_answer(mdns, out, now_ns) == 0;
    return false;
}

uint64_t mdns_deadline(const cal_mdns *mdns) {
    uint64_t at = mdns->query_at < mdns->answer_at ? mdns->query_at : mdns->answer_at;
    return at < mdns->services_at ? at : mdns->services_at;
}

void mdns_stats_get(const cal_mdns *mdns, cal_p2p_mdns_stats *ret_stats) {
    *ret_stats = mdns->stats;
}
