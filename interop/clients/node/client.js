// Drives a server of etcd's API with the Node client `etcd3`; ends at the first difference.

'use strict';

const assert = require('assert').strict;
const { once } = require('events');
const { createRequire } = require('module');
const path = require('path');

// The packages are installed beside the build, not beside this file.
const { Etcd3, EtcdLockFailedError } = createRequire(path.join(process.cwd(), 'package.json'))('etcd3');

const text = kv => [kv.key.toString(), kv.value.toString(), Number(kv.mod_revision)];

async function kv(client) {
  const first = Number((await client.put('js/kv/a').value('1')).header.revision);
  assert.equal((await client.put('js/kv/a').value('2').getPrevious()).value.toString(), '1');
  await client.put('js/kv/b').value(Buffer.from([0, 255]));
  await client.put('js/kv0').value('outside');
  const [found] = (await client.get('js/kv/a').exec()).kvs;
  assert.deepEqual([...text(found), Number(found.create_revision), found.version], ['js/kv/a', '2', first + 1, first, '2']);
  assert.equal(await client.get('js/kv/a').revision(first).string(), '1');
  assert.equal(await client.get('js/kv/none'), null);
  assert.deepEqual(await client.get('js/kv/b').buffer(), Buffer.from([0, 255]));
  assert.deepEqual(await client.getAll().prefix('js/kv/').sort('Key', 'Descend').keys(), ['js/kv/b', 'js/kv/a']);
  assert.equal(await client.getAll().prefix('js/kv/').count(), 2);
  const limited = await client.getAll().prefix('js/kv/').limit(1).exec();
  assert.deepEqual([limited.kvs.length, limited.more, limited.count], [1, true, '2']);
  assert.deepEqual((await client.delete().key('js/kv/a').getPrevious()).map(kv => kv.value.toString()), ['2']);
  assert.equal((await client.delete().key('js/kv/a')).deleted, '0');
  assert.equal((await client.delete().prefix('js/kv')).deleted, '2');
}

async function txn(client) {
  await client.put('js/txn/a').value('1');
  const commit = () =>
    client
      .if('js/txn/a', 'Value', '==', '1')
      .and('js/txn/a', 'Version', '>', 0)
      .and('js/txn/b', 'Create', '==', 0)
      .then(client.put('js/txn/a').value('2'), client.get('js/txn/a'))
      .else(client.delete().key('js/txn/a'), client.get('js/txn/a'))
      .commit();
  const then = await commit();
  assert.equal(then.succeeded, true);
  const [read] = then.responses[1].response_range.kvs;
  assert.deepEqual(text(read), ['js/txn/a', '2', Number(then.header.revision)]);
  const other = await commit();
  assert.equal(other.succeeded, false);
  assert.equal(other.responses[0].response_delete_range.deleted, '1');
  assert.equal(other.responses[1].response_range.count, '0');
  await client.put('js/txn/n').value('1');
  await client.stm().transact(tx => tx.get('js/txn/n').number().then(n => tx.put('js/txn/n').value(n + 1)));
  assert.equal(await client.get('js/txn/n').number(), 2);
}

async function watch(client) {
  await client.delete().prefix('js/watch/');
  const start = Number((await client.put('js/watch/a').value('1')).header.revision);
  await client.put('js/watch/a').value('2');
  await client.delete().key('js/watch/a');
  const watcher = client.watch().prefix('js/watch/').withPreviousKV().startRevision(String(start)).watcher();
  const events = [];
  const all = new Promise((resolve, reject) => {
    watcher.on('error', reject);
    watcher.on('data', response => {
      for (const { type, kv, prev_kv } of response.events) {
        const [key, value, revision] = text(kv);
        events.push([type, key, value, prev_kv ? prev_kv.value.toString() : null, revision - start]);
      }
      if (events.length >= 4) resolve();
    });
  });
  await once(watcher, 'connected');
  await client.put('js/watch/b').value('3');
  await all;
  assert.deepEqual(events, [
    ['Put', 'js/watch/a', '1', null, 0],
    ['Put', 'js/watch/a', '2', '1', 1],
    ['Delete', 'js/watch/a', '', '2', 2],
    ['Put', 'js/watch/b', '3', null, 3],
  ]);
  await watcher.cancel();
}

