//! How kstamp behaves as a process: its outputs, its signals, its limits.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use support::{FAR_V4, KSTAMP, Pair, command, count};

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

/// A pipe without a reader.
fn closed() -> io::PipeWriter {
    io::pipe().unwrap().1
}

/// A pipe that takes nothing until somebody reads.
fn filled() -> (io::PipeReader, io::PipeWriter) {
    let (reader, mut writer) = io::pipe().unwrap();
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    while writer.write(&[b'\n'; 4096]).is_ok() {}
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    (reader, writer)
}

fn lines(text: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn of_type<'a>(records: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    records.iter().filter(move |record| record["type"] == kind)
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// `kstamp ARGUMENTS…` in a namespace.
/// Catches SIGHUP even if these tests run under `nohup`.
const HANGUP: &str = "env --default-signal=HUP";

fn kstamp(namespace: &str, arguments: &str) -> Command {
    command(&format!("ip netns exec {namespace} {HANGUP} {KSTAMP} {arguments}"))
}

/// The code and the lines on standard error.
fn ended(command: &mut Command) -> (i32, String) {
    let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let output = output.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().expect(&stderr), stderr)
}

#[test]
fn a_closed_or_full_output_is_no_panic() {
    let mut commands = vec![
        "--help",
        "--version",
        "ping --help",
        "ping 127.0.0.1 -c 1 -W 10ms --engine socket",
    ];
    if support::can_run() {
        commands.extend(["doctor", "calibrate --duration 100ms"]);
    }
    for arguments in commands {
        let line = format!("{KSTAMP} {arguments}");
        let (code, stderr) = ended(command(&line).stdout(full()));
        assert_eq!(code, 1, "{arguments}: {stderr}");
        assert_eq!(
            stderr, "kstamp: cannot write standard output: No space left on device\n",
            "{arguments}"
        );
        let (code, stderr) = ended(command(&line).stdout(closed()));
        assert_eq!((code, stderr.as_str()), (0, ""), "{arguments}");
    }
    for stderr in [Stdio::from(full()), Stdio::from(closed())] {
        let status = command(&format!("{KSTAMP} nonsense")).stderr(stderr).status().unwrap();
        assert_eq!(status.code(), Some(2));
    }
}

#[test]
fn a_slow_reader_loses_records_and_no_probes() {
    const PROBES: u64 = 500;
    let Some(pair) = Pair::new() else { return };
    support::ip(&pair.near, "link set port1 mtu 9000");
    support::ip(&pair.far, "link set port2 mtu 9000");
    let far = pair.reflector("--report 100ms --rate 0 --rate-source 0");
    let (mut reader, writer) = io::pipe().unwrap();
    let (mut warnings, stderr) = io::pipe().unwrap();
    let line = format!("ping {FAR_V4} -p 1910 -c {PROBES} -i 2ms --tlv padding=8000 --format jsonl");
    let mut near = kstamp(&pair.near, &line).stdout(writer).stderr(stderr).spawn().unwrap();
    // Of each sample the padding alone is 16,000 bytes. Nothing is read until nearly all probes are answered.
    // A busy machine sends slowly, so each new answer starts the wait again.
    let answers = |record: &Value| count(record, "reflected") + count(record, "user_reflected");
    let mut answered = 0;
    while answered < PROBES * 9 / 10 {
        answered = answers(&far.await_record(1, "more answers", |record| {
            record["type"] == "counters" && answers(record) > answered
        }));
    }
    let mut text = Vec::new();
    reader.read_to_end(&mut text).unwrap();
    let mut stderr = String::new();
    warnings.read_to_string(&mut stderr).unwrap();
    assert!(near.wait().unwrap().success(), "{stderr}");
    let records = lines(&text);
    let left_out = count(
        &of_type(&records, "output")
            .last()
            .expect("a record of what was left out")["left_out"],
        "sample",
    );
    let written = of_type(&records, "sample").count() as u64;
    assert!(left_out > 0 && written > 200, "{left_out} left out, {written} written");
    let summary = records.last().unwrap();
    assert_eq!(summary["type"], "summary");
    assert_eq!(count(summary, "sent"), PROBES);
    let replies = count(summary, "received") + count(summary, "lost") + count(summary, "duplicates");
    assert!(written + left_out >= replies, "{summary:#}");
}

