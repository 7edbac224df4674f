//! Mirrors: what a site copies from other sites, how that stands, and which sites hold a release.
//!
//! What a site says here is its own word; custody that shall be believed stands in ledgers.

use waag_schema::wire::federation::{
    ComparisonView, DropAnswer, DropRequest, HolderView, MirrorRule, MirrorStatus, RunAnswer, RunRequest,
};
use waag_schema::{ArtifactName, Reference};

use crate::ask::Ask;
use crate::error::Result;
use crate::site::Site;

/// How long the site may take to fetch what it lacks, in bytes that a request is patient for.
const RUN_WORK_BYTES: u64 = 64 << 30;
/// The same for asking others and deleting a copy.
const DROP_WORK_BYTES: u64 = 8 << 30;
/// A refusal or nothing.
const ANSWER_MAX: usize = 1 << 20;

/// Says how following and mirroring stand.
///
/// # Errors
/// When the token is no admin's.
pub async fn status(site: &Site) -> Result<MirrorStatus> {
    site.transport()
        .json(Ask::get("/api/v1/federation/mirrors"))
        .await
}

/// Adds a rule.
///
/// # Errors
/// When the token is no admin's, the charter names no such site, or the rule is no good.
pub async fn add(site: &Site, rule: &MirrorRule) -> Result<()> {
    let ask = Ask::post("/api/v1/federation/mirrors", rule);
    site.transport().bytes(ask, ANSWER_MAX).await.map(drop)
}

/// Takes away a rule that was added.
///
/// # Errors
/// When the token is no admin's, or there is no such rule among those that were added.
pub async fn remove(site: &Site, rule: &MirrorRule) -> Result<()> {
    let ask = Ask::post("/api/v1/federation/mirrors/remove", rule);
    site.transport().bytes(ask, ANSWER_MAX).await.map(drop)
}

/// Has the site look at others and mirror from them now.
///
/// # Errors
/// When the token is no admin's, or the charter names no such site.
pub async fn run(site: &Site, other: Option<String>) -> Result<RunAnswer> {
    let ask = Ask::post("/api/v1/federation/run", &RunRequest { site: other });
    site.transport()
        .json(ask.work(RUN_WORK_BYTES).called("releases to be fetched"))
        .await
}

/// Has the site give up its copy of a release, once as many other sites have proved that they have it.
///
/// # Errors
/// When the token is no admin's, there is no copy, or too few prove it.
pub async fn give_up(site: &Site, reference: &Reference, copies: u32) -> Result<DropAnswer> {
    let request = DropRequest {
        artifact: reference.artifact.clone(),
        version: reference.version.clone(),
        copies,
    };
    let ask = Ask::post("/api/v1/federation/drop", &request);
    site.transport()
        .json(
            ask.work(DROP_WORK_BYTES)
                .called("other sites to prove what they have"),
        )
        .await
}

/// Has the site believe another one again, after what was found against that.
///
/// # Errors
/// When the token is no admin's, or the charter names no such site.
pub async fn trust(site: &Site, other: &str) -> Result<()> {
    check_name(other)?;
    let ask = Ask::post(
        format!("/api/v1/federation/sites/{other}/trust"),
        &RunRequest::default(),
    );
    site.transport().bytes(ask, ANSWER_MAX).await.map(drop)
}

/// Compares the releases of a site with those that another one holds, or the site that is asked.
///
/// # Errors
/// When the token is no admin's, or the charter names no such site.
pub async fn compare(site: &Site, home: &str, holder: Option<&str>) -> Result<ComparisonView> {
    check_name(home)?;
    let mut path = format!("/api/v1/federation/sites/{home}/held");
    if let Some(holder) = holder {
        check_name(holder)?;
        path.push_str("?by=");
        path.push_str(holder);
    }
    site.transport().json(Ask::get(path)).await
}

/// Checks that a text can be a site's id or name.
fn check_name(text: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) {
        let text = format!("`{}` is no site's id or name", text.escape_debug());
        return Err(crate::ClientError::Usage(text));
    }
    Ok(())
}

/// Says which sites hold an artifact's releases, have refused them or have erased them.
///
/// # Errors
/// When there is no such artifact that the caller may know of.
pub async fn holders(site: &Site, artifact: &ArtifactName) -> Result<Vec<HolderView>> {
    let path = format!("/api/v1/artifacts/{artifact}/holders");
    site.transport().json(Ask::get(path)).await
}
