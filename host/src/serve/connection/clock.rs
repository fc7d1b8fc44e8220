//! The timeouts of a connection.
//!
//! A connection without a request in flight has a deadline: for the head of its first request, for the rest of a
//! partial head, or for the next request (keep-alive). A peer that reads nothing of what is written to it always has a
//! deadline. While requests are in flight, their own limits apply. A timer is not reset per request: when it fires, the
//! deadline is computed again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a connection without requests in flight may take to close after it was told to.
const FAREWELL: Duration = Duration::from_secs(2);

/// The time limits of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// The longest time for a request head, and the longest wait for the first one.
    pub head: Duration,
    /// The longest wait for the next request.
    pub keep_alive: Duration,
    /// The longest time that a peer may read nothing of what is written to it.
    pub stall: Duration,
}

/// Why a connection is closed by the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// A request head did not arrive in time.
    Head,
    /// No further request arrived.
    KeepAlive,
    /// The peer reads nothing, or does not close although it was told to.
    Peer,
}

/// The timeouts of one connection, and its state.
pub(super) struct Clock {
    timeouts: Timeouts,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    in_flight: usize,
    /// The number of requests so far.
    begun: u64,
    multiplexed: bool,
    stalled: Option<Instant>,
    retiring: Option<Instant>,
}

/// What a connection is waiting for.
#[derive(Clone, Copy)]
enum Phase {
    /// The head of its first request, since the accept.
    First(Instant),
    /// The next request, since the end of the last one.
    Idle(Instant),
    /// The rest of a partial head, since its first byte.
    Head(Instant),
    /// Requests in flight.
    Busy,
}

/// A request in flight: it ends when dropped.
pub(super) struct InFlight(Arc<Clock>);

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.in_flight -= 1;
        if state.in_flight == 0 {
            state.phase = Phase::Idle(Instant::now());
        }
    }
}

impl Clock {
    /// The clock of a connection that was accepted just now.
    pub fn start(timeouts: Timeouts) -> Arc<Clock> {
        let phase = Phase::First(Instant::now());
        let state = State { phase, in_flight: 0, begun: 0, multiplexed: false, stalled: None, retiring: None };
        Arc::new(Clock { timeouts, state: Mutex::new(state) })
    }

    /// The peer uses HTTP/2, in which bytes are not necessarily part of a head.
    pub fn multiplexes(&self) {
        self.lock().multiplexed = true;
    }

