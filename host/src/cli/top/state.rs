//! The state of `spandrel top`: updated by responses of the console and by keys.

use std::collections::{HashMap, VecDeque};

use serde_json::Value;

use super::action::Action;
use crate::console::{TraceModel, units};
use crate::printable::printable;

/// The number of rates kept per service.
const MAX_RATES: usize = 24;

/// A line of the table of services. Texts are safe for a terminal.
pub(super) struct ServiceLine {
    pub cells: [String; 9],
    pub rates: Vec<u64>,
    pub state: String,
    pub failing: bool,
}

/// A line of the list of traces. Texts are safe for a terminal.
pub(super) struct TraceLine {
    pub id: String,
    pub cells: [String; 6],
    pub failed: bool,
}

/// Everything on the screen.
pub(super) struct TopState {
    pub url: String,
    pub services: Vec<ServiceLine>,
    pub traces: Vec<TraceLine>,
    /// The trace that is open, and how far it is scrolled.
    pub open: Option<(TraceModel, usize)>,
    /// The latest error.
    pub error: Option<String>,
    /// The id of the selected trace.
    selected: Option<String>,
    errors_only: bool,
    paused: bool,
    rates: HashMap<String, VecDeque<u64>>,
}

impl TopState {
    pub fn new(url: &str) -> TopState {
        TopState {
            url: url.to_owned(),
            services: Vec::new(),
            traces: Vec::new(),
            open: None,
            error: None,
            selected: None,
            errors_only: false,
            paused: false,
            rates: HashMap::new(),
        }
    }

    /// Updates the state from responses of the console.
    pub fn update(&mut self, services: &Value, traces: &Value) {
        let services = services.as_array().map(Vec::as_slice).unwrap_or_default();
        self.rates.retain(|name, _| services.iter().any(|service| service["name"] == name.as_str()));
        self.services = services.iter().flat_map(|service| self.service(service)).collect();
        self.traces = traces.as_array().into_iter().flatten().map(trace_line).collect();
    }

    /// The line of the serving version, and that of the canary if one is running.
    fn service(&mut self, service: &Value) -> Vec<ServiceLine> {
        let name = service["name"].as_str().unwrap_or_default();
        let rates = self.rates.entry(name.to_owned()).or_default();
        rates.push_back((service["recent"]["rate"].as_f64().unwrap_or_default() * 10.0).round() as u64);
        while rates.len() > MAX_RATES {
            rates.pop_front();
        }
        let rates: Vec<_> = rates.iter().copied().collect();
        let state = text(&service["state"]);
        let mut lines = vec![version_line(service, &service["serving"], &service["recent"], state, rates)];
        if service["canary"].is_object() {
            let share = service["canary"]["share_percent"].as_f64().unwrap_or_default();
            let (figures, state) = (&service["canary"], format!("canary {share} %"));
            lines.push(version_line(service, figures, figures, state, Vec::new()));
        }
        lines
    }

    /// Performs an action that needs no request to the console.
    pub fn apply(&mut self, action: Action) {
        match (action, &mut self.open) {
            (Action::Down, Some((trace, top))) => *top = (*top + 1).min(trace.nodes.len().saturating_sub(1)),
            (Action::Up, Some((_, top))) => *top = top.saturating_sub(1),
            (Action::Down, None) => self.move_selection(1),
            (Action::Up, None) => self.move_selection(-1),
            (Action::Close, _) => self.open = None,
            (Action::Pause, _) => self.paused = !self.paused,
            _ => {}
        }
    }

    pub fn show(&mut self, trace: TraceModel) {
        self.open = Some((trace, 0));
    }

    pub fn set_error(&mut self, error: Option<String>) {
        self.error = error.map(|error| printable(&error).into_owned());
    }

    pub fn is_paused(&self) -> bool {
        self.paused
    }

    pub fn errors_only(&self) -> bool {
        self.errors_only
    }

    pub fn toggle_errors_only(&mut self) {
        self.errors_only = !self.errors_only;
    }

    /// The position of the selected trace, which increases as newer traces arrive.
    pub fn position(&self) -> Option<usize> {
        let selected = self.selected.as_deref()?;
        self.traces.iter().position(|trace| trace.id == selected)
    }

