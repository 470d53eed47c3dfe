;; A component that breaks the lock of PATH, and returns 0, or the number of the error plus 1.
(component
  (import "locket:lock/api@0.1.0" (instance $api
    (type $reason' (enum "expired" "broken" "disconnected" "io"))
    (export "lost-reason" (type $reason (eq $reason')))
    (type $kind' (enum "no-space" "quota" "read-only" "stale" "too-many-files" "too-many-locks" "other"))
    (export "io-kind" (type $kind (eq $kind')))
    (type $error' (variant
      (case "would-block") (case "timeout") (case "not-locked") (case "not-owner")
      (case "deadlock") (case "access-denied") (case "no-entry") (case "invalid-path")
      (case "limit-exceeded") (case "not-supported") (case "unavailable")
      (case "lost" $reason) (case "canceled") (case "io" $kind) (case "other" (option string))))
    (export "error" (type $error (eq $error')))))
  (alias export $api "error" (type $error))
  (import "locket:lock/admin@0.1.0" (instance $admin
    (alias outer 1 $error (type $error))
    (export "break-lock" (func (param "path" string) (result (result (error $error)))))))
  (core module $memory
    (memory (export "memory") 1)
    (data (i32.const 0) "PATH")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $m))
  (alias core export $memory "realloc" (core func $realloc))
  (core func $break (canon lower (func $admin "break-lock") (memory $m) (realloc (core func $realloc))))
  (core module $main
    (import "" "memory" (memory 1))
    (import "" "break" (func $break (param i32 i32 i32)))
    (func (export "break") (result i32)
      (call $break (i32.const 0) (i32.const LENGTH) (i32.const 64))
      (if (result i32) (i32.load8_u (i32.const 64))
        (then (i32.add (i32.load8_u (i32.const 68)) (i32.const 1)))
        (else (i32.const 0)))))
  (core instance $main (instantiate $main (with "" (instance
    (export "memory" (memory $m))
    (export "break" (func $break))))))
  (func (export "break") (result u32) (canon lift (core func $main "break")))
)
