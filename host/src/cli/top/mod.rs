//! `spandrel top`: services and latest traces of a running host, live in the terminal.
//!
//! It asks the console once per interval and redraws. Keys are read on a thread of their own, because a terminal is
//! read by waiting. Whatever way it ends, the terminal is given back as it was.

mod action;
mod screen;
mod state;

use std::io::IsTerminal;
use std::time::Duration;

use ratatui::DefaultTerminal;
use serde_json::{Value, json};

use self::action::Action;
use self::state::State;
use super::arguments::TopArguments;
use super::error::CommandError;
use super::jaeger;
use super::remote::Remote;
use crate::config::Environment;

/// How often the console is asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// Traces that are asked for.
const TRACES: usize = 50;

/// `spandrel top`. With `--json` it prints what it would show, once.
pub async fn top(arguments: TopArguments, environment: &Environment) -> Result<String, CommandError> {
    let remote = Remote::new(&arguments.target, environment)?;
    if arguments.json {
        let (services, traces) = (remote.get("/admin/v1/services").await?, remote.get(&traces_path(false)).await?);
        return Ok(format!("{:#}\n", json!({ "services": services, "traces": traces })));
    }
    if !std::io::stdout().is_terminal() {
        return Err(CommandError::NoTerminal);
    }
    // The first answer comes before the screen is taken: that there is no host is told on the screen as it was.
    let mut state = State::new(remote.url());
    refresh(&mut state, &remote).await?;
    let mut terminal = ratatui::try_init()?;
    let ended = watch(&mut terminal, &mut state, &remote).await;
    ratatui::try_restore()?;
    ended.map(|()| String::new())
}

async fn watch(terminal: &mut DefaultTerminal, state: &mut State, remote: &Remote) -> Result<(), CommandError> {
    let mut actions = action::listen()?;
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        terminal.draw(|frame| screen::draw(frame, state))?;
        tokio::select! {
            _ = ticks.tick() => {
                if !state.is_paused() {
                    let refreshed = refresh(state, remote).await;
                    state.note(refreshed.err().map(|error| error.to_string()));
                }
            }
            action = actions.recv() => match action {
                None | Some(Action::Quit) => return Ok(()),
                Some(Action::Open) => open(state, remote).await,
                Some(Action::ErrorsOnly) => {
                    state.toggle_errors_only();
                    ticks.reset_immediately();
                }
                Some(action) => state.act(action),
            },
        }
    }
}

fn traces_path(errors_only: bool) -> String {
    let errors = if errors_only { "&errors=true" } else { "" };
    format!("/admin/v1/traces?limit={TRACES}&lookback=all{errors}")
}

async fn refresh(state: &mut State, remote: &Remote) -> Result<(), CommandError> {
    let services = remote.get("/admin/v1/services").await?;
    let traces = remote.get(&traces_path(state.errors_only())).await?;
    state.update(&services, &traces);
    Ok(())
}

/// Shows the chosen trace, or why it cannot be shown.
async fn open(state: &mut State, remote: &Remote) {
    let Some(id) = state.chosen().map(|trace| trace.id.clone()) else { return };
    let answer: Result<Value, _> = remote.get(&format!("/api/traces/{id}")).await;
    match answer.map(|answer| jaeger::trace(&answer)) {
        Ok(Some(trace)) => state.show(trace),
        Ok(None) => state.note(Some("the trace is gone".to_owned())),
        Err(error) => state.note(Some(error.to_string())),
    }
}
