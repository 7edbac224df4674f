//! From a submission to entries of the batch under way: admitted by the rules at exactly the size that the batch
//! will be committed at, and folded, so that the next submission of the same batch sees them.

use waag_schema::Namespace;
use waag_schema::ledger::{
    Class, Entry, EntryId, Header, Opening, RefKind, Salt, SaltedOpening, Stream, entry_place,
};
use waag_schema::statement::{
    Envelope, Erasure, Predicate, RevocationList, Statement, StatementError, Subject, Visibility,
};

use super::AppendError;
use super::prepare::prepare;
use super::sequencer::Sequencer;
use crate::index::{Home, Prepared, Rejection};

/// The entries of a batch so far.
pub(super) struct Batch {
    /// The number of its first entry.
    pub(super) first: u64,
    /// Its entries.
    pub(super) entries: Vec<Entry>,
    /// A release was withdrawn in it, so that the list of them must be said anew.
    pub(super) withdraws: bool,
    /// An entry is erased in it.
    pub(super) erases: bool,
}

impl Batch {
    pub(super) const fn new(first: u64) -> Self {
        Self {
            first,
            entries: Vec::new(),
            withdraws: false,
            erases: false,
        }
    }

    const fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }
}

impl Sequencer {
    /// Admits statements that belong together. Those that were recorded before are answered with where they are.
    pub(super) async fn admit(
        &mut self,
        batch: &mut Batch,
        envelopes: &[Envelope],
    ) -> Result<Vec<u64>, AppendError> {
        let known: Vec<Option<u64>> = {
            let questions = self.parts.index.questions();
            let look = |e: &Envelope| Ok(questions.recorded(&e.digest())?.map(|l| l.position));
            envelopes.iter().map(look).collect::<Result<_, AppendError>>()?
        };
        if let Some(positions) = known.into_iter().collect::<Option<Vec<u64>>>() {
            return Ok(positions);
        }
        let mut positions = Vec::with_capacity(envelopes.len());
        for envelope in envelopes {
            let prepared = prepare(self.parts.store.as_ref(), envelope.clone()).await?;
            // Who submits has made sure that they are here; were one not, a later fold would give other rows.
            if let Some(recipe) = prepared.lacks() {
                return Err(AppendError::Unknown(format!(
                    "the recipe {recipe} cannot be read"
                )));
            }
            if prepared.statement.predicate.is_a_sites() {
                let text = "a site's statement is made by the site itself".to_owned();
                return Err(StatementError::Payload(text).into());
            }
            batch.withdraws |= matches!(prepared.statement.predicate, Predicate::Withdrawal(_));
            positions.push(self.push(batch, &prepared, None)?);
        }
        Ok(positions)
    }

    /// Says that the opening of an entry is to be deleted, and on what ground.
    pub(super) fn admit_erasure(
        &mut self,
        batch: &mut Batch,
        entry: u64,
        ground: &str,
    ) -> Result<Vec<u64>, AppendError> {
        if matches!(entry_place(entry), (2.., 0)) {
            let text = format!("entry {entry} says which ledger this one continues, and stays");
            return Err(StatementError::Payload(text).into());
        }
        let questions = self.parts.index.questions();
        let Some((stream, seq)) = questions.place_of(entry)? else {
            return Err(if entry < batch.next() {
                AppendError::Erased(entry)
            } else {
                AppendError::NoEntry(entry)
            });
        };
        if stream != Stream::open().as_str() && questions.is_erasure(entry)? {
            let text = format!("entry {entry} says what was erased, and stays");
            return Err(StatementError::Payload(text).into());
        }
        if let Some(namespace) = questions.founds(entry)? {
            let text = format!(
                "entry {entry} says whose the namespace `{namespace}` is, on which all its artifacts rest; it stays while there are any"
            );
            return Err(StatementError::Payload(text).into());
        }
        let erasure = Erasure {
            entry,
            stream,
            seq,
            ground: ground.to_owned(),
        };
        let prepared = self.say(Predicate::Erasure(erasure))?;
        batch.erases = true;
        Ok(vec![self.push(
            batch,
            &prepared,
            Some((RefKind::Erases, entry)),
        )?])
    }

    /// Says anew which releases are withdrawn.
    pub(super) fn admit_revocations(&mut self, batch: &mut Batch) -> Result<u64, AppendError> {
        let entries = self.parts.index.questions().withdrawn()?;
        let list = RevocationList {
            at: self.parts.clock.now(),
            size: batch.next(),
            entries,
        };
        let prepared = self.say(Predicate::RevocationList(list))?;
        self.push(batch, &prepared, None)
    }

