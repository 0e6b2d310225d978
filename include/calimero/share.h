/* Sharing: joining a namespace of others, and keeping its contexts in step. Threads, errors and
 * pointers as node.h says. */
#ifndef CALIMERO_SHARE_H
#define CALIMERO_SHARE_H

#include "calimero/members.h"
#include "calimero/node.h"
#include "calimero/p2p.h"

#ifdef __cplusplus
extern "C" {
#endif

/* --- inviting --- */

typedef struct cal_invite_options {
    const cal_role
        *role;        /* NULL: a member. An admin only by an admin, never CAL_ROLE_READ_ONLY_TEE */
    uint64_t valid_s; /* seconds from now; 0: 365 days */
    bool recursive;   /* one for the group, and one for each below it */
} cal_invite_options;
typedef struct cal_invitation {
    cal_group_id group;
    const char *group_name; /* NULL: none */
    const char *json;       /* SignedInvitation of http-api.md 2 */
    /* The same as one line of text, with the addresses at which this node may be dialled, private
     * ones too. Whoever has either may join, until it expires. */
    const char *code;
} cal_invitation;
/* `visit` for each, then `done`. Nothing is changed by it. CAL_ENOTFOUND, CAL_EDENIED. */
void cal_invite(cal_node *node, const cal_group_id *group, const cal_invite_options *options,
                void (*visit)(void *user, const cal_invitation *invitation), cal_simple_done done,
                void *user);
/* Of one group, in the one-line form; free() it. */
int cal_invite_wait(cal_node *node, const cal_group_id *group, const cal_invite_options *options,
                    char **ret_code, cal_error *err);

/* --- joining --- */

typedef struct cal_joined {
    cal_group_id namespace_id;
    cal_public_key member; /* this node's key in it */
    cal_account_id account;
} cal_joined;
typedef void (*cal_join_done)(void *user, const cal_error *err, const cal_joined *joined);

/* Which namespace or group an invitation of either form is for: so a program need not be told.
 * Pure; CAL_EDECODE, CAL_EVERSION. */
int cal_invitation_group(const char *invitation, cal_group_id *ret_group, cal_error *err);
/* Where it says that a member may be dialled: `visit` for each, as text; none for JSON. Pure.
 * CAL_EDECODE, CAL_EVERSION. */
int cal_invitation_addresses(const char *invitation, void (*visit)(void *user, const char *address),
                             void *user, cal_error *err);
/* An invitation of either form in the one wanted; free() it. The line keeps the addresses and the
 * name that it has, and gets these addresses ("/ip4/.../tcp/2428/p2p/12D3...") besides; JSON has
 * room for neither. Pure, any thread; nothing is verified: the signature stays what it is, and who
 * joins hears whether it is good. CAL_EDECODE, CAL_EVERSION, CAL_EINVAL an address that cannot be
 * dialled, CAL_ELIMIT more than CAL_INVITATION_ADDRESSES_MAX of them. */
enum { CAL_INVITATION_ADDRESSES_MAX = 8 };
int cal_invitation_to_json(const char *invitation, char **ret_json, cal_error *err);
int cal_invitation_to_code(const char *invitation, const char *const *addresses, size_t count,
                           char **ret_code, cal_error *err);
/* Whether it is, or means to be, the one-line form. */
bool cal_invitation_is_code(const char *invitation);

/* Joins the namespace that an invitation is for (the JSON of http-api.md 2, or the one-line form,
 * which also says where to dial). `name` (NULL: none): what the namespace is called here. Takes up
 * to a minute. CAL_EDECODE, CAL_EVERIFY (its signature), CAL_ETIMEOUT (it has expired), CAL_EDENIED
 * (a member refused, with its words), CAL_EUNREACHABLE (no member could be reached). Who is a
 * member already is told so at once, without an error. */
void cal_namespace_join(cal_node *node, const char *invitation, const char *name,
                        cal_join_done done, void *user);
int cal_namespace_join_wait(cal_node *node, const char *invitation, const char *name,
                            cal_joined *ret_joined, cal_error *err);

/* --- keeping in step --- */

typedef enum cal_sync_state {
    CAL_SYNC_ALONE,     /* nobody else who hears the context is connected */
    CAL_SYNC_UNKNOWN,   /* not compared since the last change */
    CAL_SYNC_BEHIND,    /* catching up */
    CAL_SYNC_EQUAL,     /* equal roots were seen: with whom and when */
    CAL_SYNC_DIFFERENT, /* equal heads, other roots */
    CAL_SYNC_WAITING,   /* for its code, a key, governance: `why` */
} cal_sync_state;
const char *cal_sync_state_text(cal_sync_state state); /* "in sync" */

enum { CAL_SYNC_WHY_MAX = 1024 };
typedef struct cal_sync_status {
    cal_sync_state state;
    cal_peer_id peer;     /* of the last comparison; len 0: none yet */
    uint64_t compared_ms; /* Unix; of it */
    uint64_t waiting;     /* deltas that wait for something */
    uint64_t failures;    /* comparisons that failed, in a row */
    /* Of the last failure, or what is waited for; and whose version does not fit ours, with both.
     * ""
     */
    char why[CAL_SYNC_WHY_MAX];
} cal_sync_status;
int cal_context_sync_status(cal_node *node, const cal_context_id *context,
                            cal_sync_status *ret_status); /* CAL_ENOTFOUND */

/* Compares with a peer now, and takes what is missing. NULL: every context; done when each was
 * compared once, or could not be (the first that could not is the error). CAL_ENOTFOUND,
 * CAL_EUNREACHABLE. */
void cal_context_sync(cal_node *node, const cal_context_id *context, cal_simple_done done,
                      void *user);
int cal_context_sync_wait(cal_node *node, const cal_context_id *context, cal_error *err);

/* Stops taking part in a context on this node alone: nothing of it is heard or fetched any more,
 * also after a restart, and the rows stay. CAL_ENOTFOUND. And takes part again: this node must be a
 * member of its group (CAL_EDENIED); done comes when the context is here, with or without a state.
 */
void cal_context_leave(cal_node *node, const cal_context_id *context, cal_simple_done done,
                       void *user);
void cal_context_join(cal_node *node, const cal_context_id *context, cal_simple_done done,
                      void *user);
int cal_context_join_wait(cal_node *node, const cal_context_id *context, cal_error *err);

/* --- figures for /metrics --- */
#define CAL_SYNC_COUNTERS(X)                                                                       \
    X(ops_published, "governance operations published")                                            \
    X(ops_received, "governance operations received")                                              \
    X(ops_applied, "governance operations received and given their place")                         \
    X(ops_refused, "governance operations refused")                                                \
    X(acks_sent, "acknowledgements of operations sent")                                            \
    X(acks_received, "acknowledgements of operations received")                                    \
    X(beacons_sent, "readiness beacons sent")                                                      \
    X(beacons_received, "readiness beacons received")                                              \
    X(backfills, "questions for missing operations")                                               \
    X(keys_asked, "questions for keys")                                                            \
    X(keys_taken, "keys received")                                                                 \
    X(keys_served, "keys handed out")                                                              \
    X(joins_served, "requests to join answered")                                                   \
    X(joins_refused, "requests to join refused")                                                   \
    X(deltas_published, "deltas published")                                                        \
    X(deltas_received, "deltas received by gossip")                                                \
    X(deltas_known, "deltas received that were known")                                             \
    X(deltas_refused, "deltas refused")                                                            \
    X(deltas_served, "deltas served")                                                              \
    X(deltas_fetched, "deltas fetched")                                                            \
    X(ops_bulk, "governance operations fetched, many at once")                                     \
    X(deltas_bulk, "deltas fetched, many at once")                                                 \
    X(deltas_covered, "deltas that a state taken whole has")                                       \
    X(state_pages, "pages of whole states taken")                                                  \
    X(states_resumed, "transfers of a whole state that went on where they broke off")              \
    X(heads_taken_over, "times that a peer's heads were taken over with its root")                 \
    X(bulk_asked, "questions for much at once")                                                    \
    X(bulk_frames, "frames that came to them")                                                     \
    X(bulk_served, "questions for much at once answered")                                          \
    X(heartbeats_received, "heartbeats of contexts received")                                      \
    X(heads_served, "questions for heads answered")                                                \
    X(trees_served, "answers about trees of contexts")                                             \
    X(tree_hashes_served, "hashes in those answers")                                               \
    X(leaves_taken, "entities and deletions taken from trees of others")                           \
    X(leaves_sent, "entities and deletions sent out of trees")                                     \
    X(trees_compared, "comparisons of trees that came to an end")                                  \
    X(comparisons, "comparisons with a peer that came to an end")                                  \
    X(blobs_served, "blobs and applications sent to others")                                       \
    X(blobs_refused, "requests for blobs that were refused")                                       \
    X(blobs_fetched, "blobs and applications fetched from others")                                 \
    X(requests_declined, "requests of others declined")                                            \
    X(malformed, "messages of others that could not be read")
typedef struct cal_sync_stats {
#define CAL_SYNC_COUNTER_FIELD(name, text) uint64_t name;
    CAL_SYNC_COUNTERS(CAL_SYNC_COUNTER_FIELD)
#undef CAL_SYNC_COUNTER_FIELD
} cal_sync_stats;
void cal_sync_stats_get(cal_node *node, cal_sync_stats *ret_stats);

#ifdef __cplusplus
}
#endif
#endif
