//! The part of Jinja that task descriptions need: text with `{{ expressions }}` over a document's fields.
//!
//! ```text
//! expression  operand { "|" filter }
//! operand     "[" expression { "," expression } "]"  |  'text'  |  number  |  path
//! path        field { "." field  |  "[" index or 'field' or path "]"  |  ".strip()" and the like }
//! ```
//!
//! Everything else is refused with a message: a prompt that is a little different is a different task.

use std::fmt::Write as _;

use serde_json::Value;

const DEPTH_MAX: usize = 16;

/// A template, parsed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Value(Expression),
}

#[derive(Debug, Clone, PartialEq)]
enum Expression {
    Literal(Value),
    Field(String),
    List(Vec<Expression>),
    Member(Box<Expression>, Box<Expression>),
    Change(Box<Expression>, Change),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Strip,
    StripLeft,
    StripRight,
    Lower,
    Upper,
}

impl Change {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "strip" | "trim" => Self::Strip,
            "lstrip" => Self::StripLeft,
            "rstrip" => Self::StripRight,
            "lower" => Self::Lower,
            "upper" => Self::Upper,
            _ => return None,
        })
    }

    fn of_text(self, text: &str) -> String {
        match self {
            Self::Strip => text.trim_matches(is_space).to_owned(),
            Self::StripLeft => text.trim_start_matches(is_space).to_owned(),
            Self::StripRight => text.trim_end_matches(is_space).to_owned(),
            Self::Lower => text.to_lowercase(),
            Self::Upper => text.to_uppercase(),
        }
    }
}

/// Says what Python takes for white space: Unicode's, and four control characters.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

impl Template {
    /// Parses a template.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            let (before, from) = rest.split_at(at);
            let mark = from.get(..2).unwrap_or(from);
            if mark == "{%" || mark == "{#" {
                return Err(format!(
                    "`{mark}` is not understood, only {{{{ expressions }}}} are"
                ));
            }
            if mark != "{{" {
                push_text(&mut parts, before);
                push_text(&mut parts, "{");
                rest = &from[1..];
                continue;
            }
            push_text(&mut parts, before);
            let mut reader = Reader { rest: &from[2..] };
            let value = reader.expression(0)?;
            rest = reader.end()?;
            parts.push(Part::Value(value));
        }
        push_text(&mut parts, rest);
        Ok(Self { parts })
    }

    /// Makes the template that is one field of a document.
    pub(crate) fn field(name: &str) -> Self {
        Self {
            parts: vec![Part::Value(Expression::Field(name.to_owned()))],
        }
    }

    /// Returns what it makes of a document: the value of a lone expression, else text.
    pub(crate) fn value(&self, document: &Value) -> Result<Value, String> {
        if let [Part::Value(value)] = self.parts.as_slice() {
            return value.of(document);
        }
        self.text(document).map(Value::String)
    }

    /// Returns the text that it makes of a document.
    pub(crate) fn text(&self, document: &Value) -> Result<String, String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Value(value) => text.push_str(&as_text(&value.of(document)?)?),
            }
        }
        Ok(text)
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        Some(Part::Text(last)) => last.push_str(text),
        _ if text.is_empty() => {}
        _ => parts.push(Part::Text(text.to_owned())),
    }
}

/// Returns a value as Python prints it.
pub(crate) fn as_text(value: &Value) -> Result<String, String> {
    Ok(match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Null => "None".to_owned(),
        Value::Number(number) if number.is_f64() => {
            let mut text = String::new();
            let _ = write!(text, "{:?}", number.as_f64().unwrap_or(f64::NAN));
            text
        }
        Value::Number(number) => number.to_string(),
        Value::Array(_) | Value::Object(_) => {
            return Err("a list or an object where text is needed".to_owned());
        }
    })
}

impl Expression {
    fn of(&self, document: &Value) -> Result<Value, String> {
        match self {
            Self::Literal(value) => Ok(value.clone()),
            Self::Field(name) => document
                .get(name)
                .cloned()
                .ok_or_else(|| format!("the document has no field {name}")),
            Self::List(items) => items.iter().map(|item| item.of(document)).collect(),
            Self::Member(value, index) => {
                let (value, index) = (value.of(document)?, index.of(document)?);
                let found = match (&value, &index) {
                    (Value::Object(map), Value::String(name)) => map.get(name),
                    (Value::Array(list), Value::Number(at)) => {
                        let at = at.as_i64().and_then(|at| {
                            let at = if at < 0 {
                                at + i64::try_from(list.len()).ok()?
                            } else {
                                at
                            };
                            usize::try_from(at).ok()
                        });
                        at.and_then(|at| list.get(at))
                    }
                    _ => None,
                };
                found
                    .cloned()
                    .ok_or_else(|| format!("the document has nothing at {index}"))
            }
            Self::Change(value, change) => Ok(Value::String(change.of_text(&as_text(&value.of(document)?)?))),
        }
    }
}

