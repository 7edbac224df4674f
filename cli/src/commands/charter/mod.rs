//! `waag charter`

mod adopt;
mod draft;
mod show;
mod sign;

use std::path::Path;

use waag_client::charter::{Believed, CharterFile};
use waag_schema::federation::{Charter, Terms};

use crate::args::CharterCommand;
use crate::config::Config;
use crate::failure::Failure;
use crate::ui::Ui;

pub(super) async fn run(command: CharterCommand, config: &Config, ui: Ui) -> Result<(), Failure> {
    match command {
        CharterCommand::Init(args) => draft::init(args, config, ui),
        CharterCommand::AddSite(args) => draft::add_site(*args, config, ui).await,
        CharterCommand::RemoveSite(args) => draft::remove_site(&args, ui),
        CharterCommand::Sign(args) => sign::run(&args, config, ui),
        CharterCommand::Show(args) => show::run(args, config, ui).await,
        CharterCommand::Adopt(args) => adopt::run(args, config, ui).await,
    }
}

/// Reads a charter that enough have signed.
fn complete(path: &Path) -> Result<Charter, Failure> {
    match CharterFile::read(path)? {
        CharterFile::Signed(proposal) => {
            let signed = Charter::try_from(*proposal).map_err(waag_client::ClientError::from);
            Ok(signed.map_err(|e| Failure::from(e).hint(format!("waag charter show {}", path.display())))?)
        }
        CharterFile::Draft(_) => Err(Failure::usage(format!(
            "{} is a draft: nobody has signed it",
            path.display()
        ))
        .hint(format!("waag charter sign {}", path.display()))),
    }
}

/// Returns the charter before this document, as far as it is known: from a file, or what this home believes.
fn previous(terms: &Terms, file: Option<&Path>, config: &Config) -> Result<Option<Charter>, Failure> {
    let found = match (file, terms.version.checked_sub(1)) {
        (Some(path), _) => Some(complete(path)?),
        (None, Some(version)) => Believed::new(config.home.clone()).version(&terms.federation, version)?,
        (None, None) => None,
    };
    Ok(found.filter(|known| Some(known.digest()) == terms.previous))
}
