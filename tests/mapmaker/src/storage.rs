//! Local storage: values that belong to tasks, inodes, sockets and cgroups.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result, ensure};
use libbpf_rs::{MapCore, Object};
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};

use crate::datum::{Datum, chars, list, num, record, text};
use crate::make::Maker;
use crate::objects::find;
use crate::programs::Input;
use crate::rng::Rng;
use crate::slots::{Cgroup, program};
use crate::sockets::{self, Socket};
use crate::sys;
use crate::truth::{Told, typed};

/// Something that values can belong to: the file descriptor that stands for it, and what
/// bpfreeze says about it.
#[derive(Debug)]
struct Owner {
    fd: OwnedFd,
    object: Value,
}

/// Asks for the descriptor of a single thread (Linux 6.9).
pub(crate) const PIDFD_THREAD: u32 = 0o200;

/// There is no way from a map to the owners of its values.
const NO_OWNERS: &str = "bpf(2) needs the owners to look up";

/// Makes them all.
///
/// # Errors
/// Fails if the kernel does.
pub(crate) fn make(maker: &mut Maker) -> Result<()> {
    let inodes = has_inode_storage(maker)?;
    let cgroups = maker.has("CGRP_STORAGE");
    let mut open = maker.open("storage")?;
    for mut map in open.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        let wanted =
            (inodes || !name.starts_with("inode_")) && (cgroups || !name.starts_with("cgrp_"));
        map.set_autocreate(wanted)?;
    }
    let object = maker.load(open)?;
    let tasks = tasks(maker, &object)?;
    belongings(maker, &object, "task", &tasks, None)?;
    if inodes {
        let files = files(maker)?;
        belongings(maker, &object, "inode", &files, Some(NO_OWNERS))?;
        maker.hold(files);
    }
    let sockets = sockets::every_kind()?;
    let owners = sockets.iter().map(|socket: &Socket| -> Result<Owner> {
        Ok(Owner {
            fd: socket.fd.try_clone()?,
            object: socket.object.clone(),
        })
    });
    let owners = owners.collect::<Result<Vec<_>>>()?;
    belongings(maker, &object, "sk", &owners, Some(NO_OWNERS))?;
    maker.hold((sockets, owners, tasks));
    cloned(maker, &object)?;
    if cgroups {
        let paths = [
            "/",
            "/made",
            "/made/inside",
            "/stored",
            "/stored/deep/deeper",
        ];
        let owners = paths.iter().map(|path| -> Result<Owner> {
            let cgroup = Cgroup::make(path)?;
            Ok(Owner {
                fd: cgroup.file.into(),
                object: cgroup.object,
            })
        });
        let owners = owners.collect::<Result<Vec<_>>>()?;
        belongings(maker, &object, "cgrp", &owners, None)?;
        maker.hold(owners);
    }
    maker.hold(object);
    Ok(())
}

/// Whether inodes have storage: that needs the BPF security module, built in and switched on.
fn has_inode_storage(maker: &mut Maker) -> Result<bool> {
    if !maker.kernel.function("bpf_lsm_file_open") {
        maker.skip("INODE_STORAGE", "the kernel has no BPF security module");
        return Ok(false);
    }
    let modules = fs::read_to_string("/sys/kernel/security/lsm");
    let modules = modules.context("/sys/kernel/security/lsm")?;
    let on = modules.trim().split(',').any(|module| module == "bpf");
    if !on {
        maker.skip("INODE_STORAGE", "the BPF security module is switched off");
    }
    Ok(on)
}

fn visit(rng: &mut Rng) -> Datum {
    record([
        ("count", num(rng.next())),
        ("last", num(u32::try_from(rng.below(1 << 32)).unwrap_or(0))),
        ("note", text(12, "from out")),
    ])
}

fn room(rng: &mut Rng) -> Datum {
    let walls = rng.bytes(1196);
    record([
        (
            "number",
            num(u32::try_from(rng.below(1 << 32)).unwrap_or(0)),
        ),
        ("walls", list(walls.into_iter().map(num))),
    ])
}

