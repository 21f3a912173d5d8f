//! Patching of elements.

use faststate_tests::{Answer, Page, Site, until};

use crate::{LISTEN, site, visit};

const BODY: &str = r#"
    <ul id="list"><li id="first">first</li></ul>
    <input id="field" value="server"><p id="count" data-text="$count"></p>"#;

fn listening() -> (Site, Page) {
    let site = site(&format!(r#"<body data-signals="{{count: 1}}" data-init="{LISTEN}">{BODY}"#));
    let site = site.on("/stream", [Answer::Stream("")]);
    let page = visit(&site);
    site.streaming("/stream", 1);
    (site, page)
}

/// Patches elements; `lines` are the event's data lines, each with its name.
fn patch(site: &Site, lines: &[&str]) {
    let data: String = lines.iter().map(|line| format!("data: {line}\n")).collect();
    site.push("/stream", &format!("event: datastar-patch-elements\n{data}\n"));
}

fn list(page: &Page) -> String {
    let items =
        page.eval("[...document.querySelectorAll('#list > *')].map(item => item.textContent).join(' ')");
    items.as_str().unwrap_or_default().to_owned()
}

#[test]
fn each_mode_puts_elements_where_its_name_says() {
    let (site, page) = listening();
    let steps = [
        ("append", "#list", "<li id=\"last\">last</li>", "first last"),
        ("prepend", "#list", "<li id=\"zeroth\">zeroth</li>", "zeroth first last"),
        ("before", "#last", "<li>before</li>", "zeroth first before last"),
        ("after", "#first", "<li>after</li>", "zeroth first after before last"),
        ("outer", "#first", "<li id=\"first\">FIRST</li>", "zeroth FIRST after before last"),
        ("replace", "#last", "<li id=\"last\">LAST</li>", "zeroth FIRST after before LAST"),
        ("remove", "#zeroth", "", "FIRST after before LAST"),
        ("inner", "#list", "<li>only</li>", "only"),
    ];
    for (mode, selector, html, expected) in steps {
        patch(
            &site,
            &[&format!("mode {mode}"), &format!("selector {selector}"), &format!("elements {html}")],
        );
        until(mode, || list(&page), |seen| seen == expected);
    }
}

#[test]
fn without_a_selector_each_element_finds_its_own_id() {
    let (site, page) = listening();
    patch(&site, &["elements <li id=\"first\">one</li><p id=\"count\">two</p>"]);
    page.shows("#first", "one");
    page.shows("#count", "two");
}

#[test]
fn lines_of_elements_are_joined() {
    let (site, page) = listening();
    patch(&site, &["elements <li id=\"first\">", "elements one ", "elements ", "elements two</li>"]);
    page.until("document.querySelector('#first').textContent == '\\none \\n\\ntwo'");
}

#[test]
fn an_append_behind_a_marker_can_be_replayed_without_a_warning() {
    // A marker with the same id ensures that the removal finds an element, whatever else has the id:
    // the element itself, one elsewhere on the page, or what an append that was cut off has left.
    let (site, page) = listening();
    let mark =
        || patch(&site, &["mode append", "selector #list", "elements <template id=\"second\"></template>"]);
    let remove = || patch(&site, &["mode remove", "selector #second"]);
    let append = |round: u32| {
        patch(
            &site,
            &["mode append", "selector #list", &format!("elements <li id=\"second\">second {round}</li>")],
        );
    };
    patch(&site, &["mode before", "selector #list", "elements <div><p id=\"second\">elsewhere</p></div>"]);
    page.shows("#second", "elsewhere");
    for round in 1..=3 {
        mark();
        remove();
        append(round);
        until("one of them", || list(&page), |seen| *seen == format!("first second {round}"));
        assert_eq!(page.count("#second"), 1);
    }
    mark();
    mark();
    remove();
    append(4);
    until("one of them", || list(&page), |seen| *seen == "first second 4");
    assert_eq!(page.count("#second"), 1);
}

#[test]
fn new_elements_come_alive_and_removed_ones_fall_silent() {
    let (site, page) = listening();
    patch(
        &site,
        &["mode append", "selector #list", "elements <li id=\"live\" data-text=\"'count ' + $count\"></li>"],
    );
    page.shows("#live", "count 1");
    site.patch("/stream", r#"{"count":2}"#);
    page.shows("#live", "count 2");
    patch(&site, &["mode remove", "selector #live"]);
    site.patch("/stream", r#"{"count":3}"#);
    page.shows("#count", "3");
    assert_eq!(page.count("#live"), 0);
}

#[test]
fn a_script_in_elements_runs() {
    // This is the reason why user input is escaped.
    let (site, page) = listening();
    patch(&site, &["mode append", "selector #list", "elements <li><script>window.ran = true</script></li>"]);
    page.until("window.ran");
}

#[test]
fn a_morph_leaves_a_field_that_someone_types_in_alone() {
    let (site, page) = listening();
    page.fill("#field", "typed");
    patch(&site, &["elements <input id=\"field\" value=\"server\" class=\"new\">"]);
    page.until("document.querySelector('#field.new')");
    assert_eq!(page.eval("document.querySelector('#field').value"), "typed");
    assert_eq!(page.eval("document.activeElement.id"), "field");
}

#[test]
fn a_bare_carriage_return_starts_a_line() {
    // This is the reason why line ends are normalised: text after a CR would become a separate field.
    let (site, page) = listening();
    patch(
        &site,
        &["elements <li id=\"first\">one\revent: datastar-patch-signals\rdata: signals {\"count\":9}"],
    );
    page.shows("#count", "9");
    page.shows("#first", "first");
}

#[test]
fn other_line_separators_start_no_line() {
    let (site, page) = listening();
    patch(&site, &["elements <li id=\"first\">a\u{2028}b\u{2029}c\u{85}d\u{b}e\u{c}f</li>"]);
    page.until("document.querySelector('#first').textContent == 'a\\u2028b\\u2029c\\u0085d\\u000be\\u000cf'");
}
