//! How the API server is asked for objects. The configuration says it, and the client does it.

use http::HeaderValue;

/// The media type of objects in protobuf.
pub const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// The media type of objects in JSON.
pub const JSON: &str = "application/json";

/// How the API server is asked for objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// How lists are asked for.
    pub lists: Lists,
    /// Which encodings are asked for.
    pub accept: Accept,
}

/// How lists are asked for. A server that refuses one way is asked the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lists {
    /// Object by object, as the beginning of a watch.
    #[default]
    Stream,
    /// In one piece, from the server's watch cache.
    Cache,
    /// In pages, from the server's store.
    Pages,
}

/// The encodings that are asked for, as the value of the header `Accept`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accept(HeaderValue);

impl Default for Accept {
    /// Protobuf, and JSON from servers that have no protobuf for a kind.
    fn default() -> Self {
        Self(HeaderValue::from_static(
            "application/vnd.kubernetes.protobuf, application/json;q=0.9",
        ))
    }
}

impl Accept {
    /// Takes what Tandem can read from a list of media types. Beside it, returns the others. The result is none if
    /// Tandem can read none of them.
    pub fn parse(text: &str) -> (Option<Self>, Vec<&str>) {
        let kinds = text.split(',').map(str::trim).filter(|kind| !kind.is_empty());
        let (readable, others): (Vec<&str>, Vec<&str>) = kinds.partition(|kind| is_readable(kind));
        let value = HeaderValue::try_from(readable.join(", ")).ok();
        (value.filter(|value| !value.is_empty()).map(Self), others)
    }

    /// The header's value.
    pub fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// Whether Tandem can read what a server sends for this media type. The one parameter that changes nothing is `q`. Others
/// ask for another form, such as a table.
fn is_readable(kind: &str) -> bool {
    let mut parts = kind.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let known = [PROTOBUF, JSON, "application/*", "*/*"];
    known.iter().any(|known| name.eq_ignore_ascii_case(known)) && parts.all(|part| part.starts_with("q="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_that_can_be_read_are_asked_for_as_they_are_written_and_the_others_are_named() {
        let cases: [(&str, Option<&str>, &[&str]); 7] = [
            ("application/json", Some("application/json"), &[]),
            (
                "application/vnd.kubernetes.protobuf,application/json",
                Some("application/vnd.kubernetes.protobuf, application/json"),
                &[],
            ),
            (
                " application/json;q=0.5 ,, */*",
                Some("application/json;q=0.5, */*"),
                &[],
            ),
            ("application/yaml", None, &["application/yaml"]),
            (
                "application/cbor, application/json",
                Some("application/json"),
                &["application/cbor"],
            ),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io",
                None,
                &["application/json;as=Table;v=v1;g=meta.k8s.io"],
            ),
            ("", None, &[]),
        ];
        for (text, wanted, unreadable) in cases {
            let (accept, others) = Accept::parse(text);
            let header = accept.map(|accept| accept.header());
            assert_eq!(header.as_ref().map(|header| header.to_str().unwrap()), wanted, "{text}");
            assert_eq!(others, unreadable, "{text}");
        }
    }
}
