//! Makes the demo its next version. The Datastar bundle is not built in: `--datastar-js` names it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(datastar_embedded, next)");
    // The demo has these adapters, too; one is enough for a deploy.
    println!("cargo::rustc-check-cfg=cfg(feature, values(\"axum\", \"hyper\"))");
    println!("cargo::rustc-cfg=next");
    println!("cargo::rustc-env=FASTSTATE_STYLE_HASH=next");
}
