//! Accounts: two ordinary states, from which the identity of every request is read.
//!
//! The [`Login`] of a session names the user that it claims to belong to, and the user's [`Account`] lists the sessions
//! that it accepts. Signing out everywhere is therefore one change of one state: a session that is not listed belongs to
//! no user.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use faststate::{
    Error, Revocation, SessionId,
    endpoint::{Identity, Page},
    prelude::*,
    registry::RegistryBuilder,
};
use http::{HeaderValue, header, request::Parts};
use serde::{Deserialize, Serialize};

/// Maximum number of sessions of one user; another one signs out the oldest.
const MAX_SESSIONS: usize = 100;
/// How long an unused login lasts.
const LOGIN_TTL: Duration = Duration::from_hours(24 * 30);

/// A user of the demo. A real application loads names and hashed passwords from its database.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) name: &'static str,
    pub(crate) roles: &'static [&'static str],
}

pub(crate) const USERS: &[User] = &[
    User { name: "alice", roles: &[] },
    User { name: "bob", roles: &[] },
    User { name: "carol", roles: &[] },
    User { name: "admin", roles: &["admin"] },
];
/// The password of all users, which the login page shows.
pub(crate) const PASSWORD: &str = "faststate";

/// A cookie that only states that the session may be signed in, and is worth a lookup.
const SIGNED_IN_HINT: &str = "signed_in=1";

/// Returns whether the request carries the hint.
pub(crate) fn hinted(head: &Parts) -> bool {
    let cookies = head.headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    cookies.flat_map(|value| value.split(';')).any(|pair| pair.trim() == SIGNED_IN_HINT)
}

/// The cookie with the hint, which lasts as long as the session's cookie and is `Secure` if that is.
pub(crate) fn hint(page: &Page) -> HeaderValue {
    let session = page.set_cookie();
    let is_secure = session.as_ref().and_then(|cookie| cookie.to_str().ok()).is_some_and(|cookie| {
        cookie.split(';').any(|attribute| attribute.trim().eq_ignore_ascii_case("secure"))
    });
    HeaderValue::from_static(if is_secure {
        "signed_in=1; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax; Secure"
    } else {
        "signed_in=1; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax"
    })
}

/// The user that a session claims to belong to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Login {
    /// Empty if the visitor is not signed in.
    pub(crate) user: String,
}

impl ReactiveState for Login {
    const NAME: &'static str = "login";
}

/// The sessions that a user is signed in with.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Account {
    sessions: VecDeque<[u8; 16]>,
}

#[derive(Serialize)]
struct AccountSignals {
    browsers: usize,
}

impl ReactiveState for Account {
    const NAME: &'static str = "account";

    /// The number of sessions only, because the ids are secret.
    fn signals(&self) -> impl Serialize {
        AccountSignals { browsers: self.sessions.len() }
    }
}

impl Account {
    /// Number of browsers that the user is signed in with.
    pub(crate) fn browsers(&self) -> usize {
        self.sessions.len()
    }
}

pub(crate) fn register(builder: RegistryBuilder) -> RegistryBuilder {
    builder
        .state::<Login>(StateConfig::session().persist().ttl(LOGIN_TTL), |state| state.event::<LogOut>())
        .state::<Account>(StateConfig::user().persist(), |state| state.event::<LogOutEverywhere>())
}

/// The identity of a request. It is determined for every request, so guests, whose browsers have no hint, need no lookup:
/// they cost nothing, and are served while the store is unavailable.
pub(crate) async fn identify(
    registry: Arc<dyn Registry>,
    session: Option<SessionId>,
    hinted: bool,
) -> Result<Identity, Error> {
    let Some(session) = session.filter(|_| hinted) else { return Ok(Identity::nobody()) };
    let login = login(&registry, session)?.read().await?;
    let Some(user) = USERS.iter().find(|user| user.name == login.user) else { return Ok(Identity::nobody()) };
    if !account(&registry, user.name)?.read().await?.sessions.contains(session.as_bytes()) {
        return Ok(Identity::nobody());
    }
    Ok(user.roles.iter().fold(Identity::user(user.name), |identity, role| identity.with_role(*role)))
}

/// Signs the visitor in, under a new session id.
pub(crate) async fn sign_in(page: &Page, user: &'static User) -> Result<SessionId, Error> {
    let registry = page.endpoint().registry();
    let (left, session) = (page.viewer().session_id().copied(), page.renew_session());
    account(registry, user.name)?
        .update(move |account| {
            if account.sessions.len() == MAX_SESSIONS {
                account.sessions.pop_front();
            }
            account.sessions.push_back(*session.as_bytes());
            Ok(())
        })
        .await?;
    login(registry, session)?.update(|login| set(login, user.name)).await?;
    if let Some(left) = left {
        let before = login(registry, left)?;
        let user = before.read().await?.user.clone();
        if !user.is_empty() {
            account(registry, &user)?.update(move |account| forget(account, &left)).await?;
        }
        // The browser has the new cookie once it has received this response; then its other windows reconnect with it.
        // The old session is signed out last: a page that receives this change goes to the form, so the page that
        // still waits for this response would lose it.
        let endpoint = page.endpoint().clone();
        tokio::spawn(async move {
            for wait in [300, 1_000, 5_000] {
                tokio::time::sleep(Duration::from_millis(wait)).await;
                endpoint.close_streams(|viewer| viewer.session_id() == Some(&left));
            }
            if let Err(error) = before.update(|login| set(login, "")).await {
                tracing::warn!(%error, "a session that was left still names its user");
            }
        });
    }
    Ok(session)
}

