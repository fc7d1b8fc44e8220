//! The timeouts of a connection.
//!
//! A connection without a request in flight has a deadline: for the head of its first request, for the rest of a
//! partial head, or for the next request (keep-alive). A connection whose writes are blocked has only the deadline for
//! them: its last response is not sent yet. While requests are in flight, their own limits apply. The timer is not reset
//! for each request: when it fires, the deadline is computed again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long a connection without requests in flight may take to close after a graceful shutdown has started.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The timeouts of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// The longest time for a request head, and the longest wait for the first one.
    pub head: Duration,
    /// The longest wait for the next request.
    pub keep_alive: Duration,
    /// The longest time that writes may be blocked because the peer reads nothing.
    pub stall: Duration,
}

/// The timeout that has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expired {
    /// A request head did not arrive in time.
    Head,
    /// The next request did not arrive in time.
    KeepAlive,
    /// The peer reads nothing, or does not close the connection during a graceful shutdown.
    Unresponsive,
}

/// The timeouts of one connection, and its state.
pub(super) struct Clock {
    timeouts: Timeouts,
    state: Mutex<ClockState>,
}

struct ClockState {
    phase: Phase,
    /// The number of parts of requests in flight.
    in_flight: usize,
    /// The number of requests so far.
    requests: u64,
    is_http2: bool,
    /// Since when writes are blocked.
    blocked_since: Option<Instant>,
    /// When the graceful shutdown started.
    closing_since: Option<Instant>,
}

/// What a connection is waiting for.
#[derive(Clone, Copy)]
enum Phase {
    /// The head of the first request, since the accept.
    FirstHead(Instant),
    /// The next request, since the end of the last one.
    Idle(Instant),
    /// The rest of a partial head, since its first byte.
    Head(Instant),
    /// The responses of requests in flight.
    Serving,
}

/// A part of a request in flight. The request ends when all its parts are dropped.
pub(super) struct InFlight(Arc<Clock>);

