//! The page that Prometheus reads: everything that is counted, under etcd's names.

use std::sync::atomic::Ordering;

use api::error::Code;
use api::version::Line;
use member::tally::{FrontTallies, LEASE_TTL_BUCKETS, Tally};

use super::calls::{
    CODES, FrontMetrics, NOT_PROMOTED, REQUESTS, ROUTES, ROUTES_SHOWN, RequestKind, VERSIONS_MAX, labels,
    route_of,
};
use super::histogram::{Histogram, write_member, write_member_always};
use super::text::label;
use super::{Metrics, Process, Text};
use crate::config::{ALL_GATES, Gates};
use crate::front::Common;

/// Makes the page.
pub fn page(common: &Common) -> String {
    let mut text = Text::default();
    let metrics = &*common.metrics;
    write_member_state(&mut text, common);
    write_store(&mut text, common);
    write_watches(&mut text, common);
    write_leases(&mut text, common);
    write_calls(&mut text, metrics);
    write_requests(&mut text, metrics);
    write_stages(&mut text, metrics);
    metrics.network.write(&mut text, common.shared.member_id);
    metrics.network.write_files(&mut text);
    write_health(&mut text, metrics);
    write_gates(&mut text, &common.config.gates);
    write_absent(&mut text, common.config.emulated);
    let process = Process::now();
    write_process(&mut text, &process);
    write_go(&mut text, &process, metrics.fronts.len());
    text.finish()
}

fn sum<T>(parts: &[T], of: impl Fn(&T) -> &Tally) -> u64 {
    parts.iter().map(|part| of(part).get()).sum()
}

fn one(text: &mut Text, name: &str, help: &str, labels: &str) {
    text.head(name, "gauge", help);
    text.labelled(name, labels, 1u8);
}

fn write_member_state(text: &mut Text, common: &Common) {
    let (shared, fronts) = (&common.shared, &common.shared.front_tallies);
    let (pulse, facts) = (&shared.pulse, shared.facts());
    let leader = pulse.leader();
    let id = format!("{:x}", shared.member_id);
    let yes = u8::from;
    text.gauge(
        "etcd_server_has_leader",
        "Whether a leader is known.",
        yes(leader != 0),
    );
    text.gauge(
        "etcd_server_is_leader",
        "Whether this member leads.",
        yes(leader == shared.member_id),
    );
    text.gauge(
        "etcd_server_is_learner",
        "Whether this member has no vote.",
        yes(pulse.is_learner()),
    );
    one(
        text,
        "etcd_server_id",
        "The member's ID.",
        &format!("server_id=\"{id}\""),
    );
    let release = shared.line.release();
    one(
        text,
        "etcd_server_version",
        "The release that this member shows.",
        &format!("server_version=\"{release}\""),
    );
    if let Some(version) = facts.cluster_version {
        let labels = format!("cluster_version=\"{}.{}\"", version.major, version.minor);
        one(text, "etcd_cluster_version", "The cluster's version.", &labels);
    }
    let name = "etcd_network_known_peers";
    text.head(name, "gauge", "The members of the cluster, this one among them.");
    for member in &facts.members {
        let labels = format!("Local=\"{id}\",Remote=\"{:x}\"", member.id);
        text.labelled(name, &labels, 1u8);
    }
    for removed in &facts.removed {
        let labels = format!("Local=\"{id}\",Remote=\"{removed:x}\"");
        text.labelled(name, &labels, 0u8);
    }
    text.counter(
        "etcd_server_leader_changes_seen_total",
        "Changes of the leader.",
        shared.tallies.leader_changes.get(),
    );
    // Counters by etcd's names, gauges by its kinds.
    text.gauge(
        "etcd_server_proposals_committed_total",
        "The index up to which the log is committed.",
        pulse.committed(),
    );
    text.gauge(
        "etcd_server_proposals_applied_total",
        "The index up to which the log is applied.",
        shared.applied(),
    );
    text.gauge(
        "etcd_server_proposals_pending",
        "Proposals that wait for their answers.",
        sum(fronts, |front| &front.proposals_pending),
    );
    text.counter(
        "etcd_server_proposals_failed_total",
        "Proposals that got no answer.",
        sum(fronts, |front| &front.proposals_failed),
    );
    text.counter(
        "etcd_server_slow_read_indexes_total",
        "Questions to the leader that were asked again.",
        sum(fronts, |front| &front.read_indexes_slow),
    );
    text.counter(
        "etcd_server_read_indexes_failed_total",
        "Questions to the leader that got no answer in time.",
        sum(fronts, |front| &front.read_indexes_failed),
    );
    text.counter(
        "etcd_server_heartbeat_send_failures_total",
        "Heartbeats that this member sent late as the leader.",
        shared.tallies.heartbeats_late.get(),
    );
    text.gauge(
        "etcd_server_snapshot_apply_in_progress_total",
        "Whether a snapshot of the leader is being put in place.",
        shared.tallies.snapshots_applied_now.get(),
    );
    text.counter(
        "etcd_server_learner_promote_successes",
        "Learners promoted.",
        shared.tallies.learners_promoted.get(),
    );
    text.gauge(
        "etcd_server_quota_backend_bytes",
        "Bytes that the data file may have.",
        quota(common.config.quota_backend_bytes),
    );
}

