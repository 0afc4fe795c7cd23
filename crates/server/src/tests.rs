//! A whole server in the process, on real sockets: what a client sees, from the first connection
//! to the stop and the start after it.

mod given_up;
mod secure;
mod zipped;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use api::etcdserverpb as pb;
use bytes::{Bytes, BytesMut};
use disk::RealDisk;
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use prost::Message;

use crate::config::{self, Loaded, LogConfig, Sources};
use crate::driver::Event;
use crate::listen::Door;
use crate::log::{Level, Log};
use crate::server::Server;

/// Longest wait for anything in these tests: a bound for a broken server, never a measure.
const PATIENCE: Duration = Duration::from_secs(30);

struct Running {
    server: Server,
    client: String,
    peer: String,
}

fn start(data_dir: &Path, more: &[&str]) -> Running {
    let dir = data_dir.display().to_string();
    let mut args = vec![
        "--data-dir",
        &dir,
        "--listen-client-urls=http://127.0.0.1:0",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:0",
    ];
    args.extend(more);
    let args: Vec<String> = args.into_iter().map(str::to_string).collect();
    let sources = Sources {
        args: &args,
        env: &[],
        read_file: &|_| Err(std::io::ErrorKind::NotFound.into()),
        default_host: &|| None,
    };
    let Loaded::Run(config) = config::load(&sources, &mut Vec::new()).unwrap() else {
        panic!("these are settings to run with");
    };
    let log = Log::start(&LogConfig {
        level: Level::Warn,
        json: true,
        outputs: vec!["stderr".into()],
        rotation: None,
    })
    .unwrap();
    let server = Server::start(*config, log, RealDisk::shared()).unwrap();
    assert!(matches!(server.next_event(), Event::Ready));
    server.open_doors();
    let address = |wanted: fn(&Door) -> bool| {
        let found = server.addresses.iter().find(|(door, _)| wanted(door));
        found.unwrap().1.clone()
    };
    let client = address(|door| matches!(door, Door::Client { .. }));
    let peer = address(|door| *door == Door::Peer);
    Running { server, client, peer }
}

/// A gRPC client that knows no more than frames.
struct Client {
    runtime: tokio::runtime::Runtime,
    requests: SendRequest<Bytes>,
}

/// The end of a call: status code and message.
type End = (u16, String);

fn end_of(headers: &HeaderMap) -> End {
    let text = |name: &str| {
        headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
            .to_string()
    };
    (text("grpc-status").parse().unwrap(), text("grpc-message"))
}

fn framed(message: &[u8]) -> Bytes {
    let mut out = BytesMut::from(&[0][..]);
    out.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    out.extend_from_slice(message);
    out.freeze()
}

impl Client {
    fn connect(address: &str) -> Client {
        Client::connect_by(address, async |socket| socket)
    }

