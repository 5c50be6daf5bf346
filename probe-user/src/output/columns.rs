//! Results, samples and segments as rows: a column for each field, and for each number of a distribution.

use serde_json::{Map, Value, json};

use crate::output::field_lists::{DISTRIBUTION, Field, HOPS, RESULTS, SAMPLE};

/// Prefix of the fields of a segment, in the list of fields.
const OF_PART: &str = "parts[].";
/// Fields of a window that each row of its segments repeats.
const OF_SEGMENTS: [&str; 7] = ["peer", "peer_name", "path", "start", "end", "clock", "clock_bound_ns"];

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

/// Of the segments of windows.
pub fn of_hops() -> Vec<Column> {
    let fields = HOPS.iter().filter_map(|&(name, kind, meaning)| {
        let of_part = name.strip_prefix(OF_PART);
        let name = of_part.or_else(|| OF_SEGMENTS.contains(&name).then_some(name))?;
        Some((name, kind, meaning))
    });
    columns(&[&fields.collect::<Vec<Field>>()])
}

/// The rows of a record `hops`: one for each segment and direction, and one for the delays and losses that are in no segment, if
/// there are any. The losses of all rows add up to those of the window.
pub fn rows_of_hops(record: Value) -> impl Iterator<Item = Value> {
    let mut fields = match record {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    let lost = |name| fields.get(name).and_then(Value::as_u64).unwrap_or(0);
    let lost = lost("lost_late").saturating_add(lost("lost_unknown"));
    let rest_ns = fields.remove("rest_ns").filter(|rest_ns| !rest_ns.is_null());
    let has_rest = rest_ns.is_some() || lost > 0;
    let rest = has_rest.then(|| json!({ "delay_ns": rest_ns, "lost": lost }));
    let parts = match fields.remove("parts") {
        Some(Value::Array(parts)) => parts,
        _ => Vec::new(),
    };
    fields.retain(|name, _| ["type", "agent"].contains(&name.as_str()) || OF_SEGMENTS.contains(&name.as_str()));
    let row = move |part: Value| {
        let mut row = fields.clone();
        if let Value::Object(part) = part {
            row.extend(part);
        }
        Value::Object(row)
    };
    parts.into_iter().chain(rest).map(row)
}

/// Of windows, summaries, samples and segments in one table.
pub fn of_all() -> Vec<Column> {
    let mut all = of_results();
    for column in of_samples().into_iter().chain(of_hops()) {
        if all.iter().all(|known| known.name != column.name) {
            all.push(column);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::fixtures::{hops, near_hops, troubled_hops, unseen_hops};
    use crate::output::jsonl::record_value;
    use crate::output::model::hops::Hops;

    fn rows(hops: &Hops) -> Vec<Value> {
        rows_of_hops(record_value("hops", "h1:p1", hops).unwrap()).collect()
    }

    #[test]
    fn segments_are_rows_whose_losses_add_up() {
        for (hops, segments, without) in [
            (hops(), 12, 0),
            (troubled_hops(), 12, 1),
            (near_hops(), 3, 1),
            (unseen_hops(), 0, 0),
        ] {
            let rows = rows(&hops);
            assert_eq!(rows.len(), segments + without, "{rows:?}");
            let lost = rows.iter().map(|row| row["lost"].as_u64().unwrap()).sum::<u64>();
            assert_eq!(lost, hops.lost);
            assert!(rows[..segments].iter().all(|row| row["segment"].is_string()));
            assert!(rows[segments..].iter().all(|row| row["segment"].is_null()));
            let named = |row: &Value| row["type"] == "hops" && row["agent"] == "h1:p1" && row["peer"] == "10.1.1.6";
            assert!(rows.iter().all(named));
        }
    }

    #[test]
    fn rows_of_segments_fill_their_columns_and_no_others() {
        let names: Vec<String> = of_hops().into_iter().map(|column| column.name).collect();
        let expected = "type agent peer peer_name path start end segment direction delay_ns_min delay_ns_mean delay_ns_p50 \
                        delay_ns_p90 delay_ns_p99 delay_ns_p999 delay_ns_max delay_ns_stddev delay_ns_count lost clock \
                        clock_bound_ns";
        assert_eq!(names.join(" "), expected);
        for row in rows(&troubled_hops()) {
            let filled: Vec<Column> = of_all()
                .into_iter()
                .filter(|column| column.value(&row).is_some())
                .collect();
            assert!(
                filled.iter().all(|column| names.contains(&column.name)),
                "{row}: {filled:?}"
            );
        }
    }
}
