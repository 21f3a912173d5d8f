//! The links, definitions and names of a Markdown document.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use pulldown_cmark::{BrokenLink, CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// A parsed document.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) path: PathBuf,
    /// Link definitions by label: `[label]: link`.
    pub(crate) definitions: BTreeMap<String, String>,
    /// Labels without a definition.
    pub(crate) undefined: Vec<String>,
    /// Inline code.
    pub(crate) code: Vec<String>,
    /// Code blocks with their languages.
    pub(crate) snippets: Vec<(String, String)>,
    links: Vec<String>,
    anchors: Vec<String>,
}

impl Document {
    pub(crate) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let undefined = RefCell::new(Vec::new());
        let callback = |link: BrokenLink<'_>| {
            undefined.borrow_mut().push(link.reference.to_string());
            None
        };
        let options = Options::ENABLE_TABLES | Options::ENABLE_TASKLISTS;
        let parser = Parser::new_with_broken_link_callback(&text, options, Some(callback));
        let definitions = parser.reference_definitions().iter();
        let definitions = definitions.map(|(label, to)| (label.to_owned(), to.dest.to_string())).collect();
        let mut document = Self {
            path: path.to_owned(),
            definitions,
            undefined: Vec::new(),
            code: Vec::new(),
            snippets: Vec::new(),
            links: Vec::new(),
            anchors: Vec::new(),
        };
        document.walk(parser);
        document.undefined = undefined.into_inner();
        document
    }

    fn walk<'a>(&mut self, events: impl Iterator<Item = Event<'a>>) {
        let (mut heading, mut block) = (None, None);
        for event in events {
            match event {
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    self.links.push(dest_url.to_string());
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    self.anchors.extend(heading.take().map(|text| anchor(&text)))
                }
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(kind))) => {
                    block = Some((kind.to_string(), String::new()));
                }
                Event::End(TagEnd::CodeBlock) => self.snippets.extend(block.take()),
                Event::Text(text) => {
                    let place = block.as_mut().map(|(_, code)| code).or(heading.as_mut());
                    place.into_iter().for_each(|place| place.push_str(&text));
                }
                Event::Code(code) => {
                    heading.iter_mut().for_each(|text| text.push_str(&code));
                    self.code.push(code.to_string());
                }
                _ => {}
            }
        }
    }

    pub(crate) fn links(&self) -> impl Iterator<Item = &str> {
        self.links.iter().map(String::as_str)
    }

    pub(crate) fn has_anchor(&self, anchor: &str) -> bool {
        self.anchors.iter().any(|known| known == anchor)
    }
}

/// The anchor of a heading, as forges and mdBook write it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are in the repository")
}

/// Whether inline code is the path of a file in the repository.
pub(crate) fn is_file_of_ours(code: &str) -> bool {
    const ENDINGS: &[&str] = &[".conf", ".html", ".md", ".rs", ".toml"];
    let first = code.split('/').next().filter(|first| first.len() < code.len()).unwrap_or_default();
    let folder = first.starts_with("faststate-") || ["benches", "docs", "examples", "tests"].contains(&first);
    folder && ENDINGS.iter().any(|ending| code.ends_with(ending))
}

/// The item that a documentation page shows: `endpoint/struct.Page.html#method.view` is `crate::endpoint::Page::view`.
pub(crate) fn rust_path(page: &str) -> String {
    let (file, anchor) = page.split_once('#').unwrap_or((page, ""));
    let file = file.trim_end_matches("/index.html").trim_end_matches(".html");
    let plain = |part: &str| part.rsplit('.').next().unwrap_or_default().to_owned();
    let member = Some(plain(anchor)).filter(|member| !member.is_empty());
    let parts = file.split('/').map(plain).chain(member);
    parts.fold("crate".to_owned(), |path, part| format!("{path}::{part}"))
}

/// The folder of the facade's built documentation.
pub(crate) fn built() -> Option<PathBuf> {
    let this = env::current_exe().expect("a test knows its program");
    let target = this.ancestors().find(|folder| folder.join("doc/faststate/index.html").exists())?;
    Some(target.join("doc/faststate"))
}