    fn connect_by<S>(address: &str, secure: impl AsyncFnOnce(tokio::net::TcpStream) -> S) -> Client
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let requests = runtime.block_on(async {
            let socket = tokio::net::TcpStream::connect(address).await.unwrap();
            let socket = secure(socket).await;
            let (requests, connection) = h2::client::Builder::new()
                .initial_window_size(1 << 20)
                .initial_connection_window_size(1 << 20)
                .handshake(socket)
                .await
                .unwrap();
            tokio::spawn(async move { drop(connection.await) });
            requests
        });
        Client { runtime, requests }
    }

    fn request(path: &str) -> http::request::Builder {
        Request::post(format!("http://x{path}")).header("te", "trailers")
    }

    /// Sends whole bytes, and reads messages until the end or until there are `wanted`.
    fn exchange(
        &mut self,
        request: Request<()>,
        body: Bytes,
        half_close: bool,
        wanted: usize,
    ) -> (Vec<Bytes>, Option<End>) {
        let mut requests = self.requests.clone();
        let talk = async move {
            requests = requests.ready().await.unwrap();
            let (response, mut send) = requests.send_request(request, false).unwrap();
            send.send_data(body, half_close).unwrap();
            let response = response.await.unwrap();
            if response.headers().contains_key("grpc-status") {
                return (Vec::new(), Some(end_of(response.headers())));
            }
            assert_eq!(response.headers()["content-type"], "application/grpc");
            let mut body = response.into_body();
            let (mut bytes, mut messages) = (BytesMut::new(), Vec::new());
            while let Some(piece) = body.data().await {
                let piece = piece.unwrap();
                let _ = body.flow_control().release_capacity(piece.len());
                bytes.extend_from_slice(&piece);
                while let Some(&[_, a, b, c, d]) = bytes.first_chunk() {
                    let length = u32::from_be_bytes([a, b, c, d]) as usize;
                    if bytes.len() < 5 + length {
                        break;
                    }
                    messages.push(bytes.split_to(5 + length).split_off(5).freeze());
                }
                if messages.len() >= wanted {
                    return (messages, None);
                }
            }
            let trailers = body.trailers().await.unwrap().unwrap();
            (messages, Some(end_of(&trailers)))
        };
        self.runtime
            .block_on(async { tokio::time::timeout(PATIENCE, talk).await })
            .unwrap()
    }

    /// A request that is not gRPC's: status and body, or as much of it as `wanted` lines; the stream is
    /// given up then.
    fn plain(&mut self, request: Request<()>, body: &str, wanted: usize) -> (u16, String) {
        let (mut requests, body) = (self.requests.clone(), Bytes::copy_from_slice(body.as_bytes()));
        let talk = async move {
            requests = requests.ready().await.unwrap();
            let (response, mut send) = requests.send_request(request, body.is_empty()).unwrap();
            if !body.is_empty() {
                send.send_data(body, true).unwrap();
            }
            let response = response.await.unwrap();
            assert!(response.headers().contains_key("date"));
            let status = response.status().as_u16();
            let (mut body, mut text) = (response.into_body(), String::new());
            while let Some(piece) = body.data().await {
                let piece = piece.unwrap();
                let _ = body.flow_control().release_capacity(piece.len());
                text.push_str(std::str::from_utf8(&piece).unwrap());
                if text.lines().count() >= wanted {
                    break;
                }
            }
            (status, text)
        };
        self.runtime
            .block_on(async { tokio::time::timeout(PATIENCE, talk).await })
            .unwrap()
    }

    fn unary<A: Message + Default>(&mut self, path: &str, message: &impl Message) -> Result<A, End> {
        let request = Self::request(path).header("content-type", "application/grpc");
        let body = framed(&message.encode_to_vec());
        let (messages, end) = self.exchange(request.body(()).unwrap(), body, true, usize::MAX);
        match end.unwrap() {
            (0, _) => Ok(A::decode(messages[0].clone()).unwrap()),
            end => Err(end),
        }
    }

    fn put(&mut self, key: &str, value: &str) -> i64 {
        let put = pb::PutRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
            ..Default::default()
        };
        let answer: pb::PutResponse = self.unary("/etcdserverpb.KV/Put", &put).unwrap();
        answer.header.unwrap().revision
    }

    fn get(&mut self, key: &str) -> Option<String> {
        let range = pb::RangeRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            ..Default::default()
        };
        let answer: pb::RangeResponse = self.unary("/etcdserverpb.KV/Range", &range).unwrap();
        let kv = answer.kvs.into_iter().next()?;
        Some(String::from_utf8(kv.value.to_vec()).unwrap())
    }
}

/// One HTTP/1.1 exchange: status and body, chunks joined.
fn http(address: &str, request: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_string())
}

fn get(address: &str, path: &str) -> (u16, String) {
    http(
        address,
        &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
    )
}

fn post(address: &str, path: &str, body: &str) -> (u16, String) {
    let length = body.len();
    http(
        address,
        &format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        ),
    )
}

