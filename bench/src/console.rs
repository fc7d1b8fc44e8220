//! The chain while pages of the console are open, against the chain without open pages.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reqwest::Client;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::arguments::Effort;
use crate::host::Shop;
use crate::report::{CPU, Goal, P50, P99, THROUGHPUT, compare, heading, table};
use crate::turns::{rounds, turn, warm_up};

/// The open pages. Each follows the host's events and reloads itself after a change.
const PAGES: [&str; 2] = ["/", "/traces"];
/// The least time between two reloads of a page, as in its script.
const PAUSE: Duration = Duration::from_secs(1);

/// The least number of traces in the store for the searches.
const TRACES: u64 = 10_000;
/// The longest time to fill the store, which samples under load.
const FILL: Duration = Duration::from_secs(120);
/// The number of repetitions of each search.
const SEARCHES: usize = 100;
/// The searches, through the console's page and Jaeger's API.
const QUERIES: [&str; 6] = [
    "/traces?service=user-service",
    "/api/traces?service=user-service&limit=20",
    "/api/traces?service=inventory-service&operation=GET%20%2Finventory%2F%7Bproduct_id%7D&limit=20",
    "/api/traces?service=user-service&tags=%7B%22business.user_id%22%3A%221%22%7D&limit=20",
    "/api/traces?service=user-service&tags=%7B%22business.user_id%22%3A%22nobody%22%7D&limit=20",
    "/api/traces?service=user-service&minDuration=1s&limit=20",
];

/// Measures the chain with open pages, and searches among its traces.
pub(crate) fn run(effort: Effort) -> Result<()> {
    follow_live(effort)?;
    search(effort)
}

/// Alternates between turns with and without open pages.
fn follow_live(effort: Effort) -> Result<()> {
    heading("The chain while pages of the console are open");
    let shop = Shop::new()?;
    let mut loads = 0;
    let standings = rounds(&[("no open page", false), ("two open pages", true)], effort.rounds, |is_open| {
        let (mut contender, console) = shop.start_chain()?;
        warm_up(&mut contender, effort)?;
        let pages = is_open.then(|| Pages::open(console)).transpose()?;
        let turn = turn(&mut contender, effort)?;
        loads += pages.map_or(Ok(0), Pages::close)?;
        Ok((turn, contender.stop()?))
    })?;
    table(&standings);
    let [closed, open] = &standings[..] else { unreachable!("two contenders") };
    println!("- pages were loaded {loads} times");
    compare(open, closed, THROUGHPUT, Goal::AtLeast(0.95));
    for figure in [P50, P99, CPU] {
        compare(open, closed, figure, Goal::None);
    }
    Ok(())
}

/// Searches a store with many traces, without other load.
fn search(effort: Effort) -> Result<()> {
    heading("Searches in the trace store");
    let shop = Shop::new()?.console("traces = \"1GiB\"");
    let (mut contender, console) = shop.start_chain()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = Client::new();
    let get = |path: &str| {
        let request = client.get(format!("http://{console}{path}")).header("accept", "text/html");
        runtime.block_on(async { Ok::<_, anyhow::Error>(request.send().await?.error_for_status()?.bytes().await?) })
    };
    let stored = || {
        let store: serde_json::Value = serde_json::from_slice(&get("/admin/v1/store")?)?;
        store["traces"].as_u64().context("the store reports no number of traces")
    };
    let began = Instant::now();
    while stored()? < TRACES {
        ensure!(began.elapsed() < FILL, "the store contains {} traces after {FILL:?}", stored()?);
        contender.serve(effort.connections, Duration::from_secs(1))?;
    }
    println!("{} traces of 24 spans.\n\n| search | p50 | maximum of {SEARCHES} |\n|---|---:|---:|", stored()?);
    for path in QUERIES {
        let mut times = Vec::with_capacity(SEARCHES);
        for _ in 0..SEARCHES {
            let began = Instant::now();
            get(path)?;
            times.push(began.elapsed());
        }
        times.sort_unstable();
        println!("| `{path}` | {:.2?} | {:.2?} |", times[SEARCHES / 2], times[SEARCHES - 1]);
    }
    contender.stop().map(drop)
}

/// Open pages, simulated on a thread of their own.
struct Pages {
    runtime: Runtime,
    open: Vec<JoinHandle<Result<()>>>,
    loads: Arc<AtomicU64>,
}

impl Pages {
    fn open(console: SocketAddr) -> Result<Pages> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let loads = Arc::<AtomicU64>::default();
        let follow = |path| runtime.spawn(follow(format!("http://{console}"), path, loads.clone()));
        let open = PAGES.map(follow).into();
        Ok(Pages { runtime, open, loads })
    }

    /// Closes the pages and returns the number of loads. A failed load is an error.
    fn close(self) -> Result<u64> {
        for page in self.open.into_iter().filter(JoinHandle::is_finished) {
            self.runtime.block_on(page)??;
        }
        self.runtime.shutdown_background();
        Ok(self.loads.load(Ordering::Relaxed))
    }
}

/// Loads a page, and loads it again after each event, as its script does. Fails when the events end.
async fn follow(console: String, path: &'static str, loads: Arc<AtomicU64>) -> Result<()> {
    let client = Client::new();
    let mut events = client.get(format!("{console}/events")).send().await?.error_for_status()?;
    loop {
        let page = client.get(format!("{console}{path}")).header("accept", "text/html").send().await?;
        page.error_for_status()?.bytes().await?;
        loads.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
        ensure!(events.chunk().await?.is_some(), "the console ended the events");
    }
}
