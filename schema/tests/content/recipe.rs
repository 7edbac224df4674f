use proptest::prelude::*;
use waag_schema::ChunkDigest;
use waag_schema::content::recipe::PIECES_MAX;
use waag_schema::content::{CHUNK_MAX, Piece, PlannerId, Recipe, RecipeBuilder, RecipeError};

use super::noise;

const MAX: u32 = CHUNK_MAX as u32;

fn piece(seed: u8, offset: u32, length: u32) -> Piece {
    Piece {
        chunk: ChunkDigest::of(&[seed]),
        offset,
        length,
    }
}

fn recipe(pieces: &[Piece]) -> Recipe {
    let mut builder = RecipeBuilder::new(PlannerId::Tensors1);
    for piece in pieces {
        builder.push(*piece).unwrap();
    }
    builder.finish()
}

#[test]
fn canonical_bytes_are_laid_out_as_documented() {
    let recipe = recipe(&[piece(1, 2, 3)]);
    let mut expected = b"WRCP\x01\x01\0\0\0\0\0\0\0\x03\0\0\0\x01".to_vec();
    expected.extend_from_slice(ChunkDigest::of(&[1]).as_bytes());
    expected.extend_from_slice(&[0, 0, 0, 2, 0, 0, 0, 3]);
    assert_eq!(recipe.canonical(), expected);
    assert_eq!(recipe.digest(), ChunkDigest::of(&expected));
}

#[test]
fn an_empty_file_has_no_pieces() {
    let recipe = RecipeBuilder::new(PlannerId::FastCdc1).finish();
    assert_eq!(recipe.size(), 0);
    assert_eq!(recipe.pieces_for(0..10).count(), 0);
    assert_eq!(Recipe::decode(&recipe.canonical()), Ok(recipe));
}

#[test]
fn whatever_is_not_the_canonical_form_of_a_consistent_recipe_is_refused() {
    let good = recipe(&[piece(1, 0, 3), piece(2, 5, 4)]).canonical();
    let with = |at: usize, bytes: &[u8]| {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        Recipe::decode(&bad).unwrap_err()
    };
    assert_eq!(Recipe::decode(b""), Err(RecipeError::NotARecipe));
    assert_eq!(Recipe::decode(&good[..17]), Err(RecipeError::NotARecipe));
    assert_eq!(with(0, b"w"), RecipeError::NotARecipe);
    assert_eq!(with(4, &[2]), RecipeError::Version(2));
    assert_eq!(with(5, &[4]), RecipeError::Planner(4));
    assert_eq!(
        with(6, &[0xff; 8]),
        RecipeError::Sum {
            sum: 7,
            size: u64::MAX
        }
    );
    let too_many = (PIECES_MAX as u32 + 1).to_be_bytes();
    assert!(matches!(with(14, &too_many), RecipeError::TooManyPieces { .. }));
    assert!(matches!(with(17, &[1]), RecipeError::Length { pieces: 1, .. }));
    assert!(matches!(
        with(17, &[3]),
        RecipeError::Length {
            expected: 138,
            found: 98,
            ..
        }
    ));
    let trailing = Recipe::decode(&[&good[..], &[0]].concat());
    assert!(matches!(trailing, Err(RecipeError::Length { found: 99, .. })));
    // The second piece: its length 0, its end beyond a chunk, its numbers as large as they go.
    assert!(matches!(
        with(94, &[0; 4]),
        RecipeError::Piece {
            index: 1,
            length: 0,
            ..
        }
    ));
    assert!(matches!(
        with(94, &(MAX - 4).to_be_bytes()),
        RecipeError::Piece { index: 1, .. }
    ));
    assert!(matches!(
        with(90, &[0xff; 8]),
        RecipeError::Piece { index: 1, .. }
    ));
    assert!(matches!(
        with(94, &(MAX - 5).to_be_bytes()),
        RecipeError::Sum { .. }
    ));
}

#[test]
fn a_chunk_larger_than_any_is_not_added() {
    let mut builder = RecipeBuilder::new(PlannerId::FastCdc1);
    assert!(builder.push_chunk(ChunkDigest::of(b""), 0).is_err());
    assert!(builder.push_chunk(ChunkDigest::of(b""), CHUNK_MAX + 1).is_err());
    assert!(builder.push_chunk(ChunkDigest::of(b""), (1 << 32) + 1).is_err());
    builder.push_chunk(ChunkDigest::of(b""), CHUNK_MAX).unwrap();
    assert_eq!(builder.size(), CHUNK_MAX as u64);
}

proptest! {
    #[test]
    fn a_range_takes_what_slicing_the_file_takes(
        cuts in prop::collection::vec((0..50_u32, 1..50_u32), 0..20),
        start in 0..900_u64,
        length in 0..900_u64,
    ) {
        // Each piece comes from a chunk of its own, 100 bytes long.
        let chunk = |index: usize| noise(index as u64, 100);
        let mut builder = RecipeBuilder::new(PlannerId::FastCdc1);
        let mut file = Vec::new();
        for (index, (offset, length)) in cuts.iter().enumerate() {
            builder.push(piece(index as u8, *offset, *length)).unwrap();
            file.extend_from_slice(&chunk(index)[*offset as usize..(offset + length) as usize]);
        }
        let recipe = builder.finish();
        let mut found = Vec::new();
        for part in recipe.pieces_for(start..start + length) {
            prop_assert_eq!(part.chunk, recipe.pieces()[part.index].chunk);
            prop_assert!(!part.within.is_empty());
            found.extend_from_slice(&chunk(part.index)[part.within.start as usize..part.within.end as usize]);
        }
        let clamp = |at: u64| (at as usize).min(file.len());
        prop_assert_eq!(found, &file[clamp(start)..clamp(start + length)]);
        prop_assert_eq!(recipe.pieces_for(start..u64::MAX).map(|part| u64::from(part.within.end - part.within.start)).sum::<u64>(),
            recipe.size().saturating_sub(start));
    }

    #[test]
    fn recipes_survive_their_canonical_form(pieces in prop::collection::vec((any::<u8>(), 0..MAX / 2, 1..=MAX / 2), 0..50)) {
        let pieces: Vec<_> = pieces.into_iter().map(|(seed, offset, length)| piece(seed, offset, length)).collect();
        let recipe = recipe(&pieces);
        prop_assert_eq!(Recipe::decode(&recipe.canonical()).unwrap(), recipe);
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_decode_only_to_themselves(tail in prop::collection::vec(any::<u8>(), 0..200), count in 0..5_u8) {
        let _ = Recipe::decode(&tail);
        let mut bytes = b"WRCP\x01\x02".to_vec();
        bytes.extend_from_slice(&[0; 11]);
        bytes.push(count);
        bytes.extend_from_slice(&tail);
        if let Ok(recipe) = Recipe::decode(&bytes) {
            prop_assert_eq!(recipe.canonical(), bytes);
        }
    }
}
