//! System calls that neither libbpf-rs nor nix has, each behind a safe function.
#![expect(unsafe_code, reason = "system calls are made by hand here")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use anyhow::{Context, Result, bail, ensure};
use libbpf_rs::{MapCore, MapHandle};
use libbpf_sys::{
    bpf_insn, bpf_map_create_opts, bpf_prog_info, bpf_prog_load_opts, bpf_test_run_opts,
};
use nix::libc;

use crate::programs::Input;

/// What a map is created with.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct MapSpec<'a> {
    pub(crate) kind: u32,
    pub(crate) name: &'a str,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
    /// `map_extra`: what it means depends on the type.
    pub(crate) extra: u64,
    /// The model of the maps that are put into a map of maps.
    pub(crate) inner: Option<BorrowedFd<'a>>,
}

/// Takes a file descriptor that a system call returned, or its error.
fn owned(fd: i64) -> io::Result<OwnedFd> {
    match RawFd::try_from(fd) {
        // SAFETY: the caller just got it from the kernel; nobody else has it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Creates a map of any type.
///
/// # Errors
/// Fails if the kernel refuses.
pub(crate) fn create_map(spec: &MapSpec<'_>) -> Result<MapHandle> {
    let opts = bpf_map_create_opts {
        sz: u64::try_from(size_of::<bpf_map_create_opts>())?,
        map_flags: spec.flags,
        map_extra: spec.extra,
        inner_map_fd: match spec.inner {
            Some(inner) => u32::try_from(inner.as_raw_fd())?,
            None => 0,
        },
        ..bpf_map_create_opts::default()
    };
    let name = CString::new(spec.name)?;
    // SAFETY: name and options live through the call, which copies them.
    let fd = unsafe {
        libbpf_sys::bpf_map_create(
            spec.kind,
            name.as_ptr(),
            spec.key_size,
            spec.value_size,
            spec.max_entries,
            &raw const opts,
        )
    };
    let fd = owned(fd.into()).with_context(|| format!("creation of map {:?}", spec.name))?;
    // libbpf-rs cannot create types that it does not know, but it can use them.
    let info = libbpf_rs::MapInfo::new(fd.as_fd())?;
    Ok(MapHandle::from_map_id(info.info.id)?)
}

/// Writes an entry of a map whatever its type. The lengths are the caller's to know: a per-CPU
/// value has one part for each possible CPU.
///
/// # Errors
/// Fails if the kernel refuses, or if a part is shorter than the map's sizes.
pub(crate) fn update(map: &MapHandle, key: &[u8], value: &[u8], flags: u64) -> Result<()> {
    ensure!(
        u32::try_from(key.len())? >= map.key_size(),
        "the key is too short"
    );
    ensure!(
        u32::try_from(value.len())? >= map.value_size(),
        "the value is too short"
    );
    // SAFETY: both are at least as long as the kernel reads.
    let result = unsafe {
        libbpf_sys::bpf_map_update_elem(
            map.as_fd().as_raw_fd(),
            key.as_ptr().cast(),
            value.as_ptr().cast(),
            flags,
        )
    };
    if result < 0 {
        let error = io::Error::last_os_error();
        bail!("update of key {key:02x?} with {value:02x?}: {error}");
    }
    Ok(())
}

/// What the kernel says of a program, its lists left out.
///
/// # Errors
/// Fails if the kernel refuses.
pub(crate) fn program_info(fd: BorrowedFd<'_>) -> Result<bpf_prog_info> {
    let mut info = bpf_prog_info::default();
    let mut size = u32::try_from(size_of::<bpf_prog_info>())?;
    // SAFETY: the kernel writes at most `size` bytes.
    let result = unsafe {
        libbpf_sys::bpf_prog_get_info_by_fd(fd.as_raw_fd(), &raw mut info, &raw mut size)
    };
    ensure!(
        result == 0,
        "information about a program: {}",
        io::Error::last_os_error()
    );
    Ok(info)
}

/// Runs a program once, here and now. Returns what it returned.
///
/// # Errors
/// Fails if the kernel refuses.
pub(crate) fn run_program(program: BorrowedFd<'_>, input: Input<'_>) -> Result<u32> {
    let mut opts = bpf_test_run_opts {
        sz: u64::try_from(size_of::<bpf_test_run_opts>())?,
        ..bpf_test_run_opts::default()
    };
    match input {
        Input::Context([]) => {}
        Input::Context(context) => {
            opts.ctx_in = context.as_ptr().cast();
            opts.ctx_size_in = u32::try_from(context.len())?;
        }
        Input::Packet(packet) => {
            opts.data_in = packet.as_ptr().cast();
            opts.data_size_in = u32::try_from(packet.len())?;
        }
    }
    // SAFETY: the input is as long as it says and lives through the call.
    let result = unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &raw mut opts) };
    ensure!(result == 0, "BPF_PROG_RUN: {}", io::Error::last_os_error());
    Ok(opts.retval)
}

