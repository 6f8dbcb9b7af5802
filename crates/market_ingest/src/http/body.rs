//! The bodies of writes: small JSON objects, read whole within limits, every fault told with its field.

use std::fmt;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use futures_util::StreamExt as _;
use ingest_status::Timestamp;
use ingest_switch::Scope;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tokio::time::timeout;

use super::problem::Problem;

/// No body is longer, bytes.
const BODY_MAX: usize = 16 * 1024;
/// A longer body is read to this many bytes before it is refused.
const SKIPPED_MAX: usize = 1 << 20;
/// A body that trickles in is given up after this time.
const BODY_LIMIT: Duration = Duration::from_secs(5);
/// Scopes or hold ids in one request.
const LIST_MAX: usize = 100;
/// Characters of a reason.
const REASON_MAX: usize = 500;
/// Characters of an actor.
const ACTOR_MAX: usize = 200;
/// Characters of a hold's id.
const ID_MAX: usize = 200;

/// What to hold, why, by whom and until when. Everything may be left out.
#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PauseBody {
    /// What to hold: one scope or a list. Default: `all`, or the job that the path names.
    pub(super) scope: Option<Scopes>,
    /// Why.
    pub(super) reason: Option<Words<REASON_MAX>>,
    /// Who asks. Where the platform has verified the caller it is that one.
    pub(super) actor: Option<Words<ACTOR_MAX>>,
    /// When the hold ends by itself: a time to come.
    pub(super) until: Option<Timestamp>,
}

/// Which holds to release, and by whom. Everything may be left out.
#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ResumeBody {
    /// Which of the caller's own holds to release, by what they cover: one scope or a list. Default: `all`, or the
    /// job that the path names; nothing where `hold` is given.
    pub(super) scope: Option<Scopes>,
    /// Holds to release by their ids, whoever placed them: one or a list.
    pub(super) hold: Option<HoldIds>,
    /// Why.
    pub(super) reason: Option<Words<REASON_MAX>>,
    /// Who asks. Where the platform has verified the caller it is that one.
    pub(super) actor: Option<Words<ACTOR_MAX>>,
}

/// One scope or several.
#[derive(Debug, PartialEq)]
pub(super) struct Scopes(pub(super) Vec<Scope>);

/// One hold's id or several.
#[derive(Debug, PartialEq)]
pub(super) struct HoldIds(pub(super) Vec<String>);

/// Printable text of at most `MAX` characters, trimmed; blank means none.
#[derive(Debug, PartialEq)]
pub(super) struct Words<const MAX: usize>(String);

impl<const MAX: usize> Words<MAX> {
    pub(super) fn text(self) -> Option<String> {
        Some(self.0).filter(|text| !text.is_empty())
    }
}

/// Reads a request's body; one that is empty says nothing.
pub(super) async fn read<T: DeserializeOwned + Default>(request: Request) -> Result<T, Problem> {
    let json = request.headers().get(header::CONTENT_TYPE).is_some_and(|value| {
        let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("application/json")
    });
    let body = timeout(BODY_LIMIT, collect(request.into_body())).await.unwrap_or_else(|_| {
        let detail = format!("the body was not complete within {BODY_LIMIT:?}");
        Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail))
    })?;
    let body = body.trim_ascii();
    if body.is_empty() {
        return Ok(T::default());
    }
    if !json {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "a body needs Content-Type: application/json",
        ));
    }
    parse(body)
}

/// Reads on over what is too long, within limits: a client that is still sending would see its connection break
/// instead of the answer.
async fn collect(body: Body) -> Result<Vec<u8>, Problem> {
    let mut body = body.into_data_stream();
    let (mut kept, mut length) = (Vec::new(), 0);
    while let Some(bytes) = body.next().await {
        let bytes = bytes.map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the body broke off"))?;
        length += bytes.len();
        if length <= BODY_MAX {
            kept.extend_from_slice(&bytes);
        } else if length > SKIPPED_MAX {
            break;
        }
    }
    if length > BODY_MAX {
        let detail = format!("a body has at most {BODY_MAX} bytes");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
    }
    Ok(kept)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // A list would be taken for the fields in their order.
    if body.first() != Some(&b'{') {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "the body is not a JSON object"));
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = error.path().to_string();
        let inner = error.into_inner();
        if inner.is_data() && field != "." {
            Problem::field(&field, format!("{field}: {inner}"))
        } else {
            Problem::new(StatusCode::BAD_REQUEST, format!("the body is not as described: {inner}"))
        }
    })?;
    json.end()
        .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "something follows the body's JSON object"))?;
    Ok(parsed)
}

