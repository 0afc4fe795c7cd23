//! What goes between members. Plain data; the transport decides how it travels, and is trusted with
//! nothing: whatever arrives is looked at here and in `raft` before it counts.

use std::path::PathBuf;
use std::sync::Arc;

use disk::Disk;
use mvcc::schema;
use wal::snapfile;

use api::error::Status;

use crate::error::Error;
use crate::frontend::LeaseInfo;
use crate::message::ToApply;
use crate::router::Router;
use crate::shared::Member;

/// What the transport takes. It may drop messages, but must then say so:
/// [`crate::ToDecide::Unreachable`], and for a snapshot [`crate::ToDecide::SnapshotSent`], always.
pub enum ToPeer {
    /// To the member that it names.
    Message(Box<raft::Message>),
    /// A state that is too new for the receiver's log.
    Snapshot(Box<Parcel>),
    /// A question to the leader, for a client of this member. [`crate::ToApply::PeerAnswered`] answers
    /// it, always.
    Ask {
        /// The leader.
        to: u64,
        /// Echoed in the answer.
        id: u64,
        /// What it is.
        question: PeerQuestion,
    },
    /// A question to a member: the hash of its store up to a revision. [`crate::ToApply::PeerHash`]
    /// answers it, always.
    AskHash {
        /// The member.
        to: u64,
        /// The revision.
        revision: i64,
    },
}

/// What only the leader knows or may do, and does not go through the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerQuestion {
    /// To give a lease its time again.
    Renew {
        /// The lease.
        lease: i64,
    },
    /// How long a lease lives.
    TimeToLive {
        /// The lease.
        lease: i64,
        /// Whether its keys are wanted.
        keys: bool,
    },
    /// To make a learner a voter.
    Promote {
        /// The learner.
        member: u64,
    },
}

/// The answer to a [`PeerQuestion`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerAnswer {
    /// A lease has this many seconds again.
    Renewed(i64),
    /// A lease.
    Lease(LeaseInfo),
    /// There is no such lease.
    NoLease,
    /// The learner is a voter; the members.
    Promoted(Vec<Member>),
    /// The leader refuses, and would again.
    Refused(Status),
    /// Nothing that can be used came back: it may be asked again.
    Silent,
}

/// A snapshot message and the data file that goes with it.
pub struct Parcel {
    /// The message; its snapshot's data is the v2 store as JSON, as in a `.snap` file.
    pub message: raft::Message,
    /// The data file as of the message's index: [`bbolt::Snapshot::stream`] gives its bytes.
    pub db: bbolt::Snapshot,
}

/// Sends a message of raft on. The core knows no state of the store: a snapshot gets its content from
/// Apply.
pub(crate) fn send(message: raft::Message, router: &dyn Router) {
    match message.kind {
        raft::MessageKind::Snapshot => router.to_apply(ToApply::SendSnapshot(Box::new(message))),
        _ => router.to_peer(ToPeer::Message(Box::new(message))),
    }
}

/// Takes a data file that came from another member: `received` is on the disk as a whole, synced.
/// After it [`crate::ToDecide::Peer`] may be given the message that came with it.
///
/// # Errors
/// If the file is not the state that the message names. It is removed then: the sender begins anew.
pub fn accept_snapshot(
    disk: &Arc<dyn Disk>,
    received: &std::path::Path,
    message: &raft::Message,
    config: &crate::Config,
) -> Result<PathBuf, Error> {
    let index = message.snapshot.as_ref().map_or(0, |snapshot| snapshot.index);
    let result = look_at(disk, received, index).and_then(|()| {
        let path = snapfile::db_path(&config.snap_dir(), index);
        // The same state came before and may be on its way into place already: under its name nothing
        // may be exchanged then (etcd: snap/db.go, SaveDBFrom).
        if disk
            .metadata(&path)
            .map_err(|error| Error::io(&path, error))?
            .is_some()
        {
            drop(disk.remove_file(received));
            return Ok(path);
        }
        let names = disk
            .open_dir(&disk::parent(&path))
            .map_err(|error| Error::io(&path, error))?;
        disk.rename(received, &path)
            .map_err(|error| Error::io(&path, error))?;
        if let Err(error) = names.sync() {
            // A name of which nobody knows whether it stays must not be found by the next attempt.
            drop(disk.remove_file(&path));
            return Err(Error::io(&path, error));
        }
        Ok(path)
    });
    if result.is_err() {
        // What cannot be removed now goes at the next start.
        drop(disk.remove_file(received));
    }
    result
}

fn look_at(disk: &Arc<dyn Disk>, received: &std::path::Path, index: u64) -> Result<(), Error> {
    let options = bbolt::Options {
        read_only: true,
        ..bbolt::Options::default()
    };
    let db = bbolt::Db::open(disk, received, options).map_err(|error| Error::damaged(received, error))?;
    // Damage that the sender has not met yet must not spread.
    if let Some(violation) = db.check().first() {
        return Err(Error::damaged(
            received,
            format!("the snapshot that was received is damaged: {violation}"),
        ));
    }
    let (has, _) =
        schema::consistent_index(&db.snapshot()).map_err(|error| Error::damaged(received, error))?;
    match has == index && index > 0 {
        true => Ok(()),
        false => Err(Error::Damaged {
            path: received.to_path_buf(),
            reason: format!("the snapshot of index {index} that was received holds the state of index {has}"),
        }),
    }
}
