//! Unit files as systemd.syntax(7) has them, as far as their service sections go.

/// One unit file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Its name without `.service`.
    pub(crate) name: String,
    /// What its sections say, in their order: key and value.
    pub(crate) settings: Vec<(String, String)>,
}

impl Unit {
    pub(crate) fn parse(name: &str, text: &str) -> Unit {
        let settings = logical_lines(text)
            .into_iter()
            .filter_map(|line| line.split_once('=').map(|(key, value)| (trim(key), trim(value))))
            .filter(|(key, _)| key.chars().all(|letter| letter.is_ascii_alphanumeric()))
            .collect();
        Unit { name: name.to_owned(), settings }
    }

    /// All values of a key.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.settings.iter().filter(move |(own, _)| own == key).map(|(_, value)| value.as_str())
    }

    /// The value that holds of a key that has one.
    pub(crate) fn last<'a>(&'a self, key: &'a str) -> Option<&'a str> {
        self.all(key).last().filter(|value| !value.is_empty())
    }

    /// The values of a key that adds up: an empty one takes back what came before.
    pub(crate) fn list<'a>(&'a self, key: &'a str) -> Vec<&'a str> {
        self.all(key).fold(Vec::new(), |mut list, value| {
            match value {
                "" => list.clear(),
                value => list.push(value),
            }
            list
        })
    }

    /// A switch.
    pub(crate) fn is(&self, key: &str) -> bool {
        self.last(key).is_some_and(is_yes)
    }
}

pub(crate) fn is_yes(value: &str) -> bool {
    matches!(value, "yes" | "true" | "on" | "1")
}

fn trim(text: &str) -> String {
    text.trim_matches([' ', '\t']).to_owned()
}

/// Lines, of which each that ends with a backslash goes on in the next, where a space stands for the two. Comments are none,
/// between the parts of a line as well.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open: Option<String> = None;
    for line in text.lines() {
        if line.trim_start().starts_with(['#', ';']) {
            continue;
        }
        let mut whole = open.take().unwrap_or_default();
        match line.strip_suffix('\\') {
            Some(part) => {
                whole.push_str(part);
                whole.push(' ');
                open = Some(whole);
            }
            None => {
                whole.push_str(line);
                lines.push(whole);
            }
        }
    }
    lines.extend(open);
    lines
}

#[test]
fn lines_go_on_and_lists_are_taken_back() {
    let unit = Unit::parse("a", "[Service]\n# no\nA=one \\\n; no\n two\nB=x\nB=\nB= y z \nC=yes\n");
    assert_eq!(unit.last("A"), Some("one   two"));
    assert_eq!(unit.list("B"), ["y z"]);
    assert!(unit.is("C") && !unit.is("D"));
}
