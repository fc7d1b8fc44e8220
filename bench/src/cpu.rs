//! CPU time of processes and threads, from Linux's `/proc`.

use std::ops::Sub;
use std::time::Duration;

/// `/proc` counts in hundredths of a second, independent of the kernel's clock (`USER_HZ` in proc(5)).
const TICKS_PER_SECOND: u64 = 100;

/// CPU time, by who used it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuTime {
    /// The program itself.
    pub(crate) user: Duration,
    /// The kernel on behalf of the program.
    pub(crate) kernel: Duration,
}

impl CpuTime {
    pub(crate) fn total(self) -> Duration {
        self.user + self.kernel
    }
}

impl Sub for CpuTime {
    type Output = CpuTime;

    fn sub(self, earlier: CpuTime) -> CpuTime {
        let CpuTime { user, kernel } = earlier;
        CpuTime { user: self.user.saturating_sub(user), kernel: self.kernel.saturating_sub(kernel) }
    }
}

/// The CPU time of these processes so far, including ended threads. Zero if the system does not report it.
pub(crate) fn of(processes: &[u32]) -> CpuTime {
    let times = processes.iter().filter_map(|process| of_stat(&format!("/proc/{process}/stat")));
    times.fold(CpuTime::default(), |sum, one| CpuTime { user: sum.user + one.user, kernel: sum.kernel + one.kernel })
}

/// The CPU time of this process so far.
pub(crate) fn own() -> Duration {
    of_stat("/proc/self/stat").unwrap_or_default().total()
}

/// The CPU time of this thread up to the last update by the scheduler.
pub(crate) fn of_this_thread() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split(' ').next().and_then(|used| used.parse().ok()).unwrap_or(0))
}

fn of_stat(path: &str) -> Option<CpuTime> {
    let [user, kernel] = ticks(&std::fs::read_to_string(path).ok()?)?;
    let time = |ticks: u64| Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND);
    Some(CpuTime { user: time(user), kernel: time(kernel) })
}

/// User and system time, the 14th and 15th field. The second field is the program's name, which may contain any
/// character, so counting starts after its closing parenthesis.
fn ticks(stat: &str) -> Option<[u64; 2]> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut figures = after_name.split_whitespace().skip(11).map(str::parse::<u64>);
    Some([figures.next()?.ok()?, figures.next()?.ok()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_read_for_any_program_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 100 0 0 0 25 17 0 0 20 0 3 0 100 0 0";
        assert_eq!(ticks(stat), Some([25, 17]));
        assert_eq!(ticks(""), None);
    }
}
