//! The kernel that is rendered, and what is asked of it once for all maps.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bpfmaps::{BpfMapAccessor, Error, MapInfo, MapType, ProgInfo, Progs};

use crate::allocators::Survey;
use crate::follow::Follower;
use crate::{ArenaPages, Budget, Options, Outcome};

pub(crate) struct Context<'a> {
    pub(crate) accessor: &'a dyn BpfMapAccessor,
    /// What is known of arenas and allocators, in dumps of contents.
    pub(crate) survey: Option<Rc<Survey<'a>>>,
    pub(crate) follower: Follower<'a>,
    pub(crate) arena_pages: ArenaPages,
    users: OnceCell<Result<Users, Error>>,
}

/// The programs, and by map which of them use it.
struct Users {
    progs: Rc<Progs>,
    /// Positions in the list of programs.
    by_map: BTreeMap<u32, Vec<usize>>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(accessor: &'a dyn BpfMapAccessor) -> Self {
        Self {
            accessor,
            survey: None,
            follower: Follower::new(accessor, None, Budget::NONE),
            arena_pages: ArenaPages::default(),
            users: OnceCell::new(),
        }
    }

    /// The same for contents, with what is known of arenas.
    pub(crate) fn of_contents(accessor: &'a dyn BpfMapAccessor, options: &Options) -> Self {
        let mut context = Self::new(accessor);
        context.arena_pages = options.arena_pages;
        context.look_at_arenas(options);
        context
    }

    /// Looks at all arenas of the kernel and what is in them, unless no map
    /// that is asked for has to do with one.
    fn look_at_arenas(&mut self, options: &Options) {
        if options.arena_pages == ArenaPages::Unread {
            return;
        }
        // What is missing from the list of maps is said where it is listed.
        let maps = self.accessor.maps().unwrap_or_default();
        let is_arena = |id: u32| {
            let found = maps.maps.iter().find(|map| map.id == id);
            found.is_some_and(|map| map.map_type == MapType::ARENA)
        };
        let concerns = |map: &u32| {
            let users = self.used_by(*map).unwrap_or_default();
            let mut used = users.iter().flat_map(|prog| &prog.map_ids);
            is_arena(*map) || used.any(|&id| is_arena(id))
        };
        let wanted = options.wanted.maps.as_ref();
        if !wanted.is_none_or(|wanted| wanted.iter().any(concerns)) {
            return;
        }
        self.survey = Survey::new(self, &maps.maps, options).map(Rc::new);
        self.follower = Follower::new(self.accessor, self.survey.clone(), options.follow);
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
    pub(crate) fn arenas_of(&self, map: &MapInfo, is_arena: impl Fn(u32) -> bool) -> Vec<u32> {
        // That programs are missing is said at the end.
        let progs = self.used_by(map.id).unwrap_or_default();
        let ids = progs.iter().flat_map(|prog| prog.map_ids.iter().copied());
        let mut arenas: Vec<u32> = ids.filter(|&id| is_arena(id)).collect();
        arenas.sort_unstable();
        arenas.dedup();
        arenas
    }

    /// Those of them that pointers are followed into.
    pub(crate) fn arenas_followed(&self, map: &MapInfo) -> Vec<u32> {
        self.arenas_of(map, |id| self.follower.has_arena(id))
    }

    /// Adds to `outcome` what of the programs could not be read, if they were
    /// asked for.
    pub(crate) fn finish(self, options: &Options, outcome: &mut Outcome) {
        let Options { wanted, types, .. } = options;
        let is_named = wanted.is_narrow() || !types.is_empty();
        let nothing = || is_named.then(Vec::new);
        outcome.instead = self.survey.as_ref().map_or_else(nothing, |survey| {
            let has = |symbol: &String| survey.allocators.iter().any(|of| of.symbol == *symbol);
            let is_missing = (wanted.is_narrow() && !survey.has_wanted(wanted))
                || !types.iter().all(|(symbol, _)| has(symbol));
            let names = survey.allocators.iter().map(|found| found.symbol.clone());
            is_missing.then(|| names.collect())
        });
        if let Some(survey) = self.survey {
            outcome.gaps = outcome.gaps.saturating_add(survey.gaps());
        }
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
