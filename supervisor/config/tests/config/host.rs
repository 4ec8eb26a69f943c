//! Finding and reading files, and what a plan expects of the host.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path};

use insta::assert_snapshot;
use tempfile::TempDir;
use watt_config::{Sources, check_host, find, parse};

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

/// A text with the folder's path replaced by `/app`.
fn in_app(text: impl std::fmt::Display, folder: &TempDir) -> String {
    text.to_string().replace(folder.path().to_str().unwrap(), "/app")
}

fn read_error(folder: &TempDir) -> String {
    let report = Sources::read(&folder.path().join("watt.yaml"), BTreeMap::new()).unwrap_err();
    in_app(report, folder)
}

#[test]
fn the_file_is_found_upward() {
    let folder = folder(&[("watt.yaml", ""), ("web/src/x", ""), ("api/watt.toml", "")]);
    let check = |start: &str, expected: &str| {
        assert_eq!(find(&folder.path().join(start)).unwrap(), folder.path().join(expected), "{start}");
    };
    check("", "watt.yaml");
    check("web/src", "watt.yaml");
    check("api", "api/watt.toml");
    check("web/src/x", "web/src/x");
}

#[test]
fn what_is_not_found() {
    let folder = folder(&[("both/watt.yaml", ""), ("both/watt.json", ""), ("none/x", "")]);
    let check = |start: &str| {
        let error = find(&folder.path().join(start)).unwrap_err();
        in_app(format!("{error}; {}", error.hint()), &folder)
    };
    assert_snapshot!(check("missing"), @"/app/missing does not exist; name the folder or the configuration file of the application");
    assert_snapshot!(check("both"), @"/app/both has more than one configuration file: watt.yaml, watt.json; name one of them, or remove the others");
    assert_snapshot!(check("none"), @"no configuration file (watt.yaml, watt.yml, watt.json, watt.toml) in /app/none or a folder above it; make a watt.yaml there, or name the folder or file of the application");
}

