//! Clients that copy the whole state: the stream of a snapshot, read slowly, is a data file that holds what the log
//! says of some entry that the member had applied.

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
    /// What the member had applied when it was asked.
    applied: u64,
    bytes: Vec<u8>,
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
        let applied = running.member.views.peek().applied_index;
        let asked = running.fronts[front].stream_open(at.3, Method::Snapshot, Context::default(), local);
        if asked.is_err() {
            running.owners[front].remove(&at.3);
            return;
        }
        let request = pb::SnapshotRequest::default().encode_to_vec();
        running.fronts[front].stream_message(at.3, request.into(), local);
        running.drain_front(front);
        self.copiers[copier].copying = Some(Copying {
            at,
            applied,
            bytes: Vec::new(),
        });
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
        let poll = running.fronts[front].stream_poll(token, 32 << 10, local);
        running.drain_front(front);
        for frame in &poll.frames {
            let message: Vec<u8> = frame.parts.iter().flat_map(|part| part.iter().copied()).collect();
            if let Ok(piece) = pb::SnapshotResponse::decode(message.as_slice()) {
                copying.bytes.extend_from_slice(&piece.blob);
            }
        }
        if let Some(end) = poll.end {
            running.owners[front].remove(&token);
            let applied = copying.applied;
            let bytes = std::mem::take(&mut copying.bytes);
            self.copiers[copier].copying = None;
            if end.is_ok() {
                self.trace.count("snapshots copied by clients");
                if let Err(what) = self.judge_copy(place, applied, bytes) {
                    return self.wrong(format!("m{place}: a snapshot for a client: {what}"));
                }
            }
        }
        self.settle(place);
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

fn write(disk: &Arc<dyn Disk>, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let file = disk.open(path, Open::CreateNew)?;
    file.write_at(bytes, 0)?;
    file.sync_all()
}
