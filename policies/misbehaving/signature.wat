;; Exports the hook with another signature.
(component
  (core module $code (func (export "update")))
  (core instance $guest (instantiate $code))
  (func $update (canon lift (core func $guest "update")))
  (instance (export "podgraft:template/hook@0.1.0") (export "update-template" (func $update))))
