//! Imports between the modules of a crate.
//!
//! A module imports another one if its `use` declarations name an item that the other one defines; re-exports are
//! followed. An import from a module's own ancestor is no step of a cycle: a submodule is part of its parent.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::{Item, UseTree, Visibility};

use crate::{Sources, crates, shown};

/// A module's path below its crate, for example `["endpoint", "session"]`; empty for the crate's root.
type ModulePath = Vec<String>;

/// The `use` declarations and submodules of one file.
#[derive(Default)]
struct Module {
    children: BTreeSet<String>,
    imports: Vec<Import>,
}

/// One imported item.
struct Import {
    path: Vec<String>,
    /// The item's name in this module.
    name: String,
    /// Whether this is a re-export, which alone makes no module depend on the item.
    is_reexport: bool,
}

type Modules = BTreeMap<ModulePath, Module>;

/// Reads a module's file and those of its submodules.
fn read(file: &Path, folder: &Path, path: &ModulePath, modules: &mut Modules) {
    let syntax = syn::parse_file(&fs::read_to_string(file).unwrap()).unwrap();
    let mut module = Module::default();
    for item in syntax.items {
        match item {
            Item::Use(import) => {
                let mut paths = Vec::new();
                flatten(&import.tree, &mut Vec::new(), &mut paths);
                let is_reexport = !matches!(import.vis, Visibility::Inherited);
                let imports = paths.into_iter().map(|(path, name)| Import { path, name, is_reexport });
                module.imports.extend(imports);
            }
            Item::Mod(child) if child.content.is_none() => {
                let name = child.ident.to_string();
                if child.attrs.iter().any(|attribute| attribute.path().is_ident("path")) {
                    continue;
                }
                let candidates = [folder.join(format!("{name}.rs")), folder.join(&name).join("mod.rs")];
                let Some(file) = candidates.iter().find(|file| file.is_file()) else { continue };
                let below: ModulePath = path.iter().cloned().chain([name.clone()]).collect();
                module.children.insert(name.clone());
                read(file, &folder.join(&name), &below, modules);
            }
            _ => {}
        }
    }
    modules.insert(path.clone(), module);
}

/// Adds every path of a `use` tree.
fn flatten(tree: &UseTree, prefix: &mut Vec<String>, imports: &mut Vec<(Vec<String>, String)>) {
    match tree {
        UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            flatten(&path.tree, prefix, imports);
            prefix.pop();
        }
        UseTree::Name(name) if name.ident == "self" => {
            imports.push((prefix.clone(), prefix.last().cloned().unwrap_or_default()));
        }
        UseTree::Name(name) => {
            let path = prefix.iter().cloned().chain([name.ident.to_string()]).collect();
            imports.push((path, name.ident.to_string()));
        }
        UseTree::Rename(rename) => {
            let path = prefix.iter().cloned().chain([rename.ident.to_string()]).collect();
            imports.push((path, rename.rename.to_string()));
        }
        UseTree::Glob(_) => {}
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, prefix, imports)),
    }
}

/// The module that defines what `path`, used in `from`, names; none for another crate's item.
fn definer(modules: &Modules, from: &ModulePath, path: &[String], depth: usize) -> Option<ModulePath> {
    if depth > 8 {
        return None;
    }
    let (mut at, mut rest) = match path.first()?.as_str() {
        "crate" => (ModulePath::new(), &path[1..]),
        "self" => (from.clone(), &path[1..]),
        "super" => {
            let supers = path.iter().take_while(|segment| *segment == "super").count();
            (from[..from.len().checked_sub(supers)?].to_vec(), &path[supers..])
        }
        first if modules.get(from)?.children.contains(first) => (from.clone(), path),
        _ => return None,
    };
    while let Some((name, below)) = rest.split_first() {
        let module = modules.get(&at)?;
        if module.children.contains(name) {
            at.push(name.clone());
            rest = below;
            continue;
        }
        // A re-export, or an item of this module.
        if let Some(import) = module.imports.iter().find(|import| import.name == *name) {
            return definer(modules, &at, &import.path, depth + 1);
        }
        return Some(at);
    }
    Some(at)
}

