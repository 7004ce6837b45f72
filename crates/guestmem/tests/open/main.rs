//! Files opened as what they are.
#![cfg(test)]

mod core;
mod elf;
mod hostile;
mod notes;
mod packed;