/// The quota in effect: 0 stands for the default of 2 GiB, a negative one for none.
fn quota(given: i64) -> i64 {
    match given {
        0 => 2 << 30,
        given => given.max(0),
    }
}

fn write_store(text: &mut Text, common: &Common) {
    let view = common.views.load();
    let (stages, fronts) = (&common.shared.tallies, &common.shared.front_tallies);
    for (name, help, value) in [
        (
            "etcd_mvcc_db_total_size_in_bytes",
            "Bytes of the data file.",
            view.db.size(),
        ),
        (
            "etcd_mvcc_db_total_size_in_use_in_bytes",
            "Bytes of the data file that are in use.",
            view.db.size_in_use(),
        ),
        // The newest view, which readers share.
        (
            "etcd_mvcc_db_open_read_transactions",
            "Views of the data file.",
            1,
        ),
        (
            "etcd_debugging_mvcc_keys_total",
            "Keys in the store.",
            view.keys(),
        ),
        (
            "etcd_debugging_mvcc_total_put_size_in_bytes",
            "Bytes of keys and values put.",
            stages.put_bytes.get(),
        ),
        (
            "etcd_debugging_auth_revision",
            "The revision of users and roles.",
            state::Shared::of(&view).map_or(1, |shared| shared.auth_revision),
        ),
    ] {
        text.gauge(name, help, value);
    }
    for (name, help, value) in [
        (
            "etcd_debugging_mvcc_current_revision",
            "The store's revision.",
            view.revision,
        ),
        (
            "etcd_debugging_mvcc_compact_revision",
            "The revision of the last compaction, -1 before the first.",
            view.compact_revision,
        ),
    ] {
        text.gauge(name, help, value);
    }
    let ranges = stages.ranges.get() + sum(fronts, |front| &front.ranges);
    if common.config.emulated == Line::V3_5 {
        text.counter("etcd_debugging_mvcc_range_total", "Ranges read.", ranges);
    }
    for (name, help, value) in [
        ("etcd_mvcc_range_total", "Ranges read.", ranges),
        ("etcd_mvcc_put_total", "Pairs put.", stages.puts.get()),
        (
            "etcd_mvcc_delete_total",
            "Deletions asked for.",
            stages.deletes.get(),
        ),
        (
            "etcd_mvcc_txn_total",
            "Transactions of more than one operation.",
            stages.txns.get() + sum(fronts, |front| &front.txns),
        ),
        (
            "etcd_debugging_mvcc_db_compaction_keys_total",
            "Rows that compactions deleted.",
            stages.compacted_rows.get(),
        ),
    ] {
        text.counter(name, help, value);
    }
}

