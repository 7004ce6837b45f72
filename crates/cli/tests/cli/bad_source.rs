//! Sources that cannot be read: each gives one or two lines that help.

use std::fs::{self, File};
use std::path::Path;

use crate::program::{Run, bpfreeze, powerless, run};

/// Runs every command that reads a source; all of them must fail alike.
#[track_caller]
fn check(source: &Path, options: &[&str], parts: &[&str]) {
    for command in ["info", "maps", "dump"] {
        let mut command = bpfreeze([command]);
        command.arg(source).args(options);
        run(command).failed(1, parts);
    }
}

/// A file with `bytes` in a folder of its own.
fn file(bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("guest.ram");
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

/// Bytes without a pattern: xorshift from a fixed seed.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut word)
        .flatten()
        .take(len)
        .collect()
}

#[test]
fn missing() {
    let (_folder, path) = file(b"");
    let missing = path.with_file_name("absent.ram");
    check(&missing, &[], &["absent.ram", "No such file or directory"]);
}

#[test]
fn empty() {
    let (_folder, path) = file(b"");
    check(&path, &[], &["guest.ram is empty", "share=on"]);
}

#[test]
fn directory() {
    let folder = tempfile::tempdir().unwrap();
    check(folder.path(), &[], &["is a directory", "name the file"]);
}

#[test]
fn socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let named = format!("qmp:{}", path.display());
    check(&path, &[], &["is a socket, not a file", &named]);
    check(
        Path::new(&named),
        &[],
        &["cannot connect to", "vm.sock", "refused"],
    );
}

#[test]
fn device() {
    check(
        Path::new("/dev/null"),
        &[],
        &["no regular file or block device"],
    );
}

#[test]
fn noise_is_searched_for_a_kernel() {
    let (_folder, path) = file(&noise(3 << 20));
    let parts = [
        "guest.ram: no Linux kernel in this image",
        "CONFIG_VMCORE_INFO",
    ];
    check(&path, &[], &parts);
}

#[test]
fn memory_without_a_kernel() {
    let (_folder, path) = file(b"");
    File::create(&path).unwrap().set_len(1 << 30).unwrap();
    check(&path, &[], &["no Linux kernel", "1024 MiB"]);
}

#[test]
fn other_formats_say_what_to_do_instead() {
    let other = |bytes: &[u8], parts: &[&str]| {
        let (_folder, path) = file(bytes);
        check(&path, &[], parts);
    };
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\x3e\0".to_vec();
    elf.resize(4096, 0);
    let core = "cannot be read as an ELF core";
    other(
        &elf,
        &[core, "no segment with memory", "is the file whole?"],
    );
    elf[4] = 1;
    other(&elf, &[core, "32-bit"]);
    elf[4..6].copy_from_slice(&[2, 2]);
    elf[16..18].copy_from_slice(&[0, 4]);
    other(&elf, &[core, "big-endian"]);
    elf[16..18].copy_from_slice(&[0, 2]);
    other(&elf, &["is an ELF object, not memory", "--symbols"]);
    let dump = [
        "cannot be read as a kdump file",
        "its header cannot be read",
        "is the file whole?",
    ];
    other(b"KDUMP   \x06\0\0\0", &dump);
    other(b"DISKDUMP\x06\0\0\0", &dump);
    other(b"makedumpfile\0\0\0\0", &dump);
    other(b"QFI\xfb\0\0\0\x03", &["is a qcow2 disk image", "pmemsave"]);
    other(
        b"QEVM\0\0\0\x03",
        &["migration stream", "dump-guest-memory"],
    );
    let cut = ["cannot unpack", "is the file whole?"];
    other(b"\x1f\x8b\x08\0", &cut);
    other(b"\x28\xb5\x2f\xfd\0", &cut);
    other(b"\xfd7zXZ\0", &["is compressed (xz)", "xz -dc"]);
    other(b"hello, world\n", &["is text", "pmemsave"]);
}

