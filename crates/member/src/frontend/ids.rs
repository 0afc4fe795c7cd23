//! Request IDs: what matches an applied entry with the caller that waits for it.

/// Makes request IDs as etcd does (pkg/idutil/id.go): the member's low 16 bits above 48 bits that
/// start from the process's start in milliseconds and count up. Each of `slots` generators
/// of a member (its front threads, and one for the stages) makes only IDs of its own remainder,
/// so that an ID says who waits for it.
#[derive(Clone, Debug)]
pub struct RequestIds {
    prefix: u64,
    next: u64,
    slot: u64,
    slots: u64,
}

const SUFFIX: u64 = (1 << 48) - 1;

impl RequestIds {
    /// The generator `slot` of `slots` of a member whose process started at `unix_ms`.
    pub fn new(member_id: u64, unix_ms: u64, slot: usize, slots: usize) -> RequestIds {
        let mut ids = RequestIds {
            prefix: member_id << 48,
            next: 0,
            slot: slot as u64,
            slots: slots.max(1) as u64,
        };
        ids.align((unix_ms << 8) & SUFFIX);
        ids
    }

    /// The next ID.
    pub fn next_id(&mut self) -> u64 {
        let after = self.next + self.slots;
        if after > SUFFIX {
            self.align(0);
        } else {
            self.next = after;
        }
        self.prefix | self.next
    }

    /// Which of `slots` generators made an ID.
    pub fn slot_of(id: u64, slots: usize) -> usize {
        ((id & SUFFIX) % slots.max(1) as u64) as usize
    }

    fn align(&mut self, floor: u64) {
        let remainder = floor % self.slots;
        self.next = floor - remainder + self.slot;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_tell_their_member_and_slot_and_do_not_repeat() {
        for start in [0, 1_700_000_000_123, SUFFIX >> 8] {
            let mut seen = std::collections::BTreeSet::new();
            for slot in 0..3 {
                let mut ids = RequestIds::new(0xabcd_1234, start, slot, 3);
                for _ in 0..1000 {
                    let id = ids.next_id();
                    assert_eq!(id >> 48, 0x1234);
                    assert_eq!(RequestIds::slot_of(id, 3), slot);
                    assert!(seen.insert(id), "{id:x} made twice");
                }
            }
        }
    }
}
