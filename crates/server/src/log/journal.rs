//! The system's journal, by its own protocol: one datagram a line (systemd: JOURNAL_NATIVE_PROTOCOL).

use std::io;
use std::os::unix::net::UnixDatagram;

use super::Level;

const SOCKET: &str = "/run/systemd/journal/socket";

/// The way to the journal.
pub(super) struct Journal {
    socket: UnixDatagram,
    path: String,
    identifier: String,
}

impl Journal {
    /// Looks for the journal.
    pub(super) fn open() -> io::Result<Journal> {
        let program = std::env::args().next().unwrap_or_default();
        let identifier = program.rsplit('/').next().unwrap_or_default();
        Journal::at(SOCKET, identifier)
    }

    fn at(path: &str, identifier: &str) -> io::Result<Journal> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        Ok(Journal {
            socket,
            path: path.to_string(),
            identifier: identifier.to_string(),
        })
    }

    /// Sends a line; once more if the journal was started anew since.
    pub(super) fn write(&mut self, level: Level, line: &[u8]) -> io::Result<()> {
        let message = message(level, line, &self.identifier);
        if self.socket.send(&message).is_ok() {
            return Ok(());
        }
        self.socket.connect(&self.path)?;
        self.socket.send(&message).map(drop)
    }
}

/// etcd: client/pkg/logutil/zap_journal.go.
fn message(level: Level, line: &[u8], identifier: &str) -> Vec<u8> {
    let priority = match level {
        Level::Debug => 7,
        Level::Info => 6,
        Level::Warn => 4,
        Level::Error => 3,
        Level::Panic | Level::Fatal => 2,
    };
    let mut out = format!("PRIORITY={priority}\nSYSLOG_IDENTIFIER={identifier}\nMESSAGE\n").into_bytes();
    // With its length, so that it may have any bytes.
    out.extend_from_slice(&(line.len() as u64).to_le_bytes());
    out.extend_from_slice(line);
    out.push(b'\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_reach_the_journal_with_their_level() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let mut way = Journal::at(&path.to_string_lossy(), "etcd").unwrap();
        way.write(Level::Warn, b"{\"a\":1}\n").unwrap();
        let mut buf = [0; 200];
        let len = journal.recv(&mut buf).unwrap();
        let expect =
            b"PRIORITY=4\nSYSLOG_IDENTIFIER=etcd\nMESSAGE\n\x08\0\0\0\0\0\0\0{\"a\":1}\n\n".as_slice();
        assert_eq!(&buf[..len], expect);
        // Started anew.
        drop(journal);
        std::fs::remove_file(&path).unwrap();
        let journal = UnixDatagram::bind(&path).unwrap();
        way.write(Level::Info, b"x").unwrap();
        assert!(journal.recv(&mut buf).unwrap() > 10);
        assert!(Journal::at(&dir.path().join("no").to_string_lossy(), "etcd").is_err());
    }
}
