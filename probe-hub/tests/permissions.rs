//! What a hostile host can do at a real server: nothing that harms others. Without a nats-server (`KSTAMP_NATS_SERVER`, or in
//! PATH) these tests print `SKIPPED` and pass.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

#[path = "support/nats.rs"]
mod nats;

use std::time::Duration;

use async_nats::jetstream::{self, kv};
use async_nats::{Client, ConnectOptions, HeaderMap, Message, Subscriber};
use futures_util::StreamExt as _;
use nkeys::KeyPair;
use probe_hub::connection;
use probe_hub::credentials::Credentials;
use probe_hub::enrol::{HubKeys, Servers, StateDirectory};
use probe_hub::hub::stores::{self, Limits};
use probe_hub::message::assignment::{Assignment, SIGNATURE};
use probe_hub::message::event::{Notice, Session};
use probe_hub::message::presence::Presence;
use probe_hub::message::windows::Batch;
use probe_hub::name::{HostName, PortName};
use probe_hub::server::Server;
use probe_hub::subjects::{self, ASSIGNMENT, EVENTS, HUB, LEASE_KEY, PRESENCE, Results, WINDOWS};
use prost::Message as _;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

/// Longest wait for a message that must come.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(20);
/// The only payload that is expected to arrive.
const MARK: &str = "mark";

struct Fleet {
    _directory: TempDir,
    state: StateDirectory,
    server: Server,
    url: String,
    keys: HubKeys,
    hub: Client,
    streams: jetstream::Context,
    h1: Credentials,
    h2: Credentials,
    reader: Credentials,
}

impl Fleet {
    /// A server with the streams and buckets of a hub, with two hosts and a reader; `None` without a program, which is
    /// printed.
    async fn start() -> Option<Self> {
        let (directory, state, config) = nats::prepare().await?;
        let url = format!("tls://{}", config.listen);
        let [h1, h2] = ["h1", "h2"].map(|name| enroll(&state, &url, name));
        // Requests at the moment of a reload may be lost.
        let reader = state.enroll(&host("r"), &[], servers(&url), false).unwrap();
        let server = Server::start(&state, config).await.unwrap();
        let keys = state.hub(&host("hub"), servers(&url)).unwrap();
        let hub = connect(&keys.credentials).await;
        let streams = jetstream::new(hub.clone());
        stores::make(&streams, &Limits::within(1 << 30), MESSAGE_TIMEOUT)
            .await
            .unwrap();
        Some(Self {
            _directory: directory,
            state,
            server,
            url,
            keys,
            hub,
            streams,
            h1,
            h2,
            reader,
        })
    }

    async fn hosts(&self) -> [Client; 2] {
        [connect(&self.h1).await, connect(&self.h2).await]
    }

    async fn bucket(&self, name: &str) -> kv::Store {
        self.streams.get_key_value(name).await.unwrap()
    }

    /// Writes an entry as the hub.
    async fn put(&self, bucket: &str, key: &str, content: &str) {
        self.bucket(bucket)
            .await
            .put(key, content.to_owned().into())
            .await
            .unwrap();
    }

    async fn entry(&self, bucket: &str, key: &str) -> String {
        let entry = self.bucket(bucket).await.get(key).await.unwrap().unwrap();
        String::from_utf8(entry.to_vec()).unwrap()
    }

    /// Messages in all streams and buckets, by subject.
    async fn stored(&self) -> Vec<(String, usize)> {
        let mut stored = Vec::new();
        let buckets = [PRESENCE, ASSIGNMENT, HUB].map(|bucket| format!("KV_{bucket}"));
        for name in buckets
            .into_iter()
            .chain(Results::ALL.map(|results| results.stream.to_owned()))
        {
            let stream = self.streams.get_stream(name).await.unwrap();
            let mut subjects = stream.info_with_subjects(">").await.unwrap();
            while let Some(subject) = subjects.next().await {
                stored.push(subject.unwrap());
            }
        }
        stored.sort();
        stored
    }

    async fn end(self) {
        drop(self.hub);
        self.server.stop().await;
    }
}

