//! `wattctl graph`: who waits for whom, and who is started anew together. Of what runs, with its states; else of the
//! configuration alone.

use watt_api::control::{Graph, GraphEdge, GraphService, WorkerState};

use super::config;
use crate::{
    args::{self, GraphFormat},
    context::Running,
    exit::{Exit, Failure, Outcome},
    text::{
        out,
        style::{Style, Tone},
    },
};

/// Runs the command.
pub async fn run(arguments: args::Graph) -> Outcome {
    let args::Graph { format, app, file, print } = arguments;
    let graph = match file {
        Some(file) => of_configuration(Some(&file), print.json)?,
        None => match Running::find(&args::Which { app: app.clone(), file: None }) {
            Ok(running) => {
                let client = running.client().await?;
                client.graph().await.map_err(|error| running.failure(error))?
            }
            Err(Failure { exit: Exit::NotRunning, .. }) if app.is_none() => {
                of_configuration(None, print.json)?
            }
            Err(failure) => return Err(failure),
        },
    };
    match (print.json, format) {
        (true, _) => out::json(&graph),
        (false, GraphFormat::Text) => out::print(&text(&graph, Style::stdout())),
        (false, GraphFormat::Dot) => out::print(&dot(&graph)),
        (false, GraphFormat::Mermaid) => out::print(&mermaid(&graph)),
    }
    Ok(Exit::Ok)
}

fn of_configuration(file: Option<&std::path::Path>, json: bool) -> Result<Graph, Failure> {
    let config = config::load_alone(file, json)?;
    Ok(watt_supervisor::graph::of_configuration(&config.plan))
}

/// By level: what may start at the same time.
fn text(graph: &Graph, style: Style) -> String {
    let mut text = format!("{}\n", style.paint(Tone::Strong, &graph.app));
    let levels = graph.services.iter().map(|service| service.level).max().map_or(0, |level| level + 1);
    for level in 0..levels {
        text.push_str(&format!("{}\n", style.paint(Tone::Dim, &format!("level {level}"))));
        for service in graph.services.iter().filter(|service| service.level == level) {
            text.push_str(&line(service, style));
        }
    }
    for group in &graph.groups {
        let services = group.services.join(", ");
        text.push_str(&format!("group {}: {} of {services}\n", group.id, group.strategy));
    }
    text
}

fn line(service: &GraphService, style: Style) -> String {
    let state = service.state.map(|state| {
        let word = word(state);
        format!("  {}", style.paint(tone(state), &word))
    });
    let on: Vec<String> =
        service.depends_on.iter().map(|edge| format!("{} {}", edge.on, kind(edge))).collect();
    let after = if on.is_empty() { String::new() } else { format!("  after {}", on.join(", ")) };
    format!("  {}{}{after}\n", service.id, state.unwrap_or_default())
}

