//! The top of the file.

use std::collections::BTreeMap;

use serde_json::json;
use watt_core::{
    AppName, ServiceId,
    plan::{Logs, Plan, Role, Secret},
};

use super::{
    Decoder, access, cache,
    fields::{Field, Fields, Written, show_word, word_of},
    gateway::{self, Gateway},
    groups, jobs, limits,
    listener::{self, ListenerDraft},
    metrics,
    route::RouteDraft,
    sandbox, secrets,
    service::{self, Common, ServiceDraft},
};
use crate::{
    Sources, applied, check,
    keys::{CONTROL, Kind, LOGS, RELOAD, ROLE, ROOT},
    report::Problem,
    scalar::{Account, Bad, Bytes, Scalar, Whole, quote},
    show::Shown,
    source::Span,
    tree::{Entry, Node, Value},
};

/// How many services an application may have.
const SERVICES_MAX: usize = 10_000;

/// How much the variables of all services may take together: `.env` is part of each one's environment.
const ENVIRONMENTS_BYTES_MAX: usize = 256 << 20;

/// Decodes the whole file.
pub(super) fn decode(
    d: &mut Decoder<'_>,
    sources: &Sources,
    tree: &Node,
    applied: &applied::Trees,
) -> Option<(Plan, Shown)> {
    if let Value::Null = tree.value {
        d.problem(
            Problem::new(tree.span, "the file is empty")
                .hint("the smallest one is `services: { web: { command: ./web } }`"),
        );
        return None;
    }
    let Value::Map(entries) = &tree.value else {
        let problem = Problem::new(
            tree.span,
            format!("a configuration is a table of keys, and this is {}", tree.kind()),
        );
        d.problem(problem.hint("the smallest one is `services: { web: { command: ./web } }`"));
        return None;
    };
    // Keys that start with `x-` hold anchors for others; `$schema` is for editors.
    let is_ours = |entry: &&Entry| !entry.key.text.starts_with("x-") && entry.key.text != "$schema";
    let ours = Node::table(tree.span, entries.iter().filter(is_ours).cloned().collect());
    let first_line = Span { start: tree.span.start, end: tree.span.start };
    let root = Field { key_span: first_line, node: &ours };

    let mut fields = Fields::open(d, &ROOT, Some(root), None);
    let name = name(&mut fields);
    let server_field = fields.field("server");
    let services_field = fields.field("services");
    let gateway_field = fields.field("gateway");

    let Gateway { routes, listeners, hold, body_rate_min, shown: shown_gateway } =
        gateway::decode(fields.d, gateway_field);
    let is_implied = gateway::has(gateway_field, "routes") && !gateway::has(gateway_field, "listeners");
    let server = listener::server(&mut fields, server_field, is_implied);
    let metrics = metrics::decode(&mut fields);
    let listeners: Vec<ListenerDraft> = server.into_iter().chain(listeners).chain(metrics).collect();
    let sandbox_field = fields.field("sandbox");
    let sandbox = sandbox::decode(fields.d, sandbox_field, &sandbox::Base::of_nothing());
    fields.show("sandbox", sandbox.shown().clone());
    let limits_field = fields.field("limits");
    let (limits, shown_limits) = limits::ceiling(fields.d, limits_field);
    fields.show("limits", shown_limits);
    let secrets = secrets::decode(&mut fields);
    let control = control(&mut fields);
    let common = Common { env: base_environment(fields.d, &secrets), sandbox };
    let (services, shown_services) = match services_field {
        Some(field) => decode_services(fields.d, field, applied, &common),
        None => {
            fields.missing("services");
            (Vec::new(), Shown::Map(Vec::new()))
        }
    };
    fields.show("services", shown_services);
    let groups = groups::decode(&mut fields);
    fields.show("gateway", shown_gateway);
    let items = fields.list("policies");
    let (policies, shown_policies) = gateway::policies(fields.d, items);
    fields.show("policies", shown_policies);
    let cache = cache::store(&mut fields);
    let jobs = jobs::decode(&mut fields);
    let (logs, logged_headers) = logs(&mut fields);
    let reload = fields.word_or_default("reload", &RELOAD);
    let shown = fields.close();

    for draft in &services {
        let id = quote(draft.service.id.as_str());
        limits::within(d, (&id, &draft.total), ("the application", &limits));
    }
    check::secrets(&services, &secrets, d.problems);
    check::services(&services, &listeners, d.problems);
    let all_routes = || routes.iter().chain(listeners.iter().filter_map(|one| one.routes.as_ref()).flatten());
    let all_routes: Vec<&RouteDraft> = all_routes().collect();
    let named = check::Naming {
        services: &services,
        groups: &groups,
        routes: &all_routes,
        policies: &policies,
        jobs: &jobs,
        removed: applied.removed().collect(),
    };
    check::references(&named, d.problems);
    check::groups(&services, &groups, d.problems);
    check::routes(&services, &all_routes, d.problems);
    check::listeners(&services, &routes, &listeners, d.problems);
    check::calls(&services, &jobs, d.problems);
    check::logged_headers(&logged_headers, &all_routes, d.problems);
    if services.is_empty() {
        return None;
    }
    let plan = Plan {
        name: name?,
        file: sources.file.clone(),
        root: d.root.clone(),
        listeners: listeners.into_iter().map(ListenerDraft::into_listener).collect(),
        services: services.into_iter().map(|draft| (draft.service.id.clone(), draft.service)).collect(),
        groups: groups.into_iter().map(groups::GroupDraft::into_group).collect(),
        routes: routes.into_iter().map(|draft| draft.route).collect(),
        policies: policies.into_iter().map(|draft| draft.policy).collect(),
        hold,
        body_rate_min,
        cache,
        reload_on_change: reload.value,
        logs,
        limits: limits.limits,
        secrets,
        control,
        jobs: jobs.into_iter().map(|draft| (draft.job.id.clone(), draft.job)).collect(),
    };
    Some((plan, shown))
}

