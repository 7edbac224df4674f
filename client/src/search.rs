//! Search: artifacts by words, page by page.

use waag_schema::wire::artifact::ArtifactPage;
use waag_schema::{ArtifactName, Namespace};

use crate::ask::Ask;
use crate::error::Result;
use crate::site::Site;

impl Site {
    /// Lists artifacts in whose name, kind, licence, architecture or size each of these words stands; without
    /// words, all. Page by page: pass the answer's `next` as `after`.
    ///
    /// # Errors
    /// When the site refuses or does not answer.
    pub async fn search(
        &self,
        words: &[String],
        namespace: Option<&Namespace>,
        after: Option<&ArtifactName>,
    ) -> Result<ArtifactPage> {
        let path = format!("/api/v1/artifacts{}", query(words, namespace, after));
        self.transport().json(Ask::get(path)).await
    }
}

fn query(words: &[String], namespace: Option<&Namespace>, after: Option<&ArtifactName>) -> String {
    let words = words.join(" ");
    let pairs = [
        ("words", Some(words.as_str()).filter(|words| !words.is_empty())),
        ("namespace", namespace.map(Namespace::as_str)),
        ("after", after.map(ArtifactName::as_str)),
    ];
    let mut query = String::new();
    for (key, value) in pairs {
        if let Some(value) = value {
            query.push(if query.is_empty() { '?' } else { '&' });
            query.push_str(key);
            query.push('=');
            escape(value, &mut query);
        }
    }
    query
}

/// Writes everything but RFC 3986's unreserved characters, and the slash that a query may hold, as `%XX`.
fn escape(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_site_as_they_were_typed() {
        let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let namespace: Namespace = "acme".parse().unwrap();
        let after: ArtifactName = "acme/tiny".parse().unwrap();
        assert_eq!(query(&[], None, None), "");
        assert_eq!(
            query(&words(&["llama", "8.0B"]), Some(&namespace), Some(&after)),
            "?words=llama%208.0B&namespace=acme&after=acme/tiny"
        );
        assert_eq!(
            query(&words(&["a&b=c#d", "ä+%"]), None, None),
            "?words=a%26b%3Dc%23d%20%C3%A4%2B%25"
        );
    }
}
