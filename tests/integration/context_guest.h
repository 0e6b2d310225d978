/* The guest of context_test: each method does one thing with its input. Its first state is an empty
 * list of actions under a constant root; what it writes goes to one key of 32 zero bytes. */
#ifndef CAL_TESTS_CONTEXT_GUEST_H
#define CAL_TESTS_CONTEXT_GUEST_H

/* Memory: 0x100 root, 0x140 artifact, 0x180 key, 0x1c0 words, 0x200 up descriptors, 0x500 an
 * origin, 0x1000 input, 0x8000 what comes out of registers and blobs. */
static const char context_guest[] =
    "(module"
    "(import \"env\" \"storage_write\" (func $write (param i64 i64 i64) (result i32)))"
    "(import \"env\" \"storage_read\" (func $read (param i64 i64) (result i32)))"
    "(import \"env\" \"storage_index_set\" (func $iset (param i64 i64) (result i32)))"
    "(import \"env\" \"storage_index_remove_prefix\" (func $idrop (param i64) (result i32)))"
    "(import \"env\" \"storage_index_scan\""
    " (func $iscan (param i64 i64 i64 i64 i64) (result i32)))"
    "(import \"env\" \"register_len\" (func $len (param i64) (result i64)))"
    "(import \"env\" \"read_register\" (func $take (param i64 i64) (result i32)))"
    "(import \"env\" \"input\" (func $input (param i64)))"
    "(import \"env\" \"value_return\" (func $return (param i64)))"
    "(import \"env\" \"commit\" (func $commit (param i64 i64)))"
    "(import \"env\" \"xcall\" (func $xcall (param i64)))"
    "(import \"env\" \"xcall_origin\" (func $origin (param i64) (result i32)))"
    "(import \"env\" \"blob_open\" (func $bopen (param i64) (result i64)))"
    "(import \"env\" \"blob_read\" (func $bread (param i64 i64) (result i64)))"
    "(import \"env\" \"blob_close\" (func $bclose (param i64 i64) (result i32)))"
    "(memory (export \"memory\") 2)"
    "(data (i32.const 0x100) \"root root root root root root ro\")"
    "(data (i32.const 0x1c0) \"az\") (data (i32.const 0x1c8) \"marked\")"
    "(data (i32.const 0x1d0) \"mark\") (data (i32.const 0x1d8) \"k\")"
    "(func $buf (param i32 i64 i64) (i64.store (local.get 0) (local.get 1))"
    " (i64.store offset=8 (local.get 0) (local.get 2)))"
    /* 0x200 root, 0x210 artifact, 0x220 key, 0x230 input, 0x240 and 0x250 bounds, 0x260 prefix */
    "(func $setup (call $buf (i32.const 0x200) (i64.const 0x100) (i64.const 32))"
    " (call $buf (i32.const 0x210) (i64.const 0x140) (i64.const 5))"
    " (call $buf (i32.const 0x220) (i64.const 0x180) (i64.const 32))"
    " (call $buf (i32.const 0x240) (i64.const 0x1c0) (i64.const 1))"
    " (call $buf (i32.const 0x250) (i64.const 0x1c1) (i64.const 1))"
    " (call $buf (i32.const 0x260) (i64.const 0x1d8) (i64.const 1))"
    " (call $input (i64.const 3))"
    " (call $buf (i32.const 0x230) (i64.const 0x1000) (call $len (i64.const 3)))"
    " (drop (call $take (i64.const 3) (i64.const 0x230))))"
    "(func $root (call $commit (i64.const 0x200) (i64.const 0x210)))"
    "(func $put (call $setup)"
    " (drop (call $write (i64.const 0x220) (i64.const 0x230) (i64.const 0))))"
    "(func $index (drop (call $iset (i64.const 0x230) (i64.const 0x230))))"
    "(func $give (param i64)"
    " (call $buf (i32.const 0x270) (i64.const 0x8000) (call $len (local.get 0)))"
    " (drop (call $take (local.get 0) (i64.const 0x270)))"
    " (call $buf (i32.const 0x298) (i64.const 0x8000) (call $len (local.get 0)))"
    " (call $return (i64.const 0x290)))"
    "(func $get (call $setup) (if (call $read (i64.const 0x220) (i64.const 1))"
    " (then (call $give (i64.const 1)))))"
    "(func $send (call $setup)"
    " (call $buf (i32.const 0x2c0) (i64.const 0x1000) (i64.const 32))"
    " (call $buf (i32.const 0x2d0) (i64.const 0x1020)"
    "  (i64.sub (call $len (i64.const 3)) (i64.const 32)))"
    " (call $buf (i32.const 0x2e0) (i64.const 0x1000) (call $len (i64.const 3)))"
    " (call $xcall (i64.const 0x2c0)) (call $root))"
    "(func $spin (param i64) (loop $again (local.set 0 (i64.sub (local.get 0) (i64.const 1)))"
    " (br_if $again (i64.ne (local.get 0) (i64.const 0)))))"
    "(func $grow (param i32)"
    " (if (i32.eq (memory.grow (local.get 0)) (i32.const -1)) (then (unreachable))))"
    "(func (export \"init\") (call $setup) (call $root))"
    "(func (export \"put\") (call $put) (call $root))"
    "(func (export \"put_and_trap\") (call $put) (call $root) (unreachable))"
    "(func (export \"put_bare\") (call $put) (call $buf (i32.const 0x210) (i64.const 0x140)"
    " (i64.const 0)) (call $root))"
    "(func (export \"look\") (call $get))"
    "(func (export \"peek\") (call $get))" /* the same, but the ABI does not say that it is a view
                                            */
    "(func (export \"view_put\") (call $put) (call $root))"
    "(func (export \"index_only\") (call $put) (call $index))"
    "(func (export \"index_and_trap\") (call $put) (call $index)"
    " (drop (call $idrop (i64.const 0x260))) (call $root) (unreachable))"
    "(func (export \"scan\") (call $setup) (drop (call $iscan (i64.const 0x240) (i64.const 0x250)"
    " (i64.const 0) (i64.const 0) (i64.const 2))) (call $give (i64.const 2)))"
    "(func (export \"grow_within\") (call $grow (i32.const 60)))"
    "(func (export \"grow_beyond\") (call $grow (i32.const 200)))"
    "(func (export \"slow\") (call $setup) (call $spin (i64.const 200000000)) (call $root))"
    "(func (export \"blobs\") (local i64 i64) (local.set 0 (i64.const 50)) (call $setup)"
    " (call $spin (i64.const 20000000))" /* until all the others hold their snapshots too */
    " (call $buf (i32.const 0x2a8) (i64.const 0x8000) (i64.const 4096))"
    " (call $buf (i32.const 0x2b8) (i64.const 0x600) (i64.const 32))"
    " (loop $again (local.set 1 (call $bopen (i64.const 0x230)))"
    "  (if (i64.ne (call $bread (local.get 1) (i64.const 0x2a8)) (i64.const 4096))"
    "   (then (unreachable)))"
    "  (drop (call $bclose (local.get 1) (i64.const 0x2b8)))"
    "  (local.set 0 (i64.sub (local.get 0) (i64.const 1)))"
    "  (br_if $again (i64.gt_s (local.get 0) (i64.const 0)))))"
    "(func (export \"send\") (call $send))"
    "(func (export \"send_and_trap\") (call $send) (unreachable))"
    "(func (export \"mark\") (export \"mark_ours\") (call $setup)"
    " (call $buf (i32.const 0x230) (i64.const 0x1c8) (i64.const 6))"
    " (drop (call $write (i64.const 0x220) (i64.const 0x230) (i64.const 0))) (call $root))"
    "(func (export \"pong\") (call $setup)" /* calls `mark` of whoever asked */
    " (if (i32.eqz (call $origin (i64.const 4))) (then (unreachable)))"
    " (call $buf (i32.const 0x2c0) (i64.const 0x500) (i64.const 32))"
    " (drop (call $take (i64.const 4) (i64.const 0x2c0)))"
    " (call $buf (i32.const 0x2d0) (i64.const 0x1d0) (i64.const 4))"
    " (call $buf (i32.const 0x2e0) (i64.const 0) (i64.const 0))"
    " (call $xcall (i64.const 0x2c0)) (call $root)))";

#define CONTEXT_ABI(methods)                                                                       \
    "{\"schema_version\":\"wasm-abi/1\",\"types\":{},\"events\":[],\"methods\":[" methods "]}"
static const char context_abi_open[] =
    CONTEXT_ABI("{\"name\":\"look\",\"params\":[],\"intent\":\"read_only\"},"
                "{\"name\":\"view_put\",\"params\":[],\"intent\":\"read_only\"}");
/* One that declares an entry point for xcalls, and so closes the rest. */
static const char context_abi_gated[] =
    CONTEXT_ABI("{\"name\":\"mark\",\"params\":[],\"xcall_callable\":true},"
                "{\"name\":\"mark_ours\",\"params\":[],\"xcall_callable\":true,"
                "\"xcall_callers\":\"same_app\"},"
                "{\"name\":\"put\",\"params\":[],\"intent\":\"mutating\"}");

#endif
