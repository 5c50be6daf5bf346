//! The query of a request: `a=1&b=2`, percent-encoded (WHATWG URL §5.1). Whatever is not known is refused.

use std::collections::BTreeMap;
use std::str::FromStr;

use hyper::StatusCode;

/// A request that cannot be met: why, in one line.
pub type Refused = (StatusCode, String);

pub fn bad(error: String) -> Refused {
    (StatusCode::BAD_REQUEST, error)
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Query(BTreeMap<String, String>);

impl Query {
    /// Fails with one line if a parameter is not `known`, comes twice or is not encoded as it must be.
    pub fn read(query: &str, known: &[&str]) -> Result<Self, String> {
        let mut values = BTreeMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |text: &str| decoded(text).ok_or_else(|| format!("'{}' is not percent-encoded", shown(text)));
            let (name, value) = (decode(name)?, decode(value)?);
            if !known.contains(&name.as_str()) {
                let known = match known {
                    [] => "there are none".to_owned(),
                    known => format!("there are {}", known.join(", ")),
                };
                return Err(format!("no parameter '{}'; {known}", shown(&name)));
            }
            if values.contains_key(&name) {
                return Err(format!("{name} is given twice"));
            }
            values.insert(name, value);
        }
        Ok(Self(values))
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Fails with one line if the value is not `wanted`.
    pub fn value<T: FromStr>(&self, name: &str, wanted: &str) -> Result<Option<T>, String> {
        self.parsed(name, wanted, |text| text.parse().ok())
    }

    /// The same, by a function that reads the value.
    pub fn parsed<T>(&self, name: &str, wanted: &str, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>, String> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let value = read(text).ok_or_else(|| format!("{name}: '{}' is not {wanted}", shown(text)))?;
        Ok(Some(value))
    }
}

/// The beginning of a text that somebody else has written, for an error of one line.
fn shown(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_default).collect()
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
                let digits = std::str::from_utf8(&digits).ok().filter(|_| is_hex)?;
                u8::from_str_radix(digits, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_known_parameters_once_each() {
        let table: [(&str, Result<Option<&str>, &str>); 12] = [
            ("", Ok(None)),
            ("&&", Ok(None)),
            ("peer=10.1.1.6", Ok(Some("10.1.1.6"))),
            ("limit=3&peer=fe80%3A%3a1", Ok(Some("fe80::1"))),
            ("peer=a+b", Ok(Some("a b"))),
            ("peer", Ok(Some(""))),
            ("peer=a=b", Ok(Some("a=b"))),
            ("peer=1&peer=2", Err("peer is given twice")),
            ("pear=1", Err("no parameter 'pear'; there are peer, limit")),
            ("p%0Aear=1", Err("no parameter 'p\\near'; there are peer, limit")),
            ("peer=%4", Err("'%4' is not percent-encoded")),
            ("peer=%ff", Err("'%ff' is not percent-encoded")),
        ];
        for (query, want) in table {
            let got = Query::read(query, &["peer", "limit"]);
            let got = got.as_ref().map(|query| query.text("peer")).map_err(String::as_str);
            assert_eq!(got, want, "{query}");
        }
        assert!(Query::read("peer=%+1", &["peer"]).is_err());
        assert_eq!(Query::read("a", &[]).unwrap_err(), "no parameter 'a'; there are none");
    }

    #[test]
    fn a_value_is_read_or_refused_in_one_line() {
        let query = Query::read("limit=3&peer=x%0Ay", &["peer", "limit"]).unwrap();
        assert_eq!(query.value("limit", "a number"), Ok(Some(3)));
        assert_eq!(query.value::<u8>("other", "a number"), Ok(None));
        assert_eq!(
            query.value::<u8>("peer", "an address"),
            Err("peer: 'x\\ny' is not an address".to_owned())
        );
    }
}
