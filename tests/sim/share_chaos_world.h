/* What happens to the nodes of share_chaos_sim_test.c: joins, writes, members that come and go,
 * losses of power, partitions, clocks. */
#ifndef CAL_TESTS_SHARE_CHAOS_WORLD_H
#define CAL_TESTS_SHARE_CHAOS_WORLD_H

#include "attack_world.h"
#include "gov/draft.h"
#include "gov/share.h"

enum { WRITES_MAX = 400, HEALS_WITHIN_S = 10, SCOPES_MAX = 3, KEYS_MAX = 512, SKEW_MAX_S = 5 };

typedef enum standing { STRANGER, JOINING, MEMBER, GOING, GONE } standing;
typedef enum fate { ASKED, DONE, REFUSED } fate;

typedef struct scope { /* a group and its context; the first is the namespace */
    cal_group_id group;
    cal_context_id context;
    size_t keyed; /* the scope whose key it is sealed with */
} scope;

typedef struct known_key {
    size_t scope;
    cal_hash id;
    uint64_t rotation; /* number of the operation that brought it, at the founder; 0: none did */
    uint64_t looked[PLACES_MAX]; /* knowing.ended when it was looked whether */
    bool hidden[PLACES_MAX];     /* it keeps the place out */
} known_key;

typedef struct knowing { /* what a place may know of a scope: share_chaos_keys.h */
    bool member, removed;
    bool invited;   /* before it is a member it may have the key */
    uint64_t ended; /* number of the operation that ended its membership */
    uint8_t rank[GOV_RANK_SIZE];
} knowing;

typedef struct chaos {
    world *w;
    cal_group_id ns;
    scope scopes[SCOPES_MAX];
    size_t scope_count;
    size_t members; /* places that may be members; the one after them never is */
    cal_account_id account[PLACES_MAX];
    cal_public_key founder; /* its signing key */
    knowing knows[PLACES_MAX][SCOPES_MAX];
    known_key keys[KEYS_MAX];
    size_t key_count;
    char invitation[TEXT_MAX];
    char refused[300]; /* why the last join failed */
    standing standing[PLACES_MAX];
    uint64_t starts[PLACES_MAX];
    size_t steps, joins_after[PLACES_MAX];
    bool heals;
    bool ever_gone[PLACES_MAX][SCOPES_MAX]; /* what it wrote then is nobody's promise */
    uint8_t author[WRITES_MAX], scope_of[WRITES_MAX];
    uint64_t kept_from[WRITES_MAX][PLACES_MAX]; /* whose end its author knew: knowing.ended, or 0 */
    cal_hash key_of[WRITES_MAX]; /* it is sealed with that key or a later one; zero: not known */
    uint64_t began_ns;           /* what a right clock shows at the start of virtual time */
    bool cut[PLACES_MAX];
    bool reading;
    fate writes[WRITES_MAX];
    size_t write_count, in_flight;
    uint64_t compared[SCOPES_MAX], written[SCOPES_MAX]; /* members in the end; answered writes */
    uint64_t compacted;                                 /* deltas, since the last starts */
    uint64_t keys_seen, values_seen, rows_seen, questions, answers, hearings; /* of the checks */
    uint64_t answered, cuts, restarts, partitions, joins, removals, returns, roles, leaves,
        regroupings, invited_by_others, removed_by_others, kept_out;
} chaos;

static chaos c;

#define MARKER "plaintext-" /* of every value, before the number of its write */

/* --- joins and writes, answered whenever --- */

typedef struct asked {
    place *p;
    size_t number;
} asked;

static void joined(void *user, const cal_error *e, const cal_joined *j) {
    place *p = user;
    (void)j;
    if (node_sim_is_off(p->sim)) { /* nobody heard the answer */
        c.standing[p->index] = STRANGER;
        return;
    }
    c.standing[p->index] = e ? STRANGER : MEMBER;
    c.joins += !e;
    if (e) snprintf(c.refused, sizeof c.refused, "%s", e->message);
}

typedef struct inviting {
    place *by, *p; /* who is invited */
    uint64_t starts;
    char json[TEXT_MAX];
} inviting;

static void note_json(void *user, const cal_group_id *group, const char *name, const char *json) {
    (void)group, (void)name;
    snprintf(((inviting *)user)->json, TEXT_MAX, "%s", json);
}

/* By whoever has just invited. */
static void join_by(void *user, const cal_error *e) {
    inviting *i = user;
    place *p = i->p;
    bool same = !node_sim_is_off(p->sim) && c.starts[p->index] == i->starts;
    if (same && !e) {
        c.invited_by_others += i->by->index != 0;
        cal_namespace_join(node_at(p), i->json, NULL, joined, p);
    } else if (same) {
        c.standing[p->index] = STRANGER;
    }
    free(i);
}

