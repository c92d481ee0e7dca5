//! Settings over time: a reload changes what new connections are promised, not what old ones were.

use std::sync::Arc;

use dunlin_wire::{Limits, Sender};

use crate::config::{Config, Mqtt};

/// The settings in force and those that connections were promised before. One per shard.
///
/// An epoch is kept while a connection refers to it.
#[derive(Debug)]
pub(crate) struct ConfigEpochs {
    epochs: Vec<Option<Epoch>>,
    current: u16,
}

/// One generation of settings, with what is derived from them.
#[derive(Debug)]
pub(crate) struct Epoch {
    /// The settings.
    pub(crate) config: Arc<Config>,
    /// What the decoder takes.
    pub(crate) limits: Limits,
    connection_count: u32,
}

impl ConfigEpochs {
    /// The first epoch.
    pub(crate) fn new(config: Arc<Config>) -> Self {
        Self { epochs: vec![Some(Epoch::new(config))], current: 0 }
    }

    /// The settings in force.
    pub(crate) fn current(&self) -> &Mqtt {
        &self.at(self.current).config.mqtt
    }

    /// The settings of an epoch.
    pub(crate) fn mqtt(&self, epoch: u16) -> &Mqtt {
        &self.at(epoch).config.mqtt
    }

    /// What the decoder takes from connections of an epoch.
    pub(crate) fn limits(&self, epoch: u16) -> &Limits {
        &self.at(epoch).limits
    }

    /// Makes other settings the ones in force.
    ///
    /// With 65,535 older epochs still in use, which takes as many reloads while at least one connection of each lives,
    /// the current epoch is changed in place.
    pub(crate) fn replace(&mut self, config: Arc<Config>) {
        let old = self.current;
        if let Some(free) = self.epochs.iter().position(Option::is_none) {
            self.epochs[free] = Some(Epoch::new(config));
            self.current = u16::try_from(free).expect("at most u16::MAX epochs are ever pushed");
        } else if let Ok(next) = u16::try_from(self.epochs.len()) {
            self.epochs.push(Some(Epoch::new(config)));
            self.current = next;
        } else {
            let epoch = self.at_mut(old);
            epoch.limits = limits(&config.mqtt);
            epoch.config = config;
        }
        self.drop_unused(old);
    }

    /// A connection begins: its epoch is the current one.
    pub(crate) fn enter(&mut self) -> u16 {
        let current = self.current;
        self.at_mut(current).connection_count += 1;
        current
    }

    /// A connection of an epoch is gone.
    pub(crate) fn leave(&mut self, epoch: u16) {
        self.at_mut(epoch).connection_count -= 1;
        self.drop_unused(epoch);
    }

    fn drop_unused(&mut self, epoch: u16) {
        if epoch != self.current && self.at(epoch).connection_count == 0 {
            self.epochs[usize::from(epoch)] = None;
        }
    }

    fn at(&self, epoch: u16) -> &Epoch {
        self.epochs[usize::from(epoch)].as_ref().expect("an epoch lives while a connection refers to it")
    }

    fn at_mut(&mut self, epoch: u16) -> &mut Epoch {
        self.epochs[usize::from(epoch)].as_mut().expect("an epoch lives while a connection refers to it")
    }
}

impl Epoch {
    fn new(config: Arc<Config>) -> Self {
        Self { limits: limits(&config.mqtt), config, connection_count: 0 }
    }
}

/// What the decoder takes under these settings.
fn limits(mqtt: &Mqtt) -> Limits {
    Limits {
        packet_bytes_max: mqtt.max_packet_size,
        clientid_bytes_max: mqtt.max_clientid_len,
        topic_levels_max: mqtt.max_topic_levels,
        user_properties_max: mqtt.max_user_properties,
        sender: Sender::Client,
        strict: mqtt.strict_mode,
        ..Limits::SERVER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(max_packet_size: u32) -> Arc<Config> {
        let mqtt = Mqtt { max_packet_size, ..Mqtt::default() };
        Arc::new(Config { mqtt, ..Config::default() })
    }

    #[test]
    fn a_reload_keeps_old_promises_while_they_are_used() {
        let mut epochs = ConfigEpochs::new(config(100));
        let old = epochs.enter();
        epochs.replace(config(200));
        let new = epochs.enter();
        assert_eq!(epochs.limits(old).packet_bytes_max, 100);
        assert_eq!(epochs.limits(new).packet_bytes_max, 200);
        epochs.leave(old);
        epochs.replace(config(300));
        assert_eq!(epochs.current().max_packet_size, 300);
        assert_eq!(epochs.enter(), old, "the number of an epoch that nobody uses is free");
        assert_eq!(epochs.epochs.len(), 2);
    }
}
