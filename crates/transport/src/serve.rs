//! The peers' port: HTTP/1.1, one task a connection (rafthttp/http.go). Raft's own paths are answered here,
//! the others by the host.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::url;
use http::header::{ALLOW, CONNECTION};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use member::LogLine;
use tokio::sync::oneshot;

use crate::body::{self, Outbound, ReadError};
use crate::core::Core;
use crate::framing::MESSAGE_BYTES_MAX;
use crate::headers::{self, CLUSTER_ID, FROM, PEER_URLS, TO, VERSION};
use crate::host::{Answer, Count, Question, Reply};
use crate::host_header::host_refusal;
use crate::io::{Connection, HyperIo, TokioTimer};
use crate::message::{self, Received};
use crate::peer::StreamKind;
use crate::room::{Sender, Share};
use crate::transport::Remotes;
use crate::writer::Writer;
use crate::{READ_MAX, pipeline, prober, reader, receiving, shipping};

/// How long a connection may take nothing: rafthttp/peer.go, ConnWriteTimeout.
const WRITE_MAX: Duration = Duration::from_secs(5);
/// Bytes of the body of what is not raft's. Leases and promotions are far smaller.
const QUESTION_BYTES_MAX: u64 = 1 << 20;

/// Serves one connection to its end.
pub(crate) async fn serve(
    core: Arc<Core>,
    remotes: Remotes,
    socket: impl Connection + 'static,
    address: Option<SocketAddr>,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let (core, remotes) = (core.clone(), remotes.clone());
        async move {
            match respond(&core, &remotes, request, address).await {
                Some(response) => Ok::<_, Gone>(response),
                None => Err(Gone),
            }
        }
    });
    let io = HyperIo::new(socket, Some(WRITE_MAX));
    let connection = http1::Builder::new()
        .timer(TokioTimer)
        // Also the time that a connection may be idle.
        .header_read_timeout(READ_MAX)
        .serve_connection(io, service);
    // Errors end the connection: the other side has gone, or does not speak HTTP.
    let _ = connection.await;
}

/// There is no answer: the connection ends.
#[derive(Debug, thiserror::Error)]
#[error("there is no answer")]
struct Gone;

impl From<Infallible> for Gone {
    fn from(never: Infallible) -> Gone {
        match never {}
    }
}

async fn respond(
    core: &Arc<Core>,
    remotes: &Remotes,
    request: Request<Incoming>,
    address: Option<SocketAddr>,
) -> Option<Response<Outbound>> {
    if let Some(reason) = host_refusal(&request) {
        return Some(refuse_host(reason));
    }
    let path = request.uri().path();
    if path == pipeline::PATH {
        return Some(whole(post(core, remotes, request, address).await));
    }
    if path == shipping::PATH {
        return Some(whole(snapshot(core, remotes, request, address).await));
    }
    if path.starts_with("/raft/stream/") {
        return Some(stream(core, remotes, &request));
    }
    if path == prober::PATH {
        return Some(whole(prober::answer()));
    }
    if path.starts_with("/raft/") {
        return Some(whole(Answer::error(404, "404 page not found")));
    }
    other(core, request, address).await.map(whole)
}

/// As Go, which has the reason in the first line as well.
fn refuse_host(reason: &'static str) -> Response<Outbound> {
    let mut response = whole(Answer {
        status: 400,
        headers: vec![
            ("content-type".to_owned(), "text/plain; charset=utf-8".to_owned()),
            ("connection".to_owned(), "close".to_owned()),
        ],
        body: format!("400 Bad Request{reason}").into(),
    });
    if let Ok(phrase) = ReasonPhrase::try_from(format!("Bad Request{reason}")) {
        response.extensions_mut().insert(phrase);
    }
    response
}

