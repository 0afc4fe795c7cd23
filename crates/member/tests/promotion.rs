//! When a leader makes a learner a voter: a leader alone, and a learner of which only the answers exist.
#![allow(clippy::unwrap_used)]

mod driver;

use std::path::PathBuf;
use std::time::Duration;

use api::error::{self, Status};
use api::etcdserverpb::{InternalRaftRequest, PutRequest};
use api::raftpb::{ConfChange, ConfChangeType};
use bytes::Bytes;
use disk::mem::MemDisk;
use driver::Driver;
use member::frontend::AskDecide;
use member::{Config, ToDecide};
use raft::{Message, MessageKind};
use state::{ChangeContext, Member};

const LEARNER: u64 = 0x77;

type Answer = Option<Result<Bytes, Status>>;

struct Leader {
    driver: Driver,
}

impl Leader {
    /// A leader with a learner, and a log of `entries`.
    fn start(entries: u64) -> Leader {
        let config = Config {
            data_dir: PathBuf::from("/data"),
            ..Config::default()
        };
        let mut driver = Driver::open(&MemDisk::new().shared(), &config, 1).unwrap();
        assert!(driver.until_ready());
        let mut leader = Leader { driver };
        let added = leader.change(ConfChangeType::ConfChangeAddLearnerNode, false);
        assert!(leader.answer(added).unwrap().is_ok());
        while leader.last_index() < entries {
            let put = InternalRaftRequest {
                put: Some(PutRequest {
                    key: "k".into(),
                    ..PutRequest::default()
                }),
                ..InternalRaftRequest::default()
            };
            leader.driver.call(put).unwrap().unwrap();
        }
        assert_eq!(leader.last_index(), entries);
        leader
    }

    /// It is alone with its vote: all that it has is committed, and applied.
    fn last_index(&self) -> u64 {
        self.driver.member.shared.applied()
    }

    /// Asks for a change, and says its id.
    fn change(&mut self, kind: ConfChangeType, is_promote: bool) -> u64 {
        let id = self.driver.next_id();
        let context = ChangeContext {
            member: Member {
                id: LEARNER,
                peer_urls: vec!["http://10.0.0.9:2380".into()],
                is_learner: !is_promote,
                name: String::new(),
                client_urls: Vec::new(),
            },
            is_promote,
        };
        let change = ConfChange {
            id: Some(id),
            r#type: Some(kind as i32),
            node_id: Some(LEARNER),
            context: Some(context.to_json().into()),
        };
        let ask = match is_promote {
            true => AskDecide::Promote {
                id,
                change,
                refusal: None,
            },
            false => AskDecide::ProposeConfChange { id, change },
        };
        let queues = &self.driver.queues;
        member::Router::to_decide(queues, ToDecide::Ask(vec![ask]));
        self.driver.settle();
        id
    }

    fn promote(&mut self) -> u64 {
        self.change(ConfChangeType::ConfChangeAddNode, true)
    }

    /// The learner says that it has the log up to here.
    fn learner_has(&mut self, index: u64) {
        let shared = &self.driver.member.shared;
        let kind = MessageKind::AppendResponse;
        let mut message = Message::new(kind, shared.member_id, LEARNER, shared.pulse.term());
        message.index = index;
        let message = ToDecide::Peer(Box::new(message));
        member::Router::to_decide(&self.driver.queues, message);
        self.driver.settle();
    }

    fn answer(&self, id: u64) -> Answer {
        self.driver.answers.get(&id).cloned()
    }
}

const NOT_READY: Answer = Some(Err(error::LEARNER_NOT_READY));

#[test]
fn a_learner_that_is_about_to_catch_up_is_waited_for() {
    let mut leader = Leader::start(20);
    leader.learner_has(10);
    let promoted = leader.promote();
    assert_eq!(leader.answer(promoted), None);
    leader.learner_has(17);
    assert_eq!(leader.answer(promoted), None, "85 of 100");
    leader.learner_has(18);
    assert!(leader.answer(promoted).expect("90 of 100").is_ok());
}

#[test]
fn a_learner_that_does_not_catch_up_is_waited_for_half_a_second() {
    let mut leader = Leader::start(20);
    leader.learner_has(10);
    let promoted = leader.promote();
    leader.driver.advance(Duration::from_millis(400));
    assert_eq!(leader.answer(promoted), None);
    leader.driver.advance(Duration::from_millis(200));
    assert_eq!(leader.answer(promoted), NOT_READY);
    // And once it has, it needs no patience.
    leader.learner_has(20);
    let promoted = leader.promote();
    assert!(leader.answer(promoted).unwrap().is_ok());
}

#[test]
fn a_learner_far_behind_is_refused_at_once() {
    let mut leader = Leader::start(20);
    let promoted = leader.promote();
    assert_eq!(leader.answer(promoted), NOT_READY, "nobody has heard of it");
    let mut leader = Leader::start(100);
    leader.learner_has(35);
    let promoted = leader.promote();
    assert_eq!(leader.answer(promoted), NOT_READY, "65 entries are missing");
    leader.learner_has(36);
    let promoted = leader.promote();
    assert_eq!(leader.answer(promoted), None, "64 are not many");
}
