/* replay APP.wasm RECORDING.json: runs the recorded calls on the real vm, with the recording's
 * clock and randomness, and compares returns, errors, logs, events, xcalls, roots, artifacts and
 * the final state byte for byte.
 *
 * Formats: tests/vectors/README.md. Between steps the state is kept as runtime-abi.md 6 says: an
 * error keeps nothing, no root keeps no state and no private rows; index rows stay when the call
 * succeeds. Exit status 0 only when all is equal, 1 for a difference (the first one is printed), 2
 * when the files cannot be used. A module with another hash than the recorded one is warned about
 * and held to kind and message of panics, since their source lines differ by build. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <yyjson.h>

#include "codec/text.h"
#include "support/guest_os.h"
#include "support/memory_storage.h"
#include "vm/vm.h"

enum { FILE_MAX = 64 * 1024 * 1024, SHOWN = 48 };

typedef struct replay {
    cal_vm *vm;
    cal_vm_module *module;
    guest_os os;
    memory_storage kept, working;
    cal_vm_storage table;
    cal_vm_call call;
    bool same_module;
    uint8_t origin[32];
    const char *step; /* what is being compared, for the report */
    size_t step_number;
    size_t compared;
} replay;

/* --- reporting --- */

static void show(const char *label, cal_slice bytes, size_t from) {
    size_t start = from > SHOWN / 2 ? from - SHOWN / 2 : 0;
    size_t len = bytes.len - start < SHOWN ? bytes.len - start : SHOWN;
    fprintf(stderr, "  %-8s %zu bytes, from %zu: \"", label, bytes.len, start);
    for (size_t i = start; i < start + len; i++) {
        uint8_t byte = bytes.data[i];
        if (byte >= 0x20 && byte < 0x7f)
            fputc(byte, stderr);
        else
            fprintf(stderr, "\\%02x", byte);
    }
    fprintf(stderr, "\"%s\n", start + len < bytes.len ? "..." : "");
}

static bool differ(const replay *run, const char *what, cal_slice wanted, cal_slice got) {
    size_t at = 0, shorter = wanted.len < got.len ? wanted.len : got.len;
    while (at < shorter && wanted.data[at] == got.data[at]) at++;
    fprintf(stderr, "step %zu, %s: %s differs at byte %zu\n", run->step_number, run->step, what,
            at);
    show("recorded", wanted, at);
    show("here", got, at);
    return false;
}

static bool same(replay *run, const char *what, cal_slice wanted, cal_slice got) {
    run->compared++;
    return cal_slice_equal(wanted, got) || differ(run, what, wanted, got);
}

static bool same_number(replay *run, const char *what, uint64_t wanted, uint64_t got) {
    run->compared++;
    if (wanted == got) return true;
    fprintf(stderr, "step %zu, %s: %s is %" PRIu64 " here, recorded %" PRIu64 "\n",
            run->step_number, run->step, what, got, wanted);
    return false;
}

static bool fault(const replay *run, const char *what) {
    fprintf(stderr, "step %zu, %s: %s\n", run->step_number, run->step, what);
    return false;
}

/* --- reading the recording --- */

static cal_slice text_of(yyjson_val *value) {
    return yyjson_is_str(value) ? cal_slice_of(yyjson_get_str(value), yyjson_get_len(value))
                                : cal_slice_of(NULL, 0);
}

/* The bytes of a hex text, to be freed; NULL when it is none. */
static uint8_t *hex_bytes(cal_slice text, size_t *ret_len) {
    uint8_t *bytes = malloc(text.len / 2 + 1);
    if (bytes && (text.len % 2 != 0 || cal_hex_decode(text, bytes, text.len / 2) != 0)) {
        free(bytes);
        bytes = NULL;
    }
    if (bytes) *ret_len = text.len / 2;
    return bytes;
}

static bool same_hex(replay *run, const char *what, yyjson_val *wanted, cal_slice got) {
    size_t len = 0;
    uint8_t *bytes = hex_bytes(text_of(wanted), &len);
    if (!bytes) return fault(run, "the recording holds no hex where it should");
    bool equal = same(run, what, cal_slice_of(bytes, len), got);
    free(bytes);
    return equal;
}

static bool read_id(yyjson_val *object, const char *name, uint8_t ret_id[32]) {
    return cal_hex_decode(text_of(yyjson_obj_get(object, name)), ret_id, 32) == 0;
}

