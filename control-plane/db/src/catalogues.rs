//! Engine catalogues.
