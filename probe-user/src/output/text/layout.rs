//! How a table fits: what it leaves out where the terminal is narrow. Nothing is ever broken over two lines.

use std::io::{self, Write};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Before a name gets narrower than this, a column gives way.
const NAME_COLUMNS: usize = 8;
/// Blanks between two columns.
const GAP: usize = 2;

/// Who a row is of.
pub(in crate::output) struct Who {
    /// Empty in a row of the same peer as the row before.
    pub(in crate::output) address: String,
    pub(in crate::output) name: Option<String>,
}

/// A column right of that.
pub(in crate::output) struct Column {
    /// What it is a statistic of: part of the heading of the leftmost such column.
    pub(in crate::output) of: &'static str,
    pub(in crate::output) heading: &'static str,
    pub(in crate::output) numbers: bool,
    /// Of two columns, the one with the higher number goes first; one with 0 stays.
    pub(in crate::output) gives_way: u8,
    pub(in crate::output) cells: Vec<String>,
}

/// A table, such as one with a row per peer and path.
pub(in crate::output) struct Grid {
    /// Heading of who the rows are of.
    pub(in crate::output) heading: &'static str,
    pub(in crate::output) who: Vec<Who>,
    pub(in crate::output) columns: Vec<Column>,
}

impl Grid {
    /// Writes it, not wider than `columns` if that can be.
    pub(in crate::output) fn write(mut self, columns: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
        let room = match columns {
            Some(columns) => self.make_room(columns),
            None => usize::MAX,
        };
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled);
        let headings = self.headings();
        table.set_header(std::iter::once(self.heading.to_owned()).chain(headings));
        for (row, who) in self.who.iter().enumerate() {
            let cells = self.columns.iter().map(|column| column.cells[row].clone());
            table.add_row(std::iter::once(who.within(room)).chain(cells));
        }
        for (written, column) in table.column_iter_mut().skip(1).zip(&self.columns) {
            if column.numbers {
                written.set_cell_alignment(CellAlignment::Right);
            }
        }
        writeln!(out, "{}", table.trim_fmt())
    }

    /// Removes columns until the rest fits, and gives what is left for the peers.
    fn make_room(&mut self, columns: usize) -> usize {
        let least = self.who.iter().map(Who::least).max().unwrap_or(0);
        loop {
            let room = columns.saturating_sub(self.width());
            let next = self
                .columns
                .iter()
                .enumerate()
                .max_by_key(|(_, column)| column.gives_way);
            match next {
                Some((place, column)) if room < least && column.gives_way > 0 => self.columns.remove(place),
                _ => return room,
            };
        }
    }

    /// Of all but the peers.
    fn width(&self) -> usize {
        let width = |(column, heading): (&Column, String)| {
            let cells = column.cells.iter().map(|cell| cell.width());
            GAP + cells.chain([heading.width()]).max().unwrap_or(0)
        };
        // Each line begins with a blank.
        1 + self.columns.iter().zip(self.headings()).map(width).sum::<usize>()
    }

    fn headings(&self) -> Vec<String> {
        let mut before = "";
        let heading = |column: &Column| {
            let begins = column.of != std::mem::replace(&mut before, column.of);
            if begins && !column.of.is_empty() {
                format!("{} {}", column.of, column.heading)
            } else {
                column.heading.to_owned()
            }
        };
        self.columns.iter().map(heading).collect()
    }
}

impl Who {
    /// The width that it should have.
    fn least(&self) -> usize {
        let name = self.name.as_ref().map_or(0, |name| 1 + name.width().min(NAME_COLUMNS));
        self.address.width() + name
    }

    /// The address, and as much of the name as there is room for.
    fn within(&self, room: usize) -> String {
        let Some(name) = &self.name else {
            return self.address.clone();
        };
        match room.saturating_sub(self.address.width() + 1) {
            0 | 1 => self.address.clone(),
            room => format!("{} {}", self.address, cut(name, room)),
        }
    }
}

/// A text that is not wider than `room`.
fn cut(text: &str, room: usize) -> String {
    if text.width() <= room {
        return text.to_owned();
    }
    let mut used = 1;
    let fits = |character: &char| {
        used += character.width().unwrap_or(0);
        used <= room
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

#[cfg(test)]
mod tests;
