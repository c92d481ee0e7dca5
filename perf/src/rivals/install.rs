//! Finds rivals, and installs them with the clients of Debian, crates.io and npm.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How a broker gets onto this machine.
#[derive(Clone, Copy, Debug)]
pub(super) enum Recipe {
    /// A Debian package with a program of the same name.
    Debian {
        /// Name of the package.
        package: &'static str,
    },
    /// A crate with a program of the same name.
    Cargo {
        /// Name of the crate.
        package: &'static str,
        version: &'static str,
        /// Whether its own lock file is used.
        locked: bool,
        /// Programs that its build asks for, with the Debian packages that have them.
        needs: &'static [(&'static str, &'static str)],
    },
    /// An npm package without a program.
    Npm {
        /// Name of the package.
        package: &'static str,
        version: &'static str,
    },
}

/// Where it is (the program; for npm the folder that holds `node_modules`) and its version.
pub(super) fn installed(
    recipe: &Recipe,
    folder: &Path,
    may_install: bool,
) -> Result<(PathBuf, String), String> {
    if let Some(found) = find(recipe, folder) {
        return Ok(found);
    }
    if !may_install {
        return Err("not installed, and --no-install was given".to_owned());
    }
    match *recipe {
        Recipe::Debian { package } => apt_install(&[package])?,
        Recipe::Cargo { package, version, locked, needs } => {
            cargo_install(package, version, locked, needs, folder)?;
        }
        Recipe::Npm { package, version } => npm_install(package, version, folder)?,
    }
    find(recipe, folder).ok_or_else(|| "was installed, but its program can't be found".to_owned())
}

fn find(recipe: &Recipe, folder: &Path) -> Option<(PathBuf, String)> {
    match *recipe {
        Recipe::Debian { package } => {
            let program = ["/usr/sbin", "/usr/local/sbin", "/usr/bin"]
                .iter()
                .map(|folder| Path::new(folder).join(package))
                .find(|path| path.is_file())?;
            let output = Command::new(&program).arg("-h").output().ok()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let version = text.lines().next().unwrap_or(package);
            Some((program, version.to_owned()))
        }
        Recipe::Cargo { package, version, .. } => {
            let list = crate::files::read(&folder.join(".crates.toml")).unwrap_or_default();
            let program = folder.join("bin").join(package);
            let known = list.contains(&format!("\"{package} {version} ("));
            (known && program.is_file()).then(|| (program, format!("{package} {version}")))
        }
        Recipe::Npm { package, version } => {
            let home = folder.join(package);
            let manifest = home.join("node_modules").join(package).join("package.json");
            let manifest = crate::files::read(&manifest).ok()?;
            let known = manifest.contains(&format!("\"version\": \"{version}\""));
            let node = Command::new("node").arg("--version").output().ok()?;
            let node = String::from_utf8_lossy(&node.stdout).trim().to_owned();
            known.then(|| (home, format!("{package} {version} (Node.js {node})")))
        }
    }
}

fn apt_install(packages: &[&str]) -> Result<(), String> {
    say(&format!("installing {} with apt-get …\n", packages.join(", ")));
    let install = |packages: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["install", "--yes", "--quiet", "--no-install-recommends"]).args(packages);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        watched(command)
    };
    install(packages).or_else(|_| {
        // A fresh system has no lists of packages yet.
        let mut update = Command::new("apt-get");
        update.args(["update", "--quiet"]);
        watched(update)?;
        install(packages)
    })
}

fn cargo_install(
    package: &str,
    version: &str,
    locked: bool,
    needs: &[(&str, &str)],
    folder: &Path,
) -> Result<(), String> {
    let missing: Vec<&str> =
        needs.iter().filter(|(program, _)| !is_on_path(program)).map(|(_, debian)| *debian).collect();
    if !missing.is_empty() {
        apt_install(&missing)?;
    }
    say(&format!("building {package} {version} from crates.io; this takes minutes, once …\n"));
    let mut command = Command::new("cargo");
    command.args(["install", package, "--version", version, "--root"]).arg(folder);
    if locked {
        command.arg("--locked");
    }
    // An interrupted build goes on where it was.
    let build = folder.join("build");
    command.env("CARGO_TARGET_DIR", &build);
    watched(command)?;
    drop(std::fs::remove_dir_all(build));
    Ok(())
}

fn npm_install(package: &str, version: &str, folder: &Path) -> Result<(), String> {
    if !is_on_path("node") || !is_on_path("npm") {
        apt_install(&["nodejs", "npm"])?;
    }
    let home = folder.join(package);
    std::fs::create_dir_all(&home).map_err(|error| format!("creating {}: {error}", home.display()))?;
    say(&format!("installing {package} {version} with npm …\n"));
    let mut command = Command::new("npm");
    command.args(["install", "--no-save", "--no-package-lock", "--no-audit", "--no-fund"]);
    command.args(["--loglevel", "error", "--prefix"]).arg(&home).arg(format!("{package}@{version}"));
    watched(command)
}

fn is_on_path(program: &str) -> bool {
    let output = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    output.is_ok()
}

/// Runs a command, shows what it says, and gives back its complaint when it fails.
fn watched(mut command: Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{name} can't be run ({error}); install it first"))?;
    let mut complaint = String::new();
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            say(&format!("    {line}\n"));
            let is_complaint = COMPLAINTS.iter().any(|word| line.trim_start().starts_with(word));
            if is_complaint && complaint.len() < COMPLAINT_BYTES {
                complaint.push_str(if complaint.is_empty() { "" } else { "; " });
                complaint.push_str(line.trim());
            }
        }
    }
    let status = child.wait().map_err(|error| format!("waiting for {name}: {error}"))?;
    if status.success() {
        return Ok(());
    }
    let complaint = if complaint.is_empty() { status.to_string() } else { complaint };
    Err(format!("{name} failed: {complaint} (is the network there?)"))
}

fn say(text: &str) {
    drop(std::io::stderr().write_all(text.as_bytes()));
}

/// How lines begin that say why an installation failed.
const COMPLAINTS: [&str; 5] = ["error", "E:", "npm error", "npm ERR!", "Caused by"];
/// Enough of them for a report.
const COMPLAINT_BYTES: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_and_may_not_be_installed_is_said() {
        let nowhere = Path::new("/nonexistent");
        let recipe = Recipe::Cargo { package: "rumqttd", version: "0.0.0", locked: true, needs: &[] };
        let error = installed(&recipe, nowhere, false).unwrap_err();
        assert!(error.contains("--no-install"), "{error}");
    }

    #[test]
    fn a_failed_installation_says_why() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo fine; echo '  error: no such host' >&2; echo more >&2; exit 3"]);
        let error = watched(command).unwrap_err();
        assert!(error.contains("error: no such host") && !error.contains("more;"), "{error}");
        let mut command = Command::new("sh");
        command.args(["-c", "exit 3"]);
        assert!(watched(command).unwrap_err().contains("exit status: 3"));
        assert!(watched(Command::new("/nonexistent/npm")).unwrap_err().contains("install it first"));
    }
}
