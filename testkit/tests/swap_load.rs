//! Two hundred swaps of all three services, to valid and invalid versions, under full load: no request fails, every
//! response comes from exactly one version of each service, and nothing leaks.
//!
//! Each version of a component has a mark in its responses, so that every response shows its versions: one that served
//! when the request arrived, or one that was published while it ran.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::raw::Connection;
use testkit::{
    Admin, Client, Collector, Kind, PATIENCE, Site, Spandrel, TraceId, poll, reworded, variant, with_section,
};

const SERVICES: [&str; 3] = ["user-service", "product-service", "inventory-service"];
const PATH: &str = "/users/1/recommendations";
/// The marks, one for each version of a component.
const MARKS: [char; 5] = ['0', '1', '2', '3', '4'];
/// The number of swaps of each service.
const ROUNDS: usize = 67;
/// The number of clients that keep their connection, and of those that open one for each request.
const KEEPING: usize = 8;
const OPENING: usize = 4;

/// The version of a component with this mark in its responses.
fn marked(service: &str, mark: char) -> Vec<u8> {
    match service {
        "user-service" => reworded(service, &[("John Doe", &format!("John Do{mark}"))]),
        "product-service" => reworded(service, &[("Laptop Pro", &format!("Laptop Pr{mark}"))]),
        _ => reworded(service, &[("A-1B-2C-1", &format!("A-{mark}B-{mark}C-{mark}"))]),
    }
}

/// The marks in a response of the whole chain, by service. Different marks of one service are an error.
fn marks(body: &str) -> Result<[char; 3], String> {
    let after = |word: &str| -> Vec<char> {
        body.match_indices(word).filter_map(|(at, _)| body[at + word.len()..].chars().next()).collect()
    };
    let user = after("John Do");
    let product = after("Laptop Pr");
    let inventory = [after("\"A-"), after("\"B-"), after("\"C-")].concat();
    let places = body.matches("warehouse_location").count();
    match (&user[..], &product[..], &inventory[..]) {
        ([user], [product], [first, rest @ ..]) if rest.iter().all(|mark| mark == first) => {
            if rest.len() + 1 == places && body.matches("\"name\"").count() == places + 1 {
                return Ok([*user, *product, *first]);
            }
            Err(format!("not every product has its place in {body}"))
        }
        _ => Err(format!("not of exactly one version of each service: {body}")),
    }
}

/// The marks of a service's versions, in the order of publication.
struct History {
    marks: Mutex<Vec<char>>,
    /// The latest version that is known to serve.
    serving: AtomicUsize,
}

impl History {
    fn of(mark: char) -> History {
        History { marks: Mutex::new(vec![mark]), serving: AtomicUsize::new(0) }
    }

    /// The version may serve from now on.
    fn begin(&self, mark: char) {
        self.marks.lock().expect("no panic").push(mark);
    }

    /// Earlier versions may not serve new requests from now on.
    fn done(&self) {
        self.serving.store(self.marks.lock().expect("no panic").len() - 1, Ordering::SeqCst);
    }

    fn serving(&self) -> usize {
        self.serving.load(Ordering::SeqCst)
    }

    /// Whether a request that began when version `since` served may have a response with this mark.
    fn allows(&self, since: usize, mark: char) -> bool {
        self.marks.lock().expect("no panic")[since..].contains(&mark)
    }
}

/// The state that all clients share.
struct Load {
    address: SocketAddr,
    histories: [History; 3],
    /// The number of completed swaps, published or rejected.
    swaps: AtomicUsize,
    stop: AtomicBool,
    durations: Mutex<Vec<Duration>>,
    failures: Mutex<Vec<String>>,
}

