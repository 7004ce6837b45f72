//! The kernel that is rendered, and what is asked of it once for all maps.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bpfmaps::{BpfMapAccessor, Error, MapInfo, ProgInfo, Progs};

use crate::follow::Follower;
use crate::{Budget, Outcome};

pub(crate) struct Context<'a> {
    pub(crate) accessor: &'a dyn BpfMapAccessor,
    pub(crate) follower: Follower<'a>,
    users: OnceCell<Result<Users, Error>>,
}

/// The programs, and by map which of them use it.
struct Users {
    progs: Rc<Progs>,
    /// Positions in the list of programs.
    by_map: BTreeMap<u32, Vec<usize>>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(accessor: &'a dyn BpfMapAccessor, follow: Budget) -> Self {
        Self {
            accessor,
            follower: Follower::new(accessor, follow),
            users: OnceCell::new(),
        }
    }

    fn users(&self) -> Result<&Users, &Error> {
        let users = self.users.get_or_init(|| {
            let progs = self.accessor.progs()?;
            let mut by_map: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
            for (at, prog) in progs.progs.iter().enumerate() {
                for &map in &prog.map_ids {
                    let users = by_map.entry(map).or_default();
                    // A program may name a map twice.
                    if users.last() != Some(&at) {
                        users.push(at);
                    }
                }
            }
            Ok(Users {
                progs: Rc::new(progs),
                by_map,
            })
        });
        users.as_ref()
    }

    /// Every program.
    pub(crate) fn progs(&self) -> Result<&Rc<Progs>, &Error> {
        self.users().map(|users| &users.progs)
    }

    /// The programs that use a map, by ascending id.
    pub(crate) fn used_by(&self, map: u32) -> Result<Vec<&ProgInfo>, &Error> {
        let users = self.users()?;
        let at = users.by_map.get(&map).map(Vec::as_slice);
        let at = at.unwrap_or_default().iter();
        Ok(at.filter_map(|&at| users.progs.progs.get(at)).collect())
    }

    /// The arenas that pointers in values of `map` may lead into.
    pub(crate) fn arenas_of(&self, map: &MapInfo) -> Vec<u32> {
        if !self.follower.has_arenas() {
            return Vec::new();
        }
        // That programs are missing is said at the end.
        let progs = self.used_by(map.id).unwrap_or_default();
        self.follower.used_by(&progs)
    }

    /// Adds to `outcome` what of the programs could not be read, if they were
    /// asked for.
    pub(crate) fn finish(self, outcome: &mut Outcome) {
        outcome.gaps = outcome.gaps.saturating_add(self.follower.take_gaps());
        match self.users.into_inner() {
            Some(Ok(users)) => outcome.add_gaps(&users.progs.walk),
            Some(Err(error)) => outcome.progs_error = Some(error),
            None => {}
        }
    }
}

/// The name that people know a program by: the whole one where it is known.
pub(crate) fn prog_name(prog: &ProgInfo) -> &str {
    prog.full_name.as_deref().unwrap_or(&prog.name)
}
