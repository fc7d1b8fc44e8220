//! Draws `spandrel top`.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState};

use super::state::{ServiceLine, TopState, TraceLine};
use crate::cli::waterfall;

const DIM: Style = Style::new().fg(Color::DarkGray);
const HEADER: Style = Style::new().fg(Color::Cyan).add_modifier(Modifier::BOLD);
const ERROR: Style = Style::new().fg(Color::Red);
/// The columns of the services: header, width, and the smallest width of the screen at which the column is shown.
const COLUMNS: [(&str, u16, u16); 11] = [
    ("SERVICE", 20, 0),
    ("VERSION", 9, 99),
    ("GEN", 5, 89),
    ("IN FLIGHT", 9, 83),
    ("RATE/S", 9, 0),
    ("ERRORS", 9, 0),
    ("P50", 9, 0),
    ("P99", 9, 0),
    ("DIGEST", 12, 112),
    ("STATE", 12, 0),
    ("LAST MINUTES", 24, 137),
];
/// The smallest width of the screen at which the bars of spans are shown.
const MIN_WIDTH_FOR_BARS: u16 = 120;
/// The characters of a sparkline, from the lowest to the highest.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws the whole screen.
pub(super) fn draw(frame: &mut Frame<'_>, state: &TopState) {
    let services = u16::try_from(state.services.len()).unwrap_or(u16::MAX).saturating_add(2);
    let most = frame.area().height / 2;
    let parts =
        [Constraint::Length(1), Constraint::Length(services.min(most)), Constraint::Min(3), Constraint::Length(1)];
    let [title, above, below, foot] = Layout::vertical(parts).areas(frame.area());
    frame.render_widget(header(state), title);
    draw_services(frame, above, &state.services);
    match &state.open {
        Some((trace, top)) => draw_trace(frame, below, trace, *top),
        None => draw_traces(frame, below, state),
    }
    frame.render_widget(keys(state), foot);
}

fn header(state: &TopState) -> Paragraph<'_> {
    let mut line = vec![Span::styled("spandrel ", HEADER), Span::raw(&state.url)];
    if state.is_paused() {
        line.push(Span::styled("  paused", Style::new().fg(Color::Yellow)));
    }
    if state.errors_only() {
        line.push(Span::styled("  errors only", ERROR));
    }
    if let Some(error) = &state.error {
        line.push(Span::styled(format!("  {error}"), ERROR));
    }
    Paragraph::new(Line::from(line))
}

fn keys(state: &TopState) -> Paragraph<'static> {
    let keys = match state.open {
        Some(_) => "↑↓ scroll  Esc back  q quit",
        None => "↑↓ select  Enter open  e errors only  p pause  q quit",
    };
    Paragraph::new(keys).style(DIM)
}

fn draw_services(frame: &mut Frame<'_>, area: Rect, services: &[ServiceLine]) {
    let is_shown = |from: u16| area.width >= from;
    let shown = COLUMNS.iter().filter(|(.., from)| is_shown(*from));
    let (headers, widths): (Vec<_>, Vec<_>) = shown.map(|(head, width, _)| (*head, Constraint::Length(*width))).unzip();
    let rows = services.iter().map(|service| {
        let cells = service.cells.iter().map(|cell| Cell::from(cell.as_str()));
        let style = if service.failing { ERROR } else { Style::new() };
        let more = [Cell::from(service.state.as_str()), Cell::from(sparkline(&service.rates)).style(DIM)];
        let shown = cells.chain(more).zip(COLUMNS).filter(|(_, (.., from))| is_shown(*from));
        Row::new(shown.map(|(cell, _)| cell)).style(style)
    });
    frame.render_widget(Table::new(rows, widths).header(Row::new(headers).style(HEADER)), area);
}

