//! The threads of a data directory: one reads, one makes and removes files, and each store has one that syncs. They end when the
//! last store is gone.
//!
//! A store's syncs follow each other, and what it appends meanwhile gathers to the next group. Those of several stores run side by
//! side: the kernel writes their pages at the same time and makes one flush of the disk of those that wait for one, where one
//! thread for all would make each store wait for the syncs of all others.

use std::io;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use crate::config::Waker;
use crate::disk::Disk;
use crate::error::OpenError;
use crate::log::segment::LogId;
use crate::open::ShardRead;
use crate::sync::{DiskSide, Job, Outcome};

/// The threads, as those who ask see them. The last one to let go waits for what was asked to be done.
#[derive(Clone)]
pub(crate) struct Threads {
    read: Arc<Thread>,
    files: Arc<Thread>,
}

/// One thread and the way to it.
struct Thread {
    /// `None` only while it is dropped.
    tasks: Option<Sender<Task>>,
    join: Option<JoinHandle<()>>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.tasks = None;
        if let Some(Err(panic)) = self.join.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            resume_unwind(panic);
        }
    }
}

/// One store's line to the threads.
pub(crate) struct Line {
    threads: Threads,
    sync: Thread,
    side: Arc<DiskSide>,
    reply: Sender<Outcome>,
    outcomes: Receiver<Outcome>,
    /// Asked and not yet taken.
    asked_count: usize,
}

struct Task {
    side: Arc<DiskSide>,
    job: Job,
    asked_at: Instant,
    reply: Sender<Outcome>,
    waker: Option<Waker>,
}

impl Threads {
    /// Starts them.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn start() -> io::Result<Self> {
        let [read, files] = [start("dunlin-read")?, start("dunlin-files")?].map(Arc::new);
        Ok(Self { read, files })
    }

    /// A line for one more store, and the thread that syncs for it.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn line(&self, side: DiskSide) -> io::Result<Line> {
        let (reply, outcomes) = channel();
        let sync = start(&format!("dunlin-sync-{}", side.log.shard))?;
        Ok(Line { threads: self.clone(), sync, side: Arc::new(side), reply, outcomes, asked_count: 0 })
    }
}

impl Line {
    /// What a job needs to know.
    pub(crate) fn side(&self) -> &DiskSide {
        &self.side
    }

    /// Hands a job to the thread for its kind.
    pub(crate) fn ask(&mut self, job: Job, waker: Option<Waker>) {
        let thread = match job {
            Job::Sync { .. } => &self.sync,
            Job::Fetch { .. } | Job::Scan { .. } => &*self.threads.read,
            Job::Prepare { .. } | Job::Remove { .. } => &*self.threads.files,
        };
        let task =
            Task { side: Arc::clone(&self.side), job, asked_at: now(), reply: self.reply.clone(), waker };
        let is_sent = thread.tasks.as_ref().is_some_and(|tasks| tasks.send(task).is_ok());
        self.asked_count += usize::from(is_sent);
    }

    /// The next outcome, if there is one.
    pub(crate) fn take(&mut self) -> Option<Outcome> {
        let outcome = self.outcomes.try_recv().ok()?;
        self.asked_count = self.asked_count.saturating_sub(1);
        Some(outcome)
    }

    /// The next outcome, waiting for it.
    pub(crate) fn wait(&mut self) -> Option<Outcome> {
        if self.asked_count == 0 {
            return None;
        }
        let outcome = self.outcomes.recv().ok()?;
        self.asked_count -= 1;
        Some(outcome)
    }
}

/// Reads logs, each on a thread of its own. `step` hears of bytes as they are read.
///
/// # Errors
/// The first of any log's.
pub(crate) fn read_side_by_side(
    disk: &dyn Disk,
    logs: &[LogId],
    step: &mut dyn FnMut(u64),
) -> Result<Vec<ShardRead>, OpenError> {
    let (sender, steps) = channel();
    std::thread::scope(|scope| {
        let mut readers = Vec::new();
        for log in logs {
            let sender = sender.clone();
            let read = move || {
                let mut gathered = 0;
                ShardRead::of(disk, log, &mut |bytes| {
                    gathered += bytes;
                    if gathered >= STEP_BYTES && sender.send(gathered).is_ok() {
                        gathered = 0;
                    }
                })
            };
            let reader = Builder::new().name(format!("dunlin-boot-{}", log.shard)).spawn_scoped(scope, read);
            readers.push(reader.map_err(OpenError::io("start a thread to read", &log.folder))?);
        }
        drop(sender);
        steps.iter().for_each(step);
        let joined =
            readers.into_iter().map(|reader| reader.join().unwrap_or_else(|panic| resume_unwind(panic)));
        joined.collect()
    })
}

/// Bytes that a reading thread tells of at once.
const STEP_BYTES: u64 = 4 << 20;

fn start(name: &str) -> io::Result<Thread> {
    let (sender, tasks) = channel::<Task>();
    let run = move || tasks.iter().for_each(perform);
    let join = Builder::new().name(name.to_owned()).spawn(run)?;
    Ok(Thread { tasks: Some(sender), join: Some(join) })
}

fn perform(task: Task) {
    let mut outcome = task.side.perform(task.job);
    if let Outcome::Synced { micros, .. } = &mut outcome {
        *micros = u64::try_from(now().duration_since(task.asked_at).as_micros()).unwrap_or(u64::MAX);
    }
    // A store that is gone waits for nothing.
    if task.reply.send(outcome).is_ok()
        && let Some(waker) = task.waker
    {
        waker.wake();
    }
}

#[expect(clippy::disallowed_methods, reason = "a disk thread measures its syncs; no decision depends on it")]
fn now() -> Instant {
    Instant::now()
}
