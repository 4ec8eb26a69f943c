//! What is found of a real folder, and what is not.

use std::{fs, os::unix::fs::symlink, path::Path};

use tempfile::TempDir;

use super::*;

/// `site` with files in it, and a file beside it that is nobody's business.
fn folder() -> (TempDir, mesh::RouteFiles) {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("secret", "secret");
    write("site/index.html", "root");
    write("site/a.txt", "0123456789");
    write("site/empty", "");
    write("site/sub/index.html", "sub");
    write("site/none/x", "x");
    write("site/.env", "hidden");
    write("site/app.html", "app");
    fs::create_dir(dir.path().join("site/odd")).unwrap();
    fs::create_dir(dir.path().join("site/odd/index.html")).unwrap();
    let rules = mesh::RouteFiles {
        name: "site".into(),
        index: "index.html".into(),
        precompressed: true,
        ..mesh::RouteFiles::default()
    };
    (dir, rules)
}

fn open(dir: &Path, rules: &mesh::RouteFiles) -> Folder {
    Folder { parent: Arc::new(fs::File::open(dir).unwrap().into()), rules: rules.clone() }
}

fn wanted(rest: &str) -> Wanted {
    Wanted { rest: rest.as_bytes().to_vec(), ..Wanted::default() }
}

/// What a look says: the text of a file, or a word.
fn look(folder: &Folder, wanted: &Wanted) -> String {
    let now = find(folder, wanted, Patience::None);
    let then = say(find(folder, wanted, Patience::Any));
    // What the kernel has in memory it says at once, and it says the same.
    if !matches!(now, Err(Unfound::NotNow)) {
        assert_eq!(say(now), then);
    }
    then
}

fn say(found: Result<Found, Unfound>) -> String {
    match found {
        Ok(Found::File(file)) => String::from_utf8(file.first).unwrap(),
        Ok(Found::Folder) => "folder".into(),
        Err(Unfound::Nothing) => "nothing".into(),
        Err(other) => format!("{other:?}"),
    }
}

#[test]
fn files_and_folders() {
    let (dir, rules) = folder();
    let folder = open(dir.path(), &rules);
    for (rest, expected) in [
        ("/", "root"),
        ("", "folder"),
        ("/a.txt", "0123456789"),
        ("/empty", ""),
        ("/sub/", "sub"),
        ("/sub", "folder"),
        ("/none/", "nothing"),
        ("/odd/", "nothing"),
        ("/missing", "nothing"),
        ("/a.txt/", "nothing"),
        ("/a.txt/x", "nothing"),
        ("/.env", "nothing"),
        ("/..%2fsecret", "nothing"),
        ("/../secret", "nothing"),
    ] {
        assert_eq!(look(&folder, &wanted(rest)), expected, "{rest}");
    }
    let folder = open(dir.path(), &mesh::RouteFiles { hidden: true, ..rules });
    assert_eq!(look(&folder, &wanted("/.env")), "hidden");
}

