//! Valid manifests and the configurations parsed from them, and the errors of invalid ones.

use super::*;

const SERVICE: &str = "[[service]]\nname = \"a\"\ncomponent = \"a.wasm\"\nlisten = \"127.0.0.1:1\"\n";

fn parse(text: &str) -> Result<Config, ConfigError> {
    let environment = Environment::from_pairs([("PORT", "8123")]);
    read(text, Path::new("shop/services.toml"), &environment)
}

fn check(text: &str, expected: &str) {
    let message = parse(text).unwrap_err().to_string();
    assert!(message.contains(expected), "{text}\n--- actual\n{message}\n--- expected\n{expected}");
}

#[test]
fn a_minimal_manifest_has_the_documented_defaults() {
    let config = parse(SERVICE).unwrap();
    let service = &config.services[0];
    assert_eq!(service.component, Path::new("shop/a.wasm"));
    assert_eq!(service.limits, Limits::default());
    assert_eq!(service.isolation, None, "the kind of component decides");
    assert_eq!(config.console.listen, None, "there is no console by default");
    assert_eq!(parse("[console]\n").unwrap().console.listen, Some(CONSOLE));
    assert_eq!(config.state, StateConfig::Memory { per_service: 256 << 20 });
    assert_eq!(config.shutdown, ShutdownConfig { drain: Duration::from_secs(20), delay: Duration::ZERO });
}

#[test]
fn all_settings_are_parsed() {
    let text = format!(
        "[console]\nlisten = \"off\"\n[state]\nbackend = \"redb\"\npath = \"s.redb\"\nper_service = \"1MiB\"\n[swap]\nguard = \"0s\"\nwatch = false\n\
         [shutdown]\ndrain = \"7s\"\ndelay = \"500ms\"\n\
         [telemetry]\nkeep = [\"errors\", \"slower than 250ms\"]\nkeep_rate = 0.1\nresponse_header = false\n{SERVICE}isolation = \"request\"\n\
         probe = \"/ready\"\n[service.config]\nurl = \"http://h:${{PORT}}\"\n\"flag.x\" = true\nn = 3\n\
         [service.outbound]\nallow = [\"http://h:${{PORT}}\"]\n[service.limits]\nmemory = \"1MiB\"\nrequest_body = 5\n\
         request_timeout = \"250ms\"\nconcurrency = 2\n"
    );
    let config = parse(&text).unwrap();
    let service = &config.services[0];
    assert_eq!(config.console.listen, None);
    assert_eq!(config.state, StateConfig::Redb { path: "shop/s.redb".into(), per_service: 1 << 20 });
    assert_eq!(config.swap.guard, Duration::ZERO);
    let shutdown = ShutdownConfig { drain: Duration::from_secs(7), delay: Duration::from_millis(500) };
    assert_eq!(config.shutdown, shutdown);
    let policy = TailPolicy { errors: true, slower_than: Some(Duration::from_millis(250)), rate: 0.1 };
    assert_eq!(config.telemetry.tail_policy, Some(policy));
    assert!(!config.telemetry.response_header);
    assert_eq!(service.config["url"], "http://h:8123");
    assert_eq!((service.config["flag.x"].as_str(), service.config["n"].as_str()), ("true", "3"));
    assert_eq!(service.outbound.allow[0].to_string(), "http://h:8123");
    assert_eq!((service.limits.memory, service.limits.request_body, service.limits.concurrency), (1 << 20, 5, 2));
}

#[test]
fn an_unknown_key_is_reported_with_its_line_and_the_most_similar_key() {
    check(
        &format!("{SERVICE}[service.limits]\nmemroy = \"1MiB\"\n"),
        "shop/services.toml:6:1: unknown key `memroy` in [service.limits]\n  help: did you mean `memory`?",
    );
    check("[consol]\n", "1:2: unknown key `consol` in the manifest\n  help: did you mean `console`?");
    check(
        "[state]\nzzzzzzzzzzzz = 1\na = 2\n",
        "2:1: unknown key `zzzzzzzzzzzz` in [state]\n  help: the keys here are backend, path, per_service",
    );
}

