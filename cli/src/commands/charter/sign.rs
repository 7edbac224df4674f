//! `waag charter sign`

use waag_client::charter::CharterFile;
use waag_schema::base::key::{KeyPair, PublicKey};
use waag_schema::federation::Proposal;

use super::previous;
use super::show::Shown;
use crate::args::CharterSign;
use crate::commands::secrets;
use crate::config::Config;
use crate::failure::Failure;
use crate::ui::Ui;

pub(super) fn run(args: &CharterSign, config: &Config, ui: Ui) -> Result<(), Failure> {
    let file = CharterFile::read(&args.file)?;
    let terms = file.terms();
    terms
        .check()
        .map_err(|rule| Failure::usage(format!("{} cannot be signed: {rule}", args.file.display())))?;
    let before = previous(terms, args.previous.as_deref(), config)?;
    let keys = secrets::signers(&args.signing, config, ui)?;
    let counts = |key: &PublicKey| {
        terms.root.keys.contains(key)
            || before
                .as_ref()
                .is_some_and(|before| before.terms().root.keys.contains(key))
    };
    if let Some(stranger) = keys.iter().map(KeyPair::public).find(|key| !counts(key)) {
        let failure = Failure::usage(format!(
            "{} is no root key of this charter",
            stranger.fingerprint()
        ));
        return Err(match (&before, terms.version) {
            (None, 2..) => {
                failure.hint("a root key of the charter before it? name that with --previous FILE")
            }
            _ => failure.hint("--key names a root key; `waag charter show FILE` lists them"),
        });
    }
    let keys: Vec<&KeyPair> = keys.iter().collect();
    let signed = Proposal::sign(terms, &keys).map_err(waag_client::ClientError::from)?;
    let signed = match &file {
        CharterFile::Draft(_) => signed,
        CharterFile::Signed(known) => known.merge(&signed).map_err(|_| {
            Failure::failed(format!(
                "{} was written by another program, whose bytes this one would not write: it cannot add to them",
                args.file.display()
            ))
        })?,
    };
    let shown = Shown::of_signed(&signed, before.as_ref())?;
    CharterFile::Signed(Box::new(signed)).write(&args.file)?;
    ui.report(&shown)
}
