//! A member that only remembers what its transport tells it.

#![allow(dead_code)] // Not every test file uses all of it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use api::version::Version;
use disk::mem::MemDisk;
use member::LogLine;
use raft::{Entry, Message, MessageKind};
use transport::{Answer, Call, CallError, Count, Dialer, Host, Options, Question, Reply, Transport};

pub const CLUSTER: u64 = 0xc1;

/// What a member was told.
#[derive(Debug, Default)]
pub struct Told {
    pub delivered: Vec<Message>,
    pub unreachable: Vec<u64>,
    pub snapshots_sent: Vec<(u64, bool)>,
    /// The files that came, with their messages.
    pub accepted: Vec<(Vec<u8>, Message)>,
    pub removed: Vec<u64>,
    pub told_removed: usize,
    pub questions: Vec<Question>,
    pub counts: Vec<Count>,
    pub lines: Vec<LogLine>,
}

pub struct Recorder {
    told: Mutex<Told>,
    changed: Condvar,
    disk: MemDisk,
}

impl Recorder {
    fn note(&self, note: impl FnOnce(&mut Told)) {
        note(&mut self.told.lock().unwrap());
        self.changed.notify_all();
    }

    /// Changes what it answers.
    pub fn set(&self, change: impl FnOnce(&mut Told)) {
        self.note(change);
    }

    /// Waits until `look` finds something in what it was told.
    pub fn wait<T>(&self, what: &str, mut look: impl FnMut(&mut Told) -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut told = self.told.lock().unwrap();
        loop {
            if let Some(found) = look(&mut told) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "after 60 s still not: {what}: {told:?}");
            told = self.changed.wait_timeout(told, left).unwrap().0;
        }
    }

    pub fn files(&self) -> Vec<String> {
        let files = self.disk.shared().list(&PathBuf::from("/snap")).unwrap();
        files.into_iter().map(|entry| entry.name).collect()
    }
}

impl member::Log for Recorder {
    fn log(&self, line: LogLine) {
        self.note(|told| told.lines.push(line));
    }
}

impl Host for Recorder {
    fn deliver(&self, messages: &mut Vec<Message>) {
        self.note(|told| told.delivered.append(messages));
    }

    fn unreachable(&self, id: u64) {
        self.note(|told| told.unreachable.push(id));
    }

    fn snapshot_sent(&self, id: u64, arrived: bool) {
        self.note(|told| told.snapshots_sent.push((id, arrived)));
    }

    fn accept_snapshot(&self, received: PathBuf, message: Message) -> Result<(), String> {
        let disk = self.disk.shared();
        let file = disk.open(&received, disk::Open::Read).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_at(&mut bytes, 0).unwrap();
        disk.remove_file(&received).unwrap();
        let damaged = bytes.starts_with(b"damaged");
        self.note(|told| told.accepted.push((bytes, message)));
        if damaged {
            Err("it is damaged".into())
        } else {
            Ok(())
        }
    }

    fn is_removed(&self, id: u64) -> bool {
        self.told.lock().unwrap().removed.contains(&id)
    }

    fn told_removed(&self) {
        self.note(|told| told.told_removed += 1);
    }

    fn answer(&self, question: Question, reply: Reply) {
        let silent = question.path == "/silent";
        let body = format!("{} {} {:?}", question.method, question.path, question.body);
        self.note(|told| told.questions.push(question));
        if !silent {
            reply.send(Answer {
                status: 200,
                headers: vec![("x-kind".into(), "answer".into())],
                body: body.into(),
            });
        }
    }

    fn count(&self, count: Count) {
        self.note(|told| told.counts.push(count));
    }
}

/// A member with its transport and its port.
pub struct Member {
    pub id: u64,
    pub host: Arc<Recorder>,
    pub transport: Transport,
    pub address: SocketAddr,
}

