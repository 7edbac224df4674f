//! The JSON of a safetensors header, entry by entry.
//!
//! Nothing is skipped: a key that stands twice, or that the format does not know, ends the reading. What the
//! entries say is checked by the parent.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::error::shown;
use super::{Dtype, METADATA_MAX, RANK_MAX, SafetensorsError, Tensor};

/// What the header's object holds, its offsets still counted from the start of the data.
pub(super) struct Entries {
    pub(super) tensors: Vec<Tensor>,
    pub(super) metadata: BTreeMap<String, String>,
}

/// Reads the header's JSON.
pub(super) fn read(json: &[u8]) -> Result<Entries, SafetensorsError> {
    let mut refusal = None;
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let read = EntriesSeed(&mut refusal)
        .deserialize(&mut deserializer)
        .and_then(|entries| deserializer.end().map(|()| entries));
    read.map_err(|error| refusal.unwrap_or_else(|| SafetensorsError::Json(error.to_string())))
}

/// Where a visitor leaves the typed refusal: serde can only carry text.
type Refusal = Option<SafetensorsError>;

fn refuse<E: serde::de::Error>(refusal: &mut Refusal, error: SafetensorsError) -> E {
    let text = E::custom(&error);
    *refusal = Some(error);
    text
}

struct EntriesSeed<'r>(&'r mut Refusal);

impl<'de> DeserializeSeed<'de> for EntriesSeed<'_> {
    type Value = Entries;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Entries, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for EntriesSeed<'_> {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Entries, A::Error> {
        let mut tensors = Vec::new();
        let mut metadata = None;
        while let Some(name) = access.next_key::<String>()? {
            if name == "__metadata__" {
                let found = access.next_value_seed(MetadataSeed(self.0))?;
                if metadata.replace(found).is_some() {
                    return Err(refuse(self.0, SafetensorsError::DuplicateMetadata));
                }
                continue;
            }
            let seed = TensorSeed {
                name: &name,
                refusal: self.0,
            };
            let parts = access
                .next_value_seed(seed)
                .map_err(|e| A::Error::custom(format_args!("tensor {}: {e}", shown(&name))))?;
            tensors.push(Tensor {
                name,
                dtype: parts.0,
                shape: parts.1,
                bytes: parts.2,
            });
        }
        Ok(Entries {
            tensors,
            metadata: metadata.unwrap_or_default(),
        })
    }
}

/// Reads `__metadata__`: null, or an object of strings.
struct MetadataSeed<'r>(&'r mut Refusal);

impl<'de> DeserializeSeed<'de> for MetadataSeed<'_> {
    type Value = BTreeMap<String, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MetadataSeed<'_> {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings as `__metadata__`")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(BTreeMap::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut metadata = BTreeMap::new();
        while let Some((key, value)) = access.next_entry::<String, String>()? {
            if metadata.len() == METADATA_MAX {
                return Err(refuse(self.0, SafetensorsError::TooMuchMetadata));
            }
            if metadata.contains_key(&key) {
                let error = SafetensorsError::DuplicateKey {
                    name: "`__metadata__`".to_owned(),
                    key: shown(&key),
                };
                return Err(refuse(self.0, error));
            }
            metadata.insert(key, value);
        }
        Ok(metadata)
    }
}

struct TensorSeed<'a> {
    name: &'a str,
    refusal: &'a mut Refusal,
}

impl<'de> DeserializeSeed<'de> for TensorSeed<'_> {
    type Value = (Dtype, Vec<u64>, Range<u64>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TensorSeed<'_> {
    type Value = (Dtype, Vec<u64>, Range<u64>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with dtype, shape and data_offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let name = || shown(self.name);
        let (mut dtype, mut shape, mut offsets) = (None, None, None);
        while let Some(key) = access.next_key::<String>()? {
            let twice = match key.as_str() {
                "dtype" => {
                    let text: String = access.next_value()?;
                    let Some(found) = parse_dtype(&text) else {
                        let found = shown(&text);
                        return Err(refuse(
                            self.refusal,
                            SafetensorsError::UnknownDtype { name: name(), found },
                        ));
                    };
                    dtype.replace(found).is_some()
                }
                "shape" => {
                    let Some(found) = access.next_value_seed(Numbers { at_most: RANK_MAX })? else {
                        return Err(refuse(
                            self.refusal,
                            SafetensorsError::TooManyDimensions { name: name() },
                        ));
                    };
                    shape.replace(found).is_some()
                }
                "data_offsets" => {
                    let found = access.next_value_seed(Numbers { at_most: 2 })?;
                    let Some([begin, end]) = found.as_deref() else {
                        let found = found.map_or(3, |numbers| numbers.len());
                        return Err(refuse(
                            self.refusal,
                            SafetensorsError::OffsetCount { name: name(), found },
                        ));
                    };
                    offsets.replace(*begin..*end).is_some()
                }
                _ => {
                    let key = shown(&key);
                    return Err(refuse(
                        self.refusal,
                        SafetensorsError::UnknownKey { name: name(), key },
                    ));
                }
            };
            if twice {
                let (name, key) = (format!("the tensor {}", name()), shown(&key));
                return Err(refuse(self.refusal, SafetensorsError::DuplicateKey { name, key }));
            }
        }
        let missing = |key| SafetensorsError::MissingKey { name: name(), key };
        match (dtype, shape, offsets) {
            (Some(dtype), Some(shape), Some(offsets)) => Ok((dtype, shape, offsets)),
            (None, _, _) => Err(refuse(self.refusal, missing("dtype"))),
            (_, None, _) => Err(refuse(self.refusal, missing("shape"))),
            (_, _, None) => Err(refuse(self.refusal, missing("data_offsets"))),
        }
    }
}

fn parse_dtype(text: &str) -> Option<Dtype> {
    let deserializer: serde::de::value::StrDeserializer<'_, serde::de::value::Error> =
        text.into_deserializer();
    Dtype::deserialize(deserializer).ok()
}

/// Reads a list of whole numbers; `None` when there are more than `at_most`.
struct Numbers {
    at_most: usize,
}

impl<'de> DeserializeSeed<'de> for Numbers {
    type Value = Option<Vec<u64>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Numbers {
    type Value = Option<Vec<u64>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of whole numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut numbers = Vec::new();
        while let Some(number) = access.next_element()? {
            if numbers.len() == self.at_most {
                return Ok(None);
            }
            numbers.push(number);
        }
        numbers.shrink_to_fit();
        Ok(Some(numbers))
    }
}
