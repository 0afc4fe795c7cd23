//! A disk in memory that crashes, tears, fills up and lies, from a seed. Never reads a clock or a
//! real random source.

/// How a crash treats what no sync made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashMode {
    /// All of it is lost.
    LoseUnsynced,
    /// All of it is kept.
    KeepAll,
    /// Each write and each name is kept or lost as a whole.
    Subset,
    /// Each sector of 512 bytes is as it was at some moment since the last sync.
    Torn,
    /// One of the above for each file, by the seed.
    Any,
}
