//! What etcd 3.7.1 answered to requests at the edge of what is allowed, and on watch streams. The
//! tables were written by a Go client of the real thing; IDs and term are 0 in them.

use api::etcdserverpb::PutRequest;

use super::*;

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn request(column: &str) -> Bytes {
    match column.strip_prefix("put:") {
        Some(len) => {
            let put = PutRequest {
                key: "k".into(),
                value: vec![b'x'; len.parse().unwrap()].into(),
                ..PutRequest::default()
            };
            put.encode_to_vec().into()
        }
        None => unhex(column).into(),
    }
}

/// How a call ends before consensus: a status, or nothing to object.
fn answer(rig: &mut Rig, token: u64, method: Method, message: Bytes) -> Result<(), Status> {
    if method.shape() == Shape::Unary {
        let outcome = rig
            .front
            .call(Token(token), method, message, Context::default(), rig.now);
        rig.drain();
        match (outcome, rig.reply(token)) {
            (Outcome::Done(result), _) => result.map(|_| ()),
            (Outcome::Pending, reply) => reply.unwrap_or(Ok(Bytes::new())).map(|_| ()),
        }
    } else {
        rig.open(token, method);
        rig.front.stream_message(Token(token), message, rig.now);
        let mut end = None;
        while end.is_none() {
            rig.settle();
            end = rig.front.stream_poll(Token(token), 1000, rig.now).end;
        }
        end.unwrap()
    }
}

#[test]
fn refusals_are_those_of_etcd() {
    let table = include_str!("../../../tests/golden/validation.txt");
    let mut rig = Rig::new();
    for _ in 0..10 {
        rig.put("other", "value");
    }
    rig.compact(6);
    let (mut checked, mut refused) = (0, 0);
    for (token, line) in table.lines().enumerate() {
        let columns: Vec<&str> = line.split('\t').collect();
        let [path, hex, code, text] = columns[..] else {
            panic!("{line}");
        };
        let method = Method::from_path(path).unwrap();
        let got = answer(&mut rig, token as u64 + 1, method, request(hex));
        let expected = match code {
            "0" => Ok(()),
            code => Err(Status::with(Code::from_number(code.parse().unwrap()), text)),
        };
        assert_eq!(got, expected, "{path} {hex}");
        checked += 1;
        refused += usize::from(got.is_err());
    }
    assert!(
        checked > 110 && refused > 60,
        "{checked} rows, {refused} refusals"
    );
}

#[test]
fn watch_answers_are_those_of_etcd() {
    let story = include_str!("../../../tests/golden/watch.txt");
    let mut rig = Rig::new();
    rig.shared.pulse.set_leader(0, MEMBER);
    rig.front.config.member_id = 0;
    let mut token = 0;
    let mut expected = Vec::new();
    for line in story.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        if words[0] == "expect" {
            expected.push(Bytes::from(unhex(words[1])));
            continue;
        }
        check_received(&mut rig, token, &mut expected);
        match words[..] {
            ["open"] => {
                token += 1;
                rig.open(token, Method::Watch);
            }
            ["put", key, value] => rig.put(key, value),
            ["txn", ..] => rig.apply(|txn| {
                for key in &words[1..] {
                    txn.put(key.as_bytes(), b"v", 0);
                }
            }),
            ["delete", key, end] => rig.apply(|txn| {
                txn.delete_range(key.as_bytes(), &unhex(end));
            }),
            ["compact", revision] => rig.compact(revision.parse().unwrap()),
            ["ask", hex] => {
                rig.front.stream_message(Token(token), unhex(hex).into(), rig.now);
                rig.settle();
            }
            _ => panic!("{line}"),
        }
    }
    check_received(&mut rig, token, &mut expected);
}

/// What came is what etcd sent, and nothing more.
fn check_received(rig: &mut Rig, token: u64, expected: &mut Vec<Bytes>) {
    let got: Vec<WatchResponse> = if token == 0 {
        Vec::new()
    } else {
        rig.responses(token)
    };
    let expected: Vec<WatchResponse> = std::mem::take(expected)
        .into_iter()
        .map(|bytes| WatchResponse::decode(bytes).unwrap())
        .collect();
    assert_eq!(got, expected);
}
