//! The Llama-family decoder and its forests.