fn write_watches(text: &mut Text, common: &Common) {
    type Of = fn(&FrontTallies) -> &Tally;
    let fronts = &common.shared.front_tallies;
    let gauges: [(&str, &str, Of); 4] = [
        (
            "etcd_debugging_mvcc_watch_stream_total",
            "Watch streams.",
            |front| &front.watch_streams,
        ),
        ("etcd_debugging_mvcc_watcher_total", "Watchers.", |front| {
            &front.watchers
        }),
        (
            "etcd_debugging_mvcc_slow_watcher_total",
            "Watchers that have not seen all there is.",
            |front| &front.watchers_behind,
        ),
        (
            "etcd_debugging_mvcc_pending_events_total",
            "Events that wait to be sent.",
            |front| &front.events_pending,
        ),
    ];
    for (name, help, of) in gauges {
        text.gauge(name, help, sum(fronts, of));
    }
    text.counter(
        "etcd_debugging_mvcc_events_total",
        "Events sent.",
        sum(fronts, |front| &front.events_sent),
    );
    type Times = fn(&FrontMetrics) -> &Histogram;
    let times: [(&str, &str, Times); 4] = [
        (
            "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds",
            "How long batches of events took to be made ready.",
            |front| &front.watch_events,
        ),
        (
            "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds",
            "The same, by event.",
            |front| &front.watch_per_event,
        ),
        (
            "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds",
            "How long other answers to watchers took to be made ready.",
            |front| &front.watch_control,
        ),
        (
            "etcd_debugging_server_watch_send_loop_progress_duration_seconds",
            "How long progress notifications took to be made ready.",
            |front| &front.watch_progress,
        ),
    ];
    for (name, help, of) in times {
        fronts_histogram(text, &common.metrics, name, help, of);
    }
}

fn fronts_histogram(
    text: &mut Text,
    metrics: &Metrics,
    name: &str,
    help: &str,
    of: impl Fn(&FrontMetrics) -> &Histogram,
) {
    text.head(name, "histogram", help);
    let parts: Vec<&Histogram> = metrics.fronts.iter().map(of).collect();
    write_member_always(text, name, "", &parts);
}

fn write_leases(text: &mut Text, common: &Common) {
    let stages = &common.shared.tallies;
    for (name, help, value) in [
        (
            "etcd_debugging_lease_granted_total",
            "Leases granted.",
            &stages.leases_granted,
        ),
        (
            "etcd_debugging_lease_revoked_total",
            "Leases revoked.",
            &stages.leases_revoked,
        ),
        (
            "etcd_debugging_lease_renewed_total",
            "Renewals of leases.",
            &stages.leases_renewed,
        ),
        (
            "etcd_debugging_server_lease_expired_total",
            "Leases revoked because they expired.",
            &stages.leases_expired,
        ),
    ] {
        text.counter(name, help, value.get());
    }
    let name = "etcd_debugging_lease_ttl_total";
    text.head(name, "histogram", "Times to live of leases granted, in seconds.");
    let mut total = 0;
    for (bucket, count) in stages.lease_ttls.iter().enumerate() {
        total += count.get();
        let mut bound = String::new();
        match bucket == LEASE_TTL_BUCKETS {
            true => bound.push_str("+Inf"),
            #[allow(clippy::cast_precision_loss)] // 2^23 at most.
            false => super::text::push_number(&mut bound, (1u64 << bucket) as f64),
        }
        text.labelled(&format!("{name}_bucket"), &format!("le=\"{bound}\""), total);
    }
    text.plain(&format!("{name}_sum"), stages.lease_ttl_seconds.get());
    text.plain(&format!("{name}_count"), total);
}

