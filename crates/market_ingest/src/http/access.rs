//! Who may write over HTTP, and as whom.
//!
//! - With `INGEST_ADMIN_TOKEN`, whoever shows it.
//! - Without it, only where the server listens on a loopback address, and then only what a program on this machine
//!   asks: a browser that was sent here by a foreign page, or by a name that was made to point here, is refused.
//! - On Cloud Run the platform has verified the caller's ID token and hands it on without its signature; its e-mail
//!   address is then the actor, and no other name is taken. **This rests on the service requiring IAM
//!   authentication:** where everybody may invoke it, nobody has verified that token, and the admin token alone tells
//!   who may write. Off Cloud Run the header is ignored.
//!
//! No token is ever logged or repeated in an answer.

use std::net::IpAddr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use subtle::ConstantTimeEq as _;

use super::problem::Problem;

/// Where Cloud Run looks for an ID token before `Authorization`, and leaves it for us.
const PLATFORM_TOKEN: &str = "x-serverless-authorization";
/// What Cloud Run puts in place of the signature of a token that it has verified.
const SIGNATURE_REMOVED: &str = "SIGNATURE_REMOVED_BY_GOOGLE";

/// The rules of this process.
#[derive(Debug)]
pub(crate) struct Access {
    token: Option<SecretString>,
    loopback: bool,
    on_cloud_run: bool,
}

/// Who asks, as far as that has been verified by somebody else than the caller.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// The e-mail address that the platform has verified.
    pub(super) verified: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    email: Option<String>,
    email_verified: Option<bool>,
}

impl Access {
    /// The rules of a server at `bound`.
    pub(crate) fn new(token: Option<SecretString>, bound: IpAddr, on_cloud_run: bool) -> Self {
        Self { token, loopback: bound.is_loopback(), on_cloud_run }
    }

    /// Whether writes need a token here.
    pub(super) fn needs_token(&self) -> bool {
        self.token.is_some()
    }

    /// Lets a request to write through, or says why not.
    pub(super) fn admit(&self, uri: &Uri, headers: &HeaderMap) -> Result<Caller, Problem> {
        match &self.token {
            Some(token) => shows(headers, token)?,
            None if self.loopback => comes_from_this_machine(uri, headers)?,
            None => {
                return Err(forbidden(
                    "no INGEST_ADMIN_TOKEN is configured, so writes are accepted on a loopback address only, and \
                     this server listens on another",
                ));
            }
        }
        let verified = if self.on_cloud_run { verified_by_platform(headers)? } else { None };
        Ok(Caller { verified })
    }
}

impl Caller {
    /// The actor of a request that names `named` as such.
    pub(super) fn actor(self, named: Option<String>) -> Result<Option<String>, Problem> {
        match (self.verified, named) {
            (Some(verified), Some(named)) if !verified.eq_ignore_ascii_case(&named) => {
                Err(forbidden(&format!("the caller is {verified}, so actor cannot be {named:?}")))
            }
            (Some(verified), _) => Ok(Some(verified)),
            (None, named) => Ok(named),
        }
    }
}

fn shows(headers: &HeaderMap, token: &SecretString) -> Result<(), Problem> {
    let shown = bearer(headers, header::AUTHORIZATION.as_str()).ok_or_else(|| {
        Problem::new(StatusCode::UNAUTHORIZED, "writes need Authorization: Bearer INGEST_ADMIN_TOKEN")
            .header(header::WWW_AUTHENTICATE, "Bearer realm=\"market-ingest\"")
    })?;
    // Takes as long for a token that is nearly right as for any other of its length.
    if bool::from(shown.as_bytes().ct_eq(token.expose_secret().as_bytes())) {
        Ok(())
    } else {
        Err(forbidden("the token is not INGEST_ADMIN_TOKEN"))
    }
}

