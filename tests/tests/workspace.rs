//! Which crate may know which.

use std::process::Command;

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

#[test]
fn nothing_under_the_core_is_a_web_framework_or_a_database() {
    let tree = [
        "tree",
        "--package",
        "faststate-core",
        "--edges",
        "normal,build",
        "--all-features",
        "--target",
        "all",
        "--prefix",
        "none",
    ];
    let tree = cargo(&tree);
    let foreign: Vec<_> =
        tree.lines().filter(|line| FOREIGN.iter().any(|name| line.starts_with(name))).collect();
    assert!(tree.lines().count() > 10 && foreign.is_empty(), "{foreign:?}");
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
            "faststate" | "faststate-benches" | "faststate-demo" | "faststate-tests" => continue,
            _ => &["faststate-core"],
        };
        assert_eq!(ours, lowest, "{name}");
    }
    assert!(packages.iter().any(|package| package["name"] == "faststate-core"));
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