#[test]
fn what_is_written_is_read_watched_and_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path(), &[]);
    let mut client = Client::connect(&running.client);
    let first = client.put("foo", "bar");
    assert_eq!(client.put("foo", "baz"), first + 1);
    assert_eq!(client.get("foo").as_deref(), Some("baz"));

    let create = pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(
            pb::WatchCreateRequest {
                key: "foo".into(),
                start_revision: first,
                ..Default::default()
            },
        )),
    };
    let request = Client::request("/etcdserverpb.Watch/Watch").header("content-type", "application/grpc");
    let (messages, end) = client.exchange(
        request.body(()).unwrap(),
        framed(&create.encode_to_vec()),
        false,
        2,
    );
    assert_eq!(end, None);
    let mut responses = messages
        .into_iter()
        .map(|message| pb::WatchResponse::decode(message).unwrap());
    assert!(responses.next().unwrap().created);
    let values: Vec<Bytes> = responses
        .flat_map(|response| response.events)
        .map(|event| event.kv.unwrap().value)
        .collect();
    assert_eq!(values, ["bar", "baz"]);
    drop(client);

    running.server.stop(PATIENCE).unwrap();
    drop(running);
    let running = start(dir.path(), &[]);
    let mut client = Client::connect(&running.client);
    assert_eq!(client.get("foo").as_deref(), Some("baz"));
    assert_eq!(client.put("foo", "again"), first + 2);
    drop(client);
    running.server.stop(PATIENCE).unwrap();
}

#[test]
fn wrong_calls_get_the_answers_of_grpc_go() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path(), &["--max-request-bytes=1000"]);
    let mut client = Client::connect(&running.client);
    let grpc = |path: &str| Client::request(path).header("content-type", "application/grpc");
    let end = |client: &mut Client, request: http::request::Builder, body: Bytes| {
        client.exchange(request.body(()).unwrap(), body, true, 9).1
    };
    let put = "/etcdserverpb.KV/Put";
    let expect = |code: u16, text: &str| Some((code, text.to_string()));

    let unknown = end(&mut client, grpc("/etcdserverpb.KV/X"), framed(b""));
    assert_eq!(
        unknown,
        expect(12, "unknown method X for service etcdserverpb.KV")
    );
    let other = Client::request(put).header("content-type", "text/html");
    let other = end(&mut client, other, framed(b""));
    assert_eq!(
        other,
        expect(3, "invalid gRPC request content-type \"text/html\"")
    );
    let empty = end(&mut client, grpc(put), framed(b""));
    assert_eq!(empty, expect(3, "etcdserver: key is not provided"));
    let large = end(&mut client, grpc(put), framed(&vec![0; 600_000]));
    assert_eq!(
        large,
        expect(8, "grpc: received message larger than max (600000 vs. 525288)")
    );
    let zipped = grpc(put).header("grpc-encoding", "zstd");
    let zipped = end(&mut client, zipped, framed(b""));
    assert_eq!(
        zipped,
        expect(
            12,
            "grpc: Decompressor is not installed for grpc-encoding \"zstd\""
        )
    );
    let no_time = end(&mut client, grpc(put).header("grpc-timeout", "0n"), framed(b""));
    assert_eq!(no_time, expect(4, "context deadline exceeded"));
    let watch = grpc("/etcdserverpb.Watch/Watch").header("grpc-timeout", "50m");
    let (_, late) = client.exchange(watch.body(()).unwrap(), Bytes::new(), false, 9);
    assert_eq!(late, expect(4, "context deadline exceeded"));
    let odd = end(&mut client, grpc("/etcdserverpb.KV/Put?x=y"), framed(b""));
    assert_eq!(
        odd,
        expect(12, "unknown method Put?x=y for service etcdserverpb.KV")
    );
    let nothing = end(&mut client, grpc(put), Bytes::new());
    assert_eq!(nothing, expect(2, "EOF"));
    let binary = end(&mut client, grpc(put).header("x-bin", "!"), framed(b""));
    assert_eq!(binary.unwrap().0, 13);
    let auth = end(&mut client, grpc("/etcdserverpb.Auth/AuthEnable"), framed(b""));
    assert_eq!(auth.unwrap().0, 12);
    // The connection has lived through all of that.
    assert_eq!(client.get("none"), None);
    drop(client);
    running.server.stop(PATIENCE).unwrap();
}

