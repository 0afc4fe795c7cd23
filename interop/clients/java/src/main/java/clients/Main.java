package clients;

import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.KeyValue;
import io.etcd.jetcd.op.Cmp;
import io.etcd.jetcd.op.CmpTarget;
import io.etcd.jetcd.op.Op;
import io.etcd.jetcd.options.CompactOption;
import io.etcd.jetcd.options.DeleteOption;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.LeaseOption;
import io.etcd.jetcd.options.PutOption;
import io.etcd.jetcd.options.WatchOption;
import io.etcd.jetcd.support.Observers;
import io.etcd.jetcd.watch.WatchEvent;
import io.etcd.jetcd.watch.WatchResponse;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

/** Drives a server of etcd's API with the Java client jetcd; ends at the first difference. */
public final class Main {
    private interface Part {
        void run(Client client) throws Exception;
    }

    public static void main(String[] args) {
        String endpoint = System.getenv("ENDPOINT");
        try (Client client = Client.builder().endpoints(endpoint).build()) {
            run("kv", Main::kv, client);
            run("txn", Main::txn, client);
            run("watch", Main::watch, client);
            run("lease", Main::lease, client);
            run("compaction", Main::compaction, client);
            run("cluster", each -> cluster(each, endpoint), client);
        } catch (Throwable difference) {
            difference.printStackTrace();
            System.exit(1);
        }
        System.exit(0);
    }

    private static void run(String name, Part part, Client client) throws Exception {
        long started = System.currentTimeMillis();
        part.run(client);
        System.out.printf("ok java %s (%.1f s)%n", name, (System.currentTimeMillis() - started) / 1000.0);
    }

    private static void kv(Client client) throws Exception {
        var kv = client.getKVClient();
        long first = done(kv.put(bytes("java/kv/a"), bytes("1"))).getHeader().getRevision();
        var put = done(kv.put(bytes("java/kv/a"), bytes("2"), PutOption.builder().withPrevKV().build()));
        same(put.getPrevKv().getValue(), bytes("1"));
        done(kv.put(bytes("java/kv/b"), ByteSequence.from(new byte[] {0, -1})));
        done(kv.put(bytes("java/kv0"), bytes("outside")));
        KeyValue found = done(kv.get(bytes("java/kv/a"))).getKvs().get(0);
        same(List.of(found.getCreateRevision(), found.getModRevision(), found.getVersion()), List.of(first, first + 1, 2L));
        var past = done(kv.get(bytes("java/kv/a"), GetOption.builder().withRevision(first).build()));
        same(past.getKvs().get(0).getValue(), bytes("1"));
        var descending = GetOption.builder().isPrefix(true).withLimit(1)
                .withSortField(GetOption.SortTarget.KEY).withSortOrder(GetOption.SortOrder.DESCEND).build();
        var range = done(kv.get(bytes("java/kv/"), descending));
        same(List.of(range.getKvs().get(0).getKey(), range.isMore(), range.getCount()), List.of(bytes("java/kv/b"), true, 2L));
        var deleted = done(kv.delete(bytes("java/kv/a"), DeleteOption.builder().withPrevKV(true).build()));
        same(List.of(deleted.getDeleted(), deleted.getPrevKvs().get(0).getValue()), List.of(1L, bytes("2")));
        same(done(kv.delete(bytes("java/kv/a"))).getDeleted(), 0L);
        same(done(kv.delete(bytes("java/kv"), DeleteOption.builder().isPrefix(true).build())).getDeleted(), 2L);
    }

