//! Published packages: complete for users, and consistent about the required Rust version.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).args(["--locked", "--quiet"]).output();
    let output = output.expect("cargo runs");
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo writes UTF-8")
}

/// The packages that are published.
fn published() -> Vec<Value> {
    let metadata = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&metadata).expect("metadata is JSON");
    let packages = metadata["packages"].as_array().expect("there are packages").iter();
    let published: Vec<_> = packages.filter(|package| package["publish"].is_null()).cloned().collect();
    assert!(published.len() > 4, "{}", published.len());
    published
}

fn name(package: &Value) -> &str {
    package["name"].as_str().expect("a package has a name")
}

#[test]
fn each_package_has_what_a_user_reads_and_nothing_else() {
    for package in published() {
        let name = name(&package);
        let files = cargo(&["package", "--list", "--allow-dirty", "--package", name]);
        let has = |file: &str| files.lines().any(|line| line == file);
        for file in ["Cargo.toml", "LICENSE-APACHE", "LICENSE-MIT", "README.md", "src/lib.rs"] {
            assert!(has(file), "the package {name} has no {file}");
        }
        assert!(name != "faststate" || has("docs/guide/start.md"), "the guide is in the facade's package");
        let known = |file: &str| {
            let cargos = [".cargo_vcs_info.json", "Cargo.lock", "Cargo.toml", "Cargo.toml.orig"];
            cargos.contains(&file)
                || ["CHANGELOG.md", "README.md"].contains(&file)
                || file.starts_with("LICENSE-")
        };
        let folders = ["docs/guide/", "examples/", "src/", "tests/"];
        let junk: Vec<_> = files
            .lines()
            .filter(|file| !known(file) && !folders.iter().any(|folder| file.starts_with(folder)))
            .collect();
        assert!(junk.is_empty(), "the package {name} has {junk:?}");
    }
}

#[test]
fn each_package_says_what_a_registry_shows() {
    for package in published() {
        let name = name(&package);
        for field in ["description", "documentation", "license", "readme", "rust_version"] {
            assert!(package[field].is_string(), "{name} says no {field}");
        }
        let features = package["features"].as_object().expect("features are a table");
        let all = &package["metadata"]["docs"]["rs"]["all-features"];
        assert!(features.is_empty() || all == true, "{name} is documented without some of its features");
    }
}

#[test]
fn the_oldest_rust_is_said_once() {
    let oldest: Vec<_> = published().iter().map(|package| package["rust_version"].clone()).collect();
    let stated = oldest[0].as_str().expect("a package says its Rust");
    assert!(oldest.iter().all(|version| version == stated), "{oldest:?}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for document in ["README.md", "docs/guide/start.md"] {
        let text = fs::read_to_string(root.join(document)).expect("the document is there");
        assert!(
            text.contains(&format!("Rust {stated}")),
            "{document} names another Rust version than {stated}"
        );
    }
}
