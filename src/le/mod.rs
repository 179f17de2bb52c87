//! The offline environment: item tokens, LE training, labelling, label files.
