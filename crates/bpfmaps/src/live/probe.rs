//! Small BPF programs of our own that copy kernel memory out, and how they are
//! run.
//!
//! They are of type `syscall`: attached nowhere, run by us alone with
//! `BPF_PROG_RUN`, in this thread. The helper `bpf_probe_read_kernel` bears
//! every address: what it cannot read is an error and no fault of the kernel,
//! and it reads no user memory.
//!
//! What is read comes back in the program's context. The verifiers of kernels
//! before 7.1 let no helper write there, so it goes over the stack, piece by
//! piece. A map would take it all at once, but would be there for others to
//! see, and still for a while after its program has gone.
#![expect(unsafe_code, reason = "libbpf is C")]

use std::cell::{OnceCell, RefCell};
use std::ffi::{CStr, c_int};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use libbpf_rs::libbpf_sys as bpf;
use nix::errno::Errno;

use super::rights::refusal;
use super::sys::{self, new_fd, repeat, size_of_u32};
use crate::NoMemory;

/// Bytes that go over the stack at once, which has 512.
const STACK: i16 = 256;
const PIECE: usize = STACK.unsigned_abs() as usize;

/// The most that one run copies.
pub(super) const WINDOW: usize = 16 << 10;

/// The name of what is ours, for others who list programs and maps.
const NAME: &CStr = c"bpfreeze";

/// The helpers are for programs that say they are compatible with the GPL.
const LICENSE: &CStr = c"Dual MIT/GPL";

const PROBE_READ_KERNEL: c_int = bpf::BPF_FUNC_probe_read_kernel.cast_signed();
const GET_CURRENT_TASK: c_int = bpf::BPF_FUNC_get_current_task.cast_signed();
const LOOKUP_PERCPU_ELEM: c_int = bpf::BPF_FUNC_map_lookup_percpu_elem.cast_signed();

/// One instruction (`struct bpf_insn`), in the order of little-endian bytes.
const fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> u64 {
    code as u64
        | (dst as u64) << 8
        | (src as u64) << 12
        | (off.cast_unsigned() as u64) << 16
        | (imm.cast_unsigned() as u64) << 32
}

const fn mov_reg(dst: u8, src: u8) -> u64 {
    insn(0xbf, dst, src, 0, 0)
}

const fn mov_imm(dst: u8, imm: i32) -> u64 {
    insn(0xb7, dst, 0, 0, imm)
}

const fn add_imm(dst: u8, imm: i32) -> u64 {
    insn(0x07, dst, 0, 0, imm)
}

const fn load_u64(dst: u8, src: u8, off: i16) -> u64 {
    insn(0x79, dst, src, off, 0)
}

const fn store_u64(dst: u8, src: u8, off: i16) -> u64 {
    insn(0x7b, dst, src, off, 0)
}

const fn call(helper: i32) -> u64 {
    insn(0x85, 0, 0, 0, helper)
}

const EXIT: u64 = insn(0x95, 0, 0, 0, 0);

/// Copies up to `len` bytes into the context, which says where from and how
/// many; or, for no bytes, puts the address of the current task there.
fn reading(len: usize) -> Vec<u64> {
    let words = || (0..STACK).step_by(8);
    let stack = |word: i16| word - STACK;
    let piece = i32::from(STACK);
    let mut program = vec![
        mov_reg(6, 1),
        load_u64(7, 6, 0),
        load_u64(8, 6, 8),
        // if r8 != 0 goto the first piece
        insn(0x55, 8, 0, 4, 0),
        call(GET_CURRENT_TASK),
        store_u64(6, 0, 0),
        mov_imm(0, 0),
        EXIT,
    ];
    // The verifier has no program read of its stack what it did not write.
    program.extend(words().map(|word| insn(0x7a, 10, 0, stack(word), 0)));
    for start in (0..len).step_by(PIECE) {
        program.extend([
            mov_reg(2, 8),
            // if r2 <= PIECE goto behind the next
            insn(0xb5, 2, 0, 1, piece),
            mov_imm(2, piece),
            mov_reg(1, 10),
            add_imm(1, -piece),
            mov_reg(3, 7),
            call(PROBE_READ_KERNEL),
            // if r0 == 0 goto behind the exit
            insn(0x15, 0, 0, 1, 0),
            EXIT,
        ]);
        for word in words() {
            let to = i16::try_from(start).unwrap_or(0).saturating_add(word);
            program.extend([load_u64(1, 10, stack(word)), store_u64(6, 1, to)]);
        }
        program.extend([
            // if r8 > PIECE goto behind the exit
            insn(0x25, 8, 0, 1, piece),
            EXIT,
            add_imm(7, piece),
            add_imm(8, -piece),
        ]);
    }
    program.push(EXIT);
    program
}

