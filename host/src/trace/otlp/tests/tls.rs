//! Collectors behind TLS, whose certificates only the settings make trusted.

use std::path::PathBuf;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

use super::collector::Collector;
use crate::trace::settings::{Protocol, Settings};
use crate::trace::{Pipeline, TransportError};

/// A certificate authority, and a server and a client certificate signed by it, as PEM files.
pub struct Certificates {
    folder: TempDir,
}

impl Certificates {
    fn issue() -> Certificates {
        let folder = TempDir::new().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let certificates = Certificates { folder };
        std::fs::write(certificates.path("authority.pem"), authority.pem()).unwrap();
        for (who, name) in [("server", "localhost"), ("client", "spandrel")] {
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
            std::fs::write(certificates.path(&format!("{who}.pem")), certificate.pem()).unwrap();
            std::fs::write(certificates.path(&format!("{who}.key")), key.serialize_pem()).unwrap();
        }
        certificates
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }
}

async fn collector(protocol: Protocol, certificates: &Certificates) -> Collector {
    match protocol {
        Protocol::Grpc => Collector::grpc_with_tls(certificates).await,
        Protocol::HttpProtobuf => Collector::http_with_tls(certificates).await,
    }
}

fn settings(collector: &Collector, protocol: Protocol) -> Settings {
    let mut settings = super::delivery::settings(collector.address, protocol);
    let path = if protocol == Protocol::Grpc { "" } else { "/v1/traces" };
    settings.traces.otlp.endpoint = format!("https://localhost:{}{path}", collector.address.port());
    settings
}

#[tokio::test]
async fn the_configured_certificate_is_trusted_and_the_client_certificate_is_sent() {
    let certificates = Certificates::issue();
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let collector = collector(protocol, &certificates).await;
        let mut settings = settings(&collector, protocol);
        settings.traces.otlp.certificate = Some(certificates.path("authority.pem"));
        settings.traces.otlp.client = Some((certificates.path("client.pem"), certificates.path("client.key")));
        let pipeline = Pipeline::start(settings).unwrap();
        super::delivery::requests(&pipeline, 3);
        collector.wait(|seen| seen.spans() == 3).await;
    }
}

#[tokio::test]
async fn a_collector_with_an_untrusted_certificate_receives_nothing() {
    let certificates = Certificates::issue();
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let collector = collector(protocol, &certificates).await;
        let pipeline = Pipeline::start(settings(&collector, protocol)).unwrap();
        super::delivery::requests(&pipeline, 3);
        pipeline.shutdown(Duration::from_millis(500)).await;
        assert_eq!(collector.see(|seen| seen.spans()), 0);
        assert!(pipeline.counters().dropped_spans().contains(&("shutdown", 3)), "{protocol:?}");
    }
}

#[tokio::test]
async fn an_unreadable_certificate_fails_the_start() {
    let certificates = Certificates::issue();
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let mut settings = Settings::default();
        settings.traces.otlp.protocol = protocol;
        settings.traces.otlp.endpoint = "https://localhost:4317".to_owned();
        settings.traces.otlp.certificate = Some(certificates.path("nothing.pem"));
        let error = Pipeline::start(settings).err().unwrap();
        assert!(error.to_string().contains("nothing.pem"), "{error}");
        assert!(matches!(error, crate::trace::PipelineError::Transport(TransportError::Certificate { .. })));
    }
}

#[tokio::test]
async fn certificates_are_not_read_without_tls() {
    let certificates = Certificates::issue();
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let mut settings = Settings::default();
        settings.traces.otlp.protocol = protocol;
        settings.traces.otlp.certificate = Some(certificates.path("nothing.pem"));
        settings.traces.otlp.client = Some((certificates.path("nothing.pem"), certificates.path("nothing.key")));
        assert!(Pipeline::start(settings).is_ok(), "{protocol:?}");
    }
}
