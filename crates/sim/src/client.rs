//! Clients: what they ask, and whether what they are told can be true.

use std::time::Duration;

use api::clock::Instant;
use api::etcdserverpb as pb;
use api::etcdserverpb::alarm_request::AlarmAction;
use api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use api::etcdserverpb::request_op::Request;
use bytes::Bytes;
use member::frontend::{Method, Token};
use prost::Message;

use crate::linear::{Call, Open};
use crate::plan::Plan;
use crate::reading;
use crate::truth::{Truth, text};

/// Keys that clients use.
const KEYS: u8 = 12;

/// How keys begin whose histories are searched.
const REGISTER: &str = "r";

/// A client with one request at a time.
pub struct Client {
    /// The place and front that it is connected to.
    pub at: (usize, usize),
    /// What it waits for.
    pub waiting: Option<Waiting>,
    name: usize,
    values: u64,
    leases: Vec<i64>,
    rng: fastrand::Rng,
}

/// A request on its way.
#[derive(Clone)]
pub struct Waiting {
    /// How long the client waits, whatever the server does.
    pub patience: Duration,
    /// The front's name for it.
    pub token: Token,
    /// The process that was asked.
    pub life: u64,
    /// What was asked.
    pub op: Op,
    /// When.
    pub since: Instant,
    /// What the answer has to be as new as.
    pub floor: i64,
    /// For the search of an order, if it is for a key whose history is searched.
    pub open: Option<Open>,
}

/// What a client asks.
#[derive(Clone, Debug)]
pub enum Op {
    /// Write a key.
    Put(pb::PutRequest),
    /// Delete keys.
    Delete(pb::DeleteRangeRequest),
    /// Write a key if it is as old as thought, otherwise read it.
    Swap(pb::TxnRequest),
    /// Read keys.
    Read(pb::RangeRequest),
    /// Forget the past.
    Compact(pb::CompactionRequest),
    /// A new lease.
    Grant(pb::LeaseGrantRequest),
    /// End a lease.
    Revoke(pb::LeaseRevokeRequest),
    /// Rewrite the data file.
    Defragment,
    /// Change the members.
    Members(Method, Bytes),
    /// Raise an alarm, or end it.
    Alarm(pb::AlarmRequest),
    /// The hash of all revisions up to one.
    Hash(pb::HashKvRequest),
}

impl Op {
    /// The call.
    pub fn call(&self) -> (Method, Bytes) {
        match self {
            Op::Put(request) => (Method::Put, request.encode_to_vec().into()),
            Op::Delete(request) => (Method::DeleteRange, request.encode_to_vec().into()),
            Op::Swap(request) => (Method::Txn, request.encode_to_vec().into()),
            Op::Read(request) => (Method::Range, request.encode_to_vec().into()),
            Op::Compact(request) => (Method::Compact, request.encode_to_vec().into()),
            Op::Grant(request) => (Method::LeaseGrant, request.encode_to_vec().into()),
            Op::Revoke(request) => (Method::LeaseRevoke, request.encode_to_vec().into()),
            Op::Defragment => (Method::Defragment, Bytes::new()),
            Op::Members(method, request) => (*method, request.clone()),
            Op::Alarm(request) => (Method::Alarm, request.encode_to_vec().into()),
            Op::Hash(request) => (Method::HashKv, request.encode_to_vec().into()),
        }
    }

    /// The key, if its history is searched.
    pub fn register(&self) -> Option<&Bytes> {
        let key = match self {
            Op::Put(put) => &put.key,
            Op::Delete(delete) => &delete.key,
            Op::Read(read) if !read.serializable => &read.key,
            _ => return None,
        };
        key.starts_with(REGISTER.as_bytes()).then_some(key)
    }

    /// What was done to that key; `answer` is there if it was answered.
    pub fn register_call(&self, answer: Option<&Bytes>) -> Option<Call> {
        match (self, answer) {
            (Op::Put(put), _) => Some(Call::Write(Some(put.value.clone()))),
            (Op::Delete(_), _) => Some(Call::Write(None)),
            (Op::Read(_), Some(answer)) => {
                let response = pb::RangeResponse::decode(answer.clone()).ok()?;
                Some(Call::Read(response.kvs.into_iter().next().map(|kv| kv.value)))
            }
            _ => None,
        }
    }

