//! A body that is passed on and whose failure is remembered.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::{Body, BodyError};

/// How a body has failed. Clones are handles to the same body.
#[derive(Clone, Default)]
pub struct BodyFailure(Arc<OnceLock<BodyError>>);

impl BodyFailure {
    /// The same body, and how it fails. `None` for a whole body, which cannot fail.
    pub fn observe(body: Body) -> (Body, Option<BodyFailure>) {
        match body {
            Body::Stream(_) => {
                let failure = BodyFailure::default();
                (Body::stream(ObservedBody { body, failure: failure.clone() }), Some(failure))
            }
            Body::Whole(_) | Body::Undeclared(_) => (body, None),
        }
    }

    /// The failure, if there is one yet.
    pub fn get(&self) -> Option<&BodyError> {
        self.0.get()
    }
}

struct ObservedBody {
    body: Body,
    failure: BodyFailure,
}

impl HttpBody for ObservedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Err(error)) = &frame {
            self.failure.0.get_or_init(|| error.clone());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::StreamBody;

    use super::*;

    #[tokio::test]
    async fn the_first_failure_of_a_body_is_remembered() {
        let frames = [Ok(Frame::data(Bytes::from_static(b"four"))), Ok(Frame::data(Bytes::from_static(b"more")))];
        let body = Body::stream(StreamBody::new(futures_util::stream::iter(frames)));
        let (body, failure) = BodyFailure::observe(body.bounded(6, Duration::from_secs(60)));
        let failure = failure.expect("a stream may fail");
        assert_eq!(failure.get(), None);
        assert_eq!(body.collect().await, Err(BodyError::TooLarge(6)));
        assert_eq!(failure.get(), Some(&BodyError::TooLarge(6)));
        assert!(BodyFailure::observe(Body::Whole(Bytes::from_static(b"whole"))).1.is_none());
    }
}
