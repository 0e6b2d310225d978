/* Kademlia between hosts over real sockets on one loop. */
#include "net/kad.h"
#include "net/testing.h"

enum { HOSTS = 5, KEYS = 8 };

/* What one search was told. */
typedef struct seeker {
    int done, code;
    size_t count, found, addresses;
    cal_peer_id peer;
    uint64_t size;
    bool inside; /* the call that began it has not returned */
} seeker;

static void on_found(void *user, const cal_p2p_provider *provider) {
    seeker *s = user;
    assert_false(s->inside);
    s->found++;
    s->peer = provider->peer;
    s->size = provider->size;
    s->addresses = provider->address_count;
}

static void on_done(void *user, const cal_error *err, size_t count) {
    seeker *s = user;
    assert_false(s->inside);
    s->done++;
    s->code = err ? err->code : 0;
    s->count = count;
}

static void on_located(void *user, const cal_error *err, const cal_multiaddr *addresses,
                       size_t count) {
    assert_true(!err || count == 0);
    if (count) assert_int_not_equal(addresses[0].len, 0);
    on_done(user, err, count);
}

static bool is_done(void *user) { return ((seeker *)user)->done > 0; }

static void provide(cal_p2p *host, const uint8_t *key, uint64_t size, seeker *s) {
    s->inside = true;
    assert_int_equal(cal_p2p_provide(host, key, size, on_done, s), 0);
    s->inside = false;
}
static void search(cal_p2p *host, const uint8_t *key, seeker *s) {
    s->inside = true;
    assert_int_equal(cal_p2p_providers(host, key, on_found, on_done, s), 0);
    s->inside = false;
}

/* --- a town: all know only the first --- */

typedef struct town {
    testing_net net;
    cal_p2p *hosts[HOSTS];
} town;

static cal_p2p_kad_stats stats_of(const cal_p2p *host) {
    cal_p2p_kad_stats stats;
    assert_int_equal(cal_p2p_kad_stats_get(host, &stats), 0);
    return stats;
}

static bool know_each_other(void *user) {
    town *t = user;
    for (int i = 0; i < HOSTS; i++)
        if (stats_of(t->hosts[i]).peers < (i == 0 ? HOSTS - 1 : 1)) return false;
    return true;
}

static void town_begin(town *t) {
    testing_net_init(&t->net);
    for (int i = 0; i < HOSTS; i++) {
        t->hosts[i] = testing_host(&t->net, NULL);
        assert_int_equal(cal_p2p_kad_start(t->hosts[i]), 0);
        assert_int_equal(cal_p2p_kad_start(t->hosts[i]), CAL_EEXISTS);
    }
    for (int i = 1; i < HOSTS; i++) testing_connect(&t->net, t->hosts[i], t->hosts[0]);
    testing_until(&t->net, know_each_other, t);
}

/* Each question has a stream of its own, which its answer ends. */
static bool no_streams(void *user) {
    const town *t = user;
    for (int i = 0; i < HOSTS; i++) {
        const cal_p2p *host = t->hosts[i];
        if (!host) continue;
        for (cal_list *c = host->connections.next; c != &host->connections; c = c->next) {
            const yamux *mux = &CAL_CONTAINER_OF(c, net_connection, link)->mux;
            for (cal_list *at = mux->streams.next; at != &mux->streams; at = at->next)
                if (!strcmp(cal_p2p_stream_protocol(CAL_CONTAINER_OF(at, cal_p2p_stream, mux.link)),
                            KAD_PROTOCOL))
                    return false;
        }
    }
    return true;
}

static void town_drop(town *t, int i) {
    testing_drop(&t->net, (size_t)i);
    t->hosts[i] = NULL;
}

/* What one says, another finds: through peers it had to dial, and when the first is gone. */
static void test_provide_and_find(void **state) {
    (void)state;
    town t;
    seeker said = {0}, asked = {0}, located = {0}, late = {0};
    uint8_t key[CAL_P2P_KEY_SIZE] = {4, 2};
    cal_peer_id holder, other;
    town_begin(&t);
    cal_p2p_id(t.hosts[1], &holder);
    cal_p2p_id(t.hosts[2], &other);
    provide(t.hosts[1], key, 4711, &said);
    assert_int_equal(cal_p2p_provide(t.hosts[1], key, 1, NULL, NULL), CAL_EEXISTS);
    testing_until(&t.net, is_done, &said);
    assert_int_equal(said.code, 0);
    assert_in_range(said.count, 1, HOSTS - 1);
    search(t.hosts[3], key, &asked);
    testing_until(&t.net, is_done, &asked);
    assert_int_equal(asked.code, 0);
    assert_int_equal(asked.count, 1);
    assert_int_equal(asked.found, 1);
    assert_true(cal_peer_id_equal(&asked.peer, &holder));
    assert_int_equal(asked.size, 4711);
    assert_true(asked.addresses >= 1);
    assert_int_equal(cal_p2p_find(t.hosts[3], &other, on_located, &located), 0);
    testing_until(&t.net, is_done, &located);
    assert_int_equal(located.code, 0);
    assert_true(located.count >= 1);
    testing_until(&t.net, no_streams, &t);
    town_drop(&t, 1);
    search(t.hosts[4], key, &late);
    testing_until(&t.net, is_done, &late);
    assert_int_equal(late.found, 1);
    assert_true(cal_peer_id_equal(&late.peer, &holder));
    testing_net_deinit(&t.net);
}

struct all {
    seeker *seekers;
    int count;
};
static bool all_done(void *user) {
    struct all *all = user;
    for (int i = 0; i < all->count; i++)
        if (!all->seekers[i].done) return false;
    return true;
}

