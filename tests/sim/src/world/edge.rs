//! The edge around each core: connection slots, sockets, lanes, and the tick.

use dunlin_shard::mesh::MeshMessage;
use dunlin_shard::{
    Action, Actions, Answered, Arrival, ConnId, Event, ListenerId, Mono, Now, ShardCore, ShardId, WallMs,
};

use super::{Input, Item, NS_PER_MS, Slot, WALL_START_MS, World};

impl World {
    pub(super) fn free_slot(&mut self, shard: usize) -> u32 {
        let slots = &mut self.shards[shard].slots;
        let index = slots.iter().position(|slot| slot.link.is_none()).unwrap_or_else(|| {
            slots.push(Slot::default());
            slots.len() - 1
        });
        u32::try_from(index).expect("a run has few connections")
    }

    pub(super) fn attach(&mut self, shard: usize, slot: u32, link: usize) -> ConnId {
        let entry = &mut self.shards[shard].slots[slot as usize];
        entry.generation += 1;
        entry.link = Some(link);
        entry.paused = false;
        self.links[link].at = Some((shard, slot));
        ConnId { slot, generation: entry.generation }
    }

    pub(super) fn detach(&mut self, shard: usize, conn: ConnId) -> Option<usize> {
        let entry = self.shards[shard].slots.get_mut(conn.slot as usize)?;
        if entry.generation != conn.generation {
            return None;
        }
        let link = entry.link.take()?;
        self.links[link].at = None;
        Some(link)
    }

    pub(super) fn link_of(&self, shard: usize, conn: ConnId) -> Option<usize> {
        let entry = self.shards[shard].slots.get(conn.slot as usize)?;
        if entry.generation == conn.generation { entry.link } else { None }
    }

    pub(super) fn conn_of(&self, link: usize) -> Option<(usize, ConnId)> {
        let (shard, slot) = self.links[link].at?;
        let generation = self.shards[shard].slots[slot as usize].generation;
        Some((shard, ConnId { slot, generation }))
    }

    pub(super) fn push(&mut self, shard: usize, input: Input) {
        if self.shards[shard].stopped {
            return;
        }
        self.shards[shard].inbox.push_back(input);
        if !self.shards[shard].tick_planned {
            self.shards[shard].tick_planned = true;
            let at = self.now + self.schedule.below(300) * 1_000;
            self.plan_at(at, Item::Tick(shard));
        }
    }

    pub(super) fn pump_in(&mut self, link: usize) {
        let Some((shard, conn)) = self.conn_of(link) else { return };
        let paused = self.shards[shard].slots[conn.slot as usize].paused;
        if paused || self.links[link].arrived.is_empty() || !self.links[link].server_open {
            return;
        }
        let bytes = std::mem::take(&mut self.links[link].arrived);
        self.push(shard, Input::Bytes { conn, bytes });
    }

    pub(super) fn pump_out(&mut self, link: usize) {
        let window = if self.healed { 1 << 20 } else { self.plan.faults.window_bytes };
        let entry = &mut self.links[link];
        let count = window.saturating_sub(entry.unread).min(entry.unsent.len());
        if count > 0 {
            let bytes: Vec<u8> = entry.unsent.drain(..count).collect();
            entry.unread += count;
            let at = (self.now + self.latency()).max(self.links[link].to_client_at);
            self.links[link].to_client_at = at;
            self.plan_at(at, Item::ToClient(link, bytes));
            if let Some((shard, conn)) = self.conn_of(link) {
                let bytes = u32::try_from(count).expect("a window is small");
                self.push(shard, Input::Sent { conn, bytes });
            }
        }
        let entry = &mut self.links[link];
        if entry.close_when_sent && entry.unsent.is_empty() {
            entry.close_when_sent = false;
            let at = (self.now + NS_PER_MS).max(entry.to_client_at);
            self.plan_at(at, Item::ClientEnd(link));
        }
    }

    pub(super) fn server_end(&mut self, link: usize) {
        if !self.links[link].server_open {
            return;
        }
        let waiting = !self.links[link].arrived.is_empty();
        if let Some((shard, conn)) = self.conn_of(link)
            && !waiting
        {
            self.links[link].server_open = false;
            self.push(shard, Input::Closed { conn });
        } else {
            // Reading is paused, so the end behind the waiting bytes is not seen yet; or:
            // On its way to its home: the end is seen there.
            self.plan_at(self.now + NS_PER_MS, Item::ServerEnd(link));
        }
    }