fn write_calls(text: &mut Text, metrics: &Metrics) {
    let fronts = &metrics.fronts;
    // RangeStream came with 3.7, but a series at 0 does no harm to other lines.
    let routes: Vec<(usize, String)> = (0..ROUTES)
        .filter(|number| *number < ROUTES_SHOWN || sum(fronts, |front| &front.calls[*number].started) > 0)
        .map(|number| (number, labels(route_of(number))))
        .collect();
    type Of = fn(&super::calls::MethodCalls) -> &Tally;
    let families: [(&str, &str, Of); 3] = [
        ("grpc_server_started_total", "Calls that have begun.", |calls| {
            &calls.started
        }),
        (
            "grpc_server_msg_received_total",
            "Messages of clients.",
            |calls| &calls.received,
        ),
        ("grpc_server_msg_sent_total", "Messages to clients.", |calls| {
            &calls.sent
        }),
    ];
    for (name, help, of) in families {
        text.head(name, "counter", help);
        for (number, labels) in &routes {
            text.labelled(name, labels, sum(fronts, |front| of(&front.calls[*number])));
        }
    }
    let name = "grpc_server_handled_total";
    text.head(name, "counter", "Calls that have ended.");
    // A series for each code of each method from the start, as etcd has them.
    for code_number in 0..CODES {
        let code = Code::from_number(u32::try_from(code_number).unwrap_or(2)).name();
        for (number, labels) in &routes {
            let labels = format!("grpc_code=\"{code}\",{labels}");
            let count = sum(fronts, |front| &front.calls[*number].handled[code_number]);
            text.labelled(name, &labels, count);
        }
    }
    if fronts.iter().any(FrontMetrics::is_extensive) {
        let name = "grpc_server_handling_seconds";
        text.head(name, "histogram", "How long calls took.");
        for (number, labels) in &routes {
            let parts: Vec<&Histogram> = fronts
                .iter()
                .filter_map(|front| front.calls[*number].handling.as_ref())
                .collect();
            write_member_always(text, name, labels, &parts);
        }
    }
    text.counter(
        "etcd_network_client_grpc_received_bytes_total",
        "Bytes of messages of clients.",
        sum(fronts, |front| &front.received_bytes),
    );
    text.counter(
        "etcd_network_client_grpc_sent_bytes_total",
        "Bytes of messages to clients.",
        sum(fronts, |front| &front.sent_bytes),
    );
    let name = "etcd_server_learner_promote_failures";
    text.head(name, "counter", "Learners not promoted, by the reason.");
    for (number, (_, reason)) in NOT_PROMOTED.iter().enumerate() {
        let count = sum(fronts, |front| &front.not_promoted[number]);
        if count > 0 {
            text.labelled(name, &format!("Reason=\"{reason}\""), count);
        }
    }
    write_versions(text, metrics);
}

fn write_versions(text: &mut Text, metrics: &Metrics) {
    let name = "etcd_server_client_requests_total";
    text.head(
        name,
        "counter",
        "Calls by the version that the client says it has.",
    );
    let versions = metrics
        .versions
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    for number in 0..=VERSIONS_MAX {
        let version = versions.get(number).map_or("others", String::as_str);
        for (kind, kind_label) in ["unary", "stream"].into_iter().enumerate() {
            let count = sum(&metrics.fronts, |front| &front.by_version[number][kind]);
            if count > 0 {
                let version = label(version);
                let labels = format!("client_api_version=\"{version}\",type=\"{kind_label}\"");
                text.labelled(name, &labels, count);
            }
        }
    }
}

fn write_requests(text: &mut Text, metrics: &Metrics) {
    let name = "etcd_server_request_duration_seconds";
    text.head(name, "histogram", "How long requests took, with consensus.");
    let mut kinds: Vec<usize> = (0..REQUESTS).collect();
    kinds.sort_by_key(|kind| RequestKind::label(*kind));
    for success in [false, true] {
        for kind in &kinds {
            let parts = metrics.fronts.iter().map(|front| &front.requests);
            let parts = parts.chain([&metrics.stages.own_requests]);
            let parts: Vec<&Histogram> = parts.map(|kinds| &kinds[*kind][usize::from(success)]).collect();
            let label = RequestKind::label(*kind);
            let labels = format!("success=\"{success}\",type=\"{label}\"");
            write_member(text, name, &labels, &parts);
        }
    }
    let name = "etcd_server_range_duration_seconds";
    text.head(name, "histogram", "How long ranges took to read.");
    for success in [false, true] {
        let fronts = metrics.fronts.iter();
        let parts: Vec<&Histogram> = fronts.map(|front| &front.ranges[usize::from(success)]).collect();
        write_member(text, name, &format!("success=\"{success}\""), &parts);
    }
    let name = "etcd_server_apply_duration_seconds";
    text.head(name, "histogram", "How long entries of the log took to apply.");
    for (op, kinds) in state::OpKind::ALL.iter().zip(&metrics.stages.apply) {
        for success in [false, true] {
            let labels = format!("op=\"{}\",success=\"{success}\",version=\"v3\"", op.label());
            write_member(text, name, &labels, &[&kinds[usize::from(success)]]);
        }
    }
    text.counter(
        "etcd_server_slow_apply_total",
        "Requests that took longer than --warning-apply-duration.",
        metrics.stages.slow_applies.load(Ordering::Relaxed) + sum(&metrics.fronts, |front| &front.slow_reads),
    );
}

