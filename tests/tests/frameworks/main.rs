//! Frameworks of every language, as their own documentation has them started, run in the sandboxes `standard` and `strict`: nothing of
//! them is changed for watt. What comes of each is docs/frameworks.md; `WATT_BLESS=1` writes it anew.
//!
//! They are a gigabyte from four archives, so that only `--ignored` tries them.

mod page;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use watt_tests::{App, User, is_root, printed, repository};

/// One of them.
struct Framework {
    name: &'static str,
    /// The folder of `cases/frameworks` that it runs in.
    folder: &'static str,
    command: &'static str,
    /// What its command line needs, or says of itself.
    env: &'static [(&'static str, &'static str)],
}

const fn of(name: &'static str, folder: &'static str, command: &'static str) -> Framework {
    Framework { name, folder, command, env: &[] }
}

const RUBY: [(&str, &str); 2] = [
    (
        "RUBYLIB",
        "../debian/usr/lib/ruby/vendor_ruby:../debian/usr/lib/x86_64-linux-gnu/ruby/vendor_ruby/3.1.0",
    ),
    (
        "GEM_PATH",
        "../debian/usr/share/rubygems-integration/all:../debian/usr/share/rubygems-integration/3.1.0:../debian/usr/lib/x86_64-linux-gnu/rubygems-integration/3.1.0:/usr/share/rubygems-integration/all",
    ),
];
const PERL: [(&str, &str); 1] =
    [("PERL5LIB", "../debian/usr/share/perl5:../debian/usr/lib/x86_64-linux-gnu/perl5/5.36")];

/// All of them, by language.
const FRAMEWORKS: [Framework; 38] = [
    of("express", "node", "node express.js"),
    of("koa", "node", "node koa.js"),
    of("hapi", "node", "node hapi.js"),
    of("hono", "node", "node hono.mjs"),
    of("fastify", "node", "node fastify.js"),
    of("nest", "node", "node nest.js"),
    of("next", "node", "node node_modules/next/dist/bin/next start"),
    Framework {
        // It refuses other names than localhost.
        env: &[("__VITE_ADDITIONAL_SERVER_ALLOWED_HOSTS", ".plt.local")],
        ..of("vite", "node", "node node_modules/vite/bin/vite.js --port 8080")
    },
    of("nitro", "node", "node .output/server/index.mjs"),
    of("bun", "node", "node_modules/bun/bin/bun.exe bun.ts"),
    of("deno", "node", "node_modules/deno/deno serve --port 8080 deno.ts"),
    of("chromium", "node", "node browser.js"),
    of("fastapi", "python", "venv/bin/uvicorn asgi:fast --port 8080"),
    of("fastapi-workers", "python", "venv/bin/uvicorn asgi:fast --port 8080 --workers 2"),
    of("starlette", "python", "venv/bin/hypercorn asgi:star --bind 0.0.0.0:8080"),
    of("litestar", "python", "venv/bin/granian --interface asgi asgi:lite --port 8080"),
    of("flask", "python", "venv/bin/flask --app wsgi run --port 8080"),
    of("flask-gunicorn", "python", "venv/bin/gunicorn wsgi:app --bind :8080 --workers 2"),
    of("flask-waitress", "python", "venv/bin/waitress-serve --port 8080 wsgi:app"),
    of("flask-granian", "python", "venv/bin/granian --interface wsgi wsgi:app --port 8080"),
    of("django", "python", "venv/bin/python manage.py runserver 8080"),
    of("django-gunicorn", "python", "venv/bin/gunicorn manage:app --bind :8080"),
    of("starlette-daphne", "python", "venv/bin/daphne --port 8080 asgi:star"),
    of("aiohttp", "python", "venv/bin/python of_aiohttp.py"),
    of("tornado", "python", "venv/bin/python of_tornado.py"),
    of("sanic", "python", "venv/bin/sanic of_sanic:app --port 8080"),
    of("sanic-workers", "python", "venv/bin/sanic of_sanic:app --port 8080 --workers 2"),
    of("twisted", "python", "venv/bin/python of_twisted.py"),
    Framework { env: &RUBY, ..of("sinatra-puma", "ruby", "ruby ../debian/usr/bin/puma --port 8080") },
    Framework {
        env: &RUBY,
        ..of("sinatra-puma-workers", "ruby", "ruby ../debian/usr/bin/puma --port 8080 --workers 2")
    },
    Framework { env: &RUBY, ..of("sinatra-unicorn", "ruby", "ruby ../debian/usr/bin/unicorn --port 8080") },
    Framework { env: &RUBY, ..of("sinatra-thin", "ruby", "ruby ../debian/usr/bin/thin start --port 8080") },
    Framework {
        env: &RUBY,
        ..of("sinatra-webrick", "ruby", "ruby ../debian/usr/bin/rackup --server webrick --port 8080")
    },
    of("php", "php", "php -S 0.0.0.0:8080"),
    Framework { env: &PERL, ..of("starman", "perl", "perl ../debian/usr/bin/starman --port 8080 app.psgi") },
    of("java", "java", "java Hello"),
    of(
        "tomcat",
        "java",
        "java -cp .:../debian/usr/share/java/tomcat10-embed-core.jar:../debian/usr/share/java/tomcat10-annotations-api.jar OfTomcat",
    ),
    of("go", "go", "./hello"),
];

/// How long one may be on its way. They start at once, and some compile.
const PATIENCE: Duration = Duration::from_secs(240);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Setting {
    profile: &'static str,
    user: User,
}

