//! The page of the APIs, and its document.

use std::{collections::BTreeMap, sync::Arc};

use watt_api::mesh::{HeaderRules, Route, RoutePage};
use watt_mesh_proxy::pages::Document;

use crate::bed::*;

fn bed() -> Bed {
    let bed = Bed::new();
    let page = RoutePage { document: "docs".into(), title: String::new() };
    let response_headers =
        HeaderRules { set: vec![("x-by".into(), "watt".into())], ..HeaderRules::default() };
    let docs = Route { page: Some(page), response_headers, ..route("/docs", "", None) };
    bed.change(|snapshot| snapshot.routes.push(docs));
    bed
}

/// As the daemon gives it: with the next snapshot.
fn give(bed: &Bed, body: String) {
    bed.thread.use_documents(&BTreeMap::from([("docs".to_owned(), Arc::new(Document::json(body)))]));
    bed.apply();
}

async fn ask(client: &mut Wire, line: &str, fields: &str) -> (String, String) {
    client.send(format!("{line} HTTP/1.1\r\nHost: shop\r\n{fields}\r\n")).await;
    let head = client.head().await;
    let length: usize = field(&head, "content-length").map_or(0, |length| length.parse().unwrap());
    let body = if line.starts_with("HEAD") { String::new() } else { client.take(length).await };
    (head, body)
}

#[test]
fn a_page_needs_nothing_from_elsewhere() {
    local(async {
        let bed = bed();
        let mut client = bed.client();
        let (head, _) = ask(&mut client, "GET /docs?x", "").await;
        assert_eq!(
            (status(&head), field(&head, "location")),
            (301, Some("/docs/?x")),
            "what it asks for is below it"
        );
        for (path, kind) in
            [("/docs/", "text/html"), ("/docs/page.css", "text/css"), ("/docs/page.js", "text/javascript")]
        {
            let (head, body) = ask(&mut client, &format!("GET {path}"), "").await;
            assert_eq!(status(&head), 200, "{head}");
            assert!(field(&head, "content-type").unwrap().starts_with(kind), "{head}");
            assert!(
                field(&head, "content-security-policy")
                    .unwrap()
                    .starts_with("default-src 'none'; script-src 'self'")
            );
            assert_eq!(field(&head, "x-by"), Some("watt"));
            assert!(
                !body.contains("//cdn")
                    && !body.contains("innerHTML")
                    && !body.contains("http://")
                    && !body.contains("https://")
            );
        }
        assert_eq!(status(&ask(&mut client, "GET /docs/x", "").await.0), 404);
        let (head, _) = ask(&mut client, "PUT /docs/", "Content-Length: 0\r\n").await;
        assert_eq!((status(&head), field(&head, "allow")), (405, Some("GET, HEAD")));
    });
}

#[test]
fn a_document_is_the_last_one_that_was_given() {
    local(async {
        let bed = bed();
        let mut client = bed.client();
        let (head, body) = ask(&mut client, "GET /docs/openapi.json", "").await;
        assert_eq!((status(&head), field(&head, "retry-after")), (503, Some("1")), "{body}");
        assert!(body.contains("no_document"), "{body}");
        give(&bed, r#"{"first": 1}"#.into());
        let (head, body) = ask(&mut client, "GET /docs/openapi.json", "").await;
        assert_eq!((status(&head), &*body), (200, r#"{"first": 1}"#), "{head}");
        assert_eq!(field(&head, "content-type"), Some("application/json"));
        let etag = format!("If-None-Match: \"x\", W/{}\r\n", field(&head, "etag").unwrap());
        let (head, _) = ask(&mut client, "GET /docs/json", &etag).await;
        assert_eq!((status(&head), field(&head, "content-length")), (304, None), "{head}");
        // More than a socket takes at once, and than is written at a time.
        let large = format!("\"{}\"", "x".repeat(3 << 20));
        give(&bed, large.clone());
        let (head, body) = ask(&mut client, "GET /docs/openapi.json", &etag).await;
        assert_eq!(status(&head), 200, "another one");
        assert!(body == large);
        let (head, _) = ask(&mut client, "HEAD /docs/openapi.json", "").await;
        assert_eq!(field(&head, "content-length"), Some(&*large.len().to_string()));
        assert_eq!(status(&ask(&mut client, "GET /docs/", "").await.0), 200, "on the same connection");
    });
}