/// A message as a request of its own.
async fn post(
    core: &Arc<Core>,
    remotes: &Remotes,
    mut request: Request<Incoming>,
    address: Option<SocketAddr>,
) -> Answer {
    if request.method() != Method::POST {
        return wrong_method("POST");
    }
    let cluster = format!("{:x}", core.identity.cluster_id);
    if let Err(error) = core.identity.check(request.headers(), &*core.host) {
        return Answer::error(412, error).with(CLUSTER_ID, &cluster);
    }
    add_remote(core, remotes, request.headers());
    let failed = |text: &'static str, told: &'static str, error: String| {
        core.log(
            LogLine::warn(text)
                .with("local-member-id", format!("{:x}", core.identity.id))
                .with("error", error),
        );
        core.count(Count::ReceiveFailed(name(address)));
        Answer::error(400, told).with(CLUSTER_ID, &cluster)
    };
    let mut share = Share::new(&core.room, sender(core, request.headers(), address));
    let body = request.body_mut();
    let bytes = match body::whole_within(body, MESSAGE_BYTES_MAX, &mut share).await {
        Ok(bytes) => bytes,
        Err(error) => {
            let text = "failed to read Raft message";
            return failed(text, "error reading raft message", error.to_string());
        }
    };
    let len = bytes.len() as u64;
    let message = match message::decode(bytes) {
        Ok(Received::Message(message)) => message,
        Ok(Received::LinkHeartbeat | Received::Ignored(_)) => {
            core.count(Count::Received(0, len));
            return no_content(&cluster);
        }
        Err(error) => {
            let text = "failed to unmarshal Raft message";
            return failed(text, "error unmarshalling raft message", error.to_string());
        }
    };
    core.count(Count::Received(message.from, len));
    // 500 as Go: a 403 would stop a healthy member.
    if !reader::is_welcome(core, &message) {
        return Answer::error(500, "error processing raft message")
            .with(CLUSTER_ID, &cluster)
            .with(CONNECTION.as_str(), "close");
    }
    core.deliver(&mut vec![message]);
    no_content(&cluster)
}

fn no_content(cluster: &str) -> Answer {
    Answer {
        status: 204,
        ..Answer::default()
    }
    .with(CLUSTER_ID, cluster)
}

async fn snapshot(
    core: &Arc<Core>,
    remotes: &Remotes,
    mut request: Request<Incoming>,
    address: Option<SocketAddr>,
) -> Answer {
    if request.method() != Method::POST {
        core.count(Count::SnapshotReceiveFailed(None));
        return wrong_method("POST");
    }
    let cluster = format!("{:x}", core.identity.cluster_id);
    if let Err(error) = core.identity.check(request.headers(), &*core.host) {
        core.count(Count::SnapshotReceiveFailed(None));
        return Answer::error(412, error).with(CLUSTER_ID, &cluster);
    }
    add_remote(core, remotes, request.headers());
    let share = Share::new(&core.room, sender(core, request.headers(), address));
    let answer = receiving::run(core, request.body_mut(), &name(address), share).await;
    answer.with(CLUSTER_ID, &cluster)
}

/// Another member asks for a stream to it.
fn stream(core: &Arc<Core>, remotes: &Remotes, request: &Request<Incoming>) -> Response<Outbound> {
    if request.method() != Method::GET {
        return whole(wrong_method("GET"));
    }
    let mut response = match admit_stream(core, remotes, request) {
        Ok((peer, kind)) => {
            let writer = Writer::attach(core, &peer, kind);
            Response::new(Outbound::Pieces(Box::pin(writer)))
        }
        Err(answer) => whole(answer),
    };
    let own = response.headers_mut();
    headers::put(own, VERSION, &core.identity.version.to_string());
    headers::put(own, CLUSTER_ID, &format!("{:x}", core.identity.cluster_id));
    response
}

type Admitted = (Arc<crate::peer::Peer>, StreamKind);

