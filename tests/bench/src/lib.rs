//! Benchmarks only: see `benches`, and run them by `cargo xtask bench`.
