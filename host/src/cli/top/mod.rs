//! `spandrel top`: services and latest traces of a running host, live in the terminal.
//!
//! It requests the data from the console once per interval and redraws. A separate thread reads the keys, because reads
//! from a terminal block. The terminal is restored on every exit.

mod action;
mod screen;
mod state;

use std::io::IsTerminal;
use std::time::Duration;

use ratatui::DefaultTerminal;
use serde_json::{Value, json};

use self::action::Action;
use self::state::TopState;
use super::arguments::TopArguments;
use super::error::CommandError;
use super::jaeger;
use super::remote::Remote;
use crate::config::Environment;

/// The interval of requests to the console.
const INTERVAL: Duration = Duration::from_secs(1);
/// The number of listed traces.
const TRACES: usize = 50;

/// `spandrel top`. With `--json`, prints its content once.
pub async fn top(arguments: TopArguments, environment: &Environment) -> Result<String, CommandError> {
    let remote = Remote::new(&arguments.target, environment)?;
    if arguments.json {
        let (services, traces) = (remote.get("/admin/v1/services").await?, remote.get(&traces_path(false)).await?);
        return Ok(format!("{:#}\n", json!({ "services": services, "traces": traces })));
    }
    if !std::io::stdout().is_terminal() {
        return Err(CommandError::NoTerminal);
    }
    // The first request comes before the alternate screen, so that an error stays visible.
    let mut state = TopState::new(remote.url());
    refresh(&mut state, &remote).await?;
    let mut terminal = ratatui::try_init()?;
    let ended = watch(&mut terminal, &mut state, &remote).await;
    ratatui::try_restore()?;
    ended.map(|()| String::new())
}

async fn watch(terminal: &mut DefaultTerminal, state: &mut TopState, remote: &Remote) -> Result<(), CommandError> {
    let mut actions = action::listen()?;
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        terminal.draw(|frame| screen::draw(frame, state))?;
        tokio::select! {
            _ = ticks.tick() => {
                if !state.is_paused() {
                    let refreshed = refresh(state, remote).await;
                    state.set_error(refreshed.err().map(|error| error.to_string()));
                }
            }
            action = actions.recv() => match action {
                None | Some(Action::Quit) => return Ok(()),
                Some(Action::Open) => open(state, remote).await,
                Some(Action::ErrorsOnly) => {
                    state.toggle_errors_only();
                    ticks.reset_immediately();
                }
                Some(action) => state.apply(action),
            },
        }
    }
}

fn traces_path(errors_only: bool) -> String {
    let errors = if errors_only { "&errors=true" } else { "" };
    format!("/admin/v1/traces?limit={TRACES}&lookback=all{errors}")
}

async fn refresh(state: &mut TopState, remote: &Remote) -> Result<(), CommandError> {
    let services = remote.get("/admin/v1/services").await?;
    let traces = remote.get(&traces_path(state.errors_only())).await?;
    state.update(&services, &traces);
    Ok(())
}

/// Opens the selected trace, or shows why this failed.
async fn open(state: &mut TopState, remote: &Remote) {
    let Some(id) = state.selected().map(|trace| trace.id.clone()) else { return };
    let answer: Result<Value, _> = remote.get(&format!("/api/traces/{id}")).await;
    match answer.map(|answer| jaeger::trace(&answer)) {
        Ok(Some(trace)) => state.show(trace),
        Ok(None) => state.set_error(Some("the trace has been evicted".to_owned())),
        Err(error) => state.set_error(Some(error.to_string())),
    }
}
