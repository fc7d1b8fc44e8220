//! A batch as requests: what is encoded, grouped by Resource.
//!
//! A batch becomes one request, or several where it would be larger than collectors take. Nothing that is encoded is
//! copied: a request is a list of pieces, and what stands between them is written here.

use std::sync::Arc;

use bytes::Bytes;
use opentelemetry::{KeyValue, Value};

use super::encode::Encoded;
use super::protobuf::{Reader, Writer};
use crate::trace::resource::Resource;

/// The version of the semantic conventions that names and attributes follow.
pub(in crate::trace) const SCHEMA: &str = "https://opentelemetry.io/schemas/1.44.0";
/// The size of a request that is not exceeded, unless by one item alone. Collectors take 4 MiB over gRPC unless told
/// otherwise.
const REQUEST_BYTES: usize = 3 << 20;

/// The body of a request, in pieces that follow one another. A clone shares them.
#[derive(Clone, Debug)]
pub(super) struct Body {
    pieces: Arc<[Bytes]>,
    length: usize,
}

/// A request that is ready to be sent.
#[derive(Clone, Debug)]
pub(super) struct Payload {
    pub body: Body,
    /// How many spans or log records it holds.
    pub items: u64,
}

impl Body {
    /// Its size in bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Each piece.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().map(AsRef::as_ref)
    }

    /// All pieces as one.
    pub fn whole(&self) -> Bytes {
        match &*self.pieces {
            [only] => only.clone(),
            pieces => pieces.concat().into(),
        }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Body {
        Body { length: bytes.len(), pieces: Arc::new([bytes.into()]) }
    }
}

/// The requests for a batch, with at most so many items in each.
pub(super) fn requests(batch: &[Encoded], most: usize) -> Vec<Payload> {
    let mut packer = Packer { most: most.max(1) as u64, ..Packer::default() };
    for (resource, group) in by_resource(batch) {
        group.iter().for_each(|encoded| packer.add(resource, encoded));
        packer.close(resource);
    }
    packer.send();
    packer.done
}

type Groups<'a> = Vec<(&'a Arc<Resource>, Vec<&'a Encoded>)>;

/// There are few sources in a batch, so looking through them is as good as any map.
fn by_resource(batch: &[Encoded]) -> Groups<'_> {
    let mut groups: Groups<'_> = Vec::new();
    for encoded in batch {
        match groups.iter_mut().find(|(resource, _)| Arc::ptr_eq(resource, &encoded.resource)) {
            Some((_, group)) => group.push(encoded),
            None => groups.push((&encoded.resource, vec![encoded])),
        }
    }
    groups
}

/// Fills one request after the other.
///
/// Requests for traces and for logs have the same shape: groups by Resource in field 1, in each of them the Resource in
/// field 1 and groups by scope in field 2, in each of those the scope in field 1 and the items in field 2.
#[derive(Default)]
struct Packer {
    most: u64,
    done: Vec<Payload>,
    /// The request under construction, its size, and how many items it has, those of the open group included.
    request: Vec<Bytes>,
    size: usize,
    items: u64,
    /// The items of one source that belong to this request, and their size.
    group: Vec<Bytes>,
    group_size: usize,
}

impl Packer {
    /// Adds what one segment left, item by item where it does not fit as a whole.
    fn add(&mut self, resource: &Resource, encoded: &Encoded) {
        if self.fits(encoded.bytes.len(), encoded.items) {
            return self.push(encoded.bytes.clone(), encoded.items);
        }
        let mut left = Reader::new(&encoded.bytes);
        let mut start = 0;
        while left.delimited().is_some() {
            let end = encoded.bytes.len() - left.len();
            if !self.fits(end - start, 1) {
                self.close(resource);
                self.send();
            }
            self.push(encoded.bytes.slice(start..end), 1);
            start = end;
        }
    }

    fn fits(&self, size: usize, items: u64) -> bool {
        self.items + items <= self.most && self.size + self.group_size + size <= REQUEST_BYTES
    }

    fn push(&mut self, bytes: Bytes, items: u64) {
        self.group_size += bytes.len();
        self.group.push(bytes);
        self.items += items;
    }

    /// Ends the group of this source in this request.
    fn close(&mut self, resource: &Resource) {
        if self.group.is_empty() {
            return;
        }
        let scope = written(|scoped| {
            scoped.message(1, |scope| {
                scope.text(1, "spandrel");
                scope.text(2, env!("CARGO_PKG_VERSION"));
            });
        });
        let schema = written(|group| group.text(3, SCHEMA));
        let scoped = scope.len() + self.group_size + schema.len();
        let before = written(|group| {
            group.message(1, |message| resource_attributes(message, resource.attributes()));
            group.message_head(2, scoped);
        });
        let head = written(|request| {
            request.message_head(1, before.len() + scoped + schema.len());
            request.raw(&before);
            request.raw(&scope);
        });
        let tail = [schema.as_slice(), &schema].concat();
        self.size += head.len() + std::mem::take(&mut self.group_size) + tail.len();
        self.request.push(head.into());
        self.request.append(&mut self.group);
        self.request.push(tail.into());
    }

    fn send(&mut self) {
        let items = std::mem::take(&mut self.items);
        if items > 0 {
            let pieces = std::mem::take(&mut self.request).into();
            let body = Body { pieces, length: std::mem::take(&mut self.size) };
            self.done.push(Payload { body, items });
        }
    }
}

fn written(fields: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::default();
    fields(&mut writer);
    writer.into_bytes()
}

fn resource_attributes(resource: &mut Writer, attributes: &[KeyValue]) {
    for attribute in attributes {
        resource.message(1, |pair| {
            pair.text(1, attribute.key.as_str());
            pair.message(2, |any| match &attribute.value {
                Value::String(text) => any.present_text(1, text.as_str()),
                other => any.present_text(1, other.to_string()),
            });
        });
    }
}
