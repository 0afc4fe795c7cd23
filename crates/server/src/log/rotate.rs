//! A log file that is put aside when it has grown, by the rules of the library that etcd uses
//! (gopkg.in/natefinch/lumberjack.v2): the same names, the same limits. Old files are looked after
//! by a thread of their own, so that writing never waits for it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::clock;
use crate::config::Rotation;

/// The end of a compressed file's name.
const COMPRESSED: &str = ".gz";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// See the module.
pub(super) struct RotatedFile {
    path: PathBuf,
    rotation: Rotation,
    /// `None` before the first line.
    open: Option<(File, u64)>,
    /// Old files are being looked after.
    tidying: Arc<AtomicBool>,
}

impl RotatedFile {
    /// A file that is opened with the first line.
    pub(super) fn new(path: &str, rotation: Rotation) -> RotatedFile {
        RotatedFile {
            path: PathBuf::from(path),
            rotation,
            open: None,
            tidying: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Writes a line, into a new file if it would not fit.
    pub(super) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let len = line.len() as u64;
        if len > self.rotation.bytes_max {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if self.open.is_none() {
            self.open_existing(len)?;
        } else if self
            .open
            .as_ref()
            .is_some_and(|(_, size)| size + len > self.rotation.bytes_max)
        {
            self.rotate()?;
        }
        if let Some((file, size)) = &mut self.open {
            file.write_all(line)?;
            *size += len;
        }
        Ok(())
    }

    fn open_existing(&mut self, len: u64) -> io::Result<()> {
        self.tidy();
        let Ok(found) = fs::metadata(&self.path) else {
            return self.open_new();
        };
        if found.len() + len >= self.rotation.bytes_max {
            return self.rotate();
        }
        let file = OpenOptions::new().append(true).open(&self.path)?;
        self.open = Some((file, found.len()));
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.open = None;
        self.open_new()?;
        self.tidy();
        Ok(())
    }

    /// Puts the file that is there aside, and begins a new one.
    fn open_new(&mut self) -> io::Result<()> {
        if let Some(dir) = self.path.parent() {
            fs::create_dir_all(dir)?;
        }
        let mut mode = 0o600;
        if let Ok(found) = fs::metadata(&self.path) {
            mode = found.permissions().mode() & 0o777;
            fs::rename(&self.path, self.backup(SystemTime::now()))?;
        }
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .write(true)
            .truncate(true)
            .mode(mode)
            .open(&self.path)?;
        self.open = Some((file, 0));
        Ok(())
    }

    /// The name of the file when it is put aside: `name-2006-01-02T15-04-05.000.ext`.
    fn backup(&self, at: SystemTime) -> PathBuf {
        let (prefix, extension) = affixes(&self.path);
        let time = clock::for_names(at);
        self.path.with_file_name(format!("{prefix}{time}{extension}"))
    }

    fn tidy(&self) {
        let rotation = self.rotation;
        if rotation.backups_max == 0 && rotation.age_days_max == 0 && !rotation.compress {
            return;
        }
        if self.tidying.swap(true, Ordering::SeqCst) {
            return;
        }
        let (path, tidying) = (self.path.clone(), self.tidying.clone());
        let spawned = thread::Builder::new().name("log-tidy".into()).spawn(move || {
            // What fails is tried again with the next file.
            let _ = tidy(&path, rotation, SystemTime::now());
            tidying.store(false, Ordering::SeqCst);
        });
        if spawned.is_err() {
            self.tidying.store(false, Ordering::SeqCst);
        }
    }
}

/// What stands before and behind the time in the names of files put aside.
fn affixes(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let extension = match path.extension() {
        Some(extension) => format!(".{}", extension.to_string_lossy()),
        None => String::new(),
    };
    (format!("{}-", text(path.file_stem())), extension)
}

/// A file put aside.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Old {
    path: PathBuf,
    /// The time in its name, which sorts as the times do.
    time: String,
    compressed: bool,
}

/// Removes what is too old or too much, and compresses the rest if that is wanted.
fn tidy(path: &Path, rotation: Rotation, now: SystemTime) -> io::Result<()> {
    let mut olds = old_files(path)?;
    olds.sort_by(|a, b| b.time.cmp(&a.time));
    let oldest = now
        .checked_sub(DAY * u32::try_from(rotation.age_days_max).unwrap_or(u32::MAX))
        .unwrap_or(UNIX_EPOCH);
    let oldest = clock::for_names(oldest);
    let mut times: Vec<String> = Vec::new();
    for old in olds {
        if times.last() != Some(&old.time) {
            times.push(old.time.clone());
        }
        let too_many = rotation.backups_max > 0 && times.len() as u64 > rotation.backups_max;
        let too_old = rotation.age_days_max > 0 && old.time < oldest;
        if too_many || too_old {
            fs::remove_file(&old.path)?;
        } else if rotation.compress && !old.compressed {
            compress(&old.path)?;
        }
    }
    Ok(())
}

fn old_files(path: &Path) -> io::Result<Vec<Old>> {
    let (prefix, extension) = affixes(path);
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let mut olds = Vec::new();
    for entry in fs::read_dir(dir.unwrap_or(Path::new(".")))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let plain = name.strip_suffix(COMPRESSED);
        let time = plain
            .unwrap_or(&name)
            .strip_prefix(&prefix)
            .and_then(|rest| rest.strip_suffix(&extension))
            .filter(|time| clock::is_for_names(time));
        if let Some(time) = time {
            olds.push(Old {
                path: entry.path(),
                time: time.to_string(),
                compressed: plain.is_some(),
            });
        }
    }
    Ok(olds)
}

