//! Reading the index from the data file.
