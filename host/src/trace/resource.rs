//! The OpenTelemetry Resource of a service: the origin of its spans, metrics and log records.

use std::sync::Arc;

use opentelemetry::KeyValue;

/// The attributes of a Resource that only the host sets.
const HOST_ATTRIBUTES: [&str; 6] = [
    "service.name",
    "service.version",
    "service.instance.id",
    "telemetry.sdk.name",
    "telemetry.sdk.language",
    "telemetry.sdk.version",
];

/// The Resource of a service.
#[derive(Debug)]
pub struct Resource {
    name: String,
    version: String,
    attributes: Vec<KeyValue>,
}

impl Resource {
    /// The Resource of a service: `service.name`, `service.version`, a random `service.instance.id`, the
    /// `telemetry.sdk` attributes, and those of `extra` that the host does not set.
    pub fn new(name: &str, version: &str, extra: &[KeyValue]) -> Arc<Resource> {
        let (name, version) = (name.to_owned(), version.to_owned());
        let id = instance_id();
        let own = [&name, &version, &id, "spandrel", "rust", env!("CARGO_PKG_VERSION")];
        let own = HOST_ATTRIBUTES.iter().zip(own).map(|(key, value)| KeyValue::new(*key, value.to_owned()));
        let extra = extra.iter().filter(|attribute| !Resource::is_host_attribute(attribute.key.as_str()));
        let attributes = own.chain(extra.cloned()).collect();
        Arc::new(Resource { name, version, attributes })
    }

    /// Whether only the host sets this attribute.
    pub fn is_host_attribute(key: &str) -> bool {
        HOST_ATTRIBUTES.contains(&key)
    }

    /// `service.name`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `service.version`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// All attributes.
    pub fn attributes(&self) -> &[KeyValue] {
        &self.attributes
    }
}

/// A random UUID (RFC 9562, version 4).
fn instance_id() -> String {
    let random = fastrand::u128(..) & !(0xf000 << 64 | 0xc << 60) | 0x4000 << 64 | 0x8 << 60;
    let hex = format!("{random:032x}");
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default().to_owned();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_id_is_a_uuid_of_version_4() {
        let id = instance_id();
        assert_eq!(id.len(), 36);
        assert_eq!(id.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&id.as_bytes()[19]));
    }

    #[test]
    fn attributes_of_the_environment_do_not_rename_a_service() {
        let extra = [KeyValue::new("service.name", "other"), KeyValue::new("team", "shop")];
        let resource = Resource::new("user-service", "1.0.0", &extra);
        let names: Vec<_> = resource.attributes().iter().filter(|known| known.key.as_str() == "service.name").collect();
        assert_eq!(names.len(), 1);
        assert_eq!(names[0].value.as_str(), "user-service");
        assert!(resource.attributes().iter().any(|known| known.key.as_str() == "service.version"));
        assert!(resource.attributes().iter().any(|known| known.key.as_str() == "team"));
    }
}
