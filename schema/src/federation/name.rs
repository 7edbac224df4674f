//! What a charter calls things: a federation, its sites and their addresses, and the namespaces that a site owns.
//!
//! Each has one spelling, so that "the same twice" can be seen by comparing bytes.

use std::fmt;
use std::str::FromStr;

use crate::base::name::{Namespace, SiteId};

const ADDRESS_BYTES_MAX: usize = 256;

/// A name in a charter breaks its rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{text}` {rule}")]
pub struct TermError {
    what: &'static str,
    text: String,
    rule: &'static str,
}

fn refused(what: &'static str, text: &str, rule: &'static str) -> TermError {
    TermError {
        what,
        text: text.chars().take(120).flat_map(char::escape_default).collect(),
        rule,
    }
}

/// Lower-case letters and digits, joined by single `-`.
pub(crate) fn is_word(text: &str, length_max: usize) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= length_max
        && alnum(bytes[0])
        && alnum(bytes[bytes.len() - 1])
        && bytes.iter().all(|b| alnum(*b) || *b == b'-')
        && bytes.windows(2).all(|w| alnum(w[0]) || alnum(w[1]))
}

macro_rules! text_form {
    ($name:ident, $description:literal) => {
        impl $name {
            /// Returns the text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }

        crate::base::text::as_text!($name, $description);
    };
}

/// What a federation calls itself: 1 to 63 lower-case letters and digits, joined by single `-`. It stays the same
/// from version to version.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FederationName(String);

impl FromStr for FederationName {
    type Err = TermError;

    fn from_str(text: &str) -> Result<Self, TermError> {
        if is_word(text, 63) {
            Ok(Self(text.to_owned()))
        } else {
            Err(refused(
                "federation",
                text,
                "must be 1 to 63 lower-case letters and digits, joined by single `-`",
            ))
        }
    }
}

text_form!(
    FederationName,
    "A federation: 1 to 63 lower-case letters and digits, joined by single `-`"
);

/// What people call a site: 1 to 31 lower-case letters and digits, joined by single `-`. A site's id is longer, so the
/// two are never mistaken for each other.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteName(String);

impl FromStr for SiteName {
    type Err = TermError;

    fn from_str(text: &str) -> Result<Self, TermError> {
        if is_word(text, 31) {
            Ok(Self(text.to_owned()))
        } else {
            Err(refused(
                "site name",
                text,
                "must be 1 to 31 lower-case letters and digits, joined by single `-`",
            ))
        }
    }
}

text_form!(
    SiteName,
    "A site's name in its charter: 1 to 31 lower-case letters and digits, joined by single `-`"
);

/// Where a site answers: `http(s)://host[:port][/path]`, in the one spelling that a URL parser would write, without the
/// port that goes without saying and without a slash at its end.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(String);

impl FromStr for Address {
    type Err = TermError;

    fn from_str(text: &str) -> Result<Self, TermError> {
        let fail = |rule| Err(refused("address", text, rule));
        if text.len() > ADDRESS_BYTES_MAX {
            return fail("has more than 256 bytes");
        }
        let (rest, usual) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (rest, 443),
            (None, Some(rest)) => (rest, 80),
            (None, None) => return fail("does not begin with https:// or http://"),
        };
        let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        let (host, port) = match authority.rfind(':') {
            Some(colon) if !authority[colon..].contains(']') => {
                (&authority[..colon], Some(&authority[colon + 1..]))
            }
            _ => (authority, None),
        };
        let is_host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(inner) => inner
                .parse::<core::net::Ipv6Addr>()
                .is_ok_and(|address| address.to_string() == inner),
            None => is_dns_or_ipv4(host),
        };
        if !is_host {
            return fail("names no host in lower case");
        }
        let is_port = |text: &str| {
            text.parse::<u16>()
                .is_ok_and(|port| port != 0 && port != usual && port.to_string() == text)
        };
        if port.is_some_and(|port| !is_port(port)) {
            return fail("has a port that is none, or need not be said");
        }
        let is_segment = |segment: &str| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"._~-".contains(&b);
            !segment.is_empty() && segment.bytes().all(plain) && segment != "." && segment != ".."
        };
        if !path.is_empty() && !path[1..].split('/').all(is_segment) {
            return fail("has a path of other than plain parts between single slashes");
        }
        Ok(Self(text.to_owned()))
    }
}

/// Labels joined by dots; all digits and dots only where that is an IPv4 address.
fn is_dns_or_ipv4(host: &str) -> bool {
    let last_is_number = host
        .rsplit('.')
        .next()
        .is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit()));
    if last_is_number {
        return host
            .parse::<core::net::Ipv4Addr>()
            .is_ok_and(|address| address.to_string() == host);
    }
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    // `0x7f` as the last label would be read as a number by a URL parser.
    let hexadecimal = host
        .rsplit('.')
        .next()
        .is_some_and(|label| label.starts_with("0x"));
    host.len() <= 253
        && !hexadecimal
        && host.split('.').all(|label| {
            let bytes = label.as_bytes();
            !bytes.is_empty()
                && bytes.len() <= 63
                && alnum(bytes[0])
                && alnum(bytes[bytes.len() - 1])
                && bytes.iter().all(|b| alnum(*b) || *b == b'-')
        })
}

