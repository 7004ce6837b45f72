//! Shows the maps of a guest whose VMM is this program, without stopping it
//! for longer than a copy of some megabytes takes.
//!
//! `example-vmm RAM [MAP]…`: RAM is a memory image that stands for the guest.
#![expect(clippy::print_stdout, reason = "a program prints")]

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use example_vmm::Vmm;

/// How long the guest may stand: much more than it takes on a machine that is
/// not busy.
const DEADLINE: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let ram = args.next().ok_or("usage: example-vmm RAM [MAP]…")?;
    let vmm = Vmm::start(Path::new(&ram), 2)?;

    // At leisure, while the guest runs.
    let mut freeze = vmm.freeze()?;
    freeze.prepare()?;

    // Something has failed: now.
    vmm.park();
    let parked = Instant::now();
    let captured = freeze.capture_within(DEADLINE);
    let stood = parked.elapsed();
    vmm.resume();

    // The guest runs again, and its state is here.
    let capture = captured?;
    let dump = capture.open()?;
    for name in args {
        println!("{}", dump.map(&name)?.text()?);
    }
    println!(
        "{} maps of Linux {}, in {} pages",
        dump.maps().len(),
        dump.kernel().release,
        capture.report().pages
    );
    println!("the guest stood for {} ms", stood.as_millis());
    if capture.report().is_late {
        println!("time ran out: what is missing is said where it is missing");
    }
    Ok(())
}
