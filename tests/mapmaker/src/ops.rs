//! Structs of operations that programs implement.

use std::mem;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use libbpf_rs::{MapCore, MapType, Object, ObjectBuilder};
use serde_json::json;

use crate::make::Maker;
use crate::objects::find;
use crate::slots::program;
use crate::truth::{Told, bytes};

/// Makes them all.
///
/// # Errors
/// Fails if the kernel does.
pub(crate) fn make(maker: &mut Maker) -> Result<()> {
    let mut object = maker.load(maker.open("ops")?)?;
    let used = attach(&mut object, "ops_used")?;
    tell(maker, &object, "ops_used", "in use", Some(("bpf_used", 1)))?;
    tell(maker, &object, "ops_init", "init", None)?;
    maker.hold((used, object));
    if !maker.kernel.enumerator("bpf_attach_type", "BPF_STRUCT_OPS") {
        maker.skip(
            "STRUCT_OPS by links",
            "bpf_attach_type has no BPF_STRUCT_OPS",
        );
        return Ok(());
    }
    let mut object = maker.load(maker.open("ops_link")?)?;
    let linked = attach(&mut object, "ops_linked")?;
    // It was attached, and is not any more.
    mem::drop(attach(&mut object, "ops_ready")?);
    tell(
        maker,
        &object,
        "ops_linked",
        "ready",
        Some(("bpf_linked", 0)),
    )?;
    tell(maker, &object, "ops_ready", "ready", Some(("bpf_ready", 2)))?;
    maker.hold((linked, object));
    Ok(())
}

/// Registers every struct of operations in the object of this file, and holds it, and so the maps
/// of its programs.
///
/// # Errors
/// Fails if the kernel does, or there is none.
pub(crate) fn schedule(path: &Path) -> Result<()> {
    let mut object = ObjectBuilder::default().open_file(path)?.load()?;
    let all = object.maps_mut();
    let schedulers = all.filter(|map| map.map_type() == MapType::StructOps);
    let links: Result<Vec<_>, _> = schedulers.map(|mut map| map.attach_struct_ops()).collect();
    let links = links.with_context(|| format!("registering {}", path.display()))?;
    ensure!(!links.is_empty(), "{} has no scheduler", path.display());
    loop {
        std::thread::park();
    }
}

fn attach(object: &mut Object, name: &str) -> Result<libbpf_rs::Link> {
    let mut maps = object.maps_mut();
    let mut map = maps
        .find(|map| map.name() == name)
        .context(name.to_owned())?;
    map.attach_struct_ops()
        .with_context(|| format!("registering {name}"))
}

/// Tells about a map. What was never registered has no value yet.
fn tell(
    maker: &mut Maker,
    object: &Object,
    name: &str,
    state: &str,
    value: Option<(&str, u32)>,
) -> Result<()> {
    for name in ["threshold", "avoid", "undo"] {
        let program = program(object, name)?;
        maker.programs.runs_by_itself(program.as_fd())?;
    }
    let told = match value {
        Some((name, flags)) => Told::unordered(vec![json!({
            "key": bytes(&[0; 4]),
            "value": {"typed": {"data": {"name": name, "flags": flags}}},
        })]),
        None => Told::nothing(),
    };
    let state = json!({"struct_ops": {"state": state, "name": "tcp_congestion_ops"}});
    maker.tell(find(object, name)?, told.state(state))
}
