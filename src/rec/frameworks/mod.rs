//! The parts of the losses that are particular to a framework: temporal-difference targets and the weights of the
//! cross-entropy. Plain numbers on the host, one file a framework.

pub mod sa2c;
pub mod snqn;
pub mod sqn;
