//! Builds `watt-exec` as a static program for the build's own architecture, for `src/stage.rs` to embed.
//!
//! A cargo inside cargo: it has a target directory of its own, because the outer one is locked meanwhile, and
//! it never goes to the network, because everything it needs was fetched for the library of the same name.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// A small release profile, written here because a workspace's profiles hold for all its programs.
const PROFILE: [&str; 6] = [
    "profile.exec-stage.inherits='release'",
    "profile.exec-stage.opt-level='s'",
    "profile.exec-stage.panic='abort'",
    "profile.exec-stage.debug=false",
    "profile.exec-stage.strip=true",
    "profile.exec-stage.lto='fat'",
];

/// Variables of the outer build that must not reach the inner one: flags and wrappers for another target
/// (clippy's wrapper would make it a check that leaves no program).
const FOREIGN: [&str; 8] = [
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTFLAGS",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_MAKEFLAGS",
];

fn main() -> ExitCode {
    match build() {
        Ok(program) => {
            println!("cargo::rustc-env=WATT_EXEC={}", program.display());
            ExitCode::SUCCESS
        }
        Err(message) => {
            println!("cargo::error={message}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<PathBuf, String> {
    let workspace = workspace()?;
    for input in ["supervisor/exec", "supervisor/os", "rust-toolchain.toml"] {
        println!("cargo::rerun-if-changed={}", workspace.join(input).display());
    }
    let target = format!("{}-unknown-linux-musl", variable("CARGO_CFG_TARGET_ARCH")?.to_string_lossy());
    require(&target)?;
    let target_dir = PathBuf::from(variable("OUT_DIR")?).join("exec-stage");
    let mut cargo = Command::new(variable("CARGO")?);
    cargo.current_dir(&workspace).args([
        "build",
        "--package=watt-exec",
        "--bin=watt-exec",
        "--frozen",
        "--quiet",
    ]);
    cargo.args(["--profile=exec-stage", "--target", &target]).arg("--target-dir").arg(&target_dir);
    for setting in PROFILE {
        cargo.args(["--config", setting]);
    }
    for name in FOREIGN {
        cargo.env_remove(name);
    }
    let output = cargo.output().map_err(|error| format!("cannot run cargo for watt-exec: {error}"))?;
    if !output.status.success() {
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        return Err("watt-exec, the exec stage, does not build (see the output above)".into());
    }
    Ok(target_dir.join(target).join("exec-stage").join("watt-exec"))
}

fn workspace() -> Result<PathBuf, String> {
    let package = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let root = package.ancestors().nth(2).ok_or("the package has no workspace above it")?;
    Ok(root.to_path_buf())
}

/// Says how to get the target's standard library where it is missing: the compiler's own words for that are
/// many.
fn require(target: &str) -> Result<(), String> {
    let output = Command::new(variable("RUSTC")?)
        .args(["--print", "target-libdir", "--target", target])
        .output()
        .map_err(|error| format!("cannot run rustc: {error}"))?;
    let directory = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && Path::new(directory.trim()).is_dir() {
        Ok(())
    } else {
        Err(format!(
            "watt-exec is a static program and needs the target {target}; run: rustup target add {target}"
        ))
    }
}

fn variable(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("cargo does not set {name}"))
}
