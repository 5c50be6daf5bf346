//! The pages and the APIs of an agent, a controller and a hub: in Debian's Chromium, and by schemathesis.

#![allow(clippy::unwrap_used, reason = "a test ends at its first failure")]

mod support;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use support::browser::Browser;
use support::{Agent, can_have, lab, lab_with};
use xtask::exec::{self, KillOnDrop};
use xtask::lab::{AgentNs, Lab, Options, SWITCHES, Topology};
use xtask::setup::{Foreign, ensure_schemathesis};
use xtask::workspace;

const ADDRESS: &str = "127.0.0.1:9862";
const PAGE: &str = "http://127.0.0.1:9862/";
const CONTROLLER_PAGE: &str = "http://127.0.0.1:9863/";
const HUB_ADDRESS: &str = "127.0.0.1:9864";
const HUB_PAGE: &str = "http://127.0.0.1:9864/";
/// A name that would run a script if it were parsed as HTML.
const NASTY: &str = "<img/src=x/onerror=alert(1)>";

// Keys (WebDriver §17.4.2).
const TAB: &str = "\u{E004}";
const ENTER: &str = "\u{E007}";
const HOME: &str = "\u{E011}";
const RIGHT: &str = "\u{E014}";
const DOWN: &str = "\u{E015}";

/// Where pictures are written.
fn pictures() -> PathBuf {
    workspace::target_directory().join("page")
}

/// Opens a page, and waits until it shows data.
fn open_live(page: &str) -> Browser {
    let browser = Browser::start();
    browser.resize(1280, 800);
    browser.prefer("light");
    browser.open(page);
    await_state(&browser, "Live");
    browser
}

fn await_state(browser: &Browser, beginning: &str) {
    browser.until(&format!(
        "return document.querySelector('#state').textContent.startsWith('{beginning}')"
    ));
}

/// Pictures of a page in light and in dark, on a phone and on paper. It is never wider than the phone.
fn take_pictures(browser: &Browser, name: &str) {
    let place = |what: &str| pictures().join(format!("{name}-{what}"));
    browser.picture(&place("light.png"));
    browser.prefer("dark");
    browser.picture(&place("dark.png"));
    browser.prefer("light");
    browser.resize(360, 740);
    browser.until("return document.querySelector('.plot canvas').clientWidth < 360");
    browser.until("return document.documentElement.scrollWidth === 360");
    assert_ne!(
        browser.run("return document.querySelector('#network svg')?.clientWidth < 640"),
        true,
        "its labels cannot be read"
    );
    browser.picture(&place("phone.png"));
    browser.resize(1280, 800);
    browser.print(&place("print.pdf"));
}