fn enroll(state: &StateDirectory, url: &str, name: &str) -> Credentials {
    let prefixes = ["10.0.0.0/8".parse().unwrap()];
    state.enroll(&host(name), &prefixes, servers(url), false).unwrap()
}

fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

fn port(name: &str) -> PortName {
    name.parse().unwrap()
}

fn servers(url: &str) -> Servers {
    Servers {
        urls: vec![url.to_owned()],
        ca: None,
    }
}

/// Returns when it is connected: the server may have to read its accounts again first.
async fn connect(credentials: &Credentials) -> Client {
    let client = connection::connect(credentials, |_| async {}).await.unwrap();
    timeout(MESSAGE_TIMEOUT, client.flush()).await.unwrap().unwrap();
    client
}

/// Subscribes, and returns when the server knows it.
async fn subscribe(client: &Client, subject: &str) -> Subscriber {
    let subscriber = client.subscribe(subject.to_owned()).await.unwrap();
    settle(client).await;
    subscriber
}

/// Returns when the server has taken all that this client has sent: it answers in that order.
async fn settle(client: &Client) {
    let inbox = client.new_inbox();
    let name = inbox
        .strip_prefix("_INBOX_")
        .and_then(|rest| rest.split('.').next())
        .unwrap();
    let assignment = subjects::entry(ASSIGNMENT, &format!("{name}.settled"));
    let request = client.request(subjects::newest("KV_kstamp_assignment", &assignment), "".into());
    timeout(MESSAGE_TIMEOUT, request).await.unwrap().unwrap();
}

async fn next(subscriber: &mut Subscriber) -> Message {
    timeout(MESSAGE_TIMEOUT, subscriber.next()).await.unwrap().unwrap()
}

async fn publish(client: &Client, subject: &str, content: &str) {
    client
        .publish(subject.to_owned(), content.to_owned().into())
        .await
        .unwrap();
}

/// All messages with content before the one that says [`MARK`]. Those without are requests and their refusals.
async fn until_mark(subscriber: &mut Subscriber) -> Vec<Message> {
    let mut messages = Vec::new();
    loop {
        let message = next(subscriber).await;
        if message.payload == MARK {
            return messages;
        }
        if !message.payload.is_empty() {
            messages.push(message);
        }
    }
}

fn described(messages: &[Message]) -> Vec<String> {
    let of = |message: &Message| format!("{}: {}", message.subject, String::from_utf8_lossy(&message.payload));
    messages.iter().map(of).collect()
}

/// Subjects of the fleet that belong to the port of another host, or to hubs.
fn subjects_of_others() -> Vec<String> {
    let other = port("h2/p");
    let mut subjects: Vec<_> = Results::ALL.iter().map(|results| results.of(&other)).collect();
    subjects.extend([
        subjects::heartbeat(&other),
        subjects::question(&other),
        subjects::notice(&other),
        subjects::entry(PRESENCE, "h2.p"),
        subjects::entry(ASSIGNMENT, "h2.p"),
        subjects::entry(HUB, LEASE_KEY),
        // Its own assignment is the hub's to write.
        subjects::entry(ASSIGNMENT, "h1.p"),
        subjects::question(&port("h1/p")),
        // A port must be of two tokens.
        format!("{}.h1.p.q", WINDOWS.prefix),
        format!("{}.h1", WINDOWS.prefix),
        "_INBOX_h2.x".to_owned(),
        "_INBOX_hub.x".to_owned(),
        "kstamp.query.matrix".to_owned(),
        "_R_.x".to_owned(),
    ]);
    subjects
}

/// The server refuses each subject that is not the host's. Nothing arrives at the hub, and nothing is stored.
#[tokio::test]
async fn a_host_writes_as_itself_only() {
    let Some(fleet) = Fleet::start().await else { return };
    let [h1, h2] = fleet.hosts().await;
    let mut seen = subscribe(&fleet.hub, ">").await;
    let mut at_h2 = subscribe(&h2, "kstamp.notice.h2.*").await;
    for subject in subjects_of_others() {
        publish(&h1, &subject, "forged").await;
    }
    publish(&h1, "kstamp.heartbeat.h1.p", MARK).await;
    assert_eq!(described(&until_mark(&mut seen).await), [""; 0]);
    publish(&fleet.hub, "kstamp.notice.h2.p", MARK).await;
    assert_eq!(described(&until_mark(&mut at_h2).await), [""; 0]);
    assert_eq!(fleet.stored().await, []);
    fleet.end().await;
}