    /// For the timeline.
    pub fn tell(&self) -> String {
        match self {
            Op::Put(put) => format!("put {}={} lease {}", text(&put.key), text(&put.value), put.lease),
            Op::Delete(delete) => format!("delete {} to {}", text(&delete.key), text(&delete.range_end)),
            Op::Swap(_) => "swap".to_owned(),
            Op::Read(read) => format!(
                "{} read {} to {}",
                if read.serializable {
                    "serializable"
                } else {
                    "linearizable"
                },
                text(&read.key),
                text(&read.range_end)
            ),
            Op::Compact(compact) => format!("compact {}", compact.revision),
            Op::Grant(grant) => format!("grant a lease of {} s", grant.ttl),
            Op::Revoke(revoke) => format!("revoke lease {}", revoke.id),
            Op::Defragment => "defragment".to_owned(),
            Op::Members(method, _) => format!("{method:?}"),
            Op::Alarm(alarm) => format!("{:?} an alarm", alarm.action()),
            Op::Hash(hash) => format!("hash up to {}", hash.revision),
        }
    }
}

fn key(rng: &mut fastrand::Rng) -> Bytes {
    format!("k{:02}", rng.u8(0..KEYS)).into_bytes().into()
}

/// What an operator does now and then: an alarm, or the URLs of a member once more, which is a change of the members
/// to the log.
fn operator(truth: &Truth, rng: &mut fastrand::Rng) -> Op {
    let seats = &truth.model.aside.roster.seats;
    let Some((id, seat)) = rng.choice(seats.iter()) else {
        return Op::Defragment;
    };
    if rng.u8(0..4) > 0 {
        let request = pb::MemberUpdateRequest {
            id: *id,
            peer_ur_ls: seat.peer_urls.clone(),
        };
        return Op::Members(Method::MemberUpdate, request.encode_to_vec().into());
    }
    Op::Alarm(pb::AlarmRequest {
        action: AlarmAction::Activate as i32,
        member_id: *id,
        alarm: pb::AlarmType::Nospace as i32,
    })
}

/// Ends one of the alarms that are on.
pub fn disarm(truth: &Truth, rng: &mut fastrand::Rng) -> Op {
    let alarm = rng.choice(truth.model.aside.alarms.iter().copied());
    let (alarm, member_id) = alarm.unwrap_or_default();
    Op::Alarm(pb::AlarmRequest {
        action: AlarmAction::Deactivate as i32,
        member_id,
        alarm,
    })
}

impl Client {
    /// The client of a number.
    pub fn new(name: usize, at: (usize, usize), plan: &Plan) -> Client {
        Client {
            at,
            waiting: None,
            name,
            values: 0,
            leases: Vec::new(),
            rng: plan.chance(&format!("client {name}")),
        }
    }

    /// How long it waits until it looks again.
    pub fn pause(&mut self) -> Duration {
        Duration::from_millis(self.rng.u64(1..80))
    }

    fn value(&mut self, rng: &mut fastrand::Rng) -> Bytes {
        self.values += 1;
        let mut value = format!("c{}-{}", self.name, self.values);
        if rng.u8(0..5) == 0 {
            value.push_str(&"x".repeat(rng.usize(0..6000)));
        }
        value.into_bytes().into()
    }

    fn span(rng: &mut fastrand::Rng) -> (Bytes, Bytes) {
        match rng.u8(0..4) {
            0 => (Bytes::from_static(b"k"), Bytes::from_static(b"l")),
            1 => (key(rng), Bytes::from_static(b"l")),
            _ => (key(rng), Bytes::new()),
        }
    }

    /// What it asks next.
    pub fn choose(&mut self, truth: &Truth, now: Instant) -> Op {
        let mut rng = self.rng.clone();
        let op = match rng.u8(0..10) {
            0 => self.draw_register(now, &mut rng),
            _ => self.draw(truth, &mut rng),
        };
        self.rng = rng;
        op
    }

    /// A call to a key that has a short life, so that its history can be searched.
    fn draw_register(&mut self, now: Instant, rng: &mut fastrand::Rng) -> Op {
        let life = now.since_start().as_secs() / 2;
        let key = Bytes::from(format!("{REGISTER}{life:04}-{}", rng.u8(0..2)));
        match rng.u8(0..8) {
            0..3 => Op::Put(pb::PutRequest {
                key,
                value: self.value(rng),
                ..pb::PutRequest::default()
            }),
            3 => Op::Delete(pb::DeleteRangeRequest {
                key,
                ..pb::DeleteRangeRequest::default()
            }),
            _ => Op::Read(pb::RangeRequest {
                key,
                ..pb::RangeRequest::default()
            }),
        }
    }

