//! What other threads have for a front thread.

use std::sync::Mutex;

use member::ToFront;
use member::frontend::JobDone;
use tokio::sync::Notify;

use super::stage::lock;

/// Something for a front.
pub enum FromMember {
    /// From the stages.
    Stage(ToFront),
    /// A job of the front came back.
    Job(JobDone),
}

/// The letters for one front thread, and the bell that wakes it: once for all that arrive before
/// it looks.
#[derive(Default)]
pub struct Inbox {
    letters: Mutex<Vec<FromMember>>,
    bell: Notify,
}

impl Inbox {
    /// Puts a letter in, and rings if it is the first.
    pub fn put(&self, letter: FromMember) {
        let first = {
            let mut letters = lock(&self.letters);
            letters.push(letter);
            letters.len() == 1
        };
        if first {
            self.bell.notify_one();
        }
    }

    /// Takes all letters, into an empty vector that the caller keeps for its capacity.
    pub fn take(&self, into: &mut Vec<FromMember>) {
        std::mem::swap(&mut *lock(&self.letters), into);
    }

    /// Rings without a letter: there is something to do on the front's own side.
    pub fn ring(&self) {
        self.bell.notify_one();
    }

    /// Waits for the bell.
    pub async fn rung(&self) {
        self.bell.notified().await;
    }
}
