//! Fills BPF maps from a seed, says what it put in, and keeps them alive.
//!
//! `mapmaker PLAN SEED OBJECTS TRUTH` runs as root inside a test guest. PLAN is `full` or
//! `bench`, OBJECTS the folder of the BPF objects, TRUTH the file to write: it appears, whole,
//! when every map stands still, and the program then sleeps for as long as it is let.
//! `mapmaker count` says how many maps and programs the kernel has; `mapmaker schedule OBJECT`
//! registers the scheduler in an object, and holds it.

mod allocators;
mod arena;
mod code;
mod datum;
mod devices;
mod fill;
mod graphs;
mod kinds;
mod links;
mod make;
mod memory;
mod names;
mod nested;
mod objects;
mod ops;
mod plan;
mod probe;
mod programs;
mod queues;
mod ring;
mod rings;
mod rng;
mod slots;
mod sockets;
mod special;
mod stacks;
mod storage;
mod sys;
mod threads;
mod traffic;
mod tree;
mod truth;
mod uffd;
mod user_rings;
mod xdp;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use libbpf_rs::query::{MapInfo, MapInfoIter, ProgInfoIter};

use crate::make::Maker;
use crate::truth::Truth;

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1).peekable();
    if args.peek().is_some_and(|word| word == "count") {
        return count();
    }
    if args.next_if(|word| word == "schedule").is_some() {
        return ops::schedule(Path::new(&args.next().context("no object")?));
    }
    let (Some(plan), Some(seed), Some(objects), Some(truth), None) = (
        args.next(),
        args.next(),
        args.next(),
        args.next(),
        args.next(),
    ) else {
        bail!("usage: mapmaker full|bench SEED OBJECTS TRUTH | count | schedule OBJECT");
    };
    let seed = seed.to_str().context("the seed is a number")?.parse()?;
    let mut maker = Maker::new(seed, PathBuf::from(objects))?;
    match plan.to_str() {
        Some("full") => maker.full()?,
        Some("bench") => maker.bench()?,
        _ => bail!("no plan {}: there are full and bench", plan.display()),
    }
    write(&maker.truth()?, Path::new(&truth))?;
    // The maps live as long as their file descriptors.
    loop {
        std::thread::park();
    }
}

/// Prints how many maps and programs there are. What ends leaves its own behind for a while, so
/// that whoever wants the rest alone waits until the count is no more than it was.
fn count() -> Result<()> {
    // The kernel frees the map of a program that may sleep when no such program runs any more.
    // Those that hold a record of a ring busy run for ever.
    let freed = |map: &MapInfo| map.name != "bpfreeze";
    let maps = MapInfoIter::default().filter(freed);
    let count = maps.count() + ProgInfoIter::default().count();
    writeln!(io::stdout(), "{count}")?;
    Ok(())
}

/// Writes the document under another name first, so that whoever waits for it finds it whole.
fn write(truth: &Truth, path: &Path) -> Result<()> {
    let partial = path.with_extension("partial");
    let mut file = BufWriter::new(File::create(&partial)?);
    serde_json::to_writer(&mut file, truth)?;
    file.flush()?;
    fs::rename(&partial, path)?;
    Ok(())
}