    fn draw(&mut self, truth: &Truth, rng: &mut fastrand::Rng) -> Op {
        let aside = &truth.model.aside;
        if !aside.alarms.is_empty() && rng.u8(0..8) == 0 {
            return disarm(truth, rng);
        }
        match rng.u8(0..104) {
            0..40 => {
                let lease = match self.leases.is_empty() || rng.u8(0..4) > 0 {
                    true => 0,
                    false => self.leases[rng.usize(0..self.leases.len())],
                };
                Op::Put(pb::PutRequest {
                    key: key(rng),
                    value: self.value(rng),
                    lease,
                    ..pb::PutRequest::default()
                })
            }
            40..46 => {
                let (key, range_end) = Client::span(rng);
                Op::Delete(pb::DeleteRangeRequest {
                    key,
                    range_end,
                    ..pb::DeleteRangeRequest::default()
                })
            }
            46..60 => self.swap(truth, rng),
            60..90 => {
                let (key, range_end) = Client::span(rng);
                let mut read = pb::RangeRequest {
                    key,
                    range_end,
                    serializable: rng.u8(0..3) == 0,
                    ..pb::RangeRequest::default()
                };
                if rng.bool() {
                    reading::embellish(&mut read, truth, rng);
                }
                Op::Read(read)
            }
            90..93 => Op::Compact(pb::CompactionRequest {
                revision: match truth.model.newest_deletion() {
                    Some(deleted) if rng.u8(0..3) == 0 => deleted,
                    _ => (truth.model.revision - rng.i64(0..60)).max(1),
                },
                physical: rng.bool(),
            }),
            93..97 => Op::Grant(pb::LeaseGrantRequest {
                ttl: rng.i64(2..20),
                id: 0,
            }),
            97..99 => match self.leases.pop() {
                Some(id) => Op::Revoke(pb::LeaseRevokeRequest { id }),
                None => self.swap(truth, rng),
            },
            99 => Op::Defragment,
            100..103 => Op::Hash(pb::HashKvRequest {
                revision: (truth.model.revision - rng.i64(0..30)).max(0),
            }),
            _ => operator(truth, rng),
        }
    }

    fn swap(&mut self, truth: &Truth, rng: &mut fastrand::Rng) -> Op {
        let key = key(rng);
        let seen = truth.model.range(&key, b"", i64::MAX);
        let revision = seen.first().map_or(0, |(_, version)| version.revision);
        let revision = if rng.u8(0..5) == 0 { revision + 1 } else { revision };
        let request = |request| pb::RequestOp {
            request: Some(request),
        };
        let second = Bytes::from(format!("t{:02}", rng.u8(0..KEYS)));
        Op::Swap(pb::TxnRequest {
            compare: vec![pb::Compare {
                result: CompareResult::Equal as i32,
                target: CompareTarget::Mod as i32,
                key: key.clone(),
                target_union: Some(TargetUnion::ModRevision(revision)),
                ..pb::Compare::default()
            }],
            success: vec![
                request(Request::RequestPut(pb::PutRequest {
                    key: key.clone(),
                    value: self.value(rng),
                    ..pb::PutRequest::default()
                })),
                request(Request::RequestPut(pb::PutRequest {
                    key: second,
                    value: self.value(rng),
                    ..pb::PutRequest::default()
                })),
            ],
            failure: vec![request(Request::RequestRange(pb::RangeRequest {
                key,
                ..pb::RangeRequest::default()
            }))],
        })
    }