impl Load {
    /// Sends requests until it is stopped.
    async fn client(self: Arc<Self>, keeps: bool) {
        let client = Client::default();
        while !self.stop.load(Ordering::SeqCst) {
            let since: Vec<_> = self.histories.iter().map(History::serving).collect();
            let began = Instant::now();
            let body = if keeps { self.kept(&client).await } else { self.opened().await };
            let took = began.elapsed();
            match body.and_then(|body| self.check(&since, &body)) {
                Ok(()) => self.durations.lock().expect("no panic").push(took),
                Err(failure) => self.failures.lock().expect("no panic").push(failure),
            }
        }
    }

    async fn kept(&self, client: &Client) -> Result<String, String> {
        let answer = client.request("GET", self.address, PATH).untraced().try_send().await?;
        if answer.status == 200 { Ok(answer.text()) } else { Err(format!("{}: {}", answer.status, answer.text())) }
    }

    async fn opened(&self) -> Result<String, String> {
        let stream = tokio::net::TcpStream::connect(self.address).await.map_err(|error| error.to_string())?;
        let mut connection = Connection::from(stream);
        connection.send(format!("GET {PATH} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")).await;
        let text = connection.rest().await;
        match text.split_once("\r\n\r\n") {
            Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
            _ => Err(format!("no good answer: `{text}`")),
        }
    }

    fn check(&self, since: &[usize], body: &str) -> Result<(), String> {
        let marks = marks(body)?;
        for (index, (history, mark)) in self.histories.iter().zip(marks).enumerate() {
            if !history.allows(since[index], mark) {
                return Err(format!("version {mark} of {} served when it should not", SERVICES[index]));
            }
        }
        Ok(())
    }

    /// Prints and returns the number of responses since the last report.
    fn report(&self, phase: &str, took: Duration) -> usize {
        let mut durations = std::mem::take(&mut *self.durations.lock().expect("no panic"));
        durations.sort();
        let quantile = |q: f64| durations[((durations.len() - 1) as f64 * q) as usize];
        let count = durations.len();
        assert!(count > 0, "no request was answered {phase}");
        let rate = count as f64 / took.as_secs_f64();
        println!(
            "{phase}: {count} requests in {took:.1?}, {rate:.0}/s, p50 {:.2?}, p99 {:.2?}, longest {:.2?}",
            quantile(0.5),
            quantile(0.99),
            quantile(1.0)
        );
        count
    }
}

/// Clients that send requests in the background.
struct Clients {
    load: Arc<Load>,
    running: tokio::task::JoinSet<()>,
}

impl Clients {
    fn start(load: &Arc<Load>) -> Clients {
        load.stop.store(false, Ordering::SeqCst);
        let mut running = tokio::task::JoinSet::new();
        for index in 0..KEEPING + OPENING {
            running.spawn(load.clone().client(index < KEEPING));
        }
        Clients { load: load.clone(), running }
    }

    async fn stop(self) {
        self.load.stop.store(true, Ordering::SeqCst);
        self.running.join_all().await;
        let failures = std::mem::take(&mut *self.load.failures.lock().expect("no panic"));
        assert!(
            failures.is_empty(),
            "{} requests failed, such as: {:#?}",
            failures.len(),
            &failures[..failures.len().min(5)]
        );
    }
}

