//! `wattctl audit`: how exposed each service leaves the host, its neighbours and watt, and what would lower that.

use watt_api::control::{Audit, AuditBasis, AuditCheck, AuditFact, AuditState, AuditStep, AuditedService};

use super::config;
use crate::{
    args,
    context::Running,
    exit::{Exit, Failure, Outcome},
    text::{
        numbers::counted,
        out, safe,
        style::{Style, Tone},
        table::{self, Cell, Column},
    },
};

const COLUMNS: [Column; 5] = [
    Column { title: "SERVICE", rank: 0, right: false },
    Column { title: "SANDBOX", rank: 2, right: false },
    Column { title: "EXPOSURE", rank: 0, right: true },
    Column { title: "", rank: 1, right: false },
    Column { title: "BEST NEXT SWITCH", rank: 0, right: false },
];

/// How many further switches are shown of one service; `--json` has all.
const STEPS_SHOWN: usize = 8;

/// Runs the command.
pub async fn run(arguments: args::Audit) -> Outcome {
    let args::Audit { services, app, file, threshold, print } = arguments;
    // Programs that want it all need not name every service.
    let full = print.json || !services.is_empty();
    let audit = match file {
        Some(file) => of_configuration(&file, &services, print.json)?,
        None => of_running(app, &services, full).await?,
    };
    if print.json {
        out::json(&audit);
    } else {
        let style = Style::stdout();
        out::print(&match services.is_empty() {
            true => overview(&audit, style),
            false => in_full(&audit, style),
        });
    }
    match threshold {
        Some(threshold) => judged(&audit, threshold),
        None => Ok(Exit::Ok),
    }
}

async fn of_running(app: Option<String>, services: &[String], full: bool) -> Result<Audit, Failure> {
    let running = Running::find(&args::Which { app, file: None }).map_err(|failure| match failure {
        Failure { exit: Exit::NotRunning, message, hint } => {
            let alone = "`wattctl audit --file .` looks at the configuration alone";
            let hint = hint.map_or_else(|| alone.to_owned(), |hint| format!("{hint}; {alone}"));
            Failure { exit: Exit::NotRunning, message, hint: Some(hint) }
        }
        other => other,
    })?;
    let client = running.client().await?;
    client.audit(services, full).await.map_err(|error| running.failure(error))
}

fn of_configuration(file: &std::path::Path, services: &[String], json: bool) -> Result<Audit, Failure> {
    let config = config::load_alone(Some(file), json)?;
    let mut audit = watt_supervisor::audit::of_configuration(&config.plan);
    if let Some(name) =
        services.iter().find(|name| !audit.services.iter().any(|service| service.id == **name))
    {
        let known: Vec<&str> = audit.services.iter().map(|service| service.id.as_str()).collect();
        let failure = Failure::new(Exit::Failed, format!("there is no service {name:?}"));
        return Err(failure.hint(format!("the services are {}", known.join(", "))));
    }
    audit.services.retain(|service| services.is_empty() || services.contains(&service.id));
    Ok(audit)
}

/// Whether every service is as little exposed as is asked for, by what is printed.
fn judged(audit: &Audit, threshold: f64) -> Outcome {
    let over: Vec<&AuditedService> =
        audit.services.iter().filter(|service| tenths(service.exposure) > tenths(threshold)).collect();
    if over.is_empty() {
        return Ok(Exit::Ok);
    }
    let names: Vec<String> =
        over.iter().map(|service| format!("{} {}", service.id, shown(service.exposure))).collect();
    let message = format!(
        "{} more exposed than {}: {}",
        match over.len() {
            1 => "a service is".to_owned(),
            count => format!("{} are", counted(count, "service")),
        },
        shown(threshold),
        names.join(", ")
    );
    Err(Failure::new(Exit::Failed, message))
}

/// All services in a line each.
fn overview(audit: &Audit, style: Style) -> String {
    let rows: Vec<Vec<Cell>> = audit.services.iter().map(row).collect();
    let mut text = heading(audit, style);
    text.push_str(&table::render(&COLUMNS, &rows, style));
    for service in audit.services.iter().filter(|service| !service.unenforced.is_empty()) {
        let count = counted(service.unenforced.len(), "thing");
        let line =
            format!("{}: {count} of its configuration not enforced here, and counted as open", service.id);
        text.push_str(&format!("{}\n", style.paint(Tone::Busy, &line)));
    }
    text
}

fn row(service: &AuditedService) -> Vec<Cell> {
    let next = match &service.next {
        Some(step) => format!("{}  (to {})", plain(&step.line), shown(step.exposure)),
        None => String::new(),
    };
    vec![
        service.id.as_str().into(),
        service.sandbox.as_str().into(),
        Cell::tone(tone(&service.level), shown(service.exposure)),
        Cell::tone(tone(&service.level), service.level.as_str()),
        next.into(),
    ]
}

