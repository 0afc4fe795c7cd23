//! Questions of this member to others, URL by URL until one gives an answer that can be used.
//!
//! etcd: server/etcdserver/v3_server.go, LeaseRenew; corrupt.go, getPeerHashKVs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use api::url::Url;
use member::{HashAnswer, PeerAnswer, PeerQuestion, Router, ToApply};
use transport::{Answer, Call, Purpose};

use super::words;
use crate::driver::Driver;

type Useful<T> = Arc<dyn Fn(&Answer) -> Option<T> + Send + Sync>;

/// What is done with the end of a question.
type Then<T> = Box<dyn FnOnce(Option<T>) + Send>;

/// Asks the leader on behalf of a client of this member.
pub fn ask_leader(driver: &Arc<Driver>, leader: u64, id: u64, question: PeerQuestion, patience: Duration) {
    let purpose = match question {
        PeerQuestion::Renew { .. } => Purpose::Renewal,
        PeerQuestion::TimeToLive { .. } | PeerQuestion::Promote { .. } => Purpose::Question,
    };
    let call = Call {
        purpose,
        method: "POST",
        path: words::path_of(question),
        headers: vec![("content-type".to_owned(), "application/protobuf".to_owned())],
        body: words::body_of(question),
        patience,
    };
    let useful = move |answer: &Answer| {
        let answer = words::answer_of(question, answer);
        (answer != PeerAnswer::Silent).then_some(answer)
    };
    let asker = driver.clone();
    let then = move |answer: Option<PeerAnswer>| {
        let answer = answer.unwrap_or(PeerAnswer::Silent);
        asker.to_apply(ToApply::PeerAnswered { id, answer });
        asker.settle();
    };
    ask_each(
        driver,
        urls_of(driver, leader),
        call,
        Arc::new(useful),
        Box::new(then),
    );
}

/// Asks a member for the hash of its store.
pub fn ask_hash(driver: &Arc<Driver>, cluster_id: u64, from: u64, revision: i64, patience: Duration) {
    let call = words::hash_call(cluster_id, revision, patience);
    let asker = driver.clone();
    let then = move |hash| {
        asker.to_apply(ToApply::PeerHash(HashAnswer { from, revision, hash }));
        asker.settle();
    };
    ask_each(
        driver,
        urls_of(driver, from),
        call,
        Arc::new(words::read_hash),
        Box::new(then),
    );
}

fn urls_of(driver: &Driver, id: u64) -> VecDeque<Url> {
    driver
        .transport()
        .map(|transport| transport.urls_of(id))
        .unwrap_or_default()
        .into()
}

fn ask_each<T: Send + 'static>(
    driver: &Arc<Driver>,
    mut urls: VecDeque<Url>,
    call: Call,
    useful: Useful<T>,
    then: Then<T>,
) {
    let (Some(url), Some(transport)) = (urls.pop_front(), driver.transport()) else {
        return then(None);
    };
    let next = driver.clone();
    transport.call(url, call.clone(), move |answer| {
        match answer.ok().and_then(|answer| useful(&answer)) {
            Some(found) => then(Some(found)),
            None => ask_each(&next, urls, call, useful, then),
        }
    });
}
