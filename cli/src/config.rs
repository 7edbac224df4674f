//! What holds for this run: flags before the environment before what the home directory remembers, decided in
//! one function. The environment is read here and nowhere else.

use std::env;
use std::path::{Path, PathBuf};

use waag_client::error::ClientError;
use waag_client::home::Home;
use waag_client::keys::KeyChoice;
use waag_client::url::SiteUrl;

use crate::args::Global;
use crate::failure::Failure;

/// What the environment says, taken once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    waag_home: Option<PathBuf>,
    config_home: Option<PathBuf>,
    user_home: Option<PathBuf>,
    no_colour: bool,
    /// The variables that are set and name a proxy.
    proxies: Vec<String>,
}

impl Environment {
    /// Reads it. An empty variable counts as one that is not set.
    pub(crate) fn read() -> Self {
        let path = |name: &str| {
            env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        // The XDG specification has relative paths ignored.
        let absolute = |name: &str| path(name).filter(|p| p.is_absolute());
        let proxies = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"]
            .into_iter()
            .flat_map(|name| [name.to_owned(), name.to_lowercase()])
            .filter(|name| path(name).is_some());
        Self {
            proxies: proxies.collect(),
            waag_home: path("WAAG_HOME"),
            config_home: absolute("XDG_CONFIG_HOME"),
            user_home: path("HOME"),
            no_colour: path("NO_COLOR").is_some()
                || path("TERM").is_some_and(|term| term == Path::new("dumb")),
        }
    }

    /// Says whether colours may be used where there is a terminal.
    pub(crate) const fn allows_colour(&self) -> bool {
        !self.no_colour
    }

    /// Returns the variables that are set and name a proxy, or whom none is for.
    pub(crate) fn proxies(&self) -> &[String] {
        &self.proxies
    }

    fn home(&self) -> Result<PathBuf, Failure> {
        self.waag_home
            .clone()
            .or_else(|| below(self.config_home.as_deref(), self.user_home.as_deref(), ".config"))
            .ok_or_else(|| {
                Failure::usage(
                    "neither WAAG_HOME, XDG_CONFIG_HOME nor HOME says where keys and tokens are kept",
                )
                .hint("WAAG_HOME=DIR waag ...")
            })
    }

    /// Reads which key a person named. A shell does not replace the `~` of `--key=~/.ssh/id_ed25519`.
    pub(crate) fn key(&self, text: &str) -> KeyChoice {
        match (text.strip_prefix("~/"), &self.user_home) {
            (Some(rest), Some(home)) => KeyChoice::Path(home.join(rest)),
            _ => KeyChoice::parse(text),
        }
    }
}

/// Reads a site's address.
pub(crate) fn site_url(text: &str) -> Result<SiteUrl, Failure> {
    text.parse().map_err(|error: ClientError| Failure::usage(error))
}

fn below(base: Option<&Path>, user_home: Option<&Path>, usual: &str) -> Option<PathBuf> {
    let base = base
        .map(Path::to_owned)
        .or_else(|| user_home.map(|home| home.join(usual)))?;
    Some(base.join("waag"))
}

/// What holds for this run.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) environment: Environment,
    pub(crate) home: Home,
    /// The site that is meant, if any is known.
    site: Option<SiteUrl>,
    pub(crate) insecure: bool,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) limit_rate: Option<u64>,
}

impl Config {
    /// Decides: flags (into which the command line has taken `WAAG_SITE`), environment, home directory.
    pub(crate) fn load(global: &Global, environment: Environment) -> Result<Self, Failure> {
        let home = Home::new(environment.home()?);
        let site = match global.site.as_deref().filter(|text| !text.is_empty()) {
            Some(text) => Some(site_url(text)?),
            None => home.default_site()?,
        };
        Ok(Self {
            environment,
            home,
            site,
            insecure: global.insecure,
            ca: global.ca.clone().filter(|path| !path.as_os_str().is_empty()),
            limit_rate: global.limit_rate,
        })
    }

    /// Returns the site that is meant.
    pub(crate) fn site(&self) -> Result<&SiteUrl, Failure> {
        self.site.as_ref().ok_or_else(|| {
            Failure::usage("no site is named").hint("`waag login URL` once, or --site URL, or WAAG_SITE=URL")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        Environment {
            user_home: Some("/home/a".into()),
            ..Environment::default()
        }
    }

    #[test]
    fn the_nearest_word_about_the_home_directory_counts() {
        let mut said = environment();
        assert_eq!(said.home().unwrap(), Path::new("/home/a/.config/waag"));
        said.config_home = Some("/cfg".into());
        assert_eq!(said.home().unwrap(), Path::new("/cfg/waag"));
        said.waag_home = Some("here".into());
        assert_eq!(said.home().unwrap(), Path::new("here"));
        assert!(Environment::default().home().is_err());
    }

    #[test]
    fn a_tilde_is_the_persons_home() {
        let said = environment();
        assert_eq!(said.key("~/.ssh/id"), KeyChoice::Path("/home/a/.ssh/id".into()));
        assert_eq!(said.key("work"), KeyChoice::Name("work".to_owned()));
    }

    #[test]
    fn a_flag_goes_before_the_site_that_was_logged_in_to() {
        let dir = tempfile::tempdir().unwrap();
        let said = Environment {
            waag_home: Some(dir.path().to_owned()),
            ..Environment::default()
        };
        let mut global = Global {
            site: None,
            json: false,
            quiet: false,
            verbose: 0,
            insecure: false,
            ca: None,
            limit_rate: None,
        };
        assert!(Config::load(&global, said.clone()).unwrap().site().is_err());
        let kept: SiteUrl = "http://127.0.0.1:1".parse().unwrap();
        Home::new(dir.path()).set_default_site(&kept).unwrap();
        assert_eq!(
            Config::load(&global, said.clone()).unwrap().site().unwrap(),
            &kept
        );
        global.site = Some("http://127.0.0.1:2".to_owned());
        let site = Config::load(&global, said).unwrap();
        assert_eq!(site.site().unwrap().to_string(), "http://127.0.0.1:2");
    }
}
