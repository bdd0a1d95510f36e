//! JSON as a strict reader sees it: members in their order, and those given twice still there.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are those of RFC 8259")]
pub enum Json {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// The members of an object; none of anything else.
    pub fn members(&self) -> &[(String, Json)] {
        match self {
            Json::Object(members) => members,
            _ => &[],
        }
    }

    /// A member by its name in snake case, which may be written in camel case; null is as good as absent, as in all
    /// protocol buffers' JSON.
    pub fn get(&self, name: &str) -> Option<&Json> {
        let found = self.members().iter().find(|(given, value)| is_field(given, name) && *value != Json::Null);
        found.map(|(_, value)| value)
    }

    /// The text of a member, see [`Json::get`].
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(Json::Text(text)) => Some(text),
            _ => None,
        }
    }
}

/// Whether `given` is the field `name` (snake case), in either spelling.
pub fn is_field(given: &str, name: &str) -> bool {
    given == name || given == camel(name)
}

/// `collapse_key` → `collapseKey`.
fn camel(name: &str) -> String {
    let mut upper = false;
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '_' => upper = true,
            _ if std::mem::take(&mut upper) => out.push(c.to_ascii_uppercase()),
            _ => out.push(c),
        }
    }
    out
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Json::Null => write!(f, "null"),
            Json::Bool(value) => write!(f, "{value}"),
            Json::Number(value) => write!(f, "{value}"),
            Json::Text(value) => write!(f, "{}", serde_json::Value::from(value.as_str())),
            Json::List(_) => write!(f, "[…]"),
            Json::Object(_) => write!(f, "{{…}}"),
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("json")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(serde_json::Number::from_f64(value).map_or(Json::Null, Json::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = entries.next_entry()? {
            members.push(member);
        }
        Ok(Json::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_doubles_are_kept_and_fields_found_in_either_spelling() {
        let json: Json =
            serde_json::from_str(r#"{"b":1,"a":[true,null,-2.5],"b":"x","collapseKey":"k","tag":null}"#).expect("json");
        assert_eq!(
            json.members().iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            ["b", "a", "b", "collapseKey", "tag"]
        );
        assert_eq!(json.text("collapse_key"), Some("k"));
        assert_eq!(json.get("tag"), None, "null is as good as absent");
        assert!(is_field("title_loc_args", "title_loc_args") && is_field("titleLocArgs", "title_loc_args"));
        assert!(!is_field("titleloc_args", "title_loc_args"));
    }
}
