/* A new context: its id, its init, its genesis delta; or the record of one that others made
 * (runtime-abi.md 22; governance.md 12). The turn of a context that is not there yet
 * (turn_enter_new): its batch goes to whoever asked. */
#include <stdlib.h>

#include "base/error.h"
#include "context/commit.h"

struct genesis {
    struct turn turn;
    struct guest guest;
    cal_buffer params;
    char *service;
    cal_context_genesis told;
    cal_context_genesis_done done;
    void *user;
};

static void free_genesis(struct genesis *genesis) {
    if (!genesis) return;
    turn_deinit(&genesis->turn);
    guest_deinit(&genesis->guest);
    cal_buffer_deinit(&genesis->params);
    free(genesis->service);
    free(genesis);
}

static void created(struct turn *turn) {
    struct genesis *genesis = CAL_CONTAINER_OF(turn, struct genesis, turn);
    cal_contexts *contexts = turn->contexts;
    size_t bytes = turn->cost;
    cal_error err = {0};
    if (genesis->guest.status == CAL_CALL_OK) {
        cal_batch *batch = turn->batch;
        turn->batch = NULL;
        genesis->done(genesis->user, NULL, &genesis->told, batch);
    } else {
        cal_fail(&err, genesis->guest.error, "%s", genesis->guest.message);
        genesis->done(genesis->user, &err, NULL, NULL);
    }
    free_genesis(genesis);
    contexts_closed(contexts, bytes);
}

/* What init left behind: nothing to say, and state. */
static void take_init(struct genesis *genesis) {
    struct guest *guest = &genesis->guest;
    const cal_os *os = guest->contexts->options.os;
    cal_context_record fresh = {.application = genesis->told.application,
                                .group = genesis->told.group,
                                .service = genesis->service,
                                .created_at_ms = os->wall_ns(os->user) / 1000000};
    crdt_clock clock;
    crdt_clock_init(&clock, guest->contexts->clock_id);
    struct commit commit = {.guest = guest, .base = &fresh, .clock = &clock};
    if (guest->outcome.return_kind != CAL_VM_RETURN_NONE) {
        guest_fail(guest, CAL_CALL_FAILED, CAL_EGUEST,
                   "init returned a value, it must return nothing");
        return;
    }
    if (!guest->outcome.has_root) {
        guest_fail(guest, CAL_CALL_FAILED, CAL_EGUEST, "init committed no state");
        return;
    }
    int rc = commit_build(&commit);
    genesis->turn.batch = commit.batch;
    genesis->told.delta = commit.head;
    if (rc != 0 && guest->status == CAL_CALL_OK)
        guest_fail(guest, CAL_CALL_INTERNAL, rc,
                   "the context's first state could not be recorded: %s", cal_error_text(rc));
}

static void create_run(struct turn *turn) {
    struct genesis *genesis = CAL_CONTAINER_OF(turn, struct genesis, turn);
    struct guest *guest = &genesis->guest;
    const cal_contexts_options *options = &guest->contexts->options;
    if (guest_load(guest, genesis->service) == 0) {
        guest_run(guest, &(guest_call){.method = "init",
                                       .input = cal_buffer_slice(&genesis->params),
                                       .memory_max = options->memory_max,
                                       .deadline_ms = options->deadline_ms});
        if (guest->status == CAL_CALL_OK) take_init(genesis);
    }
    guest_unload(guest);
}

static const turn_kind genesis_turn = {.run = create_run, .settled = created};

/* A context id is the public key of a key pair whose secret is thrown away. */
static void make_id(const cal_contexts *contexts, const uint8_t *seed, cal_context_id *ret_id) {
    cal_secret secret;
    if (seed) {
        cal_slice part = cal_slice_of(seed, 32);
        cal_domain_hash("calimero.context.seed.v1", &part, 1, secret.bytes);
    } else {
        contexts->options.os->random(contexts->options.os->user, secret.bytes, sizeof secret.bytes);
    }
    cal_sign_public_key(&secret, ret_id->bytes);
    cal_secret_wipe(&secret);
}

