//! Drivers of the database engines.
