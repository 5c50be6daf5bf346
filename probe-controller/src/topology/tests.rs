use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;
const PERIOD: u64 = 500 * MS;

fn port(dpid: u64, port: u32) -> PortId {
    PortId {
        dpid: Dpid(dpid),
        port: PortNumber(port),
    }
}

fn network(ports: &[PortId]) -> Topology {
    let mut topology = Topology::new(PERIOD);
    for port in ports {
        topology.switch_up(port.dpid);
        topology.port_up(*port, 0);
    }
    topology
}

fn both(topology: &mut Topology, one: PortId, other: PortId, now_ns: u64) {
    topology.heard(one, other, now_ns);
    topology.heard(other, one, now_ns);
}

fn changes(topology: &mut Topology) -> Vec<(Link, Presence)> {
    topology
        .take_changes()
        .into_iter()
        .map(|change| (change.link, change.now))
        .collect()
}

#[test]
fn a_link_is_up_when_both_ends_received_lldp() {
    let (a, b) = (port(1, 1), port(2, 1));
    let mut topology = network(&[a, b]);
    topology.heard(a, b, 0);
    assert_eq!(changes(&mut topology), [(Link::between(a, b), Presence::OneWay)]);
    assert_eq!(topology.link_at(a), None);
    topology.heard(b, a, 0);
    assert_eq!(changes(&mut topology), [(Link::between(a, b), Presence::Up)]);
    assert_eq!(topology.link_at(a), topology.link_at(b));
}

#[test]
fn parallel_links_are_different_links() {
    let ports = [port(1, 1), port(1, 2), port(2, 1), port(2, 2)];
    let mut topology = network(&ports);
    both(&mut topology, ports[0], ports[2], 0);
    both(&mut topology, ports[1], ports[3], 0);
    assert_eq!(topology.links().count(), 2);
}

#[test]
fn a_link_ages_within_two_seconds_of_the_default_period_and_comes_back() {
    let (a, b) = (port(1, 1), port(2, 1));
    let link = Link::between(a, b);
    let mut topology = network(&[a, b]);
    both(&mut topology, a, b, 100 * MS);
    // One direction alone does not keep it.
    topology.heard(a, b, 1_000 * MS);
    let due_ns = topology.next_deadline().unwrap();
    assert!(due_ns < 100 * MS + 2_000 * MS);
    topology.expire(due_ns - 1);
    topology.take_changes();
    topology.expire(due_ns);
    assert_eq!(changes(&mut topology), [(link, Presence::Stale)]);
    both(&mut topology, a, b, due_ns + MS);
    assert_eq!(changes(&mut topology), [(link, Presence::Up)]);
}

#[test]
fn a_port_that_goes_down_takes_its_links_at_once() {
    let (a, b) = (port(1, 1), port(2, 1));
    let mut topology = network(&[a, b]);
    both(&mut topology, a, b, 0);
    topology.take_changes();
    assert!(topology.port_down(a, MS));
    assert_eq!(changes(&mut topology), [(Link::between(a, b), Presence::Down)]);
    assert!(!topology.port_down(a, MS));
    // Frames in transit create no link.
    topology.heard(b, a, 2 * MS);
    topology.heard(a, b, 2 * MS);
    assert_eq!(changes(&mut topology), []);
}

#[test]
fn a_port_with_a_new_neighbour_loses_its_former_link() {
    let (a, b, c) = (port(1, 1), port(2, 1), port(3, 1));
    let mut topology = network(&[a, b, c]);
    both(&mut topology, a, b, 0);
    topology.take_changes();
    both(&mut topology, a, c, MS);
    let changes = changes(&mut topology);
    assert!(changes.contains(&(Link::between(a, b), Presence::Down)), "{changes:?}");
    assert!(changes.contains(&(Link::between(a, c), Presence::Up)), "{changes:?}");
}

#[test]
fn a_port_becomes_a_host_port_after_silence_and_never_after_a_link() {
    let (a, b) = (port(1, 1), port(2, 1));
    let mut topology = network(&[a, b, port(1, 9)]);
    let age_ns = topology.age_ns();
    assert_eq!(topology.role(port(1, 9), age_ns), Role::Unknown);
    assert_eq!(topology.role(port(1, 9), age_ns + 1), Role::Edge);
    topology.heard(a, b, 0);
    for end in [a, b] {
        assert_eq!(topology.role(end, 100 * age_ns), Role::Link);
    }
    topology.port_down(b, age_ns);
    topology.port_up(b, 2 * age_ns);
    assert_eq!(topology.role(b, 2 * age_ns + 1), Role::Unknown);
    assert_eq!(topology.role(port(7, 7), age_ns), Role::Unknown);
}