#[test]
fn an_invalid_value_is_reported_with_a_remedy() {
    check(&SERVICE.replace("\"a\"", "\"A b\""), "2:8: `A b` is not a valid service name");
    check(&SERVICE.replace("\"a\"", "\"spandrel\""), "2:8: `spandrel` is the name of the host itself in telemetry");
    check(&SERVICE.replace("name = \"a\"\n", ""), "[[service]] has no `name`\n  help: add `name = \"user-service\"`");
    check(&SERVICE.replace("listen = \"127.0.0.1:1\"\n", ""), "has no `listen`");
    check(&SERVICE.replace("127.0.0.1:1", "here"), "`here` is not a valid listen address");
    check(&SERVICE.replace("\"a.wasm\"", "7"), "`component` in [[service]] is of type integer");
    check(&format!("{SERVICE}{SERVICE}"), "two services named `a`");
    check(&format!("{SERVICE}{}", SERVICE.replace("\"a\"", "\"b\"")), "`b` listens on 127.0.0.1:1, and so does a");
    check(&format!("[console]\n{}", SERVICE.replace("127.0.0.1:1", "127.0.0.1:8010")), "so does the console");
    let otlp = "[console]\notlp = \"127.0.0.1:4327\"\n";
    check(
        &format!("{otlp}{}", SERVICE.replace("127.0.0.1:1", "0.0.0.0:4327")),
        "6:10: `a` listens on 0.0.0.0:4327, and `[console] otlp` on 127.0.0.1:4327",
    );
    check(&otlp.replace("4327", "8010"), "2:8: `[console] otlp` listens on 127.0.0.1:8010, and so does the console");
    for probe in ["health", "/a b", "/a\\nb", "/a#b"] {
        check(&format!("{SERVICE}probe = \"{probe}\"\n"), &format!("5:9: `{probe}` is not the path of a request"));
    }
    check(&format!("{SERVICE}isolation = \"none\"\n"), "write \"instance\" or \"request\"");
    check(
        &format!("{SERVICE}[service.limits]\nmemory = \"1 elephant\"\n"),
        "`memory` is `1 elephant`, which is not a valid size",
    );
    check(&format!("{SERVICE}[service.limits]\nconcurrency = 0\n"), "`concurrency` must not be zero");
    check(
        &format!("{SERVICE}[service.limits]\nrequest_timeout = \"10\"\n"),
        "`request_timeout` is `10`, which is not a valid duration",
    );
    check(
        &format!("{SERVICE}[service.outbound]\nallow = [\"localhost:1\"]\n"),
        "`allow` lists `localhost:1`, which is not a valid origin",
    );
    check("[state]\nbackend = \"disk\"\n", "write \"memory\" or \"redb\"");
    check("[state]\nbackend = \"redb\"\n", "requires a file");
    check("[state]\nper_service = 0\n", "2:15: `per_service` must not be zero");
    check("[telemetry]\nkeep_rate = 0.5\n", "`keep` is empty");
    check("[state]\npath = \"x\"\n", "add `backend = \"redb\"`");
    check("[telemetry]\nkeep = [\"good ones\"]\n", "`good ones` is not a rule for keeping traces");
    let two = "[telemetry]\nkeep = [\"slower than 1ms\",\n  \"slower than 2s\"]\n";
    check(two, "3:3: `slower than 2s` duplicates another rule\n  help: remove one of them");
    check("[telemetry]\nkeep = [\"errors\", \"errors\"]\n", "`errors` duplicates another rule");
    check("[state]\nbackend = \"${NOWHERE}\"\n", "NOWHERE is not set");
    check("service = 1\n", "is not a list of tables");
    check("[[service]\n", "services.toml:1:");
}

#[test]
fn a_console_on_a_non_loopback_address_requires_a_token() {
    let text = "[console]\nlisten = \"0.0.0.0:8010\"\n";
    check(text, "set SPANDREL_ADMIN_TOKEN");
    let environment = Environment::from_pairs([("SPANDREL_ADMIN_TOKEN", "t")]);
    assert!(read(text, Path::new("services.toml"), &environment).is_ok());
}

#[test]
fn the_trace_store_has_a_size_and_is_off_without_a_console() {
    let bytes = |keys: &str| parse(&format!("[console]\n{keys}\n")).unwrap().telemetry.store_bytes;
    assert_eq!(bytes(""), 64 << 20);
    assert_eq!(bytes("traces = \"1MiB\""), 1 << 20);
    assert_eq!(bytes("traces = 0"), 0);
    assert_eq!(bytes("recent_spans = 10"), 30 << 10);
    assert_eq!(bytes("recent_spans = 10\ntraces = \"2MiB\""), 2 << 20);
    assert_eq!(bytes("listen = \"off\"\ntraces = \"1MiB\""), 0);
    check("[console]\ntraces = \"much\"\n", "`traces` is `much`, which is not a valid size");
}

