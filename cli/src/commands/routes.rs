//! `wattctl routes`: which requests of clients go where, and for one request why. Of what runs, else of the configuration alone.

use serde_json::{Value, json};
use watt_api::{
    control::{ListenerRoutes, Requests, Routes},
    mesh::{
        PathMatch, RequestPart, Route, RouteAnswer, RouteCondition, RouteFault, RouteMirror, RouteShare,
        ValueTest,
    },
};
use watt_mesh_proxy::route::explain::{Becomes, Explanation, Verdict, explain};

use super::config;
use crate::{
    args,
    context::Running,
    exit::{Exit, Failure, Outcome},
    text::{
        out, safe,
        style::{Style, Tone},
        table::{self, Cell, Column},
    },
};

const COLUMNS: [Column; 6] = [
    Column { title: "#", rank: 0, right: true },
    Column { title: "HOST", rank: 0, right: false },
    Column { title: "PATH", rank: 0, right: false },
    Column { title: "ASKS FOR", rank: 1, right: false },
    Column { title: "TO", rank: 0, right: false },
    Column { title: "PATH BECOMES", rank: 2, right: false },
];

const UPSTREAM_COLUMNS: [Column; 4] = [
    Column { title: "UPSTREAM", rank: 0, right: false },
    Column { title: "REQUESTS", rank: 0, right: true },
    Column { title: "FAILED", rank: 0, right: true },
    Column { title: "NOW", rank: 0, right: true },
];

/// How many of the routes that a request does not take are shown; `--json` has all.
const OTHERS_SHOWN: usize = 5;

/// Runs the command. A request that no route takes makes it fail.
pub async fn run(arguments: args::Routes) -> Outcome {
    let args::Routes { test, headers, listener, app, file, print } = arguments;
    let test = test.map(|request| Request::parse(&request, &headers)).transpose()?;
    let routes = match file {
        Some(file) => of_configuration(Some(&file), print.json)?,
        None => match Running::find(&args::Which { app: app.clone(), file: None }) {
            Ok(running) => {
                let client = running.client().await?;
                client.routes().await.map_err(|error| running.failure(error))?
            }
            Err(Failure { exit: Exit::NotRunning, .. }) if app.is_none() => {
                of_configuration(None, print.json)?
            }
            Err(failure) => return Err(failure),
        },
    };
    let Some(request) = test else {
        match print.json {
            true => out::json(&routes),
            false => out::print(&list(&routes, Style::stdout())),
        }
        return Ok(Exit::Ok);
    };
    let way = Way::of(&routes, &request, listener.as_deref())?;
    let explanation = explain(way.routes, &request.head());
    match print.json {
        true => out::json(&as_json(&request, &explanation, &way)),
        false => out::print(&explained(&request, &explanation, &way, Style::stdout())),
    }
    Ok(match explanation.verdict {
        Verdict::Route { .. } => Exit::Ok,
        Verdict::NoRoute if way.redirect().is_some() => Exit::Ok,
        Verdict::Refused { .. } | Verdict::Method { .. } | Verdict::NoRoute => Exit::Failed,
    })
}

fn of_configuration(file: Option<&std::path::Path>, json: bool) -> Result<Routes, Failure> {
    let config = config::load_alone(file, json)?;
    Ok(watt_supervisor::routes::of_configuration(&config.plan))
}

/// Where a request comes in, and the routes there.
struct Way<'r> {
    /// Where there are several.
    listener: Option<&'r ListenerRoutes>,
    routes: &'r [Route],
}

