//! Recipes of a release: how each file is made of chunks, checked against the digests that the publisher
//! signed. Nothing of a file itself is fetched here.

use waag_schema::ChunkDigest;
use waag_schema::content::Recipe;
use waag_schema::statement::Content;

use crate::error::{ClientError, Result};
use crate::proof::Proven;
use crate::site::Site;

/// Files in one request, and their bytes, which bound the answer's.
const FILES_AT_ONCE: usize = 256;
const BYTES_AT_ONCE: u64 = 64 << 30;

/// Fetches the recipes of files of a release, in the order asked.
pub(crate) async fn fetch_recipes(site: &Site, proven: &Proven, wanted: &[&Content]) -> Result<Vec<Recipe>> {
    let mut recipes = Vec::with_capacity(wanted.len());
    let mut rest = wanted;
    while !rest.is_empty() {
        let mut bytes = 0_u64;
        let fits = rest.iter().take(FILES_AT_ONCE).take_while(|content| {
            bytes = bytes.saturating_add(content.size);
            bytes <= BYTES_AT_ONCE
        });
        let batch = &rest[..fits.count().max(1)];
        let files = batch.iter().map(|content| content.sha256).collect();
        let answer = site.recipes(&proven.artifact, files).await?;
        // The site bounds its answer: what it leaves off is asked for again.
        let came = answer.recipes.len();
        if came == 0 || came > batch.len() {
            return Err(ClientError::Answer {
                url: site.url().to_string(),
                reason: format!("{came} recipes came for {} files", batch.len()),
            });
        }
        for (content, bytes) in batch.iter().zip(&answer.recipes) {
            let checked = check(content, &bytes.0);
            recipes.push(checked.map_err(|why| ClientError::verification(names(proven, content), why))?);
        }
        rest = &rest[came..];
    }
    Ok(recipes)
}

fn check(content: &Content, bytes: &[u8]) -> Result<Recipe, String> {
    let found = ChunkDigest::of(bytes);
    if found != content.recipe {
        return Err(format!(
            "its recipe has the digest {found}, {} was signed",
            content.recipe
        ));
    }
    let recipe = Recipe::decode(bytes).map_err(|e| e.to_string())?;
    if recipe.size() != content.size || recipe.planner() != content.planner {
        return Err(format!(
            "its recipe makes {} bytes, {} were signed",
            recipe.size(),
            content.size
        ));
    }
    Ok(recipe)
}

/// The layers that have this content.
fn names(proven: &Proven, content: &Content) -> String {
    let named = proven.manifest.blobs();
    let named = named.filter(|(_, blob)| blob.digest == content.sha256);
    named
        .map(|(path, _)| path.into_owned())
        .collect::<Vec<_>>()
        .join(", ")
}