#[test]
fn the_otlp_receiver_listens_on_loopback_only() {
    let config = parse("[console]\notlp = \"127.0.0.1:4327\"\njaeger_ui = \"ui\"\n").unwrap();
    assert_eq!(config.console.otlp, Some(SocketAddr::from(([127, 0, 0, 1], 4327))));
    assert_eq!(config.console.jaeger_ui.as_deref(), Some(Path::new("shop/ui")));
    check("[console]\notlp = \"0.0.0.0:4327\"\n", "use a loopback address");
}

#[test]
fn settings_of_the_console_are_rejected_if_it_is_off() {
    for key in ["otlp = \"127.0.0.1:4327\"", "jaeger_ui = \"ui\""] {
        check(&format!("[console]\nlisten = \"off\"\n{key}\n"), "the console is off");
    }
}

#[test]
fn the_manifest_of_the_shop_is_valid() {
    let text = include_str!("../../../services.toml");
    let config = read(text, Path::new("services.toml"), &Environment::default()).unwrap();
    let names: Vec<_> = config.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["product-service", "user-service", "inventory-service"]);
}

#[test]
fn two_listeners_cannot_share_a_port() {
    let two = |first: &str, second: &str| {
        let (first, second) = (SERVICE.replace("127.0.0.1:1", first), SERVICE.replace("127.0.0.1:1", second));
        format!("{first}{}", second.replace("\"a\"", "\"b\""))
    };
    for (first, second) in
        [("127.0.0.1:1", "0.0.0.0:1"), ("0.0.0.0:1", "127.0.0.2:1"), ("[::]:1", "127.0.0.1:1"), ("[::]:1", "0.0.0.0:1")]
    {
        check(&two(first, second), &format!("`b` listens on {second}, and a on {first}"));
    }
    for (first, second) in [("127.0.0.1:0", "127.0.0.1:0"), ("127.0.0.1:1", "127.0.0.2:1"), ("0.0.0.0:1", "[::1]:1")] {
        parse(&two(first, second)).unwrap();
    }
    let console = format!("[console]\nlisten = \"127.0.0.1:0\"\n{}", SERVICE.replace("127.0.0.1:1", "127.0.0.1:0"));
    parse(&console).unwrap();
}

#[test]
fn integers_are_parsed_in_every_base() {
    let text =
        "[service.limits]\nconcurrency = 0x10\nrequest_body = 0b11\nmemory = 1_000_000\n[service.config]\na = 0x10\n";
    let config = parse(&format!("{SERVICE}{text}")).unwrap();
    let (limits, settings) = (&config.services[0].limits, &config.services[0].config);
    assert_eq!((limits.concurrency, limits.request_body, limits.memory), (16, 3, 1_000_000));
    assert_eq!(settings["a"], "0x10");
    for (key, value) in [("concurrency", "-1"), ("memory", "-1"), ("request_timeout", "10"), ("concurrency", "\"1\"")] {
        check(&format!("{SERVICE}[service.limits]\n{key} = {value}\n"), &format!("`{key}`"));
    }
    check("[telemetry]\nkeep = [\"errors\"]\nkeep_rate = 7\n", "`keep_rate` is 7, which is not a valid share");
}

#[test]
fn origins_without_baggage_must_be_allowed() {
    let outbound = |rest: &str| format!("{SERVICE}[service.outbound]\nallow = [\"http://a:80\"]\n{rest}\n");
    let config = parse(&outbound("no_baggage = [\"http://A\"]")).unwrap();
    assert_eq!(config.services[0].outbound.no_baggage, config.services[0].outbound.allow);
    check(&outbound("no_baggage = [\"http://b\"]"), "`no_baggage` lists http://b:80, which `allow` does not");
}

#[test]
fn columns_are_counted_in_characters() {
    check(
        "[state] # \u{e9}\nbackend = \"\u{e9}${}\"\n",
        "shop/services.toml:2:11: `${}` is not a valid environment variable",
    );
    check("\r\n\r\n[state]\r\nzz = 1\r\n", "shop/services.toml:4:1: unknown key `zz`");
}

