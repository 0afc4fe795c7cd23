//! Look-ups at name servers on this machine that answer what a test wants.

use std::net::TcpListener;
use std::thread;

use simple_dns::ResourceRecord;
use simple_dns::rdata::{RData, SRV};

use super::*;

/// Where an answer by UDP ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    Nowhere,
    /// Its head says so, and it has no records.
    BeforeRecords,
    /// Its head says so, and a record ends in the middle.
    InRecord,
    /// Nothing says so.
    Silently,
}

/// What a name server answers: its code, where the answer by UDP is cut, and records of port and priority.
#[derive(Clone, Copy)]
struct Reply {
    code: RCODE,
    cut: Cut,
    records: &'static [(&'static str, u16, u16)],
}

const FOUND: Reply = Reply {
    code: RCODE::NoError,
    cut: Cut::Nowhere,
    records: &[("b.example.com", 2, 20), ("a.example.com", 1, 10)],
};

const MISSING: Reply = Reply {
    code: RCODE::NameError,
    cut: Cut::Nowhere,
    records: &[],
};

type Replies = fn(&str) -> Reply;

fn answer(question: &[u8], reply: Reply, whole: bool) -> Vec<u8> {
    let asked = Packet::parse(question).unwrap();
    let name = asked.questions[0].qname.clone();
    let mut packet = Packet::new_reply(asked.id());
    packet.set_flags(PacketFlag::RECURSION_AVAILABLE);
    *packet.rcode_mut() = reply.code;
    packet.questions = asked.questions.clone();
    let cut = if whole { Cut::Nowhere } else { reply.cut };
    if matches!(cut, Cut::BeforeRecords | Cut::InRecord) {
        packet.set_flags(PacketFlag::TRUNCATION);
    }
    if cut != Cut::BeforeRecords {
        packet.answers = reply
            .records
            .iter()
            .map(|(target, port, priority)| {
                let record = SRV {
                    priority: *priority,
                    weight: 0,
                    port: *port,
                    target: Name::new_unchecked(target),
                };
                ResourceRecord::new(name.clone(), CLASS::IN, 1, RData::SRV(record))
            })
            .collect();
    }
    let mut bytes = packet.build_bytes_vec_compressed().unwrap();
    if matches!(cut, Cut::InRecord | Cut::Silently) {
        bytes.truncate(bytes.len() - 5);
    }
    bytes
}

/// A name server for as long as the test runs. Before each answer it sends what is none.
fn name_server(replies: Replies) -> SocketAddr {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let Ok(udp) = UdpSocket::bind(address) else {
        // Somebody else has the port for datagrams.
        return name_server(replies);
    };
    let name_of = |question: &[u8]| Packet::parse(question).unwrap().questions[0].qname.to_string();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            let question = &buffer[..length];
            let mut foreign = question.to_vec();
            foreign[0] ^= 1;
            for datagram in [
                b"nonsense".to_vec(),
                answer(&foreign, MISSING, true),
                answer(question, replies(&name_of(question)), false),
            ] {
                udp.send_to(&datagram, from).unwrap();
            }
        }
    });
    thread::spawn(move || {
        while let Ok((mut stream, _)) = tcp.accept() {
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut question).unwrap();
            let reply = answer(&question, replies(&name_of(&question)), true);
            let length = u16::try_from(reply.len()).unwrap();
            stream.write_all(&length.to_be_bytes()).unwrap();
            stream.write_all(&reply).unwrap();
        }
    });
    address
}

fn resolver(servers: &[SocketAddr]) -> Resolver {
    Resolver {
        servers: servers.to_vec(),
        search: vec!["example.com".to_owned()],
        dots: 3,
        timeout: Duration::from_secs(5),
        attempts: 2,
        by_tcp: false,
    }
}

fn targets(found: Result<Vec<Record>, LookupError>) -> Result<Vec<String>, String> {
    let records = found.map_err(|error| error.to_string())?;
    Ok(records.iter().map(Record::address).collect())
}

fn texts(list: &[&str]) -> Result<Vec<String>, String> {
    Ok(list.iter().map(|text| (*text).to_owned()).collect())
}

#[test]
fn records_come_by_priority() {
    let found: Replies = |name| match name {
        "_etcd-server._tcp.example.com" => FOUND,
        _ => MISSING,
    };
    let resolver = resolver(&[name_server(found)]);
    let expect = texts(&["a.example.com.:1", "b.example.com.:2"]);
    assert_eq!(targets(resolver.srv("etcd-server", "example.com")), expect);
    assert_eq!(targets(resolver.srv("etcd-server", "example.com.")), expect);
    let by_tcp = Resolver {
        by_tcp: true,
        ..resolver
    };
    assert_eq!(targets(by_tcp.srv("etcd-server", "example.com")), expect);
}

#[test]
fn what_does_not_fit_is_asked_for_by_tcp() {
    let cases: [Replies; 2] = [
        |_| Reply {
            cut: Cut::BeforeRecords,
            ..FOUND
        },
        |_| Reply {
            cut: Cut::InRecord,
            ..FOUND
        },
    ];
    for cut in cases {
        let resolver = resolver(&[name_server(cut)]);
        assert_eq!(
            targets(resolver.srv("s", "d")),
            texts(&["a.example.com.:1", "b.example.com.:2"])
        );
    }
}

