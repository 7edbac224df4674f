//! Signing statements for a namespace, and whether the keys at hand are enough for it.

use waag_schema::Namespace;
use waag_schema::base::key::{KeyPair, PublicKey};
use waag_schema::statement::{Envelope, Statement};

use crate::error::{ClientError, Result};
use crate::site::Site;

/// How often statements are signed: once, and three times again after others wrote in between.
pub(crate) const SIGN_ATTEMPTS_MAX: u32 = 4;

pub(crate) fn sign(statement: &Statement, keys: &[KeyPair]) -> Envelope {
    Envelope::sign(&statement.to_bytes(), &keys.iter().collect::<Vec<_>>())
}

/// Says how many of an owner's signatures the keys at hand must give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Enough {
    /// As many as the namespace asks for.
    Threshold,
    /// At least one: the others sign later.
    One,
}

/// Asks the site whose keys the namespace has. The site decides when the statements come; asking first saves
/// the work of sending content that could not be published.
pub(crate) async fn check_signers(
    site: &Site,
    namespace: &Namespace,
    keys: &[PublicKey],
    enough: Enough,
) -> Result<()> {
    let view = site.namespace(namespace).await?;
    let mut own: Vec<&PublicKey> = Vec::new();
    for key in keys.iter().filter(|key| view.owners.contains(key)) {
        if !own.contains(&key) {
            own.push(key);
        }
    }
    let needed = usize::try_from(view.threshold).unwrap_or(usize::MAX).max(1);
    let asked = match enough {
        Enough::Threshold => needed,
        Enough::One => 1,
    };
    if own.len() >= asked {
        return Ok(());
    }
    Err(ClientError::NotOwner {
        namespace: namespace.clone(),
        found: own.len(),
        needed,
        keys: keys.iter().map(PublicKey::fingerprint).collect(),
    })
}
