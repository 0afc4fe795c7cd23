//! Calls of other members: what the leader does for their clients, and what they compare. The answers
//! are messages of the client API, whatever the transport makes of them.

use api::clock::Instant;
use api::error::{self, Status};
use api::etcdserverpb::{LeaseKeepAliveResponse, LeaseTimeToLiveResponse, ResponseHeader};
use bytes::Bytes;
use prost::Message;

use super::reads::Read;
use super::{AskApply, Asker, Context, Frontend, LeaseInfo, Outcome, Token, Wants};

/// What another member may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerCall {
    /// A lease to be given its time again: `LeaseKeepAliveResponse`.
    Renew {
        /// The lease.
        lease: i64,
    },
    /// How long a lease lives: `LeaseTimeToLiveResponse`.
    TimeToLive {
        /// The lease.
        lease: i64,
        /// Whether its keys are wanted.
        keys: bool,
    },
    /// A learner to become a voter: `MemberPromoteResponse`.
    Promote {
        /// The learner.
        member: u64,
    },
    /// The hash of the store up to a revision: `HashKVResponse`.
    HashKv {
        /// The revision, 0 for all.
        revision: i64,
    },
    /// Whether a downgrade is under way: `true` or `false`.
    DowngradeEnabled,
}

impl Frontend {
    /// A call of another member. `context` bounds it.
    pub fn peer_call(&mut self, token: Token, call: PeerCall, context: &Context, now: Instant) -> Outcome {
        self.may_catch_up = true;
        let deadline = self.consensus_deadline(context, now);
        match call {
            PeerCall::Renew { lease } => {
                let id = self.wait(token, Wants::RenewedForPeer { lease }, now, deadline);
                let of = Asker::Peer;
                self.to_apply.push(AskApply::Renew { id, lease, of });
                Outcome::Pending
            }
            PeerCall::TimeToLive { lease, keys } => {
                let id = self.wait(token, Wants::LeaseForPeer { lease }, now, deadline);
                let of = Asker::Peer;
                self.to_apply.push(AskApply::TimeToLive { id, lease, keys, of });
                Outcome::Pending
            }
            PeerCall::Promote { member } => self.promote(token, member, Asker::Peer, now, deadline),
            PeerCall::HashKv { revision } => self
                .hash_kv(token, revision, Asker::Peer, context, now)
                .unwrap_or_else(|status| Outcome::Done(Err(status))),
            PeerCall::DowngradeEnabled => self.read_linearizable(token, Read::DowngradeForPeer, context, now),
        }
    }

    pub(super) fn renewed_for_peer(&mut self, id: u64, lease: i64, result: Result<Option<i64>, Status>) {
        let result = result
            .and_then(|ttl| ttl.ok_or(error::LEASE_NOT_FOUND))
            .map(|ttl| {
                let response = LeaseKeepAliveResponse {
                    id: lease,
                    ttl,
                    ..LeaseKeepAliveResponse::default()
                };
                Bytes::from(response.encode_to_vec())
            });
        self.finish(id, result);
    }

    pub(super) fn lease_known_for_peer(
        &mut self,
        id: u64,
        lease: i64,
        result: Result<Option<LeaseInfo>, Status>,
    ) {
        let result = result
            .and_then(|info| info.ok_or(error::LEASE_NOT_FOUND))
            .map(|info| {
                let response = LeaseTimeToLiveResponse {
                    header: Some(ResponseHeader::default()),
                    id: lease,
                    ttl: info.remaining_seconds,
                    granted_ttl: info.granted_seconds,
                    keys: info.keys,
                };
                Bytes::from(response.encode_to_vec())
            });
        self.finish(id, result);
    }

    pub(super) fn is_downgrading(&self) -> Bytes {
        match self.shared.facts().downgrade_target {
            Some(_) => Bytes::from_static(b"true"),
            None => Bytes::from_static(b"false"),
        }
    }
}
