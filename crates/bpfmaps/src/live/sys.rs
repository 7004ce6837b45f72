//! bpf(2), as far as reading maps needs it, as safe functions.
#![expect(
    unsafe_code,
    reason = "libbpf is C; what each call may write to is argued where it stands"
)]

mod code;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use libbpf_rs::libbpf_sys as bpf;
use nix::errno::Errno;

use super::keys::Table;
use crate::MapType;

/// How often a call that asks to be repeated is repeated.
const REPEATS: u32 = 1000;

/// `ENOTSUPP`, an error number of the kernel's own that bpf(2) lets out.
const ENOTSUPP: c_int = 524;

/// libbpf's answer, which is `-errno` on failure.
fn answer(ret: c_int) -> Result<c_int, Errno> {
    match ret.saturating_neg() {
        ENOTSUPP => Err(Errno::EOPNOTSUPP),
        errno if errno > 0 => Err(Errno::from_raw(errno)),
        _ => Ok(ret),
    }
}

/// The answer of a call that is repeated if it was interrupted.
pub(super) fn repeat(mut call: impl FnMut() -> c_int) -> Result<c_int, Errno> {
    for _ in 0..REPEATS {
        match answer(call()) {
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            other => return other,
        }
    }
    Err(Errno::EAGAIN)
}