#[test]
fn files_that_cannot_be_read() {
    assert_snapshot!(read_error(&folder(&[])), @r#"
    error: cannot read /app/watt.yaml: no such file or directory
     --> /app/watt.yaml
      = hint: make it a file that the user who runs watt can read
    "#);
    assert_snapshot!(read_error(&folder(&[("watt.yaml/x", "")])), @r#"
    error: cannot read /app/watt.yaml: it is not a regular file
     --> /app/watt.yaml
      = hint: make it a file that the user who runs watt can read
    "#);
    assert_snapshot!(read_error(&folder(&[("watt.yaml", &"x".repeat(5 << 20))])), @r#"
    error: cannot read /app/watt.yaml: it is larger than 4 MiB
     --> /app/watt.yaml
      = hint: make it a file that the user who runs watt can read
    "#);
    assert_snapshot!(read_error(&folder(&[("watt.yaml", "name: x"), (".env/x", "")])), @r#"
    error: cannot read /app/.env: it is not a regular file
     --> /app/.env
      = hint: make it a file that the user who runs watt can read
    "#);

    let latin1 = folder(&[]);
    fs::write(latin1.path().join("watt.yaml"), b"name: shop\nx-note: caf\xe9\n").unwrap();
    assert_snapshot!(read_error(&latin1), @r#"
    error: /app/watt.yaml is not UTF-8: byte 0xe9 at offset 22
     --> /app/watt.yaml:2:12
      |
    2 | x-note: caf�
      |            ^
      = hint: save the file as UTF-8
    "#);
}

#[test]
fn an_unreadable_dotenv_is_an_error_with_its_reason() {
    let folder = folder(&[("watt.yaml", "name: x"), (".env", "A=1")]);
    fs::set_permissions(folder.path().join(".env"), fs::Permissions::from_mode(0o000)).unwrap();
    // Root may read everything, so there is nothing to refuse.
    if fs::read(folder.path().join(".env")).is_err() {
        assert_snapshot!(read_error(&folder), @r#"
        error: cannot read /app/.env: permission denied
         --> /app/.env
        "#);
    }
}

#[test]
fn a_dotenv_in_a_pipe_does_not_block() {
    let folder = folder(&[("watt.yaml", "name: x")]);
    // What `mkfifo` makes; std has no call for it.
    let status = std::process::Command::new("mkfifo").arg(folder.path().join(".env")).status().unwrap();
    assert!(status.success());
    assert_snapshot!(read_error(&folder), @r#"
    error: cannot read /app/.env: it is not a regular file
     --> /app/.env
      = hint: make it a file that the user who runs watt can read
    "#);
}

#[test]
fn folders_and_programs_have_to_be_there() {
    let folder = folder(&[
        ("watt.yaml", include_str!("host.yaml")),
        ("web/server", "#!/bin/sh\n"),
        ("web/run.sh", "#!/bin/sh\n"),
        ("web/sub/x", ""),
        ("file", ""),
        ("bin/tool", ""),
    ]);
    for program in ["web/server", "bin/tool"] {
        fs::set_permissions(folder.path().join(program), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let env = BTreeMap::from([("PATH".to_owned(), folder.path().join("bin").to_str().unwrap().to_owned())]);
    let config = parse(&Sources::read(&folder.path().join("watt.yaml"), env).unwrap())
        .unwrap_or_else(|report| panic!("{report}"));
    let report = check_host(&config).seen_from(folder.path());
    assert_snapshot!(in_app(report, &folder), @r#"
    error: the folder /app/wbe does not exist
     --> watt.yaml:5:22
      |
    5 |   no-folder: { path: wbe, command: ./server }
      |                      ^^^
      = hint: did you mean `web`?

    error: /app/file is not a folder
     --> watt.yaml:6:29
      |
    6 |   no-folder-either: { path: file, command: ./server }
      |                             ^^^^
      = hint: `path` starts at the folder of the configuration file

    error: cannot run /app/web/sever: no such file or directory
     --> watt.yaml:7:37
      |
    7 |   no-program: { path: web, command: ./sever }
      |                                     ^^^^^^^
      = hint: did you mean `server`?

    error: cannot run /app/web/run.sh: it is not executable
     --> watt.yaml:8:41
      |
    8 |   not-executable: { path: web, command: ./run.sh }
      |                                         ^^^^^^^^
      = hint: chmod +x /app/web/run.sh

    error: cannot run /app/web/sub: it is a folder
     --> watt.yaml:9:35
      |
    9 |   a-folder: { path: web, command: ./sub }
      |                                   ^^^^^

    error: the program `nodejs` is in no folder of PATH: /app/bin
      --> watt.yaml:10:27
       |
    10 |   not-in-path: { command: nodejs server.js }
       |                           ^^^^^^^^^^^^^^^^
       = hint: install it, or write its path: `./nodejs` or `/…/nodejs`

    error: the program `server` is in no folder of PATH: /app/bin
      --> watt.yaml:11:33
       |
    11 |   beside: { path: web, command: server }
       |                                 ^^^^^^
       = hint: did you mean `./server`?
    "#);
}

#[test]
fn a_relative_file_becomes_absolute() {
    // The working directory of tests is the crate's folder.
    let sources = Sources::read(Path::new("tests/config/host.yaml"), BTreeMap::new()).unwrap();
    assert!(sources.file.is_absolute());
}

#[test]
fn the_program_of_a_job_has_to_exist() {
    let root = tempfile::tempdir().unwrap();
    let text = "services: {a: {command: sh, listen: none}}\njobs: {tick: {service: a, command: [no-such-program, x], schedule: '@daily'}}";
    let sources = Sources { file: root.path().join("watt.yaml"), text: text.into(), ..Sources::default() };
    let report = check_host(&parse(&sources).unwrap()).seen_from(root.path()).to_string();
    assert!(report.contains("the program `no-such-program` is in no folder of PATH"), "{report}");
    assert!(report.contains("watt.yaml:2:36"), "{report}");
}

#[test]
fn a_time_zone_has_to_exist() {
    let root = tempfile::tempdir().unwrap();
    let text = "services: {a: {command: sh, listen: unix}}\njobs: {tick: {service: a, http: /, schedule: '@daily', timezone: Europe/Berlim}}";
    let sources = Sources { file: root.path().join("watt.yaml"), text: text.into(), ..Sources::default() };
    let report = check_host(&parse(&sources).unwrap()).seen_from(root.path()).to_string();
    assert!(report.contains("there is no time zone `Europe/Berlim`"), "{report}");
    assert!(
        report.contains("watt.yaml:2:66") && report.contains("did you mean `Europe/Berlin`?"),
        "{report}"
    );
}
