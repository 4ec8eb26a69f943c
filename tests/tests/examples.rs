//! The examples run, and the shop's page works in a real browser.

use std::{
    fs,
    process::{Command, Stdio},
};

use watt_tests::{App, for_each_user, repository, wait};

#[test]
fn hello_says_hello() {
    for_each_user(|user| {
        let app = App::example("hello", user);
        let text = fs::read_to_string(app.dir.join("watt.yaml")).expect("the example");
        app.write("watt.yaml", &format!("{text}server: {{ port: 0 }}\n"));
        app.up();
        wait("both workers have answered", {
            let mut seen = std::collections::BTreeSet::new();
            let app = &app;
            move || {
                let (status, body) = app.get("/");
                assert_eq!(status, 200, "{body}");
                seen.insert(body);
                if seen.len() == 2 { Ok(()) } else { Err(format!("{seen:?}")) }
            }
        });
        app.down();
    });
}

#[test]
fn the_shop_works_in_a_browser() {
    let orders = repository().join("examples/shop/orders/target/release/orders");
    assert!(
        orders.exists(),
        "run `cargo build --release --manifest-path examples/shop/orders/Cargo.toml` first"
    );
    for_each_user(|user| {
        let app = App::empty(user);
        // Without the build folder of the orders service, which is large; only its program is needed.
        for service in ["storefront", "storefront/public", "api", "recommendations", "ticker"] {
            copy_files(&repository().join("examples/shop").join(service), &app.dir.join(service));
        }
        let target = app.dir.join("orders/target/release");
        fs::create_dir_all(&target).expect("a folder");
        fs::copy(&orders, target.join("orders")).expect("a copy");
        let text = fs::read_to_string(repository().join("examples/shop/watt.yaml")).expect("the example");
        app.write("watt.yaml", &text.replace("{PORT:-3042}", "0"));
        app.up();
        shop_in_a_browser(&app);
        app.down();
    });
}

/// Drives chromium through chromedriver (W3C WebDriver), with a small Node script beside these tests.
fn shop_in_a_browser(app: &App) {
    let script = repository().join("tests/browser/shop.js");
    let output = Command::new("node")
        .arg(script)
        .arg(format!("http://{}/", app.gateway()))
        .stdin(Stdio::null())
        .output()
        .expect("node runs");
    assert!(output.status.success(), "{:?} {}", app.user, watt_tests::printed(&output));
}

fn copy_files(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("the example").flatten().filter(|entry| entry.path().is_file()) {
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}
