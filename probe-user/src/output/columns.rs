//! Results and samples as rows: a column for each field, and for each number of a distribution.

use serde_json::Value;

use crate::output::field_lists::{DISTRIBUTION, Field, RESULTS, SAMPLE};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Integer,
    /// RFC 3339.
    Time,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// As in JSON, with `_` in place of dots: `attach_egress`, `rtt_ns_p50`.
    pub name: String,
    pub kind: Kind,
    /// Of the field, as in RFC 6901.
    pointer: String,
}

impl Column {
    fn new(name: &str, kind: Kind) -> Self {
        Self {
            name: name.replace('.', "_"),
            kind,
            pointer: format!("/{}", name.replace('.', "/")),
        }
    }

    /// The value in a record; `None` if it is null or absent, or a distribution, which has columns of its own.
    pub fn value<'a>(&self, record: &'a Value) -> Option<&'a Value> {
        let is_value = |value: &&Value| !value.is_null() && (self.kind == Kind::Text || !value.is_object());
        record.pointer(&self.pointer).filter(is_value)
    }
}

fn columns(lists: &[&[Field]]) -> Vec<Column> {
    let mut columns = ["type", "agent"].map(|name| Column::new(name, Kind::Text)).to_vec();
    for (name, kind, _) in lists.iter().copied().flatten() {
        match kind.trim_end_matches('?') {
            "distribution" => {
                let parts = DISTRIBUTION.iter().map(|(part, ..)| format!("{name}.{part}"));
                columns.extend(parts.map(|name| Column::new(&name, Kind::Integer)));
            }
            "time" => columns.push(Column::new(name, Kind::Time)),
            "integer" | "ns" | "ppb" => columns.push(Column::new(name, Kind::Integer)),
            _ => columns.push(Column::new(name, Kind::Text)),
        }
    }
    columns
}

/// Of windows and summaries.
pub fn of_results() -> Vec<Column> {
    columns(RESULTS)
}

pub fn of_samples() -> Vec<Column> {
    columns(&[SAMPLE])
}

/// Of windows, summaries and samples in one table.
pub fn of_all() -> Vec<Column> {
    let mut all = of_results();
    for column in of_samples() {
        if all.iter().all(|known| known.name != column.name) {
            all.push(column);
        }
    }
    all
}