static int authorize(cal_contexts *contexts, struct genesis *genesis, cal_error *err) {
    const cal_context_authority *authority = &contexts->options.authority;
    const char *why = NULL;
    int rc = contexts_admit(contexts, genesis->params.len, &why);
    if (rc != 0) return cal_fail(err, rc, "%s", why);
    rc = authority->executor(authority->user, &genesis->told.group, &genesis->guest.executor);
    if (rc == 0) rc = authority->code(authority->user, &genesis->told.group, &genesis->guest.code);
    if (rc == 0) return 0;
    why = rc == CAL_ENOTFOUND ? "the group is not known to this node"
          : rc == CAL_EDENIED ? "this node is no member of the group"
                              : cal_error_text(rc);
    return cal_fail(err, rc, "%s", why);
}

static struct genesis *new_genesis(cal_contexts *contexts, const cal_context_id *id,
                                   const cal_context_create_options *options) {
    struct genesis *genesis = calloc(1, sizeof *genesis);
    if (!genesis) return NULL;
    turn_init(&genesis->turn, &genesis_turn, contexts, options->init_params_len);
    guest_init(&genesis->guest, contexts, id);
    cal_buffer_init(&genesis->params, CAL_INIT_PARAMS_MAX);
    if (options->service) genesis->service = strdup(options->service);
    genesis->told = (cal_context_genesis){.id = *id,
                                          .group = options->group,
                                          .application = options->application,
                                          .service = genesis->service};
    cal_slice params = cal_slice_of(options->init_params, options->init_params_len);
    if ((!options->service || genesis->service) &&
        cal_buffer_append_slice(&genesis->params, params) == 0)
        return genesis;
    free_genesis(genesis);
    return NULL;
}

void cal_contexts_create(cal_contexts *contexts, const cal_context_create_options *options,
                         cal_context_genesis_done done, void *user) {
    cal_context_id id;
    make_id(contexts, options->seed, &id);
    cal_error err = {0};
    struct genesis *genesis = NULL;
    if (options->init_params_len > CAL_INIT_PARAMS_MAX)
        cal_fail(&err, CAL_ELIMIT, "the init parameters have %zu bytes, at most %d are allowed",
                 options->init_params_len, (int)CAL_INIT_PARAMS_MAX);
    else if (!(genesis = new_genesis(contexts, &id, options)))
        cal_fail(&err, CAL_ENOMEM, "out of memory while creating a context");
    else
        authorize(contexts, genesis, &err);
    if (err.code != 0) {
        free_genesis(genesis);
        done(user, &err, NULL, NULL);
        return;
    }
    genesis->told.code = genesis->guest.code;
    genesis->done = done;
    genesis->user = user;
    contexts_opened(contexts, genesis->turn.cost);
    turn_enter_new(&genesis->turn);
}

void cal_contexts_created(cal_contexts *contexts, const cal_context_genesis *genesis) {
    contexts_tell(contexts, &(cal_authored_delta){.context = genesis->id, .id = genesis->delta});
}

int cal_contexts_adopt(cal_contexts *contexts, const cal_context_genesis *context,
                       uint64_t created_at_ms, cal_batch *batch) {
    cal_store *store = contexts->options.store;
    cal_slice key = cal_slice_of(context->id.bytes, CAL_ID_SIZE);
    const struct context *known = cal_map_get(&contexts->table, key);
    if (known && known->deleting) return CAL_EBUSY; /* or removed, and a view still looks at it */
    int rc = known ? 0 : cal_store_get(store, CAL_COLUMN_CONTEXT, key, NULL);
    if (rc == 0) return CAL_EEXISTS;
    if (rc == CAL_ENOTFOUND)
        rc = cal_removal_pending(&cal_context_removal, context->id.bytes, store);
    if (rc != CAL_ENOTFOUND) return rc == 0 ? CAL_EBUSY : rc;
    return commit_put_record(batch, &context->id,
                             &(cal_context_record){.application = context->application,
                                                   .group = context->group,
                                                   .service = context->service,
                                                   .created_at_ms = created_at_ms});
}