#[test]
fn windows_keep_their_times_while_nobody_reads() {
    let Some(pair) = Pair::new() else { return };
    let _far = pair.reflector("");
    let (mut reader, writer) = filled();
    let (_stuck, stderr) = filled();
    let directory = tempfile::tempdir().unwrap();
    let samples = directory.path().join("samples");
    let line = format!(
        "agent --iface port1 --no-group --peer {FAR_V4} --interval 10ms --timeout 100ms --report 100ms --count 100 \
         --format jsonl --samples {} -v",
        samples.display()
    );
    let mut near = kstamp(&pair.near, &line).stdout(writer).stderr(stderr).spawn().unwrap();
    let sampled = || fs::read_to_string(&samples).unwrap_or_default();
    until("samples of the whole run", || sampled().lines().count() >= 100);
    let mut text = Vec::new();
    reader.read_to_end(&mut text).unwrap();
    assert!(near.wait().unwrap().success());
    let records = lines(&text);
    assert_eq!(of_type(&records, "output").count(), 0, "nothing was left out");
    let windows: Vec<_> = of_type(&records, "window").collect();
    assert!(windows.len() >= 9, "{windows:#?}");
    assert!(windows.windows(2).all(|pair| pair[0]["end"] == pair[1]["start"]));
    assert_eq!(windows.iter().map(|window| count(window, "sent")).sum::<u64>(), 100);
}

#[test]
fn a_stuck_reader_does_not_keep_a_run_that_is_to_end() {
    let Some(pair) = Pair::new() else { return };
    let (reader, writer) = filled();
    let mut near = kstamp(&pair.near, "reflect --iface port1 --format jsonl");
    let mut near = near.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    until("attached", || {
        support::ip(&pair.near, "-d link show port1").contains("xdp")
    });
    until("caught signals and a writer", || threads(near.id()) >= 2);
    signal(&near, Signal::SIGTERM);
    until("detached", || {
        !support::ip(&pair.near, "-d link show port1").contains("xdp")
    });
    assert!(near.try_wait().unwrap().is_none(), "the reader has some time");
    signal(&near, Signal::SIGTERM);
    assert_eq!(near.wait().unwrap().code(), Some(1));
    let mut stderr = String::new();
    near.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert!(stderr.contains("standard output did not take the last"), "{stderr}");
    drop(reader);
}

fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

#[test]
fn files_are_rotated_and_truncated() {
    let Some(pair) = Pair::new() else { return };
    let _far = pair.reflector("");
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("out"), "{\"type\":\"old\"}\n").unwrap();
    // As under `nohup`.
    let line = format!(
        "ip netns exec {} env --ignore-signal=HUP {KSTAMP} agent --iface port1 --no-group --peer {FAR_V4} --interval 10ms \
         --timeout 50ms --report 100ms --format jsonl --output {} --samples {}",
        pair.near,
        path("out").display(),
        path("samples").display()
    );
    let mut near = command(&line).stderr(Stdio::piped()).spawn().unwrap();
    // The last line may be half written.
    let written = |name: &str| {
        let mut text = fs::read(path(name)).unwrap_or_default();
        text.truncate(text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1));
        lines(&text)
    };
    let has = |name: &'static str, kind: &'static str| move || of_type(&written(name), kind).count() > 1;
    until("windows", has("out", "window"));
    until("samples", has("samples", "sample"));
    for name in ["out", "samples"] {
        fs::rename(path(name), path(&format!("{name}.1"))).unwrap();
    }
    signal(&near, Signal::SIGHUP);
    until("windows in the new file", has("out", "window"));
    until("samples in the new file", has("samples", "sample"));
    assert_eq!(written("out.1")[0]["type"], "start");
    // As `truncate -s 0` and logrotate's copytruncate do.
    File::create(path("out")).unwrap();
    until("windows after truncation", has("out", "window"));
    signal(&near, Signal::SIGTERM);
    assert!(near.wait().unwrap().success());
    assert_eq!(of_type(&written("out"), "summary").count(), 1);
    assert!(!fs::read(path("out")).unwrap().contains(&0));
    let mut stderr = String::new();
    near.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(stderr, "");
}

