/* What the nodes of a namespace share beside its operations: history, keys, joining, and whether
 * the author of a delta may write (governance.md 6, 7, 10, 11, 13).
 *
 * Streams and topics are sync's business; here is what is asked and answered, as values. Loop
 * thread, unless marked. Changes as in gov.h. */
#ifndef CAL_GOV_SHARE_H
#define CAL_GOV_SHARE_H

#include "gov/gov.h"
#include "gov/keyring.h"

/* --- who watches --- */

/* Told after a change became visible, in the order of commits, from inside gov_change_commit: it
 * looks, and starts no change. The change is read with gov_change_namespace, gov_change_ops and
 * gov_change_op (those of this node), gov_change_receipts, and: */
typedef struct gov_observer {
    void (*committed)(void *user, const gov_change *change);
    /* The namespace is gone from this node (gov_namespace_delete); its rows are not read any more.
     */
    void (*purged)(void *user, const cal_group_id *namespace_id);
} gov_observer;
void gov_observe(cal_gov *gov, const gov_observer *observer, void *user); /* one; NULL: none */
/* Contexts whose registration the change made (registered) or ended. */
void gov_change_contexts(const gov_change *change,
                         void (*visit)(void *user, const cal_group_id *group,
                                       const cal_context_id *context, bool registered),
                         void *user);
bool gov_change_touches_members(const gov_change *change); /* members, roles, devices, rights */
bool gov_change_brings_keys(const gov_change *change);

/* --- history --- */

/* Encoded operations of a namespace: those with these ids that are here, or, without ids, those
 * with the smallest ids; at most `max` of them and about bytes_max in all. `after` (NULL: from the
 * start), for those without ids: only ids above it. visit returns 0 to go on. Any thread. */
int gov_history_read(cal_store *store, const cal_group_id *namespace_id, const cal_hash *ids,
                     size_t count, const cal_hash *after, size_t max, size_t bytes_max,
                     int (*visit)(void *user, const cal_hash *id, cal_slice bytes), void *user);
/* Some of the operations that are here, up to max: the heads and the newest, then the older ones
 * the further apart; for whoever is asked for others. Reads the store. */
size_t gov_history_sample(cal_gov *gov, const cal_group_id *namespace_id, cal_hash *ret_ids,
                          size_t max);
/* A namespace's operations, as of the start, without those that are, or are below, some that are
 * named: parents before children. Reading is in steps, on any thread, one at a time. */
typedef struct gov_past {
    cal_group_id namespace_id;
    uint64_t top, at, next; /* the walk goes down from `at`, reading up from `next` */
    cal_hash *ids;
    size_t count;
    bool located;
    uint8_t *below; /* a bit for each number */
} gov_past;
enum { GOV_PAST_MAX = 4 * 1024 * 1024 }; /* operations */
/* Loop. CAL_ENOTFOUND no such namespace, CAL_ELIMIT, CAL_ENOMEM. */
int gov_past_init(cal_gov *gov, const cal_group_id *namespace_id, const cal_hash *ids, size_t count,
                  gov_past *ret_past);
void gov_past_deinit(gov_past *past); /* zeroed allowed */
/* Looks at so many at most: 0 once it is known which are below; CAL_EBUSY go on. */
int gov_past_step(cal_store *store, gov_past *past, size_t max);
/* Then: the next ones, at most `max` and about bytes_max in all. visit returns 0 to go on,
 * CAL_ELIMIT to have this one again next time. */
int gov_past_read(cal_store *store, gov_past *past, size_t max, size_t bytes_max,
                  int (*visit)(void *user, const cal_hash *id, cal_slice bytes), void *user,
                  bool *ret_more);
/* The heads of the namespace's graph, up to max; their number. */
size_t gov_heads(cal_gov *gov, const cal_group_id *namespace_id, cal_hash *ret_heads, size_t max);
/* Whether the operation is in the graph: 0, CAL_ENOTFOUND, or why it could not be looked up. */
int gov_has_op(cal_gov *gov, const cal_group_id *namespace_id, const cal_hash *id);
/* Whether it is in the graph, or waits here to be decided. As above. */
int gov_knows_op(cal_gov *gov, const cal_group_id *namespace_id, const cal_hash *id);
uint64_t gov_op_count(cal_gov *gov, const cal_group_id *namespace_id);

