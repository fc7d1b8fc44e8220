//! The manifest's settings of standard components: routes, environment, folders, and the reuse of instances.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;

use super::folder::{Access, Folder};
use super::section::{Result, Section, SpannedText, all};
use super::types::ServiceName;
use crate::http::routes::{Route, RouteError, RouteTable};

const ROUTE_HELP: &str = "write a method and a template, as in \"GET /links/{code}\", or a template alone; `/**` at the end takes the rest of a path";
const CONFLICT_HELP: &str = "leave one of the two out, or change it";

/// `routes`.
pub(super) fn routes(section: &Section<'_>) -> Result<Vec<Route>> {
    let mut routes: Vec<Route> = Vec::new();
    for (text, span) in section.texts("routes")?.unwrap_or_default() {
        let Some(route) = route(&text) else {
            section.reader.error(span, format!("`{text}` is not a valid route"), ROUTE_HELP);
            continue;
        };
        routes.push(route);
        if let Err(error) = RouteTable::declared(routes.clone()) {
            routes.pop();
            let is_conflict = matches!(error, RouteError::Ambiguous(..) | RouteError::WildcardBesideParameter(..));
            section.reader.error(span, error.to_string(), if is_conflict { CONFLICT_HELP } else { ROUTE_HELP });
        }
    }
    Ok(routes)
}

/// Parses a template, or a method and a template.
fn route(text: &str) -> Option<Route> {
    if text.starts_with('/') {
        return Some(Route { method: None, template: text.into() });
    }
    let (method, template) = text.split_once(' ')?;
    let is_upper_case = method.bytes().all(|byte| byte.is_ascii_uppercase());
    let method = method.parse().ok().filter(|_: &Method| is_upper_case)?;
    Some(Route { method: Some(method), template: template.trim().into() })
}

/// `[service.env]`.
pub(super) fn env(section: &Section<'_>) -> Result<BTreeMap<String, String>> {
    let keys = section.table.into_iter().flatten().map(|(key, _)| key.get_ref().to_string());
    let mut env = BTreeMap::new();
    for key in keys {
        if let Ok(Some((value, span))) = section.text(&key) {
            let name = key.escape_debug();
            if key.is_empty() || key.contains(['=', '\0']) {
                let problem = format!("`{name}` is not a valid name of an environment variable");
                section.reader.error(span, problem, "use a name that is not empty and has neither `=` nor NUL in it");
            } else if value.contains('\0') {
                let problem = format!("the value of the environment variable `{name}` contains NUL (U+0000)");
                section.reader.error(span, problem, "remove it: such a value ends at the first NUL");
            }
            env.insert(key, value);
        }
    }
    Ok(env)
}

/// `[[service.files]]`.
pub(super) fn files(section: &Section<'_>) -> Result<Vec<Folder>> {
    let Some(value) = section.get("files") else { return Ok(Vec::new()) };
    let Some(tables) = value.get_ref().as_array() else {
        return Err(section.error("files", "`files` is not a list of tables".to_owned(), "write `[[service.files]]`"));
    };
    let mut guests = BTreeSet::new();
    all(tables.iter().map(|table| {
        let section = section.reader.table(table, "[[service.files]]")?;
        let folder = folder(&section)?;
        if !guests.insert(folder.guest.clone()) {
            let problem = format!("two folders have the path `{}` in the component", folder.guest);
            section.error("guest", problem, "use a different path for each folder");
        }
        Ok(folder)
    }))
}

