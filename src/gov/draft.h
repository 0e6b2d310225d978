/* Inside gov/: how the graph of a namespace and its folds are held, for graph.c, cut.c and check.c.
 *
 * Column GOVERNANCE, each key begins with the namespace's id and one of gov_graph_row. Operations
 * are numbered in the order in which this node placed them, from 1: parents have smaller numbers
 * than their children, so what is below a cut is found by one walk down the numbers. */
#ifndef CAL_GOV_DRAFT_H
#define CAL_GOV_DRAFT_H

#include "gov/fold.h"
#include "gov/graph.h"

typedef enum gov_graph_row {
    GRAPH_INDEX = 'I',  /* operation id -> number, generation */
    GRAPH_NODE = 'N',   /* number -> gov_node: what a walk needs */
    GRAPH_BODY = 'B',   /* number -> the signed operation as received */
    GRAPH_SLOT = 'F',   /* slot -> the write that stands in it */
    GRAPH_PAST = 'P',   /* slot, rank -> a write that has been, or would have been, overwritten */
    GRAPH_LAYOUT = 'L', /* -> version of all this */
} gov_graph_row;

enum {
    GOV_LAYOUT_VERSION = 1,
    GOV_GRAPH_KEY_MAX = 32 + 1 + GOV_KEY_MAX + GOV_RANK_SIZE,
    GOV_RECENT_MAX = 64,       /* operations whose number is known without asking the store */
    GOV_CUTS_MAX = 16,         /* folds kept of cuts other than the present */
    GOV_CUT_SLOTS_MAX = 16384, /* slots in which such a cut may differ from the present */
    GOV_CUT_IDLE_MAX = 1024,   /* changes after which a cut that nobody asked for goes */
};

typedef struct gov_node {
    cal_hash id;
    uint64_t sequence;
    uint32_t generation;
    gov_effect effect;
    bool aside; /* kept, but no head */
    bool has_author;
    cal_account_id author; /* whom the signer spoke for at its cut */
    uint64_t *parents;     /* numbers; the zero parent is left out */
    uint32_t parent_count;
} gov_node;

/* The fold of a cut, as what differs from the fold of everything that is committed. */
typedef struct gov_cut {
    cal_list link;
    cal_hash key; /* of its parents, as a set */
    gov_fold fold;
    uint32_t idle;
} gov_cut;

typedef struct gov_recent {
    cal_hash id;
    uint64_t sequence;
    uint32_t generation;
} gov_recent;

typedef struct gov_graph {
    uint64_t count; /* operations that are committed */
    gov_fold fold;  /* of all of them */
    gov_recent recent[GOV_RECENT_MAX];
    size_t recent_at;
    cal_list cuts; /* of gov_cut, least recently used first */
    size_t cut_count;
} gov_graph;

typedef struct gov_draft_op {
    gov_node node;
    size_t len;
    uint8_t *bytes;
} gov_draft_op;

typedef struct gov_draft_write {
    gov_key key;
    gov_row *slot;
} gov_draft_write;

typedef struct gov_draft {
    gov_draft_op *ops; /* numbered on from graph->count + 1 */
    size_t count, capacity;
    cal_map index; /* id -> 1 + position in ops */
    gov_draft_write *writes;
    size_t write_count, write_capacity;
    gov_fold fold; /* over the graph's */
    cal_list cuts; /* of gov_cut, as the graph's */
    size_t cut_count;
    cal_map effects; /* id -> 1 + effect, of those that were settled */
    bool settled;    /* an operation of before has changed its effect: cuts of before are wrong */
    bool reserved;   /* its slots and rows have their places in the graph's fold */
} gov_draft;

gov_draft *gov_draft_of(gov_change *change); /* makes it; NULL out of memory */
/* The number and generation of an operation. CAL_ENOTFOUND. */
int gov_graph_locate(const gov_change *change, const cal_hash *id, uint64_t *ret_sequence,
                     uint32_t *ret_generation);
uint64_t
gov_graph_top(const gov_change *change); /* the greatest number, the change's own included */

cal_slice gov_graph_key(const cal_group_id *namespace_id, gov_graph_row row, const void *rest,
                        size_t len, uint8_t ret_key[GOV_GRAPH_KEY_MAX]);
cal_slice gov_graph_number_key(const cal_group_id *namespace_id, gov_graph_row row,
                               uint64_t sequence, uint8_t ret_key[GOV_GRAPH_KEY_MAX]);
int gov_node_write(const gov_node *node, cal_buffer *out);
/* Parents are the caller's to free. CAL_ECORRUPT, CAL_ENOMEM. */
int gov_node_read(cal_slice bytes, uint64_t sequence, gov_node *ret_node);
int gov_index_read(cal_slice bytes, uint64_t *ret_sequence, uint32_t *ret_generation);

/* The operation with this number as it stands in the store or the change (not: as it was settled in
 * this change), with its bytes (NULL: without). Parents are the caller's to free. */
int gov_graph_node(const gov_change *change, uint64_t sequence, gov_node *ret_node,
                   cal_buffer *ret_bytes);

gov_view gov_cut_of_fold(const gov_fold *fold); /* as a cut is asked */
/* The cut at these parents of an operation, over `past`, the fold of all operations with smaller
 * numbers than its own, whose heads are `heads`. ret_fold: initialized over past. */
int gov_cut_before(gov_change *change, uint64_t sequence, const uint64_t *parents, size_t count,
                   const uint64_t *heads, size_t head_count, gov_fold *ret_fold);

void gov_cut_key(const cal_hash *parents, uint32_t count, cal_hash *ret_key);
gov_cut *gov_cut_find(const cal_list *cuts, const cal_hash *key);
void gov_cut_free(gov_cut *cut);
void gov_cuts_free(cal_list *cuts, size_t *count);
/* An operation was noted; `first` is the first of its writes in the draft. The cut at its parents
 * becomes the cut at it. */
void gov_cut_follow(gov_change *change, const gov_noted *noted, size_t first);
/* The rows at a cut that covers every head, as they are committed; false: it does not, or names
 * operations that are not here. */
bool gov_cut_present(const gov_namespace *ns, const cal_hash *parents, uint32_t count,
                     gov_view *ret_view);
/* A look ends: the cuts it made are of use to the next one. */
void gov_cuts_keep(gov_graph *graph, gov_draft *draft);
/* The change is about to become part of the graph's fold: cuts keep what it overwrites. */
void gov_cuts_commit(gov_graph *graph, gov_draft *draft);

#endif