/// Puts the address of the value that a CPU has in a per-CPU array into that
/// value; the context says which CPU.
fn locating(per_cpu: BorrowedFd<'_>) -> Vec<u64> {
    vec![
        load_u64(3, 1, 0),
        // The key 0, on the stack.
        insn(0x62, 10, 0, -8, 0),
        mov_reg(2, 10),
        add_imm(2, -8),
        // The map, by its descriptor (`BPF_PSEUDO_MAP_FD`), in two.
        insn(0x18, 1, 1, 0, per_cpu.as_raw_fd()),
        0,
        call(LOOKUP_PERCPU_ELEM),
        // if r0 == 0 goto behind the next
        insn(0x15, 0, 0, 1, 0),
        store_u64(0, 0, 0),
        mov_imm(0, 0),
        EXIT,
    ]
}

/// What a program is loaded as. None is attached.
#[derive(Clone, Copy)]
enum Kind {
    /// It gives back what it writes to its context.
    Syscall,
    /// It does not, but the kernel lets go of it, and so of its maps, sooner.
    RawTracepoint,
}

/// A program of ours.
#[derive(Debug)]
struct Program {
    fd: OwnedFd,
    id: u32,
}

impl Program {
    fn load(kind: Kind, instructions: &[u64]) -> Result<Self, NoMemory> {
        let (prog_type, prog_flags) = match kind {
            Kind::Syscall => (bpf::BPF_PROG_TYPE_SYSCALL, bpf::BPF_F_SLEEPABLE),
            Kind::RawTracepoint => (bpf::BPF_PROG_TYPE_RAW_TRACEPOINT, 0),
        };
        let mut options = bpf::bpf_prog_load_opts {
            sz: size_of::<bpf::bpf_prog_load_opts>() as bpf::size_t,
            prog_flags,
            ..Default::default()
        };
        let fd = new_fd(|| {
            // SAFETY: name and license end with a NUL, there are as many
            // instructions as is said, and `options` says its own size.
            unsafe {
                bpf::bpf_prog_load(
                    prog_type,
                    NAME.as_ptr(),
                    LICENSE.as_ptr(),
                    instructions.as_ptr().cast(),
                    instructions.len() as bpf::size_t,
                    &raw mut options,
                )
            }
        });
        let described = fd.and_then(|fd| {
            let id = sys::prog_info(fd.as_fd())?.id;
            Ok(Self { fd, id })
        });
        described.map_err(|errno| refusal("BPF_PROG_LOAD", errno))
    }

    /// Runs it on `context`, which has all the bytes that it accesses.
    fn run(&self, context: &mut [u8]) -> Result<(), Errno> {
        let mut options = bpf::bpf_test_run_opts {
            sz: size_of::<bpf::bpf_test_run_opts>() as bpf::size_t,
            ctx_in: context.as_mut_ptr().cast_const().cast(),
            ctx_size_in: u32::try_from(context.len()).unwrap_or(0),
            ..Default::default()
        };
        let fd = self.fd.as_raw_fd();
        // SAFETY: the kernel reads and writes `context`, as long as it is, and
        // refuses one that is too short; the program writes to nothing else.
        repeat(|| unsafe { bpf::bpf_prog_test_run_opts(fd, &raw mut options) })?;
        match options.retval.cast_signed() {
            0 => Ok(()),
            error => Err(Errno::from_raw(error.saturating_neg())),
        }
    }
}