fn sparkline(rates: &[u64]) -> String {
    let most = rates.iter().copied().max().unwrap_or(0).max(1);
    let bar = |rate: &u64| if *rate == 0 { ' ' } else { BARS[(rate * 7 / most) as usize % BARS.len()] };
    rates.iter().map(bar).collect()
}

fn draw_traces(frame: &mut Frame<'_>, area: Rect, state: &TopState) {
    let headers = ["WHEN (UTC)", "SERVICE", "OPERATION", "SPANS", "ERRORS", "DURATION"];
    let widths = [
        Constraint::Length(13),
        Constraint::Length(20),
        Constraint::Min(20),
        Constraint::Length(6),
        Constraint::Length(7),
        Constraint::Length(10),
    ];
    let rows = state.traces.iter().map(|TraceLine { cells, failed, .. }| {
        Row::new(cells.iter().map(String::as_str)).style(if *failed { ERROR } else { Style::new() })
    });
    let table = Table::new(rows, widths).header(Row::new(headers).style(HEADER));
    let table = table.row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut at = TableState::new().with_selected(state.position());
    frame.render_stateful_widget(table, area, &mut at);
}

fn draw_trace(frame: &mut Frame<'_>, area: Rect, trace: &crate::console::TraceModel, top: usize) {
    let mut lines = vec![Line::styled(waterfall::head(trace), HEADER)];
    lines.extend(waterfall::lines(trace).into_iter().skip(top).map(|line| {
        let style = if line.failed { ERROR } else { Style::new() };
        let bar = if area.width >= MIN_WIDTH_FOR_BARS { format!("{} ", line.bar) } else { String::new() };
        Line::styled(format!("{} {bar}{:>9}  {}", line.label, line.took, line.detail), style)
    }));
    frame.render_widget(Paragraph::new(lines).alignment(Alignment::Left), area);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::cli::top::state::tests::filled;
    use crate::console::sample::{span, trace};

    fn shown(state: &TopState) -> String {
        let mut terminal = Terminal::new(TestBackend::new(150, 20)).unwrap();
        terminal.draw(|frame| draw(frame, state)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn services_and_traces_are_shown_without_control_characters() {
        let screen = shown(&filled());
        for words in ["12.5", "25.0 %", "1.50 ms", "canary 10 %", "18:00:00.123", "4.80 ms", "GET /", "abcdef012345"] {
            assert!(screen.contains(words), "{words} is not in\n{screen}");
        }
        assert!(!screen.contains(['\u{1b}', '\u{9b}']));
    }

    #[test]
    fn an_open_trace_is_shown_as_a_tree() {
        let mut state = filled();
        state.show(trace(vec![span(1, 0, "user", "root", 0, 9), span(2, 1, "user", "inner", 1, 2)]));
        let screen = shown(&state);
        assert!(screen.contains("user    inner") && screen.contains("2 spans in 1 service"), "{screen}");
    }

    #[test]
    fn a_narrow_screen_omits_less_important_columns() {
        let draw = |state: &TopState| {
            let mut terminal = Terminal::new(TestBackend::new(80, 20)).unwrap();
            terminal.draw(|frame| draw(frame, state)).unwrap();
            terminal.backend().to_string()
        };
        let mut state = filled();
        let screen = draw(&state);
        for words in ["RATE/S", "ERRORS", "P99", "STATE", "12.5", "25.0 %", "canary 10 %"] {
            assert!(screen.contains(words), "{words} is not in\n{screen}");
        }
        assert!(!screen.contains("DIGEST") && !screen.contains("LAST"), "{screen}");
        state.show(trace(vec![span(1, 0, "user", "root", 0, 9)]));
        let screen = draw(&state);
        assert!(screen.contains("9.00 ms") && !screen.contains('━'), "{screen}");
    }

    #[test]
    fn a_tiny_terminal_does_not_cause_a_panic() {
        let mut terminal = Terminal::new(TestBackend::new(3, 1)).unwrap();
        terminal.draw(|frame| draw(frame, &filled())).unwrap();
    }
}
