//! Clients and watchers as the world moves them: who asks whom, what comes back, who gives up.

use std::time::Duration;

use bytes::Bytes;
use member::frontend::{Context, Method, Outcome, Token};

use crate::client::{Op, Waiting, disarm};
use crate::node::{FRONTS, FromFront};
use crate::questions::PEERS;
use crate::world::{COPIERS, Event, LESSEES, WATCHERS, World};

/// One of so many acknowledged writes is looked for on the disks.
const LOOKS_AT_DISKS: u8 = 16;
/// How many entries before one a change of members may lie that was committed with it.
const COMMITTED_TOGETHER_MAX: usize = 16;

impl World {
    pub(crate) fn reply(&mut self, place: usize, front: usize, token: Token, what: FromFront) {
        let Some(running) = &mut self.nodes[place].running else {
            return;
        };
        let Some(owner) = running.owners[front].get(&token).copied() else {
            return;
        };
        match what {
            // Who copies comes by itself, slowly.
            FromFront::Wake if owner >= COPIERS => {}
            FromFront::Wake if owner >= LESSEES => self.lessee_reads(owner - LESSEES, place, front, token),
            FromFront::Wake if owner >= WATCHERS => self.watcher_reads(owner - WATCHERS, place, front, token),
            FromFront::Wake => {}
            FromFront::Reply(result) => {
                running.owners[front].remove(&token);
                if owner == PEERS {
                    return self.peer_call_done(place, token, result);
                }
                if owner >= LESSEES {
                    return self.lease_granted(owner - LESSEES, token, result.is_ok());
                }
                let waiting = self.clients[owner]
                    .waiting
                    .take_if(|waiting| waiting.token == token);
                if let Some(waiting) = waiting {
                    self.answered(owner, waiting, result);
                }
            }
        }
    }

    pub(crate) fn client_acts(&mut self, client: usize) {
        let again = self.clients[client].pause();
        self.after(again, Event::Client(client));
        if self.calm {
            return self.operator_disarms(client);
        }
        if let Some(waiting) = &self.clients[client].waiting {
            if self.now - waiting.since > waiting.patience {
                self.give_up(client);
            }
            return;
        }
        if self.rng.u8(0..30) == 0 {
            self.clients[client].at = (self.rng.usize(0..self.nodes.len()), self.rng.usize(0..FRONTS));
        }
        let op = self.clients[client].choose(&self.truth, self.now);
        self.ask(client, op);
    }

    /// When the faults have ended, somebody has to end the alarms.
    fn operator_disarms(&mut self, client: usize) {
        let has_alarms = !self.truth.model.aside.alarms.is_empty();
        if client == 0 && has_alarms && self.clients[client].waiting.is_none() {
            let op = disarm(&self.truth, &mut self.rng);
            self.ask(client, op);
        }
    }

    /// Somebody will never know what became of a request.
    pub(crate) fn unanswered(&mut self, waiting: Waiting) {
        if let Op::Put(put) = &waiting.op {
            self.unknown_fates.push((put.key.clone(), put.value.clone()));
        }
        if let Some(open) = waiting.open
            && let Some(call) = waiting.op.register_call(None)
        {
            self.histories.unknown(open, call);
        }
    }

    pub(crate) fn give_up(&mut self, client: usize) {
        let (place, front) = self.clients[client].at;
        let Some(waiting) = self.clients[client].waiting.take() else {
            return;
        };
        self.trace.count("requests given up");
        let (life, token) = (waiting.life, waiting.token);
        self.unanswered(waiting);
        let node = &mut self.nodes[place];
        if let Some(running) = node.running.as_mut().filter(|_| node.life == life) {
            running.owners[front].remove(&token);
            running.fronts[front].cancel(token);
            running.drain_front(front);
            self.settle(place);
        }
        // Some try their luck where they had none: at a member that is cut off, time and again.
        if self.rng.bool() {
            self.clients[client].at.0 = self.rng.usize(0..self.nodes.len());
        }
    }

