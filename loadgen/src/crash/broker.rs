//! The broker's process: started, killed, started again. Nothing else is ever killed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::guard::Guard;

/// What starts the broker, and the process that runs now. Dropping it kills that process.
#[derive(Debug)]
pub(crate) struct Broker {
    command: Vec<String>,
    /// What {shards} stands for at the moment.
    shards: u32,
    output: PathBuf,
    child: Option<Child>,
    guard: Guard,
}

impl Broker {
    /// A broker that is not running yet. `{dir}` and `{port}` in the command are replaced; `{shards}` at each start.
    ///
    /// # Errors
    /// When its guard can't be started.
    pub(crate) fn new(template: &[String], folder: &Path, port: u16) -> io::Result<Self> {
        let data = folder.join(DATA).display().to_string();
        let port = port.to_string();
        let command =
            template.iter().map(|part| part.replace("{dir}", &data).replace("{port}", &port)).collect();
        Ok(Self { command, shards: 1, output: folder.join(OUTPUT), child: None, guard: Guard::new(folder)? })
    }

    /// The command line, for people.
    pub(crate) fn command_line(&self) -> String {
        self.command.join(" ")
    }

    /// From the next start on `{shards}` stands for this number; whether it stood for another one before.
    pub(crate) const fn set_shards(&mut self, shards: u32) -> bool {
        let is_other = self.shards != shards;
        self.shards = shards;
        is_other
    }

    /// Nothing is left to be done should the checker end.
    pub(crate) fn dismiss_guard(&mut self) {
        self.guard.dismiss();
    }

    /// Starts it; its output goes to a file in the run's folder.
    ///
    /// # Errors
    /// When there is no such program, or no file can be written.
    pub(crate) fn start(&mut self) -> io::Result<()> {
        let output = self.open_output()?;
        let shards = self.shards.to_string();
        let command: Vec<String> =
            self.command.iter().map(|part| part.replace("{shards}", &shards)).collect();
        let (program, arguments) = command.split_first().expect("the command line demands a command");
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(output.try_clone()?)
            .stdout(output)
            .spawn()?;
        self.guard.watch(Some(child.id()));
        self.child = Some(child);
        Ok(())
    }

    /// How it ended, if it did so by itself.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok().flatten()?;
        self.child = None;
        self.guard.watch(None);
        Some(status.to_string())
    }

    /// Kills it with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill()?;
        self.guard.watch(None);
        child.wait().map(drop)
    }

    /// Asks it to end, with SIGTERM. It has not ended when this returns.
    ///
    /// # Errors
    /// When the signal can't be sent.
    pub(crate) fn ask_to_end(&self) -> io::Result<()> {
        let Some(child) = &self.child else { return Ok(()) };
        // The standard library sends no other signal than SIGKILL.
        let status = Command::new("kill").args(["-TERM", &child.id().to_string()]).status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other("kill -TERM failed")) }
    }

    /// The last lines that it wrote.
    pub(crate) fn last_words(&self) -> String {
        let read = || -> io::Result<String> {
            let mut file = OpenOptions::new().read(true).open(&self.output)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS_BYTES)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
        };
        let text = read().unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(LAST_WORDS_LINES).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// The file of its output; begun anew when it has grown large.
    fn open_output(&self) -> io::Result<File> {
        let mut file = OpenOptions::new().create(true).append(true).open(&self.output)?;
        if file.metadata()?.len() > OUTPUT_BYTES_MAX {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
        }
        Ok(file)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.kill());
    }
}

/// The run's own folder.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
}

impl Folder {
    /// Makes one that did not exist before, below `parent` or where temporary files go.
    ///
    /// # Errors
    /// When it can't be made.
    pub(crate) fn new(parent: Option<&Path>) -> io::Result<Self> {
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_path_buf);
        let path = parent.join(format!("dunlin-crash-{}", std::process::id()));
        std::fs::create_dir_all(&parent)?;
        std::fs::create_dir(&path)?;
        std::fs::create_dir(path.join(DATA))?;
        Ok(Self { path })
    }

    /// Removes it with all that is in it.
    pub(crate) fn remove(self) {
        drop(std::fs::remove_dir_all(&self.path));
    }
}

/// An address of the loopback device on which nobody listens at the moment.
///
/// # Errors
/// When the kernel has none.
pub(crate) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// The folder that `{dir}` stands for.
const DATA: &str = "data";
/// The file of the broker's output.
const OUTPUT: &str = "broker.log";
const OUTPUT_BYTES_MAX: u64 = 4 << 20;
const LAST_WORDS_BYTES: u64 = 4_096;
const LAST_WORDS_LINES: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_started_with_the_runs_folder_and_port_and_its_last_words_are_kept() {
        let folder = Folder::new(Some(&std::env::temp_dir().join("dunlin-crash-broker-test"))).unwrap();
        let template = ["sh", "-c", "echo {port} {shards}; ls -d {dir}; exit 3"].map(str::to_owned);
        let mut broker = Broker::new(&template, &folder.path, 4711).unwrap();
        assert!(broker.set_shards(7));
        broker.start().unwrap();
        let how = std::iter::repeat_with(|| broker.ended()).find_map(|how| how).unwrap();
        assert!(how.contains('3'), "{how}");
        let words = broker.last_words();
        assert!(words.starts_with("4711 7\n") && words.ends_with("/data"), "{words}");
        broker.dismiss_guard();
        folder.remove();
    }

    #[test]
    fn it_is_killed_and_gone() {
        let folder = Folder::new(Some(&std::env::temp_dir().join("dunlin-crash-kill-test"))).unwrap();
        let mut broker = Broker::new(&["sleep".to_owned(), "1000".to_owned()], &folder.path, 1).unwrap();
        broker.start().unwrap();
        let pid = broker.child.as_ref().unwrap().id();
        assert_eq!(broker.ended(), None);
        broker.kill().unwrap();
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        folder.remove();
    }
}
