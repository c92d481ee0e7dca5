//! The index on the disk, kept by sled. The only file that names it.
//!
//! sled is beta and has opened broken after crashes, so nothing is trusted to it that the log does not have: whatever goes wrong,
//! an error or a panic, the folder is moved aside to `damaged/` and the index built again. Its calls block and use threads of its
//! own; they are made at boot, on the index's thread, and in tools, never on a shard's thread.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use sled::{Batch, Config, Db, Mode};

use super::writer::Opening;
use super::{Agreement, Index, IndexError, Lack, Notice, Table, Truth, agree};

/// The index's folder in the data directory.
const FOLDER: &str = "index";
/// Where it is moved when it is broken.
const ASIDE: &str = "damaged";
/// Memory that sled may keep pages in. Its own default is a gibibyte.
const CACHE_BYTES: u64 = 16 << 20;
/// How many broken indexes are kept for whoever wants to know why. Each can be as large as the index.
const KEPT_ASIDE: usize = 2;

/// Opens the index of a data directory and brings it to what the logs say, building it again if need be. `None` if none can be kept,
/// or the broker ends before that is done.
///
/// Cost: one read per shard when the two agree, else one for each change that the index has not followed.
#[must_use]
pub fn open_beside(data_dir: &Path, truth: &dyn Truth, opening: Opening<'_>) -> Option<Index> {
    let Opening { is_stopping, tell } = opening;
    for _ in 0..ATTEMPTS {
        let why = match open_and_agree(data_dir, truth, is_stopping) {
            Ok((index, agreement)) => match judge(agreement) {
                Judgement::Good(notice) => {
                    notice.into_iter().for_each(&mut *tell);
                    return Some(index);
                }
                Judgement::Outdated => {
                    drop(index);
                    if let Err(error) = remove(data_dir) {
                        tell(Notice::Without {
                            why: format!("the index is of other logs and cannot be removed ({error})"),
                        });
                        return None;
                    }
                    continue;
                }
                Judgement::Lack(lack) => {
                    let why = format!("the index knows what the log does not: {lack}");
                    tell(Notice::LogLacks { lack });
                    why
                }
                Judgement::Bad(why) => why,
            },
            Err(IndexError::Stopped) => return None,
            Err(error @ IndexError::Log(_)) => {
                tell(Notice::Without { why: error.to_string() });
                return None;
            }
            Err(error) => error.to_string(),
        };
        match move_aside(data_dir) {
            Ok(to) => tell(Notice::MovedAside { to, why }),
            Err(error) => {
                tell(Notice::Without { why: format!("{why}, and it cannot be moved aside ({error})") });
                return None;
            }
        }
    }
    tell(Notice::Without { why: "the index cannot be built".to_owned() });
    None
}

/// Once as it is, once after it was moved aside or removed, and once more if a new one does not hold either.
const ATTEMPTS: u32 = 3;

/// What follows from an agreement.
enum Judgement {
    Good(Option<Notice>),
    /// Of other logs: nothing is wrong, and it is of no use.
    Outdated,
    Lack(Lack),
    Bad(String),
}

fn judge(agreement: Agreement) -> Judgement {
    match agreement {
        Agreement::Same | Agreement::CaughtUp { changes: 0 } => Judgement::Good(None),
        Agreement::CaughtUp { changes } => Judgement::Good(Some(Notice::CaughtUp { changes })),
        Agreement::Built { sessions } => Judgement::Good(Some(Notice::Built { sessions })),
        Agreement::OfOtherLogs => Judgement::Outdated,
        Agreement::LogLacks(lack) => Judgement::Lack(lack),
        Agreement::Contradicts(why) => Judgement::Bad(format!("the index contradicts the log: it {why}")),
    }
}

/// Opens an index that is there, for a tool that only looks. `None` if there is none.
///
/// # Errors
/// It cannot be opened, perhaps because a broker has it.
pub fn look(data_dir: &Path) -> Result<Option<Index>, IndexError> {
    let folder = data_dir.join(FOLDER);
    if !folder.is_dir() {
        return Ok(None);
    }
    SledTable::open(&folder).map(|table| Some(Index::new(Box::new(table))))
}

fn open_and_agree(
    data_dir: &Path,
    truth: &dyn Truth,
    is_stopping: &dyn Fn() -> bool,
) -> Result<(Index, Agreement), IndexError> {
    let mut index = Index::new(Box::new(SledTable::open(&data_dir.join(FOLDER))?));
    let agreement = agree(&mut index, truth, is_stopping)?;
    Ok((index, agreement))
}

