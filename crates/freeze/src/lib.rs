//! A machine's BPF state, taken while it stands still for milliseconds, and
//! read later.

pub mod capture;
mod error;
mod machine;

pub use capture::Capture;
pub use error::Error;
pub use machine::{Machine, Standing, StandsStill};
