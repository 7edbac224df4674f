//! `waag key generate | show | list`

use std::path::PathBuf;

use serde::Serialize;
use waag_client::keys::{self, KeyInfo};

use super::secrets;
use crate::args::{Key, KeyGenerate};
use crate::config::Config;
use crate::failure::Failure;
use crate::ui::{Page, Report, Ui};

pub(crate) fn run(command: Key, config: &Config, ui: Ui) -> Result<(), Failure> {
    match command {
        Key::Generate(args) => generate(&args, config, ui),
        Key::Show(args) => {
            let info = keys::show(&config.home, &config.environment.key(&args.key))?;
            ui.report(&One(KeyView::from(info)))
        }
        Key::List(_) => {
            let keys = keys::list(&config.home)?.into_iter().map(KeyView::from).collect();
            ui.report(&All { keys })
        }
    }
}

fn generate(args: &KeyGenerate, config: &Config, ui: Ui) -> Result<(), Failure> {
    let passphrase = match &args.passphrase_file {
        _ if args.no_passphrase => None,
        Some(path) => Some(secrets::from_file(path)?),
        None if ui.can_ask() => Some(secrets::ask_new_passphrase()?),
        None => {
            return Err(Failure::usage("nobody is there to be asked for a passphrase")
                .hint("--passphrase-file FILE, or --no-passphrase"));
        }
    };
    let info = keys::generate(&config.home, &args.name, passphrase.as_ref())?;
    ui.report(&One(KeyView::from(info)))
}

/// A key's public half.
#[derive(Serialize)]
struct KeyView {
    name: String,
    fingerprint: String,
    public_key: String,
    path: PathBuf,
    encrypted: bool,
}

impl From<KeyInfo> for KeyView {
    fn from(info: KeyInfo) -> Self {
        Self {
            fingerprint: info.fingerprint(),
            public_key: info.public.to_string(),
            name: info.name,
            path: info.path,
            encrypted: info.encrypted,
        }
    }
}

impl KeyView {
    const fn passphrase(&self) -> &'static str {
        if self.encrypted { "yes" } else { "no" }
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct One(KeyView);

impl Report for One {
    fn page(&self, page: &mut Page) {
        page.fact("key", &self.0.name);
        page.fact("fingerprint", &self.0.fingerprint);
        page.fact("public key", &self.0.public_key);
        page.fact("file", self.0.path.display());
        page.fact("passphrase", self.0.passphrase());
    }

    fn essential(&self) -> String {
        self.0.public_key.clone()
    }
}

#[derive(Serialize)]
struct All {
    keys: Vec<KeyView>,
}

impl Report for All {
    fn page(&self, page: &mut Page) {
        if self.keys.is_empty() {
            page.line("no keys yet; `waag key generate` makes one");
            return;
        }
        let rows = self.keys.iter();
        page.table(
            ["name", "fingerprint", "passphrase"],
            rows.map(|key| {
                [
                    key.name.clone(),
                    key.fingerprint.clone(),
                    key.passphrase().to_owned(),
                ]
            }),
        );
    }

    fn essential(&self) -> String {
        let names: Vec<&str> = self.keys.iter().map(|key| key.name.as_str()).collect();
        names.join("\n")
    }
}