impl InFlight {
    /// Another part of the same request.
    pub fn part(&self) -> InFlight {
        self.0.lock().in_flight += 1;
        InFlight(self.0.clone())
    }
}

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
    /// The clock of a connection that has just been accepted.
    pub fn start(timeouts: Timeouts) -> Arc<Clock> {
        let phase = Phase::FirstHead(Instant::now());
        let state =
            ClockState { phase, in_flight: 0, requests: 0, is_http2: false, blocked_since: None, closing_since: None };
        Arc::new(Clock { timeouts, state: Mutex::new(state) })
    }

    /// Records that the peer uses HTTP/2. Its bytes are not necessarily part of a head.
    pub fn set_http2(&self) {
        self.lock().is_http2 = true;
    }

    /// Records that a complete request head has arrived.
    pub fn start_request(self: &Arc<Self>) -> InFlight {
        let mut state = self.lock();
        state.in_flight += 1;
        state.requests += 1;
        state.phase = Phase::Serving;
        drop(state);
        InFlight(self.clone())
    }

    /// Records that bytes have arrived. If they are part of a head, returns how many requests preceded it.
    pub fn bytes_received(&self) -> Option<u64> {
        let mut state = self.lock();
        match state.phase {
            _ if state.is_http2 => return None,
            Phase::Serving => return None,
            Phase::Idle(_) => state.phase = Phase::Head(Instant::now()),
            Phase::FirstHead(_) | Phase::Head(_) => {}
        }
        Some(state.requests)
    }

    /// How many requests preceded the head that the connection waits for, if it waits for one.
    pub fn awaited_head(&self) -> Option<u64> {
        let state = self.lock();
        match state.phase {
            Phase::Serving => None,
            Phase::FirstHead(_) | Phase::Idle(_) | Phase::Head(_) => Some(state.requests),
        }
    }

    /// Records whether writes to the peer are blocked. The wait for the next request starts when they no longer are.
    pub fn set_write_blocked(&self, is_blocked: bool) {
        let now = Instant::now();
        let mut state = self.lock();
        state.blocked_since = is_blocked.then_some(now);
        if let (false, Phase::Idle(since) | Phase::Head(since)) = (is_blocked, &mut state.phase) {
            *since = now;
        }
    }

    /// Records that the connection's graceful shutdown has started.
    pub fn start_shutdown(&self) {
        let mut state = self.lock();
        state.closing_since.get_or_insert_with(Instant::now);
    }

    /// Waits until a timeout expires.
    pub async fn expired(&self) -> Expired {
        loop {
            // A deadline that is set during the sleep is at least the shortest timeout away.
            let next = match self.next_deadline(Instant::now()) {
                Ok(next) => next,
                Err(expired) => return expired,
            };
            let Timeouts { head, stall, .. } = self.timeouts;
            let latest = Instant::now() + head.min(stall).min(CLOSE_TIMEOUT);
            tokio::time::sleep_until(next.map_or(latest, |next| next.min(latest))).await;
        }
    }

    /// The next deadline, if there is one. Fails with the timeout that has expired at `now`.
    fn next_deadline(&self, now: Instant) -> Result<Option<Instant>, Expired> {
        let state = self.lock();
        let Timeouts { head, keep_alive, stall } = self.timeouts;
        let due = match (state.blocked_since, state.phase, state.closing_since) {
            (Some(since), ..) => Some((since + stall, Expired::Unresponsive)),
            (None, Phase::Serving, _) => None,
            (None, Phase::Head(since), _) | (None, Phase::FirstHead(since), None) => {
                Some((since + head, Expired::Head))
            }
            (None, Phase::Idle(since), None) => Some((since + keep_alive, Expired::KeepAlive)),
            (None, Phase::FirstHead(since) | Phase::Idle(since), Some(closing)) => {
                Some((since.max(closing) + CLOSE_TIMEOUT, Expired::Unresponsive))
            }
        };
        match due {
            Some((due, expired)) if due <= now => Err(expired),
            due => Ok(due.map(|(due, _)| due)),
        }
    }

    /// The state is consistent even after a panic.
    fn lock(&self) -> MutexGuard<'_, ClockState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: Timeouts =
        Timeouts { head: Duration::from_secs(10), keep_alive: Duration::from_secs(75), stall: Duration::from_secs(30) };

    /// The timeout that expires without further events, and after how many seconds.
    fn expires(clock: &Clock) -> Option<(Expired, u64)> {
        let now = Instant::now();
        (0..3600).find_map(|seconds| {
            clock.next_deadline(now + Duration::from_secs(seconds)).err().map(|expired| (expired, seconds))
        })
    }

    #[test]
    fn the_timeout_of_the_first_head_starts_at_the_accept() {
        let clock = Clock::start(TIMEOUTS);
        assert_eq!(expires(&clock), Some((Expired::Head, 10)));
        assert_eq!(clock.bytes_received(), Some(0));
        assert_eq!(expires(&clock), Some((Expired::Head, 10)));
        let clock = Clock::start(TIMEOUTS);
        clock.set_http2();
        assert_eq!(clock.bytes_received(), None);
        assert_eq!(expires(&clock), Some((Expired::Head, 10)));
    }

    #[test]
    fn the_keep_alive_timeout_applies_between_requests() {
        let clock = Clock::start(TIMEOUTS);
        drop(clock.start_request());
        assert_eq!(expires(&clock), Some((Expired::KeepAlive, 75)));
        drop(clock.start_request());
        assert_eq!(clock.bytes_received(), Some(2));
        assert_eq!(expires(&clock), Some((Expired::Head, 10)));
    }

    #[tokio::test]
    async fn a_head_that_begins_during_the_keep_alive_wait_has_the_head_timeout() {
        let (head, hour) = (Duration::from_millis(200), Duration::from_secs(3600));
        let clock = Clock::start(Timeouts { head, keep_alive: hour, stall: hour });
        drop(clock.start_request());
        let watched = clock.clone();
        let watch = tokio::spawn(async move { watched.expired().await });
        tokio::time::sleep_until(Instant::now() + head / 2).await;
        clock.bytes_received();
        let expired = tokio::time::timeout(Duration::from_secs(30), watch).await;
        assert_eq!(expired.expect("the deadline is computed again in time").unwrap(), Expired::Head);
    }

    #[test]
    fn http_2_frames_between_requests_are_no_head() {
        let clock = Clock::start(TIMEOUTS);
        clock.set_http2();
        let (first, second) = (clock.start_request(), clock.start_request());
        drop(first);
        assert_eq!(clock.awaited_head(), None, "one is still in flight");
        drop(second);
        assert_eq!(clock.bytes_received(), None);
        assert_eq!(expires(&clock), Some((Expired::KeepAlive, 75)));
    }

    #[test]
    fn requests_in_flight_have_no_deadline_unless_writes_are_blocked() {
        let clock = Clock::start(TIMEOUTS);
        let _request = clock.start_request();
        assert_eq!(expires(&clock), None);
        clock.set_write_blocked(true);
        assert_eq!(expires(&clock), Some((Expired::Unresponsive, 30)));
        clock.set_write_blocked(false);
        assert_eq!(expires(&clock), None);
    }

    #[test]
    fn a_request_is_in_flight_until_all_its_parts_are_dropped() {
        let clock = Clock::start(TIMEOUTS);
        let response = clock.start_request();
        let body = response.part();
        drop(response);
        assert_eq!((clock.bytes_received(), expires(&clock)), (None, None), "the body is still being received");
        drop(body);
        assert_eq!(clock.bytes_received(), Some(1));
    }

    #[test]
    fn a_response_that_is_still_being_written_has_only_the_deadline_for_blocked_writes() {
        for shuts_down in [false, true] {
            let clock = Clock::start(TIMEOUTS);
            let request = clock.start_request();
            clock.set_write_blocked(true);
            drop(request);
            if shuts_down {
                clock.start_shutdown();
            }
            assert_eq!(expires(&clock), Some((Expired::Unresponsive, 30)));
            clock.bytes_received();
            assert_eq!(expires(&clock), Some((Expired::Unresponsive, 30)), "the next head has arrived in part");
        }
    }

    #[test]
    fn a_connection_that_does_not_close_after_a_graceful_shutdown_expires() {
        for requests in 0..2 {
            let clock = Clock::start(TIMEOUTS);
            (0..requests).for_each(|_| drop(clock.start_request()));
            clock.start_shutdown();
            assert_eq!(expires(&clock), Some((Expired::Unresponsive, 2)));
        }
        let clock = Clock::start(TIMEOUTS);
        let request = clock.start_request();
        clock.start_shutdown();
        assert_eq!(expires(&clock), None);
        drop(request);
        assert_eq!(expires(&clock), Some((Expired::Unresponsive, 2)));
    }
}
