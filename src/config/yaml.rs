//! YAML as `config` reads it, with two differences: scalars stay text as written, and each value knows its line.
//!
//! YAML's own typing would turn a key id `0012345678` into a number and `12345E6789` into infinity; a key's type is known
//! to its room, not to the file.

use std::collections::HashMap;
use std::error::Error;

use config::{File, FileFormat, FileStoredFormat, Format, Map, Source as _, Value as Raw, ValueKind};
use yaml_rust2::parser::{Event, MarkedEventReceiver, Parser};
use yaml_rust2::scanner::{Marker, TScalarStyle};

use super::value::Value;

/// One value of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The dotted name as written.
    pub(super) name: String,
    pub(super) value: Value,
    pub(super) line: usize,
}

/// The file cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub(super) struct Malformed {
    pub(super) line: usize,
    pub(super) what: String,
}

/// All values of a file in order of their names; nested mappings and literal dotted keys alike become dotted names.
/// What is null or absent is left out.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, Malformed> {
    let map = File::from_str(text, Verbatim).collect().map_err(|error| {
        let cause = match error {
            config::ConfigError::FileParse { cause, .. } => cause,
            other => Box::new(other),
        };
        match cause.downcast::<Malformed>() {
            Ok(malformed) => *malformed,
            Err(other) => Malformed { line: 1, what: other.to_string() },
        }
    })?;
    let mut entries = Vec::new();
    flatten("", Raw::new(None, map), &mut entries);
    entries.sort_by(|a: &Entry, b: &Entry| a.name.to_lowercase().cmp(&b.name.to_lowercase()).then(a.line.cmp(&b.line)));
    match entries.windows(2).find(|pair| pair[0].name.to_lowercase() == pair[1].name.to_lowercase()) {
        Some(pair) => Err(Malformed {
            line: pair[1].line,
            what: format!("{} is written twice, first in line {}: keep one", pair[1].name, pair[0].line),
        }),
        None => Ok(entries),
    }
}

fn flatten(name: &str, raw: Raw, out: &mut Vec<Entry>) {
    let line = raw.origin().and_then(|origin| origin.parse().ok()).unwrap_or(1);
    let join = |part: &str| if name.is_empty() { part.to_owned() } else { format!("{name}.{part}") };
    match raw.kind {
        ValueKind::Table(map) => map.into_iter().for_each(|(part, value)| flatten(&join(&part), value, out)),
        ValueKind::Array(items) => {
            let mut texts = Vec::with_capacity(items.len());
            for (index, item) in items.into_iter().enumerate() {
                match item.kind {
                    ValueKind::String(text) => texts.push(text),
                    // No key is a list of mappings: named as unknown by whoever compares with the known ones.
                    _ => flatten(&join(&index.to_string()), item, out),
                }
            }
            out.push(Entry { name: name.to_owned(), value: Value::List(texts), line });
        }
        ValueKind::Nil => {}
        other => {
            let value = Value::Scalar(Raw::new(None, other).to_string());
            out.push(Entry { name: name.to_owned(), value, line });
        }
    }
}

#[derive(Clone, Debug)]
struct Verbatim;

impl FileStoredFormat for Verbatim {
    fn file_extensions(&self) -> &'static [&'static str] {
        FileFormat::Yaml.file_extensions()
    }
}

impl Format for Verbatim {
    fn parse(&self, _uri: Option<&String>, text: &str) -> Result<Map<String, Raw>, Box<dyn Error + Send + Sync>> {
        let mut tree = Tree::default();
        Parser::new_from_str(text)
            .load(&mut tree, true)
            .map_err(|error| Malformed { line: error.marker().line(), what: not_yaml(error.info()) })?;
        Ok(tree.finish()?)
    }
}

fn not_yaml(info: &str) -> String {
    let advice = if info.contains("tabs") { "; indent with spaces" } else { "" };
    format!("not YAML: {info}{advice}")
}

enum Open {
    Mapping { map: Map<String, Raw>, key: Option<String>, line: usize, anchor: usize },
    Sequence { items: Vec<Raw>, line: usize, anchor: usize },
}

#[derive(Default)]
struct Tree {
    open: Vec<Open>,
    anchors: HashMap<usize, Raw>,
    root: Option<Raw>,
    documents: usize,
    error: Option<Malformed>,
}

impl MarkedEventReceiver for Tree {
    fn on_event(&mut self, event: Event, mark: Marker) {
        let line = mark.line();
        match event {
            Event::DocumentStart => self.documents += 1,
            Event::MappingStart(anchor, _) => {
                self.open.push(Open::Mapping { map: Map::new(), key: None, line, anchor });
            }
            Event::SequenceStart(anchor, _) => self.open.push(Open::Sequence { items: Vec::new(), line, anchor }),
            Event::MappingEnd | Event::SequenceEnd => match self.open.pop() {
                Some(Open::Mapping { map, line, anchor, .. }) => self.insert(at(line, map), anchor, line),
                Some(Open::Sequence { items, line, anchor }) => self.insert(at(line, items), anchor, line),
                None => {}
            },
            Event::Scalar(text, TScalarStyle::Plain, anchor, _)
                if matches!(&*text, "" | "~" | "null" | "Null" | "NULL") =>
            {
                self.insert(at(line, ValueKind::Nil), anchor, line);
            }
            Event::Scalar(text, _, anchor, _) => self.insert(at(line, text), anchor, line),
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(value) => self.insert(value, 0, line),
                None => self.fail(line, "an alias stands inside its own anchor"),
            },
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
    }
}

