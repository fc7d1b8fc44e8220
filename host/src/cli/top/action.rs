//! The keys of `spandrel top` and their actions.

use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

/// How long the thread that reads keys waits before it checks whether the receiver is closed.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// The action of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Quit,
    Down,
    Up,
    Open,
    Close,
    ErrorsOnly,
    Pause,
    Redraw,
}

/// Starts a thread that reads keys until the returned receiver is dropped.
pub(super) fn listen() -> std::io::Result<mpsc::Receiver<Action>> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
        while !sender.is_closed() {
            let action = match event::poll(POLL_INTERVAL) {
                Ok(false) => continue,
                Ok(true) => event::read().map(|event| action(&event)),
                Err(error) => Err(error),
            };
            match action {
                Ok(Some(action)) if sender.blocking_send(action).is_ok() => {}
                Ok(None) => {}
                _ => return,
            }
        }
    })?;
    Ok(receiver)
}

fn action(event: &Event) -> Option<Action> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => key_action(*key),
        Event::Resize(..) => Some(Action::Redraw),
        _ => None,
    }
}

fn key_action(key: KeyEvent) -> Option<Action> {
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Action::Quit),
        KeyCode::Char('q') => Some(Action::Quit),
        KeyCode::Char('j') | KeyCode::Down => Some(Action::Down),
        KeyCode::Char('k') | KeyCode::Up => Some(Action::Up),
        KeyCode::Enter => Some(Action::Open),
        KeyCode::Esc | KeyCode::Backspace => Some(Action::Close),
        KeyCode::Char('e') => Some(Action::ErrorsOnly),
        KeyCode::Char('p') | KeyCode::Char(' ') => Some(Action::Pause),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_and_ctrl_c_quit() {
        let quit = |code, modifiers| action(&Event::Key(KeyEvent::new(code, modifiers)));
        assert_eq!(quit(KeyCode::Char('q'), KeyModifiers::NONE), Some(Action::Quit));
        assert_eq!(quit(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Action::Quit));
        assert_eq!(quit(KeyCode::Char('c'), KeyModifiers::NONE), None);
    }
}
