//! Subjects, buckets and streams of the fleet.

use probe_hub::hub::stores::Limits;
use probe_hub::subjects::table::{Kept, rows};

use crate::reference::markdown::{GENERATED, table};

pub(super) fn page() -> String {
    let mut page = format!(
        "{GENERATED}\n\n# Subjects of the fleet\n\nWhat agents, hubs and readers tell each other through NATS. `HOST` is the name under \
         which a host is enrolled, and `PORT` its interface. In that, a character other than a letter, a digit, `-` and `_` is \
         written as `=` and two hexadecimal digits.\n\n"
    );
    let rows = rows().into_iter().map(|row| {
        [
            format!("`{}`", row.subject),
            row.what.to_owned(),
            row.writer.to_owned(),
            row.reader.to_owned(),
            kept(row.kept),
        ]
    });
    table(
        ["Subject", "What", "Who writes", "Who reads", "What is kept"],
        rows,
        &mut page,
    );
    page
}

fn kept(kept: Kept) -> String {
    match kept {
        Kept::No => "nothing".to_owned(),
        Kept::Newest(bucket) => format!("the newest, in bucket `{bucket}`"),
        Kept::Stream(results) => {
            let hours = Limits::default().of(results).age.as_secs() / 3600;
            let stream = results.stream;
            match hours {
                72.. => format!("{} days, in stream `{stream}`, within `--store-size`", hours / 24),
                _ => format!("{hours} hours, in stream `{stream}`, within `--store-size`"),
            }
        }
    }
}