/// Without a token, being on this machine is what counts; a browser on this machine may be led by others.
fn comes_from_this_machine(uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let host = match uri.authority() {
        Some(authority) => Some(authority.clone()),
        None => one(headers, header::HOST.as_str()).and_then(|host| host.parse::<Authority>().ok()),
    };
    let Some(host) = host.filter(|host| is_loopback_name(host.host())) else {
        return Err(forbidden(
            "without INGEST_ADMIN_TOKEN the Host of a write must be localhost or a loopback address",
        ));
    };
    let foreign = match headers.get(header::ORIGIN) {
        None => false,
        Some(_) => one(headers, header::ORIGIN.as_str())
            .and_then(|origin| origin.strip_prefix("http://"))
            .is_none_or(|origin| !origin.eq_ignore_ascii_case(host.as_str())),
    };
    if foreign {
        return Err(forbidden("without INGEST_ADMIN_TOKEN a page of another origin may not write"));
    }
    Ok(())
}

fn is_loopback_name(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The caller's address of a token that the platform has verified; none where it has left no such token.
fn verified_by_platform(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    if headers.get(PLATFORM_TOKEN).is_none() {
        return Ok(None);
    }
    let unverified =
        || forbidden("X-Serverless-Authorization holds no ID token that the platform has verified");
    let token = bearer(headers, PLATFORM_TOKEN).ok_or_else(unverified)?;
    let mut parts = token.split('.');
    let (_, Some(claims), Some(SIGNATURE_REMOVED), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(unverified());
    };
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).map_err(|_| unverified())?;
    let claims: Claims = serde_json::from_slice(&claims).map_err(|_| unverified())?;
    if claims.email_verified == Some(false) {
        return Err(unverified());
    }
    Ok(claims.email)
}

