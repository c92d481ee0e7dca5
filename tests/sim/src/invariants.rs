//! The rules that every run must keep, judged on the log when the world has healed and drained.
//!
//! Each `check_*` is one rule of STYLE §12; what a client can see at once (packet identifiers, Receive Maximum, Maximum
//! Packet Size, aliases) is checked by [`crate::client`] while the run goes on.

use std::collections::{BTreeMap, BTreeSet};

use dunlin_wire::{FilterKind, QoS, RetainHandling, topic};

use crate::log::{Epoch, Log, Publication, Receipt, Subscribed, WillFate};
use crate::plan::Plan;
use crate::storage_plan::StoragePlan;

/// Judges a drained run of a plan. Violations go to the log.
pub(crate) fn judge(log: &mut Log, plan: &Plan) {
    if log.reported_loss {
        // Anything may be missing, sessions' ends too; that the broker goes on is judged all the same.
        return;
    }
    let index = Index::of(log);
    let mut found = Vec::new();
    check_recipients(log, &index, &mut found);
    if log.is_weak() {
        if !plan.small_queues && plan.tells_all() {
            check_delivered(log, &index, &mut found);
        }
        found.drain(..).for_each(|violation| log.violation(violation));
        return;
    }
    check_counts(log, &index, plan, &mut found);
    check_options(log, &index, &mut found);
    if !plan.small_queues && plan.tells_all() {
        check_delivered(log, &index, &mut found);
        check_groups(log, &index, &mut found);
        // A message that was dropped may come when its publisher sends it again, behind later ones.
        check_order(log, &index, plan, &mut found);
        check_wills(log, &index, plan.features.kicks, &mut found);
    }
    for violation in found {
        log.violation(violation);
    }
}

/// Judges what a fresh subscriber (`epoch`) was given of the retained messages.
pub(crate) fn judge_retained(log: &mut Log, plan: &Plan, epoch: usize) {
    if log.reported_loss || !plan.tells_all() {
        return;
    }
    let mut given: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for receipt in log.receipts.iter().filter(|receipt| receipt.epoch == epoch) {
        let topic = log.publications[receipt.publication].topic.clone();
        given.entry(topic).or_default().push(receipt.publication);
    }
    let mut found = Vec::new();
    for (topic, history) in &log.retained {
        let acked = |entry: &(Option<usize>, usize)| {
            let publication = &log.publications[entry.1];
            publication.acked_at.is_some_and(|at| !log.may_be_lost(publication.sent_at, at))
        };
        let last_acked = history.iter().rposition(acked);
        let mut allowed: BTreeSet<Option<usize>> =
            history[last_acked.unwrap_or(0)..].iter().map(|entry| entry.0).collect();
        if last_acked.is_none() {
            allowed.insert(None);
        }
        let seen = given.get(topic).map(Vec::as_slice).unwrap_or_default();
        if seen.len() > 1 || !allowed.contains(&seen.first().copied()) {
            // [MQTT5-3.3.1-5] [MQTT5-3.3.1-6] [MQTT311-3.3.1-5]
            found.push(format!("retained on {topic}: given {seen:?}, allowed {allowed:?}"));
        }
    }
    for violation in found {
        log.violation(violation);
    }
}

/// Records arranged for the checks.
struct Index {
    /// Subscriptions of each epoch.
    by_epoch: BTreeMap<usize, Vec<usize>>,
    /// (epoch, publication) → receipts.
    by_delivery: BTreeMap<(usize, usize), Vec<usize>>,
    /// publication → epochs that received it.
    by_publication: BTreeMap<usize, BTreeSet<usize>>,
}

impl Index {
    fn of(log: &Log) -> Self {
        let mut index =
            Self { by_epoch: BTreeMap::new(), by_delivery: BTreeMap::new(), by_publication: BTreeMap::new() };
        for (number, subscribed) in log.subscriptions.iter().enumerate() {
            index.by_epoch.entry(subscribed.epoch).or_default().push(number);
        }
        for (number, receipt) in log.receipts.iter().enumerate() {
            index.by_delivery.entry((receipt.epoch, receipt.publication)).or_default().push(number);
            index.by_publication.entry(receipt.publication).or_default().insert(receipt.epoch);
        }
        index
    }

    /// Subscriptions of an epoch that match a topic.
    fn matching<'a>(
        &'a self,
        log: &'a Log,
        epoch: usize,
        topic: &'a str,
    ) -> impl Iterator<Item = &'a Subscribed> {
        let numbers = self.by_epoch.get(&epoch).map(Vec::as_slice).unwrap_or_default();
        numbers
            .iter()
            .map(|number| &log.subscriptions[*number])
            .filter(move |subscribed| subscribed.takes(topic))
    }
}

