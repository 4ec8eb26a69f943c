//! Files that want to hurt: each ends in an error or a plan, soon and in bounded memory.

use proptest::prelude::*;
use watt_config::{Report, Sources, parse};

use crate::{invalid, invalid_sources, sources};

/// Reports stay readable whatever is in the file: short, and without characters that move a cursor.
#[track_caller]
fn check_readable(report: &Report) {
    let text = report.to_string();
    assert!(text.len() < 200_000, "{} bytes", text.len());
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    assert!(text.lines().all(|line| line.chars().count() < 1000), "{text}");
    report.to_json();
}

#[track_caller]
fn check_message(text: &str, expected: &str) {
    let report = invalid(text);
    check_readable(&report);
    let messages: Vec<_> = report.problems().iter().map(|problem| problem.message()).collect();
    assert!(messages.iter().any(|message| message.contains(expected)), "{messages:?}");
}

#[test]
fn a_bomb_of_aliases_is_counted_not_expanded() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        text += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    check_message(&text, "too large: more than 500000 keys and values");
}

#[test]
fn a_bomb_of_merge_keys_is_counted_not_expanded() {
    let keys: String =
        (0..1000).map(|index| format!("k{index}: 1\n")).map(|line| format!("  {line}")).collect();
    let merges: String = (0..1000).map(|index| format!("m{index}:\n  <<: *base\n")).collect();
    check_message(&format!("base: &base\n{keys}{merges}"), "too large: more than 500000");
}

#[test]
fn a_bomb_of_long_texts_is_weighed() {
    let long = "x".repeat(2 << 20);
    let aliases = vec!["*long"; 3000].join(", ");
    for place in ["command: [x, {}]", "env: { LIST: x, {} }", "depends_on: [{}]"] {
        let used = place.replace("{}", &aliases);
        check_message(
            &format!("x-long: &long '{long}'\nservices:\n  a:\n    {used}\n"),
            "too large: more than 500000",
        );
    }
    let keys = format!("base: &base\n  ? '{long}'\n  : 1\n");
    let merges: String = (0..1000).map(|index| format!("m{index}:\n  <<: *base\n")).collect();
    check_message(&format!("{keys}{merges}"), "too large: more than 500000");
}

/// Each search reads the text again, which for this many duplicates took minutes.
#[test]
fn a_toml_file_of_duplicates_is_searched_a_few_times() {
    let text = "a=1\n".repeat(16_000);
    let report = invalid_sources(&sources("watt.toml", &text));
    check_readable(&report);
    let found = report.to_string().matches("it was first written here").count();
    assert!((1..100).contains(&found), "{found}");
    assert_eq!(report.problems().len(), 100);
}

#[test]
fn an_alias_to_itself_has_no_end_and_is_refused() {
    check_message("services: &s [*s]", "is inside what it stands for");
    check_message("x-a: &a { b: &b [*a, *b] }\nservices: {}", "is inside what it stands for");
}

#[test]
fn a_chain_of_aliases_is_no_deeper_than_anything_else() {
    let mut text = "a0: &a0 [x]\n".to_owned();
    for level in 1..20_000 {
        text += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
    }
    check_message(&text, "nested too deeply");
}

