//! The search for a kernel, step by step.

use std::cell::Cell;
use std::cmp::Reverse;
use std::fmt;

use guestmem::{
    Address, Cause, Fault, Gpa, Image, Kva, Memory, MemoryExt, Physical, RawImage, Span,
};
use pagewalk::{AddressSpace, Mapping};

use crate::btf_section;
use crate::candidate::{Candidate, Proof, Verdict, prove};
use crate::machine::Kernel;
use crate::symbols::{GivenSymbols, Symbols};
use crate::vmcoreinfo::{self, Copy, Vmcoreinfo};
use crate::{Error, Kallsyms, PerCpu};

/// `version` in `struct new_utsname`: the fourth string of 65 bytes (UAPI).
const UTS_VERSION: u64 = 3 * 65;

/// Looks for a kernel. What is known beforehand can be given to it; all of it
/// is checked against what is found.
#[derive(Default)]
pub struct Finder<'f> {
    vmcoreinfo: Option<Gpa>,
    root: Option<Gpa>,
    note: Option<Vmcoreinfo>,
    roots: Vec<Gpa>,
    symbols: Option<GivenSymbols>,
    btf: Option<Vec<u8>>,
    progress: Option<&'f mut dyn FnMut(u64, u64)>,
}

impl fmt::Debug for Finder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finder")
            .field("vmcoreinfo", &self.vmcoreinfo)
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

impl<'f> Finder<'f> {
    /// A search that knows nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the VMCOREINFO (either copy) at `gpa` and searches for no other.
    ///
    /// Of several layouts it is an address in the first that has one there, so
    /// that both what a search of the first layout found and what is true in
    /// the right one can be given.
    #[must_use]
    pub fn vmcoreinfo(mut self, gpa: Gpa) -> Self {
        self.vmcoreinfo = Some(gpa);
        self
    }

    /// Takes the root table at `gpa` instead of the noted one, such as a CR3
    /// known from the hypervisor.
    #[must_use]
    pub fn root(mut self, gpa: Gpa) -> Self {
        self.root = Some(gpa);
        self
    }

    /// Takes these symbols before those in memory.
    #[must_use]
    pub fn symbols(mut self, symbols: GivenSymbols) -> Self {
        self.symbols = Some(symbols);
        self
    }

    /// Takes these bytes for the kernel's BTF.
    #[must_use]
    pub fn btf(mut self, bytes: Vec<u8>) -> Self {
        self.btf = Some(bytes);
        self
    }

