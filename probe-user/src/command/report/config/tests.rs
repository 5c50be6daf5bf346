use super::*;
use crate::command::{Command, read};

fn report(line: &str) -> ReportConfig {
    match read(&format!("report {line}")) {
        Ok(Command::Report(config)) => config,
        other => panic!("{line}: {other:?}"),
    }
}

fn input(path: Option<&str>, agent: Option<&str>) -> Input {
    Input {
        path: path.map(PathBuf::from),
        agent: agent.map(str::to_owned),
    }
}

#[test]
fn each_flag_has_an_effect() {
    let config = report("a b - -o page --agent a=h1:p1");
    let files = [
        input(Some("a"), Some("h1:p1")),
        input(Some("b"), None),
        input(None, None),
    ];
    assert_eq!(config.files, files);
    assert_eq!(config.output, Some(Some("page".into())));
    assert_eq!(
        (config.format, config.samples, config.hops, config.parquet),
        (ReportFormat::Html, None, None, None)
    );
    let config = report("a --format csv --samples s --hops h --parquet p");
    assert_eq!((config.format, config.output), (ReportFormat::Csv, None));
    assert_eq!(
        (config.samples, config.hops, config.parquet),
        (Some("s".into()), Some("h".into()), Some("p".into()))
    );
    assert_eq!(report("x=y --agent x=y=n").files, [input(Some("x=y"), Some("n"))]);
    assert_eq!(report("a --output - --parquet p").output, Some(None));
}

#[test]
fn each_bad_line_has_its_message() {
    let table = [
        ("", "<FILE>"),
        ("a a", "FILE a is given twice"),
        ("- -", "FILE - is given twice"),
        ("a -o p --parquet p", "--parquet and --output name the same file"),
        (
            "a --samples p --parquet p",
            "--parquet and --samples name the same file",
        ),
        ("a --hops s --samples s", "--hops and --samples name the same file"),
        ("a --parquet p --hops p", "--parquet and --hops name the same file"),
        ("a --hops -", "--hops needs a file of its own"),
        ("a --parquet -", "--parquet needs a file of its own"),
        ("a --agent a", "--agent 'a' has no '='; write FILE=NAME"),
        ("a --agent b=n", "--agent 'b=n': b is not among the files to read"),
        ("a --agent a=", "--agent \"\" cannot be shown by peers"),
    ];
    for (line, expected) in table {
        let error = read(&format!("report {line}")).unwrap_err();
        assert!(error.contains(expected), "{line}: {error}");
    }
}
