//! JSON as it is accepted where it is signed: read once, strictly, and never written again.
//!
//! Two parsers that read one document differently are a hole in a signature. So a duplicate key, a number
//! that is not an integer of at most 2^53 - 1 in size, more than 16 levels and anything past the size limit
//! are refused (the I-JSON subset of RFC 7493, narrower on numbers). A shape has one spelling too: where an
//! object is asked for, serde would also take a list of its fields' values, and where a word, an object with
//! that word as its key. Here it may not.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Error as _, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    Visitor,
};
use serde::forward_to_deserialize_any;
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
    from_value(parse(bytes, limit)?)
}

/// Reads a value that was parsed strictly, as strictly about its shape.
///
/// # Errors
/// When it does not have the shape of `T`.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, JsonError> {
    T::deserialize(Shaped(value)).map_err(|e| JsonError::Malformed(e.to_string()))
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

/// A value that gives structs only objects, and enums only strings.
struct Shaped(Value);

impl<'de> IntoDeserializer<'de, serde_json::Error> for Shaped {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> serde::Deserializer<'de> for Shaped {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(value) => value.deserialize_any(visitor),
            Value::String(value) => visitor.visit_string(value),
            Value::Array(items) => {
                let mut items = SeqDeserializer::new(items.into_iter().map(Self));
                let value = visitor.visit_seq(&mut items)?;
                items.end()?;
                Ok(value)
            }
            Value::Object(map) => {
                let mut map = MapDeserializer::new(map.into_iter().map(|(key, value)| (key, Self(value))));
                let value = visitor.visit_map(&mut map)?;
                map.end()?;
                Ok(value)
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        match self.0 {
            Value::Array(_) => Err(Self::Error::invalid_type(Unexpected::Seq, &"an object")),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        match self.0 {
            Value::String(word) => visitor.visit_enum(word.into_deserializer()),
            _ => Err(Self::Error::custom(
                "expected a string where one of several words stands",
            )),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Word {
        Yes,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Shape {
        word: Word,
        list: Vec<Option<u32>>,
    }

    #[test]
    fn a_shape_has_one_spelling() {
        let read = |text: &str| from_slice::<Vec<Shape>>(text.as_bytes(), 4096);
        let shape = Shape {
            word: Word::Yes,
            list: vec![Some(1), None],
        };
        assert_eq!(read(r#"[{"word":"yes","list":[1,null]}]"#).unwrap(), [shape]);
        for bad in [
            r#"[["yes",[1,null]]]"#,
            r#"[{"word":{"yes":null},"list":[]}]"#,
            r#"[{"word":"no","list":[]}]"#,
            r#"[{"word":"yes","list":[-1]}]"#,
            r#"[{"word":"yes","list":{}}]"#,
            r#"[{"word":"yes"}]"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

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