    /// Reports the search of a large image: addresses passed, and the size of
    /// the image.
    #[must_use]
    pub fn progress(mut self, progress: &'f mut dyn FnMut(u64, u64)) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Considers first the VMCOREINFO with this text, which came with a dump,
    /// and searches only if its kernel is not there.
    #[must_use]
    pub fn note(mut self, text: Option<&[u8]>) -> Self {
        self.note = text.and_then(Vmcoreinfo::parse);
        self
    }

    /// Tries these root tables where the noted one does not lead to the
    /// kernel: what the machine's CPUs had in CR3.
    #[must_use]
    pub fn roots(mut self, roots: &[Gpa]) -> Self {
        self.roots = roots.to_vec();
        self
    }

    /// Finds the kernel in a raw image, under whichever of its possible
    /// layouts is the true one.
    ///
    /// # Errors
    ///
    /// See [`find`](Self::find).
    pub fn find_in_image(self, image: &RawImage) -> Result<Kernel, Error> {
        self.find_in(&Image::raw(image))
    }

    /// Finds the kernel in an image, by whatever came with it.
    ///
    /// # Errors
    ///
    /// See [`find`](Self::find).
    pub fn find_in(self, image: &Image) -> Result<Kernel, Error> {
        self.note(image.vmcoreinfo())
            .roots(image.roots())
            .find(image.layouts())
    }

    /// Finds the kernel in physical memory of which one of `layouts` is true.
    /// The first one is searched; they differ only in where their bytes are,
    /// not in which bytes there are.
    ///
    /// # Errors
    ///
    /// If there is no kernel or more than one, or if its symbols or BTF
    /// cannot be read and were not given.
    pub fn find(mut self, layouts: &[Physical]) -> Result<Kernel, Error> {
        let mut candidates = Vec::new();
        if let Some(note) = self.note.take().filter(|_| self.vmcoreinfo.is_none()) {
            let (verdict, proof) = self.prove(layouts, &note);
            candidates.push(Candidate {
                gpa: None,
                copy: Copy::Carried,
                release: note.release().to_owned(),
                verdict,
            });
            if let Some((proof, layout)) = proof {
                return self.describe(proof, layout, note, candidates);
            }
        }
        let (searched, places) = self.places(layouts)?;
        let mut first: Option<(Proof, usize, Vmcoreinfo)> = None;
        let mut several = false;
        for gpa in places {
            // One at a time: a hostile image can have one in every page.
            let loaded = layouts
                .get(searched)
                .and_then(|physical| Vmcoreinfo::load(physical.as_ref(), gpa));
            let Some((copy, note)) = loaded else {
                continue;
            };
            let (verdict, proof) = self.prove(layouts, &note);
            candidates.push(Candidate {
                gpa: Some(gpa),
                copy,
                release: note.release().to_owned(),
                verdict,
            });
            if let Some((proof, layout)) = proof {
                match &first {
                    Some((known, ..)) => several |= known.space.root() != proof.space.root(),
                    None => first = Some((proof, layout, note)),
                }
            }
        }
        if several {
            return Err(Error::Several { candidates });
        }
        if let Some((proof, layout, note)) = first {
            if let (Some(searched), Some(chosen)) = (layouts.get(searched), layouts.get(layout)) {
                relocate(&mut candidates, searched, chosen);
            }
            return self.describe(proof, layout, note, candidates);
        }
        Err(match candidates.as_slice() {
            [] => Error::NoVmcoreinfo {
                bytes: layouts.first().map_or(0, |physical| physical.size()),
            },
            _ => Error::NothingProved { candidates },
        })
    }

    /// Where to consider a VMCOREINFO, and under which of the layouts.
    fn places(&mut self, layouts: &[Physical]) -> Result<(usize, Vec<Gpa>), Error> {
        if let Some(gpa) = self.vmcoreinfo {
            let is_there = |physical: &Physical| Vmcoreinfo::load(physical.as_ref(), gpa).is_some();
            let layout = layouts.iter().position(is_there);
            return Ok((layout.ok_or(Error::NotVmcoreinfo { gpa })?, vec![gpa]));
        }
        let Some(physical) = layouts.first() else {
            return Err(Error::NoVmcoreinfo { bytes: 0 });
        };
        let bytes = physical.size();
        let found = vmcoreinfo::search(physical.as_ref(), &mut |passed| {
            if let Some(progress) = &mut self.progress {
                progress(passed, bytes);
            }
        });
        Ok((0, found))
    }

    /// Proves `note` under the layouts. Where several stand the proof, the one
    /// that holds the most of what the kernel has mapped is the true one.
    fn prove(&self, layouts: &[Physical], note: &Vmcoreinfo) -> (Verdict, Option<(Proof, usize)>) {
        let mut refusal = None;
        let mut proofs = Vec::new();
        for (index, physical) in layouts.iter().enumerate() {
            match self.prove_in(physical, note) {
                Ok(proof) => proofs.push((proof, index)),
                // The likeliest layout's refusal says most.
                Err(why) => {
                    refusal.get_or_insert(why);
                }
            }
        }
        let best = if proofs.len() > 1 {
            proofs.into_iter().max_by_key(|(proof, index)| {
                let (held, missing) = holdings(&proof.space, note);
                // The likelier of two equals.
                (held, Reverse(missing), Reverse(*index))
            })
        } else {
            proofs.pop()
        };
        match (best, refusal) {
            (Some(best), _) => {
                let root = best.0.space.root();
                (Verdict::Proved { root }, Some(best))
            }
            (None, refusal) => {
                let refusal = refusal.unwrap_or(crate::Refusal::UnknownArch);
                (Verdict::Refused(refusal), None)
            }
        }
    }

    /// Proves `note` under one layout, by the root table that was given, else
    /// by the noted one, else by those that the CPUs had.
    fn prove_in(&self, physical: &Physical, note: &Vmcoreinfo) -> Result<Proof, crate::Refusal> {
        let proof = prove(physical, note, self.root);
        if proof.is_ok() || self.root.is_some() {
            return proof;
        }
        let mut by_cpus = self.roots.iter();
        by_cpus
            .find_map(|&root| prove(physical, note, Some(root)).ok())
            .map_or(proof, Ok)
    }

    /// Reads what there is to know of a kernel that was proved.
    fn describe(
        self,
        proof: Proof,
        layout: usize,
        note: Vmcoreinfo,
        candidates: Vec<Candidate>,
    ) -> Result<Kernel, Error> {
        let Proof {
            arch,
            space,
            phys_base,
        } = proof;
        let stext = note.symbol("_stext");
        let (kallsyms, kallsyms_error) = match Kallsyms::load(&space, &note) {
            Ok(kallsyms) => (Some(kallsyms), None),
            Err(error) if self.symbols.is_some() || self.btf.is_some() => (None, Some(error)),
            Err(source) => return Err(Error::Kallsyms { source }),
        };
        let given = self
            .symbols
            .map(|given| given.moved_to(&note, kallsyms.as_ref()))
            .transpose()
            .map_err(|source| Error::SymbolFile { source })?;
        let symbols = Symbols::new(given, kallsyms);
        let origin = format!("Linux {}", note.release());
        let (btf, btf_size, btf_source) = match self.btf {
            Some(bytes) => btf_section::given(bytes, &note, &origin)?,
            None => btf_section::load(&space, &symbols, stext, &origin)?.ok_or_else(|| {
                Error::NoBtf {
                    release: note.release().to_owned(),
                }
            })?,
        };
        let per_cpu = PerCpu::load(&space, &symbols)?;
        let version = uts_version(&space, &note).unwrap_or_default();
        Ok(Kernel {
            arch,
            space,
            note,
            phys_base,
            layout,
            candidates,
            symbols,
            kallsyms_error,
            btf,
            btf_size,
            btf_source,
            per_cpu,
            version,
            loaded: std::cell::OnceCell::new(),
        })
    }
}

/// Says of candidates that were found under one layout where they are under
/// another.
fn relocate(candidates: &mut [Candidate], searched: &Physical, chosen: &Physical) {
    for gpa in candidates.iter_mut().filter_map(|found| found.gpa.as_mut()) {
        let offset = searched.offset_of(*gpa);
        if let Some(there) = offset.and_then(|offset| chosen.gpa_of(offset)) {
            *gpa = there;
        }
    }
}

fn uts_version(space: &AddressSpace<Physical>, note: &Vmcoreinfo) -> Option<String> {
    let names = note
        .symbol("init_uts_ns")?
        .checked_add(note.offset("uts_namespace.name")?)?;
    let text = space.read_cstr(names.checked_add(UTS_VERSION)?, 65).ok()?;
    Some(String::from_utf8_lossy(&text).replace(char::is_control, "\u{fffd}"))
}

/// Physical memory that gives no more than so many bytes.
///
/// Tables that repeat themselves, corrupt ones and those of KASAN's shadow,
/// describe more than anyone can walk. Without repetition tables are no larger
/// than the data that the image has.
struct Rationed<'p> {
    physical: &'p Physical,
    left: Cell<u64>,
}

