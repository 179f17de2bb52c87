//! One file an op: shape checks, FLOP and byte counts, forward and backward, dispatch to the devices.
