//! What goes between members, counted: rafthttp/metrics.go has names, labels and bounds.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use transport::Count;

use super::histogram::{Bounds, Histogram, SNAPSHOT, SNAPSHOT_DB, USUAL, write_member};
use super::text::{Text, label};

/// 0.1 ms to 3.2768 s.
const ROUND_TRIP: Bounds = Bounds::Doubling {
    first: 100_000,
    count: 16,
};
/// The sender of a snapshot that could not be read: rafthttp/http.go, unknownSnapshotSender.
const UNKNOWN_SENDER: &str = "UNKNOWN_SNAPSHOT_SENDER";
/// Addresses that failures are counted by: whoever reaches the port can make new ones.
const ADDRESSES_MAX: usize = 256;

/// A family of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    Active,
    Disconnected,
    Sent,
    Received,
    SentFailures,
    ReceivedFailures,
    SnapshotSend,
    SnapshotSending,
    SnapshotSendFailures,
    SnapshotReceive,
    SnapshotReceiving,
    SnapshotReceiveFailures,
}

/// Name behind `etcd_network_`, kind, name of the label, help.
#[rustfmt::skip]
const FAMILIES: [(Family, &str, &str, &str, &str); 12] = [
    (Family::Active, "active_peers", "gauge", "Remote", "Members that can be reached."),
    (Family::Disconnected, "disconnected_peers_total", "counter", "Remote", "How often members could be reached no longer."),
    (Family::Sent, "peer_sent_bytes_total", "counter", "To", "Bytes sent to members."),
    (Family::Received, "peer_received_bytes_total", "counter", "From", "Bytes received from members."),
    (Family::SentFailures, "peer_sent_failures_total", "counter", "To", "Messages and connections that failed on their way to members."),
    (Family::ReceivedFailures, "peer_received_failures_total", "counter", "From", "Messages from members that could not be read."),
    (Family::SnapshotSend, "snapshot_send_success", "counter", "To", "Snapshots that arrived."),
    (Family::SnapshotSending, "snapshot_send_inflights_total", "gauge", "To", "Snapshots on their way to members."),
    (Family::SnapshotSendFailures, "snapshot_send_failures", "counter", "To", "Snapshots that did not arrive."),
    (Family::SnapshotReceive, "snapshot_receive_success", "counter", "From", "Snapshots received."),
    (Family::SnapshotReceiving, "snapshot_receive_inflights_total", "gauge", "From", "Snapshots on their way from members."),
    (Family::SnapshotReceiveFailures, "snapshot_receive_failures", "counter", "From", "Snapshots that did not come as a whole."),
];

/// A family of distributions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Spans {
    RoundTrip,
    SnapshotSend,
    SnapshotReceive,
}

/// Name behind `etcd_network_`, name of the label, help, bounds.
#[rustfmt::skip]
const SPANS: [(Spans, &str, &str, &str, Bounds); 3] = [
    (Spans::RoundTrip, "peer_round_trip_time_seconds", "To", "How long a question to a member and its answer take.", ROUND_TRIP),
    (Spans::SnapshotSend, "snapshot_send_total_duration_seconds", "To", "How long sending snapshots took.", SNAPSHOT_DB),
    (Spans::SnapshotReceive, "snapshot_receive_total_duration_seconds", "From", "How long receiving snapshots took.", SNAPSHOT_DB),
];

/// See the module. Counted a few times for each piece that goes over a connection.
#[derive(Debug, Default)]
pub struct NetworkMetrics {
    numbers: Mutex<BTreeMap<(Family, Label), i64>>,
    spans: Mutex<BTreeMap<(Spans, u64), Histogram>>,
    /// How long data files were sent, and how long those that came took to be synced, and to be written as a
    /// whole.
    files: Files,
}

#[derive(Debug)]
struct Files {
    sent: Histogram,
    synced: Histogram,
    saved: Histogram,
}

