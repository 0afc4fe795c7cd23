//! Joining by a service that is played: what it holds, when it fails, and what it is asked.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;

const OWN: u64 = 0xa;
const OWN_URLS: &str = "a=http://a:1";

/// A service whose answers are all there at once.
#[derive(Default)]
struct Played {
    size: Option<&'static str>,
    entries: Vec<Entry>,
    /// What each wait for changes brings; afterwards the test has waited too often.
    changes: VecDeque<Result<Vec<Entry>, String>>,
    /// How many of the next requests fail.
    failures: u32,
    pauses: Vec<u64>,
}

impl Played {
    fn fails(&mut self) -> Result<(), String> {
        match self.failures {
            0 => Ok(()),
            _ => {
                self.failures -= 1;
                Err("context deadline exceeded".to_owned())
            }
        }
    }
}

impl Service for &RefCell<Played> {
    async fn get(&mut self, key: &str) -> Result<Option<Vec<u8>>, String> {
        assert_eq!(key, "/_etcd/registry/t/_config/size");
        let mut played = self.borrow_mut();
        played.fails()?;
        Ok(played.size.map(|size| size.as_bytes().to_vec()))
    }

    async fn list(&mut self, prefix: &str) -> Result<(Vec<Entry>, i64), String> {
        assert_eq!(prefix, "/_etcd/registry/t/members");
        let mut played = self.borrow_mut();
        played.fails()?;
        Ok((played.entries.clone(), 100))
    }

    async fn put(&mut self, key: &str, value: &str) -> Result<(), String> {
        let mut played = self.borrow_mut();
        played.fails()?;
        let created = i64::try_from(played.entries.len()).unwrap() + 50;
        let entry = Entry::new(key.as_bytes(), value.as_bytes(), created);
        played.entries.push(entry);
        Ok(())
    }

    async fn changes(&mut self, _: &str, from: i64) -> Result<Vec<Entry>, String> {
        assert_eq!(from, 101);
        self.borrow_mut().changes.pop_front().expect("a wait too many")
    }

    async fn pause(&mut self, span: Duration) {
        self.borrow_mut().pauses.push(span.as_secs());
    }
}

#[derive(Default)]
struct Lines(RefCell<Vec<LogLine>>);

impl Log for Lines {
    fn log(&self, line: LogLine) {
        self.0.borrow_mut().push(line);
    }
}

fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a played service never waits"),
    }
}

fn entry(id: u64, value: &str, created: i64) -> Entry {
    Entry::new(
        registry::member_key("t", id).as_bytes(),
        value.as_bytes(),
        created,
    )
}

/// Joins, and returns the names in the cluster, and the texts of the log.
fn join(played: &RefCell<Played>) -> (Result<Vec<String>, String>, Vec<String>) {
    let discovery = Discovery {
        token: "t".to_owned(),
        endpoints: vec!["x:1".to_owned(), "y:1".to_owned()],
        ..Discovery::default()
    };
    let lines = Lines::default();
    let joining = Joining::new(&discovery, OWN, played, &lines);
    let joined = at_once(joining.join(OWN_URLS));
    let joined = joined.map(|members| members.into_iter().map(|member| member.name).collect());
    let texts = lines.0.into_inner().into_iter().map(|line| line.msg.into_owned());
    (joined, texts.collect())
}

fn names(list: &[&str]) -> Result<Vec<String>, String> {
    Ok(list.iter().map(|name| (*name).to_owned()).collect())
}

#[test]
fn a_member_waits_for_the_others() {
    let played = RefCell::new(Played {
        size: Some("3"),
        entries: vec![entry(1, "b=http://b:1", 10)],
        changes: [
            Ok(vec![entry(OWN, "", 60)]),
            Ok(vec![entry(2, "c=http://c:1", 70)]),
        ]
        .into(),
        ..Played::default()
    });
    let (joined, lines) = join(&played);
    assert_eq!(joined, names(&["b", "a", "c"]));
    assert_eq!(
        lines,
        [
            "found peer from discovery service",
            "register member itself successfully",
            "found peer from discovery service",
            "found peer from discovery service",
            "waiting for peers from discovery service",
            "invalid peer info returned from discovery service",
            "found peer from discovery service",
            "found all needed peers from discovery service",
            "discovery joined cluster successfully",
        ]
    );
}

#[test]
fn who_comes_late_or_without_a_size_is_refused() {
    for (size, error) in [
        (None, "discovery: size key not found"),
        (Some("0"), "discovery: size key is bad"),
        (Some("1"), "discovery: cluster is full"),
    ] {
        let played = RefCell::new(Played {
            size,
            entries: vec![entry(1, "b=http://b:1", 10)],
            ..Played::default()
        });
        let (joined, lines) = join(&played);
        assert_eq!(joined, Err(error.to_owned()));
        assert_eq!(lines.last().unwrap(), "discovery failed to join cluster");
        assert_eq!(played.borrow().entries.len(), 1, "nothing was written");
    }
}

#[test]
fn who_has_registered_before_joins_again() {
    let played = RefCell::new(Played {
        size: Some("2"),
        entries: vec![entry(OWN, OWN_URLS, 5), entry(1, "b=http://b:1", 10)],
        ..Played::default()
    });
    assert_eq!(join(&played).0, names(&["a", "b"]));
}

#[test]
fn a_service_that_does_not_answer_is_asked_less_and_less_often() {
    let played = RefCell::new(Played {
        size: Some("1"),
        failures: 10,
        ..Played::default()
    });
    let (joined, lines) = join(&played);
    assert_eq!(joined, names(&["a"]));
    assert_eq!(played.borrow().pauses, [2, 4, 8, 16, 32, 64, 128, 256, 256, 256]);
    assert_eq!(lines[0], "failed to get cluster size from discovery service");
    assert_eq!(lines[1], "retry connecting to discovery service");
}

#[test]
fn what_happens_while_a_watch_is_broken_is_not_missed() {
    let played = RefCell::new(Played {
        size: Some("2"),
        changes: [
            Err("compacted".to_owned()),
            Ok(vec![entry(1, "b=http://b:1", 70)]),
        ]
        .into(),
        ..Played::default()
    });
    assert_eq!(join(&played).0, names(&["a", "b"]));
    // Two before it registered and after, one when the watch broke.
    assert!(played.borrow().changes.is_empty());
}