#[test]
fn no_link_leads_out() {
    let (dir, rules) = folder();
    let site = dir.path().join("site");
    symlink("../secret", site.join("up")).unwrap();
    symlink(dir.path().join("secret"), site.join("absolute")).unwrap();
    symlink(dir.path(), site.join("above")).unwrap();
    symlink("/proc/self/root", site.join("proc")).unwrap();
    symlink("loop", site.join("loop")).unwrap();
    symlink("a.txt", site.join("inside")).unwrap();
    symlink("sub/../a.txt", site.join("around")).unwrap();
    let folder = open(dir.path(), &rules);
    for rest in ["/up", "/absolute", "/above/secret", "/proc/etc/passwd", "/loop"] {
        assert_eq!(look(&folder, &wanted(rest)), "nothing", "{rest}");
    }
    assert_eq!(look(&folder, &wanted("/inside")), "0123456789");
    assert_eq!(look(&folder, &wanted("/around")), "0123456789");
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let (dir, rules) = folder();
    let pipe = dir.path().join("site/pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("site/socket")).unwrap();
    let folder = open(dir.path(), &rules);
    assert_eq!(look(&folder, &wanted("/pipe")), "nothing");
    assert_eq!(look(&folder, &wanted("/socket")), "nothing");
}

#[test]
fn pages_of_an_application_have_one_file() {
    let (dir, rules) = folder();
    let rules = mesh::RouteFiles { spa: Some("app.html".into()), ..rules };
    let folder = open(dir.path(), &rules);
    for (rest, expected) in [
        ("/users/7", "app"),
        ("/users/", "app"),
        ("/none/", "app"),
        ("/", "root"),
        ("/sub/", "sub"),
        ("/assets/missing.js", "nothing"),
        ("/../users", "nothing"),
        ("/.git/config", "nothing"),
    ] {
        assert_eq!(look(&folder, &wanted(rest)), expected, "{rest}");
    }
    fs::remove_file(dir.path().join("site/app.html")).unwrap();
    assert_eq!(look(&folder, &wanted("/users/7")), "nothing");
}

#[test]
fn a_file_in_another_coding_goes_for_the_one_that_it_is_of() {
    let (dir, rules) = folder();
    let site = dir.path().join("site");
    for (name, text) in [("a.txt.br", "br"), ("a.txt.gz", "gz"), ("x.png", "png"), ("x.png.br", "no")] {
        fs::write(site.join(name), text).unwrap();
    }
    let folder = open(dir.path(), &rules);
    let take =
        |rest: &str, codings: &[Coding]| look(&folder, &Wanted { codings: codings.to_vec(), ..wanted(rest) });
    assert_eq!(take("/a.txt", &Coding::ALL), "br");
    assert_eq!(take("/a.txt", &[Coding::Zstd, Coding::Gzip]), "gz");
    assert_eq!(take("/a.txt", &[]), "0123456789");
    assert_eq!(take("/x.png", &Coding::ALL), "png");
    let tags: Vec<String> = [&[][..], &Coding::ALL, &[Coding::Gzip]]
        .into_iter()
        .map(|codings| {
            let wanted = Wanted { codings: codings.to_vec(), ..wanted("/a.txt") };
            match find(&folder, &wanted, Patience::Any) {
                Ok(Found::File(file)) => file.etag,
                other => panic!("{other:?}"),
            }
        })
        .collect();
    assert!(tags[0] != tags[1] && tags[1] != tags[2] && tags[0] != tags[2], "{tags:?}");
    // One that was made of an older file.
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    fs::File::options().write(true).open(site.join("a.txt.br")).unwrap().set_modified(old).unwrap();
    assert_eq!(take("/a.txt", &Coding::ALL), "gz");
    let folder = open(dir.path(), &mesh::RouteFiles { precompressed: false, ..rules });
    let wanted = Wanted { codings: Coding::ALL.to_vec(), ..wanted("/a.txt") };
    assert_eq!(look(&folder, &wanted), "0123456789");
}

#[test]
fn a_part_is_read_from_its_first_byte() {
    let (dir, rules) = folder();
    let folder = open(dir.path(), &rules);
    let range = |range: &str, is_head| {
        let conditions = Conditions { range: Some(range.as_bytes().to_vec()), ..Conditions::default() };
        Wanted { conditions, is_head, ..wanted("/a.txt") }
    };
    assert_eq!(look(&folder, &range("bytes=3-5", false)), "345");
    assert_eq!(look(&folder, &range("bytes=-2", false)), "89");
    assert_eq!(look(&folder, &range("bytes=20-", false)), "");
    assert_eq!(look(&folder, &range("bytes=3-5", true)), "", "HEAD reads nothing");
}

#[test]
fn a_root_that_is_made_anew_is_seen_at_once() {
    let (dir, rules) = folder();
    let folder = open(dir.path(), &rules);
    assert_eq!(look(&folder, &wanted("/a.txt")), "0123456789");
    fs::rename(dir.path().join("site"), dir.path().join("1")).unwrap();
    assert!(look(&folder, &wanted("/a.txt")).starts_with("Failed(\"open the folder\""));
    fs::create_dir(dir.path().join("2")).unwrap();
    fs::write(dir.path().join("2/a.txt"), "second").unwrap();
    for (to, expected) in [("2", "second"), ("1", "0123456789")] {
        let link = dir.path().join("next");
        symlink(to, &link).unwrap();
        fs::rename(&link, dir.path().join("site")).unwrap();
        assert_eq!(look(&folder, &wanted("/a.txt")), expected);
    }
    // Who may write beside it cannot have others' files published.
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("a.txt"), "secret").unwrap();
    let up = Path::new("..").join(elsewhere.path().file_name().unwrap());
    for to in [elsewhere.path(), &up, Path::new("/proc/self/cwd")] {
        fs::remove_file(dir.path().join("site")).unwrap();
        symlink(to, dir.path().join("site")).unwrap();
        assert!(look(&folder, &wanted("/a.txt")).starts_with("Failed(\"open the folder\""), "{to:?}");
    }
}
