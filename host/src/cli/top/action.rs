//! Keys of the terminal and what they ask for.

use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

/// How long the thread that reads keys waits before it looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(200);

/// What a key asks for.
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

/// What is asked for by key, until nobody listens.
pub(super) fn listen() -> std::io::Result<mpsc::Receiver<Action>> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
        while !sender.is_closed() {
            let action = match event::poll(LOOK) {
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
        Event::Key(key) if key.kind != KeyEventKind::Release => of_key(*key),
        Event::Resize(..) => Some(Action::Redraw),
        _ => None,
    }
}

fn of_key(key: KeyEvent) -> Option<Action> {
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
    fn a_terminal_can_be_left_by_each_way_that_people_try() {
        let quit = |code, modifiers| action(&Event::Key(KeyEvent::new(code, modifiers)));
        assert_eq!(quit(KeyCode::Char('q'), KeyModifiers::NONE), Some(Action::Quit));
        assert_eq!(quit(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Action::Quit));
        assert_eq!(quit(KeyCode::Char('c'), KeyModifiers::NONE), None);
    }
}
