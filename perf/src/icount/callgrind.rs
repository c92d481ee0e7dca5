//! Builds the counted program and runs its benchmarks under valgrind's callgrind, one process each.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The counted program.
#[derive(Debug)]
pub(crate) struct Program {
    path: PathBuf,
}

/// Why nothing could be counted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Error(pub(crate) String);

impl Program {
    /// Builds it with the profile of benchmarks.
    pub(crate) fn build() -> Result<Self, Error> {
        let mut build = Command::new("cargo");
        build.args(["bench", "--no-run", "--quiet", "--package", "dunlin-perf", "--bench", "icount"]);
        build.arg("--message-format=json");
        let output = build.stderr(std::process::Stdio::inherit()).output();
        let output = output.map_err(|error| Error(format!("starting cargo: {error}")))?;
        let found = executable(&String::from_utf8_lossy(&output.stdout));
        match found.filter(|_| output.status.success()) {
            Some(path) => Ok(Self { path }),
            None => {
                Err(Error("cargo bench --no-run --package dunlin-perf --bench icount has failed".to_owned()))
            }
        }
    }

    /// The names of its benchmarks, in order.
    pub(crate) fn names(&self) -> Result<Vec<String>, Error> {
        let output = Command::new(&self.path).arg("--list").output();
        let output = output.map_err(|error| Error(format!("starting {}: {error}", self.path.display())))?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
    }

    /// Instructions per operation of one benchmark.
    pub(crate) fn count(&self, name: &str) -> Result<f64, Error> {
        let output = self.valgrind(name).output().map_err(|error| missing(&error))?;
        let (text, notes) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let counted = collected(&notes).zip(operations(&text, name)).filter(|_| output.status.success());
        let Some((instructions, operations)) = counted else {
            return Err(Error(format!("{name} under callgrind has failed ({}):\n{notes}", output.status)));
        };
        if instructions < 1.0 {
            let text =
                format!("{name}: callgrind saw no function with {REGION} in its name; are symbols stripped?");
            return Err(Error(text));
        }
        Ok(instructions / operations)
    }

    /// The same environment everywhere: what the C library picks by the processor's features or by variables is fixed.
    fn valgrind(&self, name: &str) -> Command {
        let mut command = Command::new("valgrind");
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("GLIBC_TUNABLES", TUNABLES);
        command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"]);
        command.arg(format!("--toggle-collect=*{REGION}*"));
        command.arg(&self.path).arg(name);
        command
    }
}

/// The compiler and the kind of machine: another one gives other counts.
pub(crate) fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").output();
    let version = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    format!(
        "{} {}",
        version.unwrap_or_else(|_| "rustc of an unknown version".to_owned()),
        std::env::consts::ARCH
    )
}

/// Where the baseline is: in this package, wherever the command is given.
pub(crate) fn baseline_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("baselines/icount.json")
}

fn missing(error: &io::Error) -> Error {
    Error(format!("starting valgrind: {error}; install it (Debian: apt-get install valgrind)"))
}

/// The program's path, from cargo's messages.
fn executable(messages: &str) -> Option<PathBuf> {
    let values = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut paths = values.filter_map(|value| {
        let is_it = value["target"]["name"] == "icount" && value["target"]["kind"][0] == "bench";
        is_it.then(|| value["executable"].as_str().map(PathBuf::from)).flatten()
    });
    paths.next()
}

/// The line `==PID== Collected : N`.
fn collected(notes: &str) -> Option<f64> {
    notes.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok())
}

/// The line `NAME N` of the program itself.
fn operations(text: &str, name: &str) -> Option<f64> {
    let count: f64 = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())?;
    (count > 0.0).then_some(count)
}

/// What the names of counted functions have in common.
const REGION: &str = "counted_region";
/// The C library must not choose its memcpy by what the processor has.
const TUNABLES: &str = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-AVX,-ERMS,-FSRM,-AVX_Fast_Unaligned_Load";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callgrind_s_and_the_program_s_lines_are_read() {
        let notes = "==12== Callgrind\n==12== Events    : Ir\n==12== Collected : 4711000\n==12== \n";
        assert_eq!(collected(notes), Some(4_711_000.0));
        assert_eq!(collected("==12== Collected\n"), None);
        assert_eq!(operations("a/b 1000\n", "a/b"), Some(1_000.0));
        assert_eq!((operations("a/b 0\n", "a/b"), operations("", "a/b")), (None, None));
    }

    #[test]
    fn the_program_is_found_in_cargo_s_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"icount"},"executable":null}"#,
            "\nnot json\n",
            r#"{"reason":"compiler-artifact","target":{"kind":["bench"],"name":"icount"},"executable":"/x/icount-1"}"#,
        );
        assert_eq!(executable(messages), Some(PathBuf::from("/x/icount-1")));
        assert_eq!(executable("{}"), None);
    }
}