fn write_stages(text: &mut Text, metrics: &Metrics) {
    let (stages, disk) = (&metrics.stages, &metrics.disk);
    for (name, help, histogram) in [
        (
            "etcd_disk_wal_fsync_duration_seconds",
            "How long syncs of the log took.",
            &disk.wal_fsync,
        ),
        (
            "etcd_disk_wal_write_duration_seconds",
            "How long writes of the log took.",
            &disk.wal_write,
        ),
        (
            "etcd_snap_fsync_duration_seconds",
            "How long syncs of snapshot files took.",
            &disk.snap_fsync,
        ),
        (
            "etcd_disk_backend_commit_duration_seconds",
            "How long transactions of the data file took.",
            &stages.commit,
        ),
        (
            "etcd_debugging_disk_backend_commit_write_duration_seconds",
            "Of these, waiting for the disk.",
            &stages.commit_write,
        ),
        (
            "etcd_debugging_disk_backend_commit_spill_duration_seconds",
            "Of these, making pages.",
            &stages.commit_spill,
        ),
        (
            "etcd_debugging_disk_backend_commit_rebalance_duration_seconds",
            "Part of making pages here: always 0.",
            &stages.commit_rebalance,
        ),
        (
            "etcd_disk_backend_defrag_duration_seconds",
            "How long defragmentations took.",
            &stages.defrag,
        ),
        (
            "etcd_debugging_snap_save_total_duration_seconds",
            "How long snapshot files took to be written.",
            &stages.snap_save,
        ),
        (
            "etcd_debugging_snap_save_marshalling_duration_seconds",
            "How long their contents took to be made.",
            &stages.snap_marshal,
        ),
    ] {
        histogram.write(text, name, help);
    }
    for (name, help, histogram) in [
        (
            "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
            "How long steps of compactions in the index took.",
            &stages.compact_index,
        ),
        (
            "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
            "How long steps of compactions in the data file took.",
            &stages.compact_rows,
        ),
        (
            "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
            "How long compactions took, with their pauses.",
            &stages.compaction,
        ),
    ] {
        histogram.write_millis(text, name, help);
    }
    text.gauge(
        "etcd_debugging_mvcc_db_compaction_last",
        "When the last compaction ended, in seconds since 1970.",
        stages.compaction_last.load(Ordering::Relaxed),
    );
    text.gauge(
        "etcd_disk_defrag_inflight",
        "Whether the data file is being defragmented.",
        stages.defrag_inflight.load(Ordering::Relaxed),
    );
    // A gauge by etcd's kind.
    text.gauge(
        "etcd_disk_wal_write_bytes_total",
        "Bytes written to the log.",
        disk.wal_write_bytes.load(Ordering::Relaxed),
    );
    type Of = fn(&FrontMetrics) -> &Histogram;
    let name = "etcd_disk_backend_snapshot_duration_seconds";
    let help = "How long streams of the data file to clients and members took.";
    text.head(name, "histogram", help);
    let to_clients = metrics.fronts.iter().map(|front| &front.snapshots);
    let parts: Vec<&Histogram> = to_clients.chain([metrics.network.data_files_sent()]).collect();
    write_member_always(text, name, "", &parts);
    let families: [(&str, &str, Of); 2] = [
        (
            "etcd_mvcc_hash_duration_seconds",
            "How long hashes of the data file took.",
            |front| &front.hashes,
        ),
        (
            "etcd_mvcc_hash_rev_duration_seconds",
            "How long hashes of the keys up to a revision took.",
            |front| &front.hashes_of_revisions,
        ),
    ];
    for (name, help, of) in families {
        fronts_histogram(text, metrics, name, help, of);
    }
}

