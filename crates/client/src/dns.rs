//! SRV look-ups by the name servers of `/etc/resolv.conf`, since the system's own look-ups know addresses only. Tries names,
//! servers and times as Go's resolver does, and fails in its words (net/dnsclient_unix.go). Caches nothing.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};

use crate::srv::Record;

const SETTINGS: &str = "/etc/resolv.conf";
const PORT: u16 = 53;
/// The longest message that UDP carries without further agreement is 512 bytes (RFC 1035); some servers send more.
const DATAGRAM_BYTES_MAX: usize = 4096;
/// The longest name (RFC 1035).
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

const NO_SUCH_HOST: &str = "no such host";
const MISBEHAVING: &str = "server misbehaving";
const LAME: &str = "lame referral";
const INVALID: &str = "invalid DNS response";
const UNREADABLE: &str = "cannot unmarshal DNS message";
const INVALID_NAMES: &str = "DNS response contained records which contain invalid names";

/// Why a look-up failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupError {
    name: String,
    server: Option<SocketAddr>,
    reason: String,
}

impl LookupError {
    pub(crate) fn new(name: &str, reason: &str) -> LookupError {
        LookupError {
            name: name.to_owned(),
            server: None,
            reason: reason.to_owned(),
        }
    }

    fn at(self, server: SocketAddr) -> LookupError {
        LookupError {
            server: Some(server),
            ..self
        }
    }
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lookup {}", self.name)?;
        if let Some(server) = self.server {
            write!(f, " on {server}")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// Whom to ask, and how.
#[derive(Clone, Debug)]
pub struct Resolver {
    servers: Vec<SocketAddr>,
    /// Domains for names with few dots.
    search: Vec<String>,
    /// How many dots make a name complete.
    dots: usize,
    timeout: Duration,
    attempts: u32,
    by_tcp: bool,
}

/// What one server says.
enum Outcome {
    Found(Vec<Record>),
    /// No other server would know better.
    Missing,
    /// Another server may.
    Failed(String),
}

impl Resolver {
    /// By the settings of this machine; if there are none, of a server on it.
    pub fn of_system() -> Resolver {
        let text = std::fs::read(SETTINGS).unwrap_or_default();
        let (settings, _) = resolv_conf::Config::parse_with_errors(&text);
        let servers = settings.nameservers.iter().cloned().map(IpAddr::from);
        let mut servers: Vec<SocketAddr> = servers.map(|ip| SocketAddr::new(ip, PORT)).collect();
        if servers.is_empty() {
            // net/dnsconfig.go defaultNS.
            servers = vec![
                SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT),
                SocketAddr::new(Ipv6Addr::LOCALHOST.into(), PORT),
            ];
        }
        servers.truncate(3);
        let search = settings.get_last_search_or_domain().cloned();
        Resolver {
            servers,
            search: search.collect(),
            dots: settings.ndots as usize,
            timeout: Duration::from_secs(u64::from(settings.timeout.max(1))),
            attempts: settings.attempts.max(1),
            by_tcp: settings.use_vc,
        }
    }

    /// The records of `_service._tcp.domain`.
    ///
    /// # Errors
    /// In the words of Go.
    pub fn srv(&self, service: &str, domain: &str) -> Result<Vec<Record>, LookupError> {
        let name = format!("_{service}._tcp.{domain}");
        if !is_domain(&name) {
            return Err(LookupError::new(&name, NO_SUCH_HOST));
        }
        let mut rng = fastrand::Rng::with_seed(unforeseeable());
        let mut last = LookupError::new(&name, NO_SUCH_HOST);
        for candidate in self.candidates(&name) {
            match self.ask_all(&candidate, &mut rng) {
                Ok(records) => {
                    if records.iter().any(|record| !is_domain(&record.target)) {
                        return Err(LookupError::new(domain, INVALID_NAMES));
                    }
                    return Ok(in_order(records, &mut rng));
                }
                // The name that was asked for, not one that settings made of it.
                Err((reason, server)) => last = LookupError::new(&name, &reason).at(server),
            }
        }
        Err(last)
    }

    /// The names that a name may stand for: net/dnsclient_unix.go nameList.
    fn candidates(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let whole = format!("{name}.");
        let mut names: Vec<String> = self
            .search
            .iter()
            .map(|domain| format!("{whole}{}.", domain.trim_end_matches('.')))
            .filter(|name| name.len() <= NAME_BYTES_MAX + 1)
            .collect();
        if name.matches('.').count() >= self.dots {
            names.insert(0, whole);
        } else {
            names.push(whole);
        }
        names
    }

    fn ask_all(&self, name: &str, rng: &mut fastrand::Rng) -> Result<Vec<Record>, (String, SocketAddr)> {
        let mut failure = None;
        for _ in 0..self.attempts {
            for server in &self.servers {
                match self.ask(name, *server, rng.u16(..)) {
                    Outcome::Found(records) => return Ok(records),
                    Outcome::Missing => return Err((NO_SUCH_HOST.to_owned(), *server)),
                    Outcome::Failed(reason) => failure = Some((reason, *server)),
                }
            }
        }
        Err(failure.expect("there is one server and one attempt at least"))
    }

    fn ask(&self, name: &str, server: SocketAddr, id: u16) -> Outcome {
        let asked = match query(name, id) {
            Some(asked) => asked,
            None => return Outcome::Failed("cannot marshal DNS message".to_owned()),
        };
        if !self.by_tcp {
            match by_udp(&asked, server, self.timeout) {
                Err(error) => return Outcome::Failed(words("udp", server, &error)),
                // What does not fit is asked for again by TCP (RFC 5966), wherever it was cut.
                Ok(answer) if is_cut(&answer) => {}
                Ok(answer) => return read(&answer),
            }
        }
        match by_tcp(&asked, server, self.timeout) {
            Err(error) => Outcome::Failed(words("tcp", server, &error)),
            Ok(answer) if is_answer(&answer, &asked) => read(&answer),
            Ok(_) => Outcome::Failed(INVALID.to_owned()),
        }
    }
}

/// A number that nobody can foretell, against answers of those who were not asked.
fn unforeseeable() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

fn query(name: &str, id: u16) -> Option<Vec<u8>> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name.trim_end_matches('.')).ok()?;
    packet.questions.push(Question::new(
        name,
        QTYPE::TYPE(TYPE::SRV),
        QCLASS::CLASS(CLASS::IN),
        false,
    ));
    packet.build_bytes_vec().ok()
}

