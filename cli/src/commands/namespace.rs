//! `waag namespace create | show`; what rotates keys has a file of its own

use serde::Serialize;
use waag_client::namespace::{self, Created, NewNamespace};
use waag_schema::base::key::{KeyPair, PublicKey};
use waag_schema::statement::Visibility;
use waag_schema::wire::site::NamespaceView;

use super::{gate, open_site, rotate, secrets, share};
use crate::args::{NamespaceCommand, NamespaceCreate};
use crate::config::Config;
use crate::failure::Failure;
use crate::ui::{Page, Report, Ui};

pub(crate) async fn run(command: NamespaceCommand, config: &Config, ui: Ui) -> Result<(), Failure> {
    let site = open_site(config, ui)?;
    match command {
        NamespaceCommand::Create(args) => {
            let keys = secrets::signers(&args.signing, config, ui)?;
            if args.threshold as usize > keys.len() {
                let message = format!("{} of {} keys cannot sign", args.threshold, keys.len());
                return Err(Failure::usage(message).hint("--key for each owner; or begin with the keys that are here, and then `waag namespace rotate --add-owner KEY --threshold N --out FILE`"));
            }
            let recovery = args.recovery.iter().map(|text| rotate::public_key(text, config));
            let new = new(&args, &keys, recovery.collect::<Result<_, _>>()?);
            let (threshold, visibility) = (new.threshold, new.visibility);
            let created = namespace::create(&site, new, &keys).await?;
            ui.report(&Begun {
                created,
                threshold,
                visibility,
            })
        }
        NamespaceCommand::Rotate(args) => rotate::rotate(args, &site, config, ui).await,
        NamespaceCommand::Gate(args) => gate::run(args, &site, config, ui).await,
        NamespaceCommand::Share(args) => share::run(args, &site, config, ui).await,
        NamespaceCommand::Submit(args) => rotate::submit(args, &site, config, ui).await,
        NamespaceCommand::Show(args) => ui.report(&One(site.namespace(&args.name).await?)),
    }
}

fn new(args: &NamespaceCreate, keys: &[KeyPair], recovery: Vec<PublicKey>) -> NewNamespace {
    NewNamespace {
        name: args.name.clone(),
        visibility: if args.private {
            Visibility::Private
        } else {
            Visibility::Public
        },
        owners: keys.iter().map(KeyPair::public).collect(),
        threshold: args.threshold,
        recovery,
    }
}

const fn readers(visibility: Visibility) -> &'static str {
    match visibility {
        Visibility::Public => "everybody, as far as labels allow",
        Visibility::Private => "tokens that carry the namespace",
    }
}

fn owners(page: &mut Page, owners: &[String], threshold: u32) {
    for (i, owner) in owners.iter().enumerate() {
        page.fact(if i == 0 { "owners" } else { "" }, owner);
    }
    page.fact("must sign", format_args!("{threshold} of {}", owners.len()));
}

#[derive(Serialize)]
struct Begun {
    #[serde(flatten)]
    created: Created,
    threshold: u32,
    visibility: Visibility,
}

impl Report for Begun {
    fn page(&self, page: &mut Page) {
        page.fact("namespace", &self.created.name);
        page.fact("id", self.created.id);
        owners(page, &self.created.owners, self.threshold);
        page.fact("readers", readers(self.visibility));
        page.fact("entry", self.created.entry);
    }

    fn essential(&self) -> String {
        self.created.id.to_string()
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct One(NamespaceView);

impl Report for One {
    fn page(&self, page: &mut Page) {
        let Self(view) = self;
        page.fact("namespace", &view.name);
        page.fact("id", view.id);
        page.fact("home", &view.home);
        let fingerprints: Vec<String> = view.owners.iter().map(PublicKey::fingerprint).collect();
        owners(page, &fingerprints, view.threshold);
        for (i, key) in view.recovery.iter().enumerate() {
            page.fact(if i == 0 { "recovery" } else { "" }, key.fingerprint());
        }
        page.fact("readers", readers(view.visibility));
        for (i, site) in view.sites.iter().enumerate() {
            page.fact(
                if i == 0 { "shared with" } else { "" },
                format_args!("the site {site}"),
            );
        }
        for gate in &view.gates {
            for one in &gate.requirements {
                page.fact(
                    "gate",
                    format_args!("before `{}`: {one}, entry {}", gate.tag, gate.entry),
                );
            }
        }
    }

    fn essential(&self) -> String {
        self.0.id.to_string()
    }
}