    /// A complete request head has arrived.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        let mut state = self.lock();
        state.in_flight += 1;
        state.begun += 1;
        state.phase = Phase::Busy;
        drop(state);
        InFlight(self.clone())
    }

    /// Bytes have arrived. If they are part of a head, returns how many requests preceded it.
    pub fn received(&self) -> Option<u64> {
        let mut state = self.lock();
        match state.phase {
            _ if state.multiplexed => return None,
            Phase::Busy => return None,
            Phase::Idle(_) => state.phase = Phase::Head(Instant::now()),
            Phase::First(_) | Phase::Head(_) => {}
        }
        Some(state.begun)
    }

    /// How many requests preceded the head that is awaited, if one is.
    pub fn awaited(&self) -> Option<u64> {
        let state = self.lock();
        match state.phase {
            Phase::Busy => None,
            Phase::First(_) | Phase::Idle(_) | Phase::Head(_) => Some(state.begun),
        }
    }

    /// Writes to the peer are blocked, or no longer blocked.
    pub fn stalled(&self, stalled: bool) {
        let mut state = self.lock();
        state.stalled = stalled.then(Instant::now);
    }

    /// The connection was told to close.
    pub fn retire(&self) {
        let mut state = self.lock();
        state.retiring.get_or_insert_with(Instant::now);
    }

    /// Waits until the connection must be closed.
    pub async fn overdue(&self) -> Overdue {
        loop {
            // An earlier deadline can be set meanwhile, but it is at least the shortest timeout away.
            let next = match self.look(Instant::now()) {
                Ok(next) => next,
                Err(overdue) => return overdue,
            };
            let Timeouts { head, stall, .. } = self.timeouts;
            let latest = Instant::now() + head.min(stall).min(FAREWELL);
            tokio::time::sleep_until(next.map_or(latest, |next| next.min(latest))).await;
        }
    }

    fn look(&self, now: Instant) -> Result<Option<Instant>, Overdue> {
        let state = self.lock();
        let Timeouts { head, keep_alive, stall } = self.timeouts;
        let waits = match (state.phase, state.retiring) {
            (Phase::Busy, _) => None,
            (Phase::Head(since), _) => Some((since + head, Overdue::Head)),
            (Phase::First(since), None) => Some((since + head, Overdue::Head)),
            (Phase::Idle(since), None) => Some((since + keep_alive, Overdue::KeepAlive)),
            (Phase::First(since) | Phase::Idle(since), Some(told)) => Some((since.max(told) + FAREWELL, Overdue::Peer)),
        };
        let stalls = state.stalled.map(|since| (since + stall, Overdue::Peer));
        let due = waits.into_iter().chain(stalls).min_by_key(|(due, _)| *due);
        match due {
            Some((due, overdue)) if due <= now => Err(overdue),
            due => Ok(due.map(|(due, _)| due)),
        }
    }

    /// The state is consistent even after a panic.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: Timeouts =
        Timeouts { head: Duration::from_secs(10), keep_alive: Duration::from_secs(75), stall: Duration::from_secs(30) };

    /// Why, and after how many seconds, a clock without events expires.
    fn overdue(clock: &Clock) -> Option<(Overdue, u64)> {
        let now = Instant::now();
        (0..3600).find_map(|seconds| clock.look(now + Duration::from_secs(seconds)).err().map(|what| (what, seconds)))
    }

    #[test]
    fn the_first_head_has_its_time_whatever_arrives_of_it() {
        let clock = Clock::start(TIMEOUTS);
        assert_eq!(overdue(&clock), Some((Overdue::Head, 10)));
        assert_eq!(clock.received(), Some(0));
        assert_eq!(overdue(&clock), Some((Overdue::Head, 10)));
        let clock = Clock::start(TIMEOUTS);
        clock.multiplexes();
        assert_eq!(clock.received(), None);
        assert_eq!(overdue(&clock), Some((Overdue::Head, 10)));
    }

    #[test]
    fn a_connection_is_kept_alive_for_longer_than_a_head_may_take() {
        let clock = Clock::start(TIMEOUTS);
        drop(clock.begin());
        assert_eq!(overdue(&clock), Some((Overdue::KeepAlive, 75)));
        drop(clock.begin());
        assert_eq!(clock.received(), Some(2));
        assert_eq!(overdue(&clock), Some((Overdue::Head, 10)));
    }

    #[tokio::test]
    async fn a_head_that_begins_while_the_clock_sleeps_is_overdue_in_time() {
        let (head, hour) = (Duration::from_millis(200), Duration::from_secs(3600));
        let clock = Clock::start(Timeouts { head, keep_alive: hour, stall: hour });
        drop(clock.begin());
        let watched = clock.clone();
        let watch = tokio::spawn(async move { watched.overdue().await });
        tokio::time::sleep_until(Instant::now() + head / 2).await;
        clock.received();
        let overdue = tokio::time::timeout(Duration::from_secs(30), watch).await;
        assert_eq!(overdue.expect("it looks again in time").unwrap(), Overdue::Head);
    }

    #[test]
    fn what_arrives_over_http_2_between_requests_is_no_head() {
        let clock = Clock::start(TIMEOUTS);
        clock.multiplexes();
        let (first, second) = (clock.begin(), clock.begin());
        drop(first);
        assert_eq!(clock.awaited(), None, "one is still in flight");
        drop(second);
        assert_eq!(clock.received(), None);
        assert_eq!(overdue(&clock), Some((Overdue::KeepAlive, 75)));
    }

    #[test]
    fn requests_in_flight_have_no_deadline_but_a_peer_that_reads_nothing_has() {
        let clock = Clock::start(TIMEOUTS);
        let _request = clock.begin();
        assert_eq!(overdue(&clock), None);
        clock.stalled(true);
        assert_eq!(overdue(&clock), Some((Overdue::Peer, 30)));
        clock.stalled(false);
        assert_eq!(overdue(&clock), None);
    }

    #[test]
    fn a_connection_that_is_told_to_end_does_so_or_is_given_up() {
        for requests in 0..2 {
            let clock = Clock::start(TIMEOUTS);
            (0..requests).for_each(|_| drop(clock.begin()));
            clock.retire();
            assert_eq!(overdue(&clock), Some((Overdue::Peer, 2)));
        }
        let clock = Clock::start(TIMEOUTS);
        let request = clock.begin();
        clock.retire();
        assert_eq!(overdue(&clock), None);
        drop(request);
        assert_eq!(overdue(&clock), Some((Overdue::Peer, 2)));
    }
}