/* --- comparing one step --- */

static bool compare_returns(replay *run, yyjson_val *wanted, const cal_vm_outcome *got) {
    cal_vm_return kind = CAL_VM_RETURN_NONE;
    if (yyjson_is_arr(wanted))
        kind = strcmp(yyjson_get_str(yyjson_arr_get(wanted, 0)), "ok") == 0 ? CAL_VM_RETURN_OK
                                                                            : CAL_VM_RETURN_ERR;
    if (!same_number(run, "the kind of return (0 none, 1 ok, 2 err)", kind, got->return_kind))
        return false;
    return kind == CAL_VM_RETURN_NONE ||
           same(run, "the return value", text_of(yyjson_arr_get(wanted, 1)), got->return_value);
}

static bool compare_panic(replay *run, yyjson_val *wanted, const cal_vm_outcome *got) {
    if (!same(run, "the panic's message", text_of(yyjson_arr_get(wanted, 1)), got->panic_message))
        return false;
    if (!run->same_module) return true;
    return same(run, "the panic's file", text_of(yyjson_arr_get(wanted, 2)), got->panic_file) &&
           same_number(run, "the panic's line", yyjson_get_uint(yyjson_arr_get(wanted, 3)),
                       got->panic_line) &&
           same_number(run, "the panic's column", yyjson_get_uint(yyjson_arr_get(wanted, 4)),
                       got->panic_column);
}

static bool compare_error(replay *run, yyjson_val *wanted, const cal_vm_outcome *got) {
    cal_slice kind = text_of(yyjson_arr_get(wanted, 0)), got_kind = cal_slice_text("none");
    if (!kind.data) kind = cal_slice_text("none");
    if (got->failure == CAL_VM_FAIL_PANIC)
        got_kind = cal_slice_text("panic");
    else if (got->failure == CAL_VM_FAIL_HOST)
        got_kind = cal_slice_text("host");
    else if (got->failure == CAL_VM_FAIL_TRAP)
        got_kind = cal_slice_text("trap");
    else if (got->failure != CAL_VM_FINE)
        got_kind = cal_slice_text(got->error);
    if (!same(run, "the kind of error", kind, got_kind)) {
        if (got->error[0]) fprintf(stderr, "  here: %s\n", got->error);
        return false;
    }
    if (got->failure == CAL_VM_FAIL_PANIC) return compare_panic(run, wanted, got);
    if (got->failure == CAL_VM_FAIL_HOST)
        return same(run, "the host error", text_of(yyjson_arr_get(wanted, 1)),
                    cal_slice_text(got->host_error_name));
    return true;
}

static bool compare_logs(replay *run, yyjson_val *wanted, const cal_vm_outcome *got) {
    if (!same_number(run, "the number of logs", yyjson_arr_size(wanted), got->log_count))
        return false;
    for (size_t i = 0; i < got->log_count; i++)
        if (!same(run, "a log line", text_of(yyjson_arr_get(wanted, i)), got->logs[i]))
            return false;
    return true;
}

static bool compare_events(replay *run, yyjson_val *wanted, const cal_vm_outcome *got) {
    if (!same_number(run, "the number of events", yyjson_arr_size(wanted), got->event_count))
        return false;
    for (size_t i = 0; i < got->event_count; i++) {
        yyjson_val *event = yyjson_arr_get(wanted, i), *handler = yyjson_arr_get(event, 2);
        if (!same(run, "an event's kind", text_of(yyjson_arr_get(event, 0)), got->events[i].kind))
            return false;
        if (!same(run, "an event's data", text_of(yyjson_arr_get(event, 1)), got->events[i].data))
            return false;
        if (!same_number(run, "whether an event has a handler", yyjson_is_str(handler),
                         got->events[i].has_handler))
            return false;
        if (!same(run, "an event's handler", text_of(handler), got->events[i].handler))
            return false;
    }
    return true;
}

static bool compare_xcalls(replay *run, yyjson_val *wanted, const cal_vm_outcome *got) {
    if (!same_number(run, "the number of xcalls", yyjson_arr_size(wanted), got->xcall_count))
        return false;
    for (size_t i = 0; i < got->xcall_count; i++) {
        yyjson_val *call = yyjson_arr_get(wanted, i);
        cal_slice context = cal_slice_of(got->xcalls[i].context_id, 32);
        if (!same_hex(run, "an xcall's context", yyjson_arr_get(call, 0), context)) return false;
        if (!same(run, "an xcall's function", text_of(yyjson_arr_get(call, 1)),
                  got->xcalls[i].function))
            return false;
        if (!same(run, "an xcall's parameters", text_of(yyjson_arr_get(call, 2)),
                  got->xcalls[i].params))
            return false;
    }
    return true;
}

