//! A load balancer before the gateway that speaks the PROXY protocol.

use serde_json::Value;
use watt_tests::{App, User, exchange, wait};

use crate::bed::{Client, ONE, SHOP, fields, shop};

fn yaml(proxies: &str) -> String {
    SHOP.replace("tls: TLS", &format!("proxy_protocol: [{proxies}]"))
}

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// The field that the service got.
fn forwarded_for(answer: &str) -> String {
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
    let body: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"));
    body["headers"]["x-forwarded-for"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_named_proxy_says_who_its_client_is_and_nobody_else_does() {
    let app = App::case("", User::Ordinary);
    app.write("watt.yaml", &yaml("127.0.0.0/8"));
    app.up();
    let ask = |header: &str| exchange(&app.gateway(), &format!("{header}{REQUEST}"));
    let from = |header: &str| forwarded_for(&ask(header).expect("an answer"));
    assert_eq!(from("PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n"), "192.0.2.7");
    assert_eq!(from("PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n"), "2001:db8::7");
    assert_eq!(from("PROXY UNKNOWN\r\n"), "127.0.0.1");
    let second = "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\x01\x02\x03\x0a\0\0\x01\0\x50\x01\x02";
    assert_eq!(from(second), "10.1.2.3");
    // The kernel resets a connection that is closed with bytes unread.
    assert!(ask("").unwrap_or_default().is_empty(), "there has to be a header");
    wait("the refusal is told", || match app.ok(&["events"]) {
        events if events.contains("no header of the PROXY protocol from 127.0.0.1") => Ok(()),
        events => Err(events),
    });

    app.write("watt.yaml", &yaml("203.0.113.0/24"));
    let reloaded = app.json(&["reload", "--wait"]);
    assert_eq!(reloaded["changes"][0]["key"], "server.proxy_protocol", "{reloaded}");
    let answer = wait("it is in force", || match ask("") {
        Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => Ok(answer),
        answer => Err(format!("{answer:?}")),
    });
    assert_eq!(forwarded_for(&answer), "127.0.0.1");
    let forged = ask("PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n").expect("an answer");
    assert!(forged.starts_with("HTTP/1.1 400 "), "{forged}");
    app.down();
}

#[test]
fn the_header_comes_before_tls() {
    let (app, _authority) = shop(User::Ordinary, &format!("{ONE}\n  proxy_protocol: [127.0.0.1]"));
    app.up();
    let header = "PROXY TCP4 192.0.2.7 192.0.2.1 56324 443";
    let said = fields(&Client::start(&app, &["shop.example", "", header]).ask("/"));
    assert_eq!(
        (&said["x-forwarded-for"], &said["x-forwarded-proto"]),
        (&"192.0.2.7".into(), &"https".into())
    );
    assert!(Client::start(&app, &[]).ask("/")["error"].is_string());
    app.down();
}