#[test]
fn limits_for_connections_are_parsed() {
    assert_eq!(parse(SERVICE).unwrap().connections, Connections::default());
    let text = format!("[limits]\nconnections = 7\nhead_timeout = \"2s\"\nkeep_alive = \"1m\"\n{SERVICE}");
    let expected =
        Connections { per_port: 7, head_timeout: Duration::from_secs(2), keep_alive: Duration::from_secs(60) };
    assert_eq!(parse(&text).unwrap().connections, expected);
    check("[limits]\nkeep_alive = \"0s\"\n", "2:14: `keep_alive` must not be zero");
    check("[limits]\nconnections = 0\n", "`connections` must not be zero");
    check("[limits]\nkeepalive = \"1s\"\n", "did you mean `keep_alive`?");
    check("[limits]\nmemory = \"1MiB\"\n", "unknown key `memory` in [limits]");
}

#[test]
fn trusted_proxies_are_networks_or_addresses() {
    assert_eq!(parse(SERVICE).unwrap().services[0].trusted_proxies, []);
    let text = format!("{SERVICE}trusted_proxies = [\"10.1.2.3/8\", \"192.0.2.1\", \"fd00::/8\", \"::1\"]\n");
    let shown: Vec<_> = parse(&text).unwrap().services[0].trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["10.0.0.0/8", "192.0.2.1/32", "fd00::/8", "::1/128"]);
    for bad in ["10.0.0.0/33", "nobody", "10.0.0", "*", "10.0.0.0/8, ::1", ""] {
        check(
            &format!("{SERVICE}trusted_proxies = [\"{bad}\"]\n"),
            &format!("`{bad}` is not a valid network or address"),
        );
    }
}

#[test]
fn all_errors_are_reported_at_once_in_the_order_of_the_manifest() {
    let text = "[console]\nlisten = \"nowhere\"\notpl = 1\n[limits]\nconnections = 0\nkeep_alive = 7\n\
                [telemetry]\nkeep = [\"good ones\", \"bad ones\"]\nredact = [\"-\"]\n\
                [[telemetry.attributes]]\nfrom = \"here\"\nas = \"http.a\"\n\
                [[service]]\nname = \"A\"\nlisten = \"there\"\nroutes = [\"x\", \"GET /**/x\"]\n[service.limits]\nmemory = \"9GiB\"\n\
                concurrency = 0\n[service.outbound]\nallow = [\"a\", \"b\"]\n[[service.files]]\nguest = 1\nacces = 2\n\
                [service.config]\na = [1]\nb = \"${NONE}\"\n[service.env]\n\"=\" = \"\"\nc = 1\n";
    let message = parse(text).unwrap_err().to_string();
    let places: Vec<_> = message.lines().filter_map(|line| line.strip_prefix("shop/services.toml:")).collect();
    let lines: Vec<usize> = places.iter().map(|place| place.split(':').next().unwrap().parse().unwrap()).collect();
    let expected = [2, 3, 5, 6, 8, 8, 9, 11, 12, 13, 14, 15, 16, 16, 18, 19, 21, 21, 22, 23, 24, 26, 27, 29, 30];
    assert_eq!(lines, expected, "{message}");
    assert_eq!(message.matches("\n  help: ").count(), expected.len(), "each has a remedy: {message}");
}

#[test]
fn of_invalid_toml_only_syntax_errors_are_reported() {
    let message = parse("[console\nlisten = 1\n[state]\nbackend = = 2\nservice = 7\n").unwrap_err().to_string();
    assert!(message.contains("services.toml:1:") && message.contains("services.toml:4:"), "{message}");
    assert!(!message.contains("`listen`") && !message.contains("`service`"), "{message}");
}

#[test]
fn errors_of_the_environment_are_reported_too() {
    let environment = Environment::from_pairs([("OTEL_EXPORTER_OTLP_ENDPOINT", "nowhere")]);
    let error =
        read("[state]\nbackend = \"disk\"\n", Path::new("services.toml"), &environment).unwrap_err().to_string();
    assert!(error.contains("OTEL_EXPORTER_OTLP_ENDPOINT") && error.contains("`disk` is not a backend"), "{error}");
}
