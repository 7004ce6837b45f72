//! A machine whose memory is captured: how it is made to stand still.

use std::time::Duration;

use guestmem::Image;

use crate::Error;

/// A machine that may run while its memory is read.
pub trait Machine {
    /// Its memory, as it is at the time of each read: what was opened while it
    /// ran is good after [`pause`](Machine::pause).
    ///
    /// # Errors
    ///
    /// If it cannot be opened.
    fn image(&self) -> Result<Image, Error>;

    /// Makes it stand still until what is returned is resumed or dropped. One
    /// that stands already stays as it is.
    ///
    /// # Errors
    ///
    /// If it cannot be stopped.
    fn pause(&self) -> Result<Box<dyn Standing + '_>, Error>;
}

/// A machine that stands still. Dropping it lets it run again, if it ran.
pub trait Standing {
    /// Whether it ran before, so that it waits to be resumed.
    fn ran(&self) -> bool;

    /// Lets it run again, if it ran, and tells how long it stood.
    ///
    /// # Errors
    ///
    /// If it cannot be made to run.
    fn resume(self: Box<Self>) -> Result<Option<Duration>, Error>;
}

/// A machine that stands still by itself: memory in a file, or one whose CPUs
/// its keeper has parked.
#[derive(Clone, Debug)]
pub struct StandsStill(pub Image);

impl Machine for StandsStill {
    fn image(&self) -> Result<Image, Error> {
        Ok(self.0.clone())
    }

    fn pause(&self) -> Result<Box<dyn Standing + '_>, Error> {
        Ok(Box::new(Parked))
    }
}

struct Parked;

impl Standing for Parked {
    fn ran(&self) -> bool {
        false
    }

    fn resume(self: Box<Self>) -> Result<Option<Duration>, Error> {
        Ok(None)
    }
}

impl Machine for qemu::Qemu {
    fn image(&self) -> Result<Image, Error> {
        self.image().map_err(refusal("read"))
    }

    fn pause(&self) -> Result<Box<dyn Standing + '_>, Error> {
        Ok(Box::new(self.pause().map_err(refusal("pause"))?))
    }
}

impl Standing for qemu::Paused<'_> {
    fn ran(&self) -> bool {
        !self.was_paused()
    }

    fn resume(self: Box<Self>) -> Result<Option<Duration>, Error> {
        (*self).resume().map_err(refusal("resume"))
    }
}

fn refusal(operation: &'static str) -> impl Fn(qemu::Error) -> Error {
    move |error| Error::Machine {
        operation,
        source: error.into(),
    }
}
