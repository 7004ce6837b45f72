//! The memory of a running QEMU: paused, read and resumed through its monitor
//! socket (QMP).