/// A per-CPU array with one value.
fn make_per_cpu_array() -> Result<OwnedFd, NoMemory> {
    let options = bpf::bpf_map_create_opts {
        sz: size_of::<bpf::bpf_map_create_opts>() as bpf::size_t,
        ..Default::default()
    };
    let make = || {
        // SAFETY: the name ends with a NUL, and `options` says its own size.
        unsafe {
            bpf::bpf_map_create(
                bpf::BPF_MAP_TYPE_PERCPU_ARRAY,
                NAME.as_ptr(),
                size_of_u32::<u32>(),
                size_of_u32::<u64>(),
                1,
                &raw const options,
            )
        }
    };
    new_fd(make).map_err(|errno| refusal("BPF_MAP_CREATE", errno))
}

/// What is ours in the kernel, by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    Map(u32),
    Prog(u32),
}

/// The programs that read, ready to run.
#[derive(Debug)]
pub(super) struct Probe {
    /// For one piece, as most structs are.
    small: Program,
    large: OnceCell<Program>,
    context: RefCell<Vec<u8>>,
}

impl Probe {
    pub(super) fn load() -> Result<Self, NoMemory> {
        Ok(Self {
            small: Program::load(Kind::Syscall, &reading(PIECE))?,
            large: OnceCell::new(),
            context: RefCell::new(vec![0; WINDOW]),
        })
    }

    /// What of it is in the kernel.
    pub(super) fn is_own(&self, object: Own) -> bool {
        let programs = std::iter::once(&self.small).chain(self.large.get());
        programs
            .into_iter()
            .any(|program| object == Own::Prog(program.id))
    }

    fn large(&self) -> Result<&Program, Errno> {
        if let Some(large) = self.large.get() {
            return Ok(large);
        }
        let loaded =
            Program::load(Kind::Syscall, &reading(WINDOW)).map_err(|_refused| Errno::EPERM)?;
        Ok(self.large.get_or_init(|| loaded))
    }

    /// Fills `buf`, of at most [`WINDOW`] bytes, from `at` on; `EFAULT` if a
    /// byte of it is unreadable.
    pub(super) fn copy(&self, at: u64, buf: &mut [u8]) -> Result<(), Errno> {
        let (program, size) = match buf.len() {
            0 => return Ok(()),
            1..=PIECE => (&self.small, PIECE),
            _ => (self.large()?, WINDOW),
        };
        let mut context = self.context.borrow_mut();
        let context = context.get_mut(..size).ok_or(Errno::E2BIG)?;
        ask(context, at, buf.len() as u64);
        program.run(context)?;
        let read = context.get(..buf.len()).ok_or(Errno::E2BIG)?;
        buf.copy_from_slice(read);
        Ok(())
    }

    /// The address of this thread's `struct task_struct`.
    pub(super) fn current_task(&self) -> Result<u64, Errno> {
        let mut context = [0; PIECE];
        self.small.run(&mut context)?;
        Ok(answer(&context))
    }
}

/// Writes what a program is asked to a context.
fn ask(context: &mut [u8], at: u64, len: u64) {
    for (to, word) in context.chunks_exact_mut(8).zip([at, len]) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
}

/// The address that a program put into its context.
fn answer(context: &[u8]) -> u64 {
    let word = context.first_chunk();
    word.map_or(0, |word| u64::from_ne_bytes(*word))
}

/// A per-CPU array of ours, of which each value is its own address.
#[derive(Debug)]
pub(super) struct PerCpuValues {
    _map: OwnedFd,
    pub(super) id: u32,
}

impl PerCpuValues {
    /// `cpus` are the possible CPUs.
    pub(super) fn make(cpus: &[u32]) -> Result<Self, NoMemory> {
        let map = make_per_cpu_array()?;
        let program = Program::load(Kind::RawTracepoint, &locating(map.as_fd()))?;
        for &cpu in cpus {
            let mut context = [0; 8];
            ask(&mut context, cpu.into(), 0);
            let run = program.run(&mut context);
            run.map_err(|errno| refusal("BPF_PROG_RUN", errno))?;
        }
        let info = sys::map_info(map.as_fd());
        let info = info.map_err(|errno| refusal("BPF_OBJ_GET_INFO_BY_FD", errno))?;
        Ok(Self {
            _map: map,
            id: info.id,
        })
    }
}