#[test]
fn regions_are_for_raw_memory() {
    // A header, a segment of a page behind it, and the page.
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\x3e\0".to_vec();
    elf.resize(32, 0);
    elf.extend(64u64.to_le_bytes());
    elf.resize(54, 0);
    elf.extend([56, 0, 1, 0]);
    elf.resize(64, 0);
    elf.extend(1u64.to_le_bytes());
    for word in [0x1000u64, 0, 0, 0x1000, 0x1000, 0] {
        elf.extend(word.to_le_bytes());
    }
    elf.resize(0x2000, 0);
    let (_folder, path) = file(&elf);
    check(&path, &[], &["no Linux kernel in this image"]);
    let region = ["--region", "0:0:0x1000"];
    check(&path, &region, &["is no raw memory", "leave --region out"]);
}

#[test]
fn vmcoreinfo_of_a_kernel_that_is_not_there() {
    let text = |lines: &str| {
        let mut bytes = vec![0; 4 << 20];
        bytes[0x1000..0x1000 + lines.len()].copy_from_slice(lines.as_bytes());
        file(&bytes)
    };
    // What a rebooted machine may have left, or a file that is cut.
    let (_folder, path) = text(
        "OSRELEASE=6.12.1\nPAGESIZE=4096\nSYMBOL(init_uts_ns)=ffffffff82c00000\n\
         OFFSET(uts_namespace.name)=0\nSYMBOL(swapper_pg_dir)=ffffffff83000000\n\
         SYMBOL(_stext)=ffffffff81000000\nNUMBER(phys_base)=0\nNUMBER(pgtable_l5_enabled)=0\n\
         KERNELOFFSET=0\n",
    );
    let parts = [
        "Linux 6.12.1",
        "physical 0x1000",
        "is the file whole?",
        "--region",
    ];
    check(&path, &[], &parts);
    check(&path, &["--vmcoreinfo", "0x1000"], &parts);
    let (_folder, path) = text(
        "OSRELEASE=6.12.1\nPAGESIZE=4096\nSYMBOL(init_uts_ns)=c000000002c00000\n\
         OFFSET(uts_namespace.name)=0\nSYMBOL(swapper_pg_dir)=c000000003000000\n\
         SYMBOL(_stext)=c000000000000000\n",
    );
    check(&path, &[], &["Linux 6.12.1", "architecture"]);
}

#[test]
fn given_facts_are_checked() {
    let (_folder, path) = file(&noise(1 << 20));
    let given = |options: &[&str], parts: &[&str]| check(&path, options, parts);
    given(
        &["--region", "0:0:0x200000"],
        &["region at file offset 0x0 needs 0x200000 bytes", "--region"],
    );
    given(
        &[
            "--region",
            "0:0:0x80000",
            "--region",
            "0x80000:0x7f000:0x1000",
        ],
        &["two regions hold physical 0x7f000"],
    );
    given(
        &["--region", "0:0xfffffffffffff001:0x100"],
        &["no Linux kernel in this image"],
    );
    given(
        &["--vmcoreinfo", "4096"],
        &["no VMCOREINFO at physical 0x1000", "leave"],
    );
    let symbols = path.with_file_name("System.map");
    let symbols = symbols.to_str().unwrap();
    given(
        &["--symbols", symbols],
        &["cannot read", "System.map", "No such file"],
    );
    given(
        &["--btf", symbols],
        &["cannot read", "System.map", "No such file"],
    );
    fs::write(symbols, "hello\n").unwrap();
    given(
        &["--symbols", symbols],
        &["System.map for symbols", "line 1"],
    );
    fs::write(symbols, "0000000000000000 T _stext\n").unwrap();
    given(&["--symbols", symbols], &["no symbols with addresses"]);
    let program = env!("CARGO_BIN_EXE_bpfreeze");
    given(&["--btf", program], &["for BTF", "no .BTF section"]);
}

#[test]
fn an_unreadable_file() {
    let (_folder, path) = file(&noise(4096));
    let mut permissions = fs::metadata(&path).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0);
    fs::set_permissions(&path, permissions).unwrap();
    let mut command = powerless(["maps"]);
    command.arg(&path);
    Run::from(command.output().unwrap()).failed(1, &["cannot open", "Permission denied"]);
}
