//! A kernel's BPF state, to be printed and asked.

use std::cell::{OnceCell, RefCell};
use std::fmt;
use std::io::Write;
use std::rc::Rc;

use bpfmaps::{BpfMapAccessor, KernelInfo, MapInfo, MapType, Maps, Progs};
use render::{Format, Options, Outcome, Source, Wanted};
use serde_json::Value as Json;

use super::document::Document;
use super::error::QueryError;
use super::map::MapView;
use super::nearest::Listed;
use super::slots::Slots;
use super::value::Value;
use super::vars::{Variables, variable};

/// Bytes of a map's name that the kernel keeps (`BPF_OBJ_NAME_LEN` less its
/// NUL).
const NAME_LEN: usize = 15;

/// The map that was asked for last, and its id.
type Last = RefCell<Option<(u32, Rc<Document>)>>;

/// The maps of a kernel and what is in them.
///
/// The list of maps is made once, contents are read when they are asked for:
/// of a kernel that runs they are those of that moment. One that stands still
/// ([`of`](Dump::of)) is not read again for a further question about the same
/// map.
pub struct Dump {
    accessor: Box<dyn BpfMapAccessor>,
    maps: Maps,
    progs: OnceCell<Progs>,
    variables: OnceCell<Variables>,
    options: Options,
    /// Of a kernel that stands still, the map that was asked for last.
    last: Option<Last>,
}

impl fmt::Debug for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dump")
            .field("kernel", self.kernel())
            .field("maps", &self.maps.maps.len())
            .finish_non_exhaustive()
    }
}

impl Dump {
    /// Of whatever kernel: a [`Guest`](bpfmaps::Guest), or with bpfmaps'
    /// feature `live` the one that runs.
    ///
    /// # Errors
    ///
    /// If no map can be listed at all. A map that cannot be described is
    /// among the [`gaps`](Dump::gaps).
    pub fn new(accessor: Box<dyn BpfMapAccessor>) -> Result<Self, bpfmaps::Error> {
        Ok(Self {
            maps: accessor.maps()?,
            accessor,
            progs: OnceCell::new(),
            variables: OnceCell::new(),
            options: Options::new(Source::new("library")),
            last: None,
        })
    }

    /// The same, printed and asked with these options. Their format does not
    /// count.
    #[must_use]
    pub fn with_options(mut self, options: Options) -> Self {
        self.options = options;
        self.last = self.last.map(|_| RefCell::default());
        self
    }

    /// The same of a kernel that does not run.
    pub(crate) fn that_stands(mut self) -> Self {
        self.last = Some(RefCell::default());
        self
    }

    /// The kernel.
    #[must_use]
    pub fn kernel(&self) -> &KernelInfo {
        self.accessor.kernel()
    }

    /// What everything is read through.
    #[must_use]
    pub fn accessor(&self) -> &dyn BpfMapAccessor {
        &*self.accessor
    }

    /// Every map, by ascending id.
    #[must_use]
    pub fn maps(&self) -> &[MapInfo] {
        &self.maps.maps
    }

    /// The maps that could not be described, each as a line.
    #[must_use]
    pub fn gaps(&self) -> Vec<String> {
        self.maps
            .walk
            .gaps
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    /// Everything, as text for people.
    ///
    /// # Errors
    ///
    /// None that the kernel's state could bring about.
    pub fn text(&self) -> Result<String, render::Error> {
        self.string(Format::Text, &self.maps)
    }

    /// Everything, as the JSON document that `bpfreeze dump --format json`
    /// prints.
    ///
    /// # Errors
    ///
    /// None that the kernel's state could bring about.
    pub fn json(&self) -> Result<String, render::Error> {
        self.string(Format::Json, &self.maps)
    }

    /// Writes everything in some format, and tells what is missing. Memory
    /// does not grow with what is written.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn write(&self, format: Format, out: &mut dyn Write) -> Result<Outcome, render::Error> {
        self.print(format, &self.maps, out)
    }

