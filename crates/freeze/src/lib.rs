//! A machine's BPF state, taken while it stands still for milliseconds, and
//! read later.