/// Signs this browser out.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LogOut {}

impl Event for LogOut {
    type State = Login;
    const NAME: &'static str = "log_out";

    fn apply(&self, login: &mut Login, context: &mut Context<Login>) -> Result<(), Rejection> {
        let user = std::mem::take(&mut login.user);
        // A guest is in no account and has no rights to revoke.
        if user.is_empty() {
            return Ok(());
        }
        let Some(session) = context.viewer().session_id().copied() else { return Ok(()) };
        context.after(move |login| async move {
            let left = async {
                account(login.registry(), &user)?.update(move |account| forget(account, &session)).await
            };
            if let Err(error) = left.await {
                tracing::warn!(%error, "a session that was left is still listed in its account");
            }
            revoke(login.registry(), Revocation::session(&session)).await;
        });
        Ok(())
    }
}

/// Signs every browser of this user out.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LogOutEverywhere {}

impl Event for LogOutEverywhere {
    type State = Account;
    const NAME: &'static str = "log_out_everywhere";

    /// The commit removes all sessions from the account. After it, their streams end and their pages are notified.
    fn apply(&self, account: &mut Account, context: &mut Context<Account>) -> Result<(), Rejection> {
        let sessions = std::mem::take(&mut account.sessions);
        context.after(move |account| async move {
            if let Some(user) = account.key().owner() {
                revoke(account.registry(), Revocation::user(&user)).await;
            }
            for session in sessions.into_iter().map(SessionId::from_bytes) {
                let outcome =
                    async { login(account.registry(), session)?.update(|login| set(login, "")).await };
                if let Err(error) = outcome.await {
                    tracing::warn!(%error, "a page of a session that was signed out does not show it yet");
                }
            }
        });
        Ok(())
    }
}

/// Ends the revoked streams on all nodes.
async fn revoke(registry: &Arc<dyn Registry>, revocation: Revocation) {
    if let Err(error) = registry.revoke(revocation).await {
        tracing::warn!(%error, "another node may end the streams of a signed-out user with a delay");
    }
}

fn forget(account: &mut Account, session: &SessionId) -> Result<(), Rejection> {
    account.sessions.retain(|known| known != session.as_bytes());
    Ok(())
}

fn set(login: &mut Login, user: &str) -> Result<(), Rejection> {
    user.clone_into(&mut login.user);
    Ok(())
}

fn login(registry: &Arc<dyn Registry>, session: SessionId) -> Result<Handle<Login>, Error> {
    Handle::of(Arc::clone(registry), &Viewer::session(session), None)
}

fn account(registry: &Arc<dyn Registry>, user: &str) -> Result<Handle<Account>, Error> {
    Handle::of(Arc::clone(registry), &Viewer::application().with_user(user), None)
}

#[cfg(test)]
mod tests {
    use faststate::{BoxError, EventId, MemoryStore, registry::Applied, testing::CapturedLog};
    use tracing::Level;

    use super::*;

    #[tokio::test]
    async fn log_out_of_guest_logs_no_warning() -> Result<(), BoxError> {
        let log = CapturedLog::start(Level::WARN);
        let registry: Arc<dyn Registry> =
            register(StateRegistry::builder().store(Arc::new(MemoryStore::new()))).build()?;
        login(&registry, SessionId::random())?.send(LogOut {}).await?;
        registry.settle().await;
        assert_eq!(log.text(), "");
        Ok(())
    }

    #[tokio::test]
    async fn log_out_of_guest_starts_no_background_work() -> Result<(), BoxError> {
        // Without room for background work, an event that starts some is refused.
        let builder = StateRegistry::builder().max_background(0);
        let config = StateConfig::session();
        let registry = builder.state::<Login>(config, |state| state.event::<LogOut>()).build()?;
        let viewer = Viewer::session(SessionId::random());
        let login = registry.handle::<Login>(&viewer, None)?;
        assert_eq!(
            login.send_as(LogOut {}, viewer.clone(), EventId::random()).await?.answer,
            Applied::Unchanged
        );
        // The log-out of a user starts some: the session's streams have to end.
        login.update(|login| set(login, "alice")).await?;
        assert!(matches!(login.send_as(LogOut {}, viewer, EventId::random()).await, Err(Error::Busy(_))));
        Ok(())
    }
}
