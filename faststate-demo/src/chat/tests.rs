use faststate::PatchMode;

use super::*;

fn room(numbers: std::ops::Range<u64>, text: &str) -> Chat {
    let message =
        |number| Message { number, at: number, username: "Ada".into(), text: text.into(), member: false };
    Chat { sent: numbers.end, messages: numbers.map(message).collect(), ..Chat::default() }
}

fn items(chat: &Chat) -> Vec<(String, String)> {
    let item = |message| MessageItem { message }.to_string();
    chat.messages.iter().map(|message| (format!("message-{}", message.number), item(message))).collect()
}

/// The items of a page that showed `before` and merged the updates that lead to `after`.
fn merged(before: &Chat, after: &Chat) -> Vec<(String, String)> {
    let mut shown = items(before);
    for elements in ChatMessages.update(before, after) {
        match elements.mode() {
            PatchMode::Remove => shown.retain(|(id, _)| elements.selector() != format!("#{id}")),
            PatchMode::Append => {
                let html = elements.html().to_owned();
                let id = html.split('"').nth(1).unwrap_or_default().to_owned();
                shown.push((id, html));
            }
            _ => {
                assert_eq!(elements, ChatMessages.render(after));
                shown = items(after);
            }
        }
    }
    shown
}

#[test]
fn law_04_messages_merge_to_what_a_snapshot_shows() {
    let steps = [
        (0..0, 0..1),
        (0..3, 0..3),
        (0..3, 0..5),
        (0..100, 1..101),
        (0..3, 7..9),
        (5..9, 0..0),
        (5..9, 0..2),
    ];
    for (before, after) in steps {
        let (before, after) = (room(before, "hello"), room(after, "hello"));
        assert_eq!(merged(&before, &after), items(&after));
    }
    // Another history that happens to have the same numbers.
    let (before, after) = (room(0..3, "hello"), room(0..4, "good bye"));
    assert_eq!(merged(&before, &after), items(&after));
}

#[test]
fn message_update_contains_only_its_own_html() {
    let updates = ChatMessages.update(&room(0..100, "hello"), &room(1..101, "hello"));
    assert_eq!(updates.len(), 2, "one removal and one append");
}

#[test]
fn law_12_user_text_is_escaped() {
    let mut chat = room(0..1, "<script>alert(1)</script>");
    chat.messages[0].username = "\"><img src=x onerror=alert(1)>".into();
    let html = ChatMessages.render(&chat).html().to_owned();
    assert!(!html.contains("<script") && !html.contains("<img"), "{html}");
}

#[test]
fn names_list_users_and_count_guests() {
    let mut chat = Chat::default();
    assert_eq!((chat.present(), &*chat.names()), (0, ""));
    chat.audience.users = vec!["alice".into(), "bob".into()];
    chat.audience.guests = 2;
    assert_eq!((chat.present(), &*chat.names()), (4, "alice, bob, 2 guests"));
}

#[tokio::test]
async fn message_is_trimmed_validated_and_bounded() -> Result<(), faststate::BoxError> {
    let registry = StateRegistry::builder()
        .state::<Chat>(StateConfig::global().access(Access::public()), |state| state.event::<SendMessage>())
        .build()?;
    let chat = Handle::<Chat>::of(registry, &Viewer::application(), None)?;
    let send = |username: &str, message: &str| {
        chat.send(SendMessage { username: username.into(), message: message.into() })
    };
    for (username, message) in [
        (" ", "hello"),
        ("Ada", "\n"),
        ("Ada", "\u{200b}\u{2800} \u{3164}"),
        ("\u{2060}", "hello"),
        ("al\u{200b}ice", "hello"),
        (&*"x".repeat(31), "hello"),
        ("Admin", "hello"),
        ("Ada", &"x".repeat(501)),
    ] {
        assert!(send(username, message).await.is_err(), "{username:?} {message:?}");
    }
    for number in 0..HISTORY + 3 {
        send(" Ada ", &format!(" {number}\n")).await?;
    }
    let room = chat.read().await?;
    assert_eq!(room.messages.len(), HISTORY);
    let last = &room.messages[HISTORY - 1];
    assert_eq!((&*last.username, &*last.text), ("Ada", "102"));
    Ok(())
}
