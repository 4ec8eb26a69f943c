//! `wattctl reload`: the running application reads its configuration again and applies what differs.

use watt_api::{
    client::Error,
    control::{Change, ChangeEffect, ChangeKind, Reload, Reloaded},
};

use super::operate;
use crate::{
    args,
    context::Running,
    exit::{Exit, Failure, Outcome},
    text::{
        out, rolling, safe,
        style::{Style, Tone},
        table::{self, Cell, Column},
    },
};

const COLUMNS: [Column; 4] = [
    Column { title: "", rank: 0, right: false },
    Column { title: "OF", rank: 0, right: false },
    Column { title: "WHAT", rank: 0, right: false },
    Column { title: "HOW", rank: 0, right: false },
];

/// Runs the command.
pub async fn run(arguments: args::Reload) -> Outcome {
    let running = Running::find(&arguments.which)?;
    let client = running.client().await?;
    let request = Reload { plan: arguments.plan, wait: arguments.wait, folder: std::env::current_dir().ok() };
    let asking = client.reload(&request);
    let answer = match arguments.wait && !arguments.print.json {
        true => rolling::while_waiting(&client, asking).await,
        false => asking.await,
    };
    let reloaded = match answer {
        Ok(reloaded) => reloaded,
        Err(error) => return Err(refused(&running, error, arguments.print.json)),
    };
    Ok(print(&reloaded, "wattctl reload", arguments.print.json))
}

/// What came of it, and the exit code that says it.
pub fn print(reloaded: &Reloaded, command: &str, json: bool) -> Exit {
    if json {
        out::json(reloaded);
    } else {
        out::print(&render(reloaded, command, Style::stdout()));
    }
    if reloaded.ok { Exit::Ok } else { Exit::Failed }
}

/// What stands in the way, said as other commands say it: errors of the configuration as `wattctl config check` does.
pub fn refused(running: &Running, error: Error, json: bool) -> Failure {
    let Error::Refused { problem, .. } = &error else { return running.failure(error) };
    let exit = match problem.code.as_str() {
        "config" => {
            if json {
                let mut report = problem.report.as_deref().cloned().unwrap_or_else(|| serde_json::json!({}));
                report["code"] = Exit::Config.code().into();
                report["message"] = "the configuration is wrong".into();
                out::fail(&format!("{}\n", serde_json::json!({ "error": report })));
            } else {
                out::fail(&problem.message);
            }
            return Failure::silent(Exit::Config);
        }
        "not_while_running" | "limits" => Exit::Config,
        "port_taken" | "host" => Exit::Host,
        _ => return running.failure(error),
    };
    Failure { exit, message: problem.message.clone(), hint: problem.hint.clone() }
}

fn render(reloaded: &Reloaded, command: &str, style: Style) -> String {
    let back = reloaded.taken_back.iter().map(|service| {
        format!("{service} is what the file says; what was applied of it by itself holds no longer")
    });
    let back = back.map(|line| safe::line(&line, false) + "\n");
    let stay =
        reloaded.stay.iter().map(|line| safe::line(line, false) + "\n").chain(back).collect::<String>();
    if reloaded.changes.is_empty() && reloaded.services.is_empty() {
        return "nothing differs from the configuration in force\n".to_owned() + &stay;
    }
    let rows: Vec<Vec<Cell>> = reloaded.changes.iter().map(row).collect();
    let mut text = table::render(&COLUMNS, &rows, style);
    text.push_str(&stay);
    if !reloaded.applied {
        text.push_str(&style.paint(Tone::Dim, &format!("nothing was changed; `{command}` applies it")));
        text.push('\n');
    }
    if !reloaded.services.is_empty() {
        let outcome = watt_api::control::Outcome { ok: reloaded.ok, services: reloaded.services.clone() };
        text.push_str(&operate::render(&outcome, style));
    }
    text
}

fn row(change: &Change) -> Vec<Cell> {
    let (sign, tone) = match change.kind {
        ChangeKind::Added => ("+", Tone::Good),
        ChangeKind::Removed => ("-", Tone::Bad),
        ChangeKind::Changed => ("~", Tone::Busy),
    };
    let of = change.service.clone().unwrap_or_else(|| "application".to_owned());
    vec![Cell::tone(tone, sign), of.into(), what(change).into(), how(change).into()]
}

fn what(change: &Change) -> String {
    let key = change.key.clone().unwrap_or_else(|| "service".to_owned());
    match (&change.before, &change.after) {
        (None, None) => key,
        (before, after) => {
            let written = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
            format!("{key} {} -> {}", written(before), written(after))
        }
    }
}

fn how(change: &Change) -> &'static str {
    match (change.kind, change.effect) {
        (ChangeKind::Added, _) => "is started",
        (ChangeKind::Removed, _) => "is stopped",
        (ChangeKind::Changed, ChangeEffect::InPlace) => "in place",
        (ChangeKind::Changed, ChangeEffect::FromNowOn) => "from now on",
        (ChangeKind::Changed, ChangeEffect::Workers) => "more or fewer workers",
        (ChangeKind::Changed, ChangeEffect::Listener) => "a new listener",
        (ChangeKind::Changed, ChangeEffect::NewWorkers) => "new workers",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_a_line() {
        let change = |service: Option<&str>, kind, key: Option<&str>, values: [Option<&str>; 2], effect| {
            let [before, after] = values.map(|value| value.map(str::to_owned));
            let (service, key) = (service.map(str::to_owned), key.map(str::to_owned));
            Change { service, kind, key, before, after, effect }
        };
        let changes = vec![
            change(None, ChangeKind::Changed, Some("policies"), [None; 2], ChangeEffect::InPlace),
            change(Some("new"), ChangeKind::Added, None, [None; 2], ChangeEffect::Workers),
            change(
                Some("api"),
                ChangeKind::Changed,
                Some("limits.memory"),
                [None, Some("1G")],
                ChangeEffect::InPlace,
            ),
        ];
        let reloaded = Reloaded {
            ok: true,
            applied: true,
            changes,
            stay: Vec::new(),
            taken_back: Vec::new(),
            services: Default::default(),
        };
        let text = render(&reloaded, "wattctl reload", Style { colours: false, width: None });
        let lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let expected = [
            "OF WHAT HOW",
            "~ application policies in place",
            "+ new service is started",
            "~ api limits.memory none -> 1G in place",
        ];
        assert_eq!(lines, expected, "{text}");
        let none = Reloaded { changes: Vec::new(), ..reloaded };
        let stays = Reloaded { stay: vec!["api keeps 3 of `workers`".into()], ..none.clone() };
        assert_eq!(
            render(&stays, "wattctl reload", Style { colours: false, width: None }),
            "nothing differs from the configuration in force\napi keeps 3 of `workers`\n"
        );
        assert_eq!(
            render(&none, "wattctl reload", Style { colours: false, width: None }),
            "nothing differs from the configuration in force\n"
        );
    }
}
