//! axe-core, which finds accessibility violations on a page.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use sha2::{Digest as _, Sha256};

/// The npm package, and the digest of its content at this version.
const PACKAGE: &str = "axe-core@4.14.1";
const SHA256: &str = "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c";

/// The script: the file in `FASTSTATE_AXE_JS`, or fetched once by npm and kept in the target folder.
pub(crate) fn script() -> &'static str {
    static SCRIPT: LazyLock<String> = LazyLock::new(|| match std::env::var_os("FASTSTATE_AXE_JS") {
        Some(file) => read(Path::new(&file)).expect("FASTSTATE_AXE_JS names axe-core 4.14.1"),
        None => kept(),
    });
    &SCRIPT
}

fn kept() -> String {
    let program = std::env::current_exe().expect("a test knows its program");
    let target = program.ancestors().nth(3).unwrap_or(Path::new("target"));
    let file = target.join("axe-core-4.14.1.min.js");
    read(&file).unwrap_or_else(|| {
        let found = fetched(target);
        // Renames the complete file into place, because other tests may read it at the same time.
        let part = file.with_extension(std::process::id().to_string());
        fs::write(&part, &found).and_then(|()| fs::rename(&part, &file)).expect("the script is kept");
        read(&file).expect("npm's axe-core is the one that is expected")
    })
}

fn fetched(target: &Path) -> Vec<u8> {
    let folder: PathBuf = target.join(format!("axe-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder for the package");
    let hint = "axe-core comes by npm: apt-get install npm, or say where axe.min.js is in FASTSTATE_AXE_JS";
    let packed = Command::new("npm").args(["pack", "--silent", PACKAGE]).current_dir(&folder).output();
    let packed = packed.unwrap_or_else(|error| panic!("npm: {error}: {hint}"));
    assert!(packed.status.success(), "{}: {hint}", String::from_utf8_lossy(&packed.stderr));
    let unpack = ["-xzOf", "axe-core-4.14.1.tgz", "package/axe.min.js"];
    let script = Command::new("tar").args(unpack).current_dir(&folder).output().expect("tar unpacks it");
    let _ = fs::remove_dir_all(&folder);
    script.stdout
}

/// The script, if the file is there and is the one that is expected.
fn read(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let hash: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
    (hash == SHA256).then_some(text)
}
