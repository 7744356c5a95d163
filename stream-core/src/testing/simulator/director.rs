//! The director: writes the inputs, makes things go wrong, and lets them end.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::broker::BrokerFault;
use super::faults::Fault;
use super::world::{Shared, World};
use crate::group::CallbackError;
use crate::log::LogError;
use crate::log::embedded;
use crate::processor::{Guarantee, Moment};

/// A fault that lasts; dropping it ends it.
pub(super) enum Lasting {
    Delivery(#[allow(dead_code, reason = "only its drop matters")] embedded::Fault),
    Commits(#[allow(dead_code, reason = "only its drop matters")] embedded::CommitHold),
    Outage,
    Coordinator,
    Broker(BrokerFault),
}

/// Writes the whole workload, with faults all the while.
pub(super) async fn trouble(world: &Shared) {
    let began = Instant::now();
    let mut lasting: Vec<(Instant, Lasting)> = Vec::new();
    let (until, mean) = {
        let mut world = world.borrow_mut();
        let calm = world.calm;
        let last = world.plan.workload.last().map_or(Duration::ZERO, |p| p.at);
        let until = world.plan.within.max(last) + if calm { Duration::from_millis(20) } else { Duration::from_secs(3) };
        // A few faults in one run, a hail of them in another.
        (until, 200 + world.random.below(3000))
    };
    let mut next_fault = began + Duration::from_secs(1);
    loop {
        let now = Instant::now();
        let next = {
            let mut world = world.borrow_mut();
            let due = world.plan.workload.partition_point(|p| began + p.at <= now);
            world.write(due);
            lasting.retain(|(end, what)| *end > now || world.end(what));
            if now >= next_fault {
                next_fault = now + Duration::from_millis(1 + world.random.below(2 * mean));
                if let Some(fault) = {
                    let w = &mut *world;
                    w.faults.pick(&mut w.random)
                } {
                    world.make(fault, &mut lasting);
                }
            }
            world.start_due();
            let write = world.plan.workload.get(world.written).map(|p| began + p.at);
            let moments = lasting.iter().map(|(end, _)| *end).chain(write).chain(world.next_start());
            moments.chain([next_fault, began + until]).min()
        };
        if now >= began + until {
            let mut world = world.borrow_mut();
            for (_, what) in &lasting {
                world.end(what);
            }
            break;
        }
        // Whatever else comes up meanwhile, such as an instance to be started again, need not be exact.
        let soon = now + Duration::from_millis(100);
        sleep_until(next.map_or(soon, |next| next.min(soon)).max(now + Duration::from_millis(1))).await;
    }
}

/// From here on all is well.
pub(super) fn end_trouble(world: &Shared) {
    let mut world = world.borrow_mut();
    let world = &mut *world;
    world.trace.note("log", format_args!("all is well"));
    world.embedded.faults().set_available(true);
    world.embedded.faults().set_coordinating(true);
    world.embedded.faults().forget_commits();
    world.embedded.faults().set_network(embedded::Network::default());
    for node in &mut world.nodes {
        node.thaw();
        node.spare();
    }
    world.faults = world.faults.clone().without(Fault::Latency).without(Fault::LostStore);
    // Each group has somebody.
    let idle: Vec<usize> = world.alive().into_iter().filter(|(_, n)| *n == 0).map(|(group, _)| group).collect();
    for group in idle {
        world.add_node(group, Duration::ZERO);
    }
    world.last_error = None;
}

impl World {
    pub(super) fn ms(&mut self, most: u64) -> Duration {
        Duration::from_millis(1 + self.random.below(most))
    }

    /// Something that lasted has ended. Whether it is to be kept: no.
    fn end(&mut self, what: &Lasting) -> bool {
        match what {
            Lasting::Outage => {
                self.trace.note("log", format_args!("is back"));
                self.embedded.faults().set_available(true);
            }
            Lasting::Coordinator => {
                self.trace.note("log", format_args!("coordinates again"));
                self.embedded.faults().set_coordinating(true);
            }
            Lasting::Broker(fault) => self.end_broker_fault(fault),
            Lasting::Delivery(_) | Lasting::Commits(_) => {}
        }
        false
    }

    /// An instance at work, drawn.
    fn victim(&mut self) -> Option<usize> {
        let at_work = self.at_work();
        self.random.pick(&at_work).copied()
    }

    fn make(&mut self, fault: Fault, lasting: &mut Vec<(Instant, Lasting)>) {
        self.trace.note("fault", format_args!("{fault:?}"));
        match fault {
            Fault::Crash => self.crash(),
            Fault::Zombie => self.freeze(),
            Fault::Rebalance => {
                let group = self.random.index(self.graphs.len());
                if let Some(graph) = self.graphs.get(group) {
                    self.report.rebalances += 1;
                    self.embedded.faults().rebalance(graph.name());
                }
            }
            Fault::Membership => self.move_members(),
            Fault::Expiry => self.expire(),
            Fault::Delivery => {
                let end = Instant::now() + self.ms(3000);
                self.report.bad_deliveries += 1;
                let fault = self.bad_deliveries();
                lasting.push((end, Lasting::Delivery(fault)));
            }
            Fault::Commit => self.bad_commit(lasting),
            Fault::Outage => {
                // An instance that starts meanwhile fails, so too much of it leaves nothing else to see.
                if self.random.chance(300) && !lasting.iter().any(|(_, l)| matches!(l, Lasting::Outage)) {
                    let most = if self.random.chance(200) { 12_000 } else { 1000 };
                    let end = Instant::now() + self.ms(most);
                    self.report.outages += 1;
                    self.embedded.faults().set_available(false);
                    lasting.push((end, Lasting::Outage));
                }
            }
            Fault::Coordinator => {
                if !lasting.iter().any(|(_, l)| matches!(l, Lasting::Coordinator)) {
                    let end = Instant::now() + self.ms(3000);
                    self.report.outages += 1;
                    self.embedded.faults().set_coordinating(false);
                    lasting.push((end, Lasting::Coordinator));
                }
            }
            Fault::Callback => self.bad_callback(false),
            Fault::DueCallback => self.bad_callback(true),
            Fault::Compaction => self.embedded.compact_now(),
            Fault::Latency | Fault::LostStore => {}
            Fault::ClusterDefaults => self.embedded.apply_retention(),
            Fault::Retention => self.expire_records(),
            Fault::Recreation => self.recreate_input(),
            Fault::Reset => self.reset_group(),
            Fault::RoundTrip
            | Fault::SlowLink
            | Fault::Quota
            | Fault::Refusal
            | Fault::SmallBatches
            | Fault::Replicas
            | Fault::ExpiredId
            | Fault::HiddenSettings
            | Fault::ForgottenOffsets => {
                if let Some((lasts, what)) = self.broker_fault(fault) {
                    lasting.push((Instant::now() + lasts, Lasting::Broker(what)));
                }
            }
        }
    }

    fn crash(&mut self) {
        let Some(at) = self.victim() else { return };
        let wait = self.ms(8000);
        let kind = self.random.below(10);
        let Some(node) = self.nodes.get_mut(at) else { return };
        match kind {
            0 => self.power_failure(at),
            1..3 => {
                node.crash();
                self.report.crashes += 1;
                self.after_crash(at, wait);
            }
            3..6 => node.crash_in_store(),
            _ => {
                if let Some(running) = &node.running {
                    running.life.die_after(self.random.below(40));
                }
            }
        }
    }

    /// All instances of a group die at once: nobody is left who remembers anything.
    fn power_failure(&mut self, at: usize) {
        if let Some(group) = self.nodes.get(at).map(|n| n.group) {
            self.end_group(group);
        }
    }

    /// All instances of a group die.
    pub(super) fn end_group(&mut self, group: usize) {
        for at in 0..self.nodes.len() {
            let wait = self.ms(3000);
            let Some(node) = self.nodes.get_mut(at).filter(|n| n.group == group && n.running.is_some()) else {
                continue;
            };
            node.crash();
            self.report.crashes += 1;
            self.after_crash(at, wait);
        }
    }

    fn freeze(&mut self) {
        let Some(at) = self.victim() else { return };
        let session = u64::try_from(self.plan.session.as_millis()).unwrap_or_default();
        let long = self.random.chance(700);
        let wait = if long { self.plan.session + self.ms(2 * session) } else { self.ms(session) };
        self.report.zombies += usize::from(long);
        if let Some(node) = self.nodes.get_mut(at) {
            self.trace.note(&node.name, format_args!("stands still for {wait:?}"));
            node.frozen_until = Some(Instant::now() + wait);
        }
    }

    /// One stops, another comes.
    fn move_members(&mut self) {
        let group = self.random.index(self.graphs.len());
        let most = self.plan.instances + 2;
        let alive = self.alive().get(&group).copied().unwrap_or_default();
        if alive > 1 && self.random.chance(500) {
            let Some(at) = self.victim() else { return };
            let back = self.random.chance(700).then(|| Instant::now() + self.ms(6000));
            let Some(node) = self.nodes.get_mut(at) else { return };
            let Some(running) = &mut node.running else { return };
            running.life.note(format_args!("is asked to stop"));
            running.stopping = true;
            running.handle.stop();
            node.start_at = back;
            self.report.stops += 1;
        } else if alive < most {
            let idle = |n: &super::node::Node| n.group == group && n.running.is_none() && n.start_at.is_none();
            match self.nodes.iter_mut().find(|n| idle(n)) {
                Some(node) => node.start_at = Some(Instant::now()),
                None => self.add_node(group, Duration::ZERO),
            }
        }
    }

    fn expire(&mut self) {
        let group = self.random.index(self.graphs.len());
        let Some(graph) = self.graphs.get(group) else { return };
        let members = self.embedded.member_ids(graph.name());
        if let Some(member) = self.random.pick(&members) {
            self.report.zombies += 1;
            self.trace.note("log", format_args!("expires {member}"));
            self.embedded.faults().expire_member(graph.name(), member);
        }
    }

    fn bad_deliveries(&mut self) -> embedded::Fault {
        // The inputs themselves arrive.
        let written: Vec<String> = self.written_topics().iter().map(ToString::to_string).collect();
        let topic = self.random.chance(600).then(|| self.random.pick(&written).cloned()).flatten();
        let often = 20 + self.random.below(600);
        let mut coin = self.random.fork();
        let on = self.embedded.faults().on(move |record| {
            let hit = topic.as_ref().map_or(written.iter().any(|t| t == record.topic), |t| t == record.topic);
            hit && coin.chance(often)
        });
        let error = |reason: &str| LogError::Timeout { what: "deliver a record".into(), reason: reason.into() };
        match self.random.below(5) {
            0 => on.fail(error("refused on purpose")),
            1 => on.fail_after_write(error("written, and reported as failed on purpose")),
            2 => on.hold_acks(),
            3 => on.delay(self.ms(1500)),
            // Longer than a partition's owner waits before it lets go.
            _ => on.delay(self.ms(3900)),
        }
    }

    fn bad_commit(&mut self, lasting: &mut Vec<(Instant, Lasting)>) {
        self.report.bad_commits += 1;
        let what = || "commit".to_owned();
        let reason = || "on purpose".to_owned();
        let faults = self.embedded.faults();
        if self.plan.guarantee == Guarantee::AtLeastOnce {
            return match self.random.below(4) {
                0 => faults.fail_offset_commit(LogError::NotMember {
                    what: what(),
                    group: String::new(),
                    reason: reason(),
                }),
                1 => faults.fail_offset_commit_after(LogError::Timeout { what: what(), reason: reason() }),
                _ => (0..=self.random.below(3)).for_each(|_| {
                    faults.fail_offset_commit(LogError::Retriable { what: what(), reason: reason() });
                }),
            };
        }
        match self.random.below(7) {
            0 => faults.fail_commit(LogError::Abortable { what: what(), reason: reason() }),
            1 => faults.fail_commit(LogError::NotMember { what: what(), group: String::new(), reason: reason() }),
            2 => faults.fail_commit(LogError::Fatal { what: what(), reason: reason() }),
            // Only an error that leaves it open whether the commit took effect may be said of one that did.
            3 => faults.fail_commit_after(LogError::Fatal { what: what(), reason: reason() }),
            4 => faults.fail_commit_after(LogError::Timeout { what: what(), reason: reason() }),
            _ => lasting.push((Instant::now() + self.ms(4000), Lasting::Commits(faults.hold_commits()))),
        }
    }

    /// `due` if only what is due fails.
    fn bad_callback(&mut self, due: bool) {
        let Some(at) = self.victim() else { return };
        let (mut left, panics) = (self.random.below(10), self.random.chance(300));
        // More than once: a retry may fail as well.
        let mut hits = 1 + self.random.below(3);
        let when = if self.random.chance(500) { Moment::Before } else { Moment::After };
        self.report.bad_callbacks += 1;
        let Some(running) = self.nodes.get(at).and_then(|n| n.running.as_ref()) else { return };
        let life = std::sync::Arc::clone(&running.life);
        let tables: Vec<_> = self.graphs.iter().flat_map(|g| g.table_topics()).map(ToString::to_string).collect();
        running.faults.set(move |topic, moment| {
            if moment != when || (due && !tables.iter().any(|table| table == topic)) {
                return None;
            }
            if left > 0 || hits == 0 {
                left = left.saturating_sub(1);
                return None;
            }
            hits -= 1;
            life.note(format_args!("callback for {topic} fails {when:?}"));
            if panics {
                // As a panic, without its message on the screen.
                std::panic::resume_unwind(Box::new("on purpose".to_owned()));
            }
            Some(CallbackError::msg("on purpose"))
        });
    }
}