/// What an edge asks for: `ready`, `healthy, not required, replaced with it`.
fn kind(edge: &GraphEdge) -> String {
    let words = [
        Some(edge.condition.as_str()),
        (!edge.required).then_some("not required"),
        edge.restart.then_some("replaced with it"),
    ];
    format!("({})", words.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

/// For Graphviz. Names are made of characters that need no escape within quotes.
fn dot(graph: &Graph) -> String {
    let mut text = format!("digraph \"{}\" {{\n  rankdir=LR;\n  node [shape=box];\n", graph.app);
    for (nth, group) in graph.groups.iter().enumerate() {
        let members: String = group.services.iter().map(|id| format!(" \"{id}\";")).collect();
        let label = format!("{}: {}", group.id, group.strategy);
        text.push_str(&format!("  subgraph cluster_{nth} {{ label=\"{label}\";{members} }}\n"));
    }
    for service in &graph.services {
        let state = service.state.map(|state| format!(" label=\"{}\\n{}\"", service.id, word(state)));
        let attributes = state.map(|label| format!(" [{}]", label.trim_start())).unwrap_or_default();
        text.push_str(&format!("  \"{}\"{attributes};\n", service.id));
    }
    for (service, edge) in edges(graph) {
        let style = if edge.required { "" } else { " style=dashed" };
        let head = if edge.restart { " arrowhead=diamond" } else { "" };
        let label = &edge.condition;
        text.push_str(&format!("  \"{}\" -> \"{service}\" [label=\"{label}\"{style}{head}];\n", edge.on));
    }
    text + "}\n"
}

/// For Mermaid. A name may be a word of its language, such as `end`, so that nodes are called by their number.
fn mermaid(graph: &Graph) -> String {
    let node = |id: &str| {
        let nth = graph.services.iter().position(|service| service.id == id).unwrap_or_default();
        format!("s{nth}")
    };
    let mut text = String::from("flowchart LR\n");
    for service in &graph.services {
        let state = service.state.map(|state| format!("<br/>{}", word(state))).unwrap_or_default();
        text.push_str(&format!("  {}[\"{}{state}\"]\n", node(&service.id), service.id));
    }
    for (nth, group) in graph.groups.iter().enumerate() {
        let members: Vec<String> = group.services.iter().map(|id| node(id)).collect();
        let label = format!("{}: {}", group.id, group.strategy);
        text.push_str(&format!("  subgraph g{nth} [\"{label}\"]\n    {}\n  end\n", members.join("\n    ")));
    }
    for (service, edge) in edges(graph) {
        let arrow = if edge.required { "-->" } else { "-.->" };
        let restart = if edge.restart { ", restart" } else { "" };
        text.push_str(&format!(
            "  {} {arrow}|{}{restart}| {}\n",
            node(&edge.on),
            edge.condition,
            node(service)
        ));
    }
    text
}

fn edges(graph: &Graph) -> impl Iterator<Item = (&str, &GraphEdge)> {
    graph
        .services
        .iter()
        .flat_map(|service| service.depends_on.iter().map(|edge| (service.id.as_str(), edge)))
}

fn word(state: WorkerState) -> String {
    format!("{state:?}").to_lowercase()
}

fn tone(state: WorkerState) -> Tone {
    match state {
        WorkerState::Ready | WorkerState::Completed => Tone::Good,
        WorkerState::Failed | WorkerState::Backoff => Tone::Bad,
        WorkerState::Down | WorkerState::Asleep => Tone::Dim,
        WorkerState::Waiting
        | WorkerState::Starting
        | WorkerState::Unready
        | WorkerState::Draining
        | WorkerState::Stopping => Tone::Busy,
    }
}

#[cfg(test)]
mod tests {
    use watt_api::control::GraphGroup;

    use super::*;

    const PLAIN: Style = Style { colours: false, width: None };

    fn edge(on: &str, condition: &str, required: bool, restart: bool) -> GraphEdge {
        GraphEdge { on: on.into(), condition: condition.into(), required, restart }
    }

    fn graph(state: Option<WorkerState>) -> Graph {
        let service = |id: &str, level, depends_on| GraphService { id: id.into(), level, state, depends_on };
        Graph {
            app: "shop".into(),
            file: "/srv/shop/watt.yaml".into(),
            services: vec![
                service("cache", 0, vec![]),
                service("db", 0, vec![]),
                service(
                    "end",
                    1,
                    vec![edge("cache", "ready", false, false), edge("db", "healthy", true, true)],
                ),
            ],
            groups: vec![GraphGroup {
                id: "back".into(),
                strategy: "rest_for_one".into(),
                services: vec!["db".into(), "end".into()],
            }],
        }
    }

    #[test]
    fn people_see_levels_and_what_each_waits_for() {
        insta::assert_snapshot!(text(&graph(None), PLAIN), @r"
        shop
        level 0
          cache
          db
        level 1
          end  after cache (ready, not required), db (healthy, replaced with it)
        group back: rest_for_one of db, end
        ");
        insta::assert_snapshot!(text(&graph(Some(WorkerState::Ready)), PLAIN), @r"
        shop
        level 0
          cache  ready
          db  ready
        level 1
          end  ready  after cache (ready, not required), db (healthy, replaced with it)
        group back: rest_for_one of db, end
        ");
    }

    #[test]
    fn graphviz_has_kinds_as_styles() {
        insta::assert_snapshot!(dot(&graph(Some(WorkerState::Waiting))), @r#"
        digraph "shop" {
          rankdir=LR;
          node [shape=box];
          subgraph cluster_0 { label="back: rest_for_one"; "db"; "end"; }
          "cache" [label="cache\nwaiting"];
          "db" [label="db\nwaiting"];
          "end" [label="end\nwaiting"];
          "cache" -> "end" [label="ready" style=dashed];
          "db" -> "end" [label="healthy" arrowhead=diamond];
        }
        "#);
    }

    #[test]
    fn mermaid_has_no_node_called_like_a_word_of_its_own() {
        insta::assert_snapshot!(mermaid(&graph(None)), @r#"
        flowchart LR
          s0["cache"]
          s1["db"]
          s2["end"]
          subgraph g0 ["back: rest_for_one"]
            s1
            s2
          end
          s0 -.->|ready| s2
          s1 -->|healthy, restart| s2
        "#);
    }
}
