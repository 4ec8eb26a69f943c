//! Which switches a program cannot do with, as far as its command line tells: the table "What runtimes need" of docs/sandbox.md.

use std::path::Path;

use crate::plan::{Listen, Plan, Service};

/// What is known of a program by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It compiles while it runs.
    JustInTime,
    /// A browser, or what starts one.
    Browser,
    /// It is started as root, and becomes somebody else.
    ChangesUser,
    /// It looks into other programs.
    Debugger,
}

/// Programs by the name of their file, without a version at its end.
const KNOWN: [(&str, Kind); 45] = [
    ("node", Kind::JustInTime),
    ("nodejs", Kind::JustInTime),
    ("npm", Kind::JustInTime),
    ("npx", Kind::JustInTime),
    ("pnpm", Kind::JustInTime),
    ("yarn", Kind::JustInTime),
    ("tsx", Kind::JustInTime),
    ("ts-node", Kind::JustInTime),
    ("next", Kind::JustInTime),
    ("vite", Kind::JustInTime),
    ("deno", Kind::JustInTime),
    ("bun", Kind::JustInTime),
    ("java", Kind::JustInTime),
    ("mvn", Kind::JustInTime),
    ("gradle", Kind::JustInTime),
    ("dotnet", Kind::JustInTime),
    ("mono", Kind::JustInTime),
    ("luajit", Kind::JustInTime),
    ("openresty", Kind::JustInTime),
    ("php", Kind::JustInTime),
    ("php-fpm", Kind::JustInTime),
    ("frankenphp", Kind::JustInTime),
    ("pypy", Kind::JustInTime),
    ("julia", Kind::JustInTime),
    ("erl", Kind::JustInTime),
    ("elixir", Kind::JustInTime),
    ("mix", Kind::JustInTime),
    ("wasmtime", Kind::JustInTime),
    ("chromium", Kind::Browser),
    ("chromium-browser", Kind::Browser),
    ("chrome", Kind::Browser),
    ("google-chrome", Kind::Browser),
    ("google-chrome-stable", Kind::Browser),
    ("firefox", Kind::Browser),
    ("playwright", Kind::Browser),
    ("puppeteer", Kind::Browser),
    ("nginx", Kind::ChangesUser),
    ("apache", Kind::ChangesUser),
    ("apachectl", Kind::ChangesUser),
    ("httpd", Kind::ChangesUser),
    ("haproxy", Kind::ChangesUser),
    ("sshd", Kind::ChangesUser),
    ("strace", Kind::Debugger),
    ("gdb", Kind::Debugger),
    ("perf", Kind::Debugger),
];

/// Programs that start another one, which is named in their arguments.
const STARTERS: [&str; 14] = [
    "sh",
    "bash",
    "dash",
    "zsh",
    "env",
    "exec",
    "nice",
    "timeout",
    "tini",
    "dumb-init",
    "setpriv",
    "stdbuf",
    "time",
    "nohup",
];

/// The first port that an ordinary user may bind on a usual host.
const ORDINARY_PORTS: u16 = 1024;

/// Why the service does not run with this switch on, when that is known.
pub(super) fn breaks(plan: &Plan, service: &Service, key: &str) -> Option<String> {
    let programs = programs(&service.command);
    let find = |kinds: &[Kind]| programs.iter().find(|(_, kind)| kinds.contains(kind)).map(|(name, _)| *name);
    match key {
        "sandbox.memory_deny_write_execute" => find(&[Kind::JustInTime, Kind::Browser]).map(|name| {
            format!("{name} compiles while it runs, into memory that is writable and executable")
        }),
        "sandbox.restrict_namespaces" => {
            find(&[Kind::Browser]).map(|name| format!("{name} makes namespaces for its own sandbox"))
        }
        "sandbox.system_calls" => find(&[Kind::Browser, Kind::Debugger])
            .map(|name| format!("{name} makes calls that are not in the list `strict`")),
        "sandbox.capabilities" | "sandbox.dynamic_user" => find(&[Kind::ChangesUser])
            .map(|name| format!("{name} starts as root and becomes another user; give it `user:` instead"))
            .or_else(|| low_port(service)),
        "sandbox.protect_home" => in_a_home(plan, service),
        _ => None,
    }
}

fn low_port(service: &Service) -> Option<String> {
    match service.listen {
        Listen::Port(Some(port)) if port.get() < ORDINARY_PORTS => Some(format!(
            "port {port} takes the capability net_bind_service; any port from {ORDINARY_PORTS} on does not"
        )),
        Listen::Auto | Listen::Unix | Listen::Fd | Listen::Port(_) | Listen::None => None,
    }
}

/// The application's own folder stays where it is; a program that is installed in somebody's home does not.
fn in_a_home(plan: &Plan, service: &Service) -> Option<String> {
    let program = Path::new(service.command.first()?);
    let is_in_home = ["/home", "/root"].iter().any(|home| program.starts_with(home));
    let is_ours = program.starts_with(&plan.root) || program.starts_with(&service.path);
    (is_in_home && !is_ours).then(|| format!("{} would not be there any more", program.display()))
}

/// The programs of a command line that are known. What a shell or another starter is to run is looked for in all of its arguments.
fn programs(command: &[String]) -> Vec<(&'static str, Kind)> {
    let Some((first, arguments)) = command.split_first() else { return Vec::new() };
    let starts_another = STARTERS.contains(&name(first));
    let words = arguments.iter().filter(|_| starts_another).flat_map(|argument| argument.split_whitespace());
    std::iter::once(first.as_str()).chain(words).filter_map(known).collect()
}

fn known(word: &str) -> Option<(&'static str, Kind)> {
    let name = name(word);
    let plain = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    KNOWN.into_iter().find(|(known, _)| *known == name || *known == plain)
}

fn name(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_known_by_name_version_and_what_starts_them() {
        let check = |command: &str, expected: &[&str]| {
            let words: Vec<String> = command.split('|').map(str::to_owned).collect();
            let names: Vec<&str> = programs(&words).into_iter().map(|(name, _)| name).collect();
            assert_eq!(names, expected, "{command}");
        };
        check("node|server.js", &["node"]);
        check("/usr/bin/node20|server.js", &["node"]);
        check("php8.2|-S", &["php"]);
        check("pypy3.10|x.py", &["pypy"]);
        check("sh|-c|exec node server.js", &["node"]);
        check("/usr/bin/env|A=1|java|-jar|x.jar", &["java"]);
        check("python3|node", &[]);
        check("./api|--with|java", &[]);
        check("apache2|-D", &["apache"]);
        check("nodemon-like", &[]);
        check("", &[]);
    }
}