fn folder(section: &Section<'_>) -> Result<Folder> {
    section.allow_keys(&["host", "guest", "access"]);
    let host = section.path("host").and_then(|host| section.required(host, "host", "host = \"data\""));
    let guest = section.text("guest").and_then(|guest| section.required(guest, "guest", "guest = \"/data\""));
    let guest = guest.and_then(|guest| guest_path(section, guest));
    let access = match section.text("access")?.as_ref().map(|(text, _)| text.as_str()) {
        None | Some("read-only") => Access::Read,
        Some("read-write") => Access::Write,
        Some(other) => {
            let problem = format!("`{other}` is not a valid kind of access");
            return Err(section.error("access", problem, "write \"read-only\" or \"read-write\""));
        }
    };
    let (host, guest) = (host?, guest?);
    if !host.is_dir() {
        let problem = format!("{} is not a folder", host.display());
        return Err(section.error("host", problem, "create it, or correct `host`"));
    }
    Ok(Folder { host, guest, access })
}

/// The path of a folder in the component, absolute and without empty or `.` segments: WASI passes any text to the
/// component, whose library then compares it with the paths that the component opens, and libraries differ in how they
/// read other forms. A relative path is below the component's current folder, which is the root.
fn guest_path(section: &Section<'_>, (guest, span): SpannedText) -> Result<String> {
    let segments: Vec<_> = guest.split('/').filter(|segment| !matches!(*segment, "" | ".")).collect();
    if guest.is_empty() || segments.contains(&"..") || guest.contains('\0') {
        let problem = format!("`{}` is not the path of a folder in the component", guest.escape_debug());
        let help = "write a path without `..`, as in \"/data\"; \"/\" is the component's current folder";
        return Err(section.reader.error(span, problem, help));
    }
    Ok(format!("/{}", segments.join("/")))
}

/// `next`.
pub(super) fn next(section: &Section<'_>) -> Result<Option<ServiceName>> {
    let Some((text, span)) = section.text("next")? else { return Ok(None) };
    let name = ServiceName::parse(&text).ok_or_else(|| {
        let problem = format!("`{text}` is not a valid service name");
        section.reader.error(span, problem, "name another service of this manifest")
    })?;
    Ok(Some(name))
}

