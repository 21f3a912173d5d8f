//! Startup of the demo.

use std::{fs, os::unix::fs::PermissionsExt as _};

use faststate_tests::{Demo, Folder};

use super::ADAPTER;

#[test]
fn mistyped_secret_and_address_are_not_printed() {
    let key = "5ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ez";
    let address = "postgres://me:hunter2-and-more@127.0.0.1:1/db";
    for (arguments, variables) in [
        (vec!["--secret", key], vec![]),
        (vec!["--secrets", key], vec![]),
        (vec![key], vec![]),
        (vec![], vec![("FASTSTATE_SECRET", key)]),
        (vec!["--store", "postgre://me:hunter2-and-more@127.0.0.1/db"], vec![]),
        (vec!["--stor", address], vec![]),
        (vec!["--listen", address], vec![]),
        (vec![], vec![("FASTSTATE_LISTEN", address)]),
        (vec![], vec![("FASTSTATE_BROADCAST", "me:hunter2-and-more@127.0.0.1")]),
        // A valid address without a server.
        (vec!["--store", address], vec![]),
        (vec!["--store", "sqlite:///me:hunter2-and-more@127.0.0.1/db"], vec![]),
    ] {
        let message = Demo::refusal(&arguments, &variables);
        assert!(!message.trim().is_empty(), "{arguments:?} {variables:?}: nothing is printed");
        assert!(
            !message.contains(key) && !message.contains("hunter2"),
            "{arguments:?} {variables:?}: {message}"
        );
    }
}

#[test]
fn database_file_is_readable_for_its_user_alone() {
    let folder = Folder::new("private");
    let file = folder.join("demo.db");
    let _demo = Demo::with(&["--adapter", ADAPTER, "--store", &format!("sqlite://{}", file.display())]);
    for suffix in ["", "-wal", "-shm"] {
        let file = format!("{}{suffix}", file.display());
        let mode = fs::metadata(&file).unwrap_or_else(|error| panic!("{file}: {error}")).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}
