//! Files as what a route leads to, over sockets.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use watt_api::mesh::{HeaderRules, Route, RouteFiles};

use crate::bed::*;

/// `/` serves `site` of this folder.
fn serving(dir: &Path, change: impl FnOnce(&mut Route)) -> Bed {
    let bed = Bed::new();
    let folder = fs::File::open(dir).unwrap().into();
    bed.thread.use_folders(&BTreeMap::from([("dir".to_owned(), Arc::new(folder))]));
    let files = RouteFiles {
        folder: "dir".into(),
        name: "site".into(),
        index: "index.html".into(),
        cache_control: "max-age=60".into(),
        precompressed: true,
        ..RouteFiles::default()
    };
    let mut route = Route { files: Some(files), ..route("/", "", None) };
    change(&mut route);
    bed.change(|snapshot| snapshot.routes = vec![route]);
    bed
}

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("site/sub")).unwrap();
    fs::write(dir.path().join("site/a.txt"), "0123456789").unwrap();
    fs::write(dir.path().join("site/index.html"), "<p>").unwrap();
    dir
}

async fn ask(client: &mut Wire, target: &str, fields: &str) -> (String, String) {
    client.send(format!("GET {target} HTTP/1.1\r\nHost: shop\r\n{fields}\r\n")).await;
    let head = client.head().await;
    let length: usize = field(&head, "content-length").map_or(0, |length| length.parse().unwrap());
    let body = client.take(length).await;
    (head, body)
}