impl Default for Files {
    fn default() -> Files {
        Files {
            sent: Histogram::new(SNAPSHOT),
            synced: Histogram::new(USUAL),
            saved: Histogram::new(SNAPSHOT_DB),
        }
    }
}

/// Who it is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Member(u64),
    Other(String),
}

impl NetworkMetrics {
    /// Counts.
    pub fn count(&self, count: Count) {
        let step = |more: bool| if more { 1 } else { -1 };
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        match count {
            Count::Active(id, active) => self.add(Family::Active, Label::Member(id), step(active)),
            Count::Disconnected(id) => self.add(Family::Disconnected, Label::Member(id), 1),
            Count::Sent(id, sent) => self.add(Family::Sent, Label::Member(id), bytes(sent)),
            Count::Received(id, received) => self.add(Family::Received, Label::Member(id), bytes(received)),
            Count::SendFailed(id) => self.add(Family::SentFailures, Label::Member(id), 1),
            Count::ReceiveFailed(from) => self.receive_failed(from),
            Count::RoundTrip(id, span) => self.observe(Spans::RoundTrip, ROUND_TRIP, id, span),
            Count::SnapshotSending(id, more) => {
                self.add(Family::SnapshotSending, Label::Member(id), step(more));
            }
            Count::SnapshotSent(id, span) => {
                self.add(Family::SnapshotSend, Label::Member(id), 1);
                self.observe(Spans::SnapshotSend, SNAPSHOT_DB, id, span);
            }
            Count::SnapshotSendFailed(id) => self.add(Family::SnapshotSendFailures, Label::Member(id), 1),
            Count::SnapshotReceiving(id, more) => {
                self.add(Family::SnapshotReceiving, Label::Member(id), step(more));
            }
            Count::SnapshotReceived(id, span) => {
                self.add(Family::SnapshotReceive, Label::Member(id), 1);
                self.observe(Spans::SnapshotReceive, SNAPSHOT_DB, id, span);
            }
            Count::SnapshotFileSent(span) => self.files.sent.observe(span),
            Count::SnapshotFileSynced(span) => self.files.synced.observe(span),
            Count::SnapshotFileSaved(span) => self.files.saved.observe(span),
            Count::SnapshotReceiveFailed(from) => {
                let label = from.map_or_else(|| Label::Other(UNKNOWN_SENDER.to_owned()), Label::Member);
                self.add(Family::SnapshotReceiveFailures, label, 1);
            }
        }
    }

    fn add(&self, family: Family, label: Label, more: i64) {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let number = numbers.entry((family, label)).or_default();
        *number = number.saturating_add(more);
    }

    fn receive_failed(&self, from: String) {
        let known = {
            let numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
            let of_family = numbers
                .keys()
                .filter(|(family, _)| *family == Family::ReceivedFailures);
            of_family.count()
        };
        let from = if known < ADDRESSES_MAX {
            from
        } else {
            "others".to_owned()
        };
        self.add(Family::ReceivedFailures, Label::Other(from), 1);
    }

    fn observe(&self, spans: Spans, bounds: Bounds, id: u64, span: Duration) {
        let mut all = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        let histogram = all.entry((spans, id)).or_insert_with(|| Histogram::new(bounds));
        histogram.observe(span);
    }

    /// How long data files were sent.
    pub fn data_files_sent(&self) -> &Histogram {
        &self.files.sent
    }

    /// Writes what is counted of data files that came.
    pub fn write_files(&self, text: &mut Text) {
        let Files { synced, saved, .. } = &self.files;
        let help = "How long syncs of data files that came from others took.";
        synced.write(text, "etcd_snap_db_fsync_duration_seconds", help);
        let help = "How long writing data files that came from others took.";
        saved.write(text, "etcd_snap_db_save_total_duration_seconds", help);
    }