impl Epoch {
    /// Whether its beginning may have been lost, as the level of durability says.
    fn may_be_lost(&self, log: &Log) -> bool {
        self.begun_at.is_some_and(|at| log.may_be_lost(self.asked_at, at))
    }
}

impl Subscribed {
    fn kind(&self) -> FilterKind<'_> {
        FilterKind::parse(&self.filter).expect("the workload writes valid filters")
    }

    fn is_shared(&self) -> bool {
        matches!(self.kind(), FilterKind::Shared { .. })
    }

    /// Whether it is not shared and stood before the publish was sent: one that begins later may see a message that its
    /// publisher sends again.
    fn is_plain_for(&self, publication: &Publication) -> bool {
        !self.is_shared() && self.acked_at.is_some_and(|at| at < publication.sent_at)
    }

    fn takes(&self, name: &str) -> bool {
        topic::matches(self.kind().filter(&self.filter), name)
    }

    /// Whether it stood from before the publish was sent until the end.
    fn covers(&self, publication: &Publication) -> bool {
        self.given_up_at.is_none() && self.acked_at.is_some_and(|at| at < publication.sent_at)
    }
}

/// Nobody receives what it has no subscription for; after a clean start nothing of the old session is seen.
fn check_recipients(log: &Log, index: &Index, found: &mut Vec<String>) {
    for receipt in &log.receipts {
        let publication = &log.publications[receipt.publication];
        let entitled = index.matching(log, receipt.epoch, &publication.topic).any(|subscribed| {
            let gone_before = subscribed.gone_at.is_some_and(|at| {
                at < publication.sent_at && !log.may_be_lost(subscribed.given_up_at.unwrap_or(at), at)
            });
            subscribed.sent_at < receipt.at && !gone_before
        });
        // The end of the session before it may have been lost.
        if !entitled && !log.epochs[receipt.epoch].may_be_lost(log) {
            let client = log.epochs[receipt.epoch].client;
            found.push(format!(
                "client {client} (session {}) received message {} on {} without a subscription",
                receipt.epoch, receipt.publication, publication.topic
            ));
        }
    }
}

/// QoS 0 at most once, QoS 2 never twice, per session and subscription that may bring it.
fn check_counts(log: &Log, index: &Index, plan: &Plan, found: &mut Vec<String>) {
    let reshards = plan.storage.as_ref().is_some_and(|storage| storage.reshards);
    for (&(epoch, number), receipts) in &index.by_delivery {
        let publication = &log.publications[number];
        let mut sources = BTreeSet::new();
        for subscribed in index.matching(log, epoch, &publication.topic) {
            sources.insert(if subscribed.is_shared() { subscribed.filter.as_str() } else { "" });
        }
        let comes_again = publication.qos == QoS::AtLeastOnce || publication.is_repeated_anew;
        if comes_again || publication.will.is_some() {
            // How often a Will comes is judged with the Wills. Its publisher may have sent it again.
            continue;
        }
        // Retained replays come once per SUBSCRIBE, with RETAIN set; QoS 1 deliveries may come again.
        let as_published =
            index.matching(log, epoch, &publication.topic).any(|one| one.options.retain_as_published);
        if publication.retain && as_published {
            // A live copy keeps RETAIN and cannot be told from a replay.
            continue;
        }
        // A copy of QoS 0 goes out at once; when the process ends before it has recorded the message, its publisher sends it
        // again.
        let may_come_again = |receipt: &Receipt| {
            receipt.qos == QoS::AtLeastOnce
                || (receipt.qos == QoS::AtMostOnce
                    && publication.qos == QoS::ExactlyOnce
                    && !log.falls.is_empty())
        };
        // What no shard has answered for when the process ends comes again, and two shards know each other's messages: but not
        // those for members of groups, and not after their number has changed.
        let was_cut_off = log.falls.iter().any(|fall| {
            publication.sent_at < *fall && publication.acked_at.is_none_or(|acked_at| *fall < acked_at)
        });
        let is_shared = sources.iter().any(|source| !source.is_empty());
        let is_sent_again = was_cut_off || plan.storage.as_ref().is_some_and(StoragePlan::refuses);
        if is_sent_again && (reshards || (is_shared && plan.shard_count > 1)) {
            continue;
        }
        let counts = |receipt: &Receipt| !may_come_again(receipt) && !receipt.retain;
        let count = receipts.iter().filter(|receipt| counts(&log.receipts[**receipt])).count();
        if count > sources.len() {
            // [MQTT5-4.3.1-1] [MQTT5-4.3.3-1] and following
            found.push(format!(
                "message {number} came {count} times to session {epoch} of client {}",
                log.epochs[epoch].client
            ));
        }
    }
}

