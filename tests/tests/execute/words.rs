//! Command lines as systemd.service(5) has them ("Command lines"): words with quotes and escapes, specifiers, and variables.

use std::collections::BTreeMap;

/// One command of an `Exec…=` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    /// What stands before the program: `-`, `+`, `!`, `:`.
    pub(crate) prefix: String,
    /// Program and arguments.
    pub(crate) argv: Vec<String>,
}

/// What specifiers (systemd.unit(5)) stand for, by their letter.
pub(crate) type Specifiers = BTreeMap<char, String>;

/// The commands of a line, with specifiers and variables filled in.
pub(crate) fn commands(
    line: &str,
    specifiers: &Specifiers,
    env: &BTreeMap<String, String>,
) -> Result<Vec<Command>, String> {
    let words = split(line);
    let mut commands = Vec::new();
    for part in words.split(|word| word == ";").filter(|part| !part.is_empty()) {
        let program = part[0].trim_start_matches(PREFIXES);
        let prefix = part[0][..part[0].len() - program.len()].to_owned();
        let words = std::iter::once(program).chain(part[1..].iter().map(String::as_str));
        let mut argv = Vec::new();
        for word in words {
            let word = specify(word, specifiers)?;
            match prefix.contains(':') {
                true => argv.push(word),
                false => argv.extend(variables(&word, env)),
            }
        }
        commands.push(Command { prefix, argv });
    }
    Ok(commands)
}

const PREFIXES: [char; 6] = ['@', '-', ':', '+', '!', '|'];

/// Words between blanks; quotes keep blanks, and a backslash begins an escape of C in and outside of them. One that is none stays
/// as it is.
pub(crate) fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = text.chars();
    while let Some(letter) = rest.next() {
        match (letter, quote) {
            ('\\', _) => word.get_or_insert_default().push_str(&escape(&mut rest)),
            (letter, Some(open)) if letter == open => quote = None,
            ('\'' | '"', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (' ' | '\t' | '\n', None) => words.extend(word.take()),
            (letter, _) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// What stands for an escape whose backslash was read.
fn escape(rest: &mut std::str::Chars<'_>) -> String {
    let Some(letter) = rest.next() else { return "\\".to_owned() };
    let known = match letter {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        's' => ' ',
        '\\' | '"' | '\'' => letter,
        'x' => {
            let digits: String = rest.as_str().chars().take(2).collect();
            match u8::from_str_radix(&digits, 16) {
                Ok(byte) if byte.is_ascii() && digits.len() == 2 => {
                    *rest = rest.as_str()[2..].chars();
                    char::from(byte)
                }
                _ => return "\\x".to_owned(),
            }
        }
        letter => return format!("\\{letter}"),
    };
    known.to_string()
}

/// All escapes of a text without words or quotes.
pub(crate) fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text.chars();
    while let Some(letter) = rest.next() {
        match letter {
            '\\' => out.push_str(&escape(&mut rest)),
            letter => out.push(letter),
        }
    }
    out
}

/// Fills in specifiers: `%n` and the like, `%%` for the sign itself.
pub(crate) fn specify(text: &str, specifiers: &Specifiers) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text.chars();
    while let Some(letter) = rest.next() {
        match letter {
            '%' => match rest.next() {
                Some('%') => out.push('%'),
                Some(name) => match specifiers.get(&name) {
                    Some(value) => out.push_str(value),
                    None => return Err(format!("the specifier `%{name}`")),
                },
                None => out.push('%'),
            },
            letter => out.push(letter),
        }
    }
    Ok(out)
}

/// Fills in variables: a word `$NAME` becomes the words of its value, `${NAME}` in a word its value, `$$` one dollar.
fn variables(word: &str, env: &BTreeMap<String, String>) -> Vec<String> {
    let value = |name: &str| env.get(name).cloned().unwrap_or_default();
    if let Some(name) = word.strip_prefix('$')
        && is_name(name)
    {
        return value(name).split_whitespace().map(str::to_owned).collect();
    }
    let mut out = String::new();
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let braced = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = braced.filter(|(name, _)| is_name(name)) {
            out.push_str(&value(name));
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    vec![out]
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|first: char| first.is_ascii_digit())
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_quotes_and_escapes() {
        assert_eq!(split(r#"a "b c"'d e' \x25\t\-"#), ["a", "b cd e", "%\t\\-"]);
        assert_eq!(split(r"'it\'s' '' x"), ["it's", "", "x"]);
    }

    #[test]
    fn specifiers_and_variables_are_filled_in() {
        let specifiers = Specifiers::from([('t', "/run".to_owned())]);
        let env = BTreeMap::from([("A".to_owned(), "x y".to_owned())]);
        let argv = |line: &str| commands(line, &specifiers, &env).map(|all| all[0].argv.clone());
        assert_eq!(argv("p $A ${A}! $$A $B_ %t/%%").unwrap(), ["p", "x", "y", "x y!", "$A", "/run/%"]);
        assert_eq!(argv(":p $A $${A}").unwrap(), ["p", "$A", "$${A}"]);
        assert_eq!(argv("p %Z"), Err("the specifier `%Z`".to_owned()));
        let two = commands("+a ; b", &specifiers, &env).unwrap();
        assert_eq!((two.len(), two[0].prefix.as_str(), two[1].prefix.as_str()), (2, "+", ""));
    }
}
