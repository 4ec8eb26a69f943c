//! Values that are one piece of text: how each kind is read, and how it is shown again.

mod cpus;
mod destination;
mod expression;
mod names;
mod percent;
mod share;
mod times;
mod upstream;
mod urls;

use std::{net::IpAddr, time::Duration};

use serde_json::{Value, json};

pub(crate) use self::{
    cpus::Cpus,
    expression::Expression,
    names::{Account, FileName, Umask, VariableName},
    percent::Percent,
    times::TimeZoneName,
    upstream::{HostField, UpstreamUrl},
    urls::{MeshUrl, WebUrl},
};
use crate::report::is_invisible;

/// Why a text is not a value of its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bad {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Bad {
    fn new(message: impl Into<String>) -> Self {
        Bad { message: message.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A kind of value.
pub(crate) trait Scalar: Sized {
    /// Reads a value.
    fn parse(text: &str) -> Result<Self, Bad>;
    /// Shows it in the shortest form that reads back as the same value.
    fn show(&self) -> Value;
}

/// A text in backquotes for messages: short, on one line, and harmless on a terminal.
pub(crate) fn quote(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let mut quoted = String::from("`");
    for (index, c) in text.chars().enumerate() {
        if index == CHARS_MAX {
            quoted.push('…');
            break;
        }
        if c.is_control() || is_invisible(c) {
            quoted.extend(c.escape_debug());
        } else {
            quoted.push(c);
        }
    }
    quoted.push('`');
    quoted
}

/// The longest time: a year. More is a mistake, and sums with the clock must not overflow.
const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

impl Scalar for Duration {
    fn parse(text: &str) -> Result<Self, Bad> {
        if text == "0" {
            return Ok(Duration::ZERO);
        }
        if text.parse::<f64>().is_ok_and(|number| number >= 0.0) && !text.contains(['e', 'n', 'i']) {
            return Err(Bad::new(format!("{} has no unit", quote(text)))
                .hint(format!("did you mean `{text}s` or `{text}ms`?")));
        }
        let bad = || {
            Bad::new(format!("{} is not a time", quote(text)))
                .hint("write `200ms`, `10s`, `1m`, `1h30m` or `7d`")
        };
        let mut total = Duration::ZERO;
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
            let number: f64 = rest[..end].parse().map_err(|_| bad())?;
            let unit_end =
                rest[end..].find(|c: char| !c.is_ascii_alphabetic()).map_or(rest.len(), |len| end + len);
            let seconds = match &rest[end..unit_end] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                "d" => 86400.0,
                _ => return Err(bad()),
            };
            let part = Duration::try_from_secs_f64(number * seconds).unwrap_or(Duration::MAX);
            total = total.saturating_add(part);
            rest = &rest[unit_end..];
        }
        match text {
            "" => Err(bad()),
            _ if total > DURATION_MAX => Err(Bad::new(format!("{} is longer than a year", quote(text)))),
            _ => Ok(total),
        }
    }

    fn show(&self) -> Value {
        let mut millis = self.as_millis();
        if millis == 0 {
            return json!("0s");
        }
        let mut text = String::new();
        for (unit, length) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
            if millis >= length {
                text += &format!("{}{unit}", millis / length);
                millis %= length;
            }
        }
        json!(text)
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) u64);

