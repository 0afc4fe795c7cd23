//! Where lines go. Errors of writing are passed over: there is nobody to tell.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};

use super::Level;
use super::journal::Journal;
use super::rotate::RotatedFile;
use crate::config::Rotation;
use crate::words::of_system as words;

enum Output {
    Stderr,
    Stdout,
    File(File),
    Rotated(RotatedFile),
    Journal(Journal),
    #[cfg(test)]
    Memory(std::sync::Arc<std::sync::Mutex<Vec<u8>>>),
}

/// The outputs of a log.
pub(super) struct Sink {
    outputs: Vec<Output>,
}

impl Sink {
    /// Opens `stderr`, `stdout`, `default` (standard error), `systemd/journal`, and files, which are
    /// appended to. `/dev/null` throws all away, whatever else is named. The error is etcd's text.
    pub(super) fn open(names: &[String], rotation: Option<Rotation>) -> Result<Sink, String> {
        let mut outputs = Vec::new();
        if names.iter().any(|name| name == "/dev/null") {
            return Ok(Sink { outputs });
        }
        for name in names {
            outputs.push(match name.as_str() {
                "default" | "stderr" | "" => Output::Stderr,
                "stdout" => Output::Stdout,
                "systemd/journal" => Output::Journal(Journal::open().map_err(|error| {
                    let socket = "/run/systemd/journal/socket";
                    let words = words(&error);
                    format!("can't find journal (dial unixgram {socket}: connect: {words})")
                })?),
                path => {
                    match rotation {
                        Some(rotation) => Output::Rotated(RotatedFile::new(path, rotation)),
                        None => {
                            let opened = OpenOptions::new().create(true).append(true).open(path);
                            Output::File(opened.map_err(|error| {
                                format!("open sink {path:?}: open {path}: {}", words(&error))
                            })?)
                        }
                    }
                }
            });
        }
        Ok(Sink { outputs })
    }

    pub(super) fn write(&mut self, level: Level, line: &[u8]) {
        for output in &mut self.outputs {
            let _ = match output {
                Output::Stderr => io::stderr().write_all(line),
                Output::Stdout => io::stdout().write_all(line).and_then(|()| io::stdout().flush()),
                Output::File(file) => file.write_all(line),
                Output::Rotated(file) => file.write(line),
                // As etcd's: what the journal does not take goes to standard error.
                Output::Journal(journal) => journal
                    .write(level, line)
                    .or_else(|_| io::stderr().write_all(line)),
                #[cfg(test)]
                Output::Memory(lines) => {
                    lines.lock().unwrap().extend_from_slice(line);
                    Ok(())
                }
            };
        }
    }

    /// A sink that holds the writer up until it is released.
    #[cfg(test)]
    #[allow(clippy::type_complexity)]
    pub(super) fn stuck() -> (Sink, impl FnOnce() -> std::sync::Arc<std::sync::Mutex<Vec<u8>>>) {
        use std::sync::{Arc, Mutex, mpsc};
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Sink {
            outputs: vec![Output::Memory(lines.clone())],
        };
        // The lock is held by a thread of its own, so that this one may hand it over.
        let (held, is_held) = mpsc::channel();
        let (let_go, wait) = mpsc::channel::<()>();
        let owner = lines.clone();
        let holder = std::thread::spawn(move || {
            let guard = owner.lock().unwrap();
            held.send(()).unwrap();
            let _ = wait.recv();
            drop(guard);
        });
        is_held.recv().unwrap();
        let release = move || {
            drop(let_go);
            holder.join().unwrap();
            lines
        };
        (sink, release)
    }
}
