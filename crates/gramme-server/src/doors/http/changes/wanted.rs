//! What the bodies of ring changes ask for. A field that its change does not take is refused, never passed over.

use super::super::problem::{Problem, unknown};
use gramme_core::LayoutHash;
use gramme_node::request::{Request, Wanted};
use serde_json::{Map, Value};

/// `{"change": "join", "node": "n4", ...}`.
pub(super) fn change(object: Map<String, Value>) -> Result<Wanted, Problem> {
    let mut fields = Fields(object);
    let change = fields.word("change")?.unwrap_or_default();
    let Some((_, known)) = CHANGES.iter().find(|(name, _)| *name == change) else {
        return Err(unknown("change", &change, &CHANGES.map(|(name, _)| name)));
    };
    fields.only(&format!("a {change}"), known)?;
    Ok(match &*change {
        "join" => Wanted::Join {
            node: fields.needed(&change, "node")?,
            weight: fields.weight()?,
            zone: fields.word("zone")?,
        },
        "leave" => Wanted::Leave { node: fields.needed(&change, "node")?, lost: fields.flag("lost")? },
        "replace" => Wanted::Replace {
            old: fields.needed(&change, "node")?,
            new: fields.needed(&change, "new")?,
            force: fields.flag("force")?,
        },
        "weight" => Wanted::Weight {
            node: fields.needed(&change, "node")?,
            weight: fields.weight()?.ok_or_else(|| missing(&change, "weight"))?,
        },
        _ => Wanted::Zone { node: fields.needed(&change, "node")?, zone: fields.needed(&change, "zone")? },
    })
}

/// `{"hash": "..."}`.
pub(super) fn commit(object: Map<String, Value>) -> Result<Request, Problem> {
    let mut fields = Fields(object);
    fields.only("a commit", &["hash", "force"])?;
    let text = fields.needed("commit", "hash")?;
    let hash = hash(&text).ok_or_else(|| {
        Problem::bad_request(format!(
            "hash is {text:?}: use the 32 hexadecimal digits that /v1/cluster/plan gives"
        ))
    })?;
    Ok(if fields.flag("force")? { Request::ForceCommit(hash) } else { Request::Commit(hash) })
}

fn hash(text: &str) -> Option<LayoutHash> {
    let is_one = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u128::from_str_radix(text, 16).ok().filter(|_| is_one).map(LayoutHash)
}

/// An object's fields, each to be taken once.
struct Fields(Map<String, Value>);

impl Fields {
    fn only(&self, whose: &str, known: &[&str]) -> Result<(), Problem> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(unknown(&format!("field of {whose}"), name, known)),
            None => Ok(()),
        }
    }

    fn needed(&mut self, whose: &str, name: &str) -> Result<String, Problem> {
        self.word(name)?.filter(|word| !word.is_empty()).ok_or_else(|| missing(whose, name))
    }

    /// A text; `null` is as good as none, here and below.
    fn word(&mut self, name: &str) -> Result<Option<String>, Problem> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(word)) => Ok(Some(word)),
            Some(other) => Err(Problem::bad_request(format!("{name} is {other}: use a text"))),
        }
    }

    fn flag(&mut self, name: &str) -> Result<bool, Problem> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(Problem::bad_request(format!("{name} is {other}: use true or false"))),
        }
    }

    fn weight(&mut self) -> Result<Option<u32>, Problem> {
        let value = self.0.remove("weight").unwrap_or_default();
        let weight =
            value.as_u64().and_then(|weight| u32::try_from(weight).ok()).filter(|weight| *weight > 0);
        if weight.is_none() && !value.is_null() {
            return Err(Problem::bad_request(format!("weight is {value}: use a whole number from 1")));
        }
        Ok(weight)
    }
}

fn missing(whose: &str, name: &str) -> Problem {
    Problem::bad_request(format!("a {whose} needs the field {name}"))
}

