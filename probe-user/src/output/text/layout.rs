//! Fits a table into a terminal: columns are removed, names are cut, nothing wraps.

use std::io::{self, Write};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// A column is removed before a name gets narrower than this.
const NAME_COLUMNS: usize = 8;
/// Spaces between two columns.
const GAP: usize = 2;

/// The first cell of a row.
pub struct Who {
    /// Empty if it is that of the row before.
    pub address: String,
    pub name: Option<String>,
}

pub struct Column {
    /// The quantity that it is a statistic of; written before the heading of the leftmost such column.
    pub of: &'static str,
    pub heading: &'static str,
    pub numbers: bool,
    /// The column with the highest number is removed first; 0 is never removed.
    pub gives_way: u8,
    pub cells: Vec<String>,
}

pub struct Grid {
    /// Of the first column.
    pub heading: &'static str,
    pub who: Vec<Who>,
    pub columns: Vec<Column>,
}

impl Grid {
    /// Writes it, not wider than `columns` if possible.
    pub fn write(mut self, columns: Option<usize>, out: &mut dyn Write) -> io::Result<()> {
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

    /// Removes columns until the rest fits; returns the width left for the first column.
    fn make_room(&mut self, columns: usize) -> usize {
        let min_width = self.who.iter().map(Who::min_width).max().unwrap_or(0);
        loop {
            let room = columns.saturating_sub(self.width());
            let next = self
                .columns
                .iter()
                .enumerate()
                .max_by_key(|(_, column)| column.gives_way);
            match next {
                Some((place, column)) if room < min_width && column.gives_way > 0 => self.columns.remove(place),
                _ => return room,
            };
        }
    }

    /// Without the first column.
    fn width(&self) -> usize {
        let width = |(column, heading): (&Column, String)| {
            let cells = column.cells.iter().map(|cell| cell.width());
            GAP + cells.chain([heading.width()]).max().unwrap_or(0)
        };
        // Each line begins with a space.
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
    fn min_width(&self) -> usize {
        let name = self.name.as_ref().map_or(0, |name| 1 + name.width().min(NAME_COLUMNS));
        self.address.width() + name
    }

    /// The address, and as much of the name as fits.
    fn within(&self, room: usize) -> String {
        let Some(name) = &self.name else {
            return self.address.clone();
        };
        match room.saturating_sub(self.address.width() + 1) {
            0 | 1 => self.address.clone(),
            room => format!("{} {}", self.address, cut(name, room, '…')),
        }
    }
}

/// The start of a text, and a sign if there is more.
pub fn cut(text: &str, room: usize, sign: char) -> String {
    if text.width() <= room {
        return text.to_owned();
    }
    let mut used = 1;
    let fits = |character: &char| {
        used += character.width().unwrap_or(0);
        used <= room
    };
    text.chars()
        .take_while(fits)
        .chain((room > 0).then_some(sign))
        .collect()
}

#[cfg(test)]
mod tests;
