//! Tests of bpfreeze on real guests: kernels that were booted, filled and frozen by
//! `cargo xtask test`, which also says where they are.
//!
//! Four witnesses speak about each map: the map maker (what it put in, known by construction),
//! bpftool in the guest, bpfreeze in the guest on the running kernel, and bpfreeze here on
//! nothing but the guest's memory. They must agree entry by entry. What one of them cannot say
//! is left out by name, with the reason, where it is compared.
#![cfg(test)]

mod agreement;
mod allocators;
mod bad_images;
mod bpftool;
mod checks;
mod contents;
mod corrupt;
mod damage;
mod documents;
mod doors;
mod drgn;
mod guest;
mod info;
mod objects;
mod pattern;
mod programs;
mod queries;
mod rows;
mod scx;
mod support;
mod tests;
mod typed;
mod witnesses;