    /// Writes all families. `own` is the ID of this member.
    pub fn write(&self, text: &mut Text, own: u64) {
        let numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        for (family, name, kind, label_name, help) in FAMILIES {
            let name = format!("etcd_network_{name}");
            text.head(&name, kind, help);
            for ((_, who), number) in numbers.iter().filter(|((other, _), _)| *other == family) {
                let who = match who {
                    Label::Member(id) => format!("{id:x}"),
                    Label::Other(other) => label(other),
                };
                let labels = match label_name {
                    "Remote" => format!("Local=\"{own:x}\",Remote=\"{who}\""),
                    _ => format!("{label_name}=\"{who}\""),
                };
                text.labelled(&name, &labels, *number);
            }
        }
        let spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        for (family, name, label_name, help, _) in SPANS {
            let name = format!("etcd_network_{name}");
            text.head(&name, "histogram", help);
            for ((_, id), histogram) in spans.iter().filter(|((other, _), _)| *other == family) {
                write_member(text, &name, &format!("{label_name}=\"{id:x}\""), &[histogram]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_those_of_etcd() {
        let metrics = NetworkMetrics::default();
        let mut text = Text::default();
        metrics.write(&mut text, 0x1a);
        assert_eq!(text.finish(), "", "a member that is alone has none");
        for count in [
            Count::Active(0xb, true),
            Count::Active(0xc, true),
            Count::Active(0xc, false),
            Count::Disconnected(0xc),
            Count::Sent(0xb, 10),
            Count::Sent(0xb, 5),
            Count::ReceiveFailed("127.0.0.1:1".into()),
            Count::SnapshotReceiveFailed(None),
            Count::RoundTrip(0xb, Duration::from_micros(150)),
        ] {
            metrics.count(count);
        }
        let mut text = Text::default();
        metrics.write(&mut text, 0x1a);
        let text = text.finish();
        for line in [
            "etcd_network_active_peers{Local=\"1a\",Remote=\"b\"} 1",
            "etcd_network_active_peers{Local=\"1a\",Remote=\"c\"} 0",
            "etcd_network_disconnected_peers_total{Local=\"1a\",Remote=\"c\"} 1",
            "etcd_network_peer_sent_bytes_total{To=\"b\"} 15",
            "etcd_network_peer_received_failures_total{From=\"127.0.0.1:1\"} 1",
            "etcd_network_snapshot_receive_failures{From=\"UNKNOWN_SNAPSHOT_SENDER\"} 1",
            "etcd_network_peer_round_trip_time_seconds_bucket{To=\"b\",le=\"0.0001\"} 0",
            "etcd_network_peer_round_trip_time_seconds_bucket{To=\"b\",le=\"0.0002\"} 1",
            "etcd_network_peer_round_trip_time_seconds_bucket{To=\"b\",le=\"3.2768\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        assert!(!text.contains("snapshot_send_success"), "{text}");
    }

    #[test]
    fn files_that_come_are_counted() {
        let metrics = NetworkMetrics::default();
        metrics.count(Count::SnapshotFileSynced(Duration::from_millis(3)));
        metrics.count(Count::SnapshotFileSaved(Duration::from_millis(300)));
        metrics.count(Count::SnapshotFileSaved(Duration::from_millis(30)));
        let mut text = Text::default();
        metrics.write_files(&mut text);
        let text = text.finish();
        for line in [
            "etcd_snap_db_fsync_duration_seconds_bucket{le=\"0.002\"} 0",
            "etcd_snap_db_fsync_duration_seconds_bucket{le=\"0.004\"} 1",
            "etcd_snap_db_save_total_duration_seconds_bucket{le=\"0.1\"} 1",
            "etcd_snap_db_save_total_duration_seconds_count 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }

    #[test]
    fn addresses_of_strangers_are_bounded() {
        let metrics = NetworkMetrics::default();
        for port in 0..1000 {
            metrics.count(Count::ReceiveFailed(format!("127.0.0.1:{port}")));
        }
        assert_eq!(metrics.numbers.lock().unwrap().len(), ADDRESSES_MAX + 1);
    }
}