/// The server refuses each subscription and each request that is not about the host's own port.
#[tokio::test]
async fn a_host_reads_only_what_is_for_it() {
    let Some(fleet) = Fleet::start().await else { return };
    let [h1, h2] = fleet.hosts().await;
    let own = subjects::entry(ASSIGNMENT, "h1.p");
    let mut subscriptions = Vec::new();
    for subject in subjects_of_others()
        .into_iter()
        .filter(|subject| *subject != own && !subject.contains("ask.h1"))
        .chain(
            [
                ">",
                "$KV.>",
                "$KV.*.h2.*",
                "kstamp.>",
                "kstamp.window.*.*",
                "$JS.>",
                "_INBOX_h2.>",
                "*.*.h2.*",
                "$SYS.>",
                "_R_.>",
            ]
            .map(str::to_owned),
        )
    {
        subscriptions.push((subject.clone(), h1.subscribe(subject).await.unwrap()));
    }
    let mut assigned = subscribe(&h1, &own).await;
    fleet.put(PRESENCE, "h2.p", "secret").await;
    fleet.put(ASSIGNMENT, "h2.p", "secret").await;
    fleet.put(HUB, LEASE_KEY, "secret").await;
    publish(&fleet.hub, "kstamp.notice.h2.p", "secret").await;
    publish(&h2, &WINDOWS.of(&port("h2/p")), "secret").await;
    settle(&h2).await;

    let replies = h1.new_inbox();
    let mut replied = subscribe(&h1, &replies).await;
    let presence = "KV_kstamp_presence";
    for (subject, content) in [
        (
            subjects::newest("KV_kstamp_assignment", "$KV.kstamp_assignment.h2.p"),
            "",
        ),
        (subjects::newest(presence, "$KV.kstamp_presence.h2.p"), ""),
        // Not even its own: answers of this stream are of no use to an agent.
        (subjects::newest(presence, "$KV.kstamp_presence.h1.p"), ""),
        (
            format!("$JS.API.DIRECT.GET.{presence}"),
            r#"{"last_by_subj":"$KV.kstamp_presence.h2.p"}"#,
        ),
        (
            format!("$JS.API.STREAM.MSG.GET.{presence}"),
            r#"{"last_by_subj":"$KV.kstamp_presence.h2.p"}"#,
        ),
        (format!("$JS.API.STREAM.INFO.{presence}"), ""),
        ("$JS.API.STREAM.NAMES".to_owned(), ""),
        ("$JS.API.INFO".to_owned(), ""),
        ("$JS.API.STREAM.PURGE.KSTAMP_WINDOWS".to_owned(), ""),
        ("$JS.API.STREAM.DELETE.KSTAMP_WINDOWS".to_owned(), ""),
        ("$JS.API.STREAM.MSG.DELETE.KSTAMP_WINDOWS".to_owned(), r#"{"seq":1}"#),
        (
            "$JS.API.CONSUMER.CREATE.KSTAMP_WINDOWS".to_owned(),
            r#"{"stream_name":"KSTAMP_WINDOWS","config":{"deliver_subject":"_INBOX_h1.x","ack_policy":"none"}}"#,
        ),
        ("$SYS.REQ.USER.INFO".to_owned(), ""),
        ("$SYS.REQ.SERVER.PING".to_owned(), ""),
    ] {
        h1.publish_with_reply(subject, replies.clone(), content.into())
            .await
            .unwrap();
    }
    // A request for the host's own assignment cannot be widened by its content.
    fleet.put(ASSIGNMENT, "h1.p", MARK).await;
    let newest = subjects::newest("KV_kstamp_assignment", &own);
    let wide = r#"{"multi_last":["$KV.kstamp_assignment.>"]}"#;
    h1.publish_with_reply(newest.clone(), replies.clone(), wide.into())
        .await
        .unwrap();
    h1.publish_with_reply(newest, replies.clone(), "".into()).await.unwrap();
    assert_eq!(described(&until_mark(&mut replied).await), [""; 0]);
    assert_eq!(described(&until_mark(&mut assigned).await), [""; 0]);
    for (subject, mut subscription) in subscriptions {
        let message = timeout(Duration::from_millis(20), subscription.next()).await;
        assert!(!matches!(message, Ok(Some(_))), "{subject}: {message:?}");
    }
    fleet.end().await;
}

/// The server sends an answer to the subject that the request names, in the account of hosts. That account has no streams, so
/// neither an acknowledgement nor an entry comes to the subjects of a stream or a bucket, of the hub, or of the server's API.
#[tokio::test]
async fn answers_cannot_be_directed_to_others() {
    let Some(fleet) = Fleet::start().await else { return };
    let [h1, h2] = fleet.hosts().await;
    let signed = |name: &str| {
        let assignment = Assignment {
            port: port(name),
            generation: 1,
            targets: Vec::new(),
            probers: Vec::new(),
        };
        assignment.sign(&fleet.keys.signing).unwrap()
    };
    let (content, signature) = signed("h1/p");
    let mut headers = HeaderMap::new();
    headers.insert(SIGNATURE, signature.as_str());
    let entry = subjects::entry(ASSIGNMENT, "h1.p");
    fleet
        .hub
        .publish_with_headers(entry, headers, content.into())
        .await
        .unwrap();
    for (bucket, key) in [(PRESENCE, "h2.p"), (ASSIGNMENT, "h2.p"), (HUB, LEASE_KEY)] {
        fleet.put(bucket, key, "right").await;
    }
    let stored = h2.request(WINDOWS.of(&port("h2/p")), "right".into()).await.unwrap();
    assert!(!String::from_utf8_lossy(&stored.payload).contains("error"));
    let replies = h1.new_inbox();
    let mut replied = subscribe(&h1, &replies).await;
    for subject in [
        WINDOWS.of(&port("h1/p")),
        EVENTS.of(&port("h1/p")),
        subjects::entry(PRESENCE, "h1.p"),
    ] {
        h1.publish_with_reply(subject, replies.clone(), "x".into())
            .await
            .unwrap();
        next(&mut replied).await;
    }
    let before = fleet.stored().await;

    let mut seen = subscribe(&fleet.hub, ">").await;
    let mut at_h2 = Vec::new();
    for subject in [
        "kstamp.ask.h2.*",
        "kstamp.notice.h2.*",
        "$KV.kstamp_assignment.h2.*",
        "_INBOX_h2.>",
    ] {
        at_h2.push(subscribe(&h2, subject).await);
    }
    let newest = subjects::newest("KV_kstamp_assignment", "$KV.kstamp_assignment.h1.p");
    let api = [
        "$JS.API.STREAM.PURGE.KSTAMP_WINDOWS",
        "$JS.API.STREAM.DELETE.KSTAMP_WINDOWS",
        "$JS.API.STREAM.MSG.DELETE.KSTAMP_WINDOWS",
        "$JS.API.STREAM.PURGE.KV_kstamp_presence",
        "$SYS.REQ.SERVER.PING",
    ];
    let targets: Vec<_> = subjects_of_others().into_iter().chain(api.map(str::to_owned)).collect();
    // An acknowledgement, a refusal, an entry.
    for (subject, content) in [
        (subjects::entry(PRESENCE, "h1.p"), "x".to_owned()),
        (subjects::entry(PRESENCE, "h1.p"), "x".repeat(20 << 10)),
        (newest, String::new()),
    ] {
        for target in &targets {
            let request = h1.publish_with_reply(subject.clone(), target.clone(), content.clone().into());
            request.await.unwrap();
        }
        // The answers are given in the order of the requests.
        h1.publish_with_reply(subject, replies.clone(), content.into())
            .await
            .unwrap();
        next(&mut replied).await;
    }
    publish(&h1, "kstamp.heartbeat.h1.p", MARK).await;
    let seen: Vec<_> = until_mark(&mut seen).await;
    let foreign: Vec<_> = seen
        .iter()
        // Its way back into the account of hosts.
        .filter(|message| !message.subject.starts_with("_R_."))
        .filter(|message| message.subject.as_str() != "$KV.kstamp_presence.h1.p")
        .cloned()
        .collect();
    assert_eq!(described(&foreign), [""; 0]);
    assert_eq!(fleet.stored().await, before);
    for (bucket, key) in [(PRESENCE, "h2.p"), (ASSIGNMENT, "h2.p"), (HUB, LEASE_KEY)] {
        assert_eq!(fleet.entry(bucket, key).await, "right", "{bucket}");
    }

    // Within their account, answers reach another host. There they are nothing that an agent takes.
    publish(&fleet.hub, "kstamp.notice.h2.p", MARK).await;
    publish(&fleet.hub, "kstamp.ask.h2.p", MARK).await;
    publish(&fleet.hub, "$KV.kstamp_assignment.h2.p", MARK).await;
    let signing = KeyPair::from_public_key(&fleet.keys.signing.public_key()).unwrap();
    for subscription in &mut at_h2[..3] {
        for message in until_mark(subscription).await {
            let signature = message.headers.as_ref().and_then(|headers| headers.get(SIGNATURE));
            let signature = signature.map_or("", |signature| signature.as_str());
            let assignment = Assignment::verify(&message.payload, signature, &signing, &port("h2/p"));
            assert!(assignment.is_err(), "{assignment:?}");
            assert!(serde_json::from_slice::<Session>(&message.payload).is_err());
            assert!(serde_json::from_slice::<Notice>(&message.payload).is_err());
            assert!(serde_json::from_slice::<Presence>(&message.payload).is_err());
            assert!(Batch::decode(&message.payload[..]).is_err());
        }
    }
    fleet.end().await;
}

/// A header can have a stream erase what it has. The streams that hosts write to do not allow it.
#[tokio::test]
async fn headers_erase_nothing() {
    let Some(fleet) = Fleet::start().await else { return };
    let [h1, h2] = fleet.hosts().await;
    let own: Vec<_> = Results::ALL
        .iter()
        .map(|results| results.of(&port("h1/p")))
        .chain([subjects::entry(PRESENCE, "h1.p")])
        .collect();
    let replies = h2.new_inbox();
    let mut replied = subscribe(&h2, &replies).await;
    for subject in &own {
        let of_h2 = subject.replace(".h1.", ".h2.");
        h2.publish_with_reply(of_h2, replies.clone(), "right".into())
            .await
            .unwrap();
        assert!(!String::from_utf8_lossy(&next(&mut replied).await.payload).contains("error"));
    }
    let before = fleet.stored().await;
    assert_eq!(before.len(), own.len());
    let replies = h1.new_inbox();
    let mut replied = subscribe(&h1, &replies).await;
    for subject in own {
        for rollup in ["all", "sub"] {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Rollup", rollup);
            let request = h1.publish_with_reply_and_headers(subject.clone(), replies.clone(), headers, "x".into());
            request.await.unwrap();
            let answer = next(&mut replied).await;
            assert!(
                String::from_utf8_lossy(&answer.payload).contains("rollup not permitted"),
                "{subject}"
            );
        }
    }
    assert_eq!(fleet.stored().await, before);
    fleet.end().await;
}

/// A host may reply to the hub's request, once, and to nothing else.
#[tokio::test]
async fn a_host_replies_once_to_the_one_who_asked() {
    let Some(fleet) = Fleet::start().await else { return };
    let [h1, _] = fleet.hosts().await;
    let mut asked = subscribe(&h1, "kstamp.ask.h1.*").await;
    let replies = fleet.hub.new_inbox();
    let mut replied = subscribe(&fleet.hub, &replies).await;
    fleet
        .hub
        .publish_with_reply("kstamp.ask.h1.p", replies.clone(), "?".into())
        .await
        .unwrap();
    let question = next(&mut asked).await;
    let reply = question.reply.unwrap();
    // The subject of the hub is not disclosed.
    assert_ne!(reply.as_str(), replies);
    publish(&h1, &replies, "direct").await;
    publish(&h1, &reply, "first").await;
    publish(&h1, &reply, "second").await;
    publish(&h1, "kstamp.heartbeat.h1.p", "x").await;
    settle(&h1).await;
    publish(&fleet.hub, &replies, MARK).await;
    assert_eq!(
        described(&until_mark(&mut replied).await),
        [format!("{replies}: first")]
    );
    // Nobody is there: the hub knows it at once.
    let nobody = timeout(MESSAGE_TIMEOUT / 4, fleet.hub.request("kstamp.ask.h3.p", "?".into())).await;
    assert!(nobody.unwrap().is_err());
    fleet.end().await;
}

/// A connection needs a certificate of the authority, which says nothing of rights, and an enrolled key, which does.
#[tokio::test]
async fn certificates_admit_and_keys_decide() {
    let Some(fleet) = Fleet::start().await else { return };
    let (h1, h2) = (&fleet.h1, &fleet.h2);
    connect(h1).await;
    // Without a certificate. The test itself needs the authority's to get so far.
    let ca = fleet.state.path().join("authority.pem");
    let options = ConnectOptions::with_nkey(h1.seed.clone())
        .add_root_certificates(ca)
        .require_tls(true);
    assert!(options.connect(&fleet.url).await.is_err());
    // With one of another authority.
    let other = Fleet::start().await.unwrap();
    let foreign = &other.h1;
    let refused = |credentials: Credentials| async move {
        let client = connection::connect(&credentials, |_| async {}).await.unwrap();
        assert!(
            timeout(Duration::from_secs(2), client.flush()).await.is_err(),
            "{credentials:?}"
        );
    };
    refused(Credentials {
        certificate: foreign.certificate.clone(),
        key: foreign.key.clone(),
        ..h1.clone()
    })
    .await;
    // With a key that is not enrolled.
    refused(Credentials {
        seed: foreign.seed.clone(),
        ..h1.clone()
    })
    .await;
    // With the certificate of another host: harmless, as the key says who it is.
    let mixed = connect(&Credentials {
        certificate: h2.certificate.clone(),
        key: h2.key.clone(),
        ..h1.clone()
    })
    .await;
    let mut seen = subscribe(&fleet.hub, ">").await;
    publish(&mixed, "kstamp.heartbeat.h2.p", "forged").await;
    publish(&mixed, "kstamp.heartbeat.h1.p", MARK).await;
    assert_eq!(described(&until_mark(&mut seen).await), [""; 0]);
    other.end().await;
    fleet.end().await;
}

/// A host that stands in the place of the server has no certificate that others take for a server's.
#[tokio::test]
async fn a_host_cannot_act_as_the_server() {
    use std::sync::Arc;

    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::crypto::ring::default_provider;
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

    let directory = tempfile::tempdir().unwrap();
    let state = StateDirectory::open(&directory.path().join("hub")).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("tls://{}", listener.local_addr().unwrap());
    // Its name is that of the server, even.
    let [hostile, honest] = ["localhost", "h2"].map(|name| enroll(&state, &url, name));
    let certificate = CertificateDer::from_pem_slice(hostile.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(hostile.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let _client = connection::connect(&honest, |_| async {}).await.unwrap();
    let (mut socket, _) = timeout(MESSAGE_TIMEOUT, listener.accept()).await.unwrap().unwrap();
    let info = "INFO {\"server_id\":\"x\",\"version\":\"2.15.1\",\"go\":\"\",\"host\":\"\",\"port\":1,\"headers\":true,\
                \"max_payload\":1048576,\"proto\":1,\"nonce\":\"x\",\"tls_required\":true,\"tls_verify\":true}\r\n";
    socket.write_all(info.as_bytes()).await.unwrap();
    let handshake = timeout(MESSAGE_TIMEOUT, TlsAcceptor::from(Arc::new(config)).accept(socket))
        .await
        .unwrap();
    let error = handshake.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(
        error.contains("certificate") || error.contains("Certificate"),
        "{error}"
    );
}

/// With a running server: a host that is enrolled can connect, one that is revoked is disconnected, and the others go on.
#[tokio::test]
async fn enrolment_needs_no_restart() {
    let Some(fleet) = Fleet::start().await else { return };
    let [h1, h2] = fleet.hosts().await;
    let mut seen = subscribe(&fleet.hub, "kstamp.heartbeat.*.*").await;
    let mut asked = subscribe(&h2, "kstamp.ask.h2.*").await;
    let mut assigned = subscribe(&h2, "$KV.kstamp_assignment.h2.*").await;
    publish(&h1, "kstamp.heartbeat.h1.p", MARK).await;
    until_mark(&mut seen).await;
    fleet.state.revoke(&host("h1")).unwrap();
    let third = enroll(&fleet.state, &fleet.url, "h3");
    fleet.server.reload();
    let ended = async {
        while h1.connection_state() == async_nats::connection::State::Connected {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(MESSAGE_TIMEOUT, ended).await.unwrap();
    publish(&h1, "kstamp.heartbeat.h1.p", "revoked").await;
    let h3 = connect(&third).await;
    publish(&h3, "kstamp.heartbeat.h3.p", MARK).await;
    assert_eq!(described(&until_mark(&mut seen).await), [""; 0]);
    // All ways between the accounts are still there for a host that was connected before.
    let request = fleet.hub.request("kstamp.ask.h2.p", "?".into());
    let reply = async {
        let question = next(&mut asked).await;
        publish(&h2, &question.reply.unwrap(), "answer").await;
    };
    let (answer, ()) = tokio::join!(request, reply);
    assert_eq!(answer.unwrap().payload, "answer");
    fleet.put(ASSIGNMENT, "h2.p", "new").await;
    assert_eq!(next(&mut assigned).await.payload, "new");
    let window = h2.request(WINDOWS.of(&port("h2/p")), "x".into()).await.unwrap();
    assert!(!String::from_utf8_lossy(&window.payload).contains("error"));
    fleet.end().await;
}

/// A server that dies is started again, with all that it had stored, and none is left at the end.
#[tokio::test]
async fn a_server_that_dies_comes_back() {
    let Some(fleet) = Fleet::start().await else { return };
    let file = fleet.state.path().join("nats.conf");
    let servers = || -> Vec<i32> {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let of_fleet = processes.filter(|process| {
            let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(file.to_str().unwrap())
        });
        of_fleet
            .map(|process| process.file_name().to_str().unwrap().parse().unwrap())
            .collect()
    };
    fleet.put(PRESENCE, "h2.p", "kept").await;
    let [process] = servers()[..] else {
        panic!("{:?}", servers())
    };
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(process), nix::sys::signal::Signal::SIGKILL).unwrap();
    let back = async {
        while servers().is_empty() || servers() == [process] || fleet.hub.flush().await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // Requests of the time between are lost.
        while fleet.bucket(PRESENCE).await.get("h2.p").await.is_err() {}
    };
    timeout(MESSAGE_TIMEOUT, back).await.unwrap();
    assert_eq!(fleet.entry(PRESENCE, "h2.p").await, "kept");
    let Fleet { server, _directory, .. } = fleet;
    server.stop().await;
    assert_eq!(servers(), [0; 0]);
}

/// A reader may ask the hub, and do nothing else.
#[tokio::test]
async fn a_reader_only_asks() {
    let Some(fleet) = Fleet::start().await else { return };
    let reader = connect(&fleet.reader).await;
    let mut seen = subscribe(&fleet.hub, ">").await;
    for subject in subjects_of_others()
        .into_iter()
        .filter(|subject| !subject.contains("query"))
    {
        publish(&reader, &subject, "forged").await;
    }
    for subject in [
        WINDOWS.of(&port("r/p")),
        subjects::entry(PRESENCE, "r.p"),
        subjects::heartbeat(&port("r/p")),
    ] {
        publish(&reader, &subject, "forged").await;
    }
    let request = tokio::spawn(async move { reader.request("kstamp.query.status", MARK.into()).await });
    let question = loop {
        let message = next(&mut seen).await;
        if !message.payload.is_empty() {
            break message;
        }
    };
    assert_eq!(
        (question.subject.as_str(), &question.payload[..]),
        ("kstamp.query.status", MARK.as_bytes())
    );
    publish(&fleet.hub, &question.reply.unwrap(), "answer").await;
    assert_eq!(request.await.unwrap().unwrap().payload, "answer");
    fleet.end().await;
}