/// Units of [`Bytes`]: all are powers of 1024, as in systemd and Docker.
const BYTE_UNITS: [(&str, u64); 4] = [("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)];

impl Scalar for Bytes {
    fn parse(text: &str) -> Result<Self, Bad> {
        let bad = || {
            Bad::new(format!("{} is not a size", quote(text)))
                .hint("write `64K`, `512M` or `1.5G` (powers of 1024), or a number of bytes")
        };
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let unit = text[end..].trim_start().to_ascii_uppercase();
        let unit = unit.strip_suffix("IB").or_else(|| unit.strip_suffix('B')).unwrap_or(&unit);
        let factor = match unit {
            "" => 1,
            unit => BYTE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?.1,
        };
        // Whole numbers without a detour over floating point, which has 53 bits only.
        if let Ok(number) = text[..end].parse::<u64>() {
            let bytes = number
                .checked_mul(factor)
                .ok_or_else(|| Bad::new(format!("{} is too large", quote(text))))?;
            return Ok(Bytes(bytes));
        }
        let number: f64 = text[..end].parse().map_err(|_| bad())?;
        let bytes = number * factor as f64;
        // 2^63: far beyond every machine, and exact in both types.
        if bytes < (1_u64 << 63) as f64 { Ok(Bytes(bytes as u64)) } else { Err(bad()) }
    }

    fn show(&self) -> Value {
        for (unit, factor) in BYTE_UNITS {
            if self.0 >= factor && self.0.is_multiple_of(factor) {
                return json!(format!("{}{unit}", self.0 / factor));
            }
        }
        json!(self.0)
    }
}

/// Thousandths of a CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CpuMillis(pub(crate) u32);

impl Scalar for CpuMillis {
    fn parse(text: &str) -> Result<Self, Bad> {
        let bad = || {
            Bad::new(format!("{} is not an amount of CPU", quote(text)))
                .hint("write `1.5` for one and a half CPUs, or `150%`")
        };
        let (number, factor) = match text.strip_suffix('%') {
            Some(percent) => (percent.trim_end(), 10.0),
            None => (text, 1000.0),
        };
        let millis = number.parse::<f64>().map_err(|_| bad())? * factor;
        // The kernel's quota has a lower bound of a millisecond (cgroup-v2.rst), which is a hundredth at its period.
        if (10.0..=10_000_000.0).contains(&millis) {
            Ok(CpuMillis(millis.round() as u32))
        } else {
            Err(Bad::new(format!("{} is out of range", quote(text)))
                .hint("between 0.01 (`1%`) and 10000 CPUs"))
        }
    }

    fn show(&self) -> Value {
        json!(f64::from(self.0) / 1000.0)
    }
}

/// A whole number between two bounds, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Whole<const MIN: u64, const MAX: u64>(pub(crate) u64);

impl<const MIN: u64, const MAX: u64> Scalar for Whole<MIN, MAX> {
    fn parse(text: &str) -> Result<Self, Bad> {
        // JavaScript and TOML writers may give a whole number as `3.0`.
        let digits = text.strip_suffix(".0").unwrap_or(text);
        let number: u64 = match digits.parse() {
            Ok(number) => number,
            Err(_)
                if !digits.is_empty()
                    && digits.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                return Err(Bad::new(format!("{} is out of range", quote(text)))
                    .hint(format!("between {MIN} and {MAX}")));
            }
            Err(_) => return Err(Bad::new(format!("{} is not a whole number", quote(text)))),
        };
        if (MIN..=MAX).contains(&number) {
            Ok(Whole(number))
        } else {
            Err(Bad::new(format!("{number} is out of range")).hint(format!("between {MIN} and {MAX}")))
        }
    }

    fn show(&self) -> Value {
        json!(self.0)
    }
}

/// A whole number between two bounds that may be below zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signed<const MIN: i64, const MAX: i64>(pub(crate) i64);

impl<const MIN: i64, const MAX: i64> Scalar for Signed<MIN, MAX> {
    fn parse(text: &str) -> Result<Self, Bad> {
        match text.strip_suffix(".0").unwrap_or(text).parse::<i64>() {
            Ok(number) if (MIN..=MAX).contains(&number) => Ok(Signed(number)),
            Ok(number) => {
                Err(Bad::new(format!("{number} is out of range")).hint(format!("between {MIN} and {MAX}")))
            }
            Err(_) => Err(Bad::new(format!("{} is not a whole number", quote(text)))
                .hint(format!("between {MIN} and {MAX}"))),
        }
    }

    fn show(&self) -> Value {
        json!(self.0)
    }
}

impl Scalar for bool {
    fn parse(text: &str) -> Result<Self, Bad> {
        match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(Bad::new(format!("{} is neither `true` nor `false`", quote(text)))),
        }
    }

    fn show(&self) -> Value {
        json!(self)
    }
}