/// Swaps one service repeatedly. Returns the numbers of published and of rejected swaps.
async fn swap(admin: Admin, load: Arc<Load>, index: usize) -> (usize, usize) {
    let (service, history) = (SERVICES[index], &load.histories[index]);
    let (mut current, mut earlier, mut good, mut bad) = (MARKS[0], Vec::new(), 0, 0);
    let whole = variant(service, 0);
    for round in 0..ROUNDS {
        load.swaps.fetch_add(1, Ordering::SeqCst);
        let refused = match round % 6 {
            1 => vec![round as u8; 5000],
            3 => whole[..whole.len() * 2 / 3].to_vec(),
            5 if round % 12 == 5 => variant("oddities", 0),
            5 => {
                history.begin(earlier.last().copied().expect("an earlier version"));
                let back = admin.act(service, "rollback").await;
                assert_eq!(back.status, 200, "{}", back.text());
                history.done();
                current = earlier.pop().expect("an earlier version");
                good += 1;
                continue;
            }
            _ => {
                let next = MARKS[(MARKS.iter().position(|mark| *mark == current).unwrap_or(0) + 1) % MARKS.len()];
                // Some of them have never been compiled before.
                let fresh = TraceId::fresh().to_string();
                let bytes = marked(service, next);
                let bytes = if [8, 44].contains(&round) { with_section(bytes, fresh.as_bytes()) } else { bytes };
                history.begin(next);
                let swapped = admin.swap(service, bytes).await;
                assert_eq!(swapped.status, 200, "{}", swapped.text());
                history.done();
                earlier.push(std::mem::replace(&mut current, next));
                good += 1;
                continue;
            }
        };
        admin.swap(service, refused).await.assert_problem(422, "");
        bad += 1;
    }
    (good, bad)
}

/// Sends sampled requests until it is stopped.
async fn traced(load: Arc<Load>) -> Vec<TraceId> {
    let (client, mut traces) = (Client::default(), Vec::new());
    while !load.stop.load(Ordering::SeqCst) {
        let answer = client.request("GET", load.address, PATH).send().await;
        assert_eq!(answer.status, 200);
        traces.push(answer.trace);
    }
    traces
}

/// Asserts that every trace is complete and has one generation of each service, and that a generation is one component.
async fn assert_one_generation_each(collector: &Collector, traces: &[TraceId]) {
    let arrived = || {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        collector.spans().into_iter().for_each(|span| *counts.entry(span.trace_id).or_default() += 1);
        traces.iter().all(|trace| counts.get(trace.as_str()).is_some_and(|count| *count >= 24)).then_some(())
    };
    assert!(poll::until(PATIENCE, arrived).await.is_some(), "not all spans of {} traces arrived", traces.len());
    let mut met: BTreeMap<String, BTreeSet<(String, i64)>> = BTreeMap::new();
    let mut digests: BTreeMap<(String, i64), BTreeSet<String>> = BTreeMap::new();
    for span in collector.spans().into_iter().filter(|span| span.kind == Kind::Server) {
        let generation = span.attribute("spandrel.component.generation").as_i64().expect("a generation");
        met.entry(span.trace_id.clone()).or_default().insert((span.service.clone(), generation));
        let digest = span.attribute("spandrel.component.digest").to_string();
        digests.entry((span.service, generation)).or_default().insert(digest);
    }
    for trace in traces {
        let met = met.get(trace.as_str()).unwrap_or_else(|| panic!("trace {trace} did not arrive"));
        assert_eq!(met.len(), 3, "one generation of each of three services: {met:?}");
    }
    assert!(digests.values().all(|digests| digests.len() == 1), "{digests:#?}");
    println!("{} traces, {} generations met", traces.len(), digests.len());
}

/// The resources of an idle host.
#[derive(Debug)]
struct Holdings {
    instances: f64,
    files: usize,
    memory: u64,
}

