//! Questions to other members: their connections and their places.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use common::Member;
use transport::{Answer, Call, CallError, Purpose};

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
fn questions_do_not_take_the_places_of_renewals() {
    let (listener, url) = nobody_yet();
    let one = Member::start(1);
    let questions: Vec<_> = (0..300)
        .map(|_| ask(&one, &url, Call::get("/members/hashkv", PATIENCE)))
        .collect();
    // So many wait, or are under way without an answer; the others are refused at once.
    for refused in &questions[256..] {
        assert_eq!(refused.recv_timeout(PATIENCE).unwrap(), Err(CallError::Busy));
    }
    let renewal = Call {
        purpose: Purpose::Renewal,
        method: "POST",
        ..Call::get("/leases", PATIENCE)
    };
    let renewed = ask(&one, &url, renewal);
    let mut silent = Vec::new();
    loop {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let first = read_head(&mut reader).unwrap();
        if first.starts_with("POST /leases ") {
            answer(&mut stream, "renewed");
            break;
        }
        silent.push(stream);
        assert!(silent.len() <= 16, "no more connections than places");
    }
    assert_eq!(renewed.recv_timeout(PATIENCE).unwrap().unwrap().body, "renewed");
    let waiting = questions[..256].iter();
    assert!(waiting.filter(|question| question.try_recv().is_ok()).count() == 0);
}
