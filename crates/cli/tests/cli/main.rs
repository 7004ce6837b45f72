//! The program as its users run it, but without a guest.
#![cfg(test)]

mod bad_source;
mod live;
mod output;
mod program;
mod sample;
mod usage;
