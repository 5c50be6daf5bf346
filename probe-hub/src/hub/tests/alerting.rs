//! What one host can do to the alerts of all.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::hub::alerts::{Kind, Subject};
use crate::hub::matrix::Cell;
use crate::message::event::{Answer, Direction, Event, Session, Silence, What};
use crate::message::windows::WireCounts;
use crate::subjects::EVENTS;

/// Session identifier of the false silences of h0.
const FORGED: u16 = 1;
/// Session identifier of the silence that h2 reports.
const RIGHT: u16 = 2;

/// h0 reports false silences of h1, and of h3, which is not among its targets. What h2 reports still becomes an alert.
#[tokio::test]
async fn a_host_that_makes_silences_up_does_not_disturb_others() {
    const ROUNDS: u64 = 600;
    let Some(mut place) = Place::start().await else { return };
    let hub = Hub::start(place.config("hub")).await.unwrap();
    let credentials = place
        .state
        .enroll(
            &"h1".parse().unwrap(),
            &["10.0.0.0/8".parse().unwrap()],
            place.servers.clone(),
            false,
        )
        .unwrap();
    place.server.as_ref().unwrap().reload();
    let agent = connection::connect(&credentials, |_| async {}).await.unwrap();
    let mut questions = agent.subscribe(subjects::question(&port(1))).await.unwrap();
    agent.flush().await.unwrap();
    let forged = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&forged);
    let answering = tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            let session: Session = serde_json::from_slice(&question.payload).unwrap();
            counted.fetch_add(u64::from(session.ssid == FORGED), Ordering::Relaxed);
            let answer = serde_json::to_vec(&Answer { replies: Some(9) }).unwrap();
            agent.publish(question.reply.unwrap(), answer.into()).await.unwrap();
        }
    });

    let client = place.client().await;
    let jetstream = jetstream::new(client.clone());
    let presences = jetstream.get_key_value(subjects::PRESENCE).await.unwrap();
    let store = jetstream.get_key_value(subjects::ASSIGNMENT).await.unwrap();
    for index in 0..4 {
        let network = if index == 3 { "other" } else { "" };
        let labels = BTreeMap::from([("network".to_owned(), network.to_owned())]);
        let presence = presence(index, &format!("10.0.0.{}", index + 1));
        announce(&presences, &Presence { labels, ..presence }).await;
    }
    let beating = tokio::spawn(beat(client.clone(), store, ""));
    let id = |index| hub.fleet().id(&port(index));
    let is_assigned = |index| {
        let fleet = hub.fleet();
        fleet
            .id(&port(index))
            .is_some_and(|id| fleet.targets(id).len() == 2 && fleet.is_confirmed(id))
    };
    until("three ports are assigned", 30, async || (0..3).all(is_assigned)).await;

    // Afterwards, a silence does not come from the start of the peer.
    sleep(Duration::from_secs(15)).await;
    let say = async |from, what| {
        let event = Event {
            port: port(from),
            boot: 1,
            time_ns: Now::read().utc_ns,
            what,
        };
        let content = serde_json::to_vec(&event).unwrap();
        client.publish(EVENTS.of(&event.port), content.into()).await.unwrap();
    };
    let silent = |to, ssid| {
        What::Silent(Silence {
            peer: port(to),
            address: "10.0.0.2".parse().unwrap(),
            since_ns: Now::read().utc_ns,
            lost: 3,
            session: Session {
                source: "10.0.0.1".parse().unwrap(),
                destination: "10.0.0.2".parse().unwrap(),
                source_port: 1,
                destination_port: 1,
                ssid,
            },
            replies: Some(9),
        })
    };
    let answers = || What::Answering {
        peer: port(1),
        address: "10.0.0.2".parse().unwrap(),
        silent_ns: 1,
    };
    say(0, silent(3, FORGED)).await;
    let flood = Instant::now();
    for _ in 0..ROUNDS {
        let before = forged.load(Ordering::Relaxed);
        say(0, silent(1, FORGED)).await;
        for _ in 0..20 {
            if forged.load(Ordering::Relaxed) > before {
                break;
            }
            sleep(Duration::from_millis(1)).await;
        }
        say(0, answers()).await;
    }
    let asked = forged.load(Ordering::Relaxed);
    let seconds = flood.elapsed().as_secs() + 1;
    println!("{asked} questions about {ROUNDS} silences in {seconds} s");
    assert!((1..=256 + 10 * seconds).contains(&asked), "{asked} in {seconds} s");
    // Windows of h2 with losses, to one of its targets and to a port that is not among them.
    for to in [0, 3] {
        let counts = WireCounts {
            sent: 100,
            received: 50,
            lost_forward: 50,
            ..WireCounts::default()
        };
        for number in (0..3).rev() {
            let end_ns = Now::read().utc_ns - number * 1_000_000_000;
            let cell = Cell::new(id(to).unwrap(), end_ns - 1_000_000_000, end_ns, &counts, None);
            hub.alerts().losses.take(id(2).unwrap(), &cell);
        }
    }

    let is_raised = |kind, to| {
        let alerts = hub.alerts();
        let subject = Subject::Pair {
            from: port(2),
            to: port(to),
        };
        let found = alerts
            .raised()
            .find(|alert| alert.kind == kind && alert.subject == subject);
        found.map(|alert| alert.direction)
    };
    // On a busy machine a question may not be answered in time.
    until("the alert about h1", 60, async || {
        say(2, answers()).await;
        say(2, silent(1, RIGHT)).await;
        sleep(Duration::from_secs(2)).await;
        is_raised(Kind::Silent, 1) == Some(Some(Direction::Forward))
    })
    .await;
    until("the alert about h0", 10, async || is_raised(Kind::Loss, 0).is_some()).await;
    assert_eq!(is_raised(Kind::Loss, 3), None);
    let of_h3 = |(_, to): (&PortName, &PortName)| *to == port(3);
    assert!(!hub.alerts().silent_pairs().any(of_h3));
    beating.abort();
    answering.abort();
    hub.stop().await;
    place.stop_server().await;
}

fn port(index: u32) -> PortName {
    format!("h{index}/p").parse().unwrap()
}

#[tokio::test]
async fn a_hub_without_a_server_says_why() {
    let Some(mut place) = Place::start().await else { return };
    let config = place.config("hub");
    place.stop_server().await;
    let error = Hub::start(config).await.err().unwrap();
    let line = format!("{error:#}");
    assert!(line.contains("Connection refused"), "{line}");
}