impl<'r> Way<'r> {
    /// By the listener of this name, else by the one that the URL leads to, else by the first.
    fn of(routes: &'r Routes, request: &Request, wanted: Option<&str>) -> Result<Way<'r>, Failure> {
        let all = &routes.listeners;
        let listener = match wanted {
            Some(wanted) => Some(all.iter().find(|one| one.name == wanted).ok_or_else(|| {
                let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
                Failure::new(Exit::Usage, format!("there is no listener {wanted:?}"))
                    .hint(format!("the listeners are {}", names.join(", ")))
            })?),
            None => all.iter().find(|one| request.leads_to(&one.url)).or(all.first()),
        };
        let own = listener.and_then(|listener| listener.routes.as_deref());
        let is_worth_a_word = |one: &&ListenerRoutes| all.len() > 1 || one.redirect.is_some();
        Ok(Way { listener: listener.filter(is_worth_a_word), routes: own.unwrap_or(&routes.routes) })
    }

    /// Where what no route takes is sent.
    fn redirect(&self) -> Option<&str> {
        self.listener?.redirect.as_deref()
    }
}

/// A request as it would come.
struct Request {
    method: String,
    /// Of its URL, where that says it: whether it is https.
    secure: Option<bool>,
    host: String,
    /// Path and query.
    target: String,
    headers: Vec<(String, String)>,
}

impl Request {
    /// `GET https://host/path`, `https://host/path` or `GET /path`.
    fn parse(text: &str, headers: &[String]) -> Result<Request, Failure> {
        let usage = |message: String| {
            Failure::new(Exit::Usage, message).hint("for example `GET https://example.org/users/7`")
        };
        let (method, url) = match text.trim().split_once(char::is_whitespace) {
            Some((method, url)) => (method, url.trim_start()),
            None => ("GET", text.trim()),
        };
        let schemes = [("http://", false), ("https://", true)];
        let rest = schemes.into_iter().find_map(|(scheme, secure)| Some((url.strip_prefix(scheme)?, secure)));
        let (rest, secure) = rest.unzip();
        let (host, target) = match rest {
            Some(rest) => rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())),
            None if url.starts_with('/') || url == "*" => ("localhost", url),
            None => return Err(usage(format!("{url:?} is neither a URL nor a path"))),
        };
        let target = if target.starts_with(['/', '*']) { target.to_owned() } else { format!("/{target}") };
        if let Some(c) =
            [method, host, &target].into_iter().flat_map(str::chars).find(|c| !c.is_ascii_graphic())
        {
            return Err(usage(format!(
                "{c:?} cannot be in a request's first line; write it as `%` and two hexadecimal digits"
            )));
        }
        let mut request =
            Request { method: method.to_owned(), secure, host: host.to_owned(), target, headers: Vec::new() };
        for given in headers {
            let pair = given.split_once(':').filter(|_| !given.contains(['\r', '\n']));
            let (name, value) = pair.ok_or_else(|| {
                Failure::new(Exit::Usage, format!("{given:?} is not a header")).hint("write 'name: value'")
            })?;
            match name.eq_ignore_ascii_case("host") {
                true => value.trim().clone_into(&mut request.host),
                false => request.headers.push((name.trim().to_owned(), value.trim().to_owned())),
            }
        }
        Ok(request)
    }

    fn head(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {}\r\n", self.method, self.target, self.host);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        (head + "\r\n").into_bytes()
    }

    /// Whether its URL is of a listener at this one.
    fn leads_to(&self, listener: &str) -> bool {
        let Some(secure) = self.secure else { return false };
        let (scheme, usual) = if secure { ("https://", "443") } else { ("http://", "80") };
        let port = |text: &str| text.rsplit_once(':').map(|(_, port)| port.to_owned());
        let is_port = |port: &String| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let own = port(&self.host).filter(is_port).unwrap_or_else(|| usual.to_owned());
        listener.strip_prefix(scheme).and_then(port) == Some(own)
    }

    fn line(&self) -> String {
        format!("{} {}{}", self.method, self.host, self.target)
    }
}

