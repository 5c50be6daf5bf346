//! The manifests for Kubernetes and the playbook for OpenStack in `deploy/`.

#![allow(clippy::unwrap_used, reason = "a test ends at its first failure")]

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::{Agent, can_have, count, lab, run};
use xtask::exec;
use xtask::lab::{AgentNs, Lab, Topology};
use xtask::setup::{Foreign, ensure_manifest_checkers};
use xtask::workspace;

fn deploy(name: &str) -> PathBuf {
    workspace::root().join("deploy").join(name)
}

/// Manifests of a folder that kubectl has put together, or the files of the base if no kubectl here can.
fn manifests(folder: &str) -> String {
    let kubectl = |arguments: &[&str]| exec::run("kubectl", arguments);
    // Older ones take no folders as resources.
    let version = kubectl(&["version", "--client"]).unwrap_or_default();
    let major = version
        .split("Kustomize Version: v")
        .nth(1)
        .and_then(|rest| rest.split('.').next());
    if major.is_some_and(|major| major.parse().is_ok_and(|major: u32| major >= 4)) {
        let path = deploy("kubernetes").join(folder);
        return kubectl(&["kustomize", path.to_str().unwrap()]).unwrap();
    }
    println!("SKIPPED: no kubectl with kustomize 4 or newer puts {folder} together");
    let read = |name| fs::read_to_string(deploy("kubernetes").join(name)).unwrap();
    ["base/namespace.yaml", "base/daemonset.yaml", "example/podmonitor.yaml"]
        .map(read)
        .join("---\n")
}

/// The manifests of a folder, accepted by their schemas.
fn checked(folder: &str) -> Option<Vec<Value>> {
    let python = match ensure_manifest_checkers() {
        Ok(python) => python,
        Err(error) => {
            println!("SKIPPED: no schemas: {error:#}");
            return None;
        }
    };
    let input = tempfile::NamedTempFile::new().unwrap();
    fs::write(input.path(), manifests(folder)).unwrap();
    let mut command = Command::new(python);
    command.arg(workspace::root().join("xtask/tests/deploy/manifests.py"));
    command.arg(input.path());
    Some(serde_json::from_str(&run(&mut command)).unwrap())
}

fn of_kind<'a>(manifests: &'a [Value], kind: &str) -> &'a Value {
    let mut manifests = manifests.iter();
    manifests.find(|manifest| manifest["kind"] == kind).expect(kind)
}

#[test]
fn manifests_are_accepted_and_refer_to_each_other() {
    for folder in ["base", "example"] {
        let Some(manifests) = checked(folder) else { return };
        let pod = &of_kind(&manifests, "DaemonSet")["spec"]["template"];
        let container = &pod["spec"]["containers"][0];
        assert_eq!(pod["spec"]["hostNetwork"], true);
        assert!(container["securityContext"]["privileged"].is_null());
        let mut ports = container["ports"].as_array().unwrap().iter();
        let port = ports.find(|port| port["name"] == "metrics").unwrap()["containerPort"].as_u64();
        for probe in ["readinessProbe", "livenessProbe"] {
            assert_eq!(container[probe]["httpGet"]["port"], "metrics");
        }
        let mut variables = container["env"].as_array().unwrap().iter();
        let listen = variables.find(|variable| variable["name"] == "KSTAMP_LISTEN").unwrap();
        assert_eq!(listen["value"], format!("$(HOST_IP):{}", port.unwrap()));
        if let Some(monitor) = manifests.iter().find(|manifest| manifest["kind"] == "PodMonitor") {
            let wanted = &monitor["spec"]["selector"]["matchLabels"];
            assert_eq!(wanted, &pod["metadata"]["labels"]);
            assert_eq!(monitor["spec"]["podMetricsEndpoints"][0]["port"], "metrics");
        }
    }
}

#[test]
fn kstamp_accepts_the_configuration_of_each_folder() {
    for folder in ["base", "example"] {
        let file = deploy("kubernetes").join(folder).join("agent.toml");
        run(Command::new(support::kstamp())
            .args(["config", "check", "agent", "--config"])
            .arg(file));
    }
}