fn name(fields: &mut Fields<'_, '_, '_>) -> Option<AppName> {
    let parse = |text: &str| match AppName::new(text) {
        Ok(name) => Ok(name),
        Err(error) => {
            let hint = suggest_name(text).map(|name| format!("did you mean {}?", quote(&name)));
            Err(Bad { message: format!("{} cannot be an application's name: {error}", quote(text)), hint })
        }
    };
    let written = fields.parsed("name", parse, |name| json!(name.as_str()));
    if written.is_some() || fields.is_written("name") {
        return written.map(|written| written.value);
    }
    let folder = fields.d.root.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = AppName::new(&suggest_name(&folder).unwrap_or_else(|| "app".to_owned())).ok()?;
    fields.show(
        "name",
        Shown::Leaf { value: json!(name.as_str()), from: "default, from the folder".into(), span: None },
    );
    Some(name)
}

/// The valid name nearest to a text: `My App` becomes `my-app`.
pub(super) fn suggest_name(text: &str) -> Option<String> {
    let mut name = String::new();
    for c in text.chars() {
        match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9' | '_') => name.push(c),
            _ if name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    let name = name.trim_start_matches(['-', '_']);
    let name = name[..name.len().min(watt_core::names::NAME_LEN_MAX)].trim_end_matches('-');
    (!name.is_empty()).then(|| name.to_owned())
}

fn decode_services<'n>(
    d: &mut Decoder<'_>,
    field: Field<'n>,
    applied: &'n applied::Trees,
    common: &Common,
) -> (Vec<ServiceDraft>, Shown) {
    let named = match &field.node.value {
        Value::Map(entries) => entries.iter().filter_map(|entry| named(d, entry)).collect(),
        Value::List(items) => items.iter().filter_map(|item| service::listed(d, item)).collect(),
        Value::Null | Value::Scalar { .. } => {
            let problem = Problem::new(
                field.at(),
                format!("`services` is a table of services, and this is {}", field.node.kind()),
            );
            d.problem(problem.hint("for example `services: { web: { command: ./web } }`"));
            return (Vec::new(), Shown::Map(Vec::new()));
        }
    };
    let mut named: Vec<(ServiceId, Field<'n>)> = named;
    applied.apply(&mut named);
    if named.is_empty() && d.problems.is_empty() && !applied.is_empty() {
        d.problem(
            Problem::new(field.key_span, "no service would be left").hint("`wattctl down` ends them all"),
        );
    } else if named.is_empty() && d.problems.is_empty() {
        d.problem(
            Problem::new(field.at(), "there is no service")
                .hint("for example `services: { web: { command: ./web } }`"),
        );
    }
    if named.len() > SERVICES_MAX {
        d.problem(Problem::new(
            field.key_span,
            format!("{} services; at most {SERVICES_MAX} are supported", named.len()),
        ));
        return (Vec::new(), Shown::Map(Vec::new()));
    }
    let base_bytes: usize = common.env.iter().map(|(name, text)| name.len() + text.text.len()).sum();
    if base_bytes.saturating_mul(named.len()) > ENVIRONMENTS_BYTES_MAX {
        let message = format!("{base_bytes} bytes of `.env` for {} services are too much", named.len());
        d.problem(
            Problem::new(field.key_span, message).hint("write variables of single services into their `env`"),
        );
        return (Vec::new(), Shown::Map(Vec::new()));
    }
    let mut drafts: Vec<ServiceDraft> = Vec::with_capacity(named.len());
    let mut shown = Vec::with_capacity(named.len());
    for (id, field) in named {
        if d.problems.is_full() {
            break;
        }
        d.name = Some(id.as_str().to_owned());
        let (mut draft, shown_service) = service::decode(d, id, field, common);
        if let Some(last) = drafts.last() {
            draft.service.join(&last.service);
        }
        shown.push((draft.service.id.as_str().to_owned(), shown_service));
        drafts.push(draft);
    }
    d.name = None;
    (drafts, Shown::Map(shown))
}

fn named<'n>(d: &mut Decoder<'_>, entry: &'n Entry) -> Option<(ServiceId, Field<'n>)> {
    let id = service::id(d, &entry.key.text, entry.key.span)?;
    Some((id, Field::from(entry)))
}

