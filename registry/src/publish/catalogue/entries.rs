//! Single entries of ledgers, proven, for whoever may read the stream that they stand in.

use waag_schema::SiteId;
use waag_schema::ledger::Stream;
use waag_schema::wire::artifact::Proof;

use super::Catalogue;
use crate::access::Caller;
use crate::ledger::AppendError;
use crate::publish::PublishError;

impl Catalogue {
    /// Returns an entry of the ledger with its opening, proven.
    ///
    /// # Errors
    /// When there is none, it was erased, or it belongs to a namespace that the caller may not know of.
    pub async fn entry(&self, caller: &Caller, entry: u64) -> Result<Proof, PublishError> {
        let missing = || PublishError::NotFound(format!("entry {entry} of the ledger"));
        let (subject, place) = self
            .reader
            .ask(move |q| Ok((q.namespace_of(entry)?, q.place_of(entry)?)))
            .await?;
        let (subject, (stream, _)) = subject.zip(place).ok_or_else(missing)?;
        if let Some(namespace) = subject {
            self.readable(caller, &namespace).await.map_err(|_| missing())?;
        }
        self.may_open(caller, &stream)
            .await?
            .then_some(())
            .ok_or_else(missing)?;
        Ok(self.ledger.prove(&[entry]).await?)
    }

    /// May the caller read what stands in this stream, of the own ledger or of a copy?
    async fn may_open(&self, caller: &Caller, stream: &str) -> Result<bool, PublishError> {
        let stream: Stream = stream.parse().map_err(AppendError::from)?;
        if stream == Stream::open() || caller.is_admin() {
            return Ok(true);
        }
        match stream.namespace() {
            Some(namespace) => Ok(self.readable(caller, &namespace).await.is_ok()),
            None => Ok(false),
        }
    }

    /// Returns an entry of another site's ledger, proven from the copy of it.
    ///
    /// # Errors
    /// When there is none, it was erased, or the caller may not know of it.
    pub async fn entry_of(&self, caller: &Caller, site: &SiteId, entry: u64) -> Result<Proof, PublishError> {
        let missing = || PublishError::NotFound(format!("entry {entry} of the ledger of {site}"));
        let followed = self.ledgers.of(site).ok_or_else(missing)?;
        let known = followed.index.ask(move |q| q.place_of(entry)).await?;
        let (stream, _) = known.ok_or_else(missing)?;
        self.may_open(caller, &stream)
            .await?
            .then_some(())
            .ok_or_else(missing)?;
        Ok(followed.prove(&[entry]).await?)
    }
}