#[test]
fn old_links_are_removed() {
    let (a, b) = (port(1, 1), port(2, 1));
    let mut topology = network(&[a, b]);
    both(&mut topology, a, b, 0);
    topology.switch_down(Dpid(2), MS);
    topology.expire(KEEP_NS);
    assert_eq!(topology.links().count(), 1);
    topology.expire(KEEP_NS + 2 * MS);
    assert_eq!(topology.links().count(), 0);
}

/// A period in which all these ports send LLDP over one segment.
fn on_one_segment(topology: &mut Topology, ports: &[PortId], now_ns: u64) {
    for from in ports {
        for at in ports.iter().filter(|at| *at != from) {
            topology.heard(*from, *at, now_ns);
        }
    }
}

#[test]
fn ports_with_several_neighbours_share_a_segment_until_they_have_one_again() {
    let ports = [port(1, 1), port(2, 1), port(3, 1), port(4, 1)];
    let [a, b, c, d] = ports;
    let mut topology = network(&ports);
    both(&mut topology, a, b, 0);
    topology.take_changes();
    on_one_segment(&mut topology, &ports[..3], PERIOD);
    on_one_segment(&mut topology, &ports[..3], 2 * PERIOD);
    assert_eq!(topology.take_segments(), [[a, b, c]]);
    let roles = |topology: &Topology| ports.map(|port| topology.role(port, 2 * PERIOD));
    assert_eq!(roles(&topology), [Role::Segment, Role::Link, Role::Link, Role::Unknown]);
    assert_eq!(ports.map(|port| topology.serving(port)), [a, a, a, d]);
    assert_eq!(topology.links().count(), 0);
    topology.take_changes();
    // A fourth joins; nothing more is said, however long it lasts.
    let mut now_ns = 2 * PERIOD;
    for _ in 0..100 {
        now_ns += PERIOD;
        on_one_segment(&mut topology, &ports, now_ns);
        topology.expire(now_ns);
    }
    assert_eq!((changes(&mut topology), topology.take_segments()), (vec![], vec![]));
    assert_eq!(topology.segments().count(), 4);
    // The smallest port goes down: another serves the hosts.
    topology.port_down(a, now_ns);
    assert_eq!(topology.role(b, now_ns), Role::Segment);
    // Two are left, and then one.
    let mut up_after = 0;
    for period in 1..=20 {
        now_ns += PERIOD;
        both(&mut topology, b, c, now_ns);
        topology.expire(now_ns);
        if up_after == 0 && topology.link_at(b).is_some() {
            up_after = period;
        }
    }
    assert!((SEGMENT_PERIODS..SEGMENT_PERIODS + 5).contains(&up_after), "{up_after}");
    assert_eq!(topology.segments().count(), 0);
    assert_eq!(topology.role(b, now_ns), Role::Link);
}

#[test]
fn a_port_remembers_few_neighbours_and_one_of_its_own_switch_is_one() {
    let many: Vec<PortId> = (1..=1_000).map(|number| port(2, number)).collect();
    let mut topology = network(&many);
    topology.port_up(port(1, 1), 0);
    for _ in 0..3 {
        for from in &many {
            topology.heard(*from, port(1, 1), 0);
        }
    }
    assert!(topology.ports[&port(1, 1)].neighbours.len() <= MAX_NEIGHBOURS);
    on_one_segment(&mut topology, &[port(1, 1), many[0], many[1]], 1);
    on_one_segment(&mut topology, &[port(1, 1), many[0], many[1]], 2);
    assert_eq!(topology.serving(many[1]), port(1, 1));
}

/// The ARPANET of June 1970; one-way delays in milliseconds.
const ARPANET: [(u64, u64, u64); 10] = [
    (1, 2, 10), // HARVARD–BBN
    (3, 4, 11), // SRI–UCSB
    (3, 5, 13), // SRI–UCLA
    (4, 5, 14), // UCSB–UCLA
    (5, 6, 15), // UCLA–RAND
    (6, 7, 17), // RAND–SDC
    (6, 2, 29), // RAND–BBN
    (7, 8, 10), // SDC–UTAH
    (8, 9, 62), // UTAH–MIT
    (9, 2, 17), // MIT–BBN
];
const SDC: Dpid = Dpid(7);
const MIT: Dpid = Dpid(9);

fn edge(place: usize, (from, to, delay_ms): (u64, u64, u64)) -> Edge {
    let number = u32::try_from(place).unwrap() + 1;
    Edge {
        link: Link::between(port(from, number), port(to, number)),
        delay_ns: delay_ms * MS,
        error_ns: 0,
    }
}

fn graph(links: &[(u64, u64, u64)]) -> Graph {
    let edges = links.iter().enumerate().map(|(place, link)| edge(place, *link));
    Graph::new((1..=9).map(Dpid), edges)
}

fn through(path: &Path) -> Vec<u64> {
    path.hops.iter().map(|hop| hop.into.dpid.0).collect()
}