#[test]
fn a_hangup_ends_a_run_without_files_unless_it_is_ignored() {
    let Some(pair) = Pair::new() else { return };
    for (prefix, ends) in [(HANGUP, true), ("nohup", false)] {
        let line = format!(
            "ip netns exec {} {prefix} {KSTAMP} reflect --iface port1 --format jsonl",
            pair.near
        );
        let mut near = command(&line).stdout(Stdio::piped()).spawn().unwrap();
        until("caught signals", || threads(near.id()) >= 2);
        signal(&near, Signal::SIGHUP);
        if !ends {
            // SIGHUP comes first, since it has the smaller number.
            signal(&near, Signal::SIGSTOP);
            signal(&near, Signal::SIGHUP);
            signal(&near, Signal::SIGCONT);
            assert!(support::ip(&pair.near, "-d link show port1").contains("xdp"));
            signal(&near, Signal::SIGTERM);
        }
        let mut text = Vec::new();
        near.stdout.take().unwrap().read_to_end(&mut text).unwrap();
        assert!(near.wait().unwrap().success());
        assert_eq!(lines(&text).last().unwrap()["type"], "counters", "the summary");
    }
}

#[test]
fn a_hangup_at_the_end_of_a_run_with_a_file_leaves_the_reader_its_records() {
    let Some(pair) = Pair::new() else { return };
    let directory = tempfile::tempdir().unwrap();
    let samples = directory.path().join("samples").display().to_string();
    // Windows that a pipe has no room for.
    let line = format!(
        "ip netns exec {} {HANGUP} {KSTAMP} agent --iface port1 --no-group --peer {FAR_V4} --interval 10ms --count 150 \
         --timeout 50ms --report 10ms --format jsonl --samples {samples}",
        pair.near
    );
    let mut near = command(&line).stdout(Stdio::piped()).spawn().unwrap();
    let is_attached = || support::ip(&pair.near, "-d link show port1").contains("xdp");
    until("attached", is_attached);
    until("detached", || !is_attached());
    signal(&near, Signal::SIGHUP);
    std::thread::sleep(Duration::from_millis(300));
    let mut text = Vec::new();
    near.stdout.take().unwrap().read_to_end(&mut text).unwrap();
    assert!(near.wait().unwrap().success());
    assert_eq!(lines(&text).last().unwrap()["type"], "counters", "the summary");
}