    /// Says what this site has found out about a release.
    pub(super) fn admit_own(
        &mut self,
        batch: &mut Batch,
        statement: &Statement,
        copies_of: Option<&Namespace>,
    ) -> Result<u64, AppendError> {
        let prepared = self.sign(statement)?;
        self.push_to(batch, &prepared, None, copies_of)
    }

    /// Makes a statement of this site about its own ledger.
    fn say(&self, predicate: Predicate) -> Result<Prepared, AppendError> {
        let subject = Subject::Site(self.parts.origin.site().clone());
        self.sign(&Statement { subject, predicate })
    }

    fn sign(&self, statement: &Statement) -> Result<Prepared, AppendError> {
        let envelope = Envelope::sign(&statement.to_bytes(), &[&self.parts.site_key]);
        Ok(Prepared::parse(envelope)?)
    }

    /// Admits one statement as the next entry and folds it.
    fn push(
        &mut self,
        batch: &mut Batch,
        prepared: &Prepared,
        reference: Option<(RefKind, u64)>,
    ) -> Result<u64, AppendError> {
        self.push_to(batch, prepared, reference, None)
    }

    /// The same; what is said of copies of another site's private namespace is for who may read that.
    fn push_to(
        &mut self,
        batch: &mut Batch,
        prepared: &Prepared,
        reference: Option<(RefKind, u64)>,
        copies_of: Option<&Namespace>,
    ) -> Result<u64, AppendError> {
        let position = batch.next();
        let (log_key, site_key) = (self.parts.key.public(), self.parts.site_key.public());
        self.parts.index.admit(
            prepared,
            &Home {
                site: self.parts.origin.site(),
                log_key: &log_key,
                key: &site_key,
                gaps: false,
            },
        )?;
        let (stream, class) = match copies_of {
            Some(name) => (Stream::of_copies(name), Class::Restricted),
            None => self.audience(prepared)?,
        };
        let header = self.header(prepared, &stream)?;
        let (at, seq) = (header.at, header.seq);
        let opening = Opening::new(header, prepared.envelope.bytes())?;
        let opened = SaltedOpening {
            salt: Salt::from_bytes(self.parts.random.bytes()),
            opening,
        };
        batch
            .entries
            .push(Entry::new(&self.parts.origin, class, reference, opened)?);
        self.parts
            .index
            .fold(position, at, stream.as_str(), seq, prepared)?;
        Ok(position)
    }

    /// Says who may read an entry: everybody, or who may read the private namespace that it is about.
    fn audience(&self, prepared: &Prepared) -> Result<(Stream, Class), AppendError> {
        let Statement { subject, predicate } = &prepared.statement;
        let questions = self.parts.index.questions();
        let visibility = match (predicate, subject.namespace()) {
            // That something was erased is for everybody to see in the leaf; out of which stream is not.
            (Predicate::Erasure(erasure), _) => {
                let stream: Stream = erasure.stream.parse()?;
                let open = stream == Stream::open();
                let class = if open { Class::Admin } else { Class::Restricted };
                return Ok((stream, class));
            }
            (Predicate::Custody(custody), _) => {
                let name = custody.artifact.namespace();
                let state = questions.namespace(&name)?;
                return Ok(match state.map(|state| state.visibility) {
                    Some(Visibility::Private) => (Stream::of_namespace(&name), Class::Restricted),
                    _ => (Stream::open(), Class::Admin),
                });
            }
            (Predicate::Genesis(genesis), Some(name)) => Some((name, genesis.visibility)),
            (_, Some(name)) => match questions.namespace(&name)? {
                Some(state) => Some((name, state.visibility)),
                // Of other sites' namespaces only public ones are measured on.
                None if predicate.is_a_sites() => Some((name, Visibility::Public)),
                None => return Err(Rejection::NoNamespace(name).into()),
            },
            (_, None) => None,
        };
        Ok(match visibility {
            None => (Stream::open(), Class::Admin),
            Some((_, Visibility::Public)) => (Stream::open(), Class::Open),
            Some((name, Visibility::Private)) => (Stream::of_namespace(&name), Class::Restricted),
        })
    }

    fn header(&self, prepared: &Prepared, stream: &Stream) -> Result<Header, AppendError> {
        let questions = self.parts.index.questions();
        let digest = prepared.envelope.digest();
        let mut id = [0; 16];
        id.copy_from_slice(&digest.as_bytes()[..16]);
        Ok(Header {
            id: EntryId::from_bytes(id),
            prev: questions.last_entry_on(&prepared.statement.subject.name())?,
            seq: questions.stream_count(stream.as_str())?,
            stream: stream.clone(),
            at: self.parts.clock.now(),
        })
    }
}
