//! Questions of the leader for the hashes of other members' stores, on their way through the network.
//! Whoever cannot be asked is said to be silent, as the server's transport does.

use std::time::Duration;

use member::{HashAnswer, PeerHash, ToApply};

use crate::world::{Event, World};

/// How long a question waits for an answer that does not come.
const PATIENCE: Duration = Duration::from_secs(1);

/// A question, or the answer to it.
pub(crate) struct HashMail {
    /// Who asks, and the process that did.
    pub(crate) asker: (usize, u64),
    /// Who is asked; `None` if nobody knows the member.
    pub(crate) asked: Option<usize>,
    /// The answer, silent as long as there is none.
    pub(crate) answer: HashAnswer,
    /// Whether it is on its way back.
    pub(crate) returns: bool,
}

impl World {
    /// Sends a question on its way.
    pub(crate) fn ask_hash(&mut self, mail: HashMail) {
        let arrival = mail.asked.and_then(|asked| {
            let arrivals = self.net.arrivals(mail.asker.0, asked, &mut self.rng);
            arrivals.first().copied()
        });
        match arrival {
            Some(delay) => self.after(delay, Event::Hash(Box::new(mail))),
            None => self.fall_silent(mail),
        }
    }

    /// A question or an answer arrives.
    pub(crate) fn take_hash(&mut self, mut mail: HashMail) {
        let (place, life) = mail.asker;
        if mail.returns {
            self.trace.count("hashes compared");
            return self.apply(place, life, ToApply::PeerHash(mail.answer));
        }
        let asked = mail.asked.unwrap_or(place);
        let view = self.nodes[asked]
            .running
            .as_ref()
            .map(|running| running.member.views.load());
        mail.answer.hash = view.and_then(|view| {
            let hash = view.hash_kv(mail.answer.revision).ok()?;
            let found = hash.finish(bbolt::Wait::Yes).ok()?;
            Some(PeerHash {
                current_revision: view.revision,
                compact_revision: found.compact_revision,
                hash: found.hash,
            })
        });
        match self.net.arrivals(asked, place, &mut self.rng).first() {
            Some(delay) => {
                mail.returns = true;
                self.after(*delay, Event::Hash(Box::new(mail)));
            }
            None => self.fall_silent(mail),
        }
    }

    fn fall_silent(&mut self, mut mail: HashMail) {
        mail.answer.hash = None;
        mail.returns = true;
        self.after(PATIENCE, Event::Hash(Box::new(mail)));
    }
}