    pub(super) fn arrive(&mut self, shard: usize, link: usize, mut arrival: Box<Arrival>) {
        arrival.unread.append(&mut self.links[link].arrived);
        let slot = self.free_slot(shard);
        let conn = self.attach(shard, slot, link);
        self.push(shard, Input::Arrived { conn, arrival });
    }

    pub(super) fn lane_arrives(&mut self, from: usize, to: usize) {
        let lane = self.lanes.get_mut(&(from, to)).expect("planned when the lane was filled");
        let Some((sent_at, message)) = lane.messages.pop_front() else { return };
        if self.canary.loses_mesh_message() {
            return;
        }
        let from = ShardId(u16::try_from(from).expect("few shards"));
        self.push(to, Input::Mesh { from, message, sent_at });
    }

    // ---- the tick

    /// Both clocks, as this process reads them.
    pub(super) fn clocks(&self) -> Now {
        Now { mono: Mono(self.now - self.mono_origin), wall: WallMs(self.wall_ms()) }
    }

    pub(super) const fn wall_ms(&self) -> u64 {
        WALL_START_MS + self.now / NS_PER_MS
    }

    pub(super) fn tick(&mut self, index: usize) {
        let now = self.clocks();
        let mut actions = Actions::default();
        let mut ended = Vec::new();
        let batch = 1 + self.schedule.index(12);
        for _ in 0..batch {
            let Some(input) = self.shards[index].inbox.pop_front() else { break };
            self.log.note(describe(self.now, index, &input));
            if let Input::Closed { conn } = &input {
                ended.push(*conn);
            }
            handle(&mut self.shards[index].core, input, now, &mut actions);
        }
        self.act(index, actions, &ended);
        for conn in ended {
            self.detach(index, conn);
        }
        self.hear_log(index);
        self.clean_log(index);
        self.commit(index);
        self.after_tick(index);
    }

    fn after_tick(&mut self, index: usize) {
        // The last shard's end may have been the process's end.
        let Some(shard) = self.shards.get_mut(index) else { return };
        shard.tick_planned = !shard.inbox.is_empty();
        if shard.tick_planned {
            self.plan_at(self.now + 1_000, Item::Tick(index));
        }
        self.plan_timer(index);
    }

    /// Puts the core's next deadline on the agenda.
    pub(super) fn plan_timer(&mut self, index: usize) {
        let Some(deadline) = self.shards[index].core.next_deadline() else { return };
        // A deadline in the past is asked for again a little later: a core that never moves on shows as a livelock.
        let at = deadline.0.saturating_add(self.mono_origin).max(self.now + 1_000);
        if self.shards[index].timer_at.is_none_or(|planned| at < planned) {
            self.shards[index].timer_at = Some(at);
            self.plan_at(at, Item::Timer(index));
        }
    }

    pub(super) fn act(&mut self, index: usize, mut actions: Actions, ended: &[ConnId]) {
        let list = std::mem::take(&mut actions.list);
        for action in list {
            let named = match &action {
                Action::Send { conn, .. }
                | Action::Close { conn, .. }
                | Action::PauseRead { conn }
                | Action::ResumeRead { conn }
                | Action::Handoff { conn, .. } => Some(*conn),
                Action::Mesh { .. }
                | Action::Append { .. }
                | Action::Fetch { .. }
                | Action::Answer { .. }
                | Action::Stopped => None,
            };
            if let Some(conn) = named {
                if self.link_of(index, conn).is_none() {
                    self.log
                        .violation(format!("shard {index} names the dead connection {conn:?}: {action:?}"));
                    continue;
                }
                let moves = matches!(action, Action::Handoff { .. });
                if ended.contains(&conn) && moves {
                    // The end came in the tick of the handoff: it is seen again at the home, behind the bytes.
                    let link = self.link_of(index, conn).expect("checked above");
                    self.links[link].server_open = true;
                    self.plan_at(self.now + NS_PER_MS, Item::ServerEnd(link));
                } else if ended.contains(&conn) {
                    continue;
                }
            }
            self.act_one(index, action, &actions.arena);
        }
    }

