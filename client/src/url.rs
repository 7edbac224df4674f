//! The address of a site, and the one rule about it: a token does not cross plain HTTP to another machine.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;

use crate::error::ClientError;

/// `http(s)://host[:port][/prefix]`, without a slash at its end.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SiteUrl(Url);

impl SiteUrl {
    /// Says whether the address is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        // An IPv6 address stands in brackets here.
        let host = self.0.host_str().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        bare == "localhost"
            || bare
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }

    /// Says whether a token may be sent there.
    #[must_use]
    pub fn takes_tokens(&self) -> bool {
        self.0.scheme() == "https" || self.is_loopback()
    }

    /// Returns the address of something below this one; `path` starts with a slash.
    pub(crate) fn at(&self, path: &str) -> String {
        format!("{self}{path}")
    }
}

impl fmt::Display for SiteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for SiteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SiteUrl {
    type Err = ClientError;

    fn from_str(text: &str) -> Result<Self, ClientError> {
        let refuse = |reason: &str| {
            let shown: String = text.chars().take(200).flat_map(char::escape_debug).collect();
            Err(ClientError::Usage(format!("the address `{shown}` {reason}")))
        };
        let Ok(mut url) = Url::parse(text.trim()) else {
            return refuse("is not of the form https://host[:port]");
        };
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return refuse("is not of the form https://host[:port]");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("holds a user name or password; log in with a token instead");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return refuse("has a part behind `?` or `#`");
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> SiteUrl {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_have_one_spelling() {
        for (text, printed) in [
            ("http://127.0.0.1:7070", "http://127.0.0.1:7070"),
            ("http://127.0.0.1:7070/", "http://127.0.0.1:7070"),
            ("https://Waag.Example/", "https://waag.example"),
            ("https://waag.example:443/a/", "https://waag.example/a"),
        ] {
            assert_eq!(url(text).to_string(), printed);
        }
        assert_eq!(url("http://h/").at("/api/v1/site"), "http://h/api/v1/site");
    }

    #[test]
    fn an_address_of_a_charter_is_spelled_as_here() {
        for text in [
            "https://waag.example",
            "https://waag.example:7070/a/b",
            "http://127.0.0.1:7070",
            "http://[::1]:7070",
            "http://localhost:443",
        ] {
            let named: waag_schema::federation::Address = text.parse().unwrap();
            assert_eq!(url(named.as_str()).to_string(), text);
        }
    }

    #[test]
    fn a_token_crosses_tls_or_stays_on_this_machine() {
        for good in [
            "https://waag.example",
            "http://127.0.0.1:7070",
            "http://localhost:1",
            "http://[::1]:7070",
        ] {
            assert!(url(good).takes_tokens(), "{good}");
        }
        for bad in [
            "http://waag.example",
            "http://10.0.0.1",
            "http://localhost.example",
            "http://[fe80::1]:7070",
        ] {
            assert!(!url(bad).takes_tokens(), "{bad}");
        }
    }

    #[test]
    fn addresses_that_hide_something_are_refused() {
        for bad in [
            "127.0.0.1:7070",
            "ftp://h",
            "http://u:p@h",
            "http://h/?x=1",
            "http://h/#x",
            "",
            "http://",
        ] {
            assert!(bad.parse::<SiteUrl>().is_err(), "{bad}");
        }
    }
}
