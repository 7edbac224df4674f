//! `waag namespace share`: which other sites of the charter may read a private namespace.

use std::collections::BTreeSet;

use waag_client::charter::Believed;
use waag_client::site::Site;
use waag_client::{namespace, rotation};
use waag_schema::SiteId;
use waag_schema::federation::{Charter, SiteHandle};

use super::{secrets, sign};
use crate::args::NamespaceShare;
use crate::config::Config;
use crate::failure::{Exit, Failure};
use crate::ui::Ui;

pub(super) async fn run(args: NamespaceShare, site: &Site, config: &Config, ui: Ui) -> Result<(), Failure> {
    let home = &site.pin().site;
    let charter = Believed::new(config.home.clone()).naming(home)?;
    let named = args
        .sites
        .iter()
        .map(|text| resolve(text, args.stop, charter.as_ref()));
    let named = named.collect::<Result<BTreeSet<SiteId>, Failure>>()?;
    sign::check_place(args.out.out.as_deref())?;
    // Whom it is shared with by now is proven from the ledger: nobody is signed in beside those who are named here.
    let ground = namespace::ground(site, &args.name).await?;
    let mut sites: BTreeSet<SiteId> = ground.state.sites.iter().cloned().collect();
    for one in named {
        if one == *home {
            return Err(Failure::usage(format!("{one} is the home of `{}`", args.name)));
        }
        let changed = if args.stop {
            sites.remove(&one)
        } else {
            sites.insert(one.clone())
        };
        if !changed {
            let how = if args.stop { "not shared" } else { "shared already" };
            return Err(Failure::usage(format!(
                "`{}` is {how} with the site {one}",
                args.name
            )));
        }
    }
    let keys = secrets::signers(&args.signing, config, ui)?;
    let draft = rotation::access(ground, sites, &keys)?;
    match args.out.out {
        Some(file) => sign::keep(file, &draft, ui),
        None => {
            draft.standing()?.require_complete()?;
            sign::submit(site, &draft, ui).await
        }
    }
}

/// Reads which site: one of the charter by its name or its id; nobody else is there to share with. One that the charter
/// names no more can still be taken away by its id.
fn resolve(text: &str, stop: bool, charter: Option<&Charter>) -> Result<SiteId, Failure> {
    let handle: SiteHandle = text.parse().map_err(|_| {
        Failure::usage(format!(
            "`{}` is neither a site's name nor its id",
            text.escape_debug()
        ))
    })?;
    match (charter.and_then(|charter| charter.find(&handle)), handle) {
        (Some(terms), _) => Ok(terms.id.clone()),
        (None, SiteHandle::Id(id)) if stop => Ok(id),
        (None, _) => {
            let message = format!("no charter that is believed here names this site and a site `{text}`");
            Err(Failure::new(Exit::NotFound, message)
                .hint("`waag charter show`, or `waag charter adopt FILE --here`"))
        }
    }
}
