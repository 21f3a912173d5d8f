//! Rules of the workspace: dependencies between crates, and names of tests.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Web frameworks, HTTP servers, databases and their drivers.
const FOREIGN: &[&str] = &[
    "actix",
    "axum",
    "diesel",
    "hyper",
    "libsqlite3",
    "mongodb",
    "mysql",
    "poem",
    "postgres",
    "redis",
    "reqwest",
    "rocket",
    "rusqlite",
    "salvo",
    "sea-orm",
    "sled",
    "sqlx",
    "surrealdb",
    "tide",
    "tower",
    "warp",
];

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).args(["--locked", "--quiet"]).output();
    let output = output.expect("cargo runs");
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo writes UTF-8")
}

/// The foreign crates among the dependencies of a package with these features, each by its name.
fn foreign_dependencies(package: &str, features: &str) -> BTreeSet<String> {
    let tree = ["tree", "--package", package, "--edges", "normal,build", "--features", features];
    let tree = cargo(&[&tree[..], &["--target", "all", "--prefix", "none"]].concat());
    assert!(tree.lines().count() > 10, "{tree}");
    let names = tree.lines().filter_map(|line| line.split(' ').next());
    let foreign = names.filter(|name| FOREIGN.iter().any(|foreign| name.starts_with(foreign)));
    foreign.map(str::to_owned).collect()
}

#[test]
fn core_and_http_depend_on_no_framework_and_no_database() {
    assert_eq!(foreign_dependencies("faststate-core", "metrics,inspector"), BTreeSet::new());
    assert_eq!(foreign_dependencies("faststate-http", "metrics,inspector"), BTreeSet::new());
    let hyper = BTreeSet::from(["hyper", "hyper-util"].map(str::to_owned));
    assert_eq!(foreign_dependencies("faststate-http", "server"), hyper);
}

#[test]
fn core_and_stores_depend_on_no_http_library() {
    for (package, features) in [
        ("faststate-core", "metrics,inspector"),
        ("faststate-store-diesel", "sqlite"),
        ("faststate-store-redis", ""),
    ] {
        let tree = ["tree", "--package", package, "--edges", "normal", "--features", features];
        let tree = cargo(&[&tree[..], &["--prefix", "none", "--depth", "2"]].concat());
        for library in ["matchit", "hmac", "base64", "form_urlencoded", "http-body-util"] {
            // The drivers have such dependencies of their own.
            let of_core = tree.lines().any(|line| line.split(' ').next() == Some(library));
            assert!(!of_core || package != "faststate-core", "{package} depends on {library}");
        }
        assert!(!tree.contains("faststate-http"), "{package}");
    }
}

#[test]
fn the_core_opens_no_sockets_unless_it_is_asked_to() {
    let tree = [
        "tree",
        "--package",
        "faststate-core",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p} {f}",
    ];
    let tree = cargo(&tree);
    let tokio = tree.lines().find(|line| line.starts_with("tokio ")).expect("the core has tasks and time");
    let features: Vec<&str> = tokio.rsplit(' ').next().unwrap_or_default().split(',').collect();
    assert!(features.contains(&"rt") && !features.contains(&"net"), "{tokio}");
}

/// The packages of a tree, by name.
fn packages(arguments: &[&str]) -> BTreeSet<String> {
    let tree = cargo(&[&["tree", "--edges", "normal", "--prefix", "none"], arguments].concat());
    tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn tls_is_compiled_only_on_request() {
    let facade = ["--package", "faststate", "--no-default-features", "--features"];
    let with = |features| packages(&[&facade[..], &[features]].concat());
    for (features, has_tls) in [
        ("store-redis", false),
        ("store-redis,tls-native-roots", true),
        ("store-redis,tls-webpki-roots", true),
    ] {
        assert_eq!(with(features).contains("rustls"), has_tls, "{features}");
    }
    assert!(!with("store-redis,tls-native-roots").contains("webpki-roots"));
    assert!(!with("store-redis,tls-webpki-roots").contains("rustls-native-certs"));
}

#[test]
fn tls_has_one_cryptography_provider_and_no_openssl() {
    let all = packages(&["--workspace", "--all-features", "--target", "all"]);
    assert!(all.contains("rustls") && all.contains("ring"));
    for other in ["aws-lc-rs", "aws-lc-sys", "openssl", "openssl-sys", "native-tls", "rustls-rustcrypto"] {
        assert!(!all.contains(other), "{other}");
    }
}

#[test]
fn each_adapter_alone_pulls_in_only_its_own_framework() {
    for package in ["faststate", "faststate-demo"] {
        for (feature, own, other) in [("salvo", "salvo ", "axum "), ("axum", "axum ", "salvo ")] {
            let tree = ["tree", "--package", package, "--no-default-features", "--features", feature];
            let tree = cargo(&[&tree[..], &["--edges", "normal", "--prefix", "none"]].concat());
            let has = |name: &str| tree.lines().any(|line| line.starts_with(name));
            assert!(has(own) && !has(other), "{package} with {feature}");
        }
    }
}

#[test]
fn dependencies_between_crates_point_one_way() {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1"])).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let ours: Vec<_> = package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|dependency| dependency["kind"] != "dev")
            .filter_map(|dependency| dependency["name"].as_str())
            .filter(|dependency| dependency.starts_with("faststate"))
            .collect();
        assert!(
            !ours.contains(&"faststate-demo") && !ours.contains(&"faststate-tests"),
            "{name} depends on {ours:?}"
        );
        let lowest: &[&str] = match name {
            "faststate-core" => &[],
            "faststate-testkit" | "faststate-salvo" | "faststate-axum" => {
                &["faststate-core", "faststate-http"]
            }
            "faststate"
            | "faststate-benches"
            | "faststate-demo"
            | "faststate-demo-next"
            | "faststate-tests" => {
                continue;
            }
            _ => &["faststate-core"],
        };
        assert_eq!(ours, lowest, "{name}");
    }
    for name in ["faststate-core", "faststate-http", "faststate-testkit"] {
        assert!(packages.iter().any(|package| package["name"] == name), "{name}");
    }
}

