//! Namespaces: how a publisher begins one at a site, and how its keys change.

use serde::Serialize;
use waag_schema::base::key::{KeyPair, PublicKey};
use waag_schema::statement::namespace::{Genesis, KeySet, Rotation};
use waag_schema::statement::{NamespaceState, Predicate, Statement, Subject, Visibility};
use waag_schema::wire::site::NamespaceRequest;
use waag_schema::{Namespace, Sha256};

use crate::ask::Ask;
use crate::draft::Ground;
use crate::error::{ClientError, Result};
use crate::proof::check_namespace;
use crate::sign::sign;
use crate::site::Site;

/// What a namespace shall begin as.
#[derive(Debug, Clone)]
pub struct NewNamespace {
    /// Its name.
    pub name: Namespace,
    /// Who may read by default.
    pub visibility: Visibility,
    /// Its owners' keys.
    pub owners: Vec<PublicKey>,
    /// How many owners must sign.
    pub threshold: u32,
    /// Keys that may replace the owners' when those are lost.
    pub recovery: Vec<PublicKey>,
}

/// A namespace that has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Created {
    /// Its name.
    pub name: Namespace,
    /// The SHA-256 of its genesis statement: who it is, whatever it is called.
    pub id: Sha256,
    /// The fingerprints of its owners' keys.
    pub owners: Vec<String>,
    /// The ledger entry of its genesis.
    pub entry: u64,
}

/// A namespace whose keys have changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rotated {
    /// Its name.
    pub name: Namespace,
    /// Its id, which stays.
    pub id: Sha256,
    /// The fingerprints of its owners' keys now.
    pub owners: Vec<String>,
    /// The ledger entry of the rotation.
    pub entry: u64,
}

/// Changes the keys of a namespace. The old owners (or, in their place, as many recovery keys) and the new
/// ones must sign, each to their threshold.
///
/// # Errors
/// When the keys are not enough, or somebody else changed them meanwhile.
pub async fn rotate(site: &Site, name: &Namespace, to: KeySet, keys: &[KeyPair]) -> Result<Rotated> {
    let state = state(site, name).await?;
    let owners = to.owners.iter().map(PublicKey::fingerprint).collect();
    let statement = Statement {
        subject: Subject::Namespace(name.clone()),
        predicate: Predicate::Rotation(Rotation {
            namespace: state.id,
            link: state.chain.next(),
            keys: to,
        }),
    };
    let envelope = sign(&statement, keys);
    // What nobody would admit is not sent.
    state
        .rotate(&envelope)
        .map_err(|e| ClientError::Usage(format!("the keys of `{name}` cannot change so: {e}")))?;
    let request = NamespaceRequest {
        envelope: envelope.bytes().to_vec().into(),
    };
    let proof = site.rotate_namespace(name, &request).await?;
    let positions = site
        .check_receipt(&proof, std::slice::from_ref(&envelope))
        .await?;
    Ok(Rotated {
        name: name.clone(),
        id: state.id,
        owners,
        entry: positions[0],
    })
}

/// Signs the genesis of a namespace, has it admitted and checks the receipt.
///
/// # Errors
/// When the keys are not enough, the name is taken, or the token is no admin's.
pub async fn create(site: &Site, new: NewNamespace, keys: &[KeyPair]) -> Result<Created> {
    let owners = new.owners.iter().map(PublicKey::fingerprint).collect();
    let statement = Statement {
        subject: Subject::Namespace(new.name.clone()),
        predicate: Predicate::Genesis(Genesis {
            keys: KeySet {
                owners: new.owners,
                threshold: new.threshold,
                recovery: new.recovery,
            },
            home: site.pin().site.clone(),
            visibility: new.visibility,
        }),
    };
    let envelope = sign(&statement, keys);
    // What nobody would admit is not sent.
    let state = NamespaceState::begin(&envelope, &site.pin().site)
        .map_err(|e| ClientError::Usage(format!("the namespace `{}` cannot begin so: {e}", new.name)))?;
    let request = NamespaceRequest {
        envelope: envelope.bytes().to_vec().into(),
    };
    let proof = site.create_namespace(&request).await?;
    let positions = site
        .check_receipt(&proof, std::slice::from_ref(&envelope))
        .await?;
    site.believe_namespace(&state)?;
    Ok(Created {
        name: state.name,
        id: state.id,
        owners,
        entry: positions[0],
    })
}

/// Returns a namespace as the ledger proves it to be: its keys, and where its chain has come to.
///
/// # Errors
/// When there is none that the caller may know of, or the proof does not hold.
pub async fn state(site: &Site, name: &Namespace) -> Result<NamespaceState> {
    Ok(ground(site, name).await?.state)
}

/// Returns a namespace as the ledger proves it to be, with the proof, for a draft.
///
/// # Errors
/// As for [`state`].
pub async fn ground(site: &Site, name: &Namespace) -> Result<Ground> {
    let ask = Ask::get(format!("/api/v1/namespaces/{name}/proof"));
    let proof = site.transport().json(ask).await?;
    let (signed, state) = check_namespace(site.pin(), name, &proof)?;
    site.believe_namespace(&state)?;
    site.observe(&signed).await?;
    Ok(Ground {
        site: site.pin().site.clone(),
        state,
        proof,
    })
}
