//! What a member asks the others before it opens its files, and before it serves.
//!
//! etcd: server/etcdserver/bootstrap.go, bootstrapCluster; embed/etcd.go, StartEtcd.

use api::url;
use disk::Disk;
use member::{Config, Opened};
use transport::{Answer, Call, Dialer, call_and_wait};

use super::first_check::FirstCheck;
use super::join::Beginner;
use crate::log::Log;

/// A member without a log learns which cluster it joins, or makes sure that it begins a new one. Fills in
/// [`Config::join`].
///
/// # Errors
/// Why it may not begin, in etcd's words.
pub fn before_opening(
    config: &mut Config,
    disk: &dyn Disk,
    dialer: &Dialer,
    log: &Log,
) -> Result<(), String> {
    // What is damaged is told when it is opened.
    let has_log = wal::exists(disk, &config.wal_dir()).unwrap_or(true);
    if has_log || config.force_new_cluster {
        return Ok(());
    }
    let beginner = Beginner {
        name: &config.name,
        cluster: &config.initial_cluster,
        token: &config.initial_cluster_token,
        version: config.line.release(),
        request_timeout: config.request_timeout(),
    };
    let ask = |url: &str, call: Call| ask(dialer, url, call);
    if config.new_cluster {
        return beginner.check_new(&ask);
    }
    let join = beginner.join(&ask, log)?;
    config.join = Some(join);
    Ok(())
}

/// Compares the store with those of the others (feature gate `InitialCorruptCheck`).
///
/// # Errors
/// In etcd's words, if another member has other data.
pub fn before_serving(opened: &Opened, config: &Config, dialer: &Dialer, log: &Log) -> Result<(), String> {
    let own = opened.shared.member_id;
    let failed = |error: mvcc::Error| format!("{own:x} failed to fetch hash ({error})");
    let view = opened.views.load();
    let hash = view.hash_kv(0).map_err(failed)?;
    let check = FirstCheck {
        own,
        cluster_id: opened.shared.cluster_id,
        hash: hash.finish(bbolt::Wait::Yes).map_err(failed)?,
        patience: config.request_timeout(),
        log,
    };
    let ask = |url: &str, call: Call| ask(dialer, url, call);
    check.run(&opened.shared.facts().members, &ask)
}

fn ask(dialer: &Dialer, url: &str, call: Call) -> Result<Answer, String> {
    let urls = url::parse_all([url])?;
    call_and_wait(dialer, &urls[0], call).map_err(|error| error.to_string())
}
