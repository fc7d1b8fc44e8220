//! A body that is encoded while it is sent.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::encoder::{self, Encoder};
use super::kind::Coding;
use crate::http::{Body, BodyError, FRAME_LIMIT};

/// A limit on concurrent encoders. Each uses up to 1.5 MiB until its body has been sent, which a slow client can delay.
#[derive(Clone, Debug)]
pub struct EncoderLimit(Arc<Semaphore>);

impl EncoderLimit {
    /// A limit of `limit` encoders.
    pub fn new(limit: usize) -> EncoderLimit {
        EncoderLimit(Arc::new(Semaphore::new(limit)))
    }
}

/// A coding for one body, with the permit of its encoder.
pub struct ReservedEncoder {
    coding: Coding,
    /// `None` for a body that is encoded at once: the threads of the runtime bound the number of such encodings.
    permit: Option<OwnedSemaphorePermit>,
}

impl Coding {
    /// Reserves an encoder for a body. Returns `None` if the limit of encoders is reached.
    pub fn reserve(self, body: &Body, encoders: &EncoderLimit) -> Option<ReservedEncoder> {
        if is_encoded_at_once(body) {
            return Some(ReservedEncoder { coding: self, permit: None });
        }
        let permit = encoders.0.clone().try_acquire_owned().ok()?;
        Some(ReservedEncoder { coding: self, permit: Some(permit) })
    }
}

impl ReservedEncoder {
    /// The same body in the coding. A small whole body is encoded at once. Any other body is encoded frame by frame,
    /// and the encoder is flushed while the next frame is pending.
    pub fn encode(self, body: Body) -> Body {
        match body {
            Body::Whole(bytes) if bytes.len() <= FRAME_LIMIT => match encoder::encode_whole(self.coding, &bytes) {
                Ok(encoded) => Body::Whole(encoded),
                Err(_) => Body::stream(Encoded::new(self, Body::Whole(bytes))),
            },
            body => Body::stream(Encoded::new(self, body)),
        }
    }
}

fn is_encoded_at_once(body: &Body) -> bool {
    matches!(body, Body::Whole(bytes) if bytes.len() <= FRAME_LIMIT)
}

/// A body in a content coding.
struct Encoded {
    coding: Coding,
    body: Body,
    state: EncoderState,
    /// Released when the body has ended or was dropped.
    _permit: Option<OwnedSemaphorePermit>,
}

/// The progress of the encoding.
enum EncoderState {
    /// Nothing has been encoded.
    New,
    /// Frames are being encoded. `has_unflushed` tells whether the encoder may hold output.
    Encoding { encoder: Encoder, has_unflushed: bool },
    /// All data has been sent. The trailers follow.
    Trailers(HeaderMap),
    /// The body has ended.
    Ended,
}

type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

impl Encoded {
    fn new(ReservedEncoder { coding, permit }: ReservedEncoder, body: Body) -> Encoded {
        Encoded { coding, body, state: EncoderState::New, _permit: permit }
    }

    fn encoder(&mut self) -> io::Result<(&mut Encoder, &mut bool)> {
        if matches!(self.state, EncoderState::New) {
            self.state = EncoderState::Encoding { encoder: Encoder::new(self.coding)?, has_unflushed: false };
        }
        match &mut self.state {
            EncoderState::Encoding { encoder, has_unflushed } => Ok((encoder, has_unflushed)),
            _ => Err(io::Error::other("the body has data after its end")),
        }
    }

    /// Encodes data. If there is no output yet, the task yields before it polls for the next frame.
    fn encode(&mut self, data: &[u8], context: &Context<'_>) -> Polled {
        let output = self.encoder().and_then(|(encoder, has_unflushed)| {
            *has_unflushed = true;
            encoder.write(data)
        });
        match output {
            Ok(output) if output.is_empty() => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            output => self.emit(output),
        }
    }

    /// Emits the output that the encoder holds, while the next frame is pending.
    fn flush(&mut self) -> Polled {
        let EncoderState::Encoding { encoder, has_unflushed: has_unflushed @ true } = &mut self.state else {
            return Poll::Pending;
        };
        *has_unflushed = false;
        match encoder.flush() {
            Ok(output) if output.is_empty() => Poll::Pending,
            output => self.emit(output),
        }
    }

    /// Emits the rest of the output. The trailers follow if there are any.
    fn finish(&mut self, trailers: Option<HeaderMap>) -> Polled {
        let rest = self.encoder().map(|_| ());
        let state = std::mem::replace(&mut self.state, trailers.map_or(EncoderState::Ended, EncoderState::Trailers));
        let rest = match (rest, state) {
            (Ok(()), EncoderState::Encoding { encoder, .. }) => encoder.finish(),
            (rest, _) => rest.map(|()| Bytes::new()),
        };
        self.emit(rest)
    }

    /// A data frame with the output, or the end of the body with an error.
    fn emit(&mut self, output: io::Result<Bytes>) -> Polled {
        let frame = output.map(Frame::data).map_err(|error| {
            self.state = EncoderState::Ended;
            BodyError::Failed {
                error_type: "compression",
                message: format!("the body could not be compressed: {error}"),
            }
        });
        Poll::Ready(Some(frame))
    }
}

