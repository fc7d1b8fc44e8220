//! The body of a request or response, received or sent, over the network or between services of the host.
//!
//! A body is whole in memory, or a stream of frames that may end with trailers (RFC 9110, 6.5). A whole body has a
//! `Content-Length` in HTTP/1.1 unless it is [`Undeclared`](Body::Undeclared).

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use thiserror::Error;
use tokio::time::{Instant, Sleep};

/// The most bytes of a whole body in one frame. The transport polls for the next frame when it has buffer space, so the
/// number of bytes that were sent is accurate to about this size.
pub const FRAME_LIMIT: usize = 64 * 1024;

/// Why a body did not end regularly.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BodyError {
    /// The received bytes are not valid HTTP.
    #[error("the body was malformed: {0}")]
    Malformed(String),
    /// The connection or stream ended before the body did.
    #[error("the body ended early: {0}")]
    EndedEarly(String),
    /// The body exceeds its limit, in bytes.
    #[error("the body is larger than {0} bytes")]
    TooLarge(u64),
    /// No frame was received or sent for longer than this limit.
    #[error("the body paused for longer than {0:?}")]
    Paused(Duration),
    /// The producer of the body failed.
    #[error("{message}")]
    Failed {
        /// The value of `error.type`, of low cardinality.
        error_type: &'static str,
        /// The error message.
        message: String,
    },
}

impl BodyError {
    /// The value of `error.type` on spans and metrics.
    pub fn error_type(&self) -> &'static str {
        match self {
            BodyError::Malformed(_) => "malformed_body",
            BodyError::EndedEarly(_) => "body_broken_off",
            BodyError::TooLarge(_) => "body_too_large",
            BodyError::Paused(_) => "timeout",
            BodyError::Failed { error_type, .. } => error_type,
        }
    }

    /// Converts the error of a transport. The source chain tells whether the bytes were malformed or the connection
    /// ended.
    pub fn from_transport(error: &(dyn Error + 'static)) -> BodyError {
        let is_malformed_data =
            |error: &io::Error| matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData);
        let (mut cause, mut malformed) = (error, false);
        loop {
            malformed |= cause.downcast_ref().is_some_and(is_malformed_data);
            match cause.source() {
                Some(next) => cause = next,
                None if malformed => return BodyError::Malformed(cause.to_string()),
                None => return BodyError::EndedEarly(cause.to_string()),
            }
        }
    }
}

/// A body: whole, or a stream.
pub enum Body {
    /// The whole body, without trailers.
    Whole(Bytes),
    /// The whole body, without trailers, whose size is not declared in the head: HTTP/1.1 sends it in chunks (RFC 9112,
    /// 7.1). `None` after its end was read.
    Undeclared(Option<Bytes>),
    /// A stream of frames.
    Stream(UnsyncBoxBody<Bytes, BodyError>),
}

impl Body {
    /// An empty body.
    pub fn empty() -> Body {
        Body::Whole(Bytes::new())
    }

    /// A body whose frames come from `stream`.
    pub fn stream(stream: impl HttpBody<Data = Bytes, Error = BodyError> + Send + 'static) -> Body {
        Body::Stream(UnsyncBoxBody::new(stream))
    }

    /// A body that a transport receives.
    pub fn from_transport<B>(body: B) -> Body
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Error + 'static,
    {
        if body.is_end_stream() {
            Body::empty()
        } else {
            Body::stream(body.map_err(|error| BodyError::from_transport(&error)))
        }
    }

    /// The same body. It fails after more than `limit` bytes or a pause of more than `idle_timeout`.
    pub fn bounded(self, limit: usize, idle_timeout: Duration) -> Body {
        match self {
            Body::Whole(bytes) if bytes.len() <= limit => Body::Whole(bytes),
            body => Body::stream(Bounded { body, limit, received: 0, pause: Pause::new(idle_timeout) }),
        }
    }

    /// Reads the whole body without a size limit. Trailers are dropped.
    pub async fn collect(self) -> Result<Bytes, BodyError> {
        match self {
            Body::Whole(bytes) | Body::Undeclared(Some(bytes)) => Ok(bytes),
            Body::Undeclared(None) => Ok(Bytes::new()),
            Body::Stream(stream) => Ok(stream.collect().await?.to_bytes()),
        }
    }
}

impl Default for Body {
    fn default() -> Body {
        Body::empty()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Body {
        Body::Whole(bytes)
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Body::Whole(bytes) => Poll::Ready(next_frame(bytes)),
            Body::Undeclared(rest) => {
                let frame = rest.as_mut().and_then(next_frame);
                if frame.is_none() {
                    *rest = None;
                }
                Poll::Ready(frame)
            }
            Body::Stream(stream) => Pin::new(stream).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Whole(bytes) => bytes.is_empty(),
            Body::Undeclared(rest) => rest.is_none(),
            Body::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::Undeclared(_) => SizeHint::default(),
            Body::Stream(stream) => stream.size_hint(),
        }
    }
}

/// The next frame of a whole body, of which `rest` is left.
fn next_frame(rest: &mut Bytes) -> Option<Result<Frame<Bytes>, BodyError>> {
    (!rest.is_empty()).then(|| Ok(Frame::data(rest.split_to(rest.len().min(FRAME_LIMIT)))))
}

