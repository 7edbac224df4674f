//! `waag.toml`: one file, every key documented, unknown keys refused. The first start writes a commented one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use waag_schema::Reference;
use waag_schema::policy::place::Country;
use waag_schema::release::gate::Unsafe;

use waag_schema::wire::federation::MirrorRule;

use crate::evaluation::DeviceChoice;

/// The commented file that the first start writes. A test reads it back and compares it with the defaults.
pub const TEMPLATE: &str = include_str!("waag.toml");

/// The most suites that each model is asked.
const SUITES_MAX: usize = 64;
/// The largest number that any limit may have.
const LIMIT_MAX: usize = 1_000_000;

/// What an operator decides.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// ISO 3166-1 code of the country in which this site's storage stands.
    pub jurisdiction: Option<Country>,
    /// Uploads that were opened this many days ago and never published are forgotten.
    pub upload_days: u32,
    /// The certificate and key with which TLS is spoken; without them, plain HTTP.
    pub tls: Option<TlsFiles>,
    /// How much is taken on at once.
    pub limits: Limits,
    /// Whether and how releases are weighed.
    pub weigh: Weigh,
    /// Formats that run code and may be published here all the same.
    pub formats: Formats,
    /// Which releases of other sites are copied here.
    pub mirror: Vec<MirrorRule>,
    /// Whether and how often other sites are asked for proof of what they hold.
    pub custody: Custody,
    /// `text` or `json`.
    pub log_format: LogFormat,
}

/// Where the certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate, and the chain that leads from it to one that clients know, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}

/// How much a site takes on at once.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections.
    pub connections: usize,
    /// Connections from one address; without it, half of them.
    pub connections_of_one: Option<usize>,
    /// Transfers of content, for everybody together.
    pub transfers: usize,
    /// Transfers of content, for each caller.
    pub transfers_of_one: usize,
    /// Transfers that may wait.
    pub waiting: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let turns = crate::turns::Limits::default();
        Self {
            connections: crate::listen::Settings::default().connections,
            connections_of_one: None,
            transfers: turns.at_once,
            transfers_of_one: turns.for_each,
            waiting: turns.waiting,
        }
    }
}

impl Limits {
    /// Returns how many connections one address may have.
    #[must_use]
    pub fn connections_of_one(&self) -> usize {
        self.connections_of_one.unwrap_or(self.connections.div_ceil(2))
    }
}

/// Whether and how releases are weighed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Weigh {
    /// Whether each release that is published here gets a scorecard.
    pub on: bool,
    /// The suites that each model is asked, as `namespace/name` or `namespace/name:tag`.
    pub suites: Vec<String>,
    /// How a model computes while it is asked: `f32` or `bf16`.
    pub precision: WeighPrecision,
    /// What numbers are computed on: `auto`, `cpu` or `cuda:N`.
    pub device: DeviceChoice,
    /// How much memory that may take, roughly.
    pub memory_mib: u64,
    /// How long a suite may take on a model.
    pub minutes: u64,
    /// Whether it is measured how fast each model is on this machine.
    pub speed: bool,
    /// How long that may take for one model, beside reading its weights.
    pub speed_seconds: u64,
    /// How long a worker that is not heard of keeps what it has taken.
    pub lease_seconds: u64,
}

/// How a model computes while it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeighPrecision {
    /// In `f32`.
    F32,
    /// With both sides of every product rounded to bfloat16.
    Bf16,
}

impl Default for Weigh {
    fn default() -> Self {
        Self {
            on: true,
            suites: Vec::new(),
            precision: WeighPrecision::F32,
            device: DeviceChoice::Auto,
            memory_mib: 4096,
            minutes: 60,
            speed: false,
            speed_seconds: 10,
            lease_seconds: 600,
        }
    }
}

impl Weigh {
    /// Returns the suites that each model is asked.
    ///
    /// # Errors
    /// When one is not the name of a release, or too many are named.
    pub fn suites(&self) -> Result<Vec<Reference>, String> {
        if self.suites.len() > SUITES_MAX {
            return Err(format!("[weigh]: at most {SUITES_MAX} suites can be asked"));
        }
        let parsed = self.suites.iter().map(|text| {
            let parsed: Result<Reference, _> = text.parse();
            parsed.map_err(|e| format!("[weigh]: the suite `{text}`: {e}"))
        });
        parsed.collect()
    }
}

/// Formats that run code and may be published here all the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Formats {
    /// `pickle`, `executable`.
    pub allow: Vec<Unsafe>,
}

/// Whether and how often other sites are asked for proof of what they hold.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Custody {
    /// How often one of them is, about one release, in seconds; 0: never.
    pub challenge_seconds: u64,
}

impl Default for Custody {
    fn default() -> Self {
        Self {
            challenge_seconds: 60,
        }
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For collectors: one JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7070)),
            jurisdiction: None,
            upload_days: 7,
            tls: None,
            limits: Limits::default(),
            weigh: Weigh::default(),
            formats: Formats::default(),
            mirror: Vec::new(),
            custody: Custody::default(),
            log_format: LogFormat::Text,
        }
    }
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read or written.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file does not say what it should.
    #[error("{path}: {error}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its line.
        error: String,
    },
}