static bool may_invite(place *p) {
    return c.standing[p->index] == MEMBER && !node_sim_is_off(p->sim) &&
           gov_member_admin(node_at(p)->gov, &c.ns, &c.account[p->index]);
}

/* An admin, if there is one beside the founder. */
static place *who_invites(void) {
    size_t first = below(c.w, c.members);
    for (size_t i = 0; i < c.members; i++) {
        place *by = &c.w->places[(first + i) % c.members];
        if (by->index != 0 && may_invite(by)) return by;
    }
    return NULL;
}

/* By the founder, from the beginning, or by an admin, now. */
static void ask_to_join(place *p) {
    place *by = c.heals || below(c.w, 3) == 0 ? NULL : who_invites();
    c.standing[p->index] = JOINING;
    if (!by) {
        cal_namespace_join(node_at(p), c.invitation, NULL, joined, p);
        return;
    }
    inviting *i = calloc(1, sizeof *i);
    assert_non_null(i);
    *i = (inviting){.by = by, .p = p, .starts = c.starts[p->index]};
    cal_namespace_invite(node_at(by), &c.ns, 0, false, note_json, join_by, i);
}

static void answered(void *user, const cal_call_result *result) {
    asked *a = user;
    bool off = node_sim_is_off(a->p->sim);
    c.in_flight--;
    bool done =
        result->status == CAL_CALL_OK && result->changed; /* a read-only member changes nothing */
    if (!off) c.writes[a->number] = done ? DONE : REFUSED;
    c.answered += !off && done;
    c.written[c.scope_of[a->number]] += !off && done;
    free(a);
}

static void note_key(place *author, size_t s, size_t write);
static void note_who_is_kept_out(place *author, size_t write);

static void write_one(place *p) {
    char args[100];
    size_t s = below(c.w, c.scope_count);
    if (c.write_count == WRITES_MAX) return;
    asked *a = malloc(sizeof *a);
    assert_non_null(a);
    *a = (asked){p, c.write_count++};
    c.writes[a->number] = ASKED;
    c.author[a->number] = (uint8_t)p->index;
    c.scope_of[a->number] = (uint8_t)s;
    note_key(p, s, a->number);
    note_who_is_kept_out(p, a->number);
    c.in_flight++;
    snprintf(args, sizeof args, "{\"key\":\"w%zu\",\"value\":\"" MARKER "%zu-\"}", a->number,
             a->number);
    cal_execute(node_at(p), &c.scopes[s].context, "set", args, strlen(args), answered, a);
}

/* --- members come and go: what the founder does, and other admins --- */

typedef struct removing {
    place *by, *p;
} removing;

static void removed(void *user, const cal_error *e) {
    removing *r = user;
    place *p = r->p;
    if (node_sim_is_off(r->by->sim)) e = &err; /* nobody knows */
    if (c.standing[p->index] == GOING) c.standing[p->index] = e ? MEMBER : GONE;
    c.removals += !e;
    c.removed_by_others += !e && r->by->index != 0;
    free(r);
}

static void remove_from_all(place *by, place *p) {
    removing *r = malloc(sizeof *r);
    assert_non_null(r);
    *r = (removing){by, p};
    cal_members_remove(node_at(by), &c.ns, &c.account[p->index], 1, removed, r);
}

static void returned(void *user, const cal_error *e) {
    place *p = user;
    if (node_sim_is_off(c.w->places[0].sim)) return;
    if (!e) c.standing[p->index] = MEMBER;
    c.returns += !e;
}

static void left(void *user, const cal_error *e) {
    place *p = user;
    if (c.standing[p->index] == GOING) c.standing[p->index] = e ? MEMBER : GONE;
    c.leaves += !e;
}

static void nothing(void *user, const cal_error *e) { (void)user, c.roles += !e; }
static void regrouped(void *user, const cal_error *e) { (void)user, c.regroupings += !e; }

/* Into a group or out of it, by the row that the founder has. */
static void change_group(place *p, size_t s) {
    place *founder = &c.w->places[0];
    const cal_account_id *account = &c.account[p->index];
    cal_member_spec spec = {.account = *account, .role = CAL_ROLE_MEMBER};
    const cal_group_id *group = &c.scopes[s].group;
    if (gov_member_path(node_at(founder)->gov, group, account, NULL) == GOV_PATH_DIRECT) {
        c.ever_gone[p->index][s] = true;
        cal_members_remove(node_at(founder), group, account, 1, regrouped, p);
    } else
        cal_members_add(node_at(founder), group, &spec, 1, regrouped, p);
}

