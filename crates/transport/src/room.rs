//! The memory for requests of which not all has come. Whoever sends has room of its own, so that those who never
//! finish hold back nobody else's. Counts only; reads nothing itself.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;

use crate::lane::lock;

/// Who sends a request. What says that it comes from a member is believed, as Go believes it: whom to believe is
/// for certificates to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sender {
    /// A member that this one knows.
    Member(u64),
    /// Somebody else in the name of this cluster: a member that this one has not heard of, or nobody.
    Stranger(Option<IpAddr>),
    /// Somebody who asks for what is not raft's, and so does not say who it is.
    Asker(Option<IpAddr>),
}

/// Those who have room together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Member(u64),
    Strangers,
    Askers,
}

impl Sender {
    fn class(self) -> Class {
        match self {
            Sender::Member(id) => Class::Member(id),
            Sender::Stranger(_) => Class::Strangers,
            Sender::Asker(_) => Class::Askers,
        }
    }

    /// The room of one sender. A member posts four messages at once (rafthttp/pipeline.go, connPerPipeline).
    fn bytes_max(self) -> u64 {
        match self {
            Sender::Member(_) => 4 * USUAL_BYTES_MAX,
            Sender::Stranger(_) => 2 * USUAL_BYTES_MAX,
            Sender::Asker(_) => USUAL_BYTES_MAX / 2,
        }
    }
}

impl Class {
    fn bytes_max(self) -> u64 {
        match self {
            Class::Member(_) | Class::Strangers => 4 * USUAL_BYTES_MAX,
            Class::Askers => 2 * USUAL_BYTES_MAX,
        }
    }
}

/// A request of more bytes is a large one. Of these each class may have one at a time, outside of its room: a
/// message has up to a limit of its own.
const USUAL_BYTES_MAX: u64 = 32 << 20;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Room(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    bytes: BTreeMap<Sender, u64>,
    /// The classes that have a large request.
    large: Vec<Class>,
}

impl Taken {
    fn of(&self, class: Class) -> u64 {
        let of_class = self.bytes.iter().filter(|(sender, _)| sender.class() == class);
        of_class.map(|(_, bytes)| bytes).sum()
    }
}

/// What one unfinished request has of the room, as long as it is held.
pub(crate) struct Share<'a> {
    room: &'a Room,
    sender: Sender,
    /// Bytes of the request.
    own: u64,
    /// Bytes that are counted for it.
    counted: u64,
    is_large: bool,
}

impl<'a> Share<'a> {
    pub(crate) fn new(room: &'a Room, sender: Sender) -> Share<'a> {
        Share {
            room,
            sender,
            own: 0,
            counted: 0,
            is_large: false,
        }
    }

    /// Whether there is room for so many bytes more.
    pub(crate) fn grow(&mut self, bytes: u64) -> bool {
        self.own += bytes;
        if self.is_large {
            return true;
        }
        let class = self.sender.class();
        let mut taken = lock(&self.room.0);
        if self.own > USUAL_BYTES_MAX {
            self.is_large = !taken.large.contains(&class);
            if self.is_large {
                taken.large.push(class);
            }
            return self.is_large;
        }
        if taken.of(class) + bytes > class.bytes_max() {
            return false;
        }
        let of_sender = taken.bytes.entry(self.sender).or_default();
        if *of_sender + bytes > self.sender.bytes_max() {
            return false;
        }
        *of_sender += bytes;
        self.counted += bytes;
        true
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let mut taken = lock(&self.room.0);
        if self.is_large {
            let class = self.sender.class();
            taken.large.retain(|large| *large != class);
        }
        if let Some(of_sender) = taken.bytes.get_mut(&self.sender) {
            *of_sender -= self.counted;
            if *of_sender == 0 {
                taken.bytes.remove(&self.sender);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn at(last: u8) -> Option<IpAddr> {
        Some(Ipv4Addr::new(10, 0, 0, last).into())
    }

    /// Opens requests of a few bytes each until one is refused, and says how many were not.
    fn fill<'a>(room: &'a Room, sender: Sender, each: u64, held: &mut Vec<Share<'a>>) -> u64 {
        for count in 0.. {
            let mut share = Share::new(room, sender);
            if !share.grow(each) {
                return count;
            }
            held.push(share);
        }
        unreachable!("the loop has no end");
    }

    #[test]
    fn who_never_finishes_holds_back_nobody_else() {
        let room = Room::default();
        let mut held = Vec::new();
        for (sender, count) in [
            (Sender::Stranger(at(1)), 64),
            (Sender::Stranger(at(2)), 64),
            // All strangers together have as much as a member.
            (Sender::Stranger(at(3)), 0),
            (Sender::Stranger(None), 0),
            (Sender::Member(1), 128),
            (Sender::Member(2), 128),
            (Sender::Asker(at(1)), 16),
            (Sender::Asker(at(2)), 16),
            (Sender::Asker(None), 16),
        ] {
            assert_eq!(fill(&room, sender, MIB, &mut held), count, "{sender:?}");
        }
        held.clear();
        let taken = lock(&room.0);
        assert!(taken.bytes.is_empty() && taken.large.is_empty(), "{taken:?}");
    }

    #[test]
    fn one_large_request_at_a_time_leaves_the_room_to_the_others() {
        let room = Room::default();
        let sender = Sender::Member(1);
        let mut large = Share::new(&room, sender);
        assert!((0..500).all(|_| large.grow(MIB)), "a message may be large");
        let mut usual: Vec<_> = (0..3).map(|_| Share::new(&room, sender)).collect();
        assert!(
            usual.iter_mut().all(|share| share.grow(32 * MIB)),
            "its other posts go on"
        );
        assert!(!usual[0].grow(1), "there is one large one already");
        assert!(Share::new(&room, Sender::Stranger(None)).grow(500 * MIB));
        drop(large);
        let mut next = Share::new(&room, sender);
        assert!(next.grow(32 * MIB) && next.grow(MIB));
    }
}