    /// Asks; `false` if nobody is there.
    pub(crate) fn ask(&mut self, client: usize, op: Op) -> bool {
        let (place, front) = self.clients[client].at;
        let node = &mut self.nodes[place];
        let local = node.local(self.now);
        let life = node.life;
        let awake = node.paused_until <= self.now;
        let Some(running) = node.running.as_mut().filter(|_| awake) else {
            self.clients[client].at.0 = self.rng.usize(0..self.nodes.len());
            return false;
        };
        self.trace.count("requests");
        if let Op::Revoke(revoke) = &op {
            self.asked_revocations.insert(revoke.id);
        }
        let token = running.token(front, client);
        let (method, message) = op.call();
        let open = op.register().map(|key| self.histories.begin(key.clone()));
        let deadline = match self.rng.u8(0..3) {
            0 => Duration::from_secs(8),
            _ => Duration::from_millis(self.rng.u64(100..3000)),
        };
        let context = Context {
            deadline: Some(local + deadline),
            ..Context::default()
        };
        let waiting = Waiting {
            patience: deadline.mul_f64(0.8 + 0.4 * self.rng.f64()),
            token,
            life,
            op,
            since: self.now,
            floor: self.truth.floor,
            open,
        };
        let outcome = running.fronts[front].call(token, method, message, context, local);
        running.drain_front(front);
        match outcome {
            Outcome::Pending => self.clients[client].waiting = Some(waiting),
            Outcome::Done(result) => {
                running.owners[front].remove(&token);
                self.answered(client, waiting, result);
            }
        }
        self.settle(place);
        true
    }

    /// The operator uses the connection of a client that is free.
    pub(crate) fn ask_as_operator(&mut self, place: usize, op: Op) {
        let free = self.clients.iter().position(|client| client.waiting.is_none());
        if let Some(client) = free {
            self.clients[client].at = (place, 0);
            self.ask(client, op);
        }
    }

    pub(crate) fn answered(
        &mut self,
        client: usize,
        waiting: Waiting,
        result: Result<Bytes, api::error::Status>,
    ) {
        match result {
            Ok(answer) => {
                self.trace.count("answers");
                if let Some(open) = waiting.open.clone()
                    && let Some(call) = waiting.op.register_call(Some(&answer))
                {
                    self.histories.end(open, call);
                }
                let place = self.clients[client].at.0;
                let serial = self.serial.entry((place, waiting.life)).or_default();
                let judged = self.clients[client].answered(&waiting, &answer, &mut self.truth, serial);
                match judged {
                    Ok(written) => {
                        if let Op::Members(method, _) = waiting.op {
                            crate::faults::members_changed(self, method, &answer);
                        }
                        if let Some(revision) = written
                            && let Err(what) = self.check_durable(revision)
                        {
                            self.wrong(what);
                        }
                    }
                    Err(what) => self.wrong(format!("m{place}: {what}")),
                }
            }
            Err(status) => {
                self.trace.count("refusals");
                self.trace.sum(&status.message);
                if status == api::error::TIMEOUT {
                    self.trace.count("requests that had no answer in time");
                }
                self.unanswered(waiting.clone());
                if let Op::Members(..) = waiting.op {
                    self.trace
                        .tell(self.now, format!("{}: {}", waiting.op.tell(), status.message));
                }
                if self.rng.u8(0..3) == 0 {
                    self.clients[client].at.0 = self.rng.usize(0..self.nodes.len());
                }
            }
        }
    }

