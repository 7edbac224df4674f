//! Who is asked for a release: its home, and every site whose own ledger says that it holds it.
//!
//! Asked is nobody who may not know of the release or may not hold it, as far as that is known here; whoever is asked
//! decides by its own verdict whether it serves.

use std::sync::Arc;

use waag_schema::policy::{Action, decide};
use waag_schema::statement::Keeping;

use super::{Source, Wanted};
use crate::federation::fetch::{Holder, Holders};
use crate::federation::sites::{Federation, Member, SitesError};
use crate::ledger::{Followed, Standing};

impl Federation {
    /// Returns who can be asked for a release, its home first.
    pub(super) async fn holders_of(
        &self,
        from: &Source<'_>,
        followed: &Followed,
        release: &Wanted,
    ) -> Result<Holders, SitesError> {
        let mut holders = vec![Holder {
            name: from.member.site.name.clone(),
            peer: Arc::clone(&from.peer),
            last: from.member.is_in_trouble(),
        }];
        let name = release.artifact.namespace();
        let namespace = match from.only {
            // What was carried here comes from what was carried.
            Some(_) => None,
            None => followed.index.ask(move |q| q.namespace(&name)).await?,
        };
        for member in self.members() {
            let id = &member.site.id;
            // A namespace that is being read anew is for nobody meanwhile.
            if *id == followed.site || !namespace.as_ref().is_some_and(|state| state.is_for(id)) {
                continue;
            }
            if self.is_served_by(&member, followed, release).await? {
                holders.push(Holder {
                    name: member.site.name.clone(),
                    peer: Arc::clone(&member.peer),
                    last: member.is_in_trouble(),
                });
            }
        }
        Ok(Holders::new(holders, self.metrics.mirror_lies.clone()))
    }

    /// Does another site say that it holds a release, and may it hold it and give it to this one?
    async fn is_served_by(
        &self,
        member: &Member,
        home: &Followed,
        release: &Wanted,
    ) -> Result<bool, SitesError> {
        let Some(copy) = self.ledgers.of(&member.site.id) else {
            return Ok(false);
        };
        if copy.standing != Standing::Sound {
            return Ok(false);
        }
        let facts = self.here.facts(&home.site, self.clock.now());
        let asked = [
            (Action::Hold, member.site.here().place()),
            (Action::Serve, self.here.place()),
        ];
        let allows = |(action, place): &(_, _)| decide(&release.labels, &facts, *action, place).allowed;
        if !asked.iter().all(allows) {
            return Ok(false);
        }
        let (artifact, manifest) = (release.artifact.clone(), release.view.manifest);
        let said = copy
            .index
            .ask(move |q| q.custody_of(&artifact, &manifest))
            .await?;
        Ok(said.is_some_and(|row| row.site == member.site.id && row.state == Keeping::Holds))
    }
}