text_form!(Address, "A site's address: http(s)://host[:port][/path]");

/// Which namespaces a site owns: `acme` is that one, `acme-*` is every one whose name begins with `acme-`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owned(String);

impl Owned {
    /// What the names begin with, of those that end in `*`.
    fn prefix(&self) -> Option<&str> {
        self.0.strip_suffix('*')
    }

    /// Says whether a namespace is meant.
    #[must_use]
    pub fn contains(&self, namespace: &Namespace) -> bool {
        match self.prefix() {
            Some(prefix) => namespace.as_str().starts_with(prefix),
            None => self.0 == namespace.as_str(),
        }
    }

    /// Says whether there is a namespace that both mean.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self.prefix(), other.prefix()) {
            (None, None) => self == other,
            (Some(prefix), None) => other.0.starts_with(prefix),
            (None, Some(prefix)) => self.0.starts_with(prefix),
            (Some(one), Some(two)) => one.starts_with(two) || two.starts_with(one),
        }
    }
}

impl FromStr for Owned {
    type Err = TermError;

    fn from_str(text: &str) -> Result<Self, TermError> {
        // A family's stem is at most 37 characters, so that a name of it has room for one more.
        let is_owned = match text.strip_suffix("-*") {
            Some(stem) => is_word(stem, 37),
            None => text.parse::<Namespace>().is_ok(),
        };
        if is_owned {
            Ok(Self(text.to_owned()))
        } else {
            Err(refused(
                "owned namespace",
                text,
                "must be a namespace, or begin like one and end in `-*`",
            ))
        }
    }
}

text_form!(
    Owned,
    "Namespaces that a site owns: `acme`, or `acme-*` for all that begin so"
);

/// A site of a charter as a person types it: by name or by id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SiteHandle {
    /// By its id.
    Id(SiteId),
    /// By its name in the charter.
    Name(SiteName),
}

impl FromStr for SiteHandle {
    type Err = TermError;

    fn from_str(text: &str) -> Result<Self, TermError> {
        match text.parse() {
            Ok(id) => Ok(Self::Id(id)),
            Err(_) => text.parse().map(Self::Name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_spelling() {
        for good in [
            "https://waag.example",
            "https://waag.example:7070",
            "http://127.0.0.1:7070",
            "http://[::1]:7070",
            "https://waag.example/registry/a",
            "http://localhost:443",
        ] {
            assert_eq!(good.parse::<Address>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "waag.example",
            "ftp://waag.example",
            "https://",
            "https://Waag.example",
            "https://waag.example/",
            "https://waag.example:443",
            "http://waag.example:80",
            "https://waag.example:0",
            "https://waag.example:07070",
            "https://waag.example:",
            "https://user@waag.example",
            "https://waag.example?a",
            "https://waag.example#a",
            "https://waag.example/a//b",
            "https://waag.example/a/../b",
            "https://waag.example/%61",
            "https://waag..example",
            "https://-waag.example",
            "http://127.1",
            "http://0x7f000001",
            "http://2130706433",
            "http://[0:0:0:0:0:0:0:1]",
            "http://[::1",
            "https://wäg.example",
            "https://waag.example\n",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_family_of_namespaces_does_not_hold_its_stem() {
        let owned = |text: &str| text.parse::<Owned>().unwrap();
        let name = |text: &str| text.parse::<Namespace>().unwrap();
        assert!(owned("acme").contains(&name("acme")));
        assert!(!owned("acme").contains(&name("acme-labs")));
        assert!(owned("acme-*").contains(&name("acme-labs")));
        assert!(!owned("acme-*").contains(&name("acme")));
        assert!(!owned("acme-*").contains(&name("acmelabs")));
        for (a, b, overlap) in [
            ("acme", "acme", true),
            ("acme", "acme-*", false),
            ("acme-labs", "acme-*", true),
            ("acme-*", "acme-*", true),
            ("acme-labs-*", "acme-*", true),
            ("acme-*", "acmes-*", false),
            ("acme", "acm", false),
        ] {
            assert_eq!(owned(a).overlaps(&owned(b)), overlap, "{a} and {b}");
            assert_eq!(owned(b).overlaps(&owned(a)), overlap, "{b} and {a}");
        }
        for bad in ["", "*", "-*", "acme*", "acme/*", "Acme", "acme-", "a--*", "v2"] {
            assert!(bad.parse::<Owned>().is_err(), "{bad}");
        }
        assert!(format!("{}-*", "a".repeat(38)).parse::<Owned>().is_err());
    }
}
