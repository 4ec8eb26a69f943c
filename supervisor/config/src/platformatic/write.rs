//! A tree as the text of a watt.yaml.

use crate::tree::{Node, Value};

/// The text, with what it was made of and what it lacks at its beginning.
pub(super) fn yaml(tree: &Node, file: &str, warnings: &[String]) -> String {
    let mut text = format!("# Made of {file} by `wattctl migrate`. docs/configuration.md has every key.\n");
    for warning in warnings {
        text.push_str(&format!("# Not taken over: {}\n", warning.replace(['\n', '\r'], " ")));
    }
    if let Value::Map(entries) = &tree.value {
        for entry in entries {
            text.push('\n');
            pair(&mut text, &entry.key.text, &entry.node, 0);
        }
    }
    text
}

fn pair(text: &mut String, key: &str, node: &Node, depth: usize) {
    text.push_str(&"  ".repeat(depth));
    text.push_str(&scalar(key, false));
    text.push(':');
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => {
            text.push('\n');
            for entry in entries {
                pair(text, &entry.key.text, &entry.node, depth + 1);
            }
        }
        Value::List(items)
            if items.iter().any(|item| matches!(item.value, Value::Map(_) | Value::List(_))) =>
        {
            text.push('\n');
            for item in items {
                text.push_str(&format!("{}- {}\n", "  ".repeat(depth + 1), in_line(item)));
            }
        }
        _ => text.push_str(&format!(" {}\n", in_line(node))),
    }
}

/// A value on one line.
fn in_line(node: &Node) -> String {
    match &node.value {
        Value::Null => "~".to_owned(),
        Value::Scalar { text, quoted } => scalar(text, *quoted),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(|item| in_line(item)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(entries) => {
            let entries: Vec<String> = entries
                .iter()
                .map(|entry| format!("{}: {}", scalar(&entry.key.text, false), in_line(&entry.node)))
                .collect();
            if entries.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", entries.join(", ")) }
        }
    }
}

/// A scalar: in quotes unless it is a plain word, number or path.
fn scalar(text: &str, quoted: bool) -> String {
    let is_first = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '$');
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '$');
    let is_simple = text.starts_with(is_first) && text.chars().all(is_plain);
    // What YAML takes for something else is text where it was.
    let is_word = matches!(text, "true" | "false" | "null" | "yes" | "no" | "on" | "off")
        || text.parse::<f64>().is_ok();
    if is_simple && !(quoted && is_word) {
        return text.to_owned();
    }
    // JSON is YAML.
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{report::Problems, tree};

    #[test]
    fn what_is_written_is_read_as_the_same() {
        let text = "services:\n  api:\n    command: [node, 'a b', '{WATT_ROOT}/x', \"1\", \"\"]\n    env: { A: 'x: y', B: \"line\\nline\", 'a b': \"#\" }\n    workers: 2\n    list: [{ a: 1, b: [] }, { }]\n  b: ~\n";
        let read =
            |text: &str| tree::read("x.yaml".as_ref(), text, &mut Problems::default()).expect("it is right");
        let written = yaml(&read(text), "watt.json", &["a\nb".to_owned()]);
        assert!(written.contains("# Not taken over: a b\n"), "{written}");
        assert_eq!(in_line(&read(&written)), in_line(&read(text)), "{written}");
    }
}
