//! Problems: the errors of requests, as pages and as other clients receive them.

use std::fmt::{self, Write as _};

use bytes::Bytes;
use faststate_core::{
    BoxError, Elements, Error, Rejection, RejectionKind, internal::frame, wire::InputError,
};
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{field_errors::FieldErrors, log_limit::LogLimit, nest};

/// The error of a request, without internal details.
///
/// Datastar receives it as the signals `$_problem` (its token), `$_errors.state.field` and `$_errors.state.event__field`
/// (with the id after the state, for a record or component), and as elements rendered by a [`ProblemView`]. Other
/// clients receive `application/problem+json` (RFC 9457).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Problem {
    /// The HTTP status. Datastar receives 200 instead.
    pub status: StatusCode,
    /// The kind of problem: `rejected`, `input`, `not_found`, `busy` and so on.
    pub kind: &'static str,
    /// A title for the kind.
    pub title: &'static str,
    /// An explanation of this occurrence.
    pub detail: String,
    /// The messages for single fields: name and message.
    pub errors: Vec<(String, String)>,
    /// The id of the log entry, for an internal error.
    pub id: Option<String>,
    /// A random id of this occurrence. The signal `$_problem` contains it while the problem is shown.
    pub token: String,
    /// The number of seconds after which the client may try again.
    pub(super) retry_after: Option<u32>,
    /// The refused event, and the path of its instance's messages.
    refused: Option<(&'static str, FieldErrors)>,
}

