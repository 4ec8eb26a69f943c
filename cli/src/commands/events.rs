//! `wattctl events`: what happened, and what happens.

use watt_api::{client::EventsQuery, control::Event};

use crate::{
    args,
    context::Running,
    exit::{Exit, Outcome},
    text::{
        numbers, out, safe,
        style::{Style, Tone},
    },
};

/// Runs the command.
pub async fn run(arguments: args::Events) -> Outcome {
    let running = Running::find(&arguments.which)?;
    let client = running.client().await?;
    let style = Style::stdout();
    let open = async |last: Option<u64>| {
        client.events(EventsQuery { since: last.or(arguments.since), follow: arguments.follow }).await
    };
    running
        .read_on(open, |event: Event| {
            if arguments.print.json {
                out::json_line(&event);
            } else {
                out::print(&render(&event, style));
            }
            event.seq
        })
        .await?;
    Ok(Exit::Ok)
}

fn render(event: &Event, style: Style) -> String {
    let about = match (&event.service, event.worker) {
        (Some(service), Some(worker)) => format!("{service}/{worker}  "),
        (Some(service), None) => format!("{service}  "),
        (None, _) => String::new(),
    };
    let tone = event.state.map_or(Tone::Strong, super::status::tone);
    format!(
        "{}  {}{}\n",
        style.paint(Tone::Dim, &numbers::local(&event.at)),
        style.paint(tone, &about),
        safe::line(&event.text, style.colours)
    )
}
