;; Lends any number as a descriptor, which no bindings would do. FILESYSTEM and DESCRIPTORS stand for the
;; interfaces of one version of WASI.
(component
  (import "FILESYSTEM" (instance $filesystem
    (export "descriptor" (type (sub resource)))))
  (alias export $filesystem "descriptor" (type $descriptor))
  (import "locket:lock/api@0.1.0" (instance $api
    (export "lock-file" (type (sub resource)))
    (type $protocol' (enum "native" "flock" "fcntl" "link" "symlink" "mkdir" "pid-file" "soft" "sqlite"))
    (export "protocol" (type $protocol (eq $protocol')))
    (type $on-release' (enum "keep" "remove"))
    (export "on-release" (type $on-release (eq $on-release')))
    (type $options' (record (field "protocol" (option $protocol)) (field "on-release" $on-release)))
    (export "options" (type $options (eq $options')))
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
  (alias export $api "lock-file" (type $lock-file))
  (alias export $api "options" (type $options))
  (alias export $api "error" (type $error))
  (import "locket:lock/ranges@0.1.0" (instance $ranges
    (export "range-file" (type (sub resource)))))
  (alias export $ranges "range-file" (type $range-file))
  (import "DESCRIPTORS" (instance $descriptors
    (alias outer 1 $descriptor (type $descriptor))
    (alias outer 1 $lock-file (type $lock-file))
    (alias outer 1 $range-file (type $range-file))
    (alias outer 1 $options (type $options))
    (alias outer 1 $error (type $error))
    (export "open-lock" (func (param "file" (borrow $descriptor)) (param "options" $options)
      (result (result (own $lock-file) (error $error)))))
    (export "open-ranges" (func (param "file" (borrow $descriptor))
      (result (result (own $range-file) (error $error)))))))

  (core module $memory
    (memory (export "memory") 1)
    ;; For strings in errors; there is one at a time.
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $m))
  (alias core export $memory "realloc" (core func $realloc))
  (core func $open-lock
    (canon lower (func $descriptors "open-lock") (memory $m) (realloc (core func $realloc))))
  (core func $open-ranges
    (canon lower (func $descriptors "open-ranges") (memory $m) (realloc (core func $realloc))))
  (core func $close (canon resource.drop $descriptor))

  (core module $main
    (import "" "memory" (memory 1))
    (import "" "open-lock" (func $open-lock (param i32 i32 i32 i32 i32)))
    (import "" "open-ranges" (func $open-ranges (param i32 i32)))
    (import "" "close" (func $close (param i32)))
    ;; The handle, or -1 - N for the N-th case of the error.
    (func $answer (result i32)
      (if (result i32) (i32.load8_u (i32.const 0))
        (then (i32.sub (i32.const -1) (i32.load8_u (i32.const 4))))
        (else (i32.load (i32.const 4)))))
    (func (export "take") (param i32) (result i32) (local.get 0))
    (func (export "close") (param i32) (call $close (local.get 0)))
    (func (export "lock") (param i32) (result i32)
      (call $open-lock (local.get 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
      (call $answer))
    (func (export "ranges") (param i32) (result i32)
      (call $open-ranges (local.get 0) (i32.const 0))
      (call $answer)))
  (core instance $main (instantiate $main (with "" (instance
    (export "memory" (memory $m))
    (export "open-lock" (func $open-lock))
    (export "open-ranges" (func $open-ranges))
    (export "close" (func $close))))))

  (func (export "take") (param "file" (own $descriptor)) (result u32) (canon lift (core func $main "take")))
  (func (export "close") (param "handle" u32) (canon lift (core func $main "close")))
  (func (export "lock") (param "handle" u32) (result s32) (canon lift (core func $main "lock")))
  (func (export "ranges") (param "handle" u32) (result s32) (canon lift (core func $main "ranges")))
)