/* --- who somebody is, as of now --- */

/* The account that a signing key speaks for in a namespace, by a live binding. CAL_ENOTFOUND. */
int gov_account_of(cal_gov *gov, const cal_group_id *namespace_id, const cal_public_key *key,
                   cal_account_id *ret_account);
/* Every device that was ever certified in the namespace, revoked ones and those of former members
 * too: whom a signature of before is of. CAL_ENOTFOUND. */
int gov_devices_ever(cal_gov *gov, const cal_group_id *namespace_id,
                     void (*visit)(void *user, const cal_public_key *key,
                                   const cal_account_id *account),
                     void *user);
/* Whether a key speaks for a member of the group (a namespace too), by row or by inheritance. */
bool gov_key_is_member(cal_gov *gov, const cal_group_id *group, const cal_public_key *key);
/* Whether it may have what members have: not while an operation of an admin, or of itself, that may
 * be its removal is kept sealed (T22). */
bool gov_key_may_read(cal_gov *gov, const cal_group_id *group, const cal_public_key *key);

/* --- deltas --- */

typedef enum gov_author_verdict {
    GOV_AUTHOR_MAY,
    GOV_AUTHOR_NOT,     /* no member at the cut, or read-only: final */
    GOV_AUTHOR_UNKNOWN, /* the cut cannot be told yet: `wait` */
} gov_author_verdict;
typedef struct gov_author {
    gov_author_verdict verdict;
    cal_account_id account; /* of MAY: whom the author's key speaks for at the cut */
    gov_wait wait;
    const char *why; /* of NOT; static */
} gov_author;
/* Whether the key may write to the context at the position that a delta cites (governance.md 13;
 * 7.2 at that cut). CAL_ENOTFOUND: the context is in no group here. CAL_EIO, CAL_ECORRUPT,
 * CAL_ENOMEM. */
int gov_author_judge(cal_gov *gov, const cal_context_id *context, const cal_public_key *author,
                     const gov_position *position, gov_author *ret_author, cal_error *err);
/* The key with this id that may open a delta of the context: of its group, else of the namespace.
 * CAL_ENOTFOUND. Wipe it. */
int gov_context_key(cal_gov *gov, const cal_context_id *context, const cal_hash *key_id,
                    cal_secret *ret_key);

/* --- keys --- */

typedef struct gov_key_want {
    cal_group_id group;
    bool any;        /* no operation names one: whatever is current */
    cal_hash key_id; /* !any */
} gov_key_want;
/* Keys that this node should have and has not: of operations of members kept sealed, of deltas that
 * wait (gov_key_wish), and of groups in which it has a row but no key at all. Up to max; their
 * number. When there are more, each has its turn as `turn` grows. */
size_t gov_keys_wanted(cal_gov *gov, const cal_group_id *namespace_id, uint64_t turn,
                       gov_key_want *ret_wants, size_t max);
/* A delta of this author, who may write, could not be opened without this key. Kept in memory; of
 * each author some, however many another one wishes for. */
void gov_key_wish(cal_gov *gov, const cal_context_id *context, const cal_account_id *author,
                  const cal_hash *key_id);
/* Whether one of them is the namespace's own: operations of it are kept sealed. */
bool gov_keys_lacking(cal_gov *gov, const cal_group_id *namespace_id);
/* What a member's device may have (governance.md 11, pull responder rules; T16, T25): the envelope
 * for that device. key_id NULL: the current key. CAL_ENOTFOUND for every refusal. */
int gov_key_serve(cal_gov *gov, const cal_group_id *namespace_id, const cal_group_id *group,
                  const cal_public_key *requester, const cal_device_id *device,
                  const cal_hash *key_id, gov_envelope *ret_envelope);
/* A key that a peer sent in answer: stored when the envelope opens, was sent by `responder` and is
 * the key that was asked for. A key that was not asked for by its id seals nothing of ours before a
 * member's operation or delta was opened with it (18.2, G1). The change judges again what was
 * sealed under it. CAL_EVERIFY, CAL_ENOTFOUND (not for us), CAL_EDENIED (the responder is known,
 * and no member), CAL_EEXISTS (it is here). */
