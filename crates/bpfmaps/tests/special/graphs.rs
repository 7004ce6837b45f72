//! Lists and trees, whole and corrupt.

use std::ops::ControlFlow;

use bpfmaps::Walk;
use bpfmaps::special::{Reader, Special};
use guestmem::{Address, Kva};

use super::{ITEM_LIST, ITEM_SIZE, ITEM_TREE, LIST, TREE, WILD, World, value_of};
use crate::fake::table::place_of;
use crate::fake::{Maps, on};

/// The keys of the objects in the list or tree at `offset`, and the account.
fn nodes(world: World, offset: u64, limit: usize) -> (Vec<u64>, Walk) {
    let address = world.value;
    let (guest, map) = world.open();
    let reader = Reader::of(&guest, &map).unwrap().unwrap();
    let field = reader.fields().at(offset).unwrap();
    let value = value_of(&guest, &map);
    let walk = |at| {
        let mut keys = Vec::new();
        let walk = reader.nodes(field, &value, at, &mut |node| {
            let key = node.bytes.present.first_chunk().unwrap();
            keys.push(u64::from_le_bytes(*key));
            match keys.len() < limit {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
        assert_eq!(walk.visited, keys.len() as u64);
        (keys, walk)
    };
    let known = walk(Some(address));
    // Where the head is can be told from a list itself.
    let unknown = walk(None);
    if known.1.is_complete() {
        assert_eq!(known, unknown);
    } else {
        assert!(!unknown.1.is_complete());
    }
    known
}

fn gaps(walk: &Walk) -> Vec<String> {
    walk.gaps.iter().map(ToString::to_string).collect()
}

/// A list in the value of objects with these keys, and the objects.
fn list(world: &mut World, keys: &[u64]) -> Vec<Kva> {
    let items: Vec<Kva> = keys.iter().map(|key| item(world, *key)).collect();
    let head = on(world.value, LIST);
    let nodes: Vec<Kva> = items.iter().map(|item| on(*item, ITEM_LIST)).collect();
    let ring: Vec<Kva> = std::iter::once(head).chain(nodes).collect();
    for (index, at) in ring.iter().enumerate() {
        let next = ring[(index + 1) % ring.len()];
        world.maps.set(*at, "list_head.next", next);
        world.maps.set(next, "list_head.prev", *at);
    }
    items
}

fn item(world: &mut World, key: u64) -> Kva {
    let mut bytes = vec![0; ITEM_SIZE as usize];
    bytes[..8].copy_from_slice(&key.to_le_bytes());
    world.maps.machine.allocate(&bytes)
}

#[test]
fn lists_come_in_their_order() {
    for keys in [&[][..], &[7], &[3, 1, 2], &[9; 40]] {
        let mut world = World::new();
        list(&mut world, keys);
        let (found, walk) = nodes(world, LIST, usize::MAX);
        assert_eq!(found, keys);
        assert!(walk.is_complete(), "{walk:?}");
    }
    // One that nothing was ever put into.
    let (found, walk) = nodes(World::new(), LIST, usize::MAX);
    assert!(found.is_empty() && walk.is_complete());
}

#[test]
fn the_visitor_ends_the_walk() {
    let mut world = World::new();
    list(&mut world, &[3, 1, 2]);
    let (found, walk) = nodes(world, LIST, 2);
    assert_eq!(found, [3, 1]);
    assert!(walk.stopped && walk.gaps.is_empty());
}

/// Corrupts a list of three and walks it.
fn corrupt_list(corrupt: impl FnOnce(&mut World, &[Kva])) -> (Vec<u64>, Vec<String>) {
    let mut world = World::new();
    let items = list(&mut world, &[1, 2, 3]);
    corrupt(&mut world, &items);
    let (found, walk) = nodes(world, LIST, usize::MAX);
    (found, gaps(&walk))
}

#[test]
fn corrupt_lists_end_in_a_gap() {
    let next = |world: &mut World, item: Kva, to: u64| {
        world.maps.set(on(item, ITEM_LIST), "list_head.next", to);
    };
    let (found, gaps) = corrupt_list(|world, items| next(world, items[1], WILD));
    assert_eq!(found, [1, 2]);
    assert_eq!(gaps, [format!("{WILD:#x}: page not present at level 4")]);

    // A cycle that does not come back to the head.
    let (found, gaps) =
        corrupt_list(|world, items| next(world, items[2], on(items[1], ITEM_LIST).get()));
    assert_eq!(found, [1, 2, 3]);
    assert!(gaps[0].contains("list_head.prev: expected 0x"), "{gaps:?}");

    let (found, gaps) =
        corrupt_list(|world, items| next(world, items[0], on(items[0], ITEM_LIST).get()));
    assert_eq!(found, [1]);
    assert!(gaps[0].contains("list_head.prev: expected 0x"), "{gaps:?}");

    // One that comes back too early.
    let (found, gaps) = corrupt_list(|world, items| {
        let head = on(world.value, LIST).get();
        next(world, items[0], head);
    });
    assert_eq!(found, [1]);
    assert!(gaps[0].contains("list_head.prev: expected 0x"), "{gaps:?}");

    // An object before the start of memory.
    let (found, gaps) = corrupt_list(|world, _| world.point(LIST, "list_head.next", Kva::at(4)));
    assert!(found.is_empty());
    assert_eq!(gaps, ["0x4: page not present at level 4"]);
}

#[test]
fn objects_larger_than_memory_are_not_handed_out() {
    let mut world = World::on(Maps::new(), 0x4000_0000);
    list(&mut world, &[1, 2]);
    let (found, walk) = nodes(world, LIST, usize::MAX);
    assert!(found.is_empty());
    let gaps = gaps(&walk);
    let expected = "size of all objects of lists and trees 0x40000000 is more than memory holds";
    assert!(gaps[0].ends_with(expected), "{gaps:?}");
}

/// An object in a tree, with its parent and children.
fn node(world: &mut World, at: Kva, parent: u64, left: u64, right: u64) {
    let at = on(at, ITEM_TREE);
    // Half of all nodes are black.
    world.maps.set(at, "rb_node.__rb_parent_color", parent | 1);
    world.maps.set(at, "rb_node.rb_left", left);
    world.maps.set(at, "rb_node.rb_right", right);
}

/// A tree with the keys 0 to 6, and its objects by key.
fn tree(world: &mut World) -> Vec<Kva> {
    let items: Vec<Kva> = (0..7).map(|key| item(world, key)).collect();
    let link = |key: usize| on(items[key], ITEM_TREE).get();
    for (key, parent, children) in [
        (3, 0, Some((1, 5))),
        (1, link(3), Some((0, 2))),
        (5, link(3), Some((4, 6))),
        (0, link(1), None),
        (2, link(1), None),
        (4, link(5), None),
        (6, link(5), None),
    ] {
        let (left, right) = children.map_or((0, 0), |(left, right)| (link(left), link(right)));
        node(world, items[key], parent, left, right);
    }
    let (root, _) = place_of("rb_root_cached.rb_root.rb_node");
    world.put(TREE + root, link(3));
    items
}

#[test]
fn trees_come_in_ascending_order() {
    let mut world = World::new();
    tree(&mut world);
    let (found, walk) = nodes(world, TREE, usize::MAX);
    assert_eq!(found, [0, 1, 2, 3, 4, 5, 6]);
    assert!(walk.is_complete(), "{walk:?}");
    let mut world = World::new();
    tree(&mut world);
    assert_eq!(nodes(world, TREE, 3).0, [0, 1, 2]);
    let (found, walk) = nodes(World::new(), TREE, usize::MAX);
    assert!(found.is_empty() && walk.is_complete());
}

/// Sets a member of the node of one object of the tree, and walks it.
fn corrupt_tree(key: usize, member: &str, to: Result<usize, u64>) -> (Vec<u64>, Vec<String>) {
    let mut world = World::new();
    let items = tree(&mut world);
    let to = to.map_or_else(|word| word, |key| on(items[key], ITEM_TREE).get());
    world.maps.set(on(items[key], ITEM_TREE), member, to);
    let (found, walk) = nodes(world, TREE, usize::MAX);
    (found, gaps(&walk))
}

#[test]
fn corrupt_trees_lose_what_is_below() {
    let right = "rb_node.rb_right";
    let parent = "rb_node.__rb_parent_color: expected 0x";
    let absent = "page not present at level 4";
    for (key, member, to, expected, gap) in [
        (1, right, Err(WILD), &[0, 1, 3, 4, 5, 6][..], absent),
        (3, "rb_node.rb_left", Err(WILD), &[3, 4, 5, 6], absent),
        // Back to the root, to itself, and to a node of another parent.
        (6, right, Ok(3), &[0, 1, 2, 3, 4, 5, 6], parent),
        (6, right, Ok(6), &[0, 1, 2, 3, 4, 5, 6], parent),
        (2, right, Ok(5), &[0, 1, 2, 3, 4, 5, 6], parent),
        (1, "rb_node.__rb_parent_color", Ok(5), &[3, 4, 5, 6], parent),
        (
            1,
            right,
            Ok(0),
            &[3, 4, 5, 6],
            "a tree of objects is a cycle",
        ),
        (3, "rb_node.__rb_parent_color", Ok(6), &[], parent),
    ] {
        let (found, gaps) = corrupt_tree(key, member, to);
        assert_eq!(found, expected, "{key} {member} {to:?}");
        assert_eq!(gaps.len(), 1, "{key} {member}: {gaps:?}");
        assert!(gaps[0].contains(gap), "{key} {member}: {gaps:?}");
    }
}

#[test]
fn a_tree_is_not_deeper_than_any_tree_can_be() {
    let mut world = World::new();
    let items: Vec<Kva> = (0..200).map(|key| item(&mut world, key)).collect();
    let link = |item: Option<&Kva>| item.map_or(0, |item| on(*item, ITEM_TREE).get());
    for (index, at) in items.iter().enumerate() {
        let parent = index.checked_sub(1).map(|index| &items[index]);
        let (parent, left) = (link(parent), link(items.get(index + 1)));
        node(&mut world, *at, parent, left, 0);
    }
    let (root, _) = place_of("rb_root_cached.rb_root.rb_node");
    world.put(TREE + root, link(items.first()));
    let (found, walk) = nodes(world, TREE, usize::MAX);
    assert!(found.is_empty());
    assert!(gaps(&walk)[0].contains("depth of a tree 0x80"), "{walk:?}");
}

#[test]
fn nodes_know_whether_they_are_linked() {
    for (owner, linked) in [(0, false), (0x1000, true)] {
        let mut world = World::new();
        let items = list(&mut world, &[1]);
        let at = on(items[0], ITEM_LIST);
        world.maps.set(at, "bpf_list_node_kern.owner", owner);
        let (guest, map) = world.open();
        let reader = Reader::of(&guest, &map).unwrap().unwrap();
        let field = reader.fields().at(LIST).unwrap();
        let walk = reader.nodes(field, &value_of(&guest, &map), None, &mut |object| {
            let fields = reader.fields_of(object.ty);
            let node = fields.at(ITEM_LIST).unwrap();
            let found = reader.read(node, object.bytes.present, Some(object.address));
            assert_eq!(found, Special::Node { linked });
            ControlFlow::Continue(())
        });
        assert_eq!(walk.visited, 1);
    }
}
