//! Maps whose slots refer to network devices and CPUs.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use libbpf_rs::{MapCore, MapHandle, Object};
use libbpf_sys::{BPF_MAP_TYPE_CPUMAP, BPF_MAP_TYPE_DEVMAP, BPF_MAP_TYPE_DEVMAP_HASH};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use crate::make::Maker;
use crate::programs;
use crate::slots::program;
use crate::sys::{self, MapSpec};
use crate::truth::{Told, bytes};

/// The loopback device's number, in every network namespace.
const LOOPBACK: u32 = 1;

/// Makes them all. `object` is `progs.bpf.c`.
///
/// # Errors
/// Fails if the kernel does.
pub(crate) fn make(maker: &mut Maker, object: &Object) -> Result<()> {
    device_maps(maker, object)?;
    two_devices(maker)?;
    other_namespace(maker)?;
    cpu_maps(maker, object)
}

/// The value of a slot as it is written and as it is read: a number, and a program if there is
/// room for one.
struct Pair {
    written: Vec<u8>,
    read: Vec<u8>,
    /// The program as part of the slot's object.
    program: Option<Value>,
}

fn pair(object: &Object, number: u32, with: Option<&str>, value_size: u32) -> Result<Pair> {
    let size = usize::try_from(value_size)?;
    let (mut fd, mut id, mut about) = (0, 0, None);
    if let Some(name) = with {
        let program = program(object, name)?;
        fd = program.as_fd().as_raw_fd();
        id = sys::program_info(program.as_fd())?.id;
        let refers = programs::refer(program.as_fd())?;
        about = Some(json!({"id": id, "name": refers.get("name")}));
    }
    let [mut written, mut read] = [number.to_le_bytes().to_vec(), number.to_le_bytes().to_vec()];
    written.extend(fd.to_le_bytes());
    read.extend(id.to_le_bytes());
    written.truncate(size);
    read.truncate(size);
    Ok(Pair {
        written,
        read,
        program: about,
    })
}

fn refer(mut object: Value, program: Option<Value>) -> Value {
    if let (Some(object), Some(program)) = (object.as_object_mut(), program) {
        object.insert("prog".to_owned(), program);
    }
    object
}

fn loopback(name: &str) -> Value {
    json!({"kind": "device", "ifindex": LOOPBACK, "name": name})
}

fn create(
    maker: &Maker,
    name: &str,
    kind: u32,
    value_size: u32,
    max_entries: u32,
) -> Result<MapHandle> {
    maker.create(&MapSpec {
        kind,
        name,
        key_size: 4,
        value_size,
        max_entries,
        ..MapSpec::default()
    })
}

/// A map of devices: name, type, value size, size; keys, and programs if there are any.
type DeviceRow<'a> = (&'a str, u32, u32, u32, &'a [(u32, Option<&'a str>)]);

fn device_maps(maker: &mut Maker, object: &Object) -> Result<()> {
    let with = Some("to_device");
    let (plain, hash) = (BPF_MAP_TYPE_DEVMAP, BPF_MAP_TYPE_DEVMAP_HASH);
    let rows: [DeviceRow<'_>; 7] = [
        ("devices", plain, 4, 12, &[(0, None), (5, None), (11, None)]),
        (
            "devices_prog",
            plain,
            8,
            6,
            &[(1, with), (2, None), (5, with)],
        ),
        ("devices_far", plain, 8, 2000, &[(1999, None)]),
        ("devices_empty", plain, 4, 3, &[]),
        (
            "devhash",
            hash,
            4,
            20,
            &[(0, None), (77, None), (0xffff_fffe, None), (1 << 31, None)],
        ),
        (
            "devhash_prog",
            hash,
            8,
            300,
            &[(9, with), (1000, None), (123_456_789, with)],
        ),
        ("devhash_empty", hash, 8, 3, &[]),
    ];
    for (name, kind, value_size, max_entries, slots) in rows {
        let map = create(maker, name, kind, value_size, max_entries)?;
        let mut expect = Vec::new();
        for &(key, with) in slots {
            let pair = pair(object, LOOPBACK, with, value_size)?;
            sys::update(&map, &key.to_le_bytes(), &pair.written, 0)?;
            let refers = refer(loopback("lo"), pair.program);
            let value = bytes(&pair.read);
            expect.push(match kind == plain {
                true => json!({"index": key, "refers": refers, "value": value}),
                false => {
                    json!({"key": bytes(&key.to_le_bytes()), "refers": refers, "value": value})
                }
            });
        }
        if let Some(&(key, _)) = slots.get(1) {
            // The second goes and comes back; another one only goes.
            let pair = pair(object, LOOPBACK, None, value_size)?;
            let (second, passing) = (key.to_le_bytes(), 3_u32.to_le_bytes());
            if slots.iter().all(|&(key, with)| key != 3 && with.is_none()) {
                sys::update(&map, &passing, &pair.written, 0)?;
                map.delete(&passing)?;
                map.delete(&second)?;
                sys::update(&map, &second, &pair.written, 0)?;
            }
        }
        let told = match kind == plain {
            true => Told::ordered(expect),
            false => Told::unordered(expect),
        };
        maker.tell(map, told)?;
    }
    Ok(())
}

