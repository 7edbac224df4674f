//! `waag namespace gate`: what a release must have scored before a tag may name it.

use waag_client::namespace;
use waag_client::rotation;
use waag_client::site::Site;
use waag_schema::statement::gate::Requirement;

use super::{secrets, sign};
use crate::args::NamespaceGate;
use crate::config::Config;
use crate::failure::Failure;
use crate::ui::Ui;

pub(super) async fn run(args: NamespaceGate, site: &Site, config: &Config, ui: Ui) -> Result<(), Failure> {
    let known = site.namespace(&args.name).await?.gates;
    let mut requirements: Vec<Requirement> = known
        .into_iter()
        .filter(|gate| gate.tag == args.tag)
        .flat_map(|gate| gate.requirements)
        .collect();
    match args.metric {
        _ if args.remove => {
            if requirements.is_empty() {
                return Err(Failure::usage(format!(
                    "there is no gate before the tag `{}` of `{}`",
                    args.tag, args.name
                )));
            }
            requirements.clear();
        }
        Some(metric) => {
            if args.at_least.is_none() && args.at_most.is_none() {
                return Err(
                    Failure::usage("nothing is required of the number").hint("--at-least or --at-most")
                );
            }
            let new = Requirement {
                suite: args.suite,
                task: args.task,
                metric,
                at_least: args.at_least,
                at_most: args.at_most,
            };
            // What was required of the same number is replaced.
            let same = |one: &Requirement| {
                (&one.suite, &one.task, &one.metric) == (&new.suite, &new.task, &new.metric)
            };
            requirements.retain(|one| !same(one));
            requirements.push(new);
        }
        None => return Err(Failure::usage("no number is named").hint("--metric, or --remove")),
    }
    sign::check_place(args.out.out.as_deref())?;
    let ground = namespace::ground(site, &args.name).await?;
    let keys = secrets::signers(&args.signing, config, ui)?;
    let draft = rotation::gate(ground, args.tag, requirements, &keys)?;
    match args.out.out {
        Some(file) => sign::keep(file, &draft, ui),
        None => {
            draft.standing()?.require_complete()?;
            sign::submit(site, &draft, ui).await
        }
    }
}