impl<'de, const MAX: usize> Deserialize<'de> for Words<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.chars().count() > MAX {
            return Err(D::Error::custom(format!("longer than {MAX} characters")));
        }
        match text.chars().find(|c| !is_printable(*c)) {
            Some(c) => Err(D::Error::custom(format!("U+{:04X} is not a printable character", u32::from(c)))),
            None => Ok(Self(text.trim().to_owned())),
        }
    }
}

impl<const MAX: usize> JsonSchema for Words<MAX> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("TextOf{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": MAX,
            "pattern": PRINTABLE,
            "description": "Printable characters; blank means none."
        })
    }
}

/// What [`is_printable`] takes, for the description.
const PRINTABLE: &str = "^[^\\u0000-\\u001F\\u007F-\\u009F\\u200E\\u200F\\u2028-\\u202E\\u2066-\\u2069]*$";

/// Neither a control character nor one that makes a line look like another: what is shown to an operator must be
/// what was written.
fn is_printable(c: char) -> bool {
    !(c.is_control()
        || matches!(c, '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}'))
}

impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parse = |text: &str| text.parse::<Scope>().map_err(|error| error.to_string());
        deserializer.deserialize_any(OneOrMore { what: "a scope or a list of scopes", parse }).map(Self)
    }
}

impl JsonSchema for Scopes {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Scopes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let words: Vec<_> = ingest_switch::CHANNELS.into_iter().map(in_any_case).collect();
        let [all, job, symbol] = ["all", "job", "symbol"].map(in_any_case);
        let scope = serde_json::json!({
            "type": "string",
            "pattern": format!(
                r"^\s*({all}|{job}:[!-.0-~]{{1,100}}|{symbol}:[!-~]{{0,99}}[!-.0-~])(/({}))?\s*$",
                words.join("|")
            ),
            "examples": ["all", "job:iex", "symbol:BTC*/quotes"]
        });
        one_or_more(
            scope,
            "What a hold covers: `all`, `job:NAME` or `symbol:PATTERN`, each with `/CHANNEL` or not.",
        )
    }
}

/// A pattern of `word` in any letter case; patterns in JSON have no flag for that.
fn in_any_case(word: &str) -> String {
    word.chars().map(|c| format!("[{}{}]", c.to_ascii_lowercase(), c.to_ascii_uppercase())).collect()
}

impl<'de> Deserialize<'de> for HoldIds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parse = |text: &str| {
            let good = (1..=ID_MAX).contains(&text.chars().count()) && text.chars().all(is_printable);
            good.then(|| text.to_owned()).ok_or_else(|| format!("a hold's id has 1 to {ID_MAX} characters"))
        };
        deserializer.deserialize_any(OneOrMore { what: "a hold's id or a list of ids", parse }).map(Self)
    }
}

impl JsonSchema for HoldIds {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HoldIds".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let id = serde_json::json!({ "type": "string", "minLength": 1, "maxLength": ID_MAX, "pattern": PRINTABLE });
        one_or_more(id, "Ids as `holds` of an answer or `control:ID` of a status names them.")
    }
}

fn one_or_more(item: serde_json::Value, description: &str) -> Schema {
    json_schema!({
        "description": description,
        "anyOf": [item, { "type": "array", "items": item, "minItems": 1, "maxItems": LIST_MAX }]
    })
}

/// Takes one text or a list of them.
struct OneOrMore<P> {
    what: &'static str,
    parse: P,
}

