//! Services that look at requests.

use watt_api::mesh::{AccessRule, Filter, Guard, Outlook, Route};

use crate::bed::*;

fn filter(service: &str) -> Filter {
    Filter { service: service.into(), path: "/look".into(), timeout_ms: 5_000, may_fail: false }
}

/// `/` leads to `api`, and these are asked.
fn bed(filters: Vec<Filter>) -> Bed {
    let bed = Bed::new();
    bed.change(|snapshot| {
        for filter in &filters {
            snapshot.services.insert(filter.service.clone(), service());
        }
        let guard = Guard { filters, ..Guard::default() };
        snapshot.routes = vec![Route { guard, ..route("/shop", "api", Some("")) }];
    });
    bed
}

fn says(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn get(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: shop\r\n{fields}\r\n")
}

/// What a filter was asked, as JSON.
async fn question(wire: &mut Wire) -> serde_json::Value {
    let head = wire.head().await;
    assert!(head.starts_with("POST /look HTTP/1.1\r\n"), "{head}");
    let length = field(&head, "content-length").and_then(|length| length.parse().ok()).expect("a length");
    serde_json::from_str(&wire.take(length).await).expect("JSON")
}

#[test]
fn each_sees_what_the_one_before_has_left() {
    local(async {
        let bed = bed(vec![filter("first"), filter("second")]);
        let (api, first, second) = (bed.worker("api", 1), bed.worker("first", 2), bed.worker("second", 3));
        let mut client = bed.client_from("192.0.2.7");
        client
            .send(get("/shop/a?b=c", "Cookie: k=v\r\nX_User: root\r\nConnection: x-hop\r\nX-Hop: 1\r\n"))
            .await;
        let mut asked = first.accept().await;
        let told = question(&mut asked).await;
        for (key, value) in [
            ("method", "GET"),
            ("scheme", "http"),
            ("host", "shop"),
            ("path", "/a?b=c"),
            ("client", "192.0.2.7"),
            ("service", "api"),
        ] {
            assert_eq!(told[key], value, "{told}");
        }
        let headers = told["headers"].to_string();
        assert!(headers.contains(r#"["cookie","k=v"]"#) && !headers.contains("x-hop"), "{headers}");
        asked.send(says(r#"{"headers": {"set": {"x-user": "ada", "x-one": "1"}, "remove": ["cookie"]}, "path": "/b?d"}"#)).await;
        let mut asked = second.accept().await;
        let told = question(&mut asked).await;
        let headers = told["headers"].to_string();
        assert_eq!(told["path"], "/b?d");
        assert!(
            headers.contains(r#"["x-user","ada"]"#)
                && !headers.contains("cookie")
                && !headers.contains("root"),
            "{headers}"
        );
        asked.send(says(r#"{"headers": {"set": {"x-one": "2"}}}"#)).await;
        let mut wire = api.accept().await;
        let head = wire.head().await;
        assert!(head.starts_with("GET /b?d HTTP/1.1\r\n"), "{head}");
        assert_eq!(
            (field(&head, "x-user"), field(&head, "x-one"), field(&head, "cookie")),
            (Some("ada"), Some("2"), None),
            "{head}"
        );
        assert!(!head.contains("root"), "{head}");
        wire.send(OK).await;
        assert_eq!(status(&client.head().await), 200);
    });
}

#[test]
fn it_may_answer_in_place_of_the_service() {
    local(async {
        let bed = bed(vec![filter("first"), filter("second")]);
        let first = bed.worker("first", 2);
        first.answer(
            says(r#"{"respond": {"status": 402, "headers": {"x-why": "pay"}, "body": "first pay"}}"#).leak(),
        );
        let mut client = bed.client();
        client.send(get("/shop/", "")).await;
        let head = client.head().await;
        assert_eq!((status(&head), field(&head, "x-why")), (402, Some("pay")), "{head}");
        assert_eq!(client.take(9).await, "first pay");
    });
}

#[test]
fn who_fails_lets_nobody_through_unless_it_may() {
    local(async {
        for (may_fail, expected) in [(false, 503), (true, 200)] {
            let bed = bed(vec![Filter { may_fail, ..filter("first") }]);
            let (api, first) = (bed.worker("api", 1), bed.worker("first", 2));
            api.answer(OK);
            for answer in [
                "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".to_owned(),
                says("no"),
                says(r#"{"headers": {"set": {"host": "x"}}}"#),
            ] {
                let mut client = bed.client();
                client.send(get("/shop/", "")).await;
                let mut asked = first.accept().await;
                question(&mut asked).await;
                asked.send(answer).await;
                drop(asked);
                let head = client.head().await;
                assert_eq!(status(&head), expected, "{head}");
            }
            // There is none of it at all.
            bed.change(|snapshot| {
                let service = snapshot.services.get_mut("first").unwrap();
                service.workers.clear();
                service.outlook = Outlook::Stopped;
            });
            let mut client = bed.client();
            client.send(get("/shop/", "")).await;
            assert_eq!(status(&client.head().await), expected);
        }
    });
}

#[test]
fn a_path_that_it_gives_is_one_that_rules_of_the_service_are_about() {
    local(async {
        let bed = bed(vec![filter("first")]);
        bed.change_api(|api| {
            let rules = vec![AccessRule { path: Some("/secret".into()), ..AccessRule::default() }];
            api.guard = Guard { rules, ..Guard::default() }.into();
        });
        let first = bed.worker("first", 2);
        first.answer(says(r#"{"path": "/secret/x"}"#).leak());
        let mut client = bed.client();
        client.send(get("/shop/", "")).await;
        let head = client.head().await;
        assert_eq!(status(&head), 403, "{head}");
    });
}
