//! What is settled of a site's releases, so that a turn looks only at what may be different: whatever was recorded since,
//! what is made from that, what waits or failed, and what somebody asks for.
//!
//! Everything is looked at again at the start, when rules, the charter's groups, what the site owns or what is to be
//! thought of it are others, and on each day, since groups are dated by days.

use std::collections::BTreeSet;
use std::sync::Arc;

use waag_schema::ArtifactName;
use waag_schema::policy::GroupTerms;
use waag_schema::wire::federation::MirrorRule;

use super::{Mirrored, Source};
use crate::federation::sites::{Federation, SitesError};
use crate::index::Changed;
use crate::ledger::{Followed, Standing};

const DAY_SECONDS: u64 = 86_400;

/// What a verdict on any release may change with.
#[derive(PartialEq)]
struct Terms {
    rules: Vec<MirrorRule>,
    groups: Arc<[GroupTerms]>,
    owns: Vec<String>,
    standing: Standing,
    day: u64,
}

/// What was found when it was last looked.
pub(in crate::federation) struct Settled {
    terms: Terms,
    /// What has to be looked at again though nothing changes.
    open: BTreeSet<ArtifactName>,
}

impl Federation {
    /// Does what is asked for of each release that may stand otherwise than it was left.
    pub(in crate::federation) async fn mirror_changed(
        &self,
        from: &Source<'_>,
        followed: &Followed,
        rules: &[MirrorRule],
        settled: &mut Option<Settled>,
    ) -> Result<Mirrored, SitesError> {
        let terms = Terms {
            rules: rules.to_vec(),
            groups: self.here.adopted.groups(),
            owns: followed.owns.clone(),
            standing: followed.standing.clone(),
            day: self.clock.now().unix() / DAY_SECONDS,
        };
        // Whoever is stopped before the end leaves nothing settled.
        let among = match (settled.take(), followed.changes.take()) {
            (Some(known), Changed::These(changed)) if known.terms == terms => {
                let mut among = known.open;
                among.extend(self.demand.asked_for());
                let made = followed.index.ask(move |q| {
                    let mut made = changed.clone();
                    for artifact in &changed {
                        made.extend(q.made_from(artifact)?);
                    }
                    Ok(made)
                });
                among.extend(made.await?);
                Some(among)
            }
            _ => None,
        };
        let (done, open) = self.mirror_from(from, followed, rules, among.as_ref()).await?;
        *settled = Some(Settled { terms, open });
        Ok(done)
    }
}