/// The strongly connected components of more than one module.
fn cycles(edges: &BTreeMap<ModulePath, BTreeSet<ModulePath>>) -> Vec<BTreeSet<ModulePath>> {
    let reachable = |start: &ModulePath| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![start.clone()]);
        while let Some(at) = open.pop() {
            for next in edges.get(&at).into_iter().flatten() {
                if seen.insert(next.clone()) {
                    open.push(next.clone());
                }
            }
        }
        seen
    };
    let reach: BTreeMap<_, _> = edges.keys().map(|module| (module.clone(), reachable(module))).collect();
    let mut found: Vec<BTreeSet<ModulePath>> = Vec::new();
    for (module, reached) in &reach {
        if !reached.contains(module) || found.iter().any(|cycle| cycle.contains(module)) {
            continue;
        }
        let both = reached.iter().filter(|other| reach.get(*other).is_some_and(|back| back.contains(module)));
        found.push(both.cloned().collect());
    }
    found
}

/// Returns the cycles among the modules below a root file, without imports from a module's own ancestors.
fn cycles_below(file: &Path) -> Vec<BTreeSet<ModulePath>> {
    let mut modules = Modules::new();
    read(file, file.parent().unwrap(), &ModulePath::new(), &mut modules);
    let mut edges: BTreeMap<ModulePath, BTreeSet<ModulePath>> = BTreeMap::new();
    for (path, module) in &modules {
        let used = module.imports.iter().filter(|import| !import.is_reexport);
        let imported = used.filter_map(|import| definer(&modules, path, &import.path, 0));
        let imported = imported.filter(|target| target != path && !path.starts_with(target));
        edges.entry(path.clone()).or_default().extend(imported);
    }
    cycles(&edges)
}

/// The root files of a crate: its library, its program, and its integration tests that have several files.
fn root_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = vec![folder.join("src/lib.rs"), folder.join("src/main.rs")];
    if let Ok(tests) = fs::read_dir(folder.join("tests")) {
        files.extend(tests.map(|test| test.unwrap().path().join("main.rs")));
    }
    files.retain(|file| file.is_file());
    files
}

#[test]
fn modules_do_not_import_each_other_in_cycles() {
    let mut found = Vec::new();
    for file in crates().iter().flat_map(|folder| root_files(folder)) {
        for cycle in cycles_below(&file) {
            let modules: Vec<_> = cycle.iter().map(|path| path.join("::")).collect();
            found.push(format!("{}: {}", shown(&file), modules.join(", ")));
        }
    }
    assert!(found.is_empty(), "these modules import each other in a cycle:\n{}", found.join("\n"));
}

#[test]
fn cycle_is_found_through_a_re_export() {
    let sources = Sources::new(
        "cycle",
        &[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "mod inner; pub use self::inner::Inner; use crate::b::B;"),
            ("a/inner.rs", "use crate::b::B; pub struct Inner(B);"),
            ("b.rs", "use crate::a::Inner; pub struct B(Option<Box<Inner>>);"),
        ],
    );
    let cycle = [vec!["a".to_owned(), "inner".to_owned()], vec!["b".to_owned()]].into();
    assert_eq!(cycles_below(&sources.0.join("lib.rs")), [cycle]);
}

#[test]
fn imports_from_an_ancestor_are_no_cycle() {
    let sources = Sources::new(
        "ancestor",
        &[
            ("lib.rs", "mod a;"),
            ("a.rs", "mod b; use self::b::B; struct A(B);"),
            ("a/b.rs", "use super::A; pub struct B;"),
        ],
    );
    assert_eq!(cycles_below(&sources.0.join("lib.rs")), []);
}
