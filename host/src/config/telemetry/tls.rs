//! Validates the files of `OTEL_EXPORTER_OTLP_CERTIFICATE`, `_CLIENT_CERTIFICATE` and `_CLIENT_KEY`, so that errors name
//! the variable. They are used for `https` endpoints only.

use rustls::RootCertStore;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::variables::{Result, Variables};
use crate::config::error::ConfigError;
use crate::trace::{Exporter, Signal};

/// The help text for a certificate.
const CERTIFICATE_HELP: &str = "name a file with certificates in PEM (-----BEGIN CERTIFICATE-----)";
/// The help text for a key.
const KEY_HELP: &str = "name a file with the certificate's own key in PEM, not encrypted (-----BEGIN PRIVATE KEY-----)";

/// A variable and the file that it names.
struct Named<'a> {
    variable: String,
    path: &'a str,
    help: &'static str,
}

/// Rejects files that cannot be used for TLS with a signal's collector.
pub(super) fn check(variables: &Variables<'_>, name: &str, signal: &Signal) -> Result<()> {
    if !signal.exporters.contains(&Exporter::Otlp) || !signal.otlp.is_https() {
        return Ok(());
    }
    let named = |what, help| {
        let (variable, path) = variables.of_signal(name, what)?;
        Some(Named { variable, path, help })
    };
    if let Some(file) = named("CERTIFICATE", CERTIFICATE_HELP) {
        let mut roots = RootCertStore::empty();
        for certificate in file.certificates()? {
            roots.add(certificate).map_err(|error| file.unusable(&error))?;
        }
    }
    let certificate = named("CLIENT_CERTIFICATE", CERTIFICATE_HELP);
    if let Some((certificate, key)) = certificate.zip(named("CLIENT_KEY", KEY_HELP)) {
        let identity = CertifiedKey::from_der(certificate.certificates()?, key.key()?, &default_provider());
        identity.map_err(|error| key.unusable(&error))?;
    }
    Ok(())
}

impl Named<'_> {
    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>> {
        let text = self.read()?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let found = found.map_err(|error| self.unusable(&error))?;
        if found.is_empty() { Err(self.unusable(&"it contains no certificate")) } else { Ok(found) }
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_slice(&self.read()?).map_err(|error| self.unusable(&error))
    }

    fn read(&self) -> Result<Vec<u8>> {
        std::fs::read(self.path).map_err(|error| self.unusable(&error))
    }

    fn unusable(&self, reason: &dyn std::fmt::Display) -> ConfigError {
        ConfigError::NamedFile {
            name: self.variable.clone(),
            path: self.path.to_owned(),
            reason: reason.to_string(),
            help: self.help.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use tempfile::TempDir;

    use crate::config::environment::Environment;
    use crate::config::telemetry::settings;

    const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    const AUTHORITY: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";
    const CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE";
    const KEY: &str = "OTEL_EXPORTER_OTLP_CLIENT_KEY";

    /// A folder with a certificate, its key, another key, and a file that is neither.
    fn certificate_files() -> TempDir {
        let folder = TempDir::new().unwrap();
        let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
        let key = KeyPair::generate().unwrap();
        write("own.pem", CertificateParams::new(["me".to_owned()]).unwrap().self_signed(&key).unwrap().pem());
        write("own.key", key.serialize_pem());
        write("other.key", KeyPair::generate().unwrap().serialize_pem());
        write("hostname", "shop\n".to_owned());
        write("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned());
        folder
    }

    /// The error for these files and this endpoint, for each protocol.
    fn errors(folder: &TempDir, endpoint: &str, files: &[(&str, &str)]) -> Vec<Option<String>> {
        let error = |protocol: &str| {
            let path = |name: &str| folder.path().join(name).display().to_string();
            let mut pairs: Vec<_> = files.iter().map(|(name, file)| ((*name).to_owned(), path(file))).collect();
            pairs.push(("OTEL_EXPORTER_OTLP_PROTOCOL".to_owned(), protocol.to_owned()));
            pairs.push((ENDPOINT.to_owned(), endpoint.to_owned()));
            settings(&Environment::from_pairs(pairs)).err().map(|error| error.to_string())
        };
        ["grpc", "http/protobuf"].map(error).into()
    }

    #[test]
    fn the_error_for_an_unusable_file_names_the_variable() {
        let folder = certificate_files();
        for (files, culprit) in [
            (&[(AUTHORITY, "nothing.pem")][..], AUTHORITY),
            (&[(AUTHORITY, "hostname")], AUTHORITY),
            (&[(AUTHORITY, "broken.pem")], AUTHORITY),
            (&[(CERTIFICATE, "hostname"), (KEY, "own.key")], CERTIFICATE),
            (&[(CERTIFICATE, "own.pem"), (KEY, "hostname")], KEY),
            (&[(CERTIFICATE, "own.pem"), (KEY, "nothing.key")], KEY),
            (&[(CERTIFICATE, "own.pem"), (KEY, "other.key")], KEY),
        ] {
            for message in errors(&folder, "https://localhost:4317", files) {
                let message = message.unwrap_or_else(|| panic!("{files:?} are accepted"));
                assert!(
                    message.contains(&format!("variable {culprit} names")) && message.contains("help: "),
                    "{message}"
                );
            }
        }
    }

    #[test]
    fn valid_files_are_accepted_and_unused_ones_are_not_read() {
        let folder = certificate_files();
        let good = [(AUTHORITY, "own.pem"), (CERTIFICATE, "own.pem"), (KEY, "own.key")];
        assert_eq!(errors(&folder, "https://localhost:4317", &good), [None, None]);
        assert_eq!(errors(&folder, "http://localhost:4317", &[(AUTHORITY, "nothing.pem")]), [None, None]);
    }
}
