//! How many workers a service has.

use std::rc::Rc;

use super::{
    build::{self, Table},
    keys::WORKERS,
    translate::{Opened, Scope, Translator, scalar},
};
use crate::tree::{Entry, Node, Value};

/// The most that there may be where a number follows what there is to do and has no bound. Platformatic's is the number of CPUs.
const MAXIMUM: &str = "4";

impl Translator<'_> {
    /// `workers` of a service: its own, what the project's say of it by name, or of all.
    pub(super) fn workers(
        &self,
        own: Option<&Entry>,
        root: Opened<'_>,
        id: &str,
        scope: &Scope,
    ) -> Option<Rc<Node>> {
        if let Some(entry) = own {
            return self.number(&entry.node, scope);
        }
        if let Some(entry) = root.get("workers") {
            return match by_name(&entry.node) {
                Some(entries) => {
                    let entry = entries.iter().find(|entry| entry.key.text == id)?;
                    self.number(&entry.node, scope)
                }
                None => self.number(&entry.node, scope),
            };
        }
        self.vertical_scaler(root, scope)
    }

    fn number(&self, node: &Node, scope: &Scope) -> Option<Rc<Node>> {
        if scalar(node).is_some() {
            return Some(self.carry(node, scope));
        }
        let opened = self.open(&WORKERS, node);
        let carried = |key: &str| opened.get(key).map(|entry| self.carry(&entry.node, scope));
        if !opened.get("dynamic").is_some_and(|entry| self.is_true(&entry.node, scope)) {
            return carried("static").or_else(|| carried("minimum"));
        }
        let mut workers = Table::new(node.span);
        if let Some(minimum) = carried("minimum") {
            workers.put("min", minimum);
        }
        workers.put("max", carried("maximum").unwrap_or_else(|| build::plain(node.span, MAXIMUM)));
        if let Some(cooldown) = opened.get("cooldown").and_then(|entry| self.milliseconds(&entry.node, scope))
        {
            workers.put("cooldown", cooldown);
        }
        if let Some(part) = opened.get("scaleUpELU").and_then(|entry| self.percent(&entry.node, scope)) {
            let mut target = Table::new(node.span);
            target.put("cpu", part);
            workers.put_table("target", target);
        }
        Some(workers.node())
    }

    /// `0.8` as `80%`.
    fn percent(&self, node: &Node, scope: &Scope) -> Option<Rc<Node>> {
        let part: f64 = self.say(node, scope)?.parse().ok()?;
        Some(build::text(node.span, format!("{}%", (part * 100.0).round().clamp(1.0, 100.0))))
    }

    /// What was written before there was `workers`.
    fn vertical_scaler(&self, root: Opened<'_>, scope: &Scope) -> Option<Rc<Node>> {
        let node = &root.get("verticalScaler")?.node;
        let Value::Map(entries) = &node.value else { return None };
        let find = |key: &str| entries.iter().find(|entry| entry.key.text == key).map(|entry| &entry.node);
        if !find("enabled").is_none_or(|node| self.is_true(node, scope)) {
            return None;
        }
        let mut workers = Table::new(node.span);
        if let Some(fewest) = find("minWorkers") {
            workers.put("min", self.carry(fewest, scope));
        }
        let most = find("maxWorkers").or_else(|| find("maxTotalWorkers"));
        let most = most.map_or_else(|| build::plain(node.span, MAXIMUM), |node| self.carry(node, scope));
        workers.put("max", most);
        Some(workers.node())
    }
}

/// The entries of a table that has names of services for keys.
fn by_name(node: &Node) -> Option<&[Entry]> {
    match &node.value {
        Value::Map(entries) if scalar(node).is_none() => {
            let is_by_name =
                !entries.is_empty() && entries.iter().all(|entry| WORKERS.fate(&entry.key.text).is_none());
            is_by_name.then_some(entries)
        }
        _ => None,
    }
}
