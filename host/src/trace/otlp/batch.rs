//! Builds export requests from a batch of encoded records, grouped by Resource.
//!
//! A batch becomes one request, or several if one would exceed the size that collectors accept. Encoded records are not
//! copied: a request is a list of pieces, and this module writes the bytes between them.

use std::sync::Arc;

use bytes::Bytes;
use opentelemetry::{KeyValue, Value};

use super::encode::Encoded;
use super::protobuf::{Reader, Writer};
use crate::trace::resource::Resource;

/// The schema URL: the version of the semantic conventions that names and attributes follow.
pub(in crate::trace) const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";
/// The most bytes of a request, unless a single record exceeds it. Collectors accept 4 MiB over gRPC by default.
const MAX_REQUEST_BYTES: usize = 3 << 20;

/// The body of a request, in pieces. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Body {
    pieces: Arc<[Bytes]>,
    length: usize,
}

/// A request, ready to be sent.
#[derive(Clone, Debug)]
pub(super) struct Payload {
    pub body: Body,
    /// The number of spans or log records.
    pub items: u64,
}

impl Body {
    /// The size in bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// The pieces, in order.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().map(AsRef::as_ref)
    }

    /// The body in one piece.
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

/// The requests for a batch, with at most `max_items` records in each.
pub(super) fn requests(batch: Vec<Encoded>, max_items: usize) -> Vec<Payload> {
    let mut builder = RequestBuilder { max_items: max_items.max(1) as u64, ..RequestBuilder::default() };
    for (resource, group) in by_resource(batch) {
        group.into_iter().for_each(|(items, bytes)| builder.add(&resource, items, bytes));
        builder.close_group(&resource);
    }
    builder.close_request();
    builder.payloads
}

/// The records of each Resource: their numbers and bytes.
type Groups = Vec<(Arc<Resource>, Vec<(u64, Bytes)>)>;

/// A batch has few Resources, so a linear search is as fast as a map.
fn by_resource(batch: Vec<Encoded>) -> Groups {
    let mut groups: Groups = Vec::new();
    for Encoded { resource, items, bytes } in batch {
        let records = (items, bytes.into());
        match groups.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &resource)) {
            Some((_, group)) => group.push(records),
            None => groups.push((resource, vec![records])),
        }
    }
    groups
}

/// Builds one request after another.
///
/// Requests for traces and for logs have the same structure: field 1 holds groups by Resource; each has the Resource in
/// field 1 and groups by scope in field 2; each of those has the scope in field 1 and the records in field 2.
#[derive(Default)]
struct RequestBuilder {
    max_items: u64,
    payloads: Vec<Payload>,
    /// The request under construction, its size and its number of records, including those of the open group.
    request: Vec<Bytes>,
    size: usize,
    items: u64,
    /// The records of the open group, which have one Resource, and their size.
    group: Vec<Bytes>,
    group_size: usize,
}

impl RequestBuilder {
    /// Adds records, one by one if they do not all fit into the request.
    fn add(&mut self, resource: &Resource, items: u64, bytes: Bytes) {
        if self.fits(bytes.len(), items) {
            return self.push(bytes, items);
        }
        let mut left = Reader::new(&bytes);
        let mut start = 0;
        while left.delimited().is_some() {
            let end = bytes.len() - left.len();
            if !self.fits(end - start, 1) {
                self.close_group(resource);
                self.close_request();
            }
            self.push(bytes.slice(start..end), 1);
            start = end;
        }
    }

    fn fits(&self, size: usize, items: u64) -> bool {
        self.items + items <= self.max_items && self.size + self.group_size + size <= MAX_REQUEST_BYTES
    }

    fn push(&mut self, bytes: Bytes, items: u64) {
        self.group_size += bytes.len();
        self.group.push(bytes);
        self.items += items;
    }

    /// Closes the group of this Resource.
    fn close_group(&mut self, resource: &Resource) {
        if self.group.is_empty() {
            return;
        }
        let scope = encoded(|scoped| {
            scoped.message(1, |scope| {
                scope.text(1, "spandrel");
                scope.text(2, env!("CARGO_PKG_VERSION"));
            });
        });
        let schema = encoded(|group| group.text(3, SCHEMA_URL));
        let scoped = scope.len() + self.group_size + schema.len();
        let before = encoded(|group| {
            group.message(1, |message| resource_attributes(message, resource.attributes()));
            group.message_head(2, scoped);
        });
        let head = encoded(|request| {
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

    fn close_request(&mut self) {
        let items = std::mem::take(&mut self.items);
        if items > 0 {
            let pieces = std::mem::take(&mut self.request).into();
            let body = Body { pieces, length: std::mem::take(&mut self.size) };
            self.payloads.push(Payload { body, items });
        }
    }
}

fn encoded(fields: impl FnOnce(&mut Writer)) -> Vec<u8> {
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