/// While the process that serves stands still, the page says so. The browser has not complained until then.
fn assert_stale_while_stopped(process: &Agent, browser: &Browser) {
    process.signal(Signal::SIGSTOP);
    await_state(browser, "Stale: no");
    process.signal(Signal::SIGCONT);
    await_state(browser, "Live");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// Two agents, with a loss of 10 % from the first to the second.
fn lossy() -> Option<Lab> {
    let lab = lab_with(Topology::Delay, &support::three_milliseconds())?;
    set_up(&lab, &lab.pair()[0].namespace);
    Some(lab)
}

/// Lets a browser in `namespace` reach its own addresses.
fn set_up(lab: &Lab, namespace: &str) {
    support::run(&mut lab.command(namespace, "ip", "link set lo up".split(' ')));
    support::kstamp();
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

/// Runs `act` in a namespace, in a thread of its own.
fn inside<T: Send>(namespace: &str, act: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(format!("/run/netns/{namespace}")).unwrap();
    let act = || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        act()
    };
    std::thread::scope(|scope| scope.spawn(act).join().unwrap())
}

#[test]
fn the_page_shows_loss_by_direction_and_says_when_it_is_stale() {
    if !can_have(Foreign::Chromium) {
        return;
    }
    let Some(lab) = lossy() else { return };
    let [near, far] = agents(&lab);
    inside(&lab.pair()[0].namespace, || {
        let browser = open_live(PAGE);
        // Two rows, unicast and group, both with forward loss and no other.
        let lossy =
            "[...document.querySelectorAll('#peers tbody tr')].filter((row) => row.cells[4].textContent.includes('→'))";
        browser.until(&format!("return {lossy}.length === 2"));
        // The question for the name may be lost, too.
        let name = serde_json::json!(NASTY);
        browser.until(&format!(
            "return document.querySelector('#peers').innerText.includes({name})"
        ));
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
        browser.until(&format!("return {described}.includes(' forward, 0 backward, ')"));
        let drawn = "const c = document.querySelectorAll('.plot canvas')[1]; \
                     return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((value) => value)";
        assert_eq!(browser.run(drawn), true);

        // By keys alone: to the table, to the second row, into its plots.
        browser.run("document.body.focus()");
        browser.press(&[TAB, TAB].concat());
        assert_eq!(browser.run("return document.activeElement.tagName"), "TR");
        let ring = "return getComputedStyle(document.activeElement).outlineStyle";
        assert_eq!(browser.run(ring), "solid");
        browser.press(&[HOME, DOWN].concat());
        browser.until("return document.querySelectorAll('tr')[2].getAttribute('aria-selected') === 'true'");
        browser.until("return document.querySelector('#detail-title').textContent.includes('group')");
        browser.press(ENTER);
        assert_eq!(browser.run("return document.activeElement.id"), "detail-title");
        browser.press(&[TAB, RIGHT].concat());
        browser.until("return document.querySelector('input[value=minute]').checked");
        browser.click("input[value=report]");

        // Each plot as a table.
        browser.run("document.querySelectorAll('details').forEach((one) => (one.open = true))");
        browser.until("return [...document.querySelectorAll('details')].every((one) => one.querySelectorAll('tbody tr').length > 2)");
        browser.run("document.querySelectorAll('details').forEach((one) => (one.open = false))");

        browser.until("return document.querySelectorAll('.plot canvas').length >= 4 && performance.now() > 12000");
        take_pictures(&browser, "agent");

        assert_stale_while_stopped(&near, &browser);
        far.stop().assert_success();
        browser.until("return document.querySelector('#events').innerText.includes('down: ended')");
        browser.until("return document.querySelectorAll('#peers tbody tr').length === 0");
        // The last window of a peer that is gone does not bring it back.
        browser.run("window.empty = performance.now()");
        browser.until("return performance.now() > window.empty + 2000");
        assert_eq!(
            browser.run("return document.querySelectorAll('#peers tbody tr').length"),
            0
        );
        near.stop().assert_success();
        await_state(&browser, "Stale: no connection for");
        browser.picture(&pictures().join("agent-stale.png"));
    });
    lab.down().unwrap();
}

#[test]
fn the_page_shows_in_which_segment_time_is_spent_and_probes_are_lost() {
    if !can_have(Foreign::Chromium) {
        return;
    }
    let hurts = ["underlay:5ms", "underlay:loss=10%"]
        .map(|hurt| hurt.parse().unwrap())
        .into();
    let options = Options {
        hurts,
        ..Options::default()
    };
    let Some(lab) = lab_with(Topology::Vxlan, &options) else {
        return;
    };
    let [near, far] = lab.pair();
    set_up(&lab, &near.namespace);
    let agent = |place, peer: &AgentNs, arguments: &str| {
        let netns = lab.host_netns(place);
        let arguments = format!(
            "--family v4 --no-group --peer {} --timeout 200ms --report 1s --hops --host-netns {} --outlier 1ms {arguments}",
            peer.v4,
            netns.display()
        );
        let agent = Agent::start(&lab, place, "agent", &arguments);
        agent.await_start(Duration::from_secs(10));
        agent
    };
    let far_agent = agent(far, near, "--name far");
    let near_agent = agent(near, far, &format!("--interval 20ms --name near --listen {ADDRESS}"));
    inside(&near.namespace, || {
        let browser = open_live(PAGE);
        let widest =
            "[...document.querySelectorAll('.hops .bar span')].sort((a, b) => b.clientWidth - a.clientWidth)[0]?.title";
        browser.until(&format!("return {widest}?.startsWith('underlay: ')"));
        let lost =
            "[...document.querySelectorAll('.hops tbody tr')].find((row) => row.cells[0].textContent === 'underlay')";
        browser.until(&format!("return /[→←] [0-9]/.test({lost}?.cells[5].textContent)"));
        browser.until("return document.querySelector('.hops .events').innerText.includes(' took ')");
        take_pictures(&browser, "hops");
        assert_eq!(browser.complaints(), Vec::<String>::new());
    });
    near_agent.stop().assert_success();
    far_agent.stop().assert_success();
    lab.down().unwrap();
}

#[test]
fn the_page_of_a_controller_follows_a_cut_and_says_when_it_is_stale() {
    if !can_have(Foreign::Chromium) {
        return;
    }
    let Some((lab, controller)) = controlled(Topology::Arpanet) else {
        return;
    };
    inside(SWITCHES, || {
        let browser = open_live(CONTROLLER_PAGE);
        browser.until("return document.querySelectorAll('#links tbody tr').length === 10");
        browser.until("return document.querySelectorAll('#network .switch').length === 9");
        assert!(browser.text("h1").starts_with("kstamp controller "));

        // A path, chosen in the drawing, and then in the list.
        for switch in ["sdc", "mit"] {
            browser.run(&format!(
                "[...document.querySelectorAll('#network .switch')].find((one) => one.textContent.endsWith('{switch}')) \
                 .dispatchEvent(new MouseEvent('click', {{ bubbles: true }}))"
            ));
        }
        let path = "return document.querySelector('#path').textContent";
        browser.until(&format!("{path}.includes('rand – bbn')"));
        // A line and a label each.
        browser.until("return document.querySelectorAll('#network .link.on').length === 6");
        browser.run(
            "const to = document.querySelector('#to'); \
             to.value = [...to.options].find((option) => option.text === 'bbn').value; \
             to.dispatchEvent(new Event('change'))",
        );
        browser.until(&format!("{path}.startsWith('sdc – rand – bbn:')"));

        // By keys alone: to a link, the first, the next one, and into its plot. The link that the page has chosen is the first of
        // those that it knew at the time.
        browser.run("document.querySelector('#links tbody tr[tabindex=\"0\"]').focus()");
        browser.press(&[HOME, DOWN].concat());
        browser
            .until("return document.querySelectorAll('#links tbody tr')[1].getAttribute('aria-selected') === 'true'");
        browser.press(ENTER);
        assert_eq!(browser.run("return document.activeElement.id"), "detail-title");
        browser.until("return document.querySelector('#detail-plot .plot:not([hidden]) canvas')");
        let described = browser.run("return document.querySelector('.plot').getAttribute('aria-label')");
        assert!(
            described.as_str().unwrap().contains(" reports, the last one "),
            "{described}"
        );
        browser.run("document.querySelector('details').open = true");
        browser.until("return document.querySelectorAll('details tbody tr').length > 1");
        browser.run("document.querySelector('details').open = false");

        lab.cut("mit", "bbn").unwrap();
        browser.until("return document.querySelectorAll('#links .down').length === 1");
        browser.until("return document.querySelectorAll('#network .link.missing').length === 2");
        browser.until("return document.querySelector('#events').innerText.includes('broken')");
        take_pictures(&browser, "controller");
        // A value between gaps is a point, as no line leads to it.
        let lone = "return import('/web/plots.js').then(({ lines }) => { \
                    const [, line] = lines([{ start_s: 0, end_s: 1 }], ['', 'blue', undefined, () => 5]).options.series; \
                    return line.points.filter({ data: [[1, 2, 3, 4], [5, null, 6, 7]] }, 1); })";
        assert_eq!(browser.run(lone), json!([0]));
        // A row that moves keeps the focus.
        let moved = "return import('/web/grid.js').then(({ Grid }) => { \
                     const place = document.querySelector('main'); \
                     const grid = new Grid(place, '', [], () => {}); \
                     const rows = [grid.row({}), grid.row({})]; \
                     grid.show(rows); \
                     rows[1].element.focus(); \
                     grid.show(rows.toReversed()); \
                     const isFocused = document.activeElement === rows[1].element; \
                     place.lastChild.remove(); \
                     return isFocused; })";
        assert_eq!(browser.run(moved), true);
        assert_stale_while_stopped(&controller, &browser);
        assert!(controller.stop().status.success());
        await_state(&browser, "Stale: no connection for");
        browser.picture(&pictures().join("controller-stale.png"));
    });
    lab.down().unwrap();
}

/// A controller of a network of switches, with a page.
fn controlled(topology: Topology) -> Option<(Lab, Agent)> {
    let lab = lab(topology)?;
    set_up(&lab, SWITCHES);
    let listen = CONTROLLER_PAGE.trim_start_matches("http://").trim_end_matches('/');
    let controller = Agent::controller(&lab, &format!("--report 1s --web-listen {listen}"));
    controller.await_start(Duration::from_secs(5));
    Some((lab, controller))
}

/// A server of `probe-user/examples`, with made-up data of so many peers or hosts.
fn made_up(example: &str, address: &str, number: u32) -> KillOnDrop {
    let mut build = workspace::cargo();
    build.args("build --quiet -p probe-user --example".split(' ').chain([example]));
    assert!(build.status().unwrap().success());
    let mut server = Command::new(workspace::target_directory().join("debug/examples").join(example));
    let mut server = support::start(server.args([address, &number.to_string()]).stdout(Stdio::piped()));
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    server
}

#[test]
fn a_page_of_100_peers_is_there_in_a_second_and_updated_in_a_tenth() {
    if !support::can_run() || !can_have(Foreign::Chromium) {
        return;
    }
    let _server = made_up("page", ADDRESS, 100);
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
fn a_matrix_of_1000_hosts_is_there_in_two_seconds_and_updated_in_a_tenth() {
    if !can_have(Foreign::Chromium) {
        return;
    }
    let _server = made_up("hub_page", HUB_ADDRESS, 1_000);
    let browser = Browser::start();
    browser.resize(1280, 800);
    browser.open(&format!("{HUB_PAGE}healthz"));
    browser.open(HUB_PAGE);
    browser.until("return performance.getEntriesByName('update').length >= 8");
    let ms = |script: &str| browser.run(script).as_f64().unwrap();
    let shown = ms("const first = performance.getEntriesByName('update')[0]; return first.startTime + first.duration");
    // The server is not optimised here.
    let waited = ms(
        "const reply = performance.getEntriesByType('resource').find(({ name }) => name.includes('/cells')); \
                     return reply.responseStart - reply.requestStart",
    );
    let updates = browser.run("return performance.getEntriesByName('update').slice(1).map(({ duration }) => duration)");
    let mut updates: Vec<f64> = serde_json::from_value(updates).unwrap();
    updates.sort_by(f64::total_cmp);
    let median = updates[updates.len() / 2];
    println!(
        "matrix {shown:.0} ms, of which {waited:.0} ms for the server; median of updates {median:.0} ms: {updates:.0?}"
    );
    browser.picture(&pictures().join("hub-1000.png"));
    assert!(
        shown - waited <= 2_000.0 && median <= 100.0,
        "{shown} {waited} {updates:?}"
    );
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn the_page_of_a_hub_leads_from_a_cell_to_four_stamps_in_two_clicks() {
    if !can_have(Foreign::Chromium) {
        return;
    }
    let server = made_up("hub_page", HUB_ADDRESS, 60);
    let browser = open_live(HUB_PAGE);
    browser.until("return document.querySelectorAll('#hosts tbody tr').length === 60");
    let alerts = browser.text("#alerts");
    assert!(
        alerts.contains("→ forward") && alerts.contains("← backward"),
        "{alerts}"
    );

    // Right of the middle, which is on the diagonal.
    browser.click_beside("#matrix canvas", 100, 0);
    browser.until("return document.querySelectorAll('#pair .windows tbody tr').length > 100");
    browser.click("#pair .windows tbody tr");
    let stamps = browser.text(".stamps tbody tr");
    assert_eq!(stamps.matches(':').count(), 2 * 4, "{stamps}");
    browser.until("return document.querySelectorAll('#pair .plot:not([hidden]) canvas').length === 4");
    let about = browser.text("#about");
    assert!(about.contains(" → host-") && about.contains("median "), "{about}");
    assert!(browser.text("#row-title").starts_with("From host-"));

    // By keys alone: to the next cell, described for a screen reader, and into its pair.
    browser.run("document.querySelector('#matrix canvas').focus()");
    browser.press(DOWN);
    let below = browser.text("#about");
    assert!(below != about && below.contains(" → host-"), "{below}");
    browser.press(ENTER);
    let [from, to] = ["from", "to"].map(|end| format!("new URLSearchParams(location.hash.slice(1)).get('{end}')"));
    browser.until(&format!(
        "return document.querySelector('#detail-title').textContent === `${{{from}}}/eth0 → ${{{to}}}/eth0`"
    ));

    // Loss by direction, and the other orders.
    browser.click("input[name=metric][value=loss]");
    browser.until("return document.querySelector('#legend').textContent.includes('← backward')");
    for order in ["zone", "rack", "worst", "name"] {
        browser.run(&format!(
            "const order = document.querySelector('#order'); order.value = '{order}'; order.dispatchEvent(new Event('change'))"
        ));
        browser.until("return document.querySelector('#matrix canvas').width > 300");
        browser.picture(&pictures().join(format!("hub-{order}.png")));
    }
    browser.click("input[name=metric][value=p99]");
    browser.run("for (let step = 0; step < 4; step += 1) document.querySelector('#closer').click()");
    browser.picture(&pictures().join("hub-close.png"));
    browser.click("#fit");
    take_pictures(&browser, "hub");

    kill(Pid::from_raw(server.id() as i32), Signal::SIGSTOP).unwrap();
    await_state(&browser, "Stale: no");
    kill(Pid::from_raw(server.id() as i32), Signal::SIGCONT).unwrap();
    await_state(&browser, "Live");
    assert_eq!(browser.complaints(), Vec::<String>::new());
    drop(server);
    await_state(&browser, "Stale: no answer for");
    browser.picture(&pictures().join("hub-stale.png"));
}

#[test]
fn schemathesis_finds_no_reply_that_the_document_of_a_hub_does_not_allow() {
    let Some(program) = schemathesis() else { return };
    let _server = made_up("hub_page", HUB_ADDRESS, 30);
    let scratch = tempfile::tempdir().unwrap();
    let known = "\"query.from\" = \"host-0014/eth0\"\n\"query.to\" = \"host-0008/eth0\"";
    let mut check = Command::new(program);
    check.args(documented(HUB_PAGE));
    assert_as_documented(&mut check, scratch.path(), known);
}

#[test]
fn schemathesis_finds_no_reply_that_the_document_of_an_agent_does_not_allow() {
    let Some(program) = schemathesis() else { return };
    let Some(lab) = lossy() else { return };
    let [near, far] = agents(&lab);
    near.await_record(Duration::from_secs(10), "window", |record| record["type"] == "window");
    let [place, other] = lab.pair();
    let known = format!("\"query.peer\" = \"{}\"", other.v4);
    let mut check = lab.command(&place.namespace, &program, documented(PAGE));
    assert_as_documented(&mut check, &lab.scratch().unwrap(), &known);
    [near, far]
        .into_iter()
        .for_each(|agent| drop(agent.stop().assert_success()));
    lab.down().unwrap();
}

#[test]
fn schemathesis_finds_no_reply_that_the_document_of_a_controller_does_not_allow() {
    let Some(program) = schemathesis() else { return };
    let Some((lab, controller)) = controlled(Topology::Triangle) else {
        return;
    };
    let link = controller.await_record(Duration::from_secs(10), "link", |record| record["type"] == "link");
    let [from, to] = ["from", "to"].map(|end| format!("{}:{}", link[end]["dpid"].as_str().unwrap(), link[end]["port"]));
    let known = format!(
        "\"query.link\" = \"{from} {to}\"\n\"query.from\" = {}",
        link["from"]["dpid"]
    );
    let mut check = lab.command(SWITCHES, &program, documented(CONTROLLER_PAGE));
    assert_as_documented(&mut check, &lab.scratch().unwrap(), &known);
    assert!(controller.stop().status.success());
    lab.down().unwrap();
}

/// The path of schemathesis; prints why there is none.
fn schemathesis() -> Option<PathBuf> {
    let found = ensure_schemathesis();
    if let Err(error) = &found {
        println!("SKIPPED: no schemathesis: {error:#}");
    }
    found.ok()
}

/// Arguments of schemathesis for the document of a page's server.
fn documented(page: &str) -> Vec<String> {
    let document = format!("{page}api/v1/openapi.json");
    let options = [
        "--checks=all",
        "--exclude-path=/api/v1/stream",
        "--max-examples=10",
        "--seed=1",
        "--generation-database=none",
    ];
    ["run", &document]
        .into_iter()
        .chain(options)
        .map(str::to_owned)
        .collect()
}

/// Requests get replies that the document allows. `known` are parameters that the server has; others are tried, too.
fn assert_as_documented(check: &mut Command, scratch: &Path, known: &str) {
    fs::write(scratch.join("schemathesis.toml"), format!("[parameters]\n{known}\n")).unwrap();
    let output = exec::output(check.current_dir(scratch)).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    println!("{}", text.lines().rev().take(12).collect::<Vec<_>>().join("\n"));
}
