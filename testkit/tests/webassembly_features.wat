;; A component of `wasi:http` 0.2 that uses exceptions, garbage collection, a table of `externref` and atomic instructions.
;; `/` responds with 204. A path of two characters throws an exception that is not caught. Any longer path fills the heap
;; until no memory is left.
(component
  (import "wasi:http/types@0.2.0" (instance $http
    (export "fields" (type $fields (sub resource)))
    (export "incoming-request" (type $request (sub resource)))
    (export "outgoing-response" (type $response (sub resource)))
    (export "response-outparam" (type $outparam (sub resource)))
    (type $dns' (record (field "rcode" (option string)) (field "info-code" (option u16))))
    (export "DNS-error-payload" (type $dns (eq $dns')))
    (type $tls' (record (field "alert-id" (option u8)) (field "alert-message" (option string))))
    (export "TLS-alert-received-payload" (type $tls (eq $tls')))
    (type $field' (record (field "field-name" (option string)) (field "field-size" (option u32))))
    (export "field-size-payload" (type $field (eq $field')))
    (type $error' (variant
      (case "DNS-timeout") (case "DNS-error" $dns) (case "destination-not-found") (case "destination-unavailable")
      (case "destination-IP-prohibited") (case "destination-IP-unroutable") (case "connection-refused")
      (case "connection-terminated") (case "connection-timeout") (case "connection-read-timeout")
      (case "connection-write-timeout") (case "connection-limit-reached") (case "TLS-protocol-error")
      (case "TLS-certificate-error") (case "TLS-alert-received" $tls) (case "HTTP-request-denied")
      (case "HTTP-request-length-required") (case "HTTP-request-body-size" (option u64))
      (case "HTTP-request-method-invalid") (case "HTTP-request-URI-invalid") (case "HTTP-request-URI-too-long")
      (case "HTTP-request-header-section-size" (option u32)) (case "HTTP-request-header-size" (option $field))
      (case "HTTP-request-trailer-section-size" (option u32)) (case "HTTP-request-trailer-size" $field)
      (case "HTTP-response-incomplete") (case "HTTP-response-header-section-size" (option u32))
      (case "HTTP-response-header-size" $field) (case "HTTP-response-body-size" (option u64))
      (case "HTTP-response-trailer-section-size" (option u32)) (case "HTTP-response-trailer-size" $field)
      (case "HTTP-response-transfer-coding" (option string)) (case "HTTP-response-content-coding" (option string))
      (case "HTTP-response-timeout") (case "HTTP-upgrade-failed") (case "HTTP-protocol-error") (case "loop-detected")
      (case "configuration-error") (case "internal-error" (option string))))
    (export "error-code" (type $error (eq $error')))
    (export "[constructor]fields" (func (result (own $fields))))
    (export "[constructor]outgoing-response" (func (param "headers" (own $fields)) (result (own $response))))
    (export "[method]outgoing-response.set-status-code"
      (func (param "self" (borrow $response)) (param "status-code" u16) (result (result))))
    (export "[method]incoming-request.path-with-query"
      (func (param "self" (borrow $request)) (result (option string))))
    (export "[static]response-outparam.set"
      (func (param "param" (own $outparam)) (param "response" (result (own $response) (error $error)))))))
  (alias export $http "incoming-request" (type $request))
  (alias export $http "response-outparam" (type $outparam))

  (core module $storage
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
  (core instance $storage (instantiate $storage))
  (core func $new-fields (canon lower (func $http "[constructor]fields")))
  (core func $new-response (canon lower (func $http "[constructor]outgoing-response")))
  (core func $set-status (canon lower (func $http "[method]outgoing-response.set-status-code")))
  (core func $path (canon lower (func $http "[method]incoming-request.path-with-query")
    (memory (core memory $storage "memory")) (realloc (core func $storage "realloc"))))
  (core func $respond (canon lower (func $http "[static]response-outparam.set") (memory (core memory $storage "memory"))))

  (core module $guest
    (import "storage" "memory" (memory 1))
    (import "http" "fields" (func $new-fields (result i32)))
    (import "http" "response" (func $new-response (param i32) (result i32)))
    (import "http" "status" (func $set-status (param i32 i32) (result i32)))
    (import "http" "path" (func $path (param i32 i32)))
    (import "http" "respond" (func $respond (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
    (type $bytes (array (mut i8)))
    (rec (type $list (struct (field $status i32) (field $data (ref $bytes)) (field $next (ref null $list)))))
    (tag $failure (param (ref $list)))
    (table $objects 1 externref)
    (global $kept (mut (ref null $list)) (ref.null $list))

    ;; Keeps another MiB.
    (func $grow
      (global.set $kept
        (struct.new $list (i32.const 204) (array.new_default $bytes (i32.const 1048576)) (global.get $kept))))
    ;; Throws a list whose status is 204.
    (func $fail
      (table.set $objects (i32.const 0) (extern.convert_any (ref.i31 (i32.const 7))))
      (drop (i32.atomic.rmw.add (i32.const 512) (i32.const 1)))
      (throw $failure
        (struct.new $list (i32.const 204) (array.new_default $bytes (i32.const 16)) (ref.null $list))))
    (func $caught (result (ref $list))
      (block $handler (result (ref $list))
        (try_table (catch $failure $handler) (call $fail))
        (unreachable)))

    (func (export "handle") (param $request i32) (param $outparam i32)
      (local $response i32)
      (call $path (local.get $request) (i32.const 256))
      (if (i32.eq (i32.load (i32.const 264)) (i32.const 2)) (then (call $fail)))
      (if (i32.gt_u (i32.load (i32.const 264)) (i32.const 1)) (then (loop $again (call $grow) (br $again))))
      (local.set $response (call $new-response (call $new-fields)))
      (drop (call $set-status (local.get $response) (struct.get $list $status (call $caught))))
      (call $respond (local.get $outparam) (i32.const 0) (local.get $response)
        (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))))
  (core instance $guest (instantiate $guest
    (with "storage" (instance $storage))
    (with "http" (instance
      (export "fields" (func $new-fields)) (export "response" (func $new-response))
      (export "status" (func $set-status)) (export "path" (func $path)) (export "respond" (func $respond))))))
  (func $handle (param "request" (own $request)) (param "response-out" (own $outparam))
    (canon lift (core func $guest "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))
