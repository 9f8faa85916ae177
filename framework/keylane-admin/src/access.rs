//! Who may ask for what.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::LengthLimitError;
use subtle::ConstantTimeEq;

use crate::problem::Problem;

/// Acts on keys and records have a small body.
pub(crate) const BODY_BYTES: usize = 16 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The secret that steering requests have to carry. Never shown.
#[derive(Clone)]
pub(crate) struct Token(Box<[u8]>);

impl Token {
    pub(crate) fn new(token: String) -> Self {
        Self(token.into_bytes().into())
    }

    /// Whether a header can carry it as it is.
    pub(crate) fn is_usable(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(u8::is_ascii_graphic)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(hidden)")
    }
}

/// Lets a request steer only with the token, if there is one.
pub(crate) fn authorize(token: Option<&Token>, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(Token(token)) = token else {
        let text = "this server is read-only: configure a token to allow steering";
        return Err(Problem::new(StatusCode::FORBIDDEN, "read_only", text));
    };
    // The comparison takes the same time wherever they differ.
    if bearer(headers).is_some_and(|given| bool::from(given.ct_eq(token))) {
        return Ok(());
    }
    let text = "this needs the server's token, as `Authorization: Bearer <token>`";
    Err(Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", text))
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers
        .get(AUTHORIZATION)?
        .as_bytes()
        .split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

/// Which names the server answers to.
#[derive(Clone, Debug)]
pub(crate) struct Hosts {
    /// Off where it listens beyond the loopback, under names it cannot know.
    pub(crate) checked: bool,
    /// Besides those of the loopback.
    pub(crate) allowed: Vec<String>,
}

impl Hosts {
    /// A page that a browser has loaded under a name of its own, which now resolves to the
    /// loopback, sends that name. It would count as of the same origin, and could read every
    /// answer.
    fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        if !self.checked {
            return Ok(());
        }
        let mut named = headers.get_all(HOST).iter();
        let host = match (named.next(), named.next()) {
            (Some(host), None) => Authority::try_from(host.as_bytes()).ok(),
            _ => None,
        };
        let is_known = host.is_some_and(|host| self.accepts(&host))
            && uri.authority().is_none_or(|it| self.accepts(it));
        if is_known {
            return Ok(());
        }
        let text = "the Host of the request is not this server's: ask for localhost or 127.0.0.1, or allow the name (AdminServerBuilder::allowed_host)";
        Err(Problem::new(StatusCode::FORBIDDEN, "foreign_host", text))
    }

    fn accepts(&self, authority: &Authority) -> bool {
        let host = authority.host();
        let address = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        // A name can be made to lead anywhere, an address cannot; and probes name none but that.
        let is_address = address.parse::<IpAddr>().is_ok();
        let is_allowed = |name: &str| host.eq_ignore_ascii_case(name);
        !authority.as_str().contains('@')
            && (is_address
                || is_allowed("localhost")
                || self.allowed.iter().any(|name| is_allowed(name)))
    }
}

/// The check of every request, before routing.
pub(crate) async fn check(
    State(hosts): State<Arc<Hosts>>,
    request: Request,
    next: Next,
) -> Response {
    if let Err(problem) = hosts.check(request.uri(), request.headers()) {
        return problem.into_response();
    }
    match with_whole_body(request).await {
        Ok(request) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Reads the body, so that the connection can be used again.
async fn with_whole_body(request: Request) -> Result<Request, Problem> {
    let (parts, body) = request.into_parts();
    match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, BODY_BYTES)).await {
        Ok(Ok(body)) => Ok(Request::from_parts(parts, Body::from(body))),
        Ok(Err(error))
            if error
                .source()
                .is_some_and(|source| source.is::<LengthLimitError>()) =>
        {
            let text = format!("the body is larger than {BODY_BYTES} bytes");
            Err(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                text,
            ))
        }
        Ok(Err(_)) => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "bad_body",
            "the body cannot be read",
        )),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_too_slow",
            "the body did not come in time",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_known(hosts: &Hosts, host: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        hosts.check(&Uri::from_static("/"), &headers).is_ok()
    }

    #[test]
    fn only_known_names_and_addresses_are_this_server() {
        let hosts = Hosts {
            checked: true,
            allowed: vec!["admin.internal".into()],
        };
        for known in [
            "localhost",
            "LocalHost:80",
            "127.0.0.1:8081",
            "127.1.2.3",
            "[::1]:8081",
            "10.0.0.1:80",
            "admin.internal:443",
        ] {
            assert!(is_known(&hosts, known), "{known}");
        }
        for foreign in [
            "example.com",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "a@localhost",
            "a@10.0.0.1",
            "",
        ] {
            assert!(!is_known(&hosts, foreign), "{foreign}");
        }
    }

    #[test]
    fn a_request_without_a_host_with_two_or_for_another_server_is_refused() {
        let hosts = Hosts {
            checked: true,
            allowed: Vec::new(),
        };
        let mut headers = HeaderMap::new();
        assert!(hosts.check(&Uri::from_static("/"), &headers).is_err());
        headers.append(HOST, "localhost".parse().unwrap());
        assert!(
            hosts
                .check(&Uri::from_static("http://example.com/"), &headers)
                .is_err()
        );
        assert!(
            hosts
                .check(&Uri::from_static("http://localhost/"), &headers)
                .is_ok()
        );
        headers.append(HOST, "localhost".parse().unwrap());
        assert!(hosts.check(&Uri::from_static("/"), &headers).is_err());
    }

    #[test]
    fn beyond_the_loopback_any_name_will_do() {
        assert!(is_known(
            &Hosts {
                checked: false,
                allowed: Vec::new()
            },
            "example.com"
        ));
    }

    #[test]
    fn only_the_whole_token_will_do() {
        let token = Token::new("secret".to_owned());
        let may = |authorization: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, authorization.parse().unwrap());
            authorize(Some(&token), &headers).is_ok()
        };
        assert!(may("Bearer secret") && may("bearer secret"));
        for wrong in [
            "Bearer secre",
            "Bearer secret1",
            "Bearer ",
            "Bearer",
            "",
            "secret",
            "Basic secret",
        ] {
            assert!(!may(wrong), "{wrong}");
        }
        assert!(authorize(Some(&token), &HeaderMap::new()).is_err());
    }

    #[test]
    fn a_token_that_no_header_can_carry_is_refused() {
        let is_usable = |token: &str| Token::new(token.to_owned()).is_usable();
        assert!(is_usable("a+/~-._=9"));
        assert!(
            !is_usable("")
                && !is_usable("line\n")
                && !is_usable("two words")
                && !is_usable("größe")
        );
    }
}