impl<'de, T, P: Fn(&str) -> Result<T, String>> Visitor<'de> for OneOrMore<P> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<T>, E> {
        (self.parse)(text).map(|one| vec![one]).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut all = Vec::new();
        while let Some(text) = list.next_element::<String>()? {
            if all.len() == LIST_MAX {
                return Err(A::Error::custom(format!("a list of more than {LIST_MAX}")));
            }
            all.push((self.parse)(&text).map_err(A::Error::custom)?);
        }
        if all.is_empty() {
            return Err(A::Error::custom(format!("an empty list; expected {}", self.what)));
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn pause(text: &str) -> Result<PauseBody, Problem> {
        parse(text.as_bytes())
    }

    #[track_caller]
    fn refused(text: &str, field: Option<&str>, says: &str) {
        let problem = pause(text).unwrap_err();
        let (status, detail, named) = problem.parts();
        assert_eq!((status, named), (400, field), "{text}: {detail}");
        assert!(detail.contains(says), "{text}: {detail}");
    }

    #[test]
    fn a_body_says_what_is_held_in_one_scope_or_several() {
        let all = |text| pause(text).unwrap().scope.unwrap().0;
        assert_eq!(all(r#"{"scope": "ALL"}"#), [Scope::ALL]);
        let two = all(r#"{"scope": ["job:iex", "symbol:btc/usd/quotes"]}"#);
        assert_eq!(two, [Scope::job("iex"), Scope::symbol("BTC/USD").on_channel("quotes").unwrap()]);
        assert_eq!(pause("{}").unwrap(), PauseBody::default());
        assert_eq!(pause(r#"{"scope": null, "reason": null}"#).unwrap(), PauseBody::default());
        let body = pause(r#"{"reason": "  maintenance ", "actor": " "}"#).unwrap();
        assert_eq!(body.reason.unwrap().text().as_deref(), Some("maintenance"));
        assert_eq!(body.actor.unwrap().text(), None);
    }

    #[test]
    fn a_wrong_body_is_told_which_field_and_what_is_accepted() {
        refused(r#"{"scop": "all"}"#, Some("scop"), "expected one of `scope`, `reason`, `actor`, `until`");
        refused(r#"{"reason": 5}"#, Some("reason"), "expected a string");
        refused(r#"{"actor": ["ann"]}"#, Some("actor"), "expected a string");
        refused(r#"{"until": "tomorrow"}"#, Some("until"), "until:");
        refused(r#"{"until": 5}"#, Some("until"), "until:");
        refused(r#"{"scope": 5}"#, Some("scope"), "a scope or a list of scopes");
        refused(r#"{"scope": {"all": 1}}"#, Some("scope"), "a scope or a list of scopes");
        refused(r#"{"scope": "everything"}"#, Some("scope"), "job:NAME");
        refused(r#"{"scope": ["all", "what"]}"#, Some("scope"), "job:NAME");
        refused(r#"{"scope": ["all", 7]}"#, Some("scope[1]"), "expected a string");
        refused(r#"{"scope": []}"#, Some("scope"), "empty list");
        refused(r#"{"scope": "all", "scope": "all"}"#, None, "duplicate field `scope`");
        refused("{\"reason\": \"a\\nb\"}", Some("reason"), "U+000A");
        refused("{\"actor\": \"a\\u202eb\"}", Some("actor"), "U+202E");
        refused(&format!(r#"{{"reason": "{}"}}"#, "x".repeat(501)), Some("reason"), "500");
        refused(&format!(r#"{{"actor": "{}"}}"#, "x".repeat(201)), Some("actor"), "200");
        let many = vec!["\"all\""; LIST_MAX + 1].join(",");
        refused(&format!(r#"{{"scope": [{many}]}}"#), Some("scope"), "100");
    }

    #[test]
    fn what_is_no_json_object_is_no_body() {
        for text in [r#"["all", "reason"]"#, "null", "7", "\"all\"", "scope=all"] {
            refused(text, None, "not a JSON object");
        }
        refused(r#"{"scope": "all""#, None, "not as described");
        refused(r#"{"scope": "all"} {"#, None, "something follows");
        refused("{\"reason\": \"\u{7}\"}", None, "control character");
    }

    #[test]
    fn holds_are_released_by_one_id_or_several() {
        let ids = |text: &str| parse::<ResumeBody>(text.as_bytes()).map(|body| body.hold.unwrap().0);
        assert_eq!(ids(r#"{"hold": "all-ann"}"#).unwrap(), ["all-ann"]);
        assert_eq!(ids(r#"{"hold": ["a", "b"]}"#).unwrap(), ["a", "b"]);
        assert_eq!(ids(r#"{"hold": ""}"#).unwrap_err().parts().2, Some("hold"));
        assert_eq!(ids(r#"{"until": "2030-01-01T00:00:00Z"}"#).unwrap_err().parts().2, Some("until"));
    }
}