/// Text of any kind.
impl Scalar for String {
    fn parse(text: &str) -> Result<Self, Bad> {
        Ok(text.to_owned())
    }

    fn show(&self) -> Value {
        json!(self)
    }
}

impl Scalar for IpAddr {
    fn parse(text: &str) -> Result<Self, Bad> {
        // The one name that needs no resolver: RFC 6761 §6.3.
        if text == "localhost" {
            return Ok(IpAddr::from([127, 0, 0, 1]));
        }
        let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        inner.parse().map_err(|_| {
            Bad::new(format!("{} is not an IP address", quote(text)))
                .hint("write `127.0.0.1` for this host only, `0.0.0.0` or `::` for all its addresses")
        })
    }

    fn show(&self) -> Value {
        json!(self.to_string())
    }
}

/// A number of signal(7) on Linux. The numbers are those of every architecture watt runs on (x86-64, AArch64).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signal(pub(crate) i32);

/// The names in the order of their numbers, from 1.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// Signals that stop or continue a process, or that it never notices: a stop that sends one waits in vain.
const SIGNALS_THAT_END_NOTHING: [i32; 7] = [17, 18, 19, 20, 21, 22, 23];

/// `SIGRTMIN` and `SIGRTMAX` of glibc and musl programs alike are 34 or 35 and 64; the names count from glibc's.
const SIGRTMIN: i32 = 34;
const SIGNAL_MAX: i32 = 64;

impl Scalar for Signal {
    fn parse(text: &str) -> Result<Self, Bad> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let number = match name.parse::<i32>() {
            Ok(number) => Some(number),
            Err(_) => match name.strip_prefix("RTMIN") {
                Some("") => Some(SIGRTMIN),
                Some(offset) => offset
                    .strip_prefix('+')
                    .and_then(|n| n.parse::<i32>().ok())
                    .map(|n| SIGRTMIN.saturating_add(n)),
                None => (1..).zip(SIGNALS).find(|(_, known)| *known == name).map(|(number, _)| number),
            },
        };
        match number.filter(|number| (1..=SIGNAL_MAX).contains(number)) {
            Some(number) if SIGNALS_THAT_END_NOTHING.contains(&number) => {
                Err(Bad::new(format!("{} does not make a process end", quote(text)))
                    .hint("`TERM` is the usual one"))
            }
            Some(number) => Ok(Signal(number)),
            None => {
                let bad = Bad::new(format!("{} is not a signal", quote(text)));
                let suggestion = crate::report::did_you_mean(name, SIGNALS);
                Err(bad.hint(
                    suggestion
                        .unwrap_or_else(|| "write a name or number of signal(7): `TERM`, `INT`, 15".into()),
                ))
            }
        }
    }

    fn show(&self) -> Value {
        let name = usize::try_from(self.0 - 1).ok().and_then(|index| SIGNALS.get(index));
        name.map_or_else(|| json!(self.0), |name| json!(name))
    }
}

/// A path of a URL, and a query when `QUERY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UrlPath<const QUERY: bool>(pub(crate) String);

impl<const QUERY: bool> Scalar for UrlPath<QUERY> {
    fn parse(text: &str) -> Result<Self, Bad> {
        if !text.starts_with('/') {
            return Err(Bad::new(format!("{} does not start with `/`", quote(text)))
                .hint(format!("did you mean {}?", quote(&format!("/{text}")))));
        }
        let refused = |c: &char| {
            !c.is_ascii_graphic() || matches!(c, '#' | '\\' | '"' | '<' | '>') || (!QUERY && *c == '?')
        };
        if let Some(c) = text.chars().find(refused) {
            return Err(Bad::new(format!("{} cannot be in a path", quote(&c.to_string())))
                .hint("other characters are written as `%` and two hexadecimal digits"));
        }
        let path = text.split('?').next().unwrap_or(text);
        if path.contains("//") || path.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err(Bad::new(format!(
                "{} has an empty, `.` or `..` segment, which no request keeps",
                quote(text)
            )));
        }
        Ok(UrlPath(text.to_owned()))
    }

    fn show(&self) -> Value {
        json!(self.0)
    }
}

