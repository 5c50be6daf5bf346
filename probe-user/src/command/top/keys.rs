//! What the keys do: sort, filter, select, freeze.

use std::cmp::Ordering;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::command::top::model::{Key, Model, Row};

/// Longest filter, in characters.
const MAX_FILTER: usize = 40;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    Peer,
    State,
    Loss,
    P50,
    P99,
    Jitter,
}

impl Sort {
    const ALL: [Self; 6] = [Self::Peer, Self::State, Self::Loss, Self::P50, Self::P99, Self::Jitter];

    pub fn word(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::State => "state",
            Self::Loss => "loss",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::Jitter => "jitter",
        }
    }

    fn next(self, step: usize) -> Self {
        let place = Self::ALL.iter().position(|sort| *sort == self).unwrap_or(0);
        Self::ALL[(place + step) % Self::ALL.len()]
    }

    /// The first row comes first, without [`Ui::is_reversed`]: the lowest address, and otherwise the worst.
    fn order(self, model: &Model, one: &Row, other: &Row) -> Ordering {
        let share = |row: &Row| {
            let (resolved, lost) = row.losses();
            lost.total() as f64 / resolved.max(1) as f64
        };
        let worst = match self {
            Self::Peer => Ordering::Equal,
            Self::State => model.state(other).cmp(&model.state(one)),
            Self::Loss => share(other).total_cmp(&share(one)),
            Self::P50 => other.rtt().map(|rtt| rtt.p50).cmp(&one.rtt().map(|rtt| rtt.p50)),
            Self::P99 => other.rtt().map(|rtt| rtt.p99).cmp(&one.rtt().map(|rtt| rtt.p99)),
            Self::Jitter => other.jitter_ns().cmp(&one.jitter_ns()),
        };
        worst.then_with(|| one.key().cmp(&other.key()))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pane {
    Peers,
    Events,
}

#[derive(Debug)]
pub struct Ui {
    pub sort: Sort,
    pub is_reversed: bool,
    pub filter: String,
    /// The filter is being typed.
    pub is_typing: bool,
    pub selected: Option<Key>,
    pub pane: Pane,
    pub shows_detail: bool,
    pub shows_help: bool,
    /// Events above the first one that is shown.
    pub events_above: usize,
    /// The model when the screen was frozen. It is drawn instead of the live one.
    pub frozen: Option<Box<Model>>,
    /// Rows of a page; the view sets it.
    pub page: usize,
}

impl Default for Ui {
    fn default() -> Self {
        Self {
            sort: Sort::Peer,
            is_reversed: false,
            filter: String::new(),
            is_typing: false,
            selected: None,
            pane: Pane::Peers,
            shows_detail: false,
            shows_help: false,
            events_above: 0,
            frozen: None,
            page: 1,
        }
    }
}

impl Ui {
    /// The rows that pass the filter, in order.
    pub fn rows<'a>(&self, model: &'a Model) -> Vec<&'a Row> {
        let filter = self.filter.to_lowercase();
        let passes = |row: &&Row| {
            let name = model.name(row).unwrap_or_default().to_lowercase();
            let texts = [name, row.peer.to_string(), row.path.name().to_owned()];
            filter.is_empty() || texts.iter().any(|text| text.contains(&filter)) || model.state(row).word() == filter
        };
        let mut rows: Vec<_> = model.rows().filter(passes).collect();
        rows.sort_by(|one, other| self.sort.order(model, one, other));
        if self.is_reversed {
            rows.reverse();
        }
        rows
    }

    /// Place of the selected row; the first one if it is not among them.
    pub fn place(&self, rows: &[&Row]) -> usize {
        let place = |key| rows.iter().position(|row| row.key() == key);
        self.selected.and_then(place).unwrap_or(0)
    }

    /// The row that is selected.
    pub fn selected<'a>(&self, model: &'a Model) -> Option<&'a Row> {
        let rows = self.rows(model);
        rows.get(self.place(&rows)).copied()
    }

    /// Handles a key. Returns true if it ends the program.
    pub fn press(&mut self, key: KeyEvent, model: &Model) -> bool {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return key.code == KeyCode::Char('c');
        }
        if self.is_typing {
            self.typed(key.code);
            return false;
        }
        if self.shows_help {
            self.shows_help = false;
            return key.code == KeyCode::Char('q');
        }
        match key.code {
            KeyCode::Char('q') => return true,
            KeyCode::Char('?' | 'h') => self.shows_help = true,
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Char('s' | '>') => self.sort = self.sort.next(1),
            KeyCode::Char('<') => self.sort = self.sort.next(Sort::ALL.len() - 1),
            KeyCode::Char('r') => self.is_reversed = !self.is_reversed,
            KeyCode::Char(' ') => {
                self.frozen = match self.frozen.take() {
                    Some(_) => None,
                    None => Some(Box::new(model.clone())),
                }
            }
            KeyCode::Tab | KeyCode::BackTab => {
                self.pane = match self.pane {
                    Pane::Peers => Pane::Events,
                    Pane::Events => Pane::Peers,
                }
            }
            KeyCode::Enter => self.open(model),
            KeyCode::Esc | KeyCode::Backspace => self.back(),
            code => self.walk(code, model),
        }
        false
    }

    fn typed(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Esc => {
                self.filter.clear();
                self.is_typing = false;
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(character) if !character.is_control() && self.filter.chars().count() < MAX_FILTER => {
                self.filter.push(character);
            }
            _ => {}
        }
    }

    fn open(&mut self, model: &Model) {
        let shown = self.frozen.as_deref().unwrap_or(model);
        let key = self.selected(shown).map(Row::key);
        if let (Some(key), Pane::Peers) = (key, self.pane) {
            self.selected = Some(key);
            self.shows_detail = true;
        }
    }

    fn back(&mut self) {
        if self.shows_detail {
            self.shows_detail = false;
        } else if self.pane == Pane::Events {
            self.pane = Pane::Peers;
        } else {
            self.filter.clear();
        }
    }

    fn walk(&mut self, code: KeyCode, model: &Model) {
        let shown = self.frozen.as_deref().unwrap_or(model);
        let of_events = self.pane == Pane::Events && !self.shows_detail;
        let (place, number, keys) = if of_events {
            (self.events_above, shown.events().len(), Vec::new())
        } else {
            let rows = self.rows(shown);
            (
                self.place(&rows),
                rows.len(),
                rows.iter().map(|row| row.key()).collect(),
            )
        };
        let place = match code {
            KeyCode::Up | KeyCode::Char('k') => place.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => place + 1,
            KeyCode::PageUp => place.saturating_sub(self.page),
            KeyCode::PageDown => place + self.page,
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => usize::MAX,
            _ => return,
        };
        let place = place.min(number.saturating_sub(1));
        if of_events {
            self.events_above = place;
        } else if let Some(key) = keys.get(place) {
            self.selected = Some(*key);
        }
    }
}

#[cfg(test)]
mod tests;
