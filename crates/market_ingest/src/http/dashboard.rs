//! The dashboard: one page without foreign parts, which reads the same interface as everybody else.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::openapi::{Operation, Route};

const PAGE: &str = include_str!("dashboard/page.html");

/// Only what is in the page may run, and it may talk to this server only.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hash_of("script"),
        hash_of("style")
    )
});

pub(super) fn routes() -> Vec<Route> {
    let operation = Operation::new("dashboard", "The dashboard.").text("text/html", "One page.");
    vec![Route::get("/", get(dashboard), operation)]
}

async fn dashboard() -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, Html(PAGE)).into_response()
}

/// The hash by which the policy knows the page's one element of that name.
fn hash_of(element: &str) -> String {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let rest = PAGE.split_once(&open).map_or("", |(_, rest)| rest);
    let inner = rest.split_once(&close).map_or("", |(inner, _)| inner);
    format!("sha256-{}", STANDARD.encode(Sha256::digest(inner)))
}