fn admit_stream(
    core: &Arc<Core>,
    remotes: &Remotes,
    request: &Request<Incoming>,
) -> Result<Admitted, Answer> {
    core.identity
        .check(request.headers(), &*core.host)
        .map_err(|error| Answer::error(412, error))?;
    let path = request.uri().path();
    let kinds = StreamKind::ALL.into_iter();
    let mut found = kinds.filter_map(|kind| path.strip_prefix(kind.path()).map(|id| (kind, id)));
    let Some((kind, id)) = found.next().filter(|(_, id)| !id.contains('/')) else {
        return Err(Answer::error(404, "invalid path"));
    };
    let line = |text: &'static str| {
        LogLine::warn(text)
            .with("local-member-id", format!("{:x}", core.identity.id))
            .with("remote-peer-id-stream-handler", format!("{:x}", core.identity.id))
    };
    let Some(from) = headers::parse_id(id) else {
        core.log(line("failed to parse path into ID").with("path", id.to_owned()));
        return Err(Answer::error(404, "invalid from"));
    };
    let line = |text| line(text).with("remote-peer-id-from", format!("{from:x}"));
    if core.host.is_removed(from) {
        core.log(line("rejected stream from remote peer because it was removed"));
        return Err(Answer::error(410, "removed member"));
    }
    let cluster = format!("{:x}", core.identity.cluster_id);
    let Some(peer) = core.peer(from).filter(|peer| !peer.is_remote) else {
        // Usual while this member has not heard yet that the other one was added.
        add_remote_with(core, remotes, from, request.headers());
        core.log(line("failed to find remote peer in cluster").with("cluster-id", cluster));
        return Err(Answer::error(404, "error sender not found"));
    };
    let to = headers::get(request.headers(), TO).unwrap_or_default();
    if to != format!("{:x}", core.identity.id) {
        core.log(
            line("ignored streaming request; ID mismatch")
                .with("remote-peer-id-header", to.to_owned())
                .with("cluster-id", cluster),
        );
        return Err(Answer::error(412, "to field mismatch"));
    }
    Ok((peer, kind))
}

/// Where a request comes from, in the log and the metrics.
fn name(address: Option<SocketAddr>) -> String {
    address.map_or_else(|| "@".to_owned(), |address| address.to_string())
}

/// Whose room a message takes.
fn sender(core: &Core, headers: &HeaderMap, address: Option<SocketAddr>) -> Sender {
    let from = headers::get(headers, FROM).and_then(headers::parse_id);
    let peer = from.and_then(|from| core.peer(from));
    match peer.filter(|peer| !peer.is_remote) {
        Some(peer) => Sender::Member(peer.id),
        None => Sender::Stranger(address.map(|address| address.ip())),
    }
}

/// Somebody who is not known (yet) says where it can be reached: rafthttp/util.go, addRemoteFromRequest.
fn add_remote(core: &Core, remotes: &Remotes, headers: &HeaderMap) {
    if let Some(from) = headers::get(headers, FROM).and_then(headers::parse_id) {
        add_remote_with(core, remotes, from, headers);
    }
}

fn add_remote_with(core: &Core, remotes: &Remotes, from: u64, headers: &HeaderMap) {
    let known = from == core.identity.id || core.peers().contains_key(&from) || core.host.is_removed(from);
    let texts = headers::get(headers, PEER_URLS).unwrap_or_default();
    if known || texts.is_empty() {
        return;
    }
    // Go ends the request where the URLs are none. Here they only are of no use.
    if let Ok(urls) = url::parse_all(texts.split(',')) {
        remotes.add(from, urls);
    }
}

/// What is not raft's.
async fn other(core: &Core, mut request: Request<Incoming>, address: Option<SocketAddr>) -> Option<Answer> {
    let mut share = Share::new(&core.room, Sender::Asker(address.map(|address| address.ip())));
    let body = request.body_mut();
    let body = match body::whole_within(body, QUESTION_BYTES_MAX, &mut share).await {
        Ok(body) => body,
        Err(ReadError::TooLarge) => return Some(Answer::error(413, "http: request body too large")),
        Err(_) => return None,
    };
    let (sender, reply) = oneshot::channel();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = request.headers().iter();
    let question = Question {
        method: request.method().as_str().to_owned(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        headers: headers
            .map(|(name, value)| (name.as_str().to_owned(), text(value)))
            .collect(),
        body,
    };
    core.host.answer(question, Reply(sender));
    reply.await.ok()
}

fn wrong_method(allowed: &str) -> Answer {
    Answer::error(405, "Method Not Allowed").with(ALLOW.as_str(), allowed)
}

fn whole(answer: Answer) -> Response<Outbound> {
    let mut response = Response::new(Outbound::full(answer.body));
    let status = StatusCode::from_u16(answer.status);
    *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in &answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