fn list(routes: &Routes, style: Style) -> String {
    let gateway = routes.gateway.as_deref().map(|gateway| format!("  {gateway}")).unwrap_or_default();
    let mut text = format!("{}{gateway}\n", style.paint(Tone::Strong, &routes.app));
    if routes.routes.is_empty() && routes.listeners.len() <= 1 {
        text.push_str("no routes\n");
    }
    text.push_str(&rows(&routes.routes, style));
    let is_alone = |one: &ListenerRoutes| one.routes.is_none() && one.redirect.is_none();
    if routes.listeners.len() > 1 || !routes.listeners.iter().all(is_alone) {
        routes.listeners.iter().for_each(|one| text.push_str(&listener(one, style)));
    }
    // What a configuration leads to has not been asked for anything.
    if routes.gateway.is_some() && !routes.upstreams.is_empty() {
        let row = |(name, requests): (&String, &Requests)| {
            let Requests { total, failures, in_flight, .. } = requests;
            vec![
                plain(name).into(),
                total.to_string().into(),
                failures.to_string().into(),
                in_flight.to_string().into(),
            ]
        };
        let rows: Vec<Vec<Cell>> = routes.upstreams.iter().map(row).collect();
        text.push('\n');
        text.push_str(&table::render(&UPSTREAM_COLUMNS, &rows, style));
    }
    text
}

fn rows(routes: &[Route], style: Style) -> String {
    if routes.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<Cell>> = routes.iter().enumerate().map(|(at, route)| row(at + 1, route)).collect();
    table::render(&COLUMNS, &rows, style)
}

/// A listener, with the routes that it has for itself.
fn listener(listener: &ListenerRoutes, style: Style) -> String {
    let ListenerRoutes { name, url, routes, redirect } = listener;
    let says = match (routes, redirect) {
        (None, _) => "the routes above".to_owned(),
        (Some(own), Some(to)) if own.is_empty() => format!("sends all requests to {to}"),
        (Some(_), Some(to)) => format!("routes of its own; sends other requests to {to}"),
        (Some(_), None) => "routes of its own".to_owned(),
    };
    let head = format!("\n{}  {}  {}\n", style.paint(Tone::Strong, name), plain(url), plain(&says));
    head + &rows(routes.as_deref().unwrap_or_default(), style)
}

fn row(number: usize, route: &Route) -> Vec<Cell> {
    let faults = if route.fault.is_some() { ", with faults" } else { "" };
    vec![
        number.to_string().into(),
        plain(route.host.as_deref().unwrap_or_default()).into(),
        plain(&path(route)).into(),
        plain(&asks_for(route)).into(),
        plain(&format!("{}{faults}", leads_to(route))).into(),
        plain(&becomes(route)).into(),
    ]
}

fn plain(text: &str) -> String {
    safe::line(text, false)
}

/// `/api`, `/health exactly`, `/v[0-9]+/.* (regex)`.
fn path(route: &Route) -> String {
    match route.matching {
        PathMatch::Prefix => route.path.clone(),
        PathMatch::Exact => format!("{} exactly", route.path),
        PathMatch::Regex => format!("{} (regex)", route.path),
    }
}

/// `GET, POST; header x-version 2`.
fn asks_for(route: &Route) -> String {
    let methods = (!route.methods.is_empty()).then(|| route.methods.join(", "));
    let all: Vec<String> = methods.into_iter().chain(route.conditions.iter().map(condition)).collect();
    all.join("; ")
}

fn condition(condition: &RouteCondition) -> String {
    let part = match condition.part {
        RequestPart::Header => "header",
        RequestPart::Cookie => "cookie",
        RequestPart::Query => "query",
    };
    let name = &condition.name;
    match &condition.test {
        ValueTest::Is(text) => format!("{part} {name}={text}"),
        ValueTest::Regex(expression) => format!("{part} {name}~{expression}"),
        ValueTest::Present => format!("{part} {name}"),
        ValueTest::Absent => format!("no {part} {name}"),
    }
}

/// `api`, `api 90%, next 10%`, `307 https://example.org`, `503`.
fn leads_to(route: &Route) -> String {
    match &route.answer {
        Some(RouteAnswer::Redirect { status, to }) => {
            format!("{status} {}", if to.is_empty() { "/" } else { to })
        }
        Some(RouteAnswer::Fixed { status, .. }) => status.to_string(),
        None if route.files.is_some() => {
            format!("files {}", route.files.as_ref().map_or("", |files| &files.root))
        }
        None if route.page.is_some() => "the APIs' description".to_owned(),
        None if route.split.is_empty() => route.service.clone(),
        None => {
            let total: u64 = route.split.iter().map(|share| u64::from(share.weight)).sum();
            let share = |share: &RouteShare| {
                let part = u64::from(share.weight) * 1000 / total.max(1);
                let digits = if part.is_multiple_of(10) { String::new() } else { format!(".{}", part % 10) };
                format!("{} {}{digits}%", share.service, part / 10)
            };
            route.split.iter().map(share).collect::<Vec<_>>().join(", ")
        }
    }
}