static bool compare_commit(replay *run, yyjson_val *step, const cal_vm_outcome *got) {
    yyjson_val *root = yyjson_obj_get(step, "root_hash");
    if (!same_number(run, "whether there is a root", yyjson_is_str(root), got->has_root))
        return false;
    if (got->has_root && !same_hex(run, "the root", root, cal_slice_of(got->root_hash, 32)))
        return false;
    return same_hex(run, "the artifact", yyjson_obj_get(step, "artifact"), got->artifact);
}

/* --- running one step --- */

/* The call's input: JSON is passed on compactly, a text is the hex of the bytes. To be freed. */
static uint8_t *make_input(yyjson_val *input, size_t *ret_len) {
    if (yyjson_is_str(input)) return hex_bytes(text_of(input), ret_len);
    return (uint8_t *)yyjson_val_write(input, YYJSON_WRITE_NOFLAG, ret_len);
}

static bool keep(replay *run, const char *method, const cal_vm_outcome *got) {
    if (got->failure != CAL_VM_FINE || got->return_kind == CAL_VM_RETURN_ERR) return true;
    bool state_op = strcmp(method, "__calimero_sync_next") == 0;
    if (got->has_root && !got->has_artifact && !state_op)
        return true; /* StateInconsistency: nothing is committed */
    int code = 0;
    for (int space = 0; space < MEMORY_STORAGE_SPACES && code == 0; space++) {
        bool index = space == CAL_VM_INDEX || space == CAL_VM_INDEX_META;
        if (index || got->has_root)
            code = memory_storage_copy(&run->kept, &run->working, (cal_vm_space)space);
    }
    return code == 0 || fault(run, "out of memory");
}

static bool run_step(replay *run, yyjson_val *step) {
    const char *method = yyjson_get_str(yyjson_obj_get(step, "method"));
    if (!method) return fault(run, "the recording has a step without a method");
    run->step = run->call.method = method;
    for (int space = 0; space < MEMORY_STORAGE_SPACES; space++)
        if (memory_storage_copy(&run->working, &run->kept, (cal_vm_space)space) != 0)
            return fault(run, "out of memory");
    size_t input_len = 0;
    uint8_t *input = make_input(yyjson_obj_get(step, "input"), &input_len);
    if (!input) return fault(run, "its input cannot be read");
    run->call.input = cal_slice_of(input, input_len);
    run->call.xcall_origin = read_id(step, "xcall_origin", run->origin) ? run->origin : NULL;
    cal_vm_outcome got;
    cal_vm_run(run->vm, run->module, &run->call, &got);
    bool equal = compare_error(run, yyjson_obj_get(step, "error"), &got) &&
                 compare_returns(run, yyjson_obj_get(step, "returns"), &got) &&
                 compare_logs(run, yyjson_obj_get(step, "logs"), &got) &&
                 compare_events(run, yyjson_obj_get(step, "events"), &got) &&
                 compare_xcalls(run, yyjson_obj_get(step, "xcalls"), &got) &&
                 compare_commit(run, step, &got) && keep(run, method, &got);
    cal_vm_outcome_deinit(&got);
    free(input);
    return equal;
}

/* --- the end --- */

static bool compare_rows(replay *run, yyjson_val *recording, const char *name, cal_vm_space space) {
    yyjson_val *rows = yyjson_obj_get(recording, name), *key, *value;
    run->step = name;
    if (!same_number(run, "the number of rows", yyjson_obj_size(rows),
                     run->kept.spaces[space].count))
        return false;
    yyjson_obj_iter iter = yyjson_obj_iter_with(rows);
    while ((key = yyjson_obj_iter_next(&iter))) {
        value = yyjson_obj_iter_get_val(key);
        size_t len = 0;
        uint8_t *bytes = hex_bytes(text_of(key), &len);
        if (!bytes) return fault(run, "a recorded key is no hex");
        cal_slice got = memory_storage_get(&run->kept, space, cal_slice_of(bytes, len));
        free(bytes);
        if (!got.data) {
            fprintf(stderr, "  missing here: %s\n", yyjson_get_str(key));
            return fault(run, "a recorded row is missing");
        }
        if (!same_hex(run, yyjson_get_str(key), value, got)) return false;
    }
    return true;
}

