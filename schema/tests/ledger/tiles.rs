//! Tiles: their names, how they grow, and what is believed of them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use waag_schema::ledger::merkle::{
    consistency_nodes, inclusion_nodes, prove_consistency, prove_inclusion, root, root_nodes,
};
use waag_schema::ledger::tile::tiles_for;
use waag_schema::ledger::{
    Class, Commitment, Edge, HashSource as _, Leaf, LedgerError, Node, RefKind, SIZE_MAX, TileKind, TilePath,
    TileSource, bundle,
};

use super::world::{numbered, numbered_tree};

type Tiles = BTreeMap<TilePath, Vec<u8>>;

/// Grows a ledger by these batches; tiles once written must never change.
fn grown(batches: &[u64]) -> (Edge, Tiles) {
    let (mut edge, mut tiles) = (Edge::default(), Tiles::new());
    for count in batches {
        let start = edge.size();
        let leaves: Vec<_> = (start..start + count).map(numbered).collect();
        let growth = edge.grow(&leaves).expect("a small ledger");
        assert_eq!(growth.size, start + count);
        assert_eq!(growth.root, growth.edge.root());
        for (path, bytes) in growth.tiles {
            assert_eq!(bytes.len(), path.byte_len());
            assert_eq!(tiles.insert(path, bytes), None, "{path} was written twice");
        }
        edge = growth.edge;
    }
    (edge, tiles)
}

fn load(tiles: &Tiles, size: u64, paths: &[TilePath]) -> TileSource {
    let mut source = TileSource::new(size);
    for path in paths {
        source.insert(path, &tiles[path]).expect("a tile of this tree");
    }
    source
}

fn leaf(seed: u8) -> Leaf {
    Leaf {
        class: if seed.is_multiple_of(2) {
            Class::Open
        } else {
            Class::Restricted
        },
        reference: seed
            .is_multiple_of(3)
            .then_some((RefKind::Erases, u64::from(seed))),
        commitment: Commitment::from_bytes([seed; 32]),
    }
}

#[test]
fn paths_have_one_spelling() {
    for (text, kind, index, width) in [
        ("tile/0/000", TileKind::Hashes(0), 0, 256),
        ("tile/1/x001/x234/067.p/1", TileKind::Hashes(1), 1_234_067, 1),
        ("tile/6/000.p/31", TileKind::Hashes(6), 0, 31),
        ("tile/entries/x010/999.p/255", TileKind::Entries, 10_999, 255),
    ] {
        let path: TilePath = text.parse().unwrap();
        assert_eq!(path, TilePath::new(kind, index, width).unwrap());
        assert_eq!(path.to_string(), text);
    }
    for bad in [
        "",
        "tile",
        "tile/0",
        "tile/0/",
        "tile/00/000",
        "tile/+0/000",
        "tile/7/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/x000/001",
        "tile/0/001/000",
        "tile/0/x001",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/0/000.p/1.p/1",
        "tile/0/000/",
        "/tile/0/000",
        "tile/data/000",
        "tile/0/../000",
        "tile/0/x999/x999/x999/x999/x999/999",
        "tile/1/x999/x999/x999/x999/999",
    ] {
        assert!(bad.parse::<TilePath>().is_err(), "{bad}");
    }
}

#[test]
fn a_tree_of_70_000_has_the_tiles_that_the_specification_counts() {
    let (edge, tiles) = grown(&[70_000]);
    let count = |kind, full| {
        tiles
            .keys()
            .filter(|p| p.kind() == kind && p.is_full() == full)
            .count()
    };
    let widths: Vec<_> = tiles
        .keys()
        .filter(|p| !p.is_full())
        .map(TilePath::width)
        .collect();
    assert_eq!(count(TileKind::Hashes(0), true), 273);
    assert_eq!(count(TileKind::Hashes(1), true), 1);
    assert_eq!(widths, [112, 17, 1]);
    assert_eq!(tiles.len(), 273 + 1 + 3);
    assert_eq!(edge.root(), root(&numbered_tree(70_000), 70_000).unwrap());
    assert_eq!(edge.frontier().root(), edge.root());

    // Any proof needs only a few of them.
    let nodes = inclusion_nodes(33_333, 70_000).unwrap();
    let paths = tiles_for(&nodes, 70_000);
    assert!(paths.len() <= 5, "{paths:?}");
    let source = load(&tiles, 70_000, &paths);
    assert_eq!(
        prove_inclusion(&source, 33_333, 70_000).unwrap(),
        prove_inclusion(&numbered_tree(70_000), 33_333, 70_000).unwrap()
    );
}