/// `.env` as each service gets it, without what is a secret. The environment wins for a variable that is in both, as it does
/// in placeholders.
fn base_environment(d: &Decoder<'_>, secrets: &BTreeMap<String, Secret>) -> BTreeMap<String, super::Text> {
    let hidden = secrets::variables(secrets);
    let entries = d.variables.dotenv.iter().filter(|(name, _)| !hidden.contains(name.as_str())).map(
        |(name, variable)| {
            let place = d.files.short(crate::report::Place::dotenv(variable.span));
            let (text, from) = match d.variables.env.get(name) {
                Some(value) => {
                    (value.clone(), format!("variable {name} of the environment, which wins over {place}"))
                }
                None => (variable.value.clone(), place),
            };
            (name.clone(), super::Text { text, span: variable.span, from, variables: String::new() })
        },
    );
    entries.collect()
}

fn logs(fields: &mut Fields<'_, '_, '_>) -> (Logs, Vec<(String, Span)>) {
    let field = fields.field("logs");
    let mut inner = Fields::open(fields.d, &LOGS, field, None);
    let dir = inner.path("dir").map(|written| written.value);
    let size: Written<Bytes> = inner.value("file_size");
    let files: Written<Whole<1, 1000>> = inner.value("files");
    let journal = inner.scalar("journal").map(|written| written.value);
    let (access, logged_headers) = access::decode(&mut inner);
    /// Smaller files would be rotated with every few lines.
    const FILE_BYTES_MIN: u64 = 64 << 10;
    if let (Some(span), true) = (size.span, size.value.0 < FILE_BYTES_MIN) {
        let problem = Problem::new(span, "a log file has at least 64K").hint(unit_hint(size.value));
        inner.d.problem(problem);
    }
    let shown = inner.close();
    fields.show("logs", shown);
    let files_max = u32::try_from(files.value.0).unwrap_or(u32::MAX);
    (Logs { dir, file_size_max: size.value.0, files_max, journal, access }, logged_headers)
}

/// Who may use the control socket.
fn control(fields: &mut Fields<'_, '_, '_>) -> BTreeMap<String, Role> {
    let field = fields.field("control");
    let mut inner = Fields::open(fields.d, &CONTROL, field, None);
    let mut groups = BTreeMap::new();
    let mut shown = Vec::new();
    for entry in inner.entries("groups", "group") {
        if inner.d.problems.is_full() {
            break;
        }
        let name = &entry.key.text;
        if let Err(Bad { message, hint }) = Account::parse(name) {
            inner.d.problem(Problem::new(entry.key.span, message).maybe_hint(hint));
        }
        let field = Field::from(entry);
        let Some(text) = inner.d.scalar(field.node, field.at(), name, &Kind::Words(&ROLE).noun(), &[]) else {
            continue;
        };
        let Some(role) = inner.d.parse(&text, |text| word_of(text, &ROLE)) else { continue };
        let value = show_word(role, &ROLE);
        shown.push((name.clone(), Shown::Leaf { value, from: text.from, span: Some(text.span) }));
        groups.insert(name.clone(), role);
    }
    inner.show("groups", Shown::Map(shown));
    let shown = inner.close();
    fields.show("control", shown);
    groups
}

/// For a number of bytes that is so small that its unit was forgotten.
pub(super) fn unit_hint(bytes: Bytes) -> String {
    match bytes.show() {
        serde_json::Value::Number(number) => format!("did you mean `{number}M`?"),
        other => format!("{} is very little", other.as_str().unwrap_or_default()),
    }
}
