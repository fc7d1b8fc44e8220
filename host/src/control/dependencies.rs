//! Which services of a manifest depend on which others: a service depends on those that it may call.

use crate::config::{OriginPattern, ServiceConfig};

/// For each service of a manifest, the positions of the services that it may call.
pub(super) struct Dependencies(Vec<Vec<usize>>);

impl Dependencies {
    /// The dependencies of these services. Wildcards do not allow calls to services of the same host.
    pub fn of(services: &[ServiceConfig]) -> Dependencies {
        let of_one = |caller: &ServiceConfig| {
            let called = services.iter().enumerate().filter(|(_, service)| may_call(caller, service));
            called.map(|(position, _)| position).collect()
        };
        Dependencies(services.iter().map(of_one).collect())
    }

    /// Marks the services that are available and depend, directly or through others, on available services only.
    pub fn satisfied(&self, mut available: Vec<bool>) -> Vec<bool> {
        loop {
            let is_unavailable = |position: &usize| available.get(*position) == Some(&false);
            let unsatisfied: Vec<_> = self.0.iter().map(|called| called.iter().any(is_unavailable)).collect();
            let lost =
                available.iter_mut().zip(unsatisfied).filter(|(available, unsatisfied)| **available && *unsatisfied);
            if lost.map(|(available, _)| *available = false).count() == 0 {
                return available;
            }
        }
    }
}

fn may_call(caller: &ServiceConfig, service: &ServiceConfig) -> bool {
    let mut allowed = caller.outbound.allow.iter();
    let reaches =
        |pattern: &OriginPattern| matches!(pattern, OriginPattern::Exact(origin) if origin.reaches(service.listen));
    caller.next.as_ref() == Some(&service.name) || allowed.any(reaches)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::ServiceName;

    /// Services at the ports 8000, 8001 and so on. Each may call the given ports.
    fn services(calls: &[&[u16]]) -> Vec<ServiceConfig> {
        let ports = 8000..;
        let service = |(port, called): (u16, &&[u16])| {
            let mut service = ServiceConfig::unnamed(Path::new("a.wasm"));
            service.name = ServiceName::parse(&format!("service-{port}")).unwrap();
            service.listen.set_port(port);
            let patterns = called.iter().map(|port| OriginPattern::parse(&format!("http://localhost:{port}")).unwrap());
            service.outbound.allow = patterns.collect();
            service
        };
        ports.zip(calls).map(service).collect()
    }

    #[test]
    fn a_service_is_satisfied_if_all_services_that_it_reaches_are_available() {
        let chain = Dependencies::of(&services(&[&[8001], &[8002], &[], &[9999]]));
        assert_eq!(chain.satisfied(vec![true; 4]), [true; 4]);
        assert_eq!(chain.satisfied(vec![true, true, false, true]), [false, false, false, true]);
        assert_eq!(chain.satisfied(vec![false, true, true, true]), [false, true, true, true]);
        let circle = Dependencies::of(&services(&[&[8001], &[8000], &[8002]]));
        assert_eq!(circle.satisfied(vec![true; 3]), [true; 3]);
        assert_eq!(circle.satisfied(vec![true, false, true]), [false, false, true]);
    }

    #[test]
    fn a_middleware_depends_on_the_next_service_and_a_wildcard_is_no_dependency() {
        let mut services = services(&[&[], &[], &[]]);
        services[0].next = Some(services[1].name.clone());
        services[2].outbound.allow = vec![OriginPattern::Any];
        assert_eq!(Dependencies::of(&services).satisfied(vec![true, false, true]), [false, false, true]);
    }
}