impl Memory<Gpa> for Rationed<'_> {
    fn read(&self, addr: Gpa, buf: &mut [u8]) -> Result<(), Fault<Gpa>> {
        match self.left.get().checked_sub(buf.len() as u64) {
            Some(left) => self.left.set(left),
            None => return Err(Fault::new(addr, Cause::Unbacked { gpa: addr })),
        }
        self.physical.read(addr, buf)
    }
}

/// Bytes of the image that are more than holes.
fn data_size(physical: &Physical) -> u64 {
    let mut size = 0u64;
    let mut from = Some(Gpa::at(0));
    while let Some(Span { start, len }) = from.and_then(|from| physical.next_data(from)) {
        size = size.saturating_add(len);
        from = start.checked_add(len);
    }
    size
}

/// How finely a mapped run is compared with the image.
const BACKING_STEP: u64 = 2 << 20;

/// Bytes of the direct map that the image holds, and that it does not.
///
/// The direct map covers exactly the machine's RAM, so under the true layout
/// all of the image is mapped and nothing is missing. Under a wrong one page
/// tables are missing too, or other memory is taken for them, and what they
/// map is in neither number. The direct map lies below the vmalloc area; where
/// the note does not say how far it reaches (6.1), the areas behind it are
/// counted as well, which is the same for every layout.
fn holdings(space: &AddressSpace<Physical>, note: &Vmcoreinfo) -> (u64, u64) {
    let upper_half = Kva::at(1 << 63);
    let end = note
        .number("VMALLOC_START")
        .map_or(u64::MAX, i64::cast_unsigned);
    let len = end.saturating_sub(upper_half.get());
    let rationed = Rationed {
        physical: space.physical(),
        left: Cell::new(data_size(space.physical())),
    };
    let rationed = AddressSpace::new(rationed, space.root(), space.format());
    // What is mapped beyond that, is mapped more than once.
    let mut left = space.physical().size().saturating_mul(4);
    let (mut held, mut missing) = (0, 0);
    for mapping in rationed.mappings(upper_half, len) {
        let Mapping::Run { gpa, len, .. } = mapping else {
            continue;
        };
        let mut done = 0;
        while done < len {
            let step = BACKING_STEP.min(len - done);
            let Some(rest) = left.checked_sub(step) else {
                return (held, missing);
            };
            left = rest;
            let backed = gpa
                .checked_add(done)
                .is_some_and(|at| space.physical().read(at, &mut [0]).is_ok());
            *(if backed { &mut held } else { &mut missing }) += step;
            done += step;
        }
    }
    (held, missing)
}
