//! The encoders behind one face: bytes in, and whatever has been coded by then out.

use std::io::{self, Write};

use brotli::CompressorWriter;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use zstd::stream::write::Encoder as ZstdEncoder;

use super::kind::Coding;

/// Levels at which coding a response costs less than sending it as it is.
const GZIP_LEVEL: u32 = 5;
const ZSTD_LEVEL: i32 = 3;
const BROTLI_LEVEL: u32 = 4;
/// The window of zstd and of Brotli, as a power of two: what one response may take of memory follows from it.
const WINDOW: u32 = 19;
/// Brotli's buffer.
const BROTLI_BUFFER: usize = 4096;

/// An encoder that writes to memory.
pub(super) enum Encoder {
    Zstd(ZstdEncoder<'static, Vec<u8>>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Gzip(GzEncoder<Vec<u8>>),
}

impl Encoder {
    pub fn new(coding: Coding) -> io::Result<Encoder> {
        Ok(match coding {
            Coding::Zstd => {
                let mut encoder = ZstdEncoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.window_log(WINDOW)?;
                Encoder::Zstd(encoder)
            }
            Coding::Brotli => {
                let writer = CompressorWriter::new(Vec::new(), BROTLI_BUFFER, BROTLI_LEVEL, WINDOW);
                Encoder::Brotli(Box::new(writer))
            }
            Coding::Gzip => Encoder::Gzip(GzEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL))),
        })
    }

    /// Takes bytes, and gives what has been coded.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<Bytes> {
        self.writer().write_all(bytes)?;
        Ok(self.take())
    }

    /// Gives everything that was taken in a form that can be decoded.
    pub fn flush(&mut self) -> io::Result<Bytes> {
        self.writer().flush()?;
        Ok(self.take())
    }

    /// Gives the rest.
    pub fn finish(self) -> io::Result<Bytes> {
        let rest = match self {
            Encoder::Zstd(encoder) => encoder.finish()?,
            Encoder::Brotli(encoder) => encoder.into_inner(),
            Encoder::Gzip(encoder) => encoder.finish()?,
        };
        Ok(rest.into())
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Encoder::Zstd(encoder) => encoder,
            Encoder::Brotli(encoder) => encoder,
            Encoder::Gzip(encoder) => encoder,
        }
    }

    fn take(&mut self) -> Bytes {
        let coded = match self {
            Encoder::Zstd(encoder) => encoder.get_mut(),
            Encoder::Brotli(encoder) => encoder.get_mut(),
            Encoder::Gzip(encoder) => encoder.get_mut(),
        };
        std::mem::take(coded).into()
    }
}

/// Codes a body that is whole.
pub(super) fn whole(coding: Coding, bytes: &[u8]) -> io::Result<Bytes> {
    let mut encoder = Encoder::new(coding)?;
    let begun = encoder.write(bytes)?;
    let rest = encoder.finish()?;
    Ok(if begun.is_empty() { rest } else { [begun, rest].concat().into() })
}
