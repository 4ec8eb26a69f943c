//! `wattctl doctor`: what this host offers.

use watt_api::control::{Doctor, FeatureState};

use crate::{
    args,
    exit::{Exit, Outcome},
    text::{
        out,
        style::{Style, Tone},
    },
};

/// Runs the command. Needs no running application.
pub async fn run(print: args::Print) -> Outcome {
    let doctor = watt_supervisor::doctor::report();
    if print.json {
        out::json(&doctor);
    } else {
        out::print(&render(&doctor, Style::stdout()));
    }
    Ok(Exit::Ok)
}

fn render(doctor: &Doctor, style: Style) -> String {
    let width = doctor.features.iter().map(|feature| feature.name.len()).max().unwrap_or_default();
    let mut text = String::new();
    let mut fixes: Vec<&str> = Vec::new();
    for feature in &doctor.features {
        let (word, tone) = match feature.state {
            FeatureState::On => ("on      ", Tone::Good),
            FeatureState::Degraded => ("degraded", Tone::Busy),
            FeatureState::Off => ("off     ", Tone::Bad),
        };
        text.push_str(&format!("{}  {:width$}  {}\n", style.paint(tone, word), feature.name, feature.detail));
        // What one command turns on is told once; what else it is good for needs it, and says so.
        if let Some(fix) = feature.fix.as_deref().filter(|fix| !fixes.contains(fix)) {
            fixes.push(fix);
            text.push_str(&format!(
                "{:8}  {:width$}  {}\n",
                "",
                "",
                style.paint(Tone::Dim, &format!("to turn on: {fix}"))
            ));
        }
    }
    text
}
