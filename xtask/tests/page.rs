//! The page and the API of `kstamp agent --listen`: in Debian's Chromium, and by schemathesis.

#![allow(clippy::unwrap_used, reason = "a test ends at its first failure")]

mod support;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;
use support::browser::{Browser, has_chromium};
use support::{Agent, lab_with};
use xtask::exec::{self, KillOnDrop};
use xtask::lab::{Lab, Topology};
use xtask::setup::ensure_schemathesis;
use xtask::workspace;

const ADDRESS: &str = "127.0.0.1:9862";
const PAGE: &str = "http://127.0.0.1:9862/";
/// A name that would run a script if it were parsed as HTML.
const NASTY: &str = "<img/src=x/onerror=alert(1)>";

/// Where pictures are written.
fn pictures() -> PathBuf {
    workspace::target_directory().join("page")
}

/// Two agents, with a loss of 10 % from the first to the second.
fn lossy() -> Option<Lab> {
    let lab = lab_with(Topology::Delay, &support::three_milliseconds())?;
    let place = &lab.pair()[0].namespace;
    support::run(&mut lab.command(place, "ip", "link set lo up".split(' ')));
    support::kstamp();
    Some(lab)
}

fn agents(lab: &Lab) -> [Agent; 2] {
    let quick = "--family v4 --interval 20ms --timeout 200ms --report 500ms";
    let [near, far] = lab.pair();
    let agents = [
        Agent::start(lab, near, "agent", &format!("{quick} --listen {ADDRESS} --name near")),
        Agent::start(lab, far, "agent", &format!("{quick} --name {NASTY}")),
    ];
    agents
        .iter()
        .for_each(|agent| agent.await_start(Duration::from_secs(10)));
    agents
}

/// Runs `act` in the namespace of the first agent, in a thread of its own.
fn at_first<T: Send>(lab: &Lab, act: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(format!("/run/netns/{}", lab.pair()[0].namespace)).unwrap();
    let act = || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        act()
    };
    std::thread::scope(|scope| scope.spawn(act).join().unwrap())
}

#[test]
fn the_page_shows_loss_by_direction_and_says_when_it_is_stale() {
    if !has_chromium() {
        return;
    }
    let Some(lab) = lossy() else { return };
    let [near, far] = agents(&lab);
    at_first(&lab, || {
        let browser = Browser::start();
        browser.resize(1280, 800);
        browser.prefer("light");
        browser.open(PAGE);
        browser.until("return document.querySelector('#state').textContent === 'Live'");
        // Two rows, unicast and group, both with forward loss and no other.
        let lossy =
            "[...document.querySelectorAll('#peers tbody tr')].filter((row) => row.cells[4].textContent.includes('→'))";
        browser.until(&format!("return {lossy}.length === 2"));
        let all = browser.text("#peers");
        assert!(
            all.contains(NASTY) && !all.contains('←') && all.contains("▲ up"),
            "{all}"
        );
        assert_eq!(browser.run("return document.querySelectorAll('img').length"), 0);
        assert!(browser.text("h1").contains("kstamp agent near"));
        // Four plots, drawn and described.
        browser.until("return document.querySelectorAll('.plot:not([hidden]) canvas').length >= 4");
        let described =
            "[...document.querySelectorAll('.plot')].map((plot) => plot.getAttribute('aria-label')).join('; ')";
        let described = browser.run(&format!("return {described}"));
        assert!(
            described.as_str().unwrap().contains(" forward, 0 backward, "),
            "{described}"
        );
        let drawn = "const c = document.querySelectorAll('.plot canvas')[1]; \
                     return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((value) => value)";
        assert_eq!(browser.run(drawn), true);

        // By keys alone: to the table, to the second row, into its plots.
        browser.run("document.body.focus()");
        browser.press("\u{E004}\u{E004}");
        assert_eq!(browser.run("return document.activeElement.tagName"), "TR");
        let ring = "return getComputedStyle(document.activeElement).outlineStyle";
        assert_eq!(browser.run(ring), "solid");
        browser.press("\u{E015}");
        browser.until("return document.querySelectorAll('tr')[2].getAttribute('aria-selected') === 'true'");
        browser.until("return document.querySelector('#detail-title').textContent.includes('group')");
        browser.press("\u{E007}");
        assert_eq!(browser.run("return document.activeElement.id"), "detail-title");
        browser.press("\u{E004}\u{E014}");
        browser.until("return document.querySelector('input[value=minute]').checked");
        browser.click("input[value=report]");

        // Each plot as a table.
        browser.run("document.querySelectorAll('details').forEach((one) => (one.open = true))");
        browser.until("return [...document.querySelectorAll('details')].every((one) => one.querySelectorAll('tbody tr').length > 2)");
        browser.run("document.querySelectorAll('details').forEach((one) => (one.open = false))");

        browser.until("return document.querySelectorAll('.plot canvas').length >= 4 && performance.now() > 12000");
        browser.picture(&pictures().join("light.png"));
        browser.prefer("dark");
        browser.picture(&pictures().join("dark.png"));
        browser.prefer("light");
        browser.resize(360, 740);
        browser.until("return document.querySelector('.plot canvas').clientWidth < 360");
        assert_eq!(browser.run("return document.documentElement.scrollWidth"), 360);
        browser.picture(&pictures().join("phone.png"));
        browser.resize(1280, 800);
        browser.print(&pictures().join("print.pdf"));

        // A process that stands still, and one that is gone.
        near.signal(Signal::SIGSTOP);
        browser.until("return document.querySelector('#state').textContent.startsWith('Stale: no window for')");
        near.signal(Signal::SIGCONT);
        browser.until("return document.querySelector('#state').textContent === 'Live'");
        assert_eq!(browser.complaints(), Vec::<String>::new());
        far.stop().assert_success();
        browser.until("return document.querySelector('#events').innerText.includes('down: ended')");
        browser.until("return document.querySelectorAll('#peers tbody tr').length === 0");
        near.stop().assert_success();
        browser.until("return document.querySelector('#state').textContent.startsWith('Stale: no connection for')");
        browser.picture(&pictures().join("stale.png"));
    });
    lab.down().unwrap();
}