/// Removes an index that is of no use.
fn remove(data_dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(data_dir.join(FOLDER)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// Moves the index to the first free name in the folder of damaged things, and removes the oldest of those kept there.
fn move_aside(data_dir: &Path) -> io::Result<String> {
    let folder = data_dir.join(ASIDE);
    fs::create_dir_all(&folder)?;
    let mut kept: Vec<(u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("index-")?.parse().ok());
        kept.extend(number.map(|number| (number, entry.path())));
    }
    kept.sort();
    let next = kept.last().map_or(1, |(number, _)| number + 1);
    let to = format!("{ASIDE}/index-{next}");
    match fs::rename(data_dir.join(FOLDER), data_dir.join(&to)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        outcome => outcome?,
    }
    let surplus = (kept.len() + 1).saturating_sub(KEPT_ASIDE);
    for (_, path) in kept.iter().take(surplus) {
        if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
    }
    Ok(to)
}

/// The pairs in sled's default tree.
struct SledTable {
    db: Db,
}

impl SledTable {
    fn open(folder: &Path) -> Result<Self, IndexError> {
        make_private(folder).map_err(|error| IndexError::Open(error.to_string()))?;
        let config = Config::new()
            .path(folder)
            .mode(Mode::HighThroughput)
            .cache_capacity(CACHE_BYTES)
            // The index's thread says when: nothing is to be written at the moments of others.
            .flush_every_ms(None)
            .print_profile_on_drop(false);
        guarded(|| config.open())?.map(|db| Self { db }).map_err(|error| IndexError::Open(error.to_string()))
    }
}

/// Makes the folder, for its owner alone: sled makes its files for everybody to read.
fn make_private(folder: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome,
    }
}

impl Table for SledTable {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        guarded(|| self.db.get(key))?.map(|found| found.map(|value| value.to_vec())).map_err(use_error)
    }

    fn write(&mut self, pairs: &BTreeMap<Vec<u8>, Option<Vec<u8>>>) -> Result<(), IndexError> {
        let mut batch = Batch::default();
        for (key, value) in pairs {
            match value {
                Some(value) => batch.insert(key.as_slice(), value.as_slice()),
                None => batch.remove(key.as_slice()),
            }
        }
        guarded(|| self.db.apply_batch(batch))?.map_err(use_error)
    }

    fn scan(&self, prefix: &[u8], each: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> Result<(), IndexError> {
        guarded(|| {
            for pair in self.db.scan_prefix(prefix) {
                let (key, value) = pair.map_err(use_error)?;
                if !each(&key, &value) {
                    break;
                }
            }
            Ok(())
        })?
    }

    fn flush(&mut self) -> Result<(), IndexError> {
        guarded(|| self.db.flush())?.map(drop).map_err(use_error)
    }
}

fn use_error(error: sled::Error) -> IndexError {
    IndexError::Use(error.to_string())
}