/// Reads one expression.
struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn skip(&mut self, mark: &str) -> bool {
        self.rest = self.rest.trim_start();
        let after = self.rest.strip_prefix(mark);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    fn refuse<T>(&self) -> Result<T, String> {
        let near: String = self.rest.chars().take(20).collect();
        Err(format!("the expression is not understood near `{near}`"))
    }

    /// Skips what closes an expression, and returns what stands behind it.
    fn end(&mut self) -> Result<&'a str, String> {
        if self.skip("}}") {
            Ok(self.rest)
        } else {
            self.refuse()
        }
    }

    fn name(&mut self) -> Option<&'a str> {
        let rest = self.rest.trim_start();
        let end = rest
            .find(|c: char| !(c.is_alphanumeric() || c == '_'))
            .unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        self.rest = after;
        Some(name)
    }

    fn expression(&mut self, depth: usize) -> Result<Expression, String> {
        let mut value = self.operand(depth)?;
        while self.skip("|") {
            let name = self.name();
            value = match name.and_then(Change::of) {
                Some(change) => Expression::Change(Box::new(value), change),
                None if name == Some("string") => value,
                None => return self.refuse(),
            };
        }
        Ok(value)
    }

    fn operand(&mut self, depth: usize) -> Result<Expression, String> {
        if depth > DEPTH_MAX {
            return self.refuse();
        }
        if self.skip("[") {
            let mut items = Vec::new();
            while !self.skip("]") {
                items.push(self.expression(depth + 1)?);
                if !self.skip(",") && !self.rest.trim_start().starts_with(']') {
                    return self.refuse();
                }
            }
            return Ok(Expression::List(items));
        }
        if let Some(literal) = self.literal()? {
            return Ok(literal);
        }
        let Some(name) = self.name() else {
            return self.refuse();
        };
        let mut value = Expression::Field(name.to_owned());
        loop {
            if self.skip(".") {
                let Some(name) = self.name() else {
                    return self.refuse();
                };
                value = match Change::of(name) {
                    Some(change) if self.skip("()") => Expression::Change(Box::new(value), change),
                    _ => {
                        Expression::Member(Box::new(value), Box::new(Expression::Literal(Value::from(name))))
                    }
                };
            } else if self.skip("[") {
                let index = self.expression(depth + 1)?;
                if !self.skip("]") {
                    return self.refuse();
                }
                value = Expression::Member(Box::new(value), Box::new(index));
            } else {
                return Ok(value);
            }
        }
    }

    fn literal(&mut self) -> Result<Option<Expression>, String> {
        self.rest = self.rest.trim_start();
        for quote in ["'", "\""] {
            if self.skip(quote) {
                let Some((text, after)) = self.rest.split_once(quote) else {
                    return self.refuse();
                };
                if text.contains('\\') {
                    return self.refuse();
                }
                self.rest = after;
                return Ok(Some(Expression::Literal(Value::from(text))));
            }
        }
        let digits = self.rest.strip_prefix('-').unwrap_or(self.rest);
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        if end == 0 {
            return Ok(None);
        }
        let (number, after) = self.rest.split_at(self.rest.len() - digits.len() + end);
        let Ok(number) = number.parse::<i64>() else {
            return self.refuse();
        };
        self.rest = after;
        Ok(Some(Expression::Literal(Value::from(number))))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_put_in() {
        let document =
            json!({"q": " Why? ", "n": 3, "c": {"text": ["a", "b"], "x y": true}, "i": 1, "f": 2.0});
        for (template, expected) in [
            ("", ""),
            ("Q: {{q}}\nA:", "Q:  Why? \nA:"),
            ("{{ q.strip() }}|{{q|trim|upper}}\n", "Why?|WHY?\n"),
            ("{{c.text[0]}}{{c['text'][i]}}{{ c.text[-1] }}", "abb"),
            ("{{c[\"x y\"]}} {{n}} {{f}} {a} {", "True 3 2.0 {a} {"),
        ] {
            let made = Template::parse(template).and_then(|t| t.text(&document));
            assert_eq!(made.as_deref(), Ok(expected), "{template}");
        }
        let list = Template::parse("{{[c.text[0], 'z', n]}}")
            .unwrap()
            .value(&document)
            .unwrap();
        assert_eq!(list, json!(["a", "z", 3]));
        assert_eq!(
            Template::parse("{{n}}").unwrap().value(&document).unwrap(),
            json!(3)
        );
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let deep = format!("{{{{{}", "[".repeat(10_000));
        for template in [
            "{% if a %}",
            "{# c #}",
            "{{a",
            "{{a + b}}",
            "{{a()}}",
            "{{}}",
            "{{- a }}",
            "{{a|join}}",
            "{{a[}}",
            "{{'\\n'}}",
            "{{1.5}}",
            deep.as_str(),
        ] {
            assert!(Template::parse(template).is_err(), "{template}");
        }
        let document = json!({"a": {"b": [1]}});
        for template in ["{{b}}", "{{a.c}}", "{{a.b[1]}}", "{{a}}", "{{a.b[-2]}}"] {
            assert!(
                Template::parse(template).unwrap().text(&document).is_err(),
                "{template}"
            );
        }
    }
}
