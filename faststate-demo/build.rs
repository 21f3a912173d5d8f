//! Embeds the Datastar bundle into the program, and hashes the stylesheet for its address.
//!
//! The bundle is pinned by its hash and never committed. It comes from the file that
//! `FASTSTATE_DATASTAR_JS` names, else from the CDN, else from a crate that contains it. If none of
//! them has it, the build warns and the pages load it from the CDN themselves.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use sha2::{Digest, Sha256};

const CDN: &str = "https://cdn.jsdelivr.net/gh/starfederation/datastar@v1.0.4/bundles/datastar.js";
const SHA256: &str = "727844adfc825ee651fb93c544a2a739986f9a21820a94524b35f0cac470cf91";
const STYLE: &str = "assets/style.css";

/// The crate that contains the same bundle. It requires a newer Rust than this workspace, so it is only
/// unpacked, never built.
const CARRIER: (&str, &str, &str) = ("runnerd-web", "0.0.6", "assets/datastar.js");

fn main() -> io::Result<()> {
    // `next` is what `tests/next` builds, to deploy it beside this version.
    println!("cargo::rustc-check-cfg=cfg(datastar_embedded, next)");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={STYLE}");
    println!("cargo::rerun-if-env-changed=FASTSTATE_DATASTAR_JS");

    println!("cargo::rustc-env=FASTSTATE_STYLE_HASH={}", &sha256(&fs::read(STYLE)?)[..12]);

    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let bundle = out.join("datastar.js");
    if let Some(file) = env::var_os("FASTSTATE_DATASTAR_JS") {
        println!("cargo::rerun-if-changed={}", Path::new(&file).display());
        // The file is named explicitly, so a wrong one is an error instead of a reason for the CDN.
        if let Err(why) = fs::read(&file).map_err(|e| e.to_string()).and_then(|found| keep(&found, &bundle)) {
            println!("cargo::error=FASTSTATE_DATASTAR_JS: {}: {why}", Path::new(&file).display());
        }
    } else if !fs::read(&bundle).is_ok_and(|kept| sha256(&kept) == SHA256) {
        let found = download().and_then(|found| keep(&found, &bundle));
        let found = found.or_else(|why| match carried(&out).and_then(|found| keep(&found, &bundle)) {
            Ok(()) => Ok(()),
            Err(other) => Err(format!("{why}; {other}")),
        });
        if let Err(why) = found {
            println!(
                "cargo::warning=Datastar is not embedded, pages load it from the CDN ({why}); to embed it, \
                 set FASTSTATE_DATASTAR_JS to a copy of {CDN}"
            );
            return Ok(());
        }
    }
    println!("cargo::rustc-cfg=datastar_embedded");
    Ok(())
}

/// Writes the bundle to the place from which the program includes it, if it is the pinned one.
fn keep(found: &[u8], bundle: &Path) -> Result<(), String> {
    let hash = sha256(found);
    if hash != SHA256 {
        return Err(format!("not Datastar 1.0.4: its SHA-256 is {hash}"));
    }
    fs::write(bundle, found).map_err(|error| error.to_string())
}

/// Downloads the bundle from the CDN with `curl`, which most machines have; an HTTP client would take longer to
/// build than the rest of the demo.
fn download() -> Result<Vec<u8>, String> {
    if offline() {
        return Err("the build is offline".into());
    }
    run(Command::new("curl").args(["--fail", "--silent", "--show-error", "--location"]).args([
        "--connect-timeout",
        "3",
        "--max-time",
        "20",
        CDN,
    ]))
}

/// Reads the bundle from the crate that contains it: `cargo metadata` on a manifest that depends on it unpacks the
/// crate and prints its path.
fn carried(out: &Path) -> Result<Vec<u8>, String> {
    let (name, version, file) = CARRIER;
    let at = out.join("carrier");
    fs::create_dir_all(at.join("src")).map_err(|error| error.to_string())?;
    let manifest = format!(
        "[package]\nname = \"carrier\"\nedition = \"2021\"\n[dependencies]\n{name} = \"={version}\"\n[workspace]\n"
    );
    fs::write(at.join("Cargo.toml"), manifest).map_err(|error| error.to_string())?;
    fs::write(at.join("src/lib.rs"), "").map_err(|error| error.to_string())?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let metadata = run(Command::new(cargo).args(["metadata", "--format-version", "1"]).current_dir(&at))?;
    let metadata = String::from_utf8_lossy(&metadata);
    let folder = format!("{name}-{version}");
    let manifest = metadata
        .split("\"manifest_path\":\"")
        .filter_map(|rest| rest.split('"').next())
        .map(|path| PathBuf::from(path.replace("\\\\", "\\")))
        .find(|path| path.parent().is_some_and(|parent| parent.ends_with(&folder)));
    let path = manifest
        .ok_or("cargo does not print the path of the crate that contains the bundle")?
        .with_file_name(file);
    fs::read(&path).map_err(|error| error.to_string())
}

/// Returns the output of a program, or the last line of its error output.
fn run(command: &mut Command) -> Result<Vec<u8>, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(complaint.lines().next_back().unwrap_or("failed without a message").trim().to_owned())
}

fn offline() -> bool {
    env::var_os("DOCS_RS").is_some() || env::var("CARGO_NET_OFFLINE").is_ok_and(|set| set == "true")
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
