//! JSON as it is accepted where it is signed: read once, strictly, and never written again.
//!
//! Two parsers that read one document differently are a hole in a signature. So a duplicate key, a number
//! that is not an integer of at most 2^53 - 1 in size, more than 16 levels and anything past the size limit
//! are refused (the I-JSON subset of RFC 7493, narrower on numbers).

use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Objects and arrays may be nested this deep.
pub const DEPTH_MAX: usize = 16;
/// The largest integer that every JSON reader holds exactly: 2^53 - 1.
pub const INTEGER_MAX: u64 = (1 << 53) - 1;

/// The bytes are not JSON of the accepted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// More bytes than allowed.
    #[error("{found} bytes of JSON, at most {limit} are accepted")]
    TooLarge {
        /// How many there are.
        found: usize,
        /// How many are accepted.
        limit: usize,
    },
    /// Not JSON, or refused by one of the rules above, or not of the expected shape.
    #[error("{0}")]
    Malformed(String),
}

/// Parses strictly into any type that serde can read.
///
/// # Errors
/// When the bytes break a rule of this module or do not have the shape of `T`.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, JsonError> {
    serde_json::from_value(parse(bytes, limit)?).map_err(|e| JsonError::Malformed(e.to_string()))
}

/// Parses strictly into a value.
///
/// # Errors
/// When the bytes break a rule of this module.
pub fn parse(bytes: &[u8], limit: usize) -> Result<Value, JsonError> {
    if bytes.len() > limit {
        return Err(JsonError::TooLarge {
            found: bytes.len(),
            limit,
        });
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: 0 }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|e| JsonError::Malformed(e.to_string()))?;
    Ok(value)
}

struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: serde::de::Error>(&self) -> Result<Self, E> {
        if self.depth >= DEPTH_MAX {
            return Err(E::custom(format_args!(
                "nested more than {DEPTH_MAX} levels deep"
            )));
        }
        Ok(Self {
            depth: self.depth + 1,
        })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON with unique keys and whole numbers")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Value, E> {
        if v > INTEGER_MAX {
            return Err(E::custom(format_args!("the number {v} is beyond 2^53 - 1")));
        }
        Ok(v.into())
    }

    fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<Value, E> {
        if v.unsigned_abs() > INTEGER_MAX {
            return Err(E::custom(format_args!("the number {v} is beyond 2^53 - 1")));
        }
        Ok(v.into())
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Value, E> {
        Err(E::custom(format_args!(
            "the number {v} is not an integer; write it as a string"
        )))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(self.deeper()?)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let value = access.next_value_seed(self.deeper()?)?;
            if map.contains_key(&key) {
                return Err(serde::de::Error::custom(format_args!(
                    "the key {key:?} stands twice"
                )));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse(text.as_bytes(), 4096).unwrap_err().to_string()
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        assert!(refused(r#"{"a":1,"a":2}"#).contains("stands twice"));
        assert!(refused(r#"{"a":{"b":1,"\u0062":2}}"#).contains("stands twice"));
        assert!(refused("1.5").contains("not an integer"));
        assert!(refused("9007199254740992").contains("2^53"));
        assert!(refused("-9007199254740992").contains("2^53"));
        assert!(refused("1e3").contains("not an integer"));
        assert!(refused("{} {}").contains("trailing"));
        assert!(refused(&format!("{}{}", "[".repeat(17), "]".repeat(17))).contains("16 levels"));
        assert!(matches!(
            parse(b"  {}", 3),
            Err(JsonError::TooLarge { found: 4, limit: 3 })
        ));
    }

    #[test]
    fn plain_json_is_read_as_it_stands() {
        let value = parse(br#"{"b":[1,-2,true,null,"x"],"a":{}}"#, 4096).unwrap();
        assert_eq!(value, serde_json::json!({"b": [1, -2, true, null, "x"], "a": {}}));
        assert!(parse(format!("{}{}", "[".repeat(16), "]".repeat(16)).as_bytes(), 4096).is_ok());
    }
}
