use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

const LABEL: Size = (88.0, 20.0);

/// A network with labels, whose boxes have the width of such names.
fn network(names: &[String], links: &[(usize, usize)]) -> Network {
    Network {
        boxes: names
            .iter()
            .map(|name| (22.0 + 9.5 * name.len() as f64, 30.0))
            .collect(),
        links: links.to_vec(),
        label: Some(LABEL),
    }
}

fn numbered(count: usize, links: &[(usize, usize)]) -> Network {
    let names: Vec<String> = (1..=count).map(|number| format!("switch{number}")).collect();
    network(&names, links)
}

fn arpanet() -> Network {
    let names = ["harvard", "bbn", "sri", "ucsb", "ucla", "rand", "sdc", "utah", "mit"];
    let links = [
        (0, 1),
        (2, 3),
        (2, 4),
        (3, 4),
        (4, 5),
        (5, 6),
        (5, 1),
        (6, 7),
        (7, 8),
        (8, 1),
    ];
    network(&names.map(str::to_owned), &links)
}

fn ring(count: usize) -> Network {
    let links: Vec<(usize, usize)> = (0..count).map(|at| (at, (at + 1) % count)).collect();
    numbered(count, &links)
}

/// Four core switches, and four pods of two aggregation and two edge switches.
fn fat_tree() -> Network {
    let mut links = Vec::new();
    for pod in 0..4 {
        let first = 4 + 4 * pod;
        for half in 0..2 {
            links.extend((0..2).map(|core| (2 * half + core, first + half)));
            links.extend((0..2).map(|edge| (first + half, first + 2 + edge)));
        }
    }
    numbered(20, &links)
}

fn star(leaves: usize) -> Network {
    let links: Vec<(usize, usize)> = (1..=leaves).map(|leaf| (0, leaf)).collect();
    numbered(leaves + 1, &links)
}

/// Six by six.
fn grid() -> Network {
    let right = (0..36).filter(|at| at % 6 < 5).map(|at| (at, at + 1));
    let down = (0..30).map(|at| (at, at + 6));
    numbered(36, &right.chain(down).collect::<Vec<_>>())
}

fn networks() -> Vec<(&'static str, Network)> {
    vec![
        ("arpanet", arpanet()),
        ("ring of 50", ring(50)),
        ("fat tree", fat_tree()),
        ("single link", numbered(2, &[(0, 1)])),
        ("star of 30", star(30)),
        ("isolated switches", numbered(5, &[(0, 1), (1, 2)])),
        ("one switch", numbered(1, &[])),
        ("no switch", numbered(0, &[])),
        ("parallel links", numbered(3, &[(0, 1), (0, 1), (1, 0), (1, 2)])),
        ("two parts", numbered(7, &[(0, 1), (1, 2), (2, 0), (3, 4), (4, 5)])),
        (
            "full mesh of 8",
            numbered(
                8,
                &(0..8)
                    .flat_map(|one| (0..one).map(move |other| (other, one)))
                    .collect::<Vec<_>>(),
            ),
        ),
        ("grid", grid()),
    ]
}

/// Fails if two rectangles overlap or one is outside. Returns how often a link passes through the box of another switch.
fn check(what: &str, network: &Network) -> usize {
    let layout = network.lay_out();
    assert_eq!(
        (layout.boxes.len(), layout.links.len()),
        (network.boxes.len(), network.links.len()),
        "{what}"
    );
    let labels: Vec<Rect> = layout.links.iter().filter_map(|link| link.label).collect();
    assert_eq!(labels.len(), network.label.map_or(0, |_| network.links.len()), "{what}");
    let rects: Vec<Rect> = layout.boxes.iter().chain(&labels).copied().collect();
    for (at, rect) in rects.iter().enumerate() {
        let (right, bottom) = (rect.left() + rect.width, rect.top() + rect.height);
        assert!(
            rect.left() >= 0.0 && rect.top() >= 0.0 && right <= layout.size.0 && bottom <= layout.size.1,
            "{what}: {rect:?} is outside of {:?}",
            layout.size
        );
        for other in &rects[at + 1..] {
            assert!(
                rect.overlap(other, 0.0).is_none(),
                "{what}: {rect:?} overlaps {other:?}"
            );
        }
    }
    for (link, &(from, to)) in layout.links.iter().zip(&network.links) {
        assert_eq!(
            [link.curve.from, link.curve.to],
            [from, to].map(|end| layout.boxes[end].centre),
            "{what}"
        );
        let path = Path::of(link.curve);
        // A label is on its own link.
        assert!(
            link.label.is_none_or(|label| path.crosses(&label, 0.0)),
            "{what}: {link:?}"
        );
    }
    through_boxes(&layout.boxes, &network.links, &layout.links)
}

#[test]
fn nothing_overlaps_and_no_link_passes_through_a_box() {
    let mut counts = String::new();
    let mut sum = 0;
    for (what, network) in networks() {
        let through = check(what, &network);
        sum += through;
        let _ = write!(counts, "{what}: {through}, ");
    }
    println!("links through boxes: {counts}");
    assert_eq!(sum, 0, "{counts}");
}

#[test]
fn a_network_is_always_laid_out_alike() {
    for (what, network) in networks() {
        assert_eq!(network.lay_out(), network.clone().lay_out(), "{what}");
    }
}

#[test]
fn parallel_links_are_apart() {
    let layout = numbered(2, &[(0, 1), (0, 1), (1, 0)]).lay_out();
    let paths: Vec<Path> = layout.links.iter().map(|link| Path::of(link.curve)).collect();
    for one in 0..3 {
        for other in 0..one {
            assert!(!paths[one].is_along(&paths[other]), "{layout:?}");
        }
    }
}

#[test]
fn a_network_without_labels_has_no_overlaps() {
    let links: Vec<(usize, usize)> = (0..100)
        .flat_map(|at| (1..=4).map(move |step| (at, (at + step) % 100)))
        .collect();
    let network = Network {
        label: None,
        ..numbered(100, &links)
    };
    println!("links through boxes: {}", check("a hundred switches", &network));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn no_network_has_overlaps(
        names in proptest::collection::vec("[a-z0-9-]{1,15}", 1..16),
        pairs in proptest::collection::vec((0_usize..16, 0_usize..16), 0..30),
    ) {
        let links: Vec<(usize, usize)> = pairs
            .into_iter()
            .map(|(from, to)| (from % names.len(), to % names.len()))
            .filter(|(from, to)| from != to)
            .collect();
        check("any network", &network(&names, &links));
    }
}
