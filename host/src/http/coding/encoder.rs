//! One interface to the encoders of all content codings.

use std::io::{self, Write};

use brotli::CompressorWriter;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use zstd::stream::write::Encoder as ZstdEncoder;

use super::kind::Coding;

/// Compression levels at which compression costs less than it saves.
const GZIP_LEVEL: u32 = 5;
const ZSTD_LEVEL: i32 = 3;
const BROTLI_LEVEL: u32 = 4;
/// The window size of zstd and Brotli, as a power of two. It bounds the memory of one response.
const WINDOW: u32 = 19;
/// The size of Brotli's buffer, in bytes.
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

    /// Encodes bytes and returns the output so far.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<Bytes> {
        self.writer().write_all(bytes)?;
        Ok(self.take_output())
    }

    /// Returns the rest of the output, from which all bytes so far can be decoded.
    pub fn flush(&mut self) -> io::Result<Bytes> {
        self.writer().flush()?;
        Ok(self.take_output())
    }

    /// Ends the encoding and returns the rest of the output.
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

    fn take_output(&mut self) -> Bytes {
        let output = match self {
            Encoder::Zstd(encoder) => encoder.get_mut(),
            Encoder::Brotli(encoder) => encoder.get_mut(),
            Encoder::Gzip(encoder) => encoder.get_mut(),
        };
        std::mem::take(output).into()
    }
}

/// Encodes a whole body.
pub(super) fn encode_whole(coding: Coding, bytes: &[u8]) -> io::Result<Bytes> {
    let mut encoder = Encoder::new(coding)?;
    let start = encoder.write(bytes)?;
    let rest = encoder.finish()?;
    Ok(if start.is_empty() { rest } else { [start, rest].concat().into() })
}