fn at(line: usize, kind: impl Into<ValueKind>) -> Raw {
    Raw::new(Some(&line.to_string()), kind)
}

impl Tree {
    fn insert(&mut self, value: Raw, anchor: usize, line: usize) {
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(value);
            return;
        };
        match open {
            Open::Sequence { items, .. } => items.push(value),
            Open::Mapping { map, key, .. } => match (key.take(), &value.kind) {
                (None, ValueKind::String(text)) => *key = Some(text.clone()),
                (None, _) => self.fail(line, "a key must be a word"),
                (Some(name), _) if map.contains_key(&name) => {
                    self.fail(line, &format!("{name} is written twice: keep one"));
                }
                (Some(name), _) => drop(map.insert(name, value)),
            },
        }
    }

    fn fail(&mut self, line: usize, what: &str) {
        self.error.get_or_insert(Malformed { line, what: what.to_owned() });
    }

    fn finish(self) -> Result<Map<String, Raw>, Malformed> {
        let wrong = |line, what: &str| Err(Malformed { line, what: what.to_owned() });
        match (self.error, self.root) {
            (Some(error), _) => Err(error),
            (None, _) if self.documents > 1 => wrong(1, "must be one YAML document, not several"),
            (None, None | Some(Raw { kind: ValueKind::Nil, .. })) => Ok(Map::new()),
            (None, Some(Raw { kind: ValueKind::Table(map), .. })) => Ok(map),
            (None, Some(_)) => wrong(1, "must be a mapping such as `queue:` with keys below it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap().into_iter().map(|entry| (entry.name, entry.value.text())).collect()
    }

    fn one(text: &str) -> String {
        pairs(text).remove(0).1
    }

    #[test]
    fn nested_and_dotted_names_are_the_same() {
        let expected = [("apns.rateLimit.rpm".to_owned(), "20".to_owned())];
        for text in ["apns:\n  rateLimit.rpm: 20\n", "apns.rateLimit:\n  rpm: 20\n", "apns: {rateLimit: {rpm: '20'}}"] {
            assert_eq!(pairs(text), expected, "{text}");
        }
    }

    #[test]
    fn scalars_stay_as_written() {
        for written in ["0012345678", "12345E6789", "0x10", "1_000", "1.50", "true", "yes", "2026-01-01", "a: b"] {
            let text = if written.contains(':') { format!("k: '{written}'") } else { format!("k: {written}") };
            assert_eq!(one(&text), written);
        }
        assert_eq!(one("k: |\n  {\"a\": 1,\n   \"b\": 2}\n"), "{\"a\": 1,\n \"b\": 2}\n");
        assert_eq!(one("k: \"null\""), "null");
    }

    #[test]
    fn null_is_absent_and_an_empty_text_is_not() {
        assert_eq!(pairs("a:\nb: ~\nc: null\n"), []);
        assert_eq!(pairs("# nothing\n"), []);
        assert_eq!(pairs("---\n~\n"), []);
        assert_eq!(pairs("a: ''\n"), [("a".to_owned(), String::new())]);
    }

    #[test]
    fn lists_lines_and_anchors() {
        let entries = parse("queue:\n  # comment\n  topics:\n    - ^push-a\n    - b\nc: &x 1\nd: *x\n").unwrap();
        let topics = &entries[2];
        assert_eq!((topics.name.as_str(), topics.line), ("queue.topics", 4));
        assert_eq!(topics.value, Value::List(vec!["^push-a".into(), "b".into()]));
        assert_eq!((entries[1].name.as_str(), entries[1].value.text().as_str()), ("d", "1"));
        assert_eq!(entries[0].line, 6);
    }

    #[test]
    fn what_cannot_be_understood_names_its_line() {
        let error = |text| parse(text).unwrap_err().to_string();
        insta::assert_snapshot!(error("a: 1\nb: [1, 2\n"), @"line 3: not YAML: while parsing a flow sequence, expected ',' or ']'");
        insta::assert_snapshot!(error("a:\n\tb: 1\n"), @"line 2: not YAML: tabs disallowed within this context (block indentation); indent with spaces");
        insta::assert_snapshot!(error("a: 1\nA: 2\n"), @"line 2: A is written twice, first in line 1: keep one");
        insta::assert_snapshot!(error("a: 1\nb: 2\na: 3\n"), @"line 3: a is written twice: keep one");
        insta::assert_snapshot!(error("a.b: 1\na:\n  b: 2\n"), @"line 3: a.b is written twice, first in line 1: keep one");
        insta::assert_snapshot!(error("- a\n- b\n"), @"line 1: must be a mapping such as `queue:` with keys below it");
        insta::assert_snapshot!(error("a: 1\n---\nb: 2\n"), @"line 1: must be one YAML document, not several");
        insta::assert_snapshot!(error("? [a, b]\n: 1\n"), @"line 1: a key must be a word");
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused_without_a_panic(text in "[-a-c:.?&*\\[\\]{}'\"|>#, \\n\\t]{0,40}") {
            let _ = parse(&text);
        }

        #[test]
        fn a_quoted_value_comes_back(value in "[^\u{0}-\u{1f}\u{7f}-\u{9f}\u{feff}\u{fffe}\u{ffff}\u{2028}\u{2029}]{1,30}") {
            prop_assert_eq!(one(&format!("k: '{}'", value.replace('\'', "''"))), value);
        }
    }
}
