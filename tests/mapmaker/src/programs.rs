//! The truth about programs: what was loaded, and how often each ran.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use libbpf_rs::Object;
use libbpf_rs::query::{ProgInfoIter, ProgInfoQueryOptions};
use serde_json::{Value, json};

use crate::truth::hex;
use crate::{names, objects, sys};

/// A program that was loaded.
#[derive(Debug)]
struct Loaded {
    kind: &'static str,
    /// The function's, where the program's types tell.
    full_name: Option<String>,
    section: String,
    /// How often it ran, if it only runs when it is told to.
    runs: Option<u64>,
}

/// The programs that were loaded, by their ids.
#[derive(Debug)]
pub(crate) struct Programs {
    loaded: BTreeMap<u32, Loaded>,
    /// Lets the kernel count runs.
    stats: Option<OwnedFd>,
}

impl Programs {
    /// None so far. Runs are counted from now on.
    ///
    /// # Errors
    /// Fails if the kernel cannot count them.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            loaded: BTreeMap::new(),
            stats: Some(sys::count_runs()?),
        })
    }

    /// Takes note of an object's programs.
    ///
    /// # Errors
    /// Fails if the kernel does not tell about one of them.
    pub(crate) fn add(&mut self, object: &Object) -> Result<()> {
        for program in object.progs().filter(|program| program.autoload()) {
            let info = sys::program_info(program.as_fd())?;
            let loaded = Loaded {
                kind: names::program_type(info.type_),
                full_name: Some(program.name().to_string_lossy().into_owned()),
                section: program.section().to_string_lossy().into_owned(),
                runs: Some(0),
            };
            self.loaded.insert(info.id, loaded);
        }
        Ok(())
    }

    /// Takes note of a program that came without an object.
    ///
    /// # Errors
    /// Fails if the kernel does not tell about it.
    pub(crate) fn add_bare(&mut self, program: BorrowedFd<'_>) -> Result<()> {
        let info = sys::program_info(program)?;
        let loaded = Loaded {
            kind: names::program_type(info.type_),
            full_name: None,
            section: String::new(),
            runs: Some(0),
        };
        self.loaded.insert(info.id, loaded);
        Ok(())
    }

    /// From now on nobody knows how often a program ran: something else runs it.
    ///
    /// # Errors
    /// Fails if the kernel does not tell about it.
    pub(crate) fn runs_by_itself(&mut self, program: BorrowedFd<'_>) -> Result<()> {
        let id = sys::program_info(program)?.id;
        if let Some(loaded) = self.loaded.get_mut(&id) {
            loaded.runs = None;
        }
        Ok(())
    }

    /// Runs a program once, with a context for those types that take one from user space, and
    /// with a packet for the others. Returns what it returned.
    ///
    /// # Errors
    /// Fails if there is no such program or if the kernel does not run it.
    pub(crate) fn run(&mut self, object: &Object, name: &str, input: Input<'_>) -> Result<u32> {
        let program = object.progs().find(|program| program.name() == name);
        let program = program.with_context(|| format!("the object has no program {name}"))?;
        let result = sys::run_program(program.as_fd(), input);
        self.ran(program.as_fd(), 1)?;
        result.with_context(|| format!("running {name}"))
    }

    /// Takes note of runs that did not go through [`run`](Self::run).
    ///
    /// # Errors
    /// Fails if the kernel does not tell about the program.
    pub(crate) fn ran(&mut self, program: BorrowedFd<'_>, times: u64) -> Result<()> {
        let id = sys::program_info(program)?.id;
        if let Some(Loaded {
            runs: Some(runs), ..
        }) = self.loaded.get_mut(&id)
        {
            *runs += times;
        }
        Ok(())
    }

    /// Runs a program once for each step, each time on the CPU that `cpu` names, with the step as
    /// its context.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub(crate) fn run_steps(
        &mut self,
        object: &Object,
        name: &str,
        steps: u32,
        cpu: impl Fn(u32) -> usize,
    ) -> Result<()> {
        for step in 0..steps {
            objects::pin(cpu(step))?;
            self.run(object, name, Input::Context(&step.to_le_bytes()))?;
        }
        objects::pin(0)
    }

    /// What is known of all programs. Runs are not counted any more then.
    ///
    /// # Errors
    /// Fails if the kernel's account contradicts ours.
    pub(crate) fn truth(&mut self) -> Result<Vec<Value>> {
        self.stats = None;
        let options = ProgInfoQueryOptions::default().include_map_ids(true);
        let mut truths = Vec::new();
        for info in ProgInfoIter::with_query_opts(options) {
            let Some(loaded) = self.loaded.get(&info.id) else {
                continue;
            };
            let mut truth = json!({
                "id": info.id,
                "name": info.name.to_string_lossy(),
                "type": loaded.kind,
                "tag": hex(&info.tag.0),
                "gpl": info.gpl_compatible,
                "map_ids": info.map_ids,
                "uid": info.created_by_uid,
            });
            let Some(members) = truth.as_object_mut() else {
                continue;
            };
            if let Some(name) = &loaded.full_name {
                members.insert("full_name".to_owned(), json!(name));
            }
            if let Some(runs) = loaded.runs {
                ensure!(
                    runs == info.run_cnt,
                    "program {} ran {} times, not {runs}",
                    info.name.display(),
                    info.run_cnt
                );
                members.insert("run_count".to_owned(), json!(runs));
            }
            if let Some((_, function)) = loaded.section.split_once('/')
                && matches!(loaded.kind, "tracing" | "lsm")
            {
                members.insert("attach".to_owned(), json!({ "function": function }));
            }
            truths.push(truth);
        }
        ensure!(
            truths.len() == self.loaded.len(),
            "the kernel knows {} of {} programs",
            truths.len(),
            self.loaded.len()
        );
        Ok(truths)
    }
}

/// What a program is run with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Input<'a> {
    /// The bytes of its context.
    Context(&'a [u8]),
    /// A packet.
    Packet(&'a [u8]),
}

/// A program as an object of a slot.
///
/// # Errors
/// Fails if the kernel does not tell about it.
pub(crate) fn refer(program: BorrowedFd<'_>) -> Result<Value> {
    let info = sys::program_info(program)?;
    let name: Vec<u8> = info
        .name
        .iter()
        .map(|byte| byte.cast_unsigned())
        .take_while(|&byte| byte != 0)
        .collect();
    Ok(json!({
        "kind": "prog",
        "id": info.id,
        "name": String::from_utf8_lossy(&name),
        "type": names::program_type(info.type_),
    }))
}