/// The changes, and the fields that each takes.
const CHANGES: [(&str, &[&str]); 5] = [
    ("join", &["change", "node", "weight", "zone"]),
    ("leave", &["change", "node", "lost"]),
    ("replace", &["change", "node", "new", "force"]),
    ("weight", &["change", "node", "weight"]),
    ("zone", &["change", "node", "zone"]),
];
pub(super) const CHANGE_EXAMPLE: &str = "{\"change\": \"join\", \"node\": \"n4\"}";
pub(super) const COMMIT_EXAMPLE: &str = "{\"hash\": \"00c0ffee00c0ffee00c0ffee00c0ffee\"}";

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should stop where it stands")]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(json: Value) -> Map<String, Value> {
        json.as_object().unwrap().clone()
    }

    fn refusal<T>(result: Result<T, Problem>) -> String {
        result.err().unwrap().json()["detail"].as_str().unwrap().to_owned()
    }

    #[test]
    fn each_change_is_read_with_the_fields_that_it_takes() {
        let node = || "n4".to_owned();
        let cases = [
            (
                json!({"change": "join", "node": "n4"}),
                Wanted::Join { node: node(), weight: None, zone: None },
            ),
            (
                json!({"change": "join", "node": "n4", "weight": 2, "zone": "b"}),
                Wanted::Join { node: node(), weight: Some(2), zone: Some("b".to_owned()) },
            ),
            (json!({"change": "leave", "node": "n4"}), Wanted::Leave { node: node(), lost: false }),
            (
                json!({"change": "leave", "node": "n4", "lost": true}),
                Wanted::Leave { node: node(), lost: true },
            ),
            (
                json!({"change": "replace", "node": "n1", "new": "n4", "force": true}),
                Wanted::Replace { old: "n1".to_owned(), new: node(), force: true },
            ),
            (
                json!({"change": "weight", "node": "n4", "weight": 3}),
                Wanted::Weight { node: node(), weight: 3 },
            ),
            (
                json!({"change": "zone", "node": "n4", "zone": "b"}),
                Wanted::Zone { node: node(), zone: "b".to_owned() },
            ),
        ];
        for (body, wanted) in cases {
            assert_eq!(change(object(body)).unwrap(), wanted);
        }
    }

    #[test]
    fn a_change_that_says_too_little_or_too_much_is_refused_with_what_was_meant() {
        for (body, detail) in [
            (json!({"change": "jion", "node": "n4"}), "unknown change \"jion\": did you mean join?"),
            (json!({}), "unknown change \"\": known are join, leave, replace, weight, zone"),
            (json!({"change": "join"}), "a join needs the field node"),
            (json!({"change": "weight", "node": "n4"}), "a weight needs the field weight"),
            (
                json!({"change": "weight", "node": "n4", "weight": 0}),
                "weight is 0: use a whole number from 1",
            ),
            (json!({"change": "leave", "node": 4}), "node is 4: use a text"),
            (json!({"change": "leave", "node": "n4", "lost": 1}), "lost is 1: use true or false"),
            (
                json!({"change": "leave", "node": "n4", "lots": true}),
                "unknown field of a leave \"lots\": did you mean lost?",
            ),
        ] {
            assert_eq!(refusal(change(object(body))), detail);
        }
    }

    #[test]
    fn a_commit_names_a_whole_hash() {
        let digits = "00c0ffee00c0ffee00c0ffee00c0ffee";
        let hash = LayoutHash(0x00c0_ffee_00c0_ffee_00c0_ffee_00c0_ffee);
        assert!(
            matches!(commit(object(json!({"hash": digits}))), Ok(Request::Commit(named)) if named == hash)
        );
        let forced = commit(object(json!({"hash": digits, "force": true})));
        assert!(matches!(forced, Ok(Request::ForceCommit(named)) if named == hash));
        for short in ["00c0ffee", "+0c0ffee00c0ffee00c0ffee00c0ffee", ""] {
            assert!(commit(object(json!({"hash": short}))).is_err(), "{short}");
        }
    }
}
