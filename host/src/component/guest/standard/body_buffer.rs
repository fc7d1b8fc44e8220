//! The response body of a guest, as the guest writes it.

use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame};
use tokio::task::unconstrained;
use wasmtime_wasi_http::{Error, WasiBody};

/// The most bytes that are buffered at a time. The rest of a longer body is streamed.
pub(super) const MAX_BUFFERED: usize = 1 << 20;
/// More than a 0.2 guest can have written without a reader. The limits of `wasi:http` are lower.
const MAX_UNREAD: usize = 8 << 20;
/// What a buffered frame counts in addition to its data, in bytes.
const FRAME_OVERHEAD: usize = 128;

/// A guest's response body as the guest writes it, with the frames that were read and not sent yet.
///
/// The guest's execution keeps it, and not the reader: when a guest fails, only a look at the body before the store is
/// dropped shows whether the guest had finished it. A dropped store ends every body without an error.
#[derive(Debug, Default)]
pub(super) struct BodyBuffer {
    /// `None` before the guest has responded, and after the reader was dropped.
    inner: Option<WasiBody>,
    /// The frames that were read and not sent yet.
    pub frames: VecDeque<Result<Frame<Bytes>, Error>>,
    /// The size of all data that was buffered, in bytes.
    pub size: usize,
    /// `inner` has ended.
    pub has_ended: bool,
    /// The waker of the reader, if it waits for a frame.
    reader: Option<Waker>,
}

impl BodyBuffer {
    pub fn new(inner: WasiBody) -> BodyBuffer {
        BodyBuffer { inner: Some(inner), ..BodyBuffer::default() }
    }

    /// Reads the frames that are available. Ready when `inner` has ended or `limit` bytes are exceeded.
    pub fn poll_fill(&mut self, limit: usize, context: &mut Context<'_>) -> Poll<()> {
        while !self.has_ended && self.size + self.frames.len() * FRAME_OVERHEAD <= limit {
            match ready!(self.poll_inner(context)) {
                Some(frame) => {
                    let data = frame.as_ref().ok().and_then(Frame::data_ref);
                    self.size += data.map_or(0, Bytes::len);
                    self.has_ended = frame.is_err();
                    self.frames.push_back(frame);
                }
                None => self.has_ended = true,
            }
        }
        Poll::Ready(())
    }

    /// Reads the frames that are available, up to [`MAX_UNREAD`]. Tokio would report that there are none after a
    /// certain number of operations of the current task.
    fn fill(&mut self, context: &mut Context<'_>) {
        let limit = self.size + MAX_UNREAD;
        let filled = pin!(unconstrained(poll_fn(|context| self.poll_fill(limit, context))));
        let _ = filled.poll(context);
    }

    /// The next frame.
    pub fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.frames.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None if self.has_ended => Poll::Ready(None),
            None => {
                let frame = ready!(self.poll_inner(context));
                self.has_ended = frame.as_ref().is_none_or(Result::is_err);
                Poll::Ready(frame)
            }
        }
    }

    fn poll_inner(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = self.inner.as_mut().map_or(Poll::Pending, |inner| Pin::new(inner).poll_frame(context));
        if polled.is_pending() {
            self.reader = Some(context.waker().clone());
        }
        polled
    }

    /// The data of all frames.
    pub fn take_data(&mut self) -> Bytes {
        let mut frames =
            std::mem::take(&mut self.frames).into_iter().flatten().filter_map(|frame| frame.into_data().ok());
        let first = frames.next().unwrap_or_default();
        if first.len() == self.size {
            return first;
        }
        let mut data = BytesMut::with_capacity(self.size);
        data.extend_from_slice(&first);
        frames.for_each(|frame| data.extend_from_slice(&frame));
        data.freeze()
    }

    /// Whether the body continues.
    pub fn is_running(&mut self) -> bool {
        self.inner.is_some() && !self.is_finished() && !self.has_ended
    }

    /// Whether the guest has finished the body: everything that it has written itself is read. More than [`MAX_UNREAD`]
    /// can be available of a body that it passes on.
    pub fn is_finished(&mut self) -> bool {
        // `inner` keeps only the waker of the last poll, and the reader still waits for the end.
        let reader = self.reader.take().unwrap_or_else(|| Waker::noop().clone());
        self.fill(&mut Context::from_waker(&reader));
        self.has_ended && self.frames.iter().all(Result::is_ok)
    }
}
