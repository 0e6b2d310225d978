/* Snapshots: pages as an intake takes them. The first byte says what is done to the page before:
 * nothing, or every record gets the hashes that it should have and the root is the one that comes,
 * so that the walks over the tree see states that no node would make. Whatever is accepted is given
 * out as whole rows. */
#include <stdlib.h>
#include <string.h>

#include "crdt/crdt.h"
#include "os/sim/sim.h"
#include "store/key.h"
#include "sync/snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PAGE_MAX = 32 * 1024 };

static const cal_context_id context = {{0x60, 0x60, 0x60, 0x60, 0x60, 0x60, 0x60, 0x60,
                                        0x60, 0x60, 0x60, 0x60, 0x60, 0x60, 0x60, 0x60,
                                        0x60, 0x60, 0x60, 0x60, 0x60, 0x60, 0x60, 0x60,
                                        0x60, 0x60, 0x60, 0x60, 0x60, 0x60, 0x60, 0x60}};
static cal_sim *sim;
static cal_store *store;

static void begin(void) {
    static cal_key_source key = {CAL_KEY_FILE, "/s/key"};
    if (store) return;
    cal_crypto_init();
    sim = cal_sim_new(1);
    cal_sim_set_wall(sim, UINT64_C(1900000000000000000));
    const cal_os *os = cal_sim_os(sim);
    os->make_dir(os->user, "/s");
    cal_store_options options = {.os = os, .folder = "/s", .key = &key, .stepped = true};
    if (cal_store_create(&options, NULL) || cal_store_open(&options, &store, NULL)) abort();
}

/* Half of the devices speak for the account of the same bytes. */
static int account(void *user, const cal_public_key *device, cal_account_id *ret_account) {
    (void)user;
    memcpy(ret_account, device, 32);
    return device->bytes[31] & 1 ? CAL_ENOTFOUND : 0;
}

/* The same records with true hashes; those that do not decode as they are. */
static void mend(cal_slice page, cal_arena *arena, cal_buffer *out, cal_hash *ret_root) {
    sync_record record;
    size_t offset = 0;
    cal_buffer_append_u8(out, SYNC_PAGE_MARKER);
    while (sync_record_next(page, &offset, &record) == 0) {
        crdt_env env = cal_crdt_env(arena);
        crdt_index index;
        crdt_bytes mended;
        if (crdt_index_decode(&env.memory, crdt_bytes_of(record.index.data, record.index.len),
                              &index) == 0) {
            crdt_own_hash(env.sha256, crdt_bytes_of(record.entry.data, record.entry.len),
                          &index.own_hash);
            memcpy(&index.id, &record.id, 32);
            index.is_deleted = false;
            if (crdt_full_hash(&env, &index.own_hash, index.children, &index.full_hash) == 0 &&
                crdt_index_encode(&env.memory, &index, &mended) == 0) {
                record.index = cal_slice_of(mended.data, mended.len);
                if (memcmp(&record.id, &context, 32) == 0) memcpy(ret_root, &index.full_hash, 32);
            }
        }
        sync_record_write(&record, out);
    }
}

static void take(cal_slice page, const cal_hash *root) {
    sync_snapshot *intake;
    sync_request request;
    sync_snapshot_next next;
    cal_buffer payload;
    cal_context_state state;
    cal_slice key, value;
    sync_snapshot_options options = {.store = store,
                                     .os = cal_sim_os(sim),
                                     .context = context,
                                     .root = *root,
                                     .account = account};
    if (sync_snapshot_new(&options, &intake, NULL)) abort();
    sync_snapshot_request(intake, &request);
    cal_buffer_init(&payload, SYNC_PAGE_PAYLOAD_MAX);
    if (sync_page_compress(page, &payload)) abort();
    sync_answer answer = {.kind = SYNC_ANSWER_PAGE,
                          .bytes = cal_buffer_slice(&payload),
                          .uncompressed_len = (uint32_t)page.len,
                          .page_count = 1,
                          .sent_count = 1};
    if (sync_snapshot_take(intake, &answer, &next, NULL) == 0 &&
        sync_snapshot_verify(intake, NULL) == 0) {
        size_t rows = 0;
        sync_snapshot_figures figures;
        if (sync_snapshot_state(intake, &state)) abort();
        while (state.next(state.user, &key, &value) == 0) rows++;
        sync_snapshot_figures_get(intake, &figures);
        if (rows != 2 * (figures.entities + figures.orphans)) abort();
    }
    if (sync_snapshot_drop(intake)) abort();
    cal_buffer_deinit(&payload);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2 || size > PAGE_MAX) return 0;
    cal_slice page = cal_slice_of(data + 1, size - 1);
    cal_hash root = {{1}};
    cal_arena arena;
    cal_buffer mended;
    begin();
    cal_arena_init(&arena, 64 << 20);
    cal_buffer_init(&mended, SYNC_PAGE_MAX);
    mend(page, &arena, &mended, &root);
    if (!mended.error) take(data[0] & 1 ? page : cal_buffer_slice(&mended), &root);
    cal_buffer_deinit(&mended);
    cal_arena_deinit(&arena);
    return 0;
}
