//! The reads of Go 3.6 beside ours: what each calls a round of heartbeats, and answers that come later.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use raft::{Message, Role};

use super::text::hex;

/// What makes the reads of Go 3.6 comparable; see the head of oracle.rs.
#[derive(Default)]
pub struct OldReads {
    /// Go's heartbeat contexts by (leader, term, ours), and back.
    contexts: BTreeMap<(u64, u64, String), String>,
    numbers: BTreeMap<(u64, u64, String), String>,
    /// By leader: its term, and the answers that ours has given to itself ("r") and to others ("m") and Go not yet.
    ahead: BTreeMap<u64, (u64, [VecDeque<String>; 2])>,
}

impl OldReads {
    /// Takes answers out that Go has not given yet, and those that it gives later in the same order.
    pub fn answers(&mut self, raft: &raft::Raft, own: &mut Vec<String>, other: &mut Vec<String>) {
        let answer = |line: &String| line.starts_with("r ") || line.starts_with("m 16 ");
        let (id, term) = (raft.id(), raft.term());
        let (known, ahead) = self.ahead.entry(id).or_default();
        if raft.soft_state().role != Role::Leader || *known != term {
            *known = term;
            *ahead = Default::default();
        }
        let queue = |line: &String| usize::from(line.starts_with('m'));
        for line in own.extract_if(.., |line| answer(line)) {
            ahead[queue(&line)].push_back(line);
        }
        // What comes out of order stays, and is a difference.
        other.retain(|line| {
            let expected = answer(line) && ahead[queue(line)].front() == Some(line);
            if expected {
                ahead[queue(line)].pop_front();
            }
            !expected
        });
    }

    /// Gives Go's heartbeats the context of ours, if they mean the same request. One that ours has answered is no matter.
    pub fn heartbeats(&mut self, own: &[String], other: &mut [String]) {
        for line in own.iter().filter(|line| line.starts_with("m 8 ")) {
            let fields: Vec<&str> = line.split(' ').collect();
            let same =
                |line: &&mut String| line.starts_with("m 8 ") && line.split(' ').nth(3) == Some(fields[3]);
            let Some(theirs) = other.iter_mut().find(same) else {
                continue;
            };
            let mut changed: Vec<&str> = theirs.split(' ').collect();
            let (ours, context) = (fields[10], changed[10]);
            let place = |context: &str| {
                (
                    fields[2].parse().unwrap(),
                    fields[4].parse().unwrap(),
                    context.to_owned(),
                )
            };
            if ours != "-" {
                let context = context.to_owned();
                let known = self
                    .contexts
                    .entry(place(ours))
                    .or_insert_with(|| context.clone());
                let number = self
                    .numbers
                    .entry(place(&context))
                    .or_insert_with(|| ours.to_owned());
                if *known != context || number != ours {
                    continue;
                }
            }
            changed[10] = ours;
            *theirs = changed.join(" ");
        }
    }

    /// The echo of a heartbeat as Go expects it.
    pub fn echo(&self, message: &Message) -> Message {
        let place = (message.to, message.term, hex(&message.context));
        let context = self.contexts.get(&place).map_or(Bytes::new(), |context| {
            let byte = |place: usize| u8::from_str_radix(&context[place..place + 2], 16).unwrap();
            (0..context.len()).step_by(2).map(byte).collect()
        });
        Message {
            context,
            ..message.clone()
        }
    }
}