#[test]
fn one_file_by_two_paths_is_refused_before_measuring() {
    let Some(pair) = Pair::new() else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    fs::write(path("out"), "kept").unwrap();
    symlink(path("out"), path("link")).unwrap();
    let (out, link) = (path("out"), path("link"));
    let table = [
        (
            format!("agent --iface port1 --output {out} --samples {link}"),
            "--samples",
        ),
        (format!("agent --iface port1 --samples {link}"), "standard output"),
        (
            "agent --iface port1 --samples /dev/stdout".to_owned(),
            "standard output",
        ),
        (
            format!("compare --iface port1 --peer {FAR_V4} --output {out} --html {link}"),
            "--html",
        ),
        (
            format!("compare --iface port1 --peer {FAR_V4} --html {link}"),
            "standard output",
        ),
        (
            format!("controller --listen 127.0.0.1:0 --output {out} --html {link}"),
            "--html",
        ),
        (
            format!("controller --listen 127.0.0.1:0 --html {link}"),
            "standard output",
        ),
    ];
    for (arguments, names) in table {
        let stdout = OpenOptions::new().append(true).open(&out).unwrap();
        let (code, stderr) = ended(kstamp(&pair.near, &arguments).stdout(stdout));
        assert_eq!(code, 2, "{arguments}: {stderr}");
        assert!(stderr.contains("are one file") && stderr.contains(names), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert_eq!(fs::read_to_string(&out).unwrap(), "kept", "{arguments}");
    }
}

#[test]
fn a_full_disk_ends_the_samples_and_not_the_run() {
    let Some(pair) = Pair::new() else { return };
    let _far = pair.reflector("");
    let directory = tempfile::tempdir().unwrap();
    let samples = directory.path().join("samples").display().to_string();
    let probing = format!("--no-group --peer {FAR_V4} --interval 5ms --timeout 50ms --report 100ms --count 200");
    for (limit, samples, reason) in [
        ("", "/dev/full", "No space left on device"),
        ("prlimit --fsize=8192", samples.as_str(), "File too large"),
    ] {
        let line = format!(
            "ip netns exec {} {limit} {KSTAMP} agent --iface port1 {probing} --format jsonl --samples {samples}",
            pair.near
        );
        let near = command(&line).output().unwrap();
        let stderr = String::from_utf8_lossy(&near.stderr);
        assert!(near.status.success(), "{stderr}");
        assert_eq!(stderr.matches(reason).count(), 1, "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        let records = lines(&near.stdout);
        assert_eq!(count(of_type(&records, "summary").next().unwrap(), "sent"), 200);
        let left_out = &of_type(&records, "output").last().unwrap()["left_out"];
        assert!(count(left_out, "sample") > 0, "{left_out:#}");
    }
    // Results are the purpose of a run.
    let line = format!("agent --iface port1 {probing} --output /dev/full");
    let (code, stderr) = ended(&mut kstamp(&pair.near, &line));
    assert_eq!(code, 1);
    assert_eq!(stderr, "kstamp: cannot write /dev/full: No space left on device\n");
}

#[test]
fn a_vanished_directory_of_the_drawing_is_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let page = inner.join("page.html");
    let line = format!(
        "{KSTAMP} controller --listen 127.0.0.1:0 --report 50ms --format jsonl --html {}",
        page.display()
    );
    let mut controller = command(&line);
    let mut controller = controller
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("a drawing", || page.exists());
    fs::remove_dir_all(&inner).unwrap();
    let mut stderr = controller.stderr.take().unwrap();
    let mut warning = [0; 400];
    let length = stderr.read(&mut warning).unwrap();
    let warning = String::from_utf8_lossy(&warning[..length]).into_owned();
    assert!(
        warning.contains("page.html") && warning.contains("forwarding goes on"),
        "{warning}"
    );
    fs::create_dir(&inner).unwrap();
    until("a drawing in the new directory", || Path::new(&page).exists());
    signal(&controller, Signal::SIGTERM);
    assert!(controller.wait().unwrap().success());
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "", "one line");
}

#[test]
fn unsuitable_targets_are_refused_in_one_line() {
    let Some(pair) = Pair::new() else { return };
    support::ip(&pair.near, "route add default via 10.1.1.6");
    for (prefix, kind) in [
        ("192.0.2.1", "blackhole"),
        ("192.0.2.2", "prohibit"),
        ("192.0.2.3", "unreachable"),
        ("fd02::1", "blackhole"),
        ("fd02::2", "prohibit"),
        ("fd02::3", "unreachable"),
    ] {
        support::ip(&pair.near, &format!("route add {kind} {prefix}"));
    }
    let table = [
        ("192.0.2.1", "blackhole route"),
        ("192.0.2.2", "prohibit route"),
        ("192.0.2.3", "unreachable route"),
        ("fd02::1", "blackhole route"),
        ("fd02::2", "prohibit route"),
        ("fd02::3", "unreachable route"),
        ("10.1.1.255", "broadcast address"),
        (support::NEAR_V4, "is an address of"),
        ("fd01::5", "is an address of"),
    ];
    support::ip(&pair.near, "link set lo up");
    let other = "is an address of this host";
    support::ip(&pair.near, "address add 198.51.100.1/32 dev lo");
    for (target, says) in table.into_iter().chain([("198.51.100.1", other)]) {
        for arguments in [
            format!("ping {target} -c 1 -W 100ms"),
            format!("ping {target} -c 1 -W 100ms --engine socket"),
            format!("ping {target} -c 1 -W 100ms --engine ebpf"),
            format!("agent --iface port1 --peer {target} --count 1"),
            format!("agent --iface port1 --peer {target} --count 1 --engine socket"),
            format!("compare --iface port1 --peer {target}"),
        ] {
            let (code, stderr) = ended(kstamp(&pair.near, &arguments).stdout(Stdio::null()));
            assert_eq!(code, 1, "{arguments}: {stderr}");
            assert!(
                stderr.contains(target) && stderr.contains(says),
                "{arguments}: {stderr}"
            );
            assert_eq!(stderr.lines().count(), 1, "{arguments}: {stderr}");
        }
    }
    let (code, stderr) = ended(&mut kstamp(&pair.near, "controller --listen 203.0.113.9:6653"));
    assert_eq!(code, 1);
    assert!(
        stderr.contains("203.0.113.9:6653") && stderr.contains("`ip address`"),
        "{stderr}"
    );
    assert!(!stderr.contains("another controller"), "{stderr}");
}