    private static void txn(Client client) throws Exception {
        var kv = client.getKVClient();
        ByteSequence key = bytes("java/txn/a");
        done(kv.put(key, bytes("1")));
        Cmp[] compares = {
            new Cmp(key, Cmp.Op.EQUAL, CmpTarget.value(bytes("1"))),
            new Cmp(key, Cmp.Op.GREATER, CmpTarget.version(0)),
            new Cmp(bytes("java/txn/b"), Cmp.Op.EQUAL, CmpTarget.createRevision(0)),
        };
        Op read = Op.get(key, GetOption.DEFAULT);
        Op[] then = {Op.put(key, bytes("2"), PutOption.DEFAULT), read};
        Op[] other = {Op.delete(key, DeleteOption.DEFAULT), Op.txn(new Cmp[] {}, new Op[] {read}, new Op[] {})};
        var first = done(kv.txn().If(compares).Then(then).Else(other).commit());
        KeyValue found = first.getGetResponses().get(0).getKvs().get(0);
        same(List.of(first.isSucceeded(), found.getValue()), List.of(true, bytes("2")));
        same(found.getModRevision(), first.getHeader().getRevision());
        var second = done(kv.txn().If(compares).Then(then).Else(other).commit());
        same(List.of(second.isSucceeded(), second.getDeleteResponses().get(0).getDeleted()), List.of(false, 1L));
        same(second.getTxnResponses().get(0).getGetResponses().get(0).getCount(), 0L);
        Op put = Op.put(key, bytes("3"), PutOption.DEFAULT);
        refused("INVALID_ARGUMENT: etcdserver: duplicate key given in txn request", kv.txn().Then(put, put).commit());
    }

    private static void watch(Client client) throws Exception {
        var kv = client.getKVClient();
        done(kv.delete(bytes("java/watch/"), DeleteOption.builder().isPrefix(true).build()));
        long start = done(kv.put(bytes("java/watch/a"), bytes("1"))).getHeader().getRevision();
        done(kv.put(bytes("java/watch/a"), bytes("2")));
        done(kv.delete(bytes("java/watch/a")));
        BlockingQueue<WatchResponse> responses = new LinkedBlockingQueue<>();
        var options = WatchOption.builder().isPrefix(true).withRevision(start).withPrevKV(true)
                .withProgressNotify(true).build();
        try (var watcher = client.getWatchClient().watch(bytes("java/watch/"), options, responses::add)) {
            long last = done(kv.put(bytes("java/watch/b"), bytes("3"))).getHeader().getRevision();
            List<String> events = new ArrayList<>();
            while (events.size() < 4) {
                for (WatchEvent event : next(responses).getEvents()) {
                    KeyValue now = event.getKeyValue();
                    events.add(String.format("%s %s=%s (%s) %d", event.getEventType(), now.getKey(), now.getValue(),
                            event.getPrevKV().getValue(), now.getModRevision() - start));
                }
            }
            same(events, List.of("PUT java/watch/a=1 () 0", "PUT java/watch/a=2 (1) 1",
                    "DELETE java/watch/a= (2) 2", "PUT java/watch/b=3 () 3"));
            client.getWatchClient().requestProgress();
            WatchResponse progress = next(responses);
            same(List.of(progress.isProgressNotify(), progress.getHeader().getRevision()), List.of(true, last));
        }
    }