fn by_udp(asked: &[u8], server: SocketAddr, timeout: Duration) -> io::Result<Vec<u8>> {
    let own: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((own, 0))?;
    socket.connect(server)?;
    socket.send(asked)?;
    let deadline = Instant::now() + timeout;
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        socket.set_read_timeout(Some(left(deadline)?))?;
        let length = match socket.recv(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            received => received?,
        };
        // Anybody can send a datagram: what is no answer to this question is passed over.
        if is_answer(&buffer[..length], asked) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

fn by_tcp(asked: &[u8], server: SocketAddr, timeout: Duration) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + timeout;
    let mut stream = TcpStream::connect_timeout(&server, timeout)?;
    let length = u16::try_from(asked.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.set_write_timeout(Some(left(deadline)?))?;
    stream.write_all(&[&length.to_be_bytes(), asked].concat())?;
    let mut length = [0; 2];
    read_until(&mut stream, &mut length, deadline)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    read_until(&mut stream, &mut answer, deadline)?;
    Ok(answer)
}

/// Fills `buffer`, however small the pieces are that come, by `deadline`.
fn read_until(stream: &mut TcpStream, mut buffer: &mut [u8], deadline: Instant) -> io::Result<()> {
    while !buffer.is_empty() {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => buffer = &mut buffer[length..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The time until `deadline`.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    match left.is_zero() {
        true => Err(io::ErrorKind::TimedOut.into()),
        false => Ok(left),
    }
}

/// The length of a message's head (RFC 1035).
const HEAD_BYTES: usize = 12;

/// Whether a message answers the question `asked`, by its head and the question that it repeats: what follows may be
/// cut off in the middle (net/dnsclient_unix.go, checkResponse).
fn is_answer(bytes: &[u8], asked: &[u8]) -> bool {
    let (Some(head), Some(question)) = (bytes.get(..HEAD_BYTES), bytes.get(HEAD_BYTES..asked.len())) else {
        return false;
    };
    let (id, is_response, questions) = (&head[..2], head[2] & 0x80 != 0, &head[4..6]);
    // Lengths of labels, the type and the class are no letters.
    id == &asked[..2]
        && is_response
        && questions == &asked[4..6]
        && question.eq_ignore_ascii_case(&asked[HEAD_BYTES..])
}

/// Whether an answer was longer than what carried it.
fn is_cut(answer: &[u8]) -> bool {
    answer.get(2).is_some_and(|flags| flags & 0x02 != 0)
}

/// What an answer says.
fn read(answer: &[u8]) -> Outcome {
    match Packet::parse(answer) {
        Ok(packet) => judge(&packet),
        Err(_) => Outcome::Failed(UNREADABLE.to_owned()),
    }
}

fn judge(packet: &Packet<'_>) -> Outcome {
    match packet.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => return Outcome::Missing,
        _ => return Outcome::Failed(MISBEHAVING.to_owned()),
    }
    let records = packet.answers.iter().filter_map(|answer| match &answer.rdata {
        RData::SRV(record) => Some(Record {
            target: format!("{}.", record.target),
            port: record.port,
            priority: record.priority,
            weight: record.weight,
        }),
        _ => None,
    });
    let records: Vec<Record> = records.collect();
    let knows = packet.has_flags(PacketFlag::AUTHORITATIVE_ANSWER)
        || packet.has_flags(PacketFlag::RECURSION_AVAILABLE);
    match (records.is_empty(), packet.answers.is_empty() && !knows) {
        (false, _) => Outcome::Found(records),
        (true, true) => Outcome::Failed(LAME.to_owned()),
        (true, false) => Outcome::Missing,
    }
}

/// RFC 2782: by priority, and among equal ones by chance as the weights say.
fn in_order(mut records: Vec<Record>, rng: &mut fastrand::Rng) -> Vec<Record> {
    records.sort_by_key(|record| (record.priority, record.weight));
    for group in records.chunk_by_mut(|one, other| one.priority == other.priority) {
        for first in 0..group.len() {
            let rest = &mut group[first..];
            let sum: u32 = rest.iter().map(|record| u32::from(record.weight)).sum();
            if sum == 0 {
                break;
            }
            let mut draw = rng.u32(..sum);
            for at in 0..rest.len() {
                let weight = u32::from(rest[at].weight);
                if draw < weight {
                    rest.swap(0, at);
                    break;
                }
                draw -= weight;
            }
        }
    }
    records
}

/// What Go says of a socket that failed.
fn words(network: &str, server: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "i/o timeout".to_owned(),
        io::ErrorKind::ConnectionRefused if network == "udp" => {
            format!("read {network} {server}: connection refused")
        }
        io::ErrorKind::ConnectionRefused => format!("dial {network} {server}: connect: connection refused"),
        io::ErrorKind::NetworkUnreachable => {
            format!("dial {network} {server}: connect: network is unreachable")
        }
        _ => format!("{network} {server}: {error}"),
    }
}

/// net/dnsclient.go isDomainName.
fn is_domain(name: &str) -> bool {
    if name == "." {
        return true;
    }
    let bare = name.strip_suffix('.').unwrap_or(name);
    if bare.is_empty() || bare.len() > NAME_BYTES_MAX {
        return false;
    }
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    };
    bare.split('.').all(is_label) && bare.bytes().any(|byte| !byte.is_ascii_digit() && byte != b'.')
}

#[cfg(test)]
mod tests;