fn odd(rng: &mut Rng) -> Datum {
    chars(&rng.bytes(13))
}

/// Fills the maps of one kind: one of them with a value for every owner, others with values for
/// some.
fn belongings(
    maker: &mut Maker,
    object: &Object,
    prefix: &str,
    owners: &[Owner],
    live: Option<&'static str>,
) -> Result<()> {
    type Make = fn(&mut Rng) -> Datum;
    let rows: [(&str, usize, Make); 4] = [
        ("visits", 1, visit),
        ("rooms", 2, room),
        ("odd", 3, odd),
        ("empty", usize::MAX, odd),
    ];
    for (suffix, step, make) in rows {
        let name = format!("{prefix}_{suffix}");
        let map = find(object, &name)?;
        let mut rng = maker.rng(&name);
        let mut expect = Vec::new();
        for (at, owner) in owners.iter().enumerate() {
            let fd = owner.fd.as_raw_fd().to_le_bytes();
            let value = make(&mut rng);
            if step == usize::MAX {
                continue;
            }
            sys::update(&map, &fd, &value.bytes, 0)
                .with_context(|| format!("{name}: {}", owner.object))?;
            if at % step != 0 {
                // It had a value, and has none any more.
                map.delete(&fd)?;
                continue;
            }
            if at % 2 == 1 {
                let value = make(&mut rng);
                sys::update(&map, &fd, &value.bytes, 0)?;
                expect.push(json!({"owner": owner.object, "value": typed(&value)}));
                continue;
            }
            expect.push(json!({"owner": owner.object, "value": typed(&value)}));
        }
        let told = Told::unordered(expect);
        maker.tell(
            map,
            match live {
                Some(reason) => told.not_live(reason),
                None => told,
            },
        )?;
    }
    Ok(())
}

/// A task as bpfreeze names it.
pub(crate) fn task(pid: i32, tgid: u32, comm: &str) -> Value {
    json!({"kind": "task", "pid": pid, "tgid": tgid, "comm": comm})
}

/// Tasks that stay: this one, threads of it, children. The threads have put values of their own
/// into `task_own` then.
fn tasks(maker: &mut Maker, object: &Object) -> Result<Vec<Owner>> {
    let me = std::process::id();
    let mut owners = vec![Owner {
        fd: sys::open_pidfd(i32::try_from(me)?, 0)?,
        object: task(i32::try_from(me)?, me, "mapmaker"),
    }];
    for seconds in ["1000000", "1000001", "1000002"] {
        let child = Command::new("sleep")
            .arg(seconds)
            .spawn()
            .context("sleep")?;
        let pid = i32::try_from(child.id())?;
        let comm = format!("/proc/{pid}/comm");
        // Until it has become what it is to be.
        while fs::read_to_string(&comm)?.trim() != "sleep" {
            thread::yield_now();
        }
        owners.push(Owner {
            fd: sys::open_pidfd(pid, 0)?,
            object: task(pid, child.id(), "sleep"),
        });
    }
    let mut own = Vec::new();
    let program = program(object, "visit")?;
    for (at, name) in (1_u32..).zip(["walker", "fifteen letters", "two words"]) {
        let fd = program.as_fd().try_clone_to_owned()?;
        let (tell, told) = mpsc::channel();
        let mut request = (u64::from(at) * 1000).to_le_bytes().to_vec();
        request.extend(at.to_le_bytes());
        request.extend([0; 4]);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let result = sys::run_program(fd.as_fd(), Input::Context(&request));
                // The receiver waits for this.
                let _ = tell.send((sys::thread_id(), result));
                loop {
                    thread::park();
                }
            })?;
        let (tid, result) = told.recv()?;
        ensure!(result? == 0, "the program made no storage");
        maker.programs.ran(program.as_fd(), 1)?;
        let owner = task(tid, me, name);
        let value = record([
            ("count", num(u64::from(at) * 1000)),
            ("last", num(at)),
            ("note", text(12, "by itself")),
        ]);
        own.push(json!({"owner": owner, "value": typed(&value)}));
        match sys::open_pidfd(tid, PIDFD_THREAD) {
            Ok(fd) => owners.push(Owner { fd, object: owner }),
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                maker.skip("storage of threads from outside", "no PIDFD_THREAD");
            }
            Err(error) => return Err(error).context("PIDFD_THREAD"),
        }
    }
    maker.tell(find(object, "task_own")?, Told::unordered(own))?;
    Ok(owners)
}

