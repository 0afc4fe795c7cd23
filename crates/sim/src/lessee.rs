//! Clients that live by a lease: they take one, keep it alive as long as they live, and die without a word. While they
//! are served in time nobody may take it from them; when they have died it must go.

use std::collections::VecDeque;
use std::time::Duration;

use api::clock::Instant;
use api::etcdserverpb as pb;
use bytes::Bytes;
use member::frontend::{Context, Method, Outcome, Token};
use prost::Message;

use crate::node::FRONTS;
use crate::plan::Plan;
use crate::world::{Event, LESSEES, World};

/// A lease and how its owner keeps it.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    id: i64,
    ttl: Duration,
    /// When the last question was asked that was answered: it counts from then at the earliest.
    pub since: Instant,
    /// Clock jumps in the world until then.
    jumps: u64,
    /// The newest term with a leader until then.
    term: u64,
    dead: bool,
}

/// A connection: place, front, process and token.
type At = (usize, usize, u64, Token);

/// See the module.
pub struct Lessee {
    name: usize,
    rng: fastrand::Rng,
    held: Option<Held>,
    grants: i64,
    /// A grant on its way.
    asked: Option<(At, Held)>,
    stream: Option<At>,
    /// When each renewal that is not answered was asked, and how many clocks had jumped then.
    renewals: VecDeque<(Instant, u64)>,
}

impl Lessee {
    /// The one of a number.
    pub fn new(name: usize, plan: &Plan) -> Lessee {
        Lessee {
            name,
            rng: plan.chance(&format!("lessee {name}")),
            held: None,
            grants: 0,
            asked: None,
            stream: None,
            renewals: VecDeque::new(),
        }
    }

    /// What it has lost with the process of a place.
    pub fn forget(&mut self, place: usize) {
        self.asked.take_if(|(at, _)| at.0 == place);
        if self.stream.take_if(|at| at.0 == place).is_some() {
            self.renewals.clear();
        }
    }

    /// The lease of one that has died, if it should be gone: when that is.
    pub fn overdue(&self, since: Instant, patience: Duration) -> Option<(i64, Instant)> {
        let held = self.held.filter(|held| held.dead)?;
        Some((held.id, since.max(held.since) + held.ttl + patience))
    }
}

impl World {
    fn clock_jumps(&self) -> u64 {
        self.trace.counts.get("clock jumps").copied().unwrap_or_default()
    }

    fn newest_term(&self) -> u64 {
        self.truth.leaders.last_key_value().map_or(0, |(term, _)| *term)
    }

    /// The place of a member that thinks that it leads, of the newest such; else any.
    pub(crate) fn leading_place(&mut self) -> usize {
        let leads = |place: &usize| {
            let running = self.nodes[*place].running.as_ref();
            running.and_then(|running| {
                let shared = &running.member.shared;
                (shared.pulse.leader() == shared.member_id).then(|| shared.pulse.term())
            })
        };
        let newest = (0..self.nodes.len())
            .filter(|place| leads(place).is_some())
            .max_by_key(leads);
        match newest {
            Some(place) => place,
            None => self.rng.usize(0..self.nodes.len()),
        }
    }

    pub(crate) fn lessee_acts(&mut self, lessee: usize) {
        let again = Duration::from_millis(self.lessees[lessee].rng.u64(30..150));
        self.after(again, Event::Lessee(lessee));
        match self.lessees[lessee].held {
            None if self.calm || self.lessees[lessee].asked.is_some() => {}
            None => self.take_lease(lessee),
            Some(held) if held.dead => self.end_renewals(lessee),
            Some(held) => {
                let waits = self.now - held.since >= held.ttl / 3;
                let asked = self.lessees[lessee].renewals.back().copied();
                let is_due = asked.is_none_or(|(asked, _)| self.now - asked >= held.ttl / 4);
                if waits && is_due {
                    self.renew_lease(lessee, held);
                }
            }
        }
    }

    fn take_lease(&mut self, lessee: usize) {
        let place = self.rng.usize(0..self.nodes.len());
        let actor = &mut self.lessees[lessee];
        let front = actor.rng.usize(0..FRONTS);
        let ttl = actor.rng.i64(2..7);
        actor.grants += 1;
        let id = 1_000_000 * (actor.name as i64 + 1) + actor.grants;
        let held = Held {
            id,
            ttl: Duration::from_secs(ttl.unsigned_abs()),
            since: self.now,
            jumps: self.clock_jumps(),
            term: self.newest_term(),
            dead: false,
        };
        let request = pb::LeaseGrantRequest { ttl, id };
        let Some((at, local)) = self.connect(place, front, LESSEES + lessee) else {
            return;
        };
        let Some(running) = &mut self.nodes[place].running else {
            return;
        };
        let context = Context {
            deadline: Some(local + Duration::from_secs(6)),
            ..Context::default()
        };
        let message: Bytes = request.encode_to_vec().into();
        let outcome = running.fronts[front].call(at.3, Method::LeaseGrant, message, context, local);
        running.drain_front(front);
        if outcome == Outcome::Pending {
            self.lessees[lessee].asked = Some((at, held));
        } else {
            running.owners[front].remove(&at.3);
        }
        self.settle(place);
    }

    /// A token on a process that is there and awake, with its time.
    pub(crate) fn connect(&mut self, place: usize, front: usize, owner: usize) -> Option<(At, Instant)> {
        let node = &mut self.nodes[place];
        let (local, life) = (node.local(self.now), node.life);
        let awake = node.paused_until <= self.now;
        let running = node.running.as_mut().filter(|_| awake)?;
        let token = running.token(front, owner);
        Some(((place, front, life, token), local))
    }

