//! Which statements a push has recorded, and how they are signed: each linked to the one before.

use waag_schema::base::key::KeyPair;
use waag_schema::statement::dsse::ENVELOPE_SIZE_MAX;
use waag_schema::statement::predicate::{Release, Residency};
use waag_schema::statement::{Chain, Envelope, Predicate, Statement, Subject, TagMove};
use waag_schema::wire::artifact::ArtifactView;

use super::PushRequest;
use super::prepared::Prepared;
use crate::draft::relink;
use crate::error::{ClientError, Result};
use crate::sign::sign;

/// An envelope's bytes beside its payload: 32 signatures of some 160 bytes, and the frame.
const ENVELOPE_FRAME_BYTES: usize = 6 << 10;

/// Which statements are not recorded yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Needs {
    pub(super) release: bool,
    pub(super) label: bool,
    pub(super) tag: bool,
}

/// Makes sure that one statement can name all files, before any of them is sent.
pub(super) fn check_statement_fits(
    request: &PushRequest,
    prepared: &Prepared,
    view: &ArtifactView,
) -> Result<()> {
    let release = Release {
        namespace: view.namespace,
        link: view.chain.next(),
        kind: request.kind,
        config: prepared.config.clone(),
        content: prepared.content.clone(),
    };
    let subject = Subject::Manifest(request.artifact.clone(), prepared.digest);
    let statement = Statement {
        subject,
        predicate: Predicate::Release(release),
    };
    // In base64, with the signatures of as many owners as there may be.
    let bytes = statement.to_bytes().len().div_ceil(3) * 4 + ENVELOPE_FRAME_BYTES;
    if bytes <= ENVELOPE_SIZE_MAX {
        return Ok(());
    }
    Err(ClientError::Usage(format!(
        "{} distinct layers are more than one release can name (about {}); put the small files into an archive",
        prepared.content.len(),
        ENVELOPE_SIZE_MAX / (bytes / prepared.content.len().max(1)).max(1),
    )))
}

/// Decides which statements are to be made.
pub(super) fn needs(request: &PushRequest, prepared: &Prepared, view: &ArtifactView) -> Result<Needs> {
    let tagged = view
        .tags
        .iter()
        .find(|t| t.tag == request.tag)
        .map(|t| t.manifest);
    let tag = tagged != Some(prepared.digest);
    if let Some(names) = tagged.filter(|_| tag && !request.tag.moves() && !request.move_tag) {
        return Err(ClientError::TagNeedsMove {
            artifact: request.artifact.clone(),
            tag: request.tag.clone(),
            names,
        });
    }
    Ok(Needs {
        release: view.releases.iter().all(|r| r.manifest != prepared.digest),
        label: request.label.is_some() && request.label != view.label,
        tag,
    })
}

/// Makes the statements that are needed, in the order of their chain. Only the first one's link is right: each
/// further one names an envelope that is not signed yet.
pub(super) fn statements(
    request: &PushRequest,
    prepared: &Prepared,
    view: &ArtifactView,
    needs: Needs,
) -> Vec<Statement> {
    let namespace = view.namespace;
    let link = view.chain.next();
    let manifest = Subject::Manifest(request.artifact.clone(), prepared.digest);
    let mut statements = Vec::new();
    if needs.release {
        statements.push(Statement {
            subject: manifest.clone(),
            predicate: Predicate::Release(Release {
                namespace,
                link,
                kind: request.kind,
                config: prepared.config.clone(),
                content: prepared.content.clone(),
            }),
        });
    }
    if let Some(label) = request.label.as_ref().filter(|_| needs.label) {
        statements.push(Statement {
            subject: Subject::Artifact(request.artifact.clone()),
            predicate: Predicate::Residency(Residency {
                namespace,
                link,
                label: label.clone(),
            }),
        });
    }
    if needs.tag {
        let now = view.tags.iter().find(|t| t.tag == request.tag);
        statements.push(Statement {
            subject: manifest,
            predicate: Predicate::Tag(TagMove {
                namespace,
                link,
                tag: request.tag.clone(),
                from: now.map(|t| t.manifest),
            }),
        });
    }
    statements
}

/// Signs statements, each linked to the one before.
pub(super) fn sign_all(statements: Vec<Statement>, view: &ArtifactView, keys: &[KeyPair]) -> Vec<Envelope> {
    let mut chain: Chain = view.chain;
    let mut envelopes = Vec::with_capacity(statements.len());
    for mut statement in statements {
        relink(&mut statement.predicate, chain.next());
        let envelope = sign(&statement, keys);
        chain = chain.then(envelope.digest());
        envelopes.push(envelope);
    }
    envelopes
}
