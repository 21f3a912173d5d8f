//! The login page: a form that works without scripts, and the account of a user who is signed in.

use std::{net::IpAddr, sync::LazyLock, time::Instant};

use askama::Template;
use faststate::{BoxError, endpoint::Page, prelude::*};
use http::StatusCode;
use serde::Deserialize;

use crate::{
    account::{self, LogOut, LogOutEverywhere, PASSWORD, USERS, User},
    home,
    layout::Layout,
    response::PageResponse,
    throttle::Throttle,
};

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    layout: Layout,
    user: Option<&'a str>,
    browsers: usize,
    /// The name from a refused form.
    name: &'a str,
    /// The page to continue with.
    next: &'a str,
    /// The reason for which the form was refused.
    refused: Option<&'a str>,
}

impl LoginPage<'_> {
    fn log_out(&self) -> Action {
        LogOut {}.action()
    }

    fn log_out_everywhere(&self) -> Action {
        LogOutEverywhere {}.action()
    }
}

/// The fields of the form. The query of the page's address may also contain `next`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct LoginForm {
    pub(crate) name: String,
    pub(crate) password: String,
    pub(crate) next: String,
}

pub(crate) async fn show(page: &Page, asked: &LoginForm) -> Result<String, BoxError> {
    render(page, "", local(&asked.next), None).await
}

/// Handles the posted form. If it is accepted, the response sets the new session and redirects to the next page.
pub(crate) async fn sign_in(
    page: &Page,
    form: &LoginForm,
    address: Option<IpAddr>,
) -> Result<PageResponse, BoxError> {
    /// Kept in this process instead of a state, so that wrong passwords cost no writes.
    static THROTTLE: LazyLock<Throttle> = LazyLock::new(Throttle::new);

    if !page.same_site() {
        return Err(Rejection::forbidden("this form was sent by another site").into());
    }
    let (name, next) = (form.name.trim(), local(&form.next));
    if !THROTTLE.admits(name, address, Instant::now()) {
        let html = render(page, name, next, Some("Too many attempts. Try again in a minute.")).await?;
        return Ok(PageResponse::refused(StatusCode::TOO_MANY_REQUESTS, html));
    }
    let Some(user) = user(name, &form.password) else {
        let refused = "The name or the password is wrong.";
        let html = render(page, name, next, Some(refused)).await?;
        return Ok(PageResponse::refused(StatusCode::UNPROCESSABLE_ENTITY, html));
    };
    THROTTLE.succeeded(name, address);
    let session = account::sign_in(page, user).await?;
    home::move_to(page, session).await?;
    Ok(PageResponse::see_other(next).with_cookie(account::hint(page)))
}

async fn render(page: &Page, name: &str, next: &str, refused: Option<&str>) -> Result<String, BoxError> {
    let user = page.viewer().user();
    let browsers = match user {
        Some(_) => page.follow::<account::Account>().await?.browsers(),
        None => 0,
    };
    let layout = Layout::of(page, "/login", "login.rs").await?;
    Ok(LoginPage { layout, user, browsers, name, next, refused }.render()?)
}

fn user(name: &str, password: &str) -> Option<&'static User> {
    USERS.iter().find(|user| user.name == name && password == PASSWORD)
}

/// The page to continue with, if it is one of this site: a link must not lead to another site.
fn local(next: &str) -> &'static str {
    let known = Layout::PAGES.iter().find(|(path, _)| *path == next);
    known.map_or("/login", |(path, _)| path)
}

/// Redirects a visitor to the form, and from there back to `path`.
pub(crate) fn required(path: &'static str) -> PageResponse {
    PageResponse::see_other(&format!("/login?next={path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_page_is_always_one_of_this_site() {
        assert_eq!(local("/profile"), "/profile");
        for elsewhere in ["", "//evil.example", "https://evil.example", "/\\evil.example", "/profile/../.."] {
            assert_eq!(local(elsewhere), "/login", "{elsewhere}");
        }
    }

    #[test]
    fn name_without_password_is_refused() {
        assert_eq!(user("alice", PASSWORD).map(|user| user.name), Some("alice"));
        for (name, password) in [("alice", ""), ("alice", "Faststate"), ("", PASSWORD), ("eve", PASSWORD)] {
            assert!(user(name, password).is_none(), "{name}");
        }
    }
}