/// No Local, Retain Handling and Subscription Identifiers are kept.
fn check_options(log: &Log, index: &Index, found: &mut Vec<String>) {
    for receipt in &log.receipts {
        let publication = &log.publications[receipt.publication];
        let client = log.epochs[receipt.epoch].client;
        let sources: Vec<&Subscribed> = index.matching(log, receipt.epoch, &publication.topic).collect();
        let own = publication.publisher == client && publication.will.is_none();
        if own && !receipt.retain && sources.iter().all(|source| source.options.no_local) {
            // [MQTT5-3.8.3-3]
            found.push(format!(
                "client {client} received its own message {} despite No Local",
                receipt.publication
            ));
        }
        let silent = |source: &&Subscribed| {
            source.options.retain_handling == RetainHandling::DoNotSend && !source.options.retain_as_published
        };
        if receipt.retain && sources.iter().all(silent) {
            // [MQTT5-3.3.1-11] [MQTT5-3.3.1-12]
            found.push(format!(
                "client {client} received the retained message {} unasked",
                receipt.publication
            ));
        }
        for id in &receipt.subscription_ids {
            let named = log.subscriptions.get((*id as usize).wrapping_sub(1));
            let belongs =
                named.is_some_and(|named| named.epoch == receipt.epoch && named.takes(&publication.topic));
            if !belongs {
                // [MQTT5-3.3.4-3] [MQTT5-3.3.4-4]
                found.push(format!(
                    "message {} came to client {client} with a wrong identifier {id}",
                    receipt.publication
                ));
            }
        }
        let numbered = receipt.subscription_ids.is_empty() && log.epochs[receipt.epoch].is_v5;
        if numbered && publication.will.is_none() {
            found.push(format!(
                "message {} came to client {client} without an identifier",
                receipt.publication
            ));
        }
    }
}

/// An acknowledged message reaches every session that was subscribed before it was sent.
fn check_delivered(log: &Log, index: &Index, found: &mut Vec<String>) {
    for subscribed in &log.subscriptions {
        let epoch = &log.epochs[subscribed.epoch];
        if epoch.ended || subscribed.is_shared() || subscribed.qos == QoS::AtMostOnce {
            continue;
        }
        let is_shaky = epoch.may_be_lost(log)
            || subscribed.acked_at.is_some_and(|at| log.may_be_lost(subscribed.sent_at, at));
        for (number, publication) in log.publications.iter().enumerate() {
            let due = publication.will.is_none()
                && publication.qos > QoS::AtMostOnce
                && publication.acked_at.is_some_and(|at| !log.may_be_lost(publication.sent_at, at))
                && !is_shaky
                && publication.payload_bytes > 0
                && publication.payload_bytes + HEAD_BYTES <= epoch.packet_bytes_max
                && subscribed.covers(publication)
                && !(subscribed.options.no_local && publication.publisher == epoch.client)
                && subscribed.takes(&publication.topic);
            if due && !index.by_delivery.contains_key(&(subscribed.epoch, number)) {
                // [MQTT5-4.3.2-3] [MQTT5-4.5.0-1] [MQTT311-4.5.0-1]
                found.push(format!(
                    "message {number} on {} (acknowledged) never reached client {} with {}",
                    publication.topic, epoch.client, subscribed.filter
                ));
            }
        }
    }
}

/// A message for a group reaches one of its members.
fn check_groups(log: &Log, index: &Index, found: &mut Vec<String>) {
    let mut groups: BTreeMap<&str, Vec<&Subscribed>> = BTreeMap::new();
    for subscribed in log.subscriptions.iter().filter(|subscribed| subscribed.is_shared()) {
        groups.entry(&subscribed.filter).or_default().push(subscribed);
    }
    for (filter, members) in groups {
        for (number, publication) in log.publications.iter().enumerate() {
            if group_is_due(log, index, &members, publication) && !index.by_publication.contains_key(&number)
            {
                // [MQTT5-4.8.2-3]
                found
                    .push(format!("message {number} on {} reached no member of {filter}", publication.topic));
            }
        }
    }
}

