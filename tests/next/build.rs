//! Makes the demo its next version. The Datastar bundle is not built in: `--datastar-js` names it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(datastar_embedded, next)");
    println!("cargo::rustc-cfg=next");
    println!("cargo::rustc-env=FASTSTATE_STYLE_HASH=next");
}