fn write_health(text: &mut Text, metrics: &Metrics) {
    let load = |number: &std::sync::atomic::AtomicU64| number.load(Ordering::Relaxed);
    text.counter(
        "etcd_server_health_success",
        "Health checks that succeeded.",
        load(&metrics.health_success),
    );
    text.counter(
        "etcd_server_health_failures",
        "Health checks that failed.",
        load(&metrics.health_failures),
    );
    let checks = metrics
        .checks
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .clone();
    text.head(
        "etcd_server_healthcheck",
        "gauge",
        "Whether the last check succeeded.",
    );
    for ((kind, name), checked) in &checks {
        let labels = format!("name=\"{name}\",type=\"{kind}\"");
        text.labelled("etcd_server_healthcheck", &labels, u8::from(checked.ok));
    }
    text.head("etcd_server_healthchecks_total", "counter", "Checks made.");
    for ((kind, name), checked) in &checks {
        for (count, status) in checked.counts.iter().zip(["error", "success"]) {
            if *count > 0 {
                let labels = format!("name=\"{name}\",status=\"{status}\",type=\"{kind}\"");
                text.labelled("etcd_server_healthchecks_total", &labels, *count);
            }
        }
    }
    text.gauge(
        "promhttp_metric_handler_requests_in_flight",
        "Pages of metrics being made.",
        load(&metrics.pages[0]),
    );
    let name = "promhttp_metric_handler_requests_total";
    text.head(name, "counter", "Pages of metrics made.");
    for (code, count) in [("200", load(&metrics.pages[1])), ("500", 0), ("503", 0)] {
        text.labelled(name, &format!("code=\"{code}\""), count);
    }
}

fn write_gates(text: &mut Text, gates: &Gates) {
    let name = "etcd_server_feature_enabled";
    text.head(name, "gauge", "Whether a feature gate is on.");
    for gate in ALL_GATES {
        let stage = gate.stage.label();
        let labels = format!("name=\"{}\",stage=\"{stage}\"", gate.name);
        text.labelled(name, &labels, u8::from(gates.is_on(gate.name)));
    }
}

/// What etcd shows although it is of other programs or of stores that are gone, and what a member
/// that is alone never does.
fn write_absent(text: &mut Text, line: Line) {
    const NEVER: &str = "Kept for dashboards: there is no such thing here.";
    for name in [
        "etcd_grpc_proxy_cache_hits_total",
        "etcd_grpc_proxy_cache_keys_total",
        "etcd_grpc_proxy_cache_misses_total",
        "etcd_grpc_proxy_watchers_coalescing_total",
        "etcd_debugging_store_watchers",
    ] {
        text.gauge(name, NEVER, 0u8);
    }
    for name in [
        "etcd_grpc_proxy_events_coalescing_total",
        "etcd_debugging_store_expires_total",
        "etcd_debugging_store_watch_requests_total",
    ] {
        text.counter(name, NEVER, 0u8);
    }
    if line < Line::V3_7 {
        for name in ["reads", "writes"] {
            let name = format!("etcd_debugging_store_{name}_total");
            text.head(&name, "counter", NEVER);
            text.labelled(&name, "action=\"set\"", 0u8);
        }
    }
}

