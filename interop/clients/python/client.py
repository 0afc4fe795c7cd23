"""Drives a server of etcd's API with the Python client `etcd3`; ends at the first difference."""

import os
import queue
import time
from urllib.parse import urlsplit

import etcd3
import grpc

WAIT = 10


def same(got, wanted):
    if got != wanted:
        raise AssertionError(f"got {got!r}, wanted {wanted!r}")


def refused(code, text, call):
    try:
        call()
    except grpc.RpcError as error:
        same((error.code(), error.details()), (code, text))
    else:
        raise AssertionError(f"not refused: {text}")


def kv(client):
    first = client.put("py/kv/a", "1").header.revision
    same(client.put("py/kv/a", "2", prev_kv=True).prev_kv.value, b"1")
    client.put("py/kv/b", b"\x00\xff")
    client.put("py/kv0", "outside")
    value, meta = client.get("py/kv/a")
    same((value, meta.version, meta.create_revision), (b"2", 2, first))
    same((meta.mod_revision, meta.lease_id), (first + 1, 0))
    same(client.get("py/kv/none"), (None, None))
    found = client.get_prefix("py/kv/", sort_order="descend", sort_target="key")
    same([(meta.key, value) for value, meta in found], [(b"py/kv/b", b"\x00\xff"), (b"py/kv/a", b"2")])
    same([value for value, _ in client.get_prefix("py/kv/", keys_only=True)], [b"", b""])
    deleted = client.delete("py/kv/a", prev_kv=True, return_response=True)
    same((deleted.deleted, deleted.prev_kvs[0].value), (1, b"2"))
    same(client.delete("py/kv/a"), False)
    same(client.delete_prefix("py/kv").deleted, 2)


def txn(client):
    ops = client.transactions
    client.put("py/txn/a", "1")
    call = lambda: client.transaction(
        compare=[ops.value("py/txn/a") == "1", ops.version("py/txn/a") > 0, ops.create("py/txn/b") == 0],
        success=[ops.put("py/txn/a", "2"), ops.get("py/txn/a")],
        failure=[ops.delete("py/txn/a"), ops.get("py/txn/a")],
    )
    succeeded, (put, found) = call()
    same((succeeded, found[0][0]), (True, b"2"))
    same(found[0][1].mod_revision, put.response_put.header.revision)
    succeeded, (deleted, found) = call()
    same((succeeded, deleted.response_delete_range.deleted, found), (False, 1, []))
    same(client.put_if_not_exists("py/txn/a", "3"), True)
    same(client.replace("py/txn/a", "4", "5"), False)
    twice = [ops.put("py/txn/a", "1"), ops.put("py/txn/a", "2")]
    refused(
        grpc.StatusCode.INVALID_ARGUMENT,
        "etcdserver: duplicate key given in txn request",
        lambda: client.transaction(compare=[], success=twice, failure=[]),
    )


def watch(client):
    client.delete_prefix("py/watch/")
    start = client.put("py/watch/a", "1").header.revision
    client.put("py/watch/a", "2")
    client.delete("py/watch/a")
    responses = queue.Queue()
    watch_id = client.add_watch_prefix_callback(
        "py/watch/", responses.put, start_revision=start, prev_kv=True, progress_notify=True
    )
    client.put("py/watch/b", "3")
    events = []
    while len(events) < 4:
        events += responses.get(timeout=WAIT).events
    seen = [(type(e).__name__, e.key, e.value, e.prev_value, e.mod_revision - start) for e in events]
    same(
        seen,
        [
            ("PutEvent", b"py/watch/a", b"1", b"", 0),
            ("PutEvent", b"py/watch/a", b"2", b"1", 1),
            ("DeleteEvent", b"py/watch/a", b"", b"2", 2),
            ("PutEvent", b"py/watch/b", b"3", b"", 3),
        ],
    )
    client.cancel_watch(watch_id)


def lease(client):
    held = client.lease(30)
    same((held.ttl, held.granted_ttl), (30, 30))
    client.put("py/lease/a", "1", lease=held)
    same(client.get("py/lease/a")[1].lease_id, held.id)
    same(list(held.keys), [b"py/lease/a"])
    same([answer.TTL for answer in held.refresh()], [30])
    same(held.remaining_ttl in (29, 30), True)
    held.revoke()
    same(client.get("py/lease/a"), (None, None))
    same((held.remaining_ttl, held.granted_ttl), (-1, 0))
    same([answer.TTL for answer in held.refresh()], [0])
    missing = "etcdserver: requested lease not found"
    refused(grpc.StatusCode.NOT_FOUND, missing, held.revoke)
    refused(grpc.StatusCode.NOT_FOUND, missing, lambda: client.put("py/lease/a", "1", lease=held))
    chosen = client.lease(30, lease_id=4711)
    same(chosen.id, 4711)
    try:
        client.lease(30, lease_id=4711)
        raise AssertionError("the lease is granted twice")
    except etcd3.exceptions.PreconditionFailedError:
        pass
    chosen.revoke()
    brief = client.lease(1)
    client.put("py/lease/brief", "1", lease=brief)
    removed = client.watch_once("py/lease/brief", timeout=WAIT)
    same(type(removed).__name__, "DeleteEvent")


def lock(client):
    first, second = client.lock("py", ttl=30), client.lock("py", ttl=30)
    same((first.acquire(timeout=1), first.is_acquired()), (True, True))
    same((second.acquire(timeout=1), second.is_acquired()), (False, False))
    same((first.release(), second.acquire(timeout=WAIT)), (True, True))
    same((first.is_acquired(), second.is_acquired(), second.release()), (False, True, True))


def compaction(client):
    old = client.put("py/compact/a", "1").header.revision
    now = client.put("py/compact/a", "2").header.revision
    client.compact(now)
    gone = "etcdserver: mvcc: required revision has been compacted"
    refused(grpc.StatusCode.OUT_OF_RANGE, gone, lambda: client.compact(old))
    ahead = "etcdserver: mvcc: required revision is a future revision"
    refused(grpc.StatusCode.OUT_OF_RANGE, ahead, lambda: client.compact(now + 1000))
    responses, _ = client.watch_response("py/compact/a", start_revision=old)
    try:
        next(responses)
        raise AssertionError("the watch is not refused")
    except etcd3.exceptions.RevisionCompactedError as error:
        same(error.compacted_revision, now)


def cluster(client):
    (member,) = client.members
    status = client.status()
    same((status.leader.id, member.name), (member.id, "default"))
    same((len(list(member.peer_urls)), len(list(member.client_urls))), (1, 1))
    same((status.db_size > 0, status.raft_index > 0, status.raft_term > 0), (True, True, True))
    same(list(client.list_alarms()), [])


def main():
    address = urlsplit(os.environ["ENDPOINT"])
    client = etcd3.client(host=address.hostname, port=address.port, timeout=WAIT)
    for part in (kv, txn, watch, lease, lock, compaction, cluster):
        started = time.monotonic()
        part(client)
        print(f"ok python {part.__name__} ({time.monotonic() - started:.1f} s)", flush=True)


main()