int gov_key_take(cal_gov *gov, const cal_group_id *namespace_id, const gov_key_want *want,
                 const gov_envelope *envelope, const cal_public_key *responder,
                 gov_change **ret_change, cal_error *err);

/* --- joining: the responder (governance.md 10.4) --- */

/* Who was answered. Until its own operation makes it a member it may have the keys that members
 * had before the one it was given, or it could not read what it joins. */
typedef struct gov_joiner {
    cal_public_key key;
    cal_account_id account;
    cal_device_id device;
    bool has_key;    /* false: it was given none, and is given no older ones */
    cal_hash key_id; /* of the highest that there was */
} gov_joiner;

typedef struct gov_join_answer {
    gov_joiner joiner;
    bool has_envelope;     /* false: this node has no key to give */
    gov_envelope envelope; /* member-addressed */
    cal_application_id application;
    uint32_t default_capabilities;
    const cal_context_id *contexts; /* registered in the namespace; in the arena */
    size_t context_count;
} gov_join_answer;
/* Judges a request to join by present rows; nothing changes (the joiner's own operation does it).
 * CAL_EDENIED, CAL_ENOTFOUND, CAL_EVERIFY, CAL_EDECODE: err has the words for the joiner;
 * CAL_ENOMEM. */
int gov_join_answer_make(cal_gov *gov, const cal_group_id *namespace_id, cal_slice invitation,
                         cal_slice credential, const cal_public_key *joiner, cal_arena *arena,
                         gov_join_answer *ret_answer, cal_error *err);
/* The same for an open subgroup (OpenSubgroupJoinRequest): the key of its group. */
int gov_join_open_answer(cal_gov *gov, const cal_group_id *namespace_id,
                         const cal_group_id *subgroup, const cal_public_key *joiner,
                         gov_envelope *ret_envelope, cal_error *err);
/* Whether the history that is here says that the inviter may invite. */
bool gov_join_inviter_known(cal_gov *gov, const gov_invitation *invitation);
/* An older key of the namespace for somebody who was answered: member-addressed. CAL_ENOTFOUND for
 * every refusal: among them a key that came after the one it was given. */
int gov_join_key_serve(cal_gov *gov, const cal_group_id *namespace_id, const gov_joiner *joiner,
                       const cal_hash *key_id, gov_envelope *ret_envelope);

/* --- joining: the joiner (governance.md 10) --- */

/* Checks the invitation (signature, expiry), and makes the placeholder rows: a namespace known by
 * name only, that grants nobody anything. For an invitation to a namespace; ret_change NULL when
 * there is nothing to store. CAL_EVERIFY, CAL_ETIMEOUT (expired), CAL_EINVAL (without the hints a
 * joiner needs), CAL_EEXISTS (this node is a member already; not an error to a caller who only
 * wants to be one). */
int gov_join_begin(cal_gov *gov, const gov_invitation *invitation, const char *name,
                   gov_change **ret_change, cal_error *err);
/* What a responder answered: the key (unconfirmed, see gov_key_take) and default capabilities. */
int gov_join_take(cal_gov *gov, const gov_invitation *invitation, const gov_envelope *envelope,
                  const cal_public_key *responder, uint32_t default_capabilities,
                  gov_change **ret_change, cal_error *err);
/* MemberJoinedAt by this node at the present heads. Before it, G13: the inviter of the invitation
 * must be somebody who may invite in the history that came, else CAL_EDENIED: the namespace is not
 * the inviter's. CAL_ESTATE: no history yet. */
int gov_join_publish(cal_gov *gov, const gov_invitation *invitation, gov_change **ret_change,
                     cal_error *err);
/* MemberJoinedOpen: this node in an open group that it inherits membership of. */
int gov_join_open(cal_gov *gov, const cal_group_id *group, gov_change **ret_change, cal_error *err);
/* An abandoned join: the placeholder rows go. */
int gov_join_abandon(cal_gov *gov, const cal_group_id *namespace_id, gov_change **ret_change,
                     cal_error *err);
/* Whether the namespace is only a placeholder here: this node is in no group of it. */
bool gov_namespace_joining(cal_gov *gov, const cal_group_id *namespace_id);
/* The credential that a join carries, encoded; and this node's signing key. */
int gov_credential_bytes(const cal_gov *gov, cal_buffer *ret_bytes);

#endif
