#!/usr/bin/env python3
"""Makes the golden files of this directory with real etcd.

usage: make.py DIR-OF-ETCD VERSION BBOLT-TOOL    for example: make.py ~/etcd-3.6.14 3.6 ~/bin/bbolt

DIR-OF-ETCD holds etcd, etcdctl. For VERSION, writes VERSION-full.db (before any compaction), VERSION-compacted.db, and
VERSION.txt: what etcd answered. Lines: `range STATE REVISION KEY CREATE MOD VERSION VALUE LEASE`,
`hashkv STATE REVISION HASH COMPACT-REVISION`; STATE is full, cached (after the compaction, hash from its cache) or compacted
(after a restart). Keys and values are in hex.
"""
import base64, json, os, shutil, subprocess, sys, tempfile, time

etcd_dir, version, bbolt = sys.argv[1:4]
work = tempfile.mkdtemp()
data = os.path.join(work, "data")
client, peer = "http://127.0.0.1:23971", "http://127.0.0.1:23972"
here = os.path.dirname(os.path.abspath(__file__))
lines = []


def start():
    log = open(os.path.join(work, "log"), "ab")
    process = subprocess.Popen(
        [os.path.join(etcd_dir, "etcd"), "--data-dir", data, "--listen-client-urls", client,
         "--advertise-client-urls", client, "--listen-peer-urls", peer,
         "--initial-advertise-peer-urls", peer, "--initial-cluster", "default=" + peer],
        stdout=log, stderr=log)
    for _ in range(200):
        time.sleep(0.1)
        if subprocess.run([os.path.join(etcd_dir, "etcdctl"), "--endpoints", client, "endpoint", "health"],
                          capture_output=True).returncode == 0:
            return process
    sys.exit("etcd does not start: " + log.name)


def stop(process):
    process.terminate()
    process.wait()


def ctl(*arguments, stdin=None):
    run = subprocess.run([os.path.join(etcd_dir, "etcdctl"), "--endpoints", client, *arguments],
                         capture_output=True, text=True, input=stdin)
    if run.returncode != 0:
        sys.exit(f"{arguments}: {run.stderr}")
    return run.stdout


def text(encoded):
    return base64.b64decode(encoded).hex() or "-"


def record(state, revisions):
    for revision in revisions:
        answer = json.loads(ctl("get", "", "--prefix", "--rev", str(revision), "-w", "json"))
        for kv in answer.get("kvs", []):
            lines.append(f"range {state} {revision} {text(kv['key'])} {kv['create_revision']} {kv['mod_revision']} "
                         f"{kv['version']} {text(kv.get('value', ''))} {kv.get('lease', 0)}")
    hashes(state, revisions)


def hashes(state, revisions):
    for revision in revisions:
        answer = json.loads(ctl("endpoint", "hashkv", "--rev", str(revision), "-w", "json"))[0]["HashKV"]
        compact = answer.get("compact_revision", 0)
        lines.append(f"hashkv {state} {revision} {answer['hash']} {compact}")


def save(state):
    shutil.copy(os.path.join(data, "member", "snap", "db"), os.path.join(work, "db"))
    out = os.path.join(here, f"{version}-{state}.db")
    if os.path.exists(out):
        os.remove(out)
    subprocess.run([bbolt, "compact", "-o", out, os.path.join(work, "db")], check=True, capture_output=True)
    os.chmod(out, 0o644)


process = start()
lease = ctl("lease", "grant", "86400").split()[1]
for number in range(6):
    ctl("put", f"key{number}", f"value {number}")
ctl("put", "leased", "x", "--lease", lease)
ctl("put", "unleased", "x", "--lease", lease)
ctl("put", "unleased", "y")
for number in range(4):
    ctl("put", "key1", "again " * (number + 1))
ctl("del", "key2")
ctl("put", "key2", "born again")
ctl("txn", stdin='\n\nput key0 "from a txn"\nput other ""\ndel key5\n\n\n\n')
ctl("del", "key3", "key5")
for number in range(3):
    ctl("put", "key4", f"late {number}")
ctl("del", "leased")
ctl("put", "leased", "z", "--lease", lease)
newest = json.loads(ctl("get", "none", "-w", "json"))["header"]["revision"]
record("full", range(2, newest + 1))
stop(process)
save("full")
process = start()
# At this revision a range was deleted: its tombstones stay.
deleted_at = next(r for r in range(newest, 1, -1)
                  if any(f"range full {r - 1} {b'key3'.hex()} " in line for line in lines)
                  and not any(f"range full {r} {b'key3'.hex()} " in line for line in lines))
ctl("compaction", str(deleted_at), "--physical")
hashes("cached", range(deleted_at, newest + 1))
stop(process)
process = start()
record("compacted", range(deleted_at, newest + 1))
stop(process)
save("compacted")
with open(os.path.join(here, f"{version}.txt"), "w") as out:
    out.write("\n".join(lines) + "\n")
shutil.rmtree(work)