#[test]
fn a_file_is_answered_with_what_it_is() {
    local(async {
        let dir = folder();
        let bed = serving(dir.path(), |_| {});
        let mut client = bed.client();
        let (head, body) = ask(&mut client, "/a.txt", "").await;
        assert_eq!((status(&head), &*body), (200, "0123456789"));
        for (name, value) in [
            ("content-type", "text/plain; charset=utf-8"),
            ("cache-control", "max-age=60"),
            ("accept-ranges", "bytes"),
            ("vary", "Accept-Encoding"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(field(&head, name), Some(value), "{head}");
        }
        assert!(field(&head, "date").is_some_and(|date| date.ends_with(" GMT")), "{head}");
        let etag = field(&head, "etag").unwrap().to_owned();
        let modified = field(&head, "last-modified").unwrap().to_owned();
        for condition in [format!("If-None-Match: {etag}\r\n"), format!("If-Modified-Since: {modified}\r\n")]
        {
            let (head, _) = ask(&mut client, "/a.txt", &condition).await;
            assert_eq!((status(&head), field(&head, "etag")), (304, Some(&*etag)), "{head}");
            assert_eq!((field(&head, "content-length"), field(&head, "content-type")), (None, None));
        }
        assert_eq!(status(&ask(&mut client, "/a.txt", "If-Match: \"x\"\r\n").await.0), 412);
        client.send("HEAD /a.txt HTTP/1.1\r\nHost: shop\r\nRange: bytes=0-1\r\n\r\n").await;
        let head = client.head().await;
        assert_eq!((status(&head), field(&head, "content-length")), (200, Some("10")));
        assert_eq!(ask(&mut client, "/", "").await.1, "<p>", "on the same connection");
        client.send("POST /a.txt HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\n\r\n").await;
        let head = client.head().await;
        assert_eq!((status(&head), field(&head, "allow")), (405, Some("GET, HEAD")));
    });
}

#[test]
fn parts_of_a_file() {
    local(async {
        let dir = folder();
        let bed = serving(dir.path(), |_| {});
        let mut client = bed.client();
        for (range, expected, content_range, body) in [
            ("bytes=2-4", 206, Some("bytes 2-4/10"), "234"),
            ("bytes=-3", 206, Some("bytes 7-9/10"), "789"),
            ("bytes=10-", 416, Some("bytes */10"), ""),
            ("bytes=0-1,4-5", 200, None, "0123456789"),
        ] {
            let (head, found) = ask(&mut client, "/a.txt", &format!("Range: {range}\r\n")).await;
            assert_eq!((status(&head), &*found), (expected, body), "{range}: {head}");
            assert_eq!(field(&head, "content-range"), content_range);
        }
        let (head, _) = ask(&mut client, "/a.txt", "Range: bytes=0-0\r\nIf-Range: \"other\"\r\n").await;
        assert_eq!(status(&head), 200);
    });
}

#[test]
fn a_large_file_comes_as_a_whole_to_a_slow_client() {
    local(async {
        let dir = folder();
        let bytes: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
        fs::write(dir.path().join("site/large.bin"), &bytes).unwrap();
        let bed = serving(dir.path(), |_| {});
        let mut client = bed.client();
        client.send("GET /large.bin HTTP/1.1\r\nHost: shop\r\n\r\n").await;
        let head = client.head().await;
        assert_eq!((status(&head), field(&head, "content-length")), (200, Some("3000000")));
        assert_eq!(field(&head, "vary"), None, "nobody compresses it");
        assert!(client.take_bytes(bytes.len()).await == bytes);
        client.send("GET /large.bin HTTP/1.1\r\nHost: shop\r\nRange: bytes=1000000-2999999\r\n\r\n").await;
        assert_eq!(status(&client.head().await), 206);
        assert!(client.take_bytes(2_000_000).await == bytes[1_000_000..]);
        assert_eq!(ask(&mut client, "/a.txt", "").await.1, "0123456789", "and the connection goes on");
    });
}

#[test]
fn a_file_that_is_cut_off_meanwhile_ends_the_connection() {
    local(async {
        let dir = folder();
        let path = dir.path().join("site/large.bin");
        fs::write(&path, vec![b'x'; 8 << 20]).unwrap();
        let bed = serving(dir.path(), |_| {});
        let mut client = bed.ask("GET /large.bin HTTP/1.1\r\nHost: shop\r\n\r\n").await;
        client.head().await;
        fs::File::options().write(true).open(&path).unwrap().set_len(1).unwrap();
        assert!(client.rest().await.len() < 8 << 20, "less than was announced, and then the end");
    });
}

#[test]
fn a_folder_is_sent_to_its_slash_and_what_is_missing_is_not_there() {
    local(async {
        let dir = folder();
        fs::write(dir.path().join("site/sub/index.html"), "sub").unwrap();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        std::os::unix::fs::symlink("../secret", dir.path().join("site/link")).unwrap();
        let bed = serving(dir.path(), |route| route.path = "/docs".into());
        let mut client = bed.client();
        for (target, location) in
            [("/docs/sub?x=1", "/docs/sub/?x=1"), ("/docs", "/docs/"), ("/docs?x", "/docs/?x")]
        {
            let (head, _) = ask(&mut client, target, "").await;
            assert_eq!((status(&head), field(&head, "location")), (301, Some(location)), "{head}");
        }
        assert_eq!(ask(&mut client, "/docs/sub/", "").await.1, "sub");
        for target in
            ["/docs/none", "/docs/link", "/docs/sub/none/", "/docs/%2e%2e/secret", "/docs/..%2fsecret"]
        {
            let mut client = bed.ask(format!("GET {target} HTTP/1.1\r\nHost: shop\r\n\r\n")).await;
            let (status, text) = client.response().await;
            assert!(matches!(status, 400 | 404) && !text.contains("secret\n"), "{target}: {status} {text}");
        }
        client.send("GET /docs/none HTTP/1.1\r\nHost: shop\r\n\r\n").await;
        assert_eq!(client.failure().await, (404, "no_file".to_owned()));
    });
}

#[test]
fn what_a_route_says_of_files() {
    local(async {
        let dir = folder();
        fs::write(dir.path().join("site/a.txt.gz"), "packed").unwrap();
        let bed = serving(dir.path(), |route| {
            route.files.as_mut().unwrap().spa = Some("index.html".into());
            route.response_headers = HeaderRules {
                set: vec![("cache-control".into(), "private".into())],
                remove: vec!["etag".into()],
                ..HeaderRules::default()
            };
        });
        let mut client = bed.client();
        let (head, body) = ask(&mut client, "/a.txt", "Accept-Encoding: gzip, br;q=0\r\n").await;
        assert_eq!((field(&head, "content-encoding"), &*body), (Some("gzip"), "packed"));
        assert_eq!((field(&head, "etag"), head.matches("ache-").count()), (None, 1), "{head}");
        bed.change(|snapshot| snapshot.routes[0].response_headers = HeaderRules::default());
        let (head, body) = ask(&mut client, "/users/7", "").await;
        assert_eq!((status(&head), &*body), (200, "<p>"));
        assert_eq!(
            field(&head, "cache-control"),
            Some("no-cache"),
            "whose parts are others with each release"
        );
        let (head, _) = ask(&mut client, "/a.txt", "").await;
        assert_eq!(field(&head, "cache-control"), Some("max-age=60"));
        assert_eq!(status(&ask(&mut client, "/missing.js", "").await.0), 404);
    });
}

#[test]
fn a_folder_that_is_not_there_is_said_to_be() {
    local(async {
        let dir = folder();
        let bed = serving(dir.path(), |_| {});
        fs::rename(dir.path().join("site"), dir.path().join("away")).unwrap();
        let mut client = bed.client();
        client.send(GET).await;
        assert_eq!(client.failure().await, (503, "files_unavailable".to_owned()));
        fs::rename(dir.path().join("away"), dir.path().join("site")).unwrap();
        assert_eq!(ask(&mut client, "/a.txt", "").await.1, "0123456789");
        bed.thread.use_folders(&BTreeMap::new());
        bed.apply();
        client.send(GET).await;
        assert_eq!(client.failure().await, (503, "files_unavailable".to_owned()));
    });
}
