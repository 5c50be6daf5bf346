//! Apache Parquet: windows, summaries, samples and segments in one table, for analysts.

use std::fs::File;
use std::sync::Arc;

use parquet::basic::{LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type;
use serde_json::Value;

use crate::output::columns::{Column, Kind, of_all};
use crate::output::time::Utc;

/// Rows that wait in memory, and become a row group.
const GROUP: usize = 1 << 15;

/// The values of a column, without those that are null, and for each row whether it has one.
#[derive(Default)]
struct Cells {
    texts: Vec<ByteArray>,
    integers: Vec<i64>,
    present: Vec<i16>,
}

pub struct Table {
    columns: Vec<(Column, Cells)>,
    rows: usize,
    group: usize,
    writer: SerializedFileWriter<File>,
}

impl Table {
    pub fn new(file: File) -> Result<Self> {
        Self::with_group(file, GROUP)
    }

    fn with_group(file: File, group: usize) -> Result<Self> {
        let columns = of_all();
        let fields = columns.iter().map(field).collect::<Result<_>>()?;
        let schema = Type::group_type_builder("records").with_fields(fields).build()?;
        let properties = WriterProperties::builder().set_created_by(format!("kstamp {}", env!("CARGO_PKG_VERSION")));
        Ok(Self {
            columns: columns.into_iter().map(|column| (column, Cells::default())).collect(),
            rows: 0,
            group,
            writer: SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties.build()))?,
        })
    }

    /// Adds a record in JSON. A value of another type than the column's is an error.
    pub fn add(&mut self, record: &Value) -> Result<()> {
        for (column, cells) in &mut self.columns {
            let value = column.value(record);
            cells.present.push(i16::from(value.is_some()));
            let Some(value) = value else { continue };
            match column.kind {
                Kind::Text => cells.texts.push(text(value)),
                Kind::Integer => cells.integers.push(integer(value).ok_or_else(|| wrong(column, value))?),
                Kind::Time => cells.integers.push(time(value).ok_or_else(|| wrong(column, value))?),
            }
        }
        self.rows += 1;
        match self.rows.is_multiple_of(self.group) {
            true => self.write_group(),
            false => Ok(()),
        }
    }

    fn write_group(&mut self) -> Result<()> {
        let mut group = self.writer.next_row_group()?;
        for (_, cells) in &mut self.columns {
            write_column(&mut group, &std::mem::take(cells))?;
        }
        group.close().map(drop)
    }

    /// Writes the rest; without it, the file cannot be read.
    pub fn end(mut self) -> Result<()> {
        if !self.rows.is_multiple_of(self.group) {
            self.write_group()?;
        }
        self.writer.close().map(drop)
    }
}

fn field(column: &Column) -> Result<Arc<Type>> {
    let (physical, logical) = match column.kind {
        Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Kind::Integer => (Physical::INT64, None),
        Kind::Time => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::NANOS))),
    };
    let field = Type::primitive_type_builder(&column.name, physical).with_repetition(Repetition::OPTIONAL);
    field.with_logical_type(logical).build().map(Arc::new)
}

fn write_column(group: &mut SerializedRowGroupWriter<'_, File>, cells: &Cells) -> Result<()> {
    let missing = || ParquetError::General("a column without a writer".to_owned());
    let mut column = group.next_column()?.ok_or_else(missing)?;
    let present = Some(cells.present.as_slice());
    match column.untyped() {
        ColumnWriter::ByteArrayColumnWriter(writer) => writer.write_batch(&cells.texts, present, None)?,
        ColumnWriter::Int64ColumnWriter(writer) => writer.write_batch(&cells.integers, present, None)?,
        _ => return Err(missing()),
    };
    column.close()
}

fn text(value: &Value) -> ByteArray {
    match value {
        Value::String(text) => text.as_str().into(),
        other => other.to_string().as_str().into(),
    }
}

/// A larger value than the table can hold becomes the largest one.
fn integer(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_u64().map(|_| i64::MAX))
}

fn time(value: &Value) -> Option<i64> {
    let time: Utc = serde_json::from_value(value.clone()).ok()?;
    i64::try_from(time.unix_ns).ok()
}

fn wrong(column: &Column, value: &Value) -> ParquetError {
    ParquetError::General(format!("{value} is no value of column {}", column.name))
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use parquet::record::Field;

    use super::*;
    use crate::output::fixtures::{good, silent};
    use crate::output::jsonl::record_value;

    fn written(records: &[Value]) -> SerializedFileReader<File> {
        let file = tempfile::tempfile().unwrap();
        let mut table = Table::with_group(file.try_clone().unwrap(), 64).unwrap();
        records.iter().for_each(|record| table.add(record).unwrap());
        table.end().unwrap();
        SerializedFileReader::new(file).unwrap()
    }

    #[test]
    fn values_are_read_back_with_their_types() {
        let [one, other] = [good(), silent()].map(|results| record_value("window", "h1:p1", &results).unwrap());
        let sample = serde_json::json!({"type": "sample", "agent": "h1:p1", "seq": 7, "rtt_ns": 400, "state": "ok"});
        let reader = written(&[one, other, sample]);
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(|row| row.unwrap()).collect();
        let value = |row: usize, name: &str| {
            let fields: Vec<_> = rows[row]
                .get_column_iter()
                .map(|(name, field)| (name.clone(), field.clone()))
                .collect();
            fields
                .into_iter()
                .find(|(field, _)| field == name)
                .map(|(_, field)| field)
        };
        assert_eq!(value(0, "agent"), Some(Field::Str("h1:p1".to_owned())));
        assert_eq!(value(0, "rtt_ns_p50"), Some(Field::Long(161_400)));
        const START_NS: i64 = 1_795_255_838_000_000_000;
        let start = value(0, "start");
        let times = [Field::Long(START_NS), Field::TimestampMicros(START_NS / 1_000)];
        assert!(times.map(Some).contains(&start), "{start:?}");
        assert_eq!(
            value(0, "rtt_ns"),
            Some(Field::Null),
            "a distribution has columns of its own"
        );
        assert_eq!(value(1, "rtt_ns_p50"), Some(Field::Null));
        assert_eq!(value(2, "seq"), Some(Field::Long(7)));
        assert_eq!(value(2, "rtt_ns"), Some(Field::Long(400)));
        assert_eq!(value(2, "sent"), Some(Field::Null));
    }

    #[test]
    fn many_rows_are_written_in_groups() {
        let sample = serde_json::json!({"type": "sample", "agent": "a", "t1_ns": u64::MAX});
        for (number, groups) in [(0, 0), (64, 1), (65, 2)] {
            let reader = written(&vec![sample.clone(); number]);
            assert_eq!(
                (reader.num_row_groups(), reader.metadata().file_metadata().num_rows()),
                (groups, number as i64)
            );
        }
    }

    #[test]
    fn a_value_of_another_type_is_refused() {
        let mut table = Table::new(tempfile::tempfile().unwrap()).unwrap();
        for (record, expected) in [
            (serde_json::json!({"seq": "x"}), "\"x\" is no value of column seq"),
            (serde_json::json!({"start": 7}), "7 is no value of column start"),
        ] {
            let error = table.add(&record).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