/// `requests_per_instance` and `concurrency_per_instance`.
pub(super) fn requests(section: &Section<'_>, key: &str) -> Result<Option<u32>> {
    let Some(count) = section.count(key)? else { return Ok(None) };
    match u32::try_from(count) {
        Ok(count) if count > 0 => Ok(Some(count)),
        _ => {
            let problem = format!("`{key}` is `{count}`, which is not a valid number of requests");
            Err(section.error(key, problem, "write a whole number above 0"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::manifest::read;
    use super::*;
    use crate::config::{Config, ConfigError, Environment};

    fn config(service: &str) -> Result<Config, ConfigError> {
        let text = format!("[[service]]\nname = \"s\"\ncomponent = \"s.wasm\"\nlisten = \"127.0.0.1:0\"\n{service}\n");
        read(&text, std::path::Path::new("services.toml"), &Environment::default())
    }

    fn names(service: &str) -> Vec<String> {
        config(service).unwrap().services[0].routes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_route_may_have_a_method() {
        assert_eq!(names("routes = [\"GET /links/{code}\"]"), ["GET /links/{code}"]);
        assert_eq!(names("routes = [\"/**\", \"POST /**\"]"), ["/**", "POST /**"]);
    }

    #[test]
    fn invalid_routes_are_rejected() {
        for route in ["GET", "get /x", "GET x", "/x/{", "GET /**/x", "GET /a\", \"GET /a"] {
            assert!(config(&format!("routes = [\"{route}\"]")).is_err(), "{route}");
        }
    }

    #[test]
    fn a_mistake_in_a_route_is_one_error_with_a_remedy() {
        for (routes, remedy) in [
            ("\"/a/**/b\"", "End the template there"),
            ("\"/a/*\"", "write `**`"),
            ("\"/a/{id:int}\"", "write `{id}`, which matches any segment"),
            ("\"/a?b={c}\"", "leave the query out"),
            ("\"/**\", \"/{*rest}\"", "help: leave one of the two out"),
            ("\"/a/{x}\", \"/a/{y}\"", "help: leave one of the two out"),
            ("\"/a/{x}\", \"GET /a/**\"", "make one of the two a literal"),
            ("\"fetch /a\"", "help: write a method and a template"),
        ] {
            let error = config(&format!("routes = [{routes}]")).unwrap_err().to_string();
            assert_eq!(error.matches("help: ").count(), 1, "{error}");
            assert!(error.contains(remedy), "{error}");
        }
    }

    #[test]
    fn next_must_name_another_service_of_the_manifest() {
        let other = "[[service]]\nname = \"t\"\ncomponent = \"t.wasm\"\nlisten = \"127.0.0.1:0\"\n";
        let service = config(&format!("next = \"t\"\n{other}")).unwrap().services.remove(0);
        assert_eq!(service.next.as_ref().map(ServiceName::as_str), Some("t"));
        for name in ["s", "u", "T", ""] {
            let error = config(&format!("next = \"{name}\"\n{other}")).unwrap_err().to_string();
            assert!(error.contains("service"), "{name}: {error}");
        }
    }

    #[test]
    fn an_invalid_environment_variable_is_rejected_for_its_name_or_its_value() {
        for (variable, problem) in [
            ("\"\" = \"x\"", "`` is not a valid name"),
            ("\"A=B\" = \"x\"", "`A=B` is not a valid name"),
            ("\"A\\u0000\" = \"x\"", "`A\\0` is not a valid name"),
            ("A = \"x\\u0000y\"", "the value of the environment variable `A` contains NUL"),
        ] {
            let error = config(&format!("[service.env]\n{variable}\n")).unwrap_err().to_string();
            assert!(error.contains(problem), "{variable}: {error}");
        }
    }

    #[test]
    fn environment_and_folders_are_parsed() {
        let text = "[service.env]\nMODE = \"fast\"\n[[service.files]]\nhost = \"/\"\nguest = \"/data\"\n";
        let service = config(text).unwrap().services.remove(0);
        assert_eq!(service.env, BTreeMap::from([("MODE".to_owned(), "fast".to_owned())]));
        assert_eq!(service.files, [Folder { host: "/".into(), guest: "/data".into(), access: Access::Read }]);
        let text = "[[service.files]]\nhost = \"/\"\nguest = \"/data\"\naccess = \"read-write\"\n";
        assert_eq!(config(text).unwrap().services[0].files[0].access, Access::Write);
        let missing = "[[service.files]]\nguest = \"/data\"\nhost = \"/no/such/folder\"\n";
        assert!(config(missing).unwrap_err().to_string().contains(":7:8: /no/such/folder is not a folder"));
    }

    fn folder_error(guest: &str) -> String {
        config(&format!("[[service.files]]\nhost = \"/\"\nguest = \"{guest}\"\n")).unwrap_err().to_string()
    }

    #[test]
    fn the_path_of_a_folder_in_the_component_becomes_absolute_and_has_its_shortest_form() {
        for (guest, path) in [
            ("/", "/"),
            (".", "/"),
            ("./", "/"),
            ("/data", "/data"),
            ("/data/", "/data"),
            ("data", "/data"),
            ("./data", "/data"),
            ("//data/./x", "/data/x"),
            ("/..data", "/..data"),
        ] {
            let config = config(&format!("[[service.files]]\nhost = \"/\"\nguest = \"{guest}\"\n")).unwrap();
            assert_eq!(config.services[0].files[0].guest, path, "{guest}");
        }
        for guest in ["", "..", "/../x", "/a/..", "/a\\u0000"] {
            let error = folder_error(guest);
            assert!(error.contains(":7:9: `") && error.contains("write a path without `..`"), "{guest}: {error}");
        }
    }

    #[test]
    fn two_folders_with_the_same_path_in_the_component_are_rejected() {
        let folder = |guest: &str| format!("[[service.files]]\nhost = \"/\"\nguest = \"{guest}\"\n");
        let error = config(&[folder("/data"), folder("data/")].concat()).unwrap_err().to_string();
        assert!(error.contains(":10:9: two folders have the path `/data`"), "{error}");
    }
}