#[test]
fn an_agent_needs_each_capability_of_the_daemonset_and_no_other() {
    let Some(manifests) = checked("base") else { return };
    let container = &of_kind(&manifests, "DaemonSet")["spec"]["template"]["spec"]["containers"][0];
    let capabilities = &container["securityContext"]["capabilities"];
    assert_eq!(capabilities["drop"][0], "ALL");
    let all: Vec<_> = capabilities["add"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    let Some(lab) = lab(Topology::Veth) else { return };
    let near = lab.pair()[0];
    let start = |capabilities: &[&str]| {
        let set = capabilities
            .iter()
            .fold("-all".to_owned(), |set, name| format!("{set},+{}", name.to_lowercase()));
        let mut command = lab.command(&near.namespace, "setpriv", ["--bounding-set", &set, "--inh-caps", &set]);
        command.arg("--no-new-privs").arg(support::kstamp());
        command.args(["agent", "--iface", &near.interface]);
        Agent::spawn(
            &lab.scratch().unwrap(),
            &near.namespace,
            command,
            "--family v4 --count 2 --interval 10ms",
        )
    };
    let finished = start(&all).wait(Duration::from_secs(20)).assert_success();
    assert_eq!(finished.start()["engine"], "ebpf");
    for missing in &all {
        let others: Vec<_> = all.iter().copied().filter(|name| name != missing).collect();
        let refused = start(&others).wait(Duration::from_secs(20));
        assert_eq!(refused.status.code(), Some(1), "without {missing}: {refused:#?}");
        assert!(refused.stderr.contains(&format!("CAP_{missing}")), "{}", refused.stderr);
    }
    lab.down().unwrap();
}

#[test]
fn the_playbook_is_accepted() {
    if !can_have(Foreign::Ansible) {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let ansible = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.current_dir(deploy("ansible")).env("HOME", home.path());
        run(command.args(arguments));
    };
    ansible(
        "ansible-playbook",
        &["-i", "inventory.yml", "--syntax-check", "playbook.yml"],
    );
    ansible("ansible-lint", &["--offline", "--strict", "playbook.yml"]);
}

#[test]
fn systemd_accepts_the_unit_of_the_playbook_beside_those_of_the_package() {
    if which::which("systemd-analyze").is_err() {
        println!("SKIPPED: no systemd-analyze");
        return;
    }
    let units = tempfile::tempdir().unwrap();
    run(Command::new("cp").arg("-r").arg(deploy("systemd/.")).arg(units.path()));
    let role = deploy("ansible/roles/kstamp");
    let tasks = fs::read_to_string(role.join("tasks/main.yml")).unwrap();
    let name = tasks.split("{{ kstamp_units }}/").nth(1).unwrap();
    let name = name.split('"').next().unwrap();
    let template = fs::read_to_string(role.join("templates").join(format!("{name}.j2"))).unwrap();
    let unit = template
        .replace("{{ kstamp_port }}", "kstamp0")
        .replace("{{ kstamp_address }}", "10.1.1.9/24");
    fs::write(units.path().join(name), unit).unwrap();
    // With the units of the system, which are the defaults behind the colon.
    run(Command::new("systemd-analyze")
        .args(["verify", "--man=no", name])
        .env("SYSTEMD_UNIT_PATH", format!("{}:", units.path().display())));
}

/// The directory of the switch's files.
const SWITCH: &str = "/run/kstamp-lab/switch1";

/// Runs the playbook at the switch of a lab, without packages and systemd. Returns its last line.
fn play(lab: &Lab, settings: &Value) -> String {
    let arguments = ["-i", "inventory.yml", "-c", "local", "-l", "compute1", "playbook.yml"];
    let mut command = lab.command("switch1", "ansible-playbook", arguments);
    command.args([
        "--tags",
        "port,address,configuration",
        "--extra-vars",
        &settings.to_string(),
    ]);
    // The playbook has kstamp check the configuration.
    let kstamp = support::kstamp();
    let path = std::env::var("PATH").unwrap();
    command
        .current_dir(deploy("ansible"))
        .env("HOME", lab.scratch().unwrap())
        .env("OVS_RUNDIR", SWITCH)
        .env("PATH", format!("{}:{path}", kstamp.parent().unwrap().display()));
    let output = exec::output(&mut command).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    text.lines()
        .rfind(|line| line.starts_with("compute1"))
        .unwrap()
        .to_owned()
}

#[test]
fn the_playbook_makes_a_port_that_can_be_measured_and_changes_nothing_again() {
    if !can_have(Foreign::Ansible) {
        return;
    }
    let Some(lab) = lab(Topology::Patch) else { return };
    let directory = lab.scratch().unwrap().join("deploy");
    fs::create_dir_all(&directory).unwrap();
    let place = AgentNs {
        namespace: "switch1".to_owned(),
        interface: "kstamp0".to_owned(),
        ..lab.pair()[0].clone()
    };
    let address = "10.1.1.9";
    let settings = serde_json::json!({
        "kstamp_bridge": "ovs2",
        "kstamp_address": format!("{address}/24"),
        "kstamp_units": directory,
        "kstamp_directory": directory,
    });
    let first = play(&lab, &settings);
    assert!(first.contains("changed=3 "), "{first}");
    let second = play(&lab, &settings);
    assert!(second.contains("ok=4 ") && second.contains("changed=0 "), "{second}");

    // What the unit does when the port is there.
    for line in fs::read_to_string(directory.join("port-of-kstamp.service"))
        .unwrap()
        .lines()
    {
        if let Some(command) = line.strip_prefix("ExecStart=") {
            let mut words = command.split(' ');
            run(&mut lab.command(&place.namespace, words.next().unwrap(), words));
        }
    }
    let link = run(&mut lab.command(&place.namespace, "ip", ["-o", "link", "show", &place.interface]));
    assert!(
        link.contains("fa:16:3e:00:00:11") && link.contains("mtu 1442"),
        "{link}"
    );
    // The first frames of a new port may be dropped.
    run(&mut lab.command("agent2", "ping", ["-c", "1", "-w", "10", address]));
    let reflector = Agent::start(&lab, &place, "reflect", "--family v4");
    reflector.await_start(Duration::from_secs(10));
    // A userspace datapath dropped frames for up to two seconds after a program was attached in its own namespace.
    let arguments = format!("--family v4 --no-group --peer {address} --interval 10ms --count 1000");
    let agent = Agent::start(&lab, lab.pair()[1], "agent", &arguments);
    let finished = agent.wait(Duration::from_secs(30)).assert_success();
    let reflector = reflector.stop();
    let received = count(finished.summary(address, "unicast"), "received");
    assert!(received > 0, "{finished:#?}\n{reflector:#?}");
    lab.down().unwrap();
}
