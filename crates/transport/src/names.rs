//! The addresses of names. Each name is looked up by a thread of its own, one at a time, so that a name whose
//! server does not answer holds up nobody but those who want that name. Never retries: who dials does.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::lane::lock;

/// Names that may be looked up at once. Members have a few each; a name that hangs keeps its place.
const LOOKUPS_MAX: usize = 64;
/// How long an answer holds: all that dial a member at once share one, and a member that has moved is found
/// at the next attempt but a few.
const ANSWER_HOLDS: Duration = Duration::from_secs(1);

/// The addresses of a name; nothing if there are none.
type Answer = Option<Arc<[IpAddr]>>;
type Lookup = Arc<dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync>;

/// See the module.
#[derive(Clone)]
pub(crate) struct Names {
    lookup: Lookup,
    known: Arc<Mutex<BTreeMap<String, Entry>>>,
}

enum Entry {
    Running(watch::Receiver<Option<Answer>>),
    Known(Instant, Answer),
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Names")
    }
}

impl Default for Names {
    fn default() -> Names {
        Names::with(Arc::new(|name: &str| {
            let found = (name, 0).to_socket_addrs()?;
            Ok(found.map(|address| address.ip()).collect())
        }))
    }
}

impl Names {
    fn with(lookup: Lookup) -> Names {
        Names {
            lookup,
            known: Arc::default(),
        }
    }

    /// The addresses of a host. Waits for as long as the system does: to be called with a limit.
    pub(crate) async fn find(&self, host: &str) -> Result<Arc<[IpAddr]>, String> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(Arc::new([address]));
        }
        let mut answer = match self.ask(host)? {
            Entry::Known(_, answer) => return answer.ok_or_else(|| unknown(host)),
            Entry::Running(answer) => answer,
        };
        let answered = answer.wait_for(Option::is_some).await;
        let answer = answered.ok().and_then(|answer| answer.clone().flatten());
        answer.ok_or_else(|| unknown(host))
    }

    /// What is known of a name, or will be.
    fn ask(&self, host: &str) -> Result<Entry, String> {
        let mut known = lock(&self.known);
        known.retain(|_, entry| match entry {
            Entry::Running(_) => true,
            Entry::Known(since, _) => since.elapsed() < ANSWER_HOLDS,
        });
        match known.get(host) {
            Some(Entry::Running(answer)) => return Ok(Entry::Running(answer.clone())),
            Some(Entry::Known(since, answer)) => return Ok(Entry::Known(*since, answer.clone())),
            None => {}
        }
        let is_running = |entry: &&Entry| matches!(entry, Entry::Running(_));
        if known.values().filter(is_running).count() >= LOOKUPS_MAX {
            return Err(format!("dial tcp: lookup {host}: too many names are looked up"));
        }
        let (told, answer) = watch::channel(None);
        let (names, name) = (self.clone(), host.to_owned());
        thread::Builder::new()
            .name("lookup".into())
            .spawn(move || {
                let found = (names.lookup)(&name).ok().filter(|found| !found.is_empty());
                let found: Answer = found.map(Arc::from);
                let entry = Entry::Known(Instant::now(), found.clone());
                lock(&names.known).insert(name, entry);
                told.send_replace(Some(found));
            })
            .map_err(|error| format!("dial tcp: lookup {host}: {error}"))?;
        known.insert(host.to_owned(), Entry::Running(answer.clone()));
        Ok(Entry::Running(answer))
    }
}

fn unknown(host: &str) -> String {
    format!("dial tcp: lookup {host}: no such host")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    fn run<T>(what: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(what)
    }

    /// Looks names up that answer at once, but for those that begin with "stuck": these wait for the end of
    /// the channel.
    fn partly_stuck() -> (Names, Arc<AtomicUsize>, mpsc::SyncSender<()>) {
        let (release, stuck) = mpsc::sync_channel(0);
        let (stuck, asked) = (Mutex::new(Some(stuck)), Arc::new(AtomicUsize::new(0)));
        let count = asked.clone();
        let stuck = Arc::new(stuck);
        let names = Names::with(Arc::new(move |name: &str| {
            count.fetch_add(1, Ordering::SeqCst);
            match name {
                "nobody" => return Err(io::Error::other("no such host")),
                _ if name.starts_with("stuck") => drop(lock(&stuck).as_ref().map(mpsc::Receiver::recv)),
                _ => {}
            }
            Ok(vec!["192.0.2.7".parse().unwrap()])
        }));
        (names, asked, release)
    }

    #[test]
    fn a_name_that_hangs_holds_up_no_other() {
        let (names, asked, release) = partly_stuck();
        run(async {
            let waiting: Vec<_> = (0..100)
                .map(|_| tokio::task::unconstrained(names.find("stuck")))
                .collect();
            let mut waiting: Vec<_> = waiting.into_iter().map(Box::pin).collect();
            for wait in &mut waiting {
                let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(wait.as_mut().poll(cx))).await;
                assert!(polled.is_pending());
            }
            let found = names.find("other").await.unwrap();
            assert_eq!(found[..], ["192.0.2.7".parse::<IpAddr>().unwrap()]);
            drop(release);
            for wait in waiting {
                assert!(wait.await.is_ok());
            }
            assert_eq!(asked.load(Ordering::SeqCst), 2, "one look-up a name");
        });
    }

    #[test]
    fn names_that_hang_are_bounded() {
        let (names, asked, release) = partly_stuck();
        for number in 0..LOOKUPS_MAX {
            assert!(names.ask(&format!("stuck{number}")).is_ok());
        }
        let error = run(names.find("other")).unwrap_err();
        assert!(error.contains("too many names"), "{error}");
        assert!(run(names.find("::1")).is_ok(), "an address is no name");
        drop(release);
        run(async {
            for number in 0..LOOKUPS_MAX {
                assert!(names.find(&format!("stuck{number}")).await.is_ok());
            }
            assert!(names.find("other").await.is_ok());
            let error = names.find("nobody").await.unwrap_err();
            assert_eq!(error, "dial tcp: lookup nobody: no such host");
        });
        assert_eq!(asked.load(Ordering::SeqCst), LOOKUPS_MAX + 2);
    }
}
