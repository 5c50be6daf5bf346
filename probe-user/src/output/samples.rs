//! `--samples`: every probe, to a file.

use std::collections::BTreeMap;

use log::warn;
use serde::Serialize;

use crate::output::columns::of_samples;
use crate::output::csv::Rows;
use crate::output::file::OutputFile;
use crate::output::jsonl::record;
use crate::output::left_out;
use crate::output::model::hops::Probe;
use crate::output::sink::{Control, OutputError, Sink};

/// A buffered file of `sample` records. If it cannot be written, it ends with a warning, and the run goes on.
pub struct Samples {
    sink: Sink,
    form: Form,
}

enum Form {
    /// JSON lines of this agent.
    Jsonl(String),
    Csv(Rows),
}

impl Samples {
    /// JSON lines of an agent. Truncates the file.
    pub fn new(file: OutputFile, agent: &str) -> Result<Self, OutputError> {
        Ok(Self {
            sink: Sink::new(file, left_out::json(agent))?,
            form: Form::Jsonl(agent.to_owned()),
        })
    }

    /// Rows of an agent. Truncates the file.
    pub fn csv(file: OutputFile, agent: &str) -> Result<Self, OutputError> {
        Ok(Self {
            sink: Sink::new(file, Box::new(left_out::log))?,
            form: Form::Csv(Rows::new(of_samples(), agent)),
        })
    }

    pub fn control(&self) -> Control {
        self.sink.control()
    }

    pub fn add(&mut self, sample: &impl Serialize) {
        let Self { sink, form } = self;
        let added = sink.write("sample", 1, |out| match form {
            Form::Jsonl(agent) => record("sample", agent, sample, out),
            Form::Csv(rows) => rows.row("sample", sample, out),
        });
        warn_of(added);
    }

    /// Adds where a probe spent its time; rows have no columns for it.
    pub fn add_hops(&mut self, probe: &Probe) {
        if let Form::Jsonl(agent) = &self.form {
            let added = self
                .sink
                .write("hop_sample", 1, |out| record("hop_sample", agent, probe, out));
            warn_of(added);
        }
    }

    /// Has the samples of a window written.
    pub fn flush(&mut self) {
        self.sink.flush();
    }

    /// Adds the number of samples that were left out, if there are any.
    pub fn end(&mut self) {
        if !self.sink.left_out().is_empty()
            && let Err(error) = self.sink.write_last(|_| Ok(()))
        {
            warn!("{error}; samples are missing");
        }
    }

    pub fn left_out(&self) -> &BTreeMap<&'static str, u64> {
        self.sink.left_out()
    }

    /// Hands over the output, whose reader has yet to take the rest.
    pub fn into_sink(self) -> Sink {
        self.sink
    }
}

fn warn_of(added: Result<(), OutputError>) {
    if let Err(error) = added {
        warn!("{error}; no more samples are written, and the run goes on");
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use probe_core::observation::Reply;
    use probe_core::session::Outcome;
    use probe_core::stats::report::Path as ProbePath;

    use super::*;
    use crate::output::model::Sample;
    use crate::output::time::Utc;

    fn reply(t3_ns: u64) -> Reply {
        Reply {
            peer: [10, 1, 1, 6].into(),
            ssid: 1,
            seq: 7,
            reflector_seq: 7,
            sent_mono_ns: 1_000,
            received_mono_ns: 1_500,
            t1_ns: 100_000,
            t2_ns: 100_200,
            t3_ns,
            t4_ns: 100_500,
            reflector_error_ns: None,
            own_error_ns: None,
            wrong_z: false,
            clock_set: false,
        }
    }

    fn sample(path: ProbePath, reply: &Reply, outcome: Outcome) -> Sample {
        Sample::new(reply.peer, path, reply.seq, None, Some(reply), outcome)
    }

    fn lost(peer: &str, seq: u32) -> Sample {
        let sent = Utc { unix_ns: 100_000 };
        let peer = peer.parse().unwrap();
        Sample::new(peer, ProbePath::Unicast, seq, Some(sent), None, Outcome::Lost)
    }

    fn open(path: &Path) -> Samples {
        Samples::new(OutputFile::open(Some(path)).unwrap(), "h1:p1").unwrap()
    }

    #[test]
    fn samples_are_lines_of_json() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("samples");
        let mut samples = open(&path);
        let table = [
            (
                sample(ProbePath::Unicast, &reply(100_300), Outcome::Ok),
                r#"{"type":"sample","agent":"h1:p1","peer":"10.1.1.6","path":"unicast","seq":7,"sent_ns":null,"t1_ns":100000,"t2_ns":100200,"t3_ns":100300,"t4_ns":100500,"rtt_ns":400,"residence_ns":100,"state":"ok","reason":null}"#,
            ),
            (
                sample(ProbePath::Group, &reply(100_100), Outcome::Late),
                r#"{"type":"sample","agent":"h1:p1","peer":"10.1.1.6","path":"group","seq":7,"sent_ns":null,"t1_ns":100000,"t2_ns":100200,"t3_ns":100100,"t4_ns":100500,"rtt_ns":null,"residence_ns":null,"state":"late","reason":null}"#,
            ),
            (
                lost("fe80::1", u32::MAX),
                r#"{"type":"sample","agent":"h1:p1","peer":"fe80::1","path":"unicast","seq":4294967295,"sent_ns":100000,"t1_ns":null,"t2_ns":null,"t3_ns":null,"t4_ns":null,"rtt_ns":null,"residence_ns":null,"state":"lost","reason":null}"#,
            ),
        ];
        for (sample, _) in &table {
            samples.add(sample);
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "", "buffered");
        samples.flush();
        drop(samples);
        let expected = table.map(|(_, line)| line);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn samples_are_flushed_when_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("samples");
        let mut samples = open(&path);
        samples.add(&lost("10.1.1.6", 1));
        drop(samples);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
    }

    #[test]
    fn samples_are_rows_below_one_heading() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("samples");
        let mut samples = Samples::csv(OutputFile::open(Some(&path)).unwrap(), "h1:p1").unwrap();
        samples.add(&sample(ProbePath::Unicast, &reply(100_300), Outcome::Ok));
        samples.add(&lost("fe80::1", 9));
        drop(samples);
        let expected = "type,agent,peer,path,seq,sent_ns,t1_ns,t2_ns,t3_ns,t4_ns,rtt_ns,residence_ns,state,reason\n\
                        sample,h1:p1,10.1.1.6,unicast,7,,100000,100200,100300,100500,400,100,ok,\n\
                        sample,h1:p1,fe80::1,unicast,9,100000,,,,,,,lost,\n";
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    }
}
