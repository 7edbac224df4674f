//! Roots and proofs: known answers, another implementation, and proofs with one bit changed.

use data_encoding::HEXLOWER;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use tlog_tiles::tlog;
use waag_schema::ledger::merkle::{
    Tree, consistency_nodes, inclusion_nodes, prove_consistency, prove_inclusion, root, root_nodes,
    verify_consistency, verify_inclusion,
};
use waag_schema::ledger::{Frontier, Hash, HashSource, LedgerError, MemoryTree, MissingHash, Node, Root};

use super::world::{numbered, numbered_tree};

/// The other implementation's tree, over the same leaves.
struct Oracle(Vec<tlog::Hash>);

impl tlog::HashReader for Oracle {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog::Hash>, tlog::Error> {
        Ok(indexes.iter().map(|index| self.0[*index as usize]).collect())
    }
}

impl Oracle {
    fn numbered(size: u64) -> Self {
        let mut oracle = Self(Vec::new());
        for index in 0..size {
            let hashes = tlog::stored_hashes(index, &index.to_be_bytes(), &oracle).expect("a whole tree");
            oracle.0.extend(hashes);
        }
        oracle
    }

    fn root(&self, size: u64) -> Root {
        Root::from_bytes(tlog::tree_hash(size, self).expect("a whole tree").0)
    }

    fn inclusion(&self, index: u64, size: u64) -> Vec<Hash> {
        ours(tlog::prove_record(size, index, self).expect("a whole tree"))
    }

    fn consistency(&self, old: u64, new: u64) -> Vec<Hash> {
        ours(tlog::prove_tree(new, old, self).expect("a whole tree"))
    }
}

fn ours(hashes: Vec<tlog::Hash>) -> Vec<Hash> {
    hashes.into_iter().map(|hash| Hash::from_bytes(hash.0)).collect()
}

/// A source that says which nodes it was asked for.
struct Asked<'t>(&'t MemoryTree, std::cell::RefCell<Vec<Node>>);

impl HashSource for Asked<'_> {
    fn hash_at(&self, level: u8, index: u64) -> Result<Hash, MissingHash> {
        self.1.borrow_mut().push(Node { level, index });
        self.0.hash_at(level, index)
    }
}

fn tree(source: &MemoryTree, size: u64) -> Tree {
    let root = root(source, size).expect("a whole tree");
    Tree { size, root }
}