/// The answer of a call that makes a file descriptor.
pub(super) fn new_fd(call: impl FnMut() -> c_int) -> Result<OwnedFd, Errno> {
    let fd = repeat(call)?;
    // SAFETY: the kernel has just made this descriptor, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Bytes of a `T`.
pub(super) fn size_of_u32<T>() -> u32 {
    u32::try_from(size_of::<T>()).unwrap_or(u32::MAX)
}

/// The text of a name, up to its NUL. Bytes that are no UTF-8 are replaced.
pub(super) fn text(name: &[c_char]) -> String {
    let bytes = name.iter().map(|&byte| byte.to_ne_bytes()[0]);
    let bytes: Vec<u8> = bytes.take_while(|&byte| byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The smallest id of a map above `id`; `None` if there is none.
pub(super) fn next_map_id(id: u32) -> Result<Option<u32>, Errno> {
    let mut next = 0;
    // SAFETY: it writes to `next` only.
    match repeat(|| unsafe { bpf::bpf_map_get_next_id(id, &raw mut next) }) {
        Ok(_) => Ok(Some(next)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// What the kernel says of a map.
pub(super) fn map_info(map: BorrowedFd<'_>) -> Result<bpf::bpf_map_info, Errno> {
    let mut info = bpf::bpf_map_info::default();
    // SAFETY: it is a map, and `info` names no buffers.
    unsafe { get_info(map, &mut info) }?;
    Ok(info)
}

/// What the kernel says of a program.
pub(super) fn prog_info(prog: BorrowedFd<'_>) -> Result<bpf::bpf_prog_info, Errno> {
    let mut info = bpf::bpf_prog_info::default();
    // SAFETY: it is a program, and `info` names no buffers.
    unsafe { get_info(prog, &mut info) }?;
    Ok(info)
}

/// The smallest id of a program above `id`; `None` if there is none.
pub(super) fn next_prog_id(id: u32) -> Result<Option<u32>, Errno> {
    let mut next = 0;
    // SAFETY: it writes to `next` only.
    match repeat(|| unsafe { bpf::bpf_prog_get_next_id(id, &raw mut next) }) {
        Ok(_) => Ok(Some(next)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// A program, held open.
pub(super) struct OpenProg {
    pub(super) fd: OwnedFd,
    pub(super) info: bpf::bpf_prog_info,
    /// The maps that it uses.
    pub(super) map_ids: Vec<u32>,
    /// The type of its function in its BTF.
    pub(super) function: Option<u32>,
}

impl OpenProg {
    pub(super) fn name(&self) -> String {
        text(&self.info.name)
    }

    /// Opens the program with this id.
    pub(super) fn open(id: u32) -> Result<Self, Errno> {
        // SAFETY: it takes no memory of ours.
        let fd = new_fd(|| unsafe { bpf::bpf_prog_get_fd_by_id(id) })?;
        let count = prog_info(fd.as_fd())?.nr_map_ids;
        let mut map_ids = vec![0u32; count as usize];
        let mut function = bpf::bpf_func_info::default();
        let mut info = bpf::bpf_prog_info {
            nr_map_ids: count,
            map_ids: map_ids.as_mut_ptr().expose_provenance() as u64,
            nr_func_info: 1,
            func_info_rec_size: size_of_u32::<bpf::bpf_func_info>(),
            func_info: (&raw mut function).expose_provenance() as u64,
            ..Default::default()
        };
        // SAFETY: `map_ids` and `function` are as long as `info` says, and
        // outlive it.
        unsafe { get_info(fd.as_fd(), &mut info) }?;
        map_ids.truncate(info.nr_map_ids as usize);
        let function = (info.nr_func_info > 0).then_some(function.type_id);
        Ok(Self {
            fd,
            info,
            map_ids,
            function,
        })
    }
}

/// One BTF object of the kernel.
pub(super) struct BtfObject {
    /// Whether it is the kernel's or a module's own.
    pub(super) of_kernel: bool,
    /// `vmlinux` or the module, if it is; empty if not.
    pub(super) name: String,
    /// The bytes.
    pub(super) data: Vec<u8>,
}

/// The BTF object with this id.
pub(super) fn btf(id: u32) -> Result<BtfObject, Errno> {
    // SAFETY: it takes no memory of ours.
    let fd = new_fd(|| unsafe { bpf::bpf_btf_get_fd_by_id(id) })?;
    // A module's name has up to 56 bytes, its NUL included.
    let mut name = [0u8; 64];
    let mut info = bpf::bpf_btf_info::default();
    // SAFETY: without buffers it writes to `info` only.
    unsafe { get_info(fd.as_fd(), &mut info) }?;
    let mut data = vec![0u8; info.btf_size as usize];
    info = bpf::bpf_btf_info {
        btf: data.as_mut_ptr().expose_provenance() as u64,
        btf_size: info.btf_size,
        name: name.as_mut_ptr().expose_provenance() as u64,
        name_len: size_of_u32::<[u8; 64]>(),
        ..Default::default()
    };
    // SAFETY: `data` and `name` are as long as `info` says, and outlive it.
    unsafe { get_info(fd.as_fd(), &mut info) }?;
    let name = CStr::from_bytes_until_nul(&name).map_err(|_no_nul| Errno::ENAMETOOLONG)?;
    Ok(BtfObject {
        of_kernel: info.kernel_btf != 0,
        name: name.to_string_lossy().into_owned(),
        data,
    })
}

/// `BPF_OBJ_GET_INFO_BY_FD`. Kernels that know less of `T` leave its end
/// alone, kernels that know more leave out what does not fit.
///
/// # Safety
///
/// `T` is the info of `fd`'s kind of object, and the buffers that `info`
/// names are there, as long as it says.
unsafe fn get_info<T>(fd: BorrowedFd<'_>, info: &mut T) -> Result<(), Errno> {
    let mut len = size_of_u32::<T>();
    let info = ptr::from_mut(info).cast();
    // SAFETY: `info` has `len` bytes, the rest is the caller's promise.
    repeat(|| unsafe { bpf::bpf_obj_get_info_by_fd(fd.as_raw_fd(), info, &raw mut len) })?;
    Ok(())
}

/// How many bytes the kernel copies for a key (`bpf_map_value_size()` in
/// kernel/bpf/syscall.c).
fn value_len(info: &bpf::bpf_map_info) -> Result<Option<usize>, Errno> {
    let size = info.value_size as usize;
    Ok(match MapType(info.type_) {
        MapType::HASH
        | MapType::LRU_HASH
        | MapType::ARRAY
        | MapType::LPM_TRIE
        | MapType::RHASH
        | MapType::STRUCT_OPS
        | MapType::DEVMAP
        | MapType::DEVMAP_HASH
        | MapType::CPUMAP
        | MapType::INSN_ARRAY => Some(size),
        MapType::PROG_ARRAY | MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS => {
            Some(size_of::<u32>())
        }
        MapType::PERCPU_HASH | MapType::LRU_PERCPU_HASH | MapType::PERCPU_ARRAY => {
            // SAFETY: it takes no memory of ours.
            let cpus = answer(unsafe { bpf::libbpf_num_possible_cpus() })?;
            let stride = size.checked_next_multiple_of(8);
            let cpus = usize::try_from(cpus).ok();
            let len = stride
                .zip(cpus)
                .and_then(|(each, cpus)| each.checked_mul(cpus));
            Some(len.ok_or(Errno::EOVERFLOW)?)
        }
        _ => None,
    })
}

/// A map, held open.
#[derive(Debug)]
pub(super) struct OpenMap {
    fd: OwnedFd,
    info: bpf::bpf_map_info,
    /// Bytes that the kernel copies for the value, or all values, of a key;
    /// `None` for types that are not looked up here.
    value_len: Option<usize>,
}

/// How a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// There may be more.
    More,
    /// The map has no more.
    Last,
    /// The kernel refused before it looked into the map.
    Refused(Errno),
    /// The kernel stopped at the place where the next batch would start.
    Stopped(Errno),
}

impl OpenMap {
    /// Opens the map with this id, for reading only.
    ///
    /// No flag of the map's creation stands against this: `BPF_F_RDONLY` and
    /// `BPF_F_WRONLY` are for the descriptor that was made then.
    pub(super) fn open(id: u32) -> Result<Self, Errno> {
        let options = bpf::bpf_get_fd_by_id_opts {
            sz: size_of::<bpf::bpf_get_fd_by_id_opts>() as bpf::size_t,
            open_flags: bpf::BPF_F_RDONLY,
            ..Default::default()
        };
        // SAFETY: it reads `options`, which says its own size.
        let fd = new_fd(|| unsafe { bpf::bpf_map_get_fd_by_id_opts(id, &raw const options) })?;
        let info = map_info(fd.as_fd())?;
        let value_len = value_len(&info)?;
        Ok(Self {
            fd,
            info,
            value_len,
        })
    }

    pub(super) fn info(&self) -> &bpf::bpf_map_info {
        &self.info
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn key_size(&self) -> usize {
        self.info.key_size as usize
    }

    /// Bytes of a cursor of [`lookup_batch`](Self::lookup_batch): a hash
    /// counts buckets in a `u32`, other maps remember the last key.
    pub(super) fn cursor_len(&self) -> usize {
        self.key_size().max(size_of::<u32>())
    }

    /// Looks up as many entries as `keys` and `values` have room for, from
    /// `cursor` on, and moves it on. Says how many entries there were, which
    /// are whole whatever the end.
    pub(super) fn lookup_batch(
        &self,
        cursor: Option<&[u8]>,
        next: &mut [u8],
        keys: &mut [u8],
        values: &mut [u8],
    ) -> (u32, End) {
        let Some(value_len) = self.value_len else {
            return (0, End::Refused(Errno::EOPNOTSUPP));
        };
        let rooms = [(keys.len(), self.key_size()), (values.len(), value_len)];
        let room = rooms.map(|(len, each)| len.checked_div(each).unwrap_or(0));
        let room = room.into_iter().min().unwrap_or(0);
        let cursor_len = self.cursor_len();
        let short = cursor.is_some_and(|cursor| cursor.len() < cursor_len);
        let Some(asked) = u32::try_from(room)
            .ok()
            .filter(|&room| room > 0 && !short && next.len() >= cursor_len)
        else {
            return (0, End::Refused(Errno::EFAULT));
        };
        let mut count = asked;
        // SAFETY: the kernel reads a cursor from `cursor`, writes one to
        // `next`, and `count` keys and values to buffers that hold as many.
        let ret = unsafe {
            bpf::bpf_map_lookup_batch(
                self.fd.as_raw_fd(),
                cursor.map_or(ptr::null(), <[u8]>::as_ptr).cast_mut().cast(),
                next.as_mut_ptr().cast(),
                keys.as_mut_ptr().cast(),
                values.as_mut_ptr().cast(),
                &raw mut count,
                ptr::null(),
            )
        };
        let count = count.min(asked);
        match answer(ret) {
            Ok(_) => (count, End::More),
            Err(Errno::ENOENT) => (count, End::Last),
            // The kernel clears the count when it starts, so that one which
            // is as it was means that it did not start.
            Err(errno) if count == asked => (0, End::Refused(errno)),
            Err(errno) => (count, End::Stopped(errno)),
        }
    }
}

impl Table for OpenMap {
    fn next_key(&self, after: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        let size = self.key_size();
        if next.len() < size || after.is_some_and(|after| after.len() < size) {
            return Err(Errno::EFAULT);
        }
        let after = after.map_or(ptr::null(), <[u8]>::as_ptr).cast();
        let next: *mut c_void = next.as_mut_ptr().cast();
        // SAFETY: `after` is null or a key, `next` has room for a key.
        repeat(|| unsafe { bpf::bpf_map_get_next_key(self.fd.as_raw_fd(), after, next) })?;
        Ok(())
    }

    fn lookup(&self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        let value_len = self.value_len.ok_or(Errno::EOPNOTSUPP)?;
        if key.len() < self.key_size() || value.len() < value_len {
            return Err(Errno::EFAULT);
        }
        let key = key.as_ptr().cast();
        let value: *mut c_void = value.as_mut_ptr().cast();
        // SAFETY: `key` is a key, `value` has room for what the kernel copies.
        repeat(|| unsafe { bpf::bpf_map_lookup_elem(self.fd.as_raw_fd(), key, value) })?;
        Ok(())
    }
}
