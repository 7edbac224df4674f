//! Places: where something is ([`Place`]), and what a rule says about it ([`Where`]).
//!
//! Invariant: a [`Country`] is an officially assigned ISO 3166-1 alpha-2 code. Membership of a [`Group`] is
//! dated data: it is asked for a point in time, so a verdict of last year can be recomputed today.
//!
//! The groups here hold member *states*. A territory with a country code of its own (RE, GP, AX, FO, GL and the like)
//! is in no group, whatever its tie to a member is; a label that means it names it. There is no built-in group
//! for countries that the European Commission found adequate: several of those decisions hold for some
//! organisations or sectors of a country only, which a country code cannot express. A federation that has
//! made up its mind says so in its charter, with dates, and labels name that as `group:<name>`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::group::{GroupName, GroupTerms};
use super::{PolicyError, shorten};
use crate::base::name::SiteId;
use crate::base::time::Timestamp;

/// The officially assigned codes of ISO 3166-1 alpha-2, in order. User-assigned, reserved and withdrawn
/// codes (XK, UK, EU, AN) are not among them.
const CODES: &str = "\
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW \
    BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI \
    FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN \
    IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME \
    MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF \
    PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV \
    SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE \
    YT ZA ZM ZW";

/// Codes that people write and the standard does not assign, with what they mean by them.
const MISTAKEN: [(&str, &str); 2] = [("UK", "GB"), ("EL", "GR")];

/// A country, by its ISO 3166-1 alpha-2 code: `DE`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

impl Country {
    /// Returns the two upper-case letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("made of two ASCII letters only")
    }

    /// Returns every assigned code, in alphabetical order.
    pub fn all() -> impl Iterator<Item = Self> {
        CODES
            .split_ascii_whitespace()
            .filter_map(|code| Some(Self(code.as_bytes().try_into().ok()?)))
    }
}

impl FromStr for Country {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let code: Option<[u8; 2]> = text.as_bytes().try_into().ok();
        let assigned = code.filter(|_| CODES.split_ascii_whitespace().any(|c| c == text));
        assigned.map(Self).ok_or_else(|| PolicyError::Country {
            text: shorten(text),
            meant: meant(text),
        })
    }
}

/// Guesses what was meant by a text that names no place.
fn meant(text: &str) -> Option<String> {
    if text.len() > 3 {
        return None;
    }
    let upper = text.to_ascii_uppercase();
    let is_known = CODES.split_ascii_whitespace().any(|c| c == upper) || upper.parse::<Group>().is_ok();
    let mistaken = MISTAKEN.iter().find(|(wrong, _)| *wrong == upper);
    mistaken
        .map(|(_, right)| (*right).to_owned())
        .or_else(|| is_known.then_some(upper))
}

/// One row of a table of members: the country's code and the days between which it is a member, the first
/// included and the last not. Days of the form 2004-05-01 sort as text.
struct Membership {
    code: &'static str,
    from: &'static str,
    until: Option<&'static str>,
}

const fn since(code: &'static str, from: &'static str) -> Membership {
    Membership {
        code,
        from,
        until: None,
    }
}

const fn between(code: &'static str, from: &'static str, until: &'static str) -> Membership {
    Membership {
        code,
        from,
        until: Some(until),
    }
}

/// Days of accession to what is the European Union today.
const EU: [Membership; 28] = [
    since("BE", "1958-01-01"),
    since("DE", "1958-01-01"),
    since("FR", "1958-01-01"),
    since("IT", "1958-01-01"),
    since("LU", "1958-01-01"),
    since("NL", "1958-01-01"),
    since("DK", "1973-01-01"),
    since("IE", "1973-01-01"),
    between("GB", "1973-01-01", "2020-02-01"),
    since("GR", "1981-01-01"),
    since("ES", "1986-01-01"),
    since("PT", "1986-01-01"),
    since("AT", "1995-01-01"),
    since("FI", "1995-01-01"),
    since("SE", "1995-01-01"),
    since("CY", "2004-05-01"),
    since("CZ", "2004-05-01"),
    since("EE", "2004-05-01"),
    since("HU", "2004-05-01"),
    since("LT", "2004-05-01"),
    since("LV", "2004-05-01"),
    since("MT", "2004-05-01"),
    since("PL", "2004-05-01"),
    since("SI", "2004-05-01"),
    since("SK", "2004-05-01"),
    since("BG", "2007-01-01"),
    since("RO", "2007-01-01"),
    since("HR", "2013-07-01"),
];

/// Days from which the EEA Agreement was applied, provisionally for those who joined later. The agreement
/// was kept applied to the United Kingdom until the end of 2020; the table ends its row with its membership
/// of the Union, as the stricter reading.
const EEA: [Membership; 31] = [
    since("AT", "1994-01-01"),
    since("BE", "1994-01-01"),
    since("DE", "1994-01-01"),
    since("DK", "1994-01-01"),
    since("ES", "1994-01-01"),
    since("FI", "1994-01-01"),
    since("FR", "1994-01-01"),
    between("GB", "1994-01-01", "2020-02-01"),
    since("GR", "1994-01-01"),
    since("IE", "1994-01-01"),
    since("IS", "1994-01-01"),
    since("IT", "1994-01-01"),
    since("LU", "1994-01-01"),
    since("NL", "1994-01-01"),
    since("NO", "1994-01-01"),
    since("PT", "1994-01-01"),
    since("SE", "1994-01-01"),
    since("LI", "1995-05-01"),
    since("CY", "2004-05-01"),
    since("CZ", "2004-05-01"),
    since("EE", "2004-05-01"),
    since("HU", "2004-05-01"),
    since("LT", "2004-05-01"),
    since("LV", "2004-05-01"),
    since("MT", "2004-05-01"),
    since("PL", "2004-05-01"),
    since("SI", "2004-05-01"),
    since("SK", "2004-05-01"),
    since("BG", "2007-08-01"),
    since("RO", "2007-08-01"),
    since("HR", "2014-04-12"),
];