/// Waits until the host has no instances of old generations and no client sockets.
async fn holdings(host: &Spandrel, admin: &Admin) -> Holdings {
    let deadline = Instant::now() + 3 * PATIENCE;
    loop {
        let (instances, live) =
            (admin.metric("spandrel_host_instances").await, admin.metric("spandrel_instances_live").await);
        if instances == live {
            return Holdings { instances, files: host.open_files(), memory: host.memory() };
        }
        assert!(Instant::now() < deadline, "{instances} instances exist, of which {live} serve");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_swaps_under_load_lose_no_request_and_leak_nothing() {
    let collector = Collector::start();
    let (site, builder) = Site::shop();
    let site = site.env("OTEL_SDK_DISABLED", "false").env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint());
    // Only requests with a sampled traceparent are recorded. The others only generate load.
    let site = site.env("OTEL_TRACES_SAMPLER", "parentbased_always_off").env("OTEL_BSP_SCHEDULE_DELAY", "20");
    // That swaps fail no request is the subject, not how long requests take on a busy machine.
    let builder = SERVICES.iter().fold(builder, |shop, name| shop.limits(name, "request_timeout = \"60s\""));
    site.write(&builder.head("[swap]\nwatch = false"));
    for service in SERVICES {
        site.replace(&format!("{service}.wasm"), &marked(service, MARKS[0]));
    }
    let (host, admin) = (site.serve(), site.admin());
    let load = Arc::new(Load {
        address: site.address("user-service"),
        histories: SERVICES.map(|_| History::of(MARKS[0])),
        swaps: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
        durations: Mutex::default(),
        failures: Mutex::default(),
    });

    // Warm-up: every version is compiled and serves once.
    for service in SERVICES {
        for mark in MARKS.iter().skip(1).chain(&MARKS[..1]) {
            let swapped = admin.swap(service, marked(service, *mark)).await;
            assert_eq!(swapped.status, 200, "{}", swapped.text());
        }
    }
    let phase = async |count: usize| {
        let (clients, began) = (Clients::start(&load), Instant::now());
        let enough = || (load.durations.lock().expect("no panic").len() >= count).then_some(());
        poll::until(PATIENCE, enough).await;
        clients.stop().await;
        began.elapsed()
    };
    load.report("warm-up", phase(2_000).await);
    load.report("without swaps", phase(5_000).await);
    let before = holdings(&host, &admin).await;
    let generations: Vec<_> = [admin.status(SERVICES[0]).await, admin.status(SERVICES[1]).await].into();
    assert!(generations.iter().all(|status| status["generation"] == MARKS.len() + 1), "{generations:#?}");

    let (clients, began) = (Clients::start(&load), Instant::now());
    let traced = tokio::spawn(traced(load.clone()));
    let swaps = (0..SERVICES.len()).map(|index| tokio::spawn(swap(admin.clone(), load.clone(), index)));
    let (swaps, mut good, mut bad) = (swaps.collect::<Vec<_>>(), 0, 0);
    let half = || (load.swaps.load(Ordering::SeqCst) >= 100).then(|| host.memory());
    let half = poll::until(9 * PATIENCE, half).await.expect("a hundred swaps are done");
    for swaps in swaps {
        let (well, refused) = swaps.await.expect("swaps end as they should");
        (good, bad) = (good + well, bad + refused);
    }
    clients.stop().await;
    let served = load.report("during swaps", began.elapsed());
    println!("{good} versions published and {bad} refused; {served} requests served, none failed");
    assert!(good + bad >= 200);
    assert_one_generation_each(&collector, &traced.await.expect("traced requests are answered")).await;
    load.report("after swaps", phase(2_000).await);

    for service in SERVICES {
        let is_idle = |status: &Value| status["state"] == "serving" && status["in_flight"] == 0;
        let status = admin.wait_until(service, is_idle).await;
        assert_eq!(status["earlier_generations"].as_array().map(Vec::len), Some(3), "{status}");
    }
    let after = holdings(&host, &admin).await;
    println!("before: {before:?}, after: {after:?}");
    // Each client uses at most one instance of the first two services and three of the last. Two more are warm.
    let most = (5 * (KEEPING + OPENING) + 2 * SERVICES.len()) as f64;
    assert!(after.instances <= most, "{after:?}");
    // A few more open files are connections to the console that are not closed yet.
    let files = || (host.open_files() <= before.files + 4).then_some(());
    assert!(poll::until(PATIENCE, files).await.is_some(), "{} files are open, {before:?}", host.open_files());
    // Memory that the allocator and the engine cache is allocated by the first swaps, and does not grow afterwards.
    println!("memory after a hundred swaps: {half}");
    assert!(after.memory < half + half / 4, "{half}, {after:?}");
    assert!(after.memory < before.memory + (128 << 20), "{before:?}, {after:?}");
}