/// Calls into sled; a panic in there is an error out here. Nothing of a table that panicked is used again.
fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, IndexError> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str);
        let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
        IndexError::Panicked(words.unwrap_or("without a word").to_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::index::agree::tests::Log;
    use crate::index::tests::{batch, begun, check_directory, ended, image};

    /// A folder of a test, gone when it ends.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("dunlin-index-{}-{number}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    fn log() -> Log {
        let many: Vec<_> = (1..=500).map(|n| image(&format!("client{n}"), n, n)).collect();
        Log::new(&[
            batch(0, 500, &many),
            batch(1, 3, &[begun("x", 1_000, 1), begun("y", 1_001, 2), ended(1_001)]),
        ])
    }

    fn opened(folder: &Folder, log: &Log) -> (Option<Index>, Vec<Notice>) {
        let mut notices = Vec::new();
        let mut tell = |notice| notices.push(notice);
        let index = open_beside(&folder.0, log, Opening { is_stopping: &|| false, tell: &mut tell });
        (index, notices)
    }

    /// Opens, and returns what the operator was told.
    fn open(folder: &Folder, log: &Log) -> Vec<Notice> {
        let (index, notices) = opened(folder, log);
        let mut index = index.expect("an index");
        assert_eq!(index.verify(), Ok(501));
        index.flush().unwrap();
        notices
    }

    #[test]
    fn it_is_a_table_like_the_one_in_memory() {
        let folder = Folder::new();
        check_directory(Box::new(SledTable::open(&folder.0).unwrap()));
    }

    #[test]
    fn it_is_built_once_and_then_agrees() {
        let folder = Folder::new();
        assert!(look(&folder.0).unwrap().is_none());
        assert_eq!(open(&folder, &log()), [Notice::Built { sessions: 501 }]);
        assert_eq!(open(&folder, &log()), []);
        let index = look(&folder.0).unwrap().unwrap();
        assert_eq!(index.session("client7").unwrap().unwrap().session.0, 7);
    }

    #[test]
    fn an_index_of_other_logs_is_built_anew_without_a_word_of_trouble() {
        let folder = Folder::new();
        open(&folder, &log());
        let mut other = log();
        other.header.epoch = 2;
        assert_eq!(open(&folder, &other), [Notice::Built { sessions: 501 }]);
        assert!(!folder.0.join(ASIDE).exists());
    }

    /// Another session under the number of one of the log's.
    fn contradict(folder: &Folder) {
        let mut index = look(&folder.0).unwrap().unwrap();
        index.follow(&batch(0, 500, &[ended(7), begun("nobody", 7, 500)])).unwrap();
        index.flush().unwrap();
    }

    #[test]
    fn a_contradiction_moves_it_aside() {
        let folder = Folder::new();
        open(&folder, &log());
        for round in 1..=4 {
            contradict(&folder);
            let notices = open(&folder, &log());
            let Notice::MovedAside { to, why } = &notices[0] else { panic!("{notices:?}") };
            assert_eq!(to, &format!("damaged/index-{round}"));
            assert!(why.contains("contradicts the log"), "{why}");
            assert_eq!(notices[1], Notice::Built { sessions: 501 });
        }
        let kept = fs::read_dir(folder.0.join(ASIDE)).unwrap().count();
        assert_eq!(kept, KEPT_ASIDE);
    }

    #[test]
    fn what_the_log_has_lost_is_told_and_the_index_kept_as_evidence() {
        let folder = Folder::new();
        open(&folder, &log());
        let mut shorter = log();
        shorter.shards[0].truncate(400);
        shorter.last[0] = 400;
        let (index, notices) = opened(&folder, &shorter);
        assert_eq!(index.unwrap().verify(), Ok(401));
        let lack = Lack::End { shard: 0, last: 400, followed: 500 };
        assert_eq!(notices[0], Notice::LogLacks { lack });
        assert!(matches!(&notices[1], Notice::MovedAside { to, .. } if to == "damaged/index-1"));
    }

    #[test]
    fn a_broker_that_ends_does_not_wait_for_it() {
        let folder = Folder::new();
        let mut tell = |notice: Notice| panic!("{notice:?}");
        let many: Vec<_> = (1..=5_000).map(|n| begun(&format!("client{n}"), n, n)).collect();
        let log = Log::new(&[batch(0, 5_000, &many)]);
        let opening = Opening { is_stopping: &|| true, tell: &mut tell };
        assert!(open_beside(&folder.0, &log, opening).is_none());
        assert!(!folder.0.join(ASIDE).exists());
    }

    /// Each file of the index in turn is emptied, cut, or overwritten: the index opens, right or anew, and never wrong.
    #[test]
    fn whatever_happens_to_its_files_it_opens_with_what_the_log_says() {
        let built = Folder::new();
        open(&built, &log());
        let names = files_below(&built.0.join(FOLDER));
        assert!(names.len() >= 2, "{names:?}");
        let mut moved = 0;
        for name in &names {
            for harm in 0..4 {
                let folder = Folder::new();
                copy(&built.0.join(FOLDER), &folder.0.join(FOLDER));
                spoil(&folder.0.join(FOLDER).join(name), harm);
                let notices = open(&folder, &log());
                moved +=
                    usize::from(notices.iter().any(|notice| matches!(notice, Notice::MovedAside { .. })));
            }
        }
        assert!(moved > 0, "some of it must hurt");
    }

    #[test]
    fn a_file_in_its_place_is_moved_aside_too() {
        let folder = Folder::new();
        #[expect(clippy::disallowed_methods, reason = "the test spoils a file")]
        fs::write(folder.0.join(FOLDER), b"no folder").unwrap();
        let notices = open(&folder, &log());
        assert!(matches!(notices[0], Notice::MovedAside { .. }), "{notices:?}");
    }

    fn files_below(folder: &Path) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(&next).unwrap().flatten() {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else {
                    files.push(entry.path().strip_prefix(folder).unwrap().to_owned());
                }
            }
        }
        files.sort();
        files
    }

    fn copy(from: &Path, to: &Path) {
        for name in files_below(from) {
            fs::create_dir_all(to.join(&name).parent().unwrap()).unwrap();
            fs::copy(from.join(&name), to.join(&name)).unwrap();
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the test spoils a file")]
    fn spoil(path: &Path, harm: usize) {
        let mut bytes = fs::read(path).unwrap();
        match harm {
            0 => bytes.clear(),
            1 => bytes.truncate(bytes.len() / 2),
            2 => bytes.fill(0xA5),
            _ => {
                let middle = bytes.len() / 3;
                for byte in bytes.iter_mut().skip(middle).take(64) {
                    *byte ^= 0xFF;
                }
            }
        }
        fs::write(path, bytes).unwrap();
    }
}