/// The server of `probe-user/examples/page.rs`, with 100 peers.
fn crowd() -> KillOnDrop {
    let mut build = workspace::cargo();
    build.args("build --quiet -p probe-user --example page".split(' '));
    assert!(build.status().unwrap().success());
    let mut server = Command::new(workspace::target_directory().join("debug/examples/page"));
    let mut server = support::start(server.args([ADDRESS, "100"]).stdout(Stdio::piped()));
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    server
}

#[test]
fn a_page_of_100_peers_is_there_in_a_second_and_updated_in_a_tenth() {
    if !support::can_run() || !has_chromium() {
        return;
    }
    let _server = crowd();
    let browser = Browser::start();
    browser.resize(1280, 800);
    // The first start of the browser is not the page's.
    browser.open(&format!("{PAGE}healthz"));
    browser.open(PAGE);
    browser.until("return document.querySelectorAll('#peers tbody tr').length === 100");
    browser.until("return performance.getEntriesByName('update').length >= 6");
    let ms = |script: &str| browser.run(script).as_f64().unwrap();
    let painted = ms("return performance.getEntriesByName('first-contentful-paint')[0].startTime");
    let shown = ms("const first = performance.getEntriesByName('update')[0]; return first.startTime + first.duration");
    let updates = "performance.getEntriesByName('update').slice(1).map((entry) => entry.duration)";
    let longest = ms(&format!("return Math.max(...{updates})"));
    println!("first paint {painted:.0} ms, 100 peers {shown:.0} ms, longest update {longest:.0} ms");
    browser.picture(&pictures().join("crowd.png"));
    assert!(painted <= 1_000.0 && longest <= 100.0, "{painted} {shown} {longest}");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn schemathesis_finds_no_reply_that_the_document_does_not_allow() {
    let program = match ensure_schemathesis() {
        Ok(program) => program,
        Err(error) => {
            println!("SKIPPED: no schemathesis: {error:#}");
            return;
        }
    };
    let Some(lab) = lossy() else { return };
    let [near, far] = agents(&lab);
    near.await_record(Duration::from_secs(10), "window", |record| record["type"] == "window");
    let [place, other] = lab.pair();
    // Other addresses are tried, too.
    let scratch = lab.scratch().unwrap();
    let known = format!("[parameters]\n\"query.peer\" = \"{}\"\n", other.v4);
    fs::write(scratch.join("schemathesis.toml"), known).unwrap();
    let mut check = lab.command(
        &place.namespace,
        program,
        [
            "run",
            &format!("{PAGE}api/v1/openapi.json"),
            "--checks=all",
            "--exclude-path=/api/v1/stream",
            "--max-examples=10",
            "--seed=1",
            "--generation-database=none",
        ],
    );
    let output = exec::output(check.current_dir(scratch)).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    println!("{}", text.lines().rev().take(12).collect::<Vec<_>>().join("\n"));
    [near, far]
        .into_iter()
        .for_each(|agent| drop(agent.stop().assert_success()));
    lab.down().unwrap();
}
