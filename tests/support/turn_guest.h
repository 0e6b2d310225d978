/* A guest whose every state says how it came about: the state row holds how many turns changed it
 * and the tag (16 bytes of input) of the last one, and the root repeats both. So a record, a row or
 * a delta tells which turn made it, and as which. Each tag is also kept in a row of its own class
 * (its first byte modulo 16) and as an index pair tag -> count.
 *
 *   add     counts                        sweep    counts, and removes the index pairs whose tags
 *   trap    counts, then traps                     begin with the input's first byte before
 *   peek    returns count and tag         look     the same, as a view
 *   bulk    returns 128 KiB                        err      logs, counts, then returns an error
 *   flood   counts, with an action of as many bytes as the input says after the tag (u32)
 *   tell    counts, and emits `told` with the tag as its data and `add` as its handler
 *   hint    emits `told` and changes nothing; a view
 *   again   commits the state as it is           note   the same, and writes a private row
 *   send    counts, and calls `add` of the context whose id follows the tag, with the tag
 *   __calimero_sync_next   counts; the tag is the first 16 bytes of the first action's id; traps
 * when these begin with 0xEE, and returns an error when they begin with 0xEF */
#ifndef CAL_TESTS_TURN_GUEST_H
#define CAL_TESTS_TURN_GUEST_H

/* Memory: 0x100 count and tag, 0x120 root, 0x140 artifact (no actions), 0x180 key of the state,
 * 0x1a0 key of the class, 0x1c0 words, 0x200 up descriptors, 0x1000 input, 0x20000 a long artifact.
 */
