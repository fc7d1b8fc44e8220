//! The chain while its components are swapped, against the chain without swaps.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use crate::arguments::Effort;
use crate::folders::target;
use crate::host::{SERVICES, Shop, component};
use crate::report::{Goal, P50, P99, THROUGHPUT, compare, heading, table};
use crate::turns::{rounds, turn, warm_up};

/// The time between the end of a swap and the next one.
const PAUSE: Duration = Duration::from_millis(100);

/// Alternates between turns without and with swaps. A failed request ends the run.
pub(crate) fn run(effort: Effort) -> Result<()> {
    heading("The chain while components are swapped");
    let shop = Shop::new()?;
    let mut swaps = 0;
    let standings = rounds(&[("no swaps", false), ("swaps", true)], effort.rounds, |is_swapping| {
        let (mut contender, console) = shop.start_chain()?;
        warm_up(&mut contender, effort)?;
        let swapper = is_swapping.then(|| Swapper::start(console));
        let turn = turn(&mut contender, effort)?;
        swaps += swapper.map_or(Ok(0), Swapper::stop)?;
        Ok((turn, contender.stop()?))
    })?;
    table(&standings);
    let [without, with] = &standings[..] else { unreachable!("two contenders") };
    let requests: u64 = with.turns.iter().map(|turn| turn.requests).sum();
    println!("- {swaps} swaps during {requests} requests; no request failed");
    for figure in [P99, P50, THROUGHPUT] {
        compare(with, without, figure, Goal::None);
    }
    Ok(())
}

/// A thread that swaps one service after the other, each time to a component with a new digest, so that no cache applies.
struct Swapper {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<u64>>,
}

impl Swapper {
    fn start(console: SocketAddr) -> Swapper {
        let stop = Arc::<AtomicBool>::default();
        let stopping = stop.clone();
        Swapper { stop, thread: std::thread::spawn(move || swap(console, &stopping)) }
    }

    /// Stops the thread and returns the number of swaps.
    fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().map_err(|_| anyhow!("the swapping thread panicked"))?
    }
}

fn swap(console: SocketAddr, stop: &AtomicBool) -> Result<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = reqwest::Client::new();
    let mut swaps = 0;
    for service in SERVICES.iter().cycle() {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let url = format!("http://{console}/admin/v1/services/{service}/component");
        let bytes = with_new_digest(service)?;
        let answer = runtime.block_on(async { client.put(url).body(bytes).send().await })?;
        ensure!(answer.status().is_success(), "swap of {service}: {}", runtime.block_on(answer.text())?);
        swaps += 1;
        std::thread::sleep(PAUSE);
    }
    Ok(swaps)
}

/// A component of the shop with the same behaviour and a new digest, because of an additional custom section.
fn with_new_digest(service: &str) -> Result<Vec<u8>> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut bytes =
        std::fs::read(component(&target()?, service)).with_context(|| format!("read the component of {service}"))?;
    let process = std::process::id();
    bytes.extend([0, 14, 1, b'v']);
    bytes.extend(process.to_le_bytes());
    bytes.extend(COUNT.fetch_add(1, Ordering::SeqCst).to_le_bytes());
    Ok(bytes)
}
