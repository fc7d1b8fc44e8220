//! A body that must have the size that its `Content-Length` declares (RFC 9112, 6.3). Over the network the transport
//! checks that; between services of the host there is none.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::{Body, BodyError};

/// A stream with the number of bytes that it still has to have. `None` after it has failed.
struct Declared {
    body: Body,
    missing: Option<u64>,
}

/// The same body. A stream fails if its size is not the one that `headers` declare.
pub fn declared(body: Body, headers: &HeaderMap) -> Body {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    match (body, length) {
        (Body::Stream(stream), Some(length)) => {
            Body::stream(Declared { body: Body::Stream(stream), missing: Some(length) })
        }
        (body, _) => body,
    }
}

impl HttpBody for Declared {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(missing) = self.missing else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let size = match &frame {
            Some(Ok(frame)) => frame.data_ref().map(Bytes::len),
            Some(Err(_)) => return Poll::Ready(frame),
            None => None,
        };
        let error = match size.map(|size| missing.checked_sub(size as u64)) {
            Some(Some(missing)) => {
                self.missing = Some(missing);
                return Poll::Ready(frame);
            }
            Some(None) => BodyError::Malformed("it is longer than its Content-Length".to_owned()),
            None if missing == 0 => return Poll::Ready(frame),
            None => BodyError::EndedEarly(format!("{missing} bytes of its Content-Length are missing")),
        };
        self.missing = None;
        self.body = Body::empty();
        Poll::Ready(Some(Err(error)))
    }

    fn is_end_stream(&self) -> bool {
        self.missing.is_none_or(|missing| missing == 0) && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.missing.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http::HeaderValue;
    use http_body_util::StreamBody;

    use super::*;

    fn of(length: &'static str, chunks: &'static [&'static str]) -> Body {
        let frames = chunks.iter().map(|chunk| Ok(Frame::data(Bytes::from_static(chunk.as_bytes()))));
        let headers = HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from_static(length))]);
        declared(Body::stream(StreamBody::new(stream::iter(frames))), &headers)
    }

    #[tokio::test]
    async fn only_a_body_of_the_declared_size_is_complete() {
        assert_eq!(of("6", &["one", "two"]).collect().await.unwrap(), "onetwo");
        assert_eq!(of("0", &[]).collect().await.unwrap(), "");
        assert!(matches!(of("7", &["one", "two"]).collect().await, Err(BodyError::EndedEarly(_))));
        assert!(matches!(of("7", &[]).collect().await, Err(BodyError::EndedEarly(_))));
        assert!(matches!(of("5", &["one", "two"]).collect().await, Err(BodyError::Malformed(_))));
        assert_eq!(of("no number", &["one"]).collect().await.unwrap(), "one");
    }
}
