//! `OTEL_*_EXPORTER` and `OTEL_EXPORTER_OTLP_*`: the exporters of each signal and their settings.

use std::path::PathBuf;

use super::endpoint::endpoint;
use super::headers::headers;
use super::variables::{Result, Variables, invalid, timeout};
use crate::trace::{Exporter, Otlp, Protocol, Signal};

/// What is done with one signal; `known` are the exporters that it has, and `standard` those where none is named.
pub(super) fn signal(
    variables: &Variables<'_>,
    signal: &str,
    known: &[Exporter],
    default: &[Exporter],
) -> Result<Signal> {
    Ok(Signal { exporters: exporters(variables, signal, known, default), otlp: otlp(variables, signal)? })
}

fn exporters(variables: &Variables<'_>, signal: &str, known: &[Exporter], default: &[Exporter]) -> Vec<Exporter> {
    let help = if known.contains(&Exporter::Console) {
        "write otlp, console, both with a comma between them, or none"
    } else {
        "write otlp or none; metrics have no console exporter"
    };
    let find = |word: &str| {
        let exporter = match word {
            "otlp" => Exporter::Otlp,
            "console" => Exporter::Console,
            _ => return None,
        };
        known.contains(&exporter).then_some(exporter)
    };
    let instead = match default {
        [] => "none",
        [Exporter::Otlp] => "otlp",
        [Exporter::Console] => "console",
        _ => "otlp,console",
    };
    variables.list(&format!("OTEL_{signal}_EXPORTER"), help, instead, find).unwrap_or_else(|| default.to_vec())
}

fn otlp(variables: &Variables<'_>, signal: &str) -> Result<Otlp> {
    let default = Otlp::standard();
    let protocol = variables
        .read_of_signal(signal, "PROTOCOL", "write grpc or http/protobuf", "grpc", protocol)
        .unwrap_or(default.protocol);
    let help = "write a number of milliseconds, up to a year";
    let timeout = variables.read_of_signal(signal, "TIMEOUT", help, "10000", timeout).unwrap_or(default.timeout);
    let gzip = variables.read_of_signal(signal, "COMPRESSION", "write gzip or none", "none", compression);
    Ok(Otlp {
        endpoint: endpoint(variables, signal, protocol)?,
        is_configured: variables.of_signal(signal, "ENDPOINT").is_some(),
        protocol,
        headers: headers(variables, signal)?,
        timeout,
        gzip: gzip.unwrap_or(false),
        certificate: variables.of_signal(signal, "CERTIFICATE").map(|(_, path)| path.into()),
        client: client(variables, signal)?,
    })
}

fn protocol(value: &str) -> Option<Protocol> {
    match value.to_ascii_lowercase().as_str() {
        "grpc" => Some(Protocol::Grpc),
        "http/protobuf" => Some(Protocol::HttpProtobuf),
        _ => None,
    }
}

/// Whether exports are compressed.
fn compression(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "none" => Some(false),
        "gzip" => Some(true),
        _ => None,
    }
}

fn client(variables: &Variables<'_>, signal: &str) -> Result<Option<(PathBuf, PathBuf)>> {
    match (variables.of_signal(signal, "CLIENT_CERTIFICATE"), variables.of_signal(signal, "CLIENT_KEY")) {
        (Some((_, certificate)), Some((_, key))) => Ok(Some((certificate.into(), key.into()))),
        (None, None) => Ok(None),
        (Some((name, path)), None) => {
            let key = name.replace("CLIENT_CERTIFICATE", "CLIENT_KEY");
            Err(invalid(&name, path, &format!("set {key} too, to the file with the certificate's key")))
        }
        (None, Some((name, path))) => {
            let certificate = name.replace("CLIENT_KEY", "CLIENT_CERTIFICATE");
            Err(invalid(&name, path, &format!("set {certificate} too, to the file with the key's certificate")))
        }
    }
}