/// What a route does besides, a sentence each.
fn notes(route: &Route) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(fault) = &route.fault {
        let RouteFault { delay_ms, delay_percent, abort_status, abort_percent } = fault;
        if *delay_percent > 0 {
            notes.push(format!("{delay_percent}% wait for {delay_ms} ms on purpose"));
        }
        if *abort_percent > 0 {
            notes.push(format!("{abort_percent}% are answered with {abort_status} on purpose"));
        }
    }
    if let Some(RouteMirror { service, percent }) = &route.mirror {
        notes.push(format!("{service} gets a copy of {percent}%"));
    }
    if let Some(cookie) = &route.sticky {
        notes.push(format!("the cookie `{cookie}` keeps a client where it was"));
    }
    for (of, rules) in [("request", &route.request_headers), ("response", &route.response_headers)] {
        let named = |pairs: &[(String, String)]| pairs.iter().map(|(name, _)| name.clone()).collect();
        let changes: [(&str, Vec<String>); 3] =
            [("removes", rules.remove.clone()), ("sets", named(&rules.set)), ("adds", named(&rules.add))];
        for (does, names) in changes.iter().filter(|(_, names)| !names.is_empty()) {
            notes.push(format!("{does} {} of the {of}", names.join(", ")));
        }
    }
    notes
}

fn becomes(route: &Route) -> String {
    match route.rewrite.as_deref() {
        None => String::new(),
        Some("") => "/".to_owned(),
        Some(path) => path.to_owned(),
    }
}

/// A route in one line.
fn named(number: usize, routes: &[Route]) -> String {
    let Some(route) = routes.get(number) else { return String::new() };
    let host = route.host.as_deref().unwrap_or_default();
    let asks = match asks_for(route).as_str() {
        "" => String::new(),
        asks => format!("  [{asks}]"),
    };
    format!("{}  {}{}{asks}  to {}", number + 1, plain(host), plain(&path(route)), plain(&leads_to(route)))
}

fn explained(request: &Request, explanation: &Explanation, way: &Way<'_>, style: Style) -> String {
    let routes = way.routes;
    let at = way.listener.map(|one| format!("  at {} ({})", one.name, plain(&one.url))).unwrap_or_default();
    let mut text = format!("{}{at}\n", style.paint(Tone::Strong, &plain(&request.line())));
    match &explanation.verdict {
        Verdict::Route { number, parameters, becomes } => {
            text.push_str(&style.paint(Tone::Good, &format!("route {}", named(*number, routes))));
            text.push('\n');
            for (name, value) in parameters {
                text.push_str(&format!("  {} = {}\n", plain(name), plain(value)));
            }
            for note in routes.get(*number).map(notes).unwrap_or_default() {
                text.push_str(&format!("  {}\n", plain(&note)));
            }
            match becomes {
                Becomes::Target(target) if *target == request.target => {}
                Becomes::Target(target) => text.push_str(&format!("  the service sees {}\n", plain(target))),
                Becomes::Redirect { status, location } => {
                    text.push_str(&format!("  the client is sent to {} with {status}\n", plain(location)));
                }
                Becomes::File(path) => text.push_str(&format!("  the file is {}\n", plain(path))),
                Becomes::Answer(status) => text.push_str(&format!("  the answer is {status}\n")),
            }
        }
        Verdict::Refused { status, code, message } => {
            let line = format!("refused with {status} ({code}): {}", plain(message));
            text.push_str(&format!("{}\n", style.paint(Tone::Bad, &line)));
        }
        Verdict::Method { allow } => {
            let line = format!("405: routes take {} there, and not this method", plain(allow));
            text.push_str(&format!("{}\n", style.paint(Tone::Bad, &line)));
        }
        Verdict::NoRoute if way.redirect().is_some() => {
            let line = format!(
                "308: no route takes it, and clients are sent to {}",
                way.redirect().unwrap_or_default()
            );
            text.push_str(&format!("{}\n", style.paint(Tone::Good, &line)));
        }
        Verdict::NoRoute => {
            text.push_str(&format!("{}\n", style.paint(Tone::Bad, "404: no route takes it")));
        }
    }
    for (number, why) in explanation.others.iter().take(OTHERS_SHOWN) {
        let why = plain(&why.join("; "));
        text.push_str(&format!(
            "{}: {why}\n",
            style.paint(Tone::Dim, &format!("not {}", named(*number, routes)))
        ));
    }
    let left = explanation.others.len().saturating_sub(OTHERS_SHOWN);
    if left > 0 {
        text.push_str(&style.paint(Tone::Dim, &format!("and {left} more, further away")));
        text.push('\n');
    }
    text
}

