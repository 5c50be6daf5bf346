//! Comma-separated values (RFC 4180): a row for each window, summary, sample or segment.

use std::io::{self, Write};

use csv::WriterBuilder;
use probe_core::text::plain;
use serde::Serialize;
use serde_json::Value;

use crate::output::columns::{Column, of_results};
use crate::output::jsonl::record_value;
use crate::output::model::{Event, Exporter};

/// Writes rows with the same columns.
pub struct Rows {
    columns: Vec<Column>,
    agent: String,
    has_headings: bool,
}

impl Rows {
    /// Rows of an agent.
    pub fn new(columns: Vec<Column>, agent: &str) -> Self {
        Self {
            columns,
            agent: agent.to_owned(),
            has_headings: false,
        }
    }

    /// The names of the columns, once.
    pub fn headings(&mut self, out: &mut dyn Write) -> io::Result<()> {
        match std::mem::replace(&mut self.has_headings, true) {
            true => Ok(()),
            false => line(self.columns.iter().map(|column| column.name.clone()), out),
        }
    }

    /// A row of a record's fields; `kind` is its type.
    pub fn row(&mut self, kind: &'static str, fields: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
        let record = record_value(kind, &self.agent, fields)?;
        self.add(&record, out)
    }

    /// A row of a record in JSON.
    pub fn add(&mut self, record: &Value, out: &mut dyn Write) -> io::Result<()> {
        self.headings(out)?;
        line(self.columns.iter().map(|column| cell(column.value(record))), out)
    }
}

fn line(cells: impl Iterator<Item = String>, out: &mut dyn Write) -> io::Result<()> {
    let mut writer = WriterBuilder::new().buffer_capacity(1 << 10).from_writer(out);
    writer.write_record(cells)?;
    writer.flush()
}

/// Empty without a value.
fn cell(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => safe(text),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

/// A text that another host may have chosen: no control of a terminal, and no formula of a spreadsheet.
fn safe(text: &str) -> String {
    let text = plain(text, usize::MAX);
    match text.starts_with(['=', '+', '-', '@']) {
        true => format!("'{text}"),
        false => text,
    }
}

/// Windows and summaries of an agent.
pub struct Csv(Rows);

impl Csv {
    pub fn new(agent: &str) -> Self {
        Self(Rows::new(of_results(), agent))
    }
}

impl Exporter for Csv {
    fn export(&mut self, event: &Event, out: &mut dyn Write) -> io::Result<()> {
        let (kind, results) = match event {
            Event::Start(_) => return self.0.headings(out),
            Event::Windows(windows) => ("window", &windows.results),
            Event::End(end) => ("summary", &end.results),
            _ => return Ok(()),
        };
        results.iter().try_for_each(|results| self.0.row(kind, results, out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::columns::{Kind, of_all, of_samples};
    use crate::output::fixtures::{end, exported, good, start, troubled, windows};
    use crate::output::model::Results;

    #[test]
    fn texts_of_others_are_no_formulas_and_no_controls() {
        for (text, want) in [
            ("h1:p1", "h1:p1"),
            ("=HYPERLINK(0)", "'=HYPERLINK(0)"),
            ("@x", "'@x"),
            ("-1+1", "'-1+1"),
            ("a\u{1b}[2J\nb", "a\u{fffd}[2J\u{fffd}b"),
        ] {
            assert_eq!(cell(Some(&text.into())), want);
        }
        assert_eq!(cell(Some(&(-5).into())), "-5");
    }

    #[test]
    fn each_window_and_summary_is_a_row_below_one_heading() {
        let named = Results {
            peer_name: Some("a \"b\", c".to_owned()),
            ..good()
        };
        let events = [
            Event::Start(start()),
            Event::Windows(windows(vec![named, troubled()])),
            Event::End(end(vec![good()], [("collected", 1)])),
        ];
        let text = exported(Csv::new("h1:p1"), events);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[0].starts_with("type,agent,peer,peer_name,moved_from,family,path,method,engine,attach_egress,"));
        assert!(lines[0].contains(",rtt_ns_min,rtt_ns_mean,rtt_ns_p50,"));
        assert!(
            lines[1].starts_with("window,h1:p1,10.1.1.6,\"a \"\"b\"\", c\",,v4,unicast,stamp,ebpf,tc,"),
            "{}",
            lines[1]
        );
        assert!(
            lines[2].contains(r#","{""forbidden"":3,""no-carrier"":7}","#),
            "{}",
            lines[2]
        );
        assert!(lines[3].starts_with("summary,h1:p1,"));
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let headings = reader.headers().unwrap().clone();
        let place = headings.iter().position(|heading| heading == "rtt_ns_p50").unwrap();
        let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
        assert_eq!(&rows[0][place], "161400");
        assert_eq!(&rows[0][3], "a \"b\", c");
    }

    #[test]
    fn every_column_has_a_name_of_its_own_and_every_field_a_column() {
        let all = of_all();
        let mut names: Vec<_> = all.iter().map(|column| column.name.as_str()).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
        assert!(
            names
                .iter()
                .all(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
        );
        let record = record_value("window", "a", &troubled()).unwrap();
        let present = |column: &&Column| column.value(&record).is_some();
        assert!(of_results().iter().filter(present).count() > 40);
        let kind = |name: &str| all.iter().find(|column| column.name == name).map(|column| column.kind);
        assert_eq!(kind("start"), Some(Kind::Time));
        assert_eq!(kind("t1_ns"), Some(Kind::Integer));
        assert_eq!(kind("clock"), Some(Kind::Text));
        assert_eq!(of_samples()[4].name, "seq");
    }
}