/// Two devices in one map, if there is a second one.
fn two_devices(maker: &mut Maker) -> Result<()> {
    const SECOND: &str = "dummy0";
    let Ok(number) = fs::read_to_string(format!("/sys/class/net/{SECOND}/ifindex")) else {
        maker.skip("DEVMAP with two devices", format!("there is no {SECOND}"));
        return Ok(());
    };
    let number: u32 = number.trim().parse()?;
    let map = create(maker, "devices_two", BPF_MAP_TYPE_DEVMAP, 4, 5)?;
    let mut expect = Vec::new();
    for (at, ifindex, name) in [
        (0_u32, number, SECOND),
        (3, LOOPBACK, "lo"),
        (4, number, SECOND),
    ] {
        let value = ifindex.to_le_bytes();
        sys::update(&map, &at.to_le_bytes(), &value, 0)?;
        let refers = json!({"kind": "device", "ifindex": ifindex, "name": name});
        expect.push(json!({"index": at, "refers": refers, "value": bytes(&value)}));
    }
    maker.tell(map, Told::ordered(expect))
}

/// The loopback device of another network namespace, under another name.
fn other_namespace(maker: &mut Maker) -> Result<()> {
    let map = create(maker, "devices_apart", BPF_MAP_TYPE_DEVMAP, 4, 4)?;
    let put = || -> Result<File> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        let status = Command::new("ip")
            .args(["link", "set", "lo", "name", "looped"])
            .status()?;
        ensure!(status.success(), "renaming the loopback device: {status}");
        let value = LOOPBACK.to_le_bytes();
        sys::update(&map, &2_u32.to_le_bytes(), &value, 0)?;
        Ok(File::open("/proc/thread-self/ns/net")?)
    };
    let namespace = thread::scope(|scope| scope.spawn(put).join());
    let Ok(namespace) = namespace else {
        bail!("the thread panicked");
    };
    maker.hold(namespace.context("another network namespace")?);
    let value = bytes(&LOOPBACK.to_le_bytes());
    let refers = json!({"kind": "device", "ifindex": LOOPBACK});
    let told = Told::ordered(vec![json!({"index": 2, "refers": refers, "value": value})]);
    // In bpf(2)'s own namespace the number means another device.
    maker.tell(
        map,
        told.frozen(vec![json!({"refers": loopback("looped")})]),
    )
}

/// A map of CPUs: name, value size, size; CPUs, lengths of queues, and programs if there are any.
type CpuRow<'a> = (&'a str, u32, u32, &'a [(u32, u32, Option<&'a str>)]);

fn cpu_maps(maker: &mut Maker, object: &Object) -> Result<()> {
    let with = Some("to_cpu");
    let rows: [CpuRow<'_>; 4] = [
        ("cpus", 4, 2, &[(0, 192, None), (1, 16_384, None)]),
        ("cpus_prog", 8, 64, &[(0, 77, with), (1, 2048, None)]),
        ("cpus_second", 8, 5, &[(1, 8, with)]),
        ("cpus_empty", 4, 2, &[]),
    ];
    for (name, value_size, max_entries, slots) in rows {
        let map = create(maker, name, BPF_MAP_TYPE_CPUMAP, value_size, max_entries)?;
        let mut expect = Vec::new();
        for &(cpu, queue_size, with) in slots {
            let pair = pair(object, queue_size, with, value_size)?;
            sys::update(&map, &cpu.to_le_bytes(), &pair.written, 0)?;
            let about = json!({"kind": "cpu", "cpu": cpu, "queue_size": queue_size});
            let refers = refer(about, pair.program);
            expect.push(json!({"index": cpu, "refers": refers, "value": bytes(&pair.read)}));
        }
        maker.tell(map, Told::ordered(expect))?;
    }
    Ok(())
}
