//! From a data directory and a configuration to a member that can run.

#![allow(clippy::todo)]

use std::sync::Arc;

use crate::pending::ViewSource;
use api::clock::Instant;
use disk::Disk;

use crate::apply::Apply;
use crate::committer::Committer;
use crate::config::Config;
use crate::decide::Decide;
use crate::error::Error;
use crate::frontend;
use crate::log::Log;
use crate::persist::Persist;
use crate::router::Router;
use crate::shared::Shared;

/// What a front end gets: its settings, and what it may read.
pub struct FrontSeat {
    /// The number of the front thread.
    pub front: usize,
    /// Its settings.
    pub config: frontend::Config,
    /// What every thread may read.
    pub shared: Arc<Shared>,
    /// The newest view.
    pub views: ViewSource,
}

/// A member that can run: the driver gives each stage a thread or a turn, and begins with
/// [`Opened::start`].
pub struct Opened {
    /// The raft stage.
    pub decide: Decide,
    /// The log stage.
    pub persist: Persist,
    /// The apply stage.
    pub apply: Apply,
    /// The stage that writes the data file.
    pub committer: Committer,
    /// One seat for each of `Config::fronts`.
    pub fronts: Vec<FrontSeat>,
    /// What every thread may read.
    pub shared: Arc<Shared>,
}

impl Opened {
    /// Sends the first messages: entries of the log that wait to be applied, the election of a lone
    /// voter. The driver's queues must exist.
    pub fn start(&mut self, now: Instant, router: &dyn Router) {
        let _ = (now, router);
        todo!()
    }
}

/// Opens or makes the member of `config`: locks, repairs a torn log, checks versions, replays.
/// `unix_ms` is the time of day in milliseconds, `seed` decides about election timeouts.
///
/// # Errors
/// [`Error::Locked`] if another process holds the directory: the driver waits and tries again. With
/// any other error nothing in the directory was overwritten, and trying again does not help.
pub fn open(
    disk: &Arc<dyn Disk>,
    config: &Config,
    now: Instant,
    unix_ms: u64,
    seed: u64,
    log: &dyn Log,
) -> Result<Opened, Error> {
    let _ = (disk, config, now, unix_ms, seed, log);
    todo!()
}
