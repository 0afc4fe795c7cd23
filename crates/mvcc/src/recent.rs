//! The newest revisions, in memory: all that is not yet in the data file, and a little more.
