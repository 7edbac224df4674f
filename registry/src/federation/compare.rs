//! What a site lacks of another one's releases: the sets of both ledgers beside each other.
//!
//! Both ledgers are folded here, so nobody is asked. What is private is in the sets as far as this site may read it; who
//! may not read that is not told of sets at all.

use waag_schema::statement::Keeping;
use waag_schema::wire::federation::{ComparisonView, DifferingView, SetView};
use waag_schema::{Namespace, SiteId};

use super::sites::{Federation, SitesError};
use crate::index::{Difference, IndexError, Questions, Reader, SetDigest};
use crate::ledger::owns;

/// A ledger that is folded here.
struct Folded {
    site: SiteId,
    index: Reader,
    /// The namespaces that the charter says are its own; none where it is this site's.
    owns: Option<Vec<String>>,
}

impl Federation {
    /// Compares the releases of a site with those of which another one says that it holds them; without a name, this
    /// site.
    ///
    /// # Errors
    /// When the charter names no such site, both are one, or an index fails.
    pub async fn compare(&self, home: &str, holder: Option<&str>) -> Result<ComparisonView, SitesError> {
        let home = self.folded(home)?;
        let holder = self.folded(holder.unwrap_or(self.here.site.as_str()))?;
        if home.site == holder.site {
            return Err(SitesError::Itself(home.site));
        }
        let (ids, index) = ((home.site.clone(), holder.site.clone()), holder.index.clone());
        let owned = home.owns.clone();
        let found = home.index.ask(move |there| {
            index.answer(|here| {
                let without = foreign(there, owned.as_deref())?;
                let difference = there.differs_from(here, (&ids.0, &ids.1), &without)?;
                let sizes = (there.size()?, here.size()?);
                let differing = named(there, here, &ids.1, &difference)?;
                Ok((difference, sizes, differing))
            })
        });
        let (difference, sizes, differing) = found.await?;
        let view = |set: SetDigest, entries| SetView {
            releases: set.number,
            digest: set.digest,
            entries,
        };
        Ok(ComparisonView {
            home: home.site,
            holder: holder.site,
            released: view(difference.released, sizes.0),
            held: view(difference.held, sizes.1),
            complete: difference.missing == 0,
            missing: difference.missing,
            surplus: difference.surplus,
            differing,
        })
    }

    /// Finds a ledger that is folded here, this site's too.
    fn folded(&self, text: &str) -> Result<Folded, SitesError> {
        let charter = self.here.adopted.charter();
        let own = charter.as_ref().and_then(|charter| charter.site(&self.here.site));
        if text == self.here.site.as_str() || own.is_some_and(|terms| terms.name.to_string() == text) {
            return Ok(Folded {
                site: self.here.site.clone(),
                index: self.reader.clone(),
                owns: None,
            });
        }
        let site = self.find(text)?;
        let followed = self.ledgers.of(&site);
        let followed = followed.ok_or_else(|| SitesError::NoPeer(site.to_string()))?;
        Ok(Folded {
            site,
            index: followed.index.clone(),
            owns: Some(followed.owns.clone()),
        })
    }
}

/// Returns the namespaces of a ledger that the charter does not say are its site's own.
fn foreign(q: &Questions<'_>, owned: Option<&[String]>) -> Result<Vec<Namespace>, IndexError> {
    let Some(owned) = owned else { return Ok(Vec::new()) };
    let mut all = q.namespaces()?;
    all.retain(|name| !owns(owned, name));
    Ok(all)
}

/// Names what differs, with what the holder last said of it or the home's word against it.
fn named(
    home: &Questions<'_>,
    holder: &Questions<'_>,
    site: &SiteId,
    difference: &Difference,
) -> Result<Vec<DifferingView>, IndexError> {
    let mut views = Vec::new();
    for (artifact, manifest) in &difference.missing_named {
        let said = holder.custody_of(artifact, manifest)?;
        let said = said.filter(|row| row.site == *site && row.state != Keeping::Holds);
        views.push(DifferingView {
            artifact: artifact.clone(),
            manifest: *manifest,
            held: false,
            reason: said.map(|row| match row.reason {
                Some(reason) => format!("{}: {reason}", row.state.as_str()),
                None => row.state.as_str().to_owned(),
            }),
        });
    }
    for (artifact, manifest) in &difference.surplus_named {
        let known = home.release(artifact, manifest)?;
        let withdrawn = known.and_then(|view| view.withdrawn);
        views.push(DifferingView {
            artifact: artifact.clone(),
            manifest: *manifest,
            held: true,
            reason: withdrawn.map(|reason| format!("withdrawn: {reason}")),
        });
    }
    Ok(views)
}
