use http::Request;

use super::*;

const NOW: UnixSeconds = UnixSeconds(1_800_000_000);
const YEAR: u32 = 365 * 24 * 3600;

fn cookie(name: &'static str, secret: &Secret) -> SessionCookie {
    let mut cookie = SessionCookie::new(ListenAddress::default());
    cookie.sign_with(secret.clone());
    cookie.rename(name.into());
    cookie
}

fn unnamed(secret: &Secret) -> SessionCookie {
    let mut cookie = SessionCookie::new(ListenAddress::default());
    cookie.sign_with(secret.clone());
    cookie
}

fn minted(cookie: &SessionCookie) -> (SessionId, String) {
    let session = SessionId::random();
    (session, pair(&cookie.set(session, NOW)))
}

fn carrying(text: &str) -> HeaderMap {
    HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(text).unwrap())])
}

fn pair(set: &HeaderValue) -> String {
    set.to_str().unwrap().split(';').next().unwrap().to_owned()
}

fn read(cookie: &SessionCookie, text: &str) -> RequestSession {
    cookie.read(&carrying(text), NOW)
}

fn parts(uri: &str, cookies: &str) -> Parts {
    let request =
        Request::builder().uri(uri).header("host", "app.shop.example:8080").header("cookie", cookies);
    request.body(()).unwrap().into_parts().0
}

fn texts(headers: &[HeaderValue]) -> Vec<&str> {
    headers.iter().map(|header| header.to_str().unwrap()).collect()
}

#[test]
fn minted_session_is_read_back() {
    let cookie = cookie("faststate", &Secret::random());
    let (session, set) = cookie.mint();
    let text = set.to_str().unwrap();
    assert!(text.contains("; Path=/;") && text.contains("; HttpOnly") && text.contains("; SameSite=Lax"));
    assert!(!text.contains("Secure"));
    let others = format!("a=b; {}; faststate2=x", pair(&set));
    let read = cookie.read(&carrying(&others), UnixSeconds::now());
    assert!(matches!(read, RequestSession::Valid(found, _) if found == session), "{read:?}");
    assert_eq!(cookie.read(&HeaderMap::new(), NOW), RequestSession::Missing);
    assert_eq!(cookie.read(&carrying("other=1"), NOW), RequestSession::Missing);
}

#[test]
fn law_08_tampered_foreign_and_renamed_cookies_are_invalid() {
    let secret = Secret::random();
    let ours = cookie("faststate", &secret);
    let (_, value) = minted(&ours);
    for at in "faststate=".len()..value.len() {
        let mut bytes = value.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let tampered = String::from_utf8(bytes).unwrap();
        assert_eq!(read(&ours, &tampered), RequestSession::Invalid, "byte {at}");
    }
    let (_, foreign) = minted(&cookie("faststate", &Secret::random()));
    assert_eq!(read(&ours, &foreign), RequestSession::Invalid);
    let (_, other) = minted(&cookie("other", &secret));
    assert_eq!(read(&ours, &other.replace("other=", "faststate=")), RequestSession::Invalid);
    for garbage in ["faststate=", "faststate=AAAA", &value[..value.len() - 1], &format!("{value}A")] {
        assert_eq!(read(&ours, garbage), RequestSession::Invalid, "{garbage}");
    }
}

#[test]
fn valid_cookie_counts_beside_an_invalid_one() {
    let cookie = cookie("faststate", &Secret::random());
    let (session, set) = minted(&cookie);
    for both in [format!("faststate=x; {set}"), format!("{set}; faststate=x"), format!("{set}; {set}")] {
        assert_eq!(read(&cookie, &both), RequestSession::Valid(session, NOW), "{both}");
    }
}

#[test]
fn law_08_two_valid_sessions_are_refused_and_removed() {
    let cookie = cookie("id", &Secret::random());
    let ((_, own), (_, tossed)) = (minted(&cookie), minted(&cookie));
    let both = format!("{tossed}; {own}");
    assert_eq!(read(&cookie, &both), RequestSession::Ambiguous);
    let removals = cookie.removals(&parts("/a/b", &both), RequestSession::Ambiguous);
    let removals = texts(&removals);
    for sent in [
        "Domain=shop.example; Path=/;",
        "Domain=app.shop.example; Path=/a/b;",
        "Domain=shop.example; Path=/a;",
    ] {
        assert!(removals.iter().any(|text| text.starts_with("id=; ") && text.contains(sent)), "{removals:?}");
    }
    assert!(removals.iter().any(|text| text.starts_with("id=; Path=/a;")), "{removals:?}");
    assert!(
        !removals.iter().any(|text| text.starts_with("id=; Path=/;")),
        "the new session's cookie replaces it"
    );
    assert!(!removals.iter().any(|text| text.contains("Domain=example;")), "{removals:?}");
    let deep = format!("/{}", "x/".repeat(100));
    assert!(cookie.removals(&parts(&deep, &both), RequestSession::Ambiguous).len() <= 40);
}