#[test]
fn the_gateway_and_the_endpoints_answer_on_the_same_port() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path(), &[]);
    let (client, peer) = (&*running.client, &*running.peer);
    assert_eq!(
        get(client, "/health"),
        (200, r#"{"health":"true","reason":""}"#.into())
    );
    let version = get(client, "/version").1;
    assert!(
        version.starts_with(r#"{"etcdserver":"3.7.1","etcdcluster":""#),
        "{version}"
    );
    assert_eq!(get(client, "/readyz").0, 200);
    assert!(get(client, "/metrics").1.contains("\netcd_server_has_leader 1\n"));
    assert_eq!(get(client, "/nothing"), (404, "404 page not found\n".into()));
    let (status, members) = get(peer, "/members");
    assert!(
        status == 200 && members.contains("\"name\":\"default\""),
        "{members}"
    );

    let (status, put) = post(client, "/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#);
    assert!(status == 200 && put.contains("\"revision\":\"2\""), "{put}");
    let (_, range) = post(client, "/v3/kv/range", r#"{"key":"Zm9v"}"#);
    assert!(range.contains("\"value\":\"YmFy\""), "{range}");
    assert_eq!(
        post(client, "/v3/kv/put", "{}"),
        (
            400,
            r#"{"code":3,"message":"etcdserver: key is not provided"}"#.into()
        )
    );
    assert_eq!(post(client, "/v3/nope", "{}").0, 404);
    assert_eq!(get(client, "/v3/kv/range").0, 501);
    // A stream that ends: one answer for each keepalive.
    post(client, "/v3/lease/grant", r#"{"ID":7,"TTL":100}"#);
    let (_, alive) = post(client, "/v3/lease/keepalive", r#"{"ID":7}"#);
    assert!(
        alive.contains(r#"{"result":{"#) && alive.contains(r#""TTL":"100""#),
        "{alive}"
    );
    running.server.stop(PATIENCE).unwrap();
}

#[test]
fn http2_carries_json_beside_grpc() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path(), &[]);
    let mut client = Client::connect(&running.client);
    let get = |path: &str| Request::get(format!("http://x{path}")).body(()).unwrap();
    let post = |path: &str| {
        let request = Request::post(format!("http://x{path}")).header("content-type", "application/json");
        request.body(()).unwrap()
    };
    let healthy = (200, r#"{"health":"true","reason":""}"#.to_string());
    assert_eq!(client.plain(get("/health"), "", 9), healthy);
    let head = Request::head("http://x/health").body(()).unwrap();
    assert_eq!(client.plain(head, "", 9).1, "");
    for path in ["/version", "/metrics", "/readyz", "/livez/serializable_read"] {
        assert_eq!(client.plain(get(path), "", usize::MAX).0, 200, "{path}");
    }
    assert_eq!(client.plain(get("/readyz/nope"), "", 9).0, 404);
    let (status, put) = client.plain(post("/v3/kv/put"), r#"{"key":"Zm9v","value":"YmFy"}"#, 9);
    assert!(status == 200 && put.contains("\"revision\":\"2\""), "{put}");
    assert_eq!(client.get("foo").as_deref(), Some("bar"));
    // Refused before the body has been looked at.
    let hurried = Request::post("http://x/v3/kv/put").header("grpc-timeout", "-1S");
    let (status, late) = client.plain(hurried.body(()).unwrap(), r#"{"key":"Zm9v"}"#, 9);
    assert!(
        status == 504 && late.contains("context deadline exceeded"),
        "{late}"
    );
    let elsewhere = client.plain(post("/v3//kv/put"), r#"{"key":"Zm9v"}"#, 9);
    assert_eq!(elsewhere.0, 307);
    assert_eq!(client.get("foo").as_deref(), Some("bar"));
    // A stream is given up after what was wanted; the connection lives on.
    let watch = r#"{"create_request":{"key":"Zm9v","start_revision":"2"}}"#;
    let (status, lines) = client.plain(post("/v3/watch"), watch, 2);
    assert!(status == 200 && lines.contains("\"value\":\"YmFy\""), "{lines}");
    // Larger than the window of a stream.
    let large = format!(r#"{{"key":"YmlnCg==","value":"{}"}}"#, "AAAA".repeat(350_000));
    assert_eq!(client.plain(post("/v3/kv/put"), &large, 9).0, 200);
    let (status, range) = client.plain(post("/v3/kv/range"), r#"{"key":"YmlnCg=="}"#, usize::MAX);
    assert!(status == 200 && range.len() > 1_400_000);
    // On a listener that has no gRPC, all is HTTP.
    drop(client);
    running.server.stop(PATIENCE).unwrap();
}

/// Looks again and again until there is what is wanted.
fn eventually<T: PartialEq + std::fmt::Debug>(wanted: T, mut look: impl FnMut() -> T) {
    let patience = std::time::Instant::now() + PATIENCE;
    loop {
        let found = look();
        if found == wanted {
            return;
        }
        assert!(
            std::time::Instant::now() < patience,
            "{found:?} instead of {wanted:?}"
        );
        std::thread::yield_now();
    }
}

impl Client {
    /// How many keys stand below a prefix.
    fn count(&mut self, prefix: &str) -> i64 {
        let range = pb::RangeRequest {
            key: Bytes::copy_from_slice(format!("{prefix}/").as_bytes()),
            range_end: Bytes::copy_from_slice(format!("{prefix}0").as_bytes()),
            count_only: true,
            ..Default::default()
        };
        let answer: pb::RangeResponse = self.unary("/etcdserverpb.KV/Range", &range).unwrap();
        answer.count
    }

    /// Begins a call and says no more of it: dropping what comes back gives it up.
    fn begin<M: Message>(&mut self, path: &str, message: &M) -> impl Sized + use<M> {
        let request = Client::request(path).header("content-type", "application/grpc");
        let (mut requests, body) = (self.requests.clone(), framed(&message.encode_to_vec()));
        self.runtime.block_on(async move {
            requests = requests.ready().await.unwrap();
            let (response, mut send) = requests.send_request(request.body(()).unwrap(), false).unwrap();
            send.send_data(body, true).unwrap();
            (response, send)
        })
    }
}

#[test]
fn a_lock_goes_to_who_waited_and_not_to_who_left() {
    use api::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
    const LOCK: &str = "/v3lockpb.Lock/Lock";
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path(), &[]);
    let mut client = Client::connect(&running.client);
    let request = LockRequest {
        name: "l".into(),
        lease: 0,
    };
    let held: LockResponse = client.unary(LOCK, &request).unwrap();
    assert!(held.key.starts_with(b"l/"));
    // The second waits at the gateway, the third with gRPC; it and a fourth go away.
    let waiter = {
        let address = running.client.clone();
        std::thread::spawn(move || post(&address, "/v3/lock/lock", r#"{"name":"bA=="}"#))
    };
    eventually(2, || client.count("l"));
    let given_up = client.begin(LOCK, &request);
    eventually(3, || client.count("l"));
    drop(given_up);
    eventually(2, || client.count("l"));
    let mut socket = TcpStream::connect(&running.client).unwrap();
    socket
        .write_all(b"POST /v3/lock/lock HTTP/1.1\r\nhost: x\r\ncontent-length: 15\r\n\r\n{\"name\":\"bA==\"}")
        .unwrap();
    eventually(3, || client.count("l"));
    drop(socket);
    eventually(2, || client.count("l"));
    // Others go away at any moment, also when their key is made and they have not heard of it.
    for round in 0..40 {
        let given_up = client.begin(LOCK, &request);
        for _ in 0..round % 8 {
            client.get("nothing");
        }
        drop(given_up);
    }
    eventually(2, || client.count("l"));
    // Another has little time: enough to be in the row when it is over.
    let hurried = Client::request(LOCK)
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "2S");
    let body = framed(&request.encode_to_vec());
    let (_, end) = client.exchange(hurried.body(()).unwrap(), body, true, 9);
    assert_eq!(end, Some((4, "context deadline exceeded".into())));
    eventually(2, || client.count("l"));
    assert!(!waiter.is_finished());

    let unlock = UnlockRequest { key: held.key };
    let _: UnlockResponse = client.unary("/v3lockpb.Lock/Unlock", &unlock).unwrap();
    let (status, answer) = waiter.join().unwrap();
    assert!(status == 200 && answer.contains("\"key\":\"bC8"), "{answer}");
    assert_eq!(client.count("l"), 1);
    // Who still waits when the server stops is told.
    let last = {
        let address = running.client.clone();
        std::thread::spawn(move || post(&address, "/v3/lock/lock", r#"{"name":"bA=="}"#))
    };
    eventually(2, || client.count("l"));
    drop(client);
    running.server.stop(PATIENCE).unwrap();
    assert_eq!(last.join().unwrap().0, 503);
}

/// What those who are elected say, as it is observed.
fn observe(address: &str, name: &'static str) -> std::sync::mpsc::Receiver<Bytes> {
    use api::v3electionpb::{LeaderRequest, LeaderResponse};
    let (tell, told) = std::sync::mpsc::channel();
    let address = address.to_string();
    std::thread::spawn(move || {
        let client = Client::connect(&address);
        let request = Client::request("/v3electionpb.Election/Observe");
        let request = request
            .header("content-type", "application/grpc")
            .body(())
            .unwrap();
        let message = LeaderRequest { name: name.into() };
        client.runtime.block_on(async {
            let mut requests = client.requests.clone().ready().await.unwrap();
            let (response, mut send) = requests.send_request(request, false).unwrap();
            send.send_data(framed(&message.encode_to_vec()), true).unwrap();
            let mut body = response.await.unwrap().into_body();
            let mut bytes = BytesMut::new();
            while let Some(Ok(piece)) = body.data().await {
                let _ = body.flow_control().release_capacity(piece.len());
                bytes.extend_from_slice(&piece);
                while let Some(&[_, a, b, c, d]) = bytes.first_chunk() {
                    let length = u32::from_be_bytes([a, b, c, d]) as usize;
                    if bytes.len() < 5 + length {
                        break;
                    }
                    let message = bytes.split_to(5 + length).split_off(5);
                    let _ = tell.send(LeaderResponse::decode(message).unwrap().kv.unwrap().value);
                }
            }
        });
    });
    told
}

#[test]
fn an_office_is_handed_over_before_the_eyes_of_those_who_observe() {
    use api::v3electionpb as election;
    const CAMPAIGN: &str = "/v3electionpb.Election/Campaign";
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path(), &[]);
    let mut client = Client::connect(&running.client);
    let leader = election::LeaderRequest { name: "e".into() };
    let nobody: Result<election::LeaderResponse, End> =
        client.unary("/v3electionpb.Election/Leader", &leader);
    assert_eq!(nobody.unwrap_err(), (2, "election: no leader".into()));
    // It may begin before there is anybody.
    let seen = observe(&running.client, "e");
    let campaign = |value: &'static str| election::CampaignRequest {
        name: "e".into(),
        lease: 0,
        value: value.into(),
    };
    let elected: election::CampaignResponse = client.unary(CAMPAIGN, &campaign("one")).unwrap();
    let office = elected.leader.unwrap();
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), "one");
    let candidate = {
        let (address, request) = (running.client.clone(), campaign("two"));
        std::thread::spawn(move || {
            let mut client = Client::connect(&address);
            let elected: election::CampaignResponse = client.unary(CAMPAIGN, &request).unwrap();
            elected.leader.unwrap()
        })
    };
    eventually(2, || client.count("e"));
    let given_up = client.begin(CAMPAIGN, &campaign("three"));
    eventually(3, || client.count("e"));
    drop(given_up);
    eventually(2, || client.count("e"));
    let proclaim = election::ProclaimRequest {
        leader: Some(office.clone()),
        value: "one more".into(),
    };
    let _: election::ProclaimResponse = client
        .unary("/v3electionpb.Election/Proclaim", &proclaim)
        .unwrap();
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), "one more");
    let resign = election::ResignRequest { leader: Some(office) };
    let _: election::ResignResponse = client.unary("/v3electionpb.Election/Resign", &resign).unwrap();
    let next = candidate.join().unwrap();
    let now: election::LeaderResponse = client.unary("/v3electionpb.Election/Leader", &leader).unwrap();
    assert_eq!(now.kv.unwrap().key, next.key);
    let refused: Result<election::ProclaimResponse, End> =
        client.unary("/v3electionpb.Election/Proclaim", &proclaim);
    assert_eq!(refused.unwrap_err(), (2, "election: not leader".into()));
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), "two");
    drop(client);
    running.server.stop(PATIENCE).unwrap();
}

#[test]
fn the_gateway_holds_to_the_number_of_streams() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path(), &["--max-concurrent-streams=1"]);
    let watch = r#"{"create_request":{"key":"Zm9v"}}"#;
    let request = format!(
        "POST /v3/watch HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{watch}",
        watch.len()
    );
    let mut watcher = TcpStream::connect(&running.client).unwrap();
    watcher.set_read_timeout(Some(PATIENCE)).unwrap();
    watcher.write_all(request.as_bytes()).unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("created") {
        let mut buffer = [0; 1000];
        let count = watcher.read(&mut buffer).unwrap();
        seen.extend_from_slice(&buffer[..count]);
    }
    // The next waits, and has its turn when the first has gone.
    let next = {
        let address = running.client.clone();
        std::thread::spawn(move || post(&address, "/v3/kv/put", r#"{"key":"Zm9v"}"#))
    };
    let hurried = "POST /v3/kv/put HTTP/1.1\r\nhost: x\r\nconnection: close\r\ngrpc-timeout: 50m\r\ncontent-length: 14\r\n\r\n{\"key\":\"YQ==\"}";
    let refused = (
        504,
        r#"{"code":4,"message":"context deadline exceeded"}"#.to_string(),
    );
    assert_eq!(http(&running.client, hurried), refused);
    assert!(!next.is_finished());
    drop(watcher);
    assert_eq!(next.join().unwrap().0, 200);
    running.server.stop(PATIENCE).unwrap();
}

#[test]
fn a_watch_goes_over_a_websocket() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path(), &[]);
    let mut socket = TcpStream::connect(&running.client).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
        .write_all(
            b"GET /v3/watch HTTP/1.1\r\nhost: x\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
            sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .unwrap();
    let mut seen = Vec::new();
    let mut wait_for = |socket: &mut TcpStream, wanted: &str| {
        while !String::from_utf8_lossy(&seen).contains(wanted) {
            let mut buffer = [0; 1000];
            let count = socket.read(&mut buffer).unwrap();
            assert_ne!(count, 0, "{}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&buffer[..count]);
        }
    };
    wait_for(&mut socket, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    // A mask of zeros leaves what it masks as it is.
    let watch = |key: &str| {
        let text = format!("{{\"create_request\":{{\"key\":\"{key}\"}}}}");
        [
            &[0x81, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0][..],
            text.as_bytes(),
        ]
        .concat()
    };
    socket.write_all(&watch("Zm9v")).unwrap();
    wait_for(&mut socket, "\"created\":true}}");
    socket.write_all(&watch("YmFy")).unwrap();
    wait_for(&mut socket, "\"watch_id\":\"1\",\"created\":true}}");
    post(&running.client, "/v3/kv/put", r#"{"key":"YmFy","value":"bmV3"}"#);
    wait_for(&mut socket, "\"value\":\"bmV3\"");
    // A ping is answered, and so is the end.
    socket.write_all(&[0x89, 0x82, 0, 0, 0, 0, b'h', b'i']).unwrap();
    wait_for(&mut socket, "\u{2}hi");
    socket.write_all(&[0x88, 0x80, 0, 0, 0, 0]).unwrap();
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, [0x88, 0]);
    let plain =
        "GET /v3/watch HTTP/1.1\r\nhost: x\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n\r\n";
    assert_eq!(http(&running.client, plain).0, 400);
    running.server.stop(PATIENCE).unwrap();
}

#[test]
fn without_the_gateway_there_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path(), &["--enable-grpc-gateway=false"]);
    let none = (404, "404 page not found\n".to_string());
    assert_eq!(post(&running.client, "/v3/kv/range", r#"{"key":"YQ=="}"#), none);
    assert_eq!(get(&running.client, "/v3"), none);
    assert_eq!(get(&running.client, "/health").0, 200);
    running.server.stop(PATIENCE).unwrap();
}
