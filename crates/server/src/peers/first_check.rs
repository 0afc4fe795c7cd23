//! The comparison of a member's store with those of the others before it serves (feature gate
//! `InitialCorruptCheck`). Asks through a function, so that it can be tried without sockets.
//!
//! etcd: server/etcdserver/corrupt.go, InitialCheck.

use std::time::Duration;

use member::{Log, LogLine, Member, PeerHash};
use mvcc::KeyValueHash;
use transport::Answer;

use super::join::Ask;
use super::words;

/// What is compared.
pub struct FirstCheck<'a> {
    /// This member.
    pub own: u64,
    /// Its cluster.
    pub cluster_id: u64,
    /// The hash of its store.
    pub hash: KeyValueHash,
    /// How long a member may take to answer.
    pub patience: Duration,
    /// The log.
    pub log: &'a dyn Log,
}

impl FirstCheck<'_> {
    /// Compares with all other members that answer.
    ///
    /// # Errors
    /// In etcd's words, if one has another hash at the same compaction.
    pub fn run(&self, members: &[Member], ask: Ask<'_>) -> Result<(), String> {
        let own = format!("{:x}", self.own);
        self.log.log(
            LogLine::info("starting initial corruption check")
                .with("local-member-id", own.clone())
                .with("timeout", self.patience),
        );
        let mut mismatches = 0;
        for member in members.iter().filter(|member| member.id != self.own) {
            if let Some(peer) = self.ask(member, ask) {
                mismatches += u32::from(!self.is_same(member, peer));
            }
        }
        if mismatches > 0 {
            return Err(format!("{own} found data inconsistency with peers"));
        }
        self.log.log(
            LogLine::info("initial corruption checking passed; no corruption").with("local-member-id", own),
        );
        Ok(())
    }

    fn line(&self, text: &'static str) -> LogLine {
        LogLine::warn(text)
            .with("local-member-id", format!("{:x}", self.own))
            .with("local-member-revision", self.hash.revision)
            .with("local-member-compact-revision", self.hash.compact_revision)
            .with("local-member-hash", u64::from(self.hash.hash))
    }

    fn is_same(&self, member: &Member, peer: PeerHash) -> bool {
        if peer.hash == self.hash.hash {
            return true;
        }
        let comparable = peer.compact_revision == self.hash.compact_revision;
        let text = match comparable {
            true => "found different hash values from remote peer",
            false => "found different compact revision values from remote peer",
        };
        self.log.log(
            self.line(text)
                .with("remote-peer-id", format!("{:x}", member.id))
                .with("remote-peer-endpoints", member.peer_urls.clone())
                .with("remote-peer-revision", peer.current_revision)
                .with("remote-peer-compact-revision", peer.compact_revision)
                .with("remote-peer-hash", u64::from(peer.hash)),
        );
        !comparable
    }

    fn ask(&self, member: &Member, ask: Ask<'_>) -> Option<PeerHash> {
        let revision = self.hash.revision;
        let mut refusal = None;
        for url in &member.peer_urls {
            let error = match ask(url, words::hash_call(self.cluster_id, revision, self.patience)) {
                Ok(answer) => match words::read_hash(&answer) {
                    Some(hash) => return Some(hash),
                    None => {
                        refusal = refusal_of(&answer).or(refusal);
                        String::from_utf8_lossy(&answer.body).trim_end().to_owned()
                    }
                },
                Err(error) => error,
            };
            self.log.log(
                LogLine::warn("failed hash kv request")
                    .with("local-member-id", format!("{:x}", self.own))
                    .with("requested-revision", revision)
                    .with("remote-peer-endpoint", url.clone())
                    .with("error", error),
            );
        }
        if let Some(text) = refusal {
            self.log.log(
                self.line(text)
                    .with("remote-peer-id", format!("{:x}", member.id))
                    .with("remote-peer-endpoints", member.peer_urls.clone()),
            );
        }
        None
    }
}

/// What a refusal means for the operator.
fn refusal_of(answer: &Answer) -> Option<&'static str> {
    let text = String::from_utf8_lossy(&answer.body);
    match answer.status {
        400 if text.contains("is a future revision") => Some("cannot fetch hash from slow remote peer"),
        400 if text.contains("has been compacted") => {
            Some("cannot fetch hash from remote peer; local member is behind")
        }
        412 => Some("cluster ID mismatch"),
        _ => None,
    }
}
