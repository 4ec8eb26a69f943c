//! One application as a service of watt's.

use std::{collections::BTreeSet, rc::Rc};

use super::{
    applications::Application,
    braces::escaped,
    build::{self, Table},
    keys::{APPLICATION, HEALTH, LOGGER, SHUTDOWN},
    kinds::Program,
    translate::{Opened, Scope, Translator, scalar},
};
use crate::tree::{Entry, Node, Value};

/// How long a request may take until its answer begins, in milliseconds: Platformatic's `applicationTimeout`.
const FIRST_BYTE_MS: &str = "300000";

/// How long a service may take to get ready, in milliseconds: Platformatic's `startTimeout`.
const START_MS: &str = "30000";

/// What the loader answers for its event loop.
const HEALTH_PATH: &str = "/.watt/health";

/// How often health is looked for, and how often it may be missed, as with Platformatic.
const HEALTH_INTERVAL_MS: &str = "30000";
const HEALTH_FAILURES: &str = "10";

/// How many ports of the host's localhost a service is given at most.
const HOST_PORTS_MAX: usize = 32;

impl Translator<'_> {
    /// What the project's file says of an application.
    pub(super) fn open_entry<'n>(&self, app: &'n Application) -> Opened<'n> {
        self.open(&APPLICATION, &app.entry)
    }

    /// The entry in `services`.
    pub(super) fn service(
        &self,
        app: &Application,
        program: &Program,
        root: Opened<'_>,
        gateways: &BTreeSet<&str>,
    ) -> Rc<Node> {
        let entry = self.open_entry(app);
        let mut service = Table::new(app.at);
        service.put("path", self.path(&app.folder, app.at));
        service.put("command", Rc::clone(&program.command));
        let env = self.environment(app, program, root);
        let host_ports = self.host_ports(app, &env);
        service.put_table("env", env);
        if let Some(workers) = self.workers(entry.get("workers"), root, &app.id, &app.outer) {
            service.put("workers", workers);
        }
        if !program.listens {
            service.put("listen", build::plain(app.at, "none"));
        }
        if !host_ports.is_empty() {
            let mut egress = Table::new(app.at);
            let ports = host_ports.into_iter().map(|port| build::plain(app.at, port));
            egress.put("host_ports", build::list(app.at, ports.collect()));
            service.put_table("egress", egress);
        }
        if let Some(dependencies) = entry.get("dependencies") {
            self.dependencies(&mut service, dependencies, gateways, &app.outer);
        }
        self.times(&mut service, app, program, root);
        if let Some(health) = self.health(app, program, root) {
            service.put("health", health);
        }
        if let Some(restart) =
            entry.get("restartOnError").and_then(|entry| self.restart(&entry.node, &app.outer))
        {
            service.put("restart", restart);
        }
        service.node()
    }

    /// From what is overruled to what wins: what watt has, the application's own file of variables, what the program needs, and what is
    /// written.
    fn environment(&self, app: &Application, program: &Program, root: Opened<'_>) -> Table {
        let entry = self.open_entry(app);
        let mut env = Table::new(app.at);
        for name in self.inherited() {
            env.put(name, build::text(app.at, format!("{{{name}}}")));
        }
        for (name, value) in &app.scope.own {
            if !self.sources.env.contains_key(name) && !is_watts(name) {
                env.put(name, build::text(app.at, escaped(value)));
            }
        }
        // What a program that is not told otherwise is told by Platformatic.
        for (name, value) in
            [("NODE_ENV", "production"), ("PLT_DEV", "false"), ("PLT_ENVIRONMENT", "production")]
        {
            if self.variable(name, &app.scope).is_none() {
                env.put(name, build::text(app.at, value));
            }
        }
        for (name, value) in &program.env {
            if *name != "HOST" || !env.has(name) {
                env.put(name, build::text(app.at, value));
            }
        }
        if program.is_loaded
            && let Some(level) = self.level(app, root)
        {
            env.put("PLT_LOG_LEVEL", level);
        }
        for written in [root.get("env"), entry.get("env")].into_iter().flatten() {
            let Value::Map(variables) = &written.node.value else { continue };
            for Entry { key, node } in variables {
                if is_watts(&key.text) {
                    self.warn(key.span, format!("`{}` is not taken over: watt sets it itself", key.text));
                } else if !matches!(node.value, Value::Null) {
                    env.set(&key.text, key.span, self.carry(node, &app.outer));
                }
            }
        }
        if let Some(options) = entry.get("nodeOptions") {
            env.set("NODE_OPTIONS", options.key.span, self.carry(&options.node, &app.outer));
        }
        env
    }

    /// Of its own file, else of the project's.
    fn level(&self, app: &Application, root: Opened<'_>) -> Option<Rc<Node>> {
        let own = app.file.as_ref().and_then(|(_, tree)| super::kinds::member(tree, "logger"));
        if let Some(node) = own
            && let Some(level) = self.open(&LOGGER, node).get("level")
        {
            return Some(self.carry(&level.node, &app.scope));
        }
        let logger = root.get("logger")?;
        let level = self.open(&LOGGER, &logger.node).get("level")?;
        Some(self.carry(&level.node, &app.outer))
    }

    /// Ports of `localhost:PORT` in variables: a network of one's own has another localhost, and databases are often there.
    fn host_ports(&self, app: &Application, env: &Table) -> BTreeSet<u16> {
        let own = env.texts().filter_map(|text| {
            let filled = self.try_text(&text, &app.outer)?;
            (!filled.contains("_compile(")).then_some(filled)
        });
        let all = self.dotenv.values().map(|variable| variable.value.clone()).chain(own);
        let mut ports = BTreeSet::new();
        for text in all {
            ports.extend(ports_of_localhost(&text));
        }
        ports.into_iter().take(HOST_PORTS_MAX).collect()
    }

    /// A text in watt's notation with the variables that are set.
    fn try_text(&self, text: &str, scope: &Scope) -> Option<String> {
        let filled = super::braces::parts(text).into_iter().map(|part| match part {
            super::braces::Part::Text(text) => text.to_owned(),
            super::braces::Part::Variable(name) => self.variable(name, scope).unwrap_or_default(),
        });
        Some(filled.collect())
    }

    fn dependencies(&self, service: &mut Table, entry: &Entry, gateways: &BTreeSet<&str>, scope: &Scope) {
        let Value::List(items) = &entry.node.value else {
            let message = format!("`dependencies` is a list of names, and this is {}", entry.node.kind());
            return self.problem(crate::report::Problem::new(entry.node.span, message));
        };
        let mut kept = Vec::new();
        for item in items {
            let Some(name) = self.say(item, scope) else { continue };
            if gateways.contains(name.as_str()) {
                self.warn(
                    item.span,
                    format!("`{name}` is routes here and no program, so nothing waits for it"),
                );
            } else {
                kept.push(build::text(item.span, escaped(&service_name(&name))));
            }
        }
        if !kept.is_empty() {
            service.set("depends_on", entry.key.span, build::list(entry.node.span, kept));
        }
    }

    fn times(&self, service: &mut Table, app: &Application, program: &Program, root: Opened<'_>) {
        let scope = &app.outer;
        let ms = |entry: Option<&Entry>, default: &str| {
            let written = entry.and_then(|entry| self.milliseconds(&entry.node, scope));
            written.unwrap_or_else(|| build::text(app.at, format!("{default}ms")))
        };
        let start = root.get("startTimeout");
        let mut ready = Table::new(app.at);
        match start.and_then(|entry| scalar(&entry.node)).as_deref() {
            // No bound: the longest time that a person would wait.
            Some("0") => ready.put("timeout", build::text(app.at, "1d")),
            _ => ready.put("timeout", ms(start, START_MS)),
        }
        service.put_table("ready", ready);
        if program.listens {
            let mut timeouts = Table::new(app.at);
            timeouts
                .put("first_byte", ms(root.any(&["applicationTimeout", "serviceTimeout"]), FIRST_BYTE_MS));
            service.put_table("timeouts", timeouts);
        }
        if let Some(shutdown) = root.get("gracefulShutdown")
            && let Some(entry) = self.open(&SHUTDOWN, &shutdown.node).any(&["application", "service"])
        {
            let mut stop = Table::new(entry.key.span);
            stop.put("grace", ms(Some(entry), "10000"));
            service.put_table("stop", stop);
        }
    }

    /// `health`, where it is written and there is a loader that answers.
    fn health(&self, app: &Application, program: &Program, root: Opened<'_>) -> Option<Rc<Node>> {
        let own = self.open_entry(app).get("health");
        let written = own.or_else(|| root.get("health"))?;
        let opened = self.open(&HEALTH, &written.node);
        if opened.get("enabled").is_some_and(|entry| !self.is_true(&entry.node, &app.outer)) {
            return None;
        }
        if !(program.is_loaded && program.listens) {
            if own.is_some() {
                let message =
                    "`health` is not taken over: write `health: { http: … }` for this program in a watt.yaml";
                self.warn(written.key.span, message);
            }
            return None;
        }
        let at = written.key.span;
        let mut health = Table::new(at);
        health.put("http", build::text(at, HEALTH_PATH));
        let interval = opened.get("interval").and_then(|entry| self.milliseconds(&entry.node, &app.outer));
        health
            .put("interval", interval.unwrap_or_else(|| build::text(at, format!("{HEALTH_INTERVAL_MS}ms"))));
        let failures = opened.get("maxUnhealthyChecks").map(|entry| self.carry(&entry.node, &app.outer));
        health.put("failures", failures.unwrap_or_else(|| build::plain(at, HEALTH_FAILURES)));
        Some(health.node())
    }

    /// The largest heap, in megabytes.
    pub(super) fn heap(&self, app: &Application, root: Opened<'_>) -> Option<u64> {
        let written = self.open_entry(app).get("health").or_else(|| root.get("health"))?;
        let entry = self.open(&HEALTH, &written.node).get("maxHeapTotal")?;
        let text = self.say(&entry.node, &app.outer)?;
        let bytes = bytes(&text);
        if bytes.is_none() {
            let problem = crate::report::Problem::new(entry.node.span, format!("{text:?} is not a size"));
            self.problem(problem.hint("write a number of bytes, or one such as `512MB`"));
        }
        Some((bytes? >> 20).max(1))
    }

    /// `false` and `0` are never; a number is how long to wait.
    fn restart(&self, node: &Node, scope: &Scope) -> Option<Rc<Node>> {
        let text = self.say(node, scope)?;
        let mut restart = Table::new(node.span);
        match text.as_str() {
            "true" => return None,
            "false" | "0" => restart.put("policy", build::plain(node.span, "never")),
            number => {
                let mut backoff = Table::new(node.span);
                backoff.put("first", build::text(node.span, format!("{}ms", escaped(number))));
                restart.put_table("backoff", backoff);
            }
        }
        Some(restart.node())
    }

    /// Says of an application without a program what is written for one.
    pub(super) fn without_program(&self, app: &Application) {
        let entry = self.open_entry(app);
        for key in ["workers", "health", "restartOnError", "arguments", "execArgv", "nodeOptions"] {
            if let Some(entry) = entry.get(key) {
                self.warn(
                    entry.key.span,
                    format!("`{key}` does nothing for `{}`, which is routes here and no program", app.id),
                );
            }
        }
    }
}

