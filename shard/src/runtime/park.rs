//! How an idle shard sleeps, and what wakes it.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use glommio::io::BufferedFile;
use glommio::timer::Timer;

use super::edge::Edge;
use super::sys;
use crate::time::Mono;

/// Sleeps for a shard. One per shard, on its core.
pub(super) enum Parker {
    /// In the shard's first ring, which watches the doorbell: one system call.
    Ring,
    /// In the executor, which reads the doorbell: other tasks of the executor run meanwhile.
    Executor(Box<ExecutorSleep>),
}

/// A read of the doorbell that goes on over several sleeps.
pub(super) struct ExecutorSleep {
    file: Rc<BufferedFile>,
    read: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Parker {
    /// A parker for an edge as it is configured.
    ///
    /// # Errors
    /// When the doorbell's descriptor cannot be duplicated.
    pub(super) fn new(edge: &Edge) -> std::io::Result<Self> {
        if edge.parks_in_ring() {
            return Ok(Self::Ring);
        }
        let doorbell: OwnedFd = edge.doorbell.eventfd().try_clone()?;
        let file = Rc::new(sys::eventfd_file(doorbell));
        Ok(Self::Executor(Box::new(ExecutorSleep { file, read: None })))
    }

    /// Sleeps until something comes or `deadline` is over. Returns at once when something is there.
    pub(super) async fn sleep(&mut self, edge: &mut Edge, deadline: Option<Mono>) {
        edge.doorbell.fall_asleep();
        let first_bell = usize::from(edge.parks_in_ring());
        for ring in edge.rings.iter_mut().skip(first_bell) {
            ring.set_bell(true);
        }
        // With the bells on, what comes after this look is heard.
        edge.gather();
        if edge.ready.is_empty() && edge.is_quiet() {
            let timeout = deadline.map(|at| Duration::from_nanos(at.since(edge.now)));
            edge.metrics.sleeps += 1;
            match self {
                Self::Ring => edge.rings[0].wait(timeout),
                Self::Executor(sleep) => sleep.sleep(timeout).await,
            }
        }
        edge.doorbell.wake_up();
        for ring in edge.rings.iter_mut().skip(first_bell) {
            ring.set_bell(false);
        }
    }
}

impl ExecutorSleep {
    async fn sleep(&mut self, timeout: Option<Duration>) {
        let file = &self.file;
        let read = self.read.get_or_insert_with(|| {
            let file = Rc::clone(file);
            Box::pin(async move {
                // The count does not matter; a failed read wakes the shard, which looks for itself.
                let _count = file.read_at(0, 8).await;
            })
        });
        let rung = Cell::new(false);
        let mut timer = timeout.map(|timeout| Box::pin(Timer::new(timeout)));
        poll_fn(|context| {
            if read.as_mut().poll(context).is_ready() {
                rung.set(true);
                return Poll::Ready(());
            }
            match &mut timer {
                Some(timer) => timer.as_mut().poll(context).map(|_| ()),
                None => Poll::Pending,
            }
        })
        .await;
        if rung.get() {
            self.read = None;
        }
    }
}

impl Edge {
    /// Whether nothing waits for this shard that can be seen without entering the kernel, hints apart.
    pub(super) fn is_quiet(&mut self) -> bool {
        let words = self.lanes.shard_count().div_ceil(64);
        self.letters.is_empty()
            && !self.doorbell.has_lanes(words)
            && !self.rings.iter_mut().any(super::ring::Ring::has_entries)
            && !self.disk.as_mut().is_some_and(|disk| disk.has_news())
    }
}