#[test]
fn deep_nesting_is_refused_in_every_language() {
    check_message(&"[".repeat(1_000_000), "nested too deeply");
    check_message(&"{a: ".repeat(500_000), "nested too deeply");
    check_message(
        &(0..2000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect::<String>(),
        "nested too deeply",
    );
    check_message(&"- ".repeat(1_000_000), "nested too deeply");
    for text in [
        format!("a = {}", "[".repeat(1_000_000)),
        format!("a = {}", "{b = ".repeat(500_000)),
        vec!["a"; 1_000_000].join(".") + " = 1",
        format!("[{}]", vec!["a"; 1_000_000].join(".")),
        {
            // As deep as each way allows by itself, inside each other.
            let key = vec!["a"; 79].join(".");
            format!("{}1{}", format!("{key} = {{ ").repeat(70), " }".repeat(70))
        },
    ] {
        let report = invalid_sources(&sources("watt.toml", &text));
        check_readable(&report);
    }
}

#[test]
fn ten_megabytes_of_nonsense_are_refused_by_size() {
    for name in ["watt.yaml", "watt.json", "watt.toml"] {
        for unit in ["x", "[", "{", "a: &a *a\n", "\"", "- ", "\0", "é", "= "] {
            let text = unit.repeat((10 << 20) / unit.len());
            let report = invalid_sources(&sources(name, &text));
            check_readable(&report);
            assert_eq!(report.problems()[0].message(), "cannot read this file: it is larger than 4 MiB");
        }
    }
}

#[test]
fn a_megabyte_of_nonsense_is_read_and_refused() {
    for name in ["watt.yaml", "watt.json", "watt.toml"] {
        for unit in [
            "x",
            "x ",
            "x\n",
            "[",
            "]",
            "[],",
            "{",
            "}",
            "a: b\n",
            "- a\n",
            "? ",
            "\"",
            "'",
            "&a ",
            "*a ",
            "!a ",
            "#",
            "# \n",
            "a = 1\n",
            "[a]\n",
            "[[a]]\n",
            "a.b = 1\n",
            "= ",
            ",",
            ":",
            "- - ",
            "\t",
            "%",
            "|\n",
            "\u{feff}",
            "\r",
            "é",
            "{{",
            "{A",
            "{PORT}",
            "---\n",
            "...\n",
            "<<: {}\n",
            "\\",
            "\"\\u0000\",",
        ] {
            let text = unit.repeat((1 << 20) / unit.len());
            check_readable(&invalid_sources(&sources(name, &text)));
        }
    }
}

#[test]
fn four_megabytes_of_small_mistakes_are_not_four_million_errors() {
    let repeated = |head: &str, line: &dyn Fn(usize) -> String, count: usize, tail: &str| {
        let lines: String = (0..count).map(line).collect();
        format!("{head}{lines}{tail}")
    };
    for text in [
        repeated("services:\n", &|index| format!("  s{index}: {{}}\n"), 200_000, ""),
        repeated("services:\n", &|index| format!("  s{index}: {{comand: x}}\n"), 9000, ""),
        repeated("services:\n  a:\n", &|index| format!("    comand{index}: x\n"), 150_000, ""),
        repeated(
            "services:\n  a:\n    command: x\n    depends_on:\n",
            &|index| format!("      - dep{index}\n"),
            150_000,
            "",
        ),
        repeated(
            "services:\n  a:\n    command: x\n    env:\n",
            &|index| format!("      V{index}: '{{NO{index}}}'\n"),
            120_000,
            "",
        ),
        repeated(
            "gateway:\n  routes:\n",
            &|index| format!("    - {{path: /{index}, service: b}}\n"),
            80_000,
            "services: {a: {command: x}}",
        ),
        repeated(
            "services: {a: {command: x}}\ngateway:\n  routes:\n",
            &|_| "    - {path: /, service: a}\n".into(),
            80_000,
            "",
        ),
    ] {
        let report = invalid(&text);
        check_readable(&report);
        assert!(report.problems().len() <= 100);
    }
}

#[test]
fn ten_thousand_services_that_depend_on_each_other_are_walked_without_recursion() {
    let chain: String = (0..10_000)
        .map(|index| format!("  s{index}: {{command: x, depends_on: [s{}]}}\n", index + 1))
        .collect();
    check_message(&format!("services:\n{chain}"), "there is no service `s10000`");
    let circle: String = (0..5000)
        .map(|index| format!("  s{index}: {{command: x, depends_on: [s{}]}}\n", (index + 1) % 5000))
        .collect();
    check_message(&format!("services:\n{circle}"), "in a circle: s");
}

#[test]
fn a_large_variable_used_often_is_bounded() {
    let mut sources = sources("watt.yaml", "");
    sources.env.insert("BIG".into(), "x".repeat(100_000));
    let variables: String = (0..100_000).map(|index| format!("      V{index}: '{{BIG}}'\n")).collect();
    sources.text = format!("services:\n  a:\n    command: x\n    env:\n{variables}");
    let report = invalid_sources(&sources);
    check_readable(&report);
    assert!(report.to_string().contains("too large: the values up to here"));
    sources.text = "services: {a: {command: [x, '{BIG}{BIG}']}}".into();
    assert!(invalid_sources(&sources).to_string().contains("longer than 128 KiB"));
}

#[test]
fn a_large_dotenv_for_many_services_is_bounded() {
    let services: String = (0..9000).map(|index| format!("  s{index}: {{command: x}}\n")).collect();
    let mut sources = sources("watt.yaml", &format!("services:\n{services}"));
    sources.dotenv = Some(("/srv/shop/.env".into(), format!("A={}", "x".repeat(1 << 20))));
    assert!(invalid_sources(&sources).to_string().contains("are too much"));
}

#[test]
fn a_minified_file_is_one_long_line_with_short_errors() {
    let services: Vec<String> =
        (0..9000).map(|index| format!("\"sérvice{index}\":{{\"command\":\"é\"}}")).collect();
    let report =
        invalid_sources(&sources("watt.json", &format!("{{\"services\":{{{}}}}}", services.join(","))));
    check_readable(&report);
    assert!(report.to_string().lines().all(|line| line.chars().count() < 400), "{report}");
}

/// Text made of the pieces that configuration files are made of.
fn near_miss() -> impl Strategy<Value = String> {
    let pieces = [
        "services",
        "name",
        "command",
        "api",
        "gateway",
        "routes",
        "path",
        "listen",
        "limits",
        "memory",
        "ready",
        "http",
        "depends_on",
        "{PORT}",
        "{NO:-x}",
        "{NO}",
        "{{",
        "}}",
        "{",
        "}",
        "[",
        "]",
        ": ",
        ":",
        "- ",
        "\n",
        "\n  ",
        "\n    ",
        "\n      ",
        ", ",
        "\"",
        "'",
        "&a ",
        "*a",
        "<<: ",
        "!t ",
        "# ",
        "| ",
        "512M",
        "1",
        "true",
        "null",
        "~",
        "é",
        "\u{202e}",
        "\t",
        " = ",
        "[[",
        "]]",
        ".",
        "\\",
        "\r\n",
        "---",
        "%",
    ];
    proptest::collection::vec(proptest::sample::select(pieces.to_vec()), 0..60)
        .prop_map(|pieces| pieces.concat())
}

fn check_any(name: &str, text: String, dotenv: String) -> Result<(), TestCaseError> {
    let mut sources = sources(name, &text);
    sources.dotenv = Some(("/srv/shop/.env".into(), dotenv));
    match parse(&sources) {
        Ok(config) => {
            config.show();
            config.show_text();
        }
        Err(report) => {
            prop_assert!(!report.is_empty());
            check_readable(&report);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_gives_a_plan_or_a_report(text in any::<String>(), dotenv in any::<String>(), language in 0..3_usize) {
        check_any(["watt.yaml", "watt.json", "watt.toml"][language], text, dotenv)?;
    }

    #[test]
    fn pieces_in_any_order_give_a_plan_or_a_report(text in near_miss(), dotenv in near_miss(), language in 0..3_usize) {
        check_any(["watt.yaml", "watt.json", "watt.toml"][language], text, dotenv)?;
    }

    #[test]
    fn values_in_any_place_give_a_plan_or_a_report(value in "\\PC{0,20}", key in 0..8_usize) {
        let key = ["path", "command", "workers", "listen", "network", "ready", "restart", "depends_on"][key];
        let value = serde_json::Value::String(value);
        check_any("watt.yaml", format!("services: {{a: {{command: x, {key}: {value}}}}}"), String::new())?;
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("watt.yaml");
        std::fs::write(&file, &bytes)?;
        if let Err(report) = Sources::read(&file, Default::default()).and_then(|sources| parse(&sources)) {
            check_readable(&report);
        }
    }
}