#[test]
fn a_tree_of_256_has_one_full_tile_and_one_above_it() {
    let (_, tiles) = grown(&[256]);
    let paths: Vec<_> = tiles.keys().map(ToString::to_string).collect();
    assert_eq!(paths, ["tile/0/000", "tile/1/000.p/1"]);
}

#[test]
fn growing_by_nothing_changes_nothing() {
    let (edge, _) = grown(&[300]);
    let growth = edge.grow(&[]).unwrap();
    assert!(growth.tiles.is_empty());
    assert_eq!(growth.edge, edge);
    assert!(Edge::default().grow(&[]).unwrap().tiles.is_empty());
}

#[test]
fn a_tile_that_was_exchanged_is_found_out() {
    let (edge, tiles) = grown(&[600]);
    let paths: Vec<_> = tiles.keys().copied().collect();
    load(&tiles, 600, &paths).authenticate(&edge.root()).unwrap();
    for path in &paths {
        for bit in [0, path.byte_len() * 8 - 1] {
            let mut tiles = tiles.clone();
            tiles.get_mut(path).unwrap()[bit / 8] ^= 1 << (bit % 8);
            let error = load(&tiles, 600, &paths).authenticate(&edge.root()).unwrap_err();
            assert!(
                matches!(error, LedgerError::ProofRefused { .. }),
                "{path}: {error}"
            );
        }
    }
    // A full tile cannot be judged without the one above it.
    let alone = load(
        &tiles,
        600,
        &[TilePath::new(TileKind::Hashes(0), 0, 256).unwrap()],
    );
    assert!(matches!(
        alone.authenticate(&edge.root()),
        Err(LedgerError::Missing(_))
    ));
}

#[test]
fn a_tile_of_another_length_or_another_tree_is_refused() {
    let (_, tiles) = grown(&[300]);
    let path: TilePath = "tile/0/001.p/44".parse().unwrap();
    let bytes = &tiles[&path];
    assert!(TileSource::new(300).insert(&path, &bytes[1..]).is_err());
    assert!(TileSource::new(301).insert(&path, bytes).is_err());
    assert!(TileSource::new(256).insert(&path, bytes).is_err());
    let entries: TilePath = "tile/entries/001.p/44".parse().unwrap();
    assert!(TileSource::new(300).insert(&entries, bytes).is_err());
}

#[test]
fn a_fuller_tile_serves_a_smaller_tree_and_no_more() {
    let (_, tiles) = grown(&[512]);
    let full: TilePath = "tile/0/001".parse().unwrap();
    let mut source = TileSource::new(300);
    source.insert(&full, &tiles[&full]).unwrap();
    assert_eq!(source.hash_at(0, 299).unwrap(), numbered(299));
    assert!(source.hash_at(0, 300).is_err());
    assert!(source.hash_at(5, 9).is_err());
    assert!(source.hash_at(5, 8).is_ok());
}

#[test]
fn no_node_makes_a_tile_source_panic() {
    let source = TileSource::new(u64::MAX);
    for level in 0..=u8::MAX {
        for index in [0, 1, 255, 256, SIZE_MAX, u64::MAX] {
            assert!(source.hash_at(level, index).is_err());
            let _ = tiles_for(&[Node { level, index }], u64::MAX);
            let _ = TilePath::in_tree(TileKind::Hashes(level), index, u64::MAX);
            let _ = TilePath::new(TileKind::Hashes(level), index, 256);
        }
    }
    assert!(Edge::from_source(&source, u64::MAX).is_err());
    assert!(Edge::from_source(&source, SIZE_MAX).is_err());
    assert_eq!(Edge::paths(SIZE_MAX).len(), 7);
    assert_eq!(Edge::paths(u64::MAX).len(), 7);
}