/// Loads an XDP program that uses a map without naming it.
///
/// # Errors
/// Fails if the kernel refuses; the verifier's words are in the text.
pub(crate) fn load_xdp(name: &str, insns: &[bpf_insn], map: BorrowedFd<'_>) -> Result<OwnedFd> {
    let name = CString::new(name)?;
    let maps = [map.as_raw_fd()];
    let mut log = vec![0_u8; 1 << 16];
    let opts = bpf_prog_load_opts {
        sz: u64::try_from(size_of::<bpf_prog_load_opts>())?,
        fd_array: maps.as_ptr(),
        fd_array_cnt: 1,
        log_level: 1,
        log_size: u32::try_from(log.len())?,
        log_buf: log.as_mut_ptr().cast(),
        ..bpf_prog_load_opts::default()
    };
    // SAFETY: name, instructions, options and what they point at live through the call.
    let fd = unsafe {
        libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_XDP,
            name.as_ptr(),
            c"GPL".as_ptr(),
            insns.as_ptr(),
            u64::try_from(insns.len())?,
            (&raw const opts).cast_mut(),
        )
    };
    owned(fd.into()).with_context(|| {
        let text = log.split(|&byte| byte == 0).next().unwrap_or_default();
        format!("loading a program: {}", String::from_utf8_lossy(text))
    })
}

/// Lets the kernel count runs of programs for as long as the descriptor lives.
///
/// # Errors
/// Fails if the kernel refuses.
pub(crate) fn count_runs() -> Result<OwnedFd> {
    // SAFETY: the call takes no pointers.
    let fd = unsafe { libbpf_sys::bpf_enable_stats(libbpf_sys::BPF_STATS_RUN_TIME) };
    owned(fd.into()).context("BPF_ENABLE_STATS")
}

/// What a perf event counts, and where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PerfEvent {
    /// `PERF_TYPE_…`
    pub(crate) kind: u32,
    pub(crate) config: u64,
    /// The task, or -1 for all.
    pub(crate) pid: i32,
    /// The CPU, or -1 for all.
    pub(crate) cpu: i32,
}

/// `struct perf_event_attr` as it was first: 64 bytes.
#[repr(C)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    config1: u64,
}

/// Opens a perf event that does not count yet.
///
/// # Errors
/// Fails if the kernel refuses.
pub(crate) fn open_perf_event(event: &PerfEvent) -> Result<OwnedFd> {
    const DISABLED: u64 = 1;
    const CLOSE_ON_EXEC: libc::c_ulong = 8;
    let attr = PerfEventAttr {
        kind: event.kind,
        size: 64,
        config: event.config,
        sample_period: 0,
        sample_type: 0,
        read_format: 0,
        flags: DISABLED,
        wakeup_events: 0,
        breakpoint_type: 0,
        config1: 0,
    };
    // SAFETY: the attributes are as long as they say and live through the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attr,
            event.pid,
            event.cpu,
            -1,
            CLOSE_ON_EXEC,
        )
    };
    owned(fd).with_context(|| format!("{event:?}"))
}

/// A descriptor of a process, or of a single thread with `PIDFD_THREAD`.
///
/// # Errors
/// Fails if there is none or if the kernel does not know the flag.
pub(crate) fn open_pidfd(pid: i32, flags: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, flags) })
}

/// The calling thread's id.
pub(crate) fn thread_id() -> i32 {
    nix::unistd::gettid().as_raw()
}

/// Sets a socket option whose value is plain bytes.
///
/// # Errors
/// Fails if the kernel refuses.
pub(crate) fn set_option(
    socket: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: &[u8],
) -> Result<()> {
    // SAFETY: the value is as long as it says.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_ptr().cast(),
            libc::socklen_t::try_from(value.len())?,
        )
    };
    ensure!(
        result == 0,
        "socket option {level}/{name}: {}",
        io::Error::last_os_error()
    );
    Ok(())
}

/// A socket option of eight bytes.
///
/// # Errors
/// Fails if the kernel refuses or gives another length.
pub(crate) fn option_u64(socket: BorrowedFd<'_>, level: i32, name: i32) -> Result<u64> {
    let mut value = [0_u8; 8];
    let mut len: libc::socklen_t = 8;
    // SAFETY: the kernel writes at most `len` bytes.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    ensure!(
        result == 0 && len == 8,
        "socket option {level}/{name}: {}",
        io::Error::last_os_error()
    );
    Ok(u64::from_ne_bytes(value))
}

/// A socket of any family.
///
/// # Errors
/// Fails if the kernel refuses.
pub(crate) fn socket(family: i32, kind: i32, protocol: i32) -> Result<OwnedFd> {
    // SAFETY: the call takes no pointers.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
    owned(fd.into()).with_context(|| format!("socket {family}/{kind}/{protocol}"))
}

/// Binds a socket to an address in the form of its family.
///
/// # Errors
/// Fails if the kernel refuses.
pub(crate) fn bind(socket: BorrowedFd<'_>, address: &[u8]) -> Result<()> {
    // SAFETY: the address is as long as it says.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            address.as_ptr().cast(),
            libc::socklen_t::try_from(address.len())?,
        )
    };
    ensure!(result == 0, "bind: {}", io::Error::last_os_error());
    Ok(())
}