async function lease(client) {
  const held = client.lease(30, { autoKeepAlive: false });
  const ID = await held.grant();
  await held.put('js/lease/a').value('1');
  assert.equal((await client.get('js/lease/a').exec()).kvs[0].lease, ID);
  assert.equal((await held.keepaliveOnce()).TTL, '30');
  const alive = await client.leaseClient.leaseTimeToLive({ ID, keys: true });
  assert.deepEqual([alive.grantedTTL, alive.keys.map(String)], ['30', ['js/lease/a']]);
  assert.ok((await client.leaseClient.leaseLeases()).leases.some(lease => lease.ID === ID));
  await held.revoke();
  assert.equal(await client.get('js/lease/a'), null);
  assert.equal((await client.leaseClient.leaseTimeToLive({ ID })).TTL, '-1');
  await assert.rejects(client.leaseClient.leaseRevoke({ ID }), /requested lease not found/);
  await assert.rejects(client.put('js/lease/a').value('1').lease(ID), /requested lease not found/);
  // Kept alive over the first lease time, then left to run out.
  const brief = client.lease(1);
  await brief.put('js/lease/brief').value('1');
  await once(brief, 'keepaliveSucceeded');
  const watcher = await client.watch().key('js/lease/brief').create();
  brief.release();
  await once(watcher, 'delete');
  await watcher.cancel();
}

async function lock(client) {
  await client.lock('js/lock').ttl(30).do(async () => {
    await assert.rejects(client.lock('js/lock').ttl(30).acquire(), EtcdLockFailedError);
  });
  const again = await client.lock('js/lock').ttl(30).acquire();
  await again.release();
}

async function election(client) {
  const election = client.election('js', 30);
  const first = await election.campaign('first').wait();
  assert.equal(await election.leader(), 'first');
  const observer = await election.observe();
  await first.proclaim('first again');
  while (observer.leader() !== 'first again') await once(observer, 'change');
  const second = election.campaign('second');
  const elected = second.wait();
  await second.getCampaignKey();
  await first.resign();
  await elected;
  assert.equal(await election.leader(), 'second');
  while (observer.leader() !== 'second') await once(observer, 'change');
  await observer.cancel();
  await second.resign();
}

async function compaction(client) {
  const old = (await client.put('js/compact/a').value('1')).header.revision;
  const now = (await client.put('js/compact/a').value('2')).header.revision;
  await client.kv.compact({ revision: now, physical: true });
  await assert.rejects(client.get('js/compact/a').revision(old).string(), /required revision has been compacted/);
  await assert.rejects(client.kv.compact({ revision: old }), /required revision has been compacted/);
  await assert.rejects(client.get('js/compact/a').revision(Number(now) + 1000).string(), /is a future revision/);
  // The client has no words for the compacted revision, and etcd sends none of its own.
  const watcher = client.watch().key('js/compact/a').startRevision(old).watcher();
  const [error] = await once(watcher, 'error');
  assert.equal(error.message, 'Watcher canceled: ');
}

async function cluster(client) {
  const { members } = await client.cluster.memberList({});
  const status = await client.maintenance.status();
  assert.equal(members.length, 1);
  const [{ ID, name, peerURLs, clientURLs }] = members;
  assert.deepEqual([name, peerURLs.length, clientURLs.length], ['default', 1, 1]);
  assert.deepEqual([status.leader, status.header.member_id], [ID, ID]);
  assert.match(status.version, /^3\.[567]\./);
  assert.ok(Number(status.dbSize) > 0 && Number(status.raftIndex) > 0);
  assert.deepEqual((await client.maintenance.alarm({ action: 'GET' })).alarms, []);
}

async function main() {
  const client = new Etcd3({ hosts: process.env.ENDPOINT });
  for (const part of [kv, txn, watch, lease, lock, election, compaction, cluster]) {
    const started = Date.now();
    await part(client);
    console.log(`ok node ${part.name} (${(Date.now() - started) / 1000} s)`);
  }
  client.close();
}

setTimeout(() => fail(new Error('not done after 60 s')), 60000).unref();
const fail = error => {
  console.error(error);
  process.exit(1);
};
main().catch(fail);
