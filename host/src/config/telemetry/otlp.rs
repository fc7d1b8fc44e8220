//! `OTEL_*_EXPORTER` and `OTEL_EXPORTER_OTLP_*`: where each signal goes, and how it gets there.

use std::path::PathBuf;

use super::endpoint::endpoint;
use super::headers::headers;
use super::variables::{Result, Variables, entries, wrong};
use crate::trace::{Exporter, Otlp, Protocol, Signal};

/// What is done with one signal; `known` are the exporters that it has, and `standard` the one where none is named.
pub(super) fn signal(read: &Variables<'_>, signal: &str, known: &[Exporter], standard: &str) -> Result<Signal> {
    let name = format!("OTEL_{signal}_EXPORTER");
    let mut exporters = Vec::new();
    for word in entries(&read.word(&name).unwrap_or_else(|| standard.to_owned())) {
        let exporter = match word {
            "none" => continue,
            "otlp" => Exporter::Otlp,
            "console" if known.contains(&Exporter::Console) => Exporter::Console,
            _ if known.contains(&Exporter::Console) => {
                return Err(wrong(&name, word, "write otlp, console, both with a comma between them, or none"));
            }
            _ => return Err(wrong(&name, word, "write otlp or none; only traces can go to the console")),
        };
        if !exporters.contains(&exporter) {
            exporters.push(exporter);
        }
    }
    Ok(Signal { exporters, otlp: otlp(read, signal)? })
}

fn otlp(read: &Variables<'_>, signal: &str) -> Result<Otlp> {
    let standard = Otlp::standard();
    let protocol = match read.of_signal(signal, "PROTOCOL") {
        None => standard.protocol,
        Some((_, value)) if value.eq_ignore_ascii_case("grpc") => Protocol::Grpc,
        Some((_, value)) if value.eq_ignore_ascii_case("http/protobuf") => Protocol::HttpProtobuf,
        Some((name, value)) => return Err(wrong(&name, value, "write grpc or http/protobuf")),
    };
    let timeout = match read.of_signal(signal, "TIMEOUT") {
        None => standard.timeout,
        Some((name, _)) => read.timeout(&name)?.unwrap_or(standard.timeout),
    };
    let gzip = match read.of_signal(signal, "COMPRESSION") {
        None => false,
        Some((_, value)) if value.eq_ignore_ascii_case("none") => false,
        Some((_, value)) if value.eq_ignore_ascii_case("gzip") => true,
        Some((name, value)) => return Err(wrong(&name, value, "write gzip or none")),
    };
    Ok(Otlp {
        endpoint: endpoint(read, signal, protocol)?,
        protocol,
        headers: headers(read, signal)?,
        timeout,
        gzip,
        certificate: read.of_signal(signal, "CERTIFICATE").map(|(_, path)| path.into()),
        client: client(read, signal)?,
    })
}

fn client(read: &Variables<'_>, signal: &str) -> Result<Option<(PathBuf, PathBuf)>> {
    match (read.of_signal(signal, "CLIENT_CERTIFICATE"), read.of_signal(signal, "CLIENT_KEY")) {
        (Some((_, certificate)), Some((_, key))) => Ok(Some((certificate.into(), key.into()))),
        (None, None) => Ok(None),
        (Some((name, path)), None) => {
            let key = name.replace("CLIENT_CERTIFICATE", "CLIENT_KEY");
            Err(wrong(&name, path, &format!("set {key} too, to the file with the certificate's key")))
        }
        (None, Some((name, path))) => {
            let certificate = name.replace("CLIENT_KEY", "CLIENT_CERTIFICATE");
            Err(wrong(&name, path, &format!("set {certificate} too, to the file with the key's certificate")))
        }
    }
}
