//! What a member asks the others before it opens its files, and before it serves.
//!
//! etcd: server/etcdserver/bootstrap.go, bootstrapCluster; embed/etcd.go, StartEtcd.

use api::url;
use disk::Disk;
use member::{Config, InitialMember, Level, Log as _, LogLine, Opened};
use transport::{Answer, Call, Dialer, call_and_wait};

use super::first_check::FirstCheck;
use super::join::Beginner;
use super::same_urls::{Resolver, System, same_urls};
use crate::config::Discovery;
use crate::discovery;
use crate::log::Log;
use crate::server::StartError;

/// A member without a log learns which cluster it joins, or makes sure that it begins a new one, and with whom. Fills
/// in [`Config::join`] or [`Config::initial_cluster`].
///
/// # Errors
/// Why it may not begin, in etcd's words.
pub fn before_opening(
    config: &mut Config,
    discovery: &Discovery,
    disk: &dyn Disk,
    dialer: &Dialer,
    log: &Log,
) -> Result<(), StartError> {
    // What is damaged is told when it is opened.
    let has_log = wal::exists(disk, &config.wal_dir()).unwrap_or(true);
    if has_log && discovery.is_asked_for() {
        log.warn("discovery token is ignored since cluster already initialized; valid logs are found")
            .show("wal-dir", config.wal_dir().display())
            .emit();
    }
    if has_log || config.force_new_cluster {
        return Ok(());
    }
    let own = config
        .initial_cluster
        .iter()
        .find(|member| member.name == config.name);
    if let Some(own) = own {
        check_advertised(own, &config.advertise_peer_urls, &System::new(), log)
            .map_err(StartError::Settings)?;
        config.advertised_is_same = true;
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
        beginner.check_new(&ask).map_err(StartError::Settings)?;
        if discovery.is_asked_for() {
            config.initial_cluster = discover(&beginner, discovery, log)?;
        }
        return Ok(());
    }
    if discovery.is_asked_for() {
        let text = "discovery URL should not be set when joining existing initial cluster";
        return Err(StartError::Settings(text.to_owned()));
    }
    let join = beginner.join(&ask, &System::new(), log);
    let join = join.map_err(StartError::Settings)?;
    config.join = Some(join);
    Ok(())
}

/// All members of the cluster that begins, from the discovery service.
fn discover(
    beginner: &Beginner<'_>,
    discovery: &Discovery,
    log: &Log,
) -> Result<Vec<InitialMember>, StartError> {
    let Some(own) = beginner.own() else {
        return Ok(beginner.cluster.to_vec());
    };
    let id = state::member_id(&own.peer_urls, beginner.token, None);
    let found = discovery::join(discovery, id, beginner.cluster, log).map_err(StartError::Discovery)?;
    let mut urls: Vec<&String> = found.iter().flat_map(|member| &member.peer_urls).collect();
    urls.sort_unstable();
    if urls.windows(2).any(|pair| pair[0] == pair[1]) {
        let text = format!("discovery cluster {} has duplicate url", discovery::told(&found));
        return Err(StartError::Settings(text));
    }
    Ok(found)
}

/// A new member is reached where the cluster looks for it (etcd: config/config.go, advertiseMatchesCluster).
fn check_advertised(
    own: &InitialMember,
    advertised: &[String],
    resolver: &dyn Resolver,
    log: &dyn member::Log,
) -> Result<(), String> {
    let Err(error) = same_urls(advertised, &own.peer_urls, resolver, log) else {
        return Ok(());
    };
    let named = |urls: &mut dyn Iterator<Item = &String>| -> String {
        let all: Vec<String> = urls.map(|url| format!("{}={url}", own.name)).collect();
        all.join(",")
    };
    let flag = advertised.join(",");
    let missing = named(&mut own.peer_urls.iter().filter(|url| !advertised.contains(url)));
    if !missing.is_empty() {
        return Err(format!(
            "--initial-cluster has {missing} but missing from --initial-advertise-peer-urls={flag} ({error})"
        ));
    }
    let mut missing = advertised
        .iter()
        .filter(|url| !own.peer_urls.contains(url))
        .peekable();
    let cluster = named(&mut advertised.iter());
    if missing.peek().is_some() {
        let missing: Vec<&str> = missing.map(String::as_str).collect();
        let missing = missing.join(",");
        return Err(format!(
            "--initial-advertise-peer-urls has {missing} but missing from --initial-cluster={cluster}"
        ));
    }
    Err(format!(
        "failed to resolve {flag} to match --initial-cluster={cluster} ({error})"
    ))
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
    let checked = check.run(&opened.shared.facts().members, &ask);
    if let Err(error) = &checked {
        log.log(LogLine::new(Level::Error, "checkInitialHashKV failed").with("error", error.clone()));
    }
    checked
}

fn ask(dialer: &Dialer, url: &str, call: Call) -> Result<Answer, String> {
    let urls = url::parse_all([url])?;
    call_and_wait(dialer, &urls[0], call).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use member::LogLine;

    use super::*;
    use crate::peers::same_urls::tests::Book;

    struct Deaf;

    impl member::Log for Deaf {
        fn log(&self, _: LogLine) {}
    }

    #[test]
    fn a_member_is_reached_where_the_cluster_looks_for_it() {
        #[rustfmt::skip]
        let table = [
            ("http://a:1", "http://a:1", ""),
            ("http://a:1", "http://192.0.2.1:1", ""),
            ("http://a:1", "http://192.0.2.2:1",
             "--initial-cluster has m=http://a:1 but missing from --initial-advertise-peer-urls=http://192.0.2.2:1 \
              (resolved urls: \"http://192.0.2.2:1\" != \"http://192.0.2.1:1\")"),
            ("http://a:1", "http://a:1 http://b:1",
             "--initial-advertise-peer-urls has http://b:1 but missing from \
              --initial-cluster=m=http://a:1,m=http://b:1"),
        ];
        for (cluster, advertised, wanted) in table {
            let texts = |list: &str| -> Vec<String> { list.split(' ').map(str::to_owned).collect() };
            let own = InitialMember {
                name: "m".to_owned(),
                peer_urls: texts(cluster),
            };
            let book = Book {
                names: &[("a", "192.0.2.1", 0), ("b", "192.0.2.2", 0)],
                waits: Cell::new(0),
            };
            let found = check_advertised(&own, &texts(advertised), &book, &Deaf);
            assert_eq!(found.err().unwrap_or_default(), wanted, "{cluster} {advertised}");
        }
    }
}
