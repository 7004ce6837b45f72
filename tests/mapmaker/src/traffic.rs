//! Cgroup storage of the old kinds, filled by real packets.

use std::fs;
use std::io::Write;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Context, Result, ensure};
use libbpf_rs::{MapHandle, Object};
use serde_json::{Value, json};

use crate::datum::{Datum, chars, num, record};
use crate::make::Maker;
use crate::objects::{find, pin};
use crate::slots::Cgroup;
use crate::sys;
use crate::truth::{Told, bytes, typed};

/// The directions of traffic, as the kernel numbers what a program is attached for.
const INGRESS: u32 = 0;
const EGRESS: u32 = 1;

/// The headers that the programs see in front of a datagram.
const HEADERS: usize = 20 + 8;

/// What went through a cgroup in one direction on one CPU.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Traffic {
    packets: u64,
    bytes: u64,
    last: u32,
}

impl Traffic {
    fn see(&mut self, len: usize) -> Result<()> {
        self.packets += 1;
        self.bytes += u64::try_from(len)?;
        self.last = u32::try_from(len)?;
        Ok(())
    }

    fn datum(self) -> Datum {
        record([
            ("packets", num(self.packets)),
            ("bytes", num(self.bytes)),
            ("last", num(self.last)),
        ])
    }
}

/// Makes them all.
///
/// # Errors
/// Fails if the kernel does, or if the programs saw other traffic than there was.
pub(crate) fn make(maker: &mut Maker) -> Result<()> {
    let object = maker.load(maker.open("cgroups")?)?;
    let sender = Cgroup::make("/traffic/sender")?;
    let receiver = Cgroup::make("/traffic/receiver")?;
    let home = own_cgroup()?;
    for (cgroup, programs) in [
        (
            &sender,
            &["out", "in", "out_shared", "in_shared", "create"][..],
        ),
        (&receiver, &["in", "out", "in_shared", "create"]),
    ] {
        for name in programs {
            attach(maker, &object, name, cgroup)?;
        }
    }
    // A socket belongs to the cgroup that its maker is in.
    enter(&receiver)?;
    let to = UdpSocket::bind("127.0.0.1:0")?;
    enter(&sender)?;
    let from = UdpSocket::bind("127.0.0.1:0")?;
    fs::write(
        format!("{home}/cgroup.procs"),
        std::process::id().to_string(),
    )?;
    let cpus = libbpf_rs::num_possible_cpus()?;
    let mut seen = vec![Traffic::default(); cpus];
    let mut total = Traffic::default();
    for (cpu, lens) in [(0, &[1_usize, 100, 30][..]), (1, &[1000, 77])] {
        pin(cpu)?;
        for &len in lens {
            from.send_to(&vec![0x55; len], to.local_addr()?)?;
            let got = to.recv(&mut vec![0; 2000])?;
            ensure!(got == len, "sent {len} bytes, got {got}");
            seen.get_mut(cpu)
                .context("a CPU too many")?
                .see(len + HEADERS)?;
            total.see(len + HEADERS)?;
        }
    }
    pin(0)?;
    count_runs(maker, &object, total.packets)?;
    let ends = [(&sender, EGRESS), (&receiver, INGRESS)];
    let idle = [(&sender, INGRESS), (&receiver, EGRESS)];
    let none = vec![Traffic::default(); cpus];

    let mut each = Vec::new();
    let mut pc_each = Vec::new();
    let mut shared = Vec::new();
    let mut pc_shared = Vec::new();
    for (cgroup, direction) in ends {
        each.push(one(cgroup, &each_key(cgroup, direction), &total.datum()));
        pc_each.push(many(cgroup, &each_key(cgroup, direction), &datums(&seen)));
        shared.push(one(cgroup, &shared_key(cgroup), &total.datum()));
        pc_shared.push(many(cgroup, &shared_key(cgroup), &datums(&seen)));
    }
    for (cgroup, direction) in idle {
        // What no packet has changed is set from outside.
        let written = Traffic {
            packets: 7,
            bytes: 1 << 40,
            last: direction,
        };
        let key = each_key(cgroup, direction);
        sys::update(
            &find(&object, "cg_each")?,
            &key,
            &written.datum().bytes,
            EXIST,
        )?;
        each.push(one(cgroup, &key, &written.datum()));
        pc_each.push(many(cgroup, &key, &datums(&none)));
    }
    tell(maker, &object, "cg_each", each)?;
    tell(maker, &object, "cg_pc_each", pc_each)?;
    tell(maker, &object, "cg_shared", shared)?;
    tell(maker, &object, "cg_pc_shared", pc_shared)?;

    // One socket was made in each cgroup, and then the storage of one was overwritten.
    let mut made = vec![1, 2, 17];
    made.resize(13, 0);
    let mut mine = vec![2; 1];
    mine.resize(12, 0);
    mine.push(1);
    let mut by_cpu = vec![vec![0; 13]; cpus];
    if let Some(first) = by_cpu.first_mut() {
        *first = mine;
    }
    let by_cpu: Vec<Datum> = by_cpu.iter().map(|value| chars(value)).collect();
    let set: Vec<Datum> = (0..cpus)
        .map(|cpu| chars(&maker.rng(&format!("cg_pc_odd/{cpu}")).bytes(13)))
        .collect();
    let mut padded = Vec::new();
    for value in &set {
        padded.extend(&value.bytes);
        padded.resize(padded.len().next_multiple_of(8), 0);
    }
    let map: MapHandle = find(&object, "cg_pc_odd")?;
    sys::update(&map, &shared_key(&receiver), &padded, EXIST)?;
    let odd = [&sender, &receiver].map(|cgroup| one(cgroup, &shared_key(cgroup), &chars(&made)));
    tell(maker, &object, "cg_odd", odd.to_vec())?;
    let pc_odd = vec![
        many(&sender, &shared_key(&sender), &by_cpu),
        many(&receiver, &shared_key(&receiver), &set),
    ];
    tell(maker, &object, "cg_pc_odd", pc_odd)?;
    tell(maker, &object, "cg_unused", Vec::new())?;
    maker.hold((object, sender, receiver, from, to));
    Ok(())
}

