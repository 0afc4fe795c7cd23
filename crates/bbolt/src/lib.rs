//! The data file in bbolt's format.