#[test]
fn law_08_sibling_host_cannot_set_a_secure_cookie() {
    let mut cookie = cookie("id", &Secret::random());
    let (session, plain) = minted(&cookie);
    cookie.secure(true);
    let (own, set) = minted(&cookie);
    let text = cookie.set(own, NOW);
    let text = text.to_str().unwrap();
    assert!(
        text.starts_with("__Host-id=") && text.contains("; Path=/;") && text.ends_with("; Secure"),
        "{text}"
    );
    assert!(!text.contains("Domain"), "{text}");
    assert_eq!(read(&cookie, &format!("{plain}; {set}")), RequestSession::Valid(own, NOW));
    assert_eq!(read(&cookie, &plain), RequestSession::Missing, "a sibling host may have set it: {session:?}");
    cookie.rename("__Host-id".into());
    assert!(pair(&cookie.set(own, NOW)).starts_with("__Host-id="));
}

#[test]
fn cookie_is_renewed_after_a_quarter_of_its_lifetime() {
    let cookie = cookie("faststate", &Secret::random());
    let (session, set) = minted(&cookie);
    let after = |seconds: u32| cookie.read(&carrying(&set), UnixSeconds(NOW.0 + seconds));
    assert_eq!(after(YEAR / 4 - 1), RequestSession::Valid(session, NOW));
    assert_eq!(after(YEAR / 4), RequestSession::Due(session));
    assert_eq!(after(2 * YEAR), RequestSession::Due(session));
    let early = UnixSeconds(NOW.0 - YEAR / 2);
    assert_eq!(cookie.read(&carrying(&set), early), RequestSession::Due(session), "the clock was wrong");
    let renewed = UnixSeconds(NOW.0 + YEAR / 4);
    let set = pair(&cookie.set(session, renewed));
    assert_eq!(cookie.read(&carrying(&set), renewed), RequestSession::Valid(session, renewed));
}

#[test]
fn cookie_without_a_time_is_accepted_and_renewed() {
    let cookie = cookie("faststate", &Secret::random());
    let session = SessionId::random();
    let tag = cookie.keys[0].signer.clone().chain_update(session.as_bytes()).finalize().into_bytes();
    let value = URL_SAFE_NO_PAD.encode([session.as_bytes().as_slice(), &tag].concat());
    assert_eq!(read(&cookie, &format!("faststate={value}")), RequestSession::Due(session));
}

#[test]
fn default_name_is_derived_from_secret_or_port() {
    let secret = Secret::random();
    let name = |cookie: &SessionCookie| minted(cookie).1.split('=').next().unwrap().to_owned();
    let (first, second) = (unnamed(&secret), unnamed(&secret));
    assert_eq!(name(&first), name(&second), "the nodes of one application");
    assert_ne!(name(&first), name(&unnamed(&Secret::random())), "two applications");
    let listening = |port| {
        let listening = ListenAddress::default();
        listening.set(SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
        name(&SessionCookie::new(listening))
    };
    assert_eq!(
        (listening(5000), listening(5001)),
        ("faststate_5000".to_owned(), "faststate_5001".to_owned())
    );
    assert_eq!(name(&SessionCookie::new(ListenAddress::default())), "faststate");
}

#[test]
fn law_08_secret_rotation_keeps_sessions() {
    let [old, new, foreign] = [Secret::random(), Secret::random(), Secret::random()];
    let named: fn(&Secret) -> SessionCookie = |secret| cookie("faststate", secret);
    for (of, is_named) in [(named, true), (unnamed as fn(&Secret) -> SessionCookie, false)] {
        let nodes = [
            of(&old),
            of(&old.clone().accepting(new.clone())),
            of(&new.clone().accepting(old.clone())),
            of(&new),
        ];
        for (older, newer) in [(0, 1), (1, 2), (2, 3)] {
            // During a rolling restart, each node accepts the cookies of the other.
            for (signs, reads) in [(older, newer), (newer, older)] {
                let (session, set) = minted(&nodes[signs]);
                let read = read(&nodes[reads], &set);
                assert_eq!(read.session(), Some(session), "{signs} {reads}");
            }
        }
        let (session, set) = minted(&nodes[1]);
        assert_eq!(read(&nodes[2], &set), RequestSession::Due(session));
        let removals = nodes[2].removals(&parts("/", &set), RequestSession::Due(session));
        assert_eq!(removals.len(), usize::from(!is_named), "a cookie of another name is removed");
        let renewed = pair(&nodes[2].set(session, NOW));
        assert_eq!(read(&nodes[3], &renewed), RequestSession::Valid(session, NOW));
        assert_eq!(read(&nodes[2], &format!("{set}; {renewed}")), RequestSession::Valid(session, NOW));
        assert!(matches!(read(&nodes[3], &set), RequestSession::Invalid | RequestSession::Missing));
        let (_, set) = minted(&of(&foreign));
        assert!(nodes.iter().all(|node| read(node, &set).session().is_none()));
    }
}