impl HttpBody for Encoded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Polled {
        let this = self.get_mut();
        if let EncoderState::Trailers(trailers) = &mut this.state {
            let trailers = std::mem::take(trailers);
            this.state = EncoderState::Ended;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        if matches!(this.state, EncoderState::Ended) {
            return Poll::Ready(None);
        }
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Pending => this.flush(),
            Poll::Ready(None) => this.finish(None),
            Poll::Ready(Some(Err(error))) => {
                this.state = EncoderState::Ended;
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => this.encode(&data, context),
                Err(frame) => this.finish(frame.into_trailers().ok()),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, EncoderState::Ended)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use futures_util::{StreamExt, stream};
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    fn encode(coding: Coding, body: Body) -> Body {
        coding.reserve(&body, &EncoderLimit::new(1)).unwrap().encode(body)
    }

    fn decoded(coding: Coding, coded: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        match coding {
            Coding::Zstd => zstd::stream::copy_decode(coded, &mut plain).unwrap(),
            Coding::Brotli => brotli::BrotliDecompress(&mut &coded[..], &mut plain).unwrap(),
            Coding::Gzip => flate2::read::GzDecoder::new(coded).read_to_end(&mut plain).map(drop).unwrap(),
        }
        plain
    }

    /// The bytes that can be decoded from an incomplete body.
    fn decoded_so_far(coding: Coding, coded: &[u8]) -> Option<Vec<u8>> {
        let mut plain = vec![0; 1024];
        let count = match coding {
            Coding::Zstd => zstd::stream::read::Decoder::new(coded).unwrap().read(&mut plain),
            Coding::Brotli => brotli::Decompressor::new(coded, 4096).read(&mut plain),
            Coding::Gzip => flate2::read::GzDecoder::new(coded).read(&mut plain),
        };
        plain.truncate(count.ok()?);
        Some(plain)
    }

    #[tokio::test]
    async fn bodies_of_all_sizes_and_forms_decode_to_the_original() {
        for coding in Coding::ALL {
            for size in [0, 1, 1000, FRAME_LIMIT, FRAME_LIMIT + 1, 5 * FRAME_LIMIT + 7] {
                let plain: Vec<u8> = (0..size).map(|at| (at * at % 251) as u8).collect();
                let whole = encode(coding, Body::Whole(Bytes::from(plain.clone())));
                assert_eq!(decoded(coding, &whole.collect().await.unwrap()), plain, "{coding} {size}");
                let frames: Vec<_> =
                    plain.chunks(1000).map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk)))).collect();
                let streamed = encode(coding, Body::stream(StreamBody::new(stream::iter(frames))));
                assert_eq!(decoded(coding, &streamed.collect().await.unwrap()), plain, "{coding} {size}");
            }
        }
    }

    #[tokio::test]
    async fn data_is_sent_while_the_next_frame_is_pending() {
        for coding in Coding::ALL {
            let first = stream::iter([Ok(Frame::data(Bytes::from_static(b"first")))]);
            let mut body = encode(coding, Body::stream(StreamBody::new(first.chain(stream::pending()))));
            let mut coded = Vec::new();
            while decoded_so_far(coding, &coded).is_none_or(|plain| plain != b"first") {
                let frame = tokio::time::timeout(std::time::Duration::from_secs(10), body.frame()).await;
                let frame = frame.unwrap_or_else(|_| panic!("{coding} did not send the data: {coded:?}"));
                coded.extend_from_slice(frame.unwrap().unwrap().data_ref().unwrap());
            }
        }
    }

    #[tokio::test]
    async fn the_number_of_encoders_is_limited() {
        let limit = EncoderLimit::new(2);
        let large = || Body::Whole(Bytes::from(vec![0; FRAME_LIMIT + 1]));
        let endless = || Body::stream(StreamBody::new(stream::pending()));
        let reserve = |body: Body| Some(Coding::Gzip.reserve(&body, &limit)?.encode(body));
        let (one, two) = (reserve(large()).unwrap(), reserve(endless()).unwrap());
        assert!(reserve(large()).is_none() && reserve(endless()).is_none());
        assert!(matches!(reserve(Body::Whole(Bytes::from_static(b"small"))), Some(Body::Whole(_))));
        drop(two);
        let three = reserve(endless());
        assert!(three.is_some() && reserve(large()).is_none());
        one.collect().await.unwrap();
        assert!(reserve(large()).is_some(), "a body that has ended releases its permit");
    }

    #[tokio::test]
    async fn trailers_and_errors_are_forwarded() {
        let trailers = HeaderMap::from_iter([(http::header::ETAG, "1".parse().unwrap())]);
        let frames = [Ok(Frame::data(Bytes::from_static(b"data"))), Ok(Frame::trailers(trailers.clone()))];
        let body = encode(Coding::Gzip, Body::stream(StreamBody::new(stream::iter(frames))));
        let collected = BodyExt::collect(body).await.unwrap();
        assert_eq!(collected.trailers(), Some(&trailers));
        assert_eq!(decoded(Coding::Gzip, &collected.to_bytes()), b"data");
        let frames = [Ok(Frame::data(Bytes::from_static(b"data"))), Err(BodyError::EndedEarly("x".to_owned()))];
        let body = encode(Coding::Gzip, Body::stream(StreamBody::new(stream::iter(frames))));
        assert_eq!(body.collect().await, Err(BodyError::EndedEarly("x".to_owned())));
    }
}
