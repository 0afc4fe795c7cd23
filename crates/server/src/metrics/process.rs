//! What the system says of this process: `/proc`, read when a page of metrics is made. A number
//! that cannot be had is 0.

use std::fs;

use rustix::process::{Resource, getrlimit};

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Seconds of processor time, in the program and in the kernel for it.
    pub cpu_seconds: f64,
    /// Open file descriptors.
    pub fds: u64,
    /// How many there may be.
    pub fds_max: u64,
    /// Bytes of memory that are in use.
    pub resident_bytes: u64,
    /// Bytes of memory that may be touched.
    pub virtual_bytes: u64,
    /// How many there may be.
    pub virtual_bytes_max: u64,
    /// When it started, in seconds since 1970.
    pub start_seconds: f64,
    /// Threads.
    pub threads: u64,
    /// Bytes that this machine's network (or the process's namespace) received and sent.
    pub network: [u64; 2],
    /// Bytes in use that come from no file: what the allocators hold.
    pub anonymous_bytes: u64,
    /// Bytes that the allocators asked the system for.
    pub data_bytes: u64,
    /// Bytes of the first thread's stack.
    pub stack_bytes: u64,
}

/// The kernel counts processor time in these: USER_HZ is 100 on all architectures that etcd runs on.
const TICKS_PER_SECOND: f64 = 100.0;

impl Process {
    /// Asks the system.
    pub fn now() -> Process {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut process = Process::default();
        process.take_stat(&read("/proc/self/stat"), &read("/proc/stat"));
        process.take_status(&read("/proc/self/status"));
        process.network = network(&read("/proc/self/net/netstat"));
        let max = |resource| getrlimit(resource).current.unwrap_or(u64::MAX);
        process.fds_max = max(Resource::Nofile);
        process.virtual_bytes_max = max(Resource::As);
        process.fds = open_fds();
        process
    }

    /// The fields behind the program's name, which may contain anything: proc(5).
    #[allow(clippy::cast_precision_loss)] // Ticks of centuries fit.
    fn take_stat(&mut self, stat: &str, system: &str) {
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let fields: Vec<u64> = after_name
            .split_whitespace()
            .map(|field| field.parse().unwrap_or(0))
            .collect();
        // The first of these is field 3.
        let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
        self.cpu_seconds = (field(14) + field(15)) as f64 / TICKS_PER_SECOND;
        self.threads = field(20);
        self.virtual_bytes = field(23);
        let boot = system.lines().find_map(|line| line.strip_prefix("btime "));
        let boot: u64 = boot.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        self.start_seconds = boot as f64 + field(22) as f64 / TICKS_PER_SECOND;
    }

    fn take_status(&mut self, status: &str) {
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|rest| rest.trim().strip_suffix("kB"));
            kib.and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
        };
        self.resident_bytes = bytes("VmRSS:");
        self.anonymous_bytes = bytes("RssAnon:");
        self.data_bytes = bytes("VmData:");
        self.stack_bytes = bytes("VmStk:");
    }
}

/// Open file descriptors of this process.
fn open_fds() -> u64 {
    let entries = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    // The directory itself was one of them.
    (entries as u64).saturating_sub(1)
}

/// `IpExt InOctets` and `OutOctets`: a line of names, and one of numbers.
fn network(netstat: &str) -> [u64; 2] {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("IpExt:"));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else {
        return [0, 0];
    };
    let of = |wanted: &str| {
        let mut pairs = names.split_whitespace().zip(values.split_whitespace());
        let found = pairs.find(|(name, _)| *name == wanted);
        found.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
    };
    [of("InOctets"), of("OutOctets")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = "42 (a) b (c)) S 1 1 1 0 -1 4194304 1 0 0 0 250 50 0 0 20 0 7 0 1000 5000000 300 18446744073709551615 1";
        let mut process = Process::default();
        process.take_stat(stat, "cpu 1 2\nbtime 1700000000\nprocesses 3\n");
        assert_eq!(process.cpu_seconds, 3.0);
        assert_eq!((process.threads, process.virtual_bytes), (7, 5_000_000));
        assert_eq!(process.start_seconds, 1_700_000_010.0);
        process
            .take_status("Name:\tx\nVmRSS:\t 4 kB\nVmData:\t   20 kB\nVmStk:\t 132 kB\nRssAnon:\t  8 kB\n");
        assert_eq!(process.resident_bytes, 4096);
        assert_eq!(
            (process.data_bytes, process.stack_bytes, process.anonymous_bytes),
            (20_480, 135_168, 8_192)
        );
        let netstat = "TcpExt: A B\nTcpExt: 1 2\nIpExt: X InOctets OutOctets\nIpExt: 1 22 33\n";
        assert_eq!(network(netstat), [22, 33]);
    }

    #[test]
    fn this_process_is_alive() {
        let process = Process::now();
        assert!(process.fds >= 3 && process.fds_max >= process.fds, "{process:?}");
        assert!(process.threads >= 1 && process.resident_bytes > 0, "{process:?}");
        assert!(process.start_seconds > 1.6e9, "{process:?}");
    }
}
