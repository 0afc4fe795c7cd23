//! Revisions, key index, store, compaction, hashes and the schema of the data file.
