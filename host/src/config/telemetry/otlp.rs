//! `OTEL_*_EXPORTER` and `OTEL_EXPORTER_OTLP_*`: where each signal goes, and how it gets there.

use std::path::PathBuf;
use std::str::FromStr;

use http::{HeaderName, HeaderValue};

use super::variables::{Result, Variables, entries, pair, wrong};
use crate::config::origin::Origin;
use crate::trace::{Exporter, Otlp, Protocol, Signal};

/// What is done with one signal; `known` are the exporters that it has.
pub(super) fn signal(read: &Variables<'_>, signal: &str, known: &[Exporter]) -> Result<Signal> {
    let name = format!("OTEL_{signal}_EXPORTER");
    let mut exporters = Vec::new();
    for word in entries(read.get(&name).unwrap_or("otlp")) {
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
        Some((_, "grpc")) => Protocol::Grpc,
        Some((_, "http/protobuf")) => Protocol::HttpProtobuf,
        Some((name, value)) => return Err(wrong(&name, value, "write grpc or http/protobuf")),
    };
    let timeout = match read.of_signal(signal, "TIMEOUT") {
        None => standard.timeout,
        Some((name, _)) => read.some_millis(&name)?.unwrap_or(standard.timeout),
    };
    let gzip = match read.of_signal(signal, "COMPRESSION") {
        None | Some((_, "none")) => false,
        Some((_, "gzip")) => true,
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

/// A signal's own endpoint is used as it is; the common one gets the signal's path where it is HTTP.
fn endpoint(read: &Variables<'_>, signal: &str, protocol: Protocol) -> Result<String> {
    let own = format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT");
    let common = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let standard = match protocol {
        Protocol::Grpc => "http://localhost:4317",
        Protocol::HttpProtobuf => "http://localhost:4318",
    };
    if let Some(url) = read.get(&own) {
        return check_url(&own, url).map(str::to_owned);
    }
    let base = read.get(common).map_or(Ok(standard), |url| check_url(common, url))?;
    Ok(match protocol {
        Protocol::Grpc => base.to_owned(),
        Protocol::HttpProtobuf => format!("{}/v1/{}", base.trim_end_matches('/'), signal.to_ascii_lowercase()),
    })
}

fn check_url<'u>(name: &str, url: &'u str) -> Result<&'u str> {
    let good = url.parse::<http::Uri>().is_ok_and(|uri| Origin::of(&uri).is_some());
    if good { Ok(url) } else { Err(wrong(name, url, "write an http or https URL, such as http://localhost:4317")) }
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

fn headers(read: &Variables<'_>, signal: &str) -> Result<Vec<(String, String)>> {
    let Some((name, text)) = read.of_signal(signal, "HEADERS") else { return Ok(Vec::new()) };
    let header = |entry: &str| {
        let (key, value) = pair(entry)?;
        let key = HeaderName::from_str(&key).ok()?;
        HeaderValue::from_str(&value).ok()?;
        Some((key.as_str().to_owned(), value))
    };
    // The value may be a secret, so the message does not show it.
    let help = "write key=value pairs with commas between them, percent-encoded";
    entries(text).map(|entry| header(entry).ok_or_else(|| wrong(&name, "(not shown)", help))).collect()
}
