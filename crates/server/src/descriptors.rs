//! File descriptors: how many connections of clients there may be, so that the member always has some
//! left for its own files. Never opens or closes one.

use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Descriptors that clients never get: they are for the log, the data file and other members (etcd:
/// embed/etcd.go, reservedInternalFDNum).
pub const RESERVED: u64 = 150;

/// The limit of the process leaves nothing for clients; the text is etcd's (embed/etcd.go).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("file descriptor limit of etcd process is too low; please set higher")]
pub struct TooLow {
    /// How many descriptors the process may have.
    pub limit: u64,
}

/// Room for connections of clients. All listeners for clients share one: etcd gives each as much,
/// and two of them can take all descriptors there are.
#[derive(Clone, Debug)]
pub struct Room(Arc<Semaphore>);

/// The place of one connection, free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Room {
    /// The room in a process that may have `limit` descriptors.
    pub fn within(limit: u64) -> Result<Room, TooLow> {
        if limit <= RESERVED {
            return Err(TooLow { limit });
        }
        let places = usize::try_from(limit - RESERVED).unwrap_or(usize::MAX);
        Ok(Room(Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)))))
    }

    /// Waits until there is a place, first come, first served.
    pub async fn place(&self) -> Place {
        let permit = self.0.clone().acquire_owned().await;
        Place {
            _permit: permit.expect("the room is never closed"),
        }
    }
}

/// How many descriptors the process may have.
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Lets the process have as many as the system allows, which Go's runtime does too.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // Without it there are fewer connections: nothing to stop for.
    let _ = setrlimit(Resource::Nofile, raised);
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn a_limit_that_leaves_nothing_for_clients_is_refused() {
        assert_eq!(Room::within(150).unwrap_err(), TooLow { limit: 150 });
        assert_eq!(Room::within(151).unwrap().0.available_permits(), 1);
        assert!(Room::within(u64::MAX).unwrap().0.available_permits() > 1 << 40);
    }

    #[test]
    fn who_finds_no_place_waits_until_one_is_given_back() {
        let room = Room::within(152).unwrap();
        let mut context = Context::from_waker(Waker::noop());
        let mut taken = Vec::new();
        for _ in 0..2 {
            match pin!(room.place()).poll(&mut context) {
                Poll::Ready(place) => taken.push(place),
                Poll::Pending => panic!("there is a place"),
            }
        }
        // A listener shares the room with the others.
        let other = room.clone();
        let mut third = pin!(other.place());
        assert!(third.as_mut().poll(&mut context).is_pending());
        taken.pop();
        assert!(third.as_mut().poll(&mut context).is_ready());
    }
}
