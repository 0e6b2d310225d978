/* Snapshots: a context's whole state as it was at one moment, handed from node to node
 * (network-sync.md 8.4). Both sides as machines without streams, clocks or threads of their own:
 * they make the next message and take the one that came, on a worker, one call at a time; whoever
 * owns the stream carries them (message.h).
 *
 * Serving. A view holds one moment of the store: writers go on and invalidate nothing. It is taken
 * for a transfer and given back after it; then it waits a while, so that a transfer that broke off
 * can go on where it was, with the root it began with. Views are few, each costs a read connection
 * and keeps the store's log from starting over.
 *
 * Taking. Rows wait in the store under an id of their own, beside the context, which stays as it
 * is until all of it has come and verified. Nothing that was received survives a restart. */
#ifndef CAL_SYNC_SNAPSHOT_H
#define CAL_SYNC_SNAPSHOT_H

#include "context/context.h"
#include "context/past.h"
#include "store/removal.h"
#include "sync/message.h"

/* --- views --- */

enum {
    SYNC_VIEWS_MAX = 8,
    SYNC_VIEW_IDLE_MS = 60000,         /* that nobody has taken */
    SYNC_VIEW_AGE_MS = 30 * 60 * 1000, /* since it was made: then it serves no more */
};

typedef struct sync_views sync_views;
typedef struct sync_view sync_view;

int sync_views_new(cal_store *store, sync_views **ret_views); /* CAL_ENOMEM */
void sync_views_free(sync_views *views); /* before the store; none may be taken; NULL allowed */
/* A view of the context with this root, waiting or new; root NULL: of what it is now, always new.
 * Blocking, any thread. CAL_ENOTFOUND no such context, CAL_ESTATE it has no state, CAL_EINVAL its
 * root is another one now and no view of this one waits, CAL_EOVERLOAD all are taken, and what the
 * store answers. */
int sync_views_take(sync_views *views, const cal_context_id *context, const cal_hash *root,
                    uint64_t now_ns, sync_view **ret_view);
/* As it is with a root, and with these heads too: a root may come again over other ones. */
int sync_views_take_at(sync_views *views, const cal_context_id *context, const cal_hash *root,
                       const sync_ids *heads, uint64_t now_ns, sync_view **ret_view);
/* Any thread. The view belongs to the table again. */
void sync_views_give(sync_views *views, sync_view *view, uint64_t now_ns);
/* Frees those that waited too long. When to come again; UINT64_MAX: none waits. Any thread. */
uint64_t sync_views_expire(sync_views *views, uint64_t now_ns);
size_t sync_views_count(sync_views *views);

/* Root and heads; they live as long as the view is taken. */
void sync_view_boundary(const sync_view *view, cal_hash *ret_root, sync_ids *ret_heads);

/* Whether the state of a taken view has that delta: 0, CAL_ENOTFOUND. On a worker. */
int sync_view_covers(const sync_view *view, const cal_hash *delta);
/* What was compacted away of it. On a worker. */
int sync_view_past(const sync_view *view, cal_past *ret_past);

/* --- serving: one SnapshotStreamRequest --- */

enum {
    SYNC_PAGES_MAX = 64,            /* answered to one request */
    SYNC_PAGE_BYTES_MIN = 4 * 1024, /* a lower limit is taken for this one */
};

typedef struct sync_burst {
    sync_view *view; /* taken */
    bool has_app_key;
    cal_blob_id app_key; /* said of every record */
    uint32_t page_limit, byte_limit;
    uint64_t sent, records;
    uint64_t total; /* records sent to this peer before; the owner carries it on */
    bool over, has_cursor;
    cal_hash cursor;
    cal_buffer page, payload;
} sync_burst;

/* `request` is of kind SYNC_SNAPSHOT_STREAM. CAL_EDECODE: a cursor that none of ours is. */
int sync_burst_init(sync_burst *burst, sync_view *view, const sync_request *request);
void sync_burst_deinit(sync_burst *burst);
/* The next page; its bytes live until the next call. Its cursor is the key of the last row sent.
 * CAL_ENOTFOUND after the last one, CAL_ETIMEOUT the view is too old, CAL_ELIMIT an entity fits no
 * page, and what the store answers. */