    private static void lease(Client client) throws Exception {
        var kv = client.getKVClient();
        var leases = client.getLeaseClient();
        ByteSequence key = bytes("java/lease/a");
        String missing = "NOT_FOUND: etcdserver: requested lease not found";
        var granted = done(leases.grant(30));
        long id = granted.getID();
        same(granted.getTTL(), 30L);
        done(kv.put(key, bytes("1"), PutOption.builder().withLeaseId(id).build()));
        same(done(kv.get(key)).getKvs().get(0).getLease(), id);
        same(done(leases.keepAliveOnce(id)).getTTL(), 30L);
        BlockingQueue<Long> kept = new LinkedBlockingQueue<>();
        try (var keeper = leases.keepAlive(id, Observers.observer(answer -> kept.add(answer.getTTL())))) {
            same(next(kept), 30L);
        }
        var left = done(leases.timeToLive(id, LeaseOption.builder().withAttachedKeys().build()));
        same(List.of(left.getGrantedTTL(), left.getKeys()), List.of(30L, List.of(key)));
        done(leases.revoke(id));
        same(done(kv.get(key)).getCount(), 0L);
        same(done(leases.timeToLive(id, LeaseOption.DEFAULT)).getTTL(), -1L);
        refused(missing, leases.revoke(id));
        refused(missing, kv.put(key, bytes("1"), PutOption.builder().withLeaseId(id).build()));
        BlockingQueue<WatchResponse> responses = new LinkedBlockingQueue<>();
        ByteSequence briefKey = bytes("java/lease/brief");
        long brief = done(leases.grant(1)).getID();
        long put = done(kv.put(briefKey, bytes("1"), PutOption.builder().withLeaseId(brief).build())).getHeader().getRevision();
        var after = WatchOption.builder().withRevision(put + 1).build();
        try (var watcher = client.getWatchClient().watch(briefKey, after, responses::add)) {
            same(next(responses).getEvents().get(0).getEventType(), WatchEvent.EventType.DELETE);
        }
    }

    private static void compaction(Client client) throws Exception {
        var kv = client.getKVClient();
        String compacted = "etcdserver: mvcc: required revision has been compacted";
        ByteSequence key = bytes("java/compact/a");
        long old = done(kv.put(key, bytes("1"))).getHeader().getRevision();
        long now = done(kv.put(key, bytes("2"))).getHeader().getRevision();
        done(kv.compact(now, CompactOption.builder().withCompactPhysical(true).build()));
        refused("OUT_OF_RANGE: " + compacted, kv.get(key, GetOption.builder().withRevision(old).build()));
        refused("OUT_OF_RANGE: " + compacted, kv.compact(old));
        refused("OUT_OF_RANGE: etcdserver: mvcc: required revision is a future revision",
                kv.get(key, GetOption.builder().withRevision(now + 1000).build()));
        BlockingQueue<Throwable> errors = new LinkedBlockingQueue<>();
        var options = WatchOption.builder().withRevision(old).build();
        try (var watcher = client.getWatchClient().watch(key, options, response -> {}, errors::add)) {
            same(next(errors).getMessage(), compacted);
        }
    }

    private static void cluster(Client client, String endpoint) throws Exception {
        var members = done(client.getClusterClient().listMember()).getMembers();
        var member = members.get(0);
        same(List.of(members.size(), member.getName(), member.isLearner()), List.of(1, "default", false));
        same(List.of(member.getPeerURIs().size(), member.getClientURIs().size()), List.of(1, 1));
        var status = done(client.getMaintenanceClient().statusMember(endpoint));
        same(List.of(status.getLeader(), status.getErrorList().size()), List.of(member.getId(), 0));
        same(status.getDbSize() > 0 && status.getRaftIndex() > 0 && status.getRaftAppliedIndex() > 0, true);
        same(status.getVersion().matches("3\\.[567]\\..*"), true);
        same(done(client.getMaintenanceClient().listAlarms()).getAlarms().size(), 0);
    }

    private static ByteSequence bytes(String text) {
        return ByteSequence.from(text, StandardCharsets.UTF_8);
    }

    private static <T> T done(CompletableFuture<T> future) throws Exception {
        return future.get(10, TimeUnit.SECONDS);
    }

    private static <T> T next(BlockingQueue<T> queue) throws Exception {
        T next = queue.poll(10, TimeUnit.SECONDS);
        if (next == null) {
            throw new AssertionError("nothing came within 10 s");
        }
        return next;
    }

    private static void refused(String text, CompletableFuture<?> future) throws Exception {
        try {
            done(future);
        } catch (ExecutionException error) {
            same(error.getCause().getMessage(), text);
            return;
        }
        throw new AssertionError("not refused: " + text);
    }

    private static void same(Object got, Object wanted) {
        if (!got.equals(wanted)) {
            throw new AssertionError("got " + got + ", wanted " + wanted);
        }
    }
}