/// A body that fails when it exceeds its limits.
struct Bounded {
    body: Body,
    limit: usize,
    /// The number of bytes so far.
    received: usize,
    pause: Pause,
}

impl HttpBody for Bounded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) else {
            return Poll::Ready(Some(Err(ready!(this.pause.poll(context)))));
        };
        this.pause.end();
        if let Some(Ok(frame)) = &frame {
            this.received += frame.data_ref().map_or(0, Bytes::len);
            if this.received > this.limit {
                return Poll::Ready(Some(Err(BodyError::TooLarge(this.limit as u64))));
            }
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

/// The time since a frame was polled for and was not ready.
struct Pause {
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    is_running: bool,
}

impl Pause {
    fn new(limit: Duration) -> Pause {
        Pause { limit, sleep: None, is_running: false }
    }

    /// Ready when the pause exceeds its limit.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<BodyError> {
        let limit = self.limit;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if !self.is_running {
            sleep.as_mut().reset(Instant::now() + limit);
            self.is_running = true;
        }
        sleep.as_mut().poll(context).map(|()| BodyError::Paused(limit))
    }

    /// Ends the pause, because a frame was ready.
    fn end(&mut self) {
        self.is_running = false;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http::HeaderMap;
    use http_body_util::StreamBody;

    use super::*;

    fn frames(frames: Vec<Result<Frame<Bytes>, BodyError>>) -> Body {
        Body::stream(StreamBody::new(stream::iter(frames)))
    }

    fn data(size: usize) -> Result<Frame<Bytes>, BodyError> {
        Ok(Frame::data(Bytes::from(vec![b'x'; size])))
    }

    #[tokio::test]
    async fn a_whole_body_is_sent_in_frames_of_bounded_size() {
        let mut body = Body::Whole(Bytes::from(vec![b'x'; 2 * FRAME_LIMIT + 1]));
        assert_eq!(body.size_hint().exact(), Some(2 * FRAME_LIMIT as u64 + 1));
        let mut sizes = Vec::new();
        while let Some(frame) = body.frame().await {
            sizes.push(frame.unwrap().data_ref().unwrap().len());
        }
        assert_eq!(sizes, [FRAME_LIMIT, FRAME_LIMIT, 1]);
        assert!(body.is_end_stream());
    }

    #[tokio::test]
    async fn a_whole_body_of_undeclared_size_ends_only_when_its_end_was_read() {
        for size in [0, 3, FRAME_LIMIT + 1] {
            let mut body = Body::Undeclared(Some(Bytes::from(vec![b'x'; size])));
            assert_eq!((body.size_hint().exact(), body.is_end_stream()), (None, false), "{size} bytes");
            let mut read = 0;
            while let Some(frame) = body.frame().await {
                read += frame.unwrap().data_ref().unwrap().len();
            }
            assert_eq!((read, body.is_end_stream()), (size, true));
        }
        assert_eq!(Body::Undeclared(Some(Bytes::from_static(b"abc"))).collect().await.unwrap(), "abc");
    }

    #[tokio::test]
    async fn a_bounded_body_keeps_its_trailers() {
        let trailers = HeaderMap::from_iter([(http::header::ETAG, "1".parse().unwrap())]);
        let body = frames(vec![data(3), Ok(Frame::trailers(trailers.clone()))]);
        let collected = body.bounded(3, Duration::from_secs(1)).collect_frames().await.unwrap();
        assert_eq!(collected.trailers(), Some(&trailers));
    }

    #[tokio::test]
    async fn a_body_over_its_limit_fails() {
        for body in [frames(vec![data(2), data(2)]), Body::Whole(Bytes::from_static(b"four"))] {
            assert_eq!(body.bounded(3, Duration::from_secs(1)).collect().await, Err(BodyError::TooLarge(3)));
        }
    }

    #[tokio::test]
    async fn a_pause_is_measured_from_the_last_frame() {
        let limit = Duration::from_secs(2);
        let ticks = tokio::time::interval(limit / 8);
        let slow = stream::unfold((ticks, 0), |(mut ticks, sent)| async move {
            ticks.tick().await;
            if sent == 12 {
                std::future::pending::<()>().await;
            }
            Some((data(1), (ticks, sent + 1)))
        });
        let mut body = Body::stream(StreamBody::new(Box::pin(slow))).bounded(100, limit);
        for _ in 0..12 {
            assert!(body.frame().await.unwrap().is_ok());
        }
        assert_eq!(body.frame().await.unwrap().unwrap_err(), BodyError::Paused(limit));
    }

    #[test]
    fn malformed_bodies_are_distinguished_from_bodies_that_ended_early() {
        let malformed = io::Error::new(io::ErrorKind::InvalidData, "no chunk size");
        assert_eq!(BodyError::from_transport(&malformed), BodyError::Malformed("no chunk size".to_owned()));
        let reset = io::Error::new(io::ErrorKind::ConnectionReset, "reset");
        assert_eq!(BodyError::from_transport(&reset), BodyError::EndedEarly("reset".to_owned()));
    }

    impl Body {
        async fn collect_frames(self) -> Result<http_body_util::Collected<Bytes>, BodyError> {
            BodyExt::collect(self).await
        }
    }
}
