//! YAML as task descriptions use it, read into JSON values.
//!
//! Plain scalars mean what they mean to the reference's reader, which knows YAML 1.1: `yes`, `no`, `on` and `off`
//! are truth values. Refused are aliases (nothing grows beyond the text), tags that call for code, and keys
//! that are there twice.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

const DEPTH_MAX: usize = 32;
/// Far beyond any task description.
pub(crate) const BYTES_MAX: usize = 1 << 20;

/// Reads one document.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    if text.len() > BYTES_MAX {
        return Err(format!(
            "{} bytes of YAML, at most {BYTES_MAX} are read",
            text.len()
        ));
    }
    let mut events = Events(Parser::new_from_str(text));
    loop {
        match events.next()? {
            Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => {}
            Event::StreamEnd => return Ok(Value::Null),
            event => {
                let value = events.value(event, 0)?;
                return match (events.next()?, events.next()?) {
                    (Event::DocumentEnd, Event::StreamEnd) => Ok(value),
                    _ => Err("more than one YAML document".to_owned()),
                };
            }
        }
    }
}

struct Events<'a>(Parser<'a, saphyr_parser::StrInput<'a>>);

impl<'a> Events<'a> {
    fn next(&mut self) -> Result<Event<'a>, String> {
        match self.0.next_event() {
            Some(Ok((event, _))) => Ok(event),
            Some(Err(error)) => Err(error.to_string()),
            None => Ok(Event::StreamEnd),
        }
    }

    fn value(&mut self, event: Event<'a>, depth: usize) -> Result<Value, String> {
        if depth > DEPTH_MAX {
            return Err(format!("nested more than {DEPTH_MAX} deep"));
        }
        match event {
            Event::Scalar(text, style, _, tag) => match tag {
                Some(tag) if !tag.is_yaml_core_schema() => Err(format!("the tag {tag} calls for code")),
                Some(tag) if tag.suffix == "str" => Ok(Value::from(text.as_ref())),
                Some(tag) => Err(format!("the tag {tag} is not read")),
                None if style == ScalarStyle::Plain => Ok(plain(&text)),
                None => Ok(Value::from(text.as_ref())),
            },
            Event::SequenceStart(_, None) => {
                let mut list = Vec::new();
                loop {
                    match self.next()? {
                        Event::SequenceEnd => return Ok(Value::Array(list)),
                        event => list.push(self.value(event, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(_, None) => {
                let mut map = Map::new();
                loop {
                    let key = match self.next()? {
                        Event::MappingEnd => return Ok(Value::Object(map)),
                        Event::Scalar(key, _, _, None) if key != "<<" => key.into_owned(),
                        _ => return Err("a key that is no plain text".to_owned()),
                    };
                    let event = self.next()?;
                    let value = self.value(event, depth + 1)?;
                    if map.insert(key.clone(), value).is_some() {
                        return Err(format!("{key} is there twice"));
                    }
                }
            }
            Event::SequenceStart(_, Some(tag)) | Event::MappingStart(_, Some(tag)) => {
                Err(format!("the tag {tag} is not read"))
            }
            Event::Alias(_) => Err("aliases are not read".to_owned()),
            _ => Err("ends within a value".to_owned()),
        }
    }
}

/// Resolves a scalar without quotes.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Value::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    if let Ok(whole) = text.parse::<i64>() {
        return Value::from(whole);
    }
    let numeric = text.contains('.') && text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    let number = text.parse::<f64>().ok().filter(|_| numeric);
    number.map_or_else(|| Value::from(text), Value::from)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_descriptions_use_is_read() {
        let text = "# a comment\ntask: t # behind\nlist:\n  - a\n  - {metric: acc, better: true}\nmany: |\n  one\n  two\nnone:\nn: 3\nf: 1.5\nv: 1.5.0\nq: \"{{x}}\\n\"\ns: 'it''s'\nw: no\n";
        let expected = json!({
            "task": "t", "list": ["a", {"metric": "acc", "better": true}], "many": "one\ntwo\n", "none": null,
            "n": 3, "f": 1.5, "v": "1.5.0", "q": "{{x}}\n", "s": "it's", "w": false,
        });
        assert_eq!(parse(text).unwrap(), expected);
        assert_eq!(parse("").unwrap(), Value::Null);
    }

    #[test]
    fn what_could_grow_or_run_is_refused() {
        let deep = "[".repeat(1000);
        for text in [
            "a: &x 1\nb: *x",
            "a: !function utils.f",
            "a: 1\na: 2",
            "a: 1\n---\nb: 2",
            "<<: {a: 1}",
            "a: [1, 2",
            "? {a: 1}\n: 2",
            deep.as_str(),
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
