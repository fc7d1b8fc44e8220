//! Content codings: which one a client accepts, what is worth coding, and bodies that are coded on their way
//! (RFC 9110, 8.4.1 and 12.5.3).

mod encoded;
mod encoder;
mod selection;

pub use self::selection::{is_codable, select, weaken_etag};

use std::fmt;

use super::{Body, FRAME};

/// A content coding that the host can apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Zstandard (RFC 8878).
    Zstd,
    /// Brotli (RFC 7932).
    Brotli,
    /// gzip (RFC 1952).
    Gzip,
}

impl Coding {
    /// All of them, the one that costs least for what it saves first.
    pub const ALL: [Coding; 3] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];

    /// Its name in header fields.
    pub fn name(self) -> &'static str {
        match self {
            Coding::Zstd => "zstd",
            Coding::Brotli => "br",
            Coding::Gzip => "gzip",
        }
    }

    /// The coding of this name, in whatever case.
    pub fn parse(name: &str) -> Option<Coding> {
        let name = if name.eq_ignore_ascii_case("x-gzip") { "gzip" } else { name };
        Coding::ALL.into_iter().find(|coding| coding.name().eq_ignore_ascii_case(name))
    }

    /// The same body in this coding. A small one that is whole is coded at once; any other frame by frame, and what has
    /// been coded leaves when the next frame is still to come.
    pub fn encode(self, body: Body) -> Body {
        match body {
            Body::Whole(bytes) if bytes.len() <= FRAME => match encoder::whole(self, &bytes) {
                Ok(coded) => Body::Whole(coded),
                Err(_) => Body::stream(encoded::Encoded::new(self, Body::Whole(bytes))),
            },
            body => Body::stream(encoded::Encoded::new(self, body)),
        }
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
