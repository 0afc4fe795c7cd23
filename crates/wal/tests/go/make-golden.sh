#!/usr/bin/env bash
# usage: make-golden.sh LINE WALTOOL ETCD ETCDCTL
# Makes ../golden/LINE-*: logs written by Go etcd, zero tails cut off, and what Go reads from them.
set -euo pipefail
line=$1 tool=$2 etcd=$3 etcdctl=$4
golden=$(cd "$(dirname "$0")/.." && pwd)/golden
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# finish NAME INDEX TERM: keeps what is in $work/wal as golden directory NAME.
finish() {
	local out=$golden/$line-$1
	rm -rf "$out" && mkdir -p "$out"
	cp "$work"/wal/*.wal "$out"
	for file in "$out"/*.wal; do
		# Zeros at the end come back when the test extends the file.
		python3 -c 'import sys; p = sys.argv[1]; b = open(p, "rb").read().rstrip(b"\0"); open(p, "wb").write(b + b"\0" * (-len(b) % 8))' "$file"
	done
	"$tool" marks "$work/wal" >"$out/expect"
	"$tool" dump "$work/wal" "$2" "$3" >>"$out/expect" || true
	rm -rf "$work/wal"
}

"$tool" write "$work/wal" create save:1:1:3:100:2 mark:1:2 save:2:3:5:700:4 commit:2:5
finish rewritten 0 0
"$tool" write "$work/wal" segment:3000 create save:1:1:6:900:2 save:1:7:6:900:8 mark:1:8 save:2:12:6:900:12 commit:2:13 save:2:18:6:900:18 save:2:24:1:10:19
finish segments 0 0
"$tool" write "$work/wal" segment:3000 create save:1:1:6:900:2 save:1:7:6:900:8 mark:1:8 save:2:12:6:900:12 commit:2:13 save:2:18:6:900:18 save:2:24:1:10:19
finish from-mark 8 1

# A member of its own, killed while it runs.
"$etcd" --name m --data-dir "$work/data" --listen-client-urls http://127.0.0.1:23790 --advertise-client-urls http://127.0.0.1:23790 \
	--listen-peer-urls http://127.0.0.1:23800 --initial-advertise-peer-urls http://127.0.0.1:23800 --initial-cluster m=http://127.0.0.1:23800 \
	--snapshot-count 10 --log-level error >"$work/log" 2>&1 &
pid=$!
for _ in $(seq 100); do
	"$etcdctl" --endpoints 127.0.0.1:23790 endpoint health >/dev/null 2>&1 && break
	sleep 0.1
done
for n in $(seq 15); do "$etcdctl" --endpoints 127.0.0.1:23790 put "key$n" "value $n" >/dev/null; done
kill -9 $pid
wait $pid 2>/dev/null || true
cp "$work"/data/member/snap/*.snap "$work"
mv "$work/data/member/wal" "$work/wal"
finish member 0 0
snap=$(ls "$work"/*.snap | tail -1)
cp "$snap" "$golden/$line-member/"
"$tool" snap "$snap" >"$golden/$line-member/expect-snap"