/// Whether a group must have received a message: a member stood throughout, and nothing excuses a loss.
fn group_is_due(log: &Log, index: &Index, members: &[&Subscribed], publication: &Publication) -> bool {
    let acked = publication.will.is_none() && publication.payload_bytes > 0 && publication.acked_at.is_some();
    if !acked || publication.qos == QoS::AtMostOnce || !members[0].takes(&publication.topic) {
        return false;
    }
    let steady = members.iter().any(|member| !log.epochs[member.epoch].ended && member.covers(publication));
    // A member with QoS 0 may lose it; one that ended with a QoS 2 message takes it along [MQTT5-4.8.2-5]; one that
    // takes only small packets drops it.
    let excused = members.iter().any(|member| {
        let epoch = &log.epochs[member.epoch];
        member.qos == QoS::AtMostOnce
            || (publication.qos == QoS::ExactlyOnce && epoch.ended)
            || publication.payload_bytes + HEAD_BYTES > epoch.packet_bytes_max
    });
    let also_plain = members
        .iter()
        .any(|member| index.matching(log, member.epoch, &publication.topic).any(|other| !other.is_shared()));
    steady && !excused && !also_plain
}

/// First deliveries keep the order of each publisher, topic and QoS (§4.6).
fn check_order(log: &Log, index: &Index, plan: &Plan, found: &mut Vec<String>) {
    // What was refused for want of room is sent again if the client did not hear that, as in 3.x, and others behind it may have got
    // through already.
    let refuses = plan.storage.as_ref().is_some_and(StoragePlan::refuses);
    let mut last: BTreeMap<(usize, usize, &str, QoS, QoS), usize> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for receipt in log.receipts.iter().filter(|receipt| !receipt.retain) {
        let publication = &log.publications[receipt.publication];
        let mut sources = index.matching(log, receipt.epoch, &publication.topic);
        let steady = sources.all(|subscribed| subscribed.is_plain_for(publication));
        // A QoS 0 copy may be dropped, and another made when the publisher sends its QoS 1 message again.
        let twice_made = receipt.qos == QoS::AtMostOnce && publication.qos == QoS::AtLeastOnce;
        if !steady
            || (refuses && publication.is_repeated)
            || twice_made
            || publication.will.is_some()
            || !seen.insert((receipt.epoch, receipt.publication))
        {
            continue;
        }
        let key =
            (receipt.epoch, publication.publisher, publication.topic.as_str(), publication.qos, receipt.qos);
        let before = last.insert(key, receipt.publication);
        if let Some(before) = before.filter(|before| *before > receipt.publication) {
            // [MQTT5-4.6.0-5] [MQTT311-4.6.0-6]
            found.push(format!(
                "client {}: message {} after {before} on {}",
                log.epochs[receipt.epoch].client, receipt.publication, publication.topic
            ));
        }
    }
}

/// A Will is published exactly when it should be; client 0 watches.
fn check_wills(log: &Log, index: &Index, kicks: bool, found: &mut Vec<String>) {
    let watches: Vec<_> =
        log.subscriptions.iter().filter(|subscribed| subscribed.filter == "will/#").collect();
    let epochs: BTreeSet<usize> = watches.iter().map(|watch| watch.epoch).collect();
    for (number, publication) in log.publications.iter().enumerate() {
        let Some(fate) = publication.will else { continue };
        let deliveries = epochs.iter().filter_map(|epoch| index.by_delivery.get(&(*epoch, number))).flatten();
        let (repeats, firsts): (Vec<usize>, Vec<usize>) =
            deliveries.partition(|receipt| log.receipts[**receipt].dup);
        // A repeat is of a delivery that was perhaps lost on the way, not of the publication.
        let count = firsts.len().max(repeats.len().min(1));
        let is_watched =
            watches.iter().any(|watch| watch.covers(publication) && !log.epochs[watch.epoch].ended);
        // When the process ends in between, it may be published again.
        let falls = log.falls.iter().filter(|at| **at > publication.sent_at).count();
        let wrong = match fate {
            WillFate::Unknown => count > 1 + falls,
            // The operator may have ended the connection while DISCONNECT was on its way.
            WillFate::Removed => count > usize::from(kicks),
            WillFate::Due if publication.qos == QoS::AtMostOnce || !is_watched => count > 1 + falls,
            WillFate::Due => count == 0 || count > 1 + falls,
        };
        if wrong {
            // [MQTT5-3.1.2-8] [MQTT5-3.1.2-10] [MQTT311-3.1.2-8]
            found.push(format!(
                "the Will {number} of client {} ({fate:?}) was published {count} times",
                publication.publisher
            ));
        }
    }
}

/// Room for all of a PUBLISH but its payload.
const HEAD_BYTES: usize = 60;