/// The token of a header that is there once, of the scheme Bearer.
fn bearer<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let (scheme, token) = one(headers, name)?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// A header that is there once; several are nobody's clear word.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn forbidden(detail: &str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, detail)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const ANYWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

    fn access(token: Option<&str>, bound: IpAddr, on_cloud_run: bool) -> Access {
        Access::new(token.map(|token| SecretString::from(token.to_owned())), bound, on_cloud_run)
    }

    /// The status that a write with these headers gets; 200 when it is let through.
    fn status(access: &Access, headers: &[(&str, &str)]) -> u16 {
        admit(access, headers).map_or_else(|problem| problem.parts().0, |_| 200)
    }

    fn admit(access: &Access, headers: &[(&str, &str)]) -> Result<Caller, Problem> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap());
        }
        access.admit(&Uri::from_static("/api/v1/pause"), &map)
    }

    fn id_token(claims: &str, signature: &str) -> String {
        format!("Bearer e30.{}.{signature}", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn with_a_token_only_who_shows_it_may_write_wherever_the_request_comes_from() {
        for bound in [HERE, ANYWHERE] {
            let access = access(Some("s3cret"), bound, false);
            let host = ("host", "ingest.example:8080");
            assert_eq!(status(&access, &[host]), 401);
            assert_eq!(status(&access, &[host, ("authorization", "Basic czNjcmV0")]), 401);
            assert_eq!(status(&access, &[host, ("authorization", "Bearer ")]), 401);
            for wrong in ["Bearer s3cre", "Bearer s3crets", "Bearer S3CRET", "bearer x"] {
                assert_eq!(status(&access, &[host, ("authorization", wrong)]), 403, "{wrong}");
            }
            assert_eq!(status(&access, &[host, ("authorization", "bearer s3cret")]), 200);
            let twice = [("authorization", "Bearer s3cret"), ("authorization", "Bearer s3cret")];
            assert_eq!(status(&access, &twice), 401, "which of the two?");
        }
    }

    #[test]
    fn a_refusal_for_want_of_a_token_says_how_to_show_one() {
        let problem = admit(&access(Some("s3cret"), ANYWHERE, false), &[]).unwrap_err();
        assert!(problem.headers.contains_key(header::WWW_AUTHENTICATE));
        assert!(problem.parts().1.contains("INGEST_ADMIN_TOKEN"));
        let problem = admit(&access(None, ANYWHERE, false), &[("host", "localhost")]).unwrap_err();
        assert_eq!(problem.parts().0, 403);
        assert!(problem.parts().1.contains("INGEST_ADMIN_TOKEN"));
    }

    #[test]
    fn without_a_token_a_browser_led_by_others_may_not_write() {
        let access = access(None, HERE, false);
        for host in ["localhost:8080", "127.0.0.1:8080", "127.9.9.9", "[::1]:8080", "LOCALHOST"] {
            assert_eq!(status(&access, &[("host", host)]), 200, "{host}");
        }
        for host in ["evil.example:8080", "localhost.evil.example", "10.0.0.1:8080", "", "@", "a@localhost.x"]
        {
            assert_eq!(status(&access, &[("host", host)]), 403, "{host}");
        }
        assert_eq!(status(&access, &[]), 403, "no Host at all");
        let from = |origin| status(&access, &[("host", "localhost:8080"), ("origin", origin)]);
        assert_eq!(from("http://localhost:8080"), 200);
        for origin in [
            "https://evil.example",
            "null",
            "http://localhost:3000",
            "http://localhost:8080.evil.example",
            "",
        ] {
            assert_eq!(from(origin), 403, "{origin}");
        }
    }

    #[test]
    fn on_cloud_run_the_verified_caller_is_the_actor_and_no_other_name_is_taken() {
        let access = access(Some("s3cret"), ANYWHERE, true);
        let claims = r#"{"email":"ann@example.com","email_verified":true,"sub":"1"}"#;
        let platform = id_token(claims, SIGNATURE_REMOVED);
        let key = ("authorization", "Bearer s3cret");
        let caller = || admit(&access, &[key, (PLATFORM_TOKEN, &platform)]).unwrap();
        assert_eq!(caller().actor(None).unwrap().as_deref(), Some("ann@example.com"));
        assert_eq!(
            caller().actor(Some("Ann@example.com".into())).unwrap().as_deref(),
            Some("ann@example.com")
        );
        assert_eq!(caller().actor(Some("bob@example.com".into())).unwrap_err().parts().0, 403);

        let nobody = admit(&access, &[key]).unwrap();
        assert_eq!(nobody.actor(Some("bob".into())).unwrap().as_deref(), Some("bob"));
        let service = id_token(r#"{"sub":"1"}"#, SIGNATURE_REMOVED);
        assert_eq!(admit(&access, &[key, (PLATFORM_TOKEN, &service)]).unwrap().verified, None);
    }

    #[test]
    fn a_token_that_the_platform_has_not_verified_names_nobody() {
        let access = access(Some("s3cret"), ANYWHERE, true);
        let claims = r#"{"email":"ann@example.com"}"#;
        let key = ("authorization", "Bearer s3cret");
        let good = id_token(claims, SIGNATURE_REMOVED);
        for token in [
            id_token(claims, "c2lnbmF0dXJl"),
            id_token(claims, "x.SIGNATURE_REMOVED_BY_GOOGLE"),
            id_token("no JSON", SIGNATURE_REMOVED),
            id_token(r#"{"email":"ann@example.com","email_verified":false}"#, SIGNATURE_REMOVED),
            "Bearer nonsense".to_owned(),
            "nonsense".to_owned(),
        ] {
            assert_eq!(status(&access, &[key, (PLATFORM_TOKEN, &token)]), 403, "{token}");
        }
        assert_eq!(status(&access, &[key, (PLATFORM_TOKEN, &good), (PLATFORM_TOKEN, &good)]), 403);
        assert_eq!(status(&access, &[(PLATFORM_TOKEN, &good)]), 401, "it is no admin token");
    }

    #[test]
    fn off_cloud_run_nobody_verifies_so_the_header_says_nothing() {
        let access = access(None, HERE, false);
        let forged = id_token(r#"{"email":"ann@example.com"}"#, SIGNATURE_REMOVED);
        let caller = admit(&access, &[("host", "localhost"), (PLATFORM_TOKEN, &forged)]).unwrap();
        assert_eq!(caller, Caller { verified: None });
    }
}
