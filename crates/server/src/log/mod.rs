//! The log: one line an event, in the form of etcd's logger (zap) so that what reads etcd's log
//! reads this one. A line is made by its caller and written by one thread; a caller never waits
//! for the writer, lines that do not fit its queue are counted and dropped.

mod clock;
mod journal;
mod line;
mod once;
pub mod request;
mod rotate;
mod sink;

use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime};

pub use clock::timestamp;
pub use line::Line;
pub use once::Once;
use sink::Sink;

use crate::config::{LogConfig, Notice};

/// Lines that may wait for the writer.
const LINES_MAX: usize = 8192;

/// How long `Log::flush` waits for the writer, which may wait for a pipe that nobody reads.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// How grave an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
    Panic,
    Fatal,
}

impl Level {
    /// The level of a name, as `--log-level` takes it.
    pub fn parse(name: &str) -> Option<Level> {
        Some(match name {
            "debug" | "DEBUG" => Level::Debug,
            "info" | "INFO" | "" => Level::Info,
            "warn" | "WARN" => Level::Warn,
            "error" | "ERROR" => Level::Error,
            "dpanic" | "DPANIC" | "panic" | "PANIC" => Level::Panic,
            "fatal" | "FATAL" => Level::Fatal,
            _ => return None,
        })
    }

    /// The name in a line.
    pub fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
            Level::Panic => "panic",
            Level::Fatal => "fatal",
        }
    }
}

enum Message {
    Line(Level, Vec<u8>),
    Flush(SyncSender<()>),
}

#[derive(Debug)]
struct Shared {
    level: Level,
    json: bool,
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

/// A handle on the log; cheap to clone.
#[derive(Clone, Debug)]
pub struct Log {
    shared: Arc<Shared>,
}

impl Log {
    /// Opens the outputs and starts the writer. The error is etcd's text.
    pub fn start(config: &LogConfig) -> Result<Log, String> {
        let sink = Sink::open(&config.outputs, config.rotation)?;
        Log::with_sink(config, sink).map_err(|error| format!("cannot start the log's thread: {error}"))
    }

    fn with_sink(config: &LogConfig, sink: Sink) -> std::io::Result<Log> {
        let (queue, lines) = sync_channel(LINES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let log = Log {
            shared: Arc::new(Shared {
                level: config.level,
                json: config.json,
                queue,
                dropped: dropped.clone(),
            }),
        };
        let (json, mut sink) = (config.json, sink);
        thread::Builder::new().name("log".into()).spawn(move || {
            // Ends when the last handle on the log is gone.
            while let Ok(message) = lines.recv() {
                match message {
                    Message::Line(level, line) => sink.write(level, &line),
                    Message::Flush(done) => drop(done.send(())),
                }
                match dropped.swap(0, Ordering::Relaxed) {
                    0 => {}
                    count => sink.write(Level::Warn, &dropped_line(json, count)),
                }
            }
        })?;
        Ok(log)
    }

    /// A log for lines before the settings are known: JSON, to standard error.
    pub fn early() -> Result<Log, String> {
        Log::start(&LogConfig {
            level: Level::Info,
            json: true,
            outputs: vec!["stderr".to_string()],
            rotation: None,
        })
    }

    /// Starts a line of level debug.
    #[track_caller]
    pub fn debug(&self, text: &str) -> Line<'_> {
        self.line(Level::Debug, text)
    }

    /// Starts a line of level info.
    #[track_caller]
    pub fn info(&self, text: &str) -> Line<'_> {
        self.line(Level::Info, text)
    }

