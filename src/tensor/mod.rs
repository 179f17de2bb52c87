//! Tensors: a shape over a device's buffer.
