//! The same on real files: each file of a data directory is flipped, cut, emptied, removed or made unreadable, a stretch at a
//! time; and a real disk fills up. The store starts, says what is wrong, and hands out nothing that was never accepted.
#![expect(clippy::disallowed_methods, reason = "the test spoils files")]

#[path = "crash_stand/mod.rs"]
mod stand;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dunlin_persist::{OpenError, RealDisk, StoreState};
use stand::model::Model;
use stand::{Stand, options};

/// The shortest that a broker would make; the files are real.
const SEGMENT_BYTES: u64 = 64 << 10;

/// A folder of a test in memory, gone when it ends.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let memory = Path::new("/dev/shm");
        let root = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let path = root.join(format!("dunlin-crash-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn copy_of(other: &Self) -> Self {
        let copy = Self::new();
        for file in files(&other.0) {
            let to = copy.0.join(&file);
            fs::create_dir_all(to.parent().expect("a parent")).expect("folders");
            fs::copy(other.0.join(&file), to).expect("a copy");
        }
        copy
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn files(root: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                files.push(entry.path().strip_prefix(root).expect("below").to_owned());
            }
        }
    }
    files.sort();
    files
}

fn open(folder: &Folder) -> Result<Stand, OpenError> {
    let disk = RealDisk::open(&folder.0)?;
    Stand::try_open_on(Arc::new(disk), &options(2, SEGMENT_BYTES), 1)
}

/// A data directory of two shards with several segments each, and what it holds.
fn a_directory() -> (Folder, Vec<Model>, usize) {
    let folder = Folder::new();
    let mut stand = open(&folder).expect("a new directory");
    stand.run(400);
    stand.settle();
    let models = stand.shards.iter().map(|shard| shard.core.model.after_boot()).collect();
    let records = stand.shards.iter().map(|shard| shard.said.len()).sum();
    drop(stand);
    (folder, models, records)
}

/// Opens a spoiled directory: never a panic; an error only where the manifest is gone; what differs is reported.
fn check(folder: &Folder, wanted: &[Model], what: &str) -> bool {
    let mut stand = match open(folder) {
        Ok(stand) => stand,
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("manifest") && what.contains("manifest"), "{what}: {text}");
            return true;
        }
    };
    let mut differs = false;
    for (shard, wanted) in stand.shards.iter().zip(wanted) {
        differs |= shard.start.after_boot().difference(wanted).is_some();
        // Nothing is made up: every session is one that was begun, with the name that it had.
        for session in shard.start.sessions.values() {
            assert!(session.client_id.starts_with('c'), "{what}: {session:?}");
        }
    }
    let reported = !stand.report.torn.is_empty() || !stand.report.damaged.is_empty();
    // The oldest segment may be gone because cleaning freed it, the newest because it was never begun: that it was lost instead,
    // nothing in the logs can tell.
    let tells = !what.starts_with("a whole outer segment");
    assert!(!differs || reported || !tells, "{what}: something is missing, without a word");
    // It goes on: what is said now is found at the next boot.
    for _ in 0..5 {
        stand.say(0);
        stand.say(1);
    }
    stand.settle();
    let now: Vec<Model> = stand.shards.iter().map(|shard| shard.core.model.after_boot()).collect();
    drop(stand);
    let again = open(folder).unwrap_or_else(|error| panic!("{what}: the second boot: {error}"));
    for (shard, wanted) in again.shards.iter().zip(&now) {
        assert_eq!(shard.start.after_boot().difference(wanted), None, "{what}: the second boot");
    }
    differs
}

#[test]
fn each_stretch_of_each_file_is_flipped() {
    let (folder, wanted, records) = a_directory();
    assert!(records > 700);
    let mut hurt = 0;
    for file in files(&folder.0) {
        let bytes = fs::read(folder.0.join(&file)).expect("a file");
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        // Sixteen places in each file, each a byte, a sector and a page.
        for place in 0..16 {
            let at = used * place / 16;
            for count in [1, 512, 4_096] {
                let spoiled = Folder::copy_of(&folder);
                let mut bytes = bytes.clone();
                for byte in bytes.iter_mut().skip(at).take(count) {
                    *byte ^= 0x55;
                }
                fs::write(spoiled.0.join(&file), bytes).expect("the spoiled file");
                hurt += u32::from(check(&spoiled, &wanted, &format!("{}: {count} at {at}", file.display())));
            }
        }
    }
    assert!(hurt > 20, "{hurt}: some of it must hurt");
}