static void remove_everywhere(place *p) {
    place *founder = &c.w->places[0];
    const cal_account_id *account = &c.account[p->index];
    for (size_t s = 1; s < c.scope_count; s++)
        if (gov_member_path(node_at(founder)->gov, &c.scopes[s].group, account, NULL) ==
            GOV_PATH_DIRECT)
            change_group(p, s);
    remove_from_all(founder, p);
}

static void change_members(void) {
    world *w = c.w;
    place *founder = &w->places[0], *p = &w->places[1 + below(w, c.members - 1)];
    if (node_sim_is_off(founder->sim) || node_sim_is_off(p->sim)) return;
    const cal_account_id account = c.account[p->index];
    if (c.standing[p->index] == GONE) {
        cal_member_spec spec = {.account = account, .role = CAL_ROLE_MEMBER};
        cal_members_add(node_at(founder), &c.ns, &spec, 1, returned, p);
    } else if (c.standing[p->index] != MEMBER) {
        return;
    } else if (c.scope_count > 1 && below(w, 2)) {
        change_group(p, 1 + below(w, c.scope_count - 1));
    } else if (below(w, 3) == 0) {
        static const cal_role roles[] = {CAL_ROLE_READ_ONLY, CAL_ROLE_MEMBER, CAL_ROLE_ADMIN};
        cal_member_set_role(node_at(founder), &c.ns, &account, roles[below(w, 3)], nothing, NULL);
    } else {
        c.standing[p->index] = GOING;
        for (size_t s = 0; s < c.scope_count; s++) c.ever_gone[p->index][s] = true;
        place *other = below(w, 2) ? who_invites() : NULL;
        if (other && other != p &&
            c.scope_count == 1) /* an admin of the namespace, not of groups */
            remove_from_all(other, p);
        else if (below(w, 4))
            remove_everywhere(p);
        else
            cal_group_leave(node_at(p), &c.ns, left, p);
    }
}

/* --- trouble --- */

static void isolate(place *p, bool cut) {
    if (c.cut[p->index] == cut) return;
    c.cut[p->index] = cut;
    for (size_t i = 0; i < c.w->count; i++) {
        net_sim_machine *self = node_sim_machine(p->sim),
                        *other = node_sim_machine(c.w->places[i].sim);
        if (i == p->index) continue;
        (cut ? net_sim_cut : net_sim_mend)(self, other);
        (cut ? net_sim_cut : net_sim_mend)(other, self);
    }
    c.partitions += cut;
}

static void stop(place *p) {
    static const cal_sim_survival survivals[] = {CAL_SIM_KEEP, CAL_SIM_DROP, CAL_SIM_TEAR};
    if (below(c.w, 2)) {
        node_sim_cut_off(p->sim, survivals[below(c.w, 3)]);
        c.cuts++;
    } else {
        node_sim_stop(p->sim);
        c.restarts++;
    }
    if (c.standing[p->index] == JOINING) c.standing[p->index] = STRANGER;
    c.starts[p->index]++;
}

/* Between any two places at most the bound of 5 s. */
static void set_clock(place *p) {
    uint64_t right = c.began_ns + net_sim_now(node_sim_net(c.w->sim));
    cal_sim_set_wall(node_sim_disk(p->sim),
                     right + below(c.w, SKEW_MAX_S * SECOND) - SKEW_MAX_S * SECOND / 2);
}

static void step(void) {
    world *w = c.w;
    place *p = &w->places[below(w, c.members)];
    if (node_sim_is_off(p->sim)) {
        if (below(w, 3) == 0) place_start(p);
        return;
    }
    switch (below(w, 12)) {
    case 4:
        if (!node_sim_is_off(w->places[0].sim) && c.standing[p->index] == MEMBER)
            cal_member_set_role(node_at(&w->places[0]), &c.ns, &c.account[p->index], CAL_ROLE_ADMIN,
                                nothing, NULL);
        break;
    case 3:
        change_members();
        break;
    case 0:
        stop(p);
        break;
    case 1:
        isolate(p, !c.cut[p->index]);
        break;
    case 2:
        set_clock(p);
        break;
    default:
        if (c.standing[p->index] == STRANGER && c.steps >= c.joins_after[p->index])
            ask_to_join(p);
        else if (c.standing[p->index] == MEMBER)
            write_one(p);
    }
}

#endif