impl Member {
    pub fn start(id: u64) -> Member {
        Member::start_on(id, TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub fn start_on(id: u64, listener: TcpListener) -> Member {
        let disk = MemDisk::new();
        disk.shared().create_dir_all(&PathBuf::from("/snap")).unwrap();
        let address = listener.local_addr().unwrap();
        let host = Arc::new(Recorder {
            told: Mutex::default(),
            changed: Condvar::new(),
            disk: disk.clone(),
        });
        let options = Options {
            member_id: id,
            cluster_id: CLUSTER,
            version: Version::new(3, 7, 1),
            peer_urls: vec![format!("http://{address}")],
            dialer: dialer(),
            disk: disk.shared(),
            snap_dir: "/snap".into(),
        };
        let transport = Transport::start(options, host.clone()).unwrap();
        listener.set_nonblocking(true).unwrap();
        transport.open(Box::new(move |doorway| {
            Box::pin(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let (socket, address) = listener.accept().await.unwrap();
                    let doorway = doorway.clone();
                    tokio::task::spawn_local(async move { doorway.serve(socket, Some(address)).await });
                }
            })
        }));
        Member {
            id,
            host,
            transport,
            address,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn send(&self, message: Message) {
        self.transport.send(Box::new(message));
    }

    /// Waits until both streams from here to `other` and back are there.
    pub fn wait_for_streams(&self, other: &Member) {
        for (one, another) in [(self, other), (other, self)] {
            one.host.wait("streams", |told| {
                let peer = format!("{:x}", another.id);
                let established = |name: &'static str| {
                    told.lines.iter().any(|line| {
                        line.msg == "established TCP streaming connection with remote peer"
                            && line.fields.iter().any(|(key, _)| *key == name)
                            && line.fields.contains(&("remote-peer-id", peer.clone().into()))
                    })
                };
                let count = told
                    .lines
                    .iter()
                    .filter(|line| line.msg == "set message encoder")
                    .count();
                (established("stream-reader-type") && established("stream-writer-type") && count >= 2)
                    .then_some(())
            });
        }
    }

    pub fn call(&self, to: &str, call: Call) -> Result<Answer, CallError> {
        let (sender, receiver) = std::sync::mpsc::channel();
        let url = api::url::parse_list(to).unwrap().remove(0);
        self.transport
            .call(url, call, move |answer| sender.send(answer).unwrap());
        receiver.recv_timeout(Duration::from_secs(60)).unwrap()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.transport.stop();
    }
}

pub fn dialer() -> Dialer {
    Dialer::new(None, Duration::from_secs(2), None)
}

/// Two members that know each other, with all their streams.
pub fn pair() -> (Member, Member) {
    let (one, other) = (Member::start(1), Member::start(2));
    introduce(&one, &other);
    one.wait_for_streams(&other);
    (one, other)
}

pub fn introduce(one: &Member, other: &Member) {
    let members = [(one.id, vec![one.url()]), (other.id, vec![other.url()])];
    for member in [one, other] {
        let list = members.iter().map(|(id, urls)| (*id, &urls[..]));
        member.transport.set_members(list);
    }
}

/// An append of `count` entries that follow on `index`, in the term of the entry before.
pub fn append(to: u64, from: u64, index: u64, count: u64) -> Message {
    let mut message = Message::new(MessageKind::Append, to, from, 5);
    message.log_term = 5;
    message.index = index;
    message.commit = index;
    message.entries = (1..=count)
        .map(|number| Entry {
            term: 5,
            index: index + number,
            data: vec![7; usize::try_from(number).unwrap()].into(),
            ..Entry::default()
        })
        .collect();
    message
}

/// Sends bytes to a port and reads until the other side hangs up.
pub fn raw(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    // A connection that breaks is an answer, too.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// The headers of a member of the cluster.
pub fn identity(from: u64) -> String {
    format!(
        "Host: x\r\nX-Server-From: {from:x}\r\nX-Server-Version: 3.7.1\r\nX-Min-Cluster-Version: 3.0.0\r\n\
         X-Etcd-Cluster-ID: {CLUSTER:x}\r\n"
    )
}