/// A service's name in the mesh, which has no capitals; Platformatic's names are the same in either.
pub(super) fn service_name(id: &str) -> String {
    id.to_ascii_lowercase()
}

/// Whether watt sets a variable itself.
fn is_watts(name: &str) -> bool {
    const SET: [&str; 8] = [
        "PORT",
        "LISTEN_FDS",
        "LISTEN_FDNAMES",
        "LISTEN_PID",
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "STATE_DIRECTORY",
        "CREDENTIALS_DIRECTORY",
    ];
    SET.contains(&name) || name.starts_with("WATT_")
}

/// `4GB` in bytes, as Platformatic reads it.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..end].parse().ok()?;
    let shift = match text[end..].trim().to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" => 10,
        "M" | "MB" => 20,
        "G" | "GB" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// The ports of `localhost:5432` and the like in a text.
fn ports_of_localhost(text: &str) -> Vec<u16> {
    let mut ports = Vec::new();
    for host in ["localhost:", "127.0.0.1:", "[::1]:"] {
        for (at, _) in text.match_indices(host) {
            let rest = &text[at + host.len()..];
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            ports.extend(rest[..end].parse::<u16>().ok().filter(|port| *port > 0));
        }
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("4GB", Some(4 << 30)),
            ("512 MB", Some(512 << 20)),
            ("1024", Some(1024)),
            ("x", None),
            ("1TB", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn ports_of_the_host() {
        assert_eq!(ports_of_localhost("postgres://u:p@localhost:5432/db"), [5432]);
        assert_eq!(ports_of_localhost("redis://127.0.0.1:6379,127.0.0.1:6380"), [6379, 6380]);
        assert_eq!(ports_of_localhost("http://localhost/ localhost:0 example.org:80"), [0_u16; 0]);
    }
}
