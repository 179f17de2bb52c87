//! Sequential recommenders, their frameworks, training and evaluation.