fn flipped(hash: &[u8; 32], bit: usize) -> [u8; 32] {
    let mut bytes = *hash;
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

#[test]
fn the_roots_of_the_tree_that_certificate_transparency_tests_with() {
    let leaves = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ];
    let roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut frontier = Frontier::default();
    let mut tree = MemoryTree::default();
    assert_eq!(
        HEXLOWER.encode(frontier.root().as_bytes()),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    for (leaf, expected) in leaves.iter().zip(roots) {
        let leaf = Hash::leaf(&HEXLOWER.decode(leaf.as_bytes()).unwrap());
        frontier.append(leaf);
        tree.push(leaf);
        assert_eq!(HEXLOWER.encode(frontier.root().as_bytes()), expected);
        assert_eq!(root(&tree, tree.size()).unwrap(), frontier.root());
    }
}

#[test]
fn every_root_and_proof_up_to_300_leaves_is_that_of_another_implementation() {
    let (source, oracle) = (numbered_tree(300), Oracle::numbered(300));
    let mut frontier = Frontier::default();
    for size in 0..=300 {
        let new = tree(&source, size);
        assert_eq!(new.root, oracle.root(size));
        assert_eq!(new.root, frontier.root());
        assert_eq!(Frontier::from_source(&source, size).unwrap(), frontier);
        frontier.append(numbered(size));

        // Every pair for the first sizes, then every seventh and both ends.
        for at in (0..=size).filter(|at| size <= 70 || at % 7 == size % 7 || *at < 2 || size - at < 2) {
            if at < size {
                let proof = prove_inclusion(&source, at, size).unwrap();
                assert_eq!(proof, oracle.inclusion(at, size), "{at} of {size}");
                verify_inclusion(&numbered(at), at, size, &proof, &new.root).unwrap();
            }
            let proof = prove_consistency(&source, at, size).unwrap();
            if at > 0 {
                assert_eq!(proof, oracle.consistency(at, size), "{at} to {size}");
            }
            verify_consistency(&tree(&source, at), &new, &proof).unwrap();
        }
    }
}

#[test]
fn the_planned_nodes_are_exactly_those_that_a_proof_reads() {
    let source = numbered_tree(131);
    for size in 1..=131 {
        for at in 0..size {
            let asked = Asked(&source, Default::default());
            prove_inclusion(&asked, at, size).unwrap();
            assert_eq!(asked.1.into_inner(), inclusion_nodes(at, size).unwrap());

            let asked = Asked(&source, Default::default());
            prove_consistency(&asked, at, size).unwrap();
            assert_eq!(asked.1.into_inner(), consistency_nodes(at, size).unwrap());
        }
        let asked = Asked(&source, Default::default());
        root(&asked, size).unwrap();
        assert_eq!(asked.1.into_inner(), root_nodes(size));
    }
}

#[test]
fn one_changed_bit_of_a_proof_is_refused() {
    let source = numbered_tree(37);
    for size in [1, 2, 3, 4, 7, 8, 31, 37] {
        let new = tree(&source, size);
        for at in 0..size {
            let proof = prove_inclusion(&source, at, size).unwrap();
            let check = |leaf: &Hash, index, proof: &[Hash], root: &Root| {
                verify_inclusion(leaf, index, size, proof, root).is_ok()
            };
            assert!(check(&numbered(at), at, &proof, &new.root));
            for bit in 0..256 {
                let leaf = Hash::from_bytes(flipped(numbered(at).as_bytes(), bit));
                assert!(!check(&leaf, at, &proof, &new.root));
                let root = Root::from_bytes(flipped(new.root.as_bytes(), bit));
                assert!(!check(&numbered(at), at, &proof, &root));
                for step in 0..proof.len() {
                    let mut proof = proof.clone();
                    proof[step] = Hash::from_bytes(flipped(proof[step].as_bytes(), bit));
                    assert!(!check(&numbered(at), at, &proof, &new.root));
                }
            }
            for bit in 0..64 {
                assert!(!check(&numbered(at), at ^ (1 << bit), &proof, &new.root));
            }
            let longer = [proof.as_slice(), &[numbered(0)]].concat();
            assert!(!check(&numbered(at), at, &longer, &new.root));
            if let Some((_, shorter)) = proof.split_last() {
                assert!(!check(&numbered(at), at, shorter, &new.root));
            }
        }
        for at in 1..=size {
            let old = tree(&source, at);
            let proof = prove_consistency(&source, at, size).unwrap();
            for bit in 0..256 {
                for step in 0..proof.len() {
                    let mut proof = proof.clone();
                    proof[step] = Hash::from_bytes(flipped(proof[step].as_bytes(), bit));
                    assert!(verify_consistency(&old, &new, &proof).is_err());
                }
                for (changed_old, changed_new) in [(true, false), (false, true)] {
                    let change = |tree: Tree, yes: bool| {
                        let root = Root::from_bytes(flipped(tree.root.as_bytes(), bit));
                        if yes { Tree { root, ..tree } } else { tree }
                    };
                    let (old, new) = (change(old, changed_old), change(new, changed_new));
                    assert!(verify_consistency(&old, &new, &proof).is_err());
                }
            }
        }
    }
}

#[test]
fn what_no_tree_has_is_an_error() {
    let source = numbered_tree(5);
    let out_of_range = |error| matches!(error, LedgerError::OutOfRange { .. });
    assert!(out_of_range(prove_inclusion(&source, 5, 5).unwrap_err()));
    assert!(out_of_range(prove_consistency(&source, 6, 5).unwrap_err()));
    assert_eq!(
        prove_inclusion(&source, 0, 6).unwrap_err(),
        LedgerError::Missing(MissingHash(Node { level: 1, index: 2 }))
    );
    assert!(matches!(
        Frontier::from_source(&source, u64::MAX).unwrap_err(),
        LedgerError::Missing(_)
    ));
    let hashes = vec![numbered(0); 64];
    assert!(matches!(
        Frontier::from_hashes(u64::MAX, hashes.clone()).unwrap_err(),
        LedgerError::TooLarge { .. }
    ));
    assert!(Frontier::from_hashes(7, hashes[..2].to_vec()).is_err());
}

#[test]
fn an_older_tree_without_leaves_needs_no_proof_and_takes_none() {
    let source = numbered_tree(4);
    let (none, four) = (tree(&source, 0), tree(&source, 4));
    verify_consistency(&none, &four, &[]).unwrap();
    verify_consistency(&four, &four, &[]).unwrap();
    assert!(verify_consistency(&none, &four, &[numbered(0)]).is_err());
    assert!(verify_consistency(&four, &four, &[numbered(0)]).is_err());
    assert!(verify_consistency(&four, &none, &[]).is_err());
    let wrong = Tree { size: 0, ..four };
    assert!(verify_consistency(&wrong, &four, &[]).is_err());
    assert!(verify_consistency(&wrong, &wrong, &[]).is_err());
    assert!(verify_consistency(&none, &wrong, &[]).is_err());
}

#[test]
fn proofs_in_larger_trees_are_those_of_another_implementation() {
    const SIZE: u64 = 40_000;
    let (source, oracle) = (numbered_tree(SIZE), Oracle::numbered(SIZE));
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..300 {
        let (a, b) = (0..=SIZE, 0..=SIZE).new_tree(&mut runner).unwrap().current();
        let (old, new) = (a.min(b), a.max(b));
        assert_eq!(tree(&source, new).root, oracle.root(new));
        let proof = prove_consistency(&source, old, new).unwrap();
        verify_consistency(&tree(&source, old), &tree(&source, new), &proof).unwrap();
        if old > 0 {
            assert_eq!(proof, oracle.consistency(old, new));
        }
        if old < new {
            let proof = prove_inclusion(&source, old, new).unwrap();
            assert_eq!(proof, oracle.inclusion(old, new));
            verify_inclusion(&numbered(old), old, new, &proof, &tree(&source, new).root).unwrap();
        }
    }
}

proptest! {
    #[test]
    fn no_size_and_no_proof_makes_checking_panic(
        index: u64,
        size: u64,
        lengths in (0_usize..70, 0_u32..64),
        bytes: [u8; 32],
    ) {
        let proof = vec![Hash::from_bytes(bytes); lengths.0];
        let root = Root::from_bytes(bytes);
        for size in [size, size >> lengths.1, u64::MAX, 1 << lengths.1] {
            for index in [index, index % size.max(1), size.wrapping_sub(1)] {
                prop_assert!(verify_inclusion(&Hash::from_bytes(bytes), index, size, &proof, &root).is_err()
                    || proof.is_empty());
                let (old, new) = (Tree { size: index, root }, Tree { size, root });
                let _ = verify_consistency(&old, &new, &proof);
                let _ = verify_consistency(&new, &old, &proof);
                let empty = MemoryTree::default();
                let _ = prove_inclusion(&empty, index, size);
                let _ = prove_consistency(&empty, index, size);
                if let Ok(nodes) = inclusion_nodes(index, size) {
                    prop_assert!(nodes.len() <= 64 * 64);
                }
            }
        }
    }
}