    /// Starts a line of level warn.
    #[track_caller]
    pub fn warn(&self, text: &str) -> Line<'_> {
        self.line(Level::Warn, text)
    }

    /// Starts a line of level error.
    #[track_caller]
    pub fn error(&self, text: &str) -> Line<'_> {
        self.line(Level::Error, text)
    }

    /// Starts a line of level fatal. The caller flushes the log and exits.
    #[track_caller]
    pub fn fatal(&self, text: &str) -> Line<'_> {
        self.line(Level::Fatal, text)
    }

    /// Starts a line.
    #[track_caller]
    pub fn line(&self, level: Level, text: &str) -> Line<'_> {
        self.line_from(level, text, Location::caller())
    }

    /// Starts a line that was made somewhere else.
    pub fn line_from(&self, level: Level, text: &str, caller: &Location<'_>) -> Line<'_> {
        Line::new(self, level, SystemTime::now(), caller, text)
    }

    /// Logs what the settings had to say.
    #[track_caller]
    pub fn notices(&self, notices: &[Notice]) {
        for notice in notices {
            let mut line = self.line(notice.level, &notice.text);
            for (key, value) in &notice.fields {
                line = line.text(key, value);
            }
            line.emit();
        }
    }

    /// Whether lines of a level are written.
    pub fn is_on(&self, level: Level) -> bool {
        level >= self.shared.level
    }

    fn send(&self, level: Level, line: Vec<u8>) {
        match self.shared.queue.try_send(Message::Line(level, line)) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => {
                self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits until all lines so far are written, but not for ever.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.shared.queue.send(Message::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(FLUSH_MAX);
        }
    }
}

fn dropped_line(json: bool, count: u64) -> Vec<u8> {
    let mut body = line::Body::new(
        json,
        Level::Warn,
        SystemTime::now(),
        Location::caller(),
        "log lines were dropped, the outputs are too slow",
    );
    body.raw("lines", &count.to_string());
    body.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &tempfile::TempDir, json: bool) -> (LogConfig, std::path::PathBuf) {
        let path = dir.path().join("log");
        let config = LogConfig {
            level: Level::Info,
            json,
            outputs: vec![path.to_string_lossy().into_owned()],
            rotation: None,
        };
        (config, path)
    }

    #[test]
    fn lines_reach_the_file_in_order_and_with_their_fields() {
        let dir = tempfile::tempdir().unwrap();
        let (config, path) = config(&dir, true);
        let log = Log::start(&config).unwrap();
        log.debug("not written").emit();
        log.info("first \"quoted\"\n")
            .text("name", "a\u{1}b")
            .num("count", 3)
            .flag("on", true)
            .list("urls", ["x", "y"])
            .emit();
        log.error("second").text("error", "oh").emit();
        log.flush();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["msg"], "first \"quoted\"\n");
        assert_eq!(lines[0]["name"], "a\u{1}b");
        assert_eq!(lines[0]["urls"], serde_json::json!(["x", "y"]));
        assert_eq!(lines[1]["level"], "error");
        let first = text.lines().next().unwrap();
        assert!(first.starts_with("{\"level\":\"info\",\"ts\":\"20"), "{first}");
        assert!(first.contains("Z\",\"caller\":\"log/mod.rs:"), "{first}");
        assert!(
            first.ends_with("\"count\":3,\"on\":true,\"urls\":[\"x\",\"y\"]}"),
            "{first}"
        );
    }

    #[test]
    fn lines_for_people_have_tabs() {
        let dir = tempfile::tempdir().unwrap();
        let (config, path) = config(&dir, false);
        let log = Log::start(&config).unwrap();
        log.warn("hello").text("name", "x").num("n", 1).emit();
        log.flush();
        let text = std::fs::read_to_string(&path).unwrap();
        let parts: Vec<&str> = text.trim_end().split('\t').collect();
        assert_eq!(parts[1], "warn");
        assert_eq!(&parts[3..], ["hello", "{\"name\": \"x\", \"n\": 1}"]);
    }

    #[test]
    fn a_stuck_writer_costs_lines_not_callers() {
        let (sink, release) = Sink::stuck();
        let (config, _) = config(&tempfile::tempdir().unwrap(), true);
        let log = Log::with_sink(&config, sink).unwrap();
        for _ in 0..LINES_MAX + 100 {
            log.info("x").emit();
        }
        assert!(log.shared.dropped.load(Ordering::Relaxed) >= 99);
        let written = release();
        log.flush();
        let written = written.lock().unwrap();
        let text = String::from_utf8_lossy(&written);
        assert!(
            text.contains("log lines were dropped"),
            "nothing says that lines are missing"
        );
    }
}