static bool replay_all(replay *run, yyjson_val *recording) {
    yyjson_val *steps = yyjson_obj_get(recording, "steps");
    for (size_t i = 0; i < yyjson_arr_size(steps); i++) {
        run->step_number = i + 1;
        if (!run_step(run, yyjson_arr_get(steps, i))) return false;
    }
    return compare_rows(run, recording, "final_state", CAL_VM_STATE) &&
           compare_rows(run, recording, "final_private", CAL_VM_PRIVATE) &&
           compare_rows(run, recording, "final_index", CAL_VM_INDEX) &&
           compare_rows(run, recording, "final_index_meta", CAL_VM_INDEX_META);
}

/* --- setting up --- */

static bool load(replay *run, cal_slice wasm, yyjson_val *recording) {
    cal_error err = {0};
    cal_buffer artifact;
    cal_buffer_init(&artifact, SIZE_MAX);
    int code = cal_vm_new(&run->os.os, NULL, &run->vm, &err);
    if (code == 0) code = cal_vm_compile(run->vm, wasm, &artifact, &err);
    if (code == 0) code = cal_vm_load(run->vm, cal_buffer_slice(&artifact), &run->module, &err);
    cal_buffer_deinit(&artifact);
    if (code != 0) {
        fprintf(stderr, "the module does not load: %s\n", err.message);
        return false;
    }
    uint8_t hash[32], recorded[32];
    cal_sha256(wasm, hash);
    run->same_module =
        read_id(recording, "wasm_sha256", recorded) && memcmp(hash, recorded, 32) == 0;
    const char *recorded_text = yyjson_get_str(yyjson_obj_get(recording, "wasm_sha256"));
    if (!run->same_module)
        fprintf(stderr,
                "warning: not the recorded build (its sha256 is %s); lines of panics are not "
                "compared\n",
                recorded_text ? recorded_text : "not recorded");
    run->os.t0 = yyjson_get_uint(yyjson_obj_get(recording, "t0"));
    run->call = (cal_vm_call){.storage = &run->table, .has_private = true, .os = &run->os.os};
    if (read_id(recording, "context_id", run->call.context_id) &&
        read_id(recording, "account_id", run->call.account_id) &&
        read_id(recording, "device_id", run->call.device_id))
        return true;
    fprintf(stderr, "the recording lacks context_id, account_id or device_id\n");
    return false;
}

static int replay_files(cal_slice wasm, yyjson_val *recording, const char *name) {
    replay run = {.step = "start"};
    guest_os_init(&run.os);
    memory_storage_init(&run.kept);
    memory_storage_init(&run.working);
    run.table = memory_storage_table(&run.working);
    int status = 2;
    if (load(&run, wasm, recording)) {
        status = replay_all(&run, recording) ? 0 : 1;
        if (status == 0)
            printf("%s: %zu steps equal, %zu values compared\n", name,
                   yyjson_arr_size(yyjson_obj_get(recording, "steps")), run.compared);
    }
    cal_vm_module_unref(run.module);
    cal_vm_free(run.vm);
    memory_storage_deinit(&run.kept);
    memory_storage_deinit(&run.working);
    return status;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: replay APP.wasm RECORDING.json\n");
        return 2;
    }
    cal_error err = {0};
    cal_buffer wasm;
    cal_buffer_init(&wasm, FILE_MAX);
    if (cal_crypto_init() != 0 ||
        cal_os_read_file(cal_os_posix(), argv[1], FILE_MAX, &wasm, &err) != 0) {
        fprintf(stderr, "%s: %s\n", argv[1], err.message);
        return 2;
    }
    yyjson_read_err bad;
    yyjson_doc *doc = yyjson_read_file(argv[2], 0, NULL, &bad);
    int status = 2;
    if (doc)
        status = replay_files(cal_buffer_slice(&wasm), yyjson_doc_get_root(doc), argv[2]);
    else
        fprintf(stderr, "%s: %s\n", argv[2], bad.msg);
    yyjson_doc_free(doc);
    cal_buffer_deinit(&wasm);
    return status;
}
