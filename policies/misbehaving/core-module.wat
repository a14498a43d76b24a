;; Not a component: a core module, as rustc writes it.
(module (memory (export "memory") 1))
