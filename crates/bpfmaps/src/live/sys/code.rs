//! A program's instructions, as `BPF_OBJ_GET_INFO_BY_FD` copies them out.

use std::os::fd::AsFd;

use libbpf_rs::libbpf_sys as bpf;
use nix::errno::Errno;

use super::{OpenProg, get_info, size_of_u32};

/// What bpf(2) tells of a program's code.
#[derive(Debug)]
pub(in crate::live) struct RawCode {
    /// `struct bpf_insn` each.
    pub(in crate::live) insns: Vec<u8>,
    /// The first instruction and the type of each function.
    pub(in crate::live) functions: Vec<(u32, u32)>,
}

impl OpenProg {
    /// The instructions; `None` where the kernel does not show them: it has
    /// none, or has blinded their constants and hides its symbols.
    pub(in crate::live) fn code(&self) -> Result<Option<RawCode>, Errno> {
        let mut insns = vec![0u8; self.info.xlated_prog_len as usize];
        let mut functions = vec![bpf::bpf_func_info::default(); self.info.nr_func_info as usize];
        let mut info = bpf::bpf_prog_info {
            xlated_prog_len: self.info.xlated_prog_len,
            xlated_prog_insns: insns.as_mut_ptr().expose_provenance() as u64,
            nr_func_info: self.info.nr_func_info,
            func_info_rec_size: size_of_u32::<bpf::bpf_func_info>(),
            func_info: functions.as_mut_ptr().expose_provenance() as u64,
            ..Default::default()
        };
        // SAFETY: `insns` and `functions` are as long as `info` says, and
        // outlive it.
        unsafe { get_info(self.fd.as_fd(), &mut info) }?;
        insns.truncate(info.xlated_prog_len as usize);
        functions.truncate(info.nr_func_info as usize);
        let functions = functions.iter().map(|info| (info.insn_off, info.type_id));
        let shown = info.xlated_prog_insns != 0 && !insns.is_empty();
        Ok(shown.then(|| RawCode {
            functions: functions.collect(),
            insns,
        }))
    }
}