/* Searches at once each reach their own callback; what is withdrawn early is canceled. */
static void test_many_at_once(void **state) {
    (void)state;
    town t;
    seeker said[KEYS] = {0}, asked[2 * KEYS] = {0}, withdrawn = {0};
    uint8_t keys[KEYS][CAL_P2P_KEY_SIZE] = {0}, early[CAL_P2P_KEY_SIZE] = {99};
    cal_peer_id holders[2];
    town_begin(&t);
    for (int i = 0; i < KEYS; i++) {
        keys[i][0] = (uint8_t)(i + 1);
        provide(t.hosts[1 + i % 2], keys[i], (uint64_t)(100 + i), &said[i]);
    }
    provide(t.hosts[1], early, 1, &withdrawn);
    assert_int_equal(cal_p2p_withdraw(t.hosts[1], early), 0);
    assert_int_equal(cal_p2p_withdraw(t.hosts[1], early), CAL_ENOTFOUND);
    assert_int_equal(withdrawn.done, 0); /* not from inside the call */
    testing_until(&t.net, all_done, &(struct all){said, KEYS});
    testing_until(&t.net, is_done, &withdrawn);
    assert_int_equal(withdrawn.code, CAL_ECANCELED);
    for (int i = 0; i < 2; i++) cal_p2p_id(t.hosts[1 + i], &holders[i]);
    for (int i = 0; i < KEYS; i++) {
        search(t.hosts[3], keys[i], &asked[i]);
        search(t.hosts[4], keys[i], &asked[KEYS + i]);
    }
    testing_until(&t.net, all_done, &(struct all){asked, 2 * KEYS});
    for (int i = 0; i < 2 * KEYS; i++) {
        assert_int_equal(asked[i].done, 1);
        assert_int_equal(asked[i].found, 1);
        assert_int_equal(asked[i].size, 100 + i % KEYS);
        assert_true(cal_peer_id_equal(&asked[i].peer, &holders[i % KEYS % 2]));
    }
    testing_until(&t.net, no_streams, &t);
    testing_net_deinit(&t.net);
}

/* What is not answered is canceled: by a stop in the next rounds of the loop, by the end of the
 * host before it is gone. */
static void test_stop(void **state) {
    (void)state;
    town t;
    seeker asked = {0}, located = {0}, said = {0}, last = {0};
    uint8_t key[CAL_P2P_KEY_SIZE] = {1};
    cal_peer_id nobody = {.len = 34, .bytes = {0x12, 0x20, 5}};
    town_begin(&t);
    search(t.hosts[2], key, &asked);
    provide(t.hosts[2], key, 1, &said);
    assert_int_equal(cal_p2p_find(t.hosts[2], &nobody, on_located, &located), 0);
    uv_run(&t.net.loop, UV_RUN_NOWAIT); /* requests are under way */
    cal_p2p_kad_stop(t.hosts[2]);
    assert_int_equal(asked.done + said.done + located.done, 0);
    assert_int_equal(cal_p2p_providers(t.hosts[2], key, on_found, on_done, &asked), CAL_ESTATE);
    assert_int_equal(cal_p2p_withdraw(t.hosts[2], key), CAL_ESTATE);
    testing_until(&t.net, is_done, &asked);
    testing_until(&t.net, is_done, &said);
    testing_until(&t.net, is_done, &located);
    assert_int_equal(asked.code, CAL_ECANCELED);
    assert_int_equal(said.code, CAL_ECANCELED);
    assert_int_equal(located.code, CAL_ECANCELED);
    assert_int_equal(cal_p2p_kad_start(t.hosts[2]), 0); /* and again */
    search(t.hosts[3], key, &last);
    town_drop(&t, 3);
    assert_int_equal(last.done, 1);
    assert_int_equal(last.code, CAL_ECANCELED);
    testing_net_deinit(&t.net);
}

static bool are_apart(void *user) {
    struct testing_both *both = user;
    cal_peer_id b;
    cal_p2p_id(both->b, &b);
    return !cal_p2p_is_connected(both->a, &b);
}

static bool has_taken_one(void *user) {
    cal_p2p_kad_stats stats = stats_of(user);
    return stats.records_taken == 1 && stats.peers == 1;
}

/* Alone there is nobody to ask; the table outlives the connections. */
static void test_alone_and_again(void **state) {
    (void)state;
    testing_net net;
    seeker asked = {0}, said = {0}, again = {0};
    uint8_t key[CAL_P2P_KEY_SIZE] = {1};
    cal_peer_id b_id;
    testing_net_init(&net);
    cal_p2p *a = testing_host(&net, NULL), *b = testing_host(&net, NULL);
    assert_int_equal(cal_p2p_kad_start(a), 0);
    search(a, key, &asked);
    testing_until(&net, is_done, &asked);
    assert_int_equal(asked.code, CAL_EUNREACHABLE);
    assert_int_equal(cal_p2p_kad_start(b), 0);
    testing_connect(&net, a, b);
    provide(b, key, 5, &said); /* it knows nobody yet: told, and tried again when it does */
    testing_until(&net, is_done, &said);
    testing_until(&net, has_taken_one, a);
    cal_p2p_id(b, &b_id);
    cal_p2p_disconnect(a, &b_id);
    testing_until(&net, are_apart, &(struct testing_both){a, b});
    assert_int_equal(stats_of(a).peers, 1);
    search(a, key, &again);
    testing_until(&net, is_done, &again);
    assert_int_equal(again.found, 1);
    assert_true(cal_p2p_is_connected(a, &b_id)); /* it was dialled for the question */
    testing_net_deinit(&net);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_provide_and_find),
        cmocka_unit_test(test_many_at_once),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_alone_and_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