    /// Now and then, whether what was just acknowledged would survive if all machines died.
    fn check_durable(&mut self, revision: i64) -> Result<(), String> {
        if self.rng.u8(0..LOOKS_AT_DISKS) > 0 {
            return Ok(());
        }
        self.trace.count("acknowledged writes looked for on disks");
        let index = self.truth.model.index_of(revision);
        let Some((term, _)) = self.truth.entry_terms(index) else {
            return Ok(());
        };
        let holders = |id: &u64| match self.by_id.get(id) {
            Some(&place) => {
                let node = &self.nodes[place];
                // A damaged disk counts to the minority that a quorum outlives.
                !node.health.is_sound() || crate::durable::holds(&node.disk, &node.config, index, term)
            }
            // Who was removed and is gone may have been one of them.
            None => true,
        };
        // The members may have changed between the entry and its commit, and what was committed with a change of
        // members was committed by those before it.
        let model = &self.truth.model;
        let then = model.aside_at(index).map(|aside| &aside.roster);
        let before = (1..index).rev().take(COMMITTED_TOGETHER_MAX).find_map(|index| {
            let roster = &model.aside_at(index)?.roster;
            (Some(roster) != then).then_some(roster)
        });
        let rosters = [before, then, Some(&model.aside.roster)];
        let survives = rosters.into_iter().flatten().any(|roster| {
            let voters: Vec<u64> = roster.voters().collect();
            voters.iter().filter(|id| holders(id)).count() > voters.len() / 2
        });
        match survives {
            true => Ok(()),
            false => Err(format!(
                "revision {revision} was acknowledged, but entry {index} is on no quorum's disks"
            )),
        }
    }

    pub(crate) fn watcher_looks(&mut self, watcher: usize) {
        let again = Duration::from_millis(self.rng.u64(20..400));
        self.after(again, Event::Watcher(watcher));
        if self.watchers[watcher].at.is_some() {
            if !self.calm && self.rng.u16(0..200) == 0 {
                self.hang_up(watcher);
            }
            return;
        }
        let (place, front) = (self.rng.usize(0..self.nodes.len()), self.rng.usize(0..FRONTS));
        let node = &mut self.nodes[place];
        let (local, life) = (node.local(self.now), node.life);
        let Some(running) = &mut node.running else { return };
        let token = running.token(front, WATCHERS + watcher);
        let opened = running.fronts[front].stream_open(token, Method::Watch, Context::default(), local);
        if opened.is_err() {
            running.owners[front].remove(&token);
            return;
        }
        if self.rng.u8(0..4) == 0 {
            self.watchers[watcher].go_back(self.truth.model.compacted);
        }
        let request = self.watchers[watcher].request();
        running.fronts[front].stream_message(token, request, local);
        running.drain_front(front);
        self.watchers[watcher].at = Some((place, front, life, token));
        self.settle(place);
    }

    pub(crate) fn hang_up(&mut self, watcher: usize) {
        let Some((place, front, life, token)) = self.watchers[watcher].at.take() else {
            return;
        };
        self.close_stream(place, front, life, token);
    }

    /// Closes a stream of a process, if that still lives.
    pub(crate) fn close_stream(&mut self, place: usize, front: usize, life: u64, token: Token) {
        let node = &mut self.nodes[place];
        if let Some(running) = node.running.as_mut().filter(|_| node.life == life) {
            running.owners[front].remove(&token);
            running.fronts[front].stream_close(token);
            running.drain_front(front);
            self.settle(place);
        }
    }

    pub(crate) fn watcher_reads(&mut self, watcher: usize, place: usize, front: usize, token: Token) {
        loop {
            let node = &mut self.nodes[place];
            let local = node.local(self.now);
            let Some(running) = &mut node.running else { return };
            let poll = running.fronts[front].stream_poll(token, 16 << 10, local);
            for frame in &poll.frames {
                match self.watchers[watcher].take(frame, &self.truth) {
                    Ok(true) => {}
                    Ok(false) => return self.hang_up(watcher),
                    Err(what) => return self.wrong(format!("m{place}: {what}")),
                }
            }
            if poll.end.is_some() {
                self.watchers[watcher].at = None;
                if let Some(running) = &mut self.nodes[place].running {
                    running.owners[front].remove(&token);
                }
                return;
            }
            if !poll.more {
                break;
            }
        }
        if let Some(running) = &mut self.nodes[place].running {
            running.drain_front(front);
        }
    }
}