    /// The selected trace; the latest one if none is selected.
    pub fn selected(&self) -> Option<&TraceLine> {
        self.traces.get(self.position().unwrap_or(0))
    }

    fn move_selection(&mut self, by: isize) {
        let next = match self.position() {
            Some(at) => at.saturating_add_signed(by).min(self.traces.len().saturating_sub(1)),
            None => 0,
        };
        self.selected = self.traces.get(next).map(|trace| trace.id.clone());
    }
}

fn version_line(service: &Value, version: &Value, figures: &Value, state: String, rates: Vec<u64>) -> ServiceLine {
    let digest = text(&version["digest"]);
    let digest: String = digest.trim_start_matches("sha256:").chars().take(12).collect();
    let errors = figures["error_rate"].as_f64().unwrap_or_default();
    ServiceLine {
        cells: [
            text(&service["name"]),
            text(&version["version"]),
            version["generation"].to_string(),
            version["in_flight"].to_string(),
            units::rate(figures["rate"].as_f64().unwrap_or_default()),
            units::percent(errors),
            units::milliseconds(figures["p50_ms"].as_f64()),
            units::milliseconds(figures["p99_ms"].as_f64()),
            digest,
        ],
        rates,
        state,
        failing: errors > 0.0,
    }
}

fn trace_line(trace: &Value) -> TraceLine {
    let start = text(&trace["start"]);
    let errors = trace["errors"].as_u64().unwrap_or_default();
    TraceLine {
        // The id becomes part of a URL, so all but hexadecimal digits are removed.
        id: text(&trace["trace_id"]).chars().filter(char::is_ascii_hexdigit).collect(),
        cells: [
            units::clock_of(&start),
            text(&trace["service"]),
            text(&trace["operation"]),
            trace["spans"].to_string(),
            errors.to_string(),
            units::milliseconds(trace["duration_ms"].as_f64()),
        ],
        failed: errors > 0,
    }
}

fn text(value: &Value) -> String {
    printable(value.as_str().unwrap_or("-")).into_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub fn filled() -> TopState {
        let mut state = TopState::new("http://localhost:8010");
        let version = json!({"version": "1.0.0", "generation": 2, "in_flight": 1, "digest": "sha256:abcdef0123456789"});
        let recent = json!({"rate": 12.5, "error_rate": 0.25, "p50_ms": 1.5, "p99_ms": 9.0});
        let services = json!([{"name": "user\u{1b}[2J", "state": "serving", "serving": version, "recent": recent,
            "canary": {"share_percent": 10.0, "version": "1.1.0", "generation": 3, "in_flight": 0}}]);
        let trace = |id: &str, errors: u64| {
            json!({"trace_id": id, "service": "user", "operation": "GET /\u{9b}31m", "spans": 24, "errors": errors,
                "start": "2026-11-25T18:00:00.123Z", "duration_ms": 4.8})
        };
        state.update(&services, &json!([trace("b2", 1), trace("a1", 0)]));
        state
    }

    #[test]
    fn a_canary_has_a_line_of_its_own() {
        let state = filled();
        let states: Vec<_> = state.services.iter().map(|line| line.state.as_str()).collect();
        assert_eq!(states, ["serving", "canary 10 %"]);
        assert!(state.services[0].failing);
    }

    #[test]
    fn a_trace_stays_selected_when_newer_ones_arrive() {
        let mut state = filled();
        state.apply(Action::Down);
        state.apply(Action::Down);
        assert_eq!(state.selected().map(|trace| trace.id.as_str()), Some("a1"));
        let newer = json!([{"trace_id": "c3"}, {"trace_id": "b2"}, {"trace_id": "a1"}]);
        state.update(&json!([]), &newer);
        assert_eq!(state.position(), Some(2));
    }

    #[test]
    fn responses_of_another_shape_are_tolerated() {
        let mut state = TopState::new("");
        state.update(&json!({"x": 1}), &json!([1, null, {}]));
        assert_eq!(state.traces.len(), 3);
        state.apply(Action::Up);
    }
}
