//! `waag namespace rotate | submit`

use std::path::Path;

use waag_client::error::ClientError;
use waag_client::keys::{self, KeyChoice, KeyFileError};
use waag_client::namespace;
use waag_client::rotation::{self, Change};
use waag_client::site::Site;
use waag_schema::base::key::PublicKey;

use super::{secrets, sign};
use crate::args::{NamespaceRotate, NamespaceSubmit, Signing};
use crate::config::Config;
use crate::failure::Failure;
use crate::ui::Ui;

/// No public key's file is longer.
const PUBLIC_MAX_BYTES: u64 = 64 << 10;

pub(super) async fn rotate(
    args: NamespaceRotate,
    site: &Site,
    config: &Config,
    ui: Ui,
) -> Result<(), Failure> {
    let key = |text: &String| public_key(text, config);
    let change = Change {
        add: args.add.iter().map(key).collect::<Result<_, _>>()?,
        remove: args
            .remove
            .iter()
            .map(|text| fingerprint(text, config))
            .collect::<Result<_, _>>()?,
        threshold: args.threshold,
        recovery: match args.recovery.is_empty() && !args.no_recovery {
            true => None,
            false => Some(args.recovery.iter().map(key).collect::<Result<_, _>>()?),
        },
    };
    sign::check_place(args.out.out.as_deref())?;
    let signing = Signing {
        key: args.sign_with,
        passphrase_file: args.passphrase_file,
    };
    let ground = namespace::ground(site, &args.name).await?;
    let keys = secrets::signers(&signing, config, ui)?;
    let draft = rotation::begin(ground, &change, &keys).map_err(|error| match error {
        ClientError::Usage(reason) => {
            Failure::usage(reason).hint(format!("`waag namespace show {}` lists its owners", args.name))
        }
        ClientError::NotOwner { .. } => {
            Failure::from(error).hint("--sign-with names an owner's key, a recovery key or a new owner's")
        }
        other => other.into(),
    })?;
    match args.out.out {
        Some(file) => sign::keep(file, &draft, ui),
        None => {
            draft.standing()?.require_complete()?;
            sign::submit(site, &draft, ui).await
        }
    }
}

pub(super) async fn submit(
    args: NamespaceSubmit,
    site: &Site,
    config: &Config,
    ui: Ui,
) -> Result<(), Failure> {
    let draft = sign::read(&args.file, &args.name, config)?;
    sign::submit(site, &draft, ui).await
}

/// Reads a public key as it was typed: as text, by the file of its public half, or as one of one's own.
pub(super) fn public_key(text: &str, config: &Config) -> Result<PublicKey, Failure> {
    if text.starts_with("ssh-") {
        return text.parse().map_err(Failure::usage);
    }
    let choice = config.environment.key(text);
    match (keys::show(&config.home, &choice), &choice) {
        (Ok(info), _) => Ok(info.public),
        (Err(ClientError::Key(KeyFileError::Malformed { .. })), KeyChoice::Path(path)) => public_half(path)
            .ok_or_else(|| Failure::usage(format!("{} holds no ed25519 key of OpenSSH", path.display()))),
        (Err(error), _) => Err(error.into()),
    }
}

/// Reads a file such as `id_ed25519.pub`.
fn public_half(path: &Path) -> Option<PublicKey> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(PUBLIC_MAX_BYTES).read_to_string(&mut text).ok()?;
    text.lines().next()?.parse().ok()
}

fn fingerprint(text: &str, config: &Config) -> Result<String, Failure> {
    if text.starts_with("SHA256:") {
        return Ok(text.to_owned());
    }
    Ok(public_key(text, config)?.fingerprint())
}
