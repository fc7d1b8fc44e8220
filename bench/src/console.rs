//! The chain while pages of the console follow it, against the same with the console left alone.

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

/// The pages that are open: each follows the host live, and asks for itself again when something has changed.
const PAGES: [&str; 2] = ["/", "/traces"];
/// The least time between two times that a page asks for itself, as its script has it.
const PAUSE: Duration = Duration::from_secs(1);

/// How many traces the store holds at least when it is searched.
const TRACES: u64 = 10_000;
/// How long it may take until it does: under load the store takes a sample.
const FILL: Duration = Duration::from_secs(120);
/// How often each search is made.
const SEARCHES: usize = 100;
/// Searches, by the console's page and by the APIs that others use.
const QUERIES: [&str; 6] = [
    "/traces?service=user-service",
    "/api/traces?service=user-service&limit=20",
    "/api/traces?service=inventory-service&operation=GET%20%2Finventory%2F%7Bproduct_id%7D&limit=20",
    "/api/traces?service=user-service&tags=%7B%22business.user_id%22%3A%221%22%7D&limit=20",
    "/api/traces?service=user-service&tags=%7B%22business.user_id%22%3A%22nobody%22%7D&limit=20",
    "/api/traces?service=user-service&minDuration=1s&limit=20",
];

/// The chain with pages that follow it, and searches among its traces.
pub(crate) fn run(effort: Effort) -> Result<()> {
    follow_live(effort)?;
    search(effort)
}

/// Lets turns with and without open pages alternate.
fn follow_live(effort: Effort) -> Result<()> {
    heading("The chain while pages of the console are open");
    let shop = Shop::new()?;
    let mut shown = 0;
    let standings = rounds(&[("no page", false), ("two pages that follow", true)], effort.rounds, |is_open| {
        let (mut contender, console) = shop.start_chain()?;
        warm_up(&mut contender, effort)?;
        let pages = is_open.then(|| Pages::open(console)).transpose()?;
        let turn = turn(&mut contender, effort)?;
        shown += pages.map_or(Ok(0), Pages::close)?;
        Ok((turn, contender.stop()?))
    })?;
    table(&standings);
    let [closed, open] = &standings[..] else { unreachable!("two contenders") };
    println!("- pages were shown {shown} times");
    compare(open, closed, THROUGHPUT, Goal::AtLeast(0.95));
    for figure in [P50, P99, CPU] {
        compare(open, closed, figure, Goal::Open);
    }
    Ok(())
}

/// Searches in a store of many traces, while nothing else is asked for.
fn search(effort: Effort) -> Result<()> {
    heading("Searches in the console's store of traces");
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
        store["traces"].as_u64().context("the store says how many traces it holds")
    };
    let began = Instant::now();
    while stored()? < TRACES {
        ensure!(began.elapsed() < FILL, "the store holds {} traces after {FILL:?}", stored()?);
        contender.serve(effort.connections, Duration::from_secs(1))?;
    }
    println!("{} traces of 24 spans.\n\n| search | p50 | longest of {SEARCHES} |\n|---|---:|---:|", stored()?);
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

/// Pages that are open in a browser, which has a thread of its own.
struct Pages {
    runtime: Runtime,
    open: Vec<JoinHandle<Result<()>>>,
    shown: Arc<AtomicU64>,
}

impl Pages {
    fn open(console: SocketAddr) -> Result<Pages> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let shown = Arc::<AtomicU64>::default();
        let follow = |path| runtime.spawn(follow(format!("http://{console}"), path, shown.clone()));
        let open = PAGES.map(follow).into();
        Ok(Pages { runtime, open, shown })
    }

    /// How often they were shown. A page that could not be shown ends the run.
    fn close(self) -> Result<u64> {
        for page in self.open.into_iter().filter(JoinHandle::is_finished) {
            self.runtime.block_on(page)??;
        }
        self.runtime.shutdown_background();
        Ok(self.shown.load(Ordering::Relaxed))
    }
}

/// Shows a page, and shows it again after each event, as its script does. Ends with the events.
async fn follow(console: String, path: &'static str, shown: Arc<AtomicU64>) -> Result<()> {
    let client = Client::new();
    let mut events = client.get(format!("{console}/events")).send().await?.error_for_status()?;
    loop {
        let page = client.get(format!("{console}{path}")).header("accept", "text/html").send().await?;
        page.error_for_status()?.bytes().await?;
        shown.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
        ensure!(events.chunk().await?.is_some(), "the console ended the events");
    }
}
