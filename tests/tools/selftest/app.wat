;; A guest small enough to read, for the replay tool's own test. Built with wat2wasm into app.wasm.
(module
  (import "env" "storage_write" (func $write (param i64 i64 i64) (result i32)))
  (import "env" "private_storage_write" (func $private (param i64 i64) (result i32)))
  (import "env" "storage_index_set" (func $index (param i64 i64) (result i32)))
  (import "env" "log_utf8" (func $log (param i64)))
  (import "env" "emit" (func $emit (param i64)))
  (import "env" "xcall" (func $xcall (param i64)))
  (import "env" "commit" (func $commit (param i64 i64)))
  (import "env" "value_return" (func $return (param i64)))
  (import "env" "time_now" (func $time (param i64)))
  (import "env" "random_bytes" (func $random (param i64)))
  (import "env" "panic_utf8" (func $panic (param i64 i64)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\00\01\00\00\00\00\00\00\20\00\00\00\00\00\00\00")   ;; 0: key, 32 bytes at 256
  (data (i32.const 16) "\20\01\00\00\00\00\00\00\08\00\00\00\00\00\00\00")  ;; 16: time, 8 bytes at 288
  (data (i32.const 32) "\28\01\00\00\00\00\00\00\08\00\00\00\00\00\00\00")  ;; 32: randomness, 8 bytes at 296
  (data (i32.const 48) "\40\01\00\00\00\00\00\00\05\00\00\00\00\00\00\00")  ;; 48: "hello" at 320; an event's kind ..
  (data (i32.const 64) "\40\01\00\00\00\00\00\00\02\00\00\00\00\00\00\00")  ;; .. and its data
  (data (i32.const 80) "\00\01\00\00\00\00\00\00\20\00\00\00\00\00\00\00")  ;; 80: an xcall's context ..
  (data (i32.const 96) "\40\01\00\00\00\00\00\00\05\00\00\00\00\00\00\00")  ;; .. function ..
  (data (i32.const 112) "\40\01\00\00\00\00\00\00\00\00\00\00\00\00\00\00") ;; .. and parameters
  (data (i32.const 128) "\00\00\00\00\00\00\00\00\40\01\00\00\00\00\00\00\05\00\00\00\00\00\00\00") ;; Ok("hello")
  (data (i32.const 160) "\40\01\00\00\00\00\00\00\05\00\00\00\00\00\00\00\0c\00\00\00\22\00\00\00") ;; hello:12:34
  (data (i32.const 256) "KKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKK")
  (data (i32.const 320) "hello")
  (func $stamp (call $time (i64.const 16)) (call $random (i64.const 32)))
  (func (export "set")
    (call $stamp)
    (drop (call $write (i64.const 0) (i64.const 16) (i64.const 1)))
    (drop (call $private (i64.const 0) (i64.const 32)))
    (drop (call $index (i64.const 48) (i64.const 48)))
    (call $log (i64.const 48))
    (call $emit (i64.const 48))
    (call $xcall (i64.const 80))
    (call $commit (i64.const 0) (i64.const 48)))
  (func (export "look") ;; writes, but commits nothing
    (call $stamp)
    (drop (call $write (i64.const 0) (i64.const 16) (i64.const 1)))
    (call $return (i64.const 128)))
  (func (export "fail")
    (call $stamp)
    (drop (call $write (i64.const 0) (i64.const 16) (i64.const 1)))
    (drop (call $index (i64.const 16) (i64.const 48)))
    (call $panic (i64.const 48) (i64.const 160)))
  (func (export "bad") (call $log (i64.const -1)))
  (func (export "trap") unreachable))