/// Replaces what is there.
const EXIST: u64 = 2;

/// The folder of the cgroup that this process is in.
fn own_cgroup() -> Result<String> {
    let all = fs::read_to_string("/proc/self/cgroup")?;
    let path = all.lines().find_map(|line| line.strip_prefix("0::"));
    let path = path.context("this process is in no cgroup of the second version")?;
    Ok(format!("/sys/fs/cgroup{}", path.trim_end_matches('/')))
}

fn enter(cgroup: &Cgroup) -> Result<()> {
    let mut list = fs::OpenOptions::new()
        .write(true)
        .open(cgroup.folder.join("cgroup.procs"))?;
    list.write_all(std::process::id().to_string().as_bytes())
        .context("entering a cgroup")
}

fn attach(maker: &mut Maker, object: &Object, name: &str, cgroup: &Cgroup) -> Result<()> {
    let program = object.progs_mut().find(|program| program.name() == name);
    let program = program.with_context(|| format!("the object has no program {name}"))?;
    let link = program.attach_cgroup(cgroup.file.as_raw_fd());
    maker.hold(link.with_context(|| format!("attaching {name}"))?);
    Ok(())
}

/// How often the programs ran. `in` and `out` are attached where nothing comes by, too.
fn count_runs(maker: &mut Maker, object: &Object, packets: u64) -> Result<()> {
    for (name, runs) in [
        ("out", packets),
        ("in", packets),
        ("out_shared", packets),
        ("in_shared", packets),
        ("create", 2),
    ] {
        let program = crate::slots::program(object, name)?;
        maker.programs.ran(program.as_fd(), runs)?;
    }
    Ok(())
}

fn each_key(cgroup: &Cgroup, direction: u32) -> Vec<u8> {
    let mut key = cgroup.id.to_le_bytes().to_vec();
    key.extend(direction.to_le_bytes());
    key.extend([0; 4]);
    key
}

fn shared_key(cgroup: &Cgroup) -> Vec<u8> {
    cgroup.id.to_le_bytes().to_vec()
}

fn datums(traffic: &[Traffic]) -> Vec<Datum> {
    traffic.iter().map(|traffic| traffic.datum()).collect()
}

fn one(cgroup: &Cgroup, key: &[u8], value: &Datum) -> Value {
    json!({"owner": cgroup.object, "key": bytes(key), "value": typed(value)})
}

fn many(cgroup: &Cgroup, key: &[u8], values: &[Datum]) -> Value {
    let values = values.iter().enumerate();
    let values: Vec<Value> = values
        .map(|(cpu, value)| json!({"cpu": cpu, "value": typed(value)}))
        .collect();
    json!({"owner": cgroup.object, "key": bytes(key), "percpu": values})
}

/// The owner's path is beyond what bpf(2) says.
fn tell(maker: &mut Maker, object: &Object, name: &str, entries: Vec<Value>) -> Result<()> {
    let mut expect = entries.clone();
    for entry in &mut expect {
        if let Some(owner) = entry.get_mut("owner").and_then(Value::as_object_mut) {
            owner.remove("path");
        }
    }
    let frozen = entries
        .iter()
        .map(|entry| json!({"owner": entry.get("owner")}));
    let told = Told::unordered(expect).frozen(frozen.collect());
    maker.tell(find(object, name)?, told)
}