#[test]
fn who_trickles_by_tcp_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    let trickle = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(&[0xff, 0xff]).unwrap();
        // Until the other side has had enough; each piece comes well before the time is over.
        let mut pieces = 0;
        while stream.write_all(&[0]).is_ok() {
            pieces += 1;
            assert!(pieces < 5000, "it is waited for as long as anything comes");
            thread::park_timeout(Duration::from_millis(1));
        }
    });
    let hasty = Resolver {
        by_tcp: true,
        timeout: Duration::from_secs(1),
        attempts: 1,
        ..resolver(&[server])
    };
    assert_eq!(
        targets(hasty.srv("s", "d.")),
        Err(format!("lookup _s._tcp.d. on {server}: i/o timeout"))
    );
    trickle.join().unwrap();
}

#[test]
fn names_with_few_dots_are_looked_for_in_domains_first() {
    let found: Replies = |name| match name {
        "_s._tcp.d.example.com" => FOUND,
        _ => MISSING,
    };
    let resolver = resolver(&[name_server(found)]);
    assert!(resolver.srv("s", "d").is_ok());
    assert!(resolver.srv("s", "d.").is_err(), "a name that is complete");
    let names = |name| resolver.candidates(name);
    assert_eq!(names("_s._tcp.d"), ["_s._tcp.d.example.com.", "_s._tcp.d."]);
    assert_eq!(names("_s._tcp.d.e"), ["_s._tcp.d.e.", "_s._tcp.d.e.example.com."]);
}

#[test]
fn failures_read_as_in_go() {
    let refuses = name_server(|_| Reply {
        code: RCODE::ServerFailure,
        ..MISSING
    });
    let lacks = name_server(|_| MISSING);
    let empty = name_server(|_| Reply {
        code: RCODE::NoError,
        ..MISSING
    });
    let knows = name_server(|_| FOUND);
    let garbles = name_server(|_| Reply {
        cut: Cut::Silently,
        ..FOUND
    });
    let wrong = name_server(|_| Reply {
        records: &[("-.example.com", 1, 1)],
        ..FOUND
    });
    for (servers, domain, expect) in [
        (
            vec![lacks],
            "d",
            format!("lookup _s._tcp.d on {lacks}: no such host"),
        ),
        (
            vec![empty],
            "d",
            format!("lookup _s._tcp.d on {empty}: no such host"),
        ),
        (
            vec![refuses],
            "d",
            format!("lookup _s._tcp.d on {refuses}: server misbehaving"),
        ),
        (
            vec![garbles],
            "d",
            format!("lookup _s._tcp.d on {garbles}: cannot unmarshal DNS message"),
        ),
        (
            vec![lacks, knows],
            "d",
            format!("lookup _s._tcp.d on {lacks}: no such host"),
        ),
        (
            vec![wrong],
            "d",
            "lookup d: DNS response contained records which contain invalid names".to_owned(),
        ),
        (
            vec![knows],
            "d..e",
            "lookup _s._tcp.d..e: no such host".to_owned(),
        ),
        (vec![knows], "d e", "lookup _s._tcp.d e: no such host".to_owned()),
    ] {
        assert_eq!(targets(resolver(&servers).srv("s", domain)), Err(expect));
    }
    assert!(
        resolver(&[refuses, knows]).srv("s", "d").is_ok(),
        "the next is asked"
    );
}

#[test]
fn who_does_not_answer_is_given_up() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = silent.local_addr().unwrap();
    let hasty = Resolver {
        timeout: Duration::from_millis(20),
        ..resolver(&[server])
    };
    assert_eq!(
        targets(hasty.srv("s", "d")),
        Err(format!("lookup _s._tcp.d on {server}: i/o timeout"))
    );
}

#[test]
fn weights_decide_who_comes_first_and_lose_nobody() {
    let record = |port, weight| Record {
        target: "a.".to_owned(),
        port,
        priority: 0,
        weight,
    };
    let mut first = [0; 3];
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let records = in_order(vec![record(0, 0), record(1, 10), record(2, 90)], &mut rng);
        first[usize::from(records[0].port)] += 1;
        let mut ports: Vec<u16> = records.iter().map(|record| record.port).collect();
        ports.sort_unstable();
        assert_eq!(ports, [0, 1, 2]);
    }
    assert!(first[0] == 0 && first[1] > 0 && first[2] > first[1], "{first:?}");
}

#[test]
fn domains_are_those_of_go() {
    for (name, expect) in [
        ("a.b", true),
        ("a.b.", true),
        (".", true),
        ("_a._tcp.b", true),
        ("1.2", false),
        ("1-2", true),
        ("", false),
        ("a..b", false),
        ("-a.b", false),
        ("a-.b", false),
        ("a b", false),
        ("ü", false),
        (&"a".repeat(64), false),
        (&"a.".repeat(128), false),
        (&"a.".repeat(127), true),
    ] {
        assert_eq!(is_domain(name), expect, "{name}");
    }
}