/// What was looked at.
fn heading(audit: &Audit, style: Style) -> String {
    let app = style.paint(Tone::Strong, &plain(&audit.app));
    match (audit.basis, audit.started_by_root) {
        (AuditBasis::Running, true) => format!("{app}, as it runs on this host, started by root\n"),
        (AuditBasis::Running, false) => {
            format!("{app}, as it runs on this host, started by an ordinary user\n")
        }
        (AuditBasis::Configured, _) => {
            let file = plain(&audit.file.display().to_string());
            format!("{app}, as configured in {file}, for root on a host that can do everything\n")
        }
    }
}

/// Services one after the other, with everything.
fn in_full(audit: &Audit, style: Style) -> String {
    let mut text = heading(audit, style);
    for service in &audit.services {
        text.push('\n');
        text.push_str(&one(service, style));
    }
    text
}

fn one(service: &AuditedService, style: Style) -> String {
    let name = style.paint(Tone::Strong, &service.id);
    let exposure = format!("{} {}", shown(service.exposure), service.level);
    let mut text = format!(
        "{name}  sandbox {}  exposure {}\n",
        service.sandbox,
        style.paint(tone(&service.level), &exposure)
    );
    text.push_str(&checks(&service.checks, style));
    let facts = [
        ("A broken or hostile process of it can", &service.can),
        ("It cannot", &service.cannot),
        ("It takes at most", &service.at_most),
    ];
    for (title, facts) in facts {
        text.push_str(&told(title, facts, style));
    }
    if !service.unenforced.is_empty() {
        text.push_str(&format!(
            "\n{}\n",
            style.paint(Tone::Busy, "Not enforced on this host, and counted as open")
        ));
        for line in &service.unenforced {
            text.push_str(&format!("  {}\n", plain(line)));
        }
    }
    text.push_str(&steps(service, style));
    text
}

/// Each door with what comes in by it: what is shut in one line, what is open in two.
fn checks(checks: &[AuditCheck], style: Style) -> String {
    let width = checks.iter().map(|check| check.id.len()).max().unwrap_or_default();
    let mut text = String::new();
    let mut area = "";
    for check in checks {
        if check.area != area {
            area = &check.area;
            text.push_str(&format!("\n{}\n", style.paint(Tone::Dim, area)));
        }
        let (sign, tone) = match check.state {
            AuditState::Present => ("✓", Tone::Good),
            AuditState::Partial => ("~", Tone::Busy),
            AuditState::Absent => ("✗", Tone::Bad),
        };
        let adds = match check.state {
            AuditState::Present => String::new(),
            AuditState::Partial | AuditState::Absent => format!("{:.2}", check.exposure),
        };
        let lost = if check.unenforced { " (configured, but not enforced on this host)" } else { "" };
        text.push_str(&format!(
            "  {} {:width$}  {:>3} {adds:>5}  {}{lost}\n",
            style.paint(tone, sign),
            check.id,
            check.weight,
            plain(&check.note)
        ));
        if check.state != AuditState::Present {
            let risk = style.paint(Tone::Dim, &check.risk);
            text.push_str(&format!("    {:width$}  {:9}  {risk}\n", "", ""));
        }
    }
    text
}

fn told(title: &str, facts: &[AuditFact], style: Style) -> String {
    if facts.is_empty() {
        return String::new();
    }
    let width = facts.iter().map(|fact| fact.about.len()).max().unwrap_or_default();
    let mut text = format!("\n{}\n", style.paint(Tone::Dim, title));
    for fact in facts {
        text.push_str(&format!("  {:width$}  {}\n", fact.about, plain(&fact.text)));
    }
    text
}

fn steps(service: &AuditedService, style: Style) -> String {
    let (to_take, breaking): (Vec<&AuditStep>, Vec<&AuditStep>) =
        service.steps.iter().partition(|step| step.breaks.is_none());
    let mut text = String::new();
    if !to_take.is_empty() {
        text.push_str(&format!(
            "\n{}\n",
            style.paint(Tone::Dim, "Each of these lines alone would lower it, the best first")
        ));
    }
    for step in to_take.iter().take(STEPS_SHOWN) {
        text.push_str(&format!("  {:.2}  {}\n", step.exposure, plain(&step.line)));
        if let Some(caution) = &step.caution {
            text.push_str(&format!("        {}\n", style.paint(Tone::Dim, &plain(caution))));
        }
    }
    if to_take.len() > STEPS_SHOWN {
        text.push_str(&format!("  and {} more\n", to_take.len() - STEPS_SHOWN));
    }
    for step in breaking {
        let why = step.breaks.as_deref().unwrap_or_default();
        text.push_str(&format!("  not {}: {}\n", plain(&step.line), plain(why)));
    }
    if let Some(strict) = service.strict {
        text.push_str(&format!("\nsandbox: strict would make it {}\n", shown(strict)));
    }
    text
}

/// Text of the configuration, harmless on a terminal.
fn plain(text: &str) -> String {
    safe::line(text, false)
}

fn tone(level: &str) -> Tone {
    match level {
        "OK" => Tone::Good,
        "MEDIUM" => Tone::Busy,
        _ => Tone::Bad,
    }
}

/// Hundredths first: a number that ends in five is not what it seems to be in binary.
fn tenths(exposure: f64) -> i64 {
    ((exposure * 100.0).round() as i64 + 5) / 10
}

fn shown(exposure: f64) -> String {
    let tenths = tenths(exposure);
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests;