#[test]
fn a_bundle_of_another_length_is_refused() {
    let leaves: Vec<_> = (0..=255).map(leaf).collect();
    let bytes = bundle::encode(&leaves);
    assert_eq!(bytes.len(), 11_520);
    let full: TilePath = "tile/entries/000".parse().unwrap();
    assert_eq!(bundle::decode(&full, &bytes).unwrap(), leaves);
    let partial: TilePath = "tile/entries/000.p/255".parse().unwrap();
    assert!(bundle::decode(&partial, &bytes).is_err());
    assert!(bundle::decode(&full, &bytes[..bytes.len() - 1]).is_err());
    assert!(bundle::decode(&"tile/0/000".parse().unwrap(), &bytes).is_err());
    let mut longer = bytes;
    longer[1] = 44;
    assert!(bundle::decode(&full, &longer).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_tree_grown_in_any_batches_is_the_same(
        batches in prop::collection::vec(prop_oneof![0_u64..20, 200..320_u64, 0_u64..900], 1..12),
    ) {
        let size: u64 = batches.iter().sum();
        let (edge, tiles) = grown(&batches);
        let (at_once, expected) = grown(&[size]);
        prop_assert_eq!(&edge, &at_once);
        for (path, bytes) in &expected {
            prop_assert_eq!(tiles.get(path), Some(bytes), "{}", path);
        }

        // What is stored gives the edge back, and every proof.
        let paths = Edge::paths(size);
        let source = load(&tiles, size, &paths);
        source.authenticate(&edge.root()).unwrap();
        prop_assert_eq!(Edge::from_source(&source, size).unwrap(), edge);
        let whole = numbered_tree(size);
        for at in [0, size / 3, size / 2, size.saturating_sub(1)].into_iter().filter(|at| *at < size) {
            let nodes = [inclusion_nodes(at, size).unwrap(), consistency_nodes(at, size).unwrap(), root_nodes(size)]
                .concat();
            let source = load(&tiles, size, &tiles_for(&nodes, size));
            prop_assert!(source.missing(&nodes).is_empty());
            prop_assert_eq!(
                prove_inclusion(&source, at, size).unwrap(),
                prove_inclusion(&whole, at, size).unwrap()
            );
            prop_assert_eq!(
                prove_consistency(&source, at, size).unwrap(),
                prove_consistency(&whole, at, size).unwrap()
            );
        }
    }

    #[test]
    fn bundles_grown_in_any_batches_are_the_same(
        batches in prop::collection::vec(0_usize..400, 1..6),
    ) {
        let total: usize = batches.iter().sum();
        let leaves: Vec<_> = (0..total).map(|i| leaf(u8::try_from(i % 256).unwrap())).collect();
        let mut written = BTreeMap::new();
        let mut size = 0;
        for count in batches {
            let partial = &leaves[size - size % 256..size];
            for (path, bytes) in bundle::grow(size as u64, partial, &leaves[size..size + count]).unwrap() {
                prop_assert_eq!(written.insert(path, bytes), None);
            }
            size += count;
        }
        for (path, bytes) in bundle::grow(0, &[], &leaves).unwrap() {
            prop_assert_eq!(&written[&path], &bytes);
            let start = usize::try_from(path.index()).unwrap() * 256;
            let decoded = bundle::decode(&path, &bytes).unwrap();
            prop_assert_eq!(&decoded[..], &leaves[start..start + usize::from(path.width())]);
        }
    }

    #[test]
    fn every_path_survives_the_round_trip(level in 0_u8..=6, index: u64, width in 1_u16..=256) {
        let kind = if level == 6 { TileKind::Entries } else { TileKind::Hashes(level) };
        if let Ok(path) = TilePath::new(kind, index >> (11 + 8 * level), width) {
            prop_assert_eq!(path.to_string().parse::<TilePath>().unwrap(), path);
        }
    }
}