#[test]
fn each_file_is_cut_emptied_and_removed() {
    let (folder, wanted, _) = a_directory();
    for file in files(&folder.0) {
        let bytes = fs::read(folder.0.join(&file)).expect("a file");
        for eighth in 0..8 {
            let spoiled = Folder::copy_of(&folder);
            fs::write(spoiled.0.join(&file), &bytes[..bytes.len() * eighth / 8]).expect("the cut file");
            let outer = if eighth == 0 { outer(&folder, &file) } else { "" };
            check(&spoiled, &wanted, &format!("{outer}{} cut to {eighth} eighths", file.display()));
        }
        let spoiled = Folder::copy_of(&folder);
        fs::remove_file(spoiled.0.join(&file)).expect("a file to remove");
        let outer = outer(&folder, &file);
        check(&spoiled, &wanted, &format!("{outer}{} removed", file.display()));
    }
}

/// Words for the first and the last segment of a log that hold records, none for other files.
fn outer(folder: &Folder, file: &Path) -> &'static str {
    let begun = |path: &Path| fs::read(folder.0.join(path)).expect("a file").iter().any(|byte| *byte != 0);
    let mut logs = files(&folder.0);
    logs.retain(|other| other.parent() == file.parent() && other.extension().is_some_and(|end| end == "log"));
    logs.retain(|other| begun(other));
    let is_outer = [logs.first(), logs.last()].into_iter().flatten().any(|outer| outer == file);
    if is_outer { "a whole outer segment, " } else { "" }
}

/// A folder where a file should be cannot be read at all, by root neither.
#[test]
fn a_file_that_cannot_be_read_is_told() {
    let (folder, wanted, _) = a_directory();
    for file in files(&folder.0) {
        if file.ends_with("lock") {
            continue;
        }
        let spoiled = Folder::copy_of(&folder);
        fs::remove_file(spoiled.0.join(&file)).expect("a file to remove");
        fs::create_dir(spoiled.0.join(&file)).expect("a folder in its place");
        match open(&spoiled) {
            Ok(stand) => {
                let same = stand.shards.iter().zip(&wanted);
                let whole = same.map(|(shard, wanted)| shard.start.after_boot().difference(wanted));
                let whole = whole.into_iter().all(|difference| difference.is_none());
                assert!(whole || !stand.report.damaged.is_empty(), "{}: not a word", file.display());
            }
            Err(error) => {
                let name = file.file_name().expect("a name").to_string_lossy();
                let text = error.to_string();
                assert!(text.contains(&*name) || text.contains("manifest"), "{}: {text}", file.display());
            }
        }
    }
}

#[test]
fn nobody_else_can_read_what_is_stored() {
    let (folder, _, _) = a_directory();
    for file in files(&folder.0) {
        let mode = fs::metadata(folder.0.join(&file)).expect("a file").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.display());
    }
}

/// A real file system of 1 MiB, which the test mounts in a name space of its own, fills up; it is told, nothing stored is lost,
/// and what is acknowledged makes room.
#[test]
fn a_real_disk_fills_up() {
    if let Some(root) = std::env::var_os(SMALL_DISK) {
        return fill(Path::new(&root));
    }
    let folder = Folder::new();
    let program = std::env::current_exe().expect("this program");
    let mount = format!(
        "mount -t tmpfs -o size=1m,mode=0700 tmpfs '{}' && exec '{}' --exact a_real_disk_fills_up --nocapture",
        folder.0.display(),
        program.display()
    );
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &mount])
        .env(SMALL_DISK, &folder.0)
        .output()
        .expect("unshare, of util-linux");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("filled and emptied"), "{text}");
}

const SMALL_DISK: &str = "DUNLIN_TEST_SMALL_DISK";

fn fill(root: &Path) {
    let open = || {
        let disk = RealDisk::open(&root.join("data")).expect("a directory");
        Stand::try_open_on(Arc::new(disk), &options(1, SEGMENT_BYTES), 1).expect("it opens")
    };
    let mut stand = open();
    for _ in 0..20_000 {
        if stand.shards[0].state != StoreState::Open {
            break;
        }
        stand.more(0);
        stand.tick(0);
        stand.settle();
    }
    assert_eq!(stand.shards[0].state, StoreState::Full);
    let full = stand.shards[0].core.model.after_boot();
    assert_eq!(stand.shards[0].stored, stand.shards[0].said.len() as u64);
    drop(stand);
    let mut stand = open();
    assert_eq!(stand.shards[0].start.after_boot().difference(&full), None);
    // Whatever waits is acknowledged.
    for (session, messages) in stand.shards[0].core.model.wanted() {
        for messages in messages.chunks(16) {
            stand.append(0, dunlin_persist::Record::Done { session, messages: messages.to_vec() });
            stand.tick(0);
            stand.settle();
        }
    }
    for _ in 0..200 {
        stand.tick(0);
        stand.settle();
    }
    assert_eq!(stand.shards[0].state, StoreState::Open, "{:?}", stand.shards[0].store.metrics());
    #[expect(clippy::print_stdout, reason = "the outer test looks for it")]
    {
        println!("filled and emptied");
    }
}
