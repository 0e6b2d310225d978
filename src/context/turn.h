/* Turns: whatever changes a context waits for its turn in one queue: a client's call, deltas that
 * were received, a snapshot to install, a removal. A genesis is one without a context yet, and so
 * without a queue. (Views take no turn: they run beside the queue on snapshots.)
 *
 *   loop     waiting --hand-over--> in flight ............................ settled, in order
 *   worker                  run, run, run (each on what the one before left)
 *   store                        batch, batch, batch --> durable
 *
 * Rules:
 *  - Turns run one at a time, in the order they came. The loop hands the next ones over to one
 *    worker as a run (bounded in number and time), so that most follow each other without a round
 *    trip over the loop. Between runs the context belongs to the loop, during one to that worker:
 *    no lock.
 *  - A turn runs on what the one before it left in memory (tip.h), while the batch of that one is
 *    still with the store. Batches of one context go to the store on one lane.
 *  - Turns settle on the loop in their order, each when its own batch, and with it all it was
 *    built on, is durable. One without a batch waits for those before it all the same: what it
 *    read may be theirs.
 *  - When a batch fails, every turn after it has failed with it. Once all are settled the tip is
 *    dropped, the record in memory is the durable one, the lane is mended, and the queue goes on.
 *  - What governance says of this node is taken when turns are handed over, and holds as long as
 *    governance does not change: the worker looks at its version before each turn and hands the
 *    rest back when it moved.
 *  - An exclusive turn starts when nothing is in flight, and holds the place until it says so.
 *
 * Bounds: waiting turns in number and in bytes, of a context and of the node; turns in flight;
 * bytes of the tip and of what turns in flight keep; turns and time of a run (base/limits.h). */
#ifndef CAL_CONTEXT_TURN_H
#define CAL_CONTEXT_TURN_H

#include "base/list.h"
#include "base/task.h"
#include "context/record.h"
#include "store/store.h"

struct context;
struct turn;
struct cal_contexts;
struct cal_overlay;

typedef struct turn_kind {
    bool exclusive;
    /* Worker. Does the work, and says with turn_take, turn_leave and turn.batch what of it stays.
     * NULL: nothing to do there; an exclusive turn is then settled as soon as it has the place. */
    void (*run)(struct turn *turn);
    /* Loop, in the order of turns. turn.result: 0, durable; CAL_ECANCELED, an earlier one could not
     * be stored; otherwise why its own batch could not. Nothing of a failed one is kept. Owns the
     * turn from here on. */
    void (*settled)(struct turn *turn);
    /* Loop: it will not run. The code and the words are for whoever asked. Owns the turn. */
    void (*refused)(struct turn *turn, int error, const char *why);
} turn_kind;

/* Embedded in what takes the turn. */
struct turn {
    cal_task task;
    cal_list link;     /* in context.waiting, then in context.flight */
    struct turn *next; /* in the same run */
    const turn_kind *kind;
    struct cal_contexts *contexts;
    struct context *context;
    size_t cost;      /* bytes it keeps while it waits */
    cal_batch *batch; /* what is to be stored; taken when the turn has run */
    size_t kept;      /* bytes it keeps from its run until it is settled; set by `run` */
    bool answered;    /* result holds */
    bool stored;      /* the store has or had its batch */
    int result;
    uint64_t number; /* of those that left something in the tip */
    bool moved;      /* the context has another root and other heads after it: */
    cal_hash root;
    cal_hash *heads;
    size_t head_count;
    uint64_t latest;
};

void turn_init(struct turn *turn, const turn_kind *kind, struct cal_contexts *contexts,
               size_t cost);
void turn_deinit(struct turn *turn);

/* Loop. Queues it; settled or refused is called for it once, perhaps at once. */
void turn_enter(struct turn *turn, struct context *context);
/* Loop. The turn of a context that is not there yet: it runs at once, and its batch is still with
 * it when it is settled, with result 0: that the context is there is for whoever stores it to say.
 */
void turn_enter_new(struct turn *turn);

/* Worker, in `run`: what the overlay has becomes part of what later turns see; the overlay is empty
 * afterwards. CAL_ENOMEM: nothing of this turn or of later ones may be stored. */
int turn_take(struct turn *turn, struct cal_overlay *overlay, bool state, bool index);
/* Root, heads and latest time that the context has after this turn: those of the record, the rest
 * of which does not matter; heads are copied. CAL_ENOMEM. */
int turn_leave(struct turn *turn, const cal_context_record *record);

/* Loop, exclusive turns in `settled` or later: run again; or give the place to the next. The turn
 * is not touched any more by turn_end. turn_again: 0, or why it must end instead, and still has the
 * place: CAL_ENOTFOUND, the context is being deleted; CAL_ECANCELED, the node is stopping. */
int turn_again(struct turn *turn);
void turn_end(struct context *context);

/* Loop. Refuses all that wait. */
void turns_refuse(struct context *context, int error, const char *why);
/* Loop. The run that is on, if any, ends after the present turn. */
void turns_halt(struct context *context);
/* Loop. Hands over what may run now. */
void turns_go(struct context *context);
/* Whether nothing runs, waits or is in flight, and nobody holds the place. */
bool turns_idle(const struct context *context);

#endif