/// Files on a file system of their own, and others.
fn files(maker: &mut Maker) -> Result<Vec<Owner>> {
    const HOME: &str = "/tmp/owners";
    fs::create_dir_all(HOME)?;
    let none: Option<&str> = None;
    mount(Some("owners"), HOME, Some("tmpfs"), MsFlags::empty(), none)
        .with_context(|| format!("mounting {HOME}"))?;
    let mut owners = Vec::new();
    let long = "n".repeat(200);
    for path in [
        "/file",
        "/folder/inner file",
        "/folder/deep/er/x",
        &format!("/{long}"),
    ] {
        let whole = format!("{HOME}{path}");
        if let Some((folder, _)) = whole.rsplit_once('/') {
            fs::create_dir_all(folder)?;
        }
        owners.push(file(File::create(whole)?, "tmpfs", "tmpfs", Some(path))?);
    }
    owners.push(file(
        File::open(format!("{HOME}/folder"))?,
        "tmpfs",
        "tmpfs",
        Some("/folder"),
    )?);
    owners.push(file(File::open(HOME)?, "tmpfs", "tmpfs", Some("/"))?);
    // Without a name.
    let gone = format!("{HOME}/gone");
    let nameless = File::create(&gone)?;
    fs::remove_file(&gone)?;
    owners.push(file(nameless, "tmpfs", "tmpfs", None)?);
    owners.push(file(
        File::open("/proc/version")?,
        "proc",
        "proc",
        Some("/version"),
    )?);
    let (reader, writer) = std::io::pipe()?;
    owners.push(file(
        File::from(OwnedFd::from(reader)),
        "pipefs",
        "pipefs",
        None,
    )?);
    maker.hold(writer);
    Ok(owners)
}

fn file(file: File, device: &str, kind: &str, path: Option<&str>) -> Result<Owner> {
    let mut object = json!({
        "kind": "inode", "ino": file.metadata()?.ino(), "device": device, "fs": kind,
    });
    if let (Some(object), Some(path)) = (object.as_object_mut(), path) {
        object.insert("path".to_owned(), json!(path));
    }
    Ok(Owner {
        fd: file.into(),
        object,
    })
}

/// A listener's value that the sockets of its connections have got copies of.
fn cloned(maker: &mut Maker, object: &Object) -> Result<()> {
    let map = find(object, "sk_cloned")?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut rng = maker.rng("sk_cloned");
    let value = visit(&mut rng);
    sys::update(&map, &listener.as_raw_fd().to_le_bytes(), &value.bytes, 0)?;
    let local = listener.local_addr()?;
    let owner = |state: &str, remote: Option<String>| {
        json!({
            "kind": "socket", "family": "inet", "type": "stream", "protocol": "tcp",
            "state": state, "local": local.to_string(), "remote": remote,
        })
    };
    let mut first = owner("listen", None);
    if let Some(first) = first.as_object_mut() {
        first.remove("remote");
    }
    let mut expect = vec![json!({"owner": first, "value": typed(&value)})];
    for _ in 0..3 {
        let client = TcpStream::connect(local)?;
        let (server, from) = listener.accept()?;
        let owner = owner("established", Some(from.to_string()));
        expect.push(json!({"owner": owner, "value": typed(&value)}));
        maker.hold((client, server));
    }
    maker.hold(listener);
    maker.tell(map, Told::unordered(expect).not_live(NO_OWNERS))
}