    /// Writes [`json`](Dump::json) to `out`.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn write_json(&self, out: &mut dyn Write) -> Result<Outcome, render::Error> {
        self.write(Format::Json, out)
    }

    /// One map with what it holds, by its name or its id. Names are as long
    /// as in the program: the kernel's 15 bytes of it are compared.
    ///
    /// The map's contents are in memory while the view is used.
    ///
    /// # Errors
    ///
    /// If there is no such map, or several; the error says how to name each.
    pub fn map(&self, name: &str) -> Result<MapView<'_>, QueryError> {
        let info = self.find(name)?;
        Ok(MapView::new(self, info, self.document(info)?))
    }

    /// A variable of a BPF program, by its name: out of `.bss`, `.data`,
    /// `.rodata`, any other data section, `.kconfig`, or an arena. Where
    /// several have it, it is `map::name`. A path into it may follow, as
    /// [`Value::field`] takes it.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dump: bpfreeze_freeze::Dump = todo!();
    /// assert_eq!(dump.var("nr_dispatched")?.as_u64()?, 0);
    /// assert!(dump.var("p2dq_bpf.bss::stats.cpus[3].idle")?.as_bool()?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// If there is no such variable, or several; the error says how to name
    /// each.
    pub fn var(&self, name: &str) -> Result<Value, QueryError> {
        let variables = self.variables.get_or_init(|| Variables::of(self));
        let (info, path) = variables.find(name)?;
        variable(info, &self.document(info)?, &path)
    }

    /// The slots of an allocator in an arena, by the name of its variable,
    /// such as `scx_task_allocator`. Where several have it, it is `map::name`,
    /// with the map of the data section that the variable is in.
    ///
    /// # Errors
    ///
    /// If there is no such allocator, or several; if it may be where none could
    /// be looked for.
    pub fn slots(&self, allocator: &str) -> Result<Slots, QueryError> {
        let (section, symbol) = match allocator.split_once("::") {
            Some((map, symbol)) => (Some(self.find(map)?.id), symbol),
            None => (None, allocator),
        };
        let mut options = self.options.clone();
        options.wanted = Wanted {
            allocators: vec![symbol.to_owned()],
            ..Wanted::default()
        };
        let what = || format!("allocator `{allocator}`");
        let none = Maps {
            maps: Vec::new(),
            walk: self.maps.walk.clone(),
        };
        let rendered = render::document(self.accessor(), &none, &options);
        let (json, outcome) = rendered.map_err(|error| QueryError::unreadable(what(), &error))?;
        let document = Rc::new(Document::new(json));
        if let Some(names) = outcome.instead {
            return Err(match document.at("/allocator_gaps/0/why").as_str() {
                Some(why) => QueryError::Unsure {
                    what: what(),
                    why: why.to_owned(),
                },
                None => QueryError::Absent {
                    what: what(),
                    there: Listed::nearest(symbol, names),
                },
            });
        }
        let all = document.at("/allocators").as_array();
        let all = all.map(Vec::as_slice).unwrap_or_default();
        let spelled = |json: &Json| format!("`{}::{symbol}`", json["map"]);
        let of_map = |json: &Json| section.is_none_or(|map| json["map"] == map);
        let mut found = all.iter().enumerate().filter(|(_, json)| of_map(json));
        match (found.next(), found.next()) {
            (Some((at, _)), None) => Ok(Slots::new(&document, at, allocator)),
            (None, _) => Err(QueryError::Absent {
                what: what(),
                there: Listed::first(all.iter().map(spelled)),
            }),
            (Some(_), Some(_)) => Err(QueryError::Ambiguous {
                what: what(),
                which: Listed::first(all.iter().map(spelled)),
            }),
        }
    }

    /// The map that a name or id means.
    pub(super) fn find(&self, name: &str) -> Result<&MapInfo, QueryError> {
        let maps = &self.maps.maps;
        if let Ok(id) = name.parse::<u32>()
            && let Some(map) = maps.iter().find(|map| map.id == id)
        {
            return Ok(map);
        }
        let what = || format!("map `{name}`");
        let mut named = maps.iter().filter(|map| is_named(map, name));
        match (named.next(), named.next()) {
            (Some(map), None) => Ok(map),
            (Some(_), Some(_)) => Err(QueryError::Ambiguous {
                what: what(),
                which: Listed::first(
                    maps.iter()
                        .filter(|map| is_named(map, name))
                        .map(|map| format!("`{}` ({})", map.id, map.map_type)),
                ),
            }),
            (None, _) => match self.maps.walk.gaps.first() {
                Some(gap) => Err(QueryError::Unsure {
                    what: what(),
                    why: gap.to_string(),
                }),
                None => Err(QueryError::Absent {
                    what: what(),
                    there: Listed::nearest(name, maps.iter().map(|map| map.name.clone())),
                }),
            },
        }
    }

    /// One map, and what it points into.
    fn document(&self, info: &MapInfo) -> Result<Rc<Document>, QueryError> {
        if let Some(last) = &self.last
            && let Some((id, document)) = &*last.borrow()
            && *id == info.id
        {
            return Ok(Rc::clone(document));
        }
        let mut options = self.options.clone();
        options.wanted.maps = Some(self.related(info.id));
        let (json, _) = render::document(self.accessor(), &only(info), &options)
            .map_err(|error| QueryError::unreadable(format!("map `{}`", info.name), &error))?;
        let document = Rc::new(Document::new(json));
        if let Some(last) = &self.last {
            last.replace(Some((info.id, Rc::clone(&document))));
        }
        Ok(document)
    }

    /// A map, and the arenas of the programs that use it.
    fn related(&self, map: u32) -> Vec<u32> {
        // That programs could not be listed is said in the document.
        let progs = self
            .progs
            .get_or_init(|| self.accessor.progs().unwrap_or_default());
        let users = progs
            .progs
            .iter()
            .filter(|prog| prog.map_ids.contains(&map));
        let mut ids: Vec<u32> = users.flat_map(|prog| &prog.map_ids).copied().collect();
        ids.retain(|id| {
            let mut maps = self.maps.maps.iter();
            maps.any(|map| map.id == *id && map.map_type == MapType::ARENA)
        });
        ids.push(map);
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// One map in some format.
    pub(super) fn string_of(
        &self,
        format: Format,
        info: &MapInfo,
    ) -> Result<String, render::Error> {
        self.string(format, &only(info))
    }

    fn string(&self, format: Format, maps: &Maps) -> Result<String, render::Error> {
        let mut out = Vec::new();
        // What is missing is said in the output.
        let _ = self.print(format, maps, &mut out)?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    fn print(
        &self,
        format: Format,
        maps: &Maps,
        out: &mut dyn Write,
    ) -> Result<Outcome, render::Error> {
        let mut options = self.options.clone();
        options.format = format;
        if let [map] = maps.maps.as_slice()
            && self.maps.maps.len() > 1
        {
            options.wanted.maps.get_or_insert_with(|| vec![map.id]);
        }
        render::dump(self.accessor(), maps, &options, out)
    }
}

/// Whether the name of `map` is `name`, as far as the kernel keeps it.
pub(crate) fn is_named(map: &MapInfo, name: &str) -> bool {
    let kept = name.as_bytes().get(..NAME_LEN).unwrap_or(name.as_bytes());
    map.name.as_bytes() == kept
}

/// A list of nothing but this map.
fn only(info: &MapInfo) -> Maps {
    Maps {
        maps: vec![info.clone()],
        walk: bpfmaps::Walk {
            visited: 1,
            ..bpfmaps::Walk::default()
        },
    }
}