/// A group of countries whose members change with time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// `EU`: the member states of the European Union.
    Eu,
    /// `EEA`: the member states of the European Economic Area, which are the EU's with IS, LI and NO.
    Eea,
}

impl Group {
    /// Returns the text form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Eu => "EU",
            Self::Eea => "EEA",
        }
    }

    const fn members(self) -> &'static [Membership] {
        match self {
            Self::Eu => &EU,
            Self::Eea => &EEA,
        }
    }

    /// Says whether the country is a member on the (UTC) day of `at`.
    #[must_use]
    pub fn contains(self, country: Country, at: Timestamp) -> bool {
        let time = at.to_string();
        let day = time.get(..10).unwrap_or_default();
        self.members().iter().any(|row| {
            row.code == country.as_str() && row.from <= day && row.until.is_none_or(|until| day < until)
        })
    }
}

impl FromStr for Group {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        [Self::Eu, Self::Eea]
            .into_iter()
            .find(|group| group.as_str() == text)
            .ok_or_else(|| PolicyError::Group { text: shorten(text) })
    }
}

/// What a rule says about places. Text forms: `DE`, `EU`, `group:<name>`, `site:<id>`, `*`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Where {
    /// Every place that is under this country's jurisdiction.
    Country(Country),
    /// Every place under the jurisdiction of a country that is a member at the time of the verdict.
    Group(Group),
    /// Likewise, for a group of the charter.
    Named(GroupName),
    /// One site, wherever it is.
    Site(SiteId),
    /// Every place, also one that names no jurisdiction.
    Anywhere,
}

impl Where {
    /// Says whether a place is meant, or nothing where the charter names no such group. A place that names no jurisdiction is meant by `*` and by its own
    /// `site:` only, in rules that allow and in rules that deny: who must keep bytes from a country lists
    /// the places that may have them.
    #[must_use]
    pub fn matches(&self, place: &Place, at: Timestamp, groups: &[GroupTerms]) -> Option<bool> {
        let within = |contains: &dyn Fn(Country) -> bool| place.jurisdiction().is_some_and(contains);
        Some(match self {
            Self::Country(country) => place.jurisdiction() == Some(*country),
            Self::Group(group) => within(&|country| group.contains(country, at)),
            Self::Named(name) => {
                let group = groups.iter().find(|group| group.name == *name)?;
                within(&|country| group.contains(country, at))
            }
            Self::Site(site) => matches!(place, Place::Site { id, .. } if id == site),
            Self::Anywhere => true,
        })
    }
}

impl fmt::Display for Where {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Country(country) => country.fmt(f),
            Self::Group(group) => group.fmt(f),
            Self::Named(name) => write!(f, "group:{name}"),
            Self::Site(site) => write!(f, "site:{site}"),
            Self::Anywhere => f.write_str("*"),
        }
    }
}

impl FromStr for Where {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let group = || text.parse().map(Self::Group).ok();
        let country = || text.parse().map(Self::Country).ok();
        if let Some(name) = text.strip_prefix("group:") {
            return name.parse().map(Self::Named);
        }
        let found = match text.strip_prefix("site:") {
            Some(id) => id.parse().map(Self::Site).ok(),
            None if text == "*" => Some(Self::Anywhere),
            None => group().or_else(country),
        };
        found.ok_or_else(|| PolicyError::Where {
            text: shorten(text),
            meant: meant(text),
        })
    }
}

/// Where something would happen: at a site of the federation, or with somebody who takes bytes from one.
///
/// As JSON: `{"kind": "site", "id": "<site id>", "jurisdiction": "DE"}` or
/// `{"kind": "consumer", "jurisdiction": "DE"}`, without `jurisdiction` where none is known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Place {
    /// A site, whose jurisdiction the charter or its operator names.
    Site {
        /// Which site.
        id: SiteId,
        /// The country whose law it is under.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        jurisdiction: Option<Country>,
    },
    /// A caller that is no site, whose jurisdiction its token claims.
    Consumer {
        /// The country whose law it is under.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        jurisdiction: Option<Country>,
    },
}

impl Place {
    /// Returns the country whose law this place is under, if it names one.
    #[must_use]
    pub const fn jurisdiction(&self) -> Option<Country> {
        match self {
            Self::Site { jurisdiction, .. } | Self::Consumer { jurisdiction } => *jurisdiction,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Site { id, .. } => write!(f, "site {id}")?,
            Self::Consumer { .. } => f.write_str("a consumer")?,
        }
        match self.jurisdiction() {
            Some(country) => write!(f, " in {country}"),
            None => f.write_str(" that names no jurisdiction"),
        }
    }
}

macro_rules! text_form {
    ($name:ident, $description:literal) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        crate::base::text::as_text!($name, $description);
    };
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

text_form!(Country, "A country: its ISO 3166-1 alpha-2 code");
text_form!(Group, "A group of countries: `EU` or `EEA`");
text_form!(
    Where,
    "Where a rule holds: a country (`DE`), a group (`EU`, `EEA`, `group:<name>` of the charter), `site:<id>` or `*`"
);
