//! The proxy's binary: command line, log, runtime.

fn main() {}
