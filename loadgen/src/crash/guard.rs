//! Cleans up after a checker that ends before its time, by Ctrl-C, SIGTERM or SIGKILL: a shell that waits at the end of a pipe.
//!
//! While the checker lives it writes into the pipe which process the broker is. When it has gone, however that came, the
//! pipe ends; the shell then kills that process and removes the run's folder. No handler of a signal could do it for SIGKILL.

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// The shell and the pipe to it. Dropping it without [`Guard::dismiss`] makes the shell clean up.
#[derive(Debug)]
pub(crate) struct Guard {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Guard {
    /// Guards a run's folder, and no broker yet.
    ///
    /// # Errors
    /// When there is no shell.
    pub(crate) fn new(folder: &Path) -> io::Result<Self> {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "dunlin-crash-guard"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C reaches the whole group of the terminal's foreground; this one has to outlive it.
            .process_group(0)
            .spawn()?;
        let pipe = shell.stdin.take();
        Ok(Self { shell, pipe })
    }

    /// This process is the broker now; `None`: there is none.
    pub(crate) fn watch(&mut self, process: Option<u32>) {
        self.say(&process.map_or_else(|| NOBODY.to_owned(), |id| id.to_string()));
    }

    /// The run has ended in order: nothing is to be killed or removed.
    pub(crate) fn dismiss(&mut self) {
        self.say(DONE);
        self.pipe = None;
        // A shell that can't be waited for has ended already.
        drop(self.shell.wait());
    }

    fn say(&mut self, line: &str) {
        if let Some(pipe) = &mut self.pipe {
            // Without a shell there is no guard any more; the run itself goes on.
            drop(pipe.write_all(format!("{line}\n").as_bytes()));
        }
    }
}

const NOBODY: &str = "-";
const DONE: &str = "done";
/// What the shell does. A process that was killed while it waited for the disk ends a little later, and only then is the folder quiet.
const SCRIPT: &str = r#"
broker=-
while read -r line; do
    if [ "$line" = done ]; then exit 0; fi
    broker=$line
done
if [ "$broker" != - ]; then
    kill -KILL "$broker"
    for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$broker" && sleep 0.1; done
fi
rm -rf -- "$1"
"#;

#[cfg(test)]
mod tests {
    use super::super::broker::Folder;
    use super::*;

    fn folder(name: &str) -> Folder {
        Folder::new(Some(&std::env::temp_dir().join(format!("dunlin-crash-guard-{name}")))).unwrap()
    }

    #[test]
    fn without_a_dismissal_the_broker_is_killed_and_the_folder_removed() {
        let folder = folder("left");
        let mut guard = Guard::new(&folder.path).unwrap();
        let mut broker = Command::new("sleep").arg("1000").spawn().unwrap();
        guard.watch(Some(broker.id()));
        guard.pipe = None;
        assert!(!broker.wait().unwrap().success(), "it was killed");
        guard.shell.wait().unwrap();
        assert!(!folder.path.exists());
    }

    #[test]
    fn a_dismissed_guard_touches_nothing() {
        let folder = folder("dismissed");
        let mut guard = Guard::new(&folder.path).unwrap();
        let mut broker = Command::new("sleep").arg("1000").spawn().unwrap();
        guard.watch(Some(broker.id()));
        guard.dismiss();
        assert!(broker.try_wait().unwrap().is_none() && folder.path.exists());
        broker.kill().unwrap();
        broker.wait().unwrap();
        folder.remove();
    }

    #[test]
    fn a_broker_that_has_ended_is_not_killed() {
        let folder = folder("ended");
        let mut guard = Guard::new(&folder.path).unwrap();
        let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
        guard.watch(Some(other.id()));
        guard.watch(None);
        guard.pipe = None;
        guard.shell.wait().unwrap();
        assert!(other.try_wait().unwrap().is_none() && !folder.path.exists());
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
