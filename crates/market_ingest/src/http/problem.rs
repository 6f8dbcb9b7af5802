//! Errors in the form of RFC 9457, `application/problem+json`: the one shape in which HTTP says no.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use crate::logging;
use crate::store::StoreError;

/// Content type of every error.
pub(super) const CONTENT_TYPE: &str = "application/problem+json";

/// An error, and what of the request it is about.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    pub(super) headers: HeaderMap,
    body: Box<ProblemBody>,
}

/// An error as RFC 9457 writes it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Problem")]
pub(super) struct ProblemBody {
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    #[schemars(range(min = 400, max = 599))]
    status: u16,
    /// What is wrong, and what would be right.
    detail: String,
    /// The field or parameter that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// Generation of the control document that was written but is not effective.
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<i64>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("error");
        let body = ProblemBody {
            title,
            status: status.as_u16(),
            detail: detail.into(),
            field: None,
            generation: None,
        };
        Self { status, headers: HeaderMap::new(), body: Box::new(body) }
    }

    /// A field or parameter whose value cannot be used.
    pub(super) fn field(field: impl Into<String>, detail: impl Into<String>) -> Self {
        let mut problem = Self::new(StatusCode::BAD_REQUEST, detail);
        problem.body.field = Some(field.into());
        problem
    }

    pub(super) fn generation(mut self, generation: i64) -> Self {
        self.body.generation = Some(generation);
        self
    }

    pub(super) fn header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }

    /// What the store did not do. Its own words may name places, so they go to the log only.
    pub(super) fn store(doing: &str, error: &StoreError) -> Self {
        tracing::warn!(error = logging::chain(error), "over HTTP: the store could not {doing}");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, format!("the store could not {doing}: {error}"))
    }

    #[cfg(test)]
    pub(super) fn parts(&self) -> (u16, &str, Option<&str>) {
        (self.body.status, &self.body.detail, self.body.field.as_deref())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_string(&self.body).unwrap_or_default();
        (self.status, [(header::CONTENT_TYPE, CONTENT_TYPE)], self.headers, body).into_response()
    }
}