#[test]
fn each_database_alone_pulls_in_only_its_own_driver() {
    const DRIVERS: [(&str, &str); 3] =
        [("sqlite", "libsqlite3-sys "), ("postgres", "tokio-postgres "), ("mysql", "mysql_async ")];
    for (feature, driver) in DRIVERS {
        let tree = [
            "tree",
            "--package",
            "faststate-store-diesel",
            "--no-default-features",
            "--features",
            feature,
            "--edges",
            "normal",
            "--prefix",
            "none",
        ];
        let tree = cargo(&tree);
        let drivers: Vec<_> = DRIVERS
            .iter()
            .map(|(_, driver)| *driver)
            .filter(|driver| tree.lines().any(|line| line.starts_with(driver)))
            .collect();
        assert_eq!(drivers, [driver], "{feature}");
    }
}

#[test]
fn sqlite_alone_compiles_no_tls() {
    let found = packages(&["--package", "faststate", "--features", "store-diesel"]);
    assert!(found.contains("libsqlite3-sys"));
    for name in ["rustls", "rustls-native-certs", "rustls-webpki", "ring", "tokio-rustls", "webpki-roots"] {
        assert!(!found.contains(name), "{name}");
    }
}

/// The Rust files of the workspace.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of the workspace").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let is_ours = name != "target" && !name.as_encoded_bytes().starts_with(b".");
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && is_ours => files.extend(sources(&path)),
            Ok(kind) if kind.is_file() && path.extension().is_some_and(|extension| extension == "rs") => {
                files.push(path);
            }
            _ => {}
        }
    }
    files
}

/// The names of the functions in `source` that are named after a law.
fn named_after_laws(source: &str) -> impl Iterator<Item = &str> {
    let functions = source.lines().filter_map(|line| {
        let (before, name) = line.split_once("fn ")?;
        let is_function = before.split_whitespace().all(|word| matches!(word, "pub" | "async"));
        is_function.then(|| name.split(|c: char| !c.is_alphanumeric() && c != '_').next())?
    });
    functions
        .filter(|name| name.strip_prefix("law").is_some_and(|rest| !rest.starts_with(char::is_alphabetic)))
}

/// Whether a test's name begins with a law's number in two digits, so that `cargo test law_04` finds it.
fn carries_two_digits(name: &str) -> bool {
    let Some((law, rest)) = name.strip_prefix("law_").and_then(|rest| rest.split_once('_')) else {
        return false;
    };
    law.len() == 2 && law.parse().is_ok_and(|law: u8| (1..=17).contains(&law)) && !rest.is_empty()
}

#[test]
fn tests_of_laws_carry_the_number_in_two_digits() {
    for wrong in ["law_4_x", "law_x", "law4_x", "law_004_x", "law_18_x", "law_00_x", "law_04_"] {
        let source = format!("    async fn {wrong}() {{}}");
        assert!(named_after_laws(&source).all(|name| name == wrong && !carries_two_digits(name)), "{wrong}");
        assert_eq!(named_after_laws(&source).count(), 1, "{wrong}");
    }

    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are in the workspace");
    let mut laws = 0;
    for file in sources(root) {
        let source = fs::read_to_string(&file).expect("a source is text");
        for name in named_after_laws(&source) {
            laws += 1;
            assert!(carries_two_digits(name), "`{name}` in {}: write `law_NN_..`", file.display());
        }
    }
    assert!(laws > 100, "only {laws} tests of laws were found");
}
