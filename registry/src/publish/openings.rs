//! Openings that not everybody may read: which streams another site gets, and how far.
//!
//! A private namespace's stream is for the sites that its owners have named, from its beginning; a site that is not
//! named any more gets it up to the entry that says so. What this site does with copies of another site's private
//! namespace is for that site, and for those that the namespace is shared with. To all others, a stream that they may
//! not read and one that does not exist are the same.

use bytes::Bytes;
use waag_schema::ledger::number::SERIES_ENTRIES_MAX;
use waag_schema::ledger::pack::PACK_SLOTS;
use waag_schema::ledger::{Pack, PackPath, Stream, entry_number};
use waag_schema::wire::ledger::StreamView;

use super::PublishError;
use super::catalogue::Catalogue;
use crate::access::Caller;
use crate::index::{IndexError, Questions};
use crate::ledger::AppendError;

impl Catalogue {
    /// Returns the streams that this caller may read beside the one for everybody, series by series.
    ///
    /// # Errors
    /// When an index fails.
    pub async fn streams(&self, caller: &Caller) -> Result<Vec<StreamView>, PublishError> {
        let mut views = Vec::new();
        for (stream, ended) in self.readable_streams(caller).await? {
            for series in 1..=self.ledger.origin().series() {
                views.extend(self.stream(series, stream.clone(), ended).await?);
            }
        }
        views.sort_by(|a, b| (a.series, &a.stream).cmp(&(b.series, &b.stream)));
        Ok(views)
    }

    /// Returns a pack of openings as far as the caller may read it, if it is one of a stream that they may read.
    ///
    /// # Errors
    /// When the index or the store fails, or the pack is damaged.
    pub async fn pack(
        &self,
        caller: &Caller,
        series: u32,
        path: &PackPath,
    ) -> Result<Option<Bytes>, PublishError> {
        if path.stream == Stream::open() {
            return Ok(self.ledger.pack(series, path).await?);
        }
        let readable = self.readable_streams(caller).await?;
        let Some((stream, ended)) = readable.into_iter().find(|(stream, _)| *stream == path.stream) else {
            return Ok(None);
        };
        let Some(view) = self.stream(series, stream, ended).await? else {
            return Ok(None);
        };
        let first = path.number.saturating_mul(PACK_SLOTS as u64);
        if first >= view.count {
            return Ok(None);
        }
        let Some(bytes) = self.ledger.pack_of_any(series, path).await? else {
            return Ok(None);
        };
        let mut pack = Pack::decode(&bytes).map_err(AppendError::from)?;
        pack.truncate(usize::try_from(view.count - first).unwrap_or(usize::MAX));
        Ok(Some(pack.encode().into()))
    }

    /// Returns the streams that the site who asks may read, each with the entry that ended it, if one did.
    async fn readable_streams(&self, caller: &Caller) -> Result<Vec<(Stream, Option<u64>)>, PublishError> {
        let Some(asking) = caller.site().map(|here| here.site.clone()) else {
            return Ok(Vec::new());
        };
        let own = asking.clone();
        let (shared, copies) = self
            .reader
            .ask(move |q| Ok((q.read_by(&own)?, q.copies_streams()?)))
            .await?;
        let mut readable: Vec<_> = shared
            .into_iter()
            .map(|(name, ended)| (Stream::of_namespace(&name), ended))
            .collect();
        for stream in copies {
            let Some(name) = stream.namespace() else { continue };
            for followed in self.ledgers.all() {
                let wanted = name.clone();
                if followed.owns(&name)
                    && let Some(state) = followed.index.ask(move |q| q.namespace(&wanted)).await?
                    && state.is_for(&asking)
                {
                    readable.push((stream.clone(), None));
                }
            }
        }
        Ok(readable)
    }

    /// Returns how far a stream has come in a series, up to the entry that ended it for who asks.
    async fn stream(
        &self,
        series: u32,
        stream: Stream,
        ended: Option<u64>,
    ) -> Result<Option<StreamView>, PublishError> {
        let Ok(first) = entry_number(series, 0) else {
            return Ok(None);
        };
        let last = (first + SERIES_ENTRIES_MAX - 1).min(ended.unwrap_or(u64::MAX));
        let wanted = stream.clone();
        let found =
            move |q: &Questions<'_>| -> Result<_, IndexError> { q.last_of_stream(&wanted, first..=last) };
        let found = self.reader.ask(found).await?;
        Ok(found.map(|(_, seq)| StreamView {
            series,
            stream,
            count: seq + 1,
        }))
    }
}
