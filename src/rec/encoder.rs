//! What turns a history into a vector: one file an encoder.

use super::config::{EncoderKind, RecConfig};
use super::gru4rec::Gru4Rec;
use super::init::Init;
use super::layout::Layout;
use super::noise::Noise;
use super::sasrec::SasRec;
use crate::Result;
use crate::autograd::{Param, Var};

/// A causal encoder: a row depends on its own and earlier rows of its sequence only, and not on other sequences.
pub trait Encoder: Send + Sync {
    /// Hidden vectors of the item embeddings `x: [rows, width]`, rows as in `layout`: `[rows, width]`, or of the rows that it lets
    /// leave.
    fn encode(&self, x: Var, layout: &Layout, noise: &Noise) -> Result<Var>;

    /// Its parameters, in a fixed order.
    fn params(&self) -> Vec<Param>;
}

impl RecConfig {
    /// A new encoder of these settings.
    pub(super) fn encoder(&self, init: &mut Init) -> Result<Box<dyn Encoder>> {
        Ok(match self.encoder {
            EncoderKind::SasRec => Box::new(SasRec::new(self, init)?),
            EncoderKind::Gru4Rec => Box::new(Gru4Rec::new(self, init)?),
        })
    }
}
