//! A machine on a disk in memory, fed with entries one by one.

#![allow(dead_code)]

use std::path::Path;
use std::sync::Arc;

use api::etcdserverpb::InternalRaftRequest;
use api::raftpb;
use api::version::Line;
use bytes::Bytes;
use prost::Message;
use state::{Applied, Committed, EntryKind, Error, Machine, Options, Quota};

/// The ids of a default single member: what a real one has whose answers are in the golden files.
pub const MEMBER: u64 = 0x8e9e_05c5_2164_694d;
pub const CLUSTER: u64 = 0xcdf8_1819_4e3a_8c32;
/// The term in which a fresh single member applies its clients' requests.
pub const TERM: u64 = 2;

pub struct Rig {
    pub machine: Machine,
    pub index: u64,
    db: bbolt::Db,
}

pub fn options(line: Line) -> Options {
    Options {
        line,
        cluster_id: CLUSTER,
        member_id: MEMBER,
        quota: Quota::from_config(0),
        min_ttl: 2,
        checkpoint_persist: false,
        learners_max: 1,
        seed: None,
    }
}

fn new_db() -> bbolt::Db {
    let disk = disk::mem::MemDisk::new().shared();
    bbolt::Db::open(&disk, Path::new("/db"), bbolt::Options::default()).unwrap()
}

pub fn restore(db: &bbolt::Db, options: Options) -> Result<Machine, Error> {
    let (store, _) = mvcc::Store::open(db.clone(), mvcc::StoreOptions::default()).unwrap();
    let mut machine = Machine::restore(store, options)?;
    machine.publish();
    Ok(machine)
}

impl Rig {
    pub fn new(line: Line) -> Rig {
        Rig::with(options(line))
    }

    pub fn with(options: Options) -> Rig {
        let db = new_db();
        let machine = restore(&db, options).unwrap();
        Rig {
            machine,
            index: 0,
            db,
        }
    }

    /// The machine as it is after a restart: all that was applied is committed first.
    pub fn restart(mut self, options: Options) -> Result<Rig, Error> {
        self.commit();
        let Rig { machine, index, db } = self;
        drop(machine);
        Ok(Rig {
            machine: restore(&db, options)?,
            index,
            db,
        })
    }

    pub fn commit(&mut self) {
        while let Some(job) = self.machine.store().take_commit(true) {
            let done = job.run();
            assert!(done.is_ok());
            self.machine.store().committed(done).unwrap();
            if self.machine.store().pending().ops == 0 {
                break;
            }
        }
        self.machine.publish();
    }

    pub fn view(&mut self) -> Arc<mvcc::View> {
        self.machine.publish().view
    }

    pub fn entry(&mut self, kind: EntryKind, data: Bytes) -> Committed {
        self.index += 1;
        Committed {
            index: self.index,
            term: TERM,
            kind,
            data,
        }
    }

    /// Encodes a request as a member proposes it; its id is the index that it will have.
    pub fn encode(&self, mut request: InternalRaftRequest) -> Bytes {
        let id = self.index + 1;
        request.header.get_or_insert_default().id = id;
        request.encode_to_vec().into()
    }

    pub fn apply(&mut self, request: InternalRaftRequest, waits: bool) -> Result<Applied, Error> {
        let data = self.encode(request);
        let entry = self.entry(EntryKind::Normal, data);
        self.machine.apply(&entry, |id| {
            assert_eq!(id, entry.index);
            waits
        })
    }

    pub fn apply_conf_change(&mut self, change: raftpb::ConfChange, waits: bool) -> Result<Applied, Error> {
        let entry = self.entry(EntryKind::ConfChange, change.encode_to_vec().into());
        self.machine.apply(&entry, |_| waits)
    }

    /// The rows of a bucket, the not yet committed ones too.
    pub fn rows(&mut self, bucket: &'static str) -> Vec<(Bytes, Bytes)> {
        self.machine.store().backend().scan(bucket).unwrap()
    }
}
