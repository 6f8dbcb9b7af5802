//! HTTP as a client sees it: status and body, with a short limit.

use std::time::Duration;

use serde_json::Value;

/// Status and body of a GET; none when nobody answers.
#[must_use]
pub fn get(url: &str) -> Option<(u16, String)> {
    let mut response = agent().get(url).call().ok()?;
    let status = response.status().as_u16();
    Some((status, response.body_mut().read_to_string().ok()?))
}

/// The JSON body of a GET; none when nobody answers or it is not JSON.
#[must_use]
pub fn get_json(url: &str) -> Option<Value> {
    serde_json::from_str(&get(url)?.1).ok()
}

/// Status and body of a POST of JSON.
///
/// # Panics
/// When nobody answers.
#[must_use]
pub fn post(url: &str, body: &Value) -> (u16, String) {
    let mut response = agent().post(url).send_json(body).expect("an answer");
    let status = response.status().as_u16();
    (status, response.body_mut().read_to_string().expect("a body"))
}

/// Status and body of a POST of JSON with further headers; it may take as long as any effect does.
///
/// # Panics
/// When nobody answers.
#[must_use]
pub fn post_with(url: &str, headers: &[(&str, &str)], body: &Value) -> (u16, String) {
    let mut request = agent().post(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let limit = Some(Duration::from_secs(15));
    let mut response = request.config().timeout_global(limit).build().send_json(body).expect("an answer");
    let status = response.status().as_u16();
    (status, response.body_mut().read_to_string().expect("a body"))
}

/// Status and body of a PATCH of JSON.
///
/// # Panics
/// When nobody answers.
#[must_use]
pub fn patch(url: &str, body: &Value) -> (u16, String) {
    let mut response = agent().patch(url).send_json(body).expect("an answer");
    let status = response.status().as_u16();
    (status, response.body_mut().read_to_string().expect("a body"))
}

/// Status and body of a PUT of JSON; an emulator's first answer takes its time.
///
/// # Panics
/// When nobody answers.
#[must_use]
pub fn put(url: &str, body: &Value) -> (u16, String) {
    let limit = Some(Duration::from_secs(60));
    let request = agent().put(url).config().timeout_global(limit).build();
    let mut response = request.send_json(body).expect("an answer");
    let status = response.status().as_u16();
    (status, response.body_mut().read_to_string().expect("a body"))
}

/// Status of a DELETE.
///
/// # Panics
/// When nobody answers.
#[must_use]
pub fn delete(url: &str) -> u16 {
    agent().delete(url).call().expect("an answer").status().as_u16()
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(5)))
        .build()
        .into()
}
