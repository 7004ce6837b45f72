//! Real QEMU processes without an operating system: how their memory is read
//! wherever it is, and that a guest that was paused runs again.
#![cfg(test)]

mod backends;
mod death;
mod hostile;
mod machine;
mod pausing;