static const char turn_guest[] =
    "(module"
    "(import \"env\" \"storage_write\" (func $write (param i64 i64 i64) (result i32)))"
    "(import \"env\" \"private_storage_write\" (func $hide (param i64 i64) (result i32)))"
    "(import \"env\" \"storage_read\" (func $read (param i64 i64) (result i32)))"
    "(import \"env\" \"storage_index_set\" (func $iset (param i64 i64) (result i32)))"
    "(import \"env\" \"storage_index_remove_prefix\" (func $idrop (param i64) (result i32)))"
    "(import \"env\" \"register_len\" (func $len (param i64) (result i64)))"
    "(import \"env\" \"read_register\" (func $take (param i64 i64) (result i32)))"
    "(import \"env\" \"input\" (func $input (param i64)))"
    "(import \"env\" \"value_return\" (func $return (param i64)))"
    "(import \"env\" \"log_utf8\" (func $log (param i64)))"
    "(import \"env\" \"commit\" (func $commit (param i64 i64)))"
    "(import \"env\" \"emit_with_handler\" (func $emit (param i64 i64)))"
    "(import \"env\" \"xcall\" (func $xcall (param i64)))"
    "(memory (export \"memory\") 2)"
    "(data (i32.const 0x1c0) \"told\") (data (i32.const 0x1c8) \"add\")"
    "(func $buf (param i32 i64 i64) (i64.store (local.get 0) (local.get 1))"
    " (i64.store offset=8 (local.get 0) (local.get 2)))"
    "(func $load"
    " (call $buf (i32.const 0x200) (i64.const 0x120) (i64.const 32))"
    " (call $buf (i32.const 0x210) (i64.const 0x140) (i64.const 5))"
    " (call $buf (i32.const 0x220) (i64.const 0x180) (i64.const 32))"
    " (call $buf (i32.const 0x230) (i64.const 0x100) (i64.const 24))"
    " (call $buf (i32.const 0x240) (i64.const 0x1a0) (i64.const 32))"
    " (call $buf (i32.const 0x260) (i64.const 0x108) (i64.const 16))"
    " (call $buf (i32.const 0x270) (i64.const 0x100) (i64.const 8))"
    " (call $buf (i32.const 0x280) (i64.const 0x1000) (i64.const 1))"
    " (call $input (i64.const 3))"
    " (call $buf (i32.const 0x250) (i64.const 0x1000) (call $len (i64.const 3)))"
    " (drop (call $take (i64.const 3) (i64.const 0x250)))"
    " (if (call $read (i64.const 0x220) (i64.const 1))"
    "  (then (drop (call $take (i64.const 1) (i64.const 0x230))))))"
    /* counts, with the 16 bytes at the address as the tag */
    "(func $count (param i32)"
    " (i64.store (i32.const 0x100) (i64.add (i64.load (i32.const 0x100)) (i64.const 1)))"
    " (i64.store (i32.const 0x108) (i64.load (local.get 0)))"
    " (i64.store (i32.const 0x110) (i64.load offset=8 (local.get 0)))"
    " (i64.store (i32.const 0x120) (i64.load (i32.const 0x100)))"
    " (i64.store (i32.const 0x128) (i64.load (i32.const 0x108)))"
    " (i64.store (i32.const 0x130) (i64.load (i32.const 0x110)))"
    " (i32.store8 (i32.const 0x1a0) (i32.add (i32.const 1)"
    "  (i32.and (i32.load8_u (i32.const 0x108)) (i32.const 15))))"
    " (drop (call $write (i64.const 0x220) (i64.const 0x230) (i64.const 0)))"
    " (drop (call $write (i64.const 0x240) (i64.const 0x260) (i64.const 0)))"
    " (drop (call $iset (i64.const 0x260) (i64.const 0x270)))"
    " (call $commit (i64.const 0x200) (i64.const 0x210)))"
    "(func $again"
    " (i64.store (i32.const 0x120) (i64.load (i32.const 0x100)))"
    " (i64.store (i32.const 0x128) (i64.load (i32.const 0x108)))"
    " (i64.store (i32.const 0x130) (i64.load (i32.const 0x110)))"
    " (call $commit (i64.const 0x200) (i64.const 0x210)))"
    "(func $give"
    " (call $buf (i32.const 0x298) (i64.const 0x100) (i64.const 24))"
    " (call $return (i64.const 0x290)))"
    "(func (export \"init\") (call $load)"
    " (i64.store (i32.const 0x138) (i64.const 1))" /* not a root of zeros */
    " (call $commit (i64.const 0x200) (i64.const 0x210)))"
    "(func (export \"add\") (call $load) (call $count (i32.const 0x1000)) (call $give))"
    "(func (export \"again\") (call $load) (call $again) (call $give))"
    "(func (export \"note\") (call $load) (drop (call $hide (i64.const 0x220) (i64.const 0x230)))"
    " (call $again) (call $give))"
    "(func (export \"sweep\") (call $load) (drop (call $idrop (i64.const 0x280)))"
    " (call $count (i32.const 0x1000)) (call $give))"
    "(func (export \"trap\") (call $load) (call $count (i32.const 0x1000)) (unreachable))"
    "(func (export \"peek\") (call $load) (call $give))"
    "(func (export \"look\") (call $load) (call $give))"
    "(func (export \"bulk\") (call $load)"
    " (call $buf (i32.const 0x298) (i64.const 0) (i64.const 0x20000))"
    " (call $return (i64.const 0x290)))"
    "(func (export \"flood\") (call $load) (drop (memory.grow (i32.const 40)))"
    " (i32.store (i32.const 0x20001) (i32.const 1))"
    " (i32.store (i32.const 0x20026) (i32.load (i32.const 0x1010)))"
    " (call $buf (i32.const 0x210) (i64.const 0x20000)"
    "  (i64.add (i64.load32_u (i32.const 0x1010)) (i64.const 66)))"
    " (call $count (i32.const 0x1000)) (call $give))"
    "(func (export \"tell\") (call $load) (call $count (i32.const 0x1000)) (call $told))"
    "(func (export \"hint\") (call $load) (call $told))"
    "(func $told"
    " (call $buf (i32.const 0x2b0) (i64.const 0x1c0) (i64.const 4))"
    " (call $buf (i32.const 0x2c0) (i64.const 0x108) (i64.const 16))"
    " (call $buf (i32.const 0x2d0) (i64.const 0x1c8) (i64.const 3))"
    " (call $emit (i64.const 0x2b0) (i64.const 0x2d0)) (call $give))"
    "(func (export \"send\") (call $load) (call $count (i32.const 0x1000))"
    " (call $buf (i32.const 0x2b0) (i64.const 0x1010) (i64.const 32))"
    " (call $buf (i32.const 0x2c0) (i64.const 0x1c8) (i64.const 3))"
    " (call $buf (i32.const 0x2d0) (i64.const 0x108) (i64.const 16))"
    " (call $xcall (i64.const 0x2b0)) (call $give))"
    "(func (export \"err\") (call $load) (call $log (i64.const 0x280))"
    " (call $count (i32.const 0x1000))"
    " (i64.store (i32.const 0x290) (i64.const 1)) (call $give))"
    "(func (export \"__calimero_sync_next\") (call $load)"
    " (if (i32.eq (i32.load8_u (i32.const 0x1006)) (i32.const 0xee)) (then (unreachable)))"
    " (call $count (i32.const 0x1006))"
    " (if (i32.eq (i32.load8_u (i32.const 0x1006)) (i32.const 0xef))"
    "  (then (i64.store (i32.const 0x290) (i64.const 1)) (call $give)))))";

static const char turn_abi[] =
    "{\"schema_version\":\"wasm-abi/1\",\"types\":{},\"events\":[],\"methods\":["
    "{\"name\":\"add\",\"params\":[],\"xcall_callable\":true,"
    "\"xcall_callers\":\"same_app\"},"
    "{\"name\":\"hint\",\"params\":[],\"intent\":\"read_only\"},"
    "{\"name\":\"look\",\"params\":[],\"intent\":\"read_only\"}]}";

enum { TURN_CLASSES = 16 };

#endif
