//! The keys of Platformatic's files, and what each becomes here. The one list: files are read along it, and docs/platformatic.md is printed
//! from it.

/// A table of one of the files.
#[derive(Debug)]
pub(super) struct Keys {
    /// Where it is, as users say it.
    pub(super) title: &'static str,
    /// Its keys.
    pub(super) keys: &'static [(&'static str, Fate)],
}

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// This of a watt.yaml.
    Becomes(&'static str),
    /// Nothing, because there is nothing to do for it; why.
    Needless(&'static str),
    /// A warning; what happens in its place.
    Warned(&'static str),
}

use Fate::{Becomes, Needless, Warned};

impl Keys {
    /// What becomes of a key; `None` when it is none of these.
    pub(super) fn fate(&self, name: &str) -> Option<Fate> {
        self.keys.iter().find(|(key, _)| *key == name).map(|(_, fate)| *fate)
    }
}

/// Every table, in the order they are documented.
pub(super) static TABLES: [&Keys; 23] = [
    &ROOT,
    &AUTOLOAD,
    &APPLICATION,
    &WORKERS,
    &HEALTH,
    &SERVER,
    &HTTPS,
    &METRICS,
    &LOGGER,
    &SHUTDOWN,
    &POLICIES,
    &SCHEDULED,
    &SERVICE_FILE,
    &BUILDABLE,
    &COMMANDS,
    &NODE,
    &VITE,
    &OUTPUT,
    &PYTHON,
    &GATEWAY,
    &MEMBER,
    &PROXY,
    &WS,
];

const SCHEMA: (&str, Fate) = ("$schema", Becomes("which kind of file it is, and of which version"));
const MODULE: (&str, Fate) = ("module", Becomes("which kind of file it is"));
const EDITORS: &str = "it is for `wattpm dev`; `wattctl up` is `wattpm start`";

pub(super) static ROOT: Keys = Keys {
    title: "watt.json",
    keys: &[
        SCHEMA,
        MODULE,
        ("extends", Becomes("the keys of that file that this one does not have")),
        ("autoload", Becomes("`services`")),
        ("applications", Becomes("`services`")),
        ("services", Becomes("`services`")),
        ("web", Becomes("`services`")),
        ("entrypoint", Becomes("the routes of `gateway`")),
        ("basePath", Becomes("the beginning of `path` of each route")),
        ("server", Becomes("`server`")),
        ("workers", Becomes("`services.NAME.workers`")),
        (
            "verticalScaler",
            Becomes("`services.NAME.workers`, from `minWorkers` to `maxWorkers` where it is enabled"),
        ),
        ("env", Becomes("`services.NAME.env`")),
        ("envfile", Becomes("the file that is read in place of `.env`")),
        (
            "strictEnv",
            Becomes(
                "with `false` or `warn` a variable that is not set is empty; without it that is an error",
            ),
        ),
        ("startTimeout", Becomes("`services.NAME.ready.timeout`")),
        ("gracefulShutdown", Becomes("`services.NAME.stop.grace`")),
        ("applicationTimeout", Becomes("`services.NAME.timeouts.first_byte`")),
        ("serviceTimeout", Becomes("`services.NAME.timeouts.first_byte`")),
        ("health", Becomes("`services.NAME.health`, for services that Node.js runs")),
        ("logger", Becomes("the level of `platformatic.logger`")),
        ("policies", Becomes("`policies`")),
        ("scheduler", Becomes("`scheduler`")),
        ("sourceMaps", Becomes("`--enable-source-maps` of Node.js")),
        ("preload", Becomes("`--import` of Node.js")),
        ("resolvedApplicationsBasePath", Becomes("where applications with `url` are looked for")),
        ("resolvedServicesBasePath", Becomes("where applications with `url` are looked for")),
        ("runtime", Needless("it is for files of a single application")),
        ("watch", Needless(EDITORS)),
        ("hotReload", Needless(EDITORS)),
        ("allowCycles", Needless("it has done nothing since version 2")),
        ("reuseTcpPorts", Needless("workers have networks of their own, and may listen on the same port")),
        (
            "restartOnError",
            Needless(
                "`wattpm start` does not heed it either: what ends is started again; one application can have its own",
            ),
        ),
        (
            "exitOnUnhandledErrors",
            Needless("a process of Node.js ends on an unhandled error, and is started again"),
        ),
        ("managementApi", Needless("the control socket is always there: docs/control.md")),
        ("startupConcurrency", Needless("services start as soon as what they depend on is ready")),
        (
            "workersRestartDelay",
            Warned(
                "each worker is replaced when the one before is ready; a pause is `roll.min_healthy` of a service in a watt.yaml",
            ),
        ),
        ("metrics", Becomes("`metrics`, which is on 127.0.0.1 unless it says otherwise")),
        ("healthProbes", Warned("`/ready` and `/status` are on the port of `metrics`, where that is on")),
        (
            "httpCache",
            Warned(
                "calls are not cached; responses of a service are with `cache` in a watt.yaml (docs/cache.md)",
            ),
        ),
        ("telemetry", Warned("no traces are sent")),
        (
            "undici",
            Warned(
                "calls go through the mesh, which has no interceptors: `retries` and `timeouts` of a service in a watt.yaml are the nearest",
            ),
        ),
        (
            "extensions",
            Warned(
                "no code runs inside watt: `hooks` of a service in a watt.yaml are commands (docs/hooks.md)",
            ),
        ),
        (
            "management",
            Warned(
                "a service may use the control socket with `management: view` or `operate` in a watt.yaml",
            ),
        ),
        ("messagingTimeout", Warned("there is no messaging between services: they call each other by HTTP")),
        ("inspectorOptions", Warned("no inspector is opened")),
        ("compileCache", Warned("set `NODE_COMPILE_CACHE` in `env` for that")),
        ("nodeModulesSourceMaps", Warned("Node.js decides itself which source maps it reads")),
    ],
};

pub(super) static AUTOLOAD: Keys = Keys {
    title: "autoload",
    keys: &[
        ("path", Becomes("each folder in it is a service")),
        ("exclude", Becomes("folders that are none")),
        ("mappings", Becomes("the keys of the service of a folder")),
    ],
};

pub(super) static APPLICATION: Keys = Keys {
    title: "applications",
    keys: &[
        ("id", Becomes("the key in `services`")),
        ("path", Becomes("`services.NAME.path`")),
        ("config", Becomes("the file of the service that is read")),
        ("url", Becomes("an error, unless its folder is there: watt does not clone yet")),
        ("gitBranch", Becomes("an error, unless its folder is there")),
        ("enabled", Becomes("whether there is such a service; of a table, `production`")),
        ("workers", Becomes("`services.NAME.workers`")),
        ("dependencies", Becomes("`services.NAME.depends_on`")),
        ("env", Becomes("`services.NAME.env`")),
        ("envfile", Becomes("`services.NAME.env`, from that file in place of its own `.env`")),
        ("health", Becomes("`services.NAME.health`, for services that Node.js runs")),
        ("restartOnError", Becomes("`services.NAME.restart`")),
        ("arguments", Becomes("the last arguments of `services.NAME.command`")),
        ("execArgv", Becomes("the first arguments of `services.NAME.command`")),
        ("nodeOptions", Becomes("`NODE_OPTIONS` in `services.NAME.env`")),
        ("preload", Becomes("`--import` of Node.js")),
        ("sourceMaps", Becomes("`--enable-source-maps` of Node.js")),
        ("watch", Needless(EDITORS)),
        ("useHttp", Needless("every service can be called by HTTP")),
        ("websocket", Needless("WebSockets go through the mesh")),
        ("reuseTcpPorts", Needless("workers have networks of their own, and may listen on the same port")),
        ("packageManager", Needless("watt installs nothing yet")),
        ("type", Needless("it is found out")),
        ("permissions", Warned("`sandbox` of a service in a watt.yaml is what it may do (docs/sandbox.md)")),
        ("telemetry", Warned("no traces are sent")),
        ("compileCache", Warned("set `NODE_COMPILE_CACHE` in `env` for that")),
        (
            "management",
            Warned(
                "a service may use the control socket with `management: view` or `operate` in a watt.yaml",
            ),
        ),
        ("nodeModulesSourceMaps", Warned("Node.js decides itself which source maps it reads")),
    ],
};

pub(super) static WORKERS: Keys = Keys {
    title: "workers",
    keys: &[
        ("static", Becomes("`workers`")),
        ("dynamic", Becomes("`workers.dynamic`")),
        ("minimum", Becomes("`workers.min`")),
        ("maximum", Becomes("`workers.max`; where it is not written it is 4")),
        ("cooldown", Becomes("`workers.cooldown`")),
        ("scaleUpELU", Becomes("`workers.target.cpu`: an event loop that is busy uses a CPU")),
        ("scaleDownELU", Needless("there are fewer workers when fewer would be below the target")),
        ("gracePeriod", Needless("a new worker counts from when it is ready")),
        (
            "total",
            Warned(
                "all services together are not bounded in workers; `limits` of the application in a watt.yaml bounds CPU time and memory",
            ),
        ),
        ("maxMemory", Warned("`limits` of the application in a watt.yaml bounds memory")),
    ],
};

pub(super) static HEALTH: Keys = Keys {
    title: "health",
    keys: &[
        ("enabled", Becomes("whether there is `services.NAME.health`")),
        ("interval", Becomes("`services.NAME.health.interval`")),
        ("maxUnhealthyChecks", Becomes("`services.NAME.health.failures`")),
        ("maxHeapTotal", Becomes("`--max-old-space-size` of Node.js")),
        ("gracePeriod", Needless("health counts from when a worker is ready")),
        (
            "maxELU",
            Warned(
                "the event loop is asked for an answer by HTTP, whose time is `health.timeout` in a watt.yaml",
            ),
        ),
        (
            "maxEventLoopDelay",
            Warned(
                "the event loop is asked for an answer by HTTP, whose time is `health.timeout` in a watt.yaml",
            ),
        ),
        (
            "maxEventLoopDelayP99",
            Warned(
                "the event loop is asked for an answer by HTTP, whose time is `health.timeout` in a watt.yaml",
            ),
        ),
        ("maxHeapUsed", Warned("`limits.memory` of a service in a watt.yaml bounds what a worker uses")),
        ("maxYoungGeneration", Warned("write `--max-semi-space-size` into `execArgv`")),
        ("codeRangeSize", Warned("Node.js decides it")),
        ("bufferPoolSize", Warned("Node.js decides it")),
        ("defaultHighWaterMark", Warned("Node.js decides it")),
    ],
};

pub(super) static SERVER: Keys = Keys {
    title: "server",
    keys: &[
        ("hostname", Becomes("`server.hostname`")),
        ("port", Becomes("`server.port`; where it is not written it is 3042")),
        ("https", Becomes("`server.tls`")),
        ("logger", Becomes("`logger`, as version 1 had it here")),
        ("http2", Needless("clients may speak HTTP/2")),
        ("backlog", Warned("it is the kernel's largest")),
        ("portAssignment", Warned("all workers are behind one port")),
        ("cors", Warned("`gateway.cors` of a watt.yaml answers for every service (docs/http.md)")),
        ("healthCheck", Warned("there is no `/status` of the gateway: `wattctl status` says what is ready")),
        ("bodyLimit", Becomes("`server.body_limit`")),
        ("keepAliveTimeout", Becomes("`server.idle_timeout`")),
        (
            "trustProxy",
            Warned(
                "`server.proxy_protocol` of a watt.yaml is how a proxy before watt tells whose requests it sends",
            ),
        ),
    ],
};

pub(super) static HTTPS: Keys = Keys {
    title: "server.https",
    keys: &[
        ("key", Becomes("`server.tls.key`: a file; a key in the text itself is an error")),
        ("cert", Becomes("`server.tls.certificate`")),
        ("allowHTTP1", Needless("clients may speak either")),
        ("requestCert", Warned("`client_ca` of `server.tls` in a watt.yaml asks for certificates")),
        ("rejectUnauthorized", Warned("`client_ca` of `server.tls` in a watt.yaml asks for certificates")),
    ],
};

pub(super) static METRICS: Keys = Keys {
    title: "metrics",
    keys: &[
        ("enabled", Becomes("`metrics.enabled`")),
        ("hostname", Becomes("`metrics.hostname`; where it is not written it is 127.0.0.1, and not 0.0.0.0")),
        ("port", Becomes("`metrics.port`")),
        ("endpoint", Becomes("`metrics.endpoint`")),
        ("timeout", Needless("nobody waits for a worker")),
        ("healthChecksTimeouts", Needless("it does nothing there either")),
        ("auth", Becomes("a warning, and no `metrics`: nobody is asked for a password there")),
        ("https", Warned("it is plain text, on 127.0.0.1 unless `hostname` says otherwise")),
        ("labels", Warned("figures have the labels of docs/metrics.md")),
        ("applicationLabel", Warned("figures have the labels of docs/metrics.md")),
        ("httpCustomLabels", Warned("figures have the labels of docs/metrics.md")),
        ("httpClientMetrics", Needless("every call is counted, with who called")),
        ("readiness", Warned("`/ready` answers 200 `OK` or 500 `ERR`")),
        ("liveness", Warned("`/status` answers 200 `OK` as long as watt is there")),
        ("plugins", Warned("their code is not run")),
        ("otlpExporter", Warned("figures are fetched, and not sent")),
        ("opentelemetry", Warned("figures are fetched, and not sent")),
    ],
};

pub(super) static LOGGER: Keys = Keys {
    title: "logger",
    keys: &[
        ("level", Becomes("the level of `platformatic.logger`, in the variable `PLT_LOG_LEVEL`")),
        ("captureStdio", Needless("what services write is always kept")),
        ("timestamp", Needless("every line has its time in `wattctl logs --json`")),
        ("base", Warned("`wattctl logs --json` says which service a line is from")),
        ("messageKey", Warned("lines are kept as services write them")),
        ("customLevels", Warned("lines are kept as services write them")),
        ("pino", Warned("lines are kept as services write them")),
        ("formatters", Warned("lines are kept as services write them")),
        ("redact", Warned("lines are kept as services write them")),
        ("transport", Warned("lines are kept in files, and in systemd's journal: `logs` of a watt.yaml")),
        (
            "openTelemetryExporter",
            Warned("lines are kept in files, and in systemd's journal: `logs` of a watt.yaml"),
        ),
    ],
};

pub(super) static SHUTDOWN: Keys = Keys {
    title: "gracefulShutdown",
    keys: &[
        ("application", Becomes("`services.NAME.stop.grace`")),
        ("service", Becomes("`services.NAME.stop.grace`, as version 2 called it")),
        ("runtime", Needless("every service has a time of its own, and they stop beside each other")),
        ("closeConnections", Needless("the proxy closes connections to workers that leave")),
    ],
};

pub(super) static POLICIES: Keys = Keys {
    title: "policies",
    keys: &[("deny", Becomes("`policies`: for each service that is named, all that may call it"))],
};

pub(super) static SCHEDULED: Keys = Keys {
    title: "scheduler",
    keys: &[
        ("name", Becomes("`scheduler.name`")),
        ("cron", Becomes("`scheduler.cron`")),
        (
            "callbackUrl",
            Becomes("`scheduler.callbackUrl`; one that is no service's is a warning, and no job"),
        ),
        ("method", Becomes("`scheduler.method`")),
        ("headers", Becomes("`scheduler.headers`")),
        ("body", Becomes("`scheduler.body`")),
        ("maxRetries", Becomes("`scheduler.maxRetries`")),
        ("enabled", Becomes("`scheduler.enabled`")),
    ],
};

pub(super) static SERVICE_FILE: Keys = Keys {
    title: "a service's file",
    keys: &[
        SCHEMA,
        MODULE,
        ("application", Becomes("the command")),
        ("basePath", Becomes("the public path of the service, where a gateway has none for it")),
        ("node", Becomes("the command")),
        ("next", Becomes("the command")),
        ("vite", Becomes("the command")),
        ("astro", Becomes("the command")),
        ("remix", Becomes("the command")),
        ("reactRouter", Becomes("the command")),
        ("nuxt", Becomes("the command")),
        ("nitro", Becomes("the command")),
        ("nest", Needless("what `nest build` made is started; its own file says how")),
        ("python", Becomes("the command")),
        ("php", Becomes("the command: `php -S`")),
        ("gateway", Becomes("`gateway.routes`")),
        ("composer", Becomes("`gateway.routes`, as version 2 called it")),
        ("runtime", Becomes("the keys of watt.json, where this file is the only one")),
        ("server", Becomes("`server`, where this file is the only one")),
        ("watch", Needless(EDITORS)),
        ("logger", Becomes("the level of `platformatic.logger`")),
        ("telemetry", Warned("no traces are sent")),
        ("cache", Warned("workers share no cache of Next.js")),
        ("types", Needless("it is for generators")),
        (
            "plugins",
            Needless("of a `service` or a `db`, whose package reads it; those of a gateway are a warning"),
        ),
        ("service", Needless("the package of the application reads it")),
        ("db", Needless("the package of the application reads it")),
        ("migrations", Needless("the package of the application reads it")),
        ("authorization", Needless("the package of the application reads it")),
        ("clients", Needless("it has done nothing since version 3")),
    ],
};

pub(super) static BUILDABLE: Keys = Keys {
    title: "application",
    keys: &[
        (
            "basePath",
            Becomes(
                "the public path of the service, where a gateway has none for it; its requests come with it",
            ),
        ),
        ("outputDirectory", Becomes("where what was built is")),
        ("commands", Becomes("the command")),
        ("include", Needless("it is for generators")),
        ("changeDirectoryBeforeExecution", Needless("a command runs in the service's folder")),
        ("preferLocalCommands", Needless("programs in `node_modules/.bin` are found first")),
        ("entrypointPort", Needless("watt finds where a program listens")),
        ("processSpawner", Warned("watt starts processes itself")),
    ],
};

pub(super) static COMMANDS: Keys = Keys {
    title: "application.commands",
    keys: &[
        ("production", Becomes("`services.NAME.command`")),
        ("development", Needless(EDITORS)),
        ("build", Needless("watt builds nothing yet: run it before `wattctl up`")),
        ("install", Needless("watt installs nothing yet: run it before `wattctl up`")),
    ],
};

pub(super) static NODE: Keys = Keys {
    title: "node",
    keys: &[
        ("main", Becomes("the program that is started")),
        ("hasServer", Becomes("with `false`, `services.NAME.listen: none`")),
        ("absoluteUrl", Becomes("requests come with their public path")),
        ("dispatchViaHttp", Needless("every request comes by HTTP")),
        ("disablePlatformaticInBuild", Needless("watt builds nothing yet")),
        ("disableBuildInDevelopment", Needless(EDITORS)),
    ],
};

pub(super) static VITE: Keys = Keys {
    title: "vite",
    keys: &[
        ("ssr", Becomes("with it the server of `entrypoint` is started; without it, files are served")),
        ("notFoundHandler", Becomes("the page for paths without a file")),
        ("configFile", Needless("it is for building")),
        ("devServer", Needless(EDITORS)),
    ],
};

pub(super) static OUTPUT: Keys = Keys {
    title: "next, astro, remix, reactRouter, nuxt, nitro",
    keys: &[
        ("outputDirectory", Becomes("where what was built is")),
        ("entrypoint", Becomes("what is started of it")),
        ("standalone", Becomes("`server.js` of the standalone output is started")),
        ("configFile", Needless("it is for building")),
        ("trailingSlash", Needless("it is in the framework's own file")),
        ("https", Needless(EDITORS)),
        ("useExperimentalAdapter", Warned("there is no adapter")),
        ("imageOptimizer", Warned("Next.js optimizes images itself")),
    ],
};

pub(super) static PYTHON: Keys = Keys {
    title: "python, php",
    keys: &[
        ("docroot", Becomes("the folder the program runs in")),
        ("appTarget", Becomes("what `python3 -m uvicorn` is told to run")),
    ],
};

pub(super) static GATEWAY: Keys = Keys {
    title: "gateway",
    keys: &[
        ("applications", Becomes("`gateway.routes`; without it every service has `/NAME`")),
        ("services", Becomes("`gateway.routes`, as version 2 called it")),
        ("refreshTimeout", Needless("routes do not depend on what services say")),
        ("addEmptySchema", Needless("there is no document of all services")),
        ("passthroughContentTypes", Needless("bodies are never parsed")),
        ("openapi", Warned("there is no document of all services")),
        ("graphql", Warned("schemas are not joined")),
        (
            "deduplication",
            Warned(
                "each request is sent; `cache` of a service in a watt.yaml has one of several equal ones sent (docs/cache.md)",
            ),
        ),
        ("handler", Warned("its code is not run")),
    ],
};

pub(super) static MEMBER: Keys = Keys {
    title: "gateway.applications",
    keys: &[
        ("id", Becomes("`service` of a route")),
        (
            "origin",
            Becomes(
                "`service` of a route for `internal://NAME` and `http://NAME.plt.local`, else `upstream`",
            ),
        ),
        ("proxy", Becomes("a route; with `false`, none")),
        ("openapi", Becomes("a route for the paths of `file`, else for all below `prefix`")),
        ("graphql", Warned("schemas are not joined")),
        ("deduplication", Warned("each request is sent")),
    ],
};

pub(super) static PROXY: Keys = Keys {
    title: "gateway.applications.proxy",
    keys: &[
        ("prefix", Becomes("`path` of a route, which is taken off")),
        ("rewritePrefix", Becomes("`rewrite` of a route")),
        ("hostname", Becomes("a route for that `host`")),
        ("methods", Becomes("`methods` of a route")),
        ("routes", Becomes("the `path` of several routes")),
        ("upstream", Becomes("`service` or `upstream` of a route")),
        ("ws", Becomes("nothing but its own keys: WebSockets take the same route")),
        ("rewriteLocationHeader", Needless("`Location` is changed back where the path was changed")),
        (
            "custom",
            Warned(
                "its code is not run: `headers`, `cookies`, `services` and `rewrite` of a route in a watt.yaml are the nearest",
            ),
        ),
        ("deduplication", Warned("each request is sent")),
    ],
};

pub(super) static WS: Keys = Keys {
    title: "gateway.applications.proxy.ws",
    keys: &[
        ("upstream", Warned("WebSockets take the route of all other requests")),
        ("reconnect", Warned("a WebSocket whose service ends is closed, and the client connects anew")),
        ("hooks", Warned("their code is not run")),
    ],
};

/// The page of docs/platformatic.md that is made from this.
pub(super) fn reference() -> String {
    let mut page = String::new();
    for table in TABLES {
        page.push_str(&format!("### {}\n\n| key | becomes |\n|---|---|\n", table.title));
        for (key, fate) in table.keys {
            let text = match fate {
                Becomes(what) => (*what).to_owned(),
                Needless(why) => format!("nothing: {why}"),
                Warned(instead) => format!("**a warning**: {instead}"),
            };
            page.push_str(&format!("| `{key}` | {text} |\n"));
        }
        page.push('\n');
    }
    page
}
