//! Clients that read streams slowly. That of a snapshot is a data file that holds what the log says of some entry that
//! the member had applied; that of a range is the answer at one revision, however many were made meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use disk::mem::MemDisk;
use disk::{Disk, Open};
use member::frontend::{Context, Method, Token};
use prost::Message;
use sha2::{Digest, Sha256};

use api::etcdserverpb as pb;

use crate::node::FRONTS;
use crate::plan::Plan;
use crate::reading;
use crate::truth::Truth;
use crate::world::{COPIERS, Event, World};

/// Bytes of the checksum at the end of a copy.
const SUM_BYTES: usize = 32;

/// See the module.
pub struct Copier {
    rng: fastrand::Rng,
    copying: Option<Copying>,
}

/// A copy that is being made.
struct Copying {
    at: (usize, usize, u64, Token),
    what: What,
}

/// What is read.
enum What {
    /// A snapshot: what the member had applied when it was asked, and what has come.
    Snapshot(u64, Vec<u8>),
    /// A range: what was asked, the newest revision that anybody had seen then, and what has come.
    Range(Box<pb::RangeRequest>, i64, pb::RangeResponse),
}

impl What {
    /// The call, and what it is asked.
    fn call(&self) -> (Method, Vec<u8>) {
        match self {
            What::Snapshot(..) => (Method::Snapshot, pb::SnapshotRequest::default().encode_to_vec()),
            What::Range(request, ..) => (Method::RangeStream, request.encode_to_vec()),
        }
    }

    /// A message has come.
    fn take(&mut self, message: &[u8]) {
        match self {
            What::Snapshot(_, bytes) => {
                if let Ok(piece) = pb::SnapshotResponse::decode(message) {
                    bytes.extend_from_slice(&piece.blob);
                }
            }
            What::Range(_, _, whole) => {
                // Clients join the messages as protobuf does: header, count and more come with the last.
                if let Ok(pb::RangeStreamResponse {
                    range_response: Some(mut part),
                }) = pb::RangeStreamResponse::decode(message)
                {
                    whole.kvs.append(&mut part.kvs);
                    whole.header = part.header.or(whole.header.take());
                    whole.count += part.count;
                    whole.more |= part.more;
                }
            }
        }
    }
}

impl Copier {
    /// The one of a number.
    pub fn new(name: usize, plan: &Plan) -> Copier {
        Copier {
            rng: plan.chance(&format!("copier {name}")),
            copying: None,
        }
    }

    /// What it has lost with the process of a place.
    pub fn forget(&mut self, place: usize) {
        self.copying.take_if(|copying| copying.at.0 == place);
    }
}

impl World {
    pub(crate) fn copier_acts(&mut self, copier: usize) {
        let busy = self.copiers[copier].copying.is_some();
        let rng = &mut self.copiers[copier].rng;
        let again = if busy { rng.u64(2..60) } else { rng.u64(50..3000) };
        self.after(Duration::from_millis(again), Event::Copier(copier));
        if busy {
            self.copy_on(copier);
        } else if !self.calm {
            self.begin_copy(copier);
        }
    }

    fn begin_copy(&mut self, copier: usize) {
        let place = self.rng.usize(0..self.nodes.len());
        let front = self.copiers[copier].rng.usize(0..FRONTS);
        let Some((at, local)) = self.connect(place, front, COPIERS + copier) else {
            return;
        };
        let Some(running) = &mut self.nodes[place].running else {
            return;
        };
        let what = match self.copiers[copier].rng.bool() {
            true => What::Snapshot(running.member.views.peek().applied_index, Vec::new()),
            false => {
                let request = range(&self.truth, &mut self.copiers[copier].rng);
                let floor = if request.serializable { 0 } else { self.truth.floor };
                What::Range(Box::new(request), floor, pb::RangeResponse::default())
            }
        };
        let (method, request) = what.call();
        let asked = running.fronts[front].stream_open(at.3, method, Context::default(), local);
        if asked.is_err() {
            running.owners[front].remove(&at.3);
            return;
        }
        running.fronts[front].stream_message(at.3, request.into(), local);
        running.drain_front(front);
        self.copiers[copier].copying = Some(Copying { at, what });
        self.settle(place);
    }

