//! Looks now and then whether another member answers, how long that takes and what time it is there
//! (rafthttp/probing_status.go and the package probing that it uses).

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use member::LogLine;

use crate::READ_MAX;
use crate::body::{self, Outbound};
use crate::client::{self, Wire};
use crate::core::Core;
use crate::host::{Answer, Count};
use crate::peer::Peer;
use crate::wall;

/// Where others are asked.
pub(crate) const PATH: &str = "/raft/probing";
/// Pause between probes: rafthttp/probing_status.go, proberInterval.
const PAUSE: Duration = Duration::from_secs(4);
/// Pause between looks at how it goes: statusMonitoringInterval.
const LOOK_PAUSE: Duration = Duration::from_secs(30);
/// The same while it goes badly, and the first time: statusErrorInterval.
const LOOK_PAUSE_ILL: Duration = Duration::from_secs(5);
/// A clock that differs by more is worth a warning.
const DRIFT_MAX: Duration = Duration::from_secs(1);
/// Bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Both ways that are probed, by their names in the log.
pub(crate) const WAYS: [&str; 2] = ["ROUND_TRIPPER_SNAPSHOT", "ROUND_TRIPPER_RAFT_MESSAGE"];

/// How it goes.
#[derive(Debug, Default)]
struct Status {
    healthy: bool,
    error: Option<String>,
    /// Smoothed: a new measurement counts for an eighth.
    round_trip: Duration,
    /// How much later it is here than there.
    drift: Option<Duration>,
}

impl Status {
    fn record(&mut self, took: Duration, there: SystemTime, here: SystemTime) {
        self.healthy = true;
        self.error = None;
        self.round_trip = match self.round_trip {
            Duration::ZERO => took,
            before => (before * 7 + took) / 8,
        };
        // As in Go, a clock that is ahead there is not seen from here, but from there.
        let since = here.duration_since(there).ok();
        self.drift = since.and_then(|since| since.checked_sub(self.round_trip / 2));
    }

    fn record_failure(&mut self, error: String) {
        self.healthy = false;
        self.error = Some(error);
    }
}

/// Probes a member on one way, until it is aborted.
pub(crate) async fn run(core: Arc<Core>, peer: Arc<Peer>, way: &'static str) {
    let mut status = Status::default();
    let mut wire = None;
    let begun = tokio::time::Instant::now();
    let (mut probe_at, mut look_at) = (begun + PAUSE, begun + LOOK_PAUSE_ILL);
    loop {
        tokio::time::sleep_until(probe_at.min(look_at)).await;
        let now = tokio::time::Instant::now();
        if now >= probe_at {
            probe_at = now + PAUSE;
            probe(&core, &peer, &mut wire, &mut status).await;
        }
        if now >= look_at {
            look(&core, &peer, way, &status);
            let pause = if status.healthy {
                LOOK_PAUSE
            } else {
                LOOK_PAUSE_ILL
            };
            look_at = tokio::time::Instant::now() + pause;
        }
    }
}

async fn probe(core: &Core, peer: &Peer, wire: &mut Option<Wire>, status: &mut Status) {
    let url = peer.url();
    let begun = Instant::now();
    match ask(core, &url, wire).await {
        Ok(there) => status.record(begun.elapsed(), there, SystemTime::now()),
        Err(error) => {
            *wire = None;
            status.record_failure(error);
            peer.failed(&url);
        }
    }
}

async fn ask(core: &Core, url: &api::url::Url, kept: &mut Option<Wire>) -> Result<SystemTime, String> {
    let mut wire = match kept.take().filter(Wire::is_fresh) {
        Some(wire) => wire,
        None => Wire::open(&core.dialer, url, READ_MAX).await?,
    };
    let request = client::request(Method::GET, url, PATH, HeaderMap::new(), Outbound::Full(None))?;
    let mut response = wire.send_patiently(request, READ_MAX).await?;
    let text = body::whole(response.body_mut(), ANSWER_BYTES_MAX).await;
    let text = text.map_err(|error| error.to_string())?;
    if response.status() != StatusCode::OK {
        let status = response.status();
        return Err(format!(
            "got unexpected HTTP status code {status} from {url}{PATH}"
        ));
    }
    let health = serde_json::from_slice::<serde_json::Value>(&text).map_err(|error| error.to_string())?;
    let now = health["Now"].as_str().and_then(wall::parse);
    match (health["OK"].as_bool(), now) {
        (Some(true), Some(now)) => {
            *kept = Some(wire);
            Ok(now)
        }
        _ => Err("the other side does not say that it is well".to_owned()),
    }
}

fn look(core: &Core, peer: &Peer, way: &'static str, status: &Status) {
    let line = |text: &'static str| {
        LogLine::warn(text)
            .with("round-tripper-name", way)
            .with("remote-peer-id", format!("{:x}", peer.id))
    };
    if !status.healthy {
        core.log(
            line("prober detected unhealthy status")
                .with("rtt", status.round_trip)
                .with("error", status.error.clone().unwrap_or_default()),
        );
    }
    if let Some(drift) = status.drift.filter(|drift| *drift > DRIFT_MAX) {
        core.log(
            line("prober found high clock drift")
                .with("clock-drift", drift)
                .with("rtt", status.round_trip),
        );
    }
    core.count(Count::RoundTrip(peer.id, status.round_trip));
}

/// What this member answers to others' probes. Go names no type and guesses this one.
pub(crate) fn answer() -> Answer {
    let now = wall::format(SystemTime::now());
    Answer {
        status: 200,
        headers: vec![("content-type".to_owned(), "text/plain; charset=utf-8".to_owned())],
        body: Bytes::from(format!("{{\"OK\":true,\"Now\":\"{now}\"}}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn clocks_and_round_trips_are_measured_as_by_go() {
        let mut status = Status::default();
        let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
        status.record(Duration::from_millis(80), at(5000), at(5040));
        assert_eq!(status.round_trip, Duration::from_millis(80));
        assert_eq!(status.drift, Some(Duration::ZERO));
        status.record(Duration::from_millis(160), at(5000), at(7000));
        assert_eq!(status.round_trip, Duration::from_millis(90));
        assert_eq!(status.drift, Some(Duration::from_millis(1955)));
        status.record(Duration::from_millis(90), at(9000), at(7000));
        assert_eq!(status.drift, None);
        status.record_failure("x".into());
        assert!(!status.healthy);
        status.record(Duration::from_millis(90), at(0), at(0));
        assert!(status.healthy && status.error.is_none());
    }
}