    /// Takes the answer to `waiting`. `serial_floor` is what serializable reads of the member that
    /// answered had shown when this one was asked. Tells at which revision something was written.
    pub fn answered(
        &mut self,
        waiting: &Waiting,
        answer: &Bytes,
        truth: &mut Truth,
        serial_floor: &mut i64,
    ) -> Result<Option<i64>, String> {
        let mut written = None;
        let told = |what: String| format!("client {}: {}: {what}", self.name, waiting.op.tell());
        let bad = |error: prost::DecodeError| error.to_string();
        let newer = |revision: i64, changed: bool| match revision > waiting.floor
            || (!changed && revision == waiting.floor)
        {
            true => Ok(()),
            false => Err(told(format!(
                "it was answered with revision {revision}, but {} had been seen before it was asked",
                waiting.floor
            ))),
        };
        match &waiting.op {
            Op::Put(put) => {
                let response = pb::PutResponse::decode(answer.clone()).map_err(bad)?;
                let revision = revision_of(response.header);
                newer(revision, true)?;
                made(truth, put, revision).map_err(told)?;
                truth.floor = truth.floor.max(revision);
                written = Some(revision);
            }
            Op::Delete(delete) => {
                let response = pb::DeleteRangeResponse::decode(answer.clone()).map_err(bad)?;
                let revision = revision_of(response.header);
                newer(revision, response.deleted > 0)?;
                let events = match response.deleted {
                    0 => Vec::new(),
                    _ => truth
                        .model
                        .events(&delete.key, &delete.range_end, revision, revision),
                };
                let left = truth.model.range(&delete.key, &delete.range_end, revision);
                if events.len() as i64 != response.deleted || !left.is_empty() {
                    return Err(told(format!(
                        "{} deleted, the log says {}",
                        response.deleted,
                        events.len()
                    )));
                }
                truth.floor = truth.floor.max(revision);
                written = (response.deleted > 0).then_some(revision);
            }
            Op::Swap(txn) => {
                let response = pb::TxnResponse::decode(answer.clone()).map_err(bad)?;
                let revision = revision_of(response.header);
                newer(revision, response.succeeded)?;
                self.swapped(txn, &response, revision, truth).map_err(told)?;
                truth.floor = truth.floor.max(revision);
                written = response.succeeded.then_some(revision);
            }
            Op::Read(read) => {
                let response = pb::RangeResponse::decode(answer.clone()).map_err(bad)?;
                let revision = revision_of(response.header);
                if read.serializable {
                    if revision < *serial_floor {
                        return Err(told(format!(
                            "revision {revision} after {serial_floor} on the same member"
                        )));
                    }
                    *serial_floor = revision;
                } else {
                    newer(revision, false)?;
                    truth.floor = truth.floor.max(revision);
                }
                reading::judge(truth, read, &response, revision).map_err(told)?;
            }
            Op::Grant(_) => {
                let response = pb::LeaseGrantResponse::decode(answer.clone()).map_err(bad)?;
                self.leases.push(response.id);
                if self.leases.len() > 4 {
                    self.leases.remove(0);
                }
            }
            Op::Hash(hash) => {
                let response = pb::HashKvResponse::decode(answer.clone()).map_err(bad)?;
                truth.hashed(hash.revision, &response).map_err(told)?;
            }
            Op::Compact(_) | Op::Revoke(_) | Op::Defragment | Op::Members(..) | Op::Alarm(_) => {}
        }
        Ok(written)
    }

    fn swapped(
        &self,
        txn: &pb::TxnRequest,
        response: &pb::TxnResponse,
        revision: i64,
        truth: &Truth,
    ) -> Result<(), String> {
        let compare = &txn.compare[0];
        let Some(TargetUnion::ModRevision(wanted)) = compare.target_union else {
            return Ok(());
        };
        if response.succeeded {
            for op in &txn.success {
                if let Some(Request::RequestPut(put)) = &op.request {
                    made(truth, put, revision)?;
                }
            }
            let before = truth.model.before(&compare.key, revision);
            let was = before.map_or(0, |version| version.revision);
            return match was == wanted {
                true => Ok(()),
                false => Err(format!("it succeeded for mod revision {wanted}, which was {was}")),
            };
        }
        let found = truth.model.range(&compare.key, b"", revision);
        let is = found.first().map_or(0, |(_, version)| version.revision);
        if is == wanted {
            return Err(format!("it failed although the mod revision was {wanted}"));
        }
        let Some(pb::ResponseOp {
            response: Some(pb::response_op::Response::ResponseRange(range)),
        }) = response.responses.first()
        else {
            return Err("it failed without the range".to_owned());
        };
        truth.same_keys(&range.kvs, &compare.key, b"", revision)
    }
}

fn revision_of(header: Option<pb::ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

/// Whether a put was made at a revision.
fn made(truth: &Truth, put: &pb::PutRequest, revision: i64) -> Result<(), String> {
    let found = truth.model.made_at(&put.key, revision);
    match found.and_then(|version| version.value.as_deref()) == Some(put.value.as_ref()) {
        true => Ok(()),
        false => Err(format!(
            "it was acknowledged with revision {revision}, at which the log has {found:?}"
        )),
    }
}