/// The lowest and the highest status of HTTP that will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status(pub(crate) u16, pub(crate) u16);

impl Scalar for Status {
    fn parse(text: &str) -> Result<Self, Bad> {
        // RFC 9110 §15: three digits, the first of which is the class. Interim answers are none.
        let status = |text: &str| {
            let is_status = text.len() == 3 && matches!(text.as_bytes(), [b'2'..=b'5', ..]);
            text.parse::<u16>().ok().filter(|_| is_status)
        };
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        match (status(low.trim()), status(high.trim())) {
            (Some(low), Some(high)) if low <= high => Ok(Status(low, high)),
            _ => Err(Bad::new(format!("{} is not a status of HTTP", quote(text)))
                .hint("one from 200 to 599, or the lowest and the highest such as `200-299`")),
        }
    }

    fn show(&self) -> Value {
        match self {
            Status(low, high) if low == high => json!(low),
            Status(low, high) => json!(format!("{low}-{high}")),
        }
    }
}

/// A host name of a route, in lower case: `example.org`, `*.example.org` or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostName(pub(crate) String);

impl Scalar for HostName {
    fn parse(text: &str) -> Result<Self, Bad> {
        let lower = text.to_ascii_lowercase();
        let name = lower.strip_prefix("*.").unwrap_or(&lower);
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let is_address = name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'))
            .is_some_and(|name| name.parse::<std::net::Ipv6Addr>().is_ok());
        if is_address || (name.len() <= 253 && name.split('.').all(is_label)) {
            return Ok(HostName(lower));
        }
        Err(Bad::new(format!("{} is not a host name", quote(text)))
            .hint("write `example.org`, or `*.example.org` for every name below it; without scheme and port"))
    }

    fn show(&self) -> Value {
        json!(self.0)
    }
}

/// A regular expression that compiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(pub(crate) String);

impl Scalar for Pattern {
    fn parse(text: &str) -> Result<Self, Bad> {
        /// What a compiled pattern may take; the default would allow 10 MB for each service.
        const COMPILED_BYTES_MAX: usize = 1 << 20;
        match regex::RegexBuilder::new(text).size_limit(COMPILED_BYTES_MAX).build() {
            Ok(_) => Ok(Pattern(text.to_owned())),
            Err(error) => Err(not_an_expression(text, &error)),
        }
    }

    fn show(&self) -> Value {
        json!(self.0)
    }
}

fn not_an_expression(text: &str, error: &regex::Error) -> Bad {
    // The library's text has several lines with a drawing; its last line is the reason.
    let error = error.to_string();
    let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
    Bad::new(format!("{} is not a regular expression: {reason}", quote(text)))
}

/// A value of setrlimit(2): a number, with a unit where it counts bytes, or no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RlimitNumber(pub(crate) u64);

impl Scalar for RlimitNumber {
    fn parse(text: &str) -> Result<Self, Bad> {
        match text {
            "unlimited" | "infinity" => Ok(RlimitNumber(u64::MAX)),
            _ => match Bytes::parse(text) {
                Ok(Bytes(number)) => Ok(RlimitNumber(number)),
                Err(_) => Err(Bad::new(format!("{} is not a limit", quote(text)))
                    .hint("write a number, `64K` (powers of 1024), or `unlimited`")),
            },
        }
    }

    fn show(&self) -> Value {
        if self.0 == u64::MAX { json!("unlimited") } else { json!(self.0) }
    }
}