    fn copy_on(&mut self, copier: usize) {
        let Some(copying) = &mut self.copiers[copier].copying else {
            return;
        };
        let (place, front, life, token) = copying.at;
        let node = &mut self.nodes[place];
        let local = node.local(self.now);
        let Some(running) = node.running.as_mut().filter(|_| node.life == life) else {
            return self.copiers[copier].forget(place);
        };
        let bytes_max = match copying.what {
            What::Snapshot(..) => 32 << 10,
            What::Range(..) => 1,
        };
        let poll = running.fronts[front].stream_poll(token, bytes_max, local);
        running.drain_front(front);
        for frame in &poll.frames {
            let message: Vec<u8> = frame.parts.iter().flat_map(|part| part.iter().copied()).collect();
            copying.what.take(&message);
        }
        if let Some(end) = poll.end {
            running.owners[front].remove(&token);
            let done = self.copiers[copier].copying.take();
            if let Some(done) = done.filter(|_| end.is_ok())
                && let Err(what) = self.judge_stream(place, done.what)
            {
                return self.wrong(format!("m{place}: {what}"));
            }
        }
        self.settle(place);
    }

    fn judge_stream(&mut self, place: usize, what: What) -> Result<(), String> {
        match what {
            What::Snapshot(applied, bytes) => {
                self.trace.count("snapshots copied by clients");
                let judged = self.judge_copy(place, applied, bytes);
                // The file is sent as it is; whoever restores from the copy reads all of it.
                if judged.is_err() && !self.nodes[place].health.is_sound() {
                    self.trace.count("copies of a damaged file");
                    return Ok(());
                }
                judged.map_err(|what| format!("a snapshot for a client: {what}"))
            }
            What::Range(request, floor, answer) => {
                self.trace.count("ranges streamed");
                let revision = answer.header.as_ref().map_or(0, |header| header.revision);
                let judged = match revision < floor {
                    true => Err(format!("revision {revision} where {floor} had been seen")),
                    false => reading::judge(&self.truth, &request, &answer, revision),
                };
                judged.map_err(|what| format!("a streamed range {request:?}: {what}"))
            }
        }
    }

    fn judge_copy(&self, place: usize, applied: u64, mut bytes: Vec<u8>) -> Result<(), String> {
        let Some(content) = bytes.len().checked_sub(SUM_BYTES) else {
            return Err(format!("{} bytes", bytes.len()));
        };
        let sum = bytes.split_off(content);
        if Sha256::digest(&bytes).as_slice() != sum {
            return Err("its checksum is wrong".to_owned());
        }
        let (disk, path) = (MemDisk::new().shared(), Path::new("/copy"));
        write(&disk, path, &bytes).map_err(|error| error.to_string())?;
        let options = bbolt::Options {
            cache_bytes_max: 1 << 20,
            ..bbolt::Options::default()
        };
        let db = bbolt::Db::open(&disk, path, options).map_err(|error| error.to_string())?;
        if let Some(violation) = db.check().first() {
            return Err(violation.to_string());
        }
        let (store, views) =
            mvcc::Store::open(db, mvcc::StoreOptions::default()).map_err(|error| error.to_string())?;
        drop(store);
        let view = views.load();
        let member = self.nodes[place].running.as_ref().map(|running| &running.member);
        let has = member.map_or(0, |member| member.views.peek().applied_index);
        if view.applied_index < applied || view.applied_index > has {
            return Err(format!(
                "it is of entry {}; {applied} were applied when it was asked for, {has} now",
                view.applied_index
            ));
        }
        let id = member.map_or(0, |member| member.shared.member_id);
        self.truth.check_revision(id, &view)?;
        self.truth.check_content(id, &view)
    }
}

/// What a stream can be asked for: no other order than that of the keys, no filters.
fn range(truth: &Truth, rng: &mut fastrand::Rng) -> pb::RangeRequest {
    pb::RangeRequest {
        key: "k".into(),
        range_end: if rng.bool() { "l".into() } else { "s".into() },
        limit: if rng.u8(0..3) == 0 { rng.i64(1..30) } else { 0 },
        revision: match rng.u8(0..4) {
            0 => (truth.model.revision - rng.i64(0..80)).max(1),
            _ => 0,
        },
        keys_only: rng.u8(0..4) == 0,
        count_only: rng.u8(0..8) == 0,
        serializable: rng.bool(),
        ..pb::RangeRequest::default()
    }
}

fn write(disk: &Arc<dyn Disk>, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let file = disk.open(path, Open::CreateNew)?;
    file.write_at(bytes, 0)?;
    file.sync_all()
}