impl Problem {
    pub(super) fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            status,
            kind,
            title,
            detail: detail.into(),
            errors: Vec::new(),
            id: None,
            token: format!("{:08x}", rand::random::<u32>()),
            retry_after: None,
            refused: None,
        }
    }

    pub(super) fn about(mut self, event: &'static str, errors: FieldErrors) -> Self {
        self.refused = Some((event, errors));
        self
    }

    pub(super) fn retry(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Returns the problem for an error.
    #[must_use]
    pub fn of(error: &Error) -> Self {
        let detail = error.to_string();
        let new = |status, kind, title| Self::new(status, kind, title, detail.clone());
        match error {
            Error::Rejected(rejection) => {
                let status = match rejection.kind() {
                    RejectionKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
                    RejectionKind::Forbidden => StatusCode::FORBIDDEN,
                    RejectionKind::NotFound => StatusCode::NOT_FOUND,
                    RejectionKind::Conflict => StatusCode::CONFLICT,
                    _ => StatusCode::UNPROCESSABLE_ENTITY,
                };
                let errors = rejection.fields().map(|(name, message)| (name.to_owned(), message.to_owned()));
                Self { errors: errors.collect(), ..new(status, "rejected", "Rejected") }
            }
            Error::Input(error) => Self::input(error, StatusCode::UNPROCESSABLE_ENTITY),
            Error::Unknown => Self::unknown(),
            Error::SignIn => new(StatusCode::UNAUTHORIZED, "sign_in", "Not signed in"),
            Error::Host(_) => new(StatusCode::MISDIRECTED_REQUEST, "another_host", "Another host"),
            Error::Busy(_) => new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Too busy").retry(1),
            Error::Unavailable(source) if source.is_temporary() => {
                static LINES: LogLimit = LogLimit::new();
                let problem = new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Not available").retry(1);
                let id = LINES.write(&problem.token, |id, left_out| {
                    tracing::warn!(%id, left_out, error = %chain(source), "store unavailable");
                });
                Self { id: Some(id), ..problem }
            }
            Error::Unavailable(source) => {
                static LINES: LogLimit = LogLimit::new();
                let problem = new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error");
                let id = LINES.write(&problem.token, |id, left_out| {
                    tracing::error!(%id, left_out, error = %chain(source), "store refused a record");
                });
                Self { id: Some(id), ..problem }
            }
            Error::TimedOut => new(StatusCode::SERVICE_UNAVAILABLE, "timed_out", "Took too long").retry(1),
            Error::OutcomeUnknown => {
                new(StatusCode::GATEWAY_TIMEOUT, "outcome_unknown", "Outcome unknown").retry(1)
            }
            Error::Internal { id } => Self {
                id: Some(id.clone()),
                ..new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error")
            },
            _ => new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error"),
        }
    }

    /// Returns the problem for the error of a page's handler. An error that is not FastState's becomes an internal error,
    /// whose details are in the log under an id.
    #[must_use]
    pub fn unexpected(error: BoxError) -> Self {
        let error = match error.downcast::<Error>() {
            Ok(error) => return Self::of(&error),
            Err(error) => error,
        };
        match error.downcast::<Rejection>() {
            Ok(rejection) => Self::of(&Error::Rejected(*rejection)),
            Err(error) => Self::of(&Error::internal("a page's handler failed", &error)),
        }
    }

    /// Returns the problem of a request that a framework's extractor refused. The client sees the status and the reason.
    #[must_use]
    pub fn refused(status: StatusCode, reason: impl Into<String>) -> Self {
        Self::new(status, "input", "Input not understood", reason)
    }

    pub(super) fn input(error: &InputError, status: StatusCode) -> Self {
        let mut problem = Self::new(status, "input", "Input not understood", &error.message);
        problem.errors.extend(error.field.iter().map(|field| (field.clone(), error.message.clone())));
        problem
    }

    /// Returns the problem for an unknown target and for a forbidden one, which get the same response (law 8).
    pub(super) fn unknown() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "Not found", Error::Unknown.to_string())
    }

    /// Returns the problem of a request that does not name its host as HTTP/1.1 requires.
    pub(super) fn host() -> Self {
        let detail = "an HTTP/1.1 request must have exactly one `Host` header";
        Self::new(StatusCode::BAD_REQUEST, "bad_request", "Bad request", detail)
    }

    pub(super) fn cross_site() -> Self {
        let detail = "this request came from another site, or its headers do not show its origin";
        Self::new(StatusCode::FORBIDDEN, "cross_site", "Refused", detail)
    }

    pub(super) fn session() -> Self {
        let detail = "your session was not valid and has been renewed: nothing has changed, please try again";
        Self::new(StatusCode::FORBIDDEN, "session", "Session not valid", detail)
    }

    /// Returns the body of the `application/problem+json` response.
    pub(super) fn json(&self) -> String {
        let mut problem = json!({
            "type": format!("urn:faststate:problem:{}", self.kind),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let Value::Object(members) = &mut problem {
            let errors: Map<_, _> = self.errors.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
            members.extend((!errors.is_empty()).then(|| ("errors".to_owned(), Value::Object(errors))));
            members.extend(self.id.clone().map(|id| ("id".to_owned(), id.into())));
        }
        problem.to_string()
    }

    /// Returns the SSE events that show the problem on a page.
    ///
    /// The first event removes the messages of earlier problems with this instance, because a merge alone would keep
    /// them. The new token makes an older notice remove itself.
    pub(super) fn frames(&self, view: &dyn ProblemView) -> Bytes {
        let mut out = Vec::new();
        let mut signals = json!({ "_problem": self.token });
        if let (Some((event, errors)), "rejected" | "input") = (&self.refused, self.kind) {
            out.extend_from_slice(&frame::signals(errors.removed().to_string().as_bytes()));
            nest::merge(&mut signals, errors.refused(event, &self.errors));
        }
        out.extend_from_slice(&frame::signals(signals.to_string().as_bytes()));
        out.extend_from_slice(&frame::elements(&[view.render(self)]));
        out.into()
    }
}

/// Renders problems on pages, instead of [`Notice`].
///
/// The signal `$_problem` is the token of the latest problem, and `""` after the next accepted event. Escape `detail`,
/// because it may contain user input.
pub trait ProblemView: Send + Sync + 'static {
    /// Renders the elements that show the problem, with their position on the page.
    fn render(&self, problem: &Problem) -> Elements;
}

/// The default [`ProblemView`]: a small notice at the end of the body.
///
/// It is styled, announced to screen readers and dismissible, and needs no container on the page and no script. Its
/// classes are `faststate-problem`, `faststate-problem-title`, `-detail`, `-id` and `-close`. The built-in style has no
/// specificity, so any rule of the page's stylesheet overrides it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Notice;

