//! Layers, optimisers and losses.
