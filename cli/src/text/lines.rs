//! Lines of services' output, for people: time, worker, text. A JSON line of the usual loggers (pino, bunyan, structlog,
//! zap, slog) is shown as level, message and the remaining fields.

use serde_json::{Map, Value};
use watt_api::control::{LogLine, Stream};

use super::{
    numbers, safe,
    style::{Style, Tone},
};

/// How wide the worker's name is; grows with the widest seen, so that lines stand under each other.
#[derive(Debug, Default)]
pub struct Printer {
    width: usize,
}

impl Printer {
    /// One line, with its line break.
    pub fn line(&mut self, line: &LogLine, style: Style) -> String {
        if let Some(skipped) = line.skipped {
            let lines = watt_supervisor::words::counted(skipped, "line");
            let note = format!("{lines} of {} too many to follow: see its log file", line.service);
            return format!("{}\n", style.paint(Tone::Busy, &note));
        }
        let worker = match &line.task {
            Some(task) => format!("{}/{task}", line.service),
            None => format!("{}/{}", line.service, line.worker),
        };
        self.width = self.width.max(worker.len());
        let stamp = style.paint(Tone::Dim, &numbers::clock(&line.at));
        let name = format!("{worker:width$}", width = self.width);
        let name = if style.colours { colour(&line.service, &name) } else { name };
        let bar = match line.stream {
            Stream::Stdout => style.paint(Tone::Dim, "│"),
            Stream::Stderr => style.paint(Tone::Bad, "│"),
        };
        let text = match (&line.json, &line.text) {
            (Some(Value::Object(object)), _) => structured(object, style),
            (Some(other), _) => safe::line(&other.to_string(), style.colours),
            (None, text) => safe::line(text.as_deref().unwrap_or_default(), style.colours),
        };
        let more = if line.partial { style.paint(Tone::Dim, " …") } else { String::new() };
        // A service's own colours must not run on into the next line.
        let reset = if style.colours && text.contains('\x1b') { "\x1b[0m" } else { "" };
        format!("{stamp} {name} {bar} {text}{reset}{more}\n")
    }
}

/// A colour that stays the same for a service.
fn colour(service: &str, text: &str) -> String {
    const COLOURS: [u8; 10] = [36, 35, 34, 33, 32, 96, 95, 94, 93, 92];
    let hash = service.bytes().fold(5381usize, |hash, byte| hash.wrapping_mul(33) ^ usize::from(byte));
    format!("\x1b[{}m{text}\x1b[0m", COLOURS[hash % COLOURS.len()])
}

fn structured(object: &Map<String, Value>, style: Style) -> String {
    const OWN: [&str; 10] =
        ["level", "severity", "lvl", "msg", "message", "event", "time", "timestamp", "ts", "v"];
    // Present in each line of pino and bunyan, and known from the prefix.
    const NOISE: [&str; 3] = ["pid", "hostname", "name"];
    let message = ["msg", "message", "event"].iter().find_map(|key| object.get(*key));
    let level = ["level", "severity", "lvl"].iter().find_map(|key| object.get(*key)).map(level);
    let Some(Value::String(message)) = message else {
        return safe::line(&Value::Object(object.clone()).to_string(), style.colours);
    };
    let mut text = String::new();
    if let Some((word, tone)) = &level {
        text.push_str(&style.paint(*tone, word));
        text.push(' ');
    }
    text.push_str(&safe::line(message, style.colours));
    for (key, value) in object {
        if OWN.contains(&key.as_str()) || NOISE.contains(&key.as_str()) {
            continue;
        }
        let value = match value {
            Value::String(text) if !text.contains([' ', '\n']) => text.clone(),
            other => other.to_string(),
        };
        text.push_str(&style.paint(Tone::Dim, &safe::line(&format!(" {key}={value}"), false)));
    }
    text
}

/// A level as a word; pino and bunyan write it as a number.
fn level(value: &Value) -> (String, Tone) {
    let word = match value {
        Value::Number(number) => match number.as_u64().unwrap_or_default() {
            0..20 => "trace",
            20..30 => "debug",
            30..40 => "info",
            40..50 => "warn",
            50..60 => "error",
            _ => "fatal",
        }
        .to_owned(),
        Value::String(word) => safe::line(&word.to_lowercase(), false),
        other => other.to_string(),
    };
    let tone = match word.as_str() {
        "trace" | "debug" => Tone::Dim,
        "warn" | "warning" => Tone::Busy,
        "error" | "fatal" | "critical" | "panic" => Tone::Bad,
        _ => Tone::Good,
    };
    (word, tone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(text: Option<&str>, json: Option<Value>) -> String {
        let line = LogLine {
            at: "2026-11-26T08:00:01.250Z".into(),
            service: "api".into(),
            worker: 0,
            task: None,
            run: 1,
            stream: Stream::Stdout,
            text: text.map(str::to_owned),
            json,
            partial: false,
            seq: 1,
            skipped: None,
        };
        Printer::default().line(&line, Style { colours: false, width: None })
    }

    #[test]
    fn lines_are_attributed() {
        assert_eq!(printed(Some("listening"), None), "08:00:01.250 api/0 │ listening\n");
    }

    #[test]
    fn json_of_the_usual_loggers_is_readable() {
        let pino = serde_json::json!({"level":30,"time":1,"pid":7,"hostname":"h","msg":"request","url":"/x","took":{"ms":3}});
        assert_eq!(printed(None, Some(pino)), "08:00:01.250 api/0 │ info request url=/x took={\"ms\":3}\n");
        assert_eq!(printed(None, Some(serde_json::json!({"a": 1}))), "08:00:01.250 api/0 │ {\"a\":1}\n");
    }
}