int sync_burst_next(sync_burst *burst, uint64_t now_ns, sync_answer *ret_answer);
/* How a refusal is said to a peer: the answer for a CAL_E* of taking a view or making a page. */
void sync_snapshot_refusal(int result, uint64_t sent, sync_answer *ret_answer);

/* --- taking --- */

enum {
    SYNC_TAKE_PAGES = 16, /* asked for at once */
    SYNC_TAKE_PAGE_BYTES = 256 * 1024,
};
#define SYNC_TAKE_BYTES_MAX (UINT64_C(64) << 30)

typedef struct sync_snapshot sync_snapshot; /* one that is being taken: an intake */

typedef struct sync_snapshot_options {
    cal_store *store;
    const cal_os *os;
    cal_context_id context;
    cal_hash root;         /* of the boundary; never zero */
    const cal_hash *heads; /* copied */
    size_t head_count;
    uint64_t bytes_max; /* of rows; 0: SYNC_TAKE_BYTES_MAX */
    /* The account that a device key speaks, or spoke, for. CAL_ENOTFOUND: none. On a worker. */
    int (*account)(void *user, const cal_public_key *device, cal_account_id *ret_account);
    void *user;
} sync_snapshot_options;

typedef enum sync_snapshot_next {
    SYNC_NEXT_PAGE,  /* another page of this answer */
    SYNC_NEXT_BURST, /* ask again */
    SYNC_NEXT_WHOLE, /* all came: verify */
} sync_snapshot_next;

/* All blocking, on workers, one call at a time. CAL_ENOMEM, CAL_ELIMIT, and what the store answers.
 */
int sync_snapshot_new(const sync_snapshot_options *options, sync_snapshot **ret_snapshot,
                      cal_error *err);
/* What to ask next: this peer, or another one whose context has the same root. What a broken answer
 * brought is asked for again. Valid until the next call. */
void sync_snapshot_request(sync_snapshot *intake, sync_request *ret_request);
/* The next answer to that request, a page or a SnapshotError. After a failure of the peer's the
 * intake can go on with another one. CAL_EDECODE, CAL_ELIMIT and CAL_EVERIFY: the peer sent what
 * cannot be right; CAL_EINVAL: its root is another one; CAL_ESTATE: it refused otherwise;
 * CAL_EFULL, CAL_EIO, CAL_ENOMEM: the store. */
int sync_snapshot_take(sync_snapshot *intake, const sync_answer *answer,
                       sync_snapshot_next *ret_next, cal_error *err);
/* Forgets all that came: after pages of several peers that do not fit together, say. */
int sync_snapshot_restart(sync_snapshot *intake, cal_error *err);
/* Recomputes every hash from the rows that came up to the root, and judges the signatures of
 * entities that need one. CAL_EVERIFY: it is not that state, or somebody had no right to write what
 * stands in it. */
int sync_snapshot_verify(sync_snapshot *intake, cal_error *err);
/* What cal_contexts_install takes, once it was verified: lives until the intake is dropped. */
int sync_snapshot_state(sync_snapshot *intake, cal_context_state *ret_state);

typedef struct sync_snapshot_figures {
    uint64_t pages, records, bytes; /* that came, repeated ones included */
    /* Of the verified tree; of them under another parent, too (traps.md 6); outside of it and kept,
     * outside of it and left out (traps.md 7). */
    uint64_t entities, moved, orphans, dropped;
    bool walked; /* all of it was read again, since what was summed up as it came did not say enough
                  */
} sync_snapshot_figures;
void sync_snapshot_figures_get(const sync_snapshot *intake, sync_snapshot_figures *ret_figures);

/* Removes its rows and frees it, whatever the result; what a failing store leaves goes at the next
 * start. NULL allowed. */
int sync_snapshot_drop(sync_snapshot *intake);

/* Rows that intakes left when the process ended: at the start, before the first intake. */
extern const cal_removal sync_staging;
int sync_staging_clear(cal_store *store); /* blocking, on a worker */

#endif