#[test]
fn the_arpanet_is_crossed_by_least_delay_and_not_by_fewest_hops() {
    let graph = graph(&ARPANET);
    let path = graph.least_delay(SDC, MIT).unwrap();
    assert_eq!((through(&path), path.delay_ns), (vec![6, 2, 9], 63 * MS));
    assert_eq!(graph.least_delay(SDC, SDC).unwrap().hops, []);
}

#[test]
fn a_path_changes_when_it_breaks_or_another_is_better_by_the_gain() {
    let graph_all = graph(&ARPANET);
    let path = graph_all.least_delay(SDC, MIT).unwrap();
    let cut = graph(&ARPANET[..9]);
    let Route::Change(detour) = choose_route(&cut, SDC, MIT, Some(&path), 0.1) else {
        panic!("the path is broken");
    };
    assert_eq!((through(&detour), detour.delay_ns), (vec![8, 9], 72 * MS));
    // 63 ms is better than 72 ms by an eighth.
    assert_eq!(choose_route(&graph_all, SDC, MIT, Some(&detour), 0.13), Route::Keep);
    assert_eq!(
        choose_route(&graph_all, SDC, MIT, Some(&detour), 0.1),
        Route::Change(path.clone())
    );
    assert_eq!(choose_route(&graph_all, SDC, MIT, Some(&path), 0.0), Route::Keep);
    assert_eq!(
        choose_route(&graph(&[]), SDC, MIT, Some(&path), 0.0),
        Route::Unreachable
    );
}

#[test]
fn links_within_their_noise_move_no_traffic() {
    // The weights are noise: delays below the resolution.
    let noisy = |delays: [u64; 3]| {
        let edges = [(1, 2), (2, 3), (1, 3)].into_iter().zip(delays).enumerate();
        let edges = edges.map(|(place, ((from, to), delay_ms))| Edge {
            error_ns: delay_ms * MS,
            ..edge(place, (from, to, delay_ms))
        });
        Graph::new((1..=3).map(Dpid), edges)
    };
    let before = noisy([5, 5, 12]);
    let path = before.least_delay(Dpid(1), Dpid(3)).unwrap();
    assert_eq!(through(&path), [2, 3]);
    let after = noisy([6, 6, 9]);
    assert_eq!(through(&after.least_delay(Dpid(1), Dpid(3)).unwrap()), [3]);
    assert_eq!(choose_route(&after, Dpid(1), Dpid(3), Some(&path), 0.0), Route::Keep);
}

#[test]
fn of_parallel_links_the_faster_one_is_used() {
    let graph = graph(&[(1, 2, 20), (1, 2, 10), (1, 2, 30)]);
    let path = graph.least_delay(Dpid(2), Dpid(1)).unwrap();
    assert_eq!((path.hops[0].out, path.delay_ns), (port(2, 2), 10 * MS));
}

proptest! {
    #[test]
    fn a_tree_has_no_loop_spans_the_network_and_keeps_links(
        links in proptest::collection::vec((1u64..10, 1u64..10, 0u64..50), 0..30),
        lost in proptest::collection::vec(any::<bool>(), 30),
    ) {
        let before = graph(&links);
        let tree = choose_tree(&before, &BTreeSet::new());
        prop_assert!(before.is_spanned_by(&tree));
        prop_assert_eq!(&choose_tree(&before, &tree), &tree);

        let left = links.iter().enumerate().filter(|(place, _)| !lost[*place]);
        let edges: Vec<Edge> = left.map(|(place, link)| edge(place, *link)).collect();
        let after = Graph::new((1..=9).map(Dpid), edges.clone());
        let next = choose_tree(&after, &tree);
        prop_assert!(after.is_spanned_by(&next));
        let living = tree.iter().filter(|link| edges.iter().any(|edge| edge.link == **link));
        prop_assert!(living.clone().all(|link| next.contains(link)));
    }

    #[test]
    fn a_least_delay_path_is_connected_and_no_other_is_shorter(
        links in proptest::collection::vec((1u64..10, 1u64..10, 0u64..50), 0..30),
    ) {
        let graph = graph(&links);
        let delay = |from, to| graph.least_delay(Dpid(from), Dpid(to)).map(|path| path.delay_ns);
        for from in 1..10 {
            for to in 1..10 {
                if let Some(path) = graph.least_delay(Dpid(from), Dpid(to)) {
                    prop_assert!(path.hops.windows(2).all(|pair| pair[0].into.dpid == pair[1].out.dpid));
                    prop_assert_eq!(graph.path_delay_ns(&path.hops), Some(path.delay_ns));
                }
                for (one, other, delay_ms) in &links {
                    if let Some(half) = delay(from, *one) {
                        // Bellman: going on by one link is never shorter than the least.
                        prop_assert!(delay(from, *other).unwrap() <= half + delay_ms * MS);
                    }
                }
            }
        }
    }
}