const STYLE: &str = ":where(.faststate-problem){position:fixed;inset:auto 1rem 1rem auto;z-index:1000;\
max-width:min(26rem,calc(100vw - 2rem));box-sizing:border-box;padding:.75rem 2.75rem .75rem 1rem;\
border:1px solid #b3261e;border-left-width:.35rem;border-radius:.5rem;background:#fff;color:#1d1b20;\
box-shadow:0 .25rem 1rem #0003;font:1rem/1.4 system-ui,sans-serif}\
:where(.faststate-problem p){margin:0}:where(.faststate-problem-title){font-weight:600}\
:where(.faststate-problem-detail)::first-letter{text-transform:uppercase}\
:where(.faststate-problem-id){font-size:.85em;opacity:.75}\
:where(.faststate-problem-close){position:absolute;top:.25rem;right:.25rem;width:2.25rem;height:2.25rem;\
border:0;background:none;color:inherit;font:inherit;font-size:1.25rem;cursor:pointer}\
@media(prefers-color-scheme:dark){:where(.faststate-problem){background:#2b2930;color:#f4eff4;border-color:#f2b8b5}}";

impl ProblemView for Notice {
    fn render(&self, problem: &Problem) -> Elements {
        let Problem { token, title, detail, id, .. } = problem;
        let detail = escaped(detail);
        let id = id.as_deref().map_or_else(String::new, |id| {
            format!("<p class=\"faststate-problem-id\">Reference: {}</p>", escaped(id))
        });
        let html = format!(
            "<section id=\"faststate-problem\" class=\"faststate-problem\" role=\"alert\" \
             data-effect=\"$_problem==='{token}'||el.remove()\"><style>{STYLE}</style>\
             <p class=\"faststate-problem-title\">{title}</p><p class=\"faststate-problem-detail\">{detail}</p>{id}\
             <button type=\"button\" class=\"faststate-problem-close\" aria-label=\"Dismiss\" \
             data-on:click=\"$_problem=''\">\u{d7}</button></section>"
        );
        // Not `Elements::append`, which removes the last notice first: Datastar warns if there is none. The last notice
        // removes itself, because `$_problem` is now another token.
        Elements::append_always("body", html)
    }
}

/// Escapes text for HTML elements and attributes.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' | '<' | '>' | '"' | '\'' => {
                let _ = write!(out, "&#{};", u32::from(char));
            }
            _ => out.push(char),
        }
    }
    out
}

/// Formats an error with its sources, for the log.
fn chain(error: &dyn std::error::Error) -> impl fmt::Display {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use faststate_core::store::StoreError;

    use super::*;

    #[test]
    fn rejection_has_status_detail_and_fields() {
        let rejection = Rejection::invalid("too <b>long</b>").field("name").and("__proto__", "no");
        let problem = Problem::of(&rejection.into());
        let json: Value = serde_json::from_str(&problem.json()).unwrap();
        assert_eq!(json["status"], 422);
        assert_eq!(json["type"], "urn:faststate:problem:rejected");
        assert_eq!(json["detail"], "too <b>long</b>");
        assert_eq!(json["errors"]["name"], "too <b>long</b>");
        assert_eq!(json.get("id"), None);
    }

    #[test]
    fn each_kind_of_rejection_has_its_status() {
        let status = |rejection: Rejection| Problem::of(&rejection.into()).status.as_u16();
        assert_eq!(status(Rejection::invalid("")), 422);
        assert_eq!(status(Rejection::forbidden("")), 403);
        assert_eq!(status(Rejection::not_found("")), 404);
        assert_eq!(status(Rejection::conflict("")), 409);
    }

    #[test]
    fn problem_hides_internal_details() {
        let source: BoxError = "postgres://user:password@host refused".into();
        let problem = Problem::of(&Error::Unavailable(StoreError::Unavailable(source)));
        assert_eq!(problem.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(!problem.json().contains("password") && problem.id.is_some());
        assert_eq!(problem.retry_after, Some(1));
        let source: BoxError = "a record of user:password".into();
        let problem = Problem::of(&Error::Unavailable(StoreError::Refused(source)));
        assert_eq!((problem.status, problem.retry_after), (StatusCode::INTERNAL_SERVER_ERROR, None));
        assert!(!problem.json().contains("password") && problem.id.is_some());
        let problem = Problem::of(&Error::Internal { id: "ab12".to_owned() });
        assert!(problem.json().contains("ab12"));
    }

    #[test]
    fn law_12_notice_escapes_user_input() {
        let problem = Problem::of(&Rejection::invalid("<script>'\"&").into());
        let html = Notice.render(&problem).html().to_owned();
        assert!(html.contains("&#60;script&#62;&#39;&#34;&#38;") && !html.contains("<script"));
    }
}
