;; Logs the template a thousand times, as an error.
(component
  (import "podgraft:template/host@0.1.0" (instance $host
    (type $level' (enum "debug" "info" "warn" "error"))
    (export "level" (type $level (eq $level')))
    (export "log" (func (param "level" $level) (param "message" string)))
    (export "config-get" (func (param "path" string) (result (option string))))))
  (core module $memory-code
    (memory (export "memory") 2)
    (global $next (mut i32) (i32.const 4096))
    (func $realloc (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $block i32)
      (local.set $block (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $block) (local.get 3)))
      (local.get $block)))
  (core instance $memory (instantiate $memory-code))
  (core func $import (canon lower (func $host "log") (memory (core memory $memory "memory"))))
  (core module $code
    (import "memory" "memory" (memory 1))
    (import "host" "log" (func $import (param i32 i32 i32)))
    (func (export "update") (param $request i32) (param $request-size i32) (param $template i32) (param $template-size i32) (result i32)
      (local $n i32)
      (loop $again
        (call $import (i32.const 3) (local.get $template) (local.get $template-size))
        (br_if $again (i32.ne (i32.const 1000) (local.tee $n (i32.add (local.get $n) (i32.const 1))))))
      (i32.store8 (i32.const 4) (i32.const 0))
      (i32.store (i32.const 8) (i32.const 0))
      (i32.store (i32.const 12) (i32.const 0))
      (i32.const 0)))
  (core instance $guest (instantiate $code
    (with "memory" (instance $memory))
    (with "host" (instance (export "log" (func $import))))))
  (type $outcome' (variant (case "unchanged") (case "template" string) (case "fragment" string)))
  (func $update (param "request" string) (param "template" string) (result (result $outcome' (error string)))
    (canon lift (core func $guest "update") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (instance (export "podgraft:template/hook@0.1.0")
    (export $outcome "outcome" (type $outcome'))
    (export "update-template" (func $update)
      (func (param "request" string) (param "template" string) (result (result $outcome (error string)))))))
