//! Questions to other members: their connections and their places.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use common::Member;
use raft::MessageKind;
use transport::{Answer, Call, CallError, Count, Purpose};

const PATIENCE: Duration = Duration::from_secs(60);

fn nobody_yet() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

/// Reads the head of a request; its first line, or nothing where the other side has hung up.
fn read_head(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut first = String::new();
    if reader.read_line(&mut first).unwrap() == 0 {
        return None;
    }
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).unwrap();
    }
    Some(first)
}

fn answer(stream: &mut TcpStream, body: &str) {
    let len = body.len();
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n{body}").unwrap();
}

fn ask(member: &Member, url: &str, call: Call) -> Receiver<Result<Answer, CallError>> {
    let (sender, receiver) = channel();
    let url = api::url::parse_list(url).unwrap().remove(0);
    let then = move |answer| drop(sender.send(answer));
    member.transport.call(url, call, then);
    receiver
}

#[test]
fn questions_in_a_row_share_a_connection() {
    let (listener, url) = nobody_yet();
    let one = Member::start(1);
    let serve = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        for number in 0..5 {
            read_head(&mut reader).unwrap();
            answer(&mut stream, &number.to_string());
        }
        // This one hangs up without a word, as a server does that finds a connection idle.
        drop((stream, reader));
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        read_head(&mut reader).unwrap();
        answer(&mut stream, "again");
    });
    for number in 0..5 {
        let found = one.call(&url, Call::get("/version", PATIENCE)).unwrap();
        assert_eq!(found.body, number.to_string());
    }
    // Whether the end of the connection is known by now or not: nothing was sent on it.
    let last = loop {
        match one.call(&url, Call::get("/version", PATIENCE)) {
            Ok(found) => break found.body,
            // It was sent just before the end came.
            Err(error) => assert!(matches!(error, CallError::Failed(_)), "{error}"),
        }
    };
    assert_eq!(last, "again");
    serve.join().unwrap();
}

#[test]
fn a_question_that_was_sent_is_not_sent_again() {
    let (listener, url) = nobody_yet();
    let one = Member::start(1);
    let serve = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        read_head(&mut reader).unwrap();
        answer(&mut stream, "");
        // Takes the second one, and says nothing to it.
        read_head(&mut reader).unwrap();
        drop((stream, reader));
        listener.set_nonblocking(true).unwrap();
        listener.accept().map(drop).map_err(|error| error.kind())
    });
    one.call(&url, Call::get("/a", PATIENCE)).unwrap();
    let error = one.call(&url, Call::get("/b", PATIENCE)).unwrap_err();
    assert_eq!(error, CallError::Failed("EOF".into()));
    assert_eq!(serve.join().unwrap(), Err(std::io::ErrorKind::WouldBlock));
}

#[test]
fn questions_without_answer_take_no_places_but_their_own() {
    let (listener, url) = nobody_yet();
    let (one, other) = (Member::start(1), Member::start(2));
    let of = |purpose, method, path| Call {
        purpose,
        method,
        ..Call::get(path, PATIENCE)
    };
    let questions: Vec<_> = (0..300)
        .map(|_| ask(&one, &url, of(Purpose::Question, "GET", "/question")))
        .collect();
    // So many wait, or are under way without an answer; the others are refused at once.
    for refused in &questions[256..] {
        assert_eq!(refused.recv_timeout(PATIENCE).unwrap(), Err(CallError::Busy));
    }
    let renewed = ask(&one, &url, of(Purpose::Renewal, "POST", "/leases"));
    let checked = ask(&one, &url, of(Purpose::Check, "GET", "/version"));
    let elsewhere = ask(&one, &other.url(), of(Purpose::Question, "GET", "/question"));
    let found = elsewhere.recv_timeout(PATIENCE).unwrap().unwrap();
    assert_eq!(found.body, "GET /question b\"\"");
    let mut silent = Vec::new();
    let mut answered = 0;
    while answered < 2 {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let first = read_head(&mut reader).unwrap();
        if first.starts_with("GET /question ") {
            silent.push(stream);
            assert!(silent.len() <= 16, "no more connections than places");
        } else {
            answer(&mut stream, first.split(' ').nth(1).unwrap());
            answered += 1;
        }
    }
    assert_eq!(renewed.recv_timeout(PATIENCE).unwrap().unwrap().body, "/leases");
    assert_eq!(checked.recv_timeout(PATIENCE).unwrap().unwrap().body, "/version");
    let waiting = questions[..256].iter();
    assert!(waiting.filter(|question| question.try_recv().is_ok()).count() == 0);
}

/// Reads to the end of a request with a body, which it says the length of; the body, or nothing where the other side
/// has hung up.
fn read_whole(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let (mut line, mut length) = (String::new(), 0);
    while line != "\r\n" {
        line.clear();
        if reader.read_line(&mut line).unwrap() == 0 {
            return None;
        }
        let header = line.to_ascii_lowercase();
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    Some(body)
}

/// These servers keep connections for ever, and nobody has anything more to say.
#[test]
fn connections_that_nobody_uses_any_more_are_closed() {
    let (listener, url) = nobody_yet();
    let one = Member::start(1);
    let is_closed = |first: Option<Receiver<Result<Answer, CallError>>>, status: &str| {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        read_whole(&mut reader).unwrap();
        write!(stream, "HTTP/1.1 {status}\r\n\r\n").unwrap();
        if let Some(asked) = first {
            asked.recv_timeout(PATIENCE).unwrap().unwrap();
        }
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(read_head(&mut reader), None);
    };
    let asked = ask(&one, &url, Call::get("/version", PATIENCE));
    is_closed(Some(asked), "200 OK\r\nContent-Length: 0");
    one.transport.add_remote(2, &[url]);
    one.send(common::append(2, 1, 1, 1));
    is_closed(None, "204 No Content");
}

/// Who posts cannot know whether a connection that broke had brought its message: other messages may come twice.
#[test]
fn a_proposal_is_posted_once() {
    let (listener, url) = nobody_yet();
    let one = Member::start(1);
    one.transport.add_remote(2, &[url]);
    // All four connections for posts are there, are used and are kept.
    for number in 1..=4 {
        one.send(common::append(2, 1, number, 1));
    }
    let streams: Vec<TcpStream> = (0..4)
        .map(|_| {
            let (stream, _) = listener.accept().unwrap();
            read_whole(&mut BufReader::new(stream.try_clone().unwrap())).unwrap();
            stream
        })
        .collect();
    let (proposals, seen) = channel();
    let serve = move |stream: TcpStream| {
        let proposals = proposals.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            // Takes it, and says nothing to it.
            if let Some(body) = read_whole(&mut reader) {
                proposals.send(body).unwrap();
            }
        });
    };
    for mut stream in streams {
        write!(stream, "HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        serve(stream);
    }
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            serve(stream.unwrap());
        }
    });
    one.host.wait("the answers", |told| {
        let is_sent = |count: &&Count| matches!(count, Count::Sent(2, _));
        (told.counts.iter().filter(is_sent).count() == 4).then_some(())
    });
    let mut proposal = common::append(2, 1, 0, 1);
    proposal.kind = MessageKind::Propose;
    one.send(proposal);
    // By now it has done all that it will do.
    one.host
        .wait("the failure", |told| (told.unreachable == [2]).then_some(()));
    assert_eq!(seen.try_iter().count(), 1);
}
