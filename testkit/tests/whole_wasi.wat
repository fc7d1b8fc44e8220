;; A component of wasi:http 0.2 that imports every interface of WASI 0.2, with something of each, and never answers.
;; VERSION stands for the release.
(component
  (import "wasi:io/error@VERSION" (instance $error (export "error" (type (sub resource)))))
  (import "wasi:io/poll@VERSION" (instance $poll (export "pollable" (type (sub resource)))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:io/streams@VERSION" (instance $streams
    (export "input-stream" (type (sub resource)))
    (export "output-stream" (type (sub resource)))))
  (alias export $streams "input-stream" (type $input))
  (alias export $streams "output-stream" (type $output))

  (import "wasi:cli/environment@VERSION" (instance
    (export "get-environment" (func (result (list (tuple string string)))))
    (export "get-arguments" (func (result (list string))))
    (export "initial-cwd" (func (result (option string))))))
  (import "wasi:cli/exit@VERSION" (instance (export "exit" (func (param "status" (result))))))
  (import "wasi:cli/stdin@VERSION" (instance
    (alias outer 1 $input (type $i)) (export "input-stream" (type $e (eq $i)))
    (export "get-stdin" (func (result (own $e))))))
  (import "wasi:cli/stdout@VERSION" (instance
    (alias outer 1 $output (type $o)) (export "output-stream" (type $e (eq $o)))
    (export "get-stdout" (func (result (own $e))))))
  (import "wasi:cli/stderr@VERSION" (instance
    (alias outer 1 $output (type $o)) (export "output-stream" (type $e (eq $o)))
    (export "get-stderr" (func (result (own $e))))))
  (import "wasi:cli/terminal-input@VERSION" (instance $terminal-input
    (export "terminal-input" (type (sub resource)))))
  (alias export $terminal-input "terminal-input" (type $terminal-in))
  (import "wasi:cli/terminal-output@VERSION" (instance $terminal-output
    (export "terminal-output" (type (sub resource)))))
  (alias export $terminal-output "terminal-output" (type $terminal-out))
  (import "wasi:cli/terminal-stdin@VERSION" (instance
    (alias outer 1 $terminal-in (type $i)) (export "terminal-input" (type $e (eq $i)))
    (export "get-terminal-stdin" (func (result (option (own $e)))))))
  (import "wasi:cli/terminal-stdout@VERSION" (instance
    (alias outer 1 $terminal-out (type $o)) (export "terminal-output" (type $e (eq $o)))
    (export "get-terminal-stdout" (func (result (option (own $e)))))))
  (import "wasi:cli/terminal-stderr@VERSION" (instance
    (alias outer 1 $terminal-out (type $o)) (export "terminal-output" (type $e (eq $o)))
    (export "get-terminal-stderr" (func (result (option (own $e)))))))

  (import "wasi:clocks/monotonic-clock@VERSION" (instance
    (export "now" (func (result u64)))
    (alias outer 1 $pollable (type $p)) (export "pollable" (type $e (eq $p)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $e))))))
  (import "wasi:clocks/wall-clock@VERSION" (instance
    (type $d (record (field "seconds" u64) (field "nanoseconds" u32)))
    (export "datetime" (type $datetime (eq $d)))
    (export "now" (func (result $datetime)))))
  (import "wasi:random/random@VERSION" (instance
    (export "get-random-bytes" (func (param "len" u64) (result (list u8))))
    (export "get-random-u64" (func (result u64)))))
  (import "wasi:random/insecure@VERSION" (instance
    (export "get-insecure-random-u64" (func (result u64)))))
  (import "wasi:random/insecure-seed@VERSION" (instance
    (export "insecure-seed" (func (result (tuple u64 u64))))))

  (import "wasi:filesystem/types@VERSION" (instance $files
    (export "descriptor" (type (sub resource)))
    (export "directory-entry-stream" (type (sub resource)))))
  (alias export $files "descriptor" (type $descriptor))
  (import "wasi:filesystem/preopens@VERSION" (instance
    (alias outer 1 $descriptor (type $d)) (export "descriptor" (type $e (eq $d)))
    (export "get-directories" (func (result (list (tuple (own $e) string)))))))

  (import "wasi:sockets/network@VERSION" (instance $network
    (export "network" (type (sub resource)))
    (type $f (enum "ipv4" "ipv6")) (export "ip-address-family" (type (eq $f)))
    (type $c (enum "unknown" "access-denied" "not-supported" "invalid-argument" "out-of-memory" "timeout"
      "concurrency-conflict" "not-in-progress" "would-block" "invalid-state" "new-socket-limit"
      "address-not-bindable" "address-in-use" "remote-unreachable" "connection-refused" "connection-reset"
      "connection-aborted" "datagram-too-large" "name-unresolvable" "temporary-resolver-failure"
      "permanent-resolver-failure"))
    (export "error-code" (type (eq $c)))))
  (alias export $network "network" (type $net))
  (alias export $network "ip-address-family" (type $family))
  (alias export $network "error-code" (type $code))
  (import "wasi:sockets/instance-network@VERSION" (instance
    (alias outer 1 $net (type $n)) (export "network" (type $e (eq $n)))
    (export "instance-network" (func (result (own $e))))))
  (import "wasi:sockets/tcp@VERSION" (instance $tcp (export "tcp-socket" (type (sub resource)))))
  (alias export $tcp "tcp-socket" (type $tcp-socket))
  (import "wasi:sockets/tcp-create-socket@VERSION" (instance
    (alias outer 1 $tcp-socket (type $s)) (export "tcp-socket" (type $socket (eq $s)))
    (alias outer 1 $family (type $f)) (export "ip-address-family" (type $af (eq $f)))
    (alias outer 1 $code (type $c)) (export "error-code" (type $error (eq $c)))
    (export "create-tcp-socket" (func (param "address-family" $af) (result (result (own $socket) (error $error)))))))
  (import "wasi:sockets/udp@VERSION" (instance $udp
    (export "udp-socket" (type (sub resource)))
    (export "incoming-datagram-stream" (type (sub resource)))
    (export "outgoing-datagram-stream" (type (sub resource)))))
  (alias export $udp "udp-socket" (type $udp-socket))
  (import "wasi:sockets/udp-create-socket@VERSION" (instance
    (alias outer 1 $udp-socket (type $s)) (export "udp-socket" (type $socket (eq $s)))
    (alias outer 1 $family (type $f)) (export "ip-address-family" (type $af (eq $f)))
    (alias outer 1 $code (type $c)) (export "error-code" (type $error (eq $c)))
    (export "create-udp-socket" (func (param "address-family" $af) (result (result (own $socket) (error $error)))))))
  (import "wasi:sockets/ip-name-lookup@VERSION" (instance
    (export "resolve-address-stream" (type (sub resource)))))

  (import "wasi:http/types@VERSION" (instance $http
    (export "incoming-request" (type (sub resource)))
    (export "outgoing-request" (type (sub resource)))
    (export "future-incoming-response" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $http "incoming-request" (type $request))
  (alias export $http "response-outparam" (type $response))

  (core module $guest (func (export "handle") (param i32 i32)) (func (export "init")))
  (core instance $instance (instantiate $guest))
  (func $handle (param "request" (own $request)) (param "response-out" (own $response))
    (canon lift (core func $instance "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@VERSION" (instance $handler))
  ;; What toolchains export beside the handler.
  (func $init (canon lift (core func $instance "init")))
  (export "init" (func $init))
  (instance $nothing)
  (export "exports" (instance $nothing)))
