//! Readers, splits, negatives and the synthetic catalogue.
