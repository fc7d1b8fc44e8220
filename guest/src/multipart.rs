//! Bodies with the content type `multipart/form-data` (RFC 7578): HTML forms with files.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::stream;
use multer::Multipart;

use crate::Problem;
use crate::problem::Invalid;

/// A field or file of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The name of the form field.
    pub name: Option<String>,
    /// The file name that the client gave. It is untrusted; do not use it as a path.
    pub file_name: Option<String>,
    /// The content type that the client gave.
    pub content_type: Option<String>,
    /// The content.
    pub body: Vec<u8>,
}

impl Part {
    /// The content as text, if it is UTF-8.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.body).ok()
    }
}

/// Parses a body.
pub fn parts(content_type: &str, body: &[u8]) -> Result<Vec<Part>, Problem> {
    let body = Bytes::copy_from_slice(body);
    // The whole body is in memory, so the parser never waits.
    read(content_type, body).now_or_never().unwrap_or_else(|| Err(malformed("it is incomplete")))
}

async fn read(content_type: &str, body: Bytes) -> Result<Vec<Part>, Problem> {
    let boundary = multer::parse_boundary(content_type).map_err(malformed)?;
    let mut multipart = Multipart::new(stream::iter([Ok::<_, Infallible>(body)]), boundary);
    let mut parts = Vec::new();
    while let Some(field) = multipart.next_field().await.map_err(malformed)? {
        let (name, file_name) = (field.name().map(str::to_owned), field.file_name().map(str::to_owned));
        let content_type = field.content_type().map(ToString::to_string);
        let body = field.bytes().await.map_err(malformed)?.to_vec();
        parts.push(Part { name, file_name, content_type, body });
    }
    Ok(parts)
}

fn malformed(reason: impl ToString) -> Problem {
    Invalid::body(reason.to_string()).into()
}
