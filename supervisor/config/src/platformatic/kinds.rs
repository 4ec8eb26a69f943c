//! What kind of program an application is, and how it is started.

use std::{
    path::{Path, PathBuf},
    rc::Rc,
};

use serde_json::{Value as Json, json};

use super::{
    For, LOADER_FILE, NODE_LOADER,
    applications::Application,
    braces::escaped,
    build,
    keys::{BUILDABLE, COMMANDS, NODE, OUTPUT, PYTHON, SERVICE_FILE, VITE},
    names::{self, FileKind},
    translate::{Opened, Translator},
};
use crate::{report::Problem, scalar::quote, tree::Node};

/// What is first found among the dependencies of a `package.json` says what an application is. The order is Platformatic's: Vite is
/// part of most of the others.
const BY_DEPENDENCY: [(&str, &str); 19] = [
    ("@nestjs/core", "nest"),
    ("next", "next"),
    ("@remix-run/dev", "remix"),
    ("astro", "astro"),
    ("@react-router/dev", "react-router"),
    ("nuxt", "nuxt"),
    ("@tanstack/react-start", "tanstack"),
    ("nitro", "nitro"),
    ("nitropack", "nitro"),
    ("vite", "vite"),
    ("@platformatic/gateway", "gateway"),
    ("@platformatic/composer", "gateway"),
    ("@platformatic/service", "service"),
    ("@platformatic/db", "db"),
    ("@platformatic/php", "php"),
    ("@platformatic/ai-warp", "ai-warp"),
    ("@platformatic/pg-hooks", "pg-hooks"),
    ("@platformatic/rabbitmq-hooks", "rabbitmq-hooks"),
    ("@platformatic/kafka-hooks", "kafka-hooks"),
];

/// Those whose own file is read here. Files of others are read by the package that they name, whose keys are its own.
const OWN_KINDS: [&str; 14] = [
    "node",
    "next",
    "vite",
    "astro",
    "remix",
    "react-router",
    "nuxt",
    "nitro",
    "tanstack",
    "nest",
    "python",
    "php",
    "gateway",
    "composer",
];

/// Where `package.json` may say what a package's program is, in the order it is looked for.
const MAIN_FIELDS: [&[&str]; 10] = [
    &["main"],
    &["exports"],
    &["exports", "node"],
    &["exports", "import"],
    &["exports", "require"],
    &["exports", "default"],
    &["exports", ".", "node"],
    &["exports", ".", "import"],
    &["exports", ".", "require"],
    &["exports", ".", "default"],
];

/// What a program's file is called where nothing says it.
const MAIN_NAMES: [&str; 9] =
    ["index", "main", "app", "application", "server", "start", "bundle", "run", "entrypoint"];

/// How far up modules are looked for.
const FOLDERS_UP_MAX: usize = 16;

/// What is evaluated in place of a program: it compiles the loader, which is in a variable, under a name that is good to read in traces.
const EVALUATE: &str =
    r#"new(require("module"))("watt")._compile(process.env.WATT_NODE_LOADER,"watt-node.cjs")"#;

/// What an application is.
#[derive(Debug)]
pub(super) enum Kind {
    /// A program.
    Program(Program),
    /// Routes, and no program.
    Gateway,
}

/// How a program is started, and what it is asked for.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) command: Rc<Node>,
    /// Variables that it needs.
    pub(super) env: Vec<(&'static str, String)>,
    pub(super) listens: bool,
    /// Whether the loader starts it, which answers for its event loop.
    pub(super) is_loaded: bool,
    /// Where it says itself that it is.
    pub(super) base: Option<String>,
    /// Whether its requests come with their public path.
    pub(super) is_absolute: bool,
}

/// An application's own file, its tables opened.
struct OwnFile<'n> {
    top: Opened<'n>,
    buildable: Opened<'n>,
    commands: Opened<'n>,
    node: Opened<'n>,
    vite: Opened<'n>,
    output: Opened<'n>,
    python: Opened<'n>,
}

