//! Every op against references on the host, and the LE that is made of them. A device's test program includes this and
//! says which `devices` there are, which of them are `limited_devices`, and how `parity` runs on them.

pub mod attention;
mod elements;
pub mod environment;
mod lookup;
pub mod optimiser;
pub mod products;
mod recurrence;
mod rows;
mod search;

use super::parity::{error, expect_near, parity_on, random, run, to};
use super::{devices, le_fixture, limited_devices, parity};
