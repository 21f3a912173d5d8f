//! The login page: a form that works without any script, and what to do once one is in.

use askama::Template;
use faststate::{
    prelude::*,
    salvo::{Page, PageError},
};
use salvo::{http::header, prelude::*};

use crate::{
    account::{self, LogOut, LogOutEverywhere, PASSWORD, USERS, User},
    home,
    layout::Layout,
};

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    layout: Layout,
    user: Option<&'a str>,
    browsers: usize,
    /// What was typed into a form that was not accepted, and where to go from here.
    name: &'a str,
    next: &'a str,
    refused: bool,
}

impl LoginPage<'_> {
    fn log_out(&self) -> Action {
        LogOut::new().action()
    }

    fn log_out_everywhere(&self) -> Action {
        LogOutEverywhere::new().action()
    }
}

#[handler]
pub(crate) async fn show(page: Page, request: &mut Request) -> Result<Text<String>, PageError> {
    let next = request.query::<String>("next").unwrap_or_default();
    render(&page, "", local(&next), false).await
}

/// Takes the form. The answer to one that is accepted carries the new session, and leads on.
#[handler]
pub(crate) async fn sign_in(
    page: Page,
    request: &mut Request,
    response: &mut Response,
) -> Result<(), PageError> {
    if !page.same_site() {
        return Err(Rejection::forbidden("this form was sent by another site").into());
    }
    let mut field = async |name| request.form::<String>(name).await.unwrap_or_default();
    let (name, password, next) = (field("name").await, field("password").await, field("next").await);
    let next = local(&next);
    match user(name.trim(), &password) {
        Some(user) => {
            let session = account::sign_in(&page, user).await?;
            home::move_to(&page, session).await?;
            response.headers_mut().append(header::SET_COOKIE, account::hint());
            response.render(Redirect::other(next));
        }
        None => {
            response.status_code(StatusCode::UNPROCESSABLE_ENTITY);
            response.render(render(&page, name.trim(), next, true).await?);
        }
    }
    Ok(())
}

async fn render(page: &Page, name: &str, next: &str, refused: bool) -> Result<Text<String>, PageError> {
    let user = page.viewer().user();
    let browsers = match user {
        Some(_) => page.follow::<account::Account>().await?.browsers(),
        None => 0,
    };
    let layout = Layout::of(page, "/login", "login.rs").await?;
    Ok(Text::Html(LoginPage { layout, user, browsers, name, next, refused }.render()?))
}

fn user(name: &str, password: &str) -> Option<&'static User> {
    USERS.iter().find(|user| user.name == name && password == PASSWORD)
}

/// A page of ours, wherever the address asks to go: a link must not lead from here to another site.
fn local(next: &str) -> &'static str {
    let known = Layout::PAGES.iter().find(|(path, _)| *path == next);
    known.map_or("/login", |(path, _)| path)
}

/// Sends whoever is not signed in to the form, and from there back to `path`.
pub(crate) fn required(path: &'static str) -> Redirect {
    Redirect::other(format!("/login?next={path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_pages_of_ours_only() {
        assert_eq!(local("/profile"), "/profile");
        for elsewhere in ["", "//evil.example", "https://evil.example", "/\\evil.example", "/profile/../.."] {
            assert_eq!(local(elsewhere), "/login", "{elsewhere}");
        }
    }

    #[test]
    fn a_name_alone_is_nobody() {
        assert_eq!(user("alice", PASSWORD).map(|user| user.name), Some("alice"));
        for (name, password) in [("alice", ""), ("alice", "Faststate"), ("", PASSWORD), ("eve", PASSWORD)] {
            assert!(user(name, password).is_none(), "{name}");
        }
    }
}