impl Translator<'_> {
    /// What an application is. `None` when that cannot be told, or it cannot be started, which is noted.
    pub(super) fn kind(&self, app: &Application, root: Opened<'_>) -> Option<Kind> {
        let name = self.package_name(app)?;
        let empty = Rc::new(Node::table(app.at, Vec::new()));
        let tree = app.file.as_ref().map_or(&empty, |(_, tree)| tree);
        let top = match OWN_KINDS.contains(&name.as_str()) {
            true => self.open(&SERVICE_FILE, tree),
            false => self.open_shared(tree),
        };
        let own = self.own_file(top);
        match name.as_str() {
            "gateway" | "composer" => return Some(Kind::Gateway),
            _ if own.commands.get("production").is_some() => {}
            _ => return self.program(&name, app, &own, root).map(Kind::Program),
        }
        let mut program = self.own_command(&own, app)?;
        self.set_public(&mut program, &name, &own, app);
        Some(Kind::Program(program))
    }

    /// `node` of `@platformatic/node`; the whole name of somebody else's package.
    fn package_name(&self, app: &Application) -> Option<String> {
        if let Some((path, tree)) = &app.file {
            return match names::kind_of(tree) {
                Some(FileKind::Application(package)) => Some(short(&package)),
                Some(FileKind::Root) if *path == self.sources.file => None,
                Some(FileKind::Root) => {
                    let problem = Problem::new(tree.span, format!("{} is a project of its own", quote(&app.id)));
                    self.problem(problem.hint("a project cannot be an application of another one: list its applications"));
                    None
                }
                None => self.detected(app).or_else(|| {
                    let message = format!("{} does not say what it is for", path.display());
                    let problem = Problem::new(tree.span, message);
                    self.problem(problem.hint("write `\"$schema\": \"https://schemas.platformatic.dev/@platformatic/node/3.0.0.json\"`, or `\"module\": \"@platformatic/node\"`"));
                    None
                }),
            };
        }
        self.detected(app).or_else(|| {
            let message = format!("cannot tell what kind of program {} is", quote(&app.id));
            let hint = format!(
                "{} has no package.json with dependencies that say it, and no file of JavaScript; write a watt.json there",
                app.folder.display()
            );
            self.problem(Problem::new(app.at, message).hint(hint));
            None
        })
    }

    /// By its dependencies, or because it has a program's file.
    fn detected(&self, app: &Application) -> Option<String> {
        let package = self.package(&app.folder);
        let depends =
            |name: &str| ["dependencies", "devDependencies"].iter().any(|key| package[key][name].is_string());
        if let Some((_, kind)) = BY_DEPENDENCY.iter().find(|(name, _)| depends(name)) {
            return Some((*kind).to_owned());
        }
        let is_script =
            |name: &str| [".js", ".mjs", ".cjs", ".ts", ".mts"].iter().any(|end| name.ends_with(end));
        let names = self.view.folder(&app.folder).unwrap_or_default();
        let has_script = names.iter().any(|(name, is_folder)| !is_folder && is_script(name));
        (has_script || main_of(&package).is_some()).then(|| "node".to_owned())
    }

    fn own_file<'n>(&self, top: Opened<'n>) -> OwnFile<'n> {
        let table = |keys, names: &[&str]| match top.any(names) {
            Some(entry) => self.open(keys, &entry.node),
            None => Opened::empty(top.span),
        };
        let buildable = table(&BUILDABLE, &["application"]);
        let commands = match buildable.get("commands") {
            Some(entry) => self.open(&COMMANDS, &entry.node),
            None => Opened::empty(top.span),
        };
        OwnFile {
            top,
            buildable,
            commands,
            node: table(&NODE, &["node"]),
            vite: table(&VITE, &["vite"]),
            output: table(&OUTPUT, &["next", "astro", "remix", "reactRouter", "nuxt", "nitro"]),
            python: table(&PYTHON, &["python", "php"]),
        }
    }

    fn program(&self, name: &str, app: &Application, own: &OwnFile<'_>, root: Opened<'_>) -> Option<Program> {
        let output = |default: &str| {
            let written = own.output.get("outputDirectory").or_else(|| own.buildable.get("outputDirectory"));
            written.and_then(|entry| self.say(&entry.node, &app.scope)).unwrap_or_else(|| default.to_owned())
        };
        let mut program = match name {
            "node" => self.node(app, own, root)?,
            "next"
                if own
                    .output
                    .get("standalone")
                    .is_some_and(|entry| self.is_true(&entry.node, &app.scope)) =>
            {
                self.built(app, ".next/standalone/server.js", root)?
            }
            "next" => {
                self.needs(app, ".next")?;
                self.of_package(app, "next", "dist/bin/next", &["start"], root)?
            }
            "nuxt" | "tanstack" => {
                self.built(app, &format!("{}/server/index.mjs", output(".output")), root)?
            }
            "nitro" => {
                let entry = own.output.get("entrypoint").and_then(|entry| self.say(&entry.node, &app.scope));
                let entry = entry.unwrap_or_else(|| "server/index.mjs".to_owned());
                self.built(app, &format!("{}/{entry}", output(".output")), root)?
            }
            "astro" => match self.view.is_there(&app.folder.join(output("dist")).join("server/entry.mjs")) {
                true => self.built(app, &format!("{}/server/entry.mjs", output("dist")), root)?,
                false => self.files(app, own, &output("dist"), root)?,
            },
            "vite" => self.vite(app, own, &output("dist"), root)?,
            "remix" => {
                let built = format!("{}/server/index.js", output("build"));
                self.needs(app, &built)?;
                self.of_package(app, "@remix-run/serve", "dist/cli.js", &[&built], root)?
            }
            "react-router" => {
                let built = format!("{}/server/index.js", output("build"));
                self.needs(app, &built)?;
                self.of_package(app, "@react-router/serve", "bin.js", &[&built], root)?
            }
            "nest" => {
                self.needs(app, "dist/main.js")?;
                self.loaded(app, json!({ "main": "dist/main.js" }), root)
            }
            "python" => self.python(app, own)?,
            "php" => self.php(app, own),
            other => self.of_capability(app, other, root)?,
        };
        self.set_public(&mut program, name, own, app);
        Some(program)
    }

    /// Where it is for clients, as it says itself.
    fn set_public(&self, program: &mut Program, name: &str, own: &OwnFile<'_>, app: &Application) {
        let base = own.buildable.get("basePath").or_else(|| own.top.get("basePath"));
        program.base = base.and_then(|entry| self.say(&entry.node, &app.scope)).map(|text| slashed(&text));
        program.is_absolute = match name {
            "node" => own.node.get("absoluteUrl").is_some_and(|entry| self.is_true(&entry.node, &app.scope)),
            "next" | "nuxt" | "tanstack" | "astro" | "vite" | "remix" | "react-router" | "nitro" => {
                program.base.is_some()
            }
            _ => false,
        };
    }

    /// A service of Node.js: what its file or `package.json` says, or what has a usual name.
    fn node(&self, app: &Application, own: &OwnFile<'_>, root: Opened<'_>) -> Option<Program> {
        let has_server = own.node.get("hasServer").is_none_or(|entry| self.is_true(&entry.node, &app.scope));
        let written = own.node.get("main").and_then(|entry| self.say(&entry.node, &app.scope));
        let package = self.package(&app.folder);
        let main = written.or_else(|| main_of(&package)).or_else(|| self.main_by_name(app));
        let Some(main) = main else {
            if package["scripts"]["start"].is_string() {
                let command = ["npm", "start"].map(|word| build::text(app.at, word)).to_vec();
                return Some(Program::of(build::list(app.at, command)));
            }
            let problem =
                Problem::new(app.at, format!("{} has no program that could be started", quote(&app.id)));
            self.problem(problem.hint("write `main` into its package.json, or `\"node\": { \"main\": \"server.js\" }` into its watt.json"));
            return None;
        };
        let base = own.buildable.get("basePath").and_then(|entry| self.say(&entry.node, &app.scope));
        let settings =
            json!({ "main": main, "hasServer": has_server, "base": base.map(|base| slashed(&base)) });
        let mut program = self.loaded(app, settings, root);
        program.listens = has_server;
        Some(program)
    }

    fn main_by_name(&self, app: &Application) -> Option<String> {
        let files = MAIN_NAMES
            .iter()
            .flat_map(|name| ["js", "mjs", "cjs", "ts", "mts"].map(|end| format!("{name}.{end}")));
        files.into_iter().find(|file| self.view.is_there(&app.folder.join(file)))
    }

    fn vite(&self, app: &Application, own: &OwnFile<'_>, output: &str, root: Opened<'_>) -> Option<Program> {
        let Some(entry) = own.vite.get("ssr").filter(|entry| !is_false(&entry.node)) else {
            return self.files(app, own, output, root);
        };
        let said = |key: &str, default: &str| {
            let found = member(&entry.node, key).and_then(|node| self.say(node, &app.scope));
            found.unwrap_or_else(|| default.to_owned())
        };
        if member(&entry.node, "enabled").is_some_and(|node| !self.is_true(node, &app.scope)) {
            return self.files(app, own, output, root);
        }
        let main =
            format!("{output}/{}/{}", said("serverDirectory", "server"), said("entrypoint", "server.js"));
        self.needs(app, &main)?;
        Some(self.loaded(app, json!({ "main": main }), root))
    }

    /// Files that were built, which the loader serves.
    fn files(&self, app: &Application, own: &OwnFile<'_>, output: &str, root: Opened<'_>) -> Option<Program> {
        self.needs(app, output)?;
        let not_found = own.vite.get("notFoundHandler").map(|entry| {
            let said = |key: &str| member(&entry.node, key).and_then(|node| self.say(node, &app.scope));
            json!({
                "path": said("path").unwrap_or_else(|| "index.html".to_owned()),
                "status": said("statusCode").and_then(|text| text.parse::<u16>().ok()).unwrap_or(200),
            })
        });
        let base = own.buildable.get("basePath").and_then(|entry| self.say(&entry.node, &app.scope));
        let base = base.map(|base| slashed(&base)).filter(|base| base != "/");
        Some(self.loaded(app, json!({ "files": output, "base": base, "notFound": not_found }), root))
    }

    /// What a framework has built, which is a program of its own.
    fn built(&self, app: &Application, file: &str, root: Opened<'_>) -> Option<Program> {
        self.needs(app, file)?;
        let mut program = self.node_program(app, &[file.to_owned()], root);
        program.env.push(("HOST", "127.0.0.1".to_owned()));
        program.env.push(("HOSTNAME", "127.0.0.1".to_owned()));
        Some(program)
    }

    /// The program of a package in the project's `node_modules`.
    fn of_package(
        &self,
        app: &Application,
        package: &str,
        program: &str,
        arguments: &[&str],
        root: Opened<'_>,
    ) -> Option<Program> {
        let module = self.module(app, package)?;
        let words = std::iter::once(format!("{module}/{program}"))
            .chain(arguments.iter().map(|word| (*word).to_owned()));
        let mut program = self.node_program(app, &words.collect::<Vec<_>>(), root);
        program.env.push(("HOST", "127.0.0.1".to_owned()));
        Some(program)
    }

    /// An application whose code is a package: `@platformatic/service`, `@platformatic/db`, or somebody's own.
    fn of_capability(&self, app: &Application, name: &str, root: Opened<'_>) -> Option<Program> {
        let package = if name.contains('/') { name.to_owned() } else { format!("@platformatic/{name}") };
        self.module(app, &package)?;
        let file = app.file.as_ref().map(|(path, _)| relative(path, &app.folder));
        Some(self.loaded(app, json!({ "package": package, "config": file }), root))
    }

    fn python(&self, app: &Application, own: &OwnFile<'_>) -> Option<Program> {
        let target = own.python.get("appTarget").and_then(|entry| self.say(&entry.node, &app.scope));
        let target = target.unwrap_or_else(|| "main:app".to_owned());
        let mut words = vec!["python3", "-m", "uvicorn", &target, "--host", "127.0.0.1", "--port", "{port}"];
        let folder = own.python.get("docroot").and_then(|entry| self.say(&entry.node, &app.scope));
        if let Some(folder) = &folder {
            words.extend(["--app-dir", folder]);
        }
        self.warn(
            app.at,
            format!("{} runs with the uvicorn of python3, not inside of Node.js", quote(&app.id)),
        );
        Some(Program::of(build::list(
            app.at,
            words.into_iter().map(|word| build::text(app.at, word)).collect(),
        )))
    }

    fn php(&self, app: &Application, own: &OwnFile<'_>) -> Program {
        let folder = own.python.get("docroot").and_then(|entry| self.say(&entry.node, &app.scope));
        let folder = folder.unwrap_or_else(|| "public".to_owned());
        self.warn(
            app.at,
            format!(
                "{} runs with `php -S`, which PHP has for development: put php-fpm behind a server for more",
                quote(&app.id)
            ),
        );
        let words = ["php", "-S", "127.0.0.1:{port}", "-t", &folder].map(|word| build::text(app.at, word));
        Program::of(build::list(app.at, words.to_vec()))
    }

    /// `application.commands.production`. Programs in `node_modules/.bin` are found, as with npm.
    fn own_command(&self, own: &OwnFile<'_>, app: &Application) -> Option<Program> {
        let node = &own.commands.get("production")?.node;
        let text = super::translate::scalar(node)?;
        let text = self.written(&text, &app.scope);
        let (first, rest) = text.split_once(' ').map_or((text.as_str(), ""), |(first, rest)| (first, rest));
        let local = (!first.contains('/'))
            .then(|| self.upwards(&app.folder, &format!("node_modules/.bin/{first}")))
            .flatten();
        let text = match local {
            Some(path) => format!("{} {rest}", escaped(&path)).trim_end().to_owned(),
            None => text,
        };
        // `node` alone would be looked for in the service's folder.
        let mut program = Program::of(build::text(node.span, text));
        program.env.push(("HOST", "127.0.0.1".to_owned()));
        Some(program)
    }

    /// A program that the loader starts.
    fn loaded(&self, app: &Application, mut settings: Json, root: Opened<'_>) -> Program {
        let entrypoint = root.get("entrypoint").and_then(|entry| self.say(&entry.node, &app.outer));
        settings["isEntrypoint"] = (entrypoint.as_deref() == Some(&app.id)).into();
        let arguments =
            self.open_entry(app).get("arguments").map(|entry| self.texts(&entry.node, &app.outer));
        let shown = settings["main"].as_str().or(settings["files"].as_str()).or(settings["package"].as_str());
        let words =
            std::iter::once(shown.unwrap_or_default().to_owned()).chain(arguments.unwrap_or_default());
        let first = match self.purpose {
            For::Running => vec!["--eval".to_owned(), EVALUATE.to_owned(), "--".to_owned()],
            For::Writing => vec![],
        };
        let mut command = vec![build::text(app.at, "node")];
        command.extend(self.node_flags(app, root));
        command.extend(first.into_iter().map(|word| build::text(app.at, escaped(&word))));
        if self.purpose == For::Writing {
            command.push(build::text(app.at, format!("{{WATT_ROOT}}/{LOADER_FILE}")));
        }
        command.extend(words.map(|word| build::text(app.at, escaped(&word))));
        let mut program = Program::of(build::list(app.at, command));
        program.is_loaded = true;
        program.env.push(("WATT_NODE", escaped(&settings.to_string())));
        if self.purpose == For::Running {
            program.env.push(("WATT_NODE_LOADER", escaped(NODE_LOADER)));
        }
        program
    }

    /// A program of Node.js that needs no loader.
    fn node_program(&self, app: &Application, words: &[String], root: Opened<'_>) -> Program {
        let arguments =
            self.open_entry(app).get("arguments").map(|entry| self.texts(&entry.node, &app.outer));
        let mut command = vec![build::text(app.at, "node")];
        command.extend(self.node_flags(app, root));
        let words = words.iter().cloned().chain(arguments.unwrap_or_default());
        command.extend(words.map(|word| build::text(app.at, escaped(&word))));
        Program::of(build::list(app.at, command))
    }

    /// What is before the program.
    fn node_flags(&self, app: &Application, root: Opened<'_>) -> Vec<Rc<Node>> {
        let entry = self.open_entry(app);
        let mut flags = Vec::new();
        let is_mapped = entry.get("sourceMaps").or_else(|| root.get("sourceMaps"));
        if is_mapped.is_some_and(|entry| self.is_true(&entry.node, &app.outer)) {
            flags.push(build::text(app.at, "--enable-source-maps"));
        }
        for preload in [root.get("preload"), entry.get("preload")].into_iter().flatten() {
            for module in self.texts(&preload.node, &app.outer) {
                let is_path = module.starts_with('.') || module.starts_with('/');
                let module =
                    if is_path { self.root.join(&module).to_string_lossy().into_owned() } else { module };
                flags.push(build::text(preload.node.span, "--import"));
                flags.push(build::text(preload.node.span, escaped(&module)));
            }
        }
        if let Some(megabytes) = self.heap(app, root) {
            flags.push(build::text(app.at, format!("--max-old-space-size={megabytes}")));
        }
        if let Some(arguments) = entry.get("execArgv") {
            let texts = self.texts(&arguments.node, &app.outer).into_iter();
            flags.extend(texts.map(|text| build::text(arguments.node.span, escaped(&text))));
        }
        flags
    }

    /// That something was built.
    fn needs(&self, app: &Application, path: &str) -> Option<()> {
        if self.view.is_there(&app.folder.join(path)) {
            return Some(());
        }
        let message = format!("{} is not built: {path} is not in {}", quote(&app.id), app.folder.display());
        if self.purpose == For::Writing {
            self.warn(app.at, message);
            return Some(());
        }
        self.problem(Problem::new(app.at, message).hint("run `npm run build` there, and then `wattctl up`"));
        None
    }

    /// A package in `node_modules`, from the application's folder.
    fn module(&self, app: &Application, package: &str) -> Option<String> {
        if let Some(path) = self.upwards(&app.folder, &format!("node_modules/{package}")) {
            return Some(path);
        }
        let message =
            format!("{} needs the package {}, which is not installed", quote(&app.id), quote(package));
        if self.purpose == For::Writing {
            self.warn(app.at, message);
            return Some(format!("node_modules/{package}"));
        }
        let hint = format!("run `npm install` in {}", app.folder.display());
        self.problem(Problem::new(app.at, message).hint(hint));
        None
    }

    /// The nearest of a path in this folder and those above it, from this folder.
    fn upwards(&self, folder: &Path, path: &str) -> Option<String> {
        let mut up = String::new();
        for folder in folder.ancestors().take(FOLDERS_UP_MAX) {
            if self.view.is_there(&folder.join(path)) {
                return Some(format!("{up}{path}"));
            }
            up.push_str("../");
        }
        None
    }
}

impl Program {
    fn of(command: Rc<Node>) -> Program {
        Program { command, env: Vec::new(), listens: true, is_loaded: false, base: None, is_absolute: false }
    }
}

/// The program of a package, as its `package.json` has it.
fn main_of(package: &Json) -> Option<String> {
    MAIN_FIELDS.iter().find_map(|field| {
        let value = field.iter().fold(package, |value, name| &value[*name]);
        value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
    })
}

/// A key of a table.
pub(super) fn member<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    match &node.value {
        crate::tree::Value::Map(entries) => {
            entries.iter().find(|entry| entry.key.text == key).map(|entry| entry.node.as_ref())
        }
        _ => None,
    }
}

fn is_false(node: &Node) -> bool {
    super::translate::scalar(node).is_some_and(|text| text == "false")
}

/// `/api` of `api`, `/api` and `/api/`; `/` of nothing.
pub(super) fn slashed(path: &str) -> String {
    format!("/{}", path.trim_matches('/'))
}

fn short(package: &str) -> String {
    package.strip_prefix("@platformatic/").unwrap_or(package).to_owned()
}

fn relative(path: &Path, folder: &Path) -> PathBuf {
    path.strip_prefix(folder).unwrap_or(path).to_owned()
}
