//! How many workers a service has: always as many, or as many as it has to do.

use std::{fmt, num::NonZeroU16, num::NonZeroU32, time::Duration};

/// How many workers a service has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Workers {
    /// Always so many.
    Fixed(NonZeroU16),
    /// As many as its load takes.
    Scaled(Scaling),
}

/// What decides how many workers there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scaling {
    /// The fewest. None at all, with 0, when nobody has wanted anything for [`Scaling::idle`].
    pub min: u16,
    /// The most.
    pub max: NonZeroU16,
    /// What one worker is meant to have to do; the target that takes most workers counts.
    pub targets: Targets,
    /// What was measured over this time counts.
    pub window: Duration,
    /// Fewer workers have to have been enough for this long before there are fewer.
    pub cooldown: Duration,
    /// See [`Scaling::min`].
    pub idle: Duration,
}

/// What one worker is meant to have to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Targets {
    /// In percent of the CPU time that a worker may use: its limit, or one CPU.
    pub cpu: Option<NonZeroU32>,
    /// Requests that it answers at a time.
    pub in_flight: Option<NonZeroU32>,
    /// Of a hundred answers, 95 begin within this time.
    pub latency_p95: Option<Duration>,
    /// Requests that wait for it.
    pub queue: Option<NonZeroU32>,
    /// The part of the time, in percent, in which some process of it waits for CPU time.
    pub pressure: Option<NonZeroU32>,
}

impl Workers {
    /// One.
    pub const ONE: Workers = Workers::Fixed(NonZeroU16::MIN);

    /// How many there are as long as nothing else was decided. Where there may be none, it is one that sleeps.
    pub fn first(&self) -> NonZeroU16 {
        match self {
            Workers::Fixed(count) => *count,
            Workers::Scaled(scaling) => NonZeroU16::new(scaling.min).unwrap_or(NonZeroU16::MIN),
        }
    }

    /// The most that there may be, unless an operator wants more.
    pub fn most(&self) -> NonZeroU16 {
        match self {
            Workers::Fixed(count) => *count,
            Workers::Scaled(scaling) => scaling.max,
        }
    }

    /// Whether there may be none.
    pub fn may_sleep(&self) -> bool {
        self.scaling().is_some_and(|scaling| scaling.min == 0)
    }

    /// What decides, where it is not a fixed number.
    pub fn scaling(&self) -> Option<&Scaling> {
        match self {
            Workers::Fixed(_) => None,
            Workers::Scaled(scaling) => Some(scaling),
        }
    }
}

impl Scaling {
    /// The number next to this one that there may be while the service is awake.
    pub fn clamp(&self, count: NonZeroU16) -> NonZeroU16 {
        // A configuration with more at least than at most is refused; should one come, the most counts.
        count.max(NonZeroU16::new(self.min).unwrap_or(NonZeroU16::MIN)).min(self.max)
    }

    /// Whether the proxy has to measure what the service does.
    pub fn needs_proxy(&self) -> bool {
        let Targets { cpu: _, in_flight, latency_p95, queue, pressure: _ } = &self.targets;
        self.min == 0 || in_flight.is_some() || latency_p95.is_some() || queue.is_some()
    }
}

/// Everything that is said of it: `2`, `1 to 8 (cpu 70%, window 10s, cooldown 60s)`.
impl fmt::Display for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Workers::Fixed(count) => count.fmt(f),
            Workers::Scaled(Scaling { min, max, targets, window, cooldown, idle }) => {
                write!(f, "{min} to {max} ({targets}window {}s", window.as_secs_f64())?;
                write!(f, ", cooldown {}s", cooldown.as_secs_f64())?;
                match min {
                    0 => write!(f, ", idle {}s)", idle.as_secs_f64()),
                    _ => f.write_str(")"),
                }
            }
        }
    }
}

impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Targets { cpu, in_flight, latency_p95, queue, pressure } = self;
        if let Some(percent) = cpu {
            write!(f, "cpu {percent}%, ")?;
        }
        if let Some(requests) = in_flight {
            write!(f, "in_flight {requests}, ")?;
        }
        if let Some(time) = latency_p95 {
            write!(f, "latency_p95 {}ms, ", time.as_millis())?;
        }
        if let Some(requests) = queue {
            write!(f, "queue {requests}, ")?;
        }
        if let Some(percent) = pressure {
            write!(f, "pressure {percent}%, ")?;
        }
        Ok(())
    }
}
