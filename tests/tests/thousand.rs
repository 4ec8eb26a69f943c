//! A thousand services.

use watt_tests::{App, User};

#[test]
fn a_thousand_services_start_show_and_stop() {
    let services: String = (0..1000)
        .map(|n| format!("  s{n}: {{ command: sleep 1000000, listen: none, network: host }}\n"))
        .collect();
    let app = App::yaml(&format!("services:\n{services}"), User::Ordinary);
    app.up();
    let status = app.status();
    let ready =
        status["services"].as_array().expect("services").iter().filter(|service| service["state"] == "ready");
    assert_eq!(ready.count(), 1000);
    let table = String::from_utf8(app.run(&["status"]).stdout).expect("text");
    assert!(table.lines().count() > 1000);
    app.down();
}