    /// The answer to the grant.
    pub(crate) fn lease_granted(&mut self, lessee: usize, token: Token, granted: bool) {
        let actor = &mut self.lessees[lessee];
        if let Some((_, held)) = actor.asked.take_if(|(at, _)| at.3 == token)
            && granted
            && self.truth.model.aside.leases.contains_key(&held.id)
        {
            actor.held = Some(held);
            self.trace.count("leases of clients that live by them");
        }
    }

    fn end_renewals(&mut self, lessee: usize) {
        self.lessees[lessee].renewals.clear();
        let Some((place, front, life, token)) = self.lessees[lessee].stream.take() else {
            return;
        };
        self.close_stream(place, front, life, token);
    }

    fn renew_lease(&mut self, lessee: usize, held: Held) {
        if self.lessees[lessee].rng.u8(0..40) == 0 {
            self.trace.count("clients that died with a lease");
            if let Some(held) = &mut self.lessees[lessee].held {
                held.dead = true;
            }
            return;
        }
        // A stream that does not answer is given up for another member's.
        let oldest = self.lessees[lessee].renewals.front().copied();
        if oldest.is_some_and(|(asked, _)| self.now - asked > held.ttl / 2) {
            self.end_renewals(lessee);
        }
        if self.lessees[lessee].stream.is_none() {
            self.open_stream(lessee);
        }
        let Some((place, front, life, token)) = self.lessees[lessee].stream else {
            return;
        };
        let jumps = self.clock_jumps();
        let node = &mut self.nodes[place];
        let local = node.local(self.now);
        let awake = node.paused_until <= self.now;
        let Some(running) = node.running.as_mut().filter(|_| node.life == life && awake) else {
            return self.end_renewals(lessee);
        };
        let request = pb::LeaseKeepAliveRequest { id: held.id };
        let asked = (self.now, jumps);
        self.lessees[lessee].renewals.push_back(asked);
        running.fronts[front].stream_message(token, request.encode_to_vec().into(), local);
        running.drain_front(front);
        self.settle(place);
    }

    fn open_stream(&mut self, lessee: usize) {
        // A follower asks the leader.
        let place = match self.lessees[lessee].rng.bool() {
            true => self.leading_place(),
            false => self.rng.usize(0..self.nodes.len()),
        };
        let front = self.lessees[lessee].rng.usize(0..FRONTS);
        let Some((at, local)) = self.connect(place, front, LESSEES + lessee) else {
            return;
        };
        let Some(running) = &mut self.nodes[place].running else {
            return;
        };
        let opened =
            running.fronts[front].stream_open(at.3, Method::LeaseKeepAlive, Context::default(), local);
        match opened {
            Ok(()) => self.lessees[lessee].stream = Some(at),
            Err(_) => {
                running.owners[front].remove(&at.3);
            }
        }
    }

    pub(crate) fn lessee_reads(&mut self, lessee: usize, place: usize, front: usize, token: Token) {
        let node = &mut self.nodes[place];
        let local = node.local(self.now);
        let Some(running) = &mut node.running else { return };
        let poll = running.fronts[front].stream_poll(token, 16 << 10, local);
        running.drain_front(front);
        if poll.end.is_some() {
            running.owners[front].remove(&token);
        }
        for frame in &poll.frames {
            let message: Vec<u8> = frame.parts.iter().flat_map(|part| part.iter().copied()).collect();
            if let Ok(answer) = pb::LeaseKeepAliveResponse::decode(message.as_slice()) {
                self.renewed(lessee, place, &answer);
            }
        }
        let actor = &mut self.lessees[lessee];
        if poll.end.is_some() && actor.stream.is_some_and(|at| at.3 == token && at.0 == place) {
            actor.stream = None;
            actor.renewals.clear();
        }
    }

    /// A renewal was answered.
    fn renewed(&mut self, lessee: usize, place: usize, answer: &pb::LeaseKeepAliveResponse) {
        let term = self.newest_term();
        let actor = &mut self.lessees[lessee];
        let (Some((since, jumps)), Some(held)) = (actor.renewals.pop_front(), &mut actor.held) else {
            return;
        };
        if answer.id != held.id {
            return;
        }
        let id = held.id;
        if answer.ttl > 0 {
            held.since = held.since.max(since);
            held.jumps = jumps;
            let kept_over = std::mem::replace(&mut held.term, term) < term;
            self.trace.count("renewals");
            if kept_over {
                self.trace.count("leases kept over a change of the leader");
            }
            return;
        }
        if self.truth.model.aside.leases.contains_key(&id) {
            self.wrong(format!(
                "m{place} says that lease {id} is gone, which the log has"
            ));
        }
    }

    /// The log has ended a lease.
    pub(crate) fn lease_ended(&mut self, id: i64) {
        let fastest = self.nodes.iter().map(|node| node.rate.max(node.rate_before));
        let fastest = fastest.fold(1.0, f64::max);
        let (now, jumps) = (self.now, self.clock_jumps());
        let owner = self
            .lessees
            .iter_mut()
            .find(|lessee| lessee.held.is_some_and(|held| held.id == id));
        let Some(held) = owner.and_then(|lessee| lessee.held.take()) else {
            return;
        };
        let had = now - held.since;
        // A clock that runs fast or jumps shortens what its owner gives.
        if had < held.ttl.div_f64(fastest) && held.jumps == jumps {
            return self.wrong(format!(
                "lease {id} of {:?} ends {had:?} after it was renewed, by a renewal that was answered",
                held.ttl
            ));
        }
        self.trace.count(match held.dead {
            true => "leases of the dead that expired",
            false => "leases that expired because their owners were not served",
        });
    }
}
