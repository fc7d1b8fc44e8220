//! Which requests join an instance, and how they leave it.

use futures_util::FutureExt as _;
use http::Request;

use super::super::call::HttpInvocation;
use super::*;
use crate::outbound::hops::Hops;
use crate::outbound::{Call, LocalCalls, LocalService};
use crate::trace::{Recorder, SharedRecorder};

const LIMITS: (Duration, usize) = (Duration::from_secs(60), 0);

struct Alone;

impl LocalCalls for Alone {
    fn find(&self, _: &Call) -> Option<LocalService> {
        None
    }

    fn hops(&self) -> Hops {
        Hops::first()
    }
}

/// An instance that takes no request by itself.
fn shared() -> SharedInstance {
    let (waiting, state) = (SmallVec::new(), InstanceState::Serving);
    let (unnoticed_since, ended_at, thread, finished) = (None, None, None, None);
    let load = InstanceLoad { waiting, unnoticed_since, active: 0, ended_at, remaining: 2, state, thread, finished };
    SharedInstance::new(2, load)
}

fn invocation() -> HttpInvocation {
    HttpInvocation {
        request: Box::new(Request::new(Body::empty())),
        recorder: SharedRecorder::new(Recorder::detached()),
        locals: Arc::new(Alone),
        permit: Arc::new(()),
        lease: Arc::new(()),
    }
}

fn join(shared: &SharedInstance) -> PendingResponse {
    let (job, pending) = Job::new(invocation());
    assert!(shared.join(job, None).is_ok(), "there is a place");
    pending
}

fn load(shared: &SharedInstance) -> (usize, u32, u32) {
    let load = shared.lock();
    (load.waiting.len(), load.active, load.remaining)
}

#[tokio::test]
async fn a_client_that_goes_away_while_its_request_waits_only_leaves_the_queue() {
    let shared = shared();
    let (gone, staying) = (join(&shared), join(&shared));
    assert!(shared.answer(gone, LIMITS).now_or_never().is_none());
    assert_eq!(load(&shared), (1, 1, 1));
    assert!(shared.is_serving());
    let late = join(&shared);
    assert!(matches!(shared.answer(late, (Duration::ZERO, 0)).await.result, Err(Failure::TimedOut)));
    assert_eq!(load(&shared), (1, 1, 1));
    let started = shared.next().expect("the one that stays");
    assert!(Arc::ptr_eq(&started.active.execution, &staying.execution));
}

#[tokio::test]
async fn an_instance_that_another_thread_ran_last_accepts_no_request_that_names_this_thread() {
    let shared = shared();
    let here = thread::current().id();
    let (job, _pending) = Job::new(invocation());
    let Err(job) = shared.join(job, Some(here)) else { panic!("no thread has run it") };
    assert!(shared.next().is_none());
    let Ok(()) = shared.join(job, Some(here)) else { panic!("this thread has run it") };
    let elsewhere = thread::scope(|scope| scope.spawn(|| thread::current().id()).join().unwrap());
    let (job, _pending) = Job::new(invocation());
    assert!(shared.join(job, Some(elsewhere)).is_err());
}

#[tokio::test]
async fn no_request_joins_an_instance_that_has_not_looked_at_its_queue_for_long() {
    let shared = shared();
    let gone = join(&shared);
    assert!(matches!(shared.answer(gone, (Duration::ZERO, 0)).await.result, Err(Failure::TimedOut)));
    let back = |since: Duration| Instant::now().checked_sub(since).expect("the machine has run for a while");
    shared.lock().unnoticed_since = Some(back(2 * MAX_WAIT));
    let (job, _pending) = Job::new(invocation());
    let Err(job) = shared.join(job, None) else { panic!("the guest computes") };
    assert!(shared.next().is_none());
    assert!(shared.join(job, None).is_ok(), "the guest waits again");
}

#[tokio::test]
async fn a_client_that_goes_away_once_the_guest_has_its_request_retires_the_instance() {
    let shared = shared();
    let pending = join(&shared);
    let _started = shared.next().expect("a request");
    assert!(shared.answer(pending, LIMITS).now_or_never().is_none());
    assert!(!shared.is_serving());
    assert_eq!(load(&shared).1, 0);
}
