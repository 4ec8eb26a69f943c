//! The Debian package, built from the program under test: what is in it, and that systemd understands its units. Installing it is for
//! tests/vm.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use watt_tests::{is_root, printed, repository, wattctl};

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

/// Runs a shell's words where `/run`, `/var/lib` and `/etc` are empty and nobody else's, with the package's scripts in `$SCRIPTS`. `None`
/// where nobody may make such a place.
fn in_an_empty_system(words: &str) -> Option<String> {
    let mut unshare = Command::new("unshare");
    unshare.args(if is_root() { &["--mount"][..] } else { &["--user", "--map-root-user", "--mount"] });
    if !unshare.arg("true").status().is_ok_and(|status| status.success()) {
        return None;
    }
    let place = "set -e; for folder in /run /var/lib /etc; do mount -t tmpfs none $folder; done; mkdir /run/bin; PATH=/run/bin:$PATH\n";
    let mut unshare = Command::new("unshare");
    unshare.args(if is_root() { &["--mount"][..] } else { &["--user", "--map-root-user", "--mount"] });
    unshare
        .args(["sh", "-c", &format!("{place}{words}")])
        .env("SCRIPTS", repository().join("systemd/debian"));
    Some(ok(&mut unshare))
}

/// `one` still runs: its lock keeps a second copy away, which another installation might start.
#[test]
fn a_purge_leaves_the_locks_of_what_still_runs_and_the_data_of_services() {
    let words = r#"
        mkdir -p /run/watt/one /run/watt/two /run/watt/three /etc/watt
        touch /run/watt/one/lock /run/watt/two/lock /run/watt/three/info.json
        mkdir -p /var/lib/watt/one/logs /var/lib/watt/one/services/api /var/lib/watt/two/logs /var/lib/watt/two/services/api
        touch /var/lib/watt/one/logs/api.jsonl /var/lib/watt/one/services/api/data
        exec 9> /run/watt/one/lock
        flock 9
        sh "$SCRIPTS/postrm" remove 9>&-
        find /run/watt -type f | wc -l
        sh "$SCRIPTS/postrm" purge 9>&-
        find /run/watt /var/lib/watt /etc/watt 2> /dev/null | sort
        exec 9>&-
        sh "$SCRIPTS/postrm" purge
        ls -d /run/watt 2> /dev/null || echo nothing
    "#;
    let Some(printed) = in_an_empty_system(words) else { return };
    let left = [
        "3",
        "/run/watt",
        "/run/watt/one",
        "/run/watt/one/lock",
        "/var/lib/watt",
        "/var/lib/watt/one",
        "/var/lib/watt/one/services",
        "/var/lib/watt/one/services/api",
        "/var/lib/watt/one/services/api/data",
        "nothing",
    ];
    assert_eq!(printed.lines().collect::<Vec<_>>(), left);
}

#[test]
fn a_removal_ends_what_runs_without_a_unit_and_an_upgrade_does_not() {
    let words = r#"
        mkdir -p /run/watt/one /run/watt/two
        python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("/run/watt/one/control.sock")'
        printf '#!/bin/sh\necho "$@" >> /run/told\nexit 1\n' > /run/bin/wattctl
        chmod +x /run/bin/wattctl
        touch /run/told
        sh "$SCRIPTS/prerm" upgrade
        cat /run/told
        sh "$SCRIPTS/prerm" remove
        cat /run/told
    "#;
    let Some(printed) = in_an_empty_system(words) else { return };
    assert_eq!(printed, "down --app one\n", "a failure of that is no failure of the removal");
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