/// A filter as a container's: bpf(2) fails with EPERM.
fn forbid_bpf() -> io::Result<()> {
    let statement = |code: u32, k: u32, jf: u8| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf,
        k,
    };
    let mut filter = [
        // The number of the system call is the first field.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_bpf as u32, 1),
        statement(
            libc::BPF_RET | libc::BPF_K,
            libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
            0,
        ),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the program and its filter are valid until the call returns.
    match unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[test]
fn the_likely_cause_of_a_refused_bpf_call_is_named() {
    let Some(pair) = Pair::new() else { return };
    for (arguments, code) in [
        ("agent --iface port1", 1),
        ("reflect --iface port1", 1),
        ("ping 10.1.1.6 -c 1 --engine ebpf", 1),
        ("doctor", 1),
    ] {
        let mut command = kstamp(&pair.near, arguments);
        // SAFETY: prctl is a system call without effects on memory.
        unsafe { command.pre_exec(forbid_bpf) };
        let (got, stderr) = ended(command.stdout(Stdio::null()));
        assert_eq!(got, code, "{arguments}: {stderr}");
        assert!(
            stderr.contains("Operation not permitted") && stderr.contains("seccomp") && stderr.contains("LSM"),
            "{arguments}: {stderr}"
        );
        assert_eq!(stderr.lines().count(), 1, "{arguments}: {stderr}");
    }
}

#[test]
fn too_few_descriptors_and_too_little_memory_are_named_with_the_figure() {
    let Some(pair) = Pair::new() else { return };
    const MIB: u64 = 1 << 20;
    let limited = |limit: &str, arguments: &str| {
        let line = format!("ip netns exec {} prlimit {limit} {KSTAMP} {arguments}", pair.near);
        ended(command(&line).stdout(Stdio::null()))
    };
    let agent = "agent --iface port1 --legacy-peers --duration 100ms";
    let memory = |mib: u64| format!("--as={}", mib * MIB);
    for (limit, arguments, says) in [
        ("--nofile=90:90", agent, "may open 90 files, and kstamp needs 96"),
        (
            "--nofile=20:20",
            "ping 10.1.1.6 -c 1",
            "may open 20 files, and kstamp needs 96",
        ),
        (
            &memory(80),
            agent,
            "may have 80 MiB of memory: loading the programs needs 104 MiB",
        ),
        (&format!("--data={}", 20 * MIB), agent, "may have 20 MiB of memory"),
    ] {
        let (code, stderr) = limited(limit, arguments);
        assert_eq!(code, 1, "{stderr}");
        assert!(
            stderr.contains(says) && stderr.lines().count() == 1,
            "{limit}: {stderr}"
        );
    }
    // A low soft limit is raised, and the figures are enough.
    for limit in ["--nofile=20:96", "--nofile=96:96", &memory(104)] {
        assert_eq!(limited(limit, agent), (0, String::new()), "{limit}");
    }
}

#[test]
fn a_reader_that_leaves_ends_the_run() {
    let Some(pair) = Pair::new() else { return };
    for arguments in [
        "agent --iface port1 --no-group --peer 10.1.1.6 --timeout 100ms --report 100ms --format jsonl",
        "reflect --iface port1 --report 100ms --format jsonl",
        "ping 10.1.1.6 -i 10ms -W 10ms --format jsonl",
    ] {
        let mut child = kstamp(&pair.near, arguments);
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!(
            (child.wait().unwrap().code(), stderr.as_str()),
            (Some(0), ""),
            "{arguments}"
        );
    }
}