const SETTINGS: [Setting; 4] = [
    Setting { profile: "standard", user: User::Root },
    Setting { profile: "standard", user: User::Ordinary },
    Setting { profile: "strict", user: User::Root },
    Setting { profile: "strict", user: User::Ordinary },
];

/// What came of all: why one did not answer, or nothing.
type Outcomes = BTreeMap<(&'static str, Setting), Result<(), String>>;

#[test]
#[ignore = "fetches a gigabyte of frameworks"]
fn frameworks_run_as_they_are() {
    let folder = fetched();
    let mut outcomes = Outcomes::new();
    for setting in SETTINGS.into_iter().filter(|setting| is_root() || setting.user == User::Ordinary) {
        give_to(&folder, setting.user);
        let found = run_all(&folder, setting);
        outcomes.extend(found.into_iter().map(|(name, outcome)| ((name, setting), outcome)));
    }
    let page = page::write(&outcomes);
    println!("{page}");
    if std::env::var_os("WATT_BLESS").is_some() {
        assert!(is_root(), "the page has what root's do, too");
        std::fs::write(page_path(), &page).expect("docs can be written");
    }
    let kept = page::running(&std::fs::read_to_string(page_path()).expect("the page is there"));
    let lost: Vec<_> = outcomes
        .iter()
        .filter(|((name, setting), outcome)| {
            outcome.is_err() && kept.contains(&((*name).to_owned(), *setting))
        })
        .collect();
    assert!(lost.is_empty(), "run according to docs/frameworks.md: {lost:#?}");
}

/// `standard` is the default, so that everything has to run in it.
#[test]
fn the_page_has_all_of_them_and_standard_runs_each() {
    let kept = page::running(&std::fs::read_to_string(page_path()).expect("the page is there"));
    for framework in &FRAMEWORKS {
        for setting in SETTINGS.into_iter().filter(|setting| setting.profile == "standard") {
            assert!(
                kept.contains(&(framework.name.to_owned(), setting)),
                "{} in {setting:?}",
                framework.name
            );
        }
    }
}

fn page_path() -> PathBuf {
    repository().join("docs/frameworks.md")
}

/// Who runs a framework owns its folder, as at home, where nobody has run it yet.
fn give_to(folder: &Path, user: User) {
    let _ = std::fs::remove_dir_all(folder.join("node/node_modules/.vite"));
    if is_root() {
        let owner = if user == User::Root { "root" } else { "nobody" };
        let output = Command::new("chown").args(["-R", owner]).arg(folder).output().expect("chown runs");
        assert!(output.status.success(), "{}", printed(&output));
    }
}

/// Where they are.
fn fetched() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("frameworks");
    let output = Command::new(repository().join("tests/cases/frameworks/fetch")).arg(&folder).output();
    let output = output.expect("bash runs");
    assert!(output.status.success(), "{}", printed(&output));
    folder
}

/// Starts each in an application of its own language and asks it once.
fn run_all(folder: &Path, setting: Setting) -> BTreeMap<&'static str, Result<(), String>> {
    let mut languages: BTreeMap<&str, Vec<&Framework>> = BTreeMap::new();
    for framework in &FRAMEWORKS {
        languages.entry(framework.folder).or_default().push(framework);
    }
    let run = |frameworks: &Vec<&'static Framework>| run_some(folder, setting, frameworks);
    languages.values().flat_map(run).collect()
}

fn run_some(
    folder: &Path,
    setting: Setting,
    frameworks: &[&'static Framework],
) -> Vec<(&'static str, Result<(), String>)> {
    let app = App::yaml(&configuration(folder, setting, frameworks), setting.user);
    app.pass_through();
    app.run(&["up", "-d"]);
    let ask = |framework: &&'static Framework| (framework.name, answered(&app, framework.name));
    let outcomes = frameworks.iter().map(ask).collect();
    app.down();
    outcomes
}

fn configuration(folder: &Path, setting: Setting, frameworks: &[&Framework]) -> String {
    let mut text = format!("sandbox: {}\nserver: {{ port: 0 }}\nservices:\n", setting.profile);
    for Framework { name, folder: own, command, env } in frameworks {
        let env: String = env.iter().map(|(key, value)| format!("{key}: {value:?}, ")).collect();
        let path = folder.join(own).display().to_string();
        text.push_str(&format!(
            "  {name}: {{ path: {path:?}, command: {command:?}, env: {{ {env} }}, ready: {{ timeout: 120s }} }}\n"
        ));
    }
    text.push_str("gateway:\n  routes:\n");
    for Framework { name, .. } in frameworks {
        text.push_str(&format!("    - {{ path: /{name}, service: {name}, strip: true }}\n"));
    }
    text
}

/// Whether it says hello; else why not.
fn answered(app: &App, name: &str) -> Result<(), String> {
    let started = Instant::now();
    loop {
        let (status, body) = app.get(&format!("/{name}/"));
        if status == 200 && body.contains("hello from") {
            return Ok(());
        }
        let service = app.service(name);
        let is_coming = ["waiting", "starting", "backoff"].iter().any(|state| service["state"] == *state);
        if !is_coming || started.elapsed() > PATIENCE {
            return Err(format!("{status} {body}\n{service}\n{}", app.ok(&["logs", name, "--tail", "20"])));
        }
        // Between two questions only; the condition decides.
        std::thread::park_timeout(Duration::from_millis(200));
    }
}