fn as_json(request: &Request, explanation: &Explanation, way: &Way<'_>) -> Value {
    let route = |number: usize| json!({ "number": number + 1, "route": way.routes.get(number) });
    let verdict = match &explanation.verdict {
        Verdict::Route { number, parameters, becomes } => {
            let mut verdict = route(*number);
            let parameters = parameters.iter().map(|(name, value)| (name.clone(), json!(value)));
            verdict["parameters"] = Value::Object(parameters.collect());
            match becomes {
                Becomes::Target(target) => verdict["target"] = json!(target),
                Becomes::Redirect { status, location } => {
                    verdict["status"] = json!(status);
                    verdict["location"] = json!(location);
                }
                Becomes::File(path) => verdict["file"] = json!(path),
                Becomes::Answer(status) => verdict["status"] = json!(status),
            }
            verdict
        }
        Verdict::Refused { status, code, message } => {
            json!({ "status": status, "reason": code, "message": message })
        }
        Verdict::Method { allow } => json!({ "status": 405, "reason": "method_not_allowed", "allow": allow }),
        Verdict::NoRoute if way.redirect().is_some() => {
            json!({ "status": 308, "reason": "no_route", "redirect": way.redirect() })
        }
        Verdict::NoRoute => json!({ "status": 404, "reason": "no_route" }),
    };
    let others = explanation.others.iter().map(|(number, why)| {
        let mut other = route(*number);
        other["why"] = json!(why);
        other
    });
    let listener = way.listener.map(|listener| listener.name.as_str());
    json!({
        "request": request.line(),
        "listener": listener,
        "verdict": verdict,
        "others": others.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use watt_api::mesh::HeaderRules;

    use super::*;

    const PLAIN: Style = Style { colours: false, width: None };

    fn routes() -> Routes {
        let route = |path: &str, service: &str| Route {
            path: path.into(),
            service: service.into(),
            ..Route::default()
        };
        let share = |service: &str, weight| RouteShare { service: service.into(), weight };
        let fixed = RouteAnswer::Fixed { status: 503, body: String::new(), content_type: String::new() };
        Routes {
            app: "shop".into(),
            file: "/srv/shop/watt.yaml".into(),
            gateway: Some("http://127.0.0.1:3042".into()),
            upstreams: std::collections::BTreeMap::new(),
            listeners: Vec::new(),
            routes: vec![
                route("/", "web"),
                Route { rewrite: Some("/{id}".into()), ..route("/users/{id}", "users") },
                Route {
                    methods: vec!["POST".into(), "PUT".into()],
                    conditions: vec![RouteCondition {
                        part: RequestPart::Header,
                        name: "x-version".into(),
                        test: ValueTest::Is("2".into()),
                    }],
                    host: Some("*.example.org".into()),
                    ..route("/users/{id}", "next")
                },
                Route { matching: PathMatch::Exact, ..route("/health", "web") },
                Route { matching: PathMatch::Regex, ..route("/v[0-9]+/.*", "api") },
                Route {
                    answer: Some(RouteAnswer::Redirect { status: 308, to: "https://example.org".into() }),
                    ..route("/old", "")
                },
                Route { split: vec![share("api", 2), share("next", 1)], ..route("/canary", "") },
                Route { answer: Some(fixed), ..route("/down", "") },
                Route {
                    fault: Some(RouteFault { abort_status: 503, abort_percent: 1, ..RouteFault::default() }),
                    request_headers: HeaderRules {
                        remove: vec!["a".into(), "b".into()],
                        ..HeaderRules::default()
                    },
                    sticky: Some("canary".into()),
                    ..route("/fault", "api")
                },
            ],
        }
    }

    fn test(request: &str, headers: &[&str]) -> String {
        let headers: Vec<String> = headers.iter().map(|header| (*header).to_owned()).collect();
        let request = Request::parse(request, &headers).unwrap();
        let routes = routes();
        let way = Way::of(&routes, &request, None).unwrap();
        explained(&request, &explain(way.routes, &request.head()), &way, PLAIN)
    }

    /// The gateway's routes at `server`, other ones at `admin`, and a listener that sends to TLS.
    fn several() -> Routes {
        let route = |path: &str, service: &str| Route {
            path: path.into(),
            service: service.into(),
            ..Route::default()
        };
        let listener = |name: &str, url: &str| ListenerRoutes {
            name: name.into(),
            url: url.into(),
            ..ListenerRoutes::default()
        };
        let admin = Some(vec![route("/", "admin"), route("/metrics", "web")]);
        Routes {
            gateway: Some("https://0.0.0.0:443".into()),
            routes: vec![route("/", "web")],
            listeners: vec![
                listener("server", "https://0.0.0.0:443"),
                ListenerRoutes { routes: admin, ..listener("admin", "http://127.0.0.1:9000") },
                listener("local", "unix:/run/shop.sock"),
                ListenerRoutes {
                    routes: Some(Vec::new()),
                    redirect: Some("https, port 443".into()),
                    ..listener("plain", "http://0.0.0.0:80")
                },
            ],
            ..routes()
        }
    }

    #[test]
    fn each_listener_has_its_own_list() {
        insta::assert_snapshot!(list(&several(), PLAIN), @r#"
        shop  https://0.0.0.0:443
        #  PATH  TO
        1  /     web

        server  https://0.0.0.0:443  the routes above

        admin  http://127.0.0.1:9000  routes of its own
        #  PATH      TO
        1  /         admin
        2  /metrics  web

        local  unix:/run/shop.sock  the routes above

        plain  http://0.0.0.0:80  sends all requests to https, port 443
        "#);
    }

    #[test]
    fn a_request_comes_in_by_the_listener_of_its_url() {
        let check = |request: &str, wanted: Option<&str>, name: &str, verdict: &str| {
            let (routes, request) = (several(), Request::parse(request, &[]).unwrap());
            let way = Way::of(&routes, &request, wanted).unwrap();
            let text = explained(&request, &explain(way.routes, &request.head()), &way, PLAIN);
            let lines: Vec<&str> = text.lines().take(2).collect();
            assert!(lines[0].contains(&format!("  at {name} (")) && lines[1] == verdict, "{text}");
        };
        check("https://shop.example/", None, "server", "route 1  /  to web");
        check("http://shop.example:9000/metrics", None, "admin", "route 2  /metrics  to web");
        check("GET /", None, "server", "route 1  /  to web");
        check("GET /", Some("admin"), "admin", "route 1  /  to admin");
        check("GET /", Some("local"), "local", "route 1  /  to web");
        let sent = "308: no route takes it, and clients are sent to https, port 443";
        check("http://shop.example/a", None, "plain", sent);
        let request = Request::parse("GET /", &[]).unwrap();
        assert!(Way::of(&several(), &request, Some("x")).is_err());
    }

    #[test]
    fn people_see_what_each_route_asks_for() {
        insta::assert_snapshot!(list(&routes(), PLAIN), @r"
        shop  http://127.0.0.1:3042
        #  HOST           PATH                 ASKS FOR                       TO                       PATH BECOMES
        1                 /                                                   web
        2                 /users/{id}                                         users                    /{id}
        3  *.example.org  /users/{id}          POST, PUT; header x-version=2  next
        4                 /health exactly                                     web
        5                 /v[0-9]+/.* (regex)                                 api
        6                 /old                                                308 https://example.org
        7                 /canary                                             api 66.6%, next 33.3%
        8                 /down                                               503
        9                 /fault                                              api, with faults
        ");
    }

    #[test]
    fn a_request_is_told_its_route_and_why_not_the_others() {
        insta::assert_snapshot!(test("https://a.example.org/users/7?x", &["X-Version: 1"]), @r"
        GET a.example.org/users/7?x
        route 2  /users/{id}  to users
          id = 7
          the service sees /7?x
        not 1  /  to web: takes it as well, but its path says less
        not 3  *.example.org/users/{id}  [POST, PUT; header x-version=2]  to next: the method is GET, not POST, PUT; the header `x-version` is `1`, not `2`
        not 4  /health exactly  to web: the path is not exactly `/health`
        not 6  /old  to 308 https://example.org: the path is not `/old`, nor below it
        not 7  /canary  to api 66.6%, next 33.3%: the path is not `/canary`, nor below it
        and 3 more, further away
        ");
        insta::assert_snapshot!(test("PUT https://a.example.org/users/7", &["x-version: 2"]), @r"
        PUT a.example.org/users/7
        route 3  *.example.org/users/{id}  [POST, PUT; header x-version=2]  to next
          id = 7
        not 2  /users/{id}  to users: takes it as well, but is for more hosts
        not 1  /  to web: takes it as well, but is for more hosts
        not 4  /health exactly  to web: the path is not exactly `/health`
        not 6  /old  to 308 https://example.org: the path is not `/old`, nor below it
        not 7  /canary  to api 66.6%, next 33.3%: the path is not `/canary`, nor below it
        and 3 more, further away
        ");
    }

    #[test]
    fn what_a_route_does_besides_is_told() {
        let text = test("GET /fault", &[]);
        insta::assert_snapshot!(text.lines().skip(1).take(4).collect::<Vec<_>>().join("\n"), @r"
        route 9  /fault  to api
          1% are answered with 503 on purpose
          the cookie `canary` keeps a client where it was
          removes a, b of the request
        ");
    }

    #[test]
    fn a_request_that_no_service_gets_is_told_the_answer() {
        let first = |text: String| text.lines().skip(1).take(2).collect::<Vec<_>>().join("\n");
        insta::assert_snapshot!(first(test("GET /old/x?y", &[])), @r"
        route 6  /old  to 308 https://example.org
          the client is sent to https://example.org/x?y with 308
        ");
        insta::assert_snapshot!(first(test("GET /down", &[])), @r"
        route 8  /down  to 503
          the answer is 503
        ");
    }

    #[test]
    fn a_request_that_goes_nowhere_is_told_why() {
        insta::assert_snapshot!(test("GET /users/..%2fhealth", &[]), @r"
        GET localhost/users/..%2fhealth
        refused with 400 (ambiguous_path): Somebody may read the path as `/health`, which is along the route of `/health`, or out of what its path is rewritten to.
        not 2  /users/{id}  to users: takes the path as it is written
        not 1  /  to web: takes the path as it is written
        not 3  *.example.org/users/{id}  [POST, PUT; header x-version=2]  to next: the host is not `*.example.org`; the method is GET, not POST, PUT; the header `x-version` is not there
        not 4  /health exactly  to web: the path is not exactly `/health`
        not 6  /old  to 308 https://example.org: the path is not `/old`, nor below it
        and 4 more, further away
        ");
        insta::assert_snapshot!(test("CONNECT /", &[]), @r"
        CONNECT localhost/
        refused with 501 (connect_not_supported): This is not a forward proxy.
        ");
    }

    #[test]
    fn what_is_no_request() {
        for (request, headers) in [
            ("GET", &[][..]),
            ("GET users", &[]),
            ("GET /a b", &[]),
            ("GET /", &["x"]),
            ("GET /", &["x: 1\r\ny: 2"]),
        ] {
            let headers: Vec<String> = headers.iter().map(|header| (*header).to_owned()).collect();
            assert!(Request::parse(request, &headers).is_err(), "{request}");
        }
    }
}
