//! Which key a site signs its own statements with: said once by the ledger's key, which every reader has pinned.
//!
//! ```text
//! waag/<site id>/keys
//! site <key as OpenSSH writes it>
//!
//! — waag/<site id>/1 <signature by the ledger's key>
//! ```
//! It is a signed note whose first line no checkpoint can have, so neither is ever mistaken for the other.

use super::checkpoint::Origin;
use super::error::LedgerError;
use super::note::Note;
use crate::base::key::{KeyPair, PublicKey};
use crate::base::name::SiteId;

/// Writes the note that says which key the site of this ledger key signs with.
///
/// # Errors
/// Never in fact: a site's id and a key are always text that a note can hold.
pub fn sign(log_key: &KeyPair, site_key: &PublicKey) -> Result<String, LedgerError> {
    let site = log_key.public().site_id();
    let mut note = Note::new(&text(&site, site_key))?;
    let signature = note.sign(&Origin::of(&site, 1).to_string(), log_key)?;
    note.add(signature)?;
    Ok(note.to_string())
}

/// Reads the note under a pinned ledger key.
///
/// # Errors
/// When it is of another form, or that key has not signed it.
pub fn read(note: &[u8], log_key: &PublicKey) -> Result<PublicKey, LedgerError> {
    let malformed = || LedgerError::malformed("note of a site's key", "it does not say which key that is");
    let site = log_key.site_id();
    let note = Note::parse(note)?;
    note.verify(&[Origin::of(&site, 1).verifier(*log_key)])?;
    let said = note
        .text()
        .lines()
        .nth(1)
        .and_then(|line| line.strip_prefix("site "));
    let key: PublicKey = said.ok_or_else(malformed)?.parse().map_err(|_| malformed())?;
    // One spelling, and nothing beside it.
    if note.text() == text(&site, &key) {
        Ok(key)
    } else {
        Err(malformed())
    }
}

fn text(site: &SiteId, key: &PublicKey) -> String {
    format!("waag/{site}/keys\nsite {key}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_key_is_believed_under_the_pinned_ledger_key_only() {
        let (log, site, other) = (
            KeyPair::from_seed(&[1; 32]),
            KeyPair::from_seed(&[2; 32]),
            KeyPair::from_seed(&[3; 32]),
        );
        let note = sign(&log, &site.public()).unwrap();
        assert_eq!(read(note.as_bytes(), &log.public()).unwrap(), site.public());
        assert!(read(note.as_bytes(), &other.public()).is_err());
        let exchanged = note.replace(&site.public().to_string(), &other.public().to_string());
        assert!(read(exchanged.as_bytes(), &log.public()).is_err());
        let longer = note.replacen("\n\n", "\nsite\n\n", 1);
        assert!(read(longer.as_bytes(), &log.public()).is_err());
    }

    #[test]
    fn a_note_of_a_site_key_is_no_checkpoint() {
        let note = sign(
            &KeyPair::from_seed(&[1; 32]),
            &KeyPair::from_seed(&[2; 32]).public(),
        )
        .unwrap();
        assert!(super::super::SignedCheckpoint::parse(note.as_bytes()).is_err());
    }
}
