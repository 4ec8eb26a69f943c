//! The Debian package, built from the program under test: what is in it, and that systemd understands its units. Installing it is for
//! tests/vm.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use watt_tests::{printed, repository, wattctl};

/// Runs a program that must succeed, and returns what it printed.
fn ok(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", printed(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn is_here(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// The package, and the folder it is unpacked in. `None` where this system has no such packages.
fn package(home: &Path) -> Option<(PathBuf, PathBuf)> {
    if !is_here("dpkg-deb") {
        return None;
    }
    let mut build = Command::new(repository().join("scripts/deb"));
    build.env("WATT_DEB_BINARY", wattctl()).env("WATT_DEB_FOLDER", home).env("WATT_DEB_COMPRESSION", "none");
    let package = PathBuf::from(ok(&mut build).trim());
    let tree = home.join("unpacked");
    ok(Command::new("dpkg-deb").arg("--raw-extract").args([&package, &tree]));
    Some((package, tree))
}

#[test]
fn it_has_what_an_operator_needs() {
    let home = tempfile::tempdir().expect("a folder");
    let Some((package, tree)) = package(home.path()) else { return };

    let listed = ok(Command::new("dpkg-deb").arg("-c").arg(&package));
    assert!(listed.lines().all(|line| line.contains("root/root")), "{listed}");
    for file in [
        "usr/bin/wattctl",
        "usr/lib/systemd/system/watt@.service",
        "usr/lib/systemd/user/watt@.service",
        "usr/lib/sysusers.d/watt.conf",
        "usr/lib/tmpfiles.d/watt.conf",
        "usr/share/bash-completion/completions/wattctl",
        "usr/share/zsh/vendor-completions/_wattctl",
        "usr/share/fish/vendor_completions.d/wattctl.fish",
        "usr/share/man/man1/wattctl.1.gz",
        "usr/share/man/man1/wattctl-up.1.gz",
        "usr/share/doc/watt/copyright",
        "usr/share/doc/watt/changelog.gz",
        "usr/share/doc/watt/systemd.md",
        "usr/share/doc/watt/examples/hello/watt.yaml",
    ] {
        let written = fs::metadata(tree.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(written.len() > 0, "{file} is empty");
        let mode = if file == "usr/bin/wattctl" { 0o755 } else { 0o644 };
        assert_eq!(written.permissions().mode() & 0o777, mode, "{file}");
    }
    // What it is installed for.
    let version = ok(Command::new(tree.join("usr/bin/wattctl")).arg("--version"));
    let field = |name: &str| ok(Command::new("dpkg-deb").arg("-f").arg(&package).arg(name)).trim().to_owned();
    assert_eq!(version.trim(), format!("wattctl {}", field("Version")));
    assert!(field("Depends").starts_with("libc6 (>= 2."), "{}", field("Depends"));
    assert!(field("Recommends").contains("nftables"));

    for script in ["postinst", "prerm", "postrm"] {
        let script = tree.join("DEBIAN").join(script);
        ok(Command::new("sh").arg("-n").arg(&script));
        assert_eq!(fs::metadata(&script).expect("it is there").permissions().mode() & 0o777, 0o755);
    }
}

#[test]
fn systemd_understands_its_units() {
    if !is_here("systemd-analyze") {
        return;
    }
    let home = tempfile::tempdir().expect("a folder");
    let Some((_, tree)) = package(home.path()) else { return };
    for kind in ["system", "user"] {
        let unit = fs::read_to_string(tree.join("usr/lib/systemd").join(kind).join("watt@.service"))
            .expect("it is there");
        // Where the program is before it is installed.
        let unit = unit.replace("/usr/bin/wattctl", &tree.join("usr/bin/wattctl").display().to_string());
        let unit: String = unit
            .lines()
            .filter(|line| !line.starts_with("Documentation="))
            .map(|line| format!("{line}\n"))
            .collect();
        let path = home.path().join("watt@shop.service");
        fs::write(&path, unit).expect("a file");
        let mut verify = Command::new("systemd-analyze");
        verify.args([format!("--{kind}").as_str(), "--man=no", "verify"]).arg(&path);
        verify.env("XDG_RUNTIME_DIR", home.path());
        let output = verify.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // Earlier ones than 254 do not know this one, and say that they go on without.
        let said: Vec<&str> = said.lines().filter(|line| !line.contains("'DelegateSubgroup'")).collect();
        assert!(output.status.success() && said.is_empty(), "{kind}: {said:?}");
    }
}