fn write_process(text: &mut Text, process: &Process) {
    text.counter(
        "process_cpu_seconds_total",
        "Seconds of processor time.",
        process.cpu_seconds,
    );
    text.counter(
        "process_network_receive_bytes_total",
        "Bytes that the machine received.",
        process.network[0],
    );
    text.counter(
        "process_network_transmit_bytes_total",
        "Bytes that the machine sent.",
        process.network[1],
    );
    text.gauge(
        "process_start_time_seconds",
        "When the process started, in seconds since 1970.",
        process.start_seconds,
    );
    for (name, help, value) in [
        ("process_open_fds", "Open file descriptors.", process.fds),
        ("process_max_fds", "How many there may be.", process.fds_max),
        ("os_fd_used", "Open file descriptors.", process.fds),
        ("os_fd_limit", "How many there may be.", process.fds_max),
        (
            "process_resident_memory_bytes",
            "Bytes of memory in use.",
            process.resident_bytes,
        ),
        (
            "process_virtual_memory_bytes",
            "Bytes of addresses in use.",
            process.virtual_bytes,
        ),
        (
            "process_virtual_memory_max_bytes",
            "How many there may be.",
            process.virtual_bytes_max,
        ),
    ] {
        text.gauge(name, help, value);
    }
}

/// The names that dashboards read of a program in Go, with what comes nearest here.
fn write_go(text: &mut Text, process: &Process, fronts: usize) {
    const NONE: &str = "Kept for dashboards: 0, there is no garbage collector.";
    const HEAP: &str = "Kept for dashboards: bytes in use that come from no file.";
    const DATA: &str = "Kept for dashboards: bytes asked of the system for data.";
    const STACK: &str = "Kept for dashboards: bytes of the first stack.";
    const THREADS: &str = "Kept for dashboards: threads.";
    one(
        text,
        "go_info",
        "Kept for dashboards: this is no program in Go.",
        "version=\"none\"",
    );
    one(
        text,
        "etcd_server_go_version",
        "Kept for dashboards: this is no program in Go.",
        "server_go_version=\"none\"",
    );
    text.head("go_gc_duration_seconds", "summary", NONE);
    for quantile in ["0", "0.25", "0.5", "0.75", "1"] {
        text.labelled("go_gc_duration_seconds", &format!("quantile=\"{quantile}\""), 0u8);
    }
    text.plain("go_gc_duration_seconds_sum", 0u8);
    text.plain("go_gc_duration_seconds_count", 0u8);
    for (name, help, value) in [
        ("go_goroutines", THREADS, process.threads),
        ("go_threads", THREADS, process.threads),
        (
            "go_sched_gomaxprocs_threads",
            "Kept for dashboards: threads that serve clients.",
            fronts as u64,
        ),
        ("go_gc_gogc_percent", NONE, 0),
        (
            "go_gc_gomemlimit_bytes",
            "Kept for dashboards: no limit.",
            i64::MAX as u64,
        ),
        ("go_memstats_alloc_bytes", HEAP, process.anonymous_bytes),
        ("go_memstats_heap_alloc_bytes", HEAP, process.anonymous_bytes),
        ("go_memstats_heap_inuse_bytes", HEAP, process.anonymous_bytes),
        ("go_memstats_heap_sys_bytes", DATA, process.data_bytes),
        (
            "go_memstats_sys_bytes",
            DATA,
            process.data_bytes + process.stack_bytes,
        ),
        ("go_memstats_stack_inuse_bytes", STACK, process.stack_bytes),
        ("go_memstats_stack_sys_bytes", STACK, process.stack_bytes),
        ("go_memstats_buck_hash_sys_bytes", NONE, 0),
        ("go_memstats_gc_sys_bytes", NONE, 0),
        ("go_memstats_heap_idle_bytes", NONE, 0),
        ("go_memstats_heap_objects", NONE, 0),
        ("go_memstats_heap_released_bytes", NONE, 0),
        ("go_memstats_last_gc_time_seconds", NONE, 0),
        ("go_memstats_mcache_inuse_bytes", NONE, 0),
        ("go_memstats_mcache_sys_bytes", NONE, 0),
        ("go_memstats_mspan_inuse_bytes", NONE, 0),
        ("go_memstats_mspan_sys_bytes", NONE, 0),
        ("go_memstats_next_gc_bytes", NONE, 0),
        ("go_memstats_other_sys_bytes", NONE, 0),
    ] {
        text.gauge(name, help, value);
    }
    for name in [
        "go_memstats_alloc_bytes_total",
        "go_memstats_frees_total",
        "go_memstats_mallocs_total",
    ] {
        text.counter(name, NONE, 0u8);
    }
}
