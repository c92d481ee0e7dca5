//! Writes the packets of `wire/tests/vectors` as corpora for cargo-fuzz: `corpus/<target>/<name>`.

use dunlin_fuzz::{TARGETS, seeds};

fn main() -> std::io::Result<()> {
    let names = TARGETS.iter().map(|(name, _)| *name).chain(["canary"]);
    for name in names {
        let folder = seeds::home().join("corpus").join(name);
        std::fs::create_dir_all(&folder)?;
        for (packet, bytes) in seeds::vectors() {
            #[expect(clippy::disallowed_methods, reason = "this tool writes files")]
            std::fs::write(folder.join(packet), bytes)?;
        }
    }
    Ok(())
}