    pub(super) fn act_one(&mut self, index: usize, action: Action, arena: &[u8]) {
        match action {
            Action::Send { conn, head, payload } => {
                let Some(link) = self.link_of(index, conn) else { return };
                let bytes = &arena[head.start as usize..head.end as usize];
                self.links[link].unsent.extend(bytes);
                if let Some(message) = payload {
                    self.links[link].unsent.extend(message.payload());
                }
                self.pump_out(link);
            }
            Action::Close { conn, flush } => {
                let Some(link) = self.detach(index, conn) else { return };
                self.log.note(format!("{} shard {index} closes link {link}", self.now));
                self.links[link].server_open = false;
                if !flush {
                    self.links[link].unsent.clear();
                }
                self.links[link].close_when_sent = true;
                self.pump_out(link);
            }
            Action::PauseRead { conn } => self.shards[index].slots[conn.slot as usize].paused = true,
            Action::ResumeRead { conn } => {
                self.shards[index].slots[conn.slot as usize].paused = false;
                if let Some(link) = self.link_of(index, conn) {
                    self.pump_in(link);
                }
            }
            Action::Handoff { conn, to, arrival } => {
                let Some(link) = self.detach(index, conn) else { return };
                let at = self.now + self.schedule.below(1_000) * 1_000;
                self.plan_at(at, Item::Arrive(usize::from(to.0), link, arrival));
            }
            Action::Mesh { to, message } => self.send_mesh(index, usize::from(to.0), message),
            Action::Append { seq, record } => self.append(index, seq, &record),
            Action::Fetch { session, messages } => self.fetch(index, session, &messages),
            Action::Answer { answer, .. } => {
                let Answered::Snapshot { metrics, gauges } = *answer;
                self.snapshots.push((metrics, gauges));
            }
            Action::Stopped => {
                self.shards[index].stopped = true;
                self.stopped_count += 1;
                self.note_stopped();
            }
        }
    }

    pub(super) fn send_mesh(&mut self, from: usize, to: usize, message: MeshMessage) {
        if from == to || to >= self.shards.len() {
            self.log.violation(format!("shard {from} speaks to shard {to}"));
            return;
        }
        let most = if self.healed { 0 } else { self.plan.faults.lane_ms_max };
        let delay = self.schedule.between(0, most * 1_000) * 1_000;
        let lane = self.lanes.entry((from, to)).or_default();
        let at = (self.now + delay).max(lane.at);
        lane.at = at;
        lane.messages.push_back((self.log.latest(), message));
        self.plan_at(at, Item::Lane(from, to));
    }
}

/// Tells a core what has happened.
fn handle(core: &mut ShardCore, input: Input, now: Now, actions: &mut Actions) {
    match input {
        Input::Opened { conn, peer } => {
            core.handle(Event::Opened { conn, peer, listener: ListenerId(0) }, now, actions);
        }
        Input::Arrived { conn, arrival } => core.handle(Event::Arrived { conn, arrival }, now, actions),
        Input::Bytes { conn, bytes } => core.handle(Event::Bytes { conn, bytes: &bytes }, now, actions),
        Input::Sent { conn, bytes } => core.handle(Event::Sent { conn, bytes }, now, actions),
        Input::Closed { conn } => core.handle(Event::Closed { conn }, now, actions),
        Input::Mesh { from, message, .. } => core.handle(Event::Mesh { from, message }, now, actions),
        Input::Control(control) => core.handle(Event::Control(control), now, actions),
        Input::Timer => core.handle(Event::Timer, now, actions),
        Input::Wake => {}
    }
}

/// One line of the trace.
fn describe(now: u64, shard: usize, input: &Input) -> String {
    match input {
        Input::Bytes { conn, bytes } => format!("{now} shard {shard} {conn:?} bytes {}", hex(bytes)),
        Input::Arrived { conn, arrival } => {
            format!("{now} shard {shard} {conn:?} arrived with {} bytes", arrival.unread.len())
        }
        Input::Opened { .. }
        | Input::Sent { .. }
        | Input::Closed { .. }
        | Input::Mesh { .. }
        | Input::Control(_)
        | Input::Wake
        | Input::Timer => format!("{now} shard {shard} {input:?}"),
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for byte in bytes.iter().take(64) {
        write!(text, "{byte:02x}").expect("writing to a String does not fail");
    }
    if bytes.len() > 64 {
        text.push('…');
    }
    text
}
