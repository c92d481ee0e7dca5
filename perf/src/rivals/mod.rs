//! The other brokers: where they come from, how they are installed, and with which settings they run.
//!
//! Versions are pinned, and what is installed lies in `target/rivals` (mosquitto is Debian's). Their settings are files of
//! ours in `perf/rivals/`, each choice with its reason.

mod install;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bench::Kind;
use crate::error::Error;
use install::{Recipe, installed};

/// A broker that can be started.
#[derive(Clone, Debug)]
pub(crate) struct Rival {
    pub(crate) kind: Kind,
    program: PathBuf,
    pub(crate) version: String,
}

impl Rival {
    /// Finds a rival, installing it if it is missing and `may_install`. `folder` is where rivals are kept.
    ///
    /// # Errors
    /// Why it is not there, in words for the report.
    pub(crate) fn prepare(kind: Kind, folder: &Path, may_install: bool) -> Result<Self, String> {
        let recipe = match kind {
            Kind::Mosquitto => Recipe::Debian { package: "mosquitto" },
            Kind::Rumqttd => RUMQTTD,
            Kind::Rmqttd => RMQTTD,
            Kind::Aedes => Recipe::Npm { package: "aedes", version: "1.2.0" },
            Kind::Floor | Kind::Dunlin => return Err("is no rival".to_owned()),
        };
        let (program, version) = installed(&recipe, folder, may_install)?;
        Ok(Self { kind, program, version })
    }

    /// The command that serves MQTT on this port of the loopback address; its configuration is written into
    /// `scratch`.
    ///
    /// # Errors
    /// When the configuration can't be written.
    pub(crate) fn command(&self, port: u16, scratch: &Path) -> Result<Command, Error> {
        let config = |name: &str, text: &str| {
            let text = text
                .replace("{port}", &port.to_string())
                .replace("{rpc_port}", &port.saturating_add(1).to_string())
                .replace("{folder}", &scratch.display().to_string());
            let file = scratch.join(name);
            crate::files::write(&file, &text).map(|()| file)
        };
        let mut command = Command::new(&self.program);
        match self.kind {
            Kind::Mosquitto => {
                command.arg("-c").arg(config("mosquitto.conf", include_str!("../../rivals/mosquitto.conf"))?);
            }
            Kind::Rumqttd => {
                let file = config("rumqttd.toml", include_str!("../../rivals/rumqttd.toml"))?;
                command.arg("--quiet").arg("--config").arg(file);
            }
            Kind::Rmqttd => {
                let file = config("rmqttd.toml", include_str!("../../rivals/rmqttd.toml"))?;
                command.arg("--config").arg(file).current_dir(scratch);
            }
            Kind::Aedes => {
                // Node looks for packages beside the file, so the file goes where they are.
                let file = self.program.join("aedes.mjs");
                crate::files::write(&file, include_str!("../../rivals/aedes.mjs"))?;
                command = Command::new("node");
                command.arg(file).arg(port.to_string());
            }
            Kind::Floor | Kind::Dunlin => {}
        }
        Ok(command)
    }
}

/// The file in `perf/rivals/` that a broker runs with.
pub(crate) const fn configuration(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Floor | Kind::Dunlin => None,
        Kind::Mosquitto => Some("perf/rivals/mosquitto.conf"),
        Kind::Rumqttd => Some("perf/rivals/rumqttd.toml"),
        Kind::Rmqttd => Some("perf/rivals/rmqttd.toml"),
        Kind::Aedes => Some("perf/rivals/aedes.mjs"),
    }
}

/// The lock file of this version names a crate that rustc 1.95 refuses (metrics 0.22.1, error E0521), so the newest
/// fitting versions are taken instead.
const RUMQTTD: Recipe = Recipe::Cargo { package: "rumqttd", version: "0.20.0", locked: false, needs: &[] };

/// Its Kafka and gRPC parts, which can't be left out, ask for programs of other languages.
const RMQTTD: Recipe = Recipe::Cargo {
    package: "rmqttd",
    version: "0.24.0",
    locked: true,
    needs: &[("cmake", "cmake"), ("protoc", "protobuf-compiler"), ("make", "make")],
};

/// What the report says about how a broker was built and set up, beyond its configuration file.
pub(crate) const fn remark(kind: Kind) -> &'static str {
    match kind {
        Kind::Floor => {
            "the same sockets, sizes and pattern without MQTT: bytes are forwarded by routes agreed upon beforehand"
        }
        Kind::Dunlin => "one shard on one core, `--memory-only`, otherwise its defaults",
        Kind::Mosquitto => "Debian's package",
        Kind::Rumqttd => {
            "built from crates.io without its lock file, which names a version of `metrics` that rustc 1.95 refuses \
             (E0521); it can't set TCP_NODELAY"
        }
        Kind::Rmqttd => {
            "built from crates.io with its lock file; retained messages and shared subscriptions are its plugins"
        }
        Kind::Aedes => "from npm, with a server file of ours; it has no shared subscriptions",
    }
}
