//! Unary calls that their clients give up while the connection lives on.

use super::*;

/// The value of a line of the page of metrics; 0 if there is none.
fn metric(address: &str, line: &str) -> u64 {
    let (_, page) = get(address, "/metrics");
    let value = page.lines().find_map(|found| found.strip_prefix(line));
    value.map_or(0, |value| value.trim().parse().unwrap())
}

/// A put waits for a second member that never comes, and its client does not.
#[test]
fn a_call_that_waits_is_forgotten_with_its_client() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path(), &[]);
    let address = &running.client[..];
    let mut client = Client::connect(address);
    let second = pb::MemberAddRequest {
        peer_ur_ls: vec!["http://127.0.0.1:1".to_string()],
        ..Default::default()
    };
    let _: pb::MemberAddResponse = client.unary("/etcdserverpb.Cluster/MemberAdd", &second).unwrap();
    let put = pb::PutRequest {
        key: Bytes::from_static(b"k"),
        ..Default::default()
    };
    let given_up = concat!(
        "grpc_server_handled_total{grpc_code=\"Canceled\",grpc_method=\"Put\",",
        "grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"}"
    );
    // What was sent before is there when this is answered.
    let catch_up = |client: &mut Client| {
        let path = "/etcdserverpb.Maintenance/Status";
        let _: pb::StatusResponse = client.unary(path, &pb::StatusRequest::default()).unwrap();
    };
    // The member's patience ends a call as well: where this is slow, it is tried again.
    eventually(true, || {
        let call = client.begin("/etcdserverpb.KV/Put", &put);
        catch_up(&mut client);
        let waits = metric(address, "etcd_server_proposals_pending") > 0;
        drop(call);
        catch_up(&mut client);
        waits && metric(address, given_up) > 0
    });
    eventually(0, || metric(address, "etcd_server_proposals_pending"));
    drop(client);
    running.server.stop(PATIENCE).unwrap();
}