/// Puts a compressed file in the place of one.
fn compress(path: &Path) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(COMPRESSED);
    let target = PathBuf::from(name);
    let mut source = File::open(path)?;
    let mut options = OpenOptions::new();
    let mode = source.metadata()?.permissions().mode() & 0o777;
    let file = options.create(true).write(true).truncate(true).mode(mode);
    let written = file.open(&target).and_then(|file| {
        let mut encoder = GzEncoder::new(file, Compression::default());
        io::copy(&mut source, &mut encoder)?;
        encoder.finish()?.sync_all()
    });
    match written {
        Ok(()) => fs::remove_file(path),
        Err(error) => {
            let _ = fs::remove_file(&target);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    const ROTATION: Rotation = Rotation {
        bytes_max: 10,
        age_days_max: 0,
        backups_max: 0,
        compress: false,
    };

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_that_would_grow_too_large_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/etcd.log");
        let mut file = RotatedFile::new(&path.to_string_lossy(), ROTATION);
        file.write(b"12345\n").unwrap();
        assert_eq!(names(&dir.path().join("sub")), ["etcd.log"]);
        file.write(b"678\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"12345\n678\n");
        file.write(b"9\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"9\n");
        let names = names(&dir.path().join("sub"));
        assert_eq!(names.len(), 2, "{names:?}");
        let time = names[0]
            .strip_prefix("etcd-")
            .and_then(|rest| rest.strip_suffix(".log"));
        assert!(time.is_some_and(clock::is_for_names), "{names:?}");
        assert!(file.write(b"longer than the file may be\n").is_err());
        // A file that is there is gone on with.
        let mut again = RotatedFile::new(&path.to_string_lossy(), ROTATION);
        again.write(b"x\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"9\nx\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn old_files_go_by_number_by_age_or_are_compressed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let make = |names: &[&str]| {
            for name in names {
                fs::write(dir.path().join(name), b"old").unwrap();
            }
        };
        let all = [
            "a-2026-01-01T00-00-00.000.log",
            "a-2026-01-02T00-00-00.000.log",
            "a-2026-01-03T00-00-00.000.log",
            "a-notatime.log",
            "b-2026-01-01T00-00-00.000.log",
        ];
        make(&all);
        // 2026-01-03T12:00:00Z.
        let now = UNIX_EPOCH + Duration::from_secs(1_767_441_600);
        let by_number = Rotation {
            backups_max: 2,
            ..ROTATION
        };
        tidy(&path, by_number, now).unwrap();
        assert_eq!(names(dir.path()), all[1..]);
        let by_age = Rotation {
            age_days_max: 1,
            ..ROTATION
        };
        tidy(&path, by_age, now).unwrap();
        assert_eq!(names(dir.path()), all[2..]);
        let compressed = Rotation {
            compress: true,
            ..ROTATION
        };
        tidy(&path, compressed, now).unwrap();
        let target = dir.path().join("a-2026-01-03T00-00-00.000.log.gz");
        let mut text = String::new();
        flate2::read::GzDecoder::new(File::open(target).unwrap())
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "old");
        assert_eq!(names(dir.path()).len(), 3);
    }
}