impl Config {
    /// Reads the file, or writes the commented template where there is none.
    ///
    /// # Errors
    /// When the file can be neither read nor written, or holds an unknown key or a wrong value.
    pub fn load_or_create(path: &Path) -> Result<Self, ConfigError> {
        let io = |error| ConfigError::Io {
            path: path.to_owned(),
            error,
        };
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).map_err(|error| ConfigError::Malformed {
                path: path.to_owned(),
                error,
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                std::fs::write(path, TEMPLATE).map_err(io)?;
                Ok(Self::default())
            }
            Err(error) => Err(io(error)),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|e| e.to_string())?;
        let Limits {
            connections,
            connections_of_one,
            transfers,
            transfers_of_one,
            waiting,
        } = config.limits;
        let from_one = [
            connections,
            connections_of_one.unwrap_or(1),
            transfers,
            transfers_of_one,
        ];
        // What the semaphores can count, and more than any machine has.
        if from_one.contains(&0) || from_one.into_iter().max().max(Some(waiting)) > Some(LIMIT_MAX) {
            return Err(format!(
                "[limits]: each is a number from 1 to {LIMIT_MAX} (`waiting` from 0)"
            ));
        }
        config.weigh.suites()?;
        if config.weigh.memory_mib == 0 || config.weigh.memory_mib > 1 << 30 || config.weigh.minutes == 0 {
            return Err("[weigh]: memory_mib is a number from 1 to 2^30, minutes one from 1".to_owned());
        }
        if !(1..=3600).contains(&config.weigh.speed_seconds) {
            return Err("[weigh]: speed_seconds is a number from 1 to 3,600".to_owned());
        }
        if !(2..=86_400).contains(&config.weigh.lease_seconds) {
            return Err("[weigh]: lease_seconds is a number from 2 to 86,400".to_owned());
        }
        if config.custody.challenge_seconds > 86_400 {
            return Err("[custody]: challenge_seconds is a number from 0 to 86,400".to_owned());
        }
        for rule in &config.mirror {
            crate::federation::check_rule(rule).map_err(|error| format!("[[mirror]]: {error}"))?;
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_says_what_the_defaults_are() {
        assert_eq!(Config::parse(TEMPLATE).unwrap(), Config::default());
        let uncommented: String = TEMPLATE
            .lines()
            .map(|l| {
                let key = |l: &&str| l.contains(" = ") || l.starts_with('[');
                l.strip_prefix("# ").filter(key).unwrap_or(l)
            })
            .collect::<Vec<_>>()
            .join("\n");
        let all = Config::parse(&uncommented).unwrap();
        let limits = Limits {
            connections_of_one: None,
            ..all.limits
        };
        assert_eq!(all.limits.connections_of_one, Some(limits.connections_of_one()));
        assert_eq!(
            Config {
                jurisdiction: None,
                tls: None,
                limits,
                mirror: Vec::new(),
                ..all
            },
            Config::default()
        );
    }

    #[test]
    fn a_limit_of_nothing_is_refused() {
        for bad in [
            "connections = 0",
            "connections_of_one = 0",
            "transfers = 0",
            "transfers_of_one = 0",
            "waiting = 9999999999",
        ] {
            let error = Config::parse(&format!("[limits]\n{bad}")).unwrap_err();
            assert!(error.contains("[limits]"), "{error}");
        }
        assert!(Config::parse("[limits]\nwaiting = 0").is_ok());
        assert!(
            Config::parse("[tls]\ncertificate = \"c\"")
                .unwrap_err()
                .contains("key")
        );
    }

    #[test]
    fn a_suite_that_has_no_name_is_refused() {
        let error = Config::parse("[weigh]\nsuites = [\"Short\"]").unwrap_err();
        assert!(error.contains("Short"), "{error}");
        let config = Config::parse("[weigh]\nsuites = [\"acme/short:1.0\"]\nprecision = \"bf16\"").unwrap();
        assert_eq!(config.weigh.suites().unwrap().len(), 1);
        assert!(Config::parse("[weigh]\nminutes = 0").is_err());
        let config = Config::parse("[weigh]\ndevice = \"cuda:1\"").unwrap();
        assert_eq!(config.weigh.device, DeviceChoice::Cuda(1));
        let error = Config::parse("[weigh]\ndevice = \"tpu\"").unwrap_err();
        assert!(error.contains("tpu") && error.contains("cuda:N"), "{error}");
        assert!(!config.weigh.speed);
        assert!(Config::parse("[weigh]\nspeed = true\nspeed_seconds = 0").is_err());
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        assert!(
            Config::parse("lisen = \"127.0.0.1:1\"")
                .unwrap_err()
                .contains("lisen")
        );
    }
}
