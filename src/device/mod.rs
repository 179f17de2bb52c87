//! Devices, buffers and launches. `cpu/` is the embedded default.
